//! The face under ThreadSanitizer: std's atomics, a mutex and a condition variable on `pthread_*`, fences as
//! read-modify-writes.
//!
//! ThreadSanitizer knows `pthread_mutex_lock` and its kin, but neither parking_lot's own parking nor fences. So a lock
//! here is pthread's, and every fence is a read-modify-write of one static atomic: each fence then sees what came before
//! all earlier ones, which is a little more than a fence promises, and no more than `SeqCst` fences do.
//!
//! T1. A `pthread_mutex_t` that is initialised statically may move while it is unlocked and nobody waits for it; `&mut`
//!     or ownership, which moving needs, says that this is so.
//! T2. The value of a mutex is touched by the holder of its one guard only; with `&mut Mutex` there is no guard.

#![allow(unsafe_code)]

pub use super::plain::*;

use std::cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Atomic integers, pointers and fences.
pub mod atomic {
    pub use std::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
    };

    /// A fence that ThreadSanitizer can follow.
    pub fn fence(_: Ordering) {
        static FENCE: AtomicUsize = AtomicUsize::new(0);
        // ORDERING: AcqRel whatever was asked for: each fence follows all earlier ones.
        FENCE.fetch_add(0, Ordering::AcqRel);
    }
}

// === Mutex ===

/// A mutex without poisoning.
pub struct Mutex<T: ?Sized> {
    raw: cell::UnsafeCell<libc::pthread_mutex_t>,
    value: cell::UnsafeCell<T>,
}

// SAFETY: T2: whoever has the mutex has the value, so it goes where its value may go.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: T2: one thread at a time touches the value.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

/// Unlocks the [`Mutex`] when dropped.
#[must_use = "dropping the guard unlocks the mutex"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    /// pthread unlocks on the thread that locked.
    not_send: std::marker::PhantomData<*const ()>,
}

// SAFETY: a shared guard gives `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T> Mutex<T> {
    /// Makes an unlocked mutex.
    pub const fn new(value: T) -> Self {
        Self {
            raw: cell::UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER),
            value: cell::UnsafeCell::new(value),
        }
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the mutex and locks it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        // SAFETY: T1: initialised; a thread that holds it already would wait for ever, as with parking_lot.
        let error = unsafe { libc::pthread_mutex_lock(self.raw.get()) };
        assert_eq!(error, 0, "pthread_mutex_lock");
        self.guard()
    }

    /// Locks the mutex if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        // SAFETY: T1: initialised.
        let error = unsafe { libc::pthread_mutex_trylock(self.raw.get()) };
        (error == 0).then(|| self.guard())
    }

    /// Whether somebody holds it. May be out of date by the time it returns.
    pub fn is_locked(&self) -> bool {
        self.try_lock().is_none()
    }

    /// Borrows the value: `&mut self` says that nobody else does.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// For who has just locked.
    fn guard(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, not_send: std::marker::PhantomData }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Some(guard) => write!(f, "Mutex [{:?}]", &*guard),
            None => f.write_str("Mutex [locked]"),
        }
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: T2: this is the guard.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: T2: this is the guard, borrowed alone.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: this thread locked it: a guard is not Send.
        unsafe { libc::pthread_mutex_unlock(self.mutex.raw.get()) };
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

// === Condvar ===

/// A condition variable.
pub struct Condvar(cell::UnsafeCell<libc::pthread_cond_t>);

// SAFETY: pthread's own type is made to be shared; moving it needs `&mut` or ownership, as in T1.
unsafe impl Send for Condvar {}
// SAFETY: as above.
unsafe impl Sync for Condvar {}

/// Whether a wait with a time-out ended by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the time-out came before a notification.
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    /// Makes a condition variable.
    pub const fn new() -> Self {
        Self(cell::UnsafeCell::new(libc::PTHREAD_COND_INITIALIZER))
    }

    /// Unlocks, sleeps until notified, locks again.
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        // SAFETY: the guard says that this thread holds the mutex; both are initialised.
        let error = unsafe { libc::pthread_cond_wait(self.0.get(), guard.mutex.raw.get()) };
        assert_eq!(error, 0, "pthread_cond_wait");
    }

    /// As [`Condvar::wait`], at most so long.
    pub fn wait_for<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, timeout: Duration) -> WaitTimeoutResult {
        // The clock that a statically initialised condvar goes by. Far away is far enough: waits may end early.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let end = now.saturating_add(timeout.min(Duration::from_secs(1 << 30)));
        let end = libc::timespec {
            tv_sec: end.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: end.subsec_nanos().into(),
        };
        // SAFETY: as in `wait`; `end` lives until the call returns.
        let error = unsafe { libc::pthread_cond_timedwait(self.0.get(), guard.mutex.raw.get(), &end) };
        WaitTimeoutResult(error == libc::ETIMEDOUT)
    }

    /// Wakes one waiter.
    pub fn notify_one(&self) {
        // SAFETY: initialised.
        unsafe { libc::pthread_cond_signal(self.0.get()) };
    }

    /// Wakes all waiters.
    pub fn notify_all(&self) {
        // SAFETY: initialised.
        unsafe { libc::pthread_cond_broadcast(self.0.get()) };
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condvar")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutex_counts_right_and_moves() {
        let moved = Mutex::new(0);
        *moved.lock() += 1;
        let mutex = std::sync::Arc::new(moved);
        let other = std::thread::spawn({
            let mutex = mutex.clone();
            move || (0..1000).for_each(|_| *mutex.lock() += 1)
        });
        (0..1000).for_each(|_| *mutex.lock() += 1);
        other.join().unwrap();
        assert_eq!(*mutex.lock(), 2001);
        let guard = mutex.lock();
        assert!(mutex.try_lock().is_none());
        drop(guard);
        assert!(!mutex.is_locked());
    }

    #[test]
    fn a_condvar_wakes_and_times_out() {
        let shared = std::sync::Arc::new((Mutex::new(false), Condvar::new()));
        let other = std::thread::spawn({
            let shared = shared.clone();
            move || {
                *shared.0.lock() = true;
                shared.1.notify_one();
            }
        });
        let mut guard = shared.0.lock();
        while !*guard {
            shared.1.wait(&mut guard);
        }
        assert!(shared.1.wait_for(&mut guard, Duration::from_millis(1)).timed_out());
        drop(guard);
        other.join().unwrap();
    }
}
