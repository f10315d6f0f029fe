//! The tests that a tool leaves out are there, and it leaves out no others: their names reach it as parts of names.

use crate::tree::{self, Test};
use crate::{coverage, faults, sanitize, sh};

pub(super) fn check(findings: &mut Vec<String>) {
    let touchy: Vec<_> = faults::TOUCHY.iter().map(|(_, test)| *test).collect();
    let lists = [
        ("sanitize.rs: COMPILER", sanitize::COMPILER),
        ("sanitize.rs: COUNTING", sanitize::COUNTING),
        ("sanitize.rs: UNINTERRUPTED", sanitize::UNINTERRUPTED),
        ("sanitize.rs: ALONE", sanitize::ALONE),
        ("sanitize.rs: FOREIGN", sanitize::FOREIGN),
        ("sanitize.rs: NOT_EMULATED", sanitize::NOT_EMULATED),
        ("faults.rs: TOUCHY", &touchy),
        ("faults.rs: LONG", &[faults::LONG]),
        ("coverage.rs: OTHERWISE", coverage::OTHERWISE),
    ];
    let tests = tree::tests();
    for (list, names) in lists {
        for name in names {
            let is_known = match name.strip_suffix("::") {
                Some(module) => has_module(module),
                None => tests.iter().any(|test| test.name == *name),
            };
            if !is_known {
                findings.push(format!("xtask/src/{list}: there is no test `{name}`, by its whole name"));
            }
            for more in more(&tests, names, name) {
                findings.push(format!(
                    "xtask/src/{list}: `{name}` leaves `{}` out as well: name it, too",
                    more.name
                ));
            }
        }
    }
    for program in sanitize::CIPHERS {
        if !sh::root().join(format!("tests/{program}.rs")).exists() {
            findings
                .push(format!("xtask/src/sanitize.rs: CIPHERS: there is no program `{program}` in tests/"));
        }
    }
}

/// Whether a library, a test, or a macro that makes some has such a module.
fn has_module(module: &str) -> bool {
    let begins = format!("mod {module} {{");
    let mut sources = tree::sources("crates").into_iter().chain(tree::sources("tests"));
    sources.any(|source| source.text.lines().any(|line| line.trim() == begins))
}

/// The tests that go with that name and are not named in the list.
fn more<'a>(tests: &'a [Test], names: &[&str], name: &str) -> impl Iterator<Item = &'a Test> {
    tests.iter().filter(move |test| test.name.contains(name) && !names.contains(&test.name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_of_a_name_names_more_than_one_means() {
        let tests = ["ends", "ends_late"].map(|name| Test { path: "tests/a.rs".into(), name: name.into() });
        let more =
            |names: &[&str]| more(&tests, names, "ends").map(|test| test.name.clone()).collect::<Vec<_>>();
        assert_eq!((more(&["ends"]), more(&["ends", "ends_late"])), (vec!["ends_late".to_owned()], vec![]));
    }
}
