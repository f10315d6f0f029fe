//! The seam to whoever keeps time.

use std::error::Error;
use std::fmt;
use std::task::Waker;
use std::time::{Duration, Instant};

/// A clock, and wake-ups at its instants.
///
/// Entries are known by key, so nothing is pinned and nothing is shared between a future and the engine. Called from any
/// thread; wakers are cloned and dropped with no lock held. A deadline is never met early; one so far away that the
/// engine cannot express it is accepted and waits.
///
/// When the engine ends, it wakes what is still pending: who waited asks again and is told [`TimersEnded`].
pub trait Timers: Send + Sync {
    /// The present instant of the clock that these timers follow.
    fn now(&self) -> Instant;

    /// Wakes `waker` once `deadline` is reached. One that has passed is met at the engine's next turn, or, if that was less
    /// than the engine's resolution ago, within that resolution.
    ///
    /// # Errors
    ///
    /// The engine has ended: nothing would ever wake.
    fn insert(&self, deadline: Instant, waker: &Waker) -> Result<TimerKey, TimersEnded>;

    /// Gives a pending entry another deadline, and another waker if there is one. Answers false if it has fired already:
    /// then nothing changes.
    ///
    /// # Errors
    ///
    /// The engine ended while the entry was pending.
    fn update(&self, key: TimerKey, deadline: Instant, waker: Option<&Waker>) -> Result<bool, TimersEnded>;

    /// Forgets an entry. Answers false if it had fired already. A stale key is harmless.
    fn remove(&self, key: TimerKey) -> bool;

    /// The earliest pending deadline, as far as the engine can tell: perhaps a little early. A snapshot, for statistics;
    /// `None` also from an engine that keeps none.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// How many entries are pending. A snapshot, for statistics.
    fn pending(&self) -> usize {
        0
    }

    /// Moves a virtual clock by `duration` and wakes what is due by then. Answers false, and does nothing, where the clock
    /// moves by itself.
    fn advance(&self, duration: Duration) -> bool {
        let _ = duration;
        false
    }
}

/// The engine that was to keep the time has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimersEnded;

impl fmt::Display for TimersEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the runtime that kept the time has ended")
    }
}

impl Error for TimersEnded {}

/// The deadline was met before the future was ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias("TimeoutError", "TooSlowError"))]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deadline has elapsed")
    }
}

impl Error for Elapsed {}

impl From<Elapsed> for std::io::Error {
    fn from(elapsed: Elapsed) -> Self {
        Self::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}

/// Names one entry of one [`Timers`]; never names another one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerKey(u64);

impl TimerKey {
    /// Wraps the engine's own number for an entry.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The engine's own number for the entry.
    pub const fn into_raw(self) -> u64 {
        self.0
    }
}

/// `now + delay`, or an instant about thirty years ahead if that cannot be expressed.
///
/// Every "after this long" of the workspace goes through here, so `Duration::MAX` is a valid delay everywhere.
pub fn deadline_after(now: Instant, delay: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    now.checked_add(delay).or_else(|| now.checked_add(FAR)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_delay_has_a_far_deadline() {
        let now = Instant::now();
        let year = Duration::from_secs(365 * 24 * 60 * 60);
        assert!(deadline_after(now, Duration::MAX) > now + 10 * year);
        assert_eq!(deadline_after(now, Duration::ZERO), now);
    }
}
