//! The handle of a child.

use super::state::{SIBLING, ShutsDown};
use crate::current::hold_open;
use crate::named::named;
use crate::task::task_ref::TaskRef;
use crate::task::{HandedIn, JoinError, Task};
use evenloop_core::cancel::{Cancelled, Raised, Reason, raise};
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A task of a [`TaskGroup`](super::TaskGroup): awaiting it gives its value.
///
/// A child that fails gives no value: its error is the group's. The group is cancelled then, and so is whoever awaits the
/// child inside of it; [`join`](Self::join) tells instead. Dropping the handle changes nothing: the group holds the child.
///
/// # Cancel safety
///
/// As awaiting a [`Task`]: a cancellation of the awaiting code is handed in to the child, whose value answers it. But not in a
/// group that is shutting down: then the value is given, and the cancellation strikes at the next suspension.
///
/// # Examples
///
/// ```
/// use evenloop_executor::{ChildError, EventLoop, TaskGroup, yield_now};
///
/// EventLoop::new().run_until_complete(async {
///     let outcome = TaskGroup::<String>::run(async |group| {
///         let mut answer = group.create_task(async { Ok(42) });
///         let mut given_up = group.create_task(async { Ok(yield_now().await) });
///         assert!(given_up.cancel("not needed"));
///         assert!(matches!(given_up.join().await, Err(ChildError::Cancelled(_))));
///         assert_eq!(answer.join().await, Ok(42));
///         assert!(answer.done());
///         Ok(())
///     });
///     assert!(outcome.await.is_ok(), "a child that is cancelled alone fails nobody");
/// });
/// ```
pub struct Child<T> {
    /// Or why it never started.
    task: Result<Task<Option<T>>, &'static str>,
    /// `None`: it never started.
    group: Option<Rc<dyn ShutsDown>>,
    /// It gave nothing, because of this, and whoever awaits it is being cancelled.
    lost: Option<(Raised, ChildError)>,
}

impl<T> Child<T> {
    pub(super) fn new(task: Task<Option<T>>, group: Rc<dyn ShutsDown>) -> Self {
        Self { task: Ok(task), group: Some(group), lost: None }
    }

    pub(super) fn refused(why: &'static str) -> Self {
        Self { task: Err(why), group: None, lost: None }
    }

    pub(super) fn task_ref(&self) -> Option<TaskRef> {
        self.task.as_ref().ok().map(|task| task.raw().task_ref())
    }

    /// Asks the child to end, and leaves the others alone. False: it is over.
    pub fn cancel(&self, reason: impl Into<Reason>) -> bool {
        self.task.as_ref().is_ok_and(|task| task.cancel(reason))
    }

    /// Whether the child is over.
    #[doc(alias = "is_finished")]
    pub fn done(&self) -> bool {
        self.task.as_ref().map_or(true, Task::done)
    }

    /// The child as a task: its id, name and state. `None`: the group took nobody any more.
    pub fn task(&self) -> Option<&Task<Option<T>>> {
        self.task.as_ref().ok()
    }

    /// The value, if the child is over, succeeded, and nobody has taken it.
    pub fn result(&mut self) -> Option<T> {
        self.task.as_mut().ok()?.result()?.ok()?
    }

    /// Waits for the child and tells how it ended.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe** when dropped: what was handed in goes on its way. When cancelled, the cancellation is handed in to the
    /// child.
    ///
    /// # Errors
    ///
    /// It failed, was cancelled, or never started.
    pub fn join(&mut self) -> impl Future<Output = Result<T, ChildError>> + fmt::Debug {
        let joins = Joins(self);
        named("Join", poll_fn(move |cx| joins.0.poll_end(cx)))
    }

    /// Waits as a catcher.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, ChildError>> {
        if let Some((_, error)) = self.lost.take() {
            return Poll::Ready(Err(error)); // awaited again, after a cancellation that code around it has caught
        }
        let shuts_down = || self.group.as_ref().is_some_and(|group| group.is_shutting_down());
        let judge = |outcome: &Result<Option<T>, JoinError>| match outcome {
            // A child that has failed gave no value: the request stays open, its group's as well as one from outside.
            Ok(None) => HandedIn::Resumed,
            // Else whoever waits next would wait although the group has ended it.
            Ok(Some(_)) if shuts_down() => HandedIn::PassedOn,
            _ => HandedIn::of(outcome),
        };
        match &mut self.task {
            Ok(task) => task.poll_join_judged(cx, judge).map(Self::end),
            Err(why) => Poll::Ready(Err(ChildError::Refused(why))),
        }
    }

    /// Hands in a cancellation of the code that waits.
    pub(super) fn hand_in(&self, cancelled: &Cancelled) {
        if let Ok(task) = &self.task {
            task.raw().hand_in(cancelled);
        }
    }

    /// Waits without being one.
    pub(super) fn poll_unasked(&self, cx: &mut Context<'_>) -> Poll<Result<T, ChildError>> {
        match &self.task {
            Ok(task) => task.raw().poll(cx.waker()).map(Self::end),
            Err(why) => Poll::Ready(Err(ChildError::Refused(why))),
        }
    }

    fn end(outcome: Result<Option<T>, JoinError>) -> Result<T, ChildError> {
        match outcome.map_err(|error| (error.reason(), error.into_panic())) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(ChildError::Failed),
            Err((_, Ok(panic))) => resume_unwind(panic), // of a destructor
            Err((reason, Err(_))) => Err(ChildError::Cancelled(reason)),
        }
    }
}

/// Joins a child, and passes on what was handed in if it is dropped.
struct Joins<'a, T>(&'a mut Child<T>);

impl<T> Drop for Joins<'_, T> {
    fn drop(&mut self) {
        if let Ok(task) = &mut self.0.task {
            task.stop_awaiting();
        }
    }
}

impl<T> Future for Child<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let waits = |(raised, _): &(Raised, _)| !raised.is_over();
        if self.lost.as_ref().is_some_and(waits) {
            return Poll::Pending;
        }
        match self.poll_end(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(value)) => Poll::Ready(value),
            Poll::Ready(Err(error)) => {
                let (shared, reason) = match &error {
                    // The group has cancelled its body and its other children, so whoever awaits this is asked already.
                    ChildError::Failed => (true, SIBLING),
                    ChildError::Refused(why) => (true, Reason::new(why)),
                    ChildError::Cancelled(reason) => (false, reason.clone()),
                };
                let held = if shared { hold_open() } else { None };
                let raised = held.or_else(|| raise(reason)).expect(
                    "a child gave no value, and whoever awaits it is no task that could be cancelled: use `join`",
                );
                self.lost = Some((raised, error));
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for Child<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.task {
            Ok(task) => write!(f, "Child [{task:?}]"),
            Err(why) => write!(f, "Child [{why}]"),
        }
    }
}

/// Why a [`Child`] gave no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildError {
    /// It gave an error or panicked; the group has that.
    Failed,
    /// It was cancelled.
    Cancelled(Reason),
    /// It never started: the group took nobody any more.
    Refused(&'static str),
}

impl fmt::Display for ChildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed => f.write_str("the task failed, and its group has the error"),
            Self::Cancelled(reason) => reason.fmt(f),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

impl Error for ChildError {}

/// A task that was not started, because its group takes nobody any more.
pub struct NotStarted<F> {
    /// What was to be started.
    pub future: F,
    pub(super) why: &'static str,
}

impl<F> fmt::Debug for NotStarted<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotStarted").field("why", &self.why).finish_non_exhaustive()
    }
}

impl<F> fmt::Display for NotStarted<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why)
    }
}

impl<F> Error for NotStarted<F> {}
