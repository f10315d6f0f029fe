//! A condition's `wait` under cancellation: it takes the lock again first, as asyncio's does. On the virtual clock.

use evenloop::cancel::{CancelScope, catch_cancel};
use evenloop::sync::{Condition, Lock, LockGuard};
use evenloop::time::Elapsed;
use evenloop::{create_task, sleep, timeout, yield_now};
use evenloop_tests::{SECOND, Woken, on_virtual_clock as run, poll};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// A value under a lock, and the condition that it has changed.
type Shared = Rc<(Lock<u32>, Condition)>;

fn shared() -> Shared {
    Rc::new((Lock::new(0), Condition::new()))
}

async fn wait(shared: &Shared) -> LockGuard<'_, u32> {
    shared.1.wait(shared.0.acquire().await).await
}

/// Takes the lock at once, and holds it for so long.
fn hold(shared: &Shared, time: Duration) -> impl Future<Output = ()> + use<> {
    let shared = shared.clone();
    async move {
        let guard = shared.0.acquire().await;
        sleep(time).await;
        drop(guard);
    }
}

fn ready<T>(polled: Poll<T>) -> T {
    match polled {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it should have ended"),
    }
}

#[test]
fn a_timeout_around_a_wait_reports_once_the_wait_had_its_turn_at_the_lock() {
    let (end, took) = run(async {
        let shared = shared();
        let limited = timeout(SECOND, wait(&shared));
        let (end, ()) = futures::join!(limited, hold(&shared, 3 * SECOND));
        assert!(!shared.0.locked());
        assert_eq!(shared.1.statistics().waiters, 0);
        end.map(drop)
    });
    assert_eq!((end, took), (Err(Elapsed), 3 * SECOND));
}

#[test]
fn with_the_lock_free_a_timeout_reports_in_time() {
    let (end, took) = run(async { timeout(SECOND, wait(&shared())).await.map(drop) });
    assert_eq!((end, took), (Err(Elapsed), SECOND));
    let (end, took) = run(async {
        let shared = shared();
        let never = shared.1.wait_for(shared.0.acquire().await, |value| *value > 0);
        timeout(SECOND, never).await.map(drop)
    });
    assert_eq!((end, took), (Err(Elapsed), SECOND));
}

#[test]
fn it_takes_the_lock_again_however_often_it_is_cancelled() {
    let ((), took) = run(async {
        let shared = shared();
        let task = create_task({
            let shared = shared.clone();
            async move { drop(wait(&shared).await) }
        });
        yield_now().await;
        let holder = create_task(hold(&shared, 3 * SECOND));
        yield_now().await;
        for reason in ["once", "twice"] {
            task.cancel(reason);
            sleep(SECOND).await;
            assert!(!task.done(), "it waits for the lock");
        }
        assert_eq!(shared.0.statistics().waiters, 1);
        holder.await;
        yield_now().await;
        assert!(task.done() && task.cancelled());
        assert!(!shared.0.locked());
    });
    assert_eq!(took, 3 * SECOND);
}

#[test]
fn every_cancellation_that_it_caught_goes_on() {
    let (ends, took) = run(async {
        let shared = shared();
        let inner = timeout(2 * SECOND, wait(&shared));
        let outer = timeout(SECOND, async { inner.await.map(drop) });
        let (outer, ()) = futures::join!(outer, hold(&shared, 4 * SECOND));
        outer
    });
    assert_eq!(
        (ends, took),
        (Err(Elapsed), 4 * SECOND),
        "the outer one was asked first, and is not outlived"
    );
}

#[test]
fn who_was_notified_and_then_cancelled_hands_on() {
    for locking in [false, true] {
        run(async {
            let shared = shared();
            let (lock, changed) = &*shared;
            let scope = CancelScope::new();
            let mut first = Box::pin(scope.run(wait(&shared)));
            assert!(poll(&mut first, Waker::noop()).is_pending());
            let (woken, waker) = Woken::waker();
            let mut second = changed.wait(lock.try_acquire().expect("free"));
            assert!(poll(&mut second, &waker).is_pending());
            let busy = lock.try_acquire().expect("free");
            changed.notify(1);
            if locking {
                assert!(poll(&mut first, Waker::noop()).is_pending());
            }
            scope.cancel("late");
            assert_eq!(woken.times(), 0);
            assert!(poll(&mut first, Waker::noop()).is_pending());
            assert_eq!(woken.times(), 1, "handed on at once: the lock is not needed for that");
            drop(busy);
            assert!(ready(poll(&mut first, Waker::noop())).is_err());
            assert!(poll(&mut second, Waker::noop()).is_ready());
        });
    }
}

#[test]
fn a_clean_up_may_use_the_lock_it_waited_with() {
    let (end, took) = run(async {
        let shared = shared();
        let (lock, changed) = &*shared;
        let limited = timeout(SECOND, async {
            let waited = changed.wait_catching(lock.acquire().await).await;
            let (mut guard, cancelled) = waited.expect_err("nobody notifies");
            assert!(lock.try_acquire().is_none());
            *guard += 1;
            sleep(SECOND).await;
            *guard += 1;
            drop(guard);
            cancelled.resume().await
        });
        let end = limited.await.map(|_: std::convert::Infallible| ());
        (end, *lock.acquire().await)
    });
    assert_eq!((end, took), ((Err(Elapsed), 2), 2 * SECOND));
}

#[test]
fn a_cancellation_may_end_at_a_wait() {
    let (end, _) = run(timeout(SECOND, async {
        let shared = shared();
        let (lock, changed) = &*shared;
        let (guard, cancelled) = changed.wait_catching(lock.acquire().await).await.expect_err("cancelled");
        cancelled.absorb();
        drop(guard);
        sleep(SECOND).await;
        "gone on"
    }));
    assert_eq!(end, Ok("gone on"));
}

#[test]
fn another_branch_may_need_the_lock_for_its_clean_up() {
    let (end, took) = run(async {
        let shared = shared();
        let cleans_up = async {
            let cancelled = catch_cancel(std::future::pending::<()>()).await.expect_err("pending for ever");
            sleep(SECOND).await;
            *shared.0.acquire().await += 1;
            cancelled.resume().await
        };
        let both = timeout(SECOND, futures::future::join(wait(&shared), cleans_up));
        let end = both.await.map(drop);
        (end, *shared.0.acquire().await)
    });
    assert_eq!((end, took), ((Err(Elapsed), 1), 2 * SECOND));
}

#[test]
fn a_plain_drop_takes_no_lock_and_passes_on_what_was_caught() {
    run(async {
        let shared = shared();
        let (lock, changed) = &*shared;
        let scope = CancelScope::new();
        let mut run = Box::pin(scope.run(async {
            let mut wait = changed.wait(lock.acquire().await);
            assert!(futures::poll!(&mut wait).is_pending());
            let busy = lock.try_acquire().expect("the wait released it");
            yield_now().await;
            assert!(futures::poll!(&mut wait).is_pending());
            assert_eq!(format!("{wait:?}"), "ConditionWait [locking, cancelled]");
            drop((wait, busy));
            std::future::pending::<()>().await
        }));
        assert!(futures::poll!(&mut run).is_pending());
        scope.cancel("why");
        assert!(ready(futures::poll!(&mut run)).is_err());
        assert!(!lock.locked());
    });
}

#[test]
fn a_notification_that_comes_first_is_used_and_the_cancellation_strikes_later() {
    run(async {
        let shared = shared();
        let (lock, changed) = &*shared;
        let scope = CancelScope::new();
        let mut run = Box::pin(scope.run(async {
            let guard = wait(&shared).await;
            drop(guard);
            catch_cancel(std::future::pending::<()>()).await.expect_err("pending for ever").absorb();
            "notified"
        }));
        assert!(futures::poll!(&mut run).is_pending());
        changed.notify(1);
        assert!(futures::poll!(&mut run).is_pending());
        scope.cancel("why");
        assert_eq!(ready(futures::poll!(&mut run)), Ok("notified"));
        assert!(!lock.locked());
    });
}

#[test]
#[should_panic(expected = "here it would wait for ever")]
fn a_wait_that_was_cancelled_cannot_go_on_elsewhere() {
    let shared = shared();
    let scope = CancelScope::new();
    let mut wait = shared.1.wait(shared.0.try_acquire().expect("free"));
    let busy = {
        let mut run = Box::pin(scope.run(std::future::poll_fn(|cx| {
            let polled = std::pin::Pin::new(&mut wait).poll(cx);
            polled.map(drop)
        })));
        assert!(poll(&mut run, Waker::noop()).is_pending());
        let busy = shared.0.try_acquire().expect("free");
        scope.cancel("why");
        assert!(poll(&mut run, Waker::noop()).is_pending());
        busy
    };
    drop(busy);
    let _ = poll(&mut wait, Waker::noop());
}
