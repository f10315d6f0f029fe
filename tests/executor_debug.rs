//! Debug mode: what is reported beside slow polls, and what is not.

use evenloop::cancel::catch_cancel;
use evenloop::time::VirtualClock;
use evenloop::{
    EventLoop, TaskGroup, ThreadPool, create_named_task, create_task, event_loop_builder, gather_settled,
    sleep, to_thread, try_gather, yield_now,
};
use futures::FutureExt;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::pending;
use std::process::Command;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

type Reports = Rc<RefCell<Vec<String>>>;

/// A loop on a virtual clock, and what its hook is told.
fn event_loop(debug: bool) -> (EventLoop, Reports) {
    building(debug, |builder| builder)
}

fn building(debug: bool, more: impl FnOnce(evenloop::Builder) -> evenloop::Builder) -> (EventLoop, Reports) {
    let reports = Reports::default();
    let told = reports.clone();
    let hook = move |error: &evenloop::Unhandled<'_>| told.borrow_mut().push(error.to_string());
    let builder = event_loop_builder(VirtualClock::new().into()).debug(debug).on_unhandled(hook);
    (more(builder).build(), reports)
}

async fn fails() -> Result<u8, &'static str> {
    yield_now().await;
    Err("no luck")
}

async fn succeeds() -> Result<Box<u8>, ()> {
    yield_now().await;
    Ok(Box::new(1))
}

// === Results that nobody looked at ===

#[test]
fn an_error_whose_handle_was_dropped_is_told_with_task_spawn_line_and_type() {
    let (event_loop, reports) = event_loop(true);
    let line = event_loop.run_until_complete(async {
        let task = create_named_task("forgotten", fails());
        let line = task.spawned_at().line();
        sleep(Duration::from_secs(1)).await;
        assert!(task.done());
        drop(task);
        line
    });
    let told = format!(
        "task gave an error that nobody looked at: <Task finished name='forgotten' spawned at \
         tests/executor_debug.rs:{line}:20>: core::result::Result<u8, &str>"
    );
    assert_eq!(*reports.borrow(), [told]);
}

#[test]
fn an_error_of_a_detached_task_is_told_once() {
    let (event_loop, reports) = event_loop(true);
    event_loop.run_until_complete(async {
        create_named_task("detached", fails()).detach();
        sleep(Duration::from_secs(1)).await;
    });
    drop(event_loop);
    let reports = reports.borrow();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(reports[0].contains("'detached'"), "{reports:?}");
}

#[test]
fn what_was_looked_at_or_is_no_error_is_not_told() {
    let (event_loop, reports) = event_loop(true);
    event_loop.run_until_complete(async {
        assert!(create_task(fails()).await.is_err());
        assert!(create_task(fails()).join().await.unwrap().is_err());
        let mut polled = create_task(fails());
        sleep(Duration::from_secs(1)).await;
        assert!(polled.result().unwrap().unwrap().is_err());

        create_task(succeeds()).detach();
        create_task(async { Some(Err::<u8, u8>(1)) }).detach(); // whatever that means, it is no `Result`
        create_task(async { 7 }).detach();
        let cancelled = create_task(pending::<Result<(), ()>>());
        cancelled.cancel("not needed");
        drop(cancelled);
        sleep(Duration::from_secs(1)).await;

        let all = gather_settled((fails(), succeeds())).await;
        assert!(matches!(all, (Ok(Err(_)), Ok(Ok(_)))));
        let failed = TaskGroup::run(async |group| {
            drop(group.create_task(fails()));
            Ok(())
        });
        assert!(failed.await.is_err());
    });
    event_loop.cancel_all(None);
    event_loop.close();
    assert!(reports.borrow().is_empty(), "{reports:?}");
}

#[test]
fn of_many_errors_of_one_gather_the_first_stands_for_all() {
    let later = async || {
        sleep(Duration::from_secs(1)).await;
        Err::<u8, _>("later")
    };
    let (event_loop, reports) = event_loop(true);
    event_loop.run_until_complete(async {
        assert_eq!(try_gather((fails(), later())).await, Err("no luck"));
        assert_eq!(try_gather([later(), later()]).await, Err("later"));
        sleep(Duration::from_secs(2)).await;
    });
    event_loop.close();
    assert!(reports.borrow().is_empty(), "{reports:?}");
}

#[test]
fn errors_of_a_group_that_was_dropped_are_told() {
    let (event_loop, reports) = event_loop(true);
    event_loop.run_until_complete(async {
        let mut group = Box::pin(TaskGroup::run(async |group: TaskGroup<&str>| {
            group.create_task(async {
                let _ = catch_cancel(pending::<()>()).await;
                Err::<(), _>("the clean-up failed")
            });
            pending::<Result<(), _>>().await
        }));
        assert!((&mut group).now_or_never().is_none());
        yield_now().await;
        drop(group);
        yield_now().await;
    });
    event_loop.close();
    let reports = reports.take();
    assert!(
        matches!(&reports[..], [one] if one.contains("task group") && one.contains("str")),
        "{reports:?}"
    );
}

#[test]
fn without_debug_mode_nothing_of_this_is_told() {
    let (event_loop, reports) = event_loop(false);
    event_loop.watch();
    event_loop.run_until_complete(async {
        create_task(fails()).detach();
        create_task(pending::<()>()).detach();
        yield_now().await;
        yield_now().await;
    });
    event_loop.close();
    assert!(reports.borrow().is_empty(), "{reports:?}");
}

#[test]
fn an_error_of_a_task_that_the_end_of_a_run_cancelled_is_told() {
    let (event_loop, reports) = event_loop(true);
    event_loop.run_until_complete(async {
        let cleans_up = async {
            catch_cancel(pending::<()>()).await.unwrap_err().absorb();
            Err::<(), _>("the clean-up failed")
        };
        create_named_task("cleans up", cleans_up).detach();
        yield_now().await;
    });
    event_loop.cancel_all(None);
    let reports = reports.borrow();
    assert_eq!(reports.len(), 2, "{reports:?}"); // it was left, too
    let start = "task gave an error that nobody looked at: <Task finished name='cleans up'";
    assert!(reports[1].starts_with(start), "{reports:?}");
}

#[test]
fn an_error_whose_handle_outlives_its_loop_is_told_on_the_standard_error_stream() {
    if std::env::var_os(CHILD).is_some() {
        let event_loop = event_loop_builder(VirtualClock::new().into()).build();
        let unseen = event_loop.create_named_task("unseen", fails());
        event_loop.run_until_complete(sleep(Duration::from_secs(1)));
        event_loop.close();
        drop(event_loop);
        drop(unseen);
        return;
    }
    for (value, expected) in [("0", 0), ("1", 1)] {
        let name = "an_error_whose_handle_outlives_its_loop_is_told_on_the_standard_error_stream";
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args([name, "--exact", "--nocapture"]).env(CHILD, "1").env(VARIABLE, value);
        let output = again.output().unwrap();
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{printed}");
        let start = "task gave an error that nobody looked at: <Task finished name='unseen' spawned at";
        assert_eq!(printed.matches(start).count(), expected, "{printed}");
    }
}

// === What is slow ===

#[test]
fn a_slow_callback_is_told_with_its_line_whichever_way_it_was_registered() {
    let (clock, reports) = (VirtualClock::new(), Reports::default());
    let told = reports.clone();
    let hook = move |error: &evenloop::Unhandled<'_>| told.borrow_mut().push(error.to_string());
    let event_loop = event_loop_builder(clock.clone().into()).debug(true).on_unhandled(hook).build();
    let takes = |millis| {
        let clock = clock.clone();
        move || clock.advance(Duration::from_millis(millis))
    };
    let line = line!();
    event_loop.call_soon(takes(100));
    event_loop.call_soon(takes(99));
    event_loop.call_later(Duration::from_secs(5), takes(200));
    drop(event_loop.handle().call_soon_threadsafe(takes(300)).unwrap());
    let slow = takes(400);
    event_loop.create_task(async {}).add_done_callback(move |_, _| slow());
    event_loop.run_until_complete(sleep(Duration::from_secs(10)));
    let lines: Vec<_> = reports.borrow().iter().map(|report| line_of(report)).collect();
    assert_eq!(lines.len(), 4, "{reports:?}");
    assert_eq!(
        BTreeSet::from_iter(lines),
        BTreeSet::from([1, 3, 4, 6].map(|after| line + after)),
        "{reports:?}"
    );
    let first = &reports.borrow()[0];
    let start =
        "a callback kept the event loop from running anything else: <Callback finished created at tests/";
    assert!(first.starts_with(start) && first.ends_with(": it took 100.000ms"), "{first}");
}

/// The line in `file.rs:line:column`.
fn line_of(report: &str) -> u32 {
    let (_, place) = report.split_once("executor_debug.rs:").expect("it names this file");
    place.split(':').next().unwrap().parse().unwrap()
}

// === Whether ===

const VARIABLE: &str = "EVENLOOP_DEBUG";
const CHILD: &str = "EVENLOOP_TEST_IS_CHILD";

#[test]
fn the_variable_decides_unless_the_builder_does() {
    if std::env::var_os(CHILD).is_some() {
        let debugs = |builder: evenloop::Builder| builder.build().is_debug();
        assert!(debugs(EventLoop::builder().debug(true)) && !debugs(EventLoop::builder().debug(false)));
        println!("debug mode: {}", evenloop::new_event_loop().is_debug());
        return;
    }
    for (value, expected) in [(None, false), (Some(""), false), (Some("0"), false), (Some("1"), true)] {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["the_variable_decides_unless_the_builder_does", "--exact", "--nocapture"]);
        again.env(CHILD, "1").env_remove(VARIABLE).envs(value.map(|value| (VARIABLE, value)));
        let output = again.output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains(&format!("debug mode: {expected}")), "{printed}");
    }
}

// === What is left ===

#[test]
fn a_task_is_told_that_is_left_when_its_loop_is_closed() {
    let (event_loop, reports) = event_loop(true);
    event_loop.create_named_task("pending", pending::<()>()).detach();
    event_loop.run_until_complete(yield_now());
    assert!(reports.borrow().is_empty());
    drop(event_loop);
    let reports = reports.borrow();
    assert_eq!(reports.len(), 1, "{reports:?}");
    let start = "a task was left when its event loop was closed, and is dropped: <Task pending name='pending' spawned";
    assert!(reports[0].starts_with(start), "{reports:?}");
}

#[test]
fn a_job_is_told_that_the_closed_loop_has_not_begun_and_one_that_still_runs() {
    let (event_loop, reports) = building(true, |builder| builder.thread_pool(ThreadPool::new(1)));
    let (go_on, waits) = mpsc::channel::<()>();
    let (begun, runs) = mpsc::channel();
    event_loop.run_until_complete(async {
        let job = move || {
            begun.send(()).unwrap();
            let _ = waits.recv();
        };
        to_thread(job).detach();
        to_thread(|| ()).detach();
        drop(to_thread(|| ())); // cancelled, so nothing of it is lost
        runs.recv().unwrap();
    });
    event_loop.close();
    let expected = [
        "a job was dropped before it began: its pool was shut down",
        "the event loop was closed while jobs ran: threads still at work: 1",
    ];
    assert_eq!(*reports.borrow(), expected);
    drop(go_on);
}

#[test]
fn threads_that_have_done_their_jobs_are_not_told() {
    for _ in 0..50 {
        let (event_loop, reports) = event_loop(true);
        let sum = event_loop.run_until_complete(async {
            let (one, two) = (to_thread(|| 1), to_thread(|| 2));
            one.await + two.await
        });
        assert_eq!(sum, 3);
        drop(event_loop); // a thread may be about to notice that it has nothing to do
        assert!(reports.borrow().is_empty(), "{reports:?}");
    }
}
