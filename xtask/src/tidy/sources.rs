//! Rules for the text of the library crates, and for every text of the project.

use crate::tree::{self, Source};
use crate::{sh, tree::Library};

/// The only files that may say `unsafe`. A new home is a design decision: it is argued for in the file's head.
const UNSAFE_FILES: &[&str] = &[
    "crates/core/src/shim/tsan.rs",
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

/// And folders: the heart of a crate whose subject is unsafe.
const UNSAFE_FOLDERS: &[&str] = &["crates/coroutine/src/"];

/// Files beside the shim that may name std's locks and atomics: raw-waker glue.
const OUTSIDE_THE_SHIM: &[&str] = &[];

pub(super) fn check(findings: &mut Vec<String>) {
    for library in tree::libraries() {
        head_says_unsafe_or_not(&library, findings);
        for source in library.sources() {
            locks_come_from_the_shim(&source, findings);
            no_seq_cst_access(&source, findings);
            orderings_are_explained(&source, findings);
            unsafe_lives_in_named_files(&source, findings);
            models_change_little(&source, findings);
        }
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
    if is_shim(source) || is_macro(source) || OUTSIDE_THE_SHIM.contains(&source.path.as_str()) {
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
    for (number, line) in
        source.code().filter(|(_, line)| line.contains("SeqCst") && !line.contains("fence("))
    {
        let _ = line;
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

fn unsafe_lives_in_named_files(source: &Source, findings: &mut Vec<String>) {
    let is_home = UNSAFE_FILES.contains(&source.path.as_str())
        || UNSAFE_FOLDERS.iter().any(|folder| source.path.starts_with(folder));
    if is_home {
        return;
    }
    for (number, line) in source.code() {
        let says = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "allow(unsafe_code)"];
        let allows_module = line.contains("allow(unsafe_code)");
        if says.iter().any(|word| line.contains(word)) && !allows_module {
            findings.push(format!(
                "{}:{number}: unsafe lives in named files only (`UNSAFE_FILES` in xtask/src/tidy): move it there, or \
                 argue for a new home",
                source.path
            ));
        }
    }
}

fn head_says_unsafe_or_not(library: &Library, findings: &mut Vec<String>) {
    let path = format!("crates/{}/src/lib.rs", library.folder);
    let Ok(text) = std::fs::read_to_string(sh::root().join(&path)) else { return };
    if !text.contains("forbid(unsafe_code)") && !text.contains("deny(unsafe_code)") {
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
