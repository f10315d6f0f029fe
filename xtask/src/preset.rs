//! `cargo xtask ci preset`: the clippy preset of the guide sees what it is for.
//!
//! Clippy accepts an entry whose path leads nowhere, so a preset can rot in silence. `tests/lib/mistakes.rs` calls each of
//! them once; clippy reads it with the preset in force, and has to name the lines that are marked there, and no other.

use crate::{Outcome, sh, tree};
use std::collections::BTreeSet;

const FOLDER: &str = "crates/evenloop/guide/src";
const MISTAKES: &str = "tests/lib/mistakes.rs";

pub(crate) fn run() -> Outcome {
    let mut clippy = sh::cargo("clippy --quiet --package evenloop-tests --lib --message-format short");
    clippy.env("CLIPPY_CONF_DIR", sh::root().join(FOLDER));
    let output = clippy.output().map_err(|error| format!("{}: {error}", sh::shown(&clippy)))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let about: Vec<&str> = said.lines().filter(|line| line_of(line).is_some()).collect();
    let named: BTreeSet<usize> = about.iter().filter_map(|line| line_of(line)).collect();

    let text =
        std::fs::read_to_string(sh::root().join(MISTAKES)).map_err(|error| format!("{MISTAKES}: {error}"))?;
    let marked: BTreeSet<usize> =
        text.lines().zip(1..).filter(|(line, _)| line.ends_with("//~")).map(|(_, number)| number).collect();
    if named != marked {
        let missed: Vec<_> = marked.difference(&named).collect();
        let besides: Vec<_> = named.difference(&marked).collect();
        return Err(format!(
            "{said}{MISTAKES}: not named: lines {missed:?}; named and not marked: {besides:?}"
        ));
    }

    let preset = tree::manifest(&sh::root().join(FOLDER).join("clippy.toml"));
    let entries = ["disallowed-methods", "await-holding-invalid-types"]
        .iter()
        .flat_map(|list| preset[*list].as_array().expect("a list of tables"))
        .map(|entry| entry["path"].as_str().expect("a path"));
    let is_unseen = |path: &&str| !about.iter().any(|line| line.ends_with(&format!("`{path}`")));
    let unseen: Vec<&str> = entries.filter(is_unseen).collect();
    if !unseen.is_empty() {
        return Err(format!("{MISTAKES} has no line for {}", unseen.join(", ")));
    }
    println!("the preset names {} mistakes", marked.len());
    Ok(())
}

/// The line of a message about the file of mistakes.
fn line_of(message: &str) -> Option<usize> {
    message.strip_prefix(MISTAKES)?.strip_prefix(':')?.split(':').next()?.parse().ok()
}
