//! Tasks: how they end, what their handles say, and panics that stay theirs.

use evenloop_executor::{EventLoop, Task, TaskState, all_tasks, create_task, current_task, yield_now};
use evenloop_tests::{Counting, many};
use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A loop that writes down what its hook is told.
fn reporting() -> (EventLoop, Rc<RefCell<Vec<String>>>) {
    let reports = Rc::new(RefCell::new(Vec::new()));
    let hook = reports.clone();
    let event_loop = EventLoop::builder()
        .on_unhandled(move |error| {
            let name = error.task_name().unwrap_or_default();
            hook.borrow_mut().push(format!(
                "{} [{name}] {}",
                error.message(),
                error.panic_message().unwrap_or_default()
            ));
        })
        .build();
    (event_loop, reports)
}

fn pass(event_loop: &EventLoop) {
    event_loop.run_once(Some(Duration::ZERO));
}

/// Tells when it is dropped.
struct Guard(Rc<Cell<u32>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_task_prints_itself_before_during_and_after() {
    let event_loop = EventLoop::new();
    let seen = Rc::new(RefCell::new(String::new()));
    let told = seen.clone();
    let mut task = event_loop.create_task(async move {
        *told.borrow_mut() = format!("{:?}", current_task().unwrap());
        yield_now().await;
        5
    });
    task.set_name("counter");
    let line = task.spawned_at().line();
    assert_eq!(
        format!("{task:?}"),
        format!("<Task pending name='counter' spawned at tests/executor_task.rs:{line}:31>")
    );
    assert_eq!(task.state(), TaskState::Pending);
    pass(&event_loop);
    assert!(seen.borrow().starts_with("<Task running name='counter'"), "{}", seen.borrow());
    pass(&event_loop);
    assert_eq!(task.state(), TaskState::Finished);
    assert!(format!("{task:?}").starts_with("<Task finished name='counter'"));
    assert_eq!(task.result().unwrap().unwrap(), 5);
    assert!(task.result().is_none());
}

#[test]
fn tasks_are_numbered_and_listed() {
    EventLoop::new().run_until_complete(async {
        let first = create_task(pending::<()>());
        let second = create_task(pending::<()>());
        assert_eq!((first.name(), second.name()), ("Task-2".into(), "Task-3".into()));
        let names: Vec<String> = all_tasks().iter().map(|task| task.name()).collect();
        assert_eq!(names, ["Task-1", "Task-2", "Task-3"]);
        assert_eq!(current_task().unwrap().id().get(), 1);
    });
    assert!(current_task().is_none() && all_tasks().is_empty());
}

#[test]
fn a_detached_task_runs_on() {
    let event_loop = EventLoop::new();
    let done = Rc::new(Cell::new(0));
    let guard = Guard(done.clone());
    event_loop
        .create_task(async move {
            yield_now().await;
            drop(guard);
        })
        .detach();
    pass(&event_loop);
    assert_eq!(done.get(), 0);
    pass(&event_loop);
    assert_eq!(done.get(), 1);
    assert_eq!(event_loop.tasks_alive(), 0);
}

#[test]
fn a_task_cancelled_before_its_start_never_runs() {
    let event_loop = EventLoop::new();
    let (ran, dropped) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
    let (runs, guard) = (ran.clone(), Guard(dropped.clone()));
    let mut task = event_loop.create_task(async move {
        let _guard = guard;
        runs.set(true);
    });
    assert!(task.cancel("test"));
    assert!(task.cancel("test"), "a request of its own");
    assert_eq!(task.state(), TaskState::Cancelling);
    pass(&event_loop);
    assert!(task.result().unwrap().unwrap_err().is_cancelled());
    assert!(!task.cancel("test"));
    assert_eq!((ran.get(), dropped.get()), (false, 1));
}

#[test]
fn a_cancelled_task_is_dropped_within_one_turn() {
    let event_loop = EventLoop::new();
    let dropped = Rc::new(Cell::new(0));
    let guard = Guard(dropped.clone());
    let task = event_loop.create_task(async move {
        let _guard = guard;
        pending::<()>().await;
    });
    pass(&event_loop);
    task.cancel("test");
    assert_eq!(dropped.get(), 0);
    pass(&event_loop);
    assert_eq!((dropped.get(), task.done()), (1, true));
}

#[test]
fn a_task_that_cancels_itself_and_returns_ends_cancelled() {
    let event_loop = EventLoop::new();
    let slot: Rc<RefCell<Option<Task<Guard>>>> = Rc::default();
    let (inside, dropped) = (slot.clone(), Rc::new(Cell::new(0)));
    let guard = Guard(dropped.clone());
    slot.replace(Some(event_loop.create_task(async move {
        inside.borrow().as_ref().unwrap().cancel("test");
        guard
    })));
    pass(&event_loop);
    let mut task = slot.take().unwrap();
    assert!(task.result().unwrap().err().unwrap().is_cancelled());
    assert_eq!(dropped.get(), 1);
    pass(&event_loop);
}

#[test]
fn awaiting_a_cancelled_task_cancels_the_awaiter_and_join_tells() {
    let event_loop = EventLoop::new();
    let inner = event_loop.create_task(pending::<()>());
    inner.cancel("test");
    let mut outer = event_loop.create_task(inner);
    pass(&event_loop);
    pass(&event_loop);
    pass(&event_loop);
    assert!(outer.result().unwrap().unwrap_err().is_cancelled());

    let joined = event_loop.run_until_complete(async {
        let mut task = create_task(pending::<()>());
        task.cancel("test");
        task.join().await
    });
    assert_eq!(joined.unwrap_err().to_string(), "the task was cancelled: test");
}

#[test]
fn a_panic_stays_its_tasks_and_is_handed_over() {
    let (event_loop, reports) = reporting();
    let error = event_loop.run_until_complete(async {
        let mut task = create_task(async { panic!("{} wrong", "went") });
        task.join().await.unwrap_err()
    });
    assert!(error.is_panic());
    assert_eq!(error.to_string(), "the task panicked: went wrong");
    let error = catch_unwind(AssertUnwindSafe(|| {
        event_loop.run_until_complete(async { create_task(async { panic!("plain") }).await })
    }));
    assert_eq!(*error.unwrap_err().downcast::<&str>().unwrap(), "plain");
    assert!(reports.borrow().is_empty());
}

#[test]
fn a_panic_that_nobody_sees_is_reported_once() {
    let (event_loop, reports) = reporting();
    event_loop.create_task(async { panic!("detached") }).detach();
    let looked_away = event_loop.create_task(async { panic!("unread") });
    pass(&event_loop);
    assert_eq!(*reports.borrow(), ["task panicked, and nobody awaits it [Task-1] detached"]);
    drop(looked_away);
    assert_eq!(reports.borrow().len(), 2);
    assert_eq!(reports.borrow()[1], "task panicked, and nobody awaits it [Task-2] unread");
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a destructor");
    }
}

#[test]
fn panicking_destructors_stay_their_tasks() {
    let (event_loop, reports) = reporting();
    event_loop
        .create_task(async {
            let _bomb = Bomb;
            pending::<()>().await;
        })
        .detach();
    event_loop.create_task(async { Bomb }).detach();
    let mut joined = event_loop.create_task(async {
        let _bomb = Bomb;
    });
    pass(&event_loop);
    assert_eq!(*reports.borrow(), ["task panicked, and nobody awaits it [Task-2] a destructor"]);
    assert!(joined.result().unwrap().unwrap_err().is_panic());
    event_loop.close();
    assert_eq!(reports.borrow().len(), 2);
}

#[test]
fn a_panicking_hook_is_not_the_end() {
    let event_loop = EventLoop::builder().on_unhandled(|_| panic!("the hook")).build();
    event_loop.create_task(async { panic!("first") }).detach();
    pass(&event_loop);
    assert_eq!(event_loop.run_until_complete(async { 1 }), 1);
}

#[test]
fn a_panicking_waker_is_reported() {
    struct Wild;
    impl Wake for Wild {
        fn wake(self: Arc<Self>) {
            panic!("a waker");
        }
    }
    let (event_loop, reports) = reporting();
    let mut task = event_loop.create_task(async {});
    let wild = Waker::from(Arc::new(Wild));
    let mut cx = std::task::Context::from_waker(&wild);
    assert!(std::pin::pin!(task.join()).poll(&mut cx).is_pending());
    pass(&event_loop);
    assert_eq!(*reports.borrow(), ["a waker panicked [Task-1] a waker"]);
    assert!(task.result().unwrap().is_ok());
}

#[test]
fn a_handle_dropped_by_its_own_task_in_every_moment() {
    let event_loop = EventLoop::new();
    let slot: Rc<RefCell<Option<Task<Guard>>>> = Rc::default();
    let dropped = Rc::new(Cell::new(0));
    // While it runs.
    let (inside, guard) = (slot.clone(), Guard(dropped.clone()));
    slot.replace(Some(event_loop.create_task(async move {
        drop(inside.take());
        guard
    })));
    pass(&event_loop);
    assert_eq!(dropped.get(), 1);
    // While its future is dropped by a cancellation.
    let task = event_loop.create_task(pending::<()>());
    let holder = event_loop.create_task(async move {
        let _task = task;
        pending::<()>().await;
    });
    pass(&event_loop);
    holder.cancel("test");
    pass(&event_loop);
    // While its own waker is dropped.
    let slot: Rc<RefCell<Option<Task<()>>>> = Rc::default();
    let inside = slot.clone();
    let task = event_loop.create_task(async move {
        struct Last(Rc<RefCell<Option<Task<()>>>>);
        impl Drop for Last {
            fn drop(&mut self) {
                drop(self.0.take());
            }
        }
        let _last = Last(inside);
        pending::<()>().await;
    });
    slot.replace(Some(task));
    pass(&event_loop);
    slot.borrow().as_ref().unwrap().cancel("test");
    pass(&event_loop);
    assert!(slot.borrow().is_none());
    assert_eq!(event_loop.tasks_alive(), 1);
}

#[test]
fn the_last_waker_frees_a_detached_task_at_the_latest() {
    let event_loop = EventLoop::new();
    let dropped = Rc::new(Cell::new(0));
    let guard = Guard(dropped.clone());
    let mut kept = None;
    let stored: Rc<RefCell<Option<Waker>>> = Rc::default();
    let inside = stored.clone();
    event_loop
        .create_task(async move {
            let _guard = guard;
            poll_fn(|cx| {
                inside.replace(Some(cx.waker().clone()));
                Poll::<()>::Pending
            })
            .await;
        })
        .detach();
    pass(&event_loop);
    std::mem::swap(&mut kept, &mut *stored.borrow_mut());
    drop(event_loop);
    assert_eq!(dropped.get(), 1);
    drop(kept);
}

#[test]
fn what_a_task_holds_is_dropped_before_who_waits_for_it_is_woken() {
    /// Notes at its wake-up what has been dropped by then.
    struct Notes(Arc<AtomicU32>, AtomicU32);
    impl Wake for Notes {
        fn wake(self: Arc<Self>) {
            self.1.store(self.0.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
    struct Held(Arc<AtomicU32>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    for end in ["value", "panic", "cancelled", "cancelled before it starts", "closed"] {
        let event_loop = EventLoop::new();
        let dropped = Arc::new(AtomicU32::new(0));
        let (captured, inside) = (Held(dropped.clone()), Held(dropped.clone()));
        let mut task = event_loop.create_task(async move {
            let _held = (captured, inside);
            yield_now().await;
            match end {
                "value" => {}
                "panic" => panic!("test"),
                _ => pending().await,
            }
        });
        if end != "cancelled before it starts" {
            pass(&event_loop);
        }
        let notes = Arc::new(Notes(dropped.clone(), AtomicU32::new(u32::MAX)));
        let waker = Waker::from(notes.clone());
        assert!(Pin::new(&mut task.join()).poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
        match end {
            "closed" => event_loop.close(),
            _ => {
                if end.starts_with("cancelled") {
                    task.cancel("test");
                }
                pass(&event_loop);
            }
        }
        assert!(task.done());
        assert_eq!(notes.1.load(Ordering::Relaxed), 2, "{end}");
    }
}

#[test]
fn a_million_yields_do_not_grow() {
    let event_loop = EventLoop::new();
    event_loop.run_until_complete(async {
        for _ in 0..64 {
            yield_now().await; // what the loop makes once
        }
        let before = Counting::bytes();
        Counting::forget_most();
        for _ in 0..many(1_000_000) {
            yield_now().await;
        }
        assert_eq!((Counting::most(), Counting::bytes()), (before, before));
    });
}

#[test]
fn more_wakers_than_the_owners_half_of_the_count_holds() {
    // The owner's half has 16 bits. 65,536 wakers would look like none to a count that wraps around, and the task would be
    // freed under them.
    let event_loop = EventLoop::new();
    let wakers = Rc::new(RefCell::new(Vec::new()));
    let dropped = Rc::new(Cell::new(0));
    let (seen, guard) = (wakers.clone(), Guard(dropped.clone()));
    event_loop.run_until_complete(create_cloner(seen, guard));
    assert_eq!((wakers.borrow().len(), dropped.get()), (65_536, 1));
    let (here, there): (Vec<Waker>, Vec<_>) = {
        let mut all = wakers.take();
        let half = all.split_off(30_000);
        (all, half)
    };
    here.iter().for_each(Waker::wake_by_ref); // it is over: nothing happens
    event_loop.run_until_complete(async move { drop(here) });
    std::thread::spawn(move || there.into_iter().for_each(Waker::wake)).join().unwrap();
    pass(&event_loop);
}

/// Clones its task's waker very often, then ends.
async fn create_cloner(seen: Rc<RefCell<Vec<Waker>>>, guard: Guard) {
    create_task(async move {
        let _guard = guard;
        poll_fn(|cx| {
            seen.borrow_mut().extend((0..65_536).map(|_| cx.waker().clone()));
            Poll::Ready(())
        })
        .await;
    })
    .await;
}
