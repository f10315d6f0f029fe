//! Child processes: their pipes, their end, signals to them.
//!
//! The whole file runs twice: here with pidfds, and as `streams_process_fallback` with a thread for each child.

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

/// Waits until no process has that number any more.
async fn gone(pid: u32) {
    while exists(pid) {
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

/// Runs `scene` in a process that does nothing else, started through `wrapper`. `name` is the test's.
fn alone(name: &str, wrapper: &[&str], scene: impl FnOnce()) {
    let path = module_path!().split_once("::").map(|(_, rest)| format!("{rest}::{name}"));
    let name = path.unwrap_or_else(|| name.to_owned());
    if std::env::var("EVENLOOP_ALONE").as_ref() == Ok(&name) {
        watch_by_threads(by_threads());
        return scene();
    }
    let own = std::env::current_exe().unwrap();
    let words = wrapper.iter().map(std::ffi::OsStr::new).chain([own.as_os_str()]);
    let words: Vec<_> = words.chain([&*name, "--exact", "--nocapture"].map(std::ffi::OsStr::new)).collect();
    let mut command = std::process::Command::new(words[0]);
    let output = command.args(&words[1..]).env("EVENLOOP_ALONE", &name).output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&told));
    print!("{}", String::from_utf8_lossy(&told));
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

// === The end ===

#[test]
fn a_program_runs_to_its_end() {
    on_loop(async {
        assert!(Command::new("true").status().await.unwrap().success());
        assert_eq!(shell("exit 7").status().await.unwrap().code(), Some(7));
        let output = Command::new("echo").args(["a", "b"]).output().await.unwrap();
        assert_eq!((output.stdout, output.stderr), (b"a b\n".to_vec(), vec![]));
    });
}

#[test]
fn the_asyncio_names_start_programs() {
    on_loop(async {
        let mut sort = create_subprocess_exec("sort", ["-n"], [PIPE, PIPE, INHERIT]).unwrap();
        let output = sort.communicate(b"10\n9\n").await.unwrap();
        assert_eq!(output.stdout, b"9\n10\n");
        let mut lines =
            create_subprocess_shell("echo out; echo err >&2; exit 3", [DEVNULL, PIPE, PIPE]).unwrap();
        let output = lines.wait_with_output().await.unwrap();
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!((output.status.code(), lines.returncode()), (Some(3), Some(3)));
    });
}

#[test]
fn returncode_tells_code_or_signal_as_asyncio_does() {
    on_loop(async {
        let process = patient();
        assert_eq!((process.returncode(), process.try_wait().unwrap()), (None, None));
        process.kill().unwrap();
        assert_eq!(process.wait().await.unwrap().signal(), Some(9));
        assert_eq!(process.returncode(), Some(-9));
        let mut dumps = shell("ulimit -c 0; kill -SEGV $$").spawn().unwrap();
        assert_eq!(dumps.wait_with_output().await.unwrap().status.signal(), Some(11));
    });
}

/// tokio-process#57: wait after kill hung; tokio#7160: kill after the end was an error.
#[test]
fn kill_then_wait_then_kill_again() {
    on_loop(async {
        let process = patient();
        let pid = process.pid();
        process.kill().unwrap();
        process.wait().await.unwrap();
        assert!(!exists(pid), "reaped");
        process.kill().unwrap();
        process.terminate().unwrap();
        process.send_signal(SignalKind::USER_1).unwrap();
    });
}

#[test]
fn terminate_can_be_caught_and_other_signals_reach_the_child() {
    on_loop(async {
        let script =
            "trap 'echo term; exit 5' TERM; trap 'echo usr1' USR1; echo ready; while :; do read x; done";
        let mut process = shell(script).stdin(PIPE).stdout(PIPE).spawn().unwrap();
        let handle = process.handle();
        let stdout = process.stdout.as_mut().unwrap();
        assert_eq!(stdout.readline().await.unwrap(), b"ready\n");
        handle.send_signal(SignalKind::USER_1).unwrap();
        assert_eq!(stdout.readline().await.unwrap(), b"usr1\n");
        handle.terminate().unwrap();
        assert_eq!(stdout.readline().await.unwrap(), b"term\n");
        assert_eq!(process.wait().await.unwrap().code(), Some(5));
    });
}

#[test]
fn a_signal_without_a_name_is_refused() {
    on_loop(async {
        let process = patient();
        let error = process.send_signal(SignalKind::from_raw(40)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("signal 40 cannot be sent"), "{error}");
        process.kill().unwrap();
    });
}

/// tokio#7494: a poll without news panicked.
#[test]
fn a_wait_may_be_polled_at_any_time() {
    on_loop(async {
        let mut process = patient();
        let handle = process.handle();
        let (woken, waker) = Woken::waker();
        let mut wait = Box::pin(handle.wait());
        for _ in 0..100 {
            assert!(poll(&mut wait, &waker).is_pending());
            evenloop_executor::yield_now().await;
        }
        process.stdin = None;
        assert!(handle.wait().await.unwrap().success());
        assert_eq!(woken.times(), 1);
        assert!(poll(&mut wait, &waker).is_ready());
    });
}

/// trio#854, trio#2209: two waiters raised, and asking for the code between the end and the wake-up made `wait` hang.
#[test]
fn ten_wait_while_one_asks() {
    on_loop(async {
        let mut process = patient();
        let waiters: Vec<_> = (0..10)
            .map(|_| {
                let handle = process.handle();
                create_task(async move { handle.wait().await.unwrap().code() })
            })
            .collect();
        evenloop_executor::yield_now().await;
        process.stdin = None;
        while process.returncode().is_none() {
            std::thread::yield_now(); // the loop does not turn: nobody but this reaps
        }
        for waiter in waiters {
            assert_eq!(waiter.await, Some(0));
        }
    });
}

#[test]
fn a_cancelled_wait_leaves_the_child_alone() {
    on_loop(async {
        let mut process = patient();
        let handle = process.handle();
        let scope = CancelScope::new();
        let task = create_task({
            let scope = scope.clone();
            async move { scope.run(handle.wait()).await.map(|_| ()) }
        });
        evenloop_executor::yield_now().await;
        scope.cancel("no longer wanted");
        assert!(task.await.is_err());
        assert_eq!(process.returncode(), None);
        process.stdin = None;
        assert!(process.wait().await.unwrap().success());
    });
}

/// asyncio up to 3.14 waits for the pipes, too (cpython#119710).
#[test]
fn wait_ends_at_the_exit_though_a_grandchild_holds_the_pipe() {
    on_loop(async {
        let (reading, writing) = plain_pipe();
        let command = shell("cat <&3 & echo here; exit 3").stdin(DEVNULL).stdout(PIPE);
        let mut process = command.inherit_fd_as(reading, 3).spawn().unwrap();
        assert_eq!(process.wait().await.unwrap().code(), Some(3));
        let output = process.communicate(b"").until_exit().await.unwrap();
        assert_eq!(output.stdout, b"here\n");
        let mut more = Box::pin(process.communicate(b""));
        assert!(poll(&mut more, std::task::Waker::noop()).is_pending(), "the grandchild holds the pipe");
        drop(writing); // the grandchild ends
        assert_eq!(more.await.unwrap().stdout, b"");
    });
}

/// gh-79802: it worked with the main thread's loop only.
#[test]
fn loops_in_four_threads_have_children() {
    let threads: Vec<_> = (0..4)
        .map(|number| {
            std::thread::spawn(move || {
                on_loop(async {
                    for _ in 0..5 {
                        let status = shell(&format!("exit {number}")).status().await.unwrap();
                        assert_eq!(status.code(), Some(number));
                    }
                });
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn another_threads_task_waits_and_signals() {
    on_loop(async {
        let process = patient();
        let handle = process.handle();
        let thread = std::thread::spawn(move || {
            handle.kill().unwrap();
            futures::executor::block_on(handle.wait()).unwrap().signal()
        });
        assert_eq!(process.wait().await.unwrap().signal(), Some(9));
        assert_eq!(thread.join().unwrap(), Some(9));
    });
}

// === communicate ===

#[test]
fn communicate_moves_more_than_pipes_hold_both_ways() {
    let input: Vec<u8> = (0..1_500_000_u32).flat_map(u32::to_le_bytes).collect();
    on_loop(async {
        let mut cat = Command::new("cat").stdin(PIPE).stdout(PIPE).spawn().unwrap();
        let output = cat.communicate(&input).await.unwrap();
        assert!(output.stdout == input && output.status.success());
        // Both outputs full before the input is read.
        let script = "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; cat >&2";
        let mut both = shell(script).stdin(PIPE).stdout(PIPE).stderr(PIPE).spawn().unwrap();
        let output = both.communicate(&input).await.unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (300_000, 300_000 + input.len()));
    });
}

/// bpo-26848: empty input hung.
#[test]
fn communicate_with_nothing_ends_the_input() {
    on_loop(async {
        let mut cat = Command::new("cat").stdin(PIPE).stdout(PIPE).spawn().unwrap();
        assert_eq!(cat.communicate(b"").await.unwrap().stdout, b"");
        assert!(cat.stdin.is_none());
        let again = cat.communicate(b"more").await.unwrap();
        assert!(again.status.success() && again.stdout.is_empty());
        let output = Command::new("true").stdin(PIPE).spawn().unwrap().wait_with_output().await.unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (0, 0));
    });
}

#[test]
fn communicate_ignores_a_child_that_does_not_read() {
    let input = vec![b'x'; 1 << 20];
    on_loop(async {
        for line in ["true", "head -c 10", "exec <&-; echo done"] {
            let mut process = shell(line).stdin(PIPE).stdout(PIPE).spawn().unwrap();
            let output = process.communicate(&input).await.unwrap();
            assert!(output.status.success(), "{line}: {output:?}");
        }
    });
}

#[test]
fn communicate_that_is_dropped_keeps_what_it_read_and_what_it_did_not_write() {
    let input: Vec<u8> = (0..200_000).map(|n| (n % 251) as u8).collect();
    on_loop(async {
        let (gate, open) = plain_pipe();
        // Says something, waits at the gate, then reads its input.
        let command = shell("echo early; read line <&3; cat").stdin(PIPE).stdout(PIPE);
        let mut process = command.inherit_fd_as(gate, 3).spawn().unwrap();
        {
            let mut first = Box::pin(process.communicate(&input));
            let (_, waker) = Woken::waker();
            for _ in 0..1000 {
                assert!(poll(&mut first, &waker).is_pending());
                evenloop_executor::yield_now().await;
            }
        }
        (&open).write_all(b"\n").unwrap();
        let output = process.communicate(b" and the rest").await.unwrap();
        let wanted = [b"early\n", &input[..], b" and the rest"].concat();
        assert!(output.stdout == wanted, "{} bytes of {}", output.stdout.len(), wanted.len());
    });
}

#[test]
fn a_cancelled_communicate_goes_on_where_it_was() {
    on_loop(async {
        let (gate, open) = plain_pipe();
        let command = shell("echo early; read line <&3; echo late").stdout(PIPE);
        let mut process = command.inherit_fd_as(gate, 3).spawn().unwrap();
        let scope = CancelScope::new();
        {
            let mut run = pin!(scope.run(process.communicate(b"")));
            for _ in 0..100 {
                assert!(
                    future::poll_fn(|cx| std::task::Poll::Ready(run.as_mut().poll(cx))).await.is_pending()
                );
                evenloop_executor::yield_now().await;
            }
            scope.cancel("later");
            assert!(run.await.is_err());
        }
        (&open).write_all(b"\n").unwrap();
        assert_eq!(process.communicate(b"").await.unwrap().stdout, b"early\nlate\n");
    });
}

#[test]
fn a_child_that_writes_without_end_lets_others_run() {
    on_loop(async {
        let mut yes = Command::new("yes").stdout(PIPE).output_limit(64 << 20).spawn().unwrap();
        let handle = yes.handle();
        let turns = Rc::new(Cell::new(0));
        let counts = turns.clone();
        let others = create_task(async move {
            loop {
                counts.set(counts.get() + 1);
                evenloop_executor::yield_now().await;
            }
        });
        let error = yes.communicate(b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        let overrun = error.get_ref().unwrap().downcast_ref::<OutputOverrun>().unwrap();
        assert_eq!(overrun.limit_bytes, 64 << 20);
        // 64 MiB in turns of at most 1 MiB.
        assert!(turns.get() >= 64, "{} turns of others", turns.get());
        assert!(yes.stdout.as_ref().unwrap().buffered().len() > 64 << 20, "what was read is there");
        others.cancel("enough");
        handle.kill().unwrap();
    });
}

/// async-process 1.0.2: `output` let go of the child early and killed it.
#[test]
fn output_with_kill_on_drop_lets_the_child_finish() {
    on_loop(async {
        let line = "for n in 1 2 3 4 5; do echo $n; sleep 0.02; done";
        let output = shell(line).on_drop(Ending::Kill).output().await.unwrap();
        assert_eq!(output.stdout, b"1\n2\n3\n4\n5\n");
        assert!(output.status.success());
    });
}

/// tokio#3743: the parent's own copies of the pipe kept the child waiting.
#[test]
fn status_and_output_hold_no_end_of_a_pipe_that_the_child_waits_for() {
    on_loop(async {
        assert!(Command::new("cat").stdin(PIPE).stdout(DEVNULL).status().await.unwrap().success());
        assert!(Command::new("cat").stdin(PIPE).output().await.unwrap().status.success());
        assert!(Command::new("cat").output().await.unwrap().stdout.is_empty());
    });
}

#[test]
fn run_checks_the_status_and_feeds() {
    on_loop(async {
        let output = Command::new("tr").args(["a-z", "A-Z"]).run(b"hello").await.unwrap();
        assert_eq!(output.stdout, b"HELLO");
        let error = shell("echo why >&2; exit 4").run(b"").await.unwrap_err();
        let failed = CalledProcessError::of(&error).expect("a status is told");
        assert_eq!((&failed.output.stderr[..], failed.program()), (&b"why\n"[..], "/bin/sh"));
        assert_eq!(error.to_string(), "`/bin/sh` ended with exit status: 4");
    });
}

#[test]
fn a_run_that_fails_ends_its_child() {
    on_loop(async {
        let error = shell("echo $$; exec yes").output_limit(1 << 20).output().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        let (_, running) = children();
        let names = running.iter().map(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")));
        assert!(names.flatten().all(|name| name.trim() != "yes"));
    });
}

/// A slow reader makes a slow child: what is kept here is bounded.
#[test]
fn a_slow_reader_holds_no_more_than_its_limit() {
    on_loop(async {
        let command = Command::new("head").args(["-c", "64M", "/dev/zero"]).stdout(PIPE).limit(32 * 1024);
        let mut process = command.spawn().unwrap();
        let stdout = process.stdout.as_mut().unwrap();
        let mut total = 0;
        loop {
            let n = stdout.read(10_000).await.unwrap().len();
            assert!(stdout.buffered().len() <= 64 * 1024, "{}", stdout.buffered().len());
            total += n;
            if n == 0 {
                break;
            }
            evenloop_executor::yield_now().await;
        }
        assert_eq!(total, 64 << 20);
        assert!(process.wait().await.unwrap().success());
    });
}

/// bun#33560: the child found its own stdout non-blocking, and died of EAGAIN.
#[test]
fn a_child_finds_its_pipes_blocking() {
    let flags = || [0, 1, 2].map(|fd| std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap());
    let lines = |text: [String; 3]| {
        text.map(|text| text.lines().find(|line| line.starts_with("flags")).map(str::to_owned))
    };
    let before = lines(flags());
    on_loop(async {
        let mut seq = Command::new("seq").args(["1", "300000"]).stdout(PIPE).spawn().unwrap();
        let stdout = seq.stdout.as_mut().unwrap();
        let mut next = 1;
        while let line @ [_, ..] = &stdout.readline().await.unwrap()[..] {
            assert_eq!(line, format!("{next}\n").as_bytes());
            next += 1;
            if next % 10_000 == 0 {
                evenloop_executor::yield_now().await;
            }
        }
        assert_eq!(next, 300_001);
        assert!(seq.wait().await.unwrap().success());

        // Our non-blocking ends, given to others, are blocking again.
        let mut first = Command::new("seq").args(["1", "300000"]).stdout(PIPE).spawn().unwrap();
        let last = Command::new("tail").args(["-n", "1"]).stdin(first.stdout.take().unwrap());
        assert_eq!(last.output().await.unwrap().stdout, b"300000\n");
        assert!(first.wait().await.unwrap().success());
        let inherits = shell("seq 1 10 | wc -l >&2").stdin(INHERIT).stdout(INHERIT).stderr(PIPE);
        assert_eq!(inherits.output().await.unwrap().stderr, b"10\n");
    });
    assert_eq!(lines(flags()), before);
}

// === Standard streams ===

#[test]
fn streams_lead_to_files_nothing_and_each_other() {
    on_loop(async {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"from a file").unwrap();
        file.rewind().unwrap();
        let into = tempfile::tempfile().unwrap();
        let copy = into.try_clone().unwrap();
        assert!(Command::new("cat").stdin(file).stdout(into).status().await.unwrap().success());
        let (mut copy, mut text) = (copy, String::new());
        copy.rewind().unwrap();
        copy.read_to_string(&mut text).unwrap();
        assert_eq!(text, "from a file");

        let line = "echo out; echo err >&2; echo out";
        let output = shell(line).stderr(STDOUT).output().await.unwrap();
        assert_eq!((&output.stdout[..], output.stderr.len()), (&b"out\nerr\nout\n"[..], 0));
        let output = shell(line).stdout(DEVNULL).stderr(STDOUT).output().await.unwrap();
        assert!(output.stdout.is_empty() && output.stderr.is_empty());
        let where_to = shell("readlink /proc/$$/fd/1 /proc/$$/fd/2 | cat >&3").stdout(INHERIT).stderr(STDOUT);
        let mut told = tempfile::tempfile().unwrap();
        assert!(where_to.inherit_fd_as(told.try_clone().unwrap(), 3).status().await.unwrap().success());
        told.rewind().unwrap();
        let mut text = String::new();
        told.read_to_string(&mut text).unwrap();
        let [out, err] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert_eq!(out, err);
    });
}

#[test]
fn a_pipeline_goes_from_child_to_child() {
    on_loop(async {
        let mut words = Command::new("printf").arg("c\nb\na\nb\n").stdout(PIPE).spawn().unwrap();
        let sort = Command::new("sort").stdin(words.stdout.take().unwrap()).stdout(PIPE);
        let mut sort = sort.spawn().unwrap();
        let unique = Command::new("uniq").stdin(sort.stdout.take().unwrap()).output().await.unwrap();
        assert_eq!(unique.stdout, b"a\nb\nc\n");
        assert!(words.wait().await.unwrap().success() && sort.wait().await.unwrap().success());

        // Built from its end: the first writes into the stdin of the second.
        let mut last = Command::new("rev").stdin(PIPE).stdout(PIPE).spawn().unwrap();
        let first = Command::new("echo").arg("abc").stdout(last.stdin.take().unwrap());
        assert!(first.status().await.unwrap().success());
        assert_eq!(last.wait_with_output().await.unwrap().stdout, b"cba\n");
    });
}

#[test]
#[should_panic(expected = "`Stdio::from` needs a reader whose bytes were all taken")]
fn a_pipe_that_was_read_from_is_not_given_on() {
    on_loop(async {
        let mut echo = Command::new("printf").arg("a\nb\n").stdout(PIPE).spawn().unwrap();
        assert_eq!(echo.stdout.as_mut().unwrap().readline().await.unwrap(), b"a\n");
        let _ = Stdio::from(echo.stdout.take().unwrap());
    });
}

#[test]
#[should_panic(expected = "`Command::stdin` cannot lead to `STDOUT`")]
fn stdin_does_not_lead_to_stdout() {
    let _ = Command::new("true").stdin(STDOUT);
}

#[test]
fn writing_to_a_child_that_is_gone_is_a_broken_pipe_that_names_it() {
    on_loop(async {
        let mut process = Command::new("true").stdin(PIPE).spawn().unwrap();
        process.wait().await.unwrap();
        let stdin = process.stdin.as_mut().unwrap();
        let error = stdin.write(b"anybody?").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert!(error.to_string().starts_with("writing to the stdin of `true`: "), "{error}");
    });
}

#[test]
fn closing_the_writer_ends_the_input() {
    on_loop(async {
        let mut cat = Command::new("cat").stdin(PIPE).stdout(PIPE).spawn().unwrap();
        let stdin = cat.stdin.as_mut().unwrap();
        stdin.write(b"all of it").unwrap();
        stdin.close();
        stdin.wait_closed().await.unwrap();
        assert_eq!(stdin.write(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(cat.stdout.as_mut().unwrap().read_to_end().await.unwrap(), b"all of it");
        assert!(cat.wait().await.unwrap().success());
    });
}

#[test]
fn lines_of_both_outputs_come_in_one_stream_with_their_source() {
    on_loop(async {
        let line = "for n in 1 2 3; do echo out $n; echo err $n >&2; done; printf last";
        let mut process = shell(line).stdout(PIPE).stderr(PIPE).spawn().unwrap();
        let all: Vec<_> = process.lines().map(Result::unwrap).collect().await;
        let of = |wanted| {
            let lines = all.iter().filter(|(source, _)| *source == wanted).map(|(_, line)| &line[..]);
            lines.map(String::from_utf8_lossy).collect::<String>()
        };
        assert_eq!(of(Source::Stdout), "out 1\nout 2\nout 3\nlast");
        assert_eq!(of(Source::Stderr), "err 1\nerr 2\nerr 3\n");
        // Neither starves the other.
        let mut process =
            shell("yes out & yes err >&2 & wait").stdout(PIPE).stderr(PIPE).own_group().spawn().unwrap();
        let handle = process.handle();
        let mut seen = [0, 0];
        let mut lines = process.lines();
        while seen.iter().any(|lines| *lines < 1000) {
            let (source, _) = lines.next().await.unwrap().unwrap();
            seen[source as usize] += 1;
        }
        assert!(seen.iter().all(|lines| *lines < 1_000_000), "{seen:?}");
        handle.signal_group(SignalKind::KILL).unwrap();
        handle.wait().await.unwrap();
    });
}

#[test]
fn a_line_beyond_the_limit_stays_in_the_reader() {
    on_loop(async {
        let command = Command::new("printf").arg("%0100d\nshort\n").arg("0").stdout(PIPE).limit(64);
        let mut process = command.spawn().unwrap();
        let stdout = process.stdout.as_mut().unwrap();
        assert!(matches!(stdout.readline().await, Err(ReadError::Overrun(_))));
        stdout.set_limit(1000);
        assert_eq!(stdout.readline().await.unwrap().len(), 101);
        assert_eq!(stdout.readline().await.unwrap(), b"short\n");
        process.wait().await.unwrap();
    });
}

// === What the child finds ===

#[test]
fn arguments_environment_directory_and_umask_are_the_childs() {
    on_loop(async {
        let output = shell("echo $0 $A $B ${HOME-none}; pwd; umask").arg("me").env_clear().env("A", "1");
        let output = output.envs([("B", "2"), ("C", "3")]).env_remove("C").current_dir("/").umask(0o027);
        let output = output.output().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "me 1 2 none\n/\n0027\n");
        let output =
            Command::new("sh").arg0("another").args(["-c", "cat /proc/$$/cmdline"]).output().await.unwrap();
        assert!(output.stdout.starts_with(b"another\0"), "{output:?}");
    });
}

#[test]
fn a_child_may_be_another_user() {
    if !rustix::process::geteuid().is_root() {
        return; // only root may
    }
    on_loop(async {
        let output = shell("id -u; id -g; id -G").uid(12345).gid(23456).output().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "12345\n23456\n23456\n");
    });
}

#[test]
fn descriptors_come_under_their_numbers_and_no_others_do() {
    alone("descriptors_come_under_their_numbers_and_no_others_do", &[], || {
        let list = ["-c", "ls /proc/$$/fd"];
        let known = std::process::Command::new("sh").args(list).output().unwrap().stdout;
        evenloop_tests::on_loop(async {
            // One of each kind that there is.
            let address: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
            let listener = evenloop_streams::TcpListener::bind(address).unwrap();
            let stream = evenloop_streams::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let accepted = listener.accept().await.unwrap();
            let pair = evenloop_streams::UnixStream::pair().unwrap();
            let udp = evenloop_streams::UdpSocket::bind(address).unwrap();
            let pipe = evenloop_streams::pipe::pipe().unwrap();
            let hangup =
                evenloop_streams::signal::signal(evenloop_streams::signal::SignalKind::HANGUP).unwrap();
            let mut child = patient();
            drop(patient()); // the reaper has descriptors, too
            let output = Command::new("sh").args(list).output().await.unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&known));
            drop((listener, stream, accepted, pair, udp, pipe, hangup));
            child.stdin = None;
            child.wait().await.unwrap();

            // Crossed over, and one under the number it has.
            let file = |text: &str| {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(text.as_bytes()).unwrap();
                file.rewind().unwrap();
                OwnedFd::from(file)
            };
            let (one, two, stays) = (file("one "), file("two "), file("stays"));
            use std::os::fd::AsRawFd;
            let (first, second, own) = (one.as_raw_fd(), two.as_raw_fd(), stays.as_raw_fd());
            let line = format!("cat <&{first}; cat <&{second}; cat <&{own}; cat <&9");
            let command = shell(&line).inherit_fd_as(one, second).inherit_fd_as(two, first);
            let output = command.inherit_fd(stays).inherit_fd_as(file(" nine"), 9).output().await.unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), "two one stays nine");
            let output = Command::new("sh").args(list).inherit_fd_as(file(""), 77).output().await.unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&known) + "77\n");
        });
    });
}

#[test]
#[should_panic(
    expected = "`Command::inherit_fd_as` needs a number from 3 on that is not given out yet, not 7"
)]
fn a_number_is_given_out_once() {
    let file = || tempfile::tempfile().unwrap();
    let _ = Command::new("true").inherit_fd_as(file(), 7).inherit_fd_as(file(), 7);
}

/// bpo-31034: what the parent blocks or ignores was blocked and ignored in the child.
#[test]
fn a_child_starts_with_fresh_signals() {
    alone("a_child_starts_with_fresh_signals", &["env", "--block-signal=USR1"], || {
        let mask = |text: &[u8], name: &str| {
            let text = String::from_utf8_lossy(text);
            let line =
                text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{text}"));
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        const SIGPIPE: u64 = 1 << 12;
        let own = std::fs::read("/proc/thread-self/status").unwrap();
        assert_ne!(mask(&own, "SigBlk:"), 0, "this process blocks a signal");
        assert_ne!(mask(&own, "SigIgn:") & SIGPIPE, 0, "this process ignores SIGPIPE");
        evenloop_tests::on_loop(async {
            let status = || Command::new("cat").arg("/proc/self/status");
            // The one without a fork, and the one with.
            for command in [status(), status().umask(0)] {
                let output = command.output().await.unwrap().stdout;
                assert_eq!((mask(&output, "SigBlk:"), mask(&output, "SigIgn:") & SIGPIPE), (0, 0));
            }
        });
    });
}

#[test]
fn a_group_of_its_own_is_signalled_as_a_whole() {
    on_loop(async {
        let (gate, open) = plain_pipe();
        let line = "cat <&3 >/dev/null & echo $!; wait";
        let command = shell(line).stdout(PIPE).own_group().inherit_fd_as(gate, 3);
        let mut process = command.spawn().unwrap();
        let line = process.stdout.as_mut().unwrap().readline().await.unwrap();
        let grandchild: u32 = String::from_utf8_lossy(&line).trim().parse().unwrap();
        process.signal_group(SignalKind::KILL).unwrap();
        assert_eq!(process.wait().await.unwrap().signal(), Some(9));
        process.signal_group(SignalKind::KILL).unwrap(); // harmless
        gone(grandchild).await;
        drop(open);

        let process = patient();
        let error = process.signal_group(SignalKind::TERMINATE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("`cat`") && error.to_string().contains("own_group"), "{error}");
        process.kill().unwrap();
        process.wait().await.unwrap();

        let leader = Command::new("cat").stdin(PIPE).stdout(DEVNULL).new_session().spawn().unwrap();
        let pid = Pid::from_raw(leader.pid() as i32);
        assert_eq!(rustix::process::getsid(pid).unwrap(), pid.unwrap());
        let member = Command::new("cat").stdin(PIPE).stdout(DEVNULL);
        leader.signal_group(SignalKind::KILL).unwrap();
        leader.wait().await.unwrap();
        let host = Command::new("cat").stdin(PIPE).stdout(DEVNULL).own_group().spawn().unwrap();
        let member = member.join_group(host.pid()).spawn().unwrap();
        host.signal_group(SignalKind::KILL).unwrap();
        assert_eq!(member.wait().await.unwrap().signal(), Some(9));
        host.wait().await.unwrap();
    });
}

// === Endings ===

#[test]
fn a_dropped_handle_does_as_it_was_told() {
    on_loop(async {
        let (gate, open) = plain_pipe();
        let stays = Command::new("cat").stdin(gate).stdout(DEVNULL).spawn().unwrap();
        let watched = stays.handle();
        drop(stays);
        assert_eq!(watched.returncode(), None, "it runs on");
        drop(open);
        assert!(watched.wait().await.unwrap().success());

        let killed = Command::new("cat").stdin(PIPE).on_drop(Ending::Kill).spawn().unwrap();
        let watched = killed.handle();
        drop(killed);
        assert_eq!(watched.wait().await.unwrap().signal(), Some(9));

        let asked = shell("trap 'exit 6' TERM; echo; while :; do read x; done").stdin(PIPE).stdout(PIPE);
        let mut asked = asked.on_drop(Ending::terminate(Duration::from_secs(20))).spawn().unwrap();
        asked.stdout.as_mut().unwrap().readline().await.unwrap();
        let (watched, _holds) = (asked.handle(), (asked.stdin.take(), asked.stdout.take()));
        drop(asked);
        assert_eq!(watched.wait().await.unwrap().code(), Some(6));

        let deaf = shell("trap '' TERM; echo; while :; do read x; done").stdin(PIPE).stdout(PIPE);
        let mut deaf = deaf.on_drop(Ending::terminate(Duration::from_millis(20))).spawn().unwrap();
        deaf.stdout.as_mut().unwrap().readline().await.unwrap();
        let (watched, _holds) = (deaf.handle(), (deaf.stdin.take(), deaf.stdout.take()));
        drop(deaf);
        assert_eq!(watched.wait().await.unwrap().signal(), Some(9));
    });
}

/// Cancelled: asked to end, waited for, and only then does the cancellation go on.
#[test]
fn a_cancelled_run_ends_its_child_first() {
    on_loop(async {
        for (line, ending, wanted) in [
            (
                "trap 'echo end >&3; exit 6' TERM; echo up >&3; while :; do sleep 0.01; done",
                Ending::terminate(Duration::from_secs(20)),
                "up\nend\n",
            ),
            (
                "trap '' TERM; echo up >&3; while :; do sleep 0.01; done",
                Ending::terminate(Duration::from_millis(20)),
                "up\n",
            ),
            (
                // Not SIGINT: a shell cannot trap what it finds ignored, as in the background of another one.
                "trap 'echo asked >&3; exit' USR1; echo up >&3; while :; do sleep 0.01; done",
                Ending::Ask { signal: SignalKind::USER_1, grace: Duration::from_secs(20) },
                "up\nasked\n",
            ),
            ("echo up >&3; while :; do sleep 0.01; done", Ending::Kill, "up\n"),
        ] {
            let (reading, writing) = plain_pipe();
            let told = evenloop_streams::pipe::Receiver::from_fd(reading).unwrap();
            let mut told = StreamReader::new(told);
            let scope = CancelScope::new();
            let command = shell(line).on_cancel(ending).inherit_fd_as(writing, 3);
            let run = create_task({
                let scope = scope.clone();
                async move { scope.run(command.output()).await.map(|_| ()) }
            });
            let mut all = told.readline().await.unwrap();
            scope.cancel("enough");
            assert_eq!(run.await.unwrap_err().text(), Some("enough"));
            all.extend(told.read_to_end().await.unwrap());
            assert_eq!(String::from_utf8_lossy(&all), wanted, "{line}");
        }
    });
}

#[test]
fn a_timeout_around_output_ends_the_child() {
    on_loop(async {
        let command = Command::new("cat").stdin(PIPE).on_cancel(Ending::Kill);
        let mut process = command.stdout(PIPE).spawn().unwrap();
        let (handle, _holds) = (process.handle(), process.stdin.take());
        let elapsed = evenloop_time::timeout(Duration::from_millis(5), process.complete(b"")).await;
        assert!(elapsed.is_err());
        assert_eq!(handle.returncode(), Some(-9), "it was waited for");
    });
}

#[test]
fn a_second_cancellation_waits_for_the_childs_end() {
    on_loop(async {
        let (gate, open) = plain_pipe();
        let command =
            shell("trap 'read x <&3; exit 0' TERM; echo; while :; do read y; done").stdin(PIPE).stdout(PIPE);
        let mut process = command
            .on_cancel(Ending::terminate(Duration::from_secs(20)))
            .inherit_fd_as(gate, 3)
            .spawn()
            .unwrap();
        process.stdout.as_mut().unwrap().readline().await.unwrap();
        let (handle, _holds) = (process.handle(), process.stdin.take());
        let scope = CancelScope::new();
        let task = create_task({
            let scope = scope.clone();
            async move { scope.run(process.complete(b"")).await.map(|_| ()) }
        });
        for _ in 0..3 {
            evenloop_executor::yield_now().await;
            scope.cancel("now");
        }
        for _ in 0..100 {
            evenloop_executor::yield_now().await;
        }
        assert!(!task.done() && handle.returncode().is_none());
        (&open).write_all(b"\n").unwrap();
        assert!(task.await.is_err());
        assert_eq!(handle.returncode(), Some(0));
    });
}

#[test]
fn leave_means_leave() {
    on_loop(async {
        let (gate, open) = plain_pipe();
        let command =
            Command::new("cat").stdin(gate).stdout(PIPE).on_cancel(Ending::Leave).on_drop(Ending::Kill);
        let process = command.spawn().unwrap();
        let handle = process.handle();
        let scope = CancelScope::new();
        let task = create_task({
            let scope = scope.clone();
            async move { scope.run(process.complete(b"")).await.map(|_| ()) }
        });
        evenloop_executor::yield_now().await;
        scope.cancel("let it be");
        assert!(task.await.is_err());
        assert_eq!(handle.returncode(), None);
        drop(open);
        assert!(handle.wait().await.unwrap().success());
    });
}

#[test]
fn ending_the_group_leaves_nobody_behind() {
    on_loop(async {
        for ending in [Ending::Kill, Ending::terminate(Duration::from_secs(20))] {
            // The grandchild is deaf to SIGTERM, so it outlives its parent and is killed when that is reaped.
            let line = "(trap '' TERM; echo here; exec sleep 100) & echo $!; wait";
            let mut process = shell(line).stdout(PIPE).end_group().spawn().unwrap();
            let stdout = process.stdout.as_mut().unwrap();
            let both = [stdout.readline().await.unwrap(), stdout.readline().await.unwrap()].concat();
            let grandchild = String::from_utf8_lossy(&both).replace("here\n", "").trim().parse().unwrap();
            let status = process.end(ending).await.unwrap();
            assert!(status.signal().is_some(), "{status}");
            gone(grandchild).await;
        }
        let line = "sleep 100 & echo $!; wait";
        let mut process = shell(line).stdout(PIPE).end_group().on_drop(Ending::Kill).spawn().unwrap();
        let line = process.stdout.as_mut().unwrap().readline().await.unwrap();
        drop(process);
        gone(String::from_utf8_lossy(&line).trim().parse().unwrap()).await;
    });
}

#[test]
fn catching_code_may_end_a_child_in_its_own_way() {
    on_loop(async {
        let scope = CancelScope::new();
        let task = create_task({
            let scope = scope.clone();
            async move {
                let body = async {
                    let mut bc = Command::new("cat").stdin(PIPE).stdout(PIPE).spawn().unwrap();
                    if let Err(cancelled) = catch_cancel(bc.wait()).await {
                        bc.stdin.as_mut().unwrap().write(b"quit\n").unwrap();
                        assert_eq!(bc.communicate(b"").await.unwrap().stdout, b"quit\n");
                        cancelled.resume().await;
                    }
                };
                scope.run(body).await
            }
        });
        evenloop_executor::yield_now().await;
        scope.cancel("quit");
        assert!(task.await.is_err());
    });
}

// === Protocols ===

/// Notes what it is told.
#[derive(Default)]
struct Notes {
    told: RefCell<Vec<String>>,
    data: RefCell<[Vec<u8>; 2]>,
    transport: RefCell<Option<SubprocessTransport>>,
    panics: bool,
}

impl Notes {
    fn note(&self, what: impl Into<String>) {
        self.told.borrow_mut().push(what.into());
    }

    async fn is_lost(&self) {
        while !self.told.borrow().last().is_some_and(|last| last.starts_with("lost")) {
            evenloop_executor::yield_now().await;
        }
    }

    fn pipe(&self, fd: i32) -> Option<SubprocessPipe> {
        self.transport.borrow().as_ref().unwrap().pipe_transport(fd)
    }
}

impl SubprocessProtocol for Notes {
    fn connection_made(&self, transport: SubprocessTransport) {
        self.note("made");
        *self.transport.borrow_mut() = Some(transport);
    }

    fn pipe_data_received(&self, fd: i32, data: &[u8]) {
        assert!(!self.panics, "on purpose");
        assert!(!data.is_empty() && data.len() <= 64 * 1024);
        self.data.borrow_mut()[fd as usize - 1].extend_from_slice(data);
    }

    fn pipe_connection_lost(&self, fd: i32, error: Option<io::Error>) {
        assert!(error.is_none(), "{fd}: {error:?}");
        self.note(format!("pipe {fd}"));
    }

    fn process_exited(&self) {
        self.note("exited");
    }

    fn connection_lost(&self, error: Option<io::Error>) {
        self.note(error.map_or("lost".to_owned(), |error| format!("lost: {error}")));
    }

    fn pause_writing(&self) {
        self.note("pause");
    }

    fn resume_writing(&self) {
        self.note("resume");
    }
}

#[test]
fn a_protocol_is_told_of_data_pipes_and_the_end_which_comes_last() {
    on_loop(async {
        let (transport, notes) = subprocess_exec(Notes::default, shell("cat; echo err >&2; exit 3")).unwrap();
        let stdin = transport.pipe_transport(0).unwrap();
        stdin.write(b"in and ").unwrap();
        stdin.write(b"out").unwrap();
        stdin.write_eof();
        assert_eq!(stdin.write(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
        notes.is_lost().await;
        assert_eq!(*notes.data.borrow(), [b"in and out".to_vec(), b"err\n".to_vec()]);
        assert_eq!(transport.returncode(), Some(3));
        let mut told = notes.told.borrow().clone();
        assert_eq!((told.remove(0), told.pop()), ("made".to_owned(), Some("lost".to_owned())));
        told.sort();
        assert_eq!(told, ["exited", "pipe 0", "pipe 1", "pipe 2"]);
        assert!(transport.is_closing() && transport.pipe_transport(1).is_none());
    });
}

#[test]
fn a_protocol_pauses_and_resumes_both_ways() {
    on_loop(async {
        let (transport, notes) = subprocess_exec(Notes::default, Command::new("cat")).unwrap();
        let (stdin, stdout) = (transport.pipe_transport(0).unwrap(), transport.pipe_transport(1).unwrap());
        stdout.pause_reading();
        stdin.write(&vec![7; 1 << 20]).unwrap();
        assert_eq!(*notes.told.borrow(), ["made", "pause"], "inside the write");
        for _ in 0..200 {
            evenloop_executor::yield_now().await;
        }
        assert!(notes.data.borrow()[0].is_empty() && stdin.write_buffer_size() > 64 * 1024);
        stdout.resume_reading();
        while notes.told.borrow().len() < 3 {
            evenloop_executor::yield_now().await;
        }
        assert_eq!(notes.told.borrow()[2], "resume");
        stdin.close();
        notes.is_lost().await;
        assert_eq!(notes.data.borrow()[0].len(), 1 << 20);
    });
}

#[test]
fn closing_a_subprocess_transport_kills() {
    on_loop(async {
        let (transport, notes) = subprocess_exec(Notes::default, Command::new("cat")).unwrap();
        notes.pipe(0).unwrap().write(&vec![7; 1 << 20]).unwrap();
        transport.close();
        transport.close();
        notes.is_lost().await;
        assert_eq!(transport.returncode(), Some(-9));
        assert_eq!(notes.told.borrow().last().unwrap(), "lost");
    });
}

#[test]
fn a_protocol_that_panics_ends_its_own_child() {
    on_loop(async {
        let panics = || Notes { panics: true, ..Notes::default() };
        let (transport, notes) = subprocess_exec(panics, shell("echo; exec cat")).unwrap();
        let (other, calm) = subprocess_exec(Notes::default, Command::new("cat")).unwrap();
        notes.is_lost().await;
        assert_eq!(transport.returncode(), Some(-9));
        let last = notes.told.borrow().last().unwrap().clone();
        assert!(last.contains("`pipe_data_received` panicked") && last.contains("on purpose"), "{last}");
        assert_eq!(*calm.told.borrow(), ["made"]);
        calm.pipe(0).unwrap().write_eof();
        calm.is_lost().await;
        assert_eq!(other.returncode(), Some(0));
    });
}

#[test]
fn a_protocol_hears_of_the_end_of_its_loop() {
    let (notes, handle) = on_loop(async {
        let (transport, notes) = subprocess_exec(Notes::default, Command::new("cat")).unwrap();
        (notes, transport.handle())
    });
    assert_eq!(*notes.told.borrow(), ["made", "lost: the loop that served the child has ended"]);
    assert_eq!(futures::executor::block_on(handle.wait()).unwrap().signal(), Some(9));
}

// === Starting ===

#[test]
fn starting_off_the_loop_does_not_block_it() {
    on_loop(async {
        let mut start = Box::pin(Command::new("echo").arg("there").stdout(PIPE).spawn_off_loop());
        let mut process = start.as_mut().await.unwrap();
        assert_eq!(process.communicate(b"").await.unwrap().stdout, b"there\n");
        let error = Command::new("no-such-program").spawn_off_loop().await.unwrap_err();
        assert!(error.to_string().starts_with("starting `no-such-program`: "), "{error}");

        // Dropped while it is being made: killed, not left.
        let (gate, open) = plain_pipe();
        let told = tempfile::NamedTempFile::new().unwrap();
        let line = format!("echo $$ > {}; exec cat", told.path().display());
        let mut start = Box::pin(shell(&line).stdin(gate).stdout(DEVNULL).spawn_off_loop());
        drop(poll(&mut start, std::task::Waker::noop())); // begun; on another thread, so perhaps made already
        drop(start);
        drop(open);
    });
}

/// Each says what was to be started, and where.
#[test]
fn what_cannot_be_started_says_so_by_name() {
    fn check(command: Command, number: i32, kind: ErrorKind, text: &str) {
        let error = command.spawn().unwrap_err();
        assert_eq!((os_error(&error), error.kind()), (Some(number), kind), "{error}");
        assert!(error.to_string().starts_with(text), "{error}");
    }
    on_loop(async {
        check(Command::new("no-such-program"), 2, ErrorKind::NotFound, "starting `no-such-program`: ");
        check(Command::new("/"), 13, ErrorKind::PermissionDenied, "starting `/`: ");
        let nowhere = Command::new("true").current_dir("/nowhere");
        check(nowhere, 2, ErrorKind::NotFound, "starting `true` in /nowhere: ");
        check(
            Command::new("true").arg("x".repeat(1 << 20)),
            7,
            ErrorKind::ArgumentListTooLong,
            "starting `true`: ",
        );
        // The same after a fork.
        check(
            Command::new("no-such-program").umask(0),
            2,
            ErrorKind::NotFound,
            "starting `no-such-program`: ",
        );
        let error = Command::new("true").arg("a\0b").spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
    let error = Command::new("true").spawn().unwrap_err();
    assert!(error.to_string().contains("Command::spawn"), "{error}");
}

#[test]
fn without_descriptors_it_says_so_and_loses_none() {
    alone("without_descriptors_it_says_so_and_loses_none", &[], || {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        evenloop_tests::on_loop(async {
            warm_up().await;
            let (limits, used) = (getrlimit(Resource::Nofile), descriptors() as u64 - 1);
            let mut failed = 0;
            for more in 0..12 {
                setrlimit(Resource::Nofile, Rlimit { current: Some(used + more), maximum: limits.maximum })
                    .unwrap();
                let started = Command::new("cat").stdin(PIPE).stdout(PIPE).stderr(PIPE).spawn();
                setrlimit(Resource::Nofile, limits).unwrap();
                match started {
                    Ok(mut process) => assert!(process.communicate(b"").await.unwrap().status.success()),
                    Err(error) => {
                        failed += 1;
                        assert_eq!(os_error(&error), Some(24), "{error}");
                        assert!(error.to_string().starts_with("starting `cat`: "), "{error}");
                    }
                }
                assert_eq!(descriptors() as u64 - 1, used, "with room for {more}");
            }
            assert!((4..12).contains(&failed), "{failed} of 12 failed");
        });
        no_zombies_soon();
    });
}

#[test]
fn without_processes_it_says_so() {
    fn scene() {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        evenloop_tests::on_loop(async {
            let limits = getrlimit(Resource::Nproc);
            setrlimit(Resource::Nproc, Rlimit { current: Some(0), maximum: limits.maximum }).unwrap();
            let error = Command::new("true").spawn().unwrap_err();
            assert_eq!(os_error(&error), Some(11), "{error}");
            assert!(error.to_string().starts_with("starting `true`: "), "{error}");
        });
    }
    // The limit is not root's.
    let user: &[&str] = match rustix::process::geteuid().is_root() {
        true => &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
        false => &[],
    };
    alone("without_processes_it_says_so", user, scene);
}

// === Who else reaps ===

#[test]
fn ignored_sigchld_is_told() {
    alone("ignored_sigchld_is_told", &["env", "--ignore-signal=CHLD"], || {
        evenloop_tests::on_loop(async {
            warm_up().await;
            let before = descriptors();
            for _ in 0..10 {
                let process = Command::new("true").spawn().unwrap();
                let error = process.wait().await.unwrap_err();
                assert_eq!(os_error(&error), Some(10), "{error}");
                let text = error.to_string();
                assert!(
                    text.starts_with("waiting for `true` (process ") && text.contains("SIGCHLD"),
                    "{text}"
                );
                assert_eq!(process.returncode(), Some(255), "as asyncio says it");
                process.kill().unwrap();
                process.wait().await.unwrap_err();
            }
            assert_eq!(descriptors(), before);
            let error = Command::new("echo").output().await.unwrap_err();
            assert!(error.to_string().contains("`echo`"), "{error}");
        });
        assert_eq!(children(), (vec![], vec![]));
    });
}

#[test]
fn a_foreign_reaper_is_told() {
    alone("a_foreign_reaper_is_told", &[], || {
        evenloop_tests::on_loop(async {
            warm_up().await;
            let before = descriptors();
            let mut process = patient();
            let handle = process.handle();
            let waits = create_task(async move { handle.wait().await });
            evenloop_executor::yield_now().await;
            process.stdin = None;
            // Somebody who waits for all children, before the loop turns.
            while exists(process.pid()) {
                let _ = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
            }
            match waits.await {
                // A thread of ours may have been faster.
                Ok(status) => assert!(by_threads() && status.success()),
                Err(error) => {
                    assert!(error.to_string().contains("another part of this process"), "{error}");
                    assert_eq!((os_error(&error), process.returncode()), (Some(10), Some(255)));
                }
            }
            process.kill().unwrap();
            drop(process);
            assert_eq!(descriptors(), before);
        });
    });
}

/// tokio#2907, tokio-process#19: children that nobody waited for stayed zombies until the next was started.
#[test]
fn a_thousand_that_are_dropped_leave_no_zombie() {
    alone("a_thousand_that_are_dropped_leave_no_zombie", &[], || {
        evenloop_tests::on_loop(async {
            warm_up().await;
            for _ in 0..1000 {
                drop(Command::new("true").spawn().unwrap());
            }
        });
        no_zombies_soon();
        let since = Instant::now();
        while !children().1.is_empty() {
            assert!(since.elapsed() < Duration::from_secs(5));
        }
        no_zombies_soon();
    });
}

/// gh-114177: the loop closed right after a kill.
#[test]
fn a_loop_that_ends_with_children_leaves_no_zombie() {
    alone("a_loop_that_ends_with_children_leaves_no_zombie", &[], || {
        let (gate, open) = plain_pipe();
        let (mut kept, mut stay, mut killed) = (Vec::new(), Vec::new(), Vec::new());
        evenloop_tests::on_loop(async {
            for number in 0..10 {
                let command = Command::new("cat").stdin(gate.try_clone().unwrap()).stdout(DEVNULL);
                let ends = number % 2 == 0;
                let process =
                    command.on_drop(if ends { Ending::Kill } else { Ending::Leave }).spawn().unwrap();
                let handle = process.handle();
                match number % 4 {
                    0 => killed.push(handle),
                    1 => stay.push(handle),
                    2 => {
                        killed.push(handle);
                        // Its owner is a task that the end of the loop drops.
                        drop(create_task(async move { process.wait().await.map(|_| ()) }));
                        continue;
                    }
                    _ => {
                        stay.push(handle);
                        kept.push(process);
                        continue;
                    }
                }
                drop(process);
            }
            evenloop_executor::yield_now().await;
        });
        drop(gate);
        for handle in killed {
            assert_eq!(futures::executor::block_on(handle.wait()).unwrap().signal(), Some(9));
        }
        assert_eq!(children().1.len(), stay.len(), "the others run on");
        assert!(stay.iter().all(|handle| handle.returncode().is_none()));
        drop(open);
        for handle in stay {
            assert!(futures::executor::block_on(handle.wait()).unwrap().success());
        }
        drop(kept);
        no_zombies_soon();
        assert_eq!(children().1, []);
    });
}

/// In a container the first process is often a server: its own children are nobody else's to wait for.
#[test]
fn the_first_process_of_a_container_has_children() {
    if !rustix::process::geteuid().is_root() {
        return; // only root may make a namespace here
    }
    let wrapper = ["unshare", "--pid", "--fork", "--mount-proc"];
    alone("the_first_process_of_a_container_has_children", &wrapper, || {
        assert_eq!(std::process::id(), 1);
        evenloop_tests::on_loop(async {
            assert!(Command::new("true").status().await.unwrap().success());
            drop(patient());
            // An orphan that this process inherits is no child of ours to be taken for one.
            let output = shell("true & exec echo done").output().await.unwrap();
            assert_eq!(output.stdout, b"done\n");
            let process = patient();
            process.kill().unwrap();
            assert_eq!(process.wait().await.unwrap().signal(), Some(9));
        });
    });
}

// === Endurance ===

/// Many at once and many in a row, with random kills, drops and failed starts: no zombie and no descriptor is left.
///
/// A few in the quick run; `EVENLOOP_CHILDREN=20000` in the long one.
#[test]
fn many_children_leave_nothing_behind() {
    alone("many_children_leave_nothing_behind", &[], || {
        let many = std::env::var("EVENLOOP_CHILDREN").ok().and_then(|many| many.parse().ok()).unwrap_or(400);
        let at_once = many.min(1000) / 2;
        let mut random = fastrand::Rng::with_seed(9);
        let since = Instant::now();
        let (mut waited, mut dropped, mut failed) = (0, 0, 0);
        let event_loop = evenloop::new_event_loop();
        event_loop.run_until_complete(async {
            warm_up().await;
        });
        let before = descriptors();
        event_loop.run_until_complete(async {
            let all: Vec<_> = (0..at_once * 2)
                .map(|_| Command::new("cat").stdin(PIPE).stdout(DEVNULL).spawn().unwrap())
                .collect();
            for mut process in all {
                match random.u8(0..4) {
                    0 => process.stdin = None,
                    1 => process.kill().unwrap(),
                    _ => {
                        dropped += 1;
                        process.kill().unwrap();
                        continue;
                    }
                }
                process.wait().await.unwrap();
                waited += 1;
            }
            for _ in 0..many {
                let endings = [Ending::Leave, Ending::Kill, Ending::terminate(Duration::from_millis(5))];
                let command = match random.u8(0..10) {
                    0 => Command::new("no-such-program").stdin(PIPE).stdout(PIPE),
                    1..5 => Command::new("true").stdout(PIPE),
                    _ => Command::new("cat").stdin(PIPE).stdout(PIPE),
                };
                let Ok(mut process) = command.on_drop(endings[random.usize(0..3)]).spawn() else {
                    failed += 1;
                    continue;
                };
                match random.u8(0..5) {
                    0 => drop(process),
                    1 => {
                        process.kill().unwrap();
                        drop(process);
                    }
                    2 => {
                        process.kill().unwrap();
                        process.wait().await.unwrap();
                    }
                    3 => drop(process.communicate(b"some")),
                    _ => {
                        process.communicate(b"some").await.unwrap();
                    }
                }
            }
        });
        let children_left = || children() != (vec![], vec![]) || descriptors() > before;
        let patience = Instant::now();
        while children_left() {
            assert!(
                patience.elapsed() < Duration::from_secs(5),
                "{:?}, {} of {before}",
                children(),
                descriptors()
            );
            event_loop.run_until_complete(evenloop_executor::yield_now());
        }
        assert!(failed > 0 && dropped > 0 && waited > 0);
        println!(
            "{} at once, {many} in a row ({failed} not started) in {:.1?}",
            at_once * 2,
            since.elapsed()
        );
    });
}
