//! Tasks: futures that a loop runs.
//!
//! [`Task`] is the handle. The loop owns the task itself, so it runs on when the handle is dropped.
//!
//! ```text
//!            first poll            ready, or panicked
//! pending ───────────► pending ─────────────────────────► finished ── awaited, or handle dropped ──► gone
//!    │ cancel             │ cancel: its future is dropped at the loop's next turn
//!    └────────────────────┴──────────────────────────────► cancelled
//! ```

#[allow(unsafe_code)]
pub(crate) mod raw;
pub(crate) mod state;

use crate::unhandled::panic_message;
use evenloop_core::shim::Mutex;
use raw::{About, RawTask};
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A task of the loop on this thread: awaiting it gives what its future gave.
///
/// Dropping the handle detaches the task: it runs on. (asyncio's loop holds its tasks weakly; this one does not.)
///
/// Awaiting a task hands on how it ended, as in asyncio: a value is given, a panic goes on in the awaiting task, and
/// awaiting a task that was cancelled cancels the awaiting one. [`join`](Self::join) tells all three apart instead.
///
/// # Cancel safety
///
/// **Cancel safe.** Dropping the future `&mut task` leaves the task running; await it again.
///
/// # Panics
///
/// Awaiting panics with the task's own panic, or if the outcome was taken before.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, create_task};
/// let sum = EventLoop::new().run_until_complete(async {
///     let one = create_task(async { 1 });
///     let two = create_task(async { 2 });
///     one.await + two.await
/// });
/// assert_eq!(sum, 3);
/// ```
#[must_use = "dropping the handle detaches the task: write `drop(task)` or call `detach` if that is meant"]
pub struct Task<T>(RawTask<T>);

/// Names one task of one loop; counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(u64);

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// Waiting for something, or for its turn.
    Pending,
    /// Being polled.
    Running,
    /// Asked to end, not yet dropped.
    Cancelling,
    /// Over: finished, panicked or cancelled.
    Finished,
}

// === impl Task ===

impl<T> Task<T> {
    pub(crate) fn new(raw: RawTask<T>) -> Self {
        Self(raw)
    }

    pub(crate) fn raw(&self) -> &RawTask<T> {
        &self.0
    }

    /// Lets the task run on without a handle.
    pub fn detach(self) {}

    /// Waits for the task and tells how it ended, without handing on a panic or a cancellation.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Dropping it leaves the task running; join again.
    ///
    /// # Errors
    ///
    /// The task was cancelled or panicked.
    ///
    /// # Panics
    ///
    /// If the outcome was taken before.
    pub fn join(&mut self) -> Join<'_, T> {
        Join(self)
    }

    /// Asks the task to end: at the loop's next turn its future is dropped, under the loop. A task that has not started
    /// never runs.
    ///
    /// Answers false, and does nothing, if it is over or has been asked already.
    pub fn cancel(&self) -> bool {
        self.0.cancel()
    }

    /// The outcome, if the task is over and nobody has taken it: asyncio's `result`, which does not wait.
    pub fn result(&mut self) -> Option<Result<T, JoinError>> {
        self.0.take()
    }

    /// Whether the task is over.
    pub fn is_finished(&self) -> bool {
        self.0.is_over()
    }

    /// How far the task is.
    pub fn state(&self) -> TaskState {
        self.0.about().state()
    }

    /// The task's number.
    pub fn id(&self) -> TaskId {
        self.0.about().id
    }

    /// The task's name: what it was given, else `Task-N` with its number.
    pub fn name(&self) -> String {
        self.0.about().full_name()
    }

    /// Gives the task a name, which shows in messages and in its `Debug`.
    pub fn set_name(&self, name: impl Into<Box<str>>) {
        self.0.set_name(name.into());
    }

    /// Where the task was spawned.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.0.about().spawned_at
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match self.0.poll(cx.waker()) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(value)) => Poll::Ready(value),
            Poll::Ready(Err(error)) => match error.into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => {
                    // Handed on: this task ends cancelled too, before it is polled again.
                    assert!(
                        crate::current::cancel_current_task(),
                        "`{}` was cancelled, and whoever awaits it is no task that could be cancelled too: use `join`",
                        self.0.about()
                    );
                    Poll::Pending
                }
            },
        }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.about())
    }
}

/// The future of [`Task::join`].
#[must_use = "futures do nothing unless awaited"]
pub struct Join<'a, T>(&'a mut Task<T>);

impl<T> Future for Join<'_, T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.0.poll(cx.waker())
    }
}

impl<T> fmt::Debug for Join<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Join [{}]", self.0.0.about())
    }
}

// === impl TaskId ===

impl TaskId {
    pub(crate) fn new(id: u64) -> Self {
        Self(id)
    }

    /// The plain number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl About ===

impl About {
    pub(crate) fn full_name(&self) -> String {
        match &self.name {
            Some(name) => name.to_string(),
            None => format!("Task-{}", self.id),
        }
    }

    pub(crate) fn state(&self) -> TaskState {
        match self {
            Self { over: true, .. } => TaskState::Finished,
            Self { running: true, .. } => TaskState::Running,
            Self { cancelling: true, .. } => TaskState::Cancelling,
            _ => TaskState::Pending,
        }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state() {
            TaskState::Pending => "pending",
            TaskState::Running => "running",
            TaskState::Cancelling => "cancelling",
            TaskState::Finished => "finished",
        };
        write!(f, "<Task {state} name='{}' spawned at {}>", self.full_name(), self.spawned_at)
    }
}

/// A snapshot of a task that is not over: what [`current_task`](crate::current_task) and
/// [`all_tasks`](crate::all_tasks) give. May be out of date by the time it is looked at.
#[derive(Clone)]
pub struct TaskInfo(pub(crate) About);

impl TaskInfo {
    /// The task's number.
    pub fn id(&self) -> TaskId {
        self.0.id
    }

    /// The task's name: what it was given, else `Task-N` with its number.
    pub fn name(&self) -> String {
        self.0.full_name()
    }

    /// How far the task was.
    pub fn state(&self) -> TaskState {
        self.0.state()
    }

    /// Whether the task had been polled.
    pub fn has_started(&self) -> bool {
        self.0.started
    }

    /// Where the task was spawned.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.0.spawned_at
    }
}

impl fmt::Debug for TaskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

// === JoinError ===

/// Why a task gave no value.
pub struct JoinError(Why);

enum Why {
    Cancelled,
    /// Boxed so that outcomes stay small, in a mutex so that the error is `Sync` whatever the panic carries.
    Panicked(Box<Mutex<Box<dyn Any + Send>>>),
}

impl JoinError {
    pub(crate) const CANCELLED: Self = Self(Why::Cancelled);

    pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> Self {
        Self(Why::Panicked(Box::new(Mutex::new(panic))))
    }

    /// Whether the task was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0, Why::Cancelled)
    }

    /// Whether the task panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.0, Why::Panicked(_))
    }

    /// What the panic carried, to be handed on with [`resume_unwind`].
    ///
    /// # Errors
    ///
    /// The task did not panic; the error comes back.
    pub fn into_panic(self) -> Result<Box<dyn Any + Send>, Self> {
        match self.0 {
            Why::Panicked(panic) => Ok(panic.into_inner()),
            other => Err(Self(other)),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Why::Cancelled => f.write_str("the task was cancelled"),
            Why::Panicked(panic) => write!(f, "the task panicked: {}", panic_message(&**panic.lock())),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError [{self}]")
    }
}

impl Error for JoinError {}
