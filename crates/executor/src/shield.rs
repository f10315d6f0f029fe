//! Waiting for a task without handing cancellations in.

use crate::task::Task;
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
    handed_on: Option<Raised>,
    output: PhantomData<fn() -> T>,
}

impl<T, H: AsMut<Task<T>> + Unpin> Future for Shield<T, H> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if self.handed_on.is_some() {
            return Poll::Pending;
        }
        let Poll::Ready(outcome) = self.task.as_mut().raw().poll_as(cx.waker(), "shield") else {
            return Poll::Pending;
        };
        match outcome.map_err(|error| error.into_panic()) {
            Ok(value) => Poll::Ready(value),
            Err(Ok(panic)) => resume_unwind(panic),
            Err(Err(error)) => {
                let raised = raise(error.reason());
                assert!(
                    raised.is_some(),
                    "`shield`: the task was cancelled, and whoever awaits it is no task that could be cancelled too"
                );
                self.handed_on = raised;
                Poll::Pending
            }
        }
    }
}

impl<T, H> fmt::Debug for Shield<T, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shield").finish_non_exhaustive()
    }
}
