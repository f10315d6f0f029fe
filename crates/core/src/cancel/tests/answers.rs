//! What is answered to a request: absorbed, passed on, resumed.

use super::*;

#[test]
fn what_was_absorbed_is_over() {
    let gate = Gate::default();
    let mut task = Task::new({
        let gate = gate.clone();
        async move {
            catch_cancel(pending::<()>()).await.unwrap_err().absorb();
            assert!(catch_cancel(gate.wait()).await.is_ok());
            "value"
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("once");
    assert!(task.run().is_pending());
    gate.open();
    assert_eq!(task.run(), Poll::Ready(Ok("value")));
}

#[test]
fn resume_does_not_return() {
    let log = Log::default();
    let mut task = Task::new({
        let log = log.clone();
        async move {
            let it = catch_cancel(pending::<()>()).await.unwrap_err();
            log.add("clean-up");
            it.resume().await;
            log.add("never");
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.poll(), cancelled("why"));
    assert_eq!(log.take(), ["clean-up"]);
}

#[test]
fn a_dropped_one_comes_back_at_each_following_catcher_and_ends_the_scope_at_last() {
    let log = Log::default();
    let mut task = Task::new({
        let log = log.clone();
        async move {
            for round in 0..3 {
                let caught = catch_cancel(pending::<()>()).await;
                log.add(round);
                drop(caught);
            }
            log.add("code without a suspension runs on");
            pending::<()>().await;
            log.add("never");
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.run(), cancelled("why"));
    assert_eq!(log.take(), ["0", "1", "2", "code without a suspension runs on"]);
}

#[test]
fn a_round_ends_when_every_branch_has_answered() {
    let (left, right) = (Gate::default(), Gate::default());
    let log = Log::default();
    let mut task = Task::new({
        let (left, right, log) = (left.clone(), right.clone(), log.clone());
        async move {
            let branch = |name: &'static str, gate: Gate| {
                let log = log.clone();
                async move {
                    let it = catch_cancel(pending::<()>()).await.unwrap_err();
                    log.add(name);
                    gate.wait().await;
                    it.absorb();
                    // A new catcher is not asked while the other branch has not answered.
                    let again = catch_cancel(gate_never()).await;
                    log.add(format!("{name} again"));
                    drop(again);
                }
            };
            join(branch("left", left), branch("right", right)).await;
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert!(task.run().is_pending());
    left.open();
    assert!(task.run().is_pending());
    right.open();
    assert!(task.run().is_pending());
    assert_eq!(log.take(), ["left", "right"], "absorbed by both: closed");
}

async fn gate_never() {
    pending::<()>().await;
}

#[test]
fn passing_on_beats_absorbing() {
    for drops_first in [true, false] {
        let log = Log::default();
        let mut task = Task::new({
            let log = log.clone();
            async move {
                let outer = catch_cancel(async {
                    let absorbs = async {
                        catch_cancel(pending::<()>()).await.unwrap_err().absorb();
                        pending::<()>().await;
                    };
                    let passes = async {
                        drop(catch_cancel(pending::<()>()).await);
                        pending::<()>().await;
                    };
                    if drops_first { join(passes, absorbs).await } else { join(absorbs, passes).await }
                })
                .await;
                log.add("outer");
                outer.unwrap_err().absorb();
            }
        });
        assert!(task.poll().is_pending());
        task.cancel("why");
        assert_eq!(task.run(), Poll::Ready(Ok(())));
        assert_eq!(log.take(), ["outer"]);
    }
}

/// One branch waits in `resume`, the other one absorbs the round after.
async fn one_resumes_and_one_absorbs_later() {
    let resumes = async {
        catch_cancel(pending::<()>()).await.unwrap_err().resume().await;
    };
    let absorbs_the_second_round = async {
        drop(catch_cancel(pending::<()>()).await);
        catch_cancel(pending::<()>()).await.unwrap_err().absorb();
        pending::<()>().await;
    };
    join(resumes, absorbs_the_second_round).await;
}

#[test]
fn who_waits_in_resume_is_not_left_behind_when_another_branch_absorbs_later() {
    let mut task = Task::new(one_resumes_and_one_absorbs_later());
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.run(), cancelled("why"), "the branch in `resume` cannot go on, so the task cannot");
}

#[test]
fn who_waits_in_resume_inside_of_a_catcher_is_not_left_behind_either() {
    let mut task = Task::new(async {
        let around = catch_cancel(one_resumes_and_one_absorbs_later()).await;
        around.unwrap_err().absorb();
        8
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.run(), Poll::Ready(Ok(8)), "the catcher around both has its turn, and ends it");
}

#[test]
fn a_resume_that_outlives_the_catcher_around_it_holds_nothing() {
    let mut task = Task::new(async {
        let mut kept = None;
        let keeps = async {
            let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
            let resume = kept.insert(cancelled.resume());
            assert!(!resume.is_over());
            match resume.await {}
        };
        catch_cancel(keeps).await.unwrap_err().absorb();
        assert!(kept.as_ref().is_some_and(Resume::is_over));
        let mut turns = 0..2;
        poll_fn(|cx| {
            cx.waker().wake_by_ref();
            if turns.next().is_some() { Poll::Pending } else { Poll::Ready(8) }
        })
        .await
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.run(), Poll::Ready(Ok(8)));
}

#[test]
fn absorbing_outside_of_a_resume_closes_the_request() {
    let mut task = Task::new(async {
        let outer = catch_cancel(async {
            catch_cancel(pending::<()>()).await.unwrap_err().resume().await;
        })
        .await;
        outer.unwrap_err().absorb();
        8
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.run(), Poll::Ready(Ok(8)));
}

#[test]
fn branches_without_a_catcher_run_on_meanwhile() {
    let (gate, clean) = (Gate::default(), Gate::default());
    let log = Log::default();
    let mut task = Task::new({
        let (gate, clean, log) = (gate.clone(), clean.clone(), log.clone());
        async move {
            let cleans = async {
                let it = catch_cancel(pending::<()>()).await.unwrap_err();
                clean.wait().await;
                log.add("clean");
                it.resume().await;
            };
            let runs = async {
                gate.wait().await;
                log.add("ran on");
                pending::<()>().await;
            };
            join(cleans, runs).await;
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert!(task.run().is_pending());
    gate.open();
    assert!(task.run().is_pending());
    clean.open();
    assert_eq!(task.run(), cancelled("why"));
    assert_eq!(log.take(), ["ran on", "clean"]);
}

#[test]
fn a_second_request_strikes_the_clean_up_too() {
    let log = Log::default();
    let body = |log: Log, protected: bool| async move {
        let it = catch_cancel(pending::<()>()).await.unwrap_err();
        log.add(&it);
        if protected {
            let second = catch_cancel(pending::<()>()).await.unwrap_err();
            log.add(&second);
            second.absorb();
            it.absorb();
        } else {
            pending::<()>().await;
        }
        "value"
    };
    let mut task = Task::new(body(log.clone(), true));
    assert!(task.poll().is_pending());
    task.cancel("one");
    assert!(task.run().is_pending());
    task.cancel("two");
    assert_eq!(task.run(), Poll::Ready(Ok("value")));
    assert_eq!(log.take(), ["cancelled: one", "cancelled: two"]);

    let mut task = Task::new(body(log.clone(), false));
    assert!(task.poll().is_pending());
    task.cancel("one");
    assert!(task.run().is_pending());
    task.cancel("two");
    assert_eq!(task.run(), cancelled("two"));
}

/// The first one passed the outer code by, which was told of the second, and struck its clean-up at once.
#[test]
fn what_a_clean_up_had_in_hand_comes_with_the_request_that_ends_it() {
    let (gate, log) = (Gate::default(), Log::default());
    let mut task = Task::new({
        let (gate, log) = (gate.clone(), log.clone());
        async move {
            let outer = catch_cancel(async {
                let _first = catch_cancel(pending::<()>()).await.unwrap_err();
                pending::<()>().await;
            });
            let both = outer.await.unwrap_err();
            both.reasons().for_each(|reason| log.add(reason));
            gate.wait().await;
            log.add("cleaned up");
            both.resume().await;
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("first");
    assert!(task.run().is_pending());
    task.cancel("second");
    assert!(task.run().is_pending());
    gate.open();
    assert_eq!(task.run(), cancelled("first"));
    assert_eq!(log.take(), ["cancelled: first", "cancelled: second", "cleaned up"]);
}

#[test]
fn one_delivery_bears_every_request_that_is_due() {
    let scope = CancelScope::new();
    let mut task = Task::new({
        let scope = scope.clone();
        async move {
            let end = scope
                .run(async {
                    let it = catch_cancel(pending::<()>()).await.unwrap_err();
                    let reasons: Vec<_> =
                        it.reasons().map(|reason| reason.text().unwrap().to_owned()).collect();
                    it.absorb();
                    reasons
                })
                .await;
            end.unwrap()
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("task");
    scope.cancel("scope");
    task.cancel("task again");
    let reasons = task.poll();
    assert_eq!(reasons, Poll::Ready(Ok(vec!["task".into(), "task again".into(), "scope".into()])));
}

#[test]
fn an_answer_from_another_thread_wakes_the_scope() {
    let (send, receive) = std::sync::mpsc::channel();
    let mut task = Task::new(async move {
        send.send(catch_cancel(pending::<()>()).await.unwrap_err()).unwrap();
        pending::<()>().await;
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert!(task.run().is_pending(), "unanswered");
    let before = task.woken();
    std::thread::spawn(move || drop(receive.recv().unwrap())).join().unwrap();
    assert_eq!(task.woken(), before + 1);
    assert_eq!(task.poll(), cancelled("why"));
}

#[test]
fn resume_outside_its_scope_panics() {
    let scope = CancelScope::new();
    let mut task = Task::new({
        let scope = scope.clone();
        async move {
            let it = scope.run(catch_cancel(pending::<()>())).await.unwrap().unwrap_err();
            it.resume().await;
        }
    });
    assert!(task.poll().is_pending());
    scope.cancel("scope");
    let panic = catch_unwind(AssertUnwindSafe(|| task.poll())).unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.contains("`Cancelled::resume` needs to be awaited inside the scope"), "{message}");

    // In another task, while its own waits for the answer.
    let (send, receive) = std::sync::mpsc::channel();
    let mut task = Task::new(async move {
        send.send(catch_cancel(pending::<()>()).await.unwrap_err()).unwrap();
        pending::<()>().await;
    });
    assert!(task.poll().is_pending());
    task.cancel("task");
    assert!(task.poll().is_pending());
    let mut other = Task::new(async move {
        receive.recv().unwrap().resume().await;
    });
    assert!(catch_unwind(AssertUnwindSafe(|| other.poll())).is_err());
}

#[test]
fn resume_in_an_outer_scope_whose_request_it_bears_waits_for_that() {
    let scope = CancelScope::new();
    let mut task = Task::new({
        let scope = scope.clone();
        async move {
            let it = scope.run(catch_cancel(pending::<()>())).await.unwrap().unwrap_err();
            it.resume().await;
        }
    });
    assert!(task.poll().is_pending());
    scope.cancel("scope");
    task.cancel("task");
    assert_eq!(task.run(), cancelled("task"));
}
