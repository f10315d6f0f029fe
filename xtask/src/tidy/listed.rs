//! The flat packages `tests/`, `tests/ecosystem/` and `benches/` list every file: cargo would ignore a forgotten one without a word.
//! And each package that is published carries the texts of both licences, and a readme of at most 25 lines or the workspace's.

use crate::{sh, tree};

pub(super) fn check(findings: &mut Vec<String>) {
    for library in tree::libraries() {
        let path = sh::root().join("crates").join(&library.folder);
        let has_the_workspaces =
            tree::manifest(&path.join("Cargo.toml"))["package"].get("readme").and_then(|it| it.as_str())
                == Some("../../README.md");
        let lines = std::fs::read_to_string(path.join("README.md")).map_or(0, |text| text.lines().count());
        if !has_the_workspaces && !(1..=25).contains(&lines) {
            findings.push(format!(
                "crates/{}: its README.md has {lines} lines, not 1 to 25: what it is, ten lines of code, a link",
                library.folder
            ));
        }
        for name in ["LICENSE-APACHE", "LICENSE-MIT"] {
            let folder = format!("crates/{}", library.folder);
            if !sh::root().join(&folder).join(name).exists() {
                let up = "../".repeat(folder.split('/').count());
                findings.push(format!(
                    "{folder}: its package has no licence: `ln -s {up}{name} {folder}/{name}`"
                ));
            }
        }
    }
    for (folder, table) in [("tests", "test"), ("tests/ecosystem", "test"), ("benches", "bench")] {
        let manifest = tree::manifest(&sh::root().join(folder).join("Cargo.toml"));
        let entries = manifest.get(table).and_then(|entries| entries.as_array()).cloned().unwrap_or_default();
        let listed: Vec<_> = entries.iter().filter_map(|entry| entry.get("path")?.as_str()).collect();
        for key in entries.iter().filter_map(|entry| entry.as_table()).flat_map(|entry| entry.keys()) {
            if !["harness", "name", "path", "required-features"].contains(&key.as_str()) {
                findings.push(format!("{folder}/Cargo.toml: `{key}` has slipped into a [[{table}]]"));
            }
        }
        for file in tree::files(folder, "rs") {
            let path = tree::relative(&file);
            let name = &path[folder.len() + 1..];
            let is_flat = !name.contains('/');
            if is_flat && name != "lib.rs" && !listed.contains(&name) {
                let stem = name.trim_end_matches(".rs");
                findings.push(format!(
                    "{path} is not listed: add [[{table}]] name = \"{stem}\" path = \"{name}\" to {folder}/Cargo.toml"
                ));
            }
        }
    }
}
