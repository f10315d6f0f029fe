//! Every model opens with its question and guards a cell, or says why not; and every cell of the coverage table names its model or
//! a reason.

use crate::models::{self, Model};
use crate::sh;
use crate::tree::{self, Source};

pub(super) fn check(findings: &mut Vec<String>) {
    match models::declared() {
        Ok(models) => coverage(&models, findings),
        Err(why) => findings.push(why),
    }
    for source in tree::sources("crates/loom-tests/tests") {
        questions(&source, findings);
        cells(&source, findings);
    }
}

fn questions(source: &Source, findings: &mut Vec<String>) {
    let lines: Vec<_> = source.text.lines().map(str::trim).collect();
    for (index, _) in lines.iter().enumerate().filter(|(_, line)| **line == "#[test]") {
        let doc: Vec<_> = lines[..index].iter().rev().take_while(|line| line.starts_with("///")).collect();
        if !doc.iter().any(|line| line.contains('?')) {
            findings.push(format!(
                "{}:{}: a model opens with its question: a `///` sentence with a question mark",
                source.path,
                index + 1
            ));
        }
    }
}

/// A model that guards no cell checks counters only, and passes with an ordering too few.
fn cells(source: &Source, findings: &mut Vec<String>) {
    let items = items(&source.text);
    let mentions = |item: &Item<'_>, names: &[&str]| {
        let mut words = item.text.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        words.any(|word| names.contains(&word))
    };
    // What holds a witness, and what is made of that.
    let mut holders = vec!["Witness", "witness"];
    while let Some(item) =
        items.iter().find(|item| !item.is_model && !holders.contains(&item.name) && mentions(item, &holders))
    {
        holders.push(item.name);
    }
    for item in items.iter().filter(|item| item.is_model) {
        if !mentions(item, &holders) && !item.text.lines().any(|line| line.starts_with("/// No cell: ")) {
            findings.push(format!(
                "{}: `{}` guards no cell: touch a `Witness` inside the race, or say why not in a line `/// No cell: ...`",
                source.path, item.name
            ));
        }
    }
}

/// A function, a type or an implementation, as rustfmt lays it out: from its comment to a line that ends it.
struct Item<'a> {
    name: &'a str,
    text: String,
    is_model: bool,
}

fn items(text: &str) -> Vec<Item<'_>> {
    let begins = ["fn ", "struct ", "enum ", "type ", "impl ", "impl<"];
    let mut items = Vec::new();
    let mut lines = Vec::new();
    let mut name = None;
    for line in text.lines() {
        lines.push(line);
        if name.is_none() && begins.iter().any(|begin| line.starts_with(begin)) {
            // Of an implementation, whose it is.
            let named = line.split_once(" for ").map_or(line, |(_, owner)| owner);
            let named = begins.iter().fold(named, |named, begin| named.trim_start_matches(begin));
            name = named.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next();
        }
        let is_over = line == "}" || line.is_empty() || (line.ends_with(';') && !line.starts_with(' '));
        let goes_on = name.is_some() && line.is_empty();
        if is_over && !goes_on {
            let is_model = lines.contains(&"#[test]");
            items.extend(name.take().map(|name| Item { name, text: lines.join("\n"), is_model }));
            lines.clear();
        }
    }
    items
}

fn coverage(models: &[Model], findings: &mut Vec<String>) {
    let file = "crates/loom-tests/coverage.toml";
    let table = tree::manifest(&sh::root().join(file));
    let races = table.get("race").and_then(|races| races.as_array()).cloned().unwrap_or_default();
    let text = |race: &toml::Value, key: &str| {
        race.get(key).and_then(|value| value.as_str()).unwrap_or("").to_owned()
    };
    let mut named = Vec::new();
    for race in &races {
        let title = format!("{}: {} || {}", text(race, "type"), text(race, "a"), text(race, "b"));
        for key in ["type", "a", "b"] {
            if text(race, key).is_empty() {
                findings.push(format!("{file}: a [[race]] ({title}) has no `{key}`"));
            }
        }
        for (key, when) in models::CIRCUMSTANCES {
            let cell = text(race, key);
            if cell.is_empty() {
                findings.push(format!(
                    "{file}: {title}: {when}? Give `{key}` the models that show it, or `no: ` and the reason"
                ));
            } else if !cell.starts_with("no: ") {
                named.extend(cell.split(',').map(|name| (title.clone(), name.trim().to_owned())));
            }
        }
        let known = race.as_table().into_iter().flatten().map(|(key, _)| key.as_str());
        let keys = |key: &&str| {
            ["type", "a", "b"].contains(key) || models::CIRCUMSTANCES.iter().any(|(known, _)| known == key)
        };
        findings.extend(
            known.filter(|key| !keys(key)).map(|key| format!("{file}: {title}: unknown key `{key}`")),
        );
    }
    for (title, name) in &named {
        if !models.iter().any(|model| model.id() == *name) {
            findings.push(format!("{file}: {title}: there is no model `{name}` (TYPE::NAME)"));
        }
    }
    for model in models {
        if !named.iter().any(|(_, name)| *name == model.id()) {
            findings.push(format!("{file}: no cell names the model {}", model.id()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_guards_a_cell_or_says_why_not() {
        let text = "\
struct Scene {
    before: Witness,
}

fn scene() -> Scene {
    todo

}

/// One?
#[test]
fn of_a_scene() {
    scene();
}

/// Two?
/// No cell: a reason.
#[test]
fn with_a_reason() {
}

/// Three?
#[test]
fn of_nothing() {
    scenery();
}
";
        let mut findings = Vec::new();
        cells(&Source { path: "lock.rs".into(), text: text.into() }, &mut findings);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].starts_with("lock.rs: `of_nothing` guards no cell"), "{findings:?}");
    }
}
