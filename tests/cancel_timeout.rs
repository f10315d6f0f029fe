//! Timeouts as scopes, on the virtual clock.

use evenloop::cancel::{CancelScope, catch_cancel};
use evenloop::time::Elapsed;
use evenloop::{create_task, current_task, sleep, timeout, timeout_at, yield_now};
use evenloop_tests::{SECOND, on_virtual_clock as run};
use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

#[test]
fn who_catches_cleans_up_before_the_timeout_reports() {
    let (end, took) = run(timeout(SECOND, async {
        let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
        assert_eq!(cancelled.reason().text(), Some("deadline"));
        sleep(2 * SECOND).await;
        cancelled.resume().await;
    }));
    assert_eq!((end, took), (Err(Elapsed), 3 * SECOND));
}

#[test]
fn a_value_given_all_the_same_wins_and_the_timeout_has_expired() {
    let ((end, expired), took) = run(async {
        let mut limited = pin!(timeout(SECOND, async {
            catch_cancel(pending::<()>()).await.unwrap_err().absorb();
            sleep(SECOND).await;
            "saved"
        }));
        let end = limited.as_mut().await;
        (end, limited.expired())
    });
    assert_eq!((end, expired, took), (Ok("saved"), true, 2 * SECOND));
}

#[test]
fn of_nested_timeouts_with_one_deadline_only_the_outer_reports() {
    for catches in [false, true] {
        let expired = Rc::new(RefCell::new(false));
        let (end, took) = run(timeout(SECOND, {
            let expired = expired.clone();
            async move {
                let mut inner = Box::pin(timeout(SECOND, async move {
                    if catches {
                        catch_cancel(pending::<()>()).await.unwrap_err().resume().await;
                    }
                    pending::<()>().await
                }));
                poll_fn(move |cx| {
                    let polled = inner.as_mut().poll(cx);
                    *expired.borrow_mut() = inner.expired();
                    polled
                })
                .await
                .expect_err("pending for ever");
                unreachable!("the inner one reported")
            }
        }));
        assert_eq!((end, took), (Err::<(), _>(Elapsed), SECOND));
        assert!(*expired.borrow(), "its deadline was met as well");
    }
}

#[test]
fn an_inner_timeout_that_strikes_first_reports_for_itself_alone() {
    let (end, took) = run(timeout(3 * SECOND, async {
        let inner = timeout(SECOND, pending::<()>()).await;
        sleep(SECOND).await;
        inner
    }));
    assert_eq!((end, took), (Ok(Err(Elapsed)), 2 * SECOND));
}

/// cpython#134471: a timeout of zero that is entered with a cancellation pending ate that one.
#[test]
fn a_timeout_of_zero_leaves_another_cancellation_alone() {
    let (error, _) = run(async {
        let mut task = create_task(async {
            current_task().unwrap().cancel("unrelated");
            let end = timeout(Duration::ZERO, pending::<()>()).await;
            unreachable!("{end:?}");
        });
        task.join().await.unwrap_err()
    });
    assert_eq!(error.reason().text(), Some("unrelated"));

    // Also when both are delivered at once, and one is answered for both.
    let (error, _) = run(async {
        let mut task = create_task(async {
            let caught = timeout(SECOND, catch_cancel(pending::<()>())).await;
            drop(caught);
            pending::<()>().await;
        });
        yield_now().await;
        let mut wakes = pin!(sleep(SECOND));
        poll_fn(|cx| {
            let polled = wakes.as_mut().poll(cx);
            if polled.is_ready() {
                task.cancel("unrelated");
            }
            polled
        })
        .await;
        task.join().await.unwrap_err()
    });
    assert_eq!(error.reason().text(), Some("unrelated"));
}

#[test]
fn an_outside_cancellation_before_the_deadline_is_no_timeout() {
    let (error, took) = run(async {
        let mut task = create_task(async {
            let end = timeout(2 * SECOND, pending::<()>()).await;
            unreachable!("{end:?}");
        });
        sleep(SECOND).await;
        task.cancel("outside");
        task.join().await.unwrap_err()
    });
    assert_eq!((error.reason().text(), took), (Some("outside"), SECOND));
}

#[test]
fn an_inner_timeout_reports_when_the_outer_cancellation_is_absorbed_after_all() {
    let (end, took) = run(async {
        let scope = CancelScope::new();
        let leaves = timeout(SECOND, async {
            let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
            sleep(2 * SECOND).await;
            cancelled.resume().await;
        });
        let absorbs = async {
            drop(catch_cancel(pending::<()>()).await);
            let second = catch_cancel(pending::<()>()).await.unwrap_err();
            sleep(SECOND).await;
            second.absorb();
        };
        let body = scope.run(futures::future::join(leaves, absorbs));
        let cancels = async {
            yield_now().await;
            scope.cancel("outer");
        };
        futures::future::join(body, cancels).await.0.unwrap().0
    });
    // The timeout strikes the clean-up after one second: the request is passed on, and absorbed a second later.
    assert_eq!((end, took), (Err(Elapsed), 2 * SECOND));
}

#[test]
fn a_timeout_around_an_awaited_task_cancels_it_and_waits_for_its_clean_up() {
    let log = Rc::new(RefCell::new(Vec::new()));
    let (end, took) = run(async {
        let task = create_task({
            let log = log.clone();
            async move {
                let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
                sleep(SECOND).await;
                log.borrow_mut().push(cancelled.to_string());
                cancelled.resume().await;
            }
        });
        timeout(SECOND, task).await
    });
    assert_eq!((end, took), (Err(Elapsed), 2 * SECOND));
    assert_eq!(*log.borrow(), ["cancelled: deadline"]);
}

#[test]
fn a_moved_deadline_is_the_one_that_counts() {
    let (end, took) = run(async {
        let mut limited = pin!(timeout(SECOND, sleep(3 * SECOND)));
        assert!(poll_fn(|cx| Poll::Ready(limited.as_mut().poll(cx))).await.is_pending());
        let later = limited.when().unwrap() + 5 * SECOND;
        limited.as_mut().reschedule(later);
        let first = limited.await;
        let second = timeout_at(None, sleep(SECOND)).await;
        (first, second)
    });
    assert_eq!((end, took), ((Ok(()), Ok(())), 4 * SECOND));
}

#[test]
fn a_deadline_that_was_met_cannot_be_moved() {
    let (end, took) = run(async {
        let mut limited = pin!(timeout(SECOND, async {
            let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
            sleep(SECOND).await;
            cancelled.resume().await;
        }));
        let when = limited.when();
        assert!(timeout(SECOND + SECOND / 2, limited.as_mut()).await.is_err(), "the clean-up takes longer");
        assert!(limited.expired());
        for deadline in [when.map(|when| when + 9 * SECOND), when, None] {
            limited.as_mut().reschedule(deadline);
            assert_eq!((limited.when(), limited.expired()), (when, true));
        }
        let end = limited.as_mut().await;
        limited.as_mut().reschedule(None);
        assert_eq!(limited.when(), when);
        end
    });
    assert_eq!((end, took), (Err(Elapsed), 2 * SECOND));
}

#[test]
fn an_ended_timeout_has_no_deadline_to_move() {
    run(async {
        let mut limited = pin!(timeout(SECOND, async {}));
        let when = limited.when();
        assert_eq!(limited.as_mut().await, Ok(()));
        limited.as_mut().reschedule(None);
        assert_eq!((limited.when(), limited.expired()), (when, false));
    });
}

#[test]
fn ten_thousand_nested_timeouts() {
    let deep = || {
        let (end, took) = run(async {
            let mut nested: std::pin::Pin<Box<dyn Future<Output = Result<(), Elapsed>>>> =
                Box::pin(timeout(SECOND, pending()));
            for _ in 1..10_000 {
                let inner = nested;
                nested = Box::pin(timeout(SECOND, async { _ = inner.await }));
            }
            nested.await
        });
        assert_eq!((end, took), (Err(Elapsed), SECOND));
    };
    std::thread::Builder::new().stack_size(256 << 20).spawn(deep).unwrap().join().unwrap();
}
