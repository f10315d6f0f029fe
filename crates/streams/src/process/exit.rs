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
//! X4. Whoever makes the step publishes it: those who wait are woken after the lock was released. Who waits stands in line
//!     under the same lock, and once the state is Ended nobody gets in line any more, so none is forgotten.
//! X5. The kernel is asked without waiting, so the lock is held for a system call and never for longer.

use evenloop_core::WakeBatch;
use evenloop_core::shim::Mutex;
use smallvec::SmallVec;
use std::fmt;
use std::process::ExitStatus;
use std::task::{Context, Poll, Waker};

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
pub struct Exit<K>(Mutex<Inside<K>>);

struct Inside<K> {
    state: State<K>,
    /// Who waits. Mostly it is one, who takes no memory beside the child's.
    line: SmallVec<[(Waiter, Waker); 1]>,
    last_waiter: u64,
}

enum State<K> {
    Running(K),
    Ended(Outcome),
}

/// One of those who wait for the end of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter(u64);

impl<K: Kernel> Exit<K> {
    /// The end of a child that runs.
    pub fn new(kernel: K) -> Self {
        Self(Mutex::new(Inside { state: State::Running(kernel), line: SmallVec::new(), last_waiter: 0 }))
    }

    /// Takes the status if the child has ended. True: it has, and whoever was told so first has to
    /// [`publish`](Self::publish).
    #[must_use = "true: publish it"]
    pub fn reap(&self) -> bool {
        let kernel = {
            let state = &mut self.0.lock().state;
            let State::Running(kernel) = state else { return true };
            let Some(outcome) = kernel.reap() else { return false };
            std::mem::replace(state, State::Ended(outcome)) // X1
        };
        drop(kernel); // X3
        true
    }

    /// Wakes all who wait; to be called after [`reap`](Self::reap) answered true, with no lock held. Twice is harmless.
    pub fn publish(&self) {
        let mut due = WakeBatch::new();
        while self.take_due(&mut due) {
            due.wake_all_reporting(); // X4
        }
    }

    /// False: nobody is left.
    fn take_due(&self, due: &mut WakeBatch) -> bool {
        let line = &mut self.0.lock().line;
        while !line.is_empty() && !due.is_full() {
            due.push(line.swap_remove(0).1);
        }
        !due.is_empty()
    }

    /// How the child ended, as far as was noticed.
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.0.lock().state {
            State::Running(_) => None,
            State::Ended(outcome) => Some(*outcome),
        }
    }

    /// Does something to a child that was not reaped, such as sending it a signal (X2). `None`: it has ended.
    pub fn while_running<R>(&self, act: impl FnOnce(&mut K) -> R) -> Option<R> {
        match &mut self.0.lock().state {
            State::Running(kernel) => Some(act(kernel)),
            State::Ended(_) => None,
        }
    }

    /// Waits for the end beside any number of others; `place` is `None` at first, and goes to [`forget`](Self::forget) when
    /// a waiter gives up.
    pub fn poll_ended(&self, place: &mut Option<Waiter>, cx: &mut Context<'_>) -> Poll<Outcome> {
        if let Some(outcome) = self.outcome() {
            self.forget(place);
            return Poll::Ready(outcome);
        }
        // Wakers are copied and dropped with no lock held: that is foreign code.
        let mut mine = Some(cx.waker().clone());
        let ended = {
            let Inside { state, line, last_waiter } = &mut *self.0.lock();
            let stored = line.iter_mut().find(|(waiter, _)| Some(*waiter) == *place);
            match (state, stored) {
                (State::Ended(outcome), _) => Some(*outcome),
                (State::Running(_), Some((_, stored))) => {
                    mine = mine.map(|mine| std::mem::replace(stored, mine));
                    None
                }
                (State::Running(_), None) => {
                    *last_waiter += 1;
                    *place = Some(Waiter(*last_waiter));
                    line.extend(place.zip(mine.take()));
                    None
                }
            }
        };
        drop(mine);
        match ended {
            None => Poll::Pending,
            Some(outcome) => {
                self.forget(place);
                Poll::Ready(outcome)
            }
        }
    }

    /// Takes a waiter out of the line.
    pub fn forget(&self, place: &mut Option<Waiter>) {
        let Some(waiter) = place.take() else { return };
        let left = {
            let line = &mut self.0.lock().line;
            let place = line.iter().position(|(stored, _)| *stored == waiter);
            place.map(|place| line.swap_remove(place))
        };
        drop(left);
    }

    /// How many wait. May be out of date by the time it returns.
    pub fn waiting(&self) -> usize {
        self.0.lock().line.len()
    }
}

impl<K> fmt::Debug for Exit<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.lock().state {
            State::Running(_) => f.write_str("running"),
            State::Ended(Outcome::Status(status)) => write!(f, "{status}"),
            State::Ended(Outcome::Lost(_)) => f.write_str("ended, status lost"),
        }
    }
}
