//! Waiting for a turn: what all futures of getting and putting share.

use super::Queue;
use super::order::Order;
use super::state::{Due, Side, State};
use crate::wait_list::{Guarding, Place};
use evenloop_core::budget::poll_spend;
use evenloop_core::watch::{self, On};
use std::fmt;
use std::marker::PhantomData;
use std::task::{Context, Poll, Waker, ready};

/// A place in one of the two lines. Dropped while it is chosen, it hands on what it was promised.
pub(super) struct Turn<'a, T, O: Order<T>, S: Side> {
    pub(super) queue: &'a Queue<T, O>,
    place: Place,
    side: PhantomData<S>,
}

impl<'a, T, O: Order<T>, S: Side> Turn<'a, T, O, S> {
    #[inline]
    pub(super) fn new(queue: &'a Queue<T, O>) -> Self {
        Self { queue, place: Place::New, side: PhantomData }
    }

    /// Ready with what `act` did when it was this one's turn. `act` looks for itself what is free, and answers None to get
    /// in line.
    ///
    /// After Ready this is as new.
    #[inline(always)]
    pub(super) fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut act: impl FnMut(&mut State<T, O>, &mut Due) -> Option<R>,
    ) -> Poll<R> {
        if matches!(self.place, Place::New) {
            ready!(poll_spend(cx));
            if self.queue.state.shown() & S::WAITS == 0 {
                let mut due = Due::default();
                let mut state = self.queue.state.lock();
                if let Some(done) = act(&mut state, &mut due) {
                    return Poll::Ready(done);
                }
            }
        }
        self.poll_slow(cx, act)
    }

    /// As `poll`, when there is a wait, or seems to be.
    #[inline(never)]
    fn poll_slow<R>(
        &mut self,
        cx: &mut Context<'_>,
        act: impl FnMut(&mut State<T, O>, &mut Due) -> Option<R>,
    ) -> Poll<R> {
        let polled = match self.place {
            Place::Waiting(_) => self.poll_waiting(cx.waker(), act),
            _ => self.join(cx.waker().clone(), act),
        };
        if polled.is_pending() {
            let queue = self.queue;
            watch::wait(cx.waker(), S::CALL, || On::counted(queue, queue.qsize(), queue.maxsize()));
        }
        polled
    }

    /// Acts now if something is free after all, or gets in line. `waker` was cloned outside the lock.
    #[inline]
    fn join<R>(
        &mut self,
        waker: Waker,
        mut act: impl FnMut(&mut State<T, O>, &mut Due) -> Option<R>,
    ) -> Poll<R> {
        let Self { queue, ref mut place, .. } = *self;
        let mut due = Due::default();
        let mut state = queue.state.lock();
        if let Some(done) = act(&mut state, &mut due) {
            drop(state);
            drop(waker);
            return Poll::Ready(done);
        }
        *place = Place::Waiting(S::line(&mut state).push(waker, ()));
        Poll::Pending
    }

    /// Acts if this was chosen.
    #[inline]
    fn poll_waiting<R>(
        &mut self,
        waker: &Waker,
        mut act: impl FnMut(&mut State<T, O>, &mut Due) -> Option<R>,
    ) -> Poll<R> {
        let Self { queue, ref mut place, .. } = *self;
        let mut due = Due::default();
        let turn = place.poll_then(&queue.state, S::line, waker, |state| {
            state.claim::<S>();
            act(state, &mut due).expect("what was promised is there")
        });
        turn.map(|((), done)| {
            *place = Place::New;
            done
        })
    }

    /// Leaves the line, and hands on what was promised.
    #[cold]
    fn leave(&mut self) {
        let Self { queue, ref mut place, .. } = *self;
        let mut due = Due::default();
        let left = place.leave_then(&queue.state, S::line, |state, chosen| {
            if chosen {
                state.hand_on::<S>(&mut due);
            }
        });
        drop(left);
    }
}

impl<T, O: Order<T>, S: Side> Drop for Turn<'_, T, O, S> {
    #[inline]
    fn drop(&mut self) {
        if let Place::Waiting(_) = self.place {
            self.leave();
        }
    }
}

impl<T, O: Order<T>, S: Side> fmt::Debug for Turn<'_, T, O, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}
