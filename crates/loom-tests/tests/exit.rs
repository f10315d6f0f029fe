//! Models of streams's `Exit`.

use evenloop_core::shim::atomic::{AtomicBool, AtomicUsize, Ordering};
use evenloop_core::shim::{StdArc, thread};
use evenloop_loom_tests::{Outcomes, Witness, Woken, block_on, model, model_reaching};
use evenloop_streams::process::{Exit, Kernel, Outcome};
use std::future::poll_fn;
use std::task::{Context, Poll};

/// A child as the kernel has it.
struct World {
    has_ended: AtomicBool,
    /// Whose the number is: 0 while it is the child's, 1 once it is another's.
    number: Witness,
    reaped: AtomicUsize,
}

struct Child(StdArc<World>);

impl Kernel for Child {
    fn reap(&mut self) -> Option<Outcome> {
        if !self.0.has_ended.load(Ordering::Relaxed) {
            return None;
        }
        self.0.number.set(1);
        self.0.reaped.fetch_add(1, Ordering::Relaxed);
        Some(Outcome::Lost(10))
    }
}

impl Child {
    /// Sends a signal to whoever has the number.
    fn signal(&self) {
        assert_eq!(self.0.number.get(), 0, "it reaches a stranger");
    }
}

fn child(has_ended: bool) -> (StdArc<Exit<Child>>, StdArc<World>) {
    let (has_ended, reaped) = (AtomicBool::new(has_ended), AtomicUsize::new(0));
    let world = StdArc::new(World { has_ended, number: Witness::new(0), reaped });
    (StdArc::new(Exit::new(Child(world.clone()))), world)
}

/// What everybody does who notices news.
fn look(exit: &Exit<Child>) -> bool {
    let ended = exit.reap();
    if ended {
        exit.publish();
    }
    ended
}

async fn wait(exit: &Exit<Child>) -> Outcome {
    let mut key = None;
    poll_fn(|cx| exit.poll_ended(&mut key, cx)).await
}

/// Does a signal never reach the number once it may be another's?
#[test]
fn signal_races_reap() {
    model_reaching(["sent", "too late"], |outcomes: Outcomes| {
        let (exit, _world) = child(true);
        let reaper = thread::spawn({
            let exit = exit.clone();
            move || look(&exit)
        });
        let sent = exit.while_running(|child| child.signal()).is_some();
        outcomes.count(if sent { "sent" } else { "too late" });
        assert!(reaper.join().unwrap());
    });
}

/// Does it hold as well when the spawned thread signals?
#[test]
fn reap_races_signal() {
    model(|| {
        let (exit, world) = child(true);
        let signals = thread::spawn({
            let exit = exit.clone();
            move || exit.while_running(|child| child.signal())
        });
        assert!(look(&exit));
        signals.join().unwrap();
        assert_eq!(world.reaped.load(Ordering::Relaxed), 1);
    });
}

/// Is a waiter woken that begins to wait while the child is reaped?
#[test]
fn wait_races_reap() {
    model(|| {
        let (exit, world) = child(true);
        let reaper = thread::spawn({
            let exit = exit.clone();
            move || look(&exit)
        });
        assert_eq!(block_on(wait(&exit)), Outcome::Lost(10));
        assert_eq!(world.number.get(), 1); // what was done before the publishing is seen
        reaper.join().unwrap();
    });
}

/// Is the child reaped once when its reactor and somebody who asks notice its end at once, and is the waiter woken?
#[test]
fn reap_races_reap() {
    model(|| {
        let (exit, world) = child(true);
        let (woken, waker) = Woken::waker();
        let mut key = None;
        let polled = exit.poll_ended(&mut key, &mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        let reactor = thread::spawn({
            let exit = exit.clone();
            move || look(&exit)
        });
        assert!(look(&exit));
        assert!(reactor.join().unwrap());
        assert_eq!((woken.times(), world.reaped.load(Ordering::Relaxed)), (1, 1));
        assert!(matches!(exit.poll_ended(&mut key, &mut Context::from_waker(&waker)), Poll::Ready(_)));
    });
}

/// Does a waiter that gives up while the child is reaped leave the other one woken?
#[test]
fn cancel_races_reap() {
    model(|| {
        let (exit, _world) = child(true);
        let (woken, waker) = Woken::waker();
        let (_, other) = Woken::waker();
        let (mut stays, mut leaves) = (None, None);
        assert!(exit.poll_ended(&mut leaves, &mut Context::from_waker(&other)).is_pending());
        assert!(exit.poll_ended(&mut stays, &mut Context::from_waker(&waker)).is_pending());
        let reaper = thread::spawn({
            let exit = exit.clone();
            move || look(&exit)
        });
        exit.forget(&mut leaves);
        assert!(reaper.join().unwrap());
        assert_eq!((woken.times(), exit.waiting()), (1, 0));
        exit.forget(&mut stays);
    });
}
