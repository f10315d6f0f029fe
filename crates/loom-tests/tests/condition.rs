//! Models of sync's `Condition`.

use evenloop_core::cancel::CancelScope;
use evenloop_core::shim::{StdArc, thread};
use evenloop_loom_tests::{Outcomes, Panics, Witness, Woken, block_on, model, model_reaching, poll};
use evenloop_sync::{Condition, Lock};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::Waker;

/// A value under a lock, and the condition that it has changed.
struct Scene {
    value: Lock<Witness>,
    changed: Condition,
}

fn scene() -> StdArc<Scene> {
    StdArc::new(Scene { value: Lock::new(Witness::new(0)), changed: Condition::new() })
}

impl Scene {
    /// Sets the value under the lock, then notifies without it.
    fn change(&self) {
        let guard = block_on(self.value.acquire());
        guard.set(1);
        drop(guard);
        self.changed.notify(1);
    }

    fn wait_for_change(&self) {
        let guard = block_on(self.value.acquire());
        let guard = block_on(self.changed.wait_for(guard, |value| value.get() == 1));
        assert_eq!(guard.get(), 1);
    }
}

/// Does whoever waits for a change see it, though the notifier does not hold the lock?
#[test]
fn notify_races_wait() {
    model(|| {
        let scene = scene();
        let notifier = thread::spawn({
            let scene = scene.clone();
            move || scene.change()
        });
        scene.wait_for_change();
        notifier.join().unwrap();
    });
}

/// And does it when it waits on the spawned thread?
#[test]
fn wait_races_notify() {
    model(|| {
        let scene = scene();
        let waiter = thread::spawn({
            let scene = scene.clone();
            move || scene.wait_for_change()
        });
        scene.change();
        waiter.join().unwrap();
    });
}

/// When a waiter gives up while one is notified, before or after it was chosen, is the next one notified?
#[test]
fn cancel_races_notify() {
    model_reaching(["cancelled first", "notified first"], |outcomes: Outcomes| {
        let scene = scene();
        let (woken, waker) = Woken::waker();
        let mut gone = scene.changed.wait(scene.value.try_acquire().expect("free"));
        assert!(poll(Pin::new(&mut gone), &waker).is_pending());
        let (_, waker) = Woken::waker();
        let mut next = scene.changed.wait(scene.value.try_acquire().expect("free"));
        assert!(poll(Pin::new(&mut next), &waker).is_pending());
        let notifier = thread::spawn({
            let scene = scene.clone();
            move || scene.change()
        });
        drop(gone);
        outcomes.count(if woken.times() == 0 { "cancelled first" } else { "notified first" });
        assert_eq!(block_on(next).get(), 1);
        notifier.join().unwrap();
    });
}

/// When a waiter that was notified and stands in line for the lock gives up while the lock is released, is the next one
/// notified, and served?
#[test]
fn cancel_while_locking_races_release() {
    model(|| {
        let scene = StdArc::new((StdArc::new(Lock::new(Witness::new(0))), Condition::new()));
        let (lock, changed) = &*scene;
        let mut gone = changed.wait(lock.try_acquire().expect("free"));
        assert!(poll(Pin::new(&mut gone), Waker::noop()).is_pending());
        let (_, waker) = Woken::waker();
        let mut next = changed.wait(lock.try_acquire().expect("free"));
        assert!(poll(Pin::new(&mut next), &waker).is_pending());
        let guard = lock.try_acquire_owned().expect("free");
        changed.notify(1);
        assert!(poll(Pin::new(&mut gone), Waker::noop()).is_pending(), "it waits for the lock");
        let holder = thread::spawn(move || {
            guard.set(1);
            drop(guard);
        });
        drop(gone);
        assert_eq!(block_on(next).get(), 1);
        holder.join().unwrap();
    });
}

/// When a waiter's scope is cancelled while one is notified, does the notification reach the waiter, or else the next one,
/// and does the cancellation end the scope if nobody was notified?
#[test]
fn scope_cancel_races_notify() {
    model_reaching(["notified", "cancelled"], |outcomes: Outcomes| {
        let scene = scene();
        let scope = CancelScope::new();
        let mut first = pin!(scope.run(scene.changed.wait(scene.value.try_acquire().expect("free"))));
        assert!(poll(first.as_mut(), Waker::noop()).is_pending());
        let (_, waker) = Woken::waker();
        let mut second = scene.changed.wait(scene.value.try_acquire().expect("free"));
        assert!(poll(Pin::new(&mut second), &waker).is_pending());
        let notifier = thread::spawn({
            let scene = scene.clone();
            move || scene.change()
        });
        let canceller = thread::spawn(move || scope.cancel("why"));
        match block_on(first) {
            Ok(guard) => {
                assert_eq!(guard.get(), 1);
                drop(guard);
                outcomes.count("notified");
                scene.changed.notify(1);
            }
            Err(_) => outcomes.count("cancelled"),
        }
        assert_eq!(block_on(second).get(), 1);
        notifier.join().unwrap();
        canceller.join().unwrap();
    });
}

/// When two wait and two are notified by different threads, are both notified?
#[test]
fn notify_races_notify() {
    model(|| {
        let scene = scene();
        let (woken, waker) = Woken::waker();
        let mut waits = [(); 2].map(|()| {
            let mut wait = scene.changed.wait(scene.value.try_acquire().expect("free"));
            assert!(poll(Pin::new(&mut wait), &waker).is_pending());
            wait
        });
        let notifier = thread::spawn({
            let scene = scene.clone();
            move || scene.changed.notify(1)
        });
        scene.changed.notify_all();
        notifier.join().unwrap();
        assert_eq!(woken.times(), 2);
        assert!(waits.iter_mut().all(|wait| poll(Pin::new(wait), &waker).is_ready()));
    });
}

/// When a waiter moves to another task while it is notified, is the task that holds it now woken?
#[test]
fn waker_moves_while_notify() {
    model(|| {
        let scene = scene();
        let (left_behind, waker) = Woken::waker();
        let mut wait = pin!(scene.changed.wait(scene.value.try_acquire().expect("free")));
        assert!(poll(wait.as_mut(), &waker).is_pending());
        drop(waker);
        let notifier = thread::spawn({
            let scene = scene.clone();
            move || scene.change()
        });
        assert_eq!(block_on(wait).get(), 1);
        notifier.join().unwrap();
        assert_eq!(StdArc::strong_count(&left_behind), 1);
    });
}

/// When the waker of the notified panics, and its task is dropped for it, is the next one notified?
#[test]
fn waker_panics_while_wait() {
    model(|| {
        let scene = scene();
        let mut first = scene.changed.wait(scene.value.try_acquire().expect("free"));
        assert!(poll(Pin::new(&mut first), &Panics::waker()).is_pending());
        let notifier = thread::spawn({
            let scene = scene.clone();
            move || {
                block_on(scene.value.acquire()).set(1);
                catch_unwind(AssertUnwindSafe(|| scene.changed.notify(1))).is_err()
            }
        });
        let (woken, waker) = Woken::waker();
        let guard = block_on(scene.value.acquire());
        let mut second = scene.changed.wait(guard);
        assert!(poll(Pin::new(&mut second), &waker).is_pending());
        assert!(notifier.join().unwrap());
        assert_eq!(woken.times(), 0);
        drop(first);
        assert_eq!(woken.times(), 1);
    });
}
