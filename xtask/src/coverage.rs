//! `cargo xtask coverage`: which lines of the library crates the tests run, file by file, least covered first.
//!
//! `cargo llvm-cov` counts. A file below the bound is named and fails: something in it is promised and never tried.

use crate::ci::Skips;
use crate::{Outcome, sh, tree};

/// Percent of lines. What is below is a shim's other face, or wants a test.
const BOUND: f64 = 70.0;

/// Other faces of the shim, and what runs in child processes only.
const ELSEWHERE: &[&str] = &["core/src/shim", "macros/src", "streams/src/process/spawn.rs"];

pub(crate) fn run(skips: &mut Skips) -> Outcome {
    if sh::find("cargo-llvm-cov").is_none() {
        skips.note("coverage needs `cargo-llvm-cov` (cargo xtask setup --long)");
        return Ok(());
    }
    if sh::read(&mut sh::command("rustc", "--print target-libdir"))
        .map(|lib| !std::path::Path::new(lib.trim()).with_file_name("bin").join("llvm-profdata").is_file())
        .unwrap_or(true)
    {
        skips.note("coverage needs the component llvm-tools (`rustup component add llvm-tools`)");
        return Ok(());
    }
    let mut count = sh::cargo("llvm-cov --lcov --all-features --quiet");
    for library in tree::libraries() {
        count.args(["--package", &library.package]);
    }
    count.args(["--package", "evenloop-tests"]);
    let rows = rows(&sh::read(&mut count)?);
    if rows.is_empty() {
        return Err("llvm-cov counted no file of ours".into());
    }
    for (percent, name) in &rows {
        println!("   {percent:5.1} %  {name}");
    }
    let below: Vec<_> = rows.iter().filter(|row| row.0 < BOUND).map(|row| &*row.1).collect();
    if below.is_empty() { Ok(()) } else { Err(format!("below {BOUND} %: {}", below.join(", "))) }
}

/// The files of the library crates in a report of lcov's form, and how many of their lines ran; least covered first.
fn rows(report: &str) -> Vec<(f64, String)> {
    let mut rows = Vec::new();
    for file in report.split("end_of_record") {
        let field = |name: &str| file.lines().find_map(|line| line.strip_prefix(name));
        let number = |name: &str| field(name).and_then(|text| text.parse::<f64>().ok());
        let name = field("SF:").and_then(|path| path.rsplit_once("/crates/")).map(|(_, name)| name);
        let (Some(name), Some(lines), Some(run)) = (name, number("LF:"), number("LH:")) else { continue };
        if lines > 0.0 && name.contains("/src/") && !ELSEWHERE.iter().any(|part| name.contains(part)) {
            rows.push((100.0 * run / lines, name.to_owned()));
        }
    }
    rows.sort_by(|one, other| one.0.total_cmp(&other.0));
    rows
}

#[cfg(test)]
mod tests {
    use super::rows;

    #[test]
    fn the_least_covered_file_comes_first_and_foreign_ones_are_left_out() {
        let report = "SF:/a/crates/sync/src/lock.rs\nDA:1,1\nLF:10\nLH:9\nend_of_record\n\
                      SF:/a/crates/time/src/wheel.rs\nLF:4\nLH:1\nend_of_record\n\
                      SF:/a/crates/core/src/shim/loom.rs\nLF:4\nLH:0\nend_of_record\n\
                      SF:/b/tokio/src/lib.rs\nLF:4\nLH:0\nend_of_record\n";
        let expected = [(25.0, "time/src/wheel.rs".to_owned()), (90.0, "sync/src/lock.rs".to_owned())];
        assert_eq!(rows(report), expected);
    }
}
