//! `sleep` and `sleep_until`.
//!
//! ```text
//! Yields ── first poll: wakes itself ── second poll ─► Done        (a sleep of zero)
//! After(d) ── first poll, or earlier: now + d ─► At
//! At(t) ── first poll: sets its entry ── fired, next poll ─► Done
//! ```
//!
//! S1. Nothing is with the timers before the first poll, nor after the end or the drop.

use crate::entry::{Entry, or_panic};
use evenloop_core::watch::{self, On};
use evenloop_core::{NoRuntime, Runtime, deadline_after};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Waits for `duration`, counted from this call.
///
/// Never early; the resolution is 1 ms, rounded up; a virtual clock is exact. `Duration::ZERO` needs no timer: it lets exactly
/// one pass of the loop go by, as asyncio's `sleep(0)` does. `Duration::MAX` waits for about thirty years. A sleep that is
/// made where no runtime is current counts from its first poll. From then on it belongs to the runtime that was current, and
/// ends while that one runs, wherever it is awaited.
///
/// # Cancel safety
///
/// **Cancel safe.** Dropping it takes the timer out. To go on with the same sleep later, keep it and poll it by
/// reference.
///
/// # Panics
///
/// The first poll panics where no runtime is current that offers timers; so does a later one if that runtime has ended
/// and no other is current. The message names both ways out.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// async fn tell_later() {
///     evenloop_time::sleep(Duration::from_secs(1)).await;
///     println!("a second later");
/// }
/// # let _ = tell_later();
/// ```
#[doc(alias = "delay")]
pub fn sleep(duration: Duration) -> Sleep {
    Sleep::after(duration, Entry::new())
}

/// As [`sleep`], on the given runtime.
///
/// # Panics
///
/// Polling it panics when `runtime` offers no timers or has ended.
///
/// # Examples
///
/// ```
/// use evenloop_core::Runtime;
/// use evenloop_time::sleep_on;
/// use std::time::Duration;
///
/// /// Sleeps by the clock of `runtime`, whatever is current where it is awaited.
/// async fn pause(runtime: &Runtime) {
///     sleep_on(runtime, Duration::from_secs(1)).await;
/// }
/// # let _ = pause;
/// ```
pub fn sleep_on(runtime: &Runtime, duration: Duration) -> Sleep {
    Sleep::after(duration, Entry::on(runtime))
}

/// Waits until `deadline` by the runtime's clock.
///
/// Never early; the resolution is 1 ms, rounded up; a virtual clock is exact. A deadline that has passed is met in the loop's
/// next turn, or within 1 ms if it has only just passed; any far one is accepted.
///
/// # Cancel safety
///
/// **Cancel safe.** Dropping it takes the timer out.
///
/// # Panics
///
/// As [`sleep`].
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// async fn both_at_once(start: Instant) {
///     let later = start + Duration::from_millis(20);
///     evenloop_time::sleep_until(later).await;
/// }
/// # let _ = both_at_once(Instant::now());
/// ```
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { state: State::At(deadline), until: true, entry: Entry::new() }
}

/// As [`sleep_until`], on the given runtime.
///
/// # Panics
///
/// Polling it panics when `runtime` offers no timers or has ended.
pub fn sleep_until_on(runtime: &Runtime, deadline: Instant) -> Sleep {
    Sleep { state: State::At(deadline), until: true, entry: Entry::on(runtime) }
}

/// The future of [`sleep`] and [`sleep_until`]. Once ready, it stays ready until it is reset.
///
/// # Examples
///
/// ```
/// use evenloop_time::{now, sleep};
/// use std::pin::pin;
/// use std::time::Duration;
///
/// async fn after_a_pause(news: impl Future<Output = ()>) {
///     let mut idle = pin!(sleep(Duration::from_secs(30)));
///     news.await;
///     idle.reset(now() + Duration::from_secs(30)); // the pause begins again
///     idle.await;
/// }
/// # let _ = after_a_pause(async {});
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    state: State,
    /// Made by `sleep_until`, which messages then name.
    until: bool,
    entry: Entry,
}

#[derive(Clone, Copy)]
enum State {
    /// Whether it was polled already.
    Yields(bool),
    After(Duration),
    At(Instant),
    Done,
}

impl Sleep {
    #[inline]
    fn after(duration: Duration, entry: Entry) -> Self {
        let state = match duration {
            Duration::ZERO => State::Yields(false),
            _ => match entry.now("sleep") {
                Ok(now) => State::At(deadline_after(now, duration)),
                Err(_) => State::After(duration),
            },
        };
        Self { state, until: false, entry }
    }

    /// When it ends, if that is known yet and has not been met.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::At(deadline) => Some(deadline),
            State::Yields(_) | State::After(_) | State::Done => None,
        }
    }

    /// Whether it has been awaited to its end.
    #[doc(alias = "is_elapsed")]
    pub fn done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Gives it another deadline, earlier or later; one that is done starts again.
    ///
    /// Who waits already is woken at the new deadline, and not at the old one unless that has just been met.
    #[doc(alias = "reschedule")]
    pub fn reset(&mut self, deadline: Instant) {
        self.state = State::At(deadline);
        self.entry.move_to(self.call(), deadline);
    }

    /// The present instant by the clock that it follows.
    pub(crate) fn now(&self) -> Instant {
        or_panic(self.entry.now(self.call()))
    }

    fn call(&self) -> &'static str {
        call(self.until)
    }

    /// Polls one that is not to set a timer, or not yet.
    #[inline(never)]
    fn try_poll_unset(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NoRuntime>> {
        match self.state {
            State::Done => Poll::Ready(Ok(())),
            State::Yields(true) => {
                self.state = State::Done;
                Poll::Ready(Ok(()))
            }
            State::Yields(false) => {
                self.state = State::Yields(true);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            State::After(duration) => {
                self.state = State::At(deadline_after(self.entry.now(self.call())?, duration));
                self.try_poll(cx)
            }
            State::At(_) => self.try_poll(cx),
        }
    }

    /// Polls it, and answers an error where `poll` panics.
    #[inline]
    fn try_poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NoRuntime>> {
        let State::At(deadline) = self.state else { return self.try_poll_unset(cx) };
        if !self.entry.is_unset_and_untold() {
            return self.try_poll_set(deadline, cx);
        }
        let until = self.until;
        self.entry.set(|| call(until), deadline, cx.waker())?;
        Poll::Pending
    }

    /// Polls one that has set its timer; and any, while somebody asks what tasks wait for.
    #[inline(never)]
    fn try_poll_set(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<Result<(), NoRuntime>> {
        if self.entry.poll(self.call(), deadline, cx.waker())? {
            self.state = State::Done;
            return Poll::Ready(Ok(()));
        }
        watch::wait(cx.waker(), self.call(), || On::Until(deadline));
        Poll::Pending
    }
}

fn call(until: bool) -> &'static str {
    if until { "sleep_until" } else { "sleep" }
}

impl Future for Sleep {
    type Output = ();

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.get_mut().try_poll(cx).map(or_panic)
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Done => "done",
            _ if self.entry.is_set() => "waiting",
            _ => "new",
        };
        write!(f, "Sleep [{state}]")
    }
}
