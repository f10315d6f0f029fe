//! Points at which a task lets others run and can be cancelled.

use crate::current::cancellation_is_open;
use crate::named::named;
use crate::yield_now::yield_now;
use std::fmt;
use std::future::Future;

/// Lets exactly one pass go by, and is a point at which the code can be cancelled.
///
/// # Cancel safety
///
/// **Cancel safe.**
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, checkpoint};
/// # EventLoop::new().run_until_complete(async {
/// for _ in 0..1_000 {
///     // … a part of something long …
///     checkpoint().await;
/// }
/// # });
/// ```
#[doc(alias = "consume_budget")]
pub fn checkpoint() -> impl Future<Output = ()> + fmt::Debug {
    named("Checkpoint", yield_now())
}

/// As [`checkpoint`] if a cancellation of the calling code is open; else does nothing, and does not wait.
///
/// `shielded(checkpoint())` is the other half: lets others run, and cannot be cancelled.
///
/// # Cancel safety
///
/// **Cancel safe.**
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, checkpoint_if_cancelled, create_task, yield_now};
/// EventLoop::new().run_until_complete(async {
///     let mut task = create_task(async {
///         for step in 0.. {
///             let _ = step * step;
///             checkpoint_if_cancelled().await; // free until somebody asks
///             if step % 100 == 0 {
///                 yield_now().await;
///             }
///         }
///     });
///     yield_now().await;
///     task.cancel("enough");
///     assert!(task.join().await.unwrap_err().is_cancelled());
/// });
/// ```
pub fn checkpoint_if_cancelled() -> impl Future<Output = ()> + fmt::Debug {
    named("CheckpointIfCancelled", async {
        if cancellation_is_open() {
            yield_now().await;
        }
    })
}
