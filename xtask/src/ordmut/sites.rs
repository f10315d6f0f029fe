//! Sites: the places in the sources where an ordering stands or somebody is woken.
//!
//! Found twice: in the text of the library crates, and by the models that reach them. The text gives a site a name that
//! outlives moved lines; the models say who can tell when it is changed.

use crate::tree::{self, Source};
use std::collections::BTreeMap;

/// The operations that take orderings.
const OPERATIONS: &[&str] = &[
    "load",
    "store",
    "swap",
    "compare_exchange",
    "compare_exchange_weak",
    "fetch_update",
    "fetch_add",
    "fetch_sub",
    "fetch_and",
    "fetch_or",
    "fetch_xor",
    "fetch_max",
    "fetch_min",
    "fence",
];

/// A place as the compiler counts: file, line, column of the operation's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) file: String,
    pub(super) line: u32,
    pub(super) column: u32,
}

impl Place {
    /// `crates/sync/src/lock.rs:120`, to be opened in an editor.
    pub(super) fn shown(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    /// The folder under `crates/` that the file is in.
    pub(super) fn owner(&self) -> &str {
        let inside = self.file.strip_prefix("crates/").unwrap_or(&self.file);
        inside.split_once("/src/").map_or(inside, |(owner, _)| owner)
    }

    /// Whether it is asked for: by no word at all, its crate, or the end of its file's path.
    pub(super) fn is_asked_for(&self, words: &[String]) -> bool {
        words.is_empty()
            || words.iter().any(|word| {
                self.owner() == word || self.file.ends_with(&format!("/{word}")) || self.file == *word
            })
    }
}

/// What a model reached: an ordering (the `argument`th of the operation), or a wake-up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Site {
    pub(super) place: Place,
    pub(super) operation: String,
    pub(super) argument: u8,
    /// The ordering that the source says.
    pub(super) written: String,
}

impl Site {
    /// A line of the list mode: `FILE:LINE:COLUMN OPERATION ARGUMENT ORDERING`. Only library sources count.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let [place, operation, argument, written] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let [column, line, file] = place.rsplitn(3, ':').collect::<Vec<_>>().try_into().ok()?;
        let place = Place { file: file.to_owned(), line: line.parse().ok()?, column: column.parse().ok()? };
        let is_library = file.starts_with("crates/")
            && file.contains("/src/")
            && !file.starts_with("crates/loom-tests/")
            && !file.starts_with("crates/core/src/shim");
        let argument = argument.parse().ok()?;
        is_library.then(|| Self {
            place,
            operation: operation.to_owned(),
            argument,
            written: written.to_owned(),
        })
    }

    /// As the hook of the loom face wants it.
    pub(super) fn hook(&self) -> String {
        let Place { file, line, column } = &self.place;
        format!("{file}:{line}:{column} {} {}", self.operation, self.argument)
    }

    /// The changes that a model should notice.
    pub(super) fn changes(&self) -> Vec<&'static str> {
        let is_exchange = self.operation.starts_with("compare_exchange") && self.argument == 0;
        let mut changes = match (self.operation.as_str(), self.written.as_str()) {
            ("wake" | "unpark" | "notify_one" | "notify_all", _) => vec!["skip"],
            ("fence", "SeqCst") => vec!["AcqRel"],
            (_, "AcqRel") => vec!["Acquire", "Release"],
            (_, "Acquire" | "Release") => vec!["Relaxed"],
            _ => vec![],
        };
        if is_exchange {
            changes.push("fail");
        }
        changes
    }

    /// Whether `change` is something that may happen on any machine, so that a model must *not* notice it.
    pub(super) fn allows(&self, change: &str) -> bool {
        change == "fail" && self.operation == "compare_exchange_weak"
    }
}

/// An operation with orderings, as it stands in the text.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) place: Place,
    /// Only Relaxed: nothing can be weakened here.
    pub(super) is_relaxed: bool,
}

/// Every operation with orderings in the library crates; what is printed for people (`fn fmt`) left out.
pub(super) fn written() -> Vec<Written> {
    let libraries = tree::libraries();
    // The conformance suite is made of tests.
    let sources = libraries
        .iter()
        .filter(|library| library.folder != "hosts/conformance")
        .flat_map(|library| library.sources());
    let sources = sources.filter(|source| !source.path.starts_with("crates/core/src/shim"));
    sources.flat_map(|source| written_in(&source)).collect()
}

fn written_in(source: &Source) -> Vec<Written> {
    let mut found = Vec::new();
    let lines: Vec<_> = source.library_lines().map(|(_, line)| line).collect();
    for (index, line) in lines.iter().enumerate() {
        if line.trim_start().starts_with("//") || function(&lines, index) == "fmt" {
            continue;
        }
        for operation in OPERATIONS {
            let call = if *operation == "fence" { format!("{operation}(") } else { format!(".{operation}(") };
            for (at, _) in line.match_indices(&call) {
                let name = at + usize::from(*operation != "fence");
                let text = lines[index..].join("\n");
                let arguments = parenthesised(&text[name + operation.len()..]);
                if !arguments.contains("Ordering::") {
                    continue;
                }
                let strong = ["Acquire", "Release", "AcqRel", "SeqCst"];
                let is_relaxed = !strong.iter().any(|name| arguments.contains(&format!("Ordering::{name}")));
                let line = u32::try_from(index + 1).expect("a file has fewer lines");
                let column = u32::try_from(line_columns(lines[index], name)).expect("a line is shorter");
                found.push(Written { place: Place { file: source.path.clone(), line, column }, is_relaxed });
            }
        }
    }
    found
}

/// The compiler counts characters, from one.
fn line_columns(line: &str, byte: usize) -> usize {
    line[..byte].chars().count() + 1
}

/// The text from the opening parenthesis to its partner.
fn parenthesised(text: &str) -> &str {
    let mut depth = 0;
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' if depth == 1 => return &text[..=at],
            ')' => depth -= 1,
            _ => {}
        }
    }
    text
}

/// The name of the function that holds the line with this index.
fn function<'a>(lines: &[&'a str], index: usize) -> &'a str {
    let code = lines[..=index].iter().rev().filter(|line| !line.trim_start().starts_with("//"));
    let mut names = code.filter_map(|line| {
        let (before, rest) = line.split_once("fn ")?;
        let is_item = before.trim().is_empty() || before.trim_end().ends_with([')', 'b', 'e', 't', 'c']);
        is_item.then(|| rest.split(['(', '<']).next().unwrap_or(rest))
    });
    names.next().unwrap_or("-")
}

/// Names for sites that outlive moved lines: `FILE FUNCTION OPERATION`, with `#2` for the second such, and ` failure` for
/// the failure ordering of a compare-exchange.
pub(super) fn names<'a>(sites: impl Iterator<Item = &'a Site>) -> BTreeMap<Site, String> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut places: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    let sites: Vec<_> = sites.collect();
    let mut stems = Vec::new();
    for site in &sites {
        let lines = texts.entry(site.place.file.clone()).or_insert_with(|| {
            let text = std::fs::read_to_string(crate::sh::root().join(&site.place.file)).unwrap_or_default();
            text.lines().map(str::to_owned).collect()
        });
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let index = (site.place.line as usize).saturating_sub(1).min(lines.len().saturating_sub(1));
        let function = if lines.is_empty() { "-" } else { function(&lines, index) };
        let stem = format!("{} {function} {}", site.place.file, site.operation);
        let known = places.entry(stem.clone()).or_default();
        if !known.contains(&site.place) {
            known.push(site.place.clone());
            known.sort();
        }
        stems.push(stem);
    }
    let name = |site: &Site, stem: &str| {
        let nth = places[stem].iter().position(|place| *place == site.place).unwrap_or(0) + 1;
        let which = if nth > 1 { format!("#{nth}") } else { String::new() };
        format!("{stem}{which}{}", if site.argument == 1 { " failure" } else { "" })
    };
    sites.iter().zip(&stems).map(|(site, stem)| ((*site).clone(), name(site, stem))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { path: "crates/x/src/a.rs".into(), text: text.into() }
    }

    #[test]
    fn an_operation_is_found_where_the_compiler_says() {
        let found = written_in(&source("fn f() {\n    self.state.load(Ordering::Acquire);\n}\n"));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].place.line, found[0].place.column), (2, 16));
        assert!(!found[0].is_relaxed);
    }

    #[test]
    fn orderings_on_later_lines_belong_to_the_call() {
        let text = "fn f() {\n    a.compare_exchange(\n        1,\n        2,\n        Ordering::Relaxed,\n    );\n}\n";
        let found = written_in(&source(text));
        assert_eq!((found[0].place.line, found[0].place.column), (2, 7));
        assert!(found[0].is_relaxed);
    }

    #[test]
    fn what_is_printed_and_what_tests_do_is_left_out() {
        let text = "fn fmt() {\n    a.load(Ordering::Relaxed);\n}\n#[cfg(test)]\nmod tests {\n fn g() { a.load(Ordering::Acquire); }\n}\n";
        assert!(written_in(&source(text)).is_empty());
    }

    #[test]
    fn a_site_reads_back_what_the_hook_lists() {
        let site = Site::parse("crates/sync/src/lock.rs:12:9 compare_exchange 1 Acquire").unwrap();
        assert_eq!(site.hook(), "crates/sync/src/lock.rs:12:9 compare_exchange 1");
        assert_eq!(site.changes(), ["Relaxed"]);
        assert!(Site::parse("crates/loom-tests/src/lib.rs:1:1 load 0 Relaxed").is_none());
    }
}
