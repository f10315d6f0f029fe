//! A semaphore that nobody can release too often.

use crate::semaphore::{
    Calls, Lender, OwnedPermit, Permit, SemaphoreAcquire, SemaphoreAcquireOwned, SemaphoreStatistics, Stock,
    TryAcquireError,
};
use evenloop_core::shim::StdArc;
use std::error::Error;
use std::fmt;

/// A [`Semaphore`](crate::Semaphore) whose free permits never exceed its first value.
///
/// Permits that are acquired and dropped cannot exceed it; the bound is for programs that
/// [forget](Permit::forget) permits and [`release`](Self::release) them elsewhere, once too often. A permit that was released
/// though somebody has it still comes back once, not twice, unless another has taken it by then: nobody can know that.
///
/// # Examples
///
/// ```
/// use evenloop_sync::{BoundedSemaphore, ReleasedTooOften};
/// # futures::executor::block_on(async {
/// let connections = BoundedSemaphore::new(1);
/// connections.acquire().await?.forget(); // handed over to somebody who releases it
/// assert_eq!(connections.release(1), Ok(()));
/// assert_eq!(connections.release(1), Err(ReleasedTooOften));
/// # Ok::<(), evenloop_sync::SemaphoreClosed>(())
/// # }).unwrap();
/// ```
pub struct BoundedSemaphore {
    /// Its limit is the bound.
    stock: Stock,
}

const CALLS: &Calls = &Calls::new("BoundedSemaphore::acquire", "BoundedSemaphore::acquire_owned");

/// More permits were released than had been acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleasedTooOften;

impl BoundedSemaphore {
    /// A semaphore with `bound` free permits, and never more; 0 is allowed.
    ///
    /// # Panics
    ///
    /// If `bound` is more than [`Semaphore::MAX_PERMITS`](crate::Semaphore::MAX_PERMITS).
    #[cfg(not(evenloop_loom))]
    #[track_caller]
    pub const fn new(bound: usize) -> Self {
        assert!(
            bound <= crate::permits::MAX,
            "`BoundedSemaphore::new`: the bound is more than `Semaphore::MAX_PERMITS`"
        );
        Self { stock: Stock::new(bound, bound, CALLS) }
    }

    /// A semaphore with `bound` free permits, and never more; 0 is allowed.
    #[cfg(evenloop_loom)]
    pub fn new(bound: usize) -> Self {
        Self { stock: Stock::new(bound, bound, CALLS) }
    }

    /// Waits for a permit.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.** A permit that had already been given to the dropped future goes to the
    /// next in line.
    ///
    /// # Errors
    ///
    /// [`SemaphoreClosed`](crate::SemaphoreClosed), at once or while waiting.
    #[inline]
    pub fn acquire(&self) -> SemaphoreAcquire<'_> {
        SemaphoreAcquire::new(&self.stock, 1)
    }

    /// Waits until `count` permits are free and takes them all. None is taken before that, and nobody behind this is
    /// served before it. A `count` of 0 never waits.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.** As with [`acquire`](Self::acquire).
    ///
    /// # Errors
    ///
    /// [`SemaphoreClosed`](crate::SemaphoreClosed), at once or while waiting.
    ///
    /// # Panics
    ///
    /// If `count` is above the bound: so many would never be free.
    #[inline]
    #[track_caller]
    pub fn acquire_many(&self, count: u32) -> SemaphoreAcquire<'_> {
        self.assert_possible(count, "BoundedSemaphore::acquire_many");
        SemaphoreAcquire::new(&self.stock, count)
    }

    /// As [`acquire`](Self::acquire), with a permit that keeps the semaphore alive and may go anywhere.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.** As with [`acquire`](Self::acquire).
    ///
    /// # Errors
    ///
    /// [`SemaphoreClosed`](crate::SemaphoreClosed), at once or while waiting.
    #[inline]
    pub fn acquire_owned(self: &StdArc<Self>) -> SemaphoreAcquireOwned {
        SemaphoreAcquireOwned::new(self.clone(), 1)
    }

    /// As [`acquire_many`](Self::acquire_many), with a permit that keeps the semaphore alive and may go anywhere.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.** As with [`acquire`](Self::acquire).
    ///
    /// # Errors
    ///
    /// [`SemaphoreClosed`](crate::SemaphoreClosed), at once or while waiting.
    ///
    /// # Panics
    ///
    /// If `count` is above the bound: so many would never be free.
    #[inline]
    #[track_caller]
    pub fn acquire_many_owned(self: &StdArc<Self>, count: u32) -> SemaphoreAcquireOwned {
        self.assert_possible(count, "BoundedSemaphore::acquire_many_owned");
        SemaphoreAcquireOwned::new(self.clone(), count)
    }

    /// Takes a permit if one is free and nobody is in line.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`] tells "not now" from "never again".
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, TryAcquireError> {
        Permit::try_new(&self.stock, 1)
    }

    /// Takes `count` permits if so many are free and nobody is in line.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`] tells "not now" from "never again".
    ///
    /// # Panics
    ///
    /// If `count` is above the bound: so many would never be free.
    #[inline]
    #[track_caller]
    pub fn try_acquire_many(&self, count: u32) -> Result<Permit<'_>, TryAcquireError> {
        self.assert_possible(count, "BoundedSemaphore::try_acquire_many");
        Permit::try_new(&self.stock, count)
    }

    /// As [`try_acquire`](Self::try_acquire), with a permit that keeps the semaphore alive and may go anywhere.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`] tells "not now" from "never again".
    #[inline]
    pub fn try_acquire_owned(self: &StdArc<Self>) -> Result<OwnedPermit, TryAcquireError> {
        OwnedPermit::try_new(self, 1)
    }

    /// Gives back `count` permits that were [forgotten](Permit::forget), to those in line as far as they go.
    ///
    /// # Errors
    ///
    /// [`ReleasedTooOften`], and nothing is added, if more than the bound would be free.
    pub fn release(&self, count: usize) -> Result<(), ReleasedTooOften> {
        self.stock.permits.release(count, self.stock.limit).map_err(|_| ReleasedTooOften)
    }

    #[track_caller]
    fn assert_possible(&self, count: u32, call: &str) {
        let bound = self.bound();
        assert!(count as usize <= bound, "`{call}`: {count} permits are never free with a bound of {bound}");
    }

    /// The greatest number of free permits: the value it began with.
    pub fn bound(&self) -> usize {
        self.stock.limit
    }

    /// How many permits are free. May be out of date by the time it returns.
    pub fn value(&self) -> usize {
        self.stock.permits.free()
    }

    /// Whether [`acquire`](Self::acquire) would have to wait: no permit is free, or somebody is in line. May be out of date
    /// by the time it returns.
    pub fn locked(&self) -> bool {
        self.stock.permits.is_locked()
    }

    /// Refuses everybody who is in line, and every newcomer, for good. Permits that were given out stay good.
    pub fn close(&self) {
        self.stock.permits.close();
    }

    /// Whether the semaphore was closed. Never goes back.
    pub fn is_closed(&self) -> bool {
        self.stock.permits.is_closed()
    }

    /// What the semaphore looks like. May be out of date by the time it returns.
    pub fn statistics(&self) -> SemaphoreStatistics {
        SemaphoreStatistics::of(&self.stock)
    }
}

impl fmt::Debug for BoundedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.statistics().describe("BoundedSemaphore", f)
    }
}

impl Lender for BoundedSemaphore {
    #[inline]
    fn stock(&self) -> &Stock {
        &self.stock
    }
}

impl fmt::Display for ReleasedTooOften {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bounded semaphore was released too often")
    }
}

impl Error for ReleasedTooOften {}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn free_permits_never_exceed_the_bound() {
        let semaphore = BoundedSemaphore::new(2);
        assert_eq!(semaphore.release(1), Err(ReleasedTooOften));
        let held = semaphore.try_acquire_many(2).expect("2 are free");
        assert_eq!(semaphore.release(3), Err(ReleasedTooOften));
        assert_eq!(format!("{semaphore:?}"), "BoundedSemaphore [value: 0, waiters: 0]");
        held.forget();
        assert_eq!(semaphore.release(2), Ok(()));
        assert_eq!(semaphore.value(), 2);
    }

    /// Showed as two inside a bound of one.
    #[test]
    fn a_permit_that_was_released_beside_its_guard_comes_back_once() {
        let semaphore = std::sync::Arc::new(BoundedSemaphore::new(3));
        let held = semaphore.try_acquire_many(2).expect("3 are free");
        assert_eq!(semaphore.release(1), Ok(()), "nobody can know yet that it is one too many");
        let mut all = semaphore.acquire_many(3);
        assert!(poll(&mut all).is_pending());
        drop(held);
        assert!(poll(&mut all).is_ready(), "what fits came back");
        assert_eq!(semaphore.value(), 3);

        let held = semaphore.try_acquire_owned().expect("3 are free");
        assert_eq!(semaphore.release(1), Ok(()));
        drop(held);
        assert_eq!(semaphore.value(), 3);

        let held = semaphore.try_acquire_many(3).expect("3 are free");
        let mut granted = semaphore.acquire();
        assert!(poll(&mut granted).is_pending());
        drop(held);
        assert_eq!(semaphore.release(1), Ok(()));
        drop(granted);
        assert_eq!(semaphore.value(), 3);
    }

    #[test]
    #[should_panic(expected = "`BoundedSemaphore::acquire_many`: 3 permits are never free with a bound of 2")]
    fn what_can_never_be_had_is_refused_at_once() {
        drop(BoundedSemaphore::new(2).acquire_many(3));
    }

    /// Showed as "not now", for ever.
    #[test]
    #[should_panic(
        expected = "`BoundedSemaphore::try_acquire_many`: 3 permits are never free with a bound of 2"
    )]
    fn neither_is_it_only_not_free_now() {
        let _ = BoundedSemaphore::new(2).try_acquire_many(3);
    }
}
