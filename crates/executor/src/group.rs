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

use crate::current::{cancel_current_task, cancellation_is_open, create_task, is_running};
use crate::finally::catch_panic;
use crate::named::named;
use crate::task::task_ref::TaskRef;
use crate::task::{JoinError, Task};
use evenloop_core::cancel::{CancelScope, Cancelled, Catcher, Reason, catch_cancel};
use pin_project_lite::pin_project;
use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

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
pub struct TaskGroup<E> {
    state: Rc<State<E>>,
}

struct State<E> {
    /// The scope of the body.
    body: CancelScope,
    inside: RefCell<Inside<E>>,
}

struct Inside<E> {
    phase: Phase,
    /// Children that are not over (G4), oldest first.
    children: BTreeMap<u64, Option<TaskRef>>,
    last_id: u64,
    /// In the order in which they came.
    errors: Vec<E>,
    /// The first one. Others go to the loop's hook.
    panic: Option<Box<dyn Any + Send>>,
    /// The group, waiting for its children.
    waker: Option<Waker>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    ShuttingDown(Reason),
    Finished,
}

/// What siblings of a failed child are told.
const SIBLING: Reason = Reason::new("a task of the group failed");

// === impl TaskGroup ===

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
            let unfinished = Unfinished(&group.state);
            let body = catch_panic(body(group.clone()));
            let mut cancelled = None;
            let mut value = None;
            match catch_cancel(group.state.body.run(body)).await {
                Ok(Ok(Ok(Ok(given)))) => value = Some(given),
                Ok(Ok(Ok(Err(error)))) => group.state.fail(Fail::Error(error), None),
                Ok(Ok(Err(panic))) => group.state.fail(Fail::Panic(panic), None),
                Ok(Err(_)) => {} // the group's own request, see G3
                Err(outside) => group.state.catch(&mut cancelled, outside),
            }
            while let Err(outside) = catch_cancel(group.state.all_over()).await {
                group.state.catch(&mut cancelled, outside);
            }
            std::mem::forget(unfinished);
            let (reason, errors, panic) = group.state.finish();
            // G2, by the order of these lines; `cancelled` is dropped by the first two, and so passed on.
            if let Some(panic) = panic {
                drop((cancelled, errors));
                resume_unwind(panic);
            }
            if !errors.is_empty() {
                return Err(GroupError { errors, reason: None });
            }
            if let Some(cancelled) = cancelled {
                match cancelled.resume().await {}
            }
            value.ok_or(GroupError { errors, reason })
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

    /// Starts a task in this group and waits until it says that it is ready: trio's `start`.
    ///
    /// `child` gets a [`Started`] to say so, with a value for whoever waits here. Until then the child belongs to the
    /// caller: its error comes out here, and leaves the group alone. From then on it is a child like all others.
    ///
    /// # Cancel safety
    ///
    /// When cancelled before the child is ready, the child is cancelled and waited for. Dropping this cancels it, too.
    ///
    /// # Errors
    ///
    /// [`StartError`]: the child failed or ended before it was ready, or the group takes nobody any more.
    ///
    /// # Panics
    ///
    /// With the child's panic, if it comes before it is ready. When no loop runs on this thread.
    ///
    /// # Examples
    ///
    /// ```
    /// # use evenloop_executor::{EventLoop, TaskGroup};
    /// # EventLoop::new().run_until_complete(async {
    /// TaskGroup::run(async |group| {
    ///     let (port, server) = group.start(|started| async move {
    ///         started.started(8080); // listening from here on
    ///         Ok::<_, String>("served")
    ///     })
    ///     .await
    ///     .map_err(|error| error.to_string())?;
    ///     assert_eq!((port, server.await), (8080, "served"));
    ///     Ok(())
    /// })
    /// .await
    /// .unwrap();
    /// # });
    /// ```
    pub fn start<V, C, F, T>(
        &self,
        child: C,
    ) -> impl Future<Output = Result<(V, Child<T>), StartError<E>>> + fmt::Debug
    where
        C: FnOnce(Started<V>) -> F,
        F: Future<Output = Result<T, E>> + 'static,
        V: 'static,
        T: 'static,
    {
        let starting = Rc::new(Starting { inside: RefCell::new(StartingInside::new()) });
        let group = self.clone();
        named("Start", async move {
            let future = child(Started { starting: starting.clone() });
            let child = group
                .spawn(future, Some(starting.clone()))
                .map_err(|refused| StartError::Refused(refused.why))?;
            let unready = Unready { starting: &starting, task: child.task_ref() };
            let mut catcher = Catcher::new();
            let mut cancelled = None;
            let end = poll_fn(|cx| {
                while let Poll::Ready(outside) = catcher.poll_cancelled(cx) {
                    child.cancel(outside.reason().clone());
                    Cancelled::gather(&mut cancelled, outside);
                }
                if let (Some(value), None) = (starting.take_ready(cx), &cancelled) {
                    return Poll::Ready(Ok(value));
                }
                // Not as a catcher of its own: this one hands the cancellation in.
                child.poll_unasked(cx).map(Err)
            })
            .await;
            catcher.leave();
            std::mem::forget(unready);
            let end = match end {
                Ok(value) => return Ok((value, child)),
                Err(end) => end,
            };
            let failed = starting.inside.borrow_mut().failed.take();
            match (failed, cancelled) {
                (Some(Fail::Panic(panic)), cancelled) => {
                    drop(cancelled);
                    resume_unwind(panic)
                }
                (Some(Fail::Error(error)), _) => Err(StartError::Failed(error)),
                (None, Some(cancelled)) => match cancelled.resume().await {},
                (None, None) => Err(match end {
                    Err(ChildError::Cancelled(reason)) => StartError::Cancelled(reason),
                    _ => StartError::NotStarted,
                }),
            }
        })
    }

    /// Cancels the body and all children; the group takes nobody any more. No error comes of it: the block ends with the
    /// body's value if it has one already, and with real errors if clean-ups fail. Does nothing the second time, nor after
    /// the end.
    pub fn cancel(&self, reason: impl Into<Reason>) {
        self.state.shut_down(reason.into(), None);
    }

    /// How many children are not over.
    pub fn len(&self) -> usize {
        self.state.inside.borrow().children.len()
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
        let id = {
            let mut inside = self.state.inside.borrow_mut();
            inside.last_id += 1;
            let id = inside.last_id;
            inside.children.insert(id, None);
            id
        };
        let member = Member { state: self.state.clone(), id };
        let task = create_task(ChildFuture { future, starting, member });
        if let Some(child) = self.state.inside.borrow_mut().children.get_mut(&id) {
            *child = Some(task.raw().task_ref());
        }
        Ok(Child { task: Ok(task), lost: false })
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
        let phase = match &inside.phase {
            Phase::Open => "open",
            Phase::ShuttingDown(_) => "shutting down",
            Phase::Finished => "finished",
        };
        write!(f, "TaskGroup [{phase}, tasks: {}, errors: {}]", inside.children.len(), inside.errors.len())
    }
}

// === The state ===

/// How a child or a body fails.
enum Fail<E> {
    Error(E),
    Panic(Box<dyn Any + Send>),
}

impl Phase {
    /// Why nobody new is taken.
    fn refuses(&self) -> Option<&'static str> {
        match self {
            Self::Open => None,
            Self::ShuttingDown(_) => Some("the task group is shutting down"),
            Self::Finished => Some("the task group is finished"),
        }
    }
}

impl<E> State<E> {
    fn new() -> Self {
        let inside = Inside {
            phase: Phase::Open,
            children: BTreeMap::new(),
            last_id: 0,
            errors: Vec::new(),
            panic: None,
            waker: None,
        };
        Self { body: CancelScope::new(), inside: RefCell::new(inside) }
    }

    /// Somebody failed, a child with its id or the body: all others are cancelled.
    fn fail(&self, fail: Fail<E>, id: Option<u64>) {
        match fail {
            Fail::Error(error) => self.inside.borrow_mut().errors.push(error),
            Fail::Panic(panic) => {
                let second = {
                    let mut inside = self.inside.borrow_mut();
                    match &inside.panic {
                        None => {
                            inside.panic = Some(panic);
                            None
                        }
                        Some(_) => Some(panic),
                    }
                };
                report(second);
            }
        }
        self.shut_down(SIBLING, id);
    }

    /// Cancels body and children, once, but for the child that ends anyhow.
    fn shut_down(&self, reason: Reason, ends: Option<u64>) {
        if self.begin_shut_down(&reason) {
            self.body.cancel(reason.clone());
            self.cancel_children(&reason, ends);
        }
    }

    /// Takes nobody new from here on. False: so it is already.
    fn begin_shut_down(&self, reason: &Reason) -> bool {
        let mut inside = self.inside.borrow_mut();
        let first = inside.phase == Phase::Open;
        if first {
            inside.phase = Phase::ShuttingDown(reason.clone());
        }
        first
    }

    fn cancel_children(&self, reason: &Reason, ends: Option<u64>) {
        let others =
            |(id, task): (&u64, &Option<TaskRef>)| if Some(*id) == ends { None } else { task.clone() };
        let children: Vec<TaskRef> = self.inside.borrow().children.iter().filter_map(others).collect();
        for child in children {
            child.request(reason.clone()); // G5
        }
    }

    /// A cancellation from outside came to the group (G1): it is handed to the children.
    fn catch(&self, cancelled: &mut Option<Cancelled>, outside: Cancelled) {
        self.begin_shut_down(outside.reason());
        self.cancel_children(outside.reason(), None);
        Cancelled::gather(cancelled, outside);
    }

    /// Waits until no child is left.
    async fn all_over(&self) {
        poll_fn(|cx| {
            let waker = cx.waker().clone();
            let mut inside = self.inside.borrow_mut();
            if inside.children.is_empty() {
                return Poll::Ready(());
            }
            let before = inside.waker.replace(waker);
            drop(inside);
            drop(before); // G5
            Poll::Pending
        })
        .await;
    }

    fn leave(&self, id: u64) {
        let mut inside = self.inside.borrow_mut();
        let child = inside.children.remove(&id);
        let waker = if inside.children.is_empty() { inside.waker.take() } else { None };
        drop(inside);
        drop(child); // G5
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    #[allow(clippy::type_complexity, reason = "taken apart by its one caller")]
    fn finish(&self) -> (Option<Reason>, Vec<E>, Option<Box<dyn Any + Send>>) {
        let mut inside = self.inside.borrow_mut();
        let reason = match std::mem::replace(&mut inside.phase, Phase::Finished) {
            Phase::ShuttingDown(reason) => Some(reason),
            Phase::Open | Phase::Finished => None,
        };
        (reason, std::mem::take(&mut inside.errors), inside.panic.take())
    }
}

/// Has the loop report a panic that nobody will see: raised again in a task of its own.
fn report(panic: Option<Box<dyn Any + Send>>) {
    if let Some(panic) = panic.filter(|_| is_running()) {
        create_task(async move { resume_unwind(panic) }).detach();
    }
}

/// Cancels what is left when the group's future is dropped before its end.
struct Unfinished<'a, E>(&'a State<E>);

impl<E> Drop for Unfinished<'_, E> {
    fn drop(&mut self) {
        self.0.shut_down(Reason::new("the task group was dropped"), None);
        let (_, errors, panic) = self.0.finish();
        drop(errors);
        report(panic);
    }
}

// === The future of a child ===

pin_project! {
    struct ChildFuture<F, V, E> {
        #[pin]
        future: F,
        // Until the child is ready, whom its failure belongs to.
        starting: Option<Rc<Starting<V, E>>>,
        // Dropped after the future (G4).
        member: Member<E>,
    }
}

struct Member<E> {
    state: Rc<State<E>>,
    id: u64,
}

impl<E> Drop for Member<E> {
    fn drop(&mut self) {
        self.state.leave(self.id);
    }
}

/// `None`: the child failed, and the group has what it failed with.
impl<F: Future<Output = Result<T, E>>, T, V, E> Future for ChildFuture<F, V, E> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let this = self.project();
        let fail = match catch_unwind(AssertUnwindSafe(|| this.future.poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Ok(value))) => return Poll::Ready(Some(value)),
            Ok(Poll::Ready(Err(error))) => Fail::Error(error),
            Err(panic) => Fail::Panic(panic),
        };
        match this.starting.as_ref().filter(|starting| !starting.is_adopted()) {
            Some(starting) => starting.fail(fail),
            None => this.member.state.fail(fail, Some(this.member.id)),
        }
        Poll::Ready(None)
    }
}

// === The handshake ===

/// What the caller of `start` and the child share.
struct Starting<V, E> {
    inside: RefCell<StartingInside<V, E>>,
}

struct StartingInside<V, E> {
    ready: Option<V>,
    /// The child belongs to the group from here on.
    adopted: bool,
    failed: Option<Fail<E>>,
    waker: Option<Waker>,
}

impl<V, E> StartingInside<V, E> {
    fn new() -> Self {
        Self { ready: None, adopted: false, failed: None, waker: None }
    }
}

impl<V, E> Starting<V, E> {
    fn is_adopted(&self) -> bool {
        self.inside.borrow().adopted
    }

    fn fail(&self, fail: Fail<E>) {
        self.inside.borrow_mut().failed = Some(fail);
    }

    fn take_ready(&self, cx: &mut Context<'_>) -> Option<V> {
        let waker = cx.waker().clone();
        let mut inside = self.inside.borrow_mut();
        let ready = inside.ready.take();
        let before = inside.waker.replace(waker);
        drop(inside);
        drop(before); // G5
        ready
    }
}

/// Cancels a child that is not ready when its starter is dropped.
struct Unready<'a, V, E> {
    starting: &'a Starting<V, E>,
    task: Option<TaskRef>,
}

impl<V, E> Drop for Unready<'_, V, E> {
    fn drop(&mut self) {
        if !self.starting.is_adopted() {
            if let Some(task) = &self.task {
                task.request(Reason::new("its starter was dropped"));
            }
        }
    }
}

/// Says that a child is ready: see [`TaskGroup::start`].
#[must_use = "the starter waits for `started`"]
pub struct Started<V> {
    starting: Rc<dyn Ready<V>>,
}

trait Ready<V> {
    fn ready(&self, value: V);
}

impl<V, E> Ready<V> for Starting<V, E> {
    fn ready(&self, value: V) {
        let waker = {
            let mut inside = self.inside.borrow_mut();
            inside.ready = Some(value);
            inside.adopted = true;
            inside.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<V> Started<V> {
    /// The child is ready: its starter goes on with `value`, and the child belongs to the group.
    pub fn started(self, value: V) {
        self.starting.ready(value);
    }
}

impl<V> fmt::Debug for Started<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").finish_non_exhaustive()
    }
}

// === Child ===

/// A task of a [`TaskGroup`]: awaiting it gives its value.
///
/// A child that fails gives no value: its error is the group's. The group is cancelled then, and so is whoever awaits the
/// child inside of it; [`join`](Self::join) tells instead. Dropping the handle changes nothing: the group holds the child.
///
/// # Cancel safety
///
/// As awaiting a [`Task`]: a cancellation of the awaiting code is handed in to the child.
pub struct Child<T> {
    /// Or why it never started.
    task: Result<Task<Option<T>>, &'static str>,
    /// It gave nothing, and whoever awaits it is being cancelled.
    lost: bool,
}

impl<T> Child<T> {
    fn refused(why: &'static str) -> Self {
        Self { task: Err(why), lost: false }
    }

    fn task_ref(&self) -> Option<TaskRef> {
        self.task.as_ref().ok().map(|task| task.raw().task_ref())
    }

    /// Asks the child to end, and leaves the others alone. False: it is over.
    pub fn cancel(&self, reason: impl Into<Reason>) -> bool {
        self.task.as_ref().is_ok_and(|task| task.cancel(reason))
    }

    /// Whether the child is over.
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().map_or(true, Task::is_finished)
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
    /// **Cancel safe** when dropped. When cancelled, the cancellation is handed in to the child.
    ///
    /// # Errors
    ///
    /// It failed, was cancelled, or never started.
    pub fn join(&mut self) -> impl Future<Output = Result<T, ChildError>> + fmt::Debug {
        named("Join", poll_fn(|cx| self.poll_end(cx)))
    }

    /// Waits as a catcher.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, ChildError>> {
        match &mut self.task {
            Ok(task) => task.poll_join(cx).map(Self::end),
            Err(why) => Poll::Ready(Err(ChildError::Refused(why))),
        }
    }

    /// Waits without being one.
    fn poll_unasked(&self, cx: &mut Context<'_>) -> Poll<Result<T, ChildError>> {
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

impl<T> Future for Child<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if self.lost {
            return Poll::Pending;
        }
        match self.poll_end(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(value)) => Poll::Ready(value),
            Poll::Ready(Err(error)) => {
                let reason = match error {
                    // The group has cancelled its body and its other children, so whoever awaits this is asked already.
                    ChildError::Failed | ChildError::Refused(_) if cancellation_is_open() => None,
                    ChildError::Failed => Some(SIBLING),
                    ChildError::Refused(why) => Some(Reason::new(why)),
                    ChildError::Cancelled(reason) => Some(reason),
                };
                if let Some(reason) = reason {
                    assert!(
                        cancel_current_task(reason),
                        "a child gave no value, and whoever awaits it is no task that could be cancelled: use `join`"
                    );
                }
                self.lost = true;
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

// === Errors ===

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
    why: &'static str,
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

/// Why [`TaskGroup::start`] gave no child.
#[derive(Debug)]
pub enum StartError<E> {
    /// The child failed before it was ready.
    Failed(E),
    /// The child ended well, and never called [`started`](Started::started).
    NotStarted,
    /// The child was cancelled before it was ready.
    Cancelled(Reason),
    /// The group takes nobody any more.
    Refused(&'static str),
}

impl<E: fmt::Display> fmt::Display for StartError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "the task failed before it was ready: {error}"),
            Self::NotStarted => f.write_str("the task ended without calling `started`"),
            Self::Cancelled(reason) => write!(f, "before the task was ready: {reason}"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> Error for StartError<E> {}

/// The errors of all who failed in a [`TaskGroup`], in the order in which they came.
///
/// Without errors: the body was cancelled by [`TaskGroup::cancel`], so there is no value.
#[derive(Debug)]
pub struct GroupError<E> {
    /// Body and children alike.
    pub errors: Vec<E>,
    reason: Option<Reason>,
}

impl<E> GroupError<E> {
    /// Whether nobody failed: the group was cancelled by its own `cancel`.
    pub fn is_cancelled(&self) -> bool {
        self.errors.is_empty()
    }

    /// Why the group was cancelled, if it was.
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
