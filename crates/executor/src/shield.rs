//! Waiting for a task without handing cancellations in.

use crate::task::{JoinError, Task};
use evenloop_core::cancel::{Raised, raise};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Waits for `task`; when the waiting code is cancelled, the task runs on.
///
/// Takes a handle or borrows one: who borrows can await the task again later. If the handle is dropped with this, the
/// task is detached, and a panic of it is reported once through the loop's hook. A task that is cancelled itself cancels
/// whoever waits here.
///
/// To run a part of the own task undisturbed, see [`shielded`](evenloop_core::cancel::shielded).
///
/// # Cancel safety
///
/// **Cancel safe.** The task is not touched.
///
/// # Panics
///
/// As awaiting the task.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, create_task, shield};
/// # EventLoop::new().run_until_complete(async {
/// let mut saving = create_task(async { "saved" });
/// assert_eq!(shield(&mut saving).await, "saved");
/// # });
/// ```
pub fn shield<T, H: AsMut<Task<T>> + Unpin>(task: H) -> Shield<T, H> {
    Shield { task, handed_on: None, output: PhantomData }
}

/// The future of [`shield`].
#[must_use = "futures do nothing unless awaited"]
pub struct Shield<T, H> {
    task: H,
    /// The task ended cancelled, and the waiting one was asked to end.
    handed_on: Option<(Raised, JoinError)>,
    output: PhantomData<fn() -> T>,
}

impl<T, H: AsMut<Task<T>> + Unpin> Future for Shield<T, H> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Awaited again after code around this has caught what was handed on: the outcome was taken then.
        let again = self.handed_on.take_if(|(raised, _)| raised.is_over()).map(|(_, error)| error);
        if self.handed_on.is_some() {
            return Poll::Pending;
        }
        let error = match again {
            Some(error) => error,
            None => match self.task.as_mut().raw().poll_as(cx.waker(), "shield") {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(outcome) => match outcome.map_err(JoinError::into_panic) {
                    Ok(value) => return Poll::Ready(value),
                    Err(Ok(panic)) => resume_unwind(panic),
                    Err(Err(error)) => error,
                },
            },
        };
        let Some(raised) = raise(error.reason()) else {
            panic!(
                "`shield`: the task was cancelled, and whoever awaits it is no task that could be cancelled too"
            )
        };
        self.handed_on = Some((raised, error));
        Poll::Pending
    }
}

impl<T, H> fmt::Debug for Shield<T, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shield").finish_non_exhaustive()
    }
}
