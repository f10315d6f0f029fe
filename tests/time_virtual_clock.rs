//! The virtual clock, as a user sees it.

use evenloop_core::{Park, ThreadPark};
use evenloop_tests::{Stage, Woken, poll};
use evenloop_time::{Clock, Driver, VirtualClock, interval, sleep, sleep_until, timeout};
use futures::future::join;
use futures::stream::{FuturesUnordered, StreamExt};
use std::cell::RefCell;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

static_assertions::assert_impl_all!(VirtualClock: Send, Sync, Clone, std::fmt::Debug);
static_assertions::assert_impl_all!(Clock: Send, Sync, Clone, std::fmt::Debug);

#[test]
fn twelve_hours_of_program_take_no_time_and_are_exact() {
    let real = Instant::now();
    let (mut stage, clock) = Stage::jumping();
    stage.block_on(async {
        for _ in 0..24 * 30 {
            sleep(5 * SECOND).await;
            sleep(55 * SECOND).await;
        }
    });
    assert_eq!(clock.elapsed(), 12 * HOUR);
    assert!(real.elapsed() < HOUR);
}

#[test]
fn time_stands_still_while_anything_can_run() {
    let (mut stage, clock) = Stage::jumping();
    let busy = async {
        for _ in 0..1000 {
            sleep(Duration::ZERO).await;
        }
        clock.elapsed()
    };
    let ((sleeper, busy), _) = stage.block_on(join(
        async {
            sleep(MS).await;
            clock.elapsed()
        },
        busy,
    ));
    assert_eq!((sleeper, busy), (MS, Duration::ZERO));
}

#[test]
fn a_wake_up_from_another_thread_comes_before_a_jump() {
    let (mut stage, clock) = Stage::jumping();
    let (send, receive) = futures::channel::oneshot::channel();
    let (outcome, _) = stage.block_on(timeout(HOUR, async {
        std::thread::spawn(move || send.send(clock.elapsed())).join().unwrap().unwrap();
        receive.await.unwrap()
    }));
    assert_eq!(outcome, Ok(Duration::ZERO));
}

#[test]
fn with_no_deadline_at_all_it_waits_for_other_threads() {
    let (mut stage, clock) = Stage::jumping();
    let (send, receive) = futures::channel::oneshot::channel();
    let other = std::thread::spawn(move || send.send(()));
    stage.block_on(receive).0.unwrap();
    other.join().unwrap().unwrap();
    assert_eq!(clock.elapsed(), Duration::ZERO);
}

#[test]
fn a_park_with_a_time_out_jumps_no_further() {
    let (mut stage, clock) = Stage::jumping();
    let mut nap = sleep(SECOND);
    assert!(poll(&mut nap, Waker::noop()).is_pending());
    stage.driver.park(Some(400 * MS)).unwrap();
    assert_eq!(clock.elapsed(), 400 * MS);
    stage.driver.park(Some(Duration::MAX)).unwrap();
    assert_eq!(clock.elapsed(), SECOND);
    assert!(poll(&mut nap, Waker::noop()).is_ready());
    stage.driver.park(Some(250 * MS)).unwrap(); // nothing is set: the time-out itself is met
    assert_eq!(clock.elapsed(), 1250 * MS);
}

/// The wheel's idea of the next deadline may be too early after removals; the clock must not show it.
#[test]
fn it_does_not_stop_at_deadlines_that_were_removed() {
    let (mut stage, clock) = Stage::jumping();
    let [mut gone, mut kept] = [sleep(500 * MS), sleep(510 * MS)];
    assert!(poll(&mut gone, Waker::noop()).is_pending());
    assert!(poll(&mut kept, Waker::noop()).is_pending());
    drop(gone);
    stage.driver.park(None).unwrap();
    assert_eq!(clock.elapsed(), 510 * MS);
    assert!(poll(&mut kept, Waker::noop()).is_ready());
}

#[test]
fn moved_by_hand_it_wakes_in_order_and_in_one_step() {
    let (_stage, clock) = Stage::paused();
    let woken = RefCell::new(Vec::new());
    let sleepers = [30, 10, 20, 40].map(|ms| {
        let (woken, clock) = (&woken, &clock);
        async move {
            sleep(ms * MS).await;
            woken.borrow_mut().push((ms, clock.elapsed()));
        }
    });
    let mut all = sleepers.into_iter().collect::<FuturesUnordered<_>>().collect::<()>();
    assert!(poll(&mut all, Waker::noop()).is_pending());
    clock.advance(30 * MS);
    assert!(poll(&mut all, Waker::noop()).is_pending());
    assert_eq!(*woken.borrow(), [(10, 30 * MS), (20, 30 * MS), (30, 30 * MS)]);
    clock.advance(10 * MS);
    assert!(poll(&mut all, Waker::noop()).is_ready());
}

#[test]
fn a_paused_clock_does_not_jump() {
    let (mut stage, clock) = Stage::paused();
    let (woken, waker) = Woken::waker();
    let mut nap = sleep(MS);
    assert!(poll(&mut nap, &waker).is_pending());
    stage.driver.park(Some(Duration::ZERO)).unwrap();
    stage.driver.park(Some(Duration::from_nanos(1))).unwrap();
    assert_eq!((woken.times(), clock.elapsed()), (0, Duration::ZERO));
}

#[test]
fn moving_it_from_another_thread_ends_a_park() {
    let (mut stage, clock) = Stage::paused();
    let (inserted, parked) = futures::channel::oneshot::channel();
    let mover = std::thread::spawn(move || {
        futures::executor::block_on(parked).unwrap();
        clock.advance(HOUR);
    });
    stage.block_on(async {
        let mut nap = sleep(HOUR);
        assert!(futures::poll!(&mut nap).is_pending());
        inserted.send(()).unwrap();
        nap.await;
    });
    mover.join().unwrap();
}

#[test]
fn blocking_through_the_clock_moves_it_and_makes_others_late() {
    let (mut stage, clock) = Stage::jumping();
    let late = |length| async move {
        sleep(length).await;
    };
    stage.block_on(join(join(late(SECOND), late(2 * SECOND)), async {
        Clock::from(clock.clone()).sleep_blocking(3 * SECOND)
    }));
    assert_eq!(clock.elapsed(), 3 * SECOND);
    let start = Instant::now();
    Clock::Real.sleep_blocking(MS);
    assert!(start.elapsed() >= MS);
}

#[test]
fn it_can_move_further_than_any_program_lives() {
    let (mut stage, clock) = Stage::jumping();
    let mut nap = sleep(10 * 365 * 24 * HOUR);
    assert!(poll(&mut nap, Waker::noop()).is_pending());
    clock.advance(10 * 365 * 24 * HOUR);
    assert!(poll(&mut nap, Waker::noop()).is_ready());
    clock.advance(Duration::MAX);
    for _ in 0..5 {
        stage.block_on(sleep(Duration::MAX));
    }
    assert!(clock.elapsed() > 180 * 365 * 24 * HOUR);
    stage.block_on(sleep(MS));
}

/// What a program with every kind of timer sees, in the order in which it sees it.
fn trace() -> String {
    let (mut stage, clock) = Stage::jumping();
    let trace = RefCell::new(String::new());
    let note = |what: &str| {
        use std::fmt::Write;
        writeln!(trace.borrow_mut(), "{:?} {what}", clock.elapsed()).unwrap();
    };
    let mut random = fastrand_like(42);
    let jobs = FuturesUnordered::new();
    for job in 0..50 {
        let lengths = [random(), random(), random()];
        let note = &note;
        jobs.push(async move {
            for length in lengths {
                match timeout(
                    Duration::from_micros(length % 40_000),
                    sleep(Duration::from_micros(length % 50_000)),
                )
                .await
                {
                    Ok(()) => note(&format!("{job} slept")),
                    Err(_) => note(&format!("{job} was stopped")),
                }
            }
        });
    }
    stage.block_on(async {
        let mut beat = interval(5 * MS);
        let mut jobs = std::pin::pin!(jobs.collect::<()>());
        loop {
            let tick = std::pin::pin!(beat.tick());
            match futures::future::select(jobs.as_mut(), tick).await {
                futures::future::Either::Left(_) => break,
                futures::future::Either::Right(_) => note("tick"),
            }
        }
    });
    trace.into_inner()
}

/// Numbers that look random and are the same every time.
fn fastrand_like(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    }
}

#[test]
fn a_hundred_runs_are_the_same_to_the_letter() {
    let first = trace();
    assert!(first.lines().count() > 150 && first.contains("tick") && first.contains("stopped"));
    for _ in 0..100 {
        assert_eq!(trace(), first);
    }
}

#[test]
fn it_drives_one_loop_at_a_time() {
    let clock = VirtualClock::new();
    let first = Driver::new(ThreadPark::new(), clock.clone().into());
    let second = catch_unwind(AssertUnwindSafe(|| Driver::new(ThreadPark::new(), clock.clone().into())));
    let message = *second.expect_err("it panics").downcast::<&str>().unwrap();
    assert!(message.starts_with("a virtual clock drives one loop at a time"), "{message}");
    let kept = first.timers();
    drop(first);
    let mut next = Stage::new(clock.clone());
    next.block_on(sleep(SECOND));
    assert_eq!((clock.elapsed(), kept.has_ended()), (SECOND, true));
}

#[test]
fn it_shows_itself() {
    let (stage, clock) = Stage::paused();
    clock.advance(1500 * MS);
    assert_eq!(format!("{clock:?}"), "VirtualClock [paused, elapsed: 1.5s]");
    assert_eq!(
        format!("{:?}", stage.driver),
        "Driver [Timers [pending: 0], clock: Virtual(VirtualClock [paused, elapsed: 1.5s])]"
    );
}

#[test]
fn a_deadline_that_no_jump_can_reach_is_no_reason_to_spin() {
    let (mut stage, clock) = Stage::jumping();
    let mut last = clock.now();
    for bit in (0..63).rev() {
        last = last.checked_add(Duration::from_secs(1 << bit)).unwrap_or(last);
    }
    last = last.checked_add(Duration::from_nanos(999_999_999)).unwrap_or(last);
    let (send, receive) = futures::channel::oneshot::channel();
    let other = std::thread::spawn(move || send.send(()));
    let (outcome, polls) = stage.block_on(futures::future::select(sleep_until(last), receive));
    other.join().unwrap().unwrap();
    assert!(matches!(outcome, futures::future::Either::Right(_)), "no jump to the end of time");
    assert!(polls <= 2);
    drop(outcome);
    assert!(poll(&mut Box::pin(timeout(MS, pending::<()>())), Waker::noop()) == Poll::Pending);
}
