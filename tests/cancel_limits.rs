//! Limits in time and in number: `wait_for`, `shielded_for`, `staggered_race`, and the deadline that code can ask for.

use evenloop::cancel::{CancelScope, catch_cancel, shielded, shielded_for};
use evenloop::time::{Elapsed, now};
use evenloop::{
    RaceEnd, create_task, finally, gather_all, sleep, staggered_race, timeout, timeout_at, wait_for,
    yield_now,
};
use evenloop_tests::{Log, SECOND, after, on_virtual_clock as run};
use std::cell::Cell;
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

// === wait_for ===

#[test]
fn wait_for_gives_the_value_in_time_and_without_a_limit() {
    let (values, took) = run(async {
        let limited = wait_for(create_task(after(2, "limited")), 3 * SECOND).await;
        let unlimited = wait_for(create_task(after(2, "unlimited")), None).await;
        (limited, unlimited)
    });
    assert_eq!((values, took), ((Ok("limited"), Ok("unlimited")), 4 * SECOND));
}

#[test]
fn at_the_limit_the_task_is_cancelled_and_its_clean_up_waited_for() {
    let log = Log::default();
    let (end, took) = run(async {
        let task = create_task({
            let log = log.clone();
            async move {
                let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
                sleep(5 * SECOND).await;
                log.add(&cancelled);
                cancelled.resume().await;
            }
        });
        wait_for(task, SECOND).await
    });
    assert_eq!((end, took), (Err(Elapsed), 6 * SECOND));
    assert_eq!(log.take(), ["cancelled: deadline"]);
}

#[test]
fn the_inner_task_may_have_the_last_word() {
    let ((value, panic), _) = run(async {
        let stubborn = create_task(async {
            let _ = catch_cancel(pending::<()>()).await.map_err(|cancelled| cancelled.absorb());
            after(1, "all the same").await
        });
        let value = wait_for(stubborn, SECOND).await;
        let mut panics = create_task(async {
            drop(catch_cancel(pending::<()>()).await);
            panic!("in the clean-up");
        });
        let waits = wait_for::<(), _>(&mut panics, SECOND);
        let panic = std::pin::pin!(futures::FutureExt::catch_unwind(AssertUnwindSafe(waits))).await;
        (value, *panic.unwrap_err().downcast::<&str>().unwrap())
    });
    assert_eq!((value, panic), (Ok("all the same"), "in the clean-up"));
}

#[test]
fn with_a_limit_of_zero_a_task_that_is_over_gives_its_value_and_another_never_starts() {
    let started = Rc::new(Cell::new(false));
    let (ends, took) = run(async {
        let mut done = create_task(async { 1 });
        yield_now().await;
        let done = wait_for(&mut done, Duration::ZERO).await;
        let fresh = create_task({
            let started = started.clone();
            async move { started.set(true) }
        });
        let fresh = wait_for(fresh, Duration::ZERO).await;
        let stubborn = create_task(async {
            let _ = catch_cancel(pending::<()>()).await.map_err(|cancelled| cancelled.absorb());
            2
        });
        yield_now().await;
        (done, fresh, wait_for(stubborn, Duration::ZERO).await)
    });
    assert_eq!((ends, took), ((Ok(1), Err(Elapsed), Ok(2)), Duration::ZERO));
    assert!(!started.get());
}

#[test]
fn an_outside_cancellation_of_wait_for_goes_in_and_comes_out_as_itself() {
    for limit in [None, Some(60 * SECOND)] {
        let log = Log::default();
        let (error, took) = run(async {
            let inner = create_task(finally(pending::<()>(), {
                let log = log.clone();
                async move {
                    sleep(SECOND).await;
                    log.add("inner");
                }
            }));
            let mut waiter = create_task(async move { wait_for(inner, limit).await });
            sleep(SECOND).await;
            waiter.cancel("outside");
            waiter.join().await.unwrap_err()
        });
        assert_eq!((error.reason().text(), took), (Some("outside"), 2 * SECOND));
        assert_eq!(log.take(), ["inner"]);
    }
}

#[test]
fn a_task_that_is_cancelled_by_others_cancels_who_waits_for_it_and_is_no_time_out() {
    let (error, _) = run(async {
        let inner = create_task(pending::<()>());
        let info = evenloop::all_tasks().pop().unwrap();
        let mut waiter = create_task(async move { wait_for(inner, 60 * SECOND).await });
        yield_now().await;
        info.cancel("by others");
        waiter.join().await.unwrap_err()
    });
    assert_eq!(error.reason().text(), Some("by others"));
}

// === shielded_for ===

#[test]
fn a_shielded_clean_up_is_undisturbed_up_to_its_limit() {
    for (takes, limit, ends) in [(3, 5, Ok(())), (5, 3, Err(Elapsed))] {
        let log = Log::default();
        let (error, took) = run(async {
            let mut task = create_task({
                let log = log.clone();
                async move {
                    let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
                    let end = shielded_for(limit * SECOND, sleep(takes * SECOND)).await;
                    log.add(format!("{end:?}"));
                    cancelled.resume().await;
                }
            });
            yield_now().await;
            task.cancel("once");
            sleep(SECOND).await;
            task.cancel("twice");
            task.join().await.unwrap_err()
        });
        assert_eq!(log.take(), [format!("{ends:?}")]);
        assert_eq!((error.is_cancelled(), took), (true, 3 * SECOND));
    }
}

#[test]
fn who_catches_inside_is_asked_at_the_limit() {
    let (ends, took) = run(async {
        let quick = shielded_for(SECOND, after(0, 1)).await;
        let told = shielded_for(SECOND, async {
            let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
            sleep(SECOND).await;
            cancelled.absorb();
            2
        });
        (quick, told.await)
    });
    assert_eq!((ends, took), ((Ok(1), Ok(2)), 2 * SECOND));
}

// === Deadlines ===

#[test]
fn code_knows_the_nearest_deadline_around_it() {
    run(async {
        let left = || CancelScope::nearest_deadline().map(|at| at.duration_since(now()).as_secs());
        assert_eq!(left(), None);
        let scope = CancelScope::with_deadline(now() + 30 * SECOND);
        let inside = scope.run(timeout(20 * SECOND, async {
            assert_eq!(left(), Some(20));
            let inner = timeout_at(now() + 40 * SECOND, async {
                assert_eq!(left(), Some(20), "the outer one is nearer");
                scope.set_deadline(Some(now() + 10 * SECOND));
                assert_eq!(left(), Some(10), "it was moved");
                yield_now().await;
                assert_eq!(left(), Some(10), "in every poll");
                assert_eq!(shielded(async { left() }).await, None, "a shield keeps it out");
                let child = create_task(async move { CancelScope::nearest_deadline().is_none() });
                assert!(child.await, "a task has none of whoever started it");
            });
            inner.await.unwrap();
            timeout_at(None, async { assert_eq!(left(), Some(10)) }).await.unwrap();
        }));
        inside.await.unwrap().unwrap();
        assert_eq!(left(), None);
    });
}

#[test]
fn asked_and_really_stopped_are_two_facts() {
    run(async {
        let (stopped, outlived, unasked) = (CancelScope::new(), CancelScope::new(), CancelScope::new());
        stopped.cancel("before it is entered");
        assert!(stopped.run(pending::<()>()).await.is_err());
        let outlives = outlived.run(async {
            outlived.cancel("while it runs");
            catch_cancel(pending::<()>()).await.unwrap_err().absorb();
        });
        outlives.await.unwrap();
        unasked.run(async {}).await.unwrap();
        let facts = |scope: &CancelScope| (scope.cancel_called(), scope.cancelled_caught());
        assert_eq!(
            [facts(&stopped), facts(&outlived), facts(&unasked)],
            [(true, true), (true, false), (false, false)]
        );
        assert!(!unasked.cancel("too late"));
        assert_eq!(facts(&unasked), (false, false));
    });
}

// === staggered_race ===

#[test]
fn the_first_success_cancels_the_others_and_waits_for_them() {
    let log = Log::default();
    let (race, took) = run(async {
        let attempts = [(9, Ok("slow")), (1, Err("refused")), (2, Ok("quick")), (1, Ok("never started"))];
        let attempts = attempts.map(|(seconds, end)| {
            let log = log.clone();
            async move {
                let clean_up = async {
                    sleep(SECOND).await;
                    log.add(format!("{end:?} is over"));
                };
                finally(after(seconds, end), shielded(clean_up)).await
            }
        });
        staggered_race(attempts, 3 * SECOND).await
    });
    // Started at 0, 3 and (a second and a clean-up later) 5; won at 7, after a clean-up at 8; the slow one is over at 9.
    assert_eq!(race.winner, Some((2, "quick")));
    assert_eq!(race.ends, [RaceEnd::Cancelled, RaceEnd::Failed("refused"), RaceEnd::Won]);
    assert_eq!(log.take(), [r#"Err("refused") is over"#, r#"Ok("quick") is over"#, r#"Ok("slow") is over"#]);
    assert_eq!(took, 9 * SECOND);
}

#[test]
fn a_race_that_nobody_wins_or_enters() {
    let ((lost, empty), took) = run(async {
        let attempts = [(2, "a"), (1, "b")].map(|(seconds, why)| after(seconds, Err::<(), _>(why)));
        let lost = staggered_race(attempts, None).await;
        let none: [std::future::Ready<Result<(), ()>>; 0] = [];
        (lost, staggered_race(none, SECOND).await)
    });
    assert_eq!((lost.winner, lost.ends), (None, vec![RaceEnd::Failed("a"), RaceEnd::Failed("b")]));
    assert_eq!((empty.winner, empty.ends, took), (None, vec![], 3 * SECOND));
}

#[test]
fn attempts_borrow_and_a_cancelled_race_lets_them_clean_up() {
    let cleaned = Cell::new(0);
    let (end, took) = run(async {
        let attempts = (0..3).map(|_| {
            let cleaned = &cleaned;
            finally(pending::<Result<(), ()>>(), async {
                sleep(SECOND).await;
                cleaned.set(cleaned.get() + 1);
            })
        });
        timeout(SECOND * 3 / 2, staggered_race(attempts, SECOND)).await.map(|_| ())
    });
    assert_eq!((end, took, cleaned.get()), (Err(Elapsed), SECOND * 5 / 2, 2));
}

#[test]
fn a_late_success_of_a_loser_is_dropped() {
    let (race, took) = run(async {
        let stubborn = async {
            catch_cancel(pending::<()>()).await.unwrap_err().absorb();
            after(2, Ok::<_, ()>("too late")).await
        };
        type Attempt = std::pin::Pin<Box<dyn Future<Output = Result<&'static str, ()>>>>;
        let attempts: [Attempt; 2] = [Box::pin(stubborn), Box::pin(after(1, Ok("first")))];
        staggered_race(attempts, SECOND).await
    });
    assert_eq!((race.winner, took), (Some((1, "first")), 4 * SECOND));
    assert_eq!(race.ends, [RaceEnd::Cancelled, RaceEnd::Won]);
}

#[test]
fn a_panic_of_an_attempt_goes_on() {
    let panicked = catch_unwind(|| {
        run(async {
            let attempts = [0].map(|_| async { panic!("here") });
            staggered_race::<_, _, (), ()>(attempts, None).await
        })
    });
    assert_eq!(*panicked.unwrap_err().downcast::<&str>().unwrap(), "here");
}

// === The small print ===

#[test]
fn gathering_nobody_gives_nothing_at_once() {
    let (values, took) = run(gather_all(std::iter::empty::<std::future::Ready<u8>>()));
    assert_eq!((values, took), (vec![], Duration::ZERO));
    let ((), _) = run(async {
        assert!(evenloop::as_completed(Vec::<std::future::Ready<u8>>::new()).next().await.is_none());
    });
}
