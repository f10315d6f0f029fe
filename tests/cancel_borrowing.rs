//! A group whose children borrow: the rules of a task group, without tasks.

use evenloop::cancel::{CancelScope, catch_cancel};
use evenloop::time::Elapsed;
use evenloop::{
    BorrowingGroup, ChildError, GroupError, all_tasks, create_task, finally, sleep, timeout, yield_now,
};
use evenloop_tests::{Log, SECOND, on_virtual_clock as run, poll};
use futures::FutureExt;
use futures::future::join_all;
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

fn fail_with(words: &'static str) -> Result<(), String> {
    std::panic::panic_any(words)
}

#[test]
fn children_borrow_run_concurrently_and_give_their_values() {
    let (sum, took) = run(async {
        let words = [String::from("one"), String::from("three")];
        let seen = Cell::new(0);
        let end = BorrowingGroup::run(async |group| {
            let mut lengths = Vec::new();
            for word in &words {
                lengths.push(group.start_soon(async {
                    sleep(word.len() as u32 * SECOND).await;
                    seen.set(seen.get() + 1);
                    Ok::<_, String>(word.len())
                }));
            }
            assert_eq!((group.len(), all_tasks().len()), (2, 1), "they are no tasks");
            let mut sum = 0;
            for length in &mut lengths {
                sum += length.join().await.unwrap();
                assert!(length.done());
            }
            Ok(sum)
        })
        .await;
        assert_eq!(seen.get(), 2);
        end.unwrap()
    });
    assert_eq!((sum, took), (8, 5 * SECOND));
}

#[test]
fn the_block_waits_for_children_of_children() {
    let log = Log::default();
    let ((), took) = run(async {
        BorrowingGroup::run(async |group| {
            let inner = group.clone();
            group.start_soon(async {
                sleep(SECOND).await;
                let log = &log;
                inner.start_soon(async move {
                    sleep(SECOND).await;
                    log.add("grandchild");
                    Ok(())
                });
                log.add("child");
                drop(inner);
                Ok::<_, String>(())
            });
            log.add("body");
            Ok(())
        })
        .await
        .unwrap();
    });
    assert_eq!((log.take(), took), (vec!["body".into(), "child".into(), "grandchild".into()], 2 * SECOND));
}

#[test]
fn a_failing_child_cancels_siblings_and_body_and_all_errors_come_together() {
    let log = Log::default();
    let (error, took) = run(async {
        let end: Result<(), GroupError<String>> = BorrowingGroup::run(async |group| {
            group.start_soon(async {
                sleep(SECOND).await;
                Err::<(), _>("first".to_owned())
            });
            group.start_soon(async {
                let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
                sleep(SECOND).await;
                log.add(&cancelled);
                Err::<(), _>("in the clean-up".to_owned())
            });
            let body = finally(pending::<()>(), async { log.add("body") });
            body.await;
            Ok(())
        })
        .await;
        end.unwrap_err()
    });
    assert_eq!((error.errors, took), (vec!["first".to_owned(), "in the clean-up".to_owned()], 2 * SECOND));
    assert_eq!(log.take(), ["body", "cancelled: a task of the group failed"]);
}

#[test]
fn an_outside_cancellation_goes_through_children_and_out_and_errors_win_over_it() {
    for fails in [false, true] {
        let log = Log::default();
        let (end, took) = run(timeout(SECOND, async {
            let end = BorrowingGroup::run(async |group| {
                group.start_soon(async {
                    let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
                    sleep(SECOND).await;
                    log.add("child");
                    if fails {
                        return Err::<(), _>("fails".to_owned());
                    }
                    match cancelled.resume().await {}
                });
                group.start_soon(pending::<Result<(), String>>());
                Ok(())
            })
            .await;
            log.add(format!("{:?}", end.map_err(|error| error.errors)));
            pending::<()>().await;
        }));
        assert_eq!((end, took), (Err(Elapsed), 2 * SECOND));
        let expected: &[&str] = if fails { &["child", "Err([\"fails\"])"] } else { &["child"] };
        assert_eq!(log.take(), expected);
    }
}

#[test]
fn cancel_ends_the_block_without_an_error_and_nobody_new_is_taken() {
    let (error, took) = run(async {
        let end: Result<u8, GroupError<String>> = BorrowingGroup::run(async |group| {
            group.start_soon(finally(pending::<Result<(), String>>(), sleep(SECOND)));
            yield_now().await;
            group.cancel("enough");
            group.cancel("twice is once");
            let mut late = group.start_soon(async { Ok(()) });
            let refused = late.join().await.unwrap_err();
            assert_eq!(refused, ChildError::Refused("the task group is shutting down"));
            assert_eq!(format!("{group:?}"), "BorrowingGroup [shutting down, children: 1, errors: 0]");
            pending().await
        })
        .await;
        end.unwrap_err()
    });
    assert!(error.is_cancelled());
    assert_eq!((error.reason().unwrap().text(), took), (Some("enough"), SECOND));
}

#[test]
fn one_child_that_is_cancelled_leaves_the_others_alone() {
    let ((), took) = run(async {
        BorrowingGroup::run(async |group| {
            let mut one = group.start_soon(pending::<Result<(), String>>());
            group.start_soon(async {
                sleep(2 * SECOND).await;
                Ok(())
            });
            sleep(SECOND).await;
            assert!(one.cancel("this one"));
            assert_eq!(one.join().await, Err(ChildError::Cancelled("this one".into())));
            assert!(!one.cancel("it is over"));
            Ok(())
        })
        .await
        .unwrap();
    });
    assert_eq!(took, 2 * SECOND);
}

#[test]
fn a_child_that_awaits_a_cancelled_task_is_cancelled_alone() {
    let (told, _) = run(async {
        BorrowingGroup::run(async |group: BorrowingGroup<'_, String>| {
            let mut child = group.start_soon(async {
                let gone = create_task(std::future::pending::<()>());
                gone.cancel("gone");
                gone.await;
                Ok(())
            });
            let mut other = group.start_soon(async {
                sleep(SECOND).await;
                Ok(1)
            });
            let ended = child.join().await.unwrap_err();
            Ok((ended.to_string(), other.join().await.unwrap()))
        })
        .await
        .unwrap()
    });
    assert_eq!(told, ("cancelled: gone".to_owned(), 1));
}

#[test]
fn a_panic_waits_for_everybody_and_goes_on() {
    let cleaned = Cell::new(false);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        run(async {
            let _ = BorrowingGroup::run(async |group| {
                group.start_soon(finally(pending::<Result<(), String>>(), async {
                    sleep(SECOND).await;
                    cleaned.set(true);
                }));
                group.start_soon(async {
                    sleep(SECOND).await;
                    fail_with("a child's")
                });
                Ok(())
            })
            .await;
        })
    }));
    assert_eq!(*panicked.unwrap_err().downcast::<&str>().unwrap(), "a child's");
    assert!(cleaned.get());
}

#[test]
fn a_group_that_is_dropped_drops_its_children_where_they_stand() {
    struct OnDrop<'a>(&'a Log, Option<BorrowingGroup<'a, String>>);
    impl Drop for OnDrop<'_> {
        fn drop(&mut self) {
            self.0.add("dropped");
            if let Some(group) = &self.1 {
                // A destructor that starts children: they are refused.
                drop(group.start_soon(pending::<Result<(), String>>()));
            }
        }
    }
    let log = Log::default();
    run(async {
        let mut group = Box::pin(BorrowingGroup::run(async |group| {
            let (group, log) = (&group, &log);
            for polled in [true, false] {
                let mine = group.clone();
                group.start_soon(async move {
                    let _drop = OnDrop(log, Some(mine));
                    pending::<()>().await;
                    Ok::<(), String>(())
                });
                if polled {
                    yield_now().await;
                    yield_now().await;
                }
            }
            pending::<Result<(), String>>().await
        }));
        let scope = CancelScope::new();
        // Polled three times, so that one child runs and the other waits to be taken over.
        for _ in 0..3 {
            assert!(futures::poll!(&mut group).is_pending());
        }
        drop(scope);
        drop(group);
    });
    assert_eq!(log.take(), ["dropped"], "the other one never began");
}

#[test]
fn whoever_joins_a_child_that_was_dropped_with_its_group_is_told() {
    let (ends, took) = run(async {
        let kept = RefCell::new(Vec::new());
        let mut group = Box::pin(BorrowingGroup::<String>::run(async |group| {
            kept.borrow_mut().push(group.start_soon(pending::<Result<(), _>>()));
            yield_now().await;
            kept.borrow_mut().push(group.start_soon(pending())); // it never ran
            pending().await
        }));
        for _ in 0..2 {
            let polled: Poll<Result<(), _>> = futures::poll!(group.as_mut());
            assert!(polled.is_pending());
            yield_now().await;
        }
        let mut children = kept.take();
        let joins = children.iter_mut().map(|child| timeout(SECOND, child.join()));
        let drops = async {
            sleep(SECOND / 2).await;
            drop(group);
        };
        futures::join!(join_all(joins), drops).0
    });
    let dropped = ChildError::Cancelled("the task group was dropped".into());
    assert_eq!(ends, [Ok(Err(dropped.clone())), Ok(Err(dropped))]);
    assert_eq!(took, SECOND / 2);
}

#[test]
fn ten_thousand_children_end_one_by_one() {
    let (count, took) = run(async {
        let count = Cell::new(0);
        let end: Result<(), GroupError<()>> = BorrowingGroup::run(async |group| {
            for n in 0..10_000 {
                let count = &count;
                group.start_soon(async move {
                    sleep(Duration::from_millis(n % 100)).await;
                    count.set(count.get() + 1);
                    Ok(())
                });
            }
            Ok(())
        })
        .await;
        end.unwrap();
        count.get()
    });
    assert_eq!((count, took), (10_000, Duration::from_millis(99)));
}

#[test]
fn it_may_sit_inside_a_task_of_a_loop() {
    let (sum, _) = run(async {
        let task = create_task(async {
            let numbers = vec![1, 2, 3];
            let sum = Cell::new(0);
            let end: Result<(), GroupError<()>> = BorrowingGroup::run(async |group| {
                for number in &numbers {
                    let sum = &sum;
                    group.start_soon(async move {
                        yield_now().await;
                        sum.set(sum.get() + number);
                        Ok(())
                    });
                }
                Ok(())
            })
            .await;
            end.unwrap();
            sum.get()
        });
        task.await
    });
    assert_eq!(sum, 6);
}

#[test]
fn a_child_that_never_ran_is_counted_until_its_future_is_dropped() {
    struct Looks(BorrowingGroup<'static, ()>, Rc<Cell<usize>>);
    impl Drop for Looks {
        fn drop(&mut self) {
            self.1.set(self.0.len());
        }
    }
    let seen = Rc::new(Cell::new(0));
    let looks = seen.clone();
    let group = BorrowingGroup::run(async move |group: BorrowingGroup<'static, ()>| {
        let looks = Looks(group.clone(), looks);
        group.start_soon(async move {
            let _looks = looks;
            Ok(())
        });
        pending::<Result<(), ()>>().await
    });
    assert!(group.now_or_never().is_none());
    assert_eq!(seen.get(), 1);
}

/// Showed as an abort of the process.
#[test]
fn a_waker_that_panics_for_the_body_and_again_for_a_child_panics_once() {
    /// Of no size, so that what is leaked is nothing.
    struct Payload;
    impl Drop for Payload {
        fn drop(&mut self) {
            std::panic::panic_any(Self);
        }
    }
    #[derive(Default)]
    struct Wild(AtomicBool);
    impl Wake for Wild {
        fn wake(self: Arc<Self>) {
            if self.0.load(Ordering::Relaxed) {
                std::panic::panic_any(Payload);
            }
        }
    }
    let handle = RefCell::new(None);
    let mut run = Box::pin(BorrowingGroup::run(async |group| {
        group.start_soon(pending::<Result<(), String>>());
        handle.replace(Some(group));
        pending::<Result<(), String>>().await
    }));
    let (wild, waker) = (Arc::new(Wild::default()), Waker::noop());
    assert!(poll(&mut run, waker).is_pending());
    for _ in 0..3 {
        assert!(poll(&mut run, &wild.clone().into()).is_pending());
    }
    let group = handle.take().expect("the body has run");
    wild.0.store(true, Ordering::Relaxed);
    let cancelled = catch_unwind(AssertUnwindSafe(|| group.cancel("no longer wanted")));
    std::mem::forget(cancelled.expect_err("the body's goes on"));
    assert!(poll(&mut run, waker).is_ready(), "all were asked");
}
