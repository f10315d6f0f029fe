//! How children end, and who is told.

use super::*;

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
