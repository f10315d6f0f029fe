//! Models of sync's `Event`.

use evenloop_core::shim::atomic::{AtomicBool, Ordering};
use evenloop_core::shim::{StdArc, thread};
use evenloop_loom_tests::{Outcomes, Panics, Witness, Woken, block_on, model, model_reaching, poll};
use evenloop_sync::Event;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::Waker;

/// An event, and what came before it was set.
#[derive(Default)]
struct Scene {
    event: Event,
    before: Witness,
}

fn set_on_a_thread(scene: &StdArc<Scene>) -> thread::JoinHandle<()> {
    let scene = scene.clone();
    thread::spawn(move || {
        scene.before.set(1);
        scene.event.set();
    })
}

/// Does whoever waits while the event is set return, and see what came before?
#[test]
fn set_races_wait() {
    model_reaching(["set already", "waited"], |outcomes: Outcomes| {
        let scene = StdArc::new(Scene::default());
        let setter = set_on_a_thread(&scene);
        let mut wait = pin!(scene.event.wait());
        if poll(wait.as_mut(), Waker::noop()).is_ready() {
            outcomes.count("set already");
        } else {
            outcomes.count("waited");
            block_on(wait);
        }
        assert_eq!(scene.before.get(), 1);
        setter.join().unwrap();
    });
}

/// Does whoever finds the event set see what came before?
#[test]
fn set_races_is_set() {
    model_reaching(["set", "not set"], |outcomes: Outcomes| {
        let scene = StdArc::new(Scene::default());
        let looks = thread::spawn({
            let scene = scene.clone();
            move || {
                let set = scene.event.is_set();
                assert!(!set || scene.before.get() == 1);
                set
            }
        });
        scene.before.set(1);
        scene.event.set();
        outcomes.count(if looks.join().unwrap() { "set" } else { "not set" });
    });
}

/// Is a waiter released though the event is cleared at once?
#[test]
fn set_and_clear_race_poll() {
    model(|| {
        let scene = StdArc::new(Scene::default());
        let (_, waker) = Woken::waker();
        let mut wait = pin!(scene.event.wait());
        assert!(poll(wait.as_mut(), &waker).is_pending());
        let setter = thread::spawn({
            let scene = scene.clone();
            move || {
                scene.before.set(1);
                scene.event.set();
                scene.event.clear();
            }
        });
        block_on(wait);
        assert_eq!(scene.before.get(), 1);
        setter.join().unwrap();
    });
}

/// A consumer clears, looks for work, and waits if there is none: can work come unseen, though the event was set before?
/// No cell: the work is looked at in the race, so it is an atomic; after the wait a stale look at it fails.
#[test]
fn set_of_a_set_event_races_clear() {
    model(|| {
        let event = StdArc::new(Event::new());
        let work = StdArc::new(AtomicBool::new(false));
        event.set();
        let producer = thread::spawn({
            let (event, work) = (event.clone(), work.clone());
            move || {
                work.store(true, Ordering::Relaxed);
                event.set();
            }
        });
        event.clear();
        if !work.load(Ordering::Relaxed) {
            block_on(event.wait());
            assert!(work.load(Ordering::Relaxed));
        }
        producer.join().unwrap();
    });
}

/// When two set the event, does whoever finds it set see what both did before, as far as both have returned?
#[test]
fn set_races_set() {
    model(|| {
        let scene = StdArc::new(Scene::default());
        let setter = set_on_a_thread(&scene);
        scene.event.set();
        let reader = thread::spawn({
            let scene = scene.clone();
            move || block_on(scene.event.wait())
        });
        reader.join().unwrap();
        setter.join().unwrap();
        block_on(scene.event.wait());
        assert_eq!(scene.before.get(), 1);
    });
}

/// When a waiter gives up while the event is set, are the others released, in as many batches as it takes?
#[test]
fn cancel_races_set() {
    model_reaching(["cancelled first", "released first"], |outcomes: Outcomes| {
        let scene = StdArc::new(Scene::default());
        let (gone_woken, gone_waker) = Woken::waker();
        let mut gone = scene.event.wait();
        assert!(poll(Pin::new(&mut gone), &gone_waker).is_pending());
        drop(gone_waker);
        let (woken, waker) = Woken::waker();
        let mut rest = [(); 3].map(|()| scene.event.wait());
        assert!(rest.iter_mut().all(|wait| poll(Pin::new(wait), &waker).is_pending()));
        let setter = set_on_a_thread(&scene);
        drop(gone);
        setter.join().unwrap();
        outcomes.count(if gone_woken.times() == 0 { "cancelled first" } else { "released first" });
        assert_eq!((woken.times(), StdArc::strong_count(&gone_woken)), (3, 1));
        assert!(rest.iter_mut().all(|wait| poll(Pin::new(wait), &waker).is_ready()));
    });
}

/// Releases whoever waits, takes the place in line that became free, and is released from it.
fn set_and_wait_for_the_next(scene: &StdArc<Scene>) -> thread::JoinHandle<()> {
    let scene = scene.clone();
    thread::spawn(move || {
        let event = &scene.event;
        scene.before.set(1);
        event.set();
        event.clear();
        let (woken, waker) = Woken::waker();
        let mut next = pin!(event.wait());
        assert!(poll(next.as_mut(), &waker).is_pending());
        event.set();
        assert_eq!(woken.times(), 1);
        assert!(poll(next, &waker).is_ready());
    })
}

/// Is a waiter that was released told from whoever joins the line after it, in the place that was its own?
#[test]
fn poll_races_set_and_the_next_wait() {
    model_reaching(["released", "waits"], |outcomes: Outcomes| {
        let scene = StdArc::new(Scene::default());
        let (_, waker) = Woken::waker();
        let mut released = pin!(scene.event.wait());
        assert!(poll(released.as_mut(), &waker).is_pending());
        let setter = set_and_wait_for_the_next(&scene);
        let (_, other) = Woken::waker();
        let released_now = poll(released.as_mut(), &other).is_ready();
        assert!(!released_now || scene.before.get() == 1);
        outcomes.count(if released_now { "released" } else { "waits" });
        setter.join().unwrap();
        assert!(released_now || poll(released, &other).is_ready());
    });
}

/// As above, when the released waiter is dropped: does whoever joined after it stay in line?
#[test]
fn drop_races_set_and_the_next_wait() {
    model(|| {
        let scene = StdArc::new(Scene::default());
        let (_, waker) = Woken::waker();
        let mut released = scene.event.wait();
        assert!(poll(Pin::new(&mut released), &waker).is_pending());
        let setter = set_and_wait_for_the_next(&scene);
        drop(released);
        setter.join().unwrap();
    });
}

/// When a waiter moves to another task while the event is set, is the task that holds it now woken?
#[test]
fn waker_moves_while_set() {
    model(|| {
        let scene = StdArc::new(Scene::default());
        let (left_behind, waker) = Woken::waker();
        let mut wait = pin!(scene.event.wait());
        assert!(poll(wait.as_mut(), &waker).is_pending());
        drop(waker);
        let setter = set_on_a_thread(&scene);
        block_on(wait);
        assert_eq!(scene.before.get(), 1);
        setter.join().unwrap();
        assert_eq!(StdArc::strong_count(&left_behind), 1);
    });
}

/// When the first of several wakers panics, are the others woken all the same, those of later batches too?
#[test]
fn waker_panics_while_wait() {
    model(|| {
        let scene = StdArc::new(Scene::default());
        let mut first = scene.event.wait();
        assert!(poll(Pin::new(&mut first), &Panics::waker()).is_pending());
        let (_, waker) = Woken::waker();
        let mut rest = [(); 2].map(|()| scene.event.wait());
        assert!(rest.iter_mut().all(|wait| poll(Pin::new(wait), &waker).is_pending()));
        let setter = thread::spawn({
            let scene = scene.clone();
            move || {
                scene.before.set(1);
                assert!(catch_unwind(AssertUnwindSafe(|| scene.event.set())).is_err());
            }
        });
        let [_, last] = rest;
        block_on(last);
        assert_eq!(scene.before.get(), 1);
        setter.join().unwrap();
    });
}
