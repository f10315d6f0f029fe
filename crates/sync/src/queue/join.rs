//! The future of waiting until all is finished.

use super::Queue;
use super::order::Order;
use super::state::State;
use crate::wait_list::{Guarding, Place};
use evenloop_core::watch::{self, On};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The future of [`Queue::join`].
#[must_use = "futures do nothing unless awaited"]
pub struct QueueJoin<'a, T, O: Order<T> = super::Fifo<T>> {
    queue: &'a Queue<T, O>,
    place: Place,
}

impl<'a, T, O: Order<T>> QueueJoin<'a, T, O> {
    pub(super) fn new(queue: &'a Queue<T, O>) -> Self {
        Self { queue, place: Place::New }
    }
}

impl<T, O: Order<T>> Future for QueueJoin<'_, T, O> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { queue, place } = &mut *self;
        let polled = match place {
            Place::New => {
                let waker = cx.waker().clone();
                let mut state = queue.state.lock();
                if state.unfinished() > 0 {
                    *place = Place::Waiting(state.joiners().push(waker, ()));
                    Poll::Pending
                } else {
                    drop(state); // before the waker
                    *place = Place::Done;
                    Poll::Ready(())
                }
            }
            Place::Waiting(_) => place.poll(&queue.state, State::joiners, cx.waker()),
            Place::Done => panic!("`Queue::join` was polled after it had finished"),
        };
        watch::noted(polled, cx, "Queue::join", || On::object(*queue))
    }
}

impl<T, O: Order<T>> Drop for QueueJoin<'_, T, O> {
    fn drop(&mut self) {
        let left = self.place.leave(&self.queue.state, State::joiners);
        drop(left); // nothing to hand on: all who wait are released together
    }
}

impl<T, O: Order<T>> fmt::Debug for QueueJoin<'_, T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueueJoin [{:?}]", self.place)
    }
}
