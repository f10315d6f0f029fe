//! Destructors that panic when the future they belong to is cancelled, or over: no clean-up is skipped, no child outlives its
//! block, and the panic comes out at the end.

use evenloop::cancel::catch_cancel;
use evenloop::{
    BorrowingGroup, ChildError, End, EventLoop, Resource, TaskGroup, all_tasks, create_task, finally, sleep,
    timeout, with, yield_now,
};
use evenloop_tests::{Log, SECOND, on_virtual_clock as run};
use futures::FutureExt;
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::panic::AssertUnwindSafe;
use std::task::Poll;

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::panic_any("the destructor")
    }
}

async fn armed<T>(body: impl Future<Output = T>) -> T {
    let _bomb = Bomb;
    body.await
}

/// Cleans up for a second, passes on.
async fn cleans_up(log: &Log) -> Result<(), &'static str> {
    let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
    sleep(SECOND).await;
    log.add("clean");
    match cancelled.resume().await {}
}

fn words(panic: Box<dyn std::any::Any + Send>) -> &'static str {
    panic.downcast_ref::<&str>().copied().unwrap_or("something else")
}

/// Says how its body ended.
struct Door(Log);

impl Resource for Door {
    type Error = Infallible;
    async fn enter(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
    async fn exit(&mut self, end: &End) {
        sleep(SECOND).await;
        self.0.add(format!("{end:?}"));
    }
}

#[test]
fn a_clean_up_is_awaited_before_the_panic_goes_on_and_the_cancellation_after_it() {
    let log = Log::default();
    let (end, took) = run(async {
        let clean = log.clone();
        let mut task = create_task(async move {
            let clean_up = async {
                sleep(SECOND).await;
                clean.add("clean");
            };
            let end = AssertUnwindSafe(finally(armed(pending::<()>()), clean_up)).catch_unwind().await;
            clean.add(words(end.unwrap_err()));
            sleep(SECOND).await;
            clean.add("not reached");
        });
        yield_now().await;
        task.cancel("enough");
        task.join().await
    });
    assert!(end.unwrap_err().is_cancelled(), "the panic was caught, and nobody absorbed the request");
    assert_eq!((log.take(), took), (vec!["clean".to_owned(), "the destructor".to_owned()], SECOND));
}

#[test]
fn what_a_body_holds_is_dropped_before_its_clean_up_begins() {
    struct Held(Log);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.add("dropped");
        }
    }
    for end in ["value", "panic", "cancelled"] {
        let log = Log::default();
        let (held, clean) = (Held(log.clone()), log.clone());
        let mut polls = 0;
        // A future that holds on to it also when it is done.
        let body = poll_fn(move |cx| {
            let _held = &held;
            polls += 1;
            match (polls, end) {
                (1, _) => cx.waker().wake_by_ref(),
                (_, "value") => return Poll::Ready(()),
                (_, "panic") => panic!("test"),
                _ => {}
            }
            Poll::Pending
        });
        let (is_ok, _) = run(async move {
            let mut task = create_task(finally(body, async move { clean.add("clean") }));
            yield_now().await;
            if end == "cancelled" {
                task.cancel("enough");
            }
            task.join().await.is_ok()
        });
        assert_eq!(
            (is_ok, log.take()),
            (end == "value", vec!["dropped".to_owned(), "clean".to_owned()]),
            "{end}"
        );
    }
}

#[test]
fn a_panic_of_what_was_left_when_the_value_came_waits_for_the_clean_up() {
    let log = Log::default();
    let (end, _) = run(async {
        let bomb = Bomb;
        let ready = poll_fn(move |_| {
            let _held = &bomb;
            Poll::Ready(())
        });
        AssertUnwindSafe(finally(ready, async { log.add("clean") })).catch_unwind().await
    });
    assert_eq!((words(end.unwrap_err()), log.take()), ("the destructor", vec!["clean".to_owned()]));
}

#[test]
fn a_resource_is_left() {
    let log = Log::default();
    let (end, took) = run(async {
        let door = Door(log.clone());
        let mut task = create_task(with(door, async |_| armed(pending::<()>()).await));
        yield_now().await;
        task.cancel("enough");
        task.join().await
    });
    assert_eq!(words(end.unwrap_err().into_panic().unwrap()), "the destructor");
    assert_eq!((log.take(), took), (vec!["Panicked".to_owned()], SECOND));
}

#[test]
fn no_child_outlives_a_group_whose_body_panics_as_it_is_dropped() {
    for outside in [false, true] {
        let log = Log::default();
        let (end, took) = run(async {
            let (child, out) = (log.clone(), log.clone());
            let mut task = create_task(async move {
                let block = TaskGroup::run(async |group| {
                    group.create_task(async move { cleans_up(&child).await });
                    if !outside {
                        group.create_task(async { Err::<(), _>("failed") });
                    }
                    armed(pending()).await
                });
                let end = AssertUnwindSafe(block).catch_unwind().await;
                out.add(words(end.map(|end: Result<(), _>| drop(end)).unwrap_err()));
                out.add(format!("tasks: {}", all_tasks().len()));
            });
            yield_now().await;
            yield_now().await;
            if outside {
                task.cancel("outside");
            }
            task.join().await
        });
        assert!(end.is_ok(), "it ends without a suspension");
        assert_eq!((log.take().join(", "), took), ("clean, the destructor, tasks: 2".into(), SECOND));
    }
}

#[test]
fn a_borrowing_child_that_panics_as_it_is_dropped_ends_its_siblings_with_their_clean_up() {
    let (end, took) = run(async {
        let log = Log::default();
        let kept = RefCell::new(None);
        let block = BorrowingGroup::run(async |group| {
            group.start_soon(cleans_up(&log));
            let child = group.start_soon::<_, ()>(armed(pending()));
            yield_now().await;
            child.cancel("alone");
            kept.replace(Some(child));
            pending::<Result<(), _>>().await
        });
        let end = AssertUnwindSafe(block).catch_unwind().await;
        let mut child = kept.take().unwrap();
        let joined = timeout(SECOND, child.join()).await;
        (words(end.map(drop).unwrap_err()), log.take(), joined)
    });
    assert_eq!(end, ("the destructor", vec!["clean".to_owned()], Ok(Err(ChildError::Failed))));
    assert_eq!(took, SECOND);
}

#[test]
fn a_body_that_is_dropped_where_it_stands_hides_no_panic() {
    let (end, _) = run(async {
        let mut block = Box::pin(finally(armed(pending::<()>()), async {}));
        assert!(futures::poll!(block.as_mut()).is_pending());
        std::panic::catch_unwind(AssertUnwindSafe(|| drop(block)))
    });
    assert_eq!(words(end.unwrap_err()), "the destructor");
}

/// Panics in its first poll, and again when it is dropped.
fn panics_twice() -> impl Future<Output = ()> {
    let bomb = Bomb;
    poll_fn(move |_| {
        let _kept = &bomb;
        std::panic::panic_any("the body")
    })
}

#[test]
fn of_a_body_and_its_destructor_the_body_panics_and_the_other_is_reported() {
    let log = Log::default();
    let told = log.clone();
    let event_loop = EventLoop::new();
    event_loop.set_unhandled_hook(move |unhandled| told.add(unhandled.panic_message().unwrap_or("")));
    let end = event_loop.run_until_complete(async {
        let end = AssertUnwindSafe(finally(panics_twice(), async {})).catch_unwind().await;
        yield_now().await;
        words(end.unwrap_err())
    });
    assert_eq!((end, log.take()), ("the body", vec!["the destructor".to_owned()]));
}
