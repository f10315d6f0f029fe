//! A meeting point for a fixed number of tasks.
//!
//! ```text
//! New ── the last to arrive ────────────────────────────────► Done (index)
//!  │└── others ──► Waiting ── the last arrives ──► Granted ── poll ──► Done (index)
//!  │                │ │ drop: unlinked, one fewer   │ drop: nothing to hand on, all were released
//!  │                │ └── reset, abort ──► Granted ── poll ──► Done (BrokenBarrier)
//!  └── broken ──► Done (BrokenBarrier)
//! ```
//!
//! B1. Fewer than `parties` are in line whenever the mutex is free: who completes them releases all at once.
//! B2. Indices are handed out at the release, 0 to `parties - 1` in order of arrival: whoever left before has none.
//! B3. Broken implies an empty line.
//!
//! The next generation may gather at once: who was released is out of the line, whether or not it has run yet.

use crate::wait_list::{Place, Waiters};
use evenloop_core::shim::{Mutex, MutexGuard};
use evenloop_core::watch::{self, On};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Lets a fixed number of tasks wait for one another, again and again.
///
/// # Examples
///
/// ```
/// use evenloop_sync::Barrier;
/// # futures::executor::block_on(async {
/// let start = Barrier::new(3);
/// let (a, b, c) = futures::join!(start.wait(), start.wait(), start.wait());
/// assert_eq!((a?.index, b?.index, c?.index), (0, 1, 2));
/// # Ok::<(), evenloop_sync::BrokenBarrier>(())
/// # }).unwrap();
/// ```
pub struct Barrier {
    parties: usize,
    state: Mutex<State>,
}

struct State {
    waiters: Waiters<Outcome>,
    broken: bool,
}

/// A waiter's note.
#[derive(Clone, Copy, Default)]
enum Outcome {
    #[default]
    NotYet,
    Passed(usize),
    Broken,
}

/// Somebody passed a [`Barrier`].
///
/// # Examples
///
/// ```
/// use evenloop_sync::Barrier;
/// # futures::executor::block_on(async {
/// let barrier = Barrier::new(2);
/// let (one, other) = futures::join!(barrier.wait(), barrier.wait());
/// let (one, other) = (one.unwrap(), other.unwrap());
/// assert_eq!(one.index + other.index, 1);
/// assert_ne!(one.is_leader(), other.is_leader(), "one of each round");
/// # });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BarrierPassed {
    /// Which of them it was: 0 for the first to arrive, `parties - 1` for the last. Each is given once.
    pub index: usize,
}

/// The barrier was reset or aborted while somebody waited, or is aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "BrokenBarrierError")]
pub struct BrokenBarrier;

/// What a [`Barrier`] looked like a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BarrierStatistics {
    /// How many pass together.
    pub parties: usize,
    /// How many had arrived and waited for the rest.
    pub n_waiting: usize,
    /// Whether the barrier was aborted.
    pub broken: bool,
}

impl Barrier {
    /// A barrier that `parties` tasks pass together.
    ///
    /// # Panics
    ///
    /// If `parties` is 0.
    #[cfg(not(evenloop_loom))]
    #[track_caller]
    pub const fn new(parties: usize) -> Self {
        assert!(parties > 0, "`Barrier::new` needs at least one party");
        Self { parties, state: Mutex::new(State { waiters: Waiters::new(), broken: false }) }
    }

    /// A barrier that `parties` tasks pass together.
    #[cfg(evenloop_loom)]
    pub fn new(parties: usize) -> Self {
        Self { parties, state: Mutex::new(State { waiters: Waiters::new(), broken: false }) }
    }

    /// Waits until as many tasks as the barrier has parties have arrived.
    ///
    /// The last to arrive does not wait: it releases the others, in order of arrival.
    ///
    /// Differs from asyncio: whoever comes after the last belongs to the next round at once, and does not wait until the
    /// others have left; indices are given at the release, so that they are unique whoever has given up before.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.** The barrier does not break: it waits for one more. A future that is
    /// dropped after the release, before it could run, had passed.
    ///
    /// # Errors
    ///
    /// [`BrokenBarrier`] if the barrier is aborted, or is aborted or [reset](Self::reset) while this waits.
    pub fn wait(&self) -> BarrierWait<'_> {
        BarrierWait { barrier: self, place: Place::New }
    }

    /// Sends everybody who waits away with [`BrokenBarrier`], and makes the barrier usable again if it was aborted.
    pub fn reset(&self) {
        self.send_away(false);
    }

    /// Sends everybody who waits away with [`BrokenBarrier`], and everybody who comes, until [`reset`](Self::reset).
    pub fn abort(&self) {
        self.send_away(true);
    }

    /// How many pass together.
    pub fn parties(&self) -> usize {
        self.parties
    }

    /// How many have arrived and wait for the rest. May be out of date by the time it returns.
    pub fn n_waiting(&self) -> usize {
        self.state.lock().waiters.len()
    }

    /// Whether the barrier is aborted. May be out of date by the time it returns.
    pub fn broken(&self) -> bool {
        self.state.lock().broken
    }

    /// What the barrier looks like. May be out of date by the time it returns.
    pub fn statistics(&self) -> BarrierStatistics {
        let state = self.state.lock();
        BarrierStatistics { parties: self.parties, n_waiting: state.waiters.len(), broken: state.broken }
    }

    fn send_away(&self, broken: bool) {
        let mut state = self.state.lock();
        state.broken = broken;
        self.release(state, |outcome| *outcome = Outcome::Broken);
    }

    /// Releases everybody in line, and wakes them after the mutex.
    fn release(&self, mut state: MutexGuard<'_, State>, grant: impl FnMut(&mut Outcome)) {
        let chosen = state.waiters.choose_all(grant);
        drop(state);
        chosen.wake(&self.state, |state| &mut state.waiters);
    }

    /// The first poll of a `wait`.
    fn arrive(&self, place: &mut Place, waker: Waker) -> Poll<Outcome> {
        let mut state = self.state.lock();
        debug_assert!(state.waiters.len() < self.parties); // B1
        if !state.broken && state.waiters.len() + 1 < self.parties {
            *place = Place::Waiting(state.waiters.push(waker, Outcome::NotYet));
            return Poll::Pending;
        }
        *place = Place::Done;
        if state.broken {
            drop(state); // before the waker
            return Poll::Ready(Outcome::Broken);
        }
        let mut arrived = 0..;
        let mut next = || Outcome::Passed(arrived.next().expect("parties are counted")); // B2
        self.release(state, |outcome| *outcome = next());
        Poll::Ready(next())
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BarrierStatistics { parties, n_waiting, broken } = self.statistics();
        let broken = if broken { "broken, " } else { "" };
        write!(f, "Barrier [{broken}waiters: {n_waiting}/{parties}]")
    }
}

/// The future of [`Barrier::wait`].
#[must_use = "futures do nothing unless awaited"]
pub struct BarrierWait<'a> {
    barrier: &'a Barrier,
    place: Place,
}

impl Future for BarrierWait<'_> {
    type Output = Result<BarrierPassed, BrokenBarrier>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { barrier, place } = self.get_mut();
        let outcome = match place {
            Place::New => barrier.arrive(place, cx.waker().clone()),
            Place::Waiting(_) => place.poll(&barrier.state, |state| &mut state.waiters, cx.waker()),
            Place::Done => panic!("`Barrier::wait` was polled after it had finished"),
        };
        let outcome = watch::noted(outcome, cx, "Barrier::wait", || On::object(*barrier));
        outcome.map(|outcome| match outcome {
            Outcome::Passed(index) => Ok(BarrierPassed { index }),
            Outcome::Broken => Err(BrokenBarrier),
            Outcome::NotYet => unreachable!("who is released has an outcome"),
        })
    }
}

impl Drop for BarrierWait<'_> {
    fn drop(&mut self) {
        let left = self.place.leave(&self.barrier.state, |state| &mut state.waiters);
        drop(left); // whoever was released has nothing to hand on: so was everybody
    }
}

impl fmt::Debug for BarrierWait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BarrierWait [{:?}]", self.place)
    }
}

impl BarrierPassed {
    /// Whether this is the one of them that does what only one should do: index 0.
    pub fn is_leader(&self) -> bool {
        self.index == 0
    }
}

impl fmt::Display for BrokenBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the barrier was reset or aborted")
    }
}

impl Error for BrokenBarrier {}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;

    fn poll(wait: &mut BarrierWait<'_>) -> Poll<Result<BarrierPassed, BrokenBarrier>> {
        Pin::new(wait).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn passed(index: usize) -> Poll<Result<BarrierPassed, BrokenBarrier>> {
        Poll::Ready(Ok(BarrierPassed { index }))
    }

    #[test]
    fn who_leaves_is_not_counted_and_has_no_index() {
        let barrier = Barrier::new(3);
        let mut waits = [barrier.wait(), barrier.wait()];
        for wait in &mut waits {
            assert!(poll(wait).is_pending());
        }
        let [gone, mut first] = waits;
        drop(gone);
        assert_eq!(format!("{barrier:?}"), "Barrier [waiters: 1/3]");
        let (mut second, mut third) = (barrier.wait(), barrier.wait());
        assert!(poll(&mut second).is_pending());
        assert_eq!(poll(&mut third), passed(2));
        let mut next_generation = barrier.wait();
        assert!(poll(&mut next_generation).is_pending());
        assert_eq!((poll(&mut second), poll(&mut first)), (passed(1), passed(0)));
        assert_eq!(barrier.n_waiting(), 1);
    }

    #[test]
    fn reset_and_abort_send_away() {
        let barrier = Barrier::new(2);
        let mut wait = barrier.wait();
        assert!(poll(&mut wait).is_pending());
        barrier.reset();
        assert_eq!(poll(&mut wait), Poll::Ready(Err(BrokenBarrier)));
        assert!(!barrier.broken());
        let mut wait = barrier.wait();
        assert!(poll(&mut wait).is_pending());
        barrier.abort();
        assert_eq!(poll(&mut wait), Poll::Ready(Err(BrokenBarrier)));
        assert_eq!(poll(&mut barrier.wait()), Poll::Ready(Err(BrokenBarrier)));
        assert_eq!(format!("{barrier:?}"), "Barrier [broken, waiters: 0/2]");
        barrier.reset();
        assert!(poll(&mut barrier.wait()).is_pending());
    }

    #[test]
    fn one_party_passes_alone() {
        assert_eq!(poll(&mut Barrier::new(1).wait()), passed(0));
    }
}
