//! A group whose children may borrow.
//!
//! Where the line is: a task is owned by the loop and may outlive whoever started it, so it can borrow nothing. A future
//! that borrows must be dropped before what it borrows from, whatever happens to the future around it: dropped at any time,
//! or forgotten. So these children live inside the group's own future. They are concurrent (each is polled when it was
//! woken) and on the same thread, but they are no tasks: no id, no name, not in `all_tasks`, and when the group's future is
//! dropped rather than cancelled they are dropped where they stand.
//!
//! The rules are those of `group.rs`. Each child is polled in a scope of its own, in a tree of its own, as a task would
//! be: the group hands cancellations in.
//!
//! B1. A child is in `new` from its start until the group's next turn, then in the group's future.
//! B2. When the group's future is gone, `new` is empty: nothing keeps what children borrow.

use super::child::ChildError;
use super::error::GroupError;
use super::state::{DROPPED, Fail, Phase, State, conduct};
use crate::finally::{Dropping, catch_panic};
use crate::named::named;
use evenloop_core::cancel::{CancelScope, Reason, Requests, Root};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Starts futures that may borrow from around the block which was given this, and that do not outlive it.
///
/// As [`TaskGroup`](super::TaskGroup) in all else: the first failure cancels the others, all errors come out together, and
/// the block ends when all are over. What is borrowed is shared; `Cell` and `RefCell` suffice, for all run on one thread.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{BorrowingGroup, EventLoop};
/// # use std::cell::Cell;
/// # EventLoop::new().run_until_complete(async {
/// let words = vec!["every", "good", "boy"];
/// let letters = Cell::new(0);
/// BorrowingGroup::run(async |group| {
///     for word in &words {
///         group.start_soon(async {
///             letters.set(letters.get() + word.len());
///             Ok::<_, std::io::Error>(())
///         });
///     }
///     Ok(())
/// })
/// .await
/// .unwrap();
/// assert_eq!(letters.get(), 12);
/// # });
/// ```
#[doc(alias("scope", "FuturesUnordered"))]
pub struct BorrowingGroup<'env, E> {
    shared: Rc<Shared<'env, E>>,
}

struct Shared<'env, E> {
    state: State<E, CancelScope>,
    /// B1.
    new: RefCell<Vec<Running<'env>>>,
    /// The group's own, to have new children taken over.
    waker: RefCell<Option<Waker>>,
}

type Running<'env> = Pin<Box<dyn Future<Output = ()> + 'env>>;

impl<'env, E: 'env> BorrowingGroup<'env, E> {
    /// Runs `body` with a new group, and waits until the body and all children are over, those included that are started
    /// meanwhile. Answers what the body gave.
    ///
    /// # Cancel safety
    ///
    /// When cancelled, the body is, then the children are, and all are waited for; then the cancellation goes on its way.
    /// If somebody failed meanwhile the errors are given, and the cancellation strikes at the next suspension. Dropping
    /// this (rather than cancelling it) drops the children where they stand.
    ///
    /// # Errors
    ///
    /// [`GroupError`] with the errors of all who failed; with none if the body was cancelled by
    /// [`cancel`](Self::cancel) and so gave no value.
    ///
    /// # Panics
    ///
    /// With the first panic of the body or a child, after all are over.
    pub fn run<B, T>(body: B) -> impl Future<Output = Result<T, GroupError<E>>> + fmt::Debug
    where
        B: AsyncFnOnce(Self) -> Result<T, E>,
    {
        named("BorrowingGroup", async move {
            let shared =
                Rc::new(Shared { state: State::new(), new: RefCell::default(), waker: RefCell::default() });
            let forgets = Forgets(&shared);
            let mut conduct = pin!(conduct(&shared.state, body(Self { shared: shared.clone() })));
            let mut children = FuturesUnordered::new();
            let mut root = Root::new();
            let end = poll_fn(|cx| {
                let before = shared.waker.replace(Some(cx.waker().clone()));
                drop(before);
                children.extend(shared.new.take());
                root.enter(&Requests::new(), || {
                    while let Poll::Ready(Some(())) = children.poll_next_unpin(cx) {}
                });
                conduct.as_mut().poll(cx)
            })
            .await;
            drop(forgets);
            end
        })
    }

    /// Starts a child in this group. It runs for the first time in the group's next turn.
    ///
    /// A group that is shutting down or finished takes nobody: `future` is dropped at once, and
    /// [`join`](BorrowedChild::join) tells.
    pub fn start_soon<F, T>(&self, future: F) -> BorrowedChild<T>
    where
        F: Future<Output = Result<T, E>> + 'env,
        T: 'env,
    {
        let refused = self.shared.state.inside.borrow().phase.refuses();
        if let Some(why) = refused {
            return BorrowedChild {
                scope: None,
                end: Rc::new(End::new(Some(Err(ChildError::Refused(why))))),
            };
        }
        let scope = CancelScope::new();
        let member = self.shared.state.children.enter(Some(scope.clone()));
        let member = member.expect("a set that its group never closes");
        let end = Rc::new(End::new(None));
        let child = BorrowedChild { scope: Some(scope.clone()), end: end.clone() };
        let ends = Ends(end);
        let shared = self.shared.clone();
        self.shared.new.borrow_mut().push(Box::pin(async move {
            let dropping = Dropping::new();
            // Named before `member`, so that it is dropped before that if it is never polled (G4).
            let run = scope.run_as_task(catch_panic(future, &dropping));
            let key = member.key();
            let outcome = run.await;
            let outcome = match outcome {
                Ok(Ok(Ok(value))) => Ok(value),
                Ok(Ok(Err(error))) => {
                    shared.state.fail(Fail::Error(error), Some(key));
                    Err(ChildError::Failed)
                }
                Ok(Err(panic)) => {
                    shared.state.fail(Fail::Panic(panic), Some(key));
                    Err(ChildError::Failed)
                }
                Err(reason) => Err(ChildError::Cancelled(reason)),
            };
            let outcome = match dropping.take() {
                None => outcome,
                Some(panic) => {
                    shared.state.fail(Fail::Panic(panic), Some(key));
                    Err(ChildError::Failed)
                }
            };
            ends.0.set(outcome);
            drop(member);
        }));
        let waker = self.shared.waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
        child
    }

    /// Cancels the body and all children; the group takes nobody any more. No error comes of it: the block ends with the
    /// body's value if it has one already, and with real errors if clean-ups fail. Does nothing the second time, nor after
    /// the end.
    pub fn cancel(&self, reason: impl Into<Reason>) {
        self.shared.state.shut_down(reason.into(), None);
    }

    /// How many children are not over.
    pub fn len(&self) -> usize {
        self.shared.state.children.len()
    }

    /// Whether all children are over.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// B2, also when the group's future is dropped before its end.
struct Forgets<'a, 'env, E>(&'a Shared<'env, E>);

impl<E> Drop for Forgets<'_, '_, E> {
    fn drop(&mut self) {
        // Nobody new is taken from here on, and destructors may try.
        self.0.state.inside.borrow_mut().phase = Phase::Finished;
        let (new, waker) = (self.0.new.take(), self.0.waker.take());
        drop((new, waker));
    }
}

impl<E> Clone for BorrowingGroup<'_, E> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<E> fmt::Debug for BorrowingGroup<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let State { children, inside, .. } = &self.shared.state;
        let inside = inside.borrow();
        let phase = inside.phase.name();
        write!(f, "BorrowingGroup [{phase}, children: {}, errors: {}]", children.len(), inside.errors.len())
    }
}

// === BorrowedChild ===

/// A child of a [`BorrowingGroup`]. Dropping the handle changes nothing: the group holds the child.
///
/// # Examples
///
/// ```
/// use evenloop_executor::{BorrowingGroup, EventLoop};
///
/// let words = ["borrowed".to_owned(), "not cloned".to_owned()];
/// EventLoop::new().run_until_complete(async {
///     let longest = BorrowingGroup::<String>::run(async |group| {
///         let mut lengths = words.each_ref().map(|word| group.start_soon(async { Ok(word.len()) }));
///         let mut longest = 0;
///         for length in &mut lengths {
///             longest = longest.max(length.join().await.expect("no child fails"));
///         }
///         Ok(longest)
///     });
///     assert_eq!(longest.await.unwrap(), 10);
/// });
/// ```
pub struct BorrowedChild<T> {
    /// `None`: it never started.
    scope: Option<CancelScope>,
    end: Rc<End<T>>,
}

/// What a child leaves for its handle.
struct End<T> {
    outcome: Cell<Option<Result<T, ChildError>>>,
    over: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl<T> End<T> {
    fn new(outcome: Option<Result<T, ChildError>>) -> Self {
        let over = Cell::new(outcome.is_some());
        Self { outcome: Cell::new(outcome), over, waker: Cell::new(None) }
    }

    fn set(&self, outcome: Result<T, ChildError>) {
        self.outcome.set(Some(outcome));
        self.over.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Tells the handle of a child that was dropped where it stood: nothing else would ever come.
struct Ends<T>(Rc<End<T>>);

impl<T> Drop for Ends<T> {
    fn drop(&mut self) {
        if !self.0.over.get() {
            self.0.set(Err(ChildError::Cancelled(DROPPED)));
        }
    }
}

impl<T> BorrowedChild<T> {
    /// Asks the child to end, and leaves the others alone. False: it is over.
    pub fn cancel(&self, reason: impl Into<Reason>) -> bool {
        self.scope.as_ref().is_some_and(|scope| scope.cancel(reason))
    }

    /// Whether the child is over.
    #[doc(alias = "is_finished")]
    pub fn done(&self) -> bool {
        self.end.over.get()
    }

    /// Waits for the child and tells how it ended. Not a catcher: a cancellation of the waiting code leaves the child alone.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.**
    ///
    /// # Errors
    ///
    /// It failed (the group has the error), was cancelled, was dropped with its group, or never started.
    ///
    /// # Panics
    ///
    /// If the outcome was taken before.
    pub fn join(&mut self) -> impl Future<Output = Result<T, ChildError>> + fmt::Debug {
        named("Join", poll_fn(|cx| self.poll_end(cx)))
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, ChildError>> {
        if self.end.over.get() {
            let outcome = self.end.outcome.take();
            return Poll::Ready(
                outcome.expect("`BorrowedChild::join`: the outcome is given once, and it was taken before"),
            );
        }
        let before = self.end.waker.replace(Some(cx.waker().clone()));
        drop(before);
        Poll::Pending
    }
}

impl<T> fmt::Debug for BorrowedChild<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.done() { "BorrowedChild [finished]" } else { "BorrowedChild [pending]" })
    }
}
