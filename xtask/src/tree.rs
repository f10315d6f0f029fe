//! The workspace as files: sources, manifests, and which crate is what.

mod bare;

use crate::sh;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A library crate: its folder under `crates/`, and its package name.
pub(crate) struct Library {
    /// `sync`, `hosts/tokio`.
    pub(crate) folder: String,
    /// `evenloop-sync`.
    pub(crate) package: String,
    /// Its `Cargo.toml`.
    pub(crate) manifest: toml::Table,
}

impl Library {
    /// The names of its features, without `default`.
    pub(crate) fn features(&self) -> Vec<&str> {
        let features = self.manifest.get("features").and_then(|features| features.as_table());
        features
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .filter(|name| *name != "default")
            .collect()
    }

    /// Its sources, tests beside the code included.
    pub(crate) fn sources(&self) -> Vec<Source> {
        sources(&format!("crates/{}/src", self.folder))
    }
}

/// Every package under `crates/` that is meant for users: all but the models.
pub(crate) fn libraries() -> Vec<Library> {
    let mut libraries = Vec::new();
    for file in files("crates", "toml") {
        let path = relative(&file);
        let Some(folder) = path.strip_prefix("crates/").and_then(|path| path.strip_suffix("/Cargo.toml"))
        else {
            continue;
        };
        let manifest = manifest(&file);
        let Some(package) = manifest.get("package").and_then(|package| package.get("name")) else { continue };
        let package = package.as_str().expect("a package name is a string").to_owned();
        if folder != "loom-tests" {
            libraries.push(Library { folder: folder.to_owned(), package, manifest });
        }
    }
    libraries
}

/// A manifest, or a table of ours.
///
/// # Panics
///
/// It cannot be read, or is not TOML.
pub(crate) fn manifest(file: &Path) -> toml::Table {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// A source file, and where its tests begin.
pub(crate) struct Source {
    /// From the workspace's folder: `crates/sync/src/lock.rs`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// The lines that are code of the library (tests at the bottom and comments left out), with their numbers.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.library_lines().filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// The lines before the tests at the bottom, comments included, with their numbers.
    pub(crate) fn library_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test_file = self.path.ends_with("/tests.rs") || self.path.contains("/tests/");
        let end = if is_test_file { 0 } else { self.tests_begin() };
        self.text.lines().take(end).enumerate().map(|(index, line)| (index + 1, line))
    }

    /// As [`code`](Self::code), with comments, strings and characters blank.
    pub(crate) fn bare_code(&self) -> Vec<(usize, String)> {
        let end = self.library_lines().count();
        let bare = bare::bare(&self.text);
        bare.lines().take(end).zip(1..).map(|(line, number)| (number, line.to_owned())).collect()
    }

    /// The first line, counted from 0, of `mod tests` under a `#[cfg(test)]`, or the end.
    fn tests_begin(&self) -> usize {
        let lines: Vec<_> = self.text.lines().collect();
        let is_cfg = |line: &str| line.starts_with("#[cfg(") && line.contains("test");
        let is_tests = |line: &str| line == "mod tests {" || line == "mod tests;";
        lines.windows(2).position(|pair| is_cfg(pair[0]) && is_tests(pair[1])).unwrap_or(lines.len())
    }

    /// The line of the first item after `mod tests`, if there is one: what comes after it is taken for tests.
    pub(crate) fn item_after_tests(&self) -> Option<usize> {
        let mut lines = self.text.lines().zip(1..).skip(self.tests_begin() + 1);
        if lines.next()?.0.ends_with('{') {
            lines.find(|(line, _)| *line == "}");
        }
        lines.find(|(line, _)| !line.trim().is_empty()).map(|(_, number)| number)
    }
}

/// A function with `#[test]` or `#[evenloop::test]` over it.
pub(crate) struct Test {
    /// Of its file.
    pub(crate) path: String,
    pub(crate) name: String,
}

/// All tests and models: those beside the code, and those of the packages of tests.
pub(crate) fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for source in sources("tests").into_iter().chain(sources("crates")) {
        let mut lines = source.text.lines().map(str::trim);
        while lines.any(|line| line == "#[test]" || line.starts_with("#[evenloop::test")) {
            let function = lines.find_map(|line| line.trim_start_matches("async ").strip_prefix("fn "));
            let name = function.and_then(|function| function.split('(').next());
            tests.extend(name.map(|name| Test { path: source.path.clone(), name: name.to_owned() }));
        }
    }
    tests
}

/// All Rust files under `folder`.
pub(crate) fn sources(folder: &str) -> Vec<Source> {
    let read = |file: PathBuf| {
        let text =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Source { path: relative(&file), text }
    };
    files(folder, "rs").into_iter().map(read).collect()
}

/// All files under `folder` with that extension, sorted. No such folder: none.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(&sh::root().join(folder), &mut |file| {
        if file.extension().is_some_and(|this| this == extension) {
            found.push(file);
        }
    });
    found.sort();
    found
}

/// The folder of the package that is called so.
pub(crate) fn folder_of(package: &str) -> Option<String> {
    let manifests = files("", "toml").into_iter().filter(|file| file.ends_with("Cargo.toml"));
    let mut folders = manifests.filter_map(|file| {
        let name = manifest(&file).get("package")?.get("name")?.as_str()?.to_owned();
        (name == package).then(|| relative(file.parent().unwrap_or(sh::root())))
    });
    folders.next()
}

/// What becomes of a file, given its path and its text; none: it stays as it is.
pub(crate) type Change<'a> = dyn Fn(&str, &str) -> Result<Option<String>, String> + 'a;

/// Makes `target` the same as the workspace, save for what `change` makes of a file. What did
/// not change keeps its time, so that little is built anew; what is gone here goes there too.
pub(crate) fn copy(target: &Path, change: &Change<'_>) -> Result<(), String> {
    let mut findings = Vec::new();
    let mut kept = BTreeSet::new();
    walk(sh::root(), &mut |file| {
        let path = relative(&file);
        let copied = copy_file(&file, &target.join(&path), &|text| change(&path, text));
        findings.extend(copied.err().map(|error| format!("{path}: {error}")));
        kept.insert(path);
    });
    walk(target, &mut |file| {
        let path = file.strip_prefix(target).unwrap_or(&file).to_string_lossy().into_owned();
        if !kept.contains(&path) {
            let removed = std::fs::remove_file(&file);
            findings.extend(removed.err().map(|error| format!("{}: {error}", file.display())));
        }
    });
    if findings.is_empty() { Ok(()) } else { Err(findings.join("\n")) }
}

fn copy_file(
    file: &Path,
    target: &Path,
    change: &dyn Fn(&str) -> Result<Option<String>, String>,
) -> Result<(), String> {
    let told = |error: std::io::Error| error.to_string();
    let bytes = std::fs::read(file).map_err(told)?;
    let changed = std::str::from_utf8(&bytes).ok().map(change).transpose()?.flatten();
    let bytes = changed.map_or(bytes, String::into_bytes);
    if std::fs::read(target).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    target.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(told)?;
    std::fs::write(target, bytes).map_err(told)?;
    // A script has to stay one.
    let mode = std::fs::metadata(file).map_err(told)?.permissions();
    std::fs::set_permissions(target, mode).map_err(told)
}

/// Calls `visit` with each file below, build output and git's own left out.
pub(crate) fn walk(folder: &Path, visit: &mut dyn FnMut(PathBuf)) {
    walk_into(folder, &|name| name != "target" && name != ".git", visit);
}

/// Calls `visit` with each file below.
pub(crate) fn walk_all(folder: &Path, visit: &mut dyn FnMut(PathBuf)) {
    walk_into(folder, &|_| true, visit);
}

fn walk_into(folder: &Path, enters: &dyn Fn(&str) -> bool, visit: &mut dyn FnMut(PathBuf)) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if !path.is_dir() {
            visit(path);
        } else if enters(&entry.file_name().to_string_lossy()) {
            walk_into(&path, enters, visit);
        }
    }
}

/// The path from the workspace's folder.
pub(crate) fn relative(file: &Path) -> String {
    file.strip_prefix(sh::root()).unwrap_or(file).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { path: "crates/sync/src/lock.rs".into(), text: text.into() }
    }

    #[test]
    fn only_a_module_of_that_name_is_the_tests() {
        let numbers = |text: &str| source(text).code().map(|(number, _)| number).collect::<Vec<_>>();
        assert_eq!(numbers("a\n#[cfg(doctest)]\nmod guide {\n}\nb\n"), [1, 2, 3, 4, 5]);
        assert_eq!(numbers("a\n#[cfg(all(test, not(x)))]\nmod tests {\n    b\n}\n"), [1]);
    }

    #[test]
    fn what_comes_after_the_tests_is_found() {
        assert_eq!(source("#[cfg(test)]\nmod tests;\n\nfn f() {}\n").item_after_tests(), Some(4));
        assert_eq!(source("#[cfg(test)]\nmod tests {\n    a\n}\nfn f() {}\n").item_after_tests(), Some(5));
        assert_eq!(source("#[cfg(test)]\nmod tests {\n    a\n}\n\n").item_after_tests(), None);
        assert_eq!(source("fn f() {}\n").item_after_tests(), None);
    }
}
