//! Tasks that another thread waits for.
//!
//! A [`Task`](crate::Task) belongs to its loop's thread. What is spawned from another thread is wrapped: the wrapper
//! delivers the outcome into a slot that both sides share, also when it is dropped unfinished.
//!
//! ```text
//! Waiting (waker of the last poll) ── deliver ──► There ── taken ──► Taken
//!   └── handle dropped ──► Alone ── deliver ──► Taken
//! ```
//!
//! R1. The slot is filled once, by the wrapper: with what the future gave, its panic, or "cancelled" when it is dropped.
//! R2. A panic that nobody took is raised again in a task of its own, so that the loop reports it.
//! R3. Wakers run, and are dropped, after the slot's lock is released.

use crate::task::JoinError;
use crate::task::raw::{Shared, TaskRef};
use evenloop_core::cancel::Reason;
use evenloop_core::shim::{Condvar, Mutex, StdArc};
use pin_project_lite::pin_project;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// A task of a loop, for other threads: awaited under any executor, or waited for by blocking.
///
/// Dropping it detaches the task: it runs on. A panic that nobody took from it goes to the loop's hook.
///
/// # Cancel safety
///
/// **Cancel safe.** Dropping the future `&mut task` leaves the task running; await it again.
///
/// # Panics
///
/// Awaiting panics if the outcome was taken before.
#[must_use = "dropping the handle detaches the task: call `detach` if that is meant"]
pub struct RemoteTask<T> {
    slot: StdArc<Slot<T>>,
    task: TaskRef,
    shared: StdArc<Shared>,
    spawned_at: &'static Location<'static>,
}

/// Where the outcome is delivered.
struct Slot<T> {
    state: Mutex<State<T>>,
    delivered: Condvar,
}

enum State<T> {
    Waiting(Option<Waker>),
    Alone,
    There(Result<T, JoinError>),
    Taken,
}

impl<T> Slot<T> {
    /// R1. Answers the panic that nobody will take (R2).
    #[must_use = "R2"]
    fn deliver(&self, outcome: Result<T, JoinError>) -> Option<Box<dyn Any + Send>> {
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
            waker.wake(); // R3
        }
        None
    }

    /// The outcome, if it is there.
    fn take(state: &mut State<T>) -> Option<Result<T, JoinError>> {
        match std::mem::replace(state, State::Taken) {
            State::There(outcome) => Some(outcome),
            State::Taken => panic!("a task gives its outcome once, and this one's was taken before"),
            before => {
                *state = before;
                None
            }
        }
    }
}

// === impl RemoteTask ===

impl<T: Send + 'static> RemoteTask<T> {
    /// Wraps `future` and hands it to the loop.
    pub(crate) fn spawn<F>(
        shared: &StdArc<Shared>,
        future: F,
        spawned_at: &'static Location<'static>,
    ) -> Result<Self, F>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let slot = StdArc::new(Slot { state: Mutex::new(State::Waiting(None)), delivered: Condvar::new() });
        let delivers = Delivers { future: Some(future), slot: Some(slot.clone()) };
        match shared.spawn(delivers, spawned_at) {
            Ok(task) => Ok(Self { slot, task, shared: shared.clone(), spawned_at }),
            Err(mut delivers) => {
                delivers.slot = None;
                Err(delivers.future.take().expect("it was never polled"))
            }
        }
    }
}

impl<T> RemoteTask<T> {
    /// Asks the task to end, from any thread: at the loop's next turn its future is dropped there. If it is complete by
    /// then, nothing happens.
    pub fn cancel(&self) {
        self.task.cancel();
    }

    /// Lets the task run on without a handle.
    pub fn detach(self) {}

    /// Whether the task is over. A snapshot.
    pub fn is_finished(&self) -> bool {
        !matches!(*self.slot.state.lock(), State::Waiting(_))
    }

    /// Blocks this thread until the task is over.
    ///
    /// # Errors
    ///
    /// The task was cancelled or panicked.
    ///
    /// # Panics
    ///
    /// On the thread of the task's loop while that runs: it would wait for itself. If the outcome was taken before.
    pub fn join_blocking(self) -> Result<T, JoinError> {
        self.not_here("join_blocking");
        let mut state = self.slot.state.lock();
        loop {
            if let Some(outcome) = Slot::take(&mut state) {
                return outcome;
            }
            self.slot.delivered.wait(&mut state);
        }
    }

    /// As [`join_blocking`](Self::join_blocking), for no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// The task is not over in time: the handle comes back. Inside `Ok`, as for `join_blocking`.
    ///
    /// # Panics
    ///
    /// As for `join_blocking`.
    pub fn join_timeout(self, timeout: Duration) -> Result<Result<T, JoinError>, Self> {
        self.not_here("join_timeout");
        let deadline = evenloop_core::deadline_after(Instant::now(), timeout);
        let mut state = self.slot.state.lock();
        loop {
            if let Some(outcome) = Slot::take(&mut state) {
                return Ok(outcome);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                return Err(self);
            }
            self.slot.delivered.wait_for(&mut state, left);
        }
    }

    fn not_here(&self, call: &str) {
        assert!(
            !self.shared.runs_here(),
            "`{call}` on the thread of the task's own loop would wait for itself: await the task instead"
        );
    }
}

impl<T> Drop for RemoteTask<T> {
    fn drop(&mut self) {
        let mut state = self.slot.state.lock();
        let next = if let State::Waiting(_) = *state { State::Alone } else { State::Taken };
        let before = std::mem::replace(&mut *state, next);
        drop(state);
        if let State::There(Err(error)) = before {
            if let Ok(panic) = error.into_panic() {
                // Refused by a loop that is closed: then nobody is left to tell.
                drop(self.shared.spawn(async move { resume_unwind(panic) }, self.spawned_at).map(drop));
            }
        }
    }
}

impl<T> Future for RemoteTask<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut fresh = None;
        loop {
            let mut state = self.slot.state.lock();
            if let Some(outcome) = Slot::take(&mut state) {
                return Poll::Ready(outcome);
            }
            let State::Waiting(known) = &mut *state else { unreachable!("`take` left it waiting") };
            if known.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            if let Some(fresh) = fresh.take() {
                let before = known.replace(fresh);
                drop(state);
                drop(before); // R3
                return Poll::Pending;
            }
            drop(state);
            fresh = Some(cx.waker().clone()); // R3: cloning is foreign code too
        }
    }
}

impl<T> fmt::Debug for RemoteTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteTask [{}]", if self.is_finished() { "finished" } else { "pending" })
    }
}

pin_project! {
    /// Runs a future and delivers how it ended, even if it is dropped.
    struct Delivers<F: Future> {
        // Gone once it is over.
        #[pin]
        future: Option<F>,
        // Gone once delivered, or when the loop refused.
        slot: Option<StdArc<Slot<F::Output>>>,
    }

    impl<F: Future> PinnedDrop for Delivers<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let dropped = catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
            let outcome = Err(dropped.map_or_else(JoinError::panicked, |()| JoinError::cancelled(Reason::default())));
            let panic = this.slot.take().and_then(|slot| slot.deliver(outcome));
            if let Some(panic) = panic.filter(|_| !std::thread::panicking()) {
                resume_unwind(panic); // R2: the loop catches it
            }
        }
    }
}

impl<F: Future> Future for Delivers<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        let outcome = match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(value)) => Ok(value),
            Err(panic) => Err(JoinError::panicked(panic)),
        };
        // Before the outcome is told, what the future held is gone.
        let dropped = catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
        let outcome = match dropped {
            Err(panic) if outcome.is_ok() => Err(JoinError::panicked(panic)),
            _ => outcome,
        };
        let panic = this.slot.take().and_then(|slot| slot.deliver(outcome));
        if let Some(panic) = panic {
            resume_unwind(panic); // R2: the loop catches it
        }
        Poll::Ready(())
    }
}
