//! `interval`: ticks at a fixed rate.
//!
//! I1. `next` is the scheduled time of the coming tick. It moves on by whole periods from the start, so the error of one
//!     tick is not handed to the next; only `MissedTick::Delay` starts a new rhythm, and only after a miss.
//! I2. A tick is *missed* when, at the time it is taken, the following one is due as well. Being late by less is what
//!     every timer is, and changes nothing.
//! I3. All that is known of a tick lies in the interval, so a `tick` future that is dropped takes nothing with it.

use crate::entry::{Entry, or_panic};
use crate::sleep::{Sleep, sleep, sleep_on, sleep_until, sleep_until_on};
use evenloop_core::Runtime;
use evenloop_core::budget::poll_spend;
use futures_core::Stream;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Ticks every `period`; the first tick comes at once, in the next pass.
///
/// What happens when the ticks are not taken in time is [`MissedTick`]'s choice, `Skip` unless changed. An interval is
/// also an endless `Stream` of instants. Each tick is waited for on the runtime that is current where it is polled first; one
/// that is moved to a runtime with another clock, between two ticks, goes on by that clock ([`interval_on`] does not).
///
/// # Panics
///
/// When `period` is zero; and where no runtime is current that offers timers.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// async fn beat() {
///     let mut seconds = evenloop_time::interval(Duration::from_secs(1));
///     for _ in 0..3 {
///         seconds.tick().await;
///         println!("tick");
///     }
/// }
/// # let _ = beat();
/// ```
#[doc(alias = "ticker")]
pub fn interval(period: Duration) -> Interval {
    let now = or_panic(Entry::new().now("interval"));
    Interval::new(now, period, sleep(Duration::ZERO))
}

/// As [`interval`], on the given runtime.
///
/// # Panics
///
/// When `period` is zero, or `runtime` offers no timers.
pub fn interval_on(runtime: &Runtime, period: Duration) -> Interval {
    let now = or_panic(Entry::on(runtime).now("interval"));
    Interval::new(now, period, sleep_on(runtime, Duration::ZERO))
}

/// As [`interval`], with the first tick at `start`.
///
/// # Panics
///
/// When `period` is zero.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// async fn from_now_on() {
///     let minute = Duration::from_secs(60);
///     let mut minutes = evenloop_time::interval_at(evenloop_time::now() + minute, minute);
///     minutes.tick().await; // after a minute, not at once
/// }
/// # let _ = from_now_on();
/// ```
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    Interval::new(start, period, sleep_until(start))
}

/// As [`interval_at`], on the given runtime.
///
/// # Panics
///
/// When `period` is zero.
pub fn interval_at_on(runtime: &Runtime, start: Instant, period: Duration) -> Interval {
    Interval::new(start, period, sleep_until_on(runtime, start))
}

/// What an [`Interval`] does with ticks that nobody took in time.
///
/// With a period of 10 ms and 35 ms between the ticks at 0 and the next call, the calls after that see:
///
/// | choice  | ticks at                   |
/// |---------|----------------------------|
/// | `Skip`  | 35, 40, 50, 60, …          |
/// | `Burst` | 35, 35, 35, 40, 50, 60, …  |
/// | `Delay` | 35, 45, 55, 65, …          |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(alias = "MissedTickBehavior")]
pub enum MissedTick {
    /// One tick stands for all that were missed; then on in the old rhythm.
    #[default]
    Skip,
    /// Each missed tick comes, one after the other without waiting; then on in the old rhythm.
    Burst,
    /// One tick stands for all that were missed; a new rhythm starts with it.
    Delay,
}

/// Ticks at a fixed rate; made by [`interval`] and its siblings.
///
/// # Examples
///
/// ```
/// use evenloop_time::{MissedTick, interval};
/// use std::time::Duration;
///
/// async fn poll_the_sensor() {
///     let mut beat = interval(Duration::from_millis(100)).missed_tick(MissedTick::Skip);
///     loop {
///         let scheduled = beat.tick().await;
///         println!("due at {scheduled:?}");
///     }
/// }
/// # let _ = poll_the_sensor();
/// ```
#[must_use = "an interval ticks only while it is asked"]
pub struct Interval {
    period: Duration,
    missed: MissedTick,
    /// The scheduled time of the coming tick; `None` once it cannot be expressed any more.
    next: Option<Instant>,
    sleep: Sleep,
}

impl Interval {
    fn new(start: Instant, period: Duration, sleep: Sleep) -> Self {
        assert!(!period.is_zero(), "`interval` needs a period that is not zero");
        Self { period, missed: MissedTick::default(), next: Some(start), sleep }
    }

    /// The same interval with another choice for missed ticks.
    #[doc(alias = "set_missed_tick_behavior")]
    pub fn missed_tick(mut self, missed: MissedTick) -> Self {
        self.missed = missed;
        self
    }

    /// Waits for the next tick and answers the instant it was scheduled for.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** The tick stays with the interval.
    ///
    /// # Panics
    ///
    /// As [`sleep`](crate::sleep()).
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// As [`tick`](Self::tick), for futures written by hand.
    ///
    /// # Panics
    ///
    /// As [`sleep`](crate::sleep()).
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        let Some(scheduled) = self.next else { return Poll::Pending };
        ready!(poll_spend(cx)); // a burst of missed ticks
        ready!(Pin::new(&mut self.sleep).poll(cx));
        let now = self.sleep.now();
        self.next = self.after(scheduled, now);
        if let Some(next) = self.next {
            self.sleep.reset(next);
        }
        Poll::Ready(scheduled)
    }

    /// Lets the next tick come a period from now, and the rhythm start there.
    ///
    /// # Panics
    ///
    /// As [`sleep`](crate::sleep()).
    pub fn reset(&mut self) {
        let now = self.sleep.now();
        self.next = now.checked_add(self.period);
        if let Some(next) = self.next {
            self.sleep.reset(next);
        }
    }

    /// The time from tick to tick.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// The tick after the one scheduled for `scheduled` and taken at `now` (I1).
    fn after(&self, scheduled: Instant, now: Instant) -> Option<Instant> {
        let next = scheduled.checked_add(self.period)?;
        if next > now {
            return Some(next); // I2: not missed
        }
        match self.missed {
            MissedTick::Burst => Some(next),
            MissedTick::Delay => now.checked_add(self.period),
            MissedTick::Skip => {
                let into_period = (now - scheduled).as_nanos() % self.period.as_nanos();
                // Less than the period, of which the seconds fit.
                let (secs, nanos) = (into_period / 1_000_000_000, into_period % 1_000_000_000);
                now.checked_add(self.period - Duration::new(secs as u64, nanos as u32))
            }
        }
    }
}

impl Stream for Interval {
    type Item = Instant;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Instant>> {
        self.get_mut().poll_tick(cx).map(Some)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}

impl fmt::Debug for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interval [period: {:?}, {:?}]", self.period, self.missed)
    }
}
