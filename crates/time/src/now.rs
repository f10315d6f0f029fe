//! What time it is by the current runtime's clock, and how to move it.

use evenloop_core::{NoRuntime, Runtime, Timers};
use std::time::{Duration, Instant};

/// The present instant of the current runtime's clock: asyncio's `loop.time()`.
///
/// On a virtual clock this is simulated time, so differences of it are exact. `Instant::elapsed` reads the real clock and
/// knows nothing of simulated time: subtract instants of this function instead.
///
/// # Panics
///
/// Where no runtime is current that offers timers. The message names both ways out.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// async fn nap() -> Duration {
///     let start = evenloop_time::now();
///     evenloop_time::sleep(Duration::from_secs(1)).await;
///     evenloop_time::now() - start
/// }
/// # let _ = nap();
/// ```
#[track_caller]
pub fn now() -> Instant {
    with_timers("now", |timers| timers.now())
}

/// Moves the current runtime's virtual clock by `duration` and wakes what is due by then.
///
/// The clock moves in one step, as if the machine had been suspended: whoever is woken sees the time after it, and runs
/// when the caller next waits. To let a program live through the time in between, `sleep` instead.
///
/// # Panics
///
/// Where the clock is a real one, which nobody can move, or no runtime is current that offers timers.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// async fn expires(deadline: std::time::Instant) {
///     evenloop_time::advance(Duration::from_secs(3600));
///     assert!(evenloop_time::now() > deadline);
/// }
/// # let _ = expires(std::time::Instant::now());
/// ```
#[track_caller]
pub fn advance(duration: Duration) {
    let moved = with_timers("advance", |timers| timers.advance(duration));
    assert!(
        moved,
        "`advance` moves a virtual clock, and this runtime's clock is real: run on a `VirtualClock`"
    );
}

/// Blocks the calling thread for `duration` of the current runtime's clock: a real clock sleeps, a virtual one is moved.
///
/// This shows what blocking the loop does, on either clock: nothing else runs meanwhile, and what became due is late. A
/// program that means to wait uses [`sleep`](crate::sleep()).
///
/// # Panics
///
/// Where no runtime is current that offers timers.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// async fn a_mistake_shown() {
///     evenloop_time::sleep_blocking(Duration::from_secs(3)); // nothing else of this loop runs meanwhile
/// }
/// # let _ = a_mistake_shown();
/// ```
#[track_caller]
pub fn sleep_blocking(duration: Duration) {
    if !with_timers("sleep_blocking", |timers| timers.advance(duration)) {
        std::thread::sleep(duration);
    }
}

#[track_caller]
fn with_timers<R>(call: &'static str, f: impl FnOnce(&dyn Timers) -> R) -> R {
    let found = Runtime::with_current(|runtime| Ok(f(&**runtime.timers_for(call)?)));
    match found.unwrap_or_else(|| Err(NoRuntime::none_found(call, "timers"))) {
        Ok(answer) => answer,
        Err(error) => panic!("{error}"),
    }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;
    use crate::{Clock, Driver, VirtualClock};
    use evenloop_core::ThreadPark;

    fn runtime(clock: Clock) -> (Driver<ThreadPark>, Runtime) {
        let driver = Driver::new(ThreadPark::new(), clock);
        let runtime = Runtime::builder("test").timers(driver.timers()).build();
        (driver, runtime)
    }

    #[test]
    fn a_virtual_clock_is_moved_and_read() {
        let clock = VirtualClock::new();
        let (_driver, runtime) = runtime(clock.clone().into());
        let _entered = runtime.enter();
        let start = now();
        advance(Duration::from_secs(5));
        sleep_blocking(Duration::from_secs(2));
        assert_eq!(now() - start, Duration::from_secs(7));
        assert_eq!(clock.elapsed(), Duration::from_secs(7));
    }

    #[test]
    #[should_panic(expected = "`advance` moves a virtual clock, and this runtime's clock is real")]
    fn a_real_clock_cannot_be_moved() {
        let (_driver, runtime) = runtime(Clock::Real);
        let _entered = runtime.enter();
        advance(Duration::from_secs(5));
    }

    #[test]
    #[should_panic(expected = "`now` needs timers, and this thread has no runtime")]
    fn without_a_runtime_the_message_says_so() {
        now();
    }
}
