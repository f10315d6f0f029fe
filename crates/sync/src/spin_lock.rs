//! A lock for a few instructions: what a queue does to its state for one item, or a lock to its line for one waiter.
//!
//! ```text
//! free ── lock: one read-modify-write ──► taken ── drop of the guard: a plain store ──► free
//! ```
//!
//! K1. The value is touched by the holder of the guard only.
//! K2. The holder runs no foreign code and waits for nothing, so it is done within nanoseconds, unless its thread is
//!     taken off the processor, a crowd is chosen at once, the memory of a line or a queue has to grow, or somebody asks
//!     who holds what.
//! K3. Who finds the lock taken spins for 2 µs, then yields the processor a few times, then sleeps for 50 µs at a time. So
//!     a thread of a real-time priority cannot keep a holder of a lower one from finishing on the same processor: it is
//!     late by what the holder takes and one sleep at most.
//! K4. What the value shows is true at the moment in which the guard is dropped, and a guess for who looks later.
//! K5. A lock is 0 or 1. Who asks what tasks wait for (see `evenloop_core::watch`) has `watch::zero` be neither, so that those
//!     who have to tell lose their first try, and nobody else pays for the question.
//!
//! Why: a mutex that lets threads sleep until they are woken has to ask at every release whether one does, with a second
//! read-modify-write. Locking and unlocking takes 13 ns with parking_lot's mutex and 7 with this lock. An item locks a
//! queue twice: all of it takes 19 ns an item, a bare `VecDeque` under the mutex 26. A waiter of a lock costs its
//! line two lockings: joining it, and the release that grants. K2 is what makes sleeping dispensable. Where user code runs under the lock (`PriorityQueue` compares
//! items) it is the mutex.

use crate::wait_list::Guarding;
use evenloop_core::shim::atomic::{AtomicU8, Ordering};
use evenloop_core::shim::{UnsafeCell, hint, thread};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// How often to look before the processor is yielded: some 2 µs. In a model only a yield lets the holder go on.
const SPINS: u32 = if cfg!(evenloop_loom) { 0 } else { 64 };

/// How often to yield before sleeping.
const YIELDS: u32 = 16;

/// K5.
const FREE: u8 = 0;
const TAKEN: u8 = 1;

const SLEEP: Duration = Duration::from_micros(50);

/// What a value shows of itself to those who do not hold its lock (K4).
pub trait Shows {
    /// Whether it shows anything.
    const ANYTHING: bool = false;

    /// What it shows.
    fn shows(&self) -> u8 {
        0
    }
}

/// See the head of this file.
pub struct SpinLock<T: Shows> {
    /// [`FREE`] or [`TAKEN`].
    taken: AtomicU8,
    /// K4. Written by the holder.
    shown: AtomicU8,
    /// K1.
    value: UnsafeCell<T>,
}

/// Frees the lock when dropped.
#[must_use = "dropping the guard releases the lock"]
pub(crate) struct SpinGuard<'a, T: Shows> {
    lock: &'a SpinLock<T>,
    /// Shared between threads only if `T` may be.
    borrows: PhantomData<&'a mut T>,
}

// SAFETY: the lock owns the value, and lends it to one thread at a time (K1).
unsafe impl<T: Shows + Send> Send for SpinLock<T> {}
// SAFETY: as above.
unsafe impl<T: Shows + Send> Sync for SpinLock<T> {}

impl<T: Shows> SpinLock<T> {
    #[cfg(not(evenloop_loom))]
    pub(crate) const fn new(value: T) -> Self {
        Self { taken: AtomicU8::new(FREE), shown: AtomicU8::new(0), value: UnsafeCell::new(value) }
    }

    #[cfg(evenloop_loom)]
    pub(crate) fn new(value: T) -> Self {
        Self { taken: AtomicU8::new(FREE), shown: AtomicU8::new(0), value: UnsafeCell::new(value) }
    }

    /// Waits until the lock is free and takes it.
    #[inline]
    pub(crate) fn lock(&self) -> SpinGuard<'_, T> {
        if !self.try_take() {
            self.lock_contended();
        }
        SpinGuard { lock: self, borrows: PhantomData }
    }

    /// Takes the lock if it is free, and `free` says so: that is `watch::zero` as it was read a moment ago (K5). For those
    /// who have to tell whoever asks what tasks wait for; `None` says to look whether somebody does, and to wait for the lock
    /// otherwise.
    #[inline]
    pub(crate) fn lock_unless_asked(&self, free: usize) -> Option<SpinGuard<'_, T>> {
        self.try_take_from(free as u8).then(|| SpinGuard { lock: self, borrows: PhantomData })
    }

    #[inline]
    fn try_take(&self) -> bool {
        self.try_take_from(FREE)
    }

    /// A compare-exchange, for one that fails writes nothing: the holder's store is then the only write to come.
    #[inline]
    fn try_take_from(&self, free: u8) -> bool {
        // ORDERING: Acquire sees what the holder before did; pairs with the Release in the guard's drop. Failure tells
        // nothing, and without a reason it costs one more round.
        self.taken.compare_exchange_weak(free, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn lock_contended(&self) {
        let mut rounds = 0;
        loop {
            for _ in 0..SPINS {
                hint::spin_loop();
                // ORDERING: Relaxed: only looks whether trying is worth the while.
                if self.taken.load(Ordering::Relaxed) == FREE {
                    break;
                }
            }
            if self.try_take() {
                return;
            }
            // K3.
            if rounds < YIELDS {
                rounds += 1;
                thread::yield_now();
            } else {
                thread::sleep(SLEEP);
            }
        }
    }
}

impl<T: Shows> Guarding<T> for SpinLock<T> {
    #[inline]
    fn lock(&self) -> impl DerefMut<Target = T> {
        self.lock()
    }

    #[inline]
    fn shown(&self) -> u8 {
        // ORDERING: Relaxed: a guess (K4).
        self.shown.load(Ordering::Relaxed)
    }
}

impl<T: Shows> Deref for SpinGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: K1: this is the guard.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<T: Shows> DerefMut for SpinGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: K1: this is the guard.
        self.lock.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T: Shows> Drop for SpinGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if T::ANYTHING {
            // ORDERING: Relaxed: a guess for others (K4).
            self.lock.shown.store(self.shows(), Ordering::Relaxed);
        }
        // ORDERING: Release publishes what the holder did; pairs with the Acquire in `try_take`.
        self.lock.taken.store(FREE, Ordering::Release);
    }
}
