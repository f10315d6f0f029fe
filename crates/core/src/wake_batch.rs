//! Wakers gathered under a lock, to be woken after it.
//!
//! A waker is foreign code: it may run a task, take the same lock, or panic. So a state struct never wakes; it hands its
//! wakers to a batch, and the batch is woken when the lock is free again. When more wakers are due than fit, the owner
//! goes round: lock, fill, unlock, wake, until nothing is left.

use crate::Runtime;
use smallvec::SmallVec;
use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Waker;

/// How many wakers fit. Small in a model, so that one reaches the second round.
pub(crate) const CAPACITY: usize = if cfg!(evenloop_loom) { 2 } else { 32 };

/// A handful of wakers that are due, on the stack.
///
/// Dropping a batch wakes what is still in it: a panic between filling and waking loses nobody's wake-up.
///
/// # Examples
///
/// ```
/// use evenloop_core::WakeBatch;
/// # let mutex = parking_lot::Mutex::new(vec![std::task::Waker::noop().clone()]);
/// let mut batch = WakeBatch::new();
/// loop {
///     let mut waiting = mutex.lock();
///     while !batch.is_full() {
///         let Some(waker) = waiting.pop() else { break };
///         batch.push(waker);
///     }
///     let more = !waiting.is_empty();
///     drop(waiting); // first unlock, then wake
///     batch.wake_all();
///     if !more {
///         break;
///     }
/// }
/// ```
pub struct WakeBatch {
    /// Never more than fit in place.
    wakers: SmallVec<[Waker; CAPACITY]>,
}

impl WakeBatch {
    /// An empty batch.
    pub const fn new() -> Self {
        Self { wakers: SmallVec::new_const() }
    }

    /// Whether the next [`push`](Self::push) would panic: wake first.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.wakers.len() == CAPACITY
    }

    /// Whether nothing is in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.wakers.is_empty()
    }

    /// Adds a waker.
    ///
    /// # Panics
    ///
    /// When the batch is full: `WakeBatch::push` needs room, look at [`is_full`](Self::is_full) first.
    #[inline]
    pub fn push(&mut self, waker: Waker) {
        assert!(!self.is_full(), "WakeBatch::push needs room: look at is_full and wake first");
        self.wakers.push(waker);
    }

    /// Wakes all, first in first, and leaves the batch empty. No lock may be held.
    ///
    /// A waker that panics does not keep the others from being woken; the first panic goes on afterwards.
    pub fn wake_all(&mut self) {
        for_each(self.wakers.drain(..), Waker::wake);
    }

    /// As [`wake_all`](Self::wake_all), for those on whom no waker's panic may fall, such as whoever fires timers: the first
    /// one is [told to the host](Runtime::report_panic). Never panics.
    pub fn wake_all_reporting(&mut self) {
        if let Err(panic) = try_for_each(self.wakers.drain(..), Waker::wake) {
            Runtime::report_panic("a waker panicked", panic);
        }
    }
}

/// Calls `wake` with all that are due. One that panics does not keep the others from it; the first panic goes on afterwards.
pub(crate) fn for_each<T>(due: impl IntoIterator<Item = T>, wake: impl FnMut(T)) {
    match try_for_each(due, wake) {
        Ok(()) => {}
        Err(panic) if !std::thread::panicking() => resume_unwind(panic),
        // Two panics at once would abort the process.
        Err(panic) => let_go(panic),
    }
}

/// Drops what a panic carries. Its destructor is foreign too, and what that panics with might go on for ever.
fn let_go(panic: Box<dyn Any + Send>) {
    mem::forget(catch_unwind(AssertUnwindSafe(|| drop(panic))));
}

fn try_for_each<T>(
    due: impl IntoIterator<Item = T>,
    mut wake: impl FnMut(T),
) -> Result<(), Box<dyn Any + Send>> {
    let mut due = due.into_iter();
    let mut first = Ok(());
    while let Err(panic) = catch_unwind(AssertUnwindSafe(|| due.by_ref().for_each(&mut wake))) {
        match first {
            Ok(()) => first = Err(panic),
            Err(_) => let_go(panic),
        }
    }
    first
}

impl Default for WakeBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for WakeBatch {
    fn drop(&mut self) {
        if !self.is_empty() {
            self.wake_all();
        }
    }
}

impl std::fmt::Debug for WakeBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WakeBatch [{} of {CAPACITY}]", self.wakers.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    struct Count {
        woken: AtomicUsize,
        panics: bool,
    }

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.woken.fetch_add(1, Ordering::Relaxed);
            assert!(!self.panics, "a waker that panics");
        }
    }

    fn counting(panics: bool) -> (Arc<Count>, Waker) {
        let count = Arc::new(Count { woken: AtomicUsize::new(0), panics });
        (count.clone(), Waker::from(count))
    }

    #[test]
    fn wakes_each_once_and_is_empty_again() {
        let (count, waker) = counting(false);
        let mut batch = WakeBatch::new();
        for _ in 0..CAPACITY {
            batch.push(waker.clone());
        }
        assert!(batch.is_full());
        batch.wake_all();
        assert!(batch.is_empty());
        assert_eq!(count.woken.load(Ordering::Relaxed), CAPACITY);
    }

    #[test]
    fn a_waker_that_panics_does_not_silence_the_others() {
        let (calm, calm_waker) = counting(false);
        let (wild, wild_waker) = counting(true);
        let mut batch = WakeBatch::new();
        batch.push(wild_waker.clone());
        batch.push(calm_waker);
        batch.push(wild_waker);
        catch_unwind(AssertUnwindSafe(|| batch.wake_all())).expect_err("the first panic goes on");
        assert_eq!(calm.woken.load(Ordering::Relaxed), 1);
        assert_eq!(wild.woken.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_panic_whose_payload_panics_silences_nobody() {
        struct Payload;
        impl Drop for Payload {
            fn drop(&mut self) {
                std::panic::panic_any(()); // of no size, since this is forgotten
            }
        }
        struct Wild;
        impl Wake for Wild {
            fn wake(self: Arc<Self>) {
                std::panic::panic_any(Payload);
            }
        }
        let (calm, calm_waker) = counting(false);
        let mut batch = WakeBatch::new();
        batch.push(Arc::new(Wild).into());
        batch.push(Arc::new(Wild).into());
        batch.push(calm_waker);
        mem::forget(catch_unwind(AssertUnwindSafe(|| batch.wake_all())));
        assert_eq!(calm.woken.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn dropping_a_batch_wakes_what_is_in_it() {
        let (count, waker) = counting(false);
        let mut batch = WakeBatch::new();
        batch.push(waker);
        drop(batch);
        assert_eq!(count.woken.load(Ordering::Relaxed), 1);
    }
}
