//! `cargo xtask sanitize`: the tests under AddressSanitizer (with leaks), ThreadSanitizer and valgrind.
//!
//! The sanitizers need a nightly toolchain. ThreadSanitizer runs with the shim's own face (`core/src/shim/tsan.rs`) and
//! also watches the bodies of the models on plain threads. Valgrind answers `ENOSYS` to pidfd and io_uring, so what runs
//! under it are the fall-backs.

use crate::ci::Skips;
use crate::{Outcome, models, sh, tree};
use std::process::Command;

/// The packages whose tests run: every library crate, and the tests across crates.
fn packages() -> Vec<String> {
    let libraries = tree::libraries().into_iter().filter(|library| library.folder != "macros");
    let mut packages: Vec<_> = libraries.map(|library| library.package).collect();
    packages.push("evenloop-tests".into());
    packages
}

/// Runs `tools` (all: none named); what is missing is noted.
pub(crate) fn run(tools: &[String], skips: &mut Skips) -> Outcome {
    let known = ["address", "thread", "valgrind"];
    if let Some(unknown) = tools.iter().find(|tool| !known.contains(&tool.as_str())) {
        return Err(format!("no such tool: {unknown}; there are {}", known.join(", ")));
    }
    let wants = |tool: &str| tools.is_empty() || tools.iter().any(|asked| asked == tool);
    let nightly = sh::has_toolchain("nightly");
    if !nightly && (wants("address") || wants("thread")) {
        skips.note("the sanitizers need a nightly toolchain (cargo xtask setup --long)");
    }
    if nightly && wants("address") {
        address()?;
    }
    if nightly && wants("thread") {
        thread()?;
    }
    if wants("valgrind") && skips.unless_found("valgrind", "memcheck") {
        valgrind()?;
    }
    Ok(())
}

/// `cargo test` of a nightly toolchain with these flags, in a target folder of its own.
fn test(name: &str, flags: &str) -> Command {
    let mut test = sh::cargo_of("nightly", "test --quiet --lib --tests --target x86_64-unknown-linux-gnu");
    test.args(["--target-dir", &format!("target/{name}")]).env("RUSTFLAGS", flags);
    test
}

fn address() -> Outcome {
    println!("-- AddressSanitizer, leaks included");
    let mut test = test("asan", "-Zsanitizer=address");
    for package in packages() {
        test.args(["--package", &package]);
    }
    sh::run(&mut test)
}

fn thread() -> Outcome {
    println!("-- ThreadSanitizer, the models' bodies on plain threads included");
    let mut test =
        test("tsan", "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer --cfg evenloop_tsan");
    for package in packages() {
        test.args(["--package", &package]);
    }
    let suppressions = sh::root().join("xtask/tsan.supp");
    test.args(["--package", "evenloop-loom-tests"]);
    test.env("TSAN_OPTIONS", format!("suppressions={} halt_on_error=1", suppressions.display()));
    sh::run(&mut test)
}

fn valgrind() -> Outcome {
    println!("-- valgrind");
    let mut build = sh::cargo("test --lib --tests --no-run --message-format=json-render-diagnostics --quiet");
    for package in packages() {
        build.args(["--package", &package]);
    }
    for (name, program) in models::executables(&sh::read(&mut build)?) {
        println!("   {name}");
        let mut valgrind = sh::command(
            "valgrind",
            "--quiet --error-exitcode=9 --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect --fair-sched=yes",
        );
        sh::run(valgrind.arg(program).args(["--quiet", "--test-threads=1"]))?;
    }
    Ok(())
}
