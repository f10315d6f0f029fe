//! Signals, as streams and as handlers. What ends a process happens in a process of its own.

use evenloop_streams::signal::{SignalKind, add_signal_handler, signal};
use evenloop_tests::{on_loop, raise};
use futures::{StreamExt, future, poll};
use rustix::process::Signal;
use std::cell::Cell;
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::rc::Rc;

#[test]
fn every_listener_hears_a_signal_and_several_become_one() {
    on_loop(async {
        let mut one = signal(SignalKind::USER_1).unwrap();
        let mut other = signal(SignalKind::USER_1).unwrap();
        assert!(poll!(pin!(one.recv())).is_pending());
        raise(Signal::USR1);
        raise(Signal::USR1);
        let heard = future::join(one.recv(), other.next()).await;
        assert!(heard.0.is_ok() && heard.1.is_some());
        assert_eq!(format!("{one:?}"), "Signal [SIGUSR1]");
        drop(one);
        raise(Signal::USR1);
        other.recv().await.unwrap();
    });
}

#[test]
fn a_handler_runs_on_the_loop_until_it_is_removed() {
    on_loop(async {
        let calls = Rc::new(Cell::new(0));
        let counts = calls.clone();
        let handler = add_signal_handler(SignalKind::USER_2, move || counts.set(counts.get() + 1)).unwrap();
        let mut also = signal(SignalKind::USER_2).unwrap();
        for called in 1..=3 {
            raise(Signal::USR2);
            also.recv().await.unwrap();
            while calls.get() < called {
                evenloop_executor::yield_now().await;
            }
        }
        drop(handler);
        raise(Signal::USR2);
        also.recv().await.unwrap();
        evenloop_executor::yield_now().await;
        assert_eq!(calls.get(), 3);
        assert_eq!(Rc::strong_count(&calls), 1, "the handler is gone");
    });
}

#[test]
fn what_cannot_be_caught_is_refused() {
    on_loop(async {
        let error = signal(SignalKind::from_raw(9)).unwrap_err();
        assert!(error.to_string().contains("SIGKILL cannot be listened to"), "{error}");
    });
}

#[test]
fn a_signal_that_nobody_listens_to_any_more_does_what_it_always_did() {
    const CHILD: &str = "EVENLOOP_TEST_IS_CHILD";
    if std::env::var_os(CHILD).is_some() {
        on_loop(async {
            let mut terminate = signal(SignalKind::TERMINATE).unwrap();
            raise(Signal::TERM);
            terminate.recv().await.unwrap(); // survived
            drop(terminate);
            raise(Signal::TERM);
        });
        unreachable!("the second signal ends the process");
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_signal_that_nobody_listens_to_any_more_does_what_it_always_did"])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.signal(), Some(15), "{status}");
}
