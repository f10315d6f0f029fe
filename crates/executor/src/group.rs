//! Task groups: no child outlives its block.
//!
//! A group is a block of code, its *body*, and the tasks that were started in it. The block ends when all are over.
//!
//! ```text
//!         body ends, children left                 last child ends
//! Open ────────────────────────────► Open (waits) ─────────────────► Finished
//!  │  a child or the body fails, `cancel`, or the code around is cancelled
//!  └──► ShuttingDown: body and children cancelled, nobody new ── all over ──► Finished
//! ```
//!
//! G1. The group's future is a catcher around the scope of its body, and again around waiting for its children. So code
//!     inside the body that catches is asked first.
//! G2. Errors win over a cancellation from outside, but do not end it: it is passed on, and strikes at the next suspension.
//!     A panic wins over errors. Both wait until everybody is over.
//! G3. Whoever is cancelled by the group is told so by a request of the group's own, on the body's scope or on the
//!     child. A request from outside is kept apart: no end of the group swallows it.
//! G4. A child is counted from its start to the drop of its future.
//! G5. Tasks are asked, and values and wakers dropped, while the state is not borrowed.
mod borrowing;
mod child;
mod error;
mod start;
mod state;

pub use borrowing::{BorrowedChild, BorrowingGroup};
pub use child::{Child, ChildError, NotStarted};
pub use error::GroupError;
pub use start::{StartError, Started};

use crate::current::create_task;
use crate::named::named;
use crate::task::task_ref::TaskRef;
use evenloop_core::cancel::Reason;
use evenloop_core::watch;
use start::Starting;
use state::{ChildFuture, State, conduct};
use std::fmt;
use std::future::Future;
use std::rc::Rc;

/// Starts tasks that do not outlive the block which was given this.
///
/// [`TaskGroup::run`] runs the block. Children are tasks of the loop; a child that fails ends the block, and all errors
/// come out together.
///
/// Clones start tasks in the same group; a child may have one.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, GroupError, TaskGroup};
/// # EventLoop::new().run_until_complete(async {
/// let sum = TaskGroup::run(async |group| {
///     let one = group.create_task(async { Ok(1) });
///     let two = group.create_task(async { Ok(2) });
///     Ok::<_, std::io::Error>(one.await + two.await)
/// })
/// .await;
/// assert_eq!(sum.unwrap(), 3);
/// # });
/// ```
#[doc(alias("nursery", "open_nursery", "JoinSet"))]
pub struct TaskGroup<E> {
    state: Rc<State<E, TaskRef>>,
}

impl<E: 'static> TaskGroup<E> {
    /// Runs `body` with a new group, and waits until the body and all children are over, those included that are started
    /// meanwhile. Answers what the body gave.
    ///
    /// The first failure, of a child or of the body, cancels all the others: whoever catches may clean up.
    ///
    /// # Cancel safety
    ///
    /// When cancelled, the body is, then the children are, and all are waited for; then the cancellation goes on its way.
    /// If somebody failed meanwhile the errors are given, and the cancellation strikes at the next suspension. Dropping
    /// this (rather than cancelling it) cancels the children, which clean up under the loop.
    ///
    /// # Errors
    ///
    /// [`GroupError`] with the errors of all who failed; with none if the body was cancelled by
    /// [`cancel`](Self::cancel) and so gave no value.
    ///
    /// # Panics
    ///
    /// With the first panic of the body or a child, after all are over. When no loop runs on this thread.
    pub fn run<B, T>(body: B) -> impl Future<Output = Result<T, GroupError<E>>> + fmt::Debug
    where
        B: AsyncFnOnce(Self) -> Result<T, E>,
    {
        named("TaskGroup", async move {
            let group = Self { state: Rc::new(State::new()) };
            conduct(&group.state, body(group.clone())).await
        })
    }

    /// Starts a task in this group. It runs for the first time in the loop's next pass.
    ///
    /// A group that is shutting down or finished takes nobody: `future` is dropped at once, and whoever awaits the child
    /// is cancelled. [`try_create_task`](Self::try_create_task) tells, and gives the future back.
    ///
    /// # Panics
    ///
    /// When no loop runs on this thread.
    #[track_caller]
    pub fn create_task<F, T>(&self, future: F) -> Child<T>
    where
        F: Future<Output = Result<T, E>> + 'static,
        T: 'static,
    {
        self.try_create_task(future).unwrap_or_else(|refused| Child::refused(refused.why))
    }

    /// As [`create_task`](Self::create_task), and tells when the group takes nobody any more.
    ///
    /// # Errors
    ///
    /// The group is shutting down or finished; the future comes back.
    ///
    /// # Panics
    ///
    /// When no loop runs on this thread.
    #[track_caller]
    pub fn try_create_task<F, T>(&self, future: F) -> Result<Child<T>, NotStarted<F>>
    where
        F: Future<Output = Result<T, E>> + 'static,
        T: 'static,
    {
        self.spawn::<F, T, ()>(future, None)
    }

    /// Cancels the body and all children; the group takes nobody any more. No error comes of it: the block ends with the
    /// body's value if it has one already, and with real errors if clean-ups fail. Does nothing the second time, nor after
    /// the end.
    pub fn cancel(&self, reason: impl Into<Reason>) {
        self.state.shut_down(reason.into(), None);
    }

    /// How many children are not over.
    pub fn len(&self) -> usize {
        self.state.children.len()
    }

    /// Whether all children are over.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[track_caller]
    fn spawn<F, T, V>(
        &self,
        future: F,
        starting: Option<Rc<Starting<V, E>>>,
    ) -> Result<Child<T>, NotStarted<F>>
    where
        F: Future<Output = Result<T, E>> + 'static,
        V: 'static,
        T: 'static,
    {
        let why = self.state.inside.borrow().phase.refuses();
        if let Some(why) = why {
            return Err(NotStarted { future, why });
        }
        let member = self.state.children.enter(None).expect("a set that its group never closes");
        let key = member.key();
        let task = create_task(ChildFuture { future, starting, member, state: self.state.clone() });
        self.state.children.attach(key, task.raw().task_ref());
        if watch::asked() {
            task.raw().set_group(watch::address(&*self.state));
        }
        Ok(Child::new(task, self.state.clone()))
    }
}

impl<E> Clone for TaskGroup<E> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone() }
    }
}

impl<E> fmt::Debug for TaskGroup<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inside = self.state.inside.borrow();
        let (phase, tasks) = (inside.phase.name(), self.state.children.len());
        write!(f, "TaskGroup [{phase}, tasks: {tasks}, errors: {}]", inside.errors.len())
    }
}
