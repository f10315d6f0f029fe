//! `cargo xtask plant`: does the machine catch what it is there for?
//!
//! `plants.toml` lists faults: a place in the sources, what is written there, what a tired author could have written, and
//! the check that has to fail. Each is planted in a copy of the workspace (`target/plant/tree`), built, and the check run.
//! A fault that no check notices, that does not build, or whose place is gone, fails the command; so does a check that fails
//! with no fault at all. A model runs in both passes, as `cargo xtask loom` runs it. What `ordmut` does by itself to orderings
//! and wake-ups, this does to logic: a hand-on that is skipped, an unlink that is forgotten, a second look that is left out.

use crate::models::{self, Model, Pass, Programs};
use crate::{Outcome, loom, sh, tree};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const TABLE: &str = "crates/loom-tests/plants.toml";

/// The first build of a kind of check begins with nothing.
const BUILD_SECONDS: u32 = 3600;
const CHECK_SECONDS: u32 = 180;

/// A fault, and who has to notice.
struct Plant {
    /// The kind of mistake, in few words.
    category: String,
    file: String,
    from: String,
    to: String,
    /// `loom TYPE::MODEL`, `test ARGUMENTS OF CARGO TEST`, or `address ARGUMENTS`: under AddressSanitizer.
    check: String,
}

/// Plants those whose category or file contains one of `words`; all: no words.
pub(crate) fn run(words: &[String]) -> Outcome {
    let plants = read()?;
    let asked = |plant: &&Plant| {
        let fits =
            |word: &String| plant.category.contains(word.as_str()) || plant.file.contains(word.as_str());
        words.is_empty() || words.iter().any(fits)
    };
    let copy = sh::root().join("target/plant/tree");
    copy_tree(&copy)?;
    let begin = Instant::now();
    let plants: Vec<_> = plants.iter().filter(asked).collect();
    let mut failures = Vec::new();
    let mut checks: Vec<_> = plants.iter().map(|plant| &*plant.check).collect();
    checks.sort_unstable();
    checks.dedup();
    for check in &checks {
        let how = if builds(check, &copy)? {
            fails(check, &copy)?
        } else {
            Some(format!("does not build: {check}"))
        };
        if let Some(how) = how {
            println!("with no fault at all: {how}");
            failures.push(format!("with no fault at all: {how}"));
        }
    }
    println!("{} checks, with no fault: {:.0} s", checks.len(), begin.elapsed().as_secs_f64());
    for plant in &plants {
        let Plant { category, file, .. } = plant;
        let line = match try_out(plant, &copy)? {
            Ok(how) => format!("{category}: {file}: caught: {how}"),
            Err(why) => {
                failures.push(format!("{category}: {file}: {why}"));
                format!("{category}: {file}: {why}")
            }
        };
        println!("{line}");
    }
    println!("{} faults, {:.0} s", plants.len(), begin.elapsed().as_secs_f64());
    if failures.is_empty() { Ok(()) } else { Err(format!("\n{}", failures.join("\n"))) }
}

/// The faults that can be planted no more, because their place changed: for `tidy`, which takes no time.
pub(crate) fn stale() -> Vec<String> {
    let plants = match read() {
        Ok(plants) => plants,
        Err(why) => return vec![why],
    };
    let is_stale = |plant: &&Plant| {
        let text = std::fs::read_to_string(sh::root().join(&plant.file)).unwrap_or_default();
        !is_once(&plant.from, &text)
    };
    let told = |plant: &Plant| {
        format!("{TABLE}: {}: `from` has to be in {} once: {:?}", plant.category, plant.file, plant.from)
    };
    plants.iter().filter(is_stale).map(told).collect()
}

fn is_once(part: &str, text: &str) -> bool {
    text.matches(part).count() == 1
}

fn read() -> Result<Vec<Plant>, String> {
    let table = tree::manifest(&sh::root().join(TABLE));
    let plants = table.get("plant").and_then(|plants| plants.as_array()).cloned().unwrap_or_default();
    let plant = |entry: &toml::Value| {
        let text = |key: &str| {
            let value = entry.get(key).and_then(|value| value.as_str());
            value
                .map(str::to_owned)
                .ok_or_else(|| format!("plants.toml: a [[plant]] without `{key}`: {entry:?}"))
        };
        let (from, to) = (text("from")?, text("to")?);
        Ok(Plant { category: text("category")?, file: text("file")?, from, to, check: text("check")? })
    };
    plants.iter().map(plant).collect()
}

/// Makes `copy` the same as the workspace. What did not change keeps its time, so that little is built anew.
fn copy_tree(copy: &Path) -> Outcome {
    let mut outcome = Ok(());
    tree::walk(sh::root(), &mut |file| {
        let target = copy.join(tree::relative(&file));
        let same = std::fs::read(&file).ok() == std::fs::read(&target).ok();
        if !same {
            let folder = target.parent().map_or(Ok(()), std::fs::create_dir_all);
            let copied = folder.and_then(|()| std::fs::copy(&file, &target));
            outcome = copied.map(drop).map_err(|error| format!("{}: {error}", target.display()));
        }
    });
    outcome
}

/// Plants the fault, looks what the check says, and takes the fault out again. `Ok`: how it was caught.
fn try_out(plant: &Plant, copy: &Path) -> Result<Result<String, String>, String> {
    let file = copy.join(&plant.file);
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    if !is_once(&plant.from, &text) {
        return Ok(Err("stale: the place is not there, or not there once".into()));
    }
    let write =
        |text: &str| std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()));
    write(&text.replacen(&plant.from, &plant.to, 1))?;
    let verdict = match builds(&plant.check, copy)? {
        false => Err("does not build".into()),
        true => fails(&plant.check, copy)?.ok_or_else(|| format!("NOT caught by {}", plant.check)),
    };
    write(&text)?;
    Ok(verdict)
}

/// Builds what a check runs, so that the time of building is not the check's.
fn builds(of: &str, copy: &Path) -> Result<bool, String> {
    Ok(run_limited(check(of, copy)?.arg("--no-run"), BUILD_SECONDS) == Some(0))
}

/// Runs a check on the copy as it is. `Some`: how it fails.
fn fails(of: &str, copy: &Path) -> Result<Option<String>, String> {
    let Some(id) = of.strip_prefix("loom ") else {
        return Ok(match run_limited(&mut with_filter(check(of, copy)?, of), CHECK_SECONDS) {
            Some(0) => None,
            Some(TIMED_OUT) => Some(format!("{of}: not over after {CHECK_SECONDS} s")),
            _ => Some(of.to_owned()),
        });
    };
    let (kind, name) = id.split_once("::").ok_or_else(|| format!("plants.toml: `{of}` names no model"))?;
    let model = Model { owner: String::new(), kind: kind.into(), name: name.into() };
    let programs = Programs::read(check(of, copy)?)?;
    let limit = Duration::from_secs(CHECK_SECONDS.into());
    let run = |pass| models::run(&programs, &model, pass, loom::QUICK, limit, &[]);
    let runs = Pass::BOTH.map(run);
    let failed = Pass::BOTH.into_iter().zip(&runs).find(|(_, run)| run.verdict != models::Verdict::Passed);
    Ok(match failed {
        Some((pass, run)) => Some(format!("{}{of}: {}", pass.shown(), run.verdict)),
        None => loom::unreached(&model, &runs).into_iter().next(),
    })
}

/// The `cargo test` of a check, without the name of a single test.
fn check(check: &str, copy: &Path) -> Result<Command, String> {
    let (kind, rest) = check.split_once(' ').ok_or_else(|| format!("plants.toml: `{check}` is no check"))?;
    let target: PathBuf = sh::root().join("target/plant").join(kind);
    let mut command = match kind {
        "loom" => {
            let kind = rest.split("::").next().unwrap_or(rest);
            let mut cargo = sh::cargo("test --quiet --package evenloop-loom-tests --profile model");
            cargo.args(["--test", kind]).env("RUSTFLAGS", "--cfg evenloop_loom --allow warnings");
            cargo
        }
        "test" => sh::cargo(&format!("test --quiet {}", arguments(rest))),
        "address" => {
            let mut cargo = sh::cargo_of("nightly", &format!("test --quiet {}", arguments(rest)));
            cargo.args(["--target", "x86_64-unknown-linux-gnu"]).env("RUSTFLAGS", "-Zsanitizer=address");
            cargo
        }
        _ => return Err(format!("plants.toml: no such check: {kind}")),
    };
    command.arg("--target-dir").arg(target).current_dir(copy).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

/// What of a check is for cargo: all before ` -- `.
fn arguments(rest: &str) -> &str {
    rest.split(" -- ").next().unwrap_or(rest)
}

/// Adds what of a check is for the test program.
fn with_filter(mut command: Command, check: &str) -> Command {
    if let Some((_, filter)) = check.split_once(" -- ") {
        command.arg("--").args(filter.split(' '));
    }
    command
}

/// What `timeout` exits with if it had to end the command.
const TIMED_OUT: i32 = 124;

/// Runs it under `timeout`, since a check that waits for ever has noticed, too. `None`: it did not start, or a signal ended
/// it.
fn run_limited(command: &mut Command, limit_seconds: u32) -> Option<i32> {
    let mut limited = Command::new("timeout");
    limited.arg(limit_seconds.to_string()).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(key, value),
            None => limited.env_remove(key),
        };
    }
    limited.current_dir(command.get_current_dir().unwrap_or(sh::root()));
    limited.stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?.code()
}
