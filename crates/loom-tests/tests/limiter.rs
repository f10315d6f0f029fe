//! Models of sync's `Limiter`.

use evenloop_core::shim::{StdArc, thread};
use evenloop_loom_tests::{Outcomes, Panics, Witness, Woken, block_on, model, model_reaching, poll};
use evenloop_sync::Limiter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::Waker;

/// A limiter, and what only who has a token may touch.
struct Scene {
    limiter: Limiter,
    guarded: Witness,
}

fn scene(total: usize) -> StdArc<Scene> {
    StdArc::new(Scene { limiter: Limiter::new(total), guarded: Witness::new(0) })
}

impl Scene {
    fn borrow_and_add(&self, borrower: u64) {
        let token = block_on(self.limiter.acquire_on_behalf_of(borrower)).expect("one each");
        self.guarded.set(self.guarded.get() + 1);
        drop(token);
    }
}

/// Do two borrowers of one token both get it, one after the other?
#[test]
fn acquire_races_acquire() {
    model(|| {
        let scene = scene(1);
        let other = thread::spawn({
            let scene = scene.clone();
            move || scene.borrow_and_add(1)
        });
        scene.borrow_and_add(2);
        other.join().unwrap();
        assert_eq!((scene.guarded.get(), scene.limiter.borrowed()), (2, 0));
    });
}

/// Of two who ask on behalf of the same borrower, does exactly one stand in line?
#[test]
fn acquire_races_acquire_of_the_same_borrower() {
    model(|| {
        let scene = scene(0);
        let other = thread::spawn({
            let scene = scene.clone();
            move || {
                let mut acquire = Box::pin(scene.limiter.acquire_on_behalf_of(1));
                let refused = poll(acquire.as_mut(), Waker::noop()).is_ready();
                std::mem::forget(acquire); // it stays in line
                refused
            }
        });
        let mine = poll(pin!(scene.limiter.acquire_on_behalf_of(1)), Waker::noop()).is_ready();
        assert!(!(mine && other.join().unwrap()), "one of them was first");
    });
}

/// When a waiter gives up while the token comes back, before or after it was chosen, is the next one served?
#[test]
fn cancel_races_give_back() {
    model_reaching(["cancelled first", "granted first"], |outcomes: Outcomes| {
        let scene = scene(1);
        let (woken, waker) = Woken::waker();
        let token = scene.limiter.try_acquire().expect("free");
        std::mem::forget(token); // given back below
        let mut gone = scene.limiter.acquire_on_behalf_of(1);
        assert!(poll(Pin::new(&mut gone), &waker).is_pending());
        let mut next = scene.limiter.acquire_on_behalf_of(2);
        let (_, waker) = Woken::waker();
        assert!(poll(Pin::new(&mut next), &waker).is_pending());
        let other = thread::spawn({
            let scene = scene.clone();
            move || {
                scene.guarded.set(1);
                scene.limiter.set_total(2);
            }
        });
        drop(gone);
        outcomes.count(if woken.times() == 0 { "cancelled first" } else { "granted first" });
        let token = block_on(next).expect("one each");
        assert_eq!(scene.guarded.get(), 1);
        other.join().unwrap();
        drop(token);
        assert!(scene.limiter.try_acquire_on_behalf_of(1).is_ok(), "who gave up is forgotten");
    });
}

/// Does a newcomer stay behind who waits while tokens are added?
#[test]
fn newcomer_never_overtakes() {
    model(|| {
        let scene = scene(0);
        let mut first = scene.limiter.acquire();
        assert!(poll(Pin::new(&mut first), Waker::noop()).is_pending());
        let other = thread::spawn({
            let scene = scene.clone();
            move || scene.limiter.set_total(1)
        });
        assert!(scene.limiter.try_acquire().is_none());
        other.join().unwrap();
        assert!(poll(Pin::new(&mut first), Waker::noop()).is_ready());
    });
}

/// When a waiter moves to another task while a token comes, is the task that holds it now woken?
#[test]
fn waker_moves_while_set_total() {
    model(|| {
        let scene = scene(0);
        let (left_behind, waker) = Woken::waker();
        let mut acquire = scene.limiter.acquire();
        assert!(poll(Pin::new(&mut acquire), &waker).is_pending());
        drop(waker);
        let other = thread::spawn({
            let scene = scene.clone();
            move || {
                scene.guarded.set(1);
                scene.limiter.set_total(1);
            }
        });
        drop(block_on(acquire));
        assert_eq!(scene.guarded.get(), 1);
        other.join().unwrap();
        assert_eq!(StdArc::strong_count(&left_behind), 1);
    });
}

/// When the first of several wakers panics, are the others woken all the same?
#[test]
fn waker_panics_while_acquire() {
    model(|| {
        let scene = scene(0);
        let mut first = scene.limiter.acquire();
        assert!(poll(Pin::new(&mut first), &Panics::waker()).is_pending());
        let mut second = scene.limiter.acquire();
        let (_, waker) = Woken::waker();
        assert!(poll(Pin::new(&mut second), &waker).is_pending());
        let other = thread::spawn({
            let scene = scene.clone();
            move || {
                scene.guarded.set(1);
                assert!(catch_unwind(AssertUnwindSafe(|| scene.limiter.set_total(2))).is_err());
            }
        });
        drop(block_on(second));
        assert_eq!(scene.guarded.get(), 1);
        other.join().unwrap();
    });
}
