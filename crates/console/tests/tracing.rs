//! Tasks, and what they wait on, as spans, seen by a subscriber that asks for the very names and fields that
//! `console-subscriber` looks for.

use evenloop_console::TaskSpans;
use evenloop_executor::{EventLoop, create_named_task, create_task, yield_now};
use evenloop_sync::Lock;
use std::cell::Cell;
use std::fmt;
use std::future::{Future as _, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Writes down what happens, one line each.
#[derive(Clone, Default)]
struct Listener {
    lines: Arc<Mutex<Vec<String>>>,
    last: Arc<AtomicU64>,
}

/// Fields as text, those that say where in a file left out but for the file.
#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "loc.line" | "loc.col" => assert!(value > 0),
            name => self.0 += &format!(" {name}={value}"),
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0 += &format!(" {}={value}", field.name());
    }
}

impl Listener {
    fn push(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }

    fn lines(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap())
    }
}

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (data, mut fields) = (span.metadata(), Fields::default());
        span.record(&mut fields);
        assert!(!span.is_contextual(), "a parent lives as long as its children");
        let parent = span.parent().map_or_else(String::new, |parent| format!(" in {}", parent.into_u64()));
        self.push(format!("{id} = {} {}{parent}:{}", data.target(), data.name(), fields.0));
        Id::from_u64(id)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.push(format!("{}:{}", event.metadata().target(), fields.0));
    }
    fn enter(&self, id: &Id) {
        self.push(format!("{} entered", id.into_u64()));
    }
    fn exit(&self, id: &Id) {
        self.push(format!("{} exited", id.into_u64()));
    }
    fn try_close(&self, id: Id) -> bool {
        self.push(format!("{} let go", id.into_u64()));
        true
    }
}

fn shown() -> (EventLoop, Rc<TaskSpans>, Listener) {
    let (event_loop, spans) = (EventLoop::new(), Rc::new(TaskSpans::new()));
    event_loop.add_instrument(spans.clone());
    (event_loop, spans, Listener::default())
}

#[test]
fn a_task_is_a_span_that_is_entered_while_it_is_polled() {
    let (event_loop, spans, listener) = shown();
    assert!(!TaskSpans::are_wanted());
    tracing::subscriber::with_default(listener.clone(), || {
        assert!(TaskSpans::are_wanted());
        event_loop.run_until_complete(async {
            create_named_task("child", async { yield_now().await }).await;
        });
    });
    let expected = [
        "1 = tokio::task runtime.spawn: kind=local task.name=Task-1 task.id=1 loc.file=crates/console/tests/tracing.rs",
        "1 entered",
        "2 = tokio::task runtime.spawn: kind=local task.name=child task.id=2 loc.file=crates/console/tests/tracing.rs",
        "tokio::task::waker: op=waker.clone task.id=1", // it waits for the child
        "1 exited",
        "2 entered",
        "tokio::task::waker: op=waker.wake_by_ref task.id=2", // the yield
        "2 exited",
        "2 entered",
        "tokio::task::waker: op=waker.wake task.id=1",
        "2 exited",
        "2 let go",
        "1 entered",
        "1 exited",
        "1 let go",
    ];
    assert_eq!(listener.lines(), expected);
    assert_eq!(format!("{spans:?}"), "TaskSpans [tasks: 0, resources: 0]");
}

/// What happens between the polls' begin and end, without wakers.
fn of_resources(lines: Vec<String>) -> Vec<String> {
    let tasks = |line: &String| line.contains("tokio::task") || line.contains("let go");
    lines.into_iter().filter(|line| !tasks(line)).collect()
}

#[test]
fn a_wait_is_told_of_within_its_resource_and_its_task() {
    let (event_loop, spans, listener) = shown();
    tracing::subscriber::with_default(listener.clone(), || {
        event_loop.run_until_complete(async {
            let lock = Rc::new(Lock::new(()));
            let guard = lock.acquire().await; // without waiting: nothing is shown
            let shared = lock.clone();
            let waiter = create_named_task("waiter", async move { drop(shared.acquire().await) });
            yield_now().await;
            drop(guard);
            waiter.await;
        });
    });
    let expected = [
        "1 entered",
        "1 exited",
        "2 entered",
        "3 = runtime::resource runtime.resource: concrete_type=Lock kind=Sync is_internal=false",
        "3 entered",
        "runtime::resource::state_update: locked=true",
        "runtime::resource::state_update: holders=Task-1",
        "3 exited",
        "3 entered",
        "runtime::resource::state_update: waiters=1 waiters.op=override",
        "3 exited",
        "3 entered",
        "4 = runtime::resource::async_op runtime.resource.async_op in 3: source=Lock::acquire inherits_child_attrs=false",
        "3 exited",
        "3 entered",
        "4 entered",
        "runtime::resource::poll_op: op_name=Lock::acquire is_ready=false",
        "4 exited",
        "3 exited",
        "2 exited",
        "1 entered",
        "3 entered",
        "runtime::resource::state_update: locked=true",
        "runtime::resource::state_update: holders=waiter (granted)",
        "3 exited",
        "1 exited",
        "2 entered",
        "3 entered",
        "runtime::resource::state_update: waiters=0 waiters.op=override",
        "3 exited",
        "3 entered",
        "runtime::resource::state_update: locked=false",
        "runtime::resource::state_update: holders=",
        "3 exited",
        "2 exited",
        "1 entered",
        "1 exited",
    ];
    let lines = listener.lines();
    assert_eq!(lines.iter().filter(|line| *line == "4 let go").count(), 1, "the wait is over: {lines:?}");
    assert_eq!(of_resources(lines), expected);
    assert_eq!(format!("{spans:?}"), "TaskSpans [tasks: 0, resources: 1]"); // for a while yet
}

/// What was told of the state of resources.
fn states(lines: Vec<String>) -> Vec<String> {
    let of = |line: String| line.strip_prefix("runtime::resource::state_update: ").map(str::to_owned);
    lines.into_iter().filter_map(of).collect()
}

#[test]
fn what_callbacks_and_the_end_of_the_loop_change_is_told() {
    let (event_loop, spans, listener) = shown();
    tracing::subscriber::with_default(listener.clone(), || {
        let lock: &'static Lock<()> = Box::leak(Box::new(Lock::new(()))); // a callback holds its guard
        let step = || event_loop.run_once(Some(Duration::ZERO));
        event_loop.create_task(async { drop(lock.acquire().await) }).detach();
        let guard = lock.try_acquire().unwrap();
        step();
        assert_eq!(states(listener.lines()).last().unwrap(), "waiters=1 waiters.op=override");
        let _ = event_loop.call_soon(move || drop(guard));
        step();
        step();
        assert_eq!(states(listener.lines()).last().unwrap(), "holders=");
        let guard = lock.try_acquire().unwrap();
        step();
        let _ = event_loop.call_soon(move || drop(guard));
        step();
        step();
        let told = states(listener.lines());
        assert_eq!(told, ["locked=true", "holders=no task", "locked=false", "holders="]);

        let guard = lock.try_acquire().unwrap();
        event_loop.create_task(async { drop(lock.acquire().await) }).detach();
        step();
        drop(listener.lines());
        event_loop.close();
        assert_eq!(states(listener.lines()).last().unwrap(), "waiters=0 waiters.op=override");
        drop(guard);
    });
    assert_eq!(format!("{spans:?}"), "TaskSpans [tasks: 0, resources: 1]");
}

#[test]
fn what_a_task_leaves_in_its_last_poll_is_no_wait() {
    let (event_loop, _, listener) = shown();
    tracing::subscriber::with_default(listener.clone(), || {
        let lock = Lock::new(());
        let _guard = lock.try_acquire().unwrap();
        let mut acquire = pin!(lock.acquire());
        event_loop.run_until_complete(poll_fn(|cx| {
            assert!(acquire.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        }));
    });
    assert_eq!(of_resources(listener.lines()), ["1 entered", "1 exited"]);
}

#[test]
fn a_task_that_is_cut_off_gives_its_waker_back_and_ends() {
    let (event_loop, spans, listener) = shown();
    tracing::subscriber::with_default(listener.clone(), || {
        event_loop.create_task(pending::<()>()).detach();
        let stopped = catch_unwind(AssertUnwindSafe(|| {
            event_loop.run_until_complete(async {
                event_loop.stop();
                pending::<()>().await;
            });
        }));
        assert!(stopped.is_err());
        let lines = listener.lines();
        assert_eq!(lines[lines.len() - 2..], ["tokio::task::waker: op=waker.drop task.id=2", "2 let go"]);
        event_loop.close();
    });
    let lines = listener.lines();
    assert_eq!(lines, ["tokio::task::waker: op=waker.wake task.id=1", "1 let go"]); // woken, to be dropped
    assert_eq!(format!("{spans:?}"), "TaskSpans [tasks: 0, resources: 0]");
}

#[test]
fn a_subscriber_that_spawns_tasks_harms_nothing() {
    thread_local! {
        static SPAWNS: Cell<bool> = const { Cell::new(false) };
        static LEFT: Cell<u32> = const { Cell::new(40) };
    }
    /// Not while it does so, and not for ever.
    fn spawn_one() {
        if !SPAWNS.replace(true) {
            if let Some(left) = LEFT.get().checked_sub(1) {
                LEFT.set(left);
                create_task(async {}).detach();
            }
            SPAWNS.set(false);
        }
    }
    struct Spawns(Listener);
    impl Subscriber for Spawns {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, span: &Attributes<'_>) -> Id {
            spawn_one();
            self.0.new_span(span)
        }
        fn clone_span(&self, id: &Id) -> Id {
            spawn_one();
            id.clone()
        }
        fn try_close(&self, _: Id) -> bool {
            spawn_one();
            true
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, _: &Event<'_>) {
            spawn_one();
        }
        fn enter(&self, _: &Id) {
            spawn_one();
        }
        fn exit(&self, _: &Id) {
            spawn_one();
        }
    }
    let (event_loop, spans, listener) = shown();
    tracing::subscriber::with_default(Spawns(listener), || {
        event_loop.run_until_complete(async {
            let lock = Rc::new(Lock::new(()));
            let guard = lock.acquire().await;
            let shared = lock.clone();
            let waits = create_task(async move { drop(shared.acquire().await) });
            yield_now().await;
            drop(guard);
            waits.await;
            for _ in 0..100 {
                yield_now().await;
            }
        });
        assert_eq!(LEFT.get(), 0);
        event_loop.create_task(pending::<()>()).detach();
        assert_eq!(format!("{spans:?}"), "TaskSpans [tasks: 1, resources: 1]", "it is still asked");
        event_loop.close();
    });
    assert_eq!(format!("{spans:?}"), "TaskSpans [tasks: 0, resources: 1]");
}
