//! Models of sync's `Lock`.

use evenloop_core::shim::atomic::{AtomicBool, Ordering};
use evenloop_core::shim::{StdArc, thread};
use evenloop_loom_tests::{Outcomes, Panics, Witness, Woken, block_on, model, model_reaching, poll};
use evenloop_sync::Lock;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Poll, Waker};

fn lock() -> StdArc<Lock<Witness>> {
    StdArc::new(Lock::new(Witness::new(0)))
}

/// Adds one under the lock.
fn add(lock: &Lock<Witness>) {
    let guard = block_on(lock.acquire());
    guard.set(guard.get() + 1);
}

/// Do two threads that both want the lock both get it, one after the other?
#[test]
fn acquire_races_acquire() {
    model(|| {
        let lock = lock();
        let other = thread::spawn({
            let lock = lock.clone();
            move || add(&lock)
        });
        add(&lock);
        other.join().unwrap();
        assert_eq!(lock.try_acquire().expect("free").get(), 2);
    });
}

/// Does whoever comes while the lock is released get it, at once or from the line?
#[test]
fn acquire_races_release() {
    model_reaching(["at once", "from the line"], |outcomes: Outcomes| {
        let lock = lock();
        let guard = lock.try_acquire_owned().expect("free");
        let other = thread::spawn(move || {
            guard.set(1);
            drop(guard);
        });
        let (woken, waker) = Woken::waker();
        let mut acquire = pin!(lock.acquire());
        if let Poll::Ready(guard) = poll(acquire.as_mut(), &waker) {
            outcomes.count("at once");
            assert_eq!((guard.get(), woken.times()), (1, 0));
        } else {
            outcomes.count("from the line");
            assert_eq!(block_on(acquire).get(), 1);
        }
        other.join().unwrap();
    });
}

/// When a waiter gives up while the lock is released, before or after it was chosen, is the next one served?
#[test]
fn cancel_races_release() {
    model_reaching(["cancelled first", "granted first"], |outcomes: Outcomes| {
        let lock = lock();
        let guard = lock.try_acquire_owned().expect("free");
        let (woken, waker) = Woken::waker();
        let mut gone = Box::pin(lock.acquire_owned());
        assert!(poll(gone.as_mut(), &waker).is_pending());
        drop(waker);
        let mut next = pin!(lock.acquire());
        let (_, waker) = Woken::waker();
        assert!(poll(next.as_mut(), &waker).is_pending());
        let other = thread::spawn(move || {
            guard.set(1);
            drop(guard);
        });
        drop(gone);
        outcomes.count(if woken.times() == 0 { "cancelled first" } else { "granted first" });
        let guard = block_on(next);
        assert_eq!(guard.get(), 1);
        other.join().unwrap();
        drop(guard);
        assert_eq!(StdArc::strong_count(&woken), 1);
        assert!(!lock.locked(), "nobody waits, and nobody has it");
    });
}

/// When the only waiter gives up while the lock is released, is the lock free afterwards?
#[test]
fn cancel_of_the_only_waiter_races_release() {
    model(|| {
        let lock = lock();
        let guard = lock.try_acquire_owned().expect("free");
        let mut gone = Box::pin(lock.acquire_owned());
        assert!(poll(gone.as_mut(), Waker::noop()).is_pending());
        let other = thread::spawn(move || drop(gone));
        drop(guard);
        other.join().unwrap();
        assert_eq!(lock.try_acquire().expect("free").get(), 0);
    });
}

/// Does a newcomer that comes while the lock is handed over stay behind who waits?
#[test]
fn newcomer_never_overtakes() {
    model(|| {
        let lock = lock();
        let guard = lock.try_acquire_owned().expect("free");
        let mut first = pin!(lock.acquire());
        assert!(poll(first.as_mut(), Waker::noop()).is_pending());
        let other = thread::spawn(move || drop(guard));
        assert!(lock.try_acquire().is_none());
        other.join().unwrap();
        assert!(lock.try_acquire().is_none(), "handed over, though nobody has run");
        assert!(poll(first, Waker::noop()).is_ready());
    });
}

/// When a waiter moves to another task while the lock is released, is the task that holds it now woken?
#[test]
fn waker_moves_while_release() {
    model(|| {
        let lock = lock();
        let guard = lock.try_acquire_owned().expect("free");
        let (left_behind, waker) = Woken::waker();
        let mut acquire = Box::pin(lock.acquire_owned());
        assert!(poll(acquire.as_mut(), &waker).is_pending());
        drop(waker);
        let other = thread::spawn(move || drop(guard));
        block_on(acquire).set(1);
        other.join().unwrap();
        assert_eq!(StdArc::strong_count(&left_behind), 1);
    });
}

/// When a waiter's waker panics while another waiter joins, is the lock handed on all the same?
#[test]
fn waker_panics_while_acquire() {
    model(|| {
        let lock = lock();
        let guard = lock.try_acquire_owned().expect("free");
        let mut first = Box::pin(lock.acquire_owned());
        assert!(poll(first.as_mut(), &Panics::waker()).is_pending());
        let other = thread::spawn(move || {
            let panic = catch_unwind(AssertUnwindSafe(|| drop(guard)));
            assert!(panic.is_err());
            drop(first);
        });
        block_on(lock.acquire()).set(1);
        other.join().unwrap();
    });
}

/// May the lock go away with its last guard while that guard serves a waiter that gives up?
#[test]
fn last_owner_goes_while_cancel() {
    model(|| {
        let lock = lock();
        let guard = lock.try_acquire_owned().expect("free");
        let mut gone = Box::pin(lock.acquire_owned());
        assert!(poll(gone.as_mut(), Waker::noop()).is_pending());
        drop(lock);
        let other = thread::spawn(move || drop(gone));
        guard.set(1);
        drop(guard);
        other.join().unwrap();
    });
}

/// Does whoever sees the lock free by `try_acquire` see what was done under it?
#[test]
fn try_acquire_races_release() {
    model_reaching(["held", "free"], |outcomes: Outcomes| {
        let lock = lock();
        let other = thread::spawn({
            let lock = lock.clone();
            move || {
                let Some(guard) = lock.try_acquire() else { return };
                guard.set(guard.get() + 1);
            }
        });
        match lock.try_acquire() {
            Some(guard) => {
                outcomes.count("free");
                guard.set(guard.get() + 1);
            }
            None => outcomes.count("held"),
        }
        other.join().unwrap();
    });
}

/// Is a waiter that is polled for another reason while it is chosen served once, and its wake-up not lost?
#[test]
fn poll_races_release() {
    model(|| {
        let lock = lock();
        let guard = lock.try_acquire_owned().expect("free");
        let released = StdArc::new(AtomicBool::new(false));
        let mut acquire = pin!(lock.acquire());
        let (woken, waker) = Woken::waker();
        assert!(poll(acquire.as_mut(), &waker).is_pending());
        let other = thread::spawn({
            let released = released.clone();
            move || {
                guard.set(1);
                drop(guard);
                released.store(true, Ordering::Relaxed);
            }
        });
        if let Poll::Ready(guard) = poll(acquire.as_mut(), &waker) {
            assert_eq!(guard.get(), 1);
            other.join().unwrap();
            assert_eq!(woken.times(), 1);
        } else {
            other.join().unwrap();
            assert_eq!(woken.times(), 1);
            assert!(poll(acquire, &waker).is_ready());
        }
    });
}
