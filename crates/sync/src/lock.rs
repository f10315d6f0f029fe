//! A mutual-exclusion lock around a value.
//!
//! One permit (see [`permits`](crate::permits)), a cell, and guards. Releasing gives the permit directly to the first
//! waiter: between the release and that waiter's next poll the lock stays locked, on its behalf.
//!
//! ```text
//! New ── free ─────────────────────────────► Done (guard)
//!  └── held ──► Waiting ── release ──► Granted ── poll ──┘
//!                 │ drop: unlinked        │ drop: handed to the next waiter
//! ```
//!
//! L1. The lock's one permit is free, or exactly one guard or one Granted waiter stands for it.
//! L2. The value is touched only through `&mut Lock`, the lock by value, or the guard that stands for the permit.
//!
//! Discussion: no owner is recorded and no guard is told from another, so a task that acquires twice waits for itself for
//! ever, as in asyncio. The name of whoever holds a lock belongs to tools that see tasks; this crate knows no tasks.

use crate::permits::{Bet, Call, MAX, Permits, Place};
use evenloop_core::shim::{StdArc, UnsafeCell};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A lock around a value: one task at a time, strictly in the order of asking.
///
/// The guard releases on every way out of its scope, and neither a newcomer nor the task that just released gets the
/// lock before those who wait already.
///
/// Acquiring a lock that the same task holds waits for ever, as in asyncio; [`try_acquire`](Self::try_acquire) does not.
///
/// Differs from asyncio: the lock owns what it guards, and is released by dropping the guard, so nobody can release what
/// somebody else holds, or a lock that is free.
///
/// # Examples
///
/// ```
/// use evenloop_sync::Lock;
/// # futures::executor::block_on(async {
/// let account = Lock::new(100);
/// {
///     let mut balance = account.acquire().await;
///     *balance -= 30;
/// } // released here
/// assert_eq!(*account.acquire().await, 70);
/// # });
/// ```
#[doc(alias = "Mutex")]
pub struct Lock<T> {
    permits: Permits,
    value: UnsafeCell<T>,
}

// SAFETY: the lock owns its value; moving it moves the value.
unsafe impl<T: Send> Send for Lock<T> {}
// SAFETY: L1 and L2: sharing the lock lends the value to one thread at a time, which needs `Send` and no more.
unsafe impl<T: Send> Sync for Lock<T> {}

/// How a lock most likely is before it is taken, and before it is released.
const FREE: Bet = Bet::Free(1);
const HELD: Bet = Bet::Free(0);

/// What a [`Lock`] looked like a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockStatistics {
    /// Whether the lock was held, or given to a waiter that has not run yet.
    pub locked: bool,
    /// How many futures were in line.
    pub waiters: usize,
}

impl<T> Lock<T> {
    /// A free lock around `value`.
    #[cfg(not(evenloop_loom))]
    pub const fn new(value: T) -> Self {
        Self { permits: Permits::new(1), value: UnsafeCell::new(value) }
    }

    /// A free lock around `value`.
    #[cfg(evenloop_loom)]
    pub fn new(value: T) -> Self {
        Self { permits: Permits::new(1), value: UnsafeCell::new(value) }
    }

    /// Waits until the lock is free and takes it.
    ///
    /// Tasks get the lock in the order of their first poll. The lock is released when the guard is dropped.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.** If the lock had already been given to the dropped future, it goes to
    /// the next in line.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let log = evenloop_sync::Lock::new(Vec::new());
    /// log.acquire().await.push("a line");
    /// assert!(!log.locked());
    /// # });
    /// ```
    #[inline]
    #[doc(alias = "lock")]
    pub fn acquire(&self) -> LockAcquire<'_, T> {
        LockAcquire { lock: self, place: Place::New }
    }

    /// Takes the lock if it is free. `None` if it is held or somebody is in line.
    #[inline]
    #[doc(alias = "try_lock")]
    pub fn try_acquire(&self) -> Option<LockGuard<'_, T>> {
        self.permits.try_acquire(1, FREE).ok().map(|()| LockGuard::new(self))
    }

    /// As [`acquire`](Self::acquire), with a guard that keeps the lock alive and may go anywhere.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.** As with [`acquire`](Self::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// # futures::executor::block_on(async {
    /// let lock = Arc::new(evenloop_sync::Lock::new(1));
    /// let guard = lock.acquire_owned().await;
    /// drop(lock);
    /// assert_eq!(*guard, 1);
    /// # });
    /// ```
    #[inline]
    #[doc(alias = "lock_owned")]
    pub fn acquire_owned(self: &StdArc<Self>) -> LockAcquireOwned<T> {
        LockAcquireOwned { lock: self.clone(), place: Place::New }
    }

    /// As [`try_acquire`](Self::try_acquire), with a guard that keeps the lock alive and may go anywhere.
    #[inline]
    #[doc(alias = "try_lock_owned")]
    pub fn try_acquire_owned(self: &StdArc<Self>) -> Option<OwnedLockGuard<T>> {
        self.permits
            .try_acquire(1, FREE)
            .ok()
            .map(|()| OwnedLockGuard { lock: self.clone(), _lends: PhantomData })
    }

    /// Whether [`acquire`](Self::acquire) would have to wait. May be out of date by the time it returns.
    #[doc(alias = "is_locked")]
    pub fn locked(&self) -> bool {
        self.permits.is_locked()
    }

    /// The value, without waiting: `&mut self` says that nobody else has the lock.
    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY: L2: `&mut self`, so no guard lives and no other borrow of the value.
        self.value.with_mut(|value| unsafe { &mut *value })
    }

    /// The value, without the lock.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// What the lock looks like. May be out of date by the time it returns.
    pub fn statistics(&self) -> LockStatistics {
        LockStatistics { locked: self.locked(), waiters: self.permits.waiters() }
    }
}

impl<T: Default> Default for Lock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Lock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LockStatistics { locked, waiters } = self.statistics();
        write!(f, "Lock [{}, waiters: {waiters}]", if locked { "locked" } else { "unlocked" })
    }
}

// === impl LockGuard ===

/// The right to the value of a [`Lock`]; dropping it releases the lock.
#[must_use = "dropping the guard releases the lock"]
#[doc(alias = "MutexGuard")]
pub struct LockGuard<'a, T> {
    lock: &'a Lock<T>,
    /// Lends the value as `&mut` does: shared only if `T` may be.
    _lends: PhantomData<&'a mut T>,
}

impl<'a, T> LockGuard<'a, T> {
    /// L1: the caller has just taken the permit.
    #[inline]
    fn new(lock: &'a Lock<T>) -> Self {
        Self { lock, _lends: PhantomData }
    }

    /// The lock that this guard came from.
    ///
    /// # Examples
    ///
    /// ```
    /// use evenloop_sync::{Lock, LockGuard};
    ///
    /// let lock = Lock::new(1);
    /// let guard = lock.try_acquire().unwrap();
    /// assert!(LockGuard::lock(&guard).locked());
    /// ```
    pub fn lock(guard: &Self) -> &'a Lock<T> {
        guard.lock
    }
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: L1, L2: this guard stands for the permit; the borrow of the guard is the borrow of the value.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: L1, L2: as in `deref`, and the guard is borrowed exclusively.
        self.lock.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for LockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.permits.put_back(1, HELD);
    }
}

impl<T: fmt::Debug> fmt::Debug for LockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for LockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

// === impl OwnedLockGuard ===

/// A [`LockGuard`] that keeps its lock alive; dropping it releases the lock.
#[must_use = "dropping the guard releases the lock"]
pub struct OwnedLockGuard<T> {
    lock: StdArc<Lock<T>>,
    /// Lends the value as `&mut` does, and may be the one that drops it.
    _lends: PhantomData<T>,
}

impl<T> OwnedLockGuard<T> {
    /// The lock that this guard came from.
    pub fn lock(guard: &Self) -> &StdArc<Lock<T>> {
        &guard.lock
    }
}

impl<T> Deref for OwnedLockGuard<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: L1, L2: this guard stands for the permit; the borrow of the guard is the borrow of the value.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for OwnedLockGuard<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: L1, L2: as in `deref`, and the guard is borrowed exclusively.
        self.lock.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for OwnedLockGuard<T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.permits.put_back(1, HELD);
    }
}

impl<T: fmt::Debug> fmt::Debug for OwnedLockGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for OwnedLockGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

// === impl LockAcquire ===

/// The future of [`Lock::acquire`].
#[must_use = "futures do nothing unless awaited"]
pub struct LockAcquire<'a, T> {
    lock: &'a Lock<T>,
    place: Place,
}

impl<'a, T> Future for LockAcquire<'a, T> {
    type Output = LockGuard<'a, T>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        // Never closed, so Ready means granted.
        this.lock
            .permits
            .poll_acquire(&mut this.place, 1, cx, FREE, || const { &Call::new("Lock::acquire", FREE) })
            .map(|_| LockGuard::new(this.lock))
    }
}

impl<T> Drop for LockAcquire<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.permits.leave(&mut self.place, 1, MAX);
    }
}

impl<T> fmt::Debug for LockAcquire<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockAcquire [{:?}]", self.place)
    }
}

/// The future of [`Lock::acquire_owned`].
#[must_use = "futures do nothing unless awaited"]
pub struct LockAcquireOwned<T> {
    lock: StdArc<Lock<T>>,
    place: Place,
}

impl<T> Future for LockAcquireOwned<T> {
    type Output = OwnedLockGuard<T>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.lock
            .permits
            .poll_acquire(&mut this.place, 1, cx, FREE, || const { &Call::new("Lock::acquire_owned", FREE) })
            .map(|_| OwnedLockGuard { lock: this.lock.clone(), _lends: PhantomData })
    }
}

impl<T> Drop for LockAcquireOwned<T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.permits.leave(&mut self.place, 1, MAX);
    }
}

impl<T> fmt::Debug for LockAcquireOwned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockAcquireOwned [{:?}]", self.place)
    }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Waker;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn release_hands_the_lock_to_the_first_in_line() {
        let lock = Lock::new(1);
        let a = lock.try_acquire().expect("free");
        let mut b = pin!(lock.acquire());
        let mut c = pin!(lock.acquire());
        assert!(poll(b.as_mut()).is_pending() && poll(c.as_mut()).is_pending());
        assert_eq!(format!("{lock:?}"), "Lock [locked, waiters: 2]");
        drop(a); // hands it to b, which has not run yet
        assert!(lock.try_acquire().is_none(), "neither a newcomer nor who just released overtakes");
        assert_eq!(format!("{lock:?}"), "Lock [locked, waiters: 1]");
        assert!(poll(c.as_mut()).is_pending());
        let Poll::Ready(b) = poll(b.as_mut()) else { panic!("b has the lock") };
        drop(b);
        assert!(poll(c.as_mut()).is_ready());
        assert_eq!(format!("{lock:?}"), "Lock [unlocked, waiters: 0]");
    }

    #[test]
    fn who_is_dropped_after_the_grant_hands_on() {
        let lock = Lock::new(1);
        let a = lock.try_acquire().expect("free");
        let mut c = pin!(lock.acquire());
        {
            let mut b = pin!(lock.acquire());
            assert!(poll(b.as_mut()).is_pending() && poll(c.as_mut()).is_pending());
            drop(a);
        }
        assert!(poll(c.as_mut()).is_ready());
    }
}
