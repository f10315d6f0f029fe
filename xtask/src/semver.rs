//! `cargo xtask ci semver`: nothing that a release promised is gone, compared with the newest release's tag (`v0.1.0`).
//!
//! Before the first release there is nothing to compare with, and the section says so.

use crate::ci::Skips;
use crate::{Outcome, sh, tree};

const TOOL: &str = "cargo-semver-checks";

pub(crate) fn run(skips: &mut Skips) -> Outcome {
    let tags = sh::read(&mut sh::command("git", "tag --list v[0-9]* --sort=-version:refname"))?;
    let Some(newest) = tags.lines().next() else {
        println!("nothing is released yet: nothing to compare with");
        return Ok(());
    };
    if !skips.unless_found(TOOL, "whether a release's promises are kept") {
        return Ok(());
    }
    let mut check = sh::cargo("semver-checks --all-features --baseline-rev");
    check.arg(newest);
    for library in tree::libraries().into_iter().filter(|library| library.package != "evenloop-macros") {
        check.arg("--package").arg(library.package);
    }
    sh::run(&mut check)
}
