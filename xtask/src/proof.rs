//! `cargo xtask proof`: writes the part of `crates/PROOF.md` that follows from the checked-in tables.
//!
//! The promises above it are written by hand; each names its tests and models as `FILE::NAME`, and every such name has to
//! exist.

use crate::{Outcome, sh, tree};
use std::fmt::Write as _;

const FILE: &str = "crates/PROOF.md";
const BEGIN: &str = "<!-- written by `cargo xtask proof` -->";

/// What may befall a race, as the coverage table's keys say it.
const CIRCUMSTANCES: &[(&str, &str)] = &[
    ("no_cancel", "undisturbed"),
    ("cancel_a", "the first cancelled"),
    ("cancel_b", "the second cancelled"),
    ("owner_dropped", "the owner dropped"),
    ("waker_moves", "the waker moves"),
    ("waker_panics", "a waker panics"),
];

/// Writes the tables; with `check`, only says whether they are as they should be.
pub(crate) fn run(check: bool) -> Outcome {
    let file = sh::root().join(FILE);
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{FILE}: {error}"))?;
    let (by_hand, _) = text.split_once(BEGIN).ok_or_else(|| format!("{FILE} has no `{BEGIN}`"))?;
    let missing = missing(FILE, by_hand);
    if !missing.is_empty() {
        return Err(missing.join("\n"));
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

/// The names of tests in the text of that file that no source declares.
pub(crate) fn missing(of: &str, text: &str) -> Vec<String> {
    let mut sources = tree::sources("tests");
    sources.extend(tree::sources("crates"));
    let exists = |file: &str, name: &str| {
        let ending = format!("/{file}.rs");
        sources
            .iter()
            .any(|source| source.path.ends_with(&ending) && source.text.contains(&format!("fn {name}(")))
    };
    let mut missing = Vec::new();
    for (index, line) in text.lines().enumerate() {
        // Between backticks: every other piece.
        for quoted in line.split('`').skip(1).step_by(2) {
            let Some((file, name)) = quoted.split_once("::").filter(|_| !quoted.contains([' ', '('])) else {
                continue;
            };
            if !exists(file, name) {
                missing.push(format!("{of}:{}: there is no test `{quoted}` (FILE::NAME)", index + 1));
            }
        }
    }
    missing
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
        for (key, when) in CIRCUMSTANCES {
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
        writeln!(text, "- `{site}`, {change}: {why} Covered by: {}", value(&entry, "test"))?;
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
