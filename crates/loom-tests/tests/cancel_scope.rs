//! Models of core's `CancelScope`.

use evenloop_core::cancel::{CancelScope, Cancelled, CatchCancel, catch_cancel};
use evenloop_core::shim::atomic::{AtomicBool, Ordering};
use evenloop_core::shim::{Arc, Mutex, StdArc, thread};
use evenloop_loom_tests::{Outcomes, Witness, Woken, block_on, model, model_reaching, poll};
use std::future::{Future, Pending, pending, poll_fn};
use std::pin::Pin;
use std::task::{Poll, Wake, Waker};

/// A future that needs one wake-up from elsewhere.
struct Door(Mutex<(bool, Option<Waker>)>);

impl Door {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new((false, None))))
    }

    fn open(&self) {
        let waker = {
            let mut state = self.0.lock();
            state.0 = true;
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn pass(door: Arc<Self>) -> impl Future<Output = ()> {
        poll_fn(move |cx| {
            let mut state = door.0.lock();
            if state.0 {
                return Poll::Ready(());
            }
            state.1 = Some(cx.waker().clone());
            Poll::Pending
        })
    }
}

/// Does a scope that is polled while it is asked end, and see what came before the request?
#[test]
fn cancel_races_poll() {
    model_reaching(["before the first poll", "after it"], |outcomes: Outcomes| {
        let scope = CancelScope::new();
        let witness = StdArc::new(Witness::new(0));
        let other = thread::spawn({
            let (scope, witness) = (scope.clone(), witness.clone());
            move || {
                witness.set(1);
                assert!(scope.cancel("why"));
            }
        });
        let polled = StdArc::new(std::sync::atomic::AtomicBool::new(false));
        let end = block_on(scope.run(poll_fn({
            let polled = polled.clone();
            move |_| {
                polled.store(true, std::sync::atomic::Ordering::Relaxed);
                Poll::<()>::Pending
            }
        })));
        assert_eq!(end.unwrap_err().text(), Some("why"));
        assert_eq!(witness.get(), 1);
        let polled = polled.load(std::sync::atomic::Ordering::Relaxed);
        outcomes.count(if polled { "after it" } else { "before the first poll" });
        other.join().unwrap();
    });
}

/// Is a request that comes after the scope has looked, with a waker that changes, brought by the new one?
#[test]
fn waker_moves_while_cancel() {
    model(|| {
        let scope = CancelScope::new();
        let witness = StdArc::new(Witness::new(0));
        let mut run = Box::pin(scope.run(pending::<()>()));
        let (_old, waker) = Woken::waker();
        assert!(poll(run.as_mut(), &waker).is_pending());
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                witness.set(1);
                scope.cancel("why");
            }
        });
        assert!(block_on(run).is_err());
        assert_eq!(witness.get(), 1);
        other.join().unwrap();
    });
}

/// A host's note that somebody woke: a flag that nobody reads before it is cleared.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: StdArc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Is a request found by a host that clears its flag blindly as a poll begins, so that the flag orders nothing?
#[test]
fn cancel_races_the_beginning_of_a_poll() {
    model_reaching(["seen by this poll", "brought by the next"], |outcomes: Outcomes| {
        let scope = CancelScope::new();
        let flag = StdArc::new(Flag::default());
        let waker = Waker::from(flag.clone());
        let mut run = Box::pin(scope.run(pending::<()>()));
        assert!(poll(run.as_mut(), &waker).is_pending());
        let witness = StdArc::new(Witness::new(0));
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                witness.set(1);
                scope.cancel("why")
            }
        });
        flag.0.store(false, Ordering::Relaxed);
        let first = poll(run.as_mut(), &waker);
        assert!(first.is_pending() || witness.get() == 1);
        outcomes.count(if first.is_ready() { "seen by this poll" } else { "brought by the next" });
        if first.is_pending() {
            assert!(other.join().unwrap());
            assert!(flag.0.load(Ordering::Relaxed), "the wake-up was cleared, and the request not seen");
            assert!(poll(run.as_mut(), &waker).is_ready());
        }
    });
}

/// Does a scope that completes while it is asked give its value or report the request, and does whoever asked learn
/// that it came too late?
#[test]
fn cancel_races_completion() {
    model_reaching(["value", "value, asked before", "cancelled"], |outcomes: Outcomes| {
        let scope = CancelScope::new();
        let door = Door::new();
        let mut run = Box::pin(scope.run(Door::pass(door.clone())));
        assert!(poll(run.as_mut(), Waker::noop()).is_pending());
        door.open();
        let witness = StdArc::new(Witness::new(0));
        let other = thread::spawn({
            let (scope, witness) = (scope.clone(), witness.clone());
            move || {
                witness.set(1);
                scope.cancel("why")
            }
        });
        let end = block_on(run);
        assert!(end.is_ok() || witness.get() == 1);
        let in_time = other.join().unwrap();
        assert!(in_time || end.is_ok(), "who was too late changes nothing");
        assert_eq!(scope.cancelled_caught(), end.is_err());
        outcomes.count(match end {
            Ok(()) if in_time => "value, asked before",
            Ok(()) => "value",
            Err(_) => "cancelled",
        });
    });
}

/// Is a request that comes while catchers start to wait delivered to each, the next one in a turn that nobody else wakes,
/// or the body never run, and never dropped between the two?
#[test]
fn cancel_races_catch() {
    model_reaching(["caught", "never ran"], |outcomes: Outcomes| {
        let scope = CancelScope::new();
        let witness = StdArc::new(Witness::new(0));
        let other = thread::spawn({
            let (scope, witness) = (scope.clone(), witness.clone());
            move || {
                witness.set(1);
                scope.cancel("why");
            }
        });
        let end = block_on(scope.run(async {
            let outer = catch_cancel(async {
                drop(catch_cancel(pending::<()>()).await); // passed on
                assert_eq!(witness.get(), 1);
                drop(catch_cancel(pending::<()>()).await); // has joined since: the next one
                pending::<()>().await;
            })
            .await;
            outer.unwrap_err().absorb();
        }));
        outcomes.count(if end.is_ok() { "caught" } else { "never ran" });
        other.join().unwrap();
    });
}

/// Does a delivery that is passed on by another thread, while its scope is polled, end that scope?
#[test]
fn answer_races_poll() {
    model(|| {
        let scope = CancelScope::new();
        let there = Arc::new(Mutex::new(None));
        let mut run = Box::pin(scope.run({
            let there = there.clone();
            async move {
                let caught = catch_cancel(pending::<()>()).await;
                *there.lock() = caught.err();
                pending::<()>().await;
            }
        }));
        assert!(poll(run.as_mut(), Waker::noop()).is_pending());
        scope.cancel("why");
        assert!(poll(run.as_mut(), Waker::noop()).is_pending());
        let cancelled = there.lock().take().expect("delivered");
        let witness = StdArc::new(Witness::new(0));
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                witness.set(1);
                drop(cancelled);
            }
        });
        assert!(block_on(run).is_err());
        assert_eq!(witness.get(), 1);
        other.join().unwrap();
    });
}

/// When two deliveries of one request are answered on two threads at once, is the round over exactly once, and does
/// passing on beat absorbing?
#[test]
fn answers_race() {
    model(|| {
        let scope = CancelScope::new();
        let there = Arc::new(Mutex::new(Vec::new()));
        let mut run = Box::pin(scope.run({
            let there = there.clone();
            let mut catchers = [0; 2].map(|_| Box::pin(catch_cancel(pending::<()>())));
            let mut caught = 0;
            poll_fn(move |cx| {
                for catcher in &mut catchers {
                    if caught < 2
                        && let Poll::Ready(Err(cancelled)) = catcher.as_mut().poll(cx)
                    {
                        caught += 1;
                        there.lock().push(cancelled);
                    }
                }
                Poll::<()>::Pending
            })
        }));
        assert!(poll(run.as_mut(), Waker::noop()).is_pending());
        scope.cancel("why");
        assert!(poll(run.as_mut(), Waker::noop()).is_pending());
        let (one, two) = {
            let mut there = there.lock();
            (there.pop().expect("delivered"), there.pop().expect("delivered"))
        };
        let witness = StdArc::new(Witness::new(0));
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                witness.set(1);
                one.absorb();
            }
        });
        drop(two);
        assert!(block_on(run).is_err());
        assert_eq!(witness.get(), 1, "both have answered");
        other.join().unwrap();
    });
}

/// When a branch that waits in `resume` is dropped while another thread absorbs the request in the other branch, is the
/// request over, at once or when the scope looks next, and never stuck?
/// No cell: what the two branches share is the request, which the scope shows under its lock.
#[test]
fn absorb_races_the_end_of_a_resume() {
    model_reaching(["at once", "at the next look"], |outcomes: Outcomes| {
        let scope = CancelScope::new();
        let there = Arc::new(Mutex::new(Vec::new()));
        let (woken, waker) = Woken::waker();
        let mut run = Box::pin(scope.run({
            let there = there.clone();
            let mut catchers = [0; 2].map(|_| Some(Box::pin(catch_cancel(pending::<()>()))));
            poll_fn(move |cx| {
                // The second one starts when the first one has caught.
                for place in &mut catchers {
                    let Some(catcher) = place else { continue };
                    let Poll::Ready(Err(cancelled)) = catcher.as_mut().poll(cx) else { break };
                    there.lock().push(cancelled);
                    *place = None;
                }
                Poll::<()>::Pending
            })
        }));
        let mut caught = || {
            assert!(poll(run.as_mut(), &waker).is_pending());
            there.lock().pop()
        };
        assert!(caught().is_none());
        scope.cancel("why");
        let resume = caught().expect("delivered").resume();
        let absorbed = caught().expect("delivered in the next round");
        let before = woken.times();
        let other = thread::spawn(move || absorbed.absorb());
        drop(resume);
        other.join().unwrap();
        if format!("{scope:?}").ends_with("requests: 0]") {
            assert!(poll(run.as_mut(), &waker).is_pending());
            outcomes.count("at once");
        } else {
            assert!(woken.times() > before, "somebody has to look");
            assert!(poll(run.as_mut(), &waker).is_pending());
            assert!(format!("{scope:?}").ends_with("requests: 0]"));
            outcomes.count("at the next look");
        }
    });
}

/// Is everything let go when a scope is dropped while it is asked, and is nobody heard afterwards?
/// No cell: nothing comes across, for nobody hears of it; loom counts what is let go.
#[test]
fn cancel_races_drop() {
    model_reaching(["in time", "too late"], |outcomes: Outcomes| {
        let scope = CancelScope::new();
        let mut run = Box::pin(scope.run(catch_cancel(pending::<()>())));
        assert!(poll(run.as_mut(), Waker::noop()).is_pending());
        let other = thread::spawn({
            let scope = scope.clone();
            move || scope.cancel("why")
        });
        drop(run);
        assert!(!scope.cancel("too late"), "it has ended");
        outcomes.count(if other.join().unwrap() { "in time" } else { "too late" });
    });
}

/// Does a catcher that another thread polls under another scope, while the one it was in is asked, leave that one free
/// to end, and not answer for it?
/// No cell: the catcher that both threads poll lies under a lock, as it has to.
#[test]
fn cancel_races_a_catcher_that_moves() {
    type Shared = Arc<Mutex<Option<Pin<Box<CatchCancel<Pending<()>>>>>>>;
    fn run_in(scope: &CancelScope, shared: Shared) -> Pin<Box<dyn Future<Output = Result<bool, ()>> + Send>> {
        let run = scope.run(poll_fn(move |cx| {
            // Somebody else polls it: nothing to do here.
            let Some(mut shared) = shared.try_lock() else { return Poll::Pending };
            let Some(catcher) = shared.as_mut() else { return Poll::Pending };
            let Poll::Ready(caught) = catcher.as_mut().poll(cx) else { return Poll::Pending };
            *shared = None;
            let cancelled = caught.unwrap_err();
            let mine = cancelled.reason().text() == Some("first");
            cancelled.absorb();
            Poll::Ready(mine)
        }));
        Box::pin(async move { run.await.map_err(drop) })
    }
    model_reaching(["it caught", "it had moved"], |outcomes: Outcomes| {
        let (first, second) = (CancelScope::new(), CancelScope::new());
        let shared: Shared = Arc::new(Mutex::new(Some(Box::pin(catch_cancel(pending())))));
        let mut here = run_in(&first, shared.clone());
        assert!(poll(Pin::new(&mut here), Waker::noop()).is_pending());
        let other = thread::spawn(move || {
            let mut there = run_in(&second, shared);
            assert!(poll(Pin::new(&mut there), Waker::noop()).is_pending(), "nobody asked this one");
        });
        first.cancel("first");
        match block_on(here) {
            Ok(mine) => {
                assert!(mine);
                outcomes.count("it caught");
            }
            Err(()) => outcomes.count("it had moved"),
        }
        other.join().unwrap();
    });
}

/// A scope whose future catches twice, and the delivery of the inner catcher. The outer one absorbs.
#[allow(clippy::type_complexity, reason = "taken apart at once")]
fn delivered_inside_a_catcher() -> (Pin<Box<dyn Future<Output = bool>>>, Cancelled) {
    let scope = CancelScope::new();
    let there = Arc::new(Mutex::new(None));
    let body = {
        let there = there.clone();
        async move {
            let outer = catch_cancel(async move {
                let caught = catch_cancel(pending::<()>()).await;
                *there.lock() = caught.err();
                pending::<()>().await;
            });
            outer.await.unwrap_err().absorb();
        }
    };
    let run = scope.run(body);
    let mut run: Pin<Box<dyn Future<Output = bool>>> = Box::pin(async move { run.await.is_ok() });
    assert!(poll(Pin::new(&mut run), Waker::noop()).is_pending());
    scope.cancel("why");
    assert!(poll(Pin::new(&mut run), Waker::noop()).is_pending());
    let cancelled = there.lock().take().expect("delivered");
    (run, cancelled)
}

/// Is the catcher around a delivery next, exactly once, when another thread passes on while the scope is polled?
#[test]
fn answer_inside_a_catcher_races_poll() {
    model(|| {
        let (run, cancelled) = delivered_inside_a_catcher();
        let witness = StdArc::new(Witness::new(0));
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                witness.set(1);
                drop(cancelled);
            }
        });
        assert!(block_on(run), "the outer one absorbed");
        assert_eq!(witness.get(), 1);
        other.join().unwrap();
    });
}

/// When two deliveries inside one catcher are answered on two threads at once, is that catcher next, and asked once?
#[test]
fn answers_inside_a_catcher_race() {
    model(|| {
        let scope = CancelScope::new();
        let there = Arc::new(Mutex::new(Vec::new()));
        let mut run = Box::pin(scope.run({
            let there = there.clone();
            let outer = catch_cancel({
                let mut catchers = [0; 2].map(|_| Box::pin(catch_cancel(pending::<()>())));
                let mut caught = 0;
                poll_fn(move |cx| {
                    for catcher in &mut catchers {
                        if caught < 2
                            && let Poll::Ready(Err(cancelled)) = catcher.as_mut().poll(cx)
                        {
                            caught += 1;
                            there.lock().push(cancelled);
                        }
                    }
                    Poll::<()>::Pending
                })
            });
            async move { outer.await.unwrap_err().absorb() }
        }));
        assert!(poll(run.as_mut(), Waker::noop()).is_pending());
        scope.cancel("why");
        assert!(poll(run.as_mut(), Waker::noop()).is_pending());
        let (one, two) = {
            let mut there = there.lock();
            (there.pop().expect("delivered"), there.pop().expect("delivered"))
        };
        let witness = StdArc::new(Witness::new(0));
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                witness.set(1);
                one.absorb();
            }
        });
        drop(two);
        assert!(block_on(run).is_ok(), "the outer one absorbed");
        assert_eq!(witness.get(), 1, "both have answered");
        other.join().unwrap();
    });
}

/// When a catcher leaves while another thread passes on inside of it, is the one around it next?
#[test]
fn answer_races_the_catcher_around_it_leaving() {
    model(|| {
        let scope = CancelScope::new();
        let there = Arc::new(Mutex::new(None));
        let leaves = Arc::new(Mutex::new(false));
        let mut run = Box::pin(scope.run({
            let (there, leaves) = (there.clone(), leaves.clone());
            let mut middle = Some(Box::pin(catch_cancel(async move {
                let caught = catch_cancel(pending::<()>()).await;
                *there.lock() = caught.err();
                pending::<()>().await;
            })));
            let outer = catch_cancel(poll_fn(move |cx| {
                if *leaves.lock() {
                    middle = None;
                }
                if let Some(middle) = &mut middle {
                    // Should it be next before it leaves, it passes on in its turn.
                    drop(middle.as_mut().poll(cx));
                }
                Poll::<()>::Pending
            }));
            async move { outer.await.unwrap_err().absorb() }
        }));
        assert!(poll(run.as_mut(), Waker::noop()).is_pending());
        scope.cancel("why");
        assert!(poll(run.as_mut(), Waker::noop()).is_pending());
        let cancelled = there.lock().take().expect("delivered");
        *leaves.lock() = true;
        let witness = StdArc::new(Witness::new(0));
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                witness.set(1);
                drop(cancelled);
            }
        });
        assert!(block_on(run).is_ok(), "the outer one absorbed");
        assert_eq!(witness.get(), 1, "after the one inside had answered");
        other.join().unwrap();
    });
}
