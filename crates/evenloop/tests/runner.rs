//! The runner's end, and the loop's hook for what nobody sees.

use evenloop::cancel::catch_cancel;
use evenloop::{
    EventLoop, Interrupted, Runner, Unhandled, call_soon, create_named_task, to_thread, yield_now,
};
use std::cell::RefCell;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

type Reports = Rc<RefCell<Vec<String>>>;

/// A runner, and what its loop's hook is told.
fn runner() -> (Runner, Reports) {
    let (runner, reports) = (Runner::new().ignore_ctrl_c(), Reports::default());
    runner.event_loop().set_unhandled_hook(noting(&reports));
    (runner, reports)
}

fn noting(reports: &Reports) -> impl Fn(&Unhandled<'_>) + 'static {
    let told = reports.clone();
    move |unhandled| told.borrow_mut().push(unhandled.to_string())
}

/// A job at work, which nobody awaits, until it is told to end; and whether it has ended.
fn at_work(runner: &Runner) -> (mpsc::Sender<()>, Arc<AtomicBool>) {
    let (end, told) = mpsc::channel();
    let (begun, runs) = mpsc::channel();
    let ended = Arc::new(AtomicBool::new(false));
    let sets = ended.clone();
    let job = move || {
        begun.send(()).unwrap();
        let _ = told.recv();
        sets.store(true, Ordering::Release);
    };
    runner.run(async { to_thread(job).detach() }).unwrap();
    runs.recv().unwrap();
    (end, ended)
}

/// A thread that lets the job end as soon as the runner's pool takes no more.
fn ends_while_closing(runner: &Runner, end: mpsc::Sender<()>) -> std::thread::JoinHandle<()> {
    let pool = runner.event_loop().handle().thread_pool().clone();
    std::thread::spawn(move || {
        while !pool.statistics().is_closed {
            std::thread::yield_now();
        }
        end.send(()).unwrap();
    })
}

#[test]
fn close_waits_for_a_job_within_its_limit() {
    let (runner, reports) = runner();
    let runner = runner.job_limit(Duration::from_secs(60));
    let (end, ended) = at_work(&runner);
    let helper = ends_while_closing(&runner, end);
    runner.close();
    assert!(ended.load(Ordering::Acquire), "the job was over when `close` returned");
    helper.join().unwrap();
    assert!(reports.borrow().is_empty(), "{reports:?}");
}

#[test]
fn dropping_a_runner_closes_it_and_waits_as_well() {
    let (runner, _) = runner();
    let runner = runner.job_limit(Duration::from_secs(60));
    let (end, ended) = at_work(&runner);
    let helper = ends_while_closing(&runner, end);
    drop(runner);
    assert!(ended.load(Ordering::Acquire));
    helper.join().unwrap();
}

#[test]
fn a_job_over_the_limit_is_reported_once_and_ends_by_itself() {
    let (runner, reports) = runner();
    let runner = runner.job_limit(Duration::from_millis(1));
    let (end, ended) = at_work(&runner);
    runner.close();
    runner.close(); // does nothing
    assert!(!ended.load(Ordering::Acquire));
    assert_eq!(*reports.borrow(), ["1 threads are still at work after 1ms"]);
    drop(end);
    let pool = runner.event_loop().handle().thread_pool().clone();
    pool.shutdown(Duration::from_secs(60)).unwrap();
    assert!(ended.load(Ordering::Acquire));
}

#[test]
fn without_a_limit_close_waits_for_nobody() {
    let (runner, reports) = runner();
    let (end, ended) = at_work(&runner);
    runner.close();
    assert!(!ended.load(Ordering::Acquire));
    assert!(reports.borrow().is_empty(), "{reports:?}");
    drop(end);
}

#[test]
fn a_runner_runs_again_until_it_is_closed_and_closing_twice_is_harmless() {
    let (runner, _) = runner();
    assert_eq!(runner.run(async { 1 }), Ok(1));
    assert_eq!(runner.run(async { 2 }), Ok(2));
    runner.close();
    runner.close();
    assert!(runner.event_loop().is_closed());
    let refused = catch_unwind(AssertUnwindSafe(|| runner.run(async {}))).unwrap_err();
    assert_eq!(*refused.downcast::<&str>().unwrap(), "`Runner::run`: the runner is closed");
}

#[test]
fn closing_a_runner_from_inside_is_refused_and_it_goes_on() {
    let runner = Rc::new(Runner::new().ignore_ctrl_c());
    let inside = runner.clone();
    let refused: Result<_, Interrupted> =
        runner.run(async move { catch_unwind(AssertUnwindSafe(|| inside.close())).unwrap_err() });
    let said = refused.unwrap().downcast::<&str>().map(|said| *said).unwrap();
    assert!(said.starts_with("`EventLoop::close`: the loop is running"), "{said}");
    assert_eq!(runner.run(async { 3 }), Ok(3));
}

#[test]
fn a_task_that_fails_in_its_clean_up_at_the_end_is_reported_and_main_gives_its_value() {
    let (runner, reports) = runner();
    let given = runner.run(async {
        let cleans_up = async {
            drop(catch_cancel(pending::<()>()).await);
            panic!("the clean-up failed")
        };
        create_named_task("cleans up", cleans_up).detach();
        yield_now().await;
        7
    });
    assert_eq!(given, Ok(7));
    let reports = reports.borrow();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(
        reports[0].contains("'cleans up'") && reports[0].ends_with(": the clean-up failed"),
        "{reports:?}"
    );
}

// === The hook ===

fn panics(event_loop: &EventLoop, words: &'static str) {
    event_loop.run_until_complete(async move {
        call_soon(move || panic!("{words}"));
        yield_now().await;
        yield_now().await;
    });
}

const CHILD: &str = "EVENLOOP_TEST_CLEARED_HOOK";

/// In a process of its own, whose standard error stream can be read.
#[test]
fn a_hook_that_was_cleared_is_dropped_and_errors_are_printed_again() {
    if std::env::var_os(CHILD).is_some() {
        let (event_loop, reports) = (evenloop::new_event_loop(), Reports::default());
        std::panic::set_hook(Box::new(|_| ())); // prints too, and is not what is asked about
        event_loop.set_unhandled_hook(noting(&reports));
        panics(&event_loop, "to the hook");
        event_loop.clear_unhandled_hook();
        assert_eq!(Rc::strong_count(&reports), 1);
        panics(&event_loop, "to the stream");
        event_loop.set_unhandled_hook(noting(&reports));
        panics(&event_loop, "to the new hook");
        let reports = reports.take();
        assert!(
            reports.len() == 2
                && reports[0].ends_with("to the hook")
                && reports[1].ends_with("to the new hook")
        );
        return;
    }
    let name = "a_hook_that_was_cleared_is_dropped_and_errors_are_printed_again";
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, "1").stdin(Stdio::null());
    let output = again.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
    let lines: Vec<_> = printed.lines().filter(|line| line.contains("callback panicked")).collect();
    assert!(lines.len() == 1 && lines[0].ends_with(": to the stream"), "{printed}");
}
