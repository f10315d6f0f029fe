//! `cargo xtask proof`: writes the part of `crates/PROOF.md` that follows from the checked-in tables.
//!
//! The promises above it are written by hand; each names its tests and models as `FILE::NAME`, and every such name has to
//! exist, as a test, or as an operation of `cargo xtask counts`.

use crate::{Outcome, models, sh, tree};
use std::fmt::Write as _;

const FILE: &str = "crates/PROOF.md";
const BEGIN: &str = "<!-- written by `cargo xtask proof` -->";

/// Writes the tables; with `check`, only says whether they are as they should be.
pub(crate) fn run(check: bool) -> Outcome {
    let file = sh::root().join(FILE);
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{FILE}: {error}"))?;
    let (by_hand, _) = text.split_once(BEGIN).ok_or_else(|| format!("{FILE} has no `{BEGIN}`"))?;
    let mut findings = missing(FILE, by_hand);
    findings.extend(unheld(by_hand));
    if !findings.is_empty() {
        return Err(findings.join("\n"));
    }
    let whole = format!("{by_hand}{BEGIN}\n\n{}", tables());
    if whole == text {
        return Ok(());
    }
    if check {
        return Err(format!("{FILE} is older than the tables it shows: cargo xtask proof"));
    }
    std::fs::write(&file, whole).map_err(|error| format!("{FILE}: {error}"))
}

/// What is quoted in that line and has the form of a test's name: `FILE::NAME`.
fn names(line: &str) -> impl Iterator<Item = (&str, &str)> {
    // Between backticks: every other piece.
    let quoted = line.split('`').skip(1).step_by(2).filter(|quoted| !quoted.contains([' ', '(']));
    quoted.filter_map(|quoted| quoted.split_once("::"))
}

/// The names in the text of that file that are no test's.
pub(crate) fn missing(of: &str, text: &str) -> Vec<String> {
    let tests = tree::tests();
    let counts = tree::manifest(&sh::root().join("benches/counts.toml"));
    let exists = |file: &str, name: &str| {
        let ending = format!("/{file}.rs");
        let is_counted = file == "counts" && counts.contains_key(name);
        is_counted || tests.iter().any(|test| test.name == name && test.path.ends_with(&ending))
    };
    let mut missing = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        for (file, name) in names(line).filter(|(file, name)| !exists(file, name)) {
            missing.push(format!("{of}:{number}: there is no test `{file}::{name}` (FILE::NAME)"));
        }
    }
    missing
}

/// The promises that name no test: rows of the tables below the first heading, but for their heads.
fn unheld(by_hand: &str) -> Vec<String> {
    let lines = by_hand.lines().zip(1..).skip_while(|(line, _)| !line.starts_with("## "));
    let lines: Vec<_> = lines.collect();
    let is_head = |index: usize| lines.get(index + 1).is_some_and(|(line, _)| line.starts_with("|--"));
    let mut unheld = Vec::new();
    for (index, (line, number)) in lines.iter().enumerate() {
        let is_row = line.starts_with('|') && !line.starts_with("|--") && !is_head(index);
        if is_row && names(line).next().is_none() {
            unheld.push(format!("{FILE}:{number}: no test holds this: name one as `FILE::NAME`"));
        }
    }
    unheld
}

fn tables() -> String {
    let mut text = String::new();
    races(&mut text).expect("a string takes all");
    survivors(&mut text).expect("a string takes all");
    plants(&mut text).expect("a string takes all");
    text
}

fn entries(file: &str, key: &str) -> Vec<toml::Value> {
    let table = tree::manifest(&sh::root().join("crates/loom-tests").join(file));
    table.get(key).and_then(|entries| entries.as_array()).cloned().unwrap_or_default()
}

fn value(entry: &toml::Value, key: &str) -> String {
    entry.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned()
}

fn races(text: &mut String) -> std::fmt::Result {
    writeln!(text, "## Races, and the models that explore them\n")?;
    writeln!(
        text,
        "Every model runs twice, as it is and with loads as read-modify-writes, over all interleavings with two"
    )?;
    writeln!(
        text,
        "preemptions (three in the long run). Where a cell has no model, `coverage.toml` says why.\n"
    )?;
    for race in entries("coverage.toml", "race") {
        writeln!(text, "- **{}**: {} ∥ {}", value(&race, "type"), value(&race, "a"), value(&race, "b"))?;
        for (key, when) in models::CIRCUMSTANCES {
            let cell = value(&race, key);
            if !cell.starts_with("no: ") {
                let models =
                    cell.split(", ").map(|model| format!("`{model}`")).collect::<Vec<_>>().join(", ");
                writeln!(text, "  - {when}: {models}")?;
            }
        }
    }
    Ok(())
}

fn survivors(text: &mut String) -> std::fmt::Result {
    writeln!(text, "\n## Mutants that no model kills\n")?;
    writeln!(
        text,
        "`cargo xtask ordmut` fails on a weakened ordering or a left-out wake-up that no model notices and that is not here.\n"
    )?;
    let survivors = entries("ordmut.toml", "survivor");
    if survivors.is_empty() {
        return writeln!(text, "None is excused.");
    }
    for entry in survivors {
        let (site, change, why) = (value(&entry, "site"), value(&entry, "change"), value(&entry, "why"));
        let tests = entry.get("test").and_then(|tests| tests.as_array()).cloned().unwrap_or_default();
        let tests = tests.iter().filter_map(|test| test.as_str()).map(|test| format!("`{test}`"));
        let tests = tests.collect::<Vec<_>>().join(", ");
        writeln!(text, "- `{site}`, {change}, {}: {why} Covered by: {tests}", value(&entry, "verdict"))?;
    }
    Ok(())
}

fn plants(text: &mut String) -> std::fmt::Result {
    writeln!(text, "\n## Planted faults, and what catches them\n")?;
    writeln!(text, "| fault | planted in | caught by |\n|---|---|---|")?;
    for entry in entries("plants.toml", "plant") {
        writeln!(
            text,
            "| {} | `{}` | `{}` |",
            value(&entry, "category"),
            value(&entry, "file"),
            value(&entry, "check")
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_needs_a_name_and_the_name_a_test() {
        let text = "| not yet |\n## A\n| promise | held by |\n|---|---|\n| one | `loop::a` |\n| two | `loop a::b` |\n";
        let unheld = unheld(text);
        assert_eq!(unheld, ["crates/PROOF.md:6: no test holds this: name one as `FILE::NAME`"]);
    }

    #[test]
    fn what_is_no_test_holds_nothing() {
        let of = |name: &str| missing("f", &format!("a\n`{name}`")).len();
        assert_eq!(of("executor_task::a_million_yields_do_not_grow"), 0);
        assert_eq!((of("executor_task::pass"), of("executor_loop::a_million_yields_do_not_grow")), (1, 1));
        assert_eq!((of("counts::lock_free"), of("counts::poll")), (0, 1));
    }
}
