//! `Future`: set once, awaited by many, callbacks in order, and an error that nobody has seen is reported.

use evenloop_core::{BoxFuture, BoxJob, LocalBoxFuture, NotSpawned, Runtime, Spawn};
use evenloop_sync::{CallbackId, Future, FutureError, FutureWait, InvalidState, OwnedFutureWait};
use evenloop_tests::{Woken, poll};
use futures::executor::block_on;
use static_assertions::{assert_impl_all, assert_not_impl_any};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

assert_impl_all!(Future<u8, u8>: Send, Sync, Unpin, Clone, Default, std::fmt::Debug);
assert_impl_all!(FutureWait<'static, u8, u8>: Send, Sync, Unpin, std::fmt::Debug);
assert_impl_all!(OwnedFutureWait<u8, u8>: Send, Sync, Unpin, std::fmt::Debug);
assert_not_impl_any!(Future<Rc<u8>, u8>: Send, Sync);
assert_not_impl_any!(Future<u8, Cell<u8>>: Send, Sync);
assert_not_impl_any!(FutureWait<'static, Cell<u8>, u8>: Send, Sync);
assert_impl_all!(InvalidState<Rc<u8>>: std::error::Error);
assert_impl_all!(CallbackId: Copy, Send, Sync);

/// A host that keeps what it is given, until it is told to run it.
#[derive(Default)]
struct Host {
    jobs: Mutex<Vec<BoxFuture>>,
    reports: Mutex<Vec<String>>,
    ended: bool,
}

impl Host {
    fn run(&self) {
        let jobs = std::mem::take(&mut *self.jobs.lock().unwrap());
        jobs.into_iter().for_each(block_on);
    }

    fn enter(self: &Arc<Self>) -> evenloop_core::Entered {
        Runtime::builder("the test's host").spawn(self.clone()).build().enter()
    }
}

impl Spawn for Host {
    fn spawn(&self, future: BoxFuture) -> Result<(), NotSpawned<BoxFuture>> {
        if self.ended {
            return Err(NotSpawned { value: future, why: "the host has ended" });
        }
        self.jobs.lock().unwrap().push(future);
        Ok(())
    }

    fn spawn_local(&self, future: LocalBoxFuture) -> Result<(), NotSpawned<LocalBoxFuture>> {
        Err(NotSpawned { value: future, why: "not here" })
    }

    fn spawn_blocking(&self, job: BoxJob) -> Result<(), NotSpawned<BoxJob>> {
        Err(NotSpawned { value: job, why: "not here" })
    }

    fn report(&self, what: &dyn std::fmt::Display) {
        self.reports.lock().unwrap().push(what.to_string());
    }
}

/// A place where callbacks write, and a callback that writes there.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<&'static str>>>);

impl Log {
    fn write(&self, word: &'static str) -> impl FnOnce(&Future<u8, String>) + Send + 'static {
        let log = self.clone();
        move |_| log.0.lock().unwrap().push(word)
    }

    fn read(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().clone()
    }
}

fn future() -> Future<u8, String> {
    Future::new()
}

#[test]
fn it_is_set_once_and_what_comes_later_comes_back() {
    let future = future();
    assert!(!future.done() && future.result().is_none());
    assert_eq!(future.set_result(1), Ok(()));
    assert_eq!(future.set_result(2), Err(InvalidState(2)));
    assert_eq!(future.set_exception("late".into()), Err(InvalidState("late".into())));
    assert!(!future.cancel() && !future.cancelled() && future.done());
    assert_eq!((future.result(), future.exception()), (Some(Ok(&1)), None));
}

#[test]
fn a_cancelled_future_takes_no_result() {
    let future = future();
    assert!(future.cancel() && !future.cancel());
    assert!(future.cancelled() && future.done());
    assert_eq!(future.set_result(1), Err(InvalidState(1)));
    assert_eq!(future.result(), Some(Err(FutureError::Cancelled)));
    assert_eq!(block_on(future.wait()), Err(FutureError::Cancelled));
}

#[test]
fn everybody_who_waits_is_woken_in_order_and_gets_the_outcome() {
    let future = future();
    let (woken, waker) = Woken::waker();
    let mut waits: Vec<_> = (0..100).map(|_| future.wait()).collect();
    assert!(waits.iter_mut().all(|wait| poll(wait, &waker).is_pending()));
    let mut owned = std::future::IntoFuture::into_future(future.clone());
    assert!(poll(&mut owned, &waker).is_pending());
    assert_eq!(format!("{future:?}"), "Future [pending, waiters: 101, callbacks: 0]");
    future.set_exception("no luck".into()).unwrap();
    assert_eq!(woken.times(), 101);
    let error = "no luck".to_owned();
    assert!(
        waits.iter_mut().all(|wait| poll(wait, &waker) == Poll::Ready(Err(FutureError::Exception(&error))))
    );
    assert_eq!(block_on(owned), Err(FutureError::Exception(error)));
    assert!(block_on(async { (&future).await.is_err() }));
    assert_eq!(format!("{future:?}"), "Future [failed: \"no luck\"]");
}

#[test]
fn a_result_that_cannot_be_cloned_is_lent() {
    struct Plain;
    let future = Future::<Plain>::new();
    future.set_result(Plain).ok().unwrap();
    let Ok(Plain) = block_on(future.wait()) else { panic!("a result was set") };
    assert_eq!(format!("{future:?}"), "Future [finished]");
}

// === Callbacks ===

#[test]
fn callbacks_run_in_order_as_one_job_of_the_host() {
    let (future, log, host) = (future(), Log::default(), Arc::new(Host::default()));
    let _entered = host.enter();
    future.add_done_callback(log.write("first"));
    let second = future.add_done_callback(log.write("second"));
    future.add_done_callback(log.write("third"));
    assert!(future.remove_done_callback(second) && !future.remove_done_callback(second));
    future.set_result(1).unwrap();
    assert!(log.read().is_empty(), "never inside the call that sets");
    future.add_done_callback(log.write("late"));
    assert!(log.read().is_empty(), "nor inside the call that registers");
    host.run();
    assert_eq!(log.read(), ["first", "third", "late"]);
}

/// Showed as 1, 3, 2.
#[test]
fn a_callback_that_another_one_registers_runs_after_those_before_it() {
    for with_host in [false, true] {
        let (future, log, host) = (future(), Log::default(), Arc::new(Host::default()));
        let _entered = with_host.then(|| host.enter());
        future.add_done_callback({
            let (first, third) = (log.write("first"), log.write("third"));
            move |future| {
                first(future);
                future.add_done_callback(third);
            }
        });
        future.add_done_callback(log.write("second"));
        future.set_result(1).unwrap();
        host.run();
        assert_eq!(log.read(), ["first", "second", "third"]);
        assert_eq!(future.statistics().callbacks, 0);
    }
}

/// Showed under tokio's threads as 3, 1, 2, and two at once.
#[test]
fn a_callback_that_comes_while_others_run_elsewhere_runs_after_them() {
    let (future, log, host) = (future(), Log::default(), Arc::new(Host::default()));
    let (runs, has_begun) = std::sync::mpsc::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    future.add_done_callback({
        let first = log.write("first");
        move |future| {
            runs.send(()).unwrap();
            may_go_on.recv().unwrap();
            first(future);
        }
    });
    future.add_done_callback(log.write("second"));
    {
        let _entered = host.enter();
        future.set_result(1).unwrap();
    }
    std::thread::scope(|threads| {
        threads.spawn(|| host.run());
        has_begun.recv().unwrap();
        future.add_done_callback(log.write("third")); // without a host, where it would run at once
        assert!(log.read().is_empty());
        go_on.send(()).unwrap();
    });
    assert_eq!(log.read(), ["first", "second", "third"]);
    future.add_done_callback(log.write("late"));
    assert_eq!(log.read().len(), 4, "who comes when all have run needs nobody to wait for");
}

/// Showed as a callback that ran all the same.
#[test]
fn a_callback_may_take_back_those_after_it() {
    let (future, log) = (future(), Log::default());
    let second = Arc::new(Mutex::new(None));
    future.add_done_callback({
        let second = second.clone();
        move |future| {
            let second = second.lock().unwrap().take().unwrap();
            assert!(future.remove_done_callback(second), "its job has not come to it");
        }
    });
    *second.lock().unwrap() = Some(future.add_done_callback(log.write("second")));
    future.add_done_callback(log.write("third"));
    future.set_result(1).unwrap();
    assert_eq!(log.read(), ["third"]);
}

#[test]
fn a_host_that_ends_before_it_runs_its_callbacks_stands_in_nobodys_way() {
    let (future, log, host) = (future(), Log::default(), Arc::new(Host::default()));
    let alive = Arc::new(());
    {
        let _entered = host.enter();
        let (first, held) = (log.write("first"), alive.clone());
        future.add_done_callback(move |future| {
            first(future);
            drop(held);
        });
        future.set_result(1).unwrap();
        let removed = future.add_done_callback(log.write("removed"));
        assert!(future.remove_done_callback(removed), "its job has not come to it");
    }
    host.jobs.lock().unwrap().clear();
    assert_eq!(Arc::strong_count(&alive), 1, "what was not run is dropped");
    future.add_done_callback(log.write("late"));
    assert_eq!(log.read(), ["late"]);
}

/// Panics when it is dropped, with what has no size, so that nothing is leaked where that is forgotten.
struct Wild;

impl Drop for Wild {
    fn drop(&mut self) {
        std::panic::panic_any(());
    }
}

/// Showed as an abort of the process.
#[test]
fn callbacks_that_panic_with_what_panics_keep_no_other_from_running() {
    let (future, log) = (future(), Log::default());
    for _ in 0..2 {
        future.add_done_callback(|_| std::panic::panic_any(Wild));
    }
    future.add_done_callback(log.write("third"));
    let set = catch_unwind(AssertUnwindSafe(|| future.set_result(1)));
    std::mem::forget(set.expect_err("the first panic goes on"));
    assert_eq!(log.read(), ["third"]);
}

/// Showed as callbacks that nobody ran any more.
#[test]
fn a_callback_that_panics_when_it_is_dropped_stands_in_nobodys_way() {
    let (future, log, host) = (future(), Log::default(), Arc::new(Host::default()));
    let alive = Arc::new(());
    {
        let _entered = host.enter();
        let (wild, held) = (Wild, alive.clone());
        future.add_done_callback(move |_| drop(wild));
        future.add_done_callback(move |_| drop(held));
        future.set_result(1).unwrap();
    }
    let jobs = std::mem::take(&mut *host.jobs.lock().unwrap());
    catch_unwind(AssertUnwindSafe(|| drop(jobs))).expect_err("the panic goes on");
    assert_eq!(Arc::strong_count(&alive), 1, "the others are dropped");
    future.add_done_callback(log.write("late"));
    assert_eq!(log.read(), ["late"]);
}

#[test]
fn without_a_host_callbacks_run_on_the_setters_thread() {
    let (future, log) = (future(), Log::default());
    future.add_done_callback(log.write("first"));
    future.add_done_callback(log.write("second"));
    assert_eq!(future.statistics().callbacks, 2);
    future.cancel();
    assert_eq!(log.read(), ["first", "second"]);
    future.add_done_callback(log.write("late"));
    assert_eq!(log.read(), ["first", "second", "late"]);
}

#[test]
fn a_host_that_has_ended_loses_no_callback() {
    let (future, log) = (future(), Log::default());
    let _entered = Arc::new(Host { ended: true, ..Host::default() }).enter();
    future.add_done_callback(log.write("run"));
    future.set_result(1).unwrap();
    assert_eq!(log.read(), ["run"]);
}

#[test]
fn a_callback_that_panics_keeps_no_other_from_running() {
    let (future, log) = (future(), Log::default());
    future.add_done_callback(|_| panic!("a callback that panics"));
    future.add_done_callback(log.write("run"));
    catch_unwind(AssertUnwindSafe(|| future.set_result(1))).expect_err("the panic goes on");
    assert_eq!((log.read(), future.done()), (vec!["run"], true));
}

#[test]
fn a_waker_that_panics_keeps_no_callback_from_running() {
    struct Wild;
    impl std::task::Wake for Wild {
        fn wake(self: Arc<Self>) {
            panic!("a waker that panics");
        }
    }
    let (future, log) = (future(), Log::default());
    let mut wait = future.wait();
    assert!(poll(&mut wait, &Waker::from(Arc::new(Wild))).is_pending());
    future.add_done_callback(log.write("run"));
    catch_unwind(AssertUnwindSafe(|| future.set_result(1))).expect_err("the panic goes on");
    assert_eq!(log.read(), ["run"]);
}

#[test]
fn a_callback_may_use_the_future_and_see_the_error() {
    let future = future();
    let seen = Arc::new(Mutex::new(None));
    future.add_done_callback({
        let seen = seen.clone();
        move |future| {
            future.add_done_callback(|future| assert!(!future.cancel()));
            *seen.lock().unwrap() = future.exception().cloned();
        }
    });
    future.set_exception("no luck".into()).unwrap();
    assert_eq!(seen.lock().unwrap().as_deref(), Some("no luck"));
}

// === The report ===

fn reports(use_it: impl FnOnce(&Future<u8, String>)) -> Vec<String> {
    let host = Arc::new(Host::default());
    let entered = host.enter();
    let future = future();
    use_it(&future);
    drop(future.clone());
    assert!(host.reports.lock().unwrap().is_empty(), "a handle is left");
    drop(future);
    drop(entered);
    let reports = host.reports.lock().unwrap();
    reports.clone()
}

#[test]
fn an_error_that_nobody_has_seen_is_reported_once() {
    let line = line!() + 1;
    let reports = reports(|future| future.set_exception("no luck".into()).unwrap());
    let file = file!();
    let expected =
        format!("future failed, and nobody has seen the error: \"no luck\" (set at {file}:{line}:");
    assert!(reports.len() == 1 && reports[0].starts_with(&expected), "{reports:?}");
}

#[test]
fn whoever_looks_has_seen_the_error() {
    let looks: [fn(&Future<u8, String>); 4] = [
        |future| assert!(future.result().is_some()),
        |future| assert!(future.exception().is_some()),
        |future| assert!(block_on(future.wait()).is_err()),
        |future| assert!(block_on(std::future::IntoFuture::into_future(future.clone())).is_err()),
    ];
    for look in looks {
        let seen = reports(|future| {
            future.set_exception("no luck".into()).unwrap();
            look(future);
        });
        assert!(seen.is_empty(), "{seen:?}");
    }
}

#[test]
fn being_done_or_printed_is_not_being_seen() {
    let unseen = reports(|future| {
        future.set_exception("no luck".into()).unwrap();
        assert!(future.done() && !future.cancelled());
        assert!(!format!("{future:?}").is_empty());
    });
    assert_eq!(unseen.len(), 1);
}

#[test]
fn results_and_cancellations_are_not_reported() {
    assert!(reports(|future| future.set_result(1).unwrap()).is_empty());
    assert!(reports(|future| assert!(future.cancel())).is_empty());
    assert!(reports(|_| ()).is_empty());
}

#[test]
fn an_error_that_panics_when_it_is_shown_takes_nothing_down() {
    struct Wild;
    impl std::fmt::Debug for Wild {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("an error that panics");
        }
    }
    let future = Future::<u8, Wild>::new();
    future.set_exception(Wild).unwrap();
    drop(future);
}
