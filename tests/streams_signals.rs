//! Signals, as streams and as handlers. What ends a process happens in a process of its own.

use evenloop_streams::signal::{SignalKind, add_signal_handler, signal};
use evenloop_tests::{Log, on_loop, raise, until};
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

/// The task of the handler died of the panic, nobody listened then, and the next signal killed the process.
#[test]
fn a_handler_that_panics_is_reported_and_stays() {
    ends_well("a_handler_that_panics_is_reported_and_stays", || {
        let reports = Log::default();
        let said = reports.clone();
        let event_loop = evenloop::new_event_loop();
        event_loop.set_unhandled_hook(move |unhandled| said.add(unhandled));
        event_loop.run_until_complete(async {
            let calls = Rc::new(Cell::new(0));
            let counts = calls.clone();
            let _handler = add_signal_handler(SignalKind::USER_1, move || {
                counts.set(counts.get() + 1);
                assert!(counts.get() > 1, "once");
            })
            .unwrap();
            for called in 1..=2 {
                raise(Signal::USR1);
                until(|| calls.get() == called).await;
            }
        });
        let said = reports.take();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].contains("the callback of `add_signal_handler` panicked, and stays: once"),
            "{said:?}"
        );
    });
}

#[test]
fn two_handlers_of_a_signal_are_both_called() {
    on_loop(async {
        let calls = Log::default();
        let [one, other] = ["one", "other"].map(|name| {
            let calls = calls.clone();
            add_signal_handler(SignalKind::CHILD, move || calls.add(name)).unwrap()
        });
        raise(Signal::CHILD);
        until(|| calls.has("one") && calls.has("other")).await;
        drop((one, other));
    });
}

/// Under `nohup` the next SIGHUP killed, once somebody had listened.
#[test]
fn a_signal_that_was_ignored_is_ignored_again() {
    const SHELL: &str = "trap '' HUP; exec \"$0\" --exact a_signal_that_was_ignored_is_ignored_again";
    if std::env::var_os(CHILD).is_some() {
        return on_loop(async {
            let mut hangup = signal(SignalKind::HANGUP).unwrap();
            raise(Signal::HUP);
            hangup.recv().await.unwrap();
            drop(hangup);
            raise(Signal::HUP);
        });
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", SHELL]).arg(std::env::current_exe().unwrap()).env(CHILD, "1").stdout(Stdio::null());
    let status = shell.status().unwrap();
    assert!(status.success(), "{status}");
}

const CHILD: &str = "EVENLOOP_TEST_IS_CHILD";

/// Runs the test of that name in a process of its own, which has to live.
fn ends_well(test: &str, body: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some() {
        return body();
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .status();
    let status = child.unwrap();
    assert!(status.success(), "{status}");
}
