//! With what scopes and tasks end, and which request is told of.

use super::*;

#[test]
fn ready_wins_over_a_request_that_was_delivered() {
    let mut task = Task::new(async {
        drop(catch_cancel(pending::<()>()).await);
        "value"
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.poll(), Poll::Ready(Ok("value")));
}

#[test]
fn a_request_that_nobody_heard_ends_a_task_cancelled_and_leaves_a_scope_its_value() {
    let requests = Asked::default();
    let mut task = Task::with(requests.clone(), async move {
        requests.request("myself");
        "value"
    });
    assert_eq!(task.poll(), cancelled("myself"));

    let scope = CancelScope::new();
    let mut run = Box::pin(scope.run({
        let scope = scope.clone();
        async move {
            scope.cancel("myself");
            "value"
        }
    }));
    assert_eq!(poll_once(run.as_mut()), Poll::Ready(Ok("value")));
    assert!(scope.cancel_called() && !scope.cancelled_caught());
}

#[test]
fn of_nested_scopes_with_one_deadline_only_the_outer_reports() {
    let (hand, runtime) = Hand::new();
    let _entered = runtime.enter();
    for catches in [true, false] {
        let (outer, inner) =
            (CancelScope::with_deadline(hand.at(60)), CancelScope::with_deadline(hand.at(60)));
        let log = Log::default();
        let mut task = Task::new({
            let (outer, inner, log) = (outer.clone(), inner.clone(), log.clone());
            async move {
                let end = outer
                    .run(async {
                        let end = inner
                            .run(async {
                                if catches {
                                    let it = catch_cancel(pending::<()>()).await.unwrap_err();
                                    log.add(it.reasons().count());
                                    it.resume().await;
                                }
                                pending::<()>().await;
                            })
                            .await;
                        unreachable!("the inner one reported: {end:?}");
                    })
                    .await;
                log.add(end.unwrap_err());
            }
        });
        assert!(task.poll().is_pending());
        hand.advance_to(60);
        assert!(task.run().is_ready());
        let seen = log.take();
        assert_eq!(seen.last().unwrap(), "cancelled: deadline");
        assert_eq!(seen.len(), if catches { 2 } else { 1 });
        assert!(outer.cancelled_caught());
        assert_eq!(hand.pending(), 0);
        hand.advance_to(0);
    }
}

#[test]
fn an_inner_scope_reports_after_all_when_the_outer_request_is_absorbed() {
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    let log = Log::default();
    let mut task = Task::new({
        let (outer, inner, log) = (outer.clone(), inner.clone(), log.clone());
        async move {
            let leaves = async {
                let end = inner
                    .run(async {
                        catch_cancel(pending::<()>()).await.unwrap_err().resume().await;
                    })
                    .await;
                log.add(format!("inner {}", end.unwrap_err()));
            };
            let absorbs = async {
                // In the first round it passes on, in the second, alone, it absorbs.
                drop(catch_cancel(pending::<()>()).await);
                catch_cancel(pending::<()>()).await.unwrap_err().absorb();
                log.add("absorbed");
            };
            let end = outer.run(join(leaves, absorbs)).await;
            log.add(format!("outer {}", end.is_ok()));
        }
    });
    assert!(task.poll().is_pending());
    outer.cancel("outer");
    inner.cancel("inner");
    assert!(task.run().is_ready());
    assert_eq!(log.take(), ["absorbed", "inner cancelled: inner", "outer true"]);
}

#[test]
fn an_inner_scope_is_woken_to_report_when_the_outer_request_is_absorbed() {
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    let (gate, log) = (Gate::default(), Log::default());
    let mut task = Task::new({
        let (outer, inner, gate, log) = (outer.clone(), inner.clone(), gate.clone(), log.clone());
        async move {
            // A set polls only those that are woken.
            let mut set: FuturesUnordered<Pin<Box<dyn Future<Output = ()>>>> = FuturesUnordered::new();
            set.push(Box::pin(async {
                let passes_on = async {
                    drop(catch_cancel(pending::<()>()).await);
                    pending::<()>().await;
                };
                log.add(inner.run(passes_on).await.unwrap_err());
            }));
            set.push(Box::pin(async {
                drop(catch_cancel(pending::<()>()).await);
                let second = catch_cancel(pending::<()>()).await.unwrap_err();
                gate.wait().await;
                second.absorb();
                log.add("absorbed");
            }));
            outer.run(async { while set.next().await.is_some() {} }).await.unwrap();
        }
    });
    assert!(task.poll().is_pending());
    outer.cancel("outer");
    inner.cancel("inner");
    assert!(task.run().is_pending());
    assert!(inner.cancelled_caught() && log.is_empty());
    gate.open();
    assert_eq!(task.run(), Poll::Ready(Ok(())));
    assert_eq!(log.take(), ["absorbed", "cancelled: inner"]);
}

#[test]
fn a_nearer_scope_that_drops_a_clean_up_loses_nobodys_request() {
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    let log = Log::default();
    let mut task = Task::new({
        let (outer, inner, log) = (outer.clone(), inner.clone(), log.clone());
        async move {
            let end = outer
                .run(async {
                    let it = catch_cancel(pending::<()>()).await.unwrap_err();
                    log.add("cleaning up");
                    let end = inner
                        .run(async move {
                            let _it = it;
                            pending::<()>().await;
                        })
                        .await;
                    log.add(end.unwrap_err());
                    pending::<()>().await;
                })
                .await;
            log.add(end.unwrap_err());
        }
    });
    assert!(task.poll().is_pending());
    outer.cancel("outer");
    assert!(task.run().is_pending());
    inner.cancel("inner");
    assert!(task.run().is_ready());
    assert_eq!(log.take(), ["cleaning up", "cancelled: inner", "cancelled: outer"]);
}

#[test]
fn the_open_requests_of_scopes_inside_a_task_are_counted() {
    let scope = CancelScope::new();
    let mut task = Task::new({
        let scope = scope.clone();
        async move {
            scope
                .run(async {
                    let _it = catch_cancel(pending::<()>()).await.unwrap_err();
                    let _keeps_the_scope_in_the_tree = catch_cancel(pending::<()>()).await;
                })
                .await
                .unwrap()
        }
    });
    assert!(task.poll().is_pending());
    assert_eq!(task.root.open_inside(), 0);
    scope.cancel("why");
    assert!(task.run().is_pending());
    assert_eq!(task.root.open_inside(), 1);
}

/// The second request is absorbed inside a scope in the clean-up for the first one, which is on its way out: the scope waited
/// for the first to leave through it, and that for the clean-up.
#[test]
fn a_scope_in_a_clean_up_waits_only_for_requests_that_go_out_through_it() {
    let bound = CancelScope::new();
    let log = Log::default();
    let mut task = Task::new({
        let (bound, log) = (bound.clone(), log.clone());
        async move {
            let it = catch_cancel(async {
                catch_cancel(pending::<()>()).await.unwrap_err().resume().await;
            })
            .await
            .unwrap_err();
            let cleans = async {
                catch_cancel(pending::<()>()).await.unwrap_err().absorb();
                log.add("at it");
                pending::<()>().await
            };
            log.add(bound.run(cleans).await.unwrap_err());
            it.resume().await;
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("first");
    assert!(task.run().is_pending());
    task.cancel("second");
    assert!(task.run().is_pending());
    assert_eq!(log.take(), ["at it"]);
    bound.cancel("too long");
    assert_eq!(task.run(), cancelled("first"));
    assert_eq!(log.take(), ["cancelled: too long"]);
}
