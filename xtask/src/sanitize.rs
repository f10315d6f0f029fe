//! `cargo xtask sanitize`: the tests under AddressSanitizer (with leaks), ThreadSanitizer and valgrind.
//!
//! The sanitizers need a nightly toolchain. ThreadSanitizer runs with the shim's own face (`core/src/shim/tsan.rs`) and
//! also watches the bodies of the models on plain threads. Valgrind answers `ENOSYS` to pidfd and io_uring, so what runs
//! under it are the fall-backs.

use crate::ci::Skips;
use crate::{Outcome, models, sh, tree};
use std::process::Command;
use std::time::Instant;

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

/// `cargo WORDS` of a nightly toolchain with these flags, in a target folder of its own.
fn cargo(words: &str, name: &str, flags: &str) -> Command {
    let mut cargo = sh::cargo_of("nightly", words);
    cargo.args(["--target", "x86_64-unknown-linux-gnu", "--target-dir", &format!("target/{name}")]);
    for package in packages() {
        cargo.args(["--package", &package]);
    }
    cargo.env("RUSTFLAGS", flags);
    cargo
}

/// Builds the examples, which some tests run, and answers the run of the tests, those of the package `also` included.
fn test(name: &str, flags: &str, also: Option<&str>) -> Result<Command, String> {
    sh::run(&mut cargo(EXAMPLES, name, flags))?;
    let mut test = cargo("test --quiet --lib --tests --all-features --no-fail-fast", name, flags);
    test.args(also.iter().flat_map(|package| ["--package", package]));
    test.arg("--").args(COMPILER.iter().chain(COUNTING).flat_map(|test| ["--skip", test]));
    Ok(test)
}

/// Tests of what the compiler says, which is another one here.
pub(crate) const COMPILER: &[&str] = &["misuse_does_not_compile", "what_a_compiler_can_see_it_sees"];

/// Tests that count system calls: a sanitizer makes some of its own, now and then.
pub(crate) const COUNTING: &[&str] = &[
    "a_loop_opens_its_reactor_and_reads_no_files",
    "a_sleep_of_a_millisecond_makes_one_system_call",
    "raw_streams_make_six_system_calls_an_echo",
    "readers_and_writers_make_six_system_calls_an_echo",
];

/// How often tests of growth and of random programs repeat where each step takes ten to fifty times as long. The former are there
/// for the allocator's count, which is the same under all tools.
const MANY: &str = "1000";

const EXAMPLES: &str = "build --quiet --examples --all-features";

fn address() -> Outcome {
    println!("-- AddressSanitizer, leaks included");
    sh::run(&mut test("asan", "-Zsanitizer=address", None)?)
}

/// Tests that count the children and descriptors of their process, or forbid it any: ThreadSanitizer starts a program of its own
/// that tells it names.
pub(crate) const ALONE: &[&str] = &[
    "a_foreign_reaper_is_told",
    "a_program_that_is_started_inherits_nothing_of_ours",
    "descriptors_come_under_their_numbers_and_no_others_do",
    "ignored_sigchld_is_told",
    "a_loop_that_ends_with_children_leaves_no_zombie",
    "a_thousand_that_are_dropped_leave_no_zombie",
    "many_children_leave_nothing_behind",
    "without_descriptors_it_says_so_and_loses_none",
    "without_processes_it_says_so",
];

/// Tests under executors of other projects that have several threads. Those keep their queues under locks of std's, which is
/// not instrumented: ThreadSanitizer does not see who waited for such a lock, and reports what tokio and smol's crates do with
/// what it guards. With one thread, and under the other sanitizers, the same tests run.
pub(crate) const FOREIGN: &[&str] = &[
    "multi_thread::",
    "once_installed_it_is_found_everywhere",
    "two_threads::",
    "under_another_host_a_scope_carries_the_variables",
];

/// Tests of signals and of depth. ThreadSanitizer puts off a signal that comes to a thread in a bare system call, as the harness's
/// main thread is in: for ever. And it keeps a stack of its own of 65,536 calls.
pub(crate) const UNINTERRUPTED: &[&str] = &[
    "a_runner_is_told_of_ctrl_c_and_goes_on",
    "a_runner_that_ignores_ctrl_c_leaves_it_to_the_system",
    "a_second_ctrl_c_ends_a_process_whose_main_does_not_end",
    "a_waker_that_panics_keeps_no_listener_from_this_or_the_next_ctrl_c",
    "ctrl_c_cancels_main_and_ends_the_program_with_status_130",
    "ten_thousand_nested_groups",
    "what_a_main_gives_that_catches_ctrl_c_is_given",
];

fn thread() -> Outcome {
    println!("-- ThreadSanitizer, the models' bodies on plain threads included");
    let flags = "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer --cfg evenloop_tsan";
    let mut test = test("tsan", flags, Some("evenloop-loom-tests"))?;
    test.args(UNINTERRUPTED.iter().chain(ALONE).chain(FOREIGN).flat_map(|test| ["--skip", test]));
    test.env("EVENLOOP_MANY", MANY);
    let suppressions = sh::root().join("xtask/tsan.supp");
    test.env("TSAN_OPTIONS", format!("suppressions={} halt_on_error=1", suppressions.display()));
    sh::run(&mut test)
}

/// What valgrind does not emulate. It makes a fork of the system's `vfork`, and a child that shares no memory with us cannot tell
/// why it did not start; a limit on descriptors is its own; and it reads an abstract name to a NUL byte, which such a name does
/// not have.
pub(crate) const NOT_EMULATED: &[&str] = &[
    "a_server_without_descriptors_waits_for_one",
    "starting_off_the_loop_does_not_block_it",
    "unix_datagrams_take_abstract_names",
    "what_cannot_be_started_says_so_by_name",
];

/// Programs whose ciphers are ring's, in assembly: of its results valgrind takes bits for undefined that are not. All else that it
/// watches, it watches here too.
pub(crate) const CIPHERS: &[&str] = &["streams_tls"];

fn valgrind() -> Outcome {
    println!("-- valgrind");
    let of_all = |words: &str| {
        let mut cargo = sh::cargo(words);
        cargo.args(packages().iter().flat_map(|package| ["--package", package]));
        cargo
    };
    sh::run(&mut of_all(EXAMPLES))?;
    let mut build =
        of_all("test --lib --tests --all-features --no-run --message-format=json-render-diagnostics --quiet");
    let mut programs = models::executables(&sh::read(&mut build)?);
    programs.retain(|(_, program)| program.parent().is_some_and(|folder| folder.ends_with("deps"))); // no commands
    if programs.is_empty() {
        return Err("cargo has built no test program to run under valgrind".into());
    }
    let suppressions = format!("--suppressions={}", sh::root().join("xtask/valgrind.supp").display());
    let mut failed = Vec::new();
    for (name, program) in &programs {
        let begun = Instant::now();
        let mut valgrind = sh::command(
            "valgrind",
            "--quiet --error-exitcode=9 --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect --fair-sched=yes",
        );
        valgrind.arg(&suppressions);
        if CIPHERS.contains(&name.as_str()) {
            valgrind.arg("--undef-value-errors=no");
        }
        valgrind.env("EVENLOOP_MANY", MANY).arg(program).args(["--quiet", "--test-threads=1"]);
        valgrind.args(COMPILER.iter().chain(NOT_EMULATED).flat_map(|test| ["--skip", test]));
        let ended = sh::run(&mut valgrind);
        println!("   {name}: {:.0} s", begun.elapsed().as_secs_f64());
        failed.extend(ended.err());
    }
    println!("   {} programs, {} failed", programs.len(), failed.len());
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}
