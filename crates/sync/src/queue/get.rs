//! The futures of getting: one item, or as many as are there.

use super::order::Order;
use super::state::{Admission, Due, Getters, State};
use super::turn::{Act, Turn};
use super::{Queue, QueueShutDown};
use crate::wait_list::wake_due;
use evenloop_core::Runtime;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// The future of [`Queue::get`].
#[must_use = "futures do nothing unless awaited"]
pub struct QueueGet<'a, T, O: Order<T> = super::Fifo<T>> {
    turn: Turn<'a, T, O, Getters>,
}

/// The future of [`Queue::get_many`].
#[must_use = "futures do nothing unless awaited"]
pub struct QueueGetMany<'a, T, O: Order<T> = super::Fifo<T>> {
    turn: Turn<'a, T, O, Getters>,
    items: &'a mut Vec<T>,
    limit: usize,
}

// === impl QueueGet ===

impl<'a, T, O: Order<T>> QueueGet<'a, T, O> {
    #[inline]
    pub(super) fn new(queue: &'a Queue<T, O>) -> Self {
        Self { turn: Turn::new(queue) }
    }

    /// See [`Turn::renew`].
    pub(super) fn renew(&mut self) {
        self.turn.renew();
    }
}

impl<T, O: Order<T>> Future for QueueGet<'_, T, O> {
    type Output = Result<T, QueueShutDown>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.turn.poll(cx, TakeOne)
    }
}

struct TakeOne;

impl<T, O: Order<T>> Act<T, O> for TakeOne {
    type Done = Result<T, QueueShutDown>;
    const CALL: &'static str = "Queue::get";

    #[inline(always)]
    fn act(&mut self, state: &mut State<T, O>, due: &mut Due<T>) -> Option<Self::Done> {
        match state.admit_getter() {
            Admission::Now => Some(Ok(state.get(due))),
            Admission::Later => None,
            Admission::Never => Some(Err(QueueShutDown(()))),
        }
    }
}

impl<T, O: Order<T>> fmt::Debug for QueueGet<'_, T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueueGet [{:?}]", self.turn)
    }
}

// === impl QueueGetMany ===

impl<'a, T, O: Order<T>> QueueGetMany<'a, T, O> {
    pub(super) fn new(queue: &'a Queue<T, O>, items: &'a mut Vec<T>, limit: usize) -> Self {
        Self { turn: Turn::new(queue), items, limit }
    }
}

impl<T, O: Order<T>> Future for QueueGetMany<'_, T, O> {
    type Output = Result<usize, QueueShutDown>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { turn, items, limit } = &mut *self;
        if *limit == 0 {
            return Poll::Ready(Ok(0));
        }
        let mut putters = DuePutters { queue: turn.queue, some: false };
        turn.poll(cx, TakeMany { items, limit: *limit, chose: &mut putters.some })
    }
}

struct TakeMany<'a, T> {
    items: &'a mut Vec<T>,
    limit: usize,
    chose: &'a mut bool,
}

impl<T, O: Order<T>> Act<T, O> for TakeMany<'_, T> {
    type Done = Result<usize, QueueShutDown>;
    const CALL: &'static str = "Queue::get_many";

    fn act(&mut self, state: &mut State<T, O>, due: &mut Due<T>) -> Option<Self::Done> {
        match state.admit_getter() {
            Admission::Now => {
                let before = self.items.len();
                state.get_many(self.items, self.limit, self.chose, due);
                Some(Ok(self.items.len() - before))
            }
            Admission::Later => None,
            Admission::Never => Some(Err(QueueShutDown(()))),
        }
    }
}

/// Wakes the putters that were chosen when it is dropped, also when comparing items panics.
struct DuePutters<'a, T, O: Order<T>> {
    queue: &'a Queue<T, O>,
    some: bool,
}

impl<T, O: Order<T>> Drop for DuePutters<'_, T, O> {
    fn drop(&mut self) {
        if self.some {
            let woken = AssertUnwindSafe(|| wake_due(None, &self.queue.state, State::putters));
            if let Err(panic) = catch_unwind(woken) {
                Runtime::report_panic("a waker of `Queue` panicked", panic); // as in `Due`
            }
        }
    }
}

impl<T, O: Order<T>> fmt::Debug for QueueGetMany<'_, T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueueGetMany [{:?}, limit: {}]", self.turn, self.limit)
    }
}
