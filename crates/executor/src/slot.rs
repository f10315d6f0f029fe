//! Where an outcome is delivered, once, for a thread or a task that waits elsewhere.
//!
//! ```text
//! Waiting (waker of the last poll) ── deliver ──► There ── taken ──► Taken
//!   └── abandon ──► Alone ── deliver ──► Taken
//! ```
//!
//! S1. Wakers are cloned, run and dropped after the lock is released, and so are outcomes.

use crate::task::JoinError;
use evenloop_core::shim::{Condvar, Mutex};
use evenloop_core::watch::{self, On};
use std::any::Any;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// See the head.
pub(crate) struct Slot<T> {
    state: Mutex<State<T>>,
    delivered: Condvar,
}

/// Owned by the slot's mutex.
enum State<T> {
    Waiting(Option<Waker>),
    Alone,
    There(Result<T, JoinError>),
    Taken,
}

impl<T> Slot<T> {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State::Waiting(None)), delivered: Condvar::new() }
    }

    /// Fills the slot. Answers the panic that nobody will take.
    #[must_use = "somebody should hear of it"]
    pub(crate) fn deliver(&self, outcome: Result<T, JoinError>) -> Option<Box<dyn Any + Send>> {
        let mut state = self.state.lock();
        let State::Waiting(waker) = &mut *state else {
            *state = State::Taken;
            drop(state);
            return outcome.err().and_then(|error| error.into_panic().ok());
        };
        let waker = waker.take();
        *state = State::There(outcome);
        drop(state);
        self.delivered.notify_all();
        if let Some(waker) = waker {
            waker.wake(); // S1
        }
        None
    }

    /// Whether the outcome is there, or was. A snapshot.
    pub(crate) fn is_delivered(&self) -> bool {
        matches!(*self.state.lock(), State::There(_) | State::Taken)
    }

    /// Nobody waits any more. Answers the outcome that nobody took.
    pub(crate) fn abandon(&self) -> Option<Result<T, JoinError>> {
        let mut state = self.state.lock();
        let next = if let State::Waiting(_) = *state { State::Alone } else { State::Taken };
        let before = std::mem::replace(&mut *state, next);
        drop(state);
        match before {
            State::There(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// The outcome, if it is there.
    ///
    /// # Panics
    ///
    /// If it was taken before.
    fn take(state: &mut State<T>) -> Option<Result<T, JoinError>> {
        match std::mem::replace(state, State::Taken) {
            State::There(outcome) => Some(outcome),
            State::Taken => panic!("the outcome is given once, and it was taken before"),
            before => {
                *state = before;
                None
            }
        }
    }

    /// Blocks until the outcome is there, or the deadline.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Option<Result<T, JoinError>> {
        let mut state = self.state.lock();
        loop {
            if let Some(outcome) = Self::take(&mut state) {
                return Some(outcome);
            }
            let Some(deadline) = deadline else {
                self.delivered.wait(&mut state);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.delivered.wait_for(&mut state, left);
        }
    }

    /// The outcome, or the waker is kept.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        watch::noted(self.poll_outcome(cx), cx, "thread", || On::Thread)
    }

    fn poll_outcome(&self, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        let mut fresh = None;
        loop {
            let mut state = self.state.lock();
            if let Some(outcome) = Self::take(&mut state) {
                return Poll::Ready(outcome);
            }
            let State::Waiting(known) = &mut *state else { return Poll::Pending };
            if known.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            if let Some(fresh) = fresh.take() {
                let before = known.replace(fresh);
                drop(state);
                drop(before); // S1
                return Poll::Pending;
            }
            drop(state);
            fresh = Some(cx.waker().clone()); // S1
        }
    }
}
