//! Models of executor's `ThreadPool`.

use evenloop_core::shim::{Arc, StdArc, thread};
use evenloop_executor::ThreadPool;
use evenloop_loom_tests::{Outcomes, Witness, block_on, fail_starts, model, model_reaching};
use std::time::Duration;

/// Is a job that meets a shutdown either run whole, dropped, or given back, and does the shutdown see its end?
#[test]
fn job_races_shutdown() {
    model_reaching(["ran", "refused"], |outcomes: Outcomes| {
        let pool = ThreadPool::new(1);
        let witness = StdArc::new(Witness::new(0));
        let other = thread::spawn({
            let (pool, witness) = (pool.clone(), witness.clone());
            move || pool.execute(Box::new(move || witness.set(1))).is_ok()
        });
        pool.shutdown(Duration::MAX).unwrap();
        let ran = witness.get() == 1;
        if other.join().unwrap() {
            // Taken after the shutdown found nobody is impossible: what is taken is run, and waited for.
            assert!(ran);
            outcomes.count("ran");
        } else {
            assert!(!ran);
            outcomes.count("refused");
        }
    });
}

/// Are both jobs run when one comes just as the only worker goes idle?
#[test]
fn job_races_idle() {
    model(|| {
        let pool = ThreadPool::new(1);
        let witness = StdArc::new((Witness::new(0), Witness::new(0)));
        let inside = witness.clone();
        pool.execute(Box::new(move || inside.0.set(1))).unwrap();
        let inside = witness.clone();
        pool.execute(Box::new(move || inside.1.set(1))).unwrap();
        pool.shutdown(Duration::MAX).unwrap();
        assert_eq!(witness.0.get() + witness.1.get(), 2);
    });
}

/// Is a worker woken for a job that comes when it has gone idle, or is about to?
/// No cell: the values come through the slots of the jobs, which are such.
#[test]
fn next_job_races_idle() {
    model(|| {
        let pool = ThreadPool::new(1);
        assert_eq!(block_on(pool.run(|| 1)), 1);
        assert_eq!(block_on(pool.run(|| 2)), 2);
    });
}

/// Is a job run that comes just as the only worker ends, having had nothing to do?
#[test]
fn job_races_idle_exit() {
    model(|| {
        let pool = ThreadPool::named("short-lived", 1, Duration::ZERO);
        let witness = StdArc::new((Witness::new(0), Witness::new(0)));
        let inside = witness.clone();
        block_on(pool.run(move || inside.0.set(1)));
        let inside = witness.clone();
        block_on(pool.run(move || inside.1.set(1)));
        pool.shutdown(Duration::MAX).unwrap();
        assert_eq!((witness.0.get() + witness.1.get(), pool.threads()), (2, 0));
    });
}

/// When a thread cannot be started, is each job either given back to whoever brought it, or run?
#[test]
fn job_races_failed_start() {
    model_reaching(["given back", "ran"], |outcomes: Outcomes| {
        fail_starts(1);
        let pool = ThreadPool::new(1);
        let witness = StdArc::new((Witness::new(0), Witness::new(0)));
        let other = thread::spawn({
            let (pool, witness) = (pool.clone(), witness.clone());
            move || pool.execute(Box::new(move || witness.0.set(1))).map_err(|refused| (refused.value)())
        });
        let inside = witness.clone();
        let mine = pool.execute(Box::new(move || inside.1.set(1))).map_err(|refused| {
            assert_eq!(witness.1.get(), 0);
            (refused.value)();
            assert_eq!(witness.1.get(), 1, "another one's job came back");
        });
        outcomes.count(if mine.is_ok() { "ran" } else { "given back" });
        other.join().unwrap().ok();
        pool.shutdown(Duration::MAX).unwrap();
        assert_eq!((witness.0.get(), witness.1.get()), (1, 1), "a job was neither run nor given back");
    });
}

/// Does whoever waits for a job get what it gave, and see what it did?
#[test]
fn await_races_complete() {
    model(|| {
        let pool = ThreadPool::new(1);
        let witness = StdArc::new(Witness::new(0));
        let inside = witness.clone();
        let leak = Arc::new(());
        let job = pool.run(move || {
            inside.set(1);
            leak
        });
        drop(block_on(job));
        assert_eq!(witness.get(), 1);
    });
}

/// Does a job that is cancelled just as it begins either run whole or not at all, and is its work dropped once?
#[test]
fn cancel_races_begin() {
    model_reaching(["ran", "never began"], |outcomes: Outcomes| {
        let pool = ThreadPool::new(1);
        let witness = StdArc::new(Witness::new(0));
        let (inside, leak) = (witness.clone(), Arc::new(()));
        let job = pool.run(move || {
            let _held = leak;
            inside.set(1);
        });
        let outcome = block_on(job.cancel());
        outcomes.count(match outcome {
            Some(outcome) => {
                outcome.unwrap();
                assert_eq!(witness.get(), 1);
                "ran"
            }
            None => {
                assert_eq!(witness.get(), 0);
                "never began"
            }
        });
    });
}

/// Is what a job holds dropped when its waiter and its pool go while it waits for a thread?
/// No cell: nothing comes across; loom counts what is let go.
#[test]
fn drop_of_the_waiter_races_close() {
    model(|| {
        let pool = ThreadPool::new(1);
        let leak = Arc::new(());
        let job = pool.run(move || drop(leak));
        let other = thread::spawn(move || drop(job));
        drop(pool);
        other.join().unwrap();
    });
}
