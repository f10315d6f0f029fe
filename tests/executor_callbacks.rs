//! Callbacks: order, time, cancelling from anywhere, panics; eager start and names.

use evenloop_core::{Runtime, ThreadPark};
use evenloop_executor::{
    CallHandle, EventLoop, all_tasks, call_at, call_soon, create_eager_task, create_task, current_task,
    yield_now,
};
use evenloop_tests::many;
use evenloop_time::{Clock, Driver, VirtualClock};
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A loop whose time jumps to the next deadline when nothing can run.
fn on_virtual_time() -> EventLoop {
    let driver = Driver::new(ThreadPark::new(), Clock::from(VirtualClock::new()));
    let runtime = Runtime::builder("evenloop").timers(driver.timers());
    EventLoop::builder().runtime(runtime).park(Box::new(driver)).build()
}

/// What was done, in order.
type Log = Rc<RefCell<Vec<&'static str>>>;

/// A log, and what makes callbacks that write a word there.
fn log() -> (Log, impl Fn(&'static str) -> Box<dyn FnOnce()>) {
    let log = Log::default();
    let writes = log.clone();
    let write = move |word| {
        let writes = writes.clone();
        Box::new(move || writes.borrow_mut().push(word)) as Box<dyn FnOnce()>
    };
    (log, write)
}

#[test]
fn callbacks_and_tasks_take_turns_in_one_queue() {
    let event_loop = EventLoop::new();
    let (log, write) = log();
    let (task, last) = (write("task"), write("last"));
    event_loop.call_soon(write("first"));
    drop(event_loop.create_task(async move { task() }));
    event_loop.call_soon(last);
    assert!(log.borrow().is_empty());
    event_loop.run_once(Some(Duration::ZERO));
    assert_eq!(*log.borrow(), ["first", "task", "last"]);
}

#[test]
fn what_a_callback_schedules_runs_in_the_next_pass() {
    let event_loop = EventLoop::new();
    let (log, write) = log();
    let inner = write("inner");
    event_loop.call_soon(move || {
        call_soon(inner);
    });
    event_loop.run_once(Some(Duration::ZERO));
    assert!(log.borrow().is_empty());
    event_loop.run_once(Some(Duration::ZERO));
    assert_eq!(*log.borrow(), ["inner"]);
}

#[test]
fn timed_callbacks_run_in_the_order_of_their_time_and_never_early() {
    let event_loop = on_virtual_time();
    let (log, write) = log();
    let started = event_loop.time();
    let stopper = event_loop.handle();
    event_loop.call_later(3 * SECOND, write("three"));
    event_loop.call_at(started + SECOND, write("one"));
    event_loop.call_later(Duration::ZERO, write("now"));
    event_loop.call_at(started, write("past"));
    event_loop.call_later(2 * SECOND, write("two"));
    let far = event_loop.call_later(Duration::MAX, write("never"));
    assert!(far.when().unwrap() > started + 1_000_000 * SECOND);
    event_loop.call_later(4 * SECOND, move || stopper.stop());
    event_loop.run_forever();
    assert_eq!(*log.borrow(), ["now", "past", "one", "two", "three"]);
    assert_eq!(event_loop.time() - started, 4 * SECOND);
}

#[test]
fn a_cancelled_callback_never_runs_and_holds_nothing() {
    let event_loop = on_virtual_time();
    let held = Rc::new(());
    let holding = || {
        let held = held.clone();
        move || drop(held)
    };
    let soon = event_loop.call_soon(holding());
    let later = event_loop.call_later(SECOND, holding());
    assert_eq!(Rc::strong_count(&held), 3);
    assert!(soon.cancel() && later.cancel());
    assert_eq!(Rc::strong_count(&held), 1);
    assert!(!soon.cancel() && soon.done());
    event_loop.run_once(Some(Duration::ZERO));
    assert_eq!(format!("{later:?}"), "CallHandle [over]");
}

#[test]
fn a_callback_may_cancel_itself_and_others() {
    let event_loop = EventLoop::new();
    let (log, write) = log();
    let handles: Rc<RefCell<Vec<CallHandle>>> = Rc::default();
    let inside = handles.clone();
    let first = event_loop.call_soon(move || {
        let cancelled: Vec<_> = inside.borrow().iter().map(CallHandle::cancel).collect();
        assert_eq!(cancelled, [false, true]);
    });
    let second = event_loop.call_soon(write("second"));
    handles.borrow_mut().extend([first, second]);
    event_loop.run_once(Some(Duration::ZERO));
    assert!(log.borrow().is_empty());
}

#[test]
fn another_thread_calls_and_cancels() {
    let event_loop = EventLoop::new();
    let handle = event_loop.handle();
    let held = Arc::new(());
    let inside = held.clone();
    let other = std::thread::spawn(move || {
        let unwanted = handle.call_soon_threadsafe(move || drop(inside)).unwrap();
        assert!(unwanted.cancel());
        assert!(!unwanted.cancel());
        handle.call_soon_threadsafe({
            let handle = handle.clone();
            move || handle.stop()
        })
    });
    // The loop runs after it: beside it, the callback might have its turn before the cancel.
    let stop = other.join().unwrap().unwrap();
    event_loop.run_forever();
    assert!(stop.done());
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn a_closed_loop_gives_the_callback_back() {
    let event_loop = EventLoop::new();
    let handle = event_loop.handle();
    event_loop.close();
    let refused = handle.call_soon_threadsafe(|| ()).unwrap_err();
    assert_eq!(refused.why, "the event loop is closed");
    (refused.into_inner())();

    let held = Rc::new(());
    let inside = held.clone();
    let dropped = event_loop.call_soon(move || drop(inside));
    drop(dropped);
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn a_panicking_callback_is_reported_once() {
    let reports = Rc::new(RefCell::new(Vec::new()));
    let hook = reports.clone();
    let event_loop = EventLoop::builder()
        .on_unhandled(move |error| {
            let words = error.panic_message().unwrap().to_owned();
            assert!(error.task().is_none() && error.task_id().is_none());
            hook.borrow_mut().push((error.message().to_owned(), words, error.handle().unwrap()));
        })
        .build();
    let handle = event_loop.call_soon(|| panic!("in a callback"));
    event_loop.run_once(Some(Duration::ZERO));
    drop(handle);
    let reports = reports.borrow();
    let [(message, words, source)] = &reports[..] else { panic!("one report, not {}", reports.len()) };
    assert_eq!((message.as_str(), words.as_str()), ("callback panicked", "in a callback"));
    assert!(source.starts_with("<Callback finished created at tests/executor_callbacks.rs:"), "{source}");
}

#[test]
fn callbacks_are_no_tasks() {
    let event_loop = EventLoop::new();
    let saw = Rc::new(Cell::new(false));
    let inside = saw.clone();
    event_loop.call_soon(move || inside.set(current_task().is_none() && all_tasks().is_empty()));
    assert_eq!(event_loop.tasks_alive(), 0);
    event_loop.run_once(Some(Duration::ZERO));
    assert!(saw.get());
    assert_eq!(event_loop.create_task(async {}).name(), "Task-1");
}

#[test]
fn without_timers_call_later_says_so() {
    let event_loop = EventLoop::new();
    let error = catch_unwind(AssertUnwindSafe(|| event_loop.call_later(SECOND, || ()))).unwrap_err();
    let message = error.downcast::<String>().unwrap();
    assert!(
        message.starts_with("`call_later` needs timers, and the evenloop runtime offers none"),
        "{message}"
    );
    let error = catch_unwind(|| call_at(std::time::Instant::now(), || ())).unwrap_err();
    assert!(error.downcast::<String>().unwrap().starts_with("`call_at` needs a running event loop"));
}

#[test]
fn an_eager_task_runs_inside_the_call_as_itself() {
    EventLoop::new().run_until_complete(async {
        let outside = current_task().unwrap().id();
        let mut done = create_eager_task(async { current_task().unwrap().id() });
        assert!(done.done() && !done.cancel("too late"));
        assert_eq!(all_tasks().len(), 1, "it never was listed");
        assert_ne!(done.result().unwrap().unwrap(), outside);
        assert_eq!(current_task().unwrap().id(), outside);

        let (log, write) = log();
        let (before, after) = (write("before"), write("after"));
        let waits = create_eager_task(async move {
            before();
            yield_now().await;
            after();
        });
        assert_eq!(*log.borrow(), ["before"]);
        waits.await;
        assert_eq!(*log.borrow(), ["before", "after"]);

        let named = create_eager_task(async {
            current_task().unwrap().set_name("by itself");
            yield_now().await;
        });
        assert_eq!(named.name(), "by itself");
        named.await;

        let mut panics = create_eager_task(async { panic!("at once") });
        assert!(panics.join().await.unwrap_err().is_panic());
    });
}

#[test]
fn a_task_may_have_a_name_from_the_start() {
    let event_loop = EventLoop::new();
    let task = event_loop.create_named_task("cleaner", async { current_task().unwrap().name() });
    assert_eq!(event_loop.run_until_complete(task), "cleaner");
}

#[test]
fn a_million_tasks_spawned_and_cancelled_in_random_order_leave_nothing() {
    let event_loop = EventLoop::new();
    let alive = Rc::new(());
    let mut seed = 444_u32;
    event_loop.run_until_complete(async {
        let mut tasks = Vec::new();
        for _ in 0..many(1_000_000) {
            let held = alive.clone();
            tasks.push(create_task(async move {
                let _held = held;
                pending::<()>().await;
            }));
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if tasks.len() > 1_000 {
                tasks.swap_remove(seed as usize % tasks.len()).cancel("drawn");
            }
            if seed.is_multiple_of(64) {
                yield_now().await;
            }
        }
        for task in &tasks {
            task.cancel("the end");
        }
        yield_now().await;
        yield_now().await;
    });
    assert_eq!((Rc::strong_count(&alive), event_loop.tasks_alive()), (1, 0));
}

#[test]
fn what_one_thread_brings_keeps_its_order() {
    let event_loop = EventLoop::new();
    let handle = event_loop.handle();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = seen.clone();
    std::thread::spawn(move || {
        for number in 0..100 {
            let told = told.clone();
            drop(handle.call_soon_threadsafe(move || told.lock().unwrap().push(number)).unwrap());
        }
    })
    .join()
    .unwrap();
    event_loop.run_once(Some(Duration::ZERO));
    assert!(seen.lock().unwrap().iter().copied().eq(0..100));
}

#[test]
fn what_others_report_goes_to_the_hook_once_from_any_thread() {
    let reports = Rc::new(RefCell::new(Vec::new()));
    let hook = reports.clone();
    let event_loop = EventLoop::builder()
        .on_unhandled(move |error| {
            assert!(error.task().is_none() && error.handle().is_none());
            hook.borrow_mut().push(error.to_string());
        })
        .build();
    let (handle, elsewhere) = (event_loop.handle(), event_loop.handle());
    event_loop.run_until_complete(async { handle.report("here") });
    assert_eq!(*reports.borrow(), ["here"]);
    std::thread::spawn(move || {
        elsewhere.report("from another thread");
        elsewhere.report("before the loop closes");
    })
    .join()
    .unwrap();
    assert_eq!(reports.borrow().len(), 1);
    event_loop.close();
    assert_eq!(*reports.borrow(), ["here", "from another thread", "before the loop closes"]);
    struct CannotBeShown;
    impl std::fmt::Display for CannotBeShown {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("not to be shown")
        }
    }
    handle.report(CannotBeShown); // on a closed loop: printed, and no panic comes out
}
