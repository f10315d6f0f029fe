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

/// What a future does when it is its turn. A trait and no closure, so that each of the three ways there has its own, inlined.
pub(super) trait Act<T, O> {
    type Done;

    /// What the user called.
    const CALL: &'static str;

    /// Looks for itself what is free, and answers None to get in line.
    fn act(&mut self, state: &mut State<T, O>, due: &mut Due<T>) -> Option<Self::Done>;
}

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

    /// As new, if it had come to its end: to be polled again, for the next.
    #[inline]
    pub(super) fn renew(&mut self) {
        if matches!(self.place, Place::Done) {
            self.place = Place::New;
        }
    }

    /// Ready with what `act` did when it was this one's turn.
    #[inline(always)]
    pub(super) fn poll<A: Act<T, O>>(&mut self, cx: &mut Context<'_>, mut act: A) -> Poll<A::Done> {
        if matches!(self.place, Place::New) {
            ready!(poll_spend(cx));
            if self.queue.state.shown() & S::WAITS == 0 {
                let mut due = Due::nothing();
                let mut state = self.queue.state.lock();
                if let Some(done) = act.act(&mut state, &mut due) {
                    self.place = Place::Done;
                    return Poll::Ready(done);
                }
            }
            self.join(cx.waker(), act)
        } else {
            self.poll_waiting(cx.waker(), act)
        }
    }

    /// Acts now if something is free after all, or gets in line. The waker is cloned outside the lock.
    #[inline(never)]
    fn join<A: Act<T, O>>(&mut self, waker: &Waker, mut act: A) -> Poll<A::Done> {
        let fresh = waker.clone();
        let mut due = Due::nothing();
        let mut state = self.queue.state.lock();
        if let Some(done) = act.act(&mut state, &mut due) {
            drop(state);
            drop(fresh);
            self.place = Place::Done;
            return Poll::Ready(done);
        }
        self.place = Place::Waiting(state.wait::<S>(fresh));
        drop(state);
        self.note(waker, A::CALL);
        Poll::Pending
    }

    /// Acts if this was chosen.
    #[inline(never)]
    fn poll_waiting<A: Act<T, O>>(&mut self, waker: &Waker, mut act: A) -> Poll<A::Done> {
        let Self { queue, ref mut place, .. } = *self;
        if matches!(place, Place::Done) {
            panic!("`{}` was polled after it had finished", A::CALL);
        }
        let mut due = Due::nothing();
        let turn = place.poll_then(&queue.state, S::line, waker, |state| {
            state.claim::<S>();
            act.act(state, &mut due).expect("what was promised is there")
        });
        match turn {
            Poll::Ready(((), done)) => Poll::Ready(done),
            Poll::Pending => {
                self.note(waker, A::CALL);
                Poll::Pending
            }
        }
    }

    /// Tells whoever asks what this waits for.
    #[inline(always)]
    fn note(&self, waker: &Waker, call: &'static str) {
        let queue = self.queue;
        watch::wait(waker, call, || On::counted(queue, queue.qsize(), queue.maxsize()));
    }

    /// Leaves the line, and hands on what was promised.
    #[cold]
    fn leave(&mut self) {
        let Self { queue, ref mut place, .. } = *self;
        let mut due = Due::nothing();
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
