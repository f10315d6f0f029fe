//! Rules for the text of the library crates, and for every text of the project.

use crate::tree::{self, Library, Source};
use std::collections::BTreeSet;

/// The only files that may say `unsafe`. A new home is a design decision: it is argued for in the file's head.
const UNSAFE_FILES: &[&str] = &[
    "crates/core/src/shim/tsan.rs",
    "crates/coroutine/src/frame.rs",
    "crates/executor/src/task/annex.rs",
    "crates/executor/src/task/cell.rs",
    "crates/executor/src/task/join_error.rs",
    "crates/executor/src/task/life.rs",
    "crates/executor/src/task/places.rs",
    "crates/executor/src/task/raw.rs",
    "crates/executor/src/task/raw_task.rs",
    "crates/executor/src/task/sched.rs",
    "crates/executor/src/task/shared.rs",
    "crates/executor/src/task/site.rs",
    "crates/executor/src/task/task_ref.rs",
    "crates/executor/src/task/turn.rs",
    "crates/executor/src/task/waker.rs",
    "crates/sync/src/lock.rs",
    "crates/sync/src/rwlock.rs",
    "crates/sync/src/slot.rs",
    "crates/sync/src/spin_lock.rs",
    "crates/streams/src/signal.rs",
    "crates/streams/src/process/spawn.rs",
    "crates/streams/src/hyper.rs",
];

pub(super) fn check(findings: &mut Vec<String>) {
    let mut unused = BTreeSet::from_iter(UNSAFE_FILES.iter().copied());
    for library in tree::libraries() {
        head_says_unsafe_or_not(&library, findings);
        for source in library.sources() {
            tests_come_last(&source, findings);
            locks_come_from_the_shim(&source, findings);
            no_seq_cst_access(&source, findings);
            orderings_are_explained(&source, findings);
            if unsafe_lives_in_named_files(&source, findings) {
                unused.remove(source.path.as_str());
            }
            models_change_little(&source, findings);
        }
    }
    for file in unused {
        findings.push(format!(
            "{file}: nothing in it is unsafe: take it out of `UNSAFE_FILES` in xtask/src/tidy"
        ));
    }
    texts(findings);
}

fn is_shim(source: &Source) -> bool {
    source.path.starts_with("crates/core/src/shim")
}

/// Procedural macros hold tokens that look like code of ours.
fn is_macro(source: &Source) -> bool {
    source.path.starts_with("crates/macros/")
}

fn locks_come_from_the_shim(source: &Source, findings: &mut Vec<String>) {
    if is_shim(source) || is_macro(source) {
        return;
    }
    for (number, line) in source.code() {
        let grouped = line.contains("use std::{") && line.contains("sync");
        let named = ["std::sync", "core::sync::", "alloc::sync", "parking_lot", "loom::"];
        if grouped || named.iter().any(|name| names_module(line, name)) {
            findings.push(format!(
                "{}:{number}: locks, atomics and Arc come from `evenloop_core::shim` (for `Wake` and trait objects: \
                 `shim::StdArc`), so that the models see them",
                source.path
            ));
        }
    }
}

/// Whether `line` says `name` as a path of its own, not as the end of a longer word.
fn names_module(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || before == '_')
    })
}

fn no_seq_cst_access(source: &Source, findings: &mut Vec<String>) {
    if is_shim(source) {
        return;
    }
    let is_access = |line: &str| line.contains("SeqCst") && !line.contains("fence(");
    for (number, _) in source.code().filter(|(_, line)| is_access(line)) {
        findings.push(format!(
            "{}:{number}: `SeqCst` on an access is AcqRel to loom: write Relaxed accesses around `fence(SeqCst)`",
            source.path
        ));
    }
}

/// A strong ordering is explained before it, in its function or right above that function. A Relaxed one anywhere in its
/// function, or once for the file in its head.
fn orderings_are_explained(source: &Source, findings: &mut Vec<String>) {
    if is_shim(source) {
        return;
    }
    let lines: Vec<_> = source.library_lines().map(|(_, line)| line).collect();
    let says = |lines: &[&str]| lines.iter().any(|line| line.contains("ORDERING:"));
    let head = lines.iter().take_while(|line| line.starts_with("//!")).count();
    let is_comment = |line: &&str| line.trim_start().starts_with("//");
    let begins = |line: &&str| line.contains("fn ") && !is_comment(line);
    for (number, line) in source.code() {
        let strong = ["Acquire", "Release", "AcqRel", "SeqCst"];
        let is_strong = strong.iter().any(|ordering| line.contains(&format!("Ordering::{ordering}")));
        let uses = is_strong || line.contains("Ordering::Relaxed");
        if !uses || line.trim_start().starts_with("use ") {
            continue;
        }
        let function = lines[..number].iter().rposition(begins).unwrap_or(0);
        if lines[function].contains("fn fmt(") {
            continue; // A snapshot for people.
        }
        let above =
            lines[..function].iter().rev().take_while(|line| is_comment(line) || line.contains("#[")).count();
        let end = number + lines[number..].iter().position(begins).unwrap_or(lines.len() - number);
        let until = if is_strong { number } else { end };
        if !says(&lines[function - above..until]) && (is_strong || !says(&lines[..head])) {
            findings.push(format!(
                "{}:{number}: say with `// ORDERING:` what this pairs with, or why it needs nothing (for Relaxed, once \
                 in the function or in the file's head)",
                source.path
            ));
        }
    }
}

/// Whether the file is unsafe. The word counts wherever it is code: a block, a function, a trait, an attribute.
fn unsafe_lives_in_named_files(source: &Source, findings: &mut Vec<String>) -> bool {
    let is_home = UNSAFE_FILES.contains(&source.path.as_str());
    let lines = source.bare_code();
    let mut is_unsafe = false;
    for (index, (number, line)) in lines.iter().enumerate() {
        if says(line, "unsafe") {
            is_unsafe = true;
            if !is_home {
                findings.push(format!(
                    "{}:{number}: unsafe lives in named files only (`UNSAFE_FILES` in xtask/src/tidy): move it there, or \
                     argue for a new home",
                    source.path
                ));
            }
        }
        let refuses = line.contains("forbid(") || line.contains("deny(");
        if !says(line, "unsafe_code") || refuses || is_home && line.starts_with("#![") {
            continue;
        }
        let below =
            lines[index + 1..].iter().map(|(_, line)| line.trim()).find(|line| !line.starts_with("#["));
        let module = below.and_then(|line| line.strip_suffix(';')?.split_once("mod ")).map(|(_, name)| name);
        if !module.is_some_and(|name| UNSAFE_FILES.contains(&file_of_module(&source.path, name).as_str())) {
            findings.push(format!(
                "{}:{number}: unsafe is allowed for the modules in `UNSAFE_FILES` (xtask/src/tidy) only: `#[allow(unsafe_code)]` \
                 over the `mod` of one, or `#![allow(unsafe_code)]` in it",
                source.path
            ));
        }
    }
    is_unsafe
}

/// Whether `line` holds that word.
fn says(line: &str, word: &str) -> bool {
    line.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|said| said == word)
}

/// Where `mod name;` in the file `path` leads.
fn file_of_module(path: &str, name: &str) -> String {
    let (folder, file) = path.rsplit_once('/').expect("a source is in a folder");
    match file.trim_end_matches(".rs") {
        "lib" | "main" => format!("{folder}/{name}.rs"),
        of => format!("{folder}/{of}/{name}.rs"),
    }
}

fn tests_come_last(source: &Source, findings: &mut Vec<String>) {
    if let Some(number) = source.item_after_tests() {
        findings.push(format!(
            "{}:{number}: `mod tests` comes last in its file: what is below it would be taken for tests, to which no rule \
             applies",
            source.path
        ));
    }
}

fn head_says_unsafe_or_not(library: &Library, findings: &mut Vec<String>) {
    let path = format!("crates/{}/src/lib.rs", library.folder);
    let Some(source) = library.sources().into_iter().find(|source| source.path == path) else { return };
    let says_so = |line: &str| ["#![forbid(unsafe_code)]", "#![deny(unsafe_code)]"].contains(&line);
    if !source.bare_code().iter().any(|(_, line)| says_so(line)) {
        findings.push(format!(
            "{path}: add `#![forbid(unsafe_code)]`, or `deny` when a named file of it is unsafe"
        ));
    }
}

/// Under loom a constructor may lose its `const` and a constant may be smaller. Nothing else differs: the models check
/// the code that users run.
fn models_change_little(source: &Source, findings: &mut Vec<String>) {
    if is_shim(source) {
        return;
    }
    let lines: Vec<_> = source.text.lines().collect();
    for (number, line) in source.code().filter(|(_, line)| line.contains("evenloop_loom")) {
        let attribute = line.trim_start().starts_with("#[cfg") || line.trim_start().starts_with("#![cfg");
        let next = lines[number..].iter().map(|line| line.trim_start());
        let item =
            next.clone().find(|line| !line.starts_with('#') && !line.starts_with("//")).unwrap_or_default();
        let item = item
            .trim_start_matches("pub ")
            .trim_start_matches("pub(crate) ")
            .trim_start_matches("pub(super) ");
        let fine = if attribute {
            ["const ", "static ", "fn new(", "mod tests"].iter().any(|start| item.starts_with(start))
                || line.contains("test")
        } else {
            line.contains("const ") || line.contains("[target.") || line.contains("static ")
        };
        if !fine {
            findings.push(format!(
                "{}:{number}: `evenloop_loom` is for constructors that cannot be const and for smaller constants only (the \
                 shim's `thread_local!` takes `const {{ ... }}` in every build)",
                source.path
            ));
        }
    }
}

/// What no text of the project holds: unfinished work, tests that do not run, paths of somebody's machine.
fn texts(findings: &mut Vec<String>) {
    let unfinished = ["todo", "unimplemented", "dbg"].map(|name| format!("{name}!("));
    let marks = ["FIX", "XX"].map(|half| format!("{half}{}", if half == "XX" { "X:" } else { "ME" }));
    let ignored = format!("#[{}", "ignore");
    let homes = ["root", "home", "work", "Users"].map(|folder| format!("/{folder}/"));
    let mut files = tree::files("", "rs");
    for extension in ["toml", "md", "sh", "yml"] {
        files.extend(tree::files("", extension));
    }
    for file in files {
        let path = tree::relative(&file);
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            if let Some(word) = unfinished.iter().chain(&marks).find(|word| line.contains(word.as_str())) {
                findings.push(format!("{path}:{number}: `{word}`: finish it, or leave it out"));
            }
            if line.contains(&ignored) {
                findings.push(format!(
                    "{path}:{number}: a test that does not run proves nothing: mend it or remove it"
                ));
            }
            if homes.iter().any(|home| is_path(line, home)) {
                findings.push(format!(
                    "{path}:{number}: a path of one machine: name it from the workspace's folder"
                ));
            }
        }
    }
}

/// Whether `line` holds an absolute path that begins with `home`.
fn is_path(line: &str, home: &str) -> bool {
    line.match_indices(home).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|before| " \"'`(=".contains(before))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found about unsafe in a file of that text.
    fn findings(path: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        unsafe_lives_in_named_files(&Source { path: path.into(), text: text.into() }, &mut findings);
        findings
    }

    #[test]
    fn unsafe_in_any_form_needs_a_home() {
        let forms =
            ["unsafe trait T {}", "#[unsafe(no_mangle)]", "x = unsafe {", "unsafe impl Send for T {}"];
        for form in forms {
            assert_eq!(findings("crates/sync/src/event.rs", form).len(), 1, "{form}");
            assert!(findings("crates/sync/src/slot.rs", form).is_empty(), "{form}");
        }
        assert!(findings("crates/sync/src/event.rs", "let unsafely = \"unsafe\"; // unsafe\n").is_empty());
    }

    #[test]
    fn unsafe_is_allowed_over_the_module_of_a_home() {
        let found = |text: &str| findings("crates/sync/src/lib.rs", text).len();
        assert_eq!(found("#[allow(unsafe_code)] // why\n#[doc(hidden)]\npub(crate) mod slot;\n"), 0);
        assert_eq!(found("#[allow(unsafe_code)]\nmod event;\n"), 1);
        assert_eq!(found("#[allow(dead_code, unsafe_code)]\nfn f() {}\n"), 1);
        assert_eq!(found("#![allow(unsafe_code)]\n"), 1);
        assert_eq!(found("#![deny(unsafe_code)]\n"), 0);
        assert!(findings("crates/streams/src/hyper.rs", "#![allow(unsafe_code)]\n").is_empty());
        let of_task = findings("crates/executor/src/task.rs", "#[allow(unsafe_code)]\nmod cell;\n");
        assert!(of_task.is_empty(), "{of_task:?}");
    }
}
