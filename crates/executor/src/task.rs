//! Tasks: futures that a loop runs.
//!
//! [`Task`] is the handle. The loop owns the task itself, so it runs on when the handle is dropped.
//!
//! ```text
//!            first poll            ready, or panicked
//! pending ───────────► pending ─────────────────────────► finished ── awaited, or handle dropped ──► gone
//!    │ cancel             │ cancel: who catches inside is asked, then its future is dropped
//!    └────────────────────┴──────────────────────────────► cancelled
//! ```
//!
//! Cancellation is that of [`evenloop_core::cancel`]: a task is the root of its tree. Whoever awaits a task catches: a
//! cancellation of the awaiting code becomes one of the awaited task, is waited for, and then goes on its way.

pub(crate) mod done;
#[allow(unsafe_code)]
pub(crate) mod raw;

pub(crate) mod state;

#[allow(unsafe_code)]
mod annex;
#[allow(unsafe_code)]
mod cell;
#[allow(unsafe_code)]
mod join_error;
#[allow(unsafe_code)]
mod life;
#[allow(unsafe_code)]
mod places;
#[allow(unsafe_code)]
pub(crate) mod raw_task;
#[allow(unsafe_code)]
pub(crate) mod sched;
#[allow(unsafe_code)]
pub(crate) mod shared;
#[allow(unsafe_code)]
mod site;
#[allow(unsafe_code)]
pub(crate) mod task_ref;
#[allow(unsafe_code)]
mod turn;
#[allow(unsafe_code)]
pub(crate) mod waker;

use done::{DoneCallback, DoneCallbackId, TaskEnd};
use evenloop_core::cancel::{Cancellation, Cancelled, Catcher, Raised, Reason, Resume, raise};
use evenloop_core::context::Context as Variables;
pub use join_error::JoinError;
use raw::About;
use raw_task::RawTask;
use std::fmt;
use std::future::Future;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use task_ref::TaskRef;

/// A task of the loop on this thread: awaiting it gives what its future gave.
///
/// Dropping the handle detaches the task: it runs on. (asyncio's loop holds its tasks weakly; this one does not.)
///
/// Awaiting a task hands on how it ended, as in asyncio: a value is given, a panic goes on in the awaiting task, and
/// awaiting a task that was cancelled cancels the awaiting one. [`join`](Self::join) tells all three apart instead.
///
/// When the awaiting code is cancelled, the task is cancelled and waited for. If it ends cancelled, or was over already,
/// the cancellation goes on its way; if it gives a value all the same, that is given, and the cancellation is over; if it
/// panics, the panic goes on, and the cancellation strikes at the next suspension.
/// `shield` waits without handing the cancellation in.
///
/// # Cancel safety
///
/// **Cancel safe.** Dropping the future `&mut task` leaves the task running; await it again. A cancellation that was handed in
/// by then waits in the handle until that is awaited again or dropped; with [`join`](Self::join) it goes on its way at once.
///
/// # Panics
///
/// Awaiting panics with the task's own panic, if the outcome was taken before, and when a task awaits itself.
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
#[doc(alias = "JoinHandle")]
pub struct Task<T> {
    raw: RawTask<T>,
    /// From the first await that has to wait.
    awaiting: Option<Box<Awaiting>>,
}

/// The awaiting code, as far as it may be cancelled.
#[derive(Default)]
struct Awaiting {
    catcher: Catcher,
    /// Handed in to the task, which has not ended yet.
    cancelled: Option<Cancelled>,
    /// The task has ended, and the cancellation goes on its way. The outcome is where it was.
    resume: Option<Resume>,
    /// The task ended cancelled of its own, with this, and the awaiting task was asked to end.
    handed_on: Option<(Raised, JoinError)>,
}

/// Names one task of one loop; counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[doc(alias = "Id")]
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
        Self { raw, awaiting: None }
    }

    pub(crate) fn raw(&self) -> &RawTask<T> {
        &self.raw
    }

    /// Lets the task run on without a handle.
    pub fn detach(self) {}

    /// Waits for the task and tells how it ended, without handing on a panic or a cancellation.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Dropping it leaves the task running; join again. A cancellation that was handed in by then goes on its
    /// way.
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

    /// Asks the task to end. At its next turn whoever inside it catches is told, innermost first, and may clean up; when
    /// nobody is left to tell, its future is dropped. A task that has not started never runs.
    ///
    /// Each call is a request of its own, and counted. Answers false, and does nothing, if the task is over; true also
    /// when the task ends with a value all the same.
    ///
    /// # Examples
    ///
    /// ```
    /// # use evenloop_executor::{EventLoop, create_task};
    /// # EventLoop::new().run_until_complete(async {
    /// let mut task = create_task(std::future::pending::<()>());
    /// task.cancel("no longer wanted");
    /// let error = task.join().await.unwrap_err();
    /// assert_eq!(error.to_string(), "the task was cancelled: no longer wanted");
    /// # });
    /// ```
    #[doc(alias = "abort")]
    pub fn cancel(&self, reason: impl Into<Reason>) -> bool {
        self.raw.cancel(&Cancellation::new(reason))
    }

    /// How many times the task was cancelled and not uncancelled, plus the open requests of timeouts and other scopes
    /// inside it that have asked somebody.
    pub fn cancelling(&self) -> usize {
        self.raw.cancelling()
    }

    /// Takes one [`cancel`](Self::cancel) back: the count goes down by one, and the newest request that was not delivered
    /// yet is withdrawn. Answers the count that is left.
    pub fn uncancel(&self) -> u32 {
        self.raw.uncancel()
    }

    /// Whether the task is over, and was cancelled, and nobody has taken the outcome.
    pub fn cancelled(&self) -> bool {
        self.raw.outcome_is(|outcome| outcome.as_ref().is_err_and(JoinError::is_cancelled))
    }

    /// The outcome, if the task is over and nobody has taken it: asyncio's `result`, which does not wait.
    pub fn result(&mut self) -> Option<Result<T, JoinError>> {
        self.raw.take()
    }

    /// Whether the task is over.
    #[doc(alias = "is_finished")]
    pub fn done(&self) -> bool {
        self.raw.is_over()
    }

    /// How far the task is.
    pub fn state(&self) -> TaskState {
        self.raw.about().state()
    }

    /// The task's number.
    pub fn id(&self) -> TaskId {
        self.raw.about().id
    }

    /// The task's name: what it was given, else `Task-N` with its number.
    pub fn name(&self) -> String {
        self.raw.about().full_name()
    }

    /// Gives the task a name, which shows in messages and in its `Debug`.
    pub fn set_name(&self, name: impl Into<Box<str>>) {
        self.raw.set_name(name.into());
    }

    /// Where the task was spawned.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.raw.about().spawned_at
    }

    /// A copy of the task's context variables. They were copied from whoever spawned it; what the task sets is its own.
    pub fn context(&self) -> Variables {
        self.raw.context()
    }

    /// Calls `callback` when the task is over, or in the next pass if it is: with what is known of the task, and how it
    /// ended.
    ///
    /// Always through the loop, in the order of registration, and before the code that awaits the task goes on. The callback
    /// runs in the context in which it was registered; its panic goes to the loop's hook. When the loop is closed first, it
    /// is dropped. asyncio hands the task itself to the callback; here its outcome belongs to whoever has the handle.
    ///
    /// # Examples
    ///
    /// ```
    /// # use evenloop_executor::{EventLoop, TaskEnd, create_task, yield_now};
    /// EventLoop::new().run_until_complete(async {
    ///     let task = create_task(async { 7 });
    ///     task.add_done_callback(|task, end| {
    ///         assert_eq!((task.name().as_str(), end), ("Task-2", TaskEnd::Value));
    ///     });
    ///     assert_eq!(task.await, 7);
    /// });
    /// ```
    #[track_caller]
    pub fn add_done_callback(&self, callback: impl FnOnce(TaskInfo, TaskEnd) + 'static) -> DoneCallbackId {
        self.raw.add_done_callback(DoneCallback::new(Box::new(callback), Location::caller()))
    }

    /// Takes a callback back, and drops it. False: it is not registered (any more).
    pub fn remove_done_callback(&self, id: DoneCallbackId) -> bool {
        self.raw.remove_done_callback(id)
    }

    /// How the task ended; `None` if it is not over. Also after the outcome was taken.
    pub fn end(&self) -> Option<TaskEnd> {
        self.raw.end()
    }
}

impl<T> Task<T> {
    /// Nobody awaits the task any more: what was handed in is passed on. An outcome that was taken stays.
    pub(crate) fn stop_awaiting(&mut self) {
        let former = self.awaiting.take_if(|awaiting| awaiting.handed_on.is_none());
        drop(former);
    }

    /// Waits for the outcome as a catcher.
    pub(crate) fn poll_join(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        self.poll_join_judged(cx, HandedIn::of)
    }

    /// As `poll_join`; `judge` says what an end makes of a cancellation that was handed in.
    pub(crate) fn poll_join_judged(
        &mut self,
        cx: &mut Context<'_>,
        judge: impl FnOnce(&Result<T, JoinError>) -> HandedIn,
    ) -> Poll<Result<T, JoinError>> {
        match &mut self.awaiting {
            None if self.raw.is_over() => return self.raw.poll(cx.waker()),
            None => assert!(!self.raw.is_running(), "{} cannot await itself", self.raw.about()),
            Some(awaiting) => {
                if let Some(error) = awaiting.renew() {
                    return Poll::Ready(Err(error));
                }
            }
        }
        let awaiting = self.awaiting.get_or_insert_default();
        if awaiting.handed_on.is_some() {
            return Poll::Pending;
        }
        if let Some(resume) = &mut awaiting.resume {
            return Pin::new(resume).poll(cx).map(|never| match never {});
        }
        while let Poll::Ready(cancelled) = awaiting.catcher.poll_cancelled(cx) {
            if awaiting.cancelled.is_none() && self.raw.is_over() {
                return awaiting.resume(cancelled, cx);
            }
            self.raw.hand_in(&cancelled);
            Cancelled::gather(&mut awaiting.cancelled, cancelled);
        }
        if awaiting.cancelled.is_some() {
            if self.raw.poll_over(cx.waker()).is_pending() {
                return Poll::Pending;
            }
            awaiting.catcher.leave();
            let mut handed_in = HandedIn::PassedOn; // with the panic that tells that the outcome was taken
            self.raw.outcome_is(|outcome| {
                handed_in = judge(outcome);
                true
            });
            match (handed_in, awaiting.cancelled.take()) {
                (HandedIn::Resumed, Some(cancelled)) => return awaiting.resume(cancelled, cx),
                (HandedIn::Absorbed, Some(cancelled)) => cancelled.absorb(),
                (_, passed_on) => drop(passed_on),
            }
        }
        let Poll::Ready(outcome) = self.raw.poll(cx.waker()) else { return Poll::Pending };
        awaiting.catcher.leave();
        Poll::Ready(outcome)
    }
}

/// What becomes of a cancellation that was handed in to a task, when that is over.
pub(crate) enum HandedIn {
    /// It goes on its way at once, instead of the outcome.
    Resumed,
    /// It goes on its way, behind the outcome.
    PassedOn,
    /// The task has answered it.
    Absorbed,
}

impl HandedIn {
    pub(crate) fn of<T>(outcome: &Result<T, JoinError>) -> Self {
        match outcome {
            Ok(_) => Self::Absorbed,
            Err(error) if error.is_panic() => Self::PassedOn,
            Err(_) => Self::Resumed,
        }
    }
}

impl Awaiting {
    /// Awaited again after a cancellation went on from here, because code around this has caught it: begins anew. `Some`:
    /// this is the outcome, which was taken then.
    fn renew(&mut self) -> Option<JoinError> {
        self.resume.take_if(|resume| resume.is_over());
        self.handed_on.take_if(|(raised, _)| raised.is_over()).map(|(_, error)| error)
    }

    /// The cancellation goes on its way.
    fn resume<R>(&mut self, cancelled: Cancelled, cx: &mut Context<'_>) -> Poll<R> {
        self.catcher.leave();
        let resume = self.resume.insert(cancelled.resume());
        Pin::new(resume).poll(cx).map(|never| match never {})
    }
}

impl<T> AsMut<Self> for Task<T> {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

/// Nothing of a task is pinned.
impl<T> Unpin for Task<T> {}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match self.poll_join(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(value)) => Poll::Ready(value),
            Poll::Ready(Err(error)) => match error.into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(error) => {
                    // Handed on: this task is cancelled too, at the end of this poll.
                    let Some(raised) = raise(error.reason()) else {
                        panic!(
                            "`{}` was cancelled, and whoever awaits it is no task that could be cancelled too: use `join`",
                            self.raw.about()
                        )
                    };
                    self.awaiting.get_or_insert_default().handed_on = Some((raised, error));
                    Poll::Pending
                }
            },
        }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.raw.about())
    }
}

/// The future of [`Task::join`].
#[must_use = "futures do nothing unless awaited"]
pub struct Join<'a, T>(&'a mut Task<T>);

impl<T> Future for Join<'_, T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_join(cx)
    }
}

impl<T> Drop for Join<'_, T> {
    fn drop(&mut self) {
        self.0.stop_awaiting();
    }
}

/// Awaits a task by reference, and passes on what was handed in if it is dropped.
pub(crate) struct Awaits<'a, T>(pub(crate) &'a mut Task<T>);

impl<T> Future for Awaits<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut *self.0).poll(cx)
    }
}

impl<T> Drop for Awaits<'_, T> {
    fn drop(&mut self) {
        self.0.stop_awaiting();
    }
}

impl<T> fmt::Debug for Join<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Join [{}]", self.0.raw.about())
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
        if self.callback {
            return write!(f, "<Callback {state} created at {}>", self.spawned_at);
        }
        write!(f, "<Task {state} name='{}' spawned at {}>", self.full_name(), self.spawned_at)
    }
}

/// Called with each new task.
pub(crate) type SpawnHook = dyn Fn(&TaskInfo);

/// Answers which of the tasks that are ready runs next: see [`Builder::choose_next`](crate::Builder::choose_next).
pub(crate) type ChooseHook = dyn FnMut(&[TaskInfo]) -> usize;

/// A snapshot of a task that is not over: what [`current_task`](crate::current_task) and
/// [`all_tasks`](crate::all_tasks) give. May be out of date by the time it is looked at.
///
/// # Examples
///
/// ```
/// use evenloop_executor::{EventLoop, all_tasks, create_named_task, current_task, yield_now};
///
/// EventLoop::new().run_until_complete(async {
///     let task = create_named_task("reader", yield_now());
///     let other = all_tasks().into_iter().find(|info| info.name() == "reader").unwrap();
///     assert_ne!(other.id(), current_task().unwrap().id());
///     assert!(other.cancel("enough"));
///     assert!({ task }.join().await.is_err());
/// });
/// ```
#[derive(Clone)]
#[doc(alias = "AbortHandle")]
pub struct TaskInfo(About, TaskRef);

impl TaskInfo {
    pub(crate) fn new(task: TaskRef) -> Option<Self> {
        Some(Self(task.about()?, task))
    }

    /// Asks the task to end, as [`Task::cancel`]. False: it is over.
    pub fn cancel(&self, reason: impl Into<Reason>) -> bool {
        self.1.request(&Cancellation::new(reason))
    }

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

    /// Gives the task a name, on its loop's thread while that runs.
    pub fn set_name(&self, name: impl Into<Box<str>>) {
        self.1.set_name(name.into());
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
