//! Misuse, panics, wakers that call back, and ten thousand of everything.

use super::*;

#[test]
fn a_scope_is_entered_once() {
    let scope = CancelScope::new();
    let mut run = Box::pin(scope.run(ready(())));
    assert!(poll_once(run.as_mut()).is_ready());
    let mut again = Box::pin(scope.run(ready(())));
    let panic = catch_unwind(AssertUnwindSafe(|| poll_once(again.as_mut()))).unwrap_err();
    assert!(panic.downcast_ref::<&str>().unwrap().contains("`CancelScope::run` needs a scope"));
}

#[test]
fn a_clean_up_that_panics_passes_on() {
    // In the destructor of what was cancelled.
    let mut task = Task::new(async {
        let inner = AssertUnwindSafe(catch_cancel(async {
            let _guard = OnDrop(|| panic!("in a destructor"));
            pending::<()>().await;
        }));
        let end = inner.catch_unwind().await;
        assert!(end.is_err());
        pending::<()>().await;
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.run(), cancelled("why"));

    // In the code that caught.
    let mut task = Task::new(async {
        let cleans = AssertUnwindSafe(async {
            let _it = catch_cancel(pending::<()>()).await.unwrap_err();
            panic!("in a clean-up");
        });
        assert!(cleans.catch_unwind().await.is_err());
        pending::<()>().await;
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.run(), cancelled("why"));
}

#[test]
fn a_catcher_that_a_panicking_poll_did_not_reach_is_reached_in_the_next_turn() {
    let armed = Rc::new(Cell::new(false));
    let mut task = Task::new({
        let armed = armed.clone();
        async move {
            let panics = poll_fn(move |_| {
                assert!(!armed.replace(false), "before the catcher is polled");
                Poll::<()>::Pending
            });
            let mut both = Box::pin(join(panics, async { drop(catch_cancel(pending::<()>()).await) }));
            // A future that survives panics of its part.
            let _ = poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| both.as_mut().poll(cx))) {
                Ok(polled) => polled,
                Err(_) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            })
            .await;
        }
    });
    assert!(task.poll().is_pending());
    armed.set(true);
    task.cancel("why");
    assert!(task.poll().is_pending());
    assert!(!armed.get());
    assert_eq!(task.poll(), cancelled("why"), "caught and passed on, so nobody is left to ask");
}

#[test]
fn ten_thousand_nested_scopes_are_made_cancelled_and_dropped() {
    // The compiler's own recursion through nested polls and drops needs a stack; ours has none.
    let deep = || {
        for catches_inside in [false, true] {
            let scopes: Vec<CancelScope> = (0..10_000).map(|_| CancelScope::new()).collect();
            let mut nested: Pin<Box<dyn Future<Output = ()>>> = if catches_inside {
                Box::pin(async { catch_cancel(pending::<()>()).await.unwrap_err().absorb() })
            } else {
                Box::pin(pending())
            };
            for scope in &scopes {
                let run = scope.run(nested);
                nested = Box::pin(async move {
                    let _ = run.await;
                });
            }
            let mut task = Task::new(nested);
            assert!(task.poll().is_pending());
            scopes[5_000].cancel("the one in the middle");
            assert_eq!(task.run(), Poll::Ready(Ok(())));
            assert_eq!(
                scopes.iter().filter(|scope| scope.cancelled_caught()).count(),
                usize::from(!catches_inside)
            );
        }
    };
    std::thread::Builder::new().stack_size(256 << 20).spawn(deep).unwrap().join().unwrap();
}

/// At the square of their number it would take a minute; that they cost less, `cargo xtask counts` holds.
#[test]
fn sixteen_thousand_requests_are_delivered_in_one_turn_and_answered() {
    let scope = CancelScope::new();
    let mut run = Box::pin(scope.run(async {
        for absorbs in [true, false] {
            let inner = CancelScope::new();
            let it = inner.run(catch_cancel(pending::<()>())).await.unwrap().unwrap_err();
            assert_eq!(it.reasons().count(), 16_000);
            if absorbs {
                it.absorb();
            } else {
                drop(it);
            }
        }
    }));
    for _ in 0..2 {
        assert!(poll_once(run.as_mut()).is_pending());
        for _ in 0..16_000 {
            scope.cancel("again");
        }
    }
    assert!(matches!(poll_once(run.as_mut()), Poll::Ready(Ok(()))));
}

#[test]
fn a_waker_may_call_back_into_its_scope() {
    struct Hostile(CancelScope);
    impl Wake for Hostile {
        fn wake(self: Arc<Self>) {
            self.0.set_deadline(None);
            self.0.cancel("again");
        }
    }
    let scope = CancelScope::new();
    let mut run = Box::pin(scope.run(async {
        let it = catch_cancel(pending::<()>()).await.unwrap_err();
        let count = it.reasons().count();
        it.absorb();
        count
    }));
    let waker = Waker::from(Arc::new(Hostile(scope.clone())));
    assert!(run.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    scope.cancel("first");
    assert!(matches!(run.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(2))));
}

#[test]
fn a_waker_of_a_catcher_that_panics_keeps_no_other_catcher_from_its_clean_up() {
    struct Wild;
    impl Wake for Wild {
        fn wake(self: Arc<Self>) {
            panic!("a waker that panics");
        }
    }
    let log = Log::default();
    let calm = Arc::<Woken>::default();
    let scope = CancelScope::new();
    let mut run = Box::pin(scope.run({
        let (log, calm) = (log.clone(), calm.clone());
        async move {
            let mut one = Box::pin(catch_cancel(pending::<()>()));
            let cleans = log.clone();
            let mut other = Box::pin(async move {
                drop(catch_cancel(pending::<()>()).await);
                cleans.add("cleaned up");
            });
            let wakers = [Waker::from(Arc::new(Wild)), Waker::from(calm.clone())];
            let mut polled = false;
            poll_fn(move |_| {
                // Polls them like a combinator that polls only who was woken.
                if !std::mem::replace(&mut polled, true) {
                    assert!(one.as_mut().poll(&mut Context::from_waker(&wakers[0])).is_pending());
                }
                if calm.0.swap(0, Ordering::Relaxed) > 0 || log.is_empty() {
                    return other.as_mut().poll(&mut Context::from_waker(&wakers[1]));
                }
                Poll::<()>::Pending
            })
            .await;
        }
    }));
    assert!(poll_once(run.as_mut()).is_pending());
    log.add("polled");
    scope.cancel("why");
    let panic = catch_unwind(AssertUnwindSafe(|| poll_once(run.as_mut()))).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"a waker that panics"));
    assert!(poll_once(run.as_mut()).is_ready());
    assert_eq!(log.take(), ["polled", "cleaned up"]);
}

#[test]
fn the_last_waker_is_woken_and_the_one_before_is_let_go() {
    let scope = CancelScope::new();
    let mut run = Box::pin(scope.run(catch_cancel(pending::<()>())));
    let (old, new) = (Arc::<Woken>::default(), Arc::<Woken>::default());
    for woken in [&old, &new] {
        let waker = Waker::from(woken.clone());
        assert!(run.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(Arc::strong_count(&old), 1);
    scope.cancel("why");
    assert_eq!((old.0.load(Ordering::Relaxed), new.0.load(Ordering::Relaxed)), (0, 1));
    drop(run);
    assert_eq!(Arc::strong_count(&new), 1);
}

#[test]
fn futures_may_be_sent_and_shared() {
    fn check<T: Send + Sync + std::fmt::Debug>(_: &T) {}
    let scope = CancelScope::new();
    check(&scope.run(ready(())));
    check(&catch_cancel(ready(())));
    check(&scope);
    check(&Root::new());
    check(&Requests::new());
}
