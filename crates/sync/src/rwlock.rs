//! A lock that many may read and one may write.
//!
//! A number of permits (see [`permits`](crate::permits)), a cell, and guards: a reader takes one permit, a writer takes
//! them all. The engine's order is this lock's order: readers behind a waiting writer wait for it, so neither side
//! starves the other.
//!
//! R1. Each read guard stands for one permit, a write guard for all [`READERS`] of them; so a write guard is alone.
//! R2. The value is touched only through `&mut RwLock`, the lock by value, or guards: shared through a read guard,
//!     exclusively through a write guard.
//!
//! Unsafe code lives here beside `lock.rs` because the guards differ in what they lend; through one shared cell type, the
//! reasons would stand in another file than the permits that they rest on.

use crate::permits::{Bet, Call, MAX, Permits, Place};
use evenloop_core::shim::{StdArc, UnsafeCell};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};

/// How many may read at a time: all permits. Fewer in a model, so that one reaches the last.
const READERS: u32 = if cfg!(evenloop_loom) { 2 } else { 1 << 29 };

/// How a lock most likely is before it is written, and before the writer releases it.
const FREE: Bet = Bet::Free(READERS as usize);
const WRITTEN: Bet = Bet::Free(0);

/// A lock around a value: many readers or one writer, strictly in the order of asking.
///
/// A reader that asks after a writer waits until that writer is done, so a task that holds a read guard must not ask for
/// another one: between them a writer may be in line, and then both wait for ever.
///
/// asyncio has no such lock.
///
/// # Examples
///
/// ```
/// use evenloop_sync::RwLock;
/// # futures::executor::block_on(async {
/// let settings = RwLock::new(String::from("blue"));
/// {
///     let (one, two) = futures::join!(settings.read(), settings.read());
///     assert_eq!(*one, *two);
/// }
/// settings.write().await.push_str("ish");
/// assert_eq!(*settings.read().await, "blueish");
/// # });
/// ```
pub struct RwLock<T> {
    permits: Permits,
    value: UnsafeCell<T>,
}

// SAFETY: the lock owns its value; moving it moves the value.
unsafe impl<T: Send> Send for RwLock<T> {}
// SAFETY: R1 and R2: sharing the lock lends the value to many threads that read (`Sync`) or to one at a time (`Send`).
unsafe impl<T: Send + Sync> Sync for RwLock<T> {}

/// What an [`RwLock`] looked like a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RwLockStatistics {
    /// How many were reading.
    pub readers: usize,
    /// Whether somebody was writing.
    pub writing: bool,
    /// How many futures were in line.
    pub waiters: usize,
}

impl<T> RwLock<T> {
    /// How many may read at a time; more wait in line.
    pub const MAX_READERS: u32 = READERS;

    /// A free lock around `value`.
    #[cfg(not(evenloop_loom))]
    pub const fn new(value: T) -> Self {
        Self { permits: Permits::new(READERS as usize), value: UnsafeCell::new(value) }
    }

    /// A free lock around `value`.
    #[cfg(evenloop_loom)]
    pub fn new(value: T) -> Self {
        Self { permits: Permits::new(READERS as usize), value: UnsafeCell::new(value) }
    }

    /// Waits until nobody writes, and until those who asked before have been served; then reads together with others.
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
    /// let lock = evenloop_sync::RwLock::new(7);
    /// let one = lock.read().await;
    /// assert_eq!(lock.try_read().as_deref(), Some(&7));
    /// assert!(lock.try_write().is_none());
    /// # drop(one);
    /// # });
    /// ```
    #[inline]
    pub fn read(&self) -> RwLockRead<'_, T> {
        RwLockRead { lock: self, place: Place::New }
    }

    /// Reads if nobody writes and nobody is in line.
    #[inline]
    pub fn try_read(&self) -> Option<ReadGuard<'_, T>> {
        self.permits.try_acquire(1, Bet::None).ok().map(|()| ReadGuard { lock: self, _lends: PhantomData })
    }

    /// As [`read`](Self::read), with a guard that keeps the lock alive and may go anywhere.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.** As with [`read`](Self::read).
    #[inline]
    pub fn read_owned(self: &StdArc<Self>) -> RwLockReadOwned<T> {
        RwLockReadOwned { lock: self.clone(), place: Place::New }
    }

    /// Waits until nobody reads or writes, and until those who asked before have been served; then writes alone.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.** If the lock had already been given to the dropped future, it goes to
    /// the next in line; readers that waited behind it no longer do.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let lock = evenloop_sync::RwLock::new(7);
    /// *lock.write().await += 1;
    /// assert_eq!(lock.into_inner(), 8);
    /// # });
    /// ```
    #[inline]
    pub fn write(&self) -> RwLockWrite<'_, T> {
        RwLockWrite { lock: self, place: Place::New }
    }

    /// Writes if nobody reads or writes and nobody is in line.
    #[inline]
    pub fn try_write(&self) -> Option<WriteGuard<'_, T>> {
        self.permits.try_acquire(READERS, FREE).ok().map(|()| WriteGuard { lock: self, _lends: PhantomData })
    }

    /// As [`write`](Self::write), with a guard that keeps the lock alive and may go anywhere.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.** As with [`write`](Self::write).
    #[inline]
    pub fn write_owned(self: &StdArc<Self>) -> RwLockWriteOwned<T> {
        RwLockWriteOwned { lock: self.clone(), place: Place::New }
    }

    /// Whether [`read`](Self::read) would have to wait. May be out of date by the time it returns.
    pub fn locked(&self) -> bool {
        self.permits.is_locked()
    }

    /// The value, without waiting: `&mut self` says that nobody else has the lock.
    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY: R2: `&mut self`, so no guard lives and no other borrow of the value.
        self.value.with_mut(|value| unsafe { &mut *value })
    }

    /// The value, without the lock.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// What the lock looks like. May be out of date by the time it returns.
    pub fn statistics(&self) -> RwLockStatistics {
        let waiters = self.permits.waiters();
        let taken = READERS as usize - self.permits.free();
        let writing = taken == READERS as usize;
        RwLockStatistics { readers: if writing { 0 } else { taken }, writing, waiters }
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RwLockStatistics { readers, writing, waiters } = self.statistics();
        let state = if writing { "writing, " } else { "" };
        write!(f, "RwLock [{state}readers: {readers}, waiters: {waiters}]")
    }
}

// === impl ReadGuard, WriteGuard ===

/// The right to read the value of an [`RwLock`]; dropping it releases the lock.
#[must_use = "dropping the guard releases the lock"]
pub struct ReadGuard<'a, T> {
    lock: &'a RwLock<T>,
    _lends: PhantomData<&'a T>,
}

/// The right to write the value of an [`RwLock`]; dropping it releases the lock.
#[must_use = "dropping the guard releases the lock"]
pub struct WriteGuard<'a, T> {
    lock: &'a RwLock<T>,
    _lends: PhantomData<&'a mut T>,
}

/// A [`ReadGuard`] that keeps its lock alive.
#[must_use = "dropping the guard releases the lock"]
pub struct OwnedReadGuard<T> {
    lock: StdArc<RwLock<T>>,
}

/// A [`WriteGuard`] that keeps its lock alive.
#[must_use = "dropping the guard releases the lock"]
pub struct OwnedWriteGuard<T> {
    lock: StdArc<RwLock<T>>,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: R1, R2: no writer while this guard lives; the borrow of the guard is the borrow of the value.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.permits.put_back(1, Bet::None);
    }
}

impl<T: fmt::Debug> fmt::Debug for ReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: R1, R2: a writer is alone; the borrow of the guard is the borrow of the value.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: R1, R2: a writer is alone, and the guard is borrowed exclusively.
        self.lock.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.permits.put_back(READERS, WRITTEN);
    }
}

impl<T: fmt::Debug> fmt::Debug for WriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> Deref for OwnedReadGuard<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: R1, R2: no writer while this guard lives; the borrow of the guard is the borrow of the value.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<T> Drop for OwnedReadGuard<T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.permits.put_back(1, Bet::None);
    }
}

impl<T: fmt::Debug> fmt::Debug for OwnedReadGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> Deref for OwnedWriteGuard<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: R1, R2: a writer is alone; the borrow of the guard is the borrow of the value.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for OwnedWriteGuard<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: R1, R2: a writer is alone, and the guard is borrowed exclusively.
        self.lock.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for OwnedWriteGuard<T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.permits.put_back(READERS, WRITTEN);
    }
}

impl<T: fmt::Debug> fmt::Debug for OwnedWriteGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

// === impl RwLockRead, RwLockWrite ===

/// The future of [`RwLock::read`].
#[must_use = "futures do nothing unless awaited"]
pub struct RwLockRead<'a, T> {
    lock: &'a RwLock<T>,
    place: Place,
}

impl<'a, T> Future for RwLockRead<'a, T> {
    type Output = ReadGuard<'a, T>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        // Never closed, so Ready means granted.
        let granted = this.lock.permits.poll_acquire(&mut this.place, 1, cx, Bet::None, || {
            const { &Call::new("RwLock::read", Bet::None) }
        });
        granted.map(|_| ReadGuard { lock: this.lock, _lends: PhantomData })
    }
}

impl<T> Drop for RwLockRead<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.permits.leave(&mut self.place, 1, MAX);
    }
}

impl<T> fmt::Debug for RwLockRead<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RwLockRead [{:?}]", self.place)
    }
}

/// The future of [`RwLock::write`].
#[must_use = "futures do nothing unless awaited"]
pub struct RwLockWrite<'a, T> {
    lock: &'a RwLock<T>,
    place: Place,
}

impl<'a, T> Future for RwLockWrite<'a, T> {
    type Output = WriteGuard<'a, T>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        // Never closed, so Ready means granted.
        let granted = this
            .lock
            .permits
            .poll_acquire(&mut this.place, READERS, cx, FREE, || const { &Call::new("RwLock::write", FREE) });
        granted.map(|_| WriteGuard { lock: this.lock, _lends: PhantomData })
    }
}

impl<T> Drop for RwLockWrite<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.permits.leave(&mut self.place, READERS, MAX);
    }
}

impl<T> fmt::Debug for RwLockWrite<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RwLockWrite [{:?}]", self.place)
    }
}

/// The future of [`RwLock::read_owned`].
#[must_use = "futures do nothing unless awaited"]
pub struct RwLockReadOwned<T> {
    lock: StdArc<RwLock<T>>,
    place: Place,
}

impl<T> Future for RwLockReadOwned<T> {
    type Output = OwnedReadGuard<T>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        // Never closed, so Ready means granted.
        let granted = this.lock.permits.poll_acquire(&mut this.place, 1, cx, Bet::None, || {
            const { &Call::new("RwLock::read_owned", Bet::None) }
        });
        granted.map(|_| OwnedReadGuard { lock: this.lock.clone() })
    }
}

impl<T> Drop for RwLockReadOwned<T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.permits.leave(&mut self.place, 1, MAX);
    }
}

impl<T> fmt::Debug for RwLockReadOwned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RwLockReadOwned [{:?}]", self.place)
    }
}

/// The future of [`RwLock::write_owned`].
#[must_use = "futures do nothing unless awaited"]
pub struct RwLockWriteOwned<T> {
    lock: StdArc<RwLock<T>>,
    place: Place,
}

impl<T> Future for RwLockWriteOwned<T> {
    type Output = OwnedWriteGuard<T>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        // Never closed, so Ready means granted.
        let granted = this.lock.permits.poll_acquire(&mut this.place, READERS, cx, FREE, || {
            const { &Call::new("RwLock::write_owned", FREE) }
        });
        granted.map(|_| OwnedWriteGuard { lock: this.lock.clone() })
    }
}

impl<T> Drop for RwLockWriteOwned<T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.permits.leave(&mut self.place, READERS, MAX);
    }
}

impl<T> fmt::Debug for RwLockWriteOwned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RwLockWriteOwned [{:?}]", self.place)
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
    fn a_waiting_writer_is_not_overtaken_by_readers() {
        let lock = RwLock::new(1);
        let first = lock.try_read().expect("free");
        let mut writer = pin!(lock.write());
        let mut second = pin!(lock.read());
        assert!(poll(writer.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        assert!(lock.try_read().is_none());
        assert_eq!(format!("{lock:?}"), "RwLock [readers: 1, waiters: 2]");
        drop(first);
        let Poll::Ready(mut guard) = poll(writer.as_mut()) else { panic!("the writer's turn") };
        *guard += 1;
        assert_eq!(format!("{lock:?}"), "RwLock [writing, readers: 0, waiters: 1]");
        drop(guard);
        let Poll::Ready(guard) = poll(second.as_mut()) else { panic!("the reader's turn") };
        assert_eq!(*guard, 2);
    }

    #[test]
    fn readers_no_longer_wait_for_a_writer_that_gave_up() {
        let lock = RwLock::new(1);
        let first = lock.try_read().expect("free");
        let mut second = pin!(lock.read());
        {
            let mut writer = pin!(lock.write());
            assert!(poll(writer.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        }
        assert!(poll(second.as_mut()).is_ready());
        drop(first);
        assert!(lock.try_write().is_some());
    }
}
