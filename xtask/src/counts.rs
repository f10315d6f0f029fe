//! `cargo xtask counts`: instructions of the key operations, against a checked-in table.
//!
//! Times are noisy on a shared machine, instructions are not. `benches/counts.rs` does an operation N times; run under
//! callgrind with N and with 2 N, the difference is N operations without the start of the process. `counts.toml` holds the
//! figures; three hundredths more fail, three hundredths less ask for a new figure (`--bless`). Two instructions either way
//! are the compiler's mood.
//!
//! Then the same without the feature `watch`: what it costs while nobody asks may be a hundredth, and no more.

use crate::ci::Skips;
use crate::{Outcome, models, sh, tree};
use std::fmt::Write as _;

/// Operations a run; enough that a stray page fault or a rehash does not show.
const TIMES: u64 = 2000;

/// By how much a figure may be off.
const TOLERANCE: f64 = 0.03;
const LEAST: f64 = 2.0;

/// By how much the feature `watch` may add to a figure while nobody asks what tasks wait for: a hundredth, or one look (a load, a
/// comparison, a jump), which is more than that of what takes fewer than 300.
const WATCH: f64 = 0.01;
const LOOK: f64 = 3.0;

/// Compares, or with `bless` writes, the figures.
pub(crate) fn run(bless: bool, skips: &mut Skips) -> Outcome {
    if !skips.unless_found("valgrind", "counting instructions") {
        return Ok(());
    }
    let program = build("")?;
    let operations = sh::read(&mut sh::command(&program, "list"))?;
    let operations: Vec<_> = operations.split_whitespace().collect();
    if operations.is_empty() {
        return Err("benches/counts.rs lists no operation".into());
    }
    let counted = count(&program, &operations)?;
    let unwatched = count(&build("--no-default-features")?, &operations)?;

    let file = sh::root().join("benches/counts.toml");
    let known = tree::manifest(&file);
    let mut failures = Vec::new();
    let mut text = String::from(
        "# Instructions of one operation, as `cargo xtask counts` counts them; `--bless` writes them.\n\n",
    );
    for ((operation, counted), unwatched) in operations.iter().zip(counted).zip(unwatched) {
        let floor = known.get(*operation).and_then(|known| known.as_float());
        println!(
            "{operation:36} {counted:>10.1}  was {:10}  without watch {unwatched:.1}",
            floor.map_or("unknown".into(), |floor| floor.to_string())
        );
        let added = (counted - unwatched) / unwatched;
        if added > WATCH && counted - unwatched > LOOK {
            failures.push(format!(
                "{operation}: {counted:.1} instructions, {unwatched:.1} without the feature `watch`: {:+.1} %, where it is to \
                 cost nothing while nobody asks (crates/core/src/watch.rs says how)",
                added * 100.0
            ));
        }
        let off = floor.map(|floor| (counted - floor) / floor);
        match off {
            None => failures.push(format!("counts.toml does not know `{operation}`: cargo xtask counts --bless")),
            Some(off) if off.abs() > TOLERANCE && (off * floor.unwrap_or(0.0)).abs() > LEAST => failures.push(format!(
                "{operation}: {counted:.1} instructions, {:+.1} %: if that is worth it, cargo xtask counts --bless",
                off * 100.0
            )),
            Some(_) => {}
        }
        writeln!(text, "{operation} = {counted:.1}").expect("a string takes all");
    }
    let stale = known.keys().filter(|name| !operations.contains(&name.as_str()));
    failures.extend(stale.map(|name| format!("counts.toml: there is no operation `{name}`")));
    if bless {
        return std::fs::write(&file, text).map_err(|error| format!("counts.toml: {error}"));
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

/// Builds the operations, and answers the program.
fn build(features: &str) -> Result<String, String> {
    let mut build =
        sh::cargo(&format!("bench --package evenloop-benches --bench counts --no-run --quiet {features}"));
    let programs = models::executables(&sh::read(build.arg("--message-format=json-render-diagnostics"))?);
    let program = programs.into_iter().find(|(name, _)| name == "counts").ok_or("cargo built no `counts`")?.1;
    Ok(program.to_string_lossy().into_owned())
}

/// The instructions of one of each.
fn count(program: &str, operations: &[&str]) -> Result<Vec<f64>, String> {
    let counted = models::in_parallel(operations, |operation| {
        let count = |times| instructions(program, operation, times);
        Ok((count(2 * TIMES)? - count(TIMES)?) as f64 / TIMES as f64)
    });
    counted.into_iter().collect()
}

/// The instructions of a process that does `operation` so many times.
fn instructions(program: &str, operation: &str, times: u64) -> Result<i64, String> {
    let mut callgrind = sh::command("valgrind", "--tool=callgrind --callgrind-out-file=/dev/null");
    let output = callgrind.args([program, operation, &times.to_string()]).output();
    let output = output.map_err(|error| format!("valgrind: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let collected = text.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    collected.filter(|_| output.status.success()).ok_or_else(|| format!("{operation}: {text}"))
}
