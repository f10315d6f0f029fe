//! Every public function that waits has its place in the table of the universal tests, and the table names no other.
//!
//! The table is Rust, so that a row can hold its scene; what is read of it here are its strings that begin as the name of an
//! operation does: `sync::Lock::acquire`, and after a comma in which case. A file counts only as far as it is part of the test.

mod surface;

use crate::proof;
use crate::tree::{self, Source};
use std::collections::{BTreeMap, BTreeSet};
use surface::Function;

const TEST: &str = "tests/universal.rs";
const ROWS: &str = "tests/universal";
const THROUGH: &str = "tests/universal/through.rs";

/// A crate's operations are named after its folder, in one word.
fn krate(folder: &str) -> &str {
    folder.rsplit('/').next().unwrap_or(folder)
}

pub(super) fn check(findings: &mut Vec<String>) {
    let mut functions = BTreeSet::new();
    let mut crates = BTreeSet::new();
    for library in tree::libraries() {
        let krate = krate(&library.folder);
        functions.extend(surface::functions(krate, &library.sources()));
        crates.insert(krate.to_owned());
    }
    let table = tree::sources(ROWS);
    compare(&functions, &named(&table, &crates), findings);
    let test = tree::sources("tests").into_iter().find(|source| source.path == TEST);
    strays(&test.expect("the universal tests are there"), &table, &crates, findings);
    for source in table.iter().filter(|source| source.path == THROUGH) {
        findings.extend(proof::missing(THROUGH, &source.text));
    }
}

/// What is in the one and not in the other.
fn compare(
    functions: &BTreeSet<Function>,
    named: &BTreeMap<String, (String, usize)>,
    findings: &mut Vec<String>,
) {
    for Function { name, path, line, .. } in functions.iter().filter(|function| function.waits) {
        if !named.contains_key(name) {
            findings.push(format!(
                "{path}:{line}: `{name}` waits, and no universal test knows it: add a row to {ROWS}, or to {THROUGH} if it \
                 waits in other rows only"
            ));
        }
    }
    for (name, (path, line)) in named {
        if !functions.iter().any(|function| function.name == *name) {
            findings.push(format!("{path}:{line}: there is no public function `{name}`: take it out"));
        }
    }
}

/// Files that the test does not take in, and rows that it does not take up.
fn strays(test: &Source, table: &[Source], crates: &BTreeSet<String>, findings: &mut Vec<String>) {
    let code = test.bare_code();
    let has = |what: &str| code.iter().any(|(_, line)| line.trim().trim_end_matches(',') == what);
    for source in table {
        let path = &source.path;
        let within = path.strip_prefix(ROWS).and_then(|path| path.strip_prefix('/')).unwrap_or(path);
        let module = within.trim_end_matches(".rs");
        if !has(&format!("mod {module};")) {
            findings.push(format!("{path}:1: {TEST} has no `mod {module};`: its rows are run by nobody"));
        }
        let is_rows = path != THROUGH && !named(std::slice::from_ref(source), crates).is_empty();
        if is_rows && !has(&format!("{module}::rows()")) {
            findings.push(format!("{path}:1: `rows` in {TEST} has no `{module}::rows()`: nobody runs them"));
        }
    }
}

/// The operations that the table names, and where first.
fn named(table: &[Source], crates: &BTreeSet<String>) -> BTreeMap<String, (String, usize)> {
    let mut named = BTreeMap::new();
    for source in table {
        for (number, line) in source.code() {
            // Between quotes: every other piece.
            for text in line.split('"').skip(1).step_by(2) {
                let name = text.split(',').next().unwrap_or(text);
                let is_name = name.chars().all(|letter| letter.is_alphanumeric() || "_:".contains(letter));
                if is_name && name.split_once("::").is_some_and(|(krate, _)| crates.contains(krate)) {
                    named.entry(name.to_owned()).or_insert((source.path.clone(), number));
                }
            }
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found between this text of a crate `sync` and this text of the table.
    fn findings(library: &str, table: &str) -> Vec<String> {
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
        let functions = surface::functions("sync", &[source("crates/sync/src/lock.rs", library)]);
        let crates = BTreeSet::from(["sync".to_owned()]);
        let mut findings = Vec::new();
        compare(&functions, &named(&[source("tests/universal/rows.rs", table)], &crates), &mut findings);
        findings
    }

    const LOCK: &str = "\
pub struct Lock;

impl Lock {
    pub async fn acquire(&self) {}
}
";

    #[test]
    fn what_is_missing_is_named_with_the_file_to_add_it_to() {
        let findings = findings(LOCK, "row(\"sync::Event::wait_not\")\n");
        assert!(
            findings[0].starts_with("crates/sync/src/lock.rs:4: `sync::Lock::acquire` waits"),
            "{findings:?}"
        );
        assert!(findings[0].contains("add a row to tests/universal, or to tests/universal/through.rs"));
    }

    #[test]
    fn what_is_named_and_gone_is_found() {
        let findings = findings(LOCK, "row(\"sync::Lock::acquire, closed\")\nrow(\"sync::Lock::get\")\n");
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0]
                .starts_with("tests/universal/rows.rs:2: there is no public function `sync::Lock::get`")
        );
    }

    /// What is found of a file of rows beside this text of the test.
    fn strays_of(test: &str) -> Vec<String> {
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
        let mut findings = Vec::new();
        let table = [
            source("tests/universal/locks.rs", "row(\"sync::Lock::acquire\")\n"),
            source("tests/universal/through.rs", "(\"sync::Lock::acquire_owned\")\n"),
            source("tests/universal/scene.rs", "struct Scene;\n"),
        ];
        strays(&source(TEST, test), &table, &BTreeSet::from(["sync".to_owned()]), &mut findings);
        findings
    }

    #[test]
    fn a_file_that_is_no_module_or_whose_rows_are_not_taken_up_is_found() {
        let all = "mod locks;\nmod scene;\nmod through;\nlet rows = [\n    locks::rows(),\n];\n";
        assert_eq!(strays_of(all), [""; 0]);
        let gone = strays_of(&all.replace("mod scene;", "// mod scene;"));
        assert!(matches!(&gone[..], [one] if one.starts_with("tests/universal/scene.rs:1: ")), "{gone:?}");
        let idle = strays_of(&all.replace("    locks::rows(),", "    // locks::rows(),"));
        assert!(matches!(&idle[..], [one] if one.contains("no `locks::rows()`")), "{idle:?}");
    }

    #[test]
    fn a_comment_is_no_row() {
        assert_eq!(findings(LOCK, "// \"sync::Lock::acquire\"\n").len(), 1);
        assert!(findings(LOCK, "(\"sync::Lock::acquire\", \"why, in words\")\n").is_empty());
    }
}
