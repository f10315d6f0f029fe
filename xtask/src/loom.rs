//! `cargo xtask loom`: every model, both passes, with a table of what was explored.
//!
//! Beside passing, a model must have explored: at least four fifths of the iterations that `floors.toml` remembers, and
//! each outcome that it declares was seen in one of the passes.

use crate::models::{self, Model, Pass, Programs, Run, Verdict};
use crate::{Outcome, sh, tree};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The bound of the quick run, and the one that the floors are for.
pub(crate) const QUICK: Option<u32> = Some(2);
const LONG: Option<u32> = Some(3);

/// A model may take so long, in each pass.
const QUICK_LIMIT: Duration = Duration::from_secs(60);
const LONG_LIMIT: Duration = Duration::from_secs(1800);

/// What the user asked for.
#[derive(Debug)]
pub(crate) struct Options {
    words: Vec<String>,
    preemptions: Option<u32>,
    bless: bool,
    replay: bool,
    /// A model may take so long, in each pass.
    limit: Duration,
}

impl Options {
    /// All models, as the quick run has them.
    pub(crate) fn quick() -> Self {
        Self { words: vec![], preemptions: QUICK, bless: false, replay: false, limit: QUICK_LIMIT }
    }

    /// All models with one preemption more.
    pub(crate) fn long() -> Self {
        Self { preemptions: LONG, limit: LONG_LIMIT, ..Self::quick() }
    }

    pub(crate) fn parse(mut args: lexopt::Parser) -> Result<Self, lexopt::Error> {
        use lexopt::ValueExt as _;
        let mut words = vec![];
        let (mut long, mut bless, mut replay) = (false, false, false);
        let (mut preemptions, mut limit) = (None, None);
        while let Some(arg) = args.next()? {
            match arg {
                lexopt::Arg::Long("preemptions") => {
                    let bound = args.value()?;
                    preemptions = Some(if bound == "none" { None } else { Some(bound.parse()?) });
                }
                lexopt::Arg::Long("seconds") => limit = Some(Duration::from_secs(args.value()?.parse()?)),
                lexopt::Arg::Long("long") => long = true,
                lexopt::Arg::Long("bless") => bless = true,
                lexopt::Arg::Long("replay") => replay = true,
                lexopt::Arg::Value(word) => words.push(word.to_string_lossy().into_owned()),
                other => return Err(other.unexpected()),
            }
        }
        // Whatever the order on the command line, what is said in numbers beats `--long`.
        let base = if long { Self::long() } else { Self::quick() };
        let preemptions = preemptions.unwrap_or(base.preemptions);
        let limit = limit.unwrap_or(base.limit);
        if bless && replay {
            return Err(
                "--bless and --replay are two commands: one writes floors, the other shows a failure".into(),
            );
        }
        if bless && preemptions != QUICK {
            return Err(
                "--bless: the floors are for two preemptions, without --long and --preemptions".into()
            );
        }
        Ok(Self { words, preemptions, bless, replay, limit })
    }

    /// The arguments that make a run of one model explore as much as this one.
    fn bounds(&self) -> String {
        let mut bounds = String::new();
        if self.preemptions != QUICK {
            let bound = self.preemptions.map_or_else(|| "none".to_owned(), |bound| bound.to_string());
            write!(bounds, " --preemptions {bound}").expect("a string takes all");
        }
        if self.limit != QUICK_LIMIT {
            write!(bounds, " --seconds {}", self.limit.as_secs()).expect("a string takes all");
        }
        bounds
    }
}

pub(crate) fn run(options: Options) -> Outcome {
    let models = models::asked_for(&options.words)?;
    if models.is_empty() {
        return Err("there are no models".into());
    }
    let programs = Programs::build(&models)?;
    if options.replay {
        return replay(&programs, &models, &options);
    }
    let begin = Instant::now();
    let runs = models::in_parallel(&models, |model| {
        Pass::BOTH.map(|pass| models::run(&programs, model, pass, options.preemptions, options.limit, &[]))
    });
    let results: Vec<_> = models.iter().zip(&runs).collect();
    print_table(&results);

    let mut floors = Floors::read();
    let mut failures: Vec<_> =
        results.iter().flat_map(|(model, runs)| complaints(model, runs, &options)).collect();
    if options.bless {
        floors.bless(&results, options.words.is_empty());
        floors.write()?;
    } else if options.preemptions == QUICK {
        failures.extend(floors.complaints(&results, options.words.is_empty()));
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!("\n{} models, both passes, {seconds:.1} s", models.len());
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

fn print_table(results: &[(&Model, &[Run; 2])]) {
    let widest = results.iter().map(|(model, _)| model.id().len()).max().unwrap_or(0);
    println!("{:widest$}  {:>10}  {:>10}  {:>7}  outcomes", "model", "iterations", "LOAD_RMW", "time");
    for (model, [plain, load_rmw]) in results {
        let shown = |run: &Run| match &run.verdict {
            Verdict::Passed => run.iterations.to_string(),
            _ => "FAILED".to_owned(),
        };
        let seconds = (plain.time + load_rmw.time).as_secs_f64();
        let id = model.id();
        print!("{id:widest$}  {:>10}  {:>10}  {seconds:>5.1} s", shown(plain), shown(load_rmw));
        let outcomes = outcomes(plain, load_rmw).into_iter();
        let outcomes =
            outcomes.map(|(name, count)| format!("{name}: {count}")).collect::<Vec<_>>().join(", ");
        println!("  {outcomes}");
    }
}

/// The outcomes of both passes together.
fn outcomes(plain: &Run, load_rmw: &Run) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (name, count) in plain.outcomes.iter().chain(&load_rmw.outcomes) {
        *sums.entry(name.clone()).or_default() += count;
    }
    sums
}

/// What is wrong with a model's two runs, floors aside.
fn complaints(model: &Model, runs: &[Run; 2], options: &Options) -> Vec<String> {
    let mut complaints = Vec::new();
    for (pass, run) in Pass::BOTH.into_iter().zip(runs) {
        if run.verdict != Verdict::Passed {
            let mut text = format!("\n{}{}: {}\n", pass.shown(), model.id(), run.verdict);
            let tail: Vec<_> = run.output.lines().rev().take(25).collect();
            tail.iter().rev().for_each(|line| writeln!(text, "    {line}").expect("a string takes all"));
            write!(text, "see the failing run: cargo xtask loom {}{} --replay", model.id(), options.bounds())
                .expect("a string takes all");
            complaints.push(text);
        }
    }
    if runs.iter().all(|run| run.verdict == Verdict::Passed) {
        complaints.extend(unreached(model, runs));
    }
    complaints
}

/// The outcomes that a model declares and that neither run has reached.
pub(crate) fn unreached(model: &Model, [plain, load_rmw]: &[Run; 2]) -> Vec<String> {
    let never = outcomes(plain, load_rmw).into_iter().filter(|(_, count)| *count == 0);
    let told = |name| {
        format!("{}: the outcome `{name}` never came about: the model does not reach its race", model.id())
    };
    never.map(|(name, _)| told(name)).collect()
}

/// Finds the first failing run of each model, then shows it again with loom's trace.
fn replay(programs: &Programs, models: &[Model], options: &Options) -> Outcome {
    for model in models {
        for pass in Pass::BOTH {
            let checkpoint = sh::root().join(format!("target/loom/{}-{}.json", model.kind, model.name));
            // Left over from another failure; usually there is none.
            let _ = std::fs::remove_file(&checkpoint);
            let file = checkpoint.to_string_lossy();
            let every = [("LOOM_CHECKPOINT_FILE", &*file), ("LOOM_CHECKPOINT_INTERVAL", "1")];
            let run = models::run(programs, model, pass, options.preemptions, options.limit, &every);
            if run.verdict == Verdict::Passed {
                println!("{}{}: passed", pass.shown(), model.id());
                continue;
            }
            let trace = [("LOOM_LOG", "trace"), ("LOOM_LOCATION", "1"), every[0], every[1]];
            let run = models::run(programs, model, pass, options.preemptions, options.limit, &trace);
            println!("{}", run.output);
            return Err(format!(
                "{}{}: {}\nagain: {}LOOM_LOG=trace LOOM_LOCATION=1 LOOM_CHECKPOINT_FILE={} {} --exact {} --nocapture",
                pass.shown(),
                model.id(),
                run.verdict,
                pass.shown(),
                tree::relative(&checkpoint),
                tree::relative(programs.of(model)),
                model.name,
            ));
        }
    }
    Ok(())
}

/// `floors.toml`: how many iterations each model explored, by type and name, plain and with LOAD_RMW.
struct Floors(BTreeMap<String, BTreeMap<String, [u64; 2]>>);

impl Floors {
    fn file() -> PathBuf {
        sh::root().join("crates/loom-tests/floors.toml")
    }

    fn read() -> Self {
        let number = |value: &toml::Value| value.as_integer().and_then(|number| u64::try_from(number).ok());
        let pair = |value: &toml::Value| {
            let pair = value.as_array().map(|pair| [0, 1].map(|at| pair.get(at).and_then(number)));
            match pair {
                Some([Some(plain), Some(load_rmw)]) => [plain, load_rmw],
                _ => panic!("floors.toml: expected [plain, load_rmw], found {value:?}"),
            }
        };
        let mut floors = BTreeMap::new();
        for (kind, models) in tree::manifest(&Self::file()) {
            let models = models.as_table().cloned().unwrap_or_default();
            floors.insert(kind, models.iter().map(|(name, value)| (name.clone(), pair(value))).collect());
        }
        Self(floors)
    }

    fn of(&self, model: &Model) -> Option<[u64; 2]> {
        self.0.get(&model.kind)?.get(&model.name).copied()
    }

    /// Takes the iterations of these runs as the new floors; `all` says that there are no other models.
    fn bless(&mut self, results: &[(&Model, &[Run; 2])], all: bool) {
        if all {
            self.0.clear();
        }
        for (model, runs) in results {
            if runs.iter().all(|run| run.verdict == Verdict::Passed) {
                let kind = self.0.entry(model.kind.clone()).or_default();
                kind.insert(model.name.clone(), [0, 1].map(|at: usize| runs[at].iterations));
            }
        }
    }

    fn write(&self) -> Outcome {
        let mut text = String::from(
            "# How many interleavings each model explores at LOOM_MAX_PREEMPTIONS=2: plain, and with LOAD_RMW=1.\n\
             # Written by `cargo xtask loom --bless`. A drop of more than a fifth needs its reason in the commit.\n",
        );
        for (kind, models) in &self.0 {
            writeln!(text, "\n[{kind}]").expect("a string takes all");
            for (name, [plain, load_rmw]) in models {
                writeln!(text, "{name} = [{plain}, {load_rmw}]").expect("a string takes all");
            }
        }
        std::fs::write(Self::file(), text).map_err(|error| format!("floors.toml: {error}"))
    }

    fn complaints(&self, results: &[(&Model, &[Run; 2])], all: bool) -> Vec<String> {
        let mut complaints = Vec::new();
        for (model, runs) in results {
            let id = model.id();
            let Some(floors) = self.of(model) else {
                complaints.push(format!("{id} has no floor: cargo xtask loom {id} --bless"));
                continue;
            };
            for (pass, (run, floor)) in Pass::BOTH.into_iter().zip(runs.iter().zip(floors)) {
                if run.verdict == Verdict::Passed && run.iterations * 5 < floor * 4 {
                    let explored = run.iterations;
                    complaints.push(format!(
                        "{}{id} explores {explored} interleavings, it used to be {floor}. If the model is as strong as \
                         before, cargo xtask loom {id} --bless, and say why in the commit",
                        pass.shown()
                    ));
                }
            }
        }
        if all {
            let known = |kind: &str, name: &str| {
                results.iter().any(|(model, _)| model.kind == kind && model.name == name)
            };
            for (kind, models) in &self.0 {
                let stale = models.keys().filter(|name| !known(kind, name));
                complaints.extend(stale.map(|name| format!("floors.toml: there is no model {kind}::{name}")));
            }
        }
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<Options, String> {
        Options::parse(lexopt::Parser::from_args(words.split_whitespace())).map_err(|error| error.to_string())
    }

    #[test]
    fn long_keeps_what_is_said_before_it() {
        let options = parsed("lock --replay --seconds 5 --preemptions none --long").unwrap();
        assert!(options.replay);
        assert_eq!(options.preemptions, None);
        assert_eq!(options.limit, Duration::from_secs(5));
        assert_eq!(parsed("--long").unwrap().preemptions, LONG);
    }

    #[test]
    fn floors_are_blessed_for_two_preemptions_only() {
        assert!(parsed("lock --bless --preemptions 2").unwrap().bless);
        for words in ["--bless --preemptions 3", "--bless --long", "--long --bless"] {
            assert!(parsed(words).unwrap_err().contains("two preemptions"), "{words}");
        }
        assert!(parsed("lock --bless --replay").unwrap_err().contains("two commands"));
    }

    #[test]
    fn the_command_that_is_told_explores_as_much() {
        for words in ["", "--long", "--preemptions none", "--preemptions 4 --seconds 7"] {
            let options = parsed(words).unwrap();
            let again = parsed(&options.bounds()).unwrap();
            assert_eq!((again.preemptions, again.limit), (options.preemptions, options.limit), "{words}");
        }
        assert_eq!(Options::quick().bounds(), "");
        assert_eq!(Options::long().bounds(), " --preemptions 3 --seconds 1800");
    }
}
