//! One cancellation that is asked of several comes to each of them once, also where they await each other.
//!
//! In asyncio whoever is cancelled hands that on at once, and a task that is asked twice before its turn is told once. Here it is
//! handed on at the awaiting task's turn, when the awaited one may be in the midst of its clean-up, which a second request ends.

use evenloop::cancel::{CancelScope, Cancelled, catch_cancel};
use evenloop::{TaskGroup, create_task, gather, sleep, yield_now};
use evenloop_tests::{Log, SECOND, on_virtual_clock as run};
use std::future::pending;
use std::time::Duration;

/// Catches, cleans up for a second, and logs whether it was let.
async fn cleans_up(log: Log, name: &'static str) -> Cancelled {
    let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
    let let_be = catch_cancel(sleep(SECOND)).await.map_err(drop).is_ok();
    log.add(format!("{name} {}", if let_be { "clean" } else { "struck" }));
    cancelled
}

/// As a child that passes it on.
async fn child(log: Log, name: &'static str) -> Result<(), String> {
    match cleans_up(log, name).await.resume().await {}
}

async fn all_wait() {
    for _ in 0..4 {
        yield_now().await;
    }
}

#[test]
fn at_the_end_of_a_loop() {
    let log = Log::default();
    let ((), took) = run(async {
        let first = create_task(child(log.clone(), "first"));
        let mut last = create_task(first);
        for _ in 0..100 {
            last = create_task(last);
        }
        last.detach();
        for _ in 0..200 {
            yield_now().await;
        }
    });
    assert_eq!((log.take(), took), (vec!["first clean".to_owned()], SECOND));
}

#[test]
fn in_a_group_that_is_cancelled() {
    let log = Log::default();
    let (end, took) = run(TaskGroup::run(async |group| {
        let mut first = group.create_task(child(log.clone(), "first"));
        group.create_task(async move {
            let _ = first.join().await;
            Ok(())
        });
        let mut second = group.create_task(child(log.clone(), "second"));
        all_wait().await;
        group.cancel("enough");
        let _ = second.join().await;
        Ok(())
    }));
    assert!(end.is_err_and(|end| end.reason().is_some()));
    assert_eq!((log.take(), took), (vec!["first clean".to_owned(), "second clean".to_owned()], SECOND));
}

#[test]
fn in_a_group_whose_body_awaits_a_child_when_another_fails() {
    let log = Log::default();
    let (end, took) = run(TaskGroup::run(async |group| {
        let mut first = group.create_task(child(log.clone(), "first"));
        group.create_task(async {
            sleep(SECOND).await;
            Err::<(), _>("failed".to_owned())
        });
        let _ = first.join().await;
        Ok(())
    }));
    assert_eq!(end.unwrap_err().to_string(), "unhandled errors in a task group (1 error): failed");
    assert_eq!((log.take(), took), (vec!["first clean".to_owned()], 2 * SECOND));
}

#[test]
fn from_outside_of_a_group() {
    let log = Log::default();
    let (end, took) = run(async {
        let scope = CancelScope::new();
        let block = scope.run(TaskGroup::run(async |group| {
            let mut first = group.create_task(child(log.clone(), "first"));
            group.create_task(async move {
                let _ = first.join().await;
                Ok(())
            });
            let mut second = group.create_task(child(log.clone(), "second"));
            let _ = second.join().await; // hears of it first
            Ok(())
        }));
        let asks = async {
            all_wait().await;
            scope.cancel("enough")
        };
        futures::join!(block, asks)
    });
    assert!(end.0.is_err() && end.1);
    assert_eq!((log.take(), took), (vec!["second clean".to_owned(), "first clean".to_owned()], 2 * SECOND));
}

#[test]
fn while_a_child_starts() {
    let log = Log::default();
    let (end, took) = run(async {
        let scope = CancelScope::new();
        let block = scope.run(TaskGroup::run(async |group| {
            let _ = group.start::<(), _, _, _>(|_started| child(log.clone(), "first")).await;
            Ok(())
        }));
        let asks = async {
            all_wait().await;
            scope.cancel("enough")
        };
        futures::join!(block, asks)
    });
    assert!(end.0.is_err() && end.1);
    assert_eq!((log.take(), took), (vec!["first clean".to_owned()], SECOND));
}

#[test]
fn in_a_gather_whose_children_await_each_other() {
    let log = Log::default();
    let (end, took) = run(async {
        let scope = CancelScope::new();
        let block = scope.run(async {
            let mut first = create_task(child(log.clone(), "first"));
            let second = create_task(child(log.clone(), "second"));
            let awaits = async move {
                let _ = first.join().await;
            };
            let _ = gather((second, awaits)).await;
        });
        let asks = async {
            all_wait().await;
            scope.cancel("enough")
        };
        futures::join!(block, asks)
    });
    assert!(end.0.is_err() && end.1);
    assert_eq!((log.take(), took), (vec!["second clean".to_owned(), "first clean".to_owned()], SECOND));
}

/// One that has absorbed it by the time at which the other hands it on is not asked again.
#[test]
fn also_by_who_has_absorbed_it() {
    let log = Log::default();
    let (end, took) = run(TaskGroup::<String>::run(async |group| {
        let log = log.clone();
        let mut stays = group.create_task(async move {
            catch_cancel(pending::<()>()).await.unwrap_err().absorb();
            let let_be = catch_cancel(sleep(SECOND)).await.is_ok();
            log.add(if let_be { "stays" } else { "asked again" });
            Ok(7)
        });
        all_wait().await;
        group.cancel("enough");
        let _ = stays.join().await;
        Ok(())
    }));
    assert!(end.is_ok(), "the body came to its end, too");
    assert_eq!((log.take(), took), (vec!["stays".to_owned()], SECOND));
}

/// A second cancellation is another one.
#[test]
fn but_a_second_one_strikes_the_clean_up_of_the_first() {
    let log = Log::default();
    let (end, took) = run(TaskGroup::run(async |group| {
        let first = group.create_task(child(log.clone(), "first"));
        all_wait().await;
        group.cancel("enough");
        let _cancelled = catch_cancel(pending::<()>()).await;
        all_wait().await;
        first.cancel("quickly");
        Ok(())
    }));
    assert!(end.is_ok(), "the body caught it, and came to its end");
    assert_eq!((log.take(), took), (vec!["first struck".to_owned()], Duration::ZERO));
}
