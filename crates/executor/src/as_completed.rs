//! Tasks as they come: `as_completed`, and `wait`.

use crate::gather::ensure_future;
use crate::named::named;
use crate::task::Task;
use evenloop_core::watch::{self, On};
use futures_core::{FusedStream, Stream};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A stream of `futures` as tasks, each when it is over, in the order in which they end.
///
/// What comes out is the finished [`Task`], so that its id and name are known; awaiting it gives its value at once, or
/// its panic. Children that are tasks already stay what they are.
///
/// Cancels nothing, also when the caller is cancelled: dropping the stream detaches the tasks that have not come out.
/// One deadline for the whole is a `timeout_at` with the same instant around each [`next`](AsCompleted::next).
///
/// # Panics
///
/// When no loop runs on this thread.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, as_completed};
/// # EventLoop::new().run_until_complete(async {
/// let mut tasks = as_completed([3, 1, 2].map(|n| async move { n }));
/// let mut sum = 0;
/// while let Some(task) = tasks.next().await {
///     sum += task.await;
/// }
/// assert_eq!(sum, 6);
/// # });
/// ```
#[track_caller]
#[doc(alias = "FuturesUnordered")]
pub fn as_completed<I>(futures: I) -> AsCompleted<<I::Item as Future>::Output>
where
    I: IntoIterator,
    I::Item: Future + 'static,
{
    let running = FuturesUnordered::new();
    for future in futures {
        running.push(Over(Some(ensure_future(future))));
    }
    AsCompleted { running }
}

/// The stream of [`as_completed`].
///
/// # Examples
///
/// ```
/// use evenloop_executor::{EventLoop, as_completed, yield_now};
/// use std::pin::Pin;
///
/// EventLoop::new().run_until_complete(async {
///     let slow = async {
///         yield_now().await;
///         "slow"
///     };
///     let both: [Pin<Box<dyn Future<Output = _>>>; 2] = [Box::pin(slow), Box::pin(async { "fast" })];
///     let mut ends = as_completed(both);
///     assert_eq!(ends.next().await.unwrap().await, "fast");
///     assert_eq!(ends.len(), 1);
///     assert_eq!(ends.next().await.unwrap().await, "slow");
///     assert!(ends.next().await.is_none());
/// });
/// ```
#[must_use = "streams do nothing unless polled; the tasks run"]
pub struct AsCompleted<T> {
    running: FuturesUnordered<Over<T>>,
}

impl<T> AsCompleted<T> {
    /// Waits for the next task that is over; `None` when all have come out.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** No task is lost.
    #[allow(clippy::should_implement_trait, reason = "asynchronous iteration, as of a stream")]
    pub fn next(&mut self) -> impl Future<Output = Option<Task<T>>> + fmt::Debug {
        named("Next", StreamExt::next(self))
    }

    /// How many have not come out yet.
    pub fn len(&self) -> usize {
        self.running.len()
    }

    /// Whether all have come out.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }
}

impl<T> Stream for AsCompleted<T> {
    type Item = Task<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Task<T>>> {
        let polled = self.running.poll_next_unpin(cx);
        if polled.is_pending() {
            watch::wait_many(cx.waker(), "as_completed", || On::Nothing);
        }
        polled
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl<T> FusedStream for AsCompleted<T> {
    fn is_terminated(&self) -> bool {
        self.is_empty()
    }
}

impl<T> fmt::Debug for AsCompleted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsCompleted [{} to come]", self.len())
    }
}

/// Gives a task back when it is over, with its outcome untouched.
struct Over<T>(Option<Task<T>>);

impl<T> Future for Over<T> {
    type Output = Task<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Task<T>> {
        let task = self.0.as_ref().expect("polled until it is over");
        task.raw().poll_over(cx.waker()).map(|()| self.0.take().expect("there a line above"))
    }
}

/// When [`wait`] returns.
#[derive(Clone, Copy, Debug)]
pub enum ReturnWhen<T> {
    /// When all tasks are over.
    AllCompleted,
    /// When one task is over.
    FirstCompleted,
    /// When one task has panicked, or given a value for which this answers true (`Result::is_err`, say); else when all
    /// are over. A cancelled task is no exception.
    FirstException(fn(&T) -> bool),
}

/// Waits until some of `tasks` are over, takes these out, and answers them in their order; the others stay.
///
/// All that are over by then are in the answer, not only the first. Hands on no panic, cancels nothing; a limit is a
/// `timeout` around this.
///
/// # Cancel safety
///
/// **Cancel safe.** The tasks stay where they are, and run on.
///
/// # Panics
///
/// If there are no tasks: nothing would ever be over.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, ReturnWhen, create_task, wait};
/// # EventLoop::new().run_until_complete(async {
/// let mut tasks: Vec<_> = (0..3).map(|n| create_task(async move { n })).collect();
/// let done = wait(&mut tasks, ReturnWhen::AllCompleted).await;
/// assert_eq!((done.len(), tasks.len()), (3, 0));
/// # });
/// ```
#[doc(alias = "select_all")]
pub fn wait<T>(
    tasks: &mut Vec<Task<T>>,
    return_when: ReturnWhen<T>,
) -> impl Future<Output = Vec<Task<T>>> + fmt::Debug {
    named("Wait", async move {
        assert!(!tasks.is_empty(), "`wait` needs at least one task: nothing would ever be over");
        let mut running: FuturesUnordered<_> = tasks.iter().map(OverByRef).collect();
        let mut next = |cx: &mut Context<'_>| {
            let polled = running.poll_next_unpin(cx);
            if polled.is_pending() {
                watch::wait_many(cx.waker(), "wait", || On::Nothing);
            }
            polled
        };
        while let Some(task) = poll_fn(&mut next).await {
            let enough = match return_when {
                ReturnWhen::AllCompleted => false,
                ReturnWhen::FirstCompleted => true,
                ReturnWhen::FirstException(fails) => task.raw().outcome_is(|outcome| match outcome {
                    Ok(value) => fails(value),
                    Err(error) => error.is_panic(),
                }),
            };
            if enough {
                break;
            }
        }
        drop(running);
        let (done, pending) = std::mem::take(tasks).into_iter().partition(Task::done);
        *tasks = pending;
        done
    })
}

/// Ready when the task is over.
struct OverByRef<'a, T>(&'a Task<T>);

impl<'a, T> Future for OverByRef<'a, T> {
    type Output = &'a Task<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<&'a Task<T>> {
        self.0.raw().poll_over(cx.waker()).map(|()| self.0)
    }
}
