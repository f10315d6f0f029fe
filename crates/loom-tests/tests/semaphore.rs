//! Models of sync's `Semaphore`.

use evenloop_core::shim::{StdArc, thread};
use evenloop_loom_tests::{Outcomes, Panics, Witness, Woken, block_on, model, model_reaching, poll};
use evenloop_sync::{BoundedSemaphore, Semaphore, SemaphoreClosed, TryAcquireError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Poll, Waker};

/// A semaphore, and what its releasers did before.
struct Scene {
    semaphore: Semaphore,
    done: [Witness; 2],
}

fn scene(value: usize) -> StdArc<Scene> {
    StdArc::new(Scene { semaphore: Semaphore::new(value), done: Default::default() })
}

/// Releases one permit on a new thread after touching a witness.
fn release_on_a_thread(scene: &StdArc<Scene>, which: usize) -> thread::JoinHandle<()> {
    let scene = scene.clone();
    thread::spawn(move || {
        scene.done[which].set(1);
        scene.semaphore.release(1);
    })
}

/// Does who waits for two permits from two releasers see what both did before?
#[test]
fn releases_race_acquire_many() {
    model(|| {
        let scene = scene(0);
        let releaser = release_on_a_thread(&scene, 0);
        scene.done[1].set(1);
        scene.semaphore.release(1);
        let permit = block_on(scene.semaphore.acquire_many(2)).expect("open");
        assert_eq!((permit.count(), scene.done[0].get(), scene.done[1].get()), (2, 1, 1));
        releaser.join().unwrap();
    });
}

/// The same for who is in line already: is a permit that came before the line was there granted with its history?
#[test]
fn releases_race_a_waiter() {
    model(|| {
        let scene = scene(0);
        let releaser = release_on_a_thread(&scene, 0);
        let (_, waker) = Woken::waker();
        let mut acquire = pin!(scene.semaphore.acquire_many(2));
        assert!(poll(acquire.as_mut(), &waker).is_pending());
        scene.done[1].set(1);
        scene.semaphore.release(1);
        drop(block_on(acquire).expect("open"));
        assert_eq!((scene.done[0].get(), scene.done[1].get()), (1, 1));
        releaser.join().unwrap();
    });
}

/// Does a permit that comes back while the line empties stay free for a newcomer, with its history?
#[test]
fn release_races_cancel() {
    model(|| {
        let scene = scene(1);
        let releaser = release_on_a_thread(&scene, 0);
        {
            let mut acquire = pin!(scene.semaphore.acquire_many(3));
            assert!(poll(acquire.as_mut(), Waker::noop()).is_pending());
        }
        drop(block_on(scene.semaphore.acquire_many(2)).expect("open"));
        assert_eq!(scene.done[0].get(), 1);
        releaser.join().unwrap();
    });
}

/// When the first in line asks for too much and gives up while a permit comes back, are those behind it served?
#[test]
fn cancel_of_the_first_races_release() {
    model(|| {
        let scene = scene(1);
        let mut much = scene.semaphore.acquire_many(3);
        assert!(poll(Pin::new(&mut much), Waker::noop()).is_pending());
        let (woken, waker) = Woken::waker();
        let mut little = [scene.semaphore.acquire(), scene.semaphore.acquire()];
        assert!(little.iter_mut().all(|little| poll(Pin::new(little), &waker).is_pending()));
        let releaser = release_on_a_thread(&scene, 0);
        drop(much);
        releaser.join().unwrap();
        assert_eq!(woken.times(), 2);
        assert!(little.iter_mut().all(|little| poll(Pin::new(little), &waker).is_ready()));
        assert_eq!((scene.semaphore.value(), scene.done[0].get()), (2, 1));
    });
}

/// Does a newcomer that takes what a waiter left over see what came before the release, though it never meets the line?
#[test]
fn release_of_many_races_try_acquire() {
    model_reaching(["left over", "too early"], |outcomes: Outcomes| {
        let scene = scene(0);
        let mut waits = scene.semaphore.acquire();
        assert!(poll(Pin::new(&mut waits), Waker::noop()).is_pending());
        let newcomer = thread::spawn({
            let scene = scene.clone();
            move || {
                let permit = scene.semaphore.try_acquire();
                outcomes.count(if permit.is_ok() { "left over" } else { "too early" });
                assert!(permit.is_err() || scene.done[0].get() == 1);
            }
        });
        scene.done[0].set(1);
        scene.semaphore.release(2);
        newcomer.join().unwrap();
        assert!(poll(Pin::new(&mut waits), Waker::noop()).is_ready());
    });
}

/// Does a newcomer that asks for little stay behind who waits for much while permits come back?
#[test]
fn newcomer_never_overtakes() {
    model(|| {
        let scene = scene(1);
        let mut much = pin!(scene.semaphore.acquire_many(2));
        assert!(poll(much.as_mut(), Waker::noop()).is_pending());
        let newcomer = thread::spawn({
            let scene = scene.clone();
            move || assert_eq!(scene.semaphore.try_acquire().err(), Some(TryAcquireError::WouldBlock))
        });
        scene.semaphore.release(1);
        newcomer.join().unwrap();
        assert!(poll(much, Waker::noop()).is_ready());
    });
}

/// Does everybody who waits when the semaphore is closed learn it, and see what came before?
#[test]
fn close_races_acquire() {
    model(|| {
        let scene = scene(0);
        let closer = thread::spawn({
            let scene = scene.clone();
            move || {
                scene.done[0].set(1);
                scene.semaphore.close();
            }
        });
        assert_eq!(block_on(scene.semaphore.acquire()).err(), Some(SemaphoreClosed));
        assert_eq!(scene.done[0].get(), 1);
        closer.join().unwrap();
    });
}

/// Looks with `finds_closed` while another thread closes: who finds the semaphore closed must see what came before.
fn check_close_is_seen(finds_closed: fn(&Semaphore) -> bool) {
    model_reaching(["closed", "not closed"], move |outcomes: Outcomes| {
        let scene = scene(0);
        let looker = thread::spawn({
            let scene = scene.clone();
            move || {
                let closed = finds_closed(&scene.semaphore);
                outcomes.count(if closed { "closed" } else { "not closed" });
                assert!(!closed || scene.done[0].get() == 1);
            }
        });
        scene.done[0].set(1);
        scene.semaphore.close();
        looker.join().unwrap();
    });
}

/// Does whoever is refused by a closed semaphore see what came before?
#[test]
fn close_races_try_acquire() {
    check_close_is_seen(|semaphore| semaphore.try_acquire().err() == Some(TryAcquireError::Closed));
}

/// Does whoever asks whether it is closed?
#[test]
fn close_races_is_closed() {
    check_close_is_seen(Semaphore::is_closed);
}

/// When a permit comes back while the semaphore is closed, has the waiter either the permit or the refusal?
#[test]
fn close_races_release() {
    model_reaching(["permit", "refusal"], |outcomes: Outcomes| {
        let scene = scene(0);
        let (_, waker) = Woken::waker();
        let mut acquire = pin!(scene.semaphore.acquire());
        assert!(poll(acquire.as_mut(), &waker).is_pending());
        let releaser = release_on_a_thread(&scene, 0);
        scene.semaphore.close();
        match block_on(acquire) {
            Ok(permit) => {
                outcomes.count("permit");
                assert_eq!(scene.done[0].get(), 1);
                permit.forget();
            }
            Err(SemaphoreClosed) => outcomes.count("refusal"),
        }
        releaser.join().unwrap();
        assert!(scene.semaphore.is_closed());
    });
}

/// When a waiter gives up while the semaphore is closed, is nothing lost and nobody left?
#[test]
fn close_races_cancel() {
    model(|| {
        let scene = scene(1);
        let mut gone = scene.semaphore.acquire_many(2);
        assert!(poll(Pin::new(&mut gone), Waker::noop()).is_pending());
        let closer = thread::spawn({
            let scene = scene.clone();
            move || scene.semaphore.close()
        });
        drop(gone);
        closer.join().unwrap();
        assert_eq!((scene.semaphore.value(), scene.semaphore.statistics().waiters), (1, 0));
    });
}

/// Does a release of many serve all it can, though more wakers are due than fit a batch, while one gives up?
#[test]
fn release_of_many_races_cancel() {
    model(|| {
        let scene = scene(0);
        let mut gone = scene.semaphore.acquire();
        assert!(poll(Pin::new(&mut gone), Waker::noop()).is_pending());
        let (woken, waker) = Woken::waker();
        let mut rest = [(); 4].map(|()| scene.semaphore.acquire());
        assert!(rest.iter_mut().all(|one| poll(Pin::new(one), &waker).is_pending()));
        let releaser = thread::spawn({
            let scene = scene.clone();
            move || scene.semaphore.release(4)
        });
        drop(gone);
        releaser.join().unwrap();
        assert_eq!(woken.times(), 4);
        assert!(rest.iter_mut().all(|one| poll(Pin::new(one), &waker).is_ready()));
    });
}

/// Releases a permit on a new thread, and then waits there for one: in the place of the waiter that has got the first, if it is
/// free already. Answers once it has been served.
fn release_and_wait_on_a_thread(scene: &StdArc<Scene>) -> thread::JoinHandle<()> {
    let scene = scene.clone();
    thread::spawn(move || {
        scene.done[0].set(1);
        scene.semaphore.release(1);
        drop(block_on(scene.semaphore.acquire()).expect("open"));
        assert_eq!(scene.done[0].get(), 1);
    })
}

/// When a waiter is dropped that was granted a permit, and another waits in its place by then, does it leave that one alone?
#[test]
fn drop_races_release_and_the_next_acquire() {
    model(|| {
        let scene = scene(0);
        let mut gone = scene.semaphore.acquire();
        assert!(poll(Pin::new(&mut gone), Waker::noop()).is_pending());
        let releaser = release_and_wait_on_a_thread(&scene);
        drop(gone);
        releaser.join().unwrap();
        assert_eq!((scene.semaphore.value(), scene.semaphore.statistics().waiters), (1, 0));
    });
}

/// Polls once, counts whether it was granted its permits by then, and waits if it was not.
fn poll_and_wait<F: Future>(mut acquire: Pin<&mut F>, outcomes: Outcomes) -> F::Output {
    let (_, waker) = Woken::waker();
    match poll(acquire.as_mut(), &waker) {
        Poll::Ready(permit) => {
            outcomes.count("granted");
            permit
        }
        Poll::Pending => {
            outcomes.count("waits");
            block_on(acquire)
        }
    }
}

/// When a waiter is polled that was granted a permit, and another waits in its place by then, does it find its own?
#[test]
fn poll_races_release_and_the_next_acquire() {
    model_reaching(["granted", "waits"], |outcomes: Outcomes| {
        let scene = scene(0);
        let mut acquire = pin!(scene.semaphore.acquire());
        assert!(poll(acquire.as_mut(), Waker::noop()).is_pending());
        let releaser = release_and_wait_on_a_thread(&scene);
        let permit = poll_and_wait(acquire, outcomes);
        assert_eq!(scene.done[0].get(), 1);
        drop(permit.expect("open"));
        releaser.join().unwrap();
        assert_eq!((scene.semaphore.value(), scene.semaphore.statistics().waiters), (1, 0));
    });
}

/// Who sees that it was granted permits forgets them and gives them back by number: are they never too many?
#[test]
fn grant_seen_races_the_rest_of_the_release() {
    model_reaching(["granted", "waits"], |outcomes: Outcomes| {
        let semaphore = StdArc::new(BoundedSemaphore::new(3));
        let held = semaphore.try_acquire_owned().expect("free");
        let mut acquire = pin!(semaphore.acquire_many(3));
        assert!(poll(acquire.as_mut(), Waker::noop()).is_pending());
        let witness = StdArc::new(Witness::new(0));
        let releaser = thread::spawn({
            let witness = witness.clone();
            move || {
                witness.set(1);
                drop(held);
            }
        });
        let permit = poll_and_wait(acquire, outcomes);
        assert_eq!((semaphore.value(), witness.get()), (0, 1));
        permit.expect("open").forget();
        assert!(semaphore.release(3).is_ok());
        releaser.join().unwrap();
    });
}

/// When a waiter moves to another task while a permit comes back, is the task that holds it now woken?
#[test]
fn waker_moves_while_release() {
    model(|| {
        let scene = scene(0);
        let (_, waker) = Woken::waker();
        let mut acquire = pin!(scene.semaphore.acquire());
        assert!(poll(acquire.as_mut(), &waker).is_pending());
        let releaser = release_on_a_thread(&scene, 0);
        drop(block_on(acquire).expect("open"));
        assert_eq!(scene.done[0].get(), 1);
        releaser.join().unwrap();
    });
}

/// When the first of several wakers panics, are the others woken all the same?
#[test]
fn waker_panics_while_acquire() {
    model(|| {
        let scene = scene(0);
        let mut first = scene.semaphore.acquire();
        assert!(poll(Pin::new(&mut first), &Panics::waker()).is_pending());
        let mut second = scene.semaphore.acquire();
        let (_, waker) = Woken::waker();
        assert!(poll(Pin::new(&mut second), &waker).is_pending());
        let releaser = thread::spawn({
            let scene = scene.clone();
            move || {
                assert!(catch_unwind(AssertUnwindSafe(|| scene.semaphore.release(2))).is_err());
            }
        });
        drop(block_on(second).expect("open"));
        releaser.join().unwrap();
        assert!(matches!(poll(Pin::new(&mut first), Waker::noop()), Poll::Ready(Ok(_))));
    });
}
