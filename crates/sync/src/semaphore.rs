//! A number of permits.
//!
//! The [`permits`](crate::permits) engine with a public face: acquire one or many, release more than were taken, close.
//!
//! S1. A [`Permit`] stands for permits that are not free; dropping it puts them back, [`Permit::forget`] does not.
//! S2. Closing is for good, whatever is released or forgotten afterwards.
//! S3. Never more permits are free than the [`Stock`] may hold, whoever releases what somebody else's [`Permit`] stands for.

use crate::permits::{Bet, Call, MAX, Permits, Place, Refused};
use evenloop_core::shim::StdArc;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A number of permits that tasks acquire and give back, strictly in the order of asking.
///
/// Who asks for many holds up those behind it until so many are free: nobody overtakes, however little it wants.
///
/// Differs from asyncio: permits are guards that come back when dropped, several can be acquired at once, and a
/// semaphore can be closed.
///
/// # Examples
///
/// ```
/// use evenloop_sync::Semaphore;
/// # futures::executor::block_on(async {
/// let downloads = Semaphore::new(2);
/// let first = downloads.acquire().await?;
/// let second = downloads.acquire().await?;
/// assert!(downloads.locked());
/// drop(first);
/// assert!(downloads.try_acquire().is_ok());
/// # drop(second);
/// # Ok::<(), evenloop_sync::SemaphoreClosed>(())
/// # }).unwrap();
/// ```
pub struct Semaphore {
    stock: Stock,
}

/// What a semaphore hands out.
pub(crate) struct Stock {
    pub(crate) permits: Permits,
    /// How many may be free (S3), at most [`MAX`].
    pub(crate) limit: usize,
    calls: &'static Calls,
}

/// What its users call to wait.
pub(crate) struct Calls {
    acquire: Call,
    acquire_owned: Call,
}

impl Calls {
    pub(crate) const fn new(acquire: &'static str, acquire_owned: &'static str) -> Self {
        Self { acquire: Call::new(acquire, Bet::None), acquire_owned: Call::new(acquire_owned, Bet::None) }
    }
}

const CALLS: &Calls = &Calls::new("Semaphore::acquire", "Semaphore::acquire_owned");

/// What a semaphore looked like a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SemaphoreStatistics {
    /// How many permits were free. More than 0 with waiters: the first in line asks for more.
    pub value: usize,
    /// How many futures were in line.
    pub waiters: usize,
    /// Whether the semaphore was closed.
    pub is_closed: bool,
}

/// The semaphore was closed: there will be no more permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SemaphoreClosed;

/// Why [`Semaphore::try_acquire`] got no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryAcquireError {
    /// Too few permits are free, or somebody is in line before you.
    WouldBlock,
    /// The semaphore was closed: there will be no more permits.
    Closed,
}

impl Semaphore {
    /// The greatest number of permits that may be free at a time.
    pub const MAX_PERMITS: usize = MAX;

    /// A semaphore with `value` free permits; 0 is allowed.
    ///
    /// # Panics
    ///
    /// If `value` is more than [`MAX_PERMITS`](Self::MAX_PERMITS).
    #[cfg(not(evenloop_loom))]
    #[track_caller]
    pub const fn new(value: usize) -> Self {
        assert!(
            value <= Self::MAX_PERMITS,
            "`Semaphore::new`: the value is more than `Semaphore::MAX_PERMITS`"
        );
        Self { stock: Stock::new(value, MAX, CALLS) }
    }

    /// A semaphore with `value` free permits; 0 is allowed.
    #[cfg(evenloop_loom)]
    pub fn new(value: usize) -> Self {
        Self { stock: Stock::new(value, MAX, CALLS) }
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
    /// [`SemaphoreClosed`], at once or while waiting.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// static LIMIT: evenloop_sync::Semaphore = evenloop_sync::Semaphore::new(10);
    /// let permit = LIMIT.acquire().await?;
    /// // at most ten at a time get here
    /// drop(permit);
    /// # Ok::<(), evenloop_sync::SemaphoreClosed>(())
    /// # }).unwrap();
    /// ```
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
    /// [`SemaphoreClosed`], at once or while waiting.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let memory_mib = evenloop_sync::Semaphore::new(512);
    /// let reserved = memory_mib.acquire_many(200).await?;
    /// assert_eq!((reserved.count(), memory_mib.value()), (200, 312));
    /// # Ok::<(), evenloop_sync::SemaphoreClosed>(())
    /// # }).unwrap();
    /// ```
    #[inline]
    pub fn acquire_many(&self, count: u32) -> SemaphoreAcquire<'_> {
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
    /// [`SemaphoreClosed`], at once or while waiting.
    #[inline]
    pub fn acquire_owned(self: &StdArc<Self>) -> SemaphoreAcquireOwned {
        self.acquire_many_owned(1)
    }

    /// As [`acquire_many`](Self::acquire_many), with a permit that keeps the semaphore alive and may go anywhere.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.** As with [`acquire`](Self::acquire).
    ///
    /// # Errors
    ///
    /// [`SemaphoreClosed`], at once or while waiting.
    #[inline]
    pub fn acquire_many_owned(self: &StdArc<Self>, count: u32) -> SemaphoreAcquireOwned {
        SemaphoreAcquireOwned::new(self.clone(), count)
    }

    /// Takes a permit if one is free and nobody is in line.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`] tells "not now" from "never again".
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, TryAcquireError> {
        self.try_acquire_many(1)
    }

    /// Takes `count` permits if so many are free and nobody is in line.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`] tells "not now" from "never again".
    #[inline]
    pub fn try_acquire_many(&self, count: u32) -> Result<Permit<'_>, TryAcquireError> {
        Permit::try_new(&self.stock, count)
    }

    /// As [`try_acquire`](Self::try_acquire), with a permit that keeps the semaphore alive and may go anywhere.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`] tells "not now" from "never again".
    #[inline]
    pub fn try_acquire_owned(self: &StdArc<Self>) -> Result<OwnedPermit, TryAcquireError> {
        self.try_acquire_many_owned(1)
    }

    /// As [`try_acquire_many`](Self::try_acquire_many), with a permit that keeps the semaphore alive and may go anywhere.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`] tells "not now" from "never again".
    #[inline]
    pub fn try_acquire_many_owned(self: &StdArc<Self>, count: u32) -> Result<OwnedPermit, TryAcquireError> {
        OwnedPermit::try_new(self, count)
    }

    /// Adds `count` permits, taken before or not, and gives them to those in line as far as they go.
    ///
    /// Permits that were acquired come back by themselves: this is for those that were
    /// [forgotten](Permit::forget), and for growing.
    ///
    /// # Panics
    ///
    /// If more than [`MAX_PERMITS`](Self::MAX_PERMITS) would be free; nothing is added then.
    #[track_caller]
    #[doc(alias = "add_permits")]
    pub fn release(&self, count: usize) {
        if self.stock.permits.release(count, Self::MAX_PERMITS).is_err() {
            panic!("`Semaphore::release`: more than `Semaphore::MAX_PERMITS` would be free");
        }
    }

    /// How many permits are free. May be out of date by the time it returns.
    #[doc(alias = "available_permits")]
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

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.statistics().describe("Semaphore", f)
    }
}

impl Stock {
    #[cfg(not(evenloop_loom))]
    pub(crate) const fn new(free: usize, limit: usize, calls: &'static Calls) -> Self {
        Self { permits: Permits::new(free), limit, calls }
    }

    #[cfg(evenloop_loom)]
    pub(crate) fn new(free: usize, limit: usize, calls: &'static Calls) -> Self {
        Self { permits: Permits::new(free), limit, calls }
    }

    #[inline]
    fn put_back(&self, count: u32) {
        self.permits.put_back_at_most(count, self.limit);
    }

    #[inline]
    fn leave(&self, place: &mut Place, count: u32) {
        self.permits.leave(place, count, self.limit);
    }
}

impl SemaphoreStatistics {
    pub(crate) fn of(stock: &Stock) -> Self {
        let permits = &stock.permits;
        let waiters = permits.waiters();
        Self { value: permits.free(), waiters, is_closed: permits.is_closed() }
    }

    pub(crate) fn describe(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let closed = if self.is_closed { "closed, " } else { "" };
        write!(f, "{name} [{closed}value: {}, waiters: {}]", self.value, self.waiters)
    }
}

/// Who lends permits from behind an `Arc`.
pub(crate) trait Lender: Send + Sync {
    fn stock(&self) -> &Stock;
}

impl Lender for Semaphore {
    #[inline]
    fn stock(&self) -> &Stock {
        &self.stock
    }
}

// === impl Permit ===

/// One or many permits of a semaphore; dropping it gives them back.
#[must_use = "dropping the permit gives it back"]
#[doc(alias = "SemaphorePermit")]
pub struct Permit<'a> {
    stock: &'a Stock,
    count: u32,
}

impl<'a> Permit<'a> {
    #[inline]
    pub(crate) fn try_new(stock: &'a Stock, count: u32) -> Result<Self, TryAcquireError> {
        stock.permits.try_acquire(count, Bet::None)?;
        Ok(Self { stock, count })
    }
}

impl Permit<'_> {
    /// How many permits this stands for.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Keeps the permits for good: they do not come back.
    ///
    /// # Examples
    ///
    /// ```
    /// use evenloop_sync::Semaphore;
    ///
    /// let semaphore = Semaphore::new(2);
    /// semaphore.try_acquire().unwrap().forget(); // one fewer from now on
    /// assert_eq!(semaphore.value(), 1);
    /// semaphore.release(1); // and back
    /// assert_eq!(semaphore.value(), 2);
    /// ```
    pub fn forget(mut self) {
        self.count = 0; // S1
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.count != 0 {
            self.stock.put_back(self.count);
        }
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit [count: {}]", self.count)
    }
}

/// A [`Permit`] that keeps its semaphore alive; dropping it gives the permits back.
#[must_use = "dropping the permit gives it back"]
pub struct OwnedPermit {
    lender: StdArc<dyn Lender>,
    count: u32,
}

impl OwnedPermit {
    #[inline]
    pub(crate) fn try_new<S: Lender + 'static>(
        lender: &StdArc<S>,
        count: u32,
    ) -> Result<Self, TryAcquireError> {
        lender.stock().permits.try_acquire(count, Bet::None)?;
        Ok(Self { lender: lender.clone(), count })
    }

    /// How many permits this stands for.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Keeps the permits for good: they do not come back.
    pub fn forget(mut self) {
        self.count = 0; // S1
    }
}

impl Drop for OwnedPermit {
    #[inline]
    fn drop(&mut self) {
        if self.count != 0 {
            self.lender.stock().put_back(self.count);
        }
    }
}

impl fmt::Debug for OwnedPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnedPermit [count: {}]", self.count)
    }
}

// === impl SemaphoreAcquire ===

/// The future of [`Semaphore::acquire`] and its kin.
#[must_use = "futures do nothing unless awaited"]
pub struct SemaphoreAcquire<'a> {
    stock: &'a Stock,
    count: u32,
    place: Place,
}

impl<'a> SemaphoreAcquire<'a> {
    #[inline]
    pub(crate) fn new(stock: &'a Stock, count: u32) -> Self {
        Self { stock, count, place: Place::New }
    }
}

impl<'a> Future for SemaphoreAcquire<'a> {
    type Output = Result<Permit<'a>, SemaphoreClosed>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { stock, count, place } = self.get_mut();
        let poll = stock.permits.poll_acquire(place, *count, cx, Bet::None, || &stock.calls.acquire);
        poll.map(|outcome| match outcome {
            Ok(()) => Ok(Permit { stock, count: *count }),
            Err(_) => Err(SemaphoreClosed),
        })
    }
}

impl Drop for SemaphoreAcquire<'_> {
    #[inline]
    fn drop(&mut self) {
        self.stock.leave(&mut self.place, self.count);
    }
}

impl fmt::Debug for SemaphoreAcquire<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SemaphoreAcquire [{:?}, count: {}]", self.place, self.count)
    }
}

/// The future of [`Semaphore::acquire_owned`] and its kin.
#[must_use = "futures do nothing unless awaited"]
pub struct SemaphoreAcquireOwned {
    lender: StdArc<dyn Lender>,
    count: u32,
    place: Place,
}

impl SemaphoreAcquireOwned {
    pub(crate) fn new<S: Lender + 'static>(lender: StdArc<S>, count: u32) -> Self {
        Self { lender, count, place: Place::New }
    }
}

impl Future for SemaphoreAcquireOwned {
    type Output = Result<OwnedPermit, SemaphoreClosed>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { lender, count, place } = self.get_mut();
        let stock = lender.stock();
        let poll = stock.permits.poll_acquire(place, *count, cx, Bet::None, || &stock.calls.acquire_owned);
        poll.map(|outcome| match outcome {
            Ok(()) => Ok(OwnedPermit { lender: lender.clone(), count: *count }),
            Err(_) => Err(SemaphoreClosed),
        })
    }
}

impl Drop for SemaphoreAcquireOwned {
    #[inline]
    fn drop(&mut self) {
        self.lender.stock().leave(&mut self.place, self.count);
    }
}

impl fmt::Debug for SemaphoreAcquireOwned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SemaphoreAcquireOwned [{:?}, count: {}]", self.place, self.count)
    }
}

// === Errors ===

impl From<Refused> for TryAcquireError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Busy => Self::WouldBlock,
            Refused::Closed => Self::Closed,
        }
    }
}

impl fmt::Display for TryAcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldBlock => f.write_str("no permit is free now"),
            Self::Closed => SemaphoreClosed.fmt(f),
        }
    }
}

impl Error for TryAcquireError {}

impl fmt::Display for SemaphoreClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the semaphore was closed")
    }
}

impl Error for SemaphoreClosed {}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;
    use std::panic::AssertUnwindSafe;
    use std::pin::pin;
    use std::task::Waker;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn who_asks_for_much_is_not_overtaken_by_who_asks_for_little() {
        let semaphore = Semaphore::new(3);
        let held = semaphore.try_acquire().expect("3 are free");
        let mut much = pin!(semaphore.acquire_many(3));
        let mut little = pin!(semaphore.acquire());
        assert!(poll(much.as_mut()).is_pending() && poll(little.as_mut()).is_pending());
        assert_eq!(format!("{semaphore:?}"), "Semaphore [value: 2, waiters: 2]");
        assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::WouldBlock);
        drop(held);
        assert!(poll(little.as_mut()).is_pending());
        let Poll::Ready(Ok(much)) = poll(much.as_mut()) else { panic!("3 are free") };
        drop(much);
        assert!(poll(little.as_mut()).is_ready());
        assert_eq!(format!("{semaphore:?}"), "Semaphore [value: 3, waiters: 0]");
    }

    #[test]
    fn when_the_first_gives_up_those_behind_may_fit() {
        let semaphore = Semaphore::new(2);
        let mut little = [semaphore.acquire(), semaphore.acquire(), semaphore.acquire()];
        {
            let mut much = pin!(semaphore.acquire_many(3));
            assert!(poll(much.as_mut()).is_pending());
            assert!(little.iter_mut().all(|little| poll(Pin::new(little)).is_pending()));
        }
        let [a, b, c] = little.each_mut().map(|little| poll(Pin::new(little)));
        assert!(a.is_ready() && b.is_ready() && c.is_pending());
        drop((a, b));
        assert!(poll(Pin::new(&mut little[2])).is_ready());
    }

    #[test]
    fn closing_is_for_good() {
        for count in 0..=3_u32 {
            let semaphore = Semaphore::new(3);
            let held = semaphore.try_acquire_many(3).expect("3 are free");
            let mut waiting = pin!(semaphore.acquire_many(1));
            assert!(poll(waiting.as_mut()).is_pending());
            semaphore.close();
            assert!(matches!(poll(waiting.as_mut()), Poll::Ready(Err(SemaphoreClosed))));
            semaphore.release(count as usize);
            held.forget();
            assert_eq!(semaphore.try_acquire_many(count).unwrap_err(), TryAcquireError::Closed);
            assert!(matches!(poll(pin!(semaphore.acquire_many(count))), Poll::Ready(Err(SemaphoreClosed))));
            semaphore.close();
            assert_eq!(format!("{semaphore:?}"), format!("Semaphore [closed, value: {count}, waiters: 0]"));
        }
    }

    #[test]
    fn the_number_of_permits_does_not_wrap() {
        let max = Semaphore::MAX_PERMITS;
        let semaphore = Semaphore::new(max - 2);
        semaphore.release(1);
        let held = semaphore.try_acquire().expect("many are free");
        semaphore.release(2);
        assert_eq!(semaphore.value(), max);
        for too_many in [1, usize::MAX] {
            let release = AssertUnwindSafe(|| semaphore.release(too_many));
            std::panic::catch_unwind(release).expect_err("documented panic");
        }
        drop(held);
        assert_eq!(semaphore.value(), max);
    }
}
