//! What follows a task from its spawn to its end: the spawn hook, done callbacks, how it ended.

use evenloop_executor::{
    EventLoop, Task, TaskEnd, TaskInfo, call_soon, create_eager_task, create_task, yield_now,
};
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

type Log = Rc<RefCell<Vec<String>>>;

fn pass(event_loop: &EventLoop) {
    event_loop.run_once(Some(Duration::ZERO));
}

/// A callback that writes `word` and how the task ended.
fn notes(log: &Log, word: &'static str) -> impl FnOnce(TaskInfo, TaskEnd) + 'static {
    let log = log.clone();
    move |task, end| log.borrow_mut().push(format!("{word}: {} {end:?}", task.name()))
}

#[test]
fn callbacks_run_through_the_loop_in_their_order_and_before_the_awaiter() {
    let (event_loop, log) = (EventLoop::new(), Log::default());
    let task = event_loop.create_task(async {
        yield_now().await;
        7
    });
    task.add_done_callback(notes(&log, "first"));
    task.add_done_callback(notes(&log, "second"));
    let told = log.clone();
    let awaiter = event_loop.create_task(async move {
        assert_eq!(task.await, 7);
        told.borrow_mut().push("awaiter".into());
    });
    pass(&event_loop);
    pass(&event_loop);
    assert!(log.borrow().is_empty(), "never inside the turn that ends the task");
    pass(&event_loop);
    assert_eq!(*log.borrow(), ["first: Task-1 Value", "second: Task-1 Value", "awaiter"]);
    assert!(awaiter.done());
}

#[test]
fn each_end_has_its_name_also_after_the_outcome_was_taken() {
    let (event_loop, log) = (EventLoop::new(), Log::default());
    let mut tasks = [
        event_loop.create_task(async {}),
        event_loop.create_task(pending()),
        event_loop.create_task(async { panic!("a panic") }),
    ];
    tasks[1].cancel("test");
    for task in &tasks {
        assert_eq!(task.end(), None);
        task.add_done_callback(notes(&log, "waiting"));
    }
    pass(&event_loop);
    let ends = [TaskEnd::Value, TaskEnd::Cancelled, TaskEnd::Panicked];
    assert_eq!(tasks.each_ref().map(|task| task.end().unwrap()), ends);
    for task in &mut tasks {
        drop(task.result().unwrap());
        task.add_done_callback(notes(&log, "late"));
    }
    assert_eq!(tasks.each_ref().map(|task| task.end().unwrap()), ends);
    assert!(log.borrow().is_empty(), "not inside the call, also when it is over");
    pass(&event_loop);
    let expected: Vec<_> = ["waiting", "late"]
        .iter()
        .flat_map(|word| {
            let words = [(1, "Value"), (2, "Cancelled"), (3, "Panicked")];
            words.map(|(number, end)| format!("{word}: Task-{number} {end}"))
        })
        .collect();
    assert_eq!(*log.borrow(), expected);
}

#[test]
fn what_a_late_callback_was_told_of_outlives_the_handle() {
    let event_loop = EventLoop::new();
    let task = event_loop.create_task(async {});
    pass(&event_loop);
    let kept = Rc::new(RefCell::new(None));
    let keeps = kept.clone();
    task.add_done_callback(move |info, _| *keeps.borrow_mut() = Some(info));
    drop(task);
    pass(&event_loop);
    let innocent = event_loop.create_task(async { yield_now().await }); // perhaps in the place of the one that is over
    let info: TaskInfo = kept.take().expect("it was called");
    assert_eq!(info.name(), "Task-1");
    assert!(!info.cancel("nobody else"), "it is over");
    drop(info);
    event_loop.run_until_complete(innocent);
}

#[test]
fn a_callback_that_is_taken_back_is_dropped_and_never_runs() {
    let (event_loop, log) = (EventLoop::new(), Log::default());
    let held = Rc::new(());
    let inside = held.clone();
    let task = event_loop.create_task(async {});
    let unwanted = task.add_done_callback(move |_, _| drop(inside));
    task.add_done_callback(notes(&log, "stays"));
    assert!(task.remove_done_callback(unwanted));
    assert!(!task.remove_done_callback(unwanted));
    assert_eq!(Rc::strong_count(&held), 1);
    pass(&event_loop);
    pass(&event_loop);
    assert!(!task.remove_done_callback(unwanted));
    assert_eq!(*log.borrow(), ["stays: Task-1 Value"]);
}

#[test]
fn a_detached_tasks_callbacks_run_and_know_of_its_panic() {
    let log = Log::default();
    let reports = log.clone();
    let event_loop = EventLoop::builder()
        .on_unhandled(move |error| reports.borrow_mut().push(error.message().to_owned()))
        .build();
    let task = event_loop.create_task(async { panic!("detached") });
    task.add_done_callback(notes(&log, "callback"));
    task.detach();
    pass(&event_loop);
    pass(&event_loop);
    assert_eq!(*log.borrow(), ["task panicked, and nobody awaits it", "callback: Task-1 Panicked"]);
}

#[test]
fn a_callback_that_panics_is_reported_with_its_line_and_the_others_run() {
    let log = Log::default();
    let reports = log.clone();
    let event_loop = EventLoop::builder()
        .on_unhandled(move |error| {
            let line = error.spawned_at().unwrap();
            assert!(error.handle().unwrap().starts_with("<Callback finished"), "{error}");
            reports.borrow_mut().push(format!("{} {}", error.panic_message().unwrap(), line.file()));
        })
        .build();
    let task = event_loop.create_task(async {});
    task.add_done_callback(|_, _| panic!("in a callback"));
    task.add_done_callback(notes(&log, "next"));
    pass(&event_loop);
    pass(&event_loop);
    assert_eq!(*log.borrow(), ["in a callback tests/executor_done.rs", "next: Task-1 Value"]);
}

#[test]
fn what_a_loop_closes_on_drops_its_callbacks() {
    let event_loop = EventLoop::new();
    let held = Rc::new(());
    let inside = held.clone();
    let task = event_loop.create_task(pending::<()>());
    task.add_done_callback(move |_, _| drop(inside));
    event_loop.close();
    assert_eq!((Rc::strong_count(&held), task.end()), (1, Some(TaskEnd::Cancelled)));
    task.add_done_callback(|_, _| unreachable!("the loop is closed"));
}

#[test]
fn callbacks_of_the_last_tasks_run_at_the_end_of_a_run() {
    let log = Log::default();
    let noted = log.clone();
    evenloop::run(async move {
        let task = create_task(pending::<()>());
        task.add_done_callback(notes(&noted, "at the end"));
        task.detach();
    });
    assert_eq!(*log.borrow(), ["at the end: Task-2 Cancelled"]);
}

#[test]
fn the_spawn_hook_sees_each_task_before_its_first_poll() {
    let log = Log::default();
    let seen = log.clone();
    let event_loop = EventLoop::builder()
        .on_spawn(move |task| {
            assert!(!task.has_started());
            if task.id().get() == 2 {
                task.set_name("renamed");
            }
            seen.borrow_mut().push(format!("{} {}", task.name(), task.spawned_at().file()));
        })
        .build();
    let first = event_loop.create_named_task("named", async {});
    let second: Task<()> = event_loop.create_task(pending());
    assert_eq!(second.name(), "renamed");
    let handle = event_loop.handle();
    std::thread::spawn(move || handle.spawn_detached(async {})).join().unwrap().unwrap();
    event_loop.run_until_complete(async {
        create_eager_task(async {}).await;
        call_soon(|| ()); // no task
        yield_now().await;
    });
    let here = "tests/executor_done.rs";
    let expected = ["named", "Task-2", "Task-3", "Task-4", "Task-5"].map(|name| format!("{name} {here}"));
    // Main is the third; what the other thread brought is the fourth, when the loop learns of it.
    assert_eq!(*log.borrow(), expected);
    drop((first, second));
}

#[test]
fn a_spawn_hook_may_spawn_and_may_panic() {
    let reports = Log::default();
    let told = reports.clone();
    let spawned = Rc::new(Cell::new(0));
    let count = spawned.clone();
    let event_loop = EventLoop::builder()
        .on_unhandled(move |error| {
            let text = format!(
                "{} {} {}",
                error.message(),
                error.task_name().unwrap(),
                error.panic_message().unwrap()
            );
            told.borrow_mut().push(text);
        })
        .on_spawn(move |task| {
            count.set(count.get() + 1);
            create_task(async {}).detach(); // is not shown
            assert!(task.id().get() != 3, "not this one");
        })
        .build();
    let mut task = event_loop.create_task(async { 1 });
    let mut other = event_loop.create_task(async { 2 });
    pass(&event_loop);
    assert_eq!((task.result().unwrap().unwrap(), other.result().unwrap().unwrap()), (1, 2));
    assert_eq!(spawned.get(), 2);
    assert_eq!(*reports.borrow(), ["the spawn hook panicked Task-3 not this one"]);
    event_loop.clear_spawn_hook();
    event_loop.create_task(async {}).detach();
    assert_eq!(spawned.get(), 2);
}
