//! The models: which there are, building them, and running one in a process of its own.
//!
//! A lost wake-up shows as a deadlock, and loom's way out of one is usually an abort, so each model has its own process.
//! A model that stops early passes silently; only the line `Completed in N iterations` says that loom saw it through.

use crate::{sh, tree};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A `#[test]` in `crates/loom-tests/tests/<type>.rs`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Model {
    /// Whose type it is, from the file's first line: `sync`.
    pub(crate) owner: String,
    /// The file's name: `lock`.
    pub(crate) kind: String,
    /// The function's name: `cancel_races_release`.
    pub(crate) name: String,
}

impl Model {
    /// `lock::cancel_races_release`.
    pub(crate) fn id(&self) -> String {
        format!("{}::{}", self.kind, self.name)
    }

    /// Whether it is asked for: by no word at all, its crate, its type, or its own name.
    pub(crate) fn is_asked_for(&self, words: &[String]) -> bool {
        words.is_empty()
            || words.iter().any(|word| *word == self.owner || *word == self.kind || *word == self.id())
    }
}

/// What may befall a race: the key of its cell in the coverage table, and as PROOF.md says it.
pub(crate) const CIRCUMSTANCES: &[(&str, &str)] = &[
    ("no_cancel", "undisturbed"),
    ("cancel_a", "the first cancelled"),
    ("cancel_b", "the second cancelled"),
    ("owner_dropped", "the owner dropped"),
    ("waker_moves", "the waker moves"),
    ("waker_panics", "a waker panics"),
];

/// All models that the sources declare, in order of the files.
pub(crate) fn declared() -> Result<Vec<Model>, String> {
    let mut models = Vec::new();
    for source in tree::sources("crates/loom-tests/tests") {
        let kind =
            source.path.rsplit('/').next().and_then(|file| file.strip_suffix(".rs")).unwrap_or_default();
        let head = source.text.lines().next().unwrap_or_default();
        let owner = head.strip_prefix("//! Models of ").and_then(|rest| rest.split_once("'s "));
        let Some((owner, _)) = owner else {
            return Err(format!("{}: the first line must read `//! Models of CRATE's TYPE...`", source.path));
        };
        let lines: Vec<_> = source.text.lines().map(str::trim).collect();
        for (index, _) in lines.iter().enumerate().filter(|(_, line)| **line == "#[test]") {
            let name = lines[index..].iter().find_map(|line| line.strip_prefix("fn ")?.split('(').next());
            let name =
                name.ok_or_else(|| format!("{}:{}: a #[test] without a function", source.path, index + 1))?;
            models.push(Model { owner: owner.to_owned(), kind: kind.to_owned(), name: name.to_owned() });
        }
    }
    Ok(models)
}

/// The declared models that `words` ask for; a word that fits none is an error.
pub(crate) fn asked_for(words: &[String]) -> Result<Vec<Model>, String> {
    let all = declared()?;
    for word in words {
        if !all.iter().any(|model| model.is_asked_for(std::slice::from_ref(word))) {
            return Err(format!("no crate, type or model is called `{word}`"));
        }
    }
    Ok(all.into_iter().filter(|model| model.is_asked_for(words)).collect())
}

/// The built test programs of the models, by type.
pub(crate) struct Programs(Vec<(String, PathBuf)>);

impl Programs {
    /// Builds the programs of these models once, under `--cfg evenloop_loom`.
    pub(crate) fn build(models: &[Model]) -> Result<Self, String> {
        let mut build =
            sh::cargo("test --package evenloop-loom-tests --profile model --target-dir target/loom");
        build.env("RUSTFLAGS", "--cfg evenloop_loom").env_remove("CARGO_ENCODED_RUSTFLAGS");
        let mut kinds: Vec<_> = models.iter().map(|model| &model.kind).collect();
        kinds.dedup();
        for kind in kinds {
            build.arg("--test").arg(kind);
        }
        Self::read(build)
    }

    /// Those that this `cargo test` builds.
    pub(crate) fn read(mut cargo: Command) -> Result<Self, String> {
        cargo.arg("--no-run").arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
        Ok(Self(executables(&sh::read(&mut cargo)?)))
    }

    /// The program that holds `model`.
    pub(crate) fn of(&self, model: &Model) -> &Path {
        let found = self.0.iter().find(|(kind, _)| *kind == model.kind);
        &found.unwrap_or_else(|| panic!("cargo built no program for {}", model.kind)).1
    }
}

/// From cargo's messages: the name and the file of every test program.
pub(crate) fn executables(messages: &str) -> Vec<(String, PathBuf)> {
    let value = |line: &str, key: &str| {
        let (_, rest) = line.split_once(&format!("\"{key}\":\""))?;
        Some(rest.split('"').next()?.to_owned())
    };
    let artifacts = messages.lines().filter(|line| line.contains("\"reason\":\"compiler-artifact\""));
    let named = artifacts.filter_map(|line| {
        let executable = value(line, "executable")?;
        let source = value(line, "src_path")?;
        let name = Path::new(&source).file_stem()?.to_string_lossy().into_owned();
        Some((name, PathBuf::from(executable)))
    });
    named.collect()
}

/// One of the two ways in which every model is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// As it is: explores stale reads.
    Plain,
    /// Loads as read-modify-writes: explores orders that stock loom forgets.
    LoadRmw,
}

impl Pass {
    pub(crate) const BOTH: [Self; 2] = [Self::Plain, Self::LoadRmw];

    /// The environment that makes the pass, as one types it before a command.
    pub(crate) fn shown(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::LoadRmw => "LOAD_RMW=1 ",
        }
    }
}

/// How a model's process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All interleavings explored, nothing found.
    Passed,
    /// Loom saw two threads at one cell, or a value read that the order does not allow.
    Race,
    /// An assertion or another panic.
    Panic(String),
    /// All threads wait.
    Deadlock,
    /// Something was not freed.
    Leak,
    /// More steps than loom allows: usually a wait that nobody ends.
    Branches,
    /// Killed after the limit.
    TimeOut,
    /// Ended well, but without having explored: no `Completed` line, or one iteration.
    Unexplored(String),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Race => f.write_str("race"),
            Self::Panic(what) => write!(f, "panic: {what}"),
            Self::Deadlock => f.write_str("deadlock"),
            Self::Leak => f.write_str("leak"),
            Self::Branches => f.write_str("too many branches"),
            Self::TimeOut => f.write_str("time-out"),
            Self::Unexplored(why) => f.write_str(why),
        }
    }
}

/// What one process did.
pub(crate) struct Run {
    pub(crate) verdict: Verdict,
    pub(crate) iterations: u64,
    /// Outcomes that the model counts, with their counts.
    pub(crate) outcomes: Vec<(String, u64)>,
    pub(crate) time: Duration,
    pub(crate) output: String,
}

/// Runs `model` once in this pass; `more` adds to the environment.
pub(crate) fn run(
    programs: &Programs,
    model: &Model,
    pass: Pass,
    preemptions: Option<u32>,
    limit: Duration,
    more: &[(&str, &str)],
) -> Run {
    let mut command = Command::new(programs.of(model));
    command.arg("--exact").arg(&model.name).arg("--nocapture").current_dir(sh::root());
    command.env("LOOM_LOG", "loom::model=info").env("EVENLOOP_OUTCOMES", "report").env("RUST_BACKTRACE", "0");
    for unset in [
        "LOOM_MAX_PREEMPTIONS",
        "LOOM_MAX_DURATION",
        "LOOM_MAX_PERMUTATIONS",
        "LOOM_CHECKPOINT_FILE",
        "LOAD_RMW",
    ] {
        command.env_remove(unset);
    }
    if let Some(preemptions) = preemptions {
        command.env("LOOM_MAX_PREEMPTIONS", preemptions.to_string());
    }
    if pass == Pass::LoadRmw {
        command.env("LOAD_RMW", "1");
    }
    command.envs(more.iter().copied());
    let begin = Instant::now();
    let (code, output) = finish(command, limit);
    let time = begin.elapsed();
    let iterations = output.lines().find_map(completed).unwrap_or(0);
    let outcomes = output.lines().filter_map(outcome).collect();
    Run { verdict: judge(code, iterations, &output), iterations, outcomes, time, output }
}

/// Waits for the process, kills it at the limit. The exit code (none: a signal), and all that it wrote; `Err` is the
/// limit.
fn finish(mut command: Command, limit: Duration) -> (Result<Option<i32>, ()>, String) {
    let mut child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => return (Ok(None), format!("{}: {error}", sh::shown(&command))),
    };
    let read = |mut from: Box<dyn Read + Send>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // A pipe that breaks ends what there is to read.
            let _ = from.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = read(Box::new(child.stdout.take().expect("it is piped")));
    let stderr = read(Box::new(child.stderr.take().expect("it is piped")));
    let begin = Instant::now();
    let mut pause = Duration::from_micros(200);
    let code = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Ok(status.code()),
            Ok(None) if begin.elapsed() < limit => thread::sleep(pause),
            _ => {
                // It may have ended meanwhile; then there is nothing to kill.
                let _ = child.kill();
                let _ = child.wait();
                break Err(());
            }
        }
        pause = (pause * 2).min(Duration::from_millis(5));
    };
    let mut output = stdout.join().unwrap_or_default();
    output.push_str(&stderr.join().unwrap_or_default());
    (code, output)
}

/// The N of `Completed in N iterations`.
fn completed(line: &str) -> Option<u64> {
    line.split_once("Completed in ")?.1.split(' ').next()?.parse().ok()
}

/// A line `outcome: N NAME`, as the models print it.
fn outcome(line: &str) -> Option<(String, u64)> {
    let (count, name) = line.strip_prefix("outcome: ")?.split_once(' ')?;
    Some((name.to_owned(), count.parse().ok()?))
}

fn judge(code: Result<Option<i32>, ()>, iterations: u64, output: &str) -> Verdict {
    let panicked = || {
        let mut lines = output.lines().skip_while(|line| !line.contains("panicked at"));
        let place = lines.next().unwrap_or("no message").trim();
        let place = place.split_once("panicked at ").map_or(place, |(_, place)| place.trim_end_matches(':'));
        format!("{} ({place})", lines.next().unwrap_or_default().trim())
    };
    match code {
        Err(()) => Verdict::TimeOut,
        Ok(Some(0)) if iterations > 1 => Verdict::Passed,
        Ok(Some(0)) if iterations == 1 => Verdict::Unexplored("one interleaving only".into()),
        Ok(Some(0)) => Verdict::Unexplored("stopped before all was explored".into()),
        _ if output.contains("exceeded maximum number of branches") => Verdict::Branches,
        _ if output.contains("Causality violation") => Verdict::Race,
        _ if output.contains("deadlock; threads") => Verdict::Deadlock,
        _ if output.contains("leaked") => Verdict::Leak,
        _ => Verdict::Panic(panicked()),
    }
}

/// Does `work` for each item on all processors; answers in the items' order.
pub(crate) fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    at_once(items, thread::available_parallelism().map_or(1, usize::from), work)
}

/// Does `work` for each item, for so many at once; answers in the items' order.
pub(crate) fn at_once<'a, T: Sync, R: Send>(
    items: &'a [T],
    workers: usize,
    work: impl Fn(&'a T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    let result = work(item);
                    done.lock().expect("no worker panics under the lock").push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no worker panicked under the lock");
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}
