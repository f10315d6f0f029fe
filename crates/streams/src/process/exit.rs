//! The end of one child, as far as everybody who asks for it is concerned.
//!
//! ```text
//! Running(kernel) ── reap: the kernel has a status ──► Ended(outcome) ── publish ──► all who wait are woken
//!    │  ▲
//!    └──┘ signal: sent while the lock is held
//! ```
//!
//! X1. Taking the status from the kernel and noting it are one step under one lock. While the state is Running the child
//!     has not been reaped (by us), so its number still belongs to it.
//! X2. Signals are sent under that lock and only while the state is Running: they never reach another process that was
//!     given the number of one that is gone.
//! X3. The way to the kernel (a pidfd) is dropped with the state Running, so a child that has ended holds no descriptor.
//! X4. Whoever makes the step publishes it: those who wait are woken after the lock was released.
//! X5. The kernel is asked without waiting, so the lock is held for a system call and never for longer.

use evenloop_core::shim::Mutex;
use evenloop_core::{Direction, Readiness, Ready, WaiterKey, WakeBatch};
use std::fmt;
use std::process::ExitStatus;
use std::task::{Context, Poll};

/// What the kernel does for one child. Models have a kernel of their own.
pub trait Kernel {
    /// Takes the child's status, if it has ended, without waiting. `Some`: from now on its number may be another's.
    fn reap(&mut self) -> Option<Outcome>;
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With this status.
    Status(ExitStatus),
    /// Somebody else took the status; the kernel's number for the error.
    Lost(i32),
}

/// Whether a child has ended and how, and who waits for it. Any thread.
pub struct Exit<K> {
    state: Mutex<State<K>>,
    /// Ready to read once the state is Ended.
    ended: Readiness,
}

enum State<K> {
    Running(K),
    Ended(Outcome),
}

impl<K: Kernel> Exit<K> {
    /// The end of a child that runs.
    pub fn new(kernel: K) -> Self {
        Self { state: Mutex::new(State::Running(kernel)), ended: Readiness::new(Ready::NOTHING) }
    }

    /// Takes the status if the child has ended. True: it has, and whoever was told so first has to
    /// [`publish`](Self::publish).
    #[must_use = "true: publish it"]
    pub fn reap(&self) -> bool {
        let kernel = {
            let mut state = self.state.lock();
            let State::Running(kernel) = &mut *state else { return true };
            let Some(outcome) = kernel.reap() else { return false };
            std::mem::replace(&mut *state, State::Ended(outcome)) // X1
        };
        drop(kernel); // X3
        true
    }

    /// Wakes all who wait; to be called after [`reap`](Self::reap) answered true, with no lock held. Twice is harmless.
    pub fn publish(&self) {
        let mut due = WakeBatch::new();
        while self.ended.set(Ready::READ, &mut due) {
            due.wake_all();
        }
        due.wake_all(); // X4
    }

    /// How the child ended, as far as was noticed.
    pub fn outcome(&self) -> Option<Outcome> {
        match &*self.state.lock() {
            State::Running(_) => None,
            State::Ended(outcome) => Some(*outcome),
        }
    }

    /// Does something to a child that was not reaped, such as sending it a signal (X2). `None`: it has ended.
    pub fn while_running<R>(&self, act: impl FnOnce(&mut K) -> R) -> Option<R> {
        match &mut *self.state.lock() {
            State::Running(kernel) => Some(act(kernel)),
            State::Ended(_) => None,
        }
    }

    /// Waits for the end beside any number of others; `key` is `None` at first, and goes to [`forget`](Self::forget) when
    /// a waiter gives up.
    pub fn poll_ended(&self, key: &mut Option<WaiterKey>, cx: &mut Context<'_>) -> Poll<Outcome> {
        if let Some(outcome) = self.outcome() {
            self.forget(key);
            return Poll::Ready(outcome);
        }
        match self.ended.poll_shared(Direction::Read, key, cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) => Poll::Ready(self.outcome().expect("X4: published after it was noted")),
        }
    }

    /// Takes a waiter out of the line.
    pub fn forget(&self, key: &mut Option<WaiterKey>) {
        self.ended.forget(key);
    }

    /// How many wait. May be out of date by the time it returns.
    pub fn waiting(&self) -> usize {
        self.ended.waiting(Direction::Read)
    }
}

impl<K> fmt::Debug for Exit<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.state.lock() {
            State::Running(_) => f.write_str("running"),
            State::Ended(Outcome::Status(status)) => write!(f, "{status}"),
            State::Ended(Outcome::Lost(_)) => f.write_str("ended, status lost"),
        }
    }
}
