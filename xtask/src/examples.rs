//! `cargo xtask examples`: every example of the facade runs, with two sets of durations or seeds.
//!
//! Which, stands in `xtask/examples.toml`; an example without its runs is a failure. What they print is compared in
//! `tests/`; here they have to end well and in time.

use crate::{Outcome, sh, tree};
use std::time::Instant;

/// No example of a check takes longer than this, in seconds.
const LIMIT: f64 = 10.0;

/// Runs the examples with these names, or all.
pub(crate) fn run(names: &[String]) -> Outcome {
    let table = tree::manifest(&sh::root().join("xtask/examples.toml"));
    let files = tree::files("crates/evenloop/examples", "rs");
    let all: Vec<_> = files.iter().filter_map(|file| file.file_stem()?.to_str()).collect();
    if let Some(stale) = table.keys().find(|name| !all.contains(&name.as_str())) {
        return Err(format!("xtask/examples.toml: there is no example `{stale}`"));
    }
    if let Some(unknown) = names.iter().find(|name| !all.contains(&name.as_str())) {
        return Err(format!("there is no example `{unknown}`"));
    }
    if all.is_empty() {
        return Ok(());
    }
    sh::run(&mut sh::cargo("build --quiet --package evenloop --examples --all-features"))?;
    for name in all.into_iter().filter(|name| names.is_empty() || names.iter().any(|asked| asked == name)) {
        let runs = table.get(name).and_then(|runs| runs.as_array()).filter(|runs| runs.len() >= 2);
        let runs = runs.ok_or_else(|| {
            format!(
                "xtask/examples.toml: add `{name} = [\"ARGUMENTS\", \"OTHER ARGUMENTS\"]`: two runs at least"
            )
        })?;
        for arguments in runs.iter().filter_map(|run| run.as_str()) {
            let begin = Instant::now();
            let mut example = sh::command(&format!("target/debug/examples/{name}"), arguments);
            println!("-- {name} {arguments}");
            sh::read(&mut example)?;
            let seconds = begin.elapsed().as_secs_f64();
            if seconds > LIMIT {
                return Err(format!("{name} {arguments}: took {seconds:.1} s, the limit is {LIMIT} s"));
            }
        }
    }
    Ok(())
}
