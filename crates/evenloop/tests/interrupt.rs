//! Ctrl-C, in a process of its own: sent to an example, or by a test to itself.

mod support;

use evenloop::cancel::catch_cancel;
use evenloop::{EventLoop, Interrupted, Runner, call_later, ctrl_c, gather_all, yield_now};
use std::future::{Future as _, pending, poll_fn};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::pin::Pin;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// Starts an example, and waits for its first line.
fn start(name: &str) -> (Child, BufReader<ChildStdout>) {
    let program = support::program(name);
    let child = Command::new(&program).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut String::new()).unwrap();
    (child, output)
}

/// Sends SIGINT, and waits for the end. Answers the status and what was printed on standard error.
fn interrupt(mut child: Child) -> (ExitStatus, String) {
    let killed = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().unwrap();
    assert!(killed.success());
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    (child.wait().unwrap(), errors)
}

#[test]
fn ctrl_c_cancels_main_and_ends_the_program_with_status_130() {
    let (child, _output) = start("periodic");
    let (status, errors) = interrupt(child);
    assert_eq!(status.code(), Some(130));
    assert_eq!(errors, "interrupted\n");
}

const SIGINT: i32 = 2;
const CHILD: &str = "EVENLOOP_TEST_IS_CHILD";

/// Runs `body` in a process of its own, that of the test `name` once more; answers how it ended. `None`: this is it.
fn alone(name: &str, body: impl FnOnce()) -> Option<(ExitStatus, String)> {
    if std::env::var_os(CHILD).is_some() {
        body();
        return None;
    }
    // A shell that runs us in the background has SIGINT ignored, which children inherit.
    let mut again = Command::new("env");
    again.arg("--default-signal=INT").arg(std::env::current_exe().unwrap());
    let output = again.args([name, "--exact", "--nocapture"]).env(CHILD, "1").output().unwrap();
    Some((output.status, String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Sends SIGINT to this process.
fn interrupt_myself() {
    assert!(Command::new("sh").args(["-c", "kill -INT $PPID"]).status().unwrap().success());
}

#[test]
fn a_runner_is_told_of_ctrl_c_and_goes_on() {
    let ended = alone("a_runner_is_told_of_ctrl_c_and_goes_on", || {
        let runner = Runner::new();
        for _ in 0..2 {
            let interrupted = runner.run(async {
                interrupt_myself();
                pending::<()>().await;
            });
            assert_eq!(interrupted, Err(Interrupted));
            assert_eq!(runner.run(async { 1 }), Ok(1));
        }
    });
    if let Some((status, errors)) = ended {
        assert!(status.success(), "{errors}");
    }
}

#[test]
fn a_waker_that_panics_keeps_no_listener_from_this_or_the_next_ctrl_c() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("as a waker must not");
        }
    }
    let ended = alone("a_waker_that_panics_keeps_no_listener_from_this_or_the_next_ctrl_c", || {
        for _ in 0..2 {
            // More than are told at once, so that some of them come after the panic.
            let mut panics = ctrl_c().unwrap();
            let mut others: Vec<_> = (0..100).map(|_| ctrl_c().unwrap()).collect();
            let waker = Waker::from(Arc::new(Panics));
            assert!(Pin::new(&mut panics).poll(&mut Context::from_waker(&waker)).is_pending());
            // A `run` would listen, too.
            EventLoop::new().run_until_complete(async {
                let first = poll_fn(|cx| {
                    let _pending: Vec<_> = others.iter_mut().map(|it| Pin::new(it).poll(cx)).collect();
                    Poll::Ready(())
                });
                first.await;
                interrupt_myself();
                gather_all(others).await;
            });
        }
    });
    if let Some((status, errors)) = ended {
        assert!(status.success(), "{errors}");
        assert_eq!(errors.matches("a waker panicked: as a waker must not").count(), 2, "{errors}");
    }
}

#[test]
fn what_a_main_gives_that_catches_ctrl_c_is_given() {
    let ended = alone("what_a_main_gives_that_catches_ctrl_c_is_given", || {
        let runner = Runner::new();
        let given = runner.run(async {
            interrupt_myself();
            let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
            assert_eq!(cancelled.reason().text(), Some("interrupted by Ctrl-C"));
            cancelled.absorb();
            yield_now().await;
            7
        });
        assert_eq!(given, Ok(7));
    });
    if let Some((status, errors)) = ended {
        assert!(status.success(), "{errors}");
    }
}

#[test]
fn a_second_ctrl_c_ends_a_process_whose_main_does_not_end() {
    let ended = alone("a_second_ctrl_c_ends_a_process_whose_main_does_not_end", || {
        let never = Runner::new().run(async {
            interrupt_myself();
            let _unanswered = catch_cancel(pending::<()>()).await;
            call_later(Duration::from_secs(60), || std::process::exit(3)); // it did not
            interrupt_myself();
            pending::<()>().await;
        });
        unreachable!("{never:?}");
    });
    if let Some((status, errors)) = ended {
        assert_eq!(status.signal(), Some(SIGINT), "{status}: {errors}");
    }
}

#[test]
fn a_runner_that_ignores_ctrl_c_leaves_it_to_the_system() {
    let ended = alone("a_runner_that_ignores_ctrl_c_leaves_it_to_the_system", || {
        let given = Runner::new().ignore_ctrl_c().run(async {
            interrupt_myself();
            call_later(Duration::from_secs(60), || std::process::exit(3)); // it did not
            pending::<()>().await;
        });
        unreachable!("{given:?}");
    });
    if let Some((status, errors)) = ended {
        assert_eq!(status.signal(), Some(SIGINT), "{status}: {errors}");
    }
}
