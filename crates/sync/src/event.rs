//! A flag that tasks wait for.
//!
//! ```text
//! New ── set ───────────────────────► Done
//!  └── not set ──► Waiting ── set ──► Granted ── poll ──► Done
//!                    │ drop: unlinked    │ drop: nothing to hand on, everybody was released
//! ```
//!
//! E1. The flag changes under the mutex only, except that setting what is set is one atomic operation.
//! E2. Set implies an empty line: whoever sets chooses everybody who waits, in the same critical section.
//! E3. Wakers run after the mutex is released.
//!
//! Discussion: `set` on a set event must not be a mere look. A consumer that clears, then searches for work, relies on
//! this: either its `clear` sees the producer's `set` (and so the work), or the flag is set again afterwards. So both are
//! read-modify-writes.

use crate::wait_list::{Place, Waiters};
use evenloop_core::shim::Mutex;
use evenloop_core::shim::atomic::{AtomicU8, Ordering};
use evenloop_core::watch::{self, On};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

const UNSET: u8 = 0;
const SET: u8 = 1;

/// A flag that tasks wait for: [`set`](Self::set) releases everybody, until [`clear`](Self::clear).
///
/// # Examples
///
/// ```
/// use evenloop_sync::Event;
/// # futures::executor::block_on(async {
/// let ready = Event::new();
/// let waiting = async {
///     ready.wait().await;
///     "released"
/// };
/// let (outcome, ()) = futures::join!(waiting, async { ready.set() });
/// assert_eq!(outcome, "released");
/// # });
/// ```
#[doc(alias("Notify", "ManualResetEvent"))]
pub struct Event {
    /// [`SET`] or [`UNSET`].
    flag: AtomicU8,
    waiters: Mutex<Waiters<()>>,
}

/// What an [`Event`] looked like a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventStatistics {
    /// Whether the event was set.
    pub is_set: bool,
    /// How many futures were waiting.
    pub waiters: usize,
}

impl Event {
    /// An event that is not set.
    #[cfg(not(evenloop_loom))]
    pub const fn new() -> Self {
        Self { flag: AtomicU8::new(UNSET), waiters: Mutex::new(Waiters::new()) }
    }

    /// An event that is not set.
    #[cfg(evenloop_loom)]
    pub fn new() -> Self {
        Self { flag: AtomicU8::new(UNSET), waiters: Mutex::new(Waiters::new()) }
    }

    /// Sets the event and releases everybody who waits at this moment, in order, even if [`clear`](Self::clear) follows
    /// at once.
    pub fn set(&self) {
        // ORDERING: Release publishes what came before this `set`, though an earlier one set the flag (see Discussion);
        // pairs with the Acquire in `clear`, `is_set` and `wait`. Failure decides nothing.
        if self.flag.compare_exchange(SET, SET, Ordering::Release, Ordering::Relaxed).is_ok() {
            return; // E2: nobody waits
        }
        let mut waiters = self.waiters.lock();
        // ORDERING: Release, as above. A read-modify-write, so that what an earlier `set` published stays published.
        self.flag.swap(SET, Ordering::Release);
        let chosen = waiters.choose_all(|()| {});
        drop(waiters);
        chosen.wake(&self.waiters, |waiters| waiters);
    }

    /// Clears the event: from now on [`wait`](Self::wait) waits. Whoever was released stays released.
    pub fn clear(&self) {
        let _no_set_is_half_done = self.waiters.lock();
        // ORDERING: Acquire sees what came before the `set` that this undoes; pairs with the Release in `set`.
        self.flag.swap(UNSET, Ordering::Acquire);
    }

    /// Whether the event is set. May be out of date by the time it returns.
    pub fn is_set(&self) -> bool {
        self.flag() == SET
    }

    fn flag(&self) -> u8 {
        // ORDERING: Acquire sees what came before the `set`; pairs with the Release there.
        self.flag.load(Ordering::Acquire)
    }

    /// Waits until the event is set; returns at once if it is.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.** The place only decides the order of being woken: a `set` releases all.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let event = evenloop_sync::Event::new();
    /// event.set();
    /// event.wait().await;
    /// # });
    /// ```
    pub fn wait(&self) -> EventWait<'_> {
        EventWait { event: self, place: Place::New }
    }

    /// What the event looks like. May be out of date by the time it returns.
    pub fn statistics(&self) -> EventStatistics {
        let waiters = self.waiters.lock().len();
        EventStatistics { is_set: self.is_set(), waiters }
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EventStatistics { is_set, waiters } = self.statistics();
        write!(f, "Event [{}, waiters: {waiters}]", if is_set { "set" } else { "unset" })
    }
}

/// The future of [`Event::wait`].
#[must_use = "futures do nothing unless awaited"]
pub struct EventWait<'a> {
    event: &'a Event,
    place: Place,
}

impl Future for EventWait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.place {
            Place::New => {
                if self.event.is_set() {
                    self.place = Place::Done;
                    return Poll::Ready(());
                }
                // While somebody asks what tasks wait for no flag looks like this, so nobody else pays for the question.
                self.join(watch::zero() as u8, cx.waker().clone())
            }
            Place::Waiting(_) => {
                let event = self.event;
                let polled = self.place.poll(&event.waiters, |waiters| waiters, cx.waker());
                watch::noted(polled, cx, CALL, || On::object(event))
            }
            Place::Done => panic!("`{CALL}` was polled after it had finished"),
        }
    }
}

const CALL: &str = "Event::wait";

impl EventWait<'_> {
    /// Joins the line, unless the event was set meanwhile. A flag that is not `unset` says that it was, or that somebody asks.
    #[inline(always)]
    fn join(&mut self, unset: u8, waker: Waker) -> Poll<()> {
        let mut waiters = self.event.waiters.lock();
        let flag = self.event.flag();
        if flag != unset {
            drop(waiters); // before the waker
            return self.join_or_be_done(flag, waker);
        }
        self.place = Place::Waiting(waiters.push(waker, ()));
        Poll::Pending
    }

    #[cold]
    fn join_or_be_done(&mut self, flag: u8, waker: Waker) -> Poll<()> {
        if flag == SET {
            self.place = Place::Done;
            return Poll::Ready(());
        }
        let polled = self.join(UNSET, waker.clone());
        if polled.is_pending() {
            watch::wait(&waker, CALL, || On::object(self.event));
        }
        polled
    }
}

impl Drop for EventWait<'_> {
    fn drop(&mut self) {
        let left = self.place.leave(&self.event.waiters, |waiters| waiters);
        drop(left); // whoever was released has nothing to hand on: so was everybody
    }
}

impl fmt::Debug for EventWait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventWait [{:?}]", self.place)
    }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;
    use std::pin::pin;

    fn poll(future: Pin<&mut EventWait<'_>>) -> Poll<()> {
        future.poll(&mut Context::from_waker(std::task::Waker::noop()))
    }

    #[test]
    fn a_set_releases_all_though_it_is_cleared_at_once() {
        let event = Event::new();
        let mut early = pin!(event.wait());
        assert!(poll(early.as_mut()).is_pending());
        assert_eq!(format!("{event:?}"), "Event [unset, waiters: 1]");
        event.set();
        event.clear();
        let mut late = pin!(event.wait());
        assert!(poll(late.as_mut()).is_pending());
        assert!(poll(early.as_mut()).is_ready());
        assert_eq!(format!("{event:?} {late:?}"), "Event [unset, waiters: 1] EventWait [waiting]");
    }

    #[test]
    fn a_set_event_does_not_wait() {
        let event = Event::new();
        event.set();
        assert!(poll(pin!(event.wait())).is_ready());
        assert_eq!(format!("{event:?}"), "Event [set, waiters: 0]");
    }

    #[test]
    fn whoever_is_dropped_leaves_the_line() {
        let event = Event::new();
        {
            let mut waiting = pin!(event.wait());
            assert!(poll(waiting.as_mut()).is_pending());
        }
        assert_eq!(event.statistics().waiters, 0);
    }
}
