//! Task groups, on the virtual clock.

use evenloop::cancel::catch_cancel;
use evenloop::time::{Elapsed, VirtualClock};
use evenloop::{
    ChildError, GroupError, Runner, StartError, TaskGroup, all_tasks, create_task, sleep, timeout, yield_now,
};
use evenloop_tests::{Log, SECOND, on_virtual_clock as run};
use futures::FutureExt;
use std::cell::RefCell;
use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

/// Catches, cleans up for a second, passes on.
async fn cleans_up<T>(log: Log, name: &'static str) -> Result<T, String> {
    let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
    sleep(SECOND).await;
    log.add(format!("{name} clean: {cancelled}"));
    match cancelled.resume().await {}
}

#[test]
fn the_block_waits_for_every_child_and_for_those_started_meanwhile() {
    let log = Log::default();
    let (end, took) = run(TaskGroup::run(async |group| {
        let (inner, log2) = (group.clone(), log.clone());
        group.create_task(async move {
            sleep(SECOND).await;
            let log = log2.clone();
            inner.create_task(async move {
                sleep(SECOND).await;
                log.add("grandchild");
                Ok(())
            });
            log2.add("child");
            Ok::<_, String>(())
        });
        log.add("body");
        Ok("value")
    }));
    assert_eq!((end.unwrap(), took), ("value", 2 * SECOND));
    assert_eq!(log.take(), ["body", "child", "grandchild"]);
}

#[test]
fn children_give_their_values_in_the_body_and_after_it() {
    let (end, _) = run(async {
        let kept = Rc::new(RefCell::new(None));
        let later = kept.clone();
        let now = TaskGroup::run(async move |group| {
            later.replace(Some(group.create_task(async {
                sleep(SECOND).await;
                Ok(2)
            })));
            Ok::<_, String>(group.create_task(async { Ok(1) }).await)
        })
        .await
        .unwrap();
        (now, kept.take().unwrap().result())
    });
    assert_eq!(end, (1, Some(2)));
}

#[test]
fn a_failing_child_cancels_siblings_and_body_and_all_errors_come_together() {
    let log = Log::default();
    let (end, took) = run(TaskGroup::run(async |group| {
        group.create_task(cleans_up::<()>(log.clone(), "sibling"));
        group.create_task(async {
            let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
            drop(cancelled);
            Err::<(), _>("in clean-up".to_owned())
        });
        group.create_task(async {
            sleep(SECOND).await;
            Err::<(), _>("first".to_owned())
        });
        cleans_up::<()>(log.clone(), "body").await
    }));
    let error = end.unwrap_err();
    assert_eq!(error.errors, ["first", "in clean-up"]);
    assert_eq!(error.to_string(), "unhandled errors in a task group (2 errors): first; in clean-up");
    assert_eq!(took, 2 * SECOND);
    let mut cleaned = log.take();
    cleaned.sort();
    assert_eq!(
        cleaned,
        [
            "body clean: cancelled: a task of the group failed",
            "sibling clean: cancelled: a task of the group failed"
        ]
    );
}

/// Every combination of how child and body end, and what comes of it.
#[test]
fn outcome_table_of_child_and_body() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Ends {
        Ok,
        Error,
        Cancelled,
        ErrorWhenCancelled,
    }
    use Ends::{Cancelled, Error, ErrorWhenCancelled, Ok as Value};
    async fn ends(how: Ends, name: &'static str) -> Result<&'static str, String> {
        if matches!(how, Value | Error) {
            sleep(SECOND).await;
        }
        match how {
            Value => Ok(name),
            Error => Err(format!("{name} error")),
            Cancelled => pending().await,
            ErrorWhenCancelled => {
                drop(catch_cancel(pending::<()>()).await);
                Err(format!("{name} late"))
            }
        }
    }
    for child in [Value, Error, Cancelled, ErrorWhenCancelled] {
        for body in [Value, Error, Cancelled, ErrorWhenCancelled] {
            let (end, _) = run(async {
                timeout(
                    5 * SECOND,
                    TaskGroup::run(async |group| {
                        group.create_task(ends(child, "child"));
                        ends(body, "body").await
                    }),
                )
                .await
            });
            let struck = !matches!(child, Value | Error) || !matches!(body, Value | Error);
            let first = [(child, "child error"), (body, "body error")];
            let mut errors: Vec<&str> =
                first.iter().filter(|(how, _)| *how == Error).map(|(_, error)| *error).collect();
            if (child, body) == (Error, Error) {
                errors.remove(0); // in the same second, and the body's turn comes first
            }
            let late = [(body, "body late"), (child, "child late")];
            errors.extend(late.iter().filter(|(how, _)| *how == ErrorWhenCancelled).map(|(_, error)| *error));
            match end {
                Ok(Ok(value)) => assert_eq!((child, body, value), (Value, Value, "body")),
                Ok(Err(error)) => {
                    let mut seen = error.errors;
                    seen.sort();
                    errors.sort_unstable();
                    assert_eq!(seen, errors, "{child:?} {body:?}");
                    assert!(!seen.is_empty(), "{child:?} {body:?}");
                }
                Err(Elapsed) => assert!(struck && errors.is_empty(), "{child:?} {body:?}"),
            }
        }
    }
}

#[test]
fn a_child_that_is_cancelled_alone_leaves_the_others_alone() {
    let (end, _) = run(TaskGroup::run(async |group| {
        let mut one = group.create_task(pending::<Result<(), String>>());
        let two = group.create_task(async {
            sleep(SECOND).await;
            Ok("two")
        });
        yield_now().await;
        one.cancel("alone");
        assert_eq!(one.join().await, Err(ChildError::Cancelled("alone".into())));
        Ok(two.await)
    }));
    assert_eq!(end.unwrap(), "two");
}

#[test]
fn an_outside_cancellation_goes_through_children_and_out() {
    let log = Log::default();
    let (error, took) = run(async {
        let mut task = create_task({
            let log = log.clone();
            async move {
                let group = TaskGroup::run(async |group| {
                    group.create_task(cleans_up::<()>(log.clone(), "child"));
                    cleans_up::<()>(log.clone(), "body").await
                });
                let end = group.await;
                unreachable!("{end:?}");
            }
        });
        yield_now().await;
        yield_now().await;
        task.cancel("outside");
        task.join().await.unwrap_err()
    });
    assert_eq!(error.reason().text(), Some("outside"));
    // First the body, which is innermost in its task; then the children, which are other tasks.
    assert_eq!(log.take(), ["body clean: cancelled: outside", "child clean: cancelled: outside"]);
    assert_eq!(took, 2 * SECOND);
}

#[test]
fn errors_win_over_an_outside_cancellation_which_strikes_at_the_next_suspension() {
    let log = Log::default();
    let (error, _) = run(async {
        let mut task = create_task({
            let log = log.clone();
            async move {
                let end: Result<(), GroupError<String>> = TaskGroup::run(async |group| {
                    group.create_task(async {
                        drop(catch_cancel(pending::<()>()).await);
                        Err::<(), _>("clean-up failed".to_owned())
                    });
                    pending().await
                })
                .await;
                log.add(end.unwrap_err());
                sleep(SECOND).await;
                log.add("never");
            }
        });
        yield_now().await;
        yield_now().await;
        task.cancel("outside");
        task.join().await.unwrap_err()
    });
    assert_eq!(error.reason().text(), Some("outside"));
    assert_eq!(log.take(), ["unhandled errors in a task group (1 error): clean-up failed"]);
}

/// The body awaits a child that fails in its clean-up: neither the group's own request nor one from outside may be taken for
/// answered, or the whole task would be cancelled in the group's name.
#[test]
fn a_body_that_awaits_a_child_which_fails_in_its_clean_up_ends_nobody_else() {
    let (after, _) = run(async {
        let task = create_task(async {
            let end: Result<(), GroupError<String>> = TaskGroup::run(async |group| {
                let first = group.create_task(async {
                    drop(catch_cancel(pending::<()>()).await);
                    Err::<(), _>("clean-up failed".to_owned())
                });
                group.create_task(async {
                    sleep(SECOND).await;
                    Err::<(), _>("failed".to_owned())
                });
                first.await;
                Ok(())
            })
            .await;
            sleep(SECOND).await; // nobody outside has asked for anything
            end.unwrap_err().to_string()
        });
        task.await
    });
    assert_eq!(after, "unhandled errors in a task group (2 errors): failed; clean-up failed");

    let (error, _) = run(async {
        let mut task = create_task(async {
            let end: Result<(), GroupError<String>> = TaskGroup::run(async |group| {
                let first = group.create_task(async {
                    drop(catch_cancel(pending::<()>()).await);
                    Err::<(), _>("clean-up failed".to_owned())
                });
                first.await;
                Ok(())
            })
            .await;
            end.unwrap_err();
            sleep(SECOND).await;
        });
        yield_now().await;
        yield_now().await;
        task.cancel("outside");
        task.join().await.unwrap_err()
    });
    assert_eq!(error.reason().text(), Some("outside"));
}

#[test]
fn cancel_ends_the_block_without_an_error() {
    let log = Log::default();
    let (end, took) = run(TaskGroup::run(async |group| {
        group.create_task(cleans_up::<()>(log.clone(), "child"));
        yield_now().await;
        group.cancel("enough");
        group.cancel("twice is once");
        Ok::<_, String>("the body had its value")
    }));
    assert_eq!((end.unwrap(), took), ("the body had its value", SECOND));
    assert_eq!(log.take(), ["child clean: cancelled: enough"]);

    let (end, _) = run(TaskGroup::run(async |group| {
        let handle = group.clone();
        group.create_task(async move {
            handle.cancel("by a child");
            Ok(())
        });
        pending::<Result<(), String>>().await
    }));
    let error = end.unwrap_err();
    assert!(error.is_cancelled());
    assert_eq!(error.to_string(), "the task group was cancelled: by a child");
}

/// cpython#155433: a timeout that comes while a cancelled group waits for its children was swallowed.
#[test]
fn a_timeout_while_a_cancelled_group_waits_is_not_swallowed() {
    let (end, took) = run(timeout(2 * SECOND, async {
        TaskGroup::run(async |group| {
            group.create_task(async {
                let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
                // A long clean-up, which the timeout cuts short.
                sleep(10 * SECOND).await;
                cancelled.resume().await;
                Ok::<_, String>(())
            });
            sleep(SECOND).await;
            group.cancel("by itself");
            Ok::<_, String>(())
        })
        .await
        .unwrap();
        unreachable!("the timeout is out there");
    }));
    assert_eq!((end, took), (Err::<(), _>(Elapsed), 2 * SECOND));

    // The same for an outside cancellation.
    let (error, _) = run(async {
        let mut task = create_task(async {
            let end = TaskGroup::run(async |group| {
                group.create_task(cleans_up::<()>(Log::default(), "child"));
                yield_now().await;
                group.cancel("by itself");
                Ok::<_, String>(())
            })
            .await;
            unreachable!("{end:?}");
        });
        for _ in 0..4 {
            yield_now().await;
        }
        task.cancel("outside");
        task.join().await.unwrap_err()
    });
    assert_eq!(error.reason().text(), Some("outside"));
}

#[test]
fn a_panic_waits_for_everybody_and_goes_on() {
    let log = Log::default();
    let (panic, took) = run(async {
        let group = TaskGroup::run(async |group| {
            group.create_task(cleans_up::<()>(log.clone(), "sibling"));
            group.create_task::<_, ()>(async { panic!("a child") });
            pending::<Result<(), String>>().await
        });
        futures::FutureExt::catch_unwind(AssertUnwindSafe(group)).await.unwrap_err()
    });
    assert_eq!(*panic.downcast::<&str>().unwrap(), "a child");
    assert_eq!(took, SECOND);
    assert_eq!(log.take().len(), 1);

    let (panic, took) = run(async {
        let group = TaskGroup::run(async |group| {
            group.create_task(cleans_up::<()>(log.clone(), "child"));
            yield_now().await;
            if !group.is_empty() {
                panic!("the body");
            }
            Ok::<_, String>(())
        });
        futures::FutureExt::catch_unwind(AssertUnwindSafe(group)).await.unwrap_err()
    });
    assert_eq!((*panic.downcast::<&str>().unwrap(), took), ("the body", SECOND));
}

#[test]
fn a_group_that_takes_nobody_gives_the_future_back() {
    run(async {
        let kept = Rc::new(RefCell::new(None));
        let outside = kept.clone();
        let end = TaskGroup::run(async move |group| {
            outside.replace(Some(group.clone()));
            group.create_task(async { Err::<(), _>("fails".to_owned()) });
            let caught = catch_cancel(pending::<()>()).await;
            let refused = group.try_create_task(async { Ok(7) }).unwrap_err();
            assert_eq!(refused.to_string(), "the task group is shutting down");
            assert_eq!(refused.future.await, Ok(7));
            drop(caught);
            Ok(())
        })
        .await;
        assert_eq!(end.unwrap_err().errors, ["fails"]);
        let group = kept.take().unwrap();
        assert_eq!(format!("{group:?}"), "TaskGroup [finished, tasks: 0, errors: 0]");
        let mut late = group.create_task(async { Ok(1) });
        assert_eq!(late.join().await, Err(ChildError::Refused("the task group is finished")));
    });
}

#[test]
fn a_group_that_is_dropped_cancels_its_children() {
    let log = Log::default();
    let (_, took) = run(async {
        let mut group = Box::pin(TaskGroup::run(async |group| {
            group.create_task(cleans_up::<()>(log.clone(), "child"));
            pending::<Result<(), String>>().await
        }));
        assert!(futures::poll!(group.as_mut()).is_pending());
        yield_now().await;
        drop(group);
        sleep(SECOND).await;
        for _ in 0..3 {
            yield_now().await;
        }
        assert_eq!(all_tasks().len(), 1);
    });
    assert_eq!(log.take(), ["child clean: cancelled: the task group was dropped"]);
    assert_eq!(took, SECOND);
}

#[test]
fn cancelling_one_start_leaves_the_group_alone() {
    let (end, took) = run(TaskGroup::run(async |group| {
        let started = timeout(SECOND, group.start::<(), _, _, ()>(|_started| pending())).await;
        assert!(matches!(started, Err(Elapsed)), "cancelled with its starter");
        assert_eq!(group.len(), 0);
        Ok::<_, String>("alive")
    }));
    assert_eq!((end.unwrap(), took), ("alive", SECOND));
}

#[test]
fn a_child_that_is_not_ready_belongs_to_its_starter() {
    let (end, _) = run(TaskGroup::run(async |group| {
        let failed = group.start::<(), _, _, ()>(|_| async { Err("before".to_owned()) }).await;
        assert!(matches!(failed, Err(StartError::Failed(error)) if error == "before"));
        let silent = group.start::<(), _, _, ()>(|_| async { Ok(()) }).await.unwrap_err();
        assert_eq!(silent.to_string(), "the task ended without calling `started`");
        let (value, child) = group
            .start(|started| async move {
                sleep(SECOND).await;
                started.started("ready");
                sleep(SECOND).await;
                Err::<(), _>("after".to_owned())
            })
            .await
            .unwrap();
        assert_eq!(value, "ready");
        child.await; // fails, and so cancels this body
        Ok::<_, String>(())
    }));
    assert_eq!(end.unwrap_err().errors, ["after"]);
}

/// As `run`, and what the loop's hook was told.
fn run_with_reports<T>(main: impl Future<Output = T>) -> (T, Vec<String>) {
    let (clock, log) = (VirtualClock::new(), Log::default());
    let runner = Runner::on_clock(clock.into()).ignore_ctrl_c();
    let told = log.clone();
    runner
        .event_loop()
        .set_unhandled_hook(move |unhandled| told.add(unhandled.panic_message().unwrap_or("")));
    let value = runner.run(main).unwrap();
    (value, log.take())
}

async fn panics_when_cancelled<T>(words: &'static str) -> Result<T, String> {
    let _cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
    yield_now().await;
    panic!("{words}")
}

#[test]
fn a_panic_behind_a_group_that_was_dropped_is_reported() {
    let ((), told) = run_with_reports(async {
        {
            let mut group = pin!(TaskGroup::<String>::run(async |group| {
                group.create_task(panics_when_cancelled::<()>("unseen"));
                pending::<()>().await;
                Ok(())
            }));
            assert!(futures::poll!(group.as_mut()).is_pending());
            yield_now().await;
        }
        sleep(SECOND).await;
    });
    assert_eq!(told, ["unseen"]);
}

#[test]
fn a_child_whose_starter_was_dropped_fails_its_group() {
    let ended = run_with_reports(async {
        let group = TaskGroup::<String>::run(async |group| {
            {
                let mut start =
                    pin!(group.start::<(), _, _, ()>(|_| panics_when_cancelled("in its clean-up")));
                assert!(futures::poll!(start.as_mut()).is_pending());
                yield_now().await;
            }
            pending::<()>().await;
            Ok(())
        });
        let panic = AssertUnwindSafe(group).catch_unwind().await.unwrap_err();
        assert_eq!(panic.downcast_ref::<String>().unwrap(), "in its clean-up");

        let group = TaskGroup::run(async |group| {
            {
                let fails = |_| async { Err("failed unheard".to_owned()) };
                let mut start = pin!(group.start::<(), _, _, ()>(fails));
                assert!(futures::poll!(start.as_mut()).is_pending());
                yield_now().await; // it fails, and nobody polls its starter
            }
            pending::<()>().await;
            Ok(())
        });
        assert_eq!(group.await.unwrap_err().errors, ["failed unheard"]);
    });
    assert_eq!(ended.1, [""; 0]);
}

#[test]
fn a_child_that_is_ready_as_its_starter_is_cancelled_is_not_lost() {
    let (started, took) = run(async {
        let seen = Rc::new(RefCell::new(None));
        let seen2 = seen.clone();
        let mut task = create_task(async move {
            TaskGroup::<String>::run(async |group| {
                let (port, _child) = group
                    .start(|started| async {
                        sleep(SECOND).await;
                        started.started(8080);
                        pending::<Result<(), _>>().await
                    })
                    .await
                    .unwrap();
                *seen2.borrow_mut() = Some(port);
                pending::<()>().await;
                Ok(())
            })
            .await
        });
        yield_now().await;
        yield_now().await;
        sleep(SECOND).await; // behind the child's timer, so it runs behind it in the same pass
        task.cancel("outside");
        assert_eq!(task.join().await.unwrap_err().reason().text(), Some("outside"));
        seen.take()
    });
    assert_eq!((started, took), (Some(8080), SECOND));
}

#[test]
fn a_child_that_gets_ready_although_it_was_cancelled_is_given_and_the_cancellation_goes_on() {
    let (started, took) = run(async {
        let seen = Rc::new(RefCell::new(None));
        let theirs = seen.clone();
        let mut task = create_task(TaskGroup::<String>::run(async move |group| {
            let start = group.start(|started| async {
                let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
                sleep(SECOND).await;
                started.started("all the same");
                match cancelled.resume().await {}
            });
            let (value, _child): (_, evenloop::Child<()>) = start.await.unwrap();
            *theirs.borrow_mut() = Some(value);
            pending::<()>().await; // ends here
            Ok(())
        }));
        yield_now().await;
        yield_now().await;
        task.cancel("outside");
        assert_eq!(task.join().await.unwrap_err().reason().text(), Some("outside"));
        seen.take()
    });
    assert_eq!((started, took), (Some("all the same"), SECOND));
}

#[test]
fn a_child_that_answers_the_groups_request_with_a_value_does_not_keep_the_body() {
    let (end, took) = run(TaskGroup::run(async |group| {
        let stubborn = group.create_task(async {
            let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
            cancelled.absorb();
            Ok(7)
        });
        group.create_task(async {
            sleep(SECOND).await;
            Err::<(), _>("the reason".to_owned())
        });
        assert_eq!(stubborn.await, 7);
        pending::<()>().await; // ends here: the group shuts down
        Ok(())
    }));
    assert_eq!((end.unwrap_err().errors, took), (vec!["the reason".to_owned()], SECOND));
}

#[test]
fn the_errors_of_a_cancelled_group_tell_why_it_was_cancelled() {
    let (end, _) = run(TaskGroup::run(async |group| {
        group.create_task(async {
            let _cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
            Err::<(), _>("in the clean-up".to_owned())
        });
        yield_now().await;
        group.cancel("enough");
        Ok(())
    }));
    let error = end.unwrap_err();
    assert_eq!(error.errors, ["in the clean-up"]);
    assert_eq!(error.reason().and_then(|reason| reason.text()), Some("enough"));
    let (end, _) = run(TaskGroup::run(async |group| {
        group.create_task(async { Err::<(), _>("of its own".to_owned()) });
        Ok(())
    }));
    assert_eq!(end.unwrap_err().reason(), None);
}

/// One of n children is cancelled at every await point.
#[test]
fn one_child_cancelled_at_every_await_leaves_the_others_alone() {
    for passes in 0..12 {
        let (end, _) = run(TaskGroup::run(async |group| {
            let children: Vec<_> = (0..3)
                .map(|n| {
                    group.create_task(async move {
                        for _ in 0..8 {
                            yield_now().await;
                        }
                        Ok::<_, String>(n)
                    })
                })
                .collect();
            for _ in 0..passes {
                yield_now().await;
            }
            children[1].cancel("the one in the middle");
            let mut ends = Vec::new();
            for mut child in children {
                ends.push(child.join().await.ok());
            }
            Ok(ends)
        }));
        let ends = end.unwrap();
        assert_eq!((ends[0], ends[2]), (Some(0), Some(2)));
        assert_eq!(ends[1].is_some(), passes >= 9, "after {passes} passes");
    }
}

#[test]
fn ten_thousand_nested_groups() {
    // Cancelled, each is asked in a turn of its own, innermost first: fewer of them.
    let deep = || {
        [(10_000, false), (500, true)].map(|(depth, cancelled)| {
            let (end, took) = run(async {
                let mut nested: std::pin::Pin<Box<dyn Future<Output = ()>>> = Box::pin(pending());
                for _ in 0..depth {
                    let inner = nested;
                    nested = Box::pin(async {
                        let _ = TaskGroup::<String>::run(async move |_| {
                            inner.await;
                            Ok(())
                        })
                        .await;
                    });
                }
                if cancelled {
                    return timeout(SECOND, nested).await;
                }
                assert!(futures::poll!(nested.as_mut()).is_pending());
                drop(nested);
                sleep(SECOND).await;
                Err(Elapsed)
            });
            assert_eq!((end, took), (Err(Elapsed), SECOND));
        })
    };
    std::thread::Builder::new().stack_size(1 << 30).spawn(deep).unwrap().join().unwrap();
}

#[test]
fn children_are_cancelled_although_the_waker_of_the_body_panics() {
    struct Wild;
    impl Wake for Wild {
        fn wake(self: Arc<Self>) {
            panic!("a waker that panics");
        }
    }
    run(async {
        let mut group = Box::pin(TaskGroup::run(async |group: TaskGroup<&str>| {
            group.create_task(pending::<Result<(), _>>());
            group.create_task(async {
                yield_now().await;
                Err::<(), _>("failed")
            });
            pending::<Result<(), _>>().await
        }));
        let wild = Waker::from(Arc::new(Wild));
        assert!(group.as_mut().poll(&mut Context::from_waker(&wild)).is_pending());
        for _ in 0..5 {
            yield_now().await;
        }
        assert_eq!(all_tasks().len(), 1, "only this one is left");
        assert!(timeout(SECOND, group).await.expect("nobody is waited for").is_err());
    });
}
