//! Child processes: their pipes, their end, signals to them.
//!
//! All of it runs twice: here with pidfds, and as `streams_process_fallback` with a thread for each child.

#[path = "streams_process/the_end.rs"]
mod the_end;

#[path = "streams_process/communicate.rs"]
mod communicate;

#[path = "streams_process/stdio.rs"]
mod stdio;

#[path = "streams_process/inside.rs"]
mod inside;

#[path = "streams_process/endings.rs"]
mod endings;

#[path = "streams_process/protocol.rs"]
mod protocol;

#[path = "streams_process/starting.rs"]
mod starting;

#[path = "streams_process/reapers.rs"]
mod reapers;

#[path = "streams_process/endurance.rs"]
mod endurance;

use evenloop_core::cancel::{CancelScope, catch_cancel};
use evenloop_executor::create_task;
use evenloop_streams::process::{
    CalledProcessError, Command, DEVNULL, Ending, INHERIT, OutputOverrun, PIPE, Process, STDOUT, SignalKind,
    Source, Stdio, SubprocessPipe, SubprocessProtocol, SubprocessTransport, create_subprocess_exec,
    create_subprocess_shell, subprocess_exec, watch_by_threads,
};
use evenloop_streams::{IoFailure, ReadError, StreamReader};
use evenloop_tests::{Woken, descriptors, poll};
use futures::{StreamExt, future};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::future::Future;
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Whether this is the second time.
fn by_threads() -> bool {
    env!("CARGO_CRATE_NAME").ends_with("fallback")
}

fn on_loop<F: Future>(future: F) -> F::Output {
    watch_by_threads(by_threads());
    evenloop_tests::on_loop(future)
}

fn shell(line: &str) -> Command {
    Command::shell(line)
}

/// A child that runs until its stdin ends, or it is killed.
fn patient() -> Process {
    Command::new("cat").stdin(PIPE).stdout(DEVNULL).spawn().unwrap()
}

/// Whether there is a process of that number, a zombie too.
fn exists(pid: u32) -> bool {
    rustix::process::test_kill_process(Pid::from_raw(pid as i32).unwrap()).is_ok()
}

/// Waits until a grandchild is dead. Who reaps it, and when, is not ours: init, or nobody.
async fn gone(pid: u32) {
    let lives = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        let state = stat.ok().and_then(|stat| stat.rsplit(')').next()?.trim_start().chars().next());
        !matches!(state, None | Some('Z' | 'X'))
    };
    while lives() {
        evenloop_executor::yield_now().await;
    }
}

fn os_error(error: &io::Error) -> Option<i32> {
    IoFailure::of(error).unwrap_or_else(|| panic!("{error:?} has no operation")).os_error()
}

/// A pipe of no child's: the reading end for a child, the writing end for the test.
fn plain_pipe() -> (OwnedFd, File) {
    let (reading, writing) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (reading, writing.into())
}

// === A process of its own, for what is the whole process's ===

/// Runs `scene`, which is written in a test, in a process that runs that test and nothing else, started through `wrapper`.
fn alone<F: FnOnce()>(wrapper: &[&str], scene: F) {
    // `crate::module::test::{{closure}}`
    let path = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    let name = path.split_once("::").expect("a path").1;
    if std::env::var("EVENLOOP_ALONE").is_ok_and(|alone| alone == name) {
        watch_by_threads(by_threads());
        return scene();
    }
    let own = std::env::current_exe().unwrap();
    let words = wrapper.iter().map(std::ffi::OsStr::new).chain([own.as_os_str()]);
    let words: Vec<_> = words.chain([name, "--exact", "--nocapture"].map(std::ffi::OsStr::new)).collect();
    let mut command = std::process::Command::new(words[0]);
    let output = command.args(&words[1..]).env("EVENLOOP_ALONE", name).output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&told));
    let told = String::from_utf8_lossy(&told);
    assert!(told.contains("1 passed"), "{name} did not run: {told}");
    print!("{told}");
}

/// The children of this process, those that have ended and were not reaped first.
fn children() -> (Vec<i32>, Vec<i32>) {
    let own = std::process::id().to_string();
    let (mut zombies, mut alive) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let rest: Vec<_> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
        match (rest[0], rest[1] == own) {
            ("Z", true) => zombies.push(pid),
            (_, true) => alive.push(pid),
            _ => {}
        }
    }
    (zombies, alive)
}

/// Looks until there are no zombies; they may take a second.
fn no_zombies_soon() {
    let since = Instant::now();
    while let (zombies @ [_, ..], _) = (&children().0[..], ()) {
        assert!(since.elapsed() < Duration::from_secs(1), "zombies: {zombies:?}");
        std::thread::yield_now();
    }
}

/// Has everything started that a process starts once, the reaper first.
async fn warm_up() {
    let asked = Command::new("cat").stdin(PIPE).on_drop(Ending::terminate(Duration::from_secs(20)));
    let asked = asked.spawn().unwrap().handle();
    let _ = Command::new("true").status().await;
    let _ = asked.wait().await; // where SIGCHLD is ignored, it is gone before we know
    while children() != (vec![], vec![]) {
        evenloop_executor::yield_now().await;
    }
}
