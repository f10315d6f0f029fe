//! Models of core's `ChildSet`.

use evenloop_core::cancel::{CancelScope, Cancellation, Reason};
use evenloop_core::shim::atomic::{AtomicBool, Ordering};
use evenloop_core::shim::{Mutex, StdArc, thread};
use evenloop_core::{Asked, Cancel, ChildSet};
use evenloop_loom_tests::{Outcomes, Witness, Woken, block_on, model, model_reaching, poll};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Poll, Wake, Waker};

/// Does a wait that starts while the last child leaves end, and see what the child did?
#[test]
fn leave_races_wait() {
    model(|| {
        let children = ChildSet::<CancelScope>::new();
        let member = children.enter(None).expect("open");
        let witness = StdArc::new(Witness::new(0));
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                witness.set(1);
                drop(member);
            }
        });
        block_on(children.wait());
        assert_eq!(witness.get(), 1);
        other.join().unwrap();
    });
}

/// When two children leave at once, is a wait for both woken by the later one, with a waker that changes?
#[test]
fn leaves_race_a_wait_whose_waker_moves() {
    model(|| {
        let children = ChildSet::<CancelScope>::new();
        let (one, two) = (children.enter(None).expect("open"), children.enter(None).expect("open"));
        let (mut wait, witness) = (children.wait(), StdArc::new(Witness::new(0)));
        let (_old, waker) = Woken::waker();
        assert!(poll(Pin::new(&mut wait), &waker).is_pending());
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                witness.set(1);
                drop(one);
            }
        });
        drop(two);
        block_on(wait);
        assert_eq!(witness.get(), 1);
        other.join().unwrap();
    });
}

/// Is a wait that is given up while a child leaves forgotten, and the other one woken?
#[test]
fn leave_races_drop_of_a_wait() {
    model(|| {
        let children = ChildSet::<CancelScope>::new();
        let member = children.enter(None).expect("open");
        let (mut given_up, wait) = (children.wait(), children.wait());
        let ((_woken, waker), witness) = (Woken::waker(), StdArc::new(Witness::new(0)));
        assert!(poll(Pin::new(&mut given_up), &waker).is_pending());
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                witness.set(1);
                drop(member);
            }
        });
        drop(given_up);
        assert_eq!(children.waiters(), 0, "it is remembered");
        block_on(wait);
        assert_eq!(witness.get(), 1);
        other.join().unwrap();
    });
}

/// Does a wait that is given up, after it was over and while another one takes its place in the line, leave that one alone?
#[test]
fn leave_races_drop_of_a_wait_whose_place_is_used_again() {
    model_reaching(["the same place", "another place, maybe"], |outcomes: Outcomes| {
        let children = ChildSet::<CancelScope>::new();
        let (one, two) = (children.enter(None).expect("open"), children.enter(None).expect("open"));
        let (mut given_up, mut wait) = (children.fewer_than(2), children.wait());
        let ((_over, first), (woken, second)) = (Woken::waker(), Woken::waker());
        assert!(poll(Pin::new(&mut given_up), &first).is_pending());
        let witness = StdArc::new(Witness::new(0));
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                witness.set(1);
                drop(one);
            }
        });
        let is_over = children.waiters() == 0;
        assert!(!is_over || witness.get() == 1);
        assert!(poll(Pin::new(&mut wait), &second).is_pending());
        drop(given_up);
        other.join().unwrap();
        drop(two);
        assert_eq!(woken.times(), 1, "who still waits is woken");
        assert!(poll(Pin::new(&mut wait), &second).is_ready());
        outcomes.count(if is_over { "the same place" } else { "another place, maybe" });
    });
}

/// Is a child that enters while the set is closed and cancelled either refused or asked?
#[test]
fn enter_races_close_and_cancel() {
    model_reaching(["refused", "asked"], |outcomes: Outcomes| {
        let children = ChildSet::<CancelScope>::new();
        let witness = StdArc::new(Witness::new(0));
        let other = thread::spawn({
            let (children, witness) = (children.clone(), witness.clone());
            move || {
                witness.set(1);
                children.close();
                children.cancel("the end");
            }
        });
        let scope = CancelScope::new();
        let member = children.enter(Some(scope.clone()));
        assert!(member.is_some() || witness.get() == 1);
        other.join().unwrap();
        assert_eq!(member.is_some(), scope.cancel_called());
        outcomes.count(if member.is_some() { "asked" } else { "refused" });
    });
}

/// Is a child asked whose handle becomes known while the set is cancelled?
#[test]
fn attach_races_cancel() {
    model(|| {
        let children = ChildSet::<CancelScope>::new();
        let member = children.enter(None).expect("open");
        let witness = StdArc::new(Witness::new(0));
        let other = thread::spawn({
            let (children, witness) = (children.clone(), witness.clone());
            move || {
                witness.set(1);
                children.cancel("the end");
            }
        });
        let scope = CancelScope::new();
        children.attach(member.key(), scope.clone());
        assert!(!scope.cancel_called() || witness.get() == 1);
        other.join().unwrap();
        assert!(scope.cancel_called());
    });
}

/// Does a cancel that finds a handle in another one's hands reach the child all the same, and is the handle known after it?
/// No cell: who cancels gives a reason and nothing else, and the reasons lie under a lock.
#[test]
fn cancel_races_cancel() {
    struct Keeps(StdArc<Mutex<Vec<Reason>>>);
    impl Cancel for Keeps {
        fn cancel(&self, cancellation: &Cancellation) {
            self.0.lock().push(cancellation.reason().clone());
        }
    }
    model(|| {
        let children = ChildSet::new();
        let asked = StdArc::new(Mutex::new(Vec::new()));
        let member = children.enter(Some(Keeps(asked.clone()))).expect("open");
        let other = thread::spawn({
            let children = children.clone();
            move || children.cancel("there")
        });
        children.cancel("here");
        other.join().unwrap();
        children.cancel("after both");
        let asked = std::mem::take(&mut *asked.lock());
        assert_eq!(asked.last().and_then(|reason| reason.text()), Some("after both"));
        for words in ["here", "there"] {
            assert!(asked.iter().any(|reason| reason.text() == Some(words)), "{asked:?}");
        }
        drop(member);
    });
}

/// Does a child that looks whether it is to be dropped, while it is told so, learn of it?
#[test]
fn drop_all_races_the_childs_poll() {
    model(|| {
        let children = ChildSet::<CancelScope>::new();
        let mut member = children.enter(None).expect("open");
        let witness = StdArc::new(Witness::new(0));
        let other = thread::spawn({
            let (children, witness) = (children.clone(), witness.clone());
            move || {
                witness.set(1);
                children.drop_all();
            }
        });
        block_on(poll_fn(|cx| if member.is_dropped(cx.waker()) { Poll::Ready(()) } else { Poll::Pending }));
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

/// Does a child whose waker is kept learn that it is asked while it looks again, or is it woken after that look, by a host
/// that clears its flag blindly as the look begins?
#[test]
fn cancel_races_a_second_look() {
    model_reaching(["seen", "woken"], |outcomes: Outcomes| {
        let children = ChildSet::<CancelScope>::new();
        let mut member = children.enter(None).expect("open");
        let flag = StdArc::new(Flag::default());
        let waker = Waker::from(flag.clone());
        assert!(matches!(member.asked(&waker), Asked::Nothing));
        let witness = StdArc::new(Witness::new(0));
        let other = thread::spawn({
            let (children, witness) = (children.clone(), witness.clone());
            move || {
                witness.set(1);
                children.cancel("the end");
            }
        });
        flag.0.store(false, Ordering::Relaxed);
        let seen = matches!(member.asked(&waker), Asked::ToEnd(_));
        assert!(!seen || witness.get() == 1);
        other.join().unwrap();
        if !seen {
            assert!(flag.0.load(Ordering::Relaxed), "the wake-up was cleared, and the request not seen");
            assert!(matches!(member.asked(&waker), Asked::ToEnd(_)));
        }
        outcomes.count(if seen { "seen" } else { "woken" });
    });
}
