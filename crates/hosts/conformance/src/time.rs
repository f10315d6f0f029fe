//! Sleeping, timing out and ticking.

use crate::Host;
use crate::together::{Shared, spawn, until};
use evenloop_core::Runtime;
use evenloop_core::shim::StdArc;
use evenloop_time::{Clock, Elapsed, VirtualClock, interval, sleep, sleep_on, sleep_until, timeout};
use futures_util::future::{join_all, join3};
use futures_util::poll;
use std::future::{Future, pending, ready};
use std::task::{Context, Wake};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Runs `main` with a clock that it moves by hand.
fn by_hand<H: Host, F: Future<Output = ()> + Send + 'static>(main: impl FnOnce(VirtualClock) -> F) {
    let clock = VirtualClock::paused();
    H::run(clock.clone().into(), main(clock));
}

/// On the host's own time: 2 ms are at least that.
pub fn a_sleep_is_never_early<H: Host>() {
    H::run(Clock::Real, async {
        for length in [Duration::from_nanos(1), Duration::from_micros(999), 2 * MS] {
            let start = Instant::now();
            sleep(length).await;
            assert!(start.elapsed() >= length);
        }
    });
}

/// A task that only yields does not keep another from running.
pub fn a_sleep_of_zero_lets_others_run<H: Host>() {
    H::run(Clock::Real, async {
        let stop = Shared::default();
        let other = spawn({
            let stop = stop.clone();
            async move { stop.set(1) }
        });
        until(|| stop.get() == 1).await;
        other.await;
    });
}

/// Three at once take as long as the longest.
pub fn sleeps_run_at_the_same_time<H: Host>() {
    by_hand::<H, _>(|clock| async move {
        let mut all = std::pin::pin!(join3(sleep(SECOND), sleep(3 * SECOND), sleep(2 * SECOND)));
        assert!(poll!(all.as_mut()).is_pending());
        clock.advance(3 * SECOND - MS);
        assert!(poll!(all.as_mut()).is_pending());
        clock.advance(MS);
        all.await;
    });
}

/// However many they are, none is forgotten and none is early.
pub fn a_hundred_sleeping_tasks_all_wake<H: Host>() {
    by_hand::<H, _>(|clock| async move {
        let awake = Shared::default();
        let tasks = (0..100_u32).map(|number| {
            let (awake, clock) = (awake.clone(), clock.clone());
            spawn(async move {
                let deadline = clock.now() + (number % 10) * 100 * MS;
                sleep_until(deadline).await;
                assert!(clock.now() >= deadline);
                awake.add_one();
            })
        });
        let tasks = join_all(tasks.collect::<Vec<_>>());
        until(|| {
            clock.advance(MS);
            awake.get() == 100
        })
        .await;
        tasks.await;
    });
}

/// The host learns of a deadline that comes before all that it knew.
pub fn an_earlier_sleep_does_not_wait_for_a_later_one<H: Host>() {
    H::run(Clock::Real, async {
        let mut long = std::pin::pin!(sleep(3600 * SECOND));
        assert!(poll!(long.as_mut()).is_pending());
        spawn(async { sleep(MS).await }).await;
        sleep(MS).await;
        assert!(poll!(long.as_mut()).is_pending());
    });
}

/// Polled by one task first, awaited by another.
pub fn a_pending_sleep_moves_to_another_task<H: Host>() {
    by_hand::<H, _>(|clock| async move {
        let mut nap = Box::pin(sleep(SECOND));
        assert!(poll!(nap.as_mut()).is_pending());
        let other = spawn(nap);
        clock.advance(SECOND);
        other.await;
    });
}

/// A thread that belongs to nobody sets a timer by the runtime that it was given.
pub fn a_sleep_can_be_set_from_any_thread<H: Host>() {
    by_hand::<H, _>(|clock| async move {
        let runtime = Runtime::current().expect("a host enters its runtime");
        let set = std::thread::spawn(move || {
            let mut nap = Box::pin(sleep_on(&runtime, SECOND));
            let polled = nap.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
            assert!(polled.is_pending());
            nap
        });
        let nap = set.join().expect("the thread sets it");
        clock.advance(SECOND);
        nap.await;
    });
}

/// Neither at the old time nor twice.
pub fn a_reset_sleep_ends_at_its_new_time<H: Host>() {
    by_hand::<H, _>(|clock| async move {
        let start = clock.now();
        let mut nap = sleep_until(start + SECOND);
        assert!(poll!(&mut nap).is_pending());
        nap.reset(start + 2 * SECOND);
        clock.advance(SECOND);
        assert!(poll!(&mut nap).is_pending());
        nap.reset(start + SECOND + MS);
        clock.advance(MS);
        nap.await;
    });
}

/// The future is gone before the error is there.
pub fn a_timeout_ends_what_waits_and_drops_it<H: Host>() {
    H::run(Clock::Real, async {
        let held = StdArc::new(());
        let inner = {
            let held = held.clone();
            async move {
                let _held = held;
                pending::<()>().await
            }
        };
        assert_eq!(timeout(2 * MS, inner).await, Err(Elapsed));
        assert_eq!(StdArc::strong_count(&held), 1);
    });
}

/// A value that comes first is given.
pub fn a_timeout_gives_a_value_in_time<H: Host>() {
    H::run(Clock::Real, async {
        let value = timeout(3600 * SECOND, async {
            sleep(MS).await;
            7
        });
        assert_eq!(value.await, Ok(7));
    });
}

/// Not even with a deadline that has passed.
pub fn what_is_ready_at_once_never_times_out<H: Host>() {
    H::run(Clock::Real, async {
        assert_eq!(timeout(Duration::ZERO, ready(7)).await, Ok(7));
        assert_eq!(timeout(Duration::ZERO, pending::<()>()).await, Err(Elapsed));
    });
}

/// Ticks are counted from the start, not from each other.
pub fn an_interval_keeps_its_rhythm<H: Host>() {
    by_hand::<H, _>(|clock| async move {
        let start = clock.now();
        let mut beat = interval(10 * MS);
        assert_eq!(beat.tick().await, start);
        for tick in 1..20 {
            let mut next = Box::pin(beat.tick());
            assert!(poll!(next.as_mut()).is_pending());
            clock.advance(if tick % 2 == 0 { 7 * MS } else { 13 * MS });
            assert_eq!(next.await, start + tick * 10 * MS);
        }
    });
}

/// Ends by being dropped.
pub fn a_far_deadline_is_accepted<H: Host>() {
    H::run(Clock::Real, async {
        let mut far = std::pin::pin!(sleep(Duration::MAX));
        assert!(poll!(far.as_mut()).is_pending());
        sleep(MS).await;
        assert!(poll!(far.as_mut()).is_pending());
    });
}

/// Neither that of others nor one that begins afterwards: the host tells somebody, and keeps the time.
pub fn a_waker_that_panics_ends_nobodys_sleep<H: Host>() {
    struct Wild;
    impl Wake for Wild {
        fn wake(self: StdArc<Self>) {
            panic!("a waker's, on purpose");
        }
    }
    H::run(Clock::Real, async {
        let other = spawn(sleep(3 * MS));
        let mut wild = Box::pin(sleep(MS));
        let polled = wild.as_mut().poll(&mut Context::from_waker(&StdArc::new(Wild).into()));
        assert!(polled.is_pending());
        other.await;
        wild.await;
        sleep(MS).await;
    });
}
