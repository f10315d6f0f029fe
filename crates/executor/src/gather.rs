//! Waiting for many at once, with the results in the order of the arguments: `gather` and its relatives.
//!
//! Children are tasks: what is not one yet becomes one. So each runs on when somebody stops waiting for it.
//!
//! G1. Unless it is cancelled, a gather ends at the first end that its judge calls a failure, else when all are over. Ends come in
//!     as they happen; of children that were over before it was first polled, in the order of the arguments.
//!     Children that are not over then run on, detached, and an end that has not come in is nobody's: a panic goes to the loop's
//!     hook, but debug mode does not tell of errors, as the first stands for them.
//! G2. A gather that is cancelled cancels all its children, waits until all are over, and then passes the cancellation
//!     on. A child's panic wins over that: it goes on in the caller, others go to the loop's hook, and the cancellation
//!     strikes at the next suspension.

mod list;
mod tuples;

use crate::current::{create_task, report};
use crate::task::{JoinError, Task};
use evenloop_core::cancel::{Cancelled, Catcher, Raised, Resume, raise};
use evenloop_core::watch::{self, On};
use list::List;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll};

type Outcome<T> = Result<T, JoinError>;

/// Runs `children` concurrently, each as a task, and gives their values in the order of the arguments: a tuple of up to
/// eight, an array, or a `Vec`.
///
/// Children are tasks, so they borrow nothing: what they share goes into an `Rc`. Those that have to borrow are joined in
/// place by a [`BorrowingGroup`](crate::BorrowingGroup). Children that are [`Task`]s already stay what they are. Their values
/// may be `Result`s; [`try_gather`] ends at the first `Err`, and [`gather_settled`] tells panics and cancellations apart as
/// well.
///
/// A child that panics ends the gather at once with its panic, a child that is cancelled cancels the calling task; the
/// others run on.
///
/// # Cancel safety
///
/// When the calling code is cancelled, all children are cancelled and waited for, then the cancellation goes on its way.
/// Dropping this (rather than cancelling it) detaches the children: they run on.
///
/// # Panics
///
/// With the first child's panic; when no loop runs on this thread; when it is awaited again after it gave its values.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, gather};
/// # EventLoop::new().run_until_complete(async {
/// let (one, two) = gather((async { 1 }, async { "two" })).await;
/// assert_eq!((one, two), (1, "two"));
/// let squares = gather([1, 2, 3].map(|n| async move { n * n })).await;
/// assert_eq!(squares, [1, 4, 9]);
/// # });
/// ```
#[track_caller]
#[doc(alias = "join_all")]
pub fn gather<C: Children>(children: C) -> Gather<C::Kids, Plain>
where
    C::Kids: Collect<Plain>,
{
    Gather::new(children.spawn())
}

/// As [`gather`], for whatever can be iterated over: a `Vec` of the values.
///
/// # Cancel safety
///
/// As [`gather`].
///
/// # Panics
///
/// As [`gather`].
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, gather_all};
/// EventLoop::new().run_until_complete(async {
///     let squares = gather_all((1..=3).map(|n| async move { n * n })).await;
///     assert_eq!(squares, [1, 4, 9]);
/// });
/// ```
#[track_caller]
pub fn gather_all<I>(children: I) -> Gather<List<<I::Item as Future>::Output>, Plain>
where
    I: IntoIterator,
    I::Item: Future + 'static,
{
    Gather::new(List::spawn(children))
}

/// As [`gather`], for children that give `Result`s: all their values, or the first error, at once. The others run on.
///
/// # Cancel safety
///
/// As [`gather`].
///
/// # Errors
///
/// The first that a child gives. Of children that were over before this is first polled: the first in the order of the arguments.
///
/// # Panics
///
/// As [`gather`].
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, try_gather};
/// # EventLoop::new().run_until_complete(async {
/// let both = try_gather((async { Ok::<_, &str>(1) }, async { Err::<u8, _>("no") })).await;
/// assert_eq!(both, Err("no"));
/// # });
/// ```
#[track_caller]
#[doc(alias("try_join_all", "try_join"))]
pub fn try_gather<C: Children>(children: C) -> Gather<C::Kids, Fallible>
where
    C::Kids: Collect<Fallible>,
{
    Gather::new(children.spawn())
}

/// As [`gather`], with the end of each child whatever it is: asyncio's `return_exceptions=True`.
///
/// # Cancel safety
///
/// As [`gather`]: a cancellation of the caller is not collected.
///
/// # Panics
///
/// When no loop runs on this thread; and when it is cancelled, with the first child's panic, which nobody would see else.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, create_task, gather_settled};
/// # EventLoop::new().run_until_complete(async {
/// let cancelled = create_task(std::future::pending::<u8>());
/// cancelled.cancel("not needed");
/// let (one, two) = gather_settled((async { 1 }, cancelled)).await;
/// assert_eq!(one.unwrap(), 1);
/// assert!(two.unwrap_err().is_cancelled());
/// # });
/// ```
#[track_caller]
#[doc(alias("return_exceptions", "allSettled"))]
pub fn gather_settled<C: Children>(children: C) -> Gather<C::Kids, Settled>
where
    C::Kids: Collect<Settled>,
{
    Gather::new(children.spawn())
}

/// Makes a task of a future; one that is a task already is answered as it is: asyncio's `ensure_future`.
///
/// # Panics
///
/// When no loop runs on this thread.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, create_task, ensure_future};
/// EventLoop::new().run_until_complete(async {
///     let task = create_task(async { 1 });
///     let id = task.id();
///     assert_eq!(ensure_future(task).id(), id); // the same one
///     assert_eq!(ensure_future(async { 2 }).await, 2);
/// });
/// ```
#[track_caller]
pub fn ensure_future<F: Future + 'static>(future: F) -> Task<F::Output> {
    let mut slot = Some(future);
    if let Some(task) = (&mut slot as &mut dyn Any).downcast_mut::<Option<Task<F::Output>>>() {
        return task.take().expect("filled above");
    }
    create_task(slot.take().expect("filled above, and no task"))
}

/// What [`gather`] accepts: tuples of up to eight futures, arrays and `Vec`s of them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no tuple, array or `Vec` of futures that own what they use",
    note = "for whatever can be iterated over there is `gather_all`; for `try_gather` and `gather_settled`, `collect` into a `Vec` first",
    note = "a single future needs no gathering: await it"
)]
pub trait Children: sealed::Sealed {
    /// The children as tasks.
    #[doc(hidden)]
    type Kids;

    #[doc(hidden)]
    #[track_caller]
    fn spawn(self) -> Self::Kids;
}

mod sealed {
    #[allow(unnameable_types, reason = "nobody else implements `Children`")]
    pub trait Sealed {}
}

/// Judge of [`gather`]: panics and cancellations end it.
#[derive(Debug)]
pub struct Plain(());

/// Judge of [`try_gather`]: errors do, too.
#[derive(Debug)]
pub struct Fallible(());

/// Judge of [`gather_settled`]: nothing does.
#[derive(Debug)]
pub struct Settled(());

/// Which ends of a child end the gather (G1).
trait Judge<T> {
    fn fails(outcome: &Outcome<T>) -> bool;
}

impl<T> Judge<T> for Plain {
    fn fails(outcome: &Outcome<T>) -> bool {
        outcome.is_err()
    }
}

impl<T, E> Judge<Result<T, E>> for Fallible {
    fn fails(outcome: &Outcome<Result<T, E>>) -> bool {
        !matches!(outcome, Ok(Ok(_)))
    }
}

impl<T> Judge<T> for Settled {
    fn fails(_: &Outcome<T>) -> bool {
        false
    }
}

/// The children of one gather, judged by `J`.
#[doc(hidden)]
pub trait Collect<J> {
    type Output;

    /// Takes in the ends that have come. Ready: all are over (true), or one has failed.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool>;

    /// Cancels those that are not over.
    fn hand_in(&mut self, cancelled: &Cancelled);

    /// Has nobody told of errors of those that are not over.
    fn overlook(&mut self);

    /// Takes out a panic that came in, the first in the order of the arguments.
    fn panic(&mut self) -> Option<Box<dyn Any + Send>>;

    /// The values, or the failure. Called once, after `poll` was ready.
    fn collect(&mut self) -> Outcome<Self::Output>;
}

// === The future ===

/// The future of [`gather`], [`try_gather`] and [`gather_settled`].
#[must_use = "futures do nothing unless awaited; the children run"]
pub struct Gather<K, J> {
    kids: K,
    catcher: Catcher,
    /// Handed in to the children, which are not all over yet (G2).
    cancelled: Option<Cancelled>,
    /// All children are over, and the cancellation goes on its way.
    resume: Option<Resume>,
    /// A child ended cancelled of its own, and the calling task was asked to end.
    handed_on: Option<(Raised, JoinError)>,
    /// The values were given, or a panic.
    done: bool,
    judge: PhantomData<fn(J)>,
}

impl<K, J> Gather<K, J> {
    fn new(kids: K) -> Self {
        let catcher = Catcher::new();
        Self {
            kids,
            catcher,
            cancelled: None,
            resume: None,
            handed_on: None,
            done: false,
            judge: PhantomData,
        }
    }

    /// A child was cancelled: so is the caller.
    fn hand_on<T>(&mut self, error: JoinError) -> Poll<T> {
        let Some(raised) = raise(error.reason()) else {
            panic!(
                "`gather`: a child was cancelled, and the caller is no task that could be cancelled too: use `gather_settled`"
            )
        };
        self.handed_on = Some((raised, error));
        Poll::Pending
    }
}

/// Tasks do not move with their handles.
impl<K, J> Unpin for Gather<K, J> {}

impl<K: Collect<J>, J> Future for Gather<K, J> {
    type Output = K::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<K::Output> {
        let this = &mut *self;
        assert!(!this.done, "`gather` was awaited again after it had given its values");
        // Awaited again after code around this has caught what went on from here: then it begins anew.
        this.resume.take_if(|resume| resume.is_over());
        if let Some(resume) = &mut this.resume {
            return Pin::new(resume).poll(cx).map(|never| match never {});
        }
        if let Some((_, error)) = this.handed_on.take_if(|(raised, _)| raised.is_over()) {
            return this.hand_on(error);
        }
        if this.handed_on.is_some() {
            return Poll::Pending;
        }
        while let Poll::Ready(cancelled) = this.catcher.poll_cancelled(cx) {
            this.kids.hand_in(&cancelled);
            Cancelled::gather(&mut this.cancelled, cancelled);
        }
        loop {
            match this.kids.poll(cx) {
                Poll::Pending => {
                    watch::wait_many(cx.waker(), "gather", || On::Nothing);
                    return Poll::Pending;
                }
                Poll::Ready(false) if this.cancelled.is_some() => {} // G2: wait for all
                Poll::Ready(false) => {
                    this.kids.overlook();
                    break;
                }
                Poll::Ready(true) => break,
            }
        }
        this.catcher.leave();
        if let Some(cancelled) = this.cancelled.take() {
            if let Some(panic) = this.kids.panic() {
                while let Some(another) = this.kids.panic() {
                    report(another);
                }
                drop(cancelled); // passed on
                resume_unwind(panic);
            }
            let resume = this.resume.insert(cancelled.resume());
            return Pin::new(resume).poll(cx).map(|never| match never {});
        }
        match this.kids.collect().map_err(JoinError::into_panic) {
            Err(Err(error)) => this.hand_on(error),
            Ok(output) => {
                this.done = true;
                Poll::Ready(output)
            }
            Err(Ok(panic)) => {
                this.done = true;
                resume_unwind(panic)
            }
        }
    }
}

impl<K, J> fmt::Debug for Gather<K, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (&self.cancelled, &self.resume) {
            (Some(_), _) => "cancelling",
            (_, Some(_)) => "cancelled",
            _ => "waiting",
        };
        write!(f, "Gather [{state}]")
    }
}
