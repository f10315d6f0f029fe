//! System calls for a sleep, counted by strace: one, the wait itself. What happens on the loop's own thread makes none, and
//! a loop that comes and goes makes those of its reactor alone.
//!
//! The one file about time that sleeps for real: the kernel is what is watched.

use evenloop_tests::on_loop;
use evenloop_tests::syscalls::{per_round, rounds};
use evenloop_time::sleep;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// All calls of one round together.
fn calls(test: &str, few: usize, many: usize) -> Option<f64> {
    let calls = per_round(test, few, many)?;
    println!("system calls a round: {calls:?}");
    Some(calls.values().sum())
}

#[test]
fn a_sleep_of_a_millisecond_makes_one_system_call() {
    let Some(rounds) = rounds() else {
        let Some(calls) = calls("a_sleep_of_a_millisecond_makes_one_system_call", 20, 220) else { return };
        assert!((0.95..=1.05).contains(&calls), "{calls} system calls a sleep");
        return;
    };
    on_loop(async {
        for _ in 0..rounds {
            sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_wake_and_a_timer_of_the_loops_own_thread_make_none() {
    let Some(rounds) = rounds() else {
        let Some(calls) = calls("a_wake_and_a_timer_of_the_loops_own_thread_make_none", 1_000, 11_000) else {
            return;
        };
        // A look at the kernel in every 128 polls.
        assert!(calls <= 1.0 / 100.0, "{calls} system calls a round");
        return;
    };
    on_loop(async {
        for _ in 0..rounds {
            let mut timer = pin!(sleep(Duration::from_secs(3600)));
            let mut woken = false;
            poll_fn(|cx| {
                assert!(timer.as_mut().poll(cx).is_pending());
                if std::mem::replace(&mut woken, true) {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
    });
}

#[test]
fn a_loop_opens_its_reactor_and_reads_no_files() {
    let Some(rounds) = rounds() else {
        let Some(calls) = per_round("a_loop_opens_its_reactor_and_reads_no_files", 10, 310) else { return };
        // `fcntl` copies a descriptor; without optimisation it also checks each that is closed.
        let reactors = ["close", "epoll_create1", "epoll_ctl", "eventfd2", "fcntl"];
        assert!(calls.keys().eq(reactors), "system calls a loop: {calls:?}");
        return;
    };
    for _ in 0..rounds {
        on_loop(std::future::ready(()));
    }
}
