//! All that went wrong in a group.

use evenloop_core::cancel::Reason;
use std::error::Error;
use std::fmt;

/// The errors of all who failed in a [`TaskGroup`](super::TaskGroup), in the order in which they came.
///
/// Without errors: the body was cancelled by [`TaskGroup::cancel`](super::TaskGroup::cancel), so there is no value.
///
/// # Examples
///
/// ```
/// use evenloop_executor::{EventLoop, TaskGroup};
///
/// EventLoop::new().run_until_complete(async {
///     let outcome = TaskGroup::run(async |group| {
///         group.create_task(async { Err::<(), _>("no such file") });
///         Err::<(), _>("the body failed, too")
///     });
///     let error = outcome.await.unwrap_err();
///     assert!(error.errors.contains(&"the body failed, too"));
///     assert!(!error.is_cancelled());
/// });
/// ```
#[derive(Debug)]
pub struct GroupError<E> {
    /// Body and children alike.
    pub errors: Vec<E>,
    pub(super) reason: Option<Reason>,
}

impl<E> GroupError<E> {
    /// Whether nobody failed: the group was cancelled by its own `cancel`.
    pub fn is_cancelled(&self) -> bool {
        self.errors.is_empty()
    }

    /// Why the group was cancelled, if it was before anybody failed: by its own `cancel`, or from outside.
    pub fn reason(&self) -> Option<&Reason> {
        self.reason.as_ref()
    }
}

impl<E: fmt::Display> fmt::Display for GroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.errors.as_slice(), &self.reason) {
            ([], Some(reason)) => write!(f, "the task group was {reason}"),
            ([], None) => f.write_str("the task group was cancelled"),
            ([error], _) => write!(f, "unhandled errors in a task group (1 error): {error}"),
            (errors, _) => {
                write!(f, "unhandled errors in a task group ({} errors)", errors.len())?;
                errors
                    .iter()
                    .enumerate()
                    .try_for_each(|(at, error)| write!(f, "{} {error}", if at == 0 { ":" } else { ";" }))
            }
        }
    }
}

impl<E: fmt::Debug + fmt::Display> Error for GroupError<E> {}
