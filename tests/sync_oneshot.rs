//! `oneshot`: every operation in every state, against a twin that anybody can read.

use evenloop_sync::oneshot::{self, Receiver, RecvError, SendError, Sender, TryRecvError};
use static_assertions::{assert_impl_all, assert_not_impl_any};
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

assert_impl_all!(Sender<Cell<u8>>: Send, Sync, Unpin, std::fmt::Debug);
assert_impl_all!(Receiver<Cell<u8>>: Send, Sync, Unpin, std::fmt::Debug);
assert_impl_all!(oneshot::Closed<'static, Cell<u8>>: Send, Sync, Unpin, std::fmt::Debug);
assert_impl_all!(Sender<std::marker::PhantomPinned>: Unpin);
assert_impl_all!(Receiver<std::marker::PhantomPinned>: Unpin, futures::future::FusedFuture);
assert_not_impl_any!(Sender<Rc<u8>>: Send, Sync, Clone);
assert_not_impl_any!(Receiver<Rc<u8>>: Send, Sync, Clone);
assert_not_impl_any!(oneshot::Closed<'static, Rc<u8>>: Send, Sync);
assert_impl_all!(SendError<u8>: std::error::Error, Send, Sync);

/// Counts wake-ups; who holds it is counted by its `Arc`.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll<F: Future + Unpin>(future: &mut F, count: &Arc<Count>) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(&Waker::from(count.clone())))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    SendValue,
    DropSender,
    /// Polls `closed` and drops the future.
    PollClosed,
    /// Polls `closed` and leaks the future.
    LeakClosed,
    /// Polls the receiver with one of two wakers.
    PollReceiver(usize),
    TryRecv,
    Close,
    DropReceiver,
}

use Operation::*;

const OPERATIONS: [Operation; 9] = [
    SendValue,
    DropSender,
    PollClosed,
    LeakClosed,
    PollReceiver(0),
    PollReceiver(1),
    TryRecv,
    Close,
    DropReceiver,
];

/// What the halves agree on, told plainly.
#[derive(Clone, Copy, Debug, Default)]
struct Twin {
    sender_gone: bool,
    receiver_gone: bool,
    receiver_closed: bool,
    value: bool,
    /// Which waker the receiver left.
    receiver_waits: Option<usize>,
    sender_waits: bool,
    /// Wake-ups of the receiver's two wakers, and of the sender's.
    woken: [usize; 3],
}

impl Twin {
    fn sender_ends(&mut self) {
        self.sender_gone = true;
        self.sender_waits = false;
        if let Some(waker) = self.receiver_waits.take() {
            self.woken[waker] += 1;
        }
    }

    fn receiver_ends(&mut self) {
        self.receiver_closed = true;
        if std::mem::take(&mut self.sender_waits) {
            self.woken[2] += 1;
        }
    }

    /// What receiving gives: a value, "nothing will come", or nothing yet.
    fn receive(&mut self) -> Result<u32, TryRecvError> {
        match () {
            () if std::mem::take(&mut self.value) => Ok(7),
            () if self.sender_gone || self.receiver_closed => Err(TryRecvError::Closed),
            () => Err(TryRecvError::Empty),
        }
    }
}

/// A value that counts its drops.
#[derive(Debug)]
struct Value(Rc<Cell<usize>>);

impl Drop for Value {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

fn check(sequence: &[Operation]) {
    let wakers: [Arc<Count>; 3] = Default::default();
    let drops = Rc::new(Cell::new(0));
    let (sender, receiver) = oneshot::channel();
    let (mut sender, mut receiver) = (Some(sender), Some(receiver));
    let mut twin = Twin::default();
    let mut sent = 0;
    for (step, operation) in sequence.iter().enumerate() {
        let at = || format!("step {step} of {sequence:?}");
        match operation {
            SendValue => {
                let Some(sender) = sender.take() else { continue };
                sent += 1;
                let accepted = sender.send(Value(drops.clone())).is_ok();
                assert_eq!(accepted, !twin.receiver_closed, "{}", at());
                twin.value = accepted;
                twin.sender_ends();
            }
            DropSender => {
                if sender.take().is_some() {
                    twin.sender_ends();
                }
            }
            PollClosed | LeakClosed => {
                let Some(sender) = &mut sender else { continue };
                let mut closed = sender.closed();
                assert_eq!(poll(&mut closed, &wakers[2]).is_ready(), twin.receiver_closed, "{}", at());
                twin.sender_waits = false;
                if *operation == LeakClosed {
                    std::mem::forget(closed);
                    twin.sender_waits = !twin.receiver_closed;
                }
            }
            PollReceiver(waker) => {
                let Some(receiver) = &mut receiver else { continue };
                let received = match poll(receiver, &wakers[*waker]) {
                    Poll::Ready(received) => received.map(|_| 7).map_err(|RecvError| TryRecvError::Closed),
                    Poll::Pending => Err(TryRecvError::Empty),
                };
                let expected = twin.receive();
                assert_eq!(received, expected, "{}", at());
                match expected {
                    Err(TryRecvError::Empty) => twin.receiver_waits = Some(*waker),
                    _ => {
                        twin.receiver_waits = None;
                        twin.receiver_ends();
                    }
                }
            }
            TryRecv => {
                let Some(receiver) = &mut receiver else { continue };
                let expected = twin.receive();
                assert_eq!(receiver.try_recv().map(|_| 7), expected, "{}", at());
                if expected != Err(TryRecvError::Empty) {
                    twin.receiver_waits = None;
                    twin.receiver_ends();
                }
            }
            Close => {
                let Some(receiver) = &mut receiver else { continue };
                receiver.close();
                twin.receiver_waits = None; // who closes waits for nothing
                twin.receiver_ends();
            }
            DropReceiver => {
                if receiver.take().is_some() {
                    twin.receiver_gone = true;
                    twin.receiver_waits = None;
                    twin.receiver_ends();
                }
            }
        }
        let woken = [0, 1, 2].map(|waker| wakers[waker].0.load(Ordering::Relaxed));
        assert_eq!(woken, twin.woken, "{}", at());
        if let Some(sender) = &sender {
            assert_eq!(sender.is_closed(), twin.receiver_closed, "{}", at());
        }
    }
    drop((sender, receiver));
    assert_eq!(drops.get(), sent, "a value was lost or dropped twice: {sequence:?}");
    assert!(wakers.iter().all(|waker| Arc::strong_count(waker) == 1), "a waker was kept: {sequence:?}");
}

#[test]
fn every_operation_in_every_state() {
    fn go(sequence: &mut Vec<Operation>, depth: usize) {
        if depth == 0 {
            return check(sequence);
        }
        for operation in OPERATIONS {
            sequence.push(operation);
            go(sequence, depth - 1);
            sequence.pop();
        }
    }
    go(&mut vec![], 5);
}

#[test]
fn debug_shows_the_state() {
    let (sender, mut receiver) = oneshot::channel::<u8>();
    assert_eq!(format!("{sender:?} {receiver:?}"), "Sender [open, receivers: 0] Receiver [open]");
    assert!(poll(&mut receiver, &Arc::default()).is_pending());
    assert_eq!(format!("{sender:?} {receiver:?}"), "Sender [open, receivers: 1] Receiver [waiting]");
    sender.send(1).unwrap();
    assert_eq!(format!("{receiver:?}"), "Receiver [value]");
    assert_eq!(receiver.try_recv(), Ok(1));
    assert_eq!(format!("{receiver:?}"), "Receiver [done]");

    let (mut sender, mut receiver) = oneshot::channel::<u8>();
    let closed = sender.closed();
    assert_eq!(format!("{closed:?}"), "Closed [waiting]");
    receiver.close();
    assert_eq!(format!("{closed:?} {receiver:?}"), "Closed [done] Receiver [closed]");
    drop(closed);
    assert_eq!(format!("{sender:?}"), "Sender [closed]");
    assert_eq!(
        format!("{:?} {}", SendError(1), SendError(1)),
        "SendError { .. } the receiver is gone or has closed"
    );
}

#[test]
fn a_queue_of_requests_that_is_dropped_answers_its_askers() {
    let requests: Vec<(Sender<u8>, u8)>;
    let (sender, receiver) = oneshot::channel();
    requests = vec![(sender, 1)];
    drop(requests);
    assert_eq!(futures::executor::block_on(receiver), Err(RecvError));
}

/// A waker that uses the halves again when it is woken.
struct Meddler(std::sync::Mutex<Option<Receiver<Meddling>>>);
struct Meddling;

impl Wake for Meddler {
    fn wake(self: Arc<Self>) {
        let receiver = self.0.lock().unwrap().take();
        if let Some(mut receiver) = receiver {
            assert!(receiver.try_recv().is_ok());
        }
    }
}

#[test]
fn a_waker_may_receive_while_it_is_woken() {
    let (sender, mut receiver) = oneshot::channel();
    let meddler = Arc::new(Meddler(std::sync::Mutex::new(None)));
    let waker = Waker::from(meddler.clone());
    assert!(Pin::new(&mut receiver).poll(&mut Context::from_waker(&waker)).is_pending());
    *meddler.0.lock().unwrap() = Some(receiver);
    assert!(sender.send(Meddling).is_ok());
    assert!(meddler.0.lock().unwrap().is_none());
}

/// A waker that panics when it is woken.
struct Wild;

impl Wake for Wild {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics");
    }
}

#[test]
fn a_waker_that_panics_takes_no_value_with_it() {
    let (sender, mut receiver) = oneshot::channel();
    let waker = Waker::from(Arc::new(Wild));
    assert!(Pin::new(&mut receiver).poll(&mut Context::from_waker(&waker)).is_pending());
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sender.send(1))).expect_err("the panic goes on");
    assert_eq!(receiver.try_recv(), Ok(1));
}
