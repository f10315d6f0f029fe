//! Links between our pages lead to a file that is there and a heading that is in it, and every chapter is in the guide's summary.

use crate::{sh, tree};
use std::path::Path;

pub(super) fn check(findings: &mut Vec<String>) {
    let summary = std::fs::read_to_string(sh::root().join(GUIDE).join("SUMMARY.md")).unwrap_or_default();
    for file in tree::files(".", "md") {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let path = tree::relative(&file);
        for (number, target) in links(&text) {
            if let Err(why) = follow(&file, &text, target) {
                findings.push(format!("{path}:{number}: the link `{target}` leads nowhere: {why}"));
            }
        }
        let chapter = path.strip_prefix(GUIDE).map(|name| name.trim_start_matches('/'));
        if chapter.is_some_and(|name| name != "SUMMARY.md" && !summary.contains(&format!("({name})"))) {
            findings.push(format!("{path}: not in the guide's SUMMARY.md, so the book leaves it out"));
        }
    }
}

const GUIDE: &str = "crates/evenloop/guide/src";

/// The targets of links to files of ours, each with its line; code is no link.
fn links(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    let prose = text.lines().zip(1..).filter(move |(line, _)| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    });
    prose.flat_map(|(line, number)| {
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        targets.filter(|target| !target.contains("://")).map(move |target| (number, target))
    })
}

/// Looks whether `target`, in the page `from`, is there.
fn follow(from: &Path, text: &str, target: &str) -> Result<(), String> {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if path.is_empty() { from.to_owned() } else { from.with_file_name(path) };
    if !file.exists() {
        return Err("there is no such file".into());
    }
    if anchor.is_empty() {
        return Ok(());
    }
    let page =
        if path.is_empty() { text.to_owned() } else { std::fs::read_to_string(&file).unwrap_or_default() };
    let mut headings = page.lines().filter(|line| line.starts_with('#')).map(anchor_of);
    if headings.any(|heading| heading == anchor) { Ok(()) } else { Err("there is no such heading".into()) }
}

/// The anchor that is made of a heading: lower case, without punctuation, words joined by dashes.
fn anchor_of(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
