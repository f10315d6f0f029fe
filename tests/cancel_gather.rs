//! `gather`, `as_completed`, `wait`, `shield`, `finally`, `with` and checkpoints, on the virtual clock.

use evenloop::cancel::{catch_cancel, shielded, shielded_for};
use evenloop::time::{Elapsed, VirtualClock};
use evenloop::{
    End, Resource, ReturnWhen, Runner, Task, all_tasks, as_completed, checkpoint, checkpoint_if_cancelled,
    create_task, current_task, ensure_future, finally, gather, gather_all, gather_settled, shield, sleep,
    timeout, try_gather, wait, with, yield_now,
};
use evenloop_tests::{Log, SECOND, after};
use futures::FutureExt;
use std::cell::Cell;
use std::convert::Infallible;
use std::future::{pending, ready};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

/// Runs on the virtual clock; answers also how long it took there, and what nobody else could see.
fn run<T>(main: impl Future<Output = T>) -> (T, Duration, Vec<String>) {
    let (clock, reports) = (VirtualClock::new(), Log::default());
    let runner = Runner::on_clock(clock.clone().into()).ignore_ctrl_c();
    let told = reports.clone();
    runner
        .event_loop()
        .set_unhandled_hook(move |unhandled| told.add(unhandled.panic_message().unwrap_or("")));
    let value = runner.run(main).unwrap();
    (value, clock.elapsed(), reports.take())
}

async fn panics_after(seconds: u32, words: &'static str) {
    sleep(seconds * SECOND).await;
    panic!("{words}");
}

async fn cleans_up(log: Log, name: &'static str) {
    let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
    sleep(SECOND).await;
    log.add(name);
    cancelled.resume().await;
}

// === gather ===

#[test]
fn results_come_in_the_order_of_the_arguments() {
    let (all, took, _) = run(async {
        (
            gather((after(3, 'a'), after(1, "b"), after(2, 3))).await,
            gather([after(2, 1), after(1, 2)]).await,
            gather(Vec::<std::future::Ready<u8>>::new()).await.len(),
            gather_all((0..3).map(|n| after(3 - n, n))).await,
        )
    });
    assert_eq!(all, (('a', "b", 3), [1, 2], 0, vec![0, 1, 2]));
    assert_eq!(took, 8 * SECOND);
}

#[test]
fn a_task_stays_the_task_it_is() {
    run(async {
        let task = create_task(after(1, 7));
        let id = task.id();
        let again: Task<_> = ensure_future(task);
        assert_eq!(again.id(), id);
        assert_eq!(gather((again, async { 8 })).await, (7, 8));
        assert_eq!(all_tasks().len(), 1);
    });
}

#[test]
fn the_first_error_comes_at_once_and_the_siblings_run_on() {
    let log = Log::default();
    let (end, took, _) = run(async {
        let told = log.clone();
        let slow = async move {
            sleep(2 * SECOND).await;
            told.add("sibling");
            Ok::<_, &str>(1)
        };
        let end = try_gather((slow, after(1, Err::<u8, _>("failed")))).await;
        log.add("error");
        sleep(2 * SECOND).await;
        end
    });
    assert_eq!((end, took), (Err("failed"), 3 * SECOND));
    assert_eq!(log.take(), ["error", "sibling"]);
    let (end, ..) = run(async { try_gather([after(2, Ok::<_, ()>(1)), after(1, Ok(2))]).await });
    assert_eq!(end, Ok([1, 2]));
    let (end, ..) =
        run(async { try_gather(vec![after(2, Err("late")), after(1, Err("early")), after(1, Ok(2))]).await });
    assert_eq!(end, Err("early"));
}

#[test]
fn a_panic_comes_at_once_and_later_ones_are_reported() {
    let (panic, took, reports) = run(async {
        let children = gather((after(3, 1), panics_after(1, "first"), panics_after(2, "second")));
        let panic = AssertUnwindSafe(children).catch_unwind().await;
        sleep(5 * SECOND).await;
        panic.unwrap_err()
    });
    assert_eq!((&**panic.downcast::<String>().unwrap(), took), ("first", 6 * SECOND));
    assert_eq!(reports, ["second"]);
}

type Child = Pin<Box<dyn Future<Output = Result<(), &'static str>>>>;

fn child(turns: u32, end: fn() -> Result<(), &'static str>) -> Child {
    Box::pin(async move {
        for _ in 0..turns {
            yield_now().await;
        }
        end()
    })
}

/// What `try_gather` of two children gives or panics with, and what is reported: the same whatever they come in.
fn of_two(two: fn() -> (Child, Child)) -> (Result<Result<(), &'static str>, &'static str>, Vec<String>) {
    let [tuple, array, list] = [0, 1, 2].map(|shape| {
        let (end, _, reports) = run(async {
            let (one, other) = two();
            let gathered = async {
                match shape {
                    0 => try_gather((one, other)).await.map(drop),
                    1 => try_gather([one, other]).await.map(drop),
                    _ => try_gather(vec![one, other]).await.map(drop),
                }
            };
            let end = AssertUnwindSafe(gathered).catch_unwind().await;
            sleep(SECOND).await;
            end
        });
        (end.map_err(|panic| *panic.downcast::<&str>().unwrap()), reports)
    });
    assert_eq!((&tuple, &array), (&array, &list));
    tuple
}

#[test]
fn of_ends_in_one_pass_the_first_counts() {
    let both = of_two(|| (child(1, || Err("second")), child(0, || Err("first"))));
    assert_eq!(both, (Ok(Err("first")), vec![]));
    let both = of_two(|| (child(1, || Err("first")), child(1, || Err("second"))));
    assert_eq!(both, (Ok(Err("first")), vec![]));
    let both = of_two(|| (child(0, || Err("error")), child(0, || panic!("panic"))));
    assert_eq!(both, (Ok(Err("error")), vec!["panic".to_owned()]));
    let both = of_two(|| (child(1, || Err("error")), child(0, || panic!("panic"))));
    assert_eq!(both, (Err("panic"), vec![]));
    let both = of_two(|| (child(0, || panic!("one")), child(0, || panic!("other"))));
    assert_eq!(both, (Err("one"), vec!["other".to_owned()]));
    let both = of_two(|| (child(1, || panic!("second")), child(0, || panic!("first"))));
    assert_eq!(both, (Err("first"), vec!["second".to_owned()]));
    assert_eq!(of_two(|| (child(1, || Ok(())), child(0, || Ok(())))), (Ok(Ok(())), vec![]));
}

#[test]
fn settled_collects_errors_panics_and_cancellations() {
    let (ends, ..) = run(async {
        let cancelled = create_task(pending::<u8>());
        cancelled.cancel("child");
        gather_settled((after(1, Err::<u8, _>("error")), panics_after(0, "panic"), cancelled)).await
    });
    assert_eq!(ends.0.unwrap(), Err("error"));
    assert_eq!(ends.1.unwrap_err().to_string(), "the task panicked: panic");
    assert_eq!(ends.2.unwrap_err().reason().text(), Some("child"));
}

#[test]
fn a_cancelled_child_cancels_the_caller() {
    let (error, ..) = run(async {
        let mut task = create_task(async {
            let child = create_task(pending::<()>());
            child.cancel("child");
            gather((child, pending::<()>())).await
        });
        task.join().await.unwrap_err()
    });
    assert_eq!(error.reason().text(), Some("child"));
}

#[test]
fn a_cancelled_gather_cancels_all_children_and_waits_for_all() {
    for settled in [false, true] {
        let log = Log::default();
        let (error, took, _) = run(async {
            let inside = log.clone();
            let mut task = create_task(async move {
                let done = create_task(async {});
                let children = (cleans_up(inside.clone(), "one"), cleans_up(inside.clone(), "two"), done);
                if settled {
                    drop(gather_settled(children).await);
                } else {
                    gather(children).await;
                }
                inside.add("never");
            });
            yield_now().await;
            yield_now().await;
            task.cancel("outside");
            task.join().await.unwrap_err()
        });
        assert_eq!((error.reason().text(), took), (Some("outside"), SECOND));
        assert_eq!(log.take(), ["one", "two"]);
    }
}

/// The cancellation comes exactly when the last child ends.
#[test]
fn a_gather_cancelled_as_its_last_child_ends() {
    for passes in 0..8 {
        let (end, ..) = run(async {
            let mut task = create_task(async {
                let children = gather([0, 1].map(|_| async {
                    yield_now().await;
                    yield_now().await;
                }));
                children.await;
                "all"
            });
            for _ in 0..passes {
                yield_now().await;
            }
            let asked = task.cancel("outside");
            let end = task.join().await;
            (asked, end.map_err(|error| error.to_string()))
        });
        match end {
            (true, Err(error)) => assert_eq!(error, "the task was cancelled: outside"),
            (false, Ok(all)) => assert_eq!(all, "all"),
            other => panic!("after {passes} passes: {other:?}"),
        }
    }
}

#[test]
fn a_hundred_thousand_children_end_one_by_one() {
    let (all, ..) = run(async { gather_all((0..100_000_u32).map(|n| after(n % 7, n))).await });
    assert!(all.into_iter().eq(0..100_000));
}

// === as_completed and wait ===

#[test]
fn as_completed_gives_tasks_in_the_order_in_which_they_end() {
    let (values, took, _) = run(async {
        let mut tasks = as_completed([after(3, 'c'), after(1, 'a'), after(2, 'b')]);
        assert_eq!(tasks.len(), 3);
        let mut values = Vec::new();
        while let Some(task) = tasks.next().await {
            values.push(task.await);
        }
        values
    });
    assert_eq!((values, took), (vec!['a', 'b', 'c'], 3 * SECOND));
}

#[test]
fn one_deadline_for_the_whole_of_as_completed_cancels_nothing() {
    let log = Log::default();
    let (came, took, _) = run(async {
        let told = log.clone();
        let slow = async move {
            sleep(3 * SECOND).await;
            told.add("ran on");
            3
        };
        let mut tasks = as_completed([create_task(after(1, 1)), create_task(slow)]);
        let mut came = Vec::new();
        let collected = timeout(2 * SECOND, async {
            while let Some(task) = tasks.next().await {
                came.push(task.await);
            }
        })
        .await;
        assert_eq!(collected, Err(Elapsed));
        drop(tasks);
        sleep(2 * SECOND).await;
        came
    });
    assert_eq!((came, took), (vec![1], 4 * SECOND));
    assert_eq!(log.take(), ["ran on"]);
}

#[test]
fn wait_has_three_modes() {
    let (_, took, _) = run(async {
        let make = || {
            vec![
                create_task(after(2, Ok(2))),
                create_task(after(1, Err("one"))),
                create_task(after(3, Ok(3))),
            ]
        };
        let ids = |tasks: &[Task<_>]| tasks.iter().map(Task::id).collect::<Vec<_>>();

        let mut tasks = make();
        let all = ids(&tasks);
        let done = wait(&mut tasks, ReturnWhen::AllCompleted).await;
        assert_eq!((ids(&done), tasks.len()), (all, 0));

        let mut tasks = make();
        let all = ids(&tasks);
        let done = wait(&mut tasks, ReturnWhen::FirstCompleted).await;
        assert_eq!((ids(&done), ids(&tasks)), (vec![all[1]], vec![all[0], all[2]]));

        let mut tasks = make();
        let done = wait(&mut tasks, ReturnWhen::FirstException(Result::is_err)).await;
        assert_eq!((done.len(), tasks.len()), (1, 2));

        let mut tasks = vec![create_task(after(1, 1)), create_task(after(2, 2))];
        let cancelled = create_task(pending::<i32>());
        cancelled.cancel("no exception");
        tasks.push(cancelled);
        let done = wait(&mut tasks, ReturnWhen::FirstException(|_| false)).await;
        assert_eq!((done.len(), tasks.len()), (3, 0), "nobody failed: all");
    });
    assert_eq!(took, (3 + 1 + 1 + 2) * SECOND);
}

#[test]
fn all_that_are_over_are_in_the_answer_and_nobody_is_cancelled() {
    run(async {
        let mut tasks: Vec<_> = [1, 1, 5].map(|n| create_task(after(n, n))).into();
        let done = wait(&mut tasks, ReturnWhen::FirstCompleted).await;
        assert_eq!(done.len(), 2, "both of the first second");
        let limited = timeout(SECOND, wait(&mut tasks, ReturnWhen::AllCompleted)).await;
        assert!(limited.is_err());
        assert_eq!(tasks.remove(0).await, 5, "it ran on");
    });
}

#[test]
fn a_wait_for_nothing_panics() {
    let (end, ..) = run(async {
        let mut none: Vec<Task<()>> = Vec::new();
        AssertUnwindSafe(wait(&mut none, ReturnWhen::AllCompleted)).catch_unwind().await
    });
    assert!(end.is_err());
}

// === shield ===

#[test]
fn a_shielded_task_runs_on_when_the_waiter_is_cancelled() {
    let (value, took, _) = run(async {
        let mut saving = create_task(after(2, "saved"));
        assert!(timeout(SECOND, shield(&mut saving)).await.is_err());
        shield(saving).await
    });
    assert_eq!((value, took), ("saved", 2 * SECOND));
}

#[test]
fn a_shielded_task_that_is_cancelled_cancels_the_waiter() {
    let (error, ..) = run(async {
        let inner = create_task(pending::<()>());
        inner.cancel("inner");
        let mut outer = create_task(shield(inner));
        outer.join().await.unwrap_err()
    });
    assert_eq!(error.reason().text(), Some("inner"));
}

#[test]
fn a_panic_behind_a_cancelled_shield_is_reported_once() {
    let (_, _, reports) = run(async {
        let inner = create_task(async {
            sleep(2 * SECOND).await;
            panic!("nobody looks");
        });
        assert!(timeout(SECOND, shield::<(), _>(inner)).await.is_err());
        sleep(5 * SECOND).await;
    });
    assert_eq!(reports, ["nobody looks"]);
}

#[test]
fn shielded_code_makes_a_cancellation_wait_and_can_be_bounded() {
    let log = Log::default();
    let (error, took, _) = run(async {
        let inside = log.clone();
        let mut task = create_task(async move {
            let value = shielded(async {
                assert!(catch_cancel(sleep(2 * SECOND)).await.is_ok(), "nobody is asked in here");
                timeout(SECOND, pending::<()>()).await
            })
            .await;
            inside.add(format!("{value:?}"));
            sleep(SECOND).await;
            inside.add("never");
        });
        sleep(SECOND).await;
        task.cancel("waits");
        task.join().await.unwrap_err()
    });
    assert_eq!((error.reason().text(), took), (Some("waits"), 3 * SECOND));
    assert_eq!(log.take(), ["Err(Elapsed)"]);
}

// === finally and with ===

#[test]
fn shielded_code_that_awaits_what_was_cancelled_ends_cancelled() {
    async fn cancelled() -> u8 {
        let task = create_task(pending());
        task.cancel("gone");
        task.await
    }
    type Make = fn() -> Pin<Box<dyn Future<Output = u8>>>;
    let ways: [(&str, Make); 4] = [
        ("a task", || Box::pin(shielded(cancelled()))),
        ("gather", || Box::pin(shielded(async { gather([cancelled()]).await[0] }))),
        ("shield", || Box::pin(shielded(shield(create_task(cancelled()))))),
        ("shielded again", || Box::pin(shielded(shielded_for(SECOND, cancelled()).map(|_| 0)))),
    ];
    for (way, make) in ways {
        let log = Log::default();
        let ((), time, _) = run(async {
            let theirs = log.clone();
            let mut task = create_task(async move {
                let inside = async {
                    let caught = catch_cancel(make()).await.unwrap_err();
                    theirs.add(format!("inside: {caught}"));
                    caught.resume().await
                };
                match catch_cancel(shielded(inside)).await {
                    Ok(never) => match never {},
                    Err(caught) => {
                        theirs.add(format!("outside: {caught}"));
                        caught.resume().await
                    }
                }
            });
            let error = task.join().await.unwrap_err();
            log.add(error);
        });
        assert_eq!(time, Duration::ZERO, "{way}");
        let told = ["inside: cancelled: gone", "outside: cancelled: gone", "the task was cancelled: gone"];
        assert_eq!(log.take(), told, "{way}");
    }
}

#[test]
fn who_awaits_two_that_were_cancelled_ends_with_the_reason_of_the_first() {
    let (reason, _, _) = run(async {
        let cancelled = |reason: &'static str| {
            let task = create_task(pending::<()>());
            task.cancel(reason);
            task
        };
        let mut task = create_task(async move { futures::join!(cancelled("first"), cancelled("second")) });
        task.join().await.unwrap_err().reason()
    });
    assert_eq!(reason.text(), Some("first"));
}

#[test]
fn shielded_code_that_ends_cancelled_passes_on_what_waited() {
    let ((), time, _) = run(async {
        let mut task = create_task(async {
            let gone = create_task(async { sleep(2 * SECOND).await });
            let (id, info) = (gone.id(), current_task().unwrap());
            create_task(async move {
                sleep(SECOND).await;
                info.cancel("outside");
                yield_now().await;
                all_tasks().into_iter().find(|task| task.id() == id).unwrap().cancel("gone");
            })
            .detach();
            shielded(shield(gone)).await;
        });
        let error = task.join().await.unwrap_err();
        assert_eq!(error.reason().text(), Some("outside"));
    });
    assert_eq!(time, SECOND);
}

#[test]
fn finally_runs_on_every_way_out() {
    let log = Log::default();
    let clean_up = |name: &'static str| {
        let log = log.clone();
        async move {
            sleep(SECOND).await;
            log.add(name);
        }
    };
    let (_, took, _) = run(async {
        assert_eq!(finally(async { 7 }, clean_up("value")).await, 7);
        let panics = finally(panics_after(0, "body"), clean_up("panic"));
        let panic = AssertUnwindSafe(panics).catch_unwind().await.unwrap_err();
        assert_eq!(*panic.downcast::<String>().unwrap(), "body");
        assert_eq!(timeout(SECOND, finally(pending::<()>(), clean_up("cancelled"))).await, Err(Elapsed));
        drop(finally(async {}, clean_up("never polled")));
    });
    assert_eq!(log.take(), ["value", "panic", "cancelled"]);
    assert_eq!(took, 4 * SECOND);
}

#[test]
fn a_clean_up_that_panics_or_is_cancelled_loses_no_cancellation() {
    let (ends, ..) = run(async {
        let panics = timeout(SECOND, async {
            let end = finally(pending::<()>(), async { panic!("clean-up") });
            let panic = AssertUnwindSafe(end).catch_unwind().await.unwrap_err();
            assert_eq!(*panic.downcast::<&str>().unwrap(), "clean-up");
            pending::<()>().await;
        });
        let twice = timeout(SECOND, async {
            let _ = timeout(SECOND / 2, finally(pending::<()>(), sleep(5 * SECOND))).await;
            panic!("the outer timeout strikes the clean-up of the inner one");
        });
        (panics.await, twice.await)
    });
    assert_eq!(ends, (Err(Elapsed), Err(Elapsed)));
}

struct Door(Log);

impl Resource for Door {
    type Error = Infallible;

    async fn enter(&mut self) -> Result<(), Infallible> {
        sleep(SECOND).await;
        self.0.add("open");
        Ok(())
    }

    async fn exit(&mut self, end: &End) {
        sleep(SECOND).await;
        self.0.add(format!("close: {end:?}"));
    }
}

#[test]
fn a_resource_is_left_on_every_way_out() {
    let log = Log::default();
    let (_, took, _) = run(async {
        let value = with(Door(log.clone()), async |door| {
            door.0.add("inside");
            7
        });
        assert_eq!(value.await, Ok(7));
        let late = timeout(2 * SECOND, with(Door(log.clone()), async |_| pending::<()>().await));
        assert_eq!(late.await, Err(Elapsed));
        let panics = with(Door(log.clone()), async |_| panics_after(0, "inside").await);
        let panic = AssertUnwindSafe(panics).catch_unwind().await;
        assert!(panic.is_err());
        let never_in = timeout(SECOND / 2, with(Door(log.clone()), async |_| ()));
        assert_eq!(never_in.await, Err(Elapsed));
    });
    assert_eq!(
        log.take(),
        [
            "open",
            "inside",
            "close: Value",
            "open",
            "close: Cancelled(Reason(\"deadline\"))",
            "open",
            "close: Panicked",
        ]
    );
    assert_eq!(took, 2 * SECOND + 3 * SECOND + 2 * SECOND + SECOND / 2);
}

// === Checkpoints ===

#[test]
fn a_checkpoint_lets_others_run_and_can_be_cancelled() {
    let steps = Rc::new(Cell::new(0));
    let (error, ..) = run(async {
        let counts = steps.clone();
        let mut task: Task<()> = create_task(async move {
            loop {
                checkpoint_if_cancelled().await;
                counts.set(counts.get() + 1);
                if counts.get() == 10 {
                    current_task().unwrap().cancel("ten");
                }
                if counts.get() % 3 == 0 {
                    checkpoint().await;
                }
            }
        });
        yield_now().await;
        assert_eq!(steps.get(), 3, "up to its first checkpoint");
        task.join().await.unwrap_err()
    });
    assert_eq!(error.reason().text(), Some("ten"));
    assert_eq!(steps.get(), 10);
}

#[test]
fn a_gather_that_gave_its_values_says_so_when_it_is_awaited_again() {
    run(async {
        let mut many = gather(vec![ready(1), ready(2)]);
        assert_eq!((&mut many).await, [1, 2]);
        let panic = AssertUnwindSafe(&mut many).catch_unwind().await.unwrap_err();
        assert!(panic.downcast_ref::<&str>().unwrap().contains("`gather` was awaited again"));
    });
}
