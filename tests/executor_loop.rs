//! The event loop: passes, running, stopping, closing, and what it answers to misuse.

use evenloop_core::Runtime;
use evenloop_executor::{
    EventLoop, RunError, Task, create_eager_task, create_named_task, create_task, yield_now,
};
use evenloop_tests::panic_of;
use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[test]
fn tasks_run_in_passes_first_come_first() {
    let event_loop = EventLoop::new();
    let order = Rc::new(RefCell::new(Vec::new()));
    let tasks: Vec<Task<()>> = (0..3)
        .map(|task| {
            let order = order.clone();
            event_loop.create_task(async move {
                for pass in 0..2 {
                    order.borrow_mut().push((task, pass));
                    yield_now().await;
                }
            })
        })
        .collect();
    event_loop.run_until_complete(async {
        for task in tasks {
            task.await;
        }
    });
    assert_eq!(*order.borrow(), [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]);
}

#[test]
fn what_a_pass_makes_ready_runs_in_the_next() {
    let event_loop = EventLoop::new();
    let seen = Rc::new(Cell::new(false));
    let told = seen.clone();
    let outer = event_loop.create_task(async move {
        drop(create_task(async move { told.set(true) }));
    });
    assert_eq!(event_loop.run_once(Some(Duration::ZERO)), 1);
    assert!(outer.done() && !seen.get());
    assert_eq!(event_loop.run_once(Some(Duration::ZERO)), 1);
    assert!(seen.get());
    assert_eq!(event_loop.run_once(Some(Duration::ZERO)), 0);
}

#[test]
fn the_main_future_may_borrow() {
    let words = String::from("on the stack");
    let borrowed = EventLoop::new().run_until_complete(async { &words[..] });
    assert_eq!(borrowed, "on the stack");
}

#[test]
fn a_wake_from_another_thread_ends_the_sleep() {
    let (send, receive) = mpsc::channel::<Waker>();
    let waking = std::thread::spawn(move || receive.recv().unwrap().wake());
    let mut first = true;
    EventLoop::new().run_until_complete(poll_fn(|cx| {
        if std::mem::replace(&mut first, false) {
            send.send(cx.waker().clone()).unwrap();
            return Poll::Pending;
        }
        Poll::Ready(())
    }));
    waking.join().unwrap();
}

#[test]
fn a_future_from_another_thread_runs_here() {
    let event_loop = EventLoop::new();
    let handle = event_loop.handle();
    let (send, receive) = mpsc::channel();
    let other = std::thread::spawn(move || {
        handle.spawn_detached(async move { send.send(std::thread::current().id()).unwrap() }).unwrap();
    });
    while event_loop.run_once(None) == 0 {}
    other.join().unwrap();
    assert_eq!(receive.recv().unwrap(), std::thread::current().id());
}

#[test]
fn a_closed_loop_gives_the_future_back() {
    let event_loop = EventLoop::new();
    let handle = event_loop.handle();
    drop(event_loop);
    let refused = handle.spawn_detached(async {}).unwrap_err();
    assert_eq!(refused.why, "the event loop is closed");
    drop(refused.into_inner());
}

#[test]
fn running_inside_a_running_loop_says_so() {
    let message = EventLoop::new().run_until_complete(async { panic_of(|| EventLoop::new().run_forever()) });
    assert_eq!(
        message,
        "`run_forever` cannot be called while an event loop is running on this thread: await instead"
    );
}

#[test]
fn running_a_closed_loop_says_so() {
    let event_loop = EventLoop::new();
    event_loop.close();
    event_loop.close();
    assert_eq!(panic_of(|| event_loop.run_forever()), "`run_forever`: the event loop is closed");
    let mut late = event_loop.create_task(async {});
    assert!(late.result().unwrap().unwrap_err().is_cancelled());
}

#[test]
fn closing_a_running_loop_says_so() {
    let event_loop = EventLoop::new();
    let message = event_loop.run_until_complete(async { panic_of(|| event_loop.close()) });
    assert_eq!(
        message,
        "`EventLoop::close`: the loop is running: `stop` it, and close it when its run has returned"
    );
}

#[test]
fn stopping_before_a_run_gives_one_pass() {
    let event_loop = EventLoop::new();
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    let task = event_loop.create_task(async move {
        loop {
            counted.set(counted.get() + 1);
            yield_now().await;
        }
    });
    event_loop.stop();
    event_loop.run_forever();
    assert_eq!(count.get(), 1);
    event_loop.stop();
    event_loop.run_forever();
    assert_eq!(count.get(), 2);
    drop(task);
}

#[test]
fn what_the_last_pass_schedules_waits_for_the_next_run() {
    let event_loop = Rc::new(EventLoop::new());
    let log = Rc::new(RefCell::new(Vec::new()));
    let write = |word: &'static str| {
        let log = log.clone();
        move || log.borrow_mut().push(word)
    };
    let (stopper, late) = (event_loop.clone(), write("scheduled"));
    event_loop.call_soon(move || {
        stopper.stop();
        stopper.call_soon(late);
    });
    event_loop.call_soon(write("same pass"));
    event_loop.run_forever();
    assert_eq!(*log.borrow(), ["same pass"]);
    event_loop.stop();
    event_loop.run_forever();
    assert_eq!(*log.borrow(), ["same pass", "scheduled"]);
}

#[test]
fn a_stopped_loop_leaves_the_task_pending() {
    let event_loop = Rc::new(EventLoop::new());
    let stopper = event_loop.clone();
    let mut task = event_loop.create_task(async move {
        stopper.stop();
        yield_now().await;
        7
    });
    assert!(matches!(event_loop.run_task(&mut task), Err(RunError::Stopped)));
    assert_eq!(event_loop.run_task(&mut task).unwrap(), 7);

    event_loop.stop();
    let message = panic_of(|| event_loop.run_until_complete(pending::<()>()));
    assert!(message.starts_with("`run_until_complete`: the event loop was stopped before"), "{message}");
}

#[test]
fn a_task_of_another_loop_is_not_run() {
    let (one, other) = (EventLoop::new(), EventLoop::new());
    let mut task = one.create_task(async {});
    let message = panic_of(|| other.run_task(&mut task).unwrap());
    assert!(message.starts_with("`run_task`: <Task pending name='Task-1'"), "{message}");
    assert!(message.ends_with("belongs to another loop: run that one"), "{message}");
}

#[test]
fn without_a_loop_whatever_creates_a_task_says_so_and_names_the_ways_out() {
    for (call, message) in [
        ("create_task", panic_of(|| create_task(async {}))),
        ("create_named_task", panic_of(|| create_named_task("name", async {}))),
        ("create_eager_task", panic_of(|| create_eager_task(async {}))),
    ] {
        let words = format!("`{call}` needs a running event loop on this thread: call it inside `run`");
        assert!(message.starts_with(&words) && message.contains("`Handle`"), "{message}");
    }
}

/// Calls what a destructor may call, under the loop that drops it.
struct Asks {
    spawned: Rc<Cell<bool>>,
    host: Rc<RefCell<String>>,
}

impl Drop for Asks {
    fn drop(&mut self) {
        self.host.replace(Runtime::current().map_or("none".into(), |runtime| runtime.name().into()));
        let spawner = Runtime::current_spawn("drop").unwrap();
        self.spawned.set(spawner.spawn(Box::pin(async {})).is_ok());
    }
}

#[test]
fn what_close_drops_finds_its_runtime_and_cannot_spawn() {
    let event_loop = EventLoop::new();
    let (spawned, host) = (Rc::new(Cell::new(true)), Rc::new(RefCell::new(String::new())));
    let asks = Asks { spawned: spawned.clone(), host: host.clone() };
    drop(event_loop.create_task(async move {
        let _asks = asks;
        pending::<()>().await;
    }));
    event_loop.run_once(Some(Duration::ZERO));
    event_loop.close();
    assert_eq!(*host.borrow(), "evenloop");
    assert!(!spawned.get());
}

/// Counts when it is dropped.
struct Counts<'a>(&'a Cell<u32>);

impl Drop for Counts<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_main_future_is_dropped_before_its_run_returns_whatever_happens() {
    for end in ["value", "panic", "stop"] {
        let dropped = Cell::new(0);
        let event_loop = EventLoop::new();
        let main = async {
            let _counts = Counts(&dropped);
            yield_now().await;
            match end {
                "value" => {}
                "panic" => panic!("test"),
                _ => {
                    event_loop.stop();
                    pending().await
                }
            }
        };
        let run = catch_unwind(AssertUnwindSafe(|| event_loop.run_until_complete(main)));
        assert_eq!((run.is_ok(), dropped.get()), (end == "value", 1), "{end}");
    }
}

#[test]
fn close_drops_all_that_a_loop_holds_before_it_returns() {
    std::thread_local!(static DROPPED: Cell<u32> = const { Cell::new(0) });
    struct Held;
    impl Drop for Held {
        fn drop(&mut self) {
            DROPPED.set(DROPPED.get() + 1);
        }
    }
    let held = || {
        let held = Held;
        move || drop(held)
    };
    let waits = |held: Held| async move {
        let _held = held;
        pending::<()>().await;
    };
    let event_loop = EventLoop::new();
    let handle = event_loop.handle();
    drop(event_loop.create_task(waits(Held)));
    let kept = event_loop.create_task(waits(Held));
    event_loop.run_once(Some(Duration::ZERO));
    drop(event_loop.create_task(waits(Held))); // it never begins
    let soon = event_loop.call_soon(held());
    event_loop.call_soon(held());
    let called = handle.call_soon_threadsafe(held()).unwrap();
    handle.spawn_detached(waits(Held)).unwrap();
    let dying = Held;
    kept.add_done_callback(move |_, _| drop(dying));
    assert_eq!(DROPPED.get(), 0);
    event_loop.close();
    assert_eq!(DROPPED.get(), 8);
    assert!(kept.done() && soon.done() && called.done());
}

#[test]
fn a_stale_waker_does_nothing() {
    let event_loop = EventLoop::new();
    let (polls, kept) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(None)));
    let (polled, keep) = (polls.clone(), kept.clone());
    let task = event_loop.create_task(poll_fn(move |cx| {
        polled.set(polled.get() + 1);
        keep.set(Some(cx.waker().clone()));
        Poll::<()>::Pending
    }));
    event_loop.run_once(Some(Duration::ZERO));
    let of_one_that_is_over = event_loop.run_until_complete(poll_fn(|cx| Poll::Ready(cx.waker().clone())));
    let kept = kept.take().unwrap();
    event_loop.close();
    assert!(task.cancelled());
    let next = EventLoop::new();
    for stale in [kept, of_one_that_is_over] {
        stale.wake_by_ref();
        let copy = stale.clone();
        std::thread::spawn(move || copy.wake()).join().unwrap();
        stale.wake();
    }
    assert_eq!((next.run_once(Some(Duration::ZERO)), polls.get()), (0, 1));
    drop(event_loop);
}

#[test]
fn a_waker_works_in_a_destructor_at_its_threads_end() {
    struct Wakes(RefCell<Option<Waker>>);
    impl Drop for Wakes {
        fn drop(&mut self) {
            let waker = self.0.take().unwrap();
            waker.clone().wake_by_ref();
            waker.wake();
        }
    }
    std::thread_local!(static WAKES: Wakes = const { Wakes(RefCell::new(None)) });
    let mut first = true;
    EventLoop::new().run_until_complete(poll_fn(|cx| {
        if std::mem::replace(&mut first, false) {
            let waker = cx.waker().clone();
            std::thread::spawn(move || WAKES.with(|wakes| wakes.0.replace(Some(waker))));
            return Poll::Pending;
        }
        Poll::Ready(())
    }));
}

#[test]
fn a_loop_in_a_thread_local_may_outlive_its_thread() {
    std::thread_local!(static LOOP: EventLoop = EventLoop::new());
    let (send, receive) = mpsc::channel();
    struct Tells(mpsc::Sender<&'static str>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.send("dropped").unwrap();
        }
    }
    std::thread::spawn(move || {
        LOOP.with(|event_loop| {
            let tells = Tells(send);
            drop(event_loop.create_task(async move {
                let _tells = tells;
                pending::<()>().await;
            }));
            event_loop.run_once(Some(Duration::ZERO));
        });
    })
    .join()
    .unwrap();
    assert_eq!(receive.recv().unwrap(), "dropped");
}

#[test]
fn a_task_may_drop_the_last_handle_of_another_loop() {
    let other = EventLoop::new();
    drop(other.create_task(pending::<()>()));
    other.run_once(Some(Duration::ZERO));
    EventLoop::new().run_until_complete(async move {
        drop(other);
        yield_now().await;
    });
}

#[test]
fn a_loop_owned_by_its_own_task_is_dropped_by_close() {
    let event_loop = Rc::new(EventLoop::new());
    let inside = event_loop.clone();
    drop(event_loop.create_task(async move {
        let _inside = inside;
        pending::<()>().await;
    }));
    event_loop.run_once(Some(Duration::ZERO));
    event_loop.close();
    assert_eq!(Rc::strong_count(&event_loop), 1);
}

/// A future that polls another one.
struct Layer(Pin<Box<dyn Future<Output = u32>>>);

impl Future for Layer {
    type Output = u32;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u32> {
        self.0.as_mut().poll(cx)
    }
}

#[test]
fn five_thousand_nested_futures_fit_on_two_mebibytes() {
    let deep = std::thread::Builder::new().stack_size(2 << 20).spawn(|| {
        let mut future: Pin<Box<dyn Future<Output = u32>>> = Box::pin(async {
            yield_now().await;
            1
        });
        for _ in 0..5_000 {
            future = Box::pin(Layer(future));
        }
        EventLoop::new().run_until_complete(future)
    });
    assert_eq!(deep.unwrap().join().unwrap(), 1);
}

#[test]
fn ten_thousand_loops_leave_nothing() {
    let descriptors = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let before = descriptors();
    let alive = Arc::new(());
    for _ in 0..10_000 {
        let event_loop = EventLoop::new();
        let held = alive.clone();
        drop(event_loop.create_task(async move {
            let _held = held;
            pending::<()>().await;
        }));
        event_loop.run_until_complete(yield_now());
    }
    assert_eq!(Arc::strong_count(&alive), 1);
    assert_eq!(descriptors(), before);
}

#[test]
fn somebody_else_may_choose_who_runs_next() {
    let order = Rc::new(RefCell::new(String::new()));
    let seen = Rc::new(RefCell::new(Vec::new()));
    let hears = seen.clone();
    let event_loop = EventLoop::builder()
        .choose_next(move |ready| {
            hears.borrow_mut().push(ready.iter().map(|task| task.name()).collect::<Vec<_>>().join(" "));
            ready.len() - 1
        })
        .build();
    let twice = |name: &'static str| {
        let order = order.clone();
        event_loop.create_named_task(name, async move {
            order.borrow_mut().push_str(name);
            yield_now().await;
            order.borrow_mut().push_str(name);
        })
    };
    let (a, b) = (twice("a"), twice("b"));
    assert_eq!(event_loop.run_once(None), 1); // a pass is one poll: b's, which is ready again after a
    assert_eq!(event_loop.statistics().ready, 2);
    event_loop.run_until_complete(async {
        a.await;
        b.await;
    });
    assert_eq!(*order.borrow(), "bbaa");
    assert_eq!(seen.borrow()[..2], ["a b", "a b Task-3"]);
}

#[test]
fn a_choice_that_is_none_is_refused() {
    let event_loop = EventLoop::builder().choose_next(|ready| ready.len()).build();
    let words = panic_of(|| event_loop.run_until_complete(async {}));
    assert_eq!(words, "`Builder::choose_next`: the hook chose 1, of 1 tasks");
}
