//! What a watched loop tells: who waits for what, who holds it, who awaits whom, cycles, and each step.

use evenloop::sync::{Event, Lock, Queue, RwLock};
use evenloop::time::VirtualClock;
use evenloop::watch::{Instrument, Snapshot, Step, TaskKey, TaskSnapshot, cancel_watched};
use evenloop::{
    EventLoop, ReturnWhen, TaskGroup, all_tasks, as_completed, capture_call_graph, create_task, dump,
    event_loop_on, format_call_graph, gather_all, shield, sleep, snapshot, wait, yield_now,
};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use std::cell::RefCell;
use std::future::{Future, pending};
use std::rc::Rc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Runs on a watched loop with a virtual clock. What it leaves is cancelled.
fn watched<F: Future>(main: impl FnOnce(u64) -> F) -> F::Output {
    let event_loop = event_loop_on(VirtualClock::new().into());
    event_loop.watch();
    let before = snapshot().loops.len();
    assert!(before > 0);
    let result = event_loop.run_until_complete(async {
        let number = number();
        main(number).await
    });
    event_loop.cancel_all(None);
    result
}

/// The number of the loop that runs here: tests run side by side, and each sees the loops of all.
fn number() -> u64 {
    let graph = capture_call_graph(None).expect("a task of a watched loop runs here");
    graph.task.key.host
}

fn named(snapshot: &Snapshot, host: u64, name: &str) -> TaskSnapshot {
    let here = |task: &&TaskSnapshot| task.key.host == host && task.name == name;
    snapshot.tasks().find(here).unwrap_or_else(|| panic!("no task {name} in\n{snapshot}")).clone()
}

fn spawn(name: &str, future: impl Future<Output = ()> + 'static) -> TaskKey {
    let task = create_task(future);
    task.set_name(name);
    let key = TaskKey { host: number(), task: task.id().get() };
    task.detach();
    key
}

/// Calls and since when of what a task waits for.
fn waits(name: &str) -> Vec<(&'static str, Duration)> {
    let task = named(&snapshot(), number(), name);
    task.waits.iter().map(|wait| (wait.call, wait.since)).collect()
}

#[test]
fn each_task_tells_what_it_waits_for_and_since_when() {
    watched(|_| async {
        let event = Rc::new(Event::new());
        let queue = Rc::new(Queue::<u8>::new(1));
        queue.put_nowait(1).unwrap();
        let (waiting, putting) = (event.clone(), queue.clone());
        spawn("sleeper", sleep(10 * SECOND));
        spawn("waiter", async move { waiting.wait().await });
        spawn("putter", async move { putting.put(2).await.unwrap() });
        let mut inner = create_task(pending::<()>());
        inner.set_name("inner");
        spawn("shielded", async move { shield(&mut inner).await });
        sleep(3 * SECOND).await;
        assert_eq!(waits("sleeper"), [("sleep", 3 * SECOND)]);
        assert_eq!(waits("waiter"), [("Event::wait", 3 * SECOND)]);
        assert_eq!(waits("putter"), [("Queue::put", 3 * SECOND)]);
        assert_eq!(waits("shielded"), [("shield", 3 * SECOND)]);
        let text = dump();
        assert!(text.contains("1 of 1 in it"), "{text}");
        assert!(text.contains("'sleeper' waiting"), "{text}");
        assert!(text.contains("spawned at tests/executor_watch.rs"), "{text}");
        assert!(text.contains("sleep, 7.0s left"), "{text}");
        event.set();
        yield_now().await;
        let gone = snapshot();
        assert!(!gone.tasks().any(|task| task.name == "waiter" && task.key.host == number()), "{gone}");
    });
}

#[test]
fn two_tasks_that_wait_for_each_others_lock_are_printed_as_the_deadlock_that_they_are() {
    watched(|host| async move {
        let locks = Rc::new((Lock::new(1), Lock::new(2)));
        let (ab, ba) = (locks.clone(), locks.clone());
        let one = spawn("ab", async move {
            let _a = ab.0.acquire().await;
            yield_now().await;
            let _b = ab.1.acquire().await;
        });
        let two = spawn("ba", async move {
            let _b = ba.1.acquire().await;
            yield_now().await;
            let _a = ba.0.acquire().await;
        });
        sleep(SECOND).await;
        let snapshot = snapshot();
        let mine = |key: TaskKey| key.host == host;
        let cycles: Vec<_> = snapshot.cycles().into_iter().filter(|it| mine(it.links[0].task)).collect();
        let [cycle] = &cycles[..] else { panic!("{snapshot}") };
        assert_eq!(cycle.links.iter().map(|link| link.task).collect::<Vec<_>>(), [one, two]);
        assert!(snapshot.is_deadlock(cycle));
        let text = snapshot.describe_cycle(cycle);
        assert!(text.starts_with("deadlock: each of these tasks waits for the next one\n"), "{text}");
        assert!(text.contains(&format!("held by task {two} 'ba'")), "{text}");
        assert!(text.contains("Lock::acquire on Lock@"), "{text}");
        assert!(snapshot.tree().contains(&text));
    });
}

#[test]
fn a_writer_and_whoever_released_are_told_apart() {
    watched(|host| async move {
        let lock = Rc::new(RwLock::new(0));
        let (writing, reading) = (lock.clone(), lock.clone());
        let writer = spawn("writer", async move {
            let _written = writing.write().await;
            sleep(2 * SECOND).await;
        });
        spawn("reader", async move { drop(reading.read().await) });
        sleep(SECOND).await;
        let reader = named(&snapshot(), host, "reader");
        assert_eq!(
            reader.waits[0].holders.iter().map(|holder| holder.task).collect::<Vec<_>>(),
            [Some(writer)]
        );
        sleep(2 * SECOND).await;
        drop(lock.write().await);
        let free = create_task(async move { *lock.write().await });
        assert_eq!(free.await, 0);
    });
}

#[test]
fn a_lock_that_was_given_to_a_future_that_nobody_polls_is_named() {
    watched(|host| async move {
        let lock = Rc::new(Lock::new(()));
        let held = lock.acquire().await;
        let locks = lock.clone();
        let stuck = spawn("stuck", async move {
            let mut first = locks.acquire();
            assert!((&mut first).now_or_never().is_none()); // in line, and not polled again
            futures::select_biased! {
                _ = (&mut first).fuse() => unreachable!("the lock is held"),
                () = yield_now().fuse() => {}
            }
            let _second = locks.acquire().await; // behind the first
        });
        yield_now().await;
        yield_now().await;
        drop(held);
        sleep(SECOND).await;
        let snapshot = snapshot();
        let cycle = snapshot.cycles().into_iter().find(|it| it.links[0].task.host == host);
        let cycle = cycle.unwrap_or_else(|| panic!("{snapshot}"));
        assert_eq!(cycle.links.iter().map(|link| link.task).collect::<Vec<_>>(), [stuck]);
        let text = snapshot.describe_cycle(&cycle);
        assert!(text.starts_with("futurelock: Lock@"), "{text}");
        assert!(text.contains("given to a future of task"), "{text}");
    });
}

#[test]
fn whatever_way_a_lock_goes_who_holds_it_now_is_all_that_is_told() {
    use evenloop_core::watch::{Holder, address, holders};
    watched(|number| async move {
        let key = |name| Holder { task: Some(named(&snapshot(), number, name).key), untaken: false };
        let (lock, semaphore) = (Rc::new(Lock::new(())), Rc::new(evenloop::sync::Semaphore::new(1)));
        let told = || holders(address(&*lock)); // a lock begins with its permits
        let takes = |name| {
            let lock = lock.clone();
            spawn(name, async move {
                let _guard = lock.acquire().await;
                sleep(10 * SECOND).await;
            });
        };
        takes("one");
        takes("other");
        yield_now().await;
        assert_eq!(told(), [key("one")]);
        sleep(15 * SECOND).await; // handed on in line
        assert_eq!(told(), [key("other")]);
        sleep(10 * SECOND).await; // released with nobody in line
        assert_eq!(told(), []);
        takes("third");
        yield_now().await;
        assert_eq!(told(), [key("third")]);

        // A semaphore's permits have no holders, in whatever way they go.
        let permit = semaphore.try_acquire().unwrap();
        let waiting = semaphore.clone();
        let waiter = create_task(async move { drop(waiting.acquire().await.unwrap()) });
        let cancelled = semaphore.clone();
        let cancelled = create_task(async move { drop(cancelled.acquire().await.unwrap()) });
        yield_now().await;
        cancelled.cancel("not needed");
        drop(permit);
        waiter.await;
        assert_eq!(holders(address(&*semaphore)), []);
    });
}

#[test]
fn joins_groups_and_gather_are_edges_of_the_call_graph() {
    watched(|host| async move {
        spawn("outer", async {
            let group = create_task(async {
                let run = TaskGroup::<()>::run(async |group| {
                    for _ in 0..2 {
                        drop(group.create_task(pending::<Result<(), ()>>()));
                    }
                    Ok(())
                });
                run.await.unwrap();
            });
            group.set_name("group");
            gather_all([async {
                group.await; // by a task of its own
            }])
            .await;
        });
        sleep(SECOND).await;
        let snapshot = snapshot();
        let children = snapshot.tasks().filter(|task| task.key.host == host && task.group.is_some());
        let children: Vec<_> = children.collect();
        let [left, _] = children[..] else { panic!("{snapshot}") };
        let awaiting = snapshot.awaited_by(left.key);
        assert_eq!(awaiting.iter().map(|task| &*task.name).collect::<Vec<_>>(), ["group"]);
        let id = all_tasks().into_iter().find(|task| task.id().get() == left.key.task).unwrap().id();
        let graph = format_call_graph(Some(id));
        let names: Vec<_> =
            graph.lines().filter_map(|line| line.split("name='").nth(1)?.split('\'').next()).collect();
        assert_eq!(names.len(), 4, "the child, its group, the gathered one, outer:\n{graph}");
        assert_eq!((names[1], names[3]), ("group", "outer"), "{graph}");
        assert!(graph.contains("  + Awaited by:\n    * Task(name='group'"), "{graph}");
    });
}

#[test]
fn a_future_of_anybodys_may_say_what_it_waits_for() {
    use evenloop_core::watch::{On, wait as waits_for};
    watched(|host| async move {
        let target = spawn("target", pending());
        spawn(
            "by hand",
            std::future::poll_fn(move |cx| {
                waits_for(cx.waker(), "my_join", || On::Task(target));
                std::task::Poll::Pending
            }),
        );
        sleep(SECOND).await;
        let snapshot = snapshot();
        let awaiting = snapshot.awaited_by(target);
        assert_eq!(awaiting.iter().map(|task| &*task.name).collect::<Vec<_>>(), ["by hand"]);
        let told = named(&snapshot, host, "by hand");
        let [wait] = &told.waits[..] else { panic!("{told:?}") };
        let told = snapshot.describe(wait);
        assert!(told.starts_with("waits 1.0s in my_join for task ") && told.ends_with("'target'"), "{told}");
    });
}

#[test]
fn shield_wait_and_as_completed_are_edges_too() {
    watched(|host| async move {
        let child = |name: &str| {
            let child = create_task(pending::<()>());
            child.set_name(name);
            child
        };
        let shielded = child("shielded");
        spawn("by shield", async { shield(shielded).await });
        let waited = child("waited");
        spawn("by wait", async {
            wait(&mut vec![waited], ReturnWhen::AllCompleted).await;
        });
        let collected = child("collected");
        spawn("by as_completed", async {
            as_completed([collected]).next().await;
        });
        sleep(SECOND).await;
        let snapshot = snapshot();
        for (name, by) in [("shielded", "by shield"), ("waited", "by wait"), ("collected", "by as_completed")]
        {
            let awaited = named(&snapshot, host, name);
            let awaiting: Vec<_> =
                snapshot.awaited_by(awaited.key).iter().map(|task| task.name.to_string()).collect();
            assert_eq!(awaiting, [by], "{name}\n{snapshot}");
        }
    });
}

#[test]
fn children_with_wakers_of_their_own_are_listed_until_they_are_done() {
    watched(|_| async {
        spawn("many", async {
            let mut all: FuturesUnordered<_> = (1..=3).map(|n| sleep(n * 10 * SECOND)).collect();
            while all.next().await.is_some() {}
        });
        sleep(5 * SECOND).await;
        assert_eq!(waits("many").len(), 3);
        sleep(10 * SECOND).await;
        assert_eq!(waits("many"), [("sleep", 15 * SECOND), ("sleep", 15 * SECOND)]);
    });
}

#[test]
fn races_signals_and_children_tell_what_is_waited_for() {
    use evenloop::process::{Command, Ending, SubprocessProtocol, subprocess_exec};
    use evenloop::streams::signal::{SignalKind, signal};
    struct Silent;
    impl SubprocessProtocol for Silent {}
    watched(|number| async move {
        spawn("race", async {
            let attempts = [2_u32, 1].map(|n| async move {
                sleep(n * SECOND).await;
                Err::<(), u32>(n)
            });
            evenloop::staggered_race(attempts, None).await;
        });
        spawn("signal", async {
            let mut listens = signal(SignalKind::USER_2).unwrap();
            listens.recv().await.unwrap();
        });
        spawn("child", async {
            let child = Command::new("sleep").arg("600").on_drop(Ending::Kill).spawn().unwrap();
            child.wait().await.unwrap();
        });
        let (transport, _) = subprocess_exec(|| Silent, Command::new("sleep").arg("600")).unwrap();
        for _ in 0..3 {
            yield_now().await;
        }
        let calls = |name| waits(name).into_iter().map(|(call, _)| call).collect::<Vec<_>>();
        assert_eq!(calls("race"), ["staggered_race", "sleep"]);
        assert_eq!(calls("signal"), ["Signal::recv", "read"]);
        assert_eq!(calls("child"), ["Process::wait"]);
        let snapshot = snapshot();
        let serves = |task: &&TaskSnapshot| task.waits.iter().any(|wait| wait.call == "SubprocessTransport");
        assert_eq!(snapshot.tasks().filter(|task| task.key.host == number).filter(serves).count(), 1);
        transport.kill().unwrap();
    });
}

#[derive(Default)]
struct Steps(RefCell<Vec<String>>);

impl Instrument for Steps {
    fn before_run(&self) {
        self.0.borrow_mut().push("run".into());
    }
    fn after_run(&self) {
        self.0.borrow_mut().push("ran".into());
    }
    fn task_spawned(&self, task: &Step<'_>) {
        self.0.borrow_mut().push(format!("spawned {}", task.name()));
    }
    fn task_scheduled(&self, task: &Step<'_>) {
        self.0.borrow_mut().push(format!("ready {}", task.name()));
    }
    fn before_task_step(&self, task: &Step<'_>) {
        self.0.borrow_mut().push(format!("step {} of {}", task.polls() + 1, task.name()));
    }
    fn after_task_step(&self, task: &Step<'_>, took: Duration) {
        assert!(took < SECOND);
        self.0.borrow_mut().push(format!("stepped {}", task.name()));
    }
    fn task_exited(&self, task: &Step<'_>) {
        self.0.borrow_mut().push(format!("exited {}", task.name()));
    }
}

#[test]
fn an_instrument_sees_each_step_until_it_is_taken_out() {
    let event_loop = EventLoop::new();
    let steps = Rc::new(Steps::default());
    let id = event_loop.add_instrument(steps.clone());
    event_loop.run_until_complete(yield_now());
    let expected = [
        "run",
        "spawned Task-1",
        "ready Task-1",
        "step 1 of Task-1",
        "ready Task-1", // its yield
        "stepped Task-1",
        "step 2 of Task-1",
        "exited Task-1",
        "stepped Task-1",
        "ran",
    ];
    assert_eq!(*steps.0.borrow(), expected);
    assert!(event_loop.remove_instrument(id));
    assert!(!event_loop.remove_instrument(id));
    event_loop.run_until_complete(yield_now());
    assert_eq!(steps.0.borrow().len(), expected.len());
    assert_eq!(Rc::strong_count(&steps), 1);
}

/// What each step left its task waiting for: the task, a call, how many polls of it.
#[derive(Default)]
struct Left(RefCell<Vec<String>>);

impl Instrument for Left {
    fn after_task_step(&self, task: &Step<'_>, _: Duration) {
        let waits: Vec<_> = task.waits().iter().map(|wait| format!("{} {}", wait.call, wait.polls)).collect();
        let TaskKey { host, task: number } = task.key();
        assert!(host > 0 && number == task.id().get());
        self.0.borrow_mut().push(format!("{number}: {}", waits.join(", ")));
    }
}

#[test]
fn an_instrument_sees_what_a_task_waits_for_after_each_step() {
    let event_loop = EventLoop::new();
    let left = Rc::new(Left::default());
    event_loop.add_instrument(left.clone());
    event_loop.run_until_complete(async {
        let lock = Rc::new(Lock::new(()));
        let guard = lock.acquire().await;
        let shared = lock.clone();
        let waiter = create_task(async move { drop(shared.acquire().await) });
        yield_now().await;
        drop(guard);
        waiter.await;
    });
    let expected = [
        "1: ",
        "2: Lock::acquire 1",
        "1: await 1",
        "2: ", // over
        "1: ",
    ];
    assert_eq!(*left.0.borrow(), expected);
}

#[test]
fn an_instrument_that_panics_is_taken_out_and_the_loop_goes_on() {
    struct Panics;
    impl Instrument for Panics {
        fn before_task_step(&self, _: &Step<'_>) {
            panic!("not today");
        }
    }
    let event_loop = EventLoop::new();
    let id = event_loop.add_instrument(Rc::new(Panics));
    event_loop.run_until_complete(yield_now());
    assert!(!event_loop.remove_instrument(id));
}

/// A loop in debug mode on a virtual clock, and what its hook is told.
fn debugging() -> (EventLoop, VirtualClock, Rc<RefCell<Vec<String>>>) {
    let clock = VirtualClock::new();
    let reports = Rc::new(RefCell::new(Vec::new()));
    let event_loop = evenloop::event_loop_builder(clock.clone().into()).debug(true).build();
    let told = reports.clone();
    event_loop.set_unhandled_hook(move |error| told.borrow_mut().push(error.to_string()));
    (event_loop, clock, reports)
}

#[test]
fn debug_mode_names_a_slow_poll_with_its_task_and_spawn_line() {
    let (event_loop, clock, reports) = debugging();
    let task = event_loop.create_named_task("culprit", async move {
        clock.advance(3 * SECOND);
        yield_now().await;
    });
    let line = task.spawned_at().line();
    event_loop.run_until_complete(task);
    let reports = reports.borrow();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(reports[0].contains("culprit") && reports[0].ends_with("it took 3.000s"), "{reports:?}");
    assert!(reports[0].contains(&format!("tests/executor_watch.rs:{line}:")), "{reports:?}");
}

#[test]
fn debug_mode_tells_of_tasks_that_are_left() {
    let (event_loop, _, reports) = debugging();
    event_loop.create_named_task("left", pending::<()>()).detach();
    event_loop.run_until_complete(yield_now());
    event_loop.cancel_all(None);
    let reports = reports.borrow();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(reports[0].starts_with("a task was left at the end of the run") && reports[0].contains("'left'"));
}

#[test]
fn a_task_is_cancelled_from_another_thread_by_its_key() {
    let event_loop = EventLoop::builder().watch(true).build();
    let mut task = event_loop.create_task(pending::<()>());
    event_loop.run_once(Some(Duration::ZERO));
    let host = event_loop.run_until_complete(async { number() });
    let key = TaskKey { host, task: task.id().get() };
    std::thread::spawn(move || assert!(cancel_watched(key, "from outside"))).join().unwrap();
    let error = event_loop.run_until_complete(task.join()).unwrap_err();
    assert_eq!(error.reason().text(), Some("from outside"));
    assert!(!cancel_watched(TaskKey { host, task: 999 }, "nobody"));
}

#[test]
fn a_loop_that_is_not_watched_has_no_records() {
    let event_loop = EventLoop::new();
    event_loop.run_until_complete(async {
        assert!(capture_call_graph(None).is_none());
    });
    let watched = EventLoop::builder().watch(true).build();
    watched.run_until_complete(async {
        let graph = capture_call_graph(None).unwrap();
        assert!(graph.task.running.is_some() && graph.task.waits.is_empty());
    });
}
