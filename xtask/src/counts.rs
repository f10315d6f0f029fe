//! `cargo xtask counts`: instructions of the key operations, against a checked-in table.
//!
//! Times are noisy on a shared machine, instructions are not. `benches/counts.rs` does an operation N times; run under
//! callgrind with N and with 2 N, the difference is N operations without the start of the process. `counts.toml` holds the
//! figures; three hundredths more fail, three hundredths less ask for a new figure (`--bless`). Two instructions either way
//! are the compiler's mood.

use crate::ci::Skips;
use crate::{Outcome, models, sh, tree};
use std::fmt::Write as _;

/// Operations a run; enough that a stray page fault or a rehash does not show.
const TIMES: u64 = 2000;

/// By how much a figure may be off.
const TOLERANCE: f64 = 0.03;
const LEAST: f64 = 2.0;

/// Compares, or with `bless` writes, the figures.
pub(crate) fn run(bless: bool, skips: &mut Skips) -> Outcome {
    if !skips.unless_found("valgrind", "counting instructions") {
        return Ok(());
    }
    let mut build = sh::cargo("bench --package evenloop-benches --bench counts --no-run --quiet");
    let programs = models::executables(&sh::read(build.arg("--message-format=json-render-diagnostics"))?);
    let (_, program) =
        programs.into_iter().find(|(name, _)| name == "counts").ok_or("cargo built no `counts`")?;
    let program = program.to_string_lossy().into_owned();
    let operations = sh::read(&mut sh::command(&program, "list"))?;
    let operations: Vec<_> = operations.split_whitespace().collect();
    let counted = models::in_parallel(&operations, |operation| {
        let count = |times| instructions(&program, operation, times);
        Ok::<_, String>((count(2 * TIMES)? - count(TIMES)?) as f64 / TIMES as f64)
    });

    let file = sh::root().join("benches/counts.toml");
    let known = tree::manifest(&file);
    let mut failures = Vec::new();
    let mut text = String::from(
        "# Instructions of one operation, as `cargo xtask counts` counts them; `--bless` writes them.\n\n",
    );
    for (operation, counted) in operations.iter().zip(counted) {
        let counted = counted?;
        let floor = known.get(*operation).and_then(|known| known.as_float());
        println!(
            "{operation:32} {counted:>10.1}  was {}",
            floor.map_or("unknown".into(), |floor| floor.to_string())
        );
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

/// The instructions of a process that does `operation` so many times.
fn instructions(program: &str, operation: &str, times: u64) -> Result<i64, String> {
    let mut callgrind = sh::command("valgrind", "--tool=callgrind --callgrind-out-file=/dev/null");
    let output = callgrind.args([program, operation, &times.to_string()]).output();
    let output = output.map_err(|error| format!("valgrind: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let collected = text.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    collected.filter(|_| output.status.success()).ok_or_else(|| format!("{operation}: {text}"))
}
