//! Several branches of one program, each with catchers of its own.

use super::*;

#[test]
fn a_clean_up_may_wait_for_a_catcher_further_out_in_another_branch() {
    let gate = Gate::default();
    let log = Log::default();
    let mut task = Task::new({
        let log = log.clone();
        async move {
            let waits = async {
                let it = catch_cancel(pending::<()>()).await.unwrap_err();
                log.add("one waits for the other");
                gate.wait().await;
                log.add("one goes on");
                it.resume().await;
            };
            let opens = async {
                let outer = catch_cancel(async {
                    let it = catch_cancel(pending::<()>()).await.unwrap_err();
                    log.add("the other, inside");
                    it.resume().await;
                });
                let it = outer.await.unwrap_err();
                log.add("the other, outside");
                gate.open();
                it.resume().await;
            };
            join(waits, opens).await;
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.run(), cancelled("why"));
    let expected = ["one waits for the other", "the other, inside", "the other, outside", "one goes on"];
    assert_eq!(log.take(), expected);
}

#[test]
fn a_catcher_is_asked_when_all_branches_inside_of_it_have_answered() {
    for absorbs in [false, true] {
        let gate = Gate::default();
        let log = Log::default();
        let mut task = Task::new({
            let (gate, log) = (gate.clone(), log.clone());
            async move {
                let outer = catch_cancel(async {
                    let passes = async {
                        catch_cancel(pending::<()>()).await.unwrap_err().resume().await;
                    };
                    let takes_its_time = async {
                        let it = catch_cancel(pending::<()>()).await.unwrap_err();
                        gate.wait().await;
                        log.add("inside");
                        if absorbs {
                            it.absorb()
                        } else {
                            drop(it)
                        }
                        pending::<()>().await;
                    };
                    join(passes, takes_its_time).await;
                });
                let it = outer.await.unwrap_err();
                log.add("outside");
                it.absorb();
            }
        });
        assert!(task.poll().is_pending());
        task.cancel("why");
        assert!(task.run().is_pending());
        assert!(log.take().is_empty(), "the outer one waits for both");
        gate.open();
        assert_eq!(task.run(), Poll::Ready(Ok(())));
        assert_eq!(log.take(), ["inside", "outside"]);
    }
}

#[test]
fn a_branch_that_absorbs_at_any_depth_is_quiet_until_the_others_have_answered() {
    let gate = Gate::default();
    let log = Log::default();
    let mut task = Task::new({
        let (gate, log) = (gate.clone(), log.clone());
        async move {
            let absorbs = async {
                let outer = catch_cancel(async {
                    catch_cancel(async {
                        catch_cancel(pending::<()>()).await.unwrap_err().resume().await;
                    })
                    .await
                    .unwrap_err()
                    .absorb();
                    log.add("absorbed");
                    pending::<()>().await;
                });
                let it = outer.await.unwrap_err();
                log.add("asked again, further out");
                it.absorb();
                pending::<()>().await;
            };
            let passes = async {
                let it = catch_cancel(pending::<()>()).await.unwrap_err();
                gate.wait().await;
                it.resume().await;
            };
            join(absorbs, passes).await;
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert!(task.run().is_pending());
    assert_eq!(log.take(), ["absorbed"]);
    gate.open();
    assert_eq!(task.run(), cancelled("why"), "the branch in `resume` cannot go on");
    assert_eq!(log.take(), ["asked again, further out"]);
}

#[test]
fn who_has_come_inside_of_a_catcher_since_is_asked_before_it() {
    let log = Log::default();
    let mut task = Task::new({
        let log = log.clone();
        async move {
            let outer = catch_cancel(async {
                drop(catch_cancel(pending::<()>()).await);
                log.add("passed on");
                let it = catch_cancel(pending::<()>()).await.unwrap_err();
                log.add("the one that came since");
                it.resume().await;
            });
            let it = outer.await.unwrap_err();
            log.add("the one around");
            it.absorb();
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.run(), Poll::Ready(Ok(())));
    assert_eq!(log.take(), ["passed on", "the one that came since", "the one around"]);
}

#[test]
fn a_catcher_that_was_next_and_leaves_tells_the_one_around_it() {
    let gate = Gate::default();
    let log = Log::default();
    let mut task = Task::new({
        let log = log.clone();
        async move {
            let waits = async {
                let it = catch_cancel(pending::<()>()).await.unwrap_err();
                gate.wait().await;
                it.resume().await;
            };
            let there = RefCell::new(None);
            let leaves = async {
                let outer = catch_cancel(async {
                    let inner = catch_cancel(async {
                        *there.borrow_mut() = catch_cancel(pending::<()>()).await.err();
                        pending::<()>().await;
                    });
                    // Polled after `inner` in the same turn: it passes on, so `inner` is next, and ends it.
                    let ends = poll_fn(|_| match there.borrow_mut().take() {
                        Some(it) => {
                            drop(it);
                            Poll::Ready(())
                        }
                        None => Poll::Pending,
                    });
                    drop(futures::future::select(Box::pin(inner), ends).await);
                    log.add("left");
                    pending::<()>().await;
                });
                let it = outer.await.unwrap_err();
                log.add("the one around");
                gate.open();
                it.resume().await;
            };
            join(waits, leaves).await;
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.run(), cancelled("why"));
    assert_eq!(log.take(), ["left", "the one around"]);
}

#[test]
fn an_answer_from_outside_makes_the_next_catcher_be_polled_where_only_the_woken_are() {
    let there = Rc::new(RefCell::new(None));
    let mut task = Task::new({
        let there = there.clone();
        async move {
            let catcher = catch_cancel(async move {
                *there.borrow_mut() = catch_cancel(pending::<()>()).await.err();
                pending::<()>().await;
            });
            let mut set: FuturesUnordered<_> = [catcher].into_iter().collect();
            set.next().await.unwrap().unwrap_err().absorb();
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert!(task.run().is_pending());
    let before = task.woken();
    drop(there.borrow_mut().take());
    assert_eq!(task.woken(), before + 1);
    assert_eq!(task.run(), Poll::Ready(Ok(())));
}

#[test]
fn a_request_goes_through_ten_thousand_nested_catchers_in_one_turn() {
    let deep = || {
        for resumes in [false, true] {
            let caught = Rc::new(Cell::new(0));
            let mut nested: Pin<Box<dyn Future<Output = ()>>> = Box::pin(pending());
            for _ in 0..10_000 {
                let (inner, caught) = (nested, caught.clone());
                nested = Box::pin(async move {
                    let it = catch_cancel(inner).await.unwrap_err();
                    caught.set(caught.get() + 1);
                    if resumes {
                        match it.resume().await {}
                    }
                    drop(it);
                    pending::<()>().await;
                });
            }
            let mut task = Task::new(nested);
            assert!(task.poll().is_pending());
            task.cancel("why");
            assert_eq!(task.poll(), cancelled("why"));
            assert_eq!((caught.get(), task.woken()), (10_000, 0));
        }
    };
    std::thread::Builder::new().stack_size(256 << 20).spawn(deep).unwrap().join().unwrap();
}

#[test]
fn ten_thousand_nested_catchers_dropped_around_an_open_delivery_need_no_stack_of_ours() {
    let deep = || {
        let there = Rc::new(RefCell::new(None));
        let mut nested: Pin<Box<dyn Future<Output = ()>>> = Box::pin({
            let there = there.clone();
            async move {
                *there.borrow_mut() = catch_cancel(pending::<()>()).await.err();
                pending::<()>().await;
            }
        });
        for _ in 0..10_000 {
            let inner = nested;
            nested = Box::pin(async move { drop(catch_cancel(inner).await) });
        }
        let mut task = Task::new(nested);
        assert!(task.poll().is_pending());
        task.cancel("why");
        assert!(task.poll().is_pending());
        (task, there)
    };
    let dropped = move || {
        let (task, there) = deep();
        let last = there.borrow_mut().take();
        drop(task);
        // Only the nodes are left, each held by the one inside of it.
        let nodes = std::thread::scope(|threads| {
            let send = std::thread::Builder::new().stack_size(64 << 10);
            send.spawn_scoped(threads, move || drop(last)).unwrap().join()
        });
        nodes.unwrap();
    };
    std::thread::Builder::new().stack_size(256 << 20).spawn(dropped).unwrap().join().unwrap();
}
