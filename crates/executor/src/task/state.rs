//! The word of a task that every thread may write.
//!
//! Nearly all of a task belongs to its loop's thread and is plain memory (see `raw.rs`). What other threads may do to a
//! task goes through this one word: wake it, ask for its end, and count the wakers that they clone and drop.
//!
//! ```text
//!   63 ......................... 3      2         1         0
//!  ┌──────────────────────────────┬─────────┬─────────┬─────────┐
//!  │ count of references (signed) │  ASKED  │ SETTLED │ QUEUED  │
//!  └──────────────────────────────┴─────────┴─────────┴─────────┘
//! ```
//!
//! The count is one half of a biased count: the loop's thread keeps its own half in plain memory, so a waker that is
//! cloned on one thread and dropped on another makes both halves wrong and their sum right.
//!
//! ```text
//!            wake                            settle: both halves become one
//! idle ─────────────► QUEUED ─┐   idle ───────────────────────────────────► SETTLED ── last release ──► freed
//!   ▲                         │   QUEUED ── settle: the queue's stake becomes a reference ──► SETTLED
//!   └────── take ◄────────────┘
//! ```
//!
//! ASKED never stands without QUEUED: it asks the loop to cancel the task when it takes it from the inbox.
//!
//! W1. Who sets QUEUED brings the task to the loop's inbox, or calls `take` if the inbox refuses it. While QUEUED is set
//!     the task is not freed.
//! W2. SETTLED is set once, by the loop's thread, when the task is over and wakers are left. From then on the count is
//!     the whole truth, each reference is counted here, and who releases the last one frees the task.
//! W3. Before SETTLED nobody frees because of this word, save the loop's thread, when it reads `nothing` and its own half
//!     adds up to zero. That is enough. The operations that it has seen contain, with each release, the making of what
//!     was released; so if they add up to zero, all references they made are gone, and any other would have been
//!     cloned from one of those before its release: then it would have been seen too.

use evenloop_core::shim::atomic::{AtomicU64, Ordering};

/// See the head.
pub(crate) struct Word(AtomicU64);

/// Some thread brings the task to the inbox, or it lies there.
const QUEUED: u64 = 1;
/// The task is over and both halves of the count are joined here.
const SETTLED: u64 = 2;
/// One reference. The count sits above the bits and wraps around as a signed number would.
const ONE: u64 = 8;
/// Somebody asks for the task's end.
const ASKED: u64 = 4;

fn count(word: u64) -> i64 {
    (word as i64) >> 3
}

/// What a waker on a foreign thread has to do next.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Bring the task to the inbox.
    Push,
    /// Nothing: it is on its way, or over.
    Nothing,
    /// Free the task: that was the last reference.
    Free,
}

/// What is true of a task that was taken from the inbox.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It may run.
    Live,
    /// It may run, and its end was asked for.
    Asked,
    /// It is over, and others still refer to it.
    Over,
    /// It is over, and the queue's was the last reference: free it.
    Free,
}

impl Word {
    /// The word of a new task to which nobody refers.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The word of a new task that its maker, on any thread, brings to the inbox. The maker keeps a reference.
    pub(crate) fn new_queued() -> Self {
        Self(AtomicU64::new(QUEUED | ONE))
    }

    /// Counts one more reference, from any thread.
    pub(crate) fn add(&self) {
        // ORDERING: Relaxed: whoever adds holds a reference, so nothing is freed meanwhile.
        let before = self.0.fetch_add(ONE, Ordering::Relaxed);
        // 2^59 references do not fit in memory, but somebody may forget wakers in a loop for ages.
        if count(before) >= 1 << 59 {
            std::process::abort();
        }
    }

    /// Releases one reference, from any thread. True: it was the last, free the task.
    #[must_use]
    pub(crate) fn release(&self) -> bool {
        // ORDERING: Release publishes this thread's use of the task to whoever frees it (Acquire here, in `take`, in
        // `nothing` and in `settle`); Acquire, for the case that this thread frees it, sees all others' use.
        let before = self.0.fetch_sub(ONE, Ordering::AcqRel);
        before & SETTLED != 0 && count(before) == 1
    }

    /// Wakes through a reference that stays.
    pub(crate) fn wake(&self) -> Wake {
        self.wake_with(QUEUED, 0)
    }

    /// Asks for the task's end, through a reference that stays.
    pub(crate) fn cancel(&self) -> Wake {
        self.wake_with(QUEUED | ASKED, 0)
    }

    /// Wakes through a reference that ends with this.
    pub(crate) fn wake_and_release(&self) -> Wake {
        self.wake_with(QUEUED, ONE)
    }

    fn wake_with(&self, bits: u64, released: u64) -> Wake {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let over = seen & SETTLED != 0;
            let next = if over { seen } else { seen | bits }.wrapping_sub(released);
            // ORDERING: Release publishes what was written before the wake, also if the task is queued already: pairs with
            // the Acquire in `take`. Acquire: as in `release`.
            match self.0.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if over && released != 0 && count(seen) == 1 => return Wake::Free,
                Ok(_) if over || seen & QUEUED != 0 => return Wake::Nothing,
                Ok(_) => return Wake::Push,
                Err(now) => seen = now,
            }
        }
    }

    /// Ends the task's stay in the inbox (W1): called by the loop before it runs the task, or by whom the inbox refused.
    pub(crate) fn take(&self) -> Taken {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let next = if seen & SETTLED != 0 { seen.wrapping_sub(ONE) } else { seen & !(QUEUED | ASKED) };
            // ORDERING: Acquire sees what was written before each wake that found or set QUEUED; pairs with the Release
            // in `wake_with`. Release: as in `release`.
            match self.0.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if seen & (SETTLED | ASKED) == ASKED => return Taken::Asked,
                Ok(_) if seen & SETTLED == 0 => return Taken::Live,
                Ok(_) if count(seen) == 1 => return Taken::Free,
                Ok(_) => return Taken::Over,
                Err(now) => seen = now,
            }
        }
    }

    /// Whether the task is over and its count is the whole truth.
    pub(crate) fn is_settled(&self) -> bool {
        // ORDERING: Relaxed: asked by whoever frees the task, after an acquiring operation on this word; or nothing is read
        // because of the answer.
        self.0.load(Ordering::Relaxed) & SETTLED != 0
    }

    /// For the loop's thread, before SETTLED: whether no other reference exists, given its half of the count (W3).
    #[must_use]
    pub(crate) fn nothing(&self, own_half: i64) -> bool {
        // ORDERING: Acquire sees the others' use of the task before they released it; pairs with `release`.
        let word = self.0.load(Ordering::Acquire);
        word & QUEUED == 0 && count(word) + own_half == 0
    }

    /// For the loop's thread, once: joins its half of the count, which includes the references that it still holds, to
    /// this one (W2). True: nobody refers to the task, free it.
    #[must_use]
    pub(crate) fn settle(&self, own_half: i64) -> bool {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            debug_assert_eq!(seen & SETTLED, 0, "W2: a task settles once");
            let total = count(seen) + own_half + i64::from(seen & QUEUED != 0);
            let next = (total as u64).wrapping_mul(ONE) | SETTLED;
            // ORDERING: Release publishes the end of the task to whoever frees it, Acquire as in `release`.
            match self.0.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return total == 0,
                Err(now) => seen = now,
            }
        }
    }
}

impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = self.0.load(Ordering::Relaxed);
        let queued = if word & QUEUED != 0 { ", queued" } else { "" };
        let settled = if word & SETTLED != 0 { ", settled" } else { "" };
        write!(f, "Word [{}{queued}{settled}]", count(word))
    }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_wake_pushes() {
        let word = Word::new();
        assert_eq!(word.wake(), Wake::Push);
        assert_eq!(word.wake(), Wake::Nothing);
        assert_eq!(word.take(), Taken::Live);
        assert_eq!(word.wake(), Wake::Push);
    }

    #[test]
    fn asking_for_the_end_brings_it_to_the_inbox() {
        let word = Word::new();
        assert_eq!(word.cancel(), Wake::Push);
        assert_eq!(word.cancel(), Wake::Nothing);
        assert_eq!(word.take(), Taken::Asked);
        assert_eq!(word.wake(), Wake::Push);
        assert_eq!(word.take(), Taken::Live);
    }

    #[test]
    fn two_wrong_halves_make_a_right_sum() {
        let word = Word::new();
        assert!(!word.release()); // a waker that the loop's thread had counted
        assert_eq!(format!("{word:?}"), "Word [-1]");
        assert!(!word.nothing(2));
        assert!(word.nothing(1));
        assert!(word.settle(1));
    }

    #[test]
    fn after_settling_the_last_release_frees() {
        let word = Word::new();
        assert!(!word.settle(2));
        assert_eq!(word.wake(), Wake::Nothing);
        assert!(!word.release());
        assert_eq!(word.wake_and_release(), Wake::Free);
    }

    #[test]
    fn a_stay_in_the_inbox_is_a_reference_once_settled() {
        let word = Word::new();
        assert_eq!(word.wake_and_release(), Wake::Push); // one counted by the loop's thread
        assert!(!word.nothing(1));
        assert!(!word.settle(1));
        assert_eq!(word.take(), Taken::Free);
    }
}
