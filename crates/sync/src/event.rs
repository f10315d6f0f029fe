//! A flag that tasks wait for.
//!
//! ```text
//! New ── set ───────────────────────► Done
//!  └── not set ──► Waiting ── set ──► Granted ── poll ──► Done
//!                    │ drop: unlinked    │ drop: nothing to hand on, everybody was released
//! ```
//!
//! The word: `number of releases << 1 | SET`.
//!
//! E1. The number of releases changes under the spin lock only, and so does what is not set to set. The flag alone changes
//!     without it: clearing, and setting what is set, is one atomic operation each.
//! E2. Set and the spin lock free implies an empty line: whoever sets dismisses everybody in line, in the same critical
//!     section.
//! E3. Whoever waits knows how many releases there were when it joined the line. Once there are more it was released, its
//!     entry is the setter's, and it needs no lock to see that.
//! E4. Wakers run while the spin lock is free.
//!
//! Discussion: `set` on a set event must not be a mere look. A consumer that clears, then searches for work, relies on
//! this: either its `clear` sees the producer's `set` (and so the work), or the flag is set again afterwards. So both are
//! read-modify-writes.
//!
//! The price of E3: a future that is dropped after its release, while the setter has not come to its waker yet, cannot take
//! the waker along. The setter wakes it all the same.

use crate::spin_lock::{SpinGuard, SpinLock};
use crate::wait_list::{Place, Renewal, Waiters};
use evenloop_core::shim::atomic::{AtomicU64, Ordering};
use evenloop_core::watch::{self, On};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

const SET: u64 = 1;
const RELEASE: u64 = 2;

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
    /// See the head of this file.
    word: AtomicU64,
    waiters: SpinLock<Waiters<()>>,
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
        Self { word: AtomicU64::new(0), waiters: SpinLock::new(Waiters::new()) }
    }

    /// An event that is not set.
    #[cfg(evenloop_loom)]
    pub fn new() -> Self {
        Self { word: AtomicU64::new(0), waiters: SpinLock::new(Waiters::new()) }
    }

    /// Sets the event and releases everybody who waits at this moment, in order, even if [`clear`](Self::clear) follows
    /// at once.
    pub fn set(&self) {
        let word = self.word.load(Ordering::Relaxed);
        // ORDERING: Release publishes what came before this `set`, though an earlier one set the flag (see Discussion);
        // pairs with the Acquire in `clear` and `word`. Failure decides nothing, nor does the look before it.
        if word & SET != 0
            && self.word.compare_exchange(word, word, Ordering::Release, Ordering::Relaxed).is_ok()
        {
            return; // E2: nobody waits
        }
        let mut waiters = self.waiters.lock();
        // ORDERING: Relaxed: E1: the number of releases is ours, and the flag is written over.
        let word = self.word.load(Ordering::Relaxed);
        // ORDERING: Release, as above. A read-modify-write, so that what an earlier `set` published stays published.
        self.word.swap((word | SET) + RELEASE, Ordering::Release);
        let chosen = waiters.dismiss_all(); // E3
        drop(waiters);
        chosen.wake(&self.waiters, |waiters| waiters);
    }

    /// Clears the event: from now on [`wait`](Self::wait) waits. Whoever was released stays released.
    pub fn clear(&self) {
        // ORDERING: Acquire sees what came before the `set` that this undoes; pairs with the Release in `set`.
        self.word.fetch_and(!SET, Ordering::Acquire);
    }

    /// Whether the event is set. May be out of date by the time it returns.
    pub fn is_set(&self) -> bool {
        self.word() & SET != 0
    }

    #[inline]
    fn word(&self) -> u64 {
        // ORDERING: Acquire sees what came before the `set`; pairs with the Release there.
        self.word.load(Ordering::Acquire)
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
        EventWait { event: self, place: Place::New, joined: 0 }
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
    /// The event's word when this joined the line (E3).
    joined: u64,
}

impl Future for EventWait<'_> {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.place {
            Place::New if self.event.is_set() => {}
            Place::New => return self.join_slow(cx.waker()),
            Place::Waiting(_) if self.is_released(self.event.word()) => {}
            Place::Waiting(_) => return self.poll_again(cx.waker()),
            Place::Done => panic!("`{CALL}` was polled after it had finished"),
        }
        self.place = Place::Done;
        Poll::Ready(())
    }
}

const CALL: &str = "Event::wait";

impl EventWait<'_> {
    /// E3. `word` is the event's now; only for who is in line.
    #[inline]
    fn is_released(&self, word: u64) -> bool {
        word >= self.joined + RELEASE
    }

    /// The first poll, when the event was not set.
    #[inline(never)]
    fn join_slow(&mut self, waker: &Waker) -> Poll<()> {
        let fresh = waker.clone(); // E4
        // While somebody asks what tasks wait for no free lock looks like this, so nobody else pays for the question.
        match self.event.waiters.lock_unless_asked(watch::zero()) {
            Some(waiters) => self.join(waiters, fresh),
            None => self.join_told(fresh),
        }
    }

    /// Joins the line, once the spin lock is free, and tells who asks.
    #[cold]
    fn join_told(&mut self, waker: Waker) -> Poll<()> {
        let fresh = waker.clone(); // E4
        let polled = self.join(self.event.waiters.lock(), fresh);
        self.noted(polled, &waker)
    }

    /// Joins the line, unless the event was set meanwhile.
    #[inline(always)]
    fn join(&mut self, mut waiters: SpinGuard<'_, Waiters<()>>, waker: Waker) -> Poll<()> {
        self.joined = self.event.word();
        if self.joined & SET != 0 {
            drop(waiters);
            drop(waker); // E4
            self.place = Place::Done;
            return Poll::Ready(());
        }
        self.place = Place::Waiting(waiters.push(waker, ()));
        Poll::Pending
    }

    /// Polled in line, though nobody has set the event: wakers are cloned and dropped while the lock is free (E4).
    #[cold]
    fn poll_again(&mut self, waker: &Waker) -> Poll<()> {
        let mut fresh = None;
        loop {
            let mut waiters = self.event.waiters.lock();
            let word = self.event.word();
            let Place::Waiting(key) = &self.place else { unreachable!("only who waits is polled here") };
            let renewal = match self.is_released(word) {
                true => Renewal::Over,
                false => waiters.renew(key, waker, &mut fresh),
            };
            drop(waiters);
            match renewal {
                Renewal::Over => {
                    self.place = Place::Done;
                    return Poll::Ready(());
                }
                Renewal::Kept(old) => {
                    drop(old);
                    return self.noted(Poll::Pending, waker);
                }
                Renewal::Clone => fresh = Some(waker.clone()),
            }
        }
    }

    fn noted(&self, polled: Poll<()>, waker: &Waker) -> Poll<()> {
        if polled.is_pending() {
            watch::wait(waker, CALL, || On::object(self.event));
        }
        polled
    }

    /// Leaves the line, if nobody has set the event. Who was released has nothing to hand on: so was everybody.
    #[cold]
    fn leave(&mut self) {
        let mut waiters = self.event.waiters.lock();
        let Place::Waiting(key) = std::mem::replace(&mut self.place, Place::Done) else { return };
        // ORDERING: Relaxed: the number of releases is read under its lock (E1), and nothing else.
        if !self.is_released(self.event.word.load(Ordering::Relaxed)) {
            let left = waiters.leave(key);
            drop(waiters);
            drop(left); // E4
        }
    }
}

impl Drop for EventWait<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Place::Waiting(_) = self.place {
            self.leave();
        }
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
