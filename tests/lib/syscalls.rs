//! System calls of one operation, counted by strace.
//!
//! A test that counts runs twice more, in processes of its own under strace: once with few rounds and once with many. The
//! difference is what the rounds cost. A test of what signals do to system calls runs once more, under a strace that
//! interrupts them.

use crate::skips;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

const ROUNDS: &str = "EVENLOOP_TEST_ROUNDS";

/// How many rounds this process is to do, if it is one that is watched.
pub fn rounds() -> Option<usize> {
    std::env::var(ROUNDS).ok()?.parse().ok()
}

/// System calls of one round by name, in the test of that name, or nothing where strace does not work.
///
/// # Panics
///
/// The test does not pass under strace.
pub fn per_round(test: &str, few: usize, many: usize) -> Option<BTreeMap<String, f64>> {
    let (before, after) = (counted(test, few)?, counted(test, many)?);
    let each = after.into_iter().map(|(name, calls)| {
        let before = before.get(&name).copied().unwrap_or(0.0);
        (name, (calls - before) / (many - few) as f64)
    });
    Some(each.filter(|(_, calls)| *calls >= 0.01).collect())
}

/// Whether strace can watch a program of ours; if not, notes that something was skipped.
fn strace_works() -> bool {
    let watched =
        Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).stdout(Stdio::null()).output();
    match watched {
        Ok(output) if output.status.success() => return true,
        // A child that cannot tell why it did not start says 127, under a tool that makes a fork of a `vfork`.
        Ok(output) if output.status.code() != Some(127) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            skips::skipped(&format!("`strace` may not watch: {said}"), "allow ptrace here");
        }
        _ => skips::missing("`strace`"),
    }
    false
}

/// Runs the test of that name in a process of its own, in which every second of these system calls (names, with commas) is
/// interrupted by a signal. Answers whether it succeeds, or nothing where strace does not work.
pub fn succeeds_interrupted(test: &str, calls: &str) -> Option<bool> {
    if !strace_works() {
        return None;
    }
    let inject = format!("inject={calls}:error=EINTR:when=1+2");
    Some(passes(Command::new("strace").args(["-f", "-o", "/dev/null", "-e", &inject]), test, 1))
}

/// Whether the test of that name passes in a process of its own, which `strace` watches, with so many rounds.
fn passes(strace: &mut Command, test: &str, rounds: usize) -> bool {
    strace.arg(std::env::current_exe().expect("this program has a path")).args(["--exact", test]);
    let output = strace.env(ROUNDS, rounds.to_string()).envs(UNTRACED_LEAKS).output();
    let output = output.expect("strace has worked before");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!said.contains("running 0 tests"), "this program has no test `{test}`");
    output.status.success()
}

/// Under AddressSanitizer: its search for leaks does not work where strace watches.
const UNTRACED_LEAKS: [(&str, &str); 1] = [("ASAN_OPTIONS", "detect_leaks=0")];

fn counted(test: &str, rounds: usize) -> Option<BTreeMap<String, f64>> {
    if !strace_works() {
        return None;
    }
    let out = tempfile::NamedTempFile::new().expect("there is room for a file");
    let passed = passes(Command::new("strace").args(["-f", "-c", "-o"]).arg(out.path()), test, rounds);
    assert!(passed, "`{test}` does not pass under strace with {rounds} rounds");
    let table = std::fs::read_to_string(out.path()).expect("strace wrote its table");
    // "% time, seconds, usecs/call, calls, errors (or nothing), syscall"
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let calls = rows.filter(|row| row.len() >= 5 && row.last() != Some(&"total"));
    Some(calls.filter_map(|row| Some((row.last()?.to_string(), row[3].parse().ok()?))).collect())
}
