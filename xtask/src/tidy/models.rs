//! Every model opens with its question, and every cell of the coverage table names its model or a reason.

use crate::models::{self, Model};
use crate::{sh, tree};

pub(super) fn check(findings: &mut Vec<String>) {
    match models::declared() {
        Ok(models) => coverage(&models, findings),
        Err(why) => findings.push(why),
    }
    questions(findings);
}

fn questions(findings: &mut Vec<String>) {
    for source in tree::sources("crates/loom-tests/tests") {
        let lines: Vec<_> = source.text.lines().map(str::trim).collect();
        for (index, _) in lines.iter().enumerate().filter(|(_, line)| **line == "#[test]") {
            let doc: Vec<_> =
                lines[..index].iter().rev().take_while(|line| line.starts_with("///")).collect();
            if !doc.iter().any(|line| line.contains('?')) {
                findings.push(format!(
                    "{}:{}: a model opens with its question: a `///` sentence with a question mark",
                    source.path,
                    index + 1
                ));
            }
        }
    }
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
