//! Deadlines of scopes: met, moved, and asked for.

use super::*;

/// The poll that finds the deadline met, and the one that it asks for.
fn poll_to_the_end<F: Future>(mut run: Pin<&mut F>) -> Poll<F::Output> {
    assert!(poll_once(run.as_mut()).is_pending());
    poll_once(run)
}

#[test]
fn a_deadline_strikes_after_the_first_poll() {
    let (hand, runtime) = Hand::new();
    let _entered = runtime.enter();
    let scope = CancelScope::with_deadline(hand.at(0));
    let mut run = Box::pin(scope.run(ready("without await, never late")));
    assert!(matches!(poll_once(run.as_mut()), Poll::Ready(Ok(_))));
    let scope = CancelScope::with_deadline(hand.at(0));
    let mut run = Box::pin(scope.run(pending::<()>()));
    assert!(poll_once(run.as_mut()).is_pending());
    hand.advance_to(0);
    assert_eq!(poll_to_the_end(run.as_mut()), cancelled("deadline"));
}

/// Elsewhere a value that was there when the deadline struck was lost (trio's `move_on_after` keeps it, too).
#[test]
fn what_is_ready_when_the_deadline_strikes_is_not_lost() {
    let (hand, runtime) = Hand::new();
    let _entered = runtime.enter();
    let scope = CancelScope::with_deadline(hand.at(10));
    let value = Cell::new(None);
    let mut run = Box::pin(scope.run(poll_fn(|_| value.get().map_or(Poll::Pending, Poll::Ready))));
    assert!(poll_once(run.as_mut()).is_pending());
    hand.advance_to(11);
    value.set(Some(1));
    assert_eq!(poll_once(run.as_mut()), Poll::Ready(Ok(1)));
    assert!(!scope.cancel_called());
}

#[test]
fn a_deadline_can_be_moved_from_any_thread() {
    let (hand, runtime) = Hand::new();
    let _entered = runtime.enter();
    let scope = CancelScope::new();
    let mut task = Task::new({
        let scope = scope.clone();
        async move { scope.run(pending::<()>()).await }
    });
    assert!(task.poll().is_pending());
    assert_eq!(hand.pending(), 0);
    let (there, at) = (scope.clone(), hand.at(10));
    std::thread::spawn(move || there.set_deadline(Some(at))).join().unwrap();
    assert_eq!(task.woken(), 1);
    assert!(task.run().is_pending());
    assert_eq!((hand.pending(), scope.deadline()), (1, Some(at)));
    scope.set_deadline(Some(hand.at(20)));
    assert!(task.run().is_pending());
    hand.advance_to(15);
    assert!(task.run().is_pending());
    scope.set_deadline(None);
    assert!(task.run().is_pending());
    assert_eq!(hand.pending(), 0);
    scope.set_deadline(Some(hand.at(15)));
    assert!(task.run().is_pending());
    hand.advance_to(16);
    assert!(matches!(task.run(), Poll::Ready(Ok(Err(_)))));
}

/// Showed in the example `nested_deadlines`: the turn that follows such a move had looked, and forgot it.
#[test]
fn a_deadline_that_is_moved_by_the_code_inside_counts() {
    let (hand, runtime) = Hand::new();
    let _entered = runtime.enter();
    for (to, strikes_at) in [(None, None), (Some(hand.at(20)), Some(20)), (Some(hand.at(5)), Some(5))] {
        hand.state.lock().unwrap().passed = Duration::ZERO;
        let scope = CancelScope::with_deadline(hand.at(10));
        let mut run = Box::pin(scope.run({
            let scope = scope.clone();
            let mut moved = false;
            poll_fn(move |_| {
                if !std::mem::replace(&mut moved, true) {
                    scope.set_deadline(to);
                }
                Poll::<()>::Pending
            })
        }));
        assert!(poll_once(run.as_mut()).is_pending());
        for seconds in [4, 5, 10, 19, 20] {
            hand.advance_to(seconds);
            let over = poll_to_the_end(run.as_mut()).is_ready();
            assert_eq!(over, strikes_at == Some(seconds), "to {to:?}, at {seconds}");
            if over {
                break;
            }
        }
        assert_eq!(scope.cancelled_caught(), strikes_at.is_some());
    }
}

#[test]
fn a_deadline_that_fired_and_was_moved_before_anybody_looked_is_not_met() {
    let (hand, runtime) = Hand::new();
    let _entered = runtime.enter();
    let scope = CancelScope::with_deadline(hand.at(10));
    let mut run = Box::pin(scope.run(pending::<()>()));
    assert!(poll_once(run.as_mut()).is_pending());
    hand.advance_to(10);
    scope.set_deadline(Some(hand.at(30)));
    assert!(poll_once(run.as_mut()).is_pending());
    hand.advance_to(30);
    assert_eq!(poll_to_the_end(run.as_mut()), cancelled("deadline"));
}

#[test]
fn when_the_timers_end_the_scope_is_cancelled_and_says_so() {
    let (hand, runtime) = Hand::new();
    let _entered = runtime.enter();
    let scope = CancelScope::with_deadline(hand.at(10));
    let mut run = Box::pin(scope.run(pending::<()>()));
    assert!(poll_once(run.as_mut()).is_pending());
    hand.end();
    assert_eq!(poll_to_the_end(run.as_mut()), cancelled("the runtime that kept the time has ended"));
}

#[test]
fn the_nearest_deadline_around_the_code_is_known() {
    let (hand, runtime) = Hand::new();
    let _entered = runtime.enter();
    let (near, far) = (hand.at(5), hand.at(9));
    let (outer, inner) = (CancelScope::with_deadline(near), CancelScope::with_deadline(far));
    let mut run =
        Box::pin(outer.run(async move { inner.run(async { CancelScope::nearest_deadline() }).await }));
    assert!(matches!(poll_once(run.as_mut()), Poll::Ready(Ok(Ok(Some(at)))) if at == near));
    assert_eq!(CancelScope::nearest_deadline(), None);
}

#[test]
fn a_dropped_future_sees_the_scopes_around_the_one_that_was_taken() {
    let (timers, runtime) = Hand::new();
    let _entered = runtime.enter();
    let (outer, inner) =
        (CancelScope::with_deadline(timers.at(20)), CancelScope::with_deadline(timers.at(10)));
    let seen = Rc::new(RefCell::new(Vec::new()));
    let mut task = Task::new({
        let (outer, inner, seen) = (outer, inner.clone(), seen.clone());
        async move {
            let looks = OnDrop(|| seen.borrow_mut().push(CancelScope::nearest_deadline()));
            let body = async {
                let _looks = looks;
                seen.borrow_mut().push(CancelScope::nearest_deadline());
                pending::<()>().await;
            };
            outer.run(inner.run(body)).await.unwrap().unwrap_err();
        }
    });
    assert!(task.poll().is_pending());
    inner.cancel("why");
    assert!(task.poll().is_ready());
    assert_eq!(seen.take(), [Some(timers.at(10)), Some(timers.at(20))]);
}
