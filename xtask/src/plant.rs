//! `cargo xtask plant`: does the machine catch what it is there for?
//!
//! `plants.toml` lists faults: a place in the sources, what is written there, what a tired author could have written, and
//! the check that has to fail. Each is planted in a copy of the workspace (`target/plant/tree`), built, and the check run.
//! A fault that no check notices, that does not build, or whose place is gone, fails the command. What `ordmut` does by
//! itself to orderings and wake-ups, this does to logic: a hand-on that is skipped, an unlink that is forgotten, a second
//! look that is left out.

use crate::{Outcome, sh, tree};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
    let mut failures = Vec::new();
    for plant in plants.iter().filter(asked) {
        let Plant { category, file, check, .. } = plant;
        let verdict = try_out(plant, &copy)?;
        println!("{category}: {file}: {verdict} by {check}");
        if verdict != "caught" {
            failures.push(format!("{category}: {file}: {verdict} by {check}"));
        }
    }
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

/// Plants the fault, looks what the check says, and takes the fault out again.
fn try_out(plant: &Plant, copy: &Path) -> Result<&'static str, String> {
    let file = copy.join(&plant.file);
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    if !is_once(&plant.from, &text) {
        return Ok("stale: the place is not there, or not there once: not caught");
    }
    let write =
        |text: &str| std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()));
    write(&text.replacen(&plant.from, &plant.to, 1))?;
    let verdict = if !succeeds(check(&plant.check, copy)?.arg("--no-run"), BUILD_SECONDS) {
        "does not build: not caught"
    } else if succeeds(&mut with_filter(check(&plant.check, copy)?, &plant.check), CHECK_SECONDS) {
        "NOT caught"
    } else {
        "caught"
    };
    write(&text)?;
    Ok(verdict)
}

/// The `cargo test` of a check, without the name of a single test.
fn check(check: &str, copy: &Path) -> Result<Command, String> {
    let (kind, rest) = check.split_once(' ').ok_or_else(|| format!("plants.toml: `{check}` is no check"))?;
    let target: PathBuf = sh::root().join("target/plant").join(kind);
    let mut command = match kind {
        "loom" => {
            let kind = rest.split("::").next().unwrap_or(rest);
            let mut cargo = sh::cargo("test --quiet --package evenloop-loom-tests --profile model");
            cargo
                .args(["--test", kind])
                .env("RUSTFLAGS", "--cfg evenloop_loom")
                .env("LOOM_MAX_PREEMPTIONS", "2");
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
    if let Some(model) = check.strip_prefix("loom ").and_then(|model| model.split_once("::")) {
        command.args(["--", "--exact", model.1]);
    } else if let Some((_, filter)) = check.split_once(" -- ") {
        command.arg("--").args(filter.split(' '));
    }
    command
}

/// A check that waits for ever has noticed, too: `timeout` ends it.
fn succeeds(command: &mut Command, limit_seconds: u32) -> bool {
    let mut limited = Command::new("timeout");
    limited.arg(limit_seconds.to_string()).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(key, value),
            None => limited.env_remove(key),
        };
    }
    limited.current_dir(command.get_current_dir().unwrap_or(sh::root()));
    limited.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
