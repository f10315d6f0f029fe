//! `cargo xtask coverage`: which lines of the library crates the tests run, file by file, least covered first.
//!
//! The compiler counts, and LLVM's tools read that. A file below the bound is named and fails: something in it is promised
//! and never tried.

use crate::ci::Skips;
use crate::{Outcome, models, sh, tree};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Percent of lines. What is below is a shim's other face, or wants a test.
const BOUND: f64 = 70.0;

/// Percent of all lines.
const BOUND_OF_ALL: f64 = 90.0;

/// Other faces of the shim, what runs in the compiler or in a child before its program, and tests themselves.
const ELSEWHERE: &[&str] =
    &["core/src/shim", "hosts/conformance/src", "macros/src", "streams/src/process/spawn.rs", "tests.rs"];

/// Tests that see the counting: what the compiler says, and which system calls a process makes to its end.
pub(crate) const OTHERWISE: &[&str] = &[
    "a_loop_opens_its_reactor_and_reads_no_files",
    "misuse_does_not_compile",
    "what_a_compiler_can_see_it_sees",
];

pub(crate) fn run(skips: &mut Skips) -> Outcome {
    let Some(tools) = llvm_tools()? else {
        let major = llvm_major()?;
        skips.note(&format!(
            "coverage needs `llvm-profdata` and `llvm-cov` of LLVM {major}, of which this compiler is made: `rustup \
             component add llvm-tools`, or the package llvm-{major} (cargo xtask setup --long)"
        ));
        return Ok(());
    };
    let mut rows = rows(&report(&tools)?);
    if !skips.unless_found("redis-server", "coverage of redis") {
        rows.retain(|row| !row.name.starts_with("redis/"));
    }
    if rows.is_empty() {
        return Err("no line of ours was counted".into());
    }
    for row in &rows {
        println!("   {:5.1} %  {}", row.percent(), row.name);
    }
    let (lines, run) = rows.iter().fold((0.0, 0.0), |sum, row| (sum.0 + row.lines, sum.1 + row.run));
    println!("   {:5.1} %  of {lines} lines in {} files", 100.0 * run / lines, rows.len());
    let below: Vec<_> = rows.iter().filter(|row| row.percent() < BOUND).map(|row| &*row.name).collect();
    if 100.0 * run / lines < BOUND_OF_ALL {
        return Err(format!("of all lines, fewer than {BOUND_OF_ALL} % run"));
    }
    if below.is_empty() { Ok(()) } else { Err(format!("below {BOUND} %: {}", below.join(", "))) }
}

/// Runs the tests, and answers lcov's report of them.
fn report(tools: &Path) -> Result<String, String> {
    let folder = sh::root().join("target/coverage");
    let profiles = folder.join("profiles");
    // There are none the first time.
    let _ = std::fs::remove_dir_all(&profiles);
    let cargo = |words: &str| {
        let mut cargo = sh::cargo(words);
        cargo.arg("--all-features").arg("--target-dir").arg(&folder);
        let libraries = tree::libraries().into_iter().map(|library| library.package);
        let tests = ["evenloop-tests".to_owned(), "evenloop-ecosystem-tests".to_owned()];
        for package in libraries.chain(tests) {
            cargo.arg("--package").arg(package);
        }
        // The processes of one program share a few files.
        cargo.env("RUSTFLAGS", "-Cinstrument-coverage");
        cargo.env("LLVM_PROFILE_FILE", profiles.join("%8m.profraw"));
        cargo.env("CARGO_INCREMENTAL", "0"); // it is large, and this is seldom built
        cargo
    };
    sh::run(&mut cargo("build --quiet --examples"))?; // some tests run them
    let mut build = cargo("test --quiet --lib --bins --tests --no-run");
    let programs = models::executables(&sh::read(build.arg("--message-format=json-render-diagnostics"))?);
    let mut test = cargo("test --quiet --lib --bins --tests");
    test.arg("--").args(OTHERWISE.iter().flat_map(|test| ["--skip", test]));
    sh::run(&mut test)?;

    let merged = folder.join("all.profdata");
    let mut merge = Command::new(tools.join("llvm-profdata"));
    merge.args(["merge", "--sparse", "--failure-mode=all", "--output"]).arg(&merged).arg(&profiles);
    sh::run(&mut merge)?;
    let mut export = Command::new(tools.join("llvm-cov"));
    export.args(["export", "--format=lcov", "--instr-profile"]).arg(&merged);
    export.args(programs.iter().flat_map(|(_, program)| [OsStr::new("--object"), program.as_os_str()]));
    sh::read(&mut export)
}

/// The version of the LLVM that this compiler is made of. Its tools read what it counts; older ones do not.
pub(crate) fn llvm_major() -> Result<String, String> {
    let version = sh::read(&mut sh::command("rustc", "--version --verbose"))?;
    let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    llvm.and_then(|version| version.split('.').next()).map(str::to_owned).ok_or("rustc names no LLVM".into())
}

/// The folder of LLVM's tools: the toolchain's own (the component llvm-tools), or the system's of the same version.
pub(crate) fn llvm_tools() -> Result<Option<PathBuf>, String> {
    let lib = sh::read(&mut sh::command("rustc", "--print target-libdir"))?;
    let own = Path::new(lib.trim()).with_file_name("bin");
    let of_system = PathBuf::from(format!("/usr/lib/llvm-{}/bin", llvm_major()?));
    Ok([own, of_system].into_iter().find(|folder| folder.join("llvm-profdata").is_file()))
}

/// A file of a library crate.
#[derive(Debug, PartialEq)]
struct Row {
    lines: f64,
    /// How many of them ran.
    run: f64,
    name: String,
}

impl Row {
    fn percent(&self) -> f64 {
        100.0 * self.run / self.lines
    }
}

/// The files of the library crates in a report of lcov's form; least covered first.
fn rows(report: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for file in report.split("end_of_record") {
        let field = |name: &str| file.lines().find_map(|line| line.strip_prefix(name));
        let number = |name: &str| field(name).and_then(|text| text.parse::<f64>().ok());
        let name = field("SF:").and_then(|path| path.rsplit_once("/crates/")).map(|(_, name)| name);
        let (Some(name), Some(lines), Some(run)) = (name, number("LF:"), number("LH:")) else { continue };
        if lines > 0.0 && name.contains("/src/") && !ELSEWHERE.iter().any(|part| name.contains(part)) {
            rows.push(Row { lines, run, name: name.to_owned() });
        }
    }
    rows.sort_by(|one, other| one.percent().total_cmp(&other.percent()));
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
        let found: Vec<_> = rows(report).iter().map(|row| (row.percent(), row.name.clone())).collect();
        let expected = [(25.0, "time/src/wheel.rs".to_owned()), (90.0, "sync/src/lock.rs".to_owned())];
        assert_eq!(found, expected);
    }
}
