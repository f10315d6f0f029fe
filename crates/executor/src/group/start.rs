//! `start`: a child that says when it is ready.

use super::TaskGroup;
use super::child::{Child, ChildError};
use super::state::Fail;
use crate::named::named;
use crate::task::task_ref::TaskRef;
use evenloop_core::cancel::{Cancellation, Cancelled, Catcher, Reason};
use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

impl<E: 'static> TaskGroup<E> {
    /// Starts a task in this group and waits until it says that it is ready: trio's `start`.
    ///
    /// `child` gets a [`Started`] to say so, with a value for whoever waits here. Until then the child belongs to the
    /// caller: its error comes out here, and leaves the group alone. From then on it is a child like all others.
    ///
    /// # Cancel safety
    ///
    /// When cancelled before the child is ready, the child is cancelled and waited for; if it gets ready all the same, that
    /// is answered, and the cancellation strikes at the next suspension. Dropping this cancels the child, too; if it fails
    /// in its clean-up, its group does.
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
            let mut unready = Unready { starting: &starting, group: &group, task: child.task_ref() };
            let mut catcher = Catcher::new();
            let mut cancelled = None;
            let end = poll_fn(|cx| {
                if let Some(value) = starting.take_ready(cx) {
                    return Poll::Ready(Ok(value));
                }
                while let Poll::Ready(outside) = catcher.poll_cancelled(cx) {
                    child.hand_in(&outside);
                    Cancelled::gather(&mut cancelled, outside);
                }
                // Not as a catcher of its own: this one hands the cancellation in.
                child.poll_unasked(cx).map(Err)
            })
            .await;
            catcher.leave();
            unready.task = None; // told, or over
            let end = match end {
                Ok(value) => return Ok((value, child)), // what was handed in is dropped: passed on
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
}

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

// === The handshake ===

/// What the caller of `start` and the child share.
pub(super) struct Starting<V, E> {
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
    pub(super) fn is_adopted(&self) -> bool {
        self.inside.borrow().adopted
    }

    pub(super) fn fail(&self, fail: Fail<E>) {
        self.inside.borrow_mut().failed = Some(fail);
    }

    pub(super) fn take_ready(&self, cx: &mut Context<'_>) -> Option<V> {
        let waker = cx.waker().clone();
        let mut inside = self.inside.borrow_mut();
        let ready = inside.ready.take();
        let before = inside.waker.replace(waker);
        drop(inside);
        drop(before); // G5
        ready
    }
}

/// Cancels a child that is not ready when its starter is dropped. It belongs to the group from then on.
struct Unready<'a, V, E> {
    starting: &'a Starting<V, E>,
    group: &'a TaskGroup<E>,
    task: Option<TaskRef>,
}

impl<V, E> Drop for Unready<'_, V, E> {
    fn drop(&mut self) {
        let Some(task) = &self.task else { return };
        let (adopted, failed) = {
            let mut inside = self.starting.inside.borrow_mut();
            (std::mem::replace(&mut inside.adopted, true), inside.failed.take())
        };
        match failed {
            Some(failed) => self.group.state.fail(failed, None),
            None if adopted => {}
            None => {
                task.request(&Cancellation::new("its starter was dropped"));
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
