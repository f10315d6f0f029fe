//! Models of sync's `Barrier`.

use evenloop_core::shim::{StdArc, thread};
use evenloop_loom_tests::{Outcomes, Panics, Witness, Woken, block_on, model, model_reaching, poll};
use evenloop_sync::{Barrier, BrokenBarrier};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Poll, Waker};

/// A barrier for two, and what each did before.
struct Scene {
    barrier: Barrier,
    before: [Witness; 2],
}

fn scene() -> StdArc<Scene> {
    StdArc::new(Scene { barrier: Barrier::new(2), before: Default::default() })
}

impl Scene {
    /// Passes the barrier, and looks at what the other did before.
    fn pass(&self, me: usize) -> Result<usize, BrokenBarrier> {
        self.before[me].set(1);
        let passed = block_on(self.barrier.wait())?;
        assert_eq!(self.before[1 - me].get(), 1);
        Ok(passed.index)
    }
}

/// Does each of two who meet see what the other did before, and has its own index?
#[test]
fn wait_races_wait() {
    model(|| {
        let scene = scene();
        let other = thread::spawn({
            let scene = scene.clone();
            move || scene.pass(0)
        });
        let mine = scene.pass(1).expect("not broken");
        assert_eq!(mine + other.join().unwrap().expect("not broken"), 1);
    });
}

/// When a waiter gives up while the last arrives, has either both passed or the last waits for one more?
#[test]
fn cancel_races_last_arrival() {
    model_reaching(["cancelled first", "passed first"], |outcomes: Outcomes| {
        let scene = scene();
        let mut gone = scene.barrier.wait();
        assert!(poll(Pin::new(&mut gone), Waker::noop()).is_pending());
        let arrival = thread::spawn({
            let scene = scene.clone();
            move || {
                scene.before[0].set(1);
                poll(pin!(scene.barrier.wait()), Waker::noop()).is_ready()
            }
        });
        drop(gone);
        let passed = arrival.join().unwrap();
        outcomes.count(if passed { "passed first" } else { "cancelled first" });
        assert_eq!(scene.barrier.n_waiting(), 0, "who arrived has passed or was dropped");
        let mut next = scene.barrier.wait();
        assert!(poll(Pin::new(&mut next), Waker::noop()).is_pending());
        assert_eq!(scene.before[0].get(), 1);
    });
}

/// When the barrier is reset while the last arrives, do all who waited pass or none, and does nobody wait for ever?
#[test]
fn reset_races_last_arrival() {
    model_reaching(["passed", "sent away"], |outcomes: Outcomes| {
        let scene = scene();
        let (_, waker) = Woken::waker();
        let mut first = scene.barrier.wait();
        scene.before[0].set(1);
        assert!(poll(Pin::new(&mut first), &waker).is_pending());
        let arrival = thread::spawn({
            let scene = scene.clone();
            move || {
                scene.before[1].set(1);
                poll(pin!(scene.barrier.wait()), Waker::noop())
            }
        });
        scene.barrier.reset();
        match block_on(first) {
            Ok(passed) => {
                outcomes.count("passed");
                assert_eq!((passed.index, scene.before[1].get()), (0, 1));
                assert!(matches!(arrival.join().unwrap(), Poll::Ready(Ok(_))));
            }
            Err(BrokenBarrier) => {
                outcomes.count("sent away");
                assert!(arrival.join().unwrap().is_pending());
            }
        }
        assert!(!scene.barrier.broken());
    });
}

/// When the barrier is aborted while somebody arrives, does it learn so, at once or in line?
#[test]
fn abort_races_wait() {
    model(|| {
        let scene = scene();
        let aborter = thread::spawn({
            let scene = scene.clone();
            move || {
                scene.before[0].set(1);
                scene.barrier.abort();
            }
        });
        assert_eq!(block_on(scene.barrier.wait()), Err(BrokenBarrier));
        assert_eq!(scene.before[0].get(), 1);
        aborter.join().unwrap();
    });
}

/// When a waiter moves to another task while the last arrives, is the task that holds it now woken?
#[test]
fn waker_moves_while_last_arrival() {
    model(|| {
        let scene = scene();
        let (left_behind, waker) = Woken::waker();
        scene.before[0].set(1);
        let mut first = pin!(scene.barrier.wait());
        assert!(poll(first.as_mut(), &waker).is_pending());
        drop(waker);
        let arrival = thread::spawn({
            let scene = scene.clone();
            move || scene.pass(1)
        });
        assert_eq!(block_on(first).map(|passed| passed.index), Ok(0));
        assert_eq!(scene.before[1].get(), 1);
        assert_eq!(arrival.join().unwrap(), Ok(1));
        assert_eq!(StdArc::strong_count(&left_behind), 1);
    });
}

/// When a waker panics at the release while the next generation gathers, has everybody of this one passed?
#[test]
fn waker_panics_while_wait() {
    model(|| {
        let scene = scene();
        let mut first = scene.barrier.wait();
        assert!(poll(Pin::new(&mut first), &Panics::waker()).is_pending());
        let arrival = thread::spawn({
            let scene = scene.clone();
            move || {
                scene.before[0].set(1);
                let polled = AssertUnwindSafe(|| poll(pin!(scene.barrier.wait()), Waker::noop()));
                catch_unwind(polled).is_err()
            }
        });
        while !matches!(poll(Pin::new(&mut first), Waker::noop()), Poll::Ready(Ok(_))) {
            thread::yield_now();
        }
        assert_eq!(scene.before[0].get(), 1);
        let mut next = scene.barrier.wait();
        assert!(poll(Pin::new(&mut next), Waker::noop()).is_pending());
        let _ = arrival.join().unwrap();
    });
}
