//! `cargo xtask plant`: does the machine catch what it is there for?
//!
//! `plants.toml` lists faults: a place in the sources, what is written there, what a tired author could have written, and
//! the check that has to fail. Each is planted in a copy of the workspace (`target/plant/tree`), built, and the check run.
//! A fault that its check does not notice, that does not build, or whose place is gone, fails the command; so does a check
//! that fails with no fault at all. A model runs in both passes, as `cargo xtask loom` runs it. What `ordmut` does by itself
//! to orderings and wake-ups, this does to logic: a hand-on that is skipped, an unlink that is forgotten, a second look that
//! is left out.

use crate::check::{Answer, Check, Copy};
use crate::{Outcome, sh, tree};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const TABLE: &str = "crates/loom-tests/plants.toml";

const CHECK_LIMIT: Duration = Duration::from_secs(180);

/// A fault, and who has to notice.
struct Plant {
    /// The kind of mistake, in few words.
    category: String,
    file: String,
    from: String,
    to: String,
    check: Check,
}

/// Plants those whose category or file contains one of `words`; all: no words.
pub(crate) fn run(words: &[String]) -> Outcome {
    let plants = read()?;
    let fits = |plant: &Plant, word: &String| {
        plant.category.contains(word.as_str()) || plant.file.contains(word.as_str())
    };
    for word in words {
        if !plants.iter().any(|plant| fits(plant, word)) {
            let known: BTreeSet<_> =
                plants.iter().flat_map(|plant| [&*plant.category, &*plant.file]).collect();
            let known = known.into_iter().collect::<Vec<_>>().join("\n  ");
            return Err(format!("no fault has `{word}` in its category or its file; there are\n  {known}"));
        }
    }
    let asked = |plant: &&Plant| words.is_empty() || words.iter().any(|word| fits(plant, word));
    let plants: Vec<_> = plants.iter().filter(asked).collect();
    plants.iter().try_for_each(|plant| plant.check.needs())?;
    let copy = Copy::make("plant", &|_, _| Ok(None))?;
    let begin = Instant::now();
    let mut failures = Vec::new();
    let checks: BTreeMap<_, _> = plants.iter().map(|plant| (plant.check.text(), &plant.check)).collect();
    for check in checks.values() {
        let how = match check.build(&copy)? {
            Err(why) => why,
            Ok(()) => match check.run(&copy, CHECK_LIMIT, &[])? {
                Answer::Passed => continue,
                Answer::Noticed(how) | Answer::Nothing(how) => how,
            },
        };
        println!("with no fault at all: {how}");
        failures.push(format!("with no fault at all: {how}"));
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

/// The faults that can be planted no more, because their place changed, or whose check is gone: for `tidy`, which takes no
/// time.
pub(crate) fn stale() -> Vec<String> {
    let plants = match read() {
        Ok(plants) => plants,
        Err(why) => return vec![why],
    };
    let mut findings = Vec::new();
    for plant in &plants {
        let Plant { category, file, from, .. } = plant;
        let text = std::fs::read_to_string(sh::root().join(file)).unwrap_or_default();
        if !is_once(from, &text) {
            findings.push(format!("{TABLE}: {category}: `from` has to be in {file} once: {from:?}"));
        }
        findings.extend(plant.check.missing().into_iter().map(|why| format!("{TABLE}: {category}: {why}")));
    }
    findings
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
        let check = Check::parse(&text("check")?).map_err(|why| format!("plants.toml: {why}"))?;
        Ok(Plant { category: text("category")?, file: text("file")?, from, to, check })
    };
    plants.iter().map(plant).collect()
}

/// Plants the fault, looks what the check says, and takes the fault out again. `Ok`: how it was caught.
fn try_out(plant: &Plant, copy: &Copy) -> Result<Result<String, String>, String> {
    let file = copy.file(&plant.file);
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    if !is_once(&plant.from, &text) {
        return Ok(Err("stale: the place is not there, or not there once".into()));
    }
    let write =
        |text: &str| std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()));
    write(&text.replacen(&plant.from, &plant.to, 1))?;
    let answer = plant.check.build(copy).and_then(|built| match built {
        Ok(()) => plant.check.run(copy, CHECK_LIMIT, &[]),
        Err(why) => Ok(Answer::Nothing(why)),
    });
    write(&text)?;
    Ok(match answer? {
        Answer::Noticed(how) => Ok(how),
        Answer::Passed => Err(format!("NOT caught by {}", plant.check.text())),
        Answer::Nothing(why) => Err(format!("NOT caught: {why}")),
    })
}
