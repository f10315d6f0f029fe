//! `timeout` and `timeout_at`, as a user sees them.

use evenloop::{create_task, yield_now};
use evenloop_core::cancel::catch_cancel;
use evenloop_tests::{Stage, Woken, on_virtual_clock, poll};
use evenloop_time::{Elapsed, Timeout, now, sleep, timeout, timeout_at, timeout_at_on, timeout_on};
use std::cell::{Cell, RefCell};
use std::future::{Ready, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

static_assertions::assert_impl_all!(Timeout<Ready<()>>: Send, Sync, Unpin, std::fmt::Debug);

#[test]
fn a_value_in_time_is_given_and_takes_the_timer_out() {
    let (mut stage, clock) = Stage::jumping();
    let value = stage.block_on(timeout(SECOND, async {
        sleep(3 * MS).await;
        7
    }));
    assert_eq!(value.0, Ok(7));
    assert_eq!((clock.elapsed(), stage.timers().pending()), (3 * MS, 0));
}

#[test]
fn the_deadline_ends_it_exactly_and_drops_the_future_first() {
    struct Tells(Rc<Cell<bool>>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let (mut stage, clock) = Stage::jumping();
    let dropped = Rc::new(Cell::new(false));
    let tells = Tells(dropped.clone());
    stage.block_on(async {
        let mut limited = pin!(timeout(20 * MS, async move {
            let _tells = tells;
            pending::<()>().await
        }));
        assert_eq!(format!("{limited:?}"), "Timeout [new]");
        assert_eq!(limited.as_mut().await, Err(Elapsed));
        assert!(dropped.get() && limited.expired());
        assert_eq!(format!("{limited:?}"), "Timeout [expired]");
    });
    assert_eq!(clock.elapsed(), 20 * MS);
}

#[test]
fn code_without_await_never_times_out() {
    let (mut stage, clock) = Stage::jumping();
    let past = clock.now();
    clock.advance(SECOND);
    assert_eq!(stage.block_on(timeout(Duration::ZERO, ready(1))), (Ok(1), 1));
    assert_eq!(stage.block_on(timeout_at(past, ready(2))), (Ok(2), 1));
    assert_eq!(stage.block_on(timeout(SECOND, async { clock.advance(2 * SECOND) })).0, Ok(()));
    let needs_no_runtime =
        std::thread::spawn(|| poll(&mut timeout(SECOND, ready(3)), std::task::Waker::noop()));
    assert_eq!(needs_no_runtime.join().unwrap(), Poll::Ready(Ok(3)));
}

#[test]
fn a_deadline_that_has_passed_ends_what_waits_in_the_next_turn() {
    let (mut stage, clock) = Stage::jumping();
    let past = clock.now();
    clock.advance(SECOND);
    assert_eq!(stage.block_on(timeout(Duration::ZERO, pending::<()>())), (Err(Elapsed), 3));
    assert_eq!(stage.block_on(timeout_at(past, sleep(SECOND))), (Err(Elapsed), 3));
    assert_eq!(clock.elapsed(), SECOND);
}

#[test]
fn what_is_ready_when_the_deadline_is_met_is_given() {
    let (stage, clock) = Stage::paused();
    let waker = std::task::Waker::noop();
    let (mut bare, mut caught) =
        (timeout(10 * MS, sleep(20 * MS)), timeout(10 * MS, catch_cancel(sleep(20 * MS))));
    let mut nested = timeout(10 * MS, timeout(20 * MS, sleep(15 * MS)));
    assert!(poll(&mut bare, waker).is_pending());
    assert!(poll(&mut caught, waker).is_pending());
    assert!(poll(&mut nested, waker).is_pending());
    clock.advance(SECOND);
    assert_eq!((poll(&mut bare, waker), bare.expired()), (Poll::Ready(Ok(())), false));
    assert!(matches!(poll(&mut caught, waker), Poll::Ready(Ok(Ok(())))));
    assert_eq!(poll(&mut nested, waker), Poll::Ready(Ok(Ok(()))));
    assert_eq!(stage.timers().pending(), 0);
}

#[test]
fn what_is_not_ready_then_has_no_second_chance() {
    let (_stage, clock) = Stage::paused();
    let (woken, waker) = Woken::waker();
    let polls = Cell::new(0);
    let mut limited = timeout(
        MS,
        poll_fn(|_| {
            polls.set(polls.get() + 1);
            if polls.get() < 3 { Poll::Pending } else { Poll::Ready(()) }
        }),
    );
    assert!(poll(&mut limited, &waker).is_pending());
    clock.advance(MS);
    assert_eq!((poll(&mut limited, &waker), limited.expired()), (Poll::Pending, true));
    assert_eq!(woken.times(), 2, "by its timer, and by itself");
    assert_eq!((poll(&mut limited, &waker), polls.get()), (Poll::Ready(Err(Elapsed)), 2));
}

#[test]
fn a_future_that_is_always_woken_cannot_run_past_the_deadline() {
    let (mut stage, clock) = Stage::jumping();
    let busy = poll_fn(|cx| {
        clock.advance(MS);
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    });
    let (outcome, polls) = stage.block_on(timeout(10 * MS, busy));
    assert_eq!((outcome, polls), (Err(Elapsed), 11));
}

#[test]
fn the_deadline_can_be_moved_or_taken_away() {
    let (stage, clock) = Stage::paused();
    let (woken, waker) = Woken::waker();
    let start = clock.now();
    let mut limited = pin!(timeout(10 * MS, pending::<()>()));
    let mut cx = std::task::Context::from_waker(&waker);
    assert_eq!(limited.when(), Some(start + 10 * MS));
    assert!(limited.as_mut().poll(&mut cx).is_pending());

    limited.as_mut().reschedule(start + 20 * MS);
    clock.advance(19 * MS);
    assert_eq!(woken.times(), 0);
    limited.as_mut().reschedule(None);
    assert_eq!(limited.when(), None);
    clock.advance(SECOND);
    assert_eq!((woken.times(), stage.timers().pending()), (1, 0), "to wait without a timer from now on");
    assert!(limited.as_mut().poll(&mut cx).is_pending());
    assert_eq!((format!("{limited:?}").as_str(), limited.expired()), ("Timeout [waiting]", false));

    limited.as_mut().reschedule(clock.now() + 5 * MS);
    assert_eq!(woken.times(), 2, "to set one again");
    assert!(limited.as_mut().poll(&mut cx).is_pending());
    limited.as_mut().reschedule(clock.now() + MS);
    clock.advance(MS);
    assert_eq!(woken.times(), 3);
    assert!(limited.as_mut().poll(&mut cx).is_pending());
    assert_eq!(limited.as_mut().poll(&mut cx), Poll::Ready(Err(Elapsed)));
    assert!(limited.expired());
}

/// One task waits, another one moves the deadline, which hung.
#[test]
fn a_deadline_that_was_taken_away_or_never_was_can_be_given_again() {
    for (first, pauses) in [(Some(5), false), (Some(5), true), (None, false), (None, true)] {
        let (ended, took) = on_virtual_clock(async {
            let start = now();
            let first = first.map(|seconds| start + seconds * SECOND);
            let limited = Rc::new(RefCell::new(Box::pin(timeout_at(first, pending::<()>()))));
            let waits = limited.clone();
            let waits = create_task(poll_fn(move |cx| waits.borrow_mut().as_mut().poll(cx)));
            sleep(SECOND).await;
            for deadline in [None, None, Some(start + 4 * SECOND), None, Some(start + 3 * SECOND)] {
                limited.borrow_mut().as_mut().reschedule(deadline);
                if pauses {
                    yield_now().await;
                    yield_now().await;
                }
            }
            timeout(3600 * SECOND, waits).await
        });
        assert_eq!((ended, took), (Ok(Err(Elapsed)), 3 * SECOND), "{first:?}, {pauses}");
    }
}

/// Nothing of the task that waited stays behind.
#[test]
fn one_that_waited_without_a_limit_keeps_no_waker_after_its_end() {
    let (woken, waker) = Woken::waker();
    let ready = Cell::new(false);
    let mut limited =
        timeout_at(None, poll_fn(|_| if ready.get() { Poll::Ready(()) } else { Poll::Pending }));
    assert_eq!(format!("{limited:?}"), "Timeout [new]");
    for _ in 0..3 {
        assert!(poll(&mut limited, &waker).is_pending());
    }
    assert_eq!((format!("{limited:?}").as_str(), Arc::strong_count(&woken)), ("Timeout [waiting]", 3));
    ready.set(true);
    assert!(poll(&mut limited, &waker).is_ready());
    assert_eq!((Arc::strong_count(&woken), woken.times()), (2, 0));
}

#[test]
fn the_inner_of_two_ends_first_and_the_outer_gives_its_value() {
    let (mut stage, clock) = Stage::jumping();
    let nested = timeout(20 * MS, timeout(10 * MS, pending::<()>()));
    assert_eq!(stage.block_on(nested).0, Ok(Err(Elapsed)));
    assert_eq!((clock.elapsed(), stage.timers().pending()), (10 * MS, 0));
    let nested = timeout(10 * MS, timeout(20 * MS, pending::<()>()));
    assert_eq!(stage.block_on(nested).0, Err(Elapsed));
    assert_eq!((clock.elapsed(), stage.timers().pending()), (20 * MS, 0));
}

#[test]
fn without_a_limit_it_takes_as_long_as_it_takes() {
    let (mut stage, clock) = Stage::jumping();
    assert_eq!(stage.block_on(timeout_at(None, sleep(3600 * SECOND))).0, Ok(()));
    assert_eq!(stage.block_on(timeout(Duration::MAX, sleep(SECOND))).0, Ok(()));
    assert_eq!(clock.elapsed(), 3601 * SECOND);
}

#[test]
fn a_runtime_can_be_given() {
    let (stage, clock) = Stage::paused();
    let (runtime, now) = (stage.runtime.clone(), clock.now());
    let set = std::thread::spawn(move || {
        let mut limits = (
            Box::pin(timeout_on(&runtime, MS, pending::<()>())),
            Box::pin(timeout_at_on(&runtime, now + MS, pending::<()>())),
        );
        assert!(poll(&mut limits.0, std::task::Waker::noop()).is_pending());
        assert!(poll(&mut limits.1, std::task::Waker::noop()).is_pending());
        limits
    });
    let mut limits = set.join().unwrap();
    clock.advance(MS);
    assert!(poll(&mut limits.0, std::task::Waker::noop()).is_pending() && limits.0.expired());
    assert_eq!(poll(&mut limits.0, std::task::Waker::noop()), Poll::Ready(Err(Elapsed)));
    assert!(poll(&mut limits.1, std::task::Waker::noop()).is_pending() && limits.1.expired());
    assert_eq!(poll(&mut limits.1, std::task::Waker::noop()), Poll::Ready(Err(Elapsed)));
}

#[test]
fn made_without_a_runtime_it_counts_from_its_first_poll() {
    let limited = timeout(10 * MS, pending::<()>());
    assert_eq!(limited.when(), None);
    let (mut stage, clock) = Stage::jumping();
    clock.advance(SECOND);
    assert_eq!(stage.block_on(limited).0, Err(Elapsed));
    assert_eq!(clock.elapsed(), SECOND + 10 * MS);
}

#[test]
fn having_to_wait_without_a_runtime_names_the_call() {
    let panic = catch_unwind(|| poll(&mut Box::pin(timeout(MS, pending::<()>())), std::task::Waker::noop()));
    let panic = panic.expect_err("it panics");
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.starts_with("`timeout` needs timers, and this thread has no runtime: "), "{message}");
}

#[test]
fn a_destructor_that_panics_at_the_deadline_leaves_no_timer() {
    struct Wild;
    impl Drop for Wild {
        fn drop(&mut self) {
            panic!("a destructor that panics");
        }
    }
    let (mut stage, _clock) = Stage::jumping();
    let wild = async {
        let _wild = Wild;
        pending::<()>().await
    };
    catch_unwind(AssertUnwindSafe(|| stage.block_on(timeout(MS, wild)))).expect_err("the panic goes on");
    assert_eq!(stage.timers().pending(), 0);
    assert_eq!(stage.block_on(timeout(MS, sleep(SECOND))).0, Err(Elapsed));
}

#[test]
fn it_is_an_io_error_of_kind_timed_out() {
    let error = std::io::Error::from(Elapsed);
    assert_eq!((error.kind(), error.to_string()), (std::io::ErrorKind::TimedOut, Elapsed.to_string()));
}
