//! Models of sync's `oneshot`.

use evenloop_core::shim::atomic::{AtomicUsize, Ordering};
use evenloop_core::shim::{Arc, StdArc, thread};
use evenloop_loom_tests::{Outcomes, Witness, Woken, block_on, model, model_reaching, poll};
use evenloop_sync::oneshot::{self, RecvError, TryRecvError};
use std::pin::{Pin, pin};
use std::task::Poll;

/// What is sent: reading it checks the order, its drops are counted, and loom reports it when it leaks.
struct Item {
    witness: Witness,
    drops: StdArc<AtomicUsize>,
    _leak: Arc<()>,
}

impl Item {
    fn new(drops: &StdArc<AtomicUsize>) -> Self {
        Self { witness: Witness::new(7), drops: drops.clone(), _leak: Arc::new(()) }
    }

    fn read(&self) -> u32 {
        self.witness.get()
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.witness.set(0);
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

fn drops() -> StdArc<AtomicUsize> {
    StdArc::default()
}

/// Does a receiver that is polled while the value comes get it, whole, however the two meet?
#[test]
fn send_races_poll() {
    model(|| {
        let drops = drops();
        let (sender, receiver) = oneshot::channel();
        let item = Item::new(&drops);
        let other = thread::spawn(move || assert!(sender.send(item).is_ok()));
        assert_eq!(block_on(receiver).map(|item| item.read()), Ok(7));
        other.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}

/// Does the same hold when the receiver lives on the spawned thread and the sender here?
#[test]
fn poll_races_send() {
    model(|| {
        let drops = drops();
        let (sender, receiver) = oneshot::channel();
        let other =
            thread::spawn(move || assert_eq!(block_on(receiver).map(|item: Item| item.read()), Ok(7)));
        assert!(sender.send(Item::new(&drops)).is_ok());
        other.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}

/// Is a value dropped exactly once when the receiver is dropped while it is sent?
#[test]
fn drop_of_receiver_races_send() {
    model_reaching(["sent", "refused"], |outcomes: Outcomes| {
        let drops = drops();
        let (sender, receiver) = oneshot::channel();
        let other = thread::spawn(move || drop(receiver));
        let refused = sender.send(Item::new(&drops));
        outcomes.count(if refused.is_ok() { "sent" } else { "refused" });
        if let Err(refused) = &refused {
            assert_eq!(refused.0.read(), 7);
        }
        drop(refused);
        other.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}

/// The same for a receiver that waits: is its waker dropped too, when the sender is about to take it?
#[test]
fn drop_of_waiting_receiver_races_send() {
    model(|| {
        let drops = drops();
        let (woken, waker) = Woken::waker();
        let (sender, mut receiver) = oneshot::channel();
        assert!(poll(Pin::new(&mut receiver), &waker).is_pending());
        drop(waker);
        let other = thread::spawn(move || drop(receiver));
        drop(sender.send(Item::new(&drops)));
        other.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        assert_eq!(StdArc::strong_count(&woken), 1);
    });
}

/// May a waiting receiver look while its sender gives and wakes it?
#[test]
fn try_recv_of_waiting_receiver_races_send() {
    model(|| {
        let drops = drops();
        let (woken, waker) = Woken::waker();
        let (sender, mut receiver) = oneshot::channel();
        assert!(poll(Pin::new(&mut receiver), &waker).is_pending());
        drop(waker);
        let item = Item::new(&drops);
        let other = thread::spawn(move || assert!(sender.send(item).is_ok()));
        let received = loop {
            match receiver.try_recv() {
                Err(TryRecvError::Empty) => thread::yield_now(),
                received => break received,
            }
        };
        assert_eq!(received.map(|item| item.read()), Ok(7));
        other.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        drop(receiver);
        assert_eq!(StdArc::strong_count(&woken), 1);
    });
}

/// When a waiting receiver moves to another task while the value comes, is the task that holds it now woken?
#[test]
fn waker_moves_while_send() {
    model(|| {
        let drops = drops();
        let (left_behind, waker) = Woken::waker();
        let (sender, mut receiver) = oneshot::channel();
        assert!(poll(Pin::new(&mut receiver), &waker).is_pending());
        drop(waker);
        let item = Item::new(&drops);
        let other = thread::spawn(move || assert!(sender.send(item).is_ok()));
        assert_eq!(block_on(receiver).map(|item| item.read()), Ok(7));
        other.join().unwrap();
        assert_eq!(StdArc::strong_count(&left_behind), 1);
    });
}

/// Does a receiver learn that the last sender was dropped, and see what it did before?
#[test]
fn drop_of_sender_races_poll() {
    model(|| {
        let witness = StdArc::new(Witness::new(0));
        let (sender, receiver) = oneshot::channel::<Item>();
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                witness.set(1);
                drop(sender);
            }
        });
        assert_eq!(block_on(receiver).err(), Some(RecvError));
        assert_eq!(witness.get(), 1);
        other.join().unwrap();
    });
}

/// When a receiver closes while the value comes, has exactly one of the two sides the value?
#[test]
fn close_races_send() {
    model_reaching(["sent", "refused"], |outcomes: Outcomes| {
        let drops = drops();
        let (sender, mut receiver) = oneshot::channel();
        let other = thread::spawn({
            let item = Item::new(&drops);
            move || sender.send(item).map_err(|refused| refused.0.read())
        });
        receiver.close();
        let received = receiver.try_recv().map(|item| item.read());
        match other.join().unwrap() {
            Ok(()) => {
                outcomes.count("sent");
                assert_eq!(received, Ok(7));
            }
            Err(refused) => {
                outcomes.count("refused");
                assert_eq!((refused, received), (7, Err(TryRecvError::Closed)));
            }
        }
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}

/// The same when the receiver waits, then closes, then receives: does it never wait for a value that cannot come?
#[test]
fn close_of_waiting_receiver_races_send() {
    model(|| {
        let drops = drops();
        let (woken, waker) = Woken::waker();
        let (sender, mut receiver) = oneshot::channel();
        assert!(poll(Pin::new(&mut receiver), &waker).is_pending());
        drop(waker);
        let other = thread::spawn({
            let item = Item::new(&drops);
            move || sender.send(item).is_ok()
        });
        receiver.close();
        let mut receiver = pin!(receiver);
        let (_, waker) = Woken::waker();
        let Poll::Ready(received) = poll(receiver.as_mut(), &waker) else {
            panic!("a closed receiver waits")
        };
        assert_eq!(received.is_ok(), other.join().unwrap());
        drop(received);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        assert_eq!(StdArc::strong_count(&woken), 1);
    });
}

/// Does a sender learn that the receiver was dropped, and see what it did before?
#[test]
fn drop_of_receiver_races_closed() {
    model(|| {
        let witness = StdArc::new(Witness::new(0));
        let (mut sender, receiver) = oneshot::channel::<Item>();
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                witness.set(1);
                drop(receiver);
            }
        });
        block_on(sender.closed());
        assert_eq!(witness.get(), 1);
        other.join().unwrap();
    });
}

/// When a sender that waits for the end moves to another task while the receiver is dropped, does it see what the receiver did
/// before?
#[test]
fn waker_moves_while_drop_of_receiver() {
    model(|| {
        let witness = StdArc::new(Witness::new(0));
        let (mut sender, receiver) = oneshot::channel::<Item>();
        let (_, waker) = Woken::waker();
        let mut closed = sender.closed();
        assert!(poll(Pin::new(&mut closed), &waker).is_pending());
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                witness.set(1);
                drop(receiver);
            }
        });
        block_on(closed);
        assert_eq!(witness.get(), 1);
        other.join().unwrap();
    });
}

/// When a sender gives up waiting for the end and waits anew while the receiver is dropped, is it the new waker that is woken, and
/// is neither kept?
#[test]
fn closed_anew_races_drop_of_receiver() {
    model(|| {
        let (mut sender, receiver) = oneshot::channel::<Item>();
        let (first, waker) = Woken::waker();
        let other = {
            let mut closed = sender.closed();
            assert!(poll(Pin::new(&mut closed), &waker).is_pending());
            drop(waker);
            thread::spawn(move || drop(receiver))
        };
        block_on(sender.closed());
        other.join().unwrap();
        drop(sender);
        assert_eq!(StdArc::strong_count(&first), 1);
    });
}

/// Does a sender that only looks see what the receiver did before it was dropped?
#[test]
fn drop_of_receiver_races_is_closed() {
    model(|| {
        let witness = StdArc::new(Witness::new(0));
        let (sender, receiver) = oneshot::channel::<Item>();
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                witness.set(1);
                drop(receiver);
            }
        });
        while !sender.is_closed() {
            thread::yield_now();
        }
        assert_eq!(witness.get(), 1);
        other.join().unwrap();
    });
}

/// Does a sender that waits for the closing learn of it, though the receiver stays?
#[test]
fn close_races_closed() {
    model(|| {
        let witness = StdArc::new(Witness::new(0));
        let (mut sender, mut receiver) = oneshot::channel::<Item>();
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                witness.set(1);
                receiver.close();
                receiver
            }
        });
        block_on(sender.closed());
        assert_eq!(witness.get(), 1);
        drop(sender);
        drop(other.join().unwrap());
    });
}

/// When a wait for the closing is given up while the receiver leaves, does its waker go, and is nothing touched later?
#[test]
fn cancelled_closed_races_drop_of_receiver() {
    model(|| {
        let drops = drops();
        let (woken, waker) = Woken::waker();
        let (mut sender, receiver) = oneshot::channel();
        let mut closed = sender.closed();
        assert!(poll(Pin::new(&mut closed), &waker).is_pending());
        drop(waker);
        let other = thread::spawn(move || drop(receiver));
        drop(closed);
        drop(sender.send(Item::new(&drops)));
        other.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        assert_eq!(StdArc::strong_count(&woken), 1);
    });
}

/// When both halves wait for each other and both leave, is each waker dropped, and each at most once woken?
#[test]
fn drops_of_both_waiting_halves_race() {
    model_reaching(["the receiver was first", "the sender was first"], |outcomes: Outcomes| {
        let (giver, giver_waker) = Woken::waker();
        let (taker, taker_waker) = Woken::waker();
        let (mut sender, mut receiver) = oneshot::channel::<Item>();
        let mut closed = sender.closed();
        assert!(poll(Pin::new(&mut closed), &giver_waker).is_pending());
        assert!(poll(Pin::new(&mut receiver), &taker_waker).is_pending());
        // A leaked future does not withdraw: the sender does it when it leaves.
        std::mem::forget(closed);
        drop((giver_waker, taker_waker));
        let other = thread::spawn(move || drop(receiver));
        drop(sender);
        other.join().unwrap();
        assert!(giver.times() <= 1 && taker.times() <= 1);
        outcomes.count(if giver.times() == 1 { "the receiver was first" } else { "the sender was first" });
        assert_eq!((StdArc::strong_count(&giver), StdArc::strong_count(&taker)), (1, 1));
    });
}
