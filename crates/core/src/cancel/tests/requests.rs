//! Requests, and the turns in which scopes and catchers hear of them.

use super::*;

#[test]
fn without_a_catcher_the_scope_drops_its_future_at_its_next_turn() {
    let log = Log::default();
    let scope = CancelScope::new();
    let mut task = Task::new({
        let (scope, log) = (scope.clone(), log.clone());
        async move {
            let end = scope
                .run(async {
                    let _guard = OnDrop(|| log.add("dropped"));
                    pending::<()>().await;
                })
                .await;
            log.add(end.unwrap_err());
        }
    });
    assert!(task.poll().is_pending());
    scope.cancel("enough");
    assert_eq!(task.woken(), 1);
    assert!(task.poll().is_ready());
    assert_eq!(log.take(), ["dropped", "cancelled: enough"]);
    assert!(scope.cancel_called() && scope.cancelled_caught());
}

#[test]
fn a_scope_that_is_asked_before_it_is_entered_never_runs() {
    let scope = CancelScope::new();
    scope.cancel("early");
    let mut run = Box::pin(scope.run(async { unreachable!("the body never runs") }));
    assert_eq!(poll_once(run.as_mut()), cancelled::<()>("early"));
    let mut task = Task::new(async { unreachable!("the body never runs") });
    task.cancel("early");
    assert_eq!(task.poll(), cancelled::<()>("early"));
}

#[test]
fn a_catcher_drops_its_future_and_learns_the_reason() {
    let log = Log::default();
    let mut task = Task::new({
        let log = log.clone();
        async move {
            let caught = catch_cancel(async {
                let _guard = OnDrop(|| log.add("dropped"));
                pending::<()>().await;
            })
            .await;
            let it = caught.unwrap_err();
            log.add(&it);
            it.absorb();
            "went on"
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.poll(), Poll::Ready(Ok("went on")));
    assert_eq!(log.take(), ["dropped", "cancelled: why"]);
}

#[test]
fn the_innermost_catcher_is_asked_first_also_through_scopes() {
    let log = Log::default();
    let mut task = Task::new({
        let log = log.clone();
        async move {
            let inner = CancelScope::new();
            let outer = catch_cancel(async {
                let end = inner
                    .run(async {
                        let it = catch_cancel(pending::<()>()).await.unwrap_err();
                        log.add("inner");
                        it.resume().await;
                    })
                    .await;
                unreachable!("{end:?}");
            })
            .await;
            log.add("outer");
            outer.unwrap_err().resume().await;
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.run(), cancelled("why"));
    assert_eq!(log.take(), ["inner", "outer"]);
}

#[test]
fn a_catcher_among_children_that_are_polled_only_when_woken_is_reached() {
    let mut task = Task::new(async {
        let mut set: FuturesUnordered<_> = (0..3).map(|_| catch_cancel(pending::<()>())).collect();
        let mut reasons = Vec::new();
        while let Some(caught) = set.next().await {
            let it = caught.unwrap_err();
            reasons.push(it.reason().clone());
            it.absorb();
        }
        reasons.len()
    });
    assert!(task.poll().is_pending());
    task.cancel("all three");
    assert_eq!(task.poll(), Poll::Ready(Ok(3)));
}

#[test]
fn a_catcher_that_is_not_polled_is_passed_over() {
    let polls = Rc::new(Cell::new(true));
    let parked = |polls: Rc<Cell<bool>>| {
        let mut catch = Box::pin(catch_cancel(pending::<()>()));
        poll_fn(move |cx| if polls.get() { catch.as_mut().poll(cx) } else { Poll::Pending })
    };
    let mut task = Task::new(parked(polls.clone()));
    assert!(task.poll().is_pending());
    polls.set(false);
    task.cancel("nobody listens");
    assert!(matches!(task.poll(), Poll::Ready(Err(_))), "taken at the end of that turn");

    // It does not hold up the one around it.
    let polls = Rc::new(Cell::new(true));
    let mut task = Task::new(catch_cancel(parked(polls.clone())));
    assert!(task.poll().is_pending());
    polls.set(false);
    task.cancel("why");
    assert!(task.poll().is_pending());
    assert_eq!(task.woken(), 1, "the next round is in the next turn");
    let Poll::Ready(Ok(Err(it))) = task.poll() else { panic!("the outer one caught") };
    drop(it);
}

#[test]
fn a_catcher_that_starts_while_a_request_is_open_is_found_at_the_end_of_that_turn() {
    let requests = Asked::default();
    let mut task = Task::with(requests.clone(), async move {
        requests.request("myself");
        let it = catch_cancel(pending::<()>()).await.unwrap_err();
        it.absorb();
        5
    });
    assert!(task.poll().is_pending());
    assert_eq!(task.woken(), 1);
    assert_eq!(task.poll(), Poll::Ready(Ok(5)));
}

#[test]
fn a_task_that_cancels_itself_ends_at_its_next_suspension() {
    let requests = Asked::default();
    let log = Log::default();
    let mut task = Task::with(requests.clone(), {
        let log = log.clone();
        async move {
            requests.request("myself");
            ready(()).await;
            log.add("what is ready does not suspend");
            pending::<()>().await;
        }
    });
    assert_eq!(task.poll(), cancelled("myself"));
    assert_eq!(log.take().len(), 1);
}

#[test]
fn a_request_from_another_thread_wakes_the_scope_once() {
    let scope = CancelScope::new();
    let mut task = Task::new({
        let scope = scope.clone();
        async move { scope.run(pending::<()>()).await }
    });
    assert!(task.poll().is_pending());
    let other = std::thread::spawn(move || scope.cancel("from afar"));
    assert!(other.join().unwrap());
    assert_eq!(task.woken(), 1);
    assert!(matches!(task.poll(), Poll::Ready(Ok(Err(_)))));
}

#[test]
fn uncancel_withdraws_what_nobody_delivered() {
    let mut task = Task::new(catch_cancel(pending::<()>()));
    assert!(task.poll().is_pending());
    task.cancel("one");
    task.cancel("two");
    assert_eq!(task.requests.count(), 2);
    assert_eq!(task.requests.uncancel(), 1);
    assert_eq!(task.requests.uncancel(), 0);
    assert_eq!(task.requests.uncancel(), 0);
    assert!(task.run().is_pending());
    task.cancel("three");
    assert_eq!(task.requests.count(), 1);
    let Poll::Ready(Ok(Err(it))) = task.poll() else { panic!("it caught") };
    assert_eq!(it.reasons().collect::<Vec<_>>(), [&Reason::new("three")]);
    assert!(!task.requests.request("too late"));
}

#[test]
fn what_was_delivered_is_not_withdrawn_any_more() {
    let gate = Gate::default();
    let mut task = Task::new({
        let gate = gate.clone();
        async move {
            let it = catch_cancel(pending::<()>()).await.unwrap_err();
            gate.wait().await;
            it.resume().await;
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert!(task.run().is_pending());
    assert_eq!((task.requests.uncancel(), task.requests.now().open()), (0, 1));
    gate.open();
    assert_eq!(task.run(), cancelled("why"));
}

#[test]
fn uncancel_withdraws_a_mark_that_is_not_delivered_yet() {
    let requests = Asked::default();
    let mut task = Task::with(requests.clone(), async move {
        // The first branch is polled first in the turn that marked the second.
        let withdraws = poll_fn(|_| {
            requests.uncancel();
            Poll::<()>::Pending
        });
        join(withdraws, catch_cancel(pending::<()>())).await.1
    });
    assert!(task.poll().is_pending());
    task.cancel("never mind");
    assert!(task.run().is_pending());
    task.cancel("never mind either");
    assert!(task.run().is_pending());
}

/// Ready in the poll after this.
async fn yields() {
    let mut yielded = false;
    poll_fn(move |cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// `FuturesUnordered` ends its poll behind two children that woke themselves; whoever comes after them was skipped.
#[test]
fn a_catcher_behind_children_that_yield_is_reached_in_a_later_turn() {
    let body = |log: Log| async move {
        let mut set: FuturesUnordered<Pin<Box<dyn Future<Output = ()>>>> = FuturesUnordered::new();
        for _ in 0..7 {
            set.push(Box::pin(async {
                loop {
                    yields().await;
                }
            }));
        }
        set.push(Box::pin(async move {
            let _cleaned_up = OnDrop(|| log.add("dropped"));
            let it = catch_cancel(pending::<()>()).await.unwrap_err();
            log.add("caught");
            yields().await;
            log.add("cleaned up");
            it.resume().await;
        }));
        while set.next().await.is_some() {}
    };
    let log = Log::default();
    let mut task = Task::new(body(log.clone()));
    for _ in 0..10 {
        assert!(task.poll().is_pending());
    }
    task.cancel("why");
    assert_eq!(task.run(), cancelled("why"));
    assert_eq!(log.take(), ["caught", "cleaned up", "dropped"]);

    let scope = CancelScope::new();
    let mut task = Task::new(scope.run(body(log.clone())));
    for _ in 0..10 {
        assert!(task.poll().is_pending());
    }
    scope.cancel("why");
    assert_eq!(task.run(), Poll::Ready(Ok(Err("why".into()))));
    assert_eq!(log.take(), ["caught", "cleaned up", "dropped"]);
}

#[test]
fn a_catcher_that_is_never_polled_is_passed_over_though_its_scope_yields_for_ever() {
    let body = |parks: Gate| async move {
        let mut parked = Box::pin(catch_cancel(pending::<()>()));
        poll_fn(move |cx| {
            if !parks.is_open() {
                return parked.as_mut().poll(cx).map(drop);
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    };
    let gate = Gate::default();
    let mut task = Task::new(body(gate.clone()));
    assert!(task.poll().is_pending());
    gate.open();
    task.cancel("nobody listens");
    assert_eq!(task.run(), cancelled("nobody listens"));
    assert!(task.woken() > 100, "not before it had its chance");

    let (gate, scope) = (Gate::default(), CancelScope::new());
    let mut task = Task::new(scope.run(body(gate.clone())));
    assert!(task.poll().is_pending());
    gate.open();
    scope.cancel("nobody listens");
    assert_eq!(task.run(), Poll::Ready(Ok(Err("nobody listens".into()))));
}
