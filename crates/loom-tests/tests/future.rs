//! Models of sync's `Future`.

use evenloop_core::shim::atomic::{AtomicUsize, Ordering};
use evenloop_core::shim::{Arc, StdArc, thread};
use evenloop_loom_tests::{Outcomes, Witness, Woken, block_on, model, model_reaching, poll};
use evenloop_sync::{Future, FutureError, InvalidState};
use std::pin::{Pin, pin};

/// What is set: reading it checks the order, and loom reports it when it leaks.
struct Value {
    witness: Witness,
    _leak: Arc<()>,
}

impl Value {
    fn new(value: u32) -> Self {
        Self { witness: Witness::new(value), _leak: Arc::new(()) }
    }

    fn read(&self) -> u32 {
        self.witness.get()
    }
}

fn value(outcome: Result<&Value, FutureError<&String>>) -> u32 {
    outcome.expect("a result was set").read()
}

/// Does everybody who waits get the result, whole, on whatever thread?
#[test]
fn set_races_wait() {
    model(|| {
        let future = Future::<Value, String>::new();
        let waiter = thread::spawn({
            let future = future.clone();
            move || value(block_on(future.wait()))
        });
        assert!(future.set_result(Value::new(7)).is_ok());
        assert_eq!(value(block_on(future.wait())), 7);
        assert_eq!(waiter.join().unwrap(), 7);
    });
}

/// When one of two that wait gives up while the result is set, is the other one released?
#[test]
fn cancel_of_wait_races_set() {
    model(|| {
        let future = Future::<Value, String>::new();
        let (_, waker) = Woken::waker();
        let mut first = future.wait();
        let mut second = pin!(future.wait());
        assert!(poll(Pin::new(&mut first), &waker).is_pending());
        assert!(poll(second.as_mut(), &waker).is_pending());
        let setter = thread::spawn({
            let future = future.clone();
            move || assert!(future.set_result(Value::new(7)).is_ok())
        });
        drop(first);
        assert_eq!(value(block_on(second)), 7);
        setter.join().unwrap();
        assert_eq!(future.statistics().waiters, 0);
    });
}

/// When a result and a cancellation meet, does one win, and does the loser learn of it with its value in hand?
#[test]
fn set_races_cancel() {
    model_reaching(["set", "cancelled"], |outcomes: Outcomes| {
        let future = Future::<Value, String>::new();
        let other = thread::spawn({
            let future = future.clone();
            move || future.cancel()
        });
        let set = future.set_result(Value::new(7));
        outcomes.count(if set.is_ok() { "set" } else { "cancelled" });
        assert_eq!(other.join().unwrap(), set.is_err());
        match set {
            Ok(()) => assert_eq!(value(block_on(future.wait())), 7),
            Err(InvalidState(refused)) => {
                assert_eq!(refused.read(), 7);
                assert!(future.cancelled());
            }
        }
    });
}

/// Does a callback run exactly once and see the result, whether it comes before or after?
#[test]
fn add_done_callback_races_set() {
    model(|| {
        let future = Future::<Value, String>::new();
        let ran = StdArc::new(AtomicUsize::new(0));
        let other = thread::spawn({
            let (future, ran) = (future.clone(), ran.clone());
            move || {
                future.add_done_callback(move |future| {
                    assert_eq!(value(future.result().expect("it is done")), 7);
                    ran.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        assert!(future.set_result(Value::new(7)).is_ok());
        other.join().unwrap();
        assert_eq!(ran.load(Ordering::Relaxed), 1);
    });
}

/// Does a callback that comes while another one runs, or when it has just run, run once, after it, and with what it did in sight?
#[test]
fn add_done_callback_races_the_callbacks_before_it() {
    model_reaching(["by the job", "by a job of its own"], |outcomes: Outcomes| {
        let future = Future::<Value, String>::new();
        let first = StdArc::new(Witness::default());
        future.add_done_callback({
            let first = first.clone();
            move |_| first.set(1)
        });
        let setter = thread::spawn({
            let future = future.clone();
            move || {
                assert!(future.set_result(Value::new(7)).is_ok());
                thread::current().id()
            }
        });
        let (ran, by) = (StdArc::new(AtomicUsize::new(0)), StdArc::new(std::sync::Mutex::new(None)));
        future.add_done_callback({
            let (ran, by) = (ran.clone(), by.clone());
            move |_| {
                assert_eq!(first.get(), 1);
                *by.lock().unwrap() = Some(thread::current().id());
                ran.fetch_add(1, Ordering::Relaxed);
            }
        });
        let setter = setter.join().unwrap();
        assert_eq!(ran.load(Ordering::Relaxed), 1);
        let by_the_job = *by.lock().unwrap() == Some(setter);
        outcomes.count(if by_the_job { "by the job" } else { "by a job of its own" });
    });
}

/// Is a callback that is taken back while the result is set either taken back or run?
#[test]
fn remove_done_callback_races_set() {
    model_reaching(["removed", "run"], |outcomes: Outcomes| {
        let future = Future::<Value, String>::new();
        let ran = StdArc::new(AtomicUsize::new(0));
        let id = future.add_done_callback({
            let ran = ran.clone();
            move |_| {
                ran.fetch_add(1, Ordering::Relaxed);
            }
        });
        let setter = thread::spawn({
            let future = future.clone();
            move || assert!(future.set_result(Value::new(7)).is_ok())
        });
        let removed = future.remove_done_callback(id);
        setter.join().unwrap();
        assert_eq!(ran.load(Ordering::Relaxed), usize::from(!removed));
        outcomes.count(if removed { "removed" } else { "run" });
    });
}

/// When a waiter moves to another task while the result is set, is the task that holds it now woken?
#[test]
fn waker_moves_while_set() {
    model(|| {
        let future = Future::<Value, String>::new();
        let (left_behind, waker) = Woken::waker();
        let mut wait = pin!(future.wait());
        assert!(poll(wait.as_mut(), &waker).is_pending());
        drop(waker);
        let setter = thread::spawn({
            let future = future.clone();
            move || assert!(future.set_result(Value::new(7)).is_ok())
        });
        assert_eq!(value(block_on(wait)), 7);
        setter.join().unwrap();
        assert_eq!(StdArc::strong_count(&left_behind), 1);
    });
}

/// When the handles are dropped on two threads while one sets, is the value dropped once, by the last?
#[test]
fn drop_of_handle_races_set() {
    model(|| {
        let future = Future::<Value, String>::new();
        let other = thread::spawn({
            let future = future.clone();
            move || drop(future)
        });
        assert!(future.set_result(Value::new(7)).is_ok());
        drop(future);
        other.join().unwrap();
    });
}
