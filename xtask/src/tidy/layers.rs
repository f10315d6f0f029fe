//! Which crate may know which, and how much foreign code the crates bring.

use crate::tree::{self, Library};
use crate::{Outcome, sh};
use std::collections::BTreeSet;

/// The crates of the middle: they know core, and not each other.
const MIDDLE: &[&str] = &["executor", "time", "sync", "streams", "coroutine"];

/// The whole stack: the facade with everything that it has by default.
const STACK_LIMIT: usize = 26;
const SYNC_LIMIT: usize = 10;

/// Crates that run tasks. None comes in by using one of ours alone.
const EXECUTORS: &[&str] = &["async-executor", "async-std", "monoio", "smol", "tokio", "evenloop-executor"];

pub(super) fn check(findings: &mut Vec<String>) {
    for library in tree::libraries() {
        for ours in ours(&library) {
            let allowed = match library.folder.as_str() {
                "core" | "macros" => false,
                folder if MIDDLE.contains(&folder) => ours == "core",
                _ => true,
            };
            if !allowed {
                findings.push(format!(
                    "crates/{}/Cargo.toml: `evenloop-{ours}` is not below this crate. What both need belongs in core; a \
                     test may have it under [dev-dependencies]",
                    library.folder
                ));
            }
        }
    }
}

/// The crates of ours that a normal build of `library` takes, without `evenloop-`.
fn ours(library: &Library) -> Vec<String> {
    let is_dependencies = |key: &str| key == "dependencies" || key == "build-dependencies";
    let direct = library.manifest.iter().filter(|(key, _)| is_dependencies(key)).map(|(_, table)| table);
    let targets = library.manifest.get("target").and_then(|targets| targets.as_table());
    let of_targets = targets.into_iter().flatten().filter_map(|(_, target)| target.get("dependencies"));
    let names = direct.chain(of_targets).filter_map(|table| table.as_table()).flat_map(|table| table.keys());
    names.filter_map(|name| Some(name.strip_prefix("evenloop-")?.to_owned())).collect()
}

/// The limits on foreign crates, and no executor below a crate that is used alone.
pub(crate) fn dependencies() -> Outcome {
    for library in tree::libraries() {
        let alone = tree_of(&library.package, true)?;
        if MIDDLE.contains(&library.folder.as_str())
            && library.folder != "executor"
            && let Some(executor) = alone.iter().find(|name| EXECUTORS.contains(&name.as_str()))
        {
            return Err(format!(
                "{} alone pulls in `{executor}`: see `cargo tree -p {0} -i {executor}`",
                library.package
            ));
        }
        let limit = match library.folder.as_str() {
            "sync" => SYNC_LIMIT,
            _ => STACK_LIMIT,
        };
        let foreign = match library.folder.as_str() {
            "evenloop" => tree_of(&library.package, false)?,
            // Guests bring their host.
            folder if folder.starts_with("hosts") || folder == "redis" => continue,
            _ => alone,
        };
        let foreign: Vec<_> = foreign.iter().filter(|name| !name.starts_with("evenloop")).collect();
        println!("{}: {} foreign crates, at most {limit}", library.package, foreign.len());
        if foreign.len() > limit {
            return Err(format!(
                "{}: {} foreign crates, at most {limit}: {foreign:?}",
                library.package,
                foreign.len()
            ));
        }
    }
    Ok(())
}

/// The names of all crates that a normal build of `package` takes.
fn tree_of(package: &str, without_default_features: bool) -> Result<BTreeSet<String>, String> {
    let mut command = sh::cargo("tree --edges normal --prefix none --format {p} --package");
    command.arg(package);
    if without_default_features {
        command.arg("--no-default-features");
    }
    let text = sh::read(&mut command)?;
    let names = text.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty());
    Ok(names.filter(|name| *name != package).map(str::to_owned).collect())
}
