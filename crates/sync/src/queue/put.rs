//! The futures of putting: with the item in hand, or for a slot first.

use super::order::Order;
use super::state::{Admission, Due, Putters, State};
use super::turn::{Act, Turn};
use super::{Queue, QueueShutDown};
use crate::wait_list::Guarding;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The future of [`Queue::put`].
#[must_use = "futures do nothing unless awaited"]
pub struct QueuePut<'a, T, O: Order<T> = super::Fifo<T>> {
    turn: Turn<'a, T, O, Putters>,
    /// None after the answer.
    item: Option<T>,
}

/// The future of [`Queue::reserve`].
#[must_use = "futures do nothing unless awaited"]
pub struct QueueReserve<'a, T, O: Order<T> = super::Fifo<T>> {
    turn: Turn<'a, T, O, Putters>,
}

/// A slot in a queue that nobody else can fill. Dropping it gives it to the next putter in line.
///
/// # Examples
///
/// ```
/// use evenloop_sync::Queue;
/// # futures::executor::block_on(async {
/// let queue = Queue::new(1);
/// let slot = queue.reserve().await.unwrap(); // there is room, and it is ours
/// let item = "made only now";
/// slot.put(item).unwrap();
/// assert_eq!(queue.get().await, Ok(item));
/// # });
/// ```
#[must_use = "dropping the slot gives it back"]
pub struct QueueSlot<'a, T, O: Order<T> = super::Fifo<T>> {
    queue: &'a Queue<T, O>,
}

// === impl QueuePut ===

impl<'a, T, O: Order<T>> QueuePut<'a, T, O> {
    #[inline]
    pub(super) fn new(queue: &'a Queue<T, O>, item: T) -> Self {
        Self { turn: Turn::new(queue), item: Some(item) }
    }
}

impl<T, O: Order<T>> Future for QueuePut<'_, T, O> {
    type Output = Result<(), QueueShutDown<T>>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { turn, item } = &mut *self;
        turn.poll(cx, Bring(item))
    }
}

/// None after the answer.
struct Bring<'a, T>(&'a mut Option<T>);

impl<T, O: Order<T>> Act<T, O> for Bring<'_, T> {
    type Done = Result<(), QueueShutDown<T>>;
    const CALL: &'static str = "Queue::put";

    #[inline(always)]
    fn act(&mut self, state: &mut State<T, O>, due: &mut Due<T>) -> Option<Self::Done> {
        let admission = state.admit_putter();
        if admission == Admission::Later {
            return None;
        }
        let item = self.0.take().expect("it is brought once");
        Some(match admission {
            Admission::Never => Err(QueueShutDown(item)),
            _ => {
                state.put(item, due);
                Ok(())
            }
        })
    }
}

// The item is moved into the queue, never pinned.
impl<T, O: Order<T>> Unpin for QueuePut<'_, T, O> {}

impl<T, O: Order<T>> fmt::Debug for QueuePut<'_, T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.item {
            Some(_) => write!(f, "QueuePut [{:?}]", self.turn),
            None => f.write_str("QueuePut [done]"),
        }
    }
}

// === impl QueueReserve ===

impl<'a, T, O: Order<T>> QueueReserve<'a, T, O> {
    pub(super) fn new(queue: &'a Queue<T, O>) -> Self {
        Self { turn: Turn::new(queue) }
    }

    pub(super) fn queue(&self) -> &'a Queue<T, O> {
        self.turn.queue
    }

    /// See [`Turn::renew`].
    pub(super) fn renew(&mut self) {
        self.turn.renew();
    }
}

impl<'a, T, O: Order<T>> Future for QueueReserve<'a, T, O> {
    type Output = Result<QueueSlot<'a, T, O>, QueueShutDown>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let queue = self.turn.queue;
        self.turn.poll(cx, TakeSlot(queue))
    }
}

struct TakeSlot<'a, T, O: Order<T>>(&'a Queue<T, O>);

impl<'a, T, O: Order<T>> Act<T, O> for TakeSlot<'a, T, O> {
    type Done = Result<QueueSlot<'a, T, O>, QueueShutDown>;
    const CALL: &'static str = "Queue::reserve";

    fn act(&mut self, state: &mut State<T, O>, _: &mut Due<T>) -> Option<Self::Done> {
        match state.admit_putter() {
            Admission::Later => None,
            Admission::Never => Some(Err(QueueShutDown(()))),
            Admission::Now => {
                state.promise_slot();
                Some(Ok(QueueSlot { queue: self.0 }))
            }
        }
    }
}

impl<T, O: Order<T>> fmt::Debug for QueueReserve<'_, T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueueReserve [{:?}]", self.turn)
    }
}

// === impl QueueSlot ===

impl<T, O: Order<T>> QueueSlot<'_, T, O> {
    /// Puts an item into the slot.
    ///
    /// # Errors
    ///
    /// The queue was shut down since; the item comes back.
    pub fn put(self, item: T) -> Result<(), QueueShutDown<T>> {
        let queue = self.queue;
        std::mem::forget(self); // the slot is claimed here, not returned
        let mut due = Due::nothing();
        let mut state = queue.state.lock();
        state.claim::<Putters>();
        if state.is_shut_down() {
            return Err(QueueShutDown(item));
        }
        state.put(item, &mut due);
        Ok(())
    }
}

impl<T, O: Order<T>> Drop for QueueSlot<'_, T, O> {
    fn drop(&mut self) {
        let mut due = Due::nothing();
        self.queue.state.lock().hand_on::<Putters>(&mut due);
    }
}

impl<T, O: Order<T>> fmt::Debug for QueueSlot<'_, T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueueSlot")
    }
}
