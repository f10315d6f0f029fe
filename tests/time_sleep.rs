//! `sleep` and `sleep_until`, as a user sees them.

use evenloop_core::{Park, Runtime, ThreadPark};
use evenloop_tests::{Stage, Woken, many, poll};
use evenloop_time::{
    Clock, Driver, Sleep, VirtualClock, sleep, sleep_on, sleep_until, sleep_until_on, timeout,
};
use futures::future::{join_all, join3};
use std::cell::RefCell;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

static_assertions::assert_impl_all!(Sleep: Send, Sync, Unpin, std::fmt::Debug);

#[test]
fn the_timer_is_set_by_the_first_poll_and_taken_out_by_the_drop() {
    let (stage, _clock) = Stage::paused();
    let (_, waker) = Woken::waker();
    let mut nap = sleep(SECOND);
    assert_eq!(format!("{nap:?} {:?}", stage.timers()), "Sleep [new] Timers [pending: 0]");
    assert!(poll(&mut nap, &waker).is_pending());
    assert_eq!(format!("{nap:?} {:?}", stage.timers()), "Sleep [waiting] Timers [pending: 1]");
    drop(nap);
    assert_eq!(stage.timers().pending(), 0);
}

#[test]
fn a_sleep_of_zero_lets_one_pass_go_by_and_needs_no_timer() {
    let (woken, waker) = Woken::waker();
    let mut pass = sleep(Duration::ZERO); // no runtime here at all
    assert!(poll(&mut pass, &waker).is_pending());
    assert_eq!(woken.times(), 1);
    assert!(poll(&mut pass, &waker).is_ready());
    assert_eq!(format!("{pass:?}"), "Sleep [done]");
}

#[test]
fn very_small_sleeps_end_and_never_early() {
    let (mut stage, clock) = Stage::jumping();
    for length in [0, 1, 999_000, 1_000_000, 1_000_001].map(Duration::from_nanos) {
        let start = clock.elapsed();
        stage.block_on(sleep(length));
        assert_eq!(clock.elapsed() - start, length);
    }
}

#[test]
fn on_the_real_clock_they_are_not_early_either() {
    let mut stage = Stage::new(Clock::Real);
    for length in [Duration::from_nanos(1), Duration::from_micros(999), MS] {
        let start = Instant::now();
        let ((), polls) = stage.block_on(sleep(length));
        assert!(start.elapsed() >= length);
        assert_eq!(polls, 2, "one to set, one when it is over");
    }
}

#[test]
fn any_far_deadline_is_accepted_and_any_past_one_met_in_the_next_turn() {
    let (mut stage, clock) = Stage::jumping();
    let (_, waker) = Woken::waker();
    let start = clock.now();
    let mut far =
        [sleep(Duration::MAX), sleep(Duration::from_secs(u64::MAX / 2)), sleep(365 * 86400 * SECOND)];
    for nap in &mut far {
        assert!(poll(nap, &waker).is_pending());
    }
    stage.block_on(sleep(SECOND));
    assert!(far.iter_mut().all(|nap| poll(nap, &waker).is_pending()));
    drop(far);
    assert_eq!(stage.timers().pending(), 0);
    for past in [clock.now(), start, start.checked_sub(SECOND).unwrap_or(start)] {
        let before = clock.elapsed();
        let ((), polls) = stage.block_on(sleep_until(past));
        assert_eq!((clock.elapsed(), polls), (before, 2));
    }
    let ((), _) = stage.block_on(sleep(Duration::MAX));
    assert!(clock.elapsed() > 29 * 365 * 86400 * SECOND);
}

#[test]
fn due_exactly_now_is_due_in_this_turn() {
    let (mut stage, clock) = Stage::paused();
    let (woken, waker) = Woken::waker();
    let mut nap = sleep(7 * MS);
    assert!(poll(&mut nap, &waker).is_pending());
    clock.advance(6 * MS);
    stage.turn();
    assert_eq!(woken.times(), 0);
    clock.advance(MS);
    assert_eq!(woken.times(), 1);
    let mut now = sleep_until(clock.now());
    assert!(poll(&mut now, &waker).is_pending());
    stage.turn();
    assert_eq!(woken.times(), 2);
}

/// On a paused clock that stands between two milliseconds it was never woken.
#[test]
fn due_exactly_now_is_due_between_two_milliseconds_too() {
    let (_stage, clock) = Stage::paused();
    let (woken, waker) = Woken::waker();
    clock.advance(MS / 2);
    let mut nap = sleep(MS);
    assert!(poll(&mut nap, &waker).is_pending());
    clock.advance(MS - Duration::from_nanos(1));
    assert_eq!(woken.times(), 0);
    clock.advance(Duration::from_nanos(1));
    assert_eq!((nap.deadline(), woken.times()), (Some(clock.now()), 1));
    assert!(poll(&mut nap, &waker).is_ready());
}

/// A deadline in the very millisecond of the drop: dropped before, at and after its firing, here and elsewhere.
#[test]
fn dropping_around_the_deadline_disturbs_nobody() {
    for (ticks, elsewhere) in [(9, false), (10, false), (11, false), (9, true), (10, true), (11, true)] {
        let (stage, clock) = Stage::paused();
        let (woken, waker) = Woken::waker();
        let [mut dropped, mut kept] = [sleep(10 * MS), sleep(10 * MS)];
        assert!(poll(&mut dropped, &waker).is_pending());
        assert!(poll(&mut kept, &waker).is_pending());
        clock.advance(ticks * MS);
        if elsewhere {
            std::thread::spawn(move || drop(dropped)).join().unwrap();
        } else {
            drop(dropped);
        }
        assert_eq!(stage.timers().pending(), usize::from(ticks < 10));
        clock.advance(2 * MS);
        assert!(poll(&mut kept, &waker).is_ready());
        assert_eq!(woken.times(), if ticks < 10 { 1 } else { 2 });
    }
}

#[test]
fn earlier_deadlines_come_first_and_equal_ones_in_order_of_insertion() {
    let (mut stage, _clock) = Stage::jumping();
    let trace = RefCell::new(Vec::new());
    let micros = [3_000, 1_000, 3_000, 2_900, 2_100, 70_000, 1_000, 2_100];
    let naps = micros.iter().enumerate().map(|(place, &micros)| {
        let trace = &trace;
        async move {
            sleep(Duration::from_micros(micros)).await;
            trace.borrow_mut().push((micros, place));
        }
    });
    let wanted = {
        let mut wanted =
            micros.into_iter().enumerate().map(|(place, micros)| (micros, place)).collect::<Vec<_>>();
        wanted.sort();
        wanted
    };
    stage.block_on(join_all_in_wake_order(naps));
    assert_eq!(*trace.borrow(), wanted);
}

/// Nanoseconds since some instant.
static HOSTS_TIME: AtomicU64 = AtomicU64::new(0);

/// A host's clock has milliseconds for ticks, as the real one.
#[test]
fn within_a_millisecond_too_earlier_deadlines_come_first() {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let clock = Clock::Host(|| *ORIGIN + Duration::from_nanos(HOSTS_TIME.load(Ordering::Relaxed)));
    let (mut stage, trace) = (Stage::new(clock), RefCell::new(Vec::new()));
    let micros = [3_000, 2_001, 2_900, 2_000, 2_100, 2_999, 2_100];
    let naps = micros.iter().enumerate().map(|(place, &micros)| {
        let trace = &trace;
        async move {
            sleep(Duration::from_micros(micros)).await;
            trace.borrow_mut().push((micros, place));
        }
    });
    let mut all = Box::pin(join_all_in_wake_order(naps));
    assert!(poll(&mut all, Waker::noop()).is_pending());
    for (nanos, woken) in [(1_999_999, 0), (2_000_000, 1), (2_999_999, 1), (3_000_000, 7)] {
        HOSTS_TIME.store(nanos, Ordering::Relaxed);
        stage.turn();
        assert_eq!(poll(&mut all, Waker::noop()).is_ready(), woken == 7);
        assert_eq!(trace.borrow().len(), woken, "at {nanos}");
    }
    let mut wanted =
        micros.into_iter().enumerate().map(|(place, micros)| (micros, place)).collect::<Vec<_>>();
    wanted.sort();
    assert_eq!(*trace.borrow(), wanted);
}

/// As `join_all`, polling each only when it was woken, in that order.
async fn join_all_in_wake_order(futures: impl IntoIterator<Item = impl Future<Output = ()>>) {
    use futures::stream::{FuturesUnordered, StreamExt};
    futures.into_iter().collect::<FuturesUnordered<_>>().collect::<()>().await
}

#[test]
fn a_reset_sleep_fires_once_and_at_the_new_time() {
    let (stage, clock) = Stage::paused();
    for (to, moved) in [(20, "later"), (5, "earlier"), (10, "the same")] {
        let (woken, waker) = Woken::waker();
        let start = clock.now();
        let mut nap = sleep_until(start + 10 * MS);
        assert!(poll(&mut nap, &waker).is_pending());
        for detour in [15, 3, 100, 1, to] {
            nap.reset(start + detour * MS);
        }
        assert_eq!((nap.deadline(), stage.timers().pending()), (Some(start + to * MS), 1), "{moved}");
        for tick in 1..=25 {
            clock.advance(MS);
            assert_eq!(woken.times(), usize::from(tick >= to), "{moved}, at {tick}");
        }
        assert!(poll(&mut nap, &waker).is_ready(), "{moved}");
        // One that is done starts again.
        nap.reset(clock.now() + MS);
        assert!(poll(&mut nap, &waker).is_pending(), "{moved}");
        clock.advance(MS);
        assert!(poll(&mut nap, &waker).is_ready(), "{moved}");
        assert_eq!(woken.times(), 2, "{moved}");
    }
}

#[test]
fn a_sleep_that_was_woken_and_reset_sleeps_on() {
    let (_stage, clock) = Stage::paused();
    let (woken, waker) = Woken::waker();
    let mut nap = sleep(MS);
    assert!(poll(&mut nap, &waker).is_pending());
    clock.advance(MS);
    nap.reset(clock.now() + MS);
    assert!(poll(&mut nap, &waker).is_pending());
    clock.advance(MS);
    assert!(poll(&mut nap, &waker).is_ready());
    assert_eq!(woken.times(), 2);
}

#[test]
fn polled_and_reset_under_another_runtime_it_stays_at_home() {
    let (home, clock) = Stage::paused();
    let (_, waker) = Woken::waker();
    let mut nap = sleep(10 * MS);
    assert!(poll(&mut nap, &waker).is_pending());
    {
        let (away, _) = Stage::paused();
        assert!(poll(&mut nap, &waker).is_pending());
        nap.reset(clock.now() + 5 * MS);
        assert_eq!((home.timers().pending(), away.timers().pending()), (1, 0));
    }
    clock.advance(5 * MS);
    assert!(poll(&mut nap, &waker).is_ready());
}

#[test]
fn reset_after_it_has_fired_it_stays_at_home() {
    let (home, clock) = Stage::paused();
    let (woken, waker) = Woken::waker();
    let (mut nap, mut limited) = (sleep(MS), timeout(MS, pending::<()>()));
    assert!(poll(&mut nap, &waker).is_pending() && poll(&mut limited, &waker).is_pending());
    clock.advance(MS);
    nap.reset(clock.now() + MS);
    Pin::new(&mut limited).reschedule(clock.now() + MS);
    let (away, _) = Stage::paused();
    assert!(poll(&mut nap, &waker).is_pending() && poll(&mut limited, &waker).is_pending());
    assert_eq!((home.timers().pending(), away.timers().pending()), (2, 0));
    clock.advance(MS);
    assert_eq!(woken.times(), 4);
    assert!(poll(&mut nap, &waker).is_ready());
    assert!(poll(&mut limited, &waker).is_pending() && limited.expired());
    nap.reset(clock.now() + MS);
    assert!(poll(&mut nap, &waker).is_pending(), "one that is done begins anew, where it is polled");
    assert_eq!((home.timers().pending(), away.timers().pending()), (0, 1));
}

#[test]
fn reset_twice_after_it_has_fired_it_is_ready_when_it_is_asked_at_last() {
    let (_stage, clock) = Stage::paused();
    let (woken, waker) = Woken::waker();
    let mut nap = sleep(MS);
    assert!(poll(&mut nap, &waker).is_pending());
    for _ in 0..2 {
        clock.advance(MS);
        nap.reset(clock.now() + MS);
    }
    clock.advance(MS);
    assert!(poll(&mut nap, &waker).is_ready());
    assert_eq!(woken.times(), 1, "it has not been polled since");
}

#[test]
fn the_last_waker_is_woken_and_only_it() {
    let (_stage, clock) = Stage::paused();
    let ((first, first_waker), (last, last_waker)) = (Woken::waker(), Woken::waker());
    let mut nap = sleep(MS);
    assert!(poll(&mut nap, &first_waker).is_pending());
    drop(first_waker);
    assert!(poll(&mut nap, &last_waker).is_pending());
    assert_eq!(Arc::strong_count(&first), 1, "the waker before is let go at once");
    clock.advance(MS);
    assert_eq!((first.times(), last.times()), (0, 1));
}

/// Calls back into the timers from its clone, its wake and its drop.
struct Hostile {
    timers: Runtime,
    other: Mutex<Option<Sleep>>,
    panics: bool,
}

impl Hostile {
    fn meddle(&self) {
        let mut nap = sleep_until_on(&self.timers, Instant::now());
        assert!(poll(&mut nap, Waker::noop()).is_pending());
        nap.reset(Instant::now() + SECOND);
        assert!(
            self.other.lock().unwrap().as_mut().is_none_or(|other| poll(other, Waker::noop()).is_pending())
        );
    }
}

impl Wake for Hostile {
    fn wake(self: Arc<Self>) {
        self.meddle();
        drop(self.other.lock().unwrap().take());
        assert!(!self.panics, "a waker that panics");
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.meddle();
    }
}

#[test]
fn wakers_may_use_the_timers_and_may_panic() {
    let (stage, clock) = Stage::paused();
    for panics in [false, true] {
        let mut other = sleep(100 * SECOND);
        assert!(poll(&mut other, Waker::noop()).is_pending());
        let (timers, other) = (stage.runtime.clone(), Mutex::new(Some(other)));
        let hostile = Waker::from(Arc::new(Hostile { timers, other, panics }));
        let (woken, calm) = Woken::waker();
        let mut naps = [sleep(MS), sleep(MS), sleep(MS)];
        assert!(poll(&mut naps[0], &hostile).is_pending());
        assert!(poll(&mut naps[1], &calm).is_pending());
        assert!(poll(&mut naps[2], &hostile).is_pending());
        assert!(poll(&mut naps[2], &calm).is_pending()); // lets go of the hostile one
        drop(hostile); // the last one is with the timers
        clock.advance(MS);
        assert_eq!(woken.times(), 2);
        assert!(naps.iter_mut().all(|nap| poll(nap, &calm).is_ready()));
        assert_eq!(stage.timers().pending(), 0);
    }
}

#[test]
fn polling_and_making_a_million_leaves_nothing_behind() {
    let (stage, _clock) = Stage::paused();
    let (woken, waker) = Woken::waker();
    let mut nap = sleep(SECOND);
    for _ in 0..many(1_000_000) {
        assert!(poll(&mut nap, &waker).is_pending());
        assert!(poll(&mut sleep(SECOND), &waker).is_pending());
    }
    assert_eq!((stage.timers().pending(), Arc::strong_count(&woken)), (1, 3));
}

#[test]
fn it_is_polled_once_to_set_and_once_when_it_is_over() {
    let (mut stage, clock) = Stage::jumping();
    assert_eq!(stage.block_on(sleep(3600 * SECOND)).1, 2);
    assert_eq!(clock.elapsed(), 3600 * SECOND);
}

#[test]
fn made_without_a_runtime_it_counts_from_its_first_poll() {
    let nap = sleep(10 * MS);
    assert_eq!(nap.deadline(), None);
    let (mut stage, clock) = Stage::jumping();
    clock.advance(SECOND);
    let made_here = sleep(10 * MS);
    clock.advance(4 * MS);
    stage.block_on(made_here);
    assert_eq!(clock.elapsed(), SECOND + 10 * MS);
    stage.block_on(nap);
    assert_eq!(clock.elapsed(), SECOND + 20 * MS);
}

fn message(body: impl FnOnce() -> Poll<()>) -> String {
    let panic = catch_unwind(AssertUnwindSafe(body)).expect_err("it panics");
    panic.downcast_ref::<String>().expect("with a message").clone()
}

#[test]
fn without_a_runtime_it_says_which_call_needs_what_and_how_to_get_it() {
    let message = message(|| poll(&mut sleep(SECOND), Waker::noop()));
    assert!(message.starts_with("`sleep` needs timers, and this thread has no runtime: "), "{message}");
    assert!(message.contains("evenloop::run") && message.contains("`_on` twin"), "{message}");
}

#[test]
fn a_runtime_can_be_given_on_any_thread() {
    let (stage, clock) = Stage::paused();
    let runtime = stage.runtime.clone();
    let set = std::thread::spawn(move || {
        let mut naps = [sleep_on(&runtime, MS), sleep_until_on(&runtime, Instant::now())];
        assert!(naps.iter_mut().all(|nap| poll(nap, Waker::noop()).is_pending()));
        naps
    });
    let mut naps = set.join().unwrap();
    assert_eq!(stage.timers().pending(), 2);
    clock.advance(MS);
    assert!(poll(&mut naps[0], Waker::noop()).is_ready());
}

/// The runtime ends while a sleep is pending: who waits is woken, told so, or goes on elsewhere.
#[test]
fn when_its_runtime_ends_it_is_woken_and_goes_on_with_the_current_one_or_says_so() {
    let (stage, clock) = Stage::paused();
    let (woken, waker) = Woken::waker();
    let mut naps = [sleep(SECOND), sleep(SECOND), sleep_on(&stage.runtime, SECOND), sleep(MS)];
    assert!(naps.iter_mut().all(|nap| poll(nap, &waker).is_pending()));
    clock.advance(MS);
    assert_eq!(woken.times(), 1);
    let timers = stage.timers(); // somebody keeps the engine, not its driver
    let runtime = stage.runtime.clone();
    drop(stage);
    assert_eq!(woken.times(), 4);
    let [nowhere, elsewhere, given, over] = &mut naps;
    assert!(poll(over, &waker).is_ready(), "it was over before the end");

    let message1 = message(|| poll(nowhere, &waker));
    assert!(message1.starts_with("`sleep` needs timers, and this thread has no runtime: "), "{message1}");
    let message2 = message(|| poll(given, &waker));
    assert!(message2.starts_with("`sleep` needs timers, and the stage runtime has ended: "), "{message2}");
    let entered = runtime.enter();
    assert!(message(|| poll(&mut sleep(MS), &waker)).contains("has ended"));
    drop((timers, runtime, entered));

    let (mut next, _) = Stage::jumping();
    next.block_on(elsewhere);
}

#[test]
fn a_driver_is_built_on_the_heap() {
    evenloop_tests::on_a_small_stack(|| {
        let clock = VirtualClock::new();
        let mut driver = Driver::new(ThreadPark::new(), Clock::from(clock.clone()));
        let runtime = Runtime::builder("small").timers(driver.timers()).build();
        let naps = [MS, SECOND, 3600 * SECOND, Duration::MAX];
        let mut naps = naps.map(|length| sleep_on(&runtime, length));
        assert!(naps.iter_mut().all(|nap| poll(nap, Waker::noop()).is_pending()));
        for nap in &mut naps {
            driver.park(None).unwrap();
            assert!(poll(nap, Waker::noop()).is_ready());
        }
    });
}

#[test]
fn sleeps_run_at_the_same_time() {
    let (mut stage, clock) = Stage::jumping();
    stage.block_on(join3(sleep(SECOND), sleep(2 * SECOND), join_all((0..100).map(|_| sleep(SECOND)))));
    assert_eq!(clock.elapsed(), 2 * SECOND);
}
