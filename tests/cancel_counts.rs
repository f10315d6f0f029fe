//! What is counted, and what is told, when cancellations of several kinds meet.

use evenloop::cancel::catch_cancel;
use evenloop::time::VirtualClock;
use evenloop::{Runner, TaskGroup, create_task, gather, sleep, timeout, yield_now};
use evenloop_tests::{Log, SECOND, on_virtual_clock as run};
use std::future::pending;
use std::rc::Rc;
use std::sync::Mutex;

#[test]
fn a_group_gives_back_what_it_asked_and_leaves_what_others_asked() {
    for outside in [false, true] {
        let counts = Rc::new(Mutex::new(Vec::new()));
        let (end, _) = run(async {
            let inside = counts.clone();
            let mut task = create_task(async move {
                let block = TaskGroup::run(async |group| {
                    group.create_task(async {
                        sleep(SECOND).await;
                        Err::<(), _>("failed")
                    });
                    let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
                    sleep(3 * SECOND).await; // the child has failed by now
                    cancelled.resume().await;
                    Ok(())
                });
                assert_eq!(block.await.unwrap_err().errors, ["failed"]);
                inside.lock().unwrap().push("the errors come first");
                yield_now().await;
                inside.lock().unwrap().push("nobody else was asked");
            });
            sleep(SECOND / 2).await;
            if outside {
                task.cancel("outside");
            }
            sleep(SECOND).await;
            // The group's own, on its body; or the one from outside, for the group's ended the clean-up which that had caused.
            assert_eq!((task.cancelling(), task.done()), (1, outside));
            let end = task.join().await;
            assert_eq!(task.cancelling(), usize::from(outside), "the group's own is given back");
            end.map_err(|error| error.reason().to_string())
        });
        let told = counts.lock().unwrap().len();
        match outside {
            true => assert_eq!((end, told), (Err("cancelled: outside".into()), 1)),
            false => assert_eq!((end, told), (Ok(()), 2)),
        }
    }
}

#[test]
fn of_nested_timeouts_none_stays_counted() {
    run(async {
        let mut task = create_task(async {
            let inner = async {
                timeout(SECOND, async {
                    let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
                    assert_eq!(cancelled.reasons().count(), 2);
                    sleep(SECOND).await;
                    cancelled.resume().await
                })
                .await
            };
            timeout(SECOND, inner).await.unwrap_err();
            sleep(SECOND).await;
        });
        sleep(SECOND + SECOND / 2).await;
        assert_eq!(task.cancelling(), 2);
        sleep(SECOND).await;
        assert_eq!(task.cancelling(), 0);
        task.join().await.unwrap();
    });
}

#[test]
fn each_level_that_awaits_is_told_the_same_reason() {
    let log = Log::default();
    run(async {
        let told = [0, 1, 2].map(|level| {
            let log = log.clone();
            move |words: &str| log.add(format!("{level}: {words}"))
        });
        let [outer, middle, inner] = told;
        let mut task = create_task(async move {
            let caught = catch_cancel(create_task(async move {
                let caught = catch_cancel(create_task(async move {
                    let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
                    inner(cancelled.reason().text().unwrap());
                    cancelled.resume().await;
                }));
                let cancelled = caught.await.unwrap_err();
                middle(cancelled.reason().text().unwrap());
                cancelled.resume().await;
            }));
            let cancelled = caught.await.unwrap_err();
            outer(cancelled.reason().text().unwrap());
            cancelled.resume().await;
        });
        sleep(SECOND).await;
        task.cancel("in the words of who asked");
        task.join().await.unwrap_err();
    });
    let told = ["2", "1", "0"].map(|level| format!("{level}: in the words of who asked"));
    assert_eq!(log.take(), told);
}

#[test]
fn of_several_clean_ups_that_panic_in_a_cancelled_gather_the_others_are_reported() {
    let (reports, clock) = (Log::default(), VirtualClock::new());
    let runner = Runner::on_clock(clock.into()).ignore_ctrl_c();
    let told = reports.clone();
    runner
        .event_loop()
        .set_unhandled_hook(move |unhandled| told.add(unhandled.panic_message().unwrap_or("")));
    let run = runner.run(async {
        let panics = |words: &'static str| async move {
            let _cancelled = catch_cancel(pending::<()>()).await;
            panic!("{words}");
        };
        let mut task =
            create_task(async move { gather([panics("one"), panics("two"), panics("three")]).await });
        sleep(SECOND).await;
        task.cancel("outside");
        let panic = task.join().await.unwrap_err().into_panic().unwrap();
        assert_eq!(panic.downcast_ref::<String>().unwrap(), "one");
    });
    run.unwrap();
    assert_eq!(reports.take(), ["two", "three"]);
}
