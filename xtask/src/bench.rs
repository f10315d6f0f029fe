//! `cargo xtask bench`: runs the benches and writes the README's table.
//!
//! In a bench, a criterion group is a situation and a function is who was in it: `evenloop`, a peer by its crate's name, or
//! `limit: WHAT`. All of a group run in one process, one after the other, on one processor where `taskset` is there. The
//! table takes medians; the ratio is the best peer's time by ours.

use crate::{Outcome, models, sh, tree};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

const BEGIN: &str = "<!-- benches: written by `cargo xtask bench` -->";
const END: &str = "<!-- end of benches -->";

/// What the user asked for.
pub(crate) struct Options {
    /// Bench files by name; none: all.
    names: Vec<String>,
    /// Do not measure: write the table from what was measured last.
    table: bool,
}

impl Options {
    pub(crate) fn parse(mut args: lexopt::Parser) -> Result<Self, lexopt::Error> {
        let mut options = Self { names: vec![], table: false };
        while let Some(arg) = args.next()? {
            match arg {
                lexopt::Arg::Long("table") => options.table = true,
                lexopt::Arg::Value(name) => options.names.push(name.to_string_lossy().into_owned()),
                other => return Err(other.unexpected()),
            }
        }
        Ok(options)
    }
}

pub(crate) fn run(options: Options) -> Outcome {
    if !options.table {
        measure(&options.names)?;
    }
    let table = table(&results()?);
    println!("{table}");
    write(&table)
}

fn measure(names: &[String]) -> Outcome {
    let mut build = sh::cargo(
        "bench --package evenloop-benches --benches --no-run --message-format=json-render-diagnostics",
    );
    for name in names {
        build.args(["--bench", name]);
    }
    let programs = models::executables(&sh::read(&mut build)?);
    // The instruction counts have a command of their own.
    for (name, program) in programs.into_iter().filter(|(name, _)| name != "counts" && name != "lib") {
        println!("== {name}");
        let mut bench = match sh::find("taskset") {
            Some(_) => {
                let mut pinned = sh::command("taskset", "--cpu-list 0");
                pinned.arg(program);
                pinned
            }
            None => sh::command(&program.to_string_lossy(), ""),
        };
        // Criterion looks for its folder from where it runs.
        sh::run(bench.args(["--bench", "--noplot"]).env("CARGO_TARGET_DIR", sh::root().join("target")))?;
    }
    Ok(())
}

/// Medians in nanoseconds for one element, by group and function.
type Results = BTreeMap<String, BTreeMap<String, f64>>;

fn results() -> Result<Results, String> {
    let mut results = Results::new();
    tree::walk_all(&sh::root().join("target/criterion"), &mut |file| {
        if file.ends_with("new/estimates.json")
            && let Some((group, function, median)) = result(&file)
        {
            results.entry(group).or_default().insert(function, median);
        }
    });
    if results.is_empty() { Err("nothing was measured yet: cargo xtask bench".into()) } else { Ok(results) }
}

fn result(estimates: &Path) -> Option<(String, String, f64)> {
    let estimates_text = std::fs::read_to_string(estimates).ok()?;
    let median = estimates_text.split_once("\"median\":")?.1.split_once("\"point_estimate\":")?.1;
    let median: f64 = median.split([',', '}']).next()?.parse().ok()?;
    let about = std::fs::read_to_string(estimates.with_file_name("benchmark.json")).ok()?;
    let text = |key: &str| {
        let (_, value) = about.split_once(&format!("\"{key}\":\""))?;
        Some(value.split('"').next()?.to_owned())
    };
    let elements =
        about.split_once("\"Elements\":").and_then(|(_, rest)| rest.split('}').next()?.parse().ok());
    let value = text("value_str").map_or(String::new(), |value| format!(" {value}"));
    Some((text("group_id")?, text("function_id")? + &value, median / elements.unwrap_or(1.0)))
}

/// The table in Markdown: a row for each situation that Evenloop was measured in.
fn table(results: &Results) -> String {
    let mut table = String::from(
        "| situation | Evenloop | tokio | best other | limit | best peer : Evenloop |\n|---|---|---|---|---|---|\n",
    );
    for (group, functions) in results {
        let Some(ours) = functions.get("evenloop") else { continue };
        let is_limit = |name: &str| name.starts_with("limit");
        let is_peer = |name: &str| !name.starts_with("evenloop") && !is_limit(name) && name != "loop_only";
        let best = |wanted: &dyn Fn(&str) -> bool| {
            let candidates = functions.iter().filter(|(name, _)| wanted(name));
            candidates.min_by(|(_, a), (_, b)| a.total_cmp(b))
        };
        let tokio = functions.get("tokio").map_or("–".to_owned(), |time| shown(*time));
        let other = best(&|name| is_peer(name) && name != "tokio");
        let other = other.map_or("–".to_owned(), |(name, time)| format!("{} ({name})", shown(*time)));
        let limit = best(&is_limit).map_or("–".to_owned(), |(_, time)| shown(*time));
        let ratio = best(&is_peer).map_or("–".to_owned(), |(_, time)| format!("{:.1}", time / ours));
        let situation = group.replace('_', " ");
        writeln!(table, "| {situation} | {} | {tokio} | {other} | {limit} | {ratio} |", shown(*ours))
            .expect("a string takes all");
    }
    table
}

/// A time with three digits or so, and its unit.
fn shown(nanoseconds: f64) -> String {
    match nanoseconds {
        ns if ns < 100.0 => format!("{ns:.1} ns"),
        ns if ns < 10_000.0 => format!("{ns:.0} ns"),
        ns if ns < 10_000_000.0 => format!("{:.1} µs", ns / 1e3),
        ns => format!("{:.1} ms", ns / 1e6),
    }
}

/// Puts the table between the README's two markers.
fn write(table: &str) -> Outcome {
    let file = sh::root().join("README.md");
    let text = std::fs::read_to_string(&file).map_err(|error| format!("README.md: {error}"))?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or_else(|| format!("README.md has no `{BEGIN}` with a later `{END}`"))?;
    std::fs::write(&file, format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
        .map_err(|error| format!("README.md: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_names_the_best_peer_and_the_ratio() {
        let functions = [("evenloop", 10.0), ("tokio", 40.0), ("kanal", 25.0), ("limit: futex", 5.0)];
        let functions = functions.map(|(name, time)| (name.to_owned(), time)).into();
        let table = table(&Results::from([("queue_one_producer".to_owned(), functions)]));
        let row = table.lines().last().unwrap();
        assert_eq!(row, "| queue one producer | 10.0 ns | 40.0 ns | 25.0 ns (kanal) | 5.0 ns | 2.5 |");
    }
}
