//! Tasks that are cancelled: requests, clean-up, awaiting, and the end of a run. On the virtual clock.

use evenloop::cancel::{CancelScope, catch_cancel, shielded};
use evenloop::time::VirtualClock;
use evenloop::{
    EventLoop, Runner, Task, TaskInfo, all_tasks, create_task, current_statistics, current_task, sleep,
    yield_now,
};
use evenloop_tests::{Log, SECOND};
use futures::FutureExt;
use futures::future::{LocalBoxFuture, join_all};
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

fn run<T>(main: impl Future<Output = T>) -> T {
    evenloop::entry::test(true, main)
}

/// Catches, cleans up for a second, passes on.
async fn cleans_up(log: Log, name: &'static str) {
    let caught = catch_cancel(pending::<()>()).await;
    let cancelled = caught.unwrap_err();
    sleep(SECOND).await;
    log.add(format!("{name} clean: {cancelled}"));
    cancelled.resume().await;
}

#[test]
fn a_cancelled_task_cleans_up_and_ends_with_the_reason() {
    let log = Log::default();
    let error = run(async {
        let mut task = create_task(cleans_up(log.clone(), "task"));
        yield_now().await;
        assert!(task.cancel("enough") && task.cancelling() == 1);
        let error = task.join().await.unwrap_err();
        assert!(!task.cancel("too late"));
        error
    });
    assert!(error.is_cancelled());
    assert_eq!(error.reason().text(), Some("enough"));
    assert_eq!(log.take(), ["task clean: cancelled: enough"]);
}

#[test]
fn cancelled_and_its_count_are_known_until_the_outcome_is_taken() {
    run(async {
        let task = create_task(async {
            catch_cancel(pending::<()>()).await.unwrap_err().absorb();
            sleep(SECOND).await;
            7
        });
        yield_now().await;
        task.cancel("absorbed");
        yield_now().await;
        assert_eq!((task.cancelling(), task.cancelled()), (1, false), "the count is what was asked");
        assert_eq!((task.uncancel(), task.cancelling()), (0, 0));
        assert_eq!(task.await, 7);

        let mut task = create_task(pending::<()>());
        task.cancel("now");
        yield_now().await;
        assert!(task.cancelled());
        task.result().unwrap().unwrap_err();
        assert!(!task.cancelled());
    });
}

#[test]
fn uncancel_before_the_next_turn_withdraws_the_request() {
    run(async {
        let task = create_task(async {
            sleep(SECOND).await;
            "undisturbed"
        });
        yield_now().await;
        task.cancel("oops");
        task.uncancel();
        assert_eq!(task.await, "undisturbed");
    });
}

#[test]
fn the_open_requests_of_scopes_inside_count() {
    run(async {
        let scope = CancelScope::new();
        let inner = scope.clone();
        let task = create_task(async move {
            let cleans = async {
                let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
                let _ = catch_cancel(sleep(SECOND)).await;
                drop(cancelled);
                pending::<()>().await;
            };
            inner.run(cleans).await.unwrap_err()
        });
        yield_now().await;
        scope.cancel("scope");
        yield_now().await;
        yield_now().await;
        assert_eq!(task.cancelling(), 1);
        assert_eq!(task.await.text(), Some("scope"));
    });
}

#[test]
fn a_task_may_cancel_itself() {
    run(async {
        let mut task = create_task(async {
            current_task().unwrap().cancel("myself");
            let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
            sleep(SECOND).await;
            cancelled.resume().await;
        });
        assert_eq!(task.join().await.unwrap_err().reason().text(), Some("myself"));
        let mut task = create_task(async { current_task().unwrap().cancel("myself") });
        assert!(task.join().await.is_err(), "nobody heard it, so the value is dropped");
    });
}

#[test]
fn order_of_a_cancellation_to_the_pass() {
    let log = Log::default();
    let event_loop = EventLoop::new();
    let pass = |log: &Log| {
        event_loop.run_once(Some(Duration::ZERO));
        log.add("pass");
    };
    let task = event_loop.create_task({
        let log = log.clone();
        async move {
            let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
            log.add("caught");
            yield_now().await;
            log.add("cleaned");
            cancelled.resume().await;
        }
    });
    let waits = event_loop.create_task({
        let log = log.clone();
        async move {
            let mut task = task;
            log.add(task.join().await.unwrap_err());
        }
    });
    pass(&log);
    waits.cancel("why");
    log.take();
    // Handed in; caught; cleaned, and over; the one who waits ends.
    for _ in 0..4 {
        pass(&log);
    }
    assert_eq!(log.take(), ["pass", "caught", "pass", "cleaned", "pass", "pass"]);
    assert!(waits.cancelled());
}

#[test]
fn a_task_that_has_something_and_is_cancelled_before_its_turn_ends_cancelled() {
    let event_loop = EventLoop::new();
    let (sender, receiver) = evenloop::sync::oneshot::channel();
    let went_on = Rc::new(Cell::new(false));
    let notes = went_on.clone();
    let mut task = event_loop.create_task(async move {
        let received = receiver.await;
        notes.set(true);
        received
    });
    event_loop.run_once(Some(Duration::ZERO));
    sender.send(7).unwrap(); // woken with it
    assert!(task.cancel("never mind"));
    event_loop.run_once(Some(Duration::ZERO));
    let error = task.result().expect("it is over").unwrap_err();
    assert_eq!(error.reason().text(), Some("never mind"));
    assert!(!went_on.get(), "the value is lost");
}

// === Awaiting ===

#[test]
fn who_awaits_a_task_cancels_it_and_waits_for_its_clean_up() {
    let log = Log::default();
    run(async {
        let inner = create_task(cleans_up(log.clone(), "inner"));
        let mut outer = create_task({
            let log = log.clone();
            async move {
                let end = catch_cancel(inner).await;
                log.add("outer");
                end.unwrap_err().resume().await;
            }
        });
        yield_now().await;
        yield_now().await;
        outer.cancel("through");
        assert!(outer.join().await.unwrap_err().is_cancelled());
    });
    assert_eq!(log.take(), ["inner clean: cancelled: through", "outer"]);
}

/// A set of futures ends its poll behind two that woke themselves; who came after them was skipped in that turn, and dropped.
#[test]
fn a_clean_up_behind_branches_that_yield_is_not_skipped() {
    let log = Log::default();
    run(async {
        let mut all: Vec<LocalBoxFuture<'_, ()>> = Vec::new();
        for _ in 0..5 {
            all.push(Box::pin(async {
                for _ in 0..100 {
                    yield_now().await;
                }
            }));
        }
        all.push(Box::pin(cleans_up(log.clone(), "branch")));
        let shielded_log = log.clone();
        all.push(Box::pin(shielded(async move {
            sleep(SECOND * 2).await;
            shielded_log.add("shielded");
        })));
        all.resize_with(40, || Box::pin(pending()));
        let mut task = create_task(async move { drop(join_all(all).await) });
        for _ in 0..5 {
            yield_now().await;
        }
        task.cancel("enough");
        assert!(task.join().await.unwrap_err().is_cancelled());
    });
    assert_eq!(log.take(), ["branch clean: cancelled: enough", "shielded"]);
}

#[test]
fn a_task_that_gives_a_value_all_the_same_ends_the_cancellation() {
    run(async {
        let inner = create_task(async {
            catch_cancel(pending::<()>()).await.unwrap_err().absorb();
            "saved"
        });
        let outer = create_task(inner);
        yield_now().await;
        yield_now().await;
        outer.cancel("why");
        assert_eq!(outer.await, "saved");
    });
}

#[test]
fn a_task_that_panics_when_it_is_cancelled_ends_no_cancellation() {
    let log = Log::default();
    run(async {
        let theirs = log.clone();
        let mut outer = create_task(async move {
            let inner = create_task(async {
                let _cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
                panic!("in the clean-up");
            });
            let panic = AssertUnwindSafe(inner).catch_unwind().await.unwrap_err();
            theirs.add(panic.downcast_ref::<&str>().unwrap());
            pending::<()>().await;
        });
        yield_now().await;
        yield_now().await;
        outer.cancel("outside");
        log.add(outer.join().await.unwrap_err());
    });
    assert_eq!(log.take(), ["in the clean-up", "the task was cancelled: outside"]);
}

#[test]
fn a_task_that_was_done_already_keeps_its_value_and_the_cancellation_goes_on() {
    let event_loop = EventLoop::new();
    let pass = || event_loop.run_once(Some(Duration::ZERO));
    let inner = Rc::new(RefCell::new(Some(event_loop.create_task(async {
        yield_now().await;
        "value"
    }))));
    let outer = event_loop.create_task({
        let inner = inner.clone();
        async move {
            let mut task = inner.take().unwrap();
            let caught = catch_cancel(async { (&mut task).await }).await;
            inner.replace(Some(task));
            caught.unwrap_err().resume().await;
        }
    });
    pass();
    pass(); // the inner task ends, and has woken the outer one for the next pass
    outer.cancel("just then");
    pass();
    pass();
    assert!(outer.cancelled());
    assert!(matches!(inner.take().unwrap().result(), Some(Ok("value"))));
}

#[test]
fn a_second_cancellation_is_handed_in_too() {
    let log = Log::default();
    run(async {
        let inner = create_task({
            let log = log.clone();
            async move {
                let first = catch_cancel(pending::<()>()).await.unwrap_err();
                let second = catch_cancel(pending::<()>()).await.unwrap_err();
                log.add(&first);
                log.add(&second);
                second.resume().await;
            }
        });
        let mut outer = create_task(inner);
        yield_now().await;
        yield_now().await;
        outer.cancel("one");
        sleep(SECOND).await;
        outer.cancel("two");
        assert!(outer.join().await.is_err());
    });
    assert_eq!(log.take(), ["cancelled: one", "cancelled: two"]);
}

/// Each handed the cancellation of the other back to it, as another one, in every pass.
#[test]
fn tasks_that_await_each_other_hand_a_cancellation_round_once() {
    run(async {
        let slot: Rc<RefCell<Option<Task<()>>>> = Rc::default();
        let one = create_task({
            let slot = slot.clone();
            async move {
                yield_now().await;
                let other = slot.borrow_mut().take().unwrap();
                other.await
            }
        });
        let first = one.id();
        slot.replace(Some(create_task(one)));
        for _ in 0..5 {
            yield_now().await;
        }
        let find = |task: &TaskInfo| task.id() == first;
        assert!(all_tasks().into_iter().find(find).unwrap().cancel("enough"));
        for _ in 0..10 {
            yield_now().await;
        }
        assert_eq!(current_statistics().unwrap().ready, 0, "nobody but this task runs");
    });
}

#[test]
fn dropping_an_await_leaves_the_task_running() {
    run(async {
        let mut task = create_task(async {
            sleep(SECOND).await;
            5
        });
        let scope = CancelScope::new();
        let mut waits = Box::pin(scope.run(&mut task));
        assert!(futures::poll!(waits.as_mut()).is_pending());
        drop(waits);
        assert_eq!(task.await, 5);
    });
}

#[test]
fn a_task_cannot_await_itself() {
    let slot: Rc<RefCell<Option<Task<()>>>> = Rc::default();
    run(async {
        let inside = slot.clone();
        let task = create_task(async move {
            let me = inside.take().unwrap();
            me.await;
        });
        slot.replace(Some(task));
        yield_now().await;
        yield_now().await;
        assert_eq!(all_tasks().len(), 1);
    });
}

// === The end of a run ===

#[test]
fn tasks_that_are_left_may_clean_up_with_the_help_of_new_ones() {
    let log = Log::default();
    let clock = VirtualClock::new();
    let runner = Runner::on_clock(clock.clone().into()).ignore_ctrl_c();
    runner
        .run(async {
            create_task(cleans_up(log.clone(), "first")).detach();
            create_task({
                let log = log.clone();
                async move {
                    let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
                    let helper = create_task(async { sleep(2 * SECOND).await });
                    helper.await;
                    log.add("with a helper");
                    cancelled.resume().await;
                }
            })
            .detach();
            yield_now().await;
        })
        .unwrap();
    assert_eq!(log.take(), ["first clean: cancelled: the event loop ends", "with a helper"]);
    assert_eq!(clock.elapsed(), 2 * SECOND);
    assert_eq!(runner.event_loop().tasks_alive(), 0);
}

#[test]
fn an_unending_clean_up_is_cut_off_and_reported() {
    let reports = Log::default();
    let clock = VirtualClock::new();
    let limit = Some(5 * SECOND);
    let runner = Runner::on_clock(clock.clone().into()).ignore_ctrl_c().clean_up_limit(limit);
    let told = reports.clone();
    runner.event_loop().set_unhandled_hook(move |unhandled| told.add(unhandled.message()));
    runner
        .run(async {
            create_task(async {
                loop {
                    if let Err(cancelled) = catch_cancel(sleep(SECOND)).await {
                        cancelled.absorb();
                    }
                }
            })
            .detach();
            create_task(async {
                let _cancelled = catch_cancel(pending::<()>()).await;
                panic!("in a clean-up");
            })
            .detach();
            yield_now().await;
        })
        .unwrap();
    assert_eq!(
        reports.take(),
        [
            "task panicked, and nobody awaits it",
            "task had not ended at the deadline for clean-up, and was cut off"
        ]
    );
    assert_eq!(clock.elapsed(), 5 * SECOND);
}

/// It kept a virtual clock from ever reaching the limit.
#[test]
fn a_clean_up_that_never_waits_is_cut_off_too() {
    let reports = Log::default();
    let runner = Runner::on_clock(VirtualClock::new().into()).ignore_ctrl_c();
    let told = reports.clone();
    runner.event_loop().set_unhandled_hook(move |unhandled| told.add(unhandled.message()));
    runner
        .run(async {
            create_task(async {
                loop {
                    if let Err(cancelled) = catch_cancel(yield_now()).await {
                        cancelled.absorb();
                    }
                }
            })
            .detach();
            yield_now().await;
        })
        .unwrap();
    assert_eq!(reports.take(), ["task had not ended at the deadline for clean-up, and was cut off"]);
    assert_eq!(runner.event_loop().tasks_alive(), 0);
}

#[test]
fn closing_a_loop_drops_tasks_whoever_catches() {
    let event_loop = EventLoop::new();
    let task = event_loop.create_task(async {
        loop {
            let _ = catch_cancel(pending::<()>()).await.map_err(|cancelled| cancelled.absorb());
        }
    });
    event_loop.run_once(Some(Duration::ZERO));
    event_loop.close();
    assert!(task.cancelled());
}
