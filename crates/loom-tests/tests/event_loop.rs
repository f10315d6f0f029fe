//! Models of executor's `EventLoop`.

use evenloop_core::shim::atomic::{AtomicU32, Ordering};
use evenloop_core::shim::{Arc, StdArc, thread};
use evenloop_core::{Park, ThreadPark, Unpark};
use evenloop_executor::{EventLoop, all_tasks};
use evenloop_loom_tests::{Outcomes, Witness, block_on, model, model_reaching};
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// Parks as its inner park does. What wakers share with a loop holds its unparker, so loom reports a task that leaks when
/// it is over and wakers are left: such a task holds that part.
struct Watched {
    inner: ThreadPark,
    unparker: StdArc<WatchedUnpark>,
}

struct WatchedUnpark {
    inner: StdArc<dyn Unpark>,
    _leak: Arc<()>,
}

impl Park for Watched {
    fn park(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        self.inner.park(timeout)
    }

    fn unparker(&self) -> StdArc<dyn Unpark> {
        self.unparker.clone()
    }
}

impl Unpark for WatchedUnpark {
    fn unpark(&self) {
        self.inner.unpark();
    }
}

fn event_loop() -> EventLoop {
    let inner = ThreadPark::new();
    let unparker = StdArc::new(WatchedUnpark { inner: inner.unparker(), _leak: Arc::new(()) });
    EventLoop::builder().park(Box::new(Watched { inner, unparker })).build()
}

/// Runs a task whose first poll gives its waker to `first`, and whose next poll is its last.
fn wait_for_a_wake(first: impl FnOnce(Waker)) {
    let mut first = Some(first);
    event_loop().run_until_complete(poll_fn(|cx| match first.take() {
        Some(first) => {
            first(cx.waker().clone());
            Poll::Pending
        }
        None => Poll::Ready(()),
    }));
}

/// Does a task that another thread wakes run again, and see what was written before, however the loop goes to sleep?
#[test]
fn wake_races_park() {
    model(|| {
        let witness = StdArc::new(Witness::new(0));
        let mut other = None;
        wait_for_a_wake(|waker| {
            let witness = witness.clone();
            other = Some(thread::spawn(move || {
                witness.set(1);
                waker.wake();
            }));
        });
        assert_eq!(witness.get(), 1);
        other.unwrap().join().unwrap();
    });
}

/// Does the same hold when the other thread keeps its waker, and drops it while the task ends?
#[test]
fn wake_by_reference_races_the_end() {
    model(|| {
        let witness = StdArc::new(Witness::new(0));
        let mut other = None;
        wait_for_a_wake(|waker| {
            let witness = witness.clone();
            other = Some(thread::spawn(move || {
                witness.set(1);
                waker.wake_by_ref();
                drop(waker);
            }));
        });
        assert_eq!(witness.get(), 1);
        other.unwrap().join().unwrap();
    });
}

/// Is neither of two wakes lost that two threads make around one poll?
#[test]
fn two_wakes_race_one_poll() {
    model(|| {
        let done = StdArc::new((AtomicU32::new(0), AtomicU32::new(0)));
        let witness = StdArc::new((Witness::new(0), Witness::new(0)));
        let mut others = Vec::new();
        event_loop().run_until_complete(poll_fn(|cx| {
            if others.is_empty() {
                let (waker, seen, data) = (cx.waker().clone(), done.clone(), witness.clone());
                others.push(thread::spawn(move || {
                    data.0.set(1);
                    seen.0.swap(1, Ordering::Release);
                    waker.wake();
                }));
                let (waker, seen, data) = (cx.waker().clone(), done.clone(), witness.clone());
                others.push(thread::spawn(move || {
                    data.1.set(1);
                    seen.1.swap(1, Ordering::Release);
                    waker.wake();
                }));
            }
            // Relaxed would do for the wakes; the witnesses need more, as one poll may follow one wake only. A store of theirs
            // would be lost to loom under `LOAD_RMW=1`, which orders it before a load that it does not know of.
            let (one, two) = (done.0.load(Ordering::Acquire), done.1.load(Ordering::Acquire));
            if one + two < 2 {
                return Poll::Pending;
            }
            assert_eq!(witness.0.get() + witness.1.get(), 2);
            Poll::Ready(())
        }));
        for other in others {
            other.join().unwrap();
        }
    });
}

/// Is a future from another thread either run whole, dropped by the loop that closes, or given back?
#[test]
fn remote_spawn_races_close() {
    model_reaching(["ran", "dropped", "given back"], |outcomes: Outcomes| {
        let witness = StdArc::new(Witness::new(0));
        let event_loop = event_loop();
        let handle = event_loop.handle();
        let other = thread::spawn({
            let (witness, leak) = (witness.clone(), Arc::new(()));
            move || {
                witness.set(1);
                let read = async move {
                    let _leak = leak;
                    witness.set(witness.get() + 1);
                };
                handle.spawn_detached(read).is_ok()
            }
        });
        assert!(event_loop.statistics().inbox <= 1); // it walks what the other thread links
        event_loop.run_once(Some(Duration::ZERO));
        drop(event_loop);
        let taken = other.join().unwrap();
        let ran = witness.get() == 2;
        outcomes.count(match (taken, ran) {
            (true, true) => "ran",
            (true, false) => "dropped",
            (false, false) => "given back",
            (false, true) => panic!("it ran and was given back"),
        });
    });
}

/// When a task is cancelled from another thread while it completes, does it end one way, and is its outcome whole?
#[test]
fn cancel_races_complete() {
    model_reaching(["value", "cancelled"], |outcomes: Outcomes| {
        let event_loop = event_loop();
        let witness = StdArc::new(Witness::new(0));
        let inside = witness.clone();
        let work = async move {
            evenloop_executor::yield_now().await;
            inside.set(1);
            7
        };
        let task = event_loop.handle().spawn(work).unwrap();
        let other = thread::spawn(move || {
            task.cancel();
            block_on(task)
        });
        event_loop.run_once(Some(Duration::ZERO));
        event_loop.run_once(Some(Duration::ZERO));
        event_loop.run_once(Some(Duration::ZERO));
        drop(event_loop);
        match other.join().unwrap() {
            Ok(value) => {
                outcomes.count("value");
                assert_eq!((value, witness.get()), (7, 1));
            }
            Err(error) => {
                outcomes.count("cancelled");
                assert!(error.is_cancelled());
                assert_eq!(witness.get(), 0);
            }
        }
    });
}

/// Does a thread that waits for a task of the loop get its outcome, whole, however the two meet?
#[test]
fn join_races_complete() {
    model(|| {
        let event_loop = event_loop();
        let witness = StdArc::new(Witness::new(0));
        let inside = witness.clone();
        let task = event_loop.handle().spawn(async move { inside.set(7) }).unwrap();
        let other = thread::spawn(move || {
            block_on(task).unwrap();
            witness.get()
        });
        event_loop.run_once(Some(Duration::ZERO));
        assert_eq!(other.join().unwrap(), 7);
    });
}

/// Does a thread that blocks until a task is over wake up, and see what the task did?
#[test]
fn blocking_join_races_complete() {
    model(|| {
        let event_loop = event_loop();
        let witness = StdArc::new(Witness::new(0));
        let inside = witness.clone();
        let task = event_loop.handle().spawn(async move { inside.set(7) }).unwrap();
        let other = thread::spawn(move || {
            task.join_blocking().unwrap();
            witness.get()
        });
        event_loop.run_once(Some(Duration::ZERO));
        assert_eq!(other.join().unwrap(), 7);
    });
}

/// Is the outcome dropped once when the thread that asked for it goes away at that moment?
/// No cell: the task is one, with its future and its outcome; and loom counts what is let go.
#[test]
fn remote_task_dropped_while_it_completes() {
    model(|| {
        let event_loop = event_loop();
        let leak = Arc::new(());
        let task = event_loop.handle().spawn(async move { leak }).unwrap();
        let other = thread::spawn(move || drop(task));
        event_loop.run_once(Some(Duration::ZERO));
        drop(event_loop);
        other.join().unwrap();
    });
}

/// Does a callback that is cancelled from another thread as its turn comes either run or get dropped, and never both?
#[test]
fn callback_cancel_races_its_turn() {
    model_reaching(["ran", "cancelled"], |outcomes: Outcomes| {
        let event_loop = event_loop();
        let witness = StdArc::new(Witness::new(0));
        let (inside, leak) = (witness.clone(), Arc::new(()));
        let callback = move || {
            let _held = leak;
            inside.set(1);
        };
        let handle = event_loop.handle().call_soon_threadsafe(callback).unwrap();
        let other = thread::spawn(move || handle.cancel());
        event_loop.run_once(Some(Duration::ZERO));
        event_loop.run_once(Some(Duration::ZERO));
        let cancelled = other.join().unwrap();
        drop(event_loop);
        assert_eq!(witness.get(), u32::from(!cancelled));
        outcomes.count(if cancelled { "cancelled" } else { "ran" });
    });
}

/// When a future that the loop makes for another thread is cancelled from there just as it is made, does it end?
/// No cell: the task is one, with its future and its outcome; and loom counts what is let go.
#[test]
fn cancel_races_make() {
    model_reaching(["made", "never made"], |outcomes: Outcomes| {
        let event_loop = event_loop();
        let (made, leak) = (StdArc::new(AtomicU32::new(0)), Arc::new(()));
        let inside = made.clone();
        let make = move || {
            inside.swap(1, Ordering::Relaxed);
            async move {
                let _held = leak;
                std::future::pending::<()>().await;
            }
        };
        let task = event_loop.handle().spawn_with(make).unwrap();
        let other = thread::spawn(move || {
            task.cancel();
            task
        });
        event_loop.run_once(Some(Duration::ZERO));
        let task = other.join().unwrap();
        for _ in 0..3 {
            event_loop.run_once(Some(Duration::ZERO));
        }
        assert!(task.done(), "it was cancelled, and the loop had its turns");
        outcomes.count(if made.load(Ordering::Relaxed) == 1 { "made" } else { "never made" });
    });
}

/// Ends at once with `value`, while a thread, which is put into `slot`, drops the task's waker.
fn drops_its_waker_elsewhere<T: Clone>(
    slot: &Rc<Cell<Option<thread::JoinHandle<()>>>>,
    value: T,
) -> impl Future<Output = T> + use<T> {
    let slot = slot.clone();
    poll_fn(move |cx| {
        let waker = cx.waker().clone();
        slot.set(Some(thread::spawn(move || drop(waker))));
        Poll::Ready(value.clone())
    })
}

/// Is a task freed once, and after its owner's last touch, when another thread drops the last waker while it ends?
/// No cell: the task is one, with its future and its outcome; and loom counts what is let go.
#[test]
fn last_waker_races_the_owners_free() {
    model(|| {
        let event_loop = event_loop();
        let slot = Rc::default();
        let task = event_loop.create_task(drops_its_waker_elsewhere(&slot, Arc::new(())));
        event_loop.run_once(Some(Duration::ZERO));
        drop(task);
        drop(event_loop);
        slot.take().unwrap().join().unwrap();
    });
}

/// Is a task that has no handle freed by the owner when another thread drops the last waker just before the halves of the
/// count are joined?
/// No cell: the task is one, with its future and its outcome; and loom counts what is let go.
#[test]
fn last_waker_races_the_joining_of_the_count() {
    model(|| {
        let event_loop = event_loop();
        let slot = Rc::default();
        event_loop.create_task(drops_its_waker_elsewhere(&slot, ())).detach();
        event_loop.run_once(Some(Duration::ZERO));
        drop(event_loop);
        slot.take().unwrap().join().unwrap();
    });
}

/// Does the count of references stay right when one thread clones what another counted, and drops more than it made?
/// No cell: the task is one, with its future and its outcome; and loom counts what is let go.
#[test]
fn clones_and_drops_race_the_owners_free() {
    model(|| {
        let event_loop = event_loop();
        let slot = Rc::new(Cell::new(None));
        let inside = slot.clone();
        event_loop
            .create_task(poll_fn(move |cx| {
                let (waker, second) = (cx.waker().clone(), cx.waker().clone());
                let other = thread::spawn(move || {
                    let copy = waker.clone();
                    drop(waker);
                    drop(second);
                    copy
                });
                inside.set(Some((cx.waker().clone(), other)));
                Poll::Ready(())
            }))
            .detach();
        event_loop.run_once(Some(Duration::ZERO));
        drop(event_loop);
        let (back, other) = slot.take().unwrap();
        drop(back);
        drop(other.join().unwrap());
    });
}

/// Runs a task that is over at once, and answers its waker, which keeps it: it has settled.
fn settled_task(event_loop: &EventLoop) -> Waker {
    let slot = Rc::new(Cell::new(None));
    event_loop.create_task(keeps_its_waker(&slot)).detach();
    event_loop.run_once(Some(Duration::ZERO));
    slot.take().unwrap()
}

fn keeps_its_waker(slot: &Rc<Cell<Option<Waker>>>) -> impl Future<Output = ()> + use<> {
    let slot = slot.clone();
    poll_fn(move |cx| {
        slot.set(Some(cx.waker().clone()));
        Poll::Ready(())
    })
}

/// When another thread lets go of a task just as the loop looks for a place for the next one, is that place used again, and
/// only after the other thread's last touch?
/// No cell: the task is one, with its future and its outcome; and loom counts what is let go.
#[test]
fn last_waker_elsewhere_races_the_next_task() {
    model_reaching(["the same place", "another place"], |outcomes: Outcomes| {
        let event_loop = event_loop();
        // The first chunk has two places in a model.
        let (waker, held) = (settled_task(&event_loop), settled_task(&event_loop));
        let before = waker.data().addr();
        let other = thread::spawn(move || drop(waker));
        let next = settled_task(&event_loop);
        outcomes.count(if next.data().addr() == before { "the same place" } else { "another place" });
        drop((next, held));
        other.join().unwrap();
    });
}

/// Do two threads that let go of two tasks at once leave both places, whole, to the loop?
/// No cell: the task is one, with its future and its outcome; and loom counts what is let go.
#[test]
fn last_wakers_elsewhere_race_each_other() {
    model(|| {
        let event_loop = event_loop();
        let (one, two) = (settled_task(&event_loop), settled_task(&event_loop));
        let places = [one.data().addr(), two.data().addr()];
        let others = [one, two].map(|waker| thread::spawn(move || drop(waker)));
        others.into_iter().for_each(|other| other.join().unwrap());
        let (one, two) = (settled_task(&event_loop), settled_task(&event_loop));
        assert_ne!(one.data(), two.data());
        // As a plain test there are other places besides.
        let both = places.contains(&one.data().addr()) && places.contains(&two.data().addr());
        assert!(both || cfg!(not(evenloop_loom)));
    });
}

/// Does a loop that looks for all its tasks keep off one that another thread is letting go of?
/// No cell: the task is one, with its future and its outcome; and loom counts what is let go.
#[test]
fn last_waker_elsewhere_races_a_look_at_all_tasks() {
    model(|| {
        let event_loop = event_loop();
        let waker = settled_task(&event_loop);
        let other = thread::spawn(move || drop(waker));
        event_loop.run_until_complete(async { assert_eq!(all_tasks().len(), 1) });
        other.join().unwrap();
    });
}

/// Does the memory of a task outlive it, and go away, when another thread lets go of it as the loop is dropped?
/// No cell: the task is one, with its future and its outcome; and loom counts what is let go.
#[test]
fn last_waker_elsewhere_races_close() {
    model(|| {
        let event_loop = event_loop();
        let waker = settled_task(&event_loop);
        let other = thread::spawn(move || drop(waker));
        drop(event_loop);
        other.join().unwrap();
    });
}

/// Does a wake from another thread do no harm to a loop that closes at that moment?
/// No cell: the task is one, with its future and its outcome; and loom counts what is let go.
#[test]
fn wake_races_close() {
    model(|| {
        let event_loop = event_loop();
        let slot = Rc::new(Cell::new(None));
        let (inside, leak) = (slot.clone(), Arc::new(()));
        event_loop
            .create_task(poll_fn(move |cx| {
                let _held = &leak;
                inside.set(Some(cx.waker().clone()));
                Poll::<()>::Pending
            }))
            .detach();
        event_loop.run_once(Some(Duration::ZERO));
        let waker = slot.take().unwrap();
        let other = thread::spawn(move || waker.wake());
        drop(event_loop);
        other.join().unwrap();
    });
}
