//! System calls of one operation, counted by strace.
//!
//! A test that counts runs twice more, in processes of its own under strace: once with few rounds and once with many. The
//! difference is what the rounds cost. A test of what signals do to system calls runs once more, under a strace that
//! interrupts them.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

const ROUNDS: &str = "EVENLOOP_TEST_ROUNDS";

/// How many rounds this process is to do, if it is one that is watched.
pub fn rounds() -> Option<usize> {
    std::env::var(ROUNDS).ok()?.parse().ok()
}

/// System calls of one round by name, in the test of that name, or nothing where strace does not work.
pub fn per_round(test: &str, few: usize, many: usize) -> Option<BTreeMap<String, f64>> {
    let (before, after) = (counted(test, few)?, counted(test, many)?);
    let each = after.into_iter().map(|(name, calls)| {
        let before = before.get(&name).copied().unwrap_or(0.0);
        (name, (calls - before) / (many - few) as f64)
    });
    Some(each.filter(|(_, calls)| *calls >= 0.01).collect())
}

/// Runs the test of that name in a process of its own, in which every second of these system calls (names, with commas) is
/// interrupted by a signal. Answers whether it succeeds, or nothing where strace does not work.
pub fn succeeds_interrupted(test: &str, calls: &str) -> Option<bool> {
    let strace = |program: &std::path::Path, arguments: &[&str]| {
        let out = tempfile::NamedTempFile::new().expect("there is room for a file");
        let inject = format!("inject={calls}:error=EINTR:when=1+2");
        let watched = Command::new("strace")
            .args(["-f", "-e", &inject, "-o"])
            .arg(out.path())
            .arg(program)
            .args(arguments)
            .env(ROUNDS, "1")
            .envs(UNTRACED_LEAKS)
            .stdout(Stdio::null())
            .status();
        watched.is_ok_and(|status| status.success())
    };
    if !strace("true".as_ref(), &[]) {
        eprintln!("skipped: `strace` is not installed (cargo xtask setup) or may not watch");
        return None;
    }
    let this = std::env::current_exe().expect("this program has a path");
    Some(strace(&this, &["--exact", test]))
}

/// Under AddressSanitizer: its search for leaks does not work where strace watches.
const UNTRACED_LEAKS: [(&str, &str); 1] = [("ASAN_OPTIONS", "detect_leaks=0")];

fn counted(test: &str, rounds: usize) -> Option<BTreeMap<String, f64>> {
    let out = tempfile::NamedTempFile::new().expect("there is room for a file");
    let status = Command::new("strace")
        .args(["-f", "-c", "-o"])
        .arg(out.path())
        .arg(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", test])
        .env(ROUNDS, rounds.to_string())
        .envs(UNTRACED_LEAKS)
        .stdout(Stdio::null())
        .status();
    if !status.is_ok_and(|status| status.success()) {
        eprintln!("skipped: `strace` is not installed (cargo xtask setup) or may not watch");
        return None;
    }
    let table = std::fs::read_to_string(out.path()).expect("strace wrote its table");
    // "% time, seconds, usecs/call, calls, errors (or nothing), syscall"
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let calls = rows.filter(|row| row.len() >= 5 && row.last() != Some(&"total"));
    Some(calls.filter_map(|row| Some((row.last()?.to_string(), row[3].parse().ok()?))).collect())
}
