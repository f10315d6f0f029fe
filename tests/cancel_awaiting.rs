//! Awaiting by reference, and in one of several branches: a cancellation that code around the `await` absorbs is over there,
//! and one that another branch absorbs is not.

use evenloop::cancel::{CancelScope, catch_cancel, shielded};
use evenloop::{
    JoinError, Task, TaskGroup, create_task, finally, gather, shield, sleep, timeout, wait_for, yield_now,
};
use evenloop_tests::{SECOND, on_virtual_clock as run};
use futures::future::{join, select};
use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

type Boxed<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// A task that was cancelled before it began.
fn gone<T: 'static>() -> Task<T> {
    let task = create_task(pending());
    task.cancel("gone");
    task
}

/// Runs `main` as a task that is cancelled after two passes, and tells how it ended.
fn cancelled_after_a_while<T: 'static>(main: impl Future<Output = T> + 'static) -> Result<T, JoinError> {
    let (end, _) = run(async {
        let mut task = create_task(main);
        sleep(SECOND / 2).await;
        task.cancel("outside");
        timeout(100 * SECOND, task.join()).await.expect("it hangs")
    });
    end
}

#[test]
fn absorbing_around_a_task_that_is_awaited_by_reference_ends_the_cancellation() {
    type Awaits = for<'a> fn(&'a mut Task<()>) -> Boxed<'a>;
    let by_reference: Awaits = |task| Box::pin(task);
    let join: Awaits = |task| Box::pin(async { _ = task.join().await });
    let limited: Awaits = |task| Box::pin(async { _ = wait_for(task, 9 * SECOND).await });
    for awaits in [by_reference, join, limited] {
        let end = cancelled_after_a_while(async move {
            let mut task = create_task(pending::<()>());
            catch_cancel(awaits(&mut task)).await.unwrap_err().absorb();
            sleep(SECOND).await; // nothing strikes here
            task.join().await.unwrap_err().to_string() // who asks again is told again
        });
        assert_eq!(end.unwrap(), "the task was cancelled: outside");
    }
}

#[test]
fn absorbing_around_a_child_or_a_gather_that_is_awaited_by_reference_does_so_too() {
    let end = cancelled_after_a_while(TaskGroup::<String>::run(async |group| {
        let mut child = group.create_task(pending::<Result<(), String>>());
        catch_cancel(&mut child).await.unwrap_err().absorb();
        sleep(SECOND).await;
        Ok(child.join().await.unwrap_err().to_string())
    }));
    assert_eq!(end.unwrap().unwrap(), "cancelled: outside");
    let end = cancelled_after_a_while(async {
        let mut both = gather((pending::<()>(), pending::<()>()));
        catch_cancel(&mut both).await.unwrap_err().absorb();
        sleep(SECOND).await;
        catch_cancel(&mut both).await.unwrap_err().reason().to_string() // its children ended so
    });
    assert_eq!(end.expect("it was absorbed"), "cancelled: outside");
}

#[test]
fn a_gather_or_a_shield_that_is_awaited_again_hands_on_again() {
    let (told, _) = run(async {
        let mut shield = shield(gone::<()>());
        let mut both = gather((gone::<()>(), async {}));
        let mut shielded = Box::pin(shielded(gone::<()>()));
        let mut told = Vec::new();
        for _ in 0..3 {
            let ends = [
                catch_cancel(&mut shield).await,
                catch_cancel(&mut both).await.map(drop),
                catch_cancel(&mut shielded).await,
            ];
            for cancelled in ends.map(Result::unwrap_err) {
                told.push(cancelled.reason().to_string());
                cancelled.absorb();
            }
        }
        told
    });
    assert_eq!(told, vec!["cancelled: gone"; 9]);
}

#[test]
fn a_shield_that_had_waited_hands_on_again_too() {
    let end = cancelled_after_a_while(async {
        let mut shielded = Box::pin(shielded(create_task(async {
            sleep(SECOND).await;
            gone::<()>().await
        })));
        catch_cancel(&mut shielded).await.unwrap_err().absorb();
        catch_cancel(&mut shielded).await.unwrap_err().reason().to_string()
    });
    assert_eq!(end.unwrap(), "cancelled: gone");
}

#[test]
fn a_task_that_was_done_keeps_its_value_for_who_awaits_it_again() {
    let (value, _) = run(async {
        let scope = CancelScope::new();
        let mut task = create_task(async { 7 });
        let value = scope.run(async {
            assert!(scope.cancel("as it ends"));
            catch_cancel(task.join()).await.unwrap_err().absorb();
            yield_now().await;
            task.join().await
        });
        value.await
    });
    assert_eq!(value.unwrap().unwrap(), 7);
}

#[test]
fn what_one_branch_awaited_in_vain_no_other_branch_absorbs() {
    let branches: [fn() -> Boxed<'static>; 5] = [
        || Box::pin(gone()),
        || Box::pin(shield(gone())),
        || Box::pin(async { _ = gather((gone::<()>(), async {})).await }),
        || Box::pin(shielded(gone())),
        || Box::pin(async { gone().await }),
    ];
    for branch in branches {
        let (end, took) = run(async move {
            let absorbs = async {
                catch_cancel(pending::<()>()).await.unwrap_err().absorb();
            };
            let mut task = create_task(join(branch(), absorbs));
            timeout(SECOND, task.join()).await
        });
        let end = end.expect("the branch that cannot go on would wait for ever").unwrap_err();
        assert_eq!((end.reason().text(), took), (Some("gone"), Duration::ZERO));
    }
}

#[test]
fn a_shield_that_ends_cancelled_goes_on_with_what_waited_whoever_absorbs_that_elsewhere() {
    let end = cancelled_after_a_while(async {
        let shields = shielded(async {
            sleep(SECOND).await;
            gone::<()>().await;
        });
        let absorbs_the_second_round = async {
            drop(catch_cancel(pending::<()>()).await);
            catch_cancel(pending::<()>()).await.unwrap_err().absorb();
        };
        join(shields, absorbs_the_second_round).await;
    });
    assert_eq!(end.unwrap_err().reason().text(), Some("outside"));
}

#[test]
fn what_was_awaited_in_vain_is_over_when_code_around_it_absorbs_that() {
    let (end, took) = run(async {
        let mut task = create_task(async {
            let mut inner = gone::<()>();
            let absorbs = async {
                catch_cancel(pending::<()>()).await.unwrap_err().absorb();
            };
            let both = catch_cancel(join(&mut inner, absorbs));
            both.await.unwrap_err().absorb();
            sleep(SECOND).await;
            // Awaited again, it cancels again.
            let again = catch_cancel(&mut inner).await.unwrap_err();
            let words = again.reason().to_string();
            again.absorb();
            (words, inner.join().await.unwrap_err().to_string())
        });
        task.join().await.unwrap()
    });
    assert_eq!(end, ("cancelled: gone".into(), "the task was cancelled: gone".into()));
    assert_eq!(took, SECOND);
}

#[test]
fn what_was_awaited_in_vain_cannot_be_taken_back() {
    let (end, _) = run(async {
        let mut task = create_task(join(gone::<()>(), async { drop(catch_cancel(pending::<()>()).await) }));
        for _ in 0..4 {
            assert_eq!(task.uncancel(), 0);
            yield_now().await;
        }
        timeout(SECOND, task.join()).await
    });
    assert_eq!(end.expect("it would wait for ever").unwrap_err().reason().text(), Some("gone"));
}

#[test]
fn a_body_whose_branch_awaits_a_failed_child_ends_whatever_another_branch_absorbs() {
    let (end, took) = run(timeout(
        100 * SECOND,
        TaskGroup::run(async |group| {
            let child = group.create_task(async {
                sleep(SECOND).await;
                Err::<(), _>("failed")
            });
            let awaits = async {
                sleep(2 * SECOND).await;
                child.await;
            };
            let absorbs = async {
                let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
                sleep(2 * SECOND).await;
                cancelled.absorb();
            };
            join(awaits, absorbs).await;
            Ok(())
        }),
    ));
    assert_eq!(end.expect("the body would wait for ever").unwrap_err().errors, ["failed"]);
    assert_eq!(took, 3 * SECOND);
}

#[test]
fn a_join_that_is_dropped_passes_on_what_was_handed_in() {
    type Joins = fn() -> Boxed<'static>;
    let task: Joins = || {
        Box::pin(async {
            let mut task = create_task(finally(pending::<()>(), sleep(9 * SECOND)));
            _ = select(task.join(), Box::pin(sleep(SECOND))).await;
            sleep(9 * SECOND).await;
        })
    };
    let limited: Joins = || {
        Box::pin(async {
            let mut task = create_task(finally(pending::<()>(), sleep(9 * SECOND)));
            _ = select(Box::pin(wait_for(&mut task, 50 * SECOND)), Box::pin(sleep(SECOND))).await;
            sleep(9 * SECOND).await;
        })
    };
    let unlimited: Joins = || {
        Box::pin(async {
            let mut task = create_task(finally(pending::<()>(), sleep(9 * SECOND)));
            _ = select(Box::pin(wait_for(&mut task, None)), Box::pin(sleep(SECOND))).await;
            sleep(9 * SECOND).await;
        })
    };
    let child: Joins = || {
        Box::pin(async {
            let block = TaskGroup::<String>::run(async |group| {
                let child = finally(pending::<Result<(), String>>(), sleep(9 * SECOND));
                let mut child = group.create_task(child);
                _ = select(Box::pin(child.join()), Box::pin(sleep(SECOND))).await;
                sleep(9 * SECOND).await;
                Ok(())
            });
            _ = block.await; // for the child's clean-up: the group asks it by the same cancellation
        })
    };
    for (joins, ends_after) in [(task, SECOND), (limited, SECOND), (unlimited, SECOND), (child, 9 * SECOND)] {
        let (end, took) = run(async {
            let mut task = create_task(joins());
            sleep(SECOND / 2).await;
            task.cancel("outside");
            let end = task.join().await;
            end.unwrap_err().reason().to_string()
        });
        assert_eq!((end.as_str(), took), ("cancelled: outside", ends_after));
    }
}

#[test]
fn what_a_branch_awaited_in_vain_is_absorbed_once_that_branch_is_given_up() {
    let (end, _) = run(async {
        let mut task = create_task(async {
            let mut lost = gone::<()>();
            let absorbs = Box::pin(async { catch_cancel(pending::<()>()).await.unwrap_err().absorb() });
            drop(select(&mut lost, absorbs).await);
            drop(lost); // nobody is left who could not go on
            sleep(SECOND).await;
        });
        task.join().await
    });
    assert!(end.is_ok(), "{end:?}");
}

#[test]
fn a_refused_child_awaited_as_its_group_ends_is_not_absorbed_by_another_branch() {
    let (end, _) = run(async {
        let group = TaskGroup::<String>::run(async |group| {
            let inside = group.clone();
            group.create_task(async move {
                inside.cancel("enough"); // in the first poll of this child
                let refused = inside.create_task(async { Ok::<_, String>(()) });
                let absorbs = async { catch_cancel(pending::<()>()).await.unwrap_err().absorb() };
                join(refused, absorbs).await;
                Ok::<_, String>(())
            });
            Ok(())
        });
        timeout(9 * SECOND, group).await
    });
    end.expect("it hangs").expect("nobody failed");
}
