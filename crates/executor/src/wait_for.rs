//! `wait_for`: a task, and how long it may take.

use crate::named::named;
use crate::task::{Awaits, Task};
use evenloop_core::cancel::{CancelScope, Reason};
use evenloop_core::{Elapsed, Runtime, deadline_after};
use std::fmt;
use std::future::Future;
use std::panic::resume_unwind;
use std::time::Duration;

/// Waits for `task`, but no longer than `limit`, counted from the first poll; without one, as long as it takes.
///
/// At the deadline the task is cancelled, and its clean-up is waited for: that comes on top of the limit. If it gives a
/// value all the same, that is the answer. With a limit of zero the task is cancelled at once, unless it is over; one that
/// has not started never runs.
///
/// Takes a handle or borrows one: who borrows can look at the task afterwards. For a future that is no task use
/// `timeout`, which runs it as part of the calling task. (asyncio's `wait_for` takes both.)
///
/// # Cancel safety
///
/// As awaiting the task: when cancelled, the task is cancelled and waited for. Dropping this leaves the task running.
///
/// # Errors
///
/// [`Elapsed`]: the deadline was met, and the task ended cancelled.
///
/// # Panics
///
/// With the task's own panic. When it has to wait with a limit where no runtime is current that offers timers.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, create_task, wait_for};
/// # use std::time::Duration;
/// # EventLoop::new().run_until_complete(async {
/// let quick = create_task(async { 7 });
/// assert_eq!(wait_for(quick, None).await, Ok(7));
/// let slow = create_task(std::future::pending::<u8>());
/// assert!(wait_for(slow, Duration::ZERO).await.is_err());
/// # });
/// ```
#[doc(alias = "timeout")]
pub fn wait_for<T, H: AsMut<Task<T>>>(
    mut task: H,
    limit: impl Into<Option<Duration>>,
) -> impl Future<Output = Result<T, Elapsed>> + fmt::Debug {
    let limit = limit.into();
    named("WaitFor", async move {
        let task = task.as_mut();
        match limit {
            None => Ok(Awaits(task).await),
            Some(Duration::ZERO) => at_once(task).await,
            Some(_) if task.done() => Ok(task.await),
            Some(limit) => {
                let timers = Runtime::current_timers("wait_for").unwrap_or_else(|error| panic!("{error}"));
                let scope = CancelScope::with_deadline(deadline_after(timers.now(), limit));
                scope.run(Awaits(task)).await.map_err(|_| Elapsed)
            }
        }
    })
}

/// The limit is over before it began.
async fn at_once<T>(task: &mut Task<T>) -> Result<T, Elapsed> {
    if task.done() {
        return Ok(task.await);
    }
    task.cancel(Reason::new("deadline"));
    match task.join().await.map_err(|error| error.into_panic()) {
        Ok(value) => Ok(value),
        Err(Ok(panic)) => resume_unwind(panic),
        Err(Err(_)) => Err(Elapsed),
    }
}
