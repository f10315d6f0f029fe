//! Clean-up on every way out: `finally` and `with`.

use crate::named::named;
use evenloop_core::cancel::{Reason, catch_cancel};
use pin_project_lite::pin_project;
use std::any::Any;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Runs `future`, then `clean_up`, whether `future` gave a value, panicked or was cancelled; then gives the value, goes
/// on panicking, or passes the cancellation on.
///
/// A cancellation that comes during `clean_up` ends it, as in asyncio; `finally(future, shielded(clean_up))` makes it
/// wait.
///
/// # Cancel safety
///
/// Dropping this (rather than cancelling it) drops both futures where they stand: no clean-up. If it was never polled
/// there was nothing to clean up.
///
/// # Panics
///
/// With the panic of `future` after `clean_up`, or with that of `clean_up`; a cancellation is passed on even then.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, finally};
/// # use std::cell::Cell;
/// # EventLoop::new().run_until_complete(async {
/// let closed = Cell::new(false);
/// let value = finally(async { 7 }, async { closed.set(true) }).await;
/// assert_eq!((value, closed.get()), (7, true));
/// # });
/// ```
#[doc(alias = "defer")]
pub fn finally<F, C>(future: F, clean_up: C) -> impl Future<Output = F::Output> + fmt::Debug
where
    F: IntoFuture,
    C: IntoFuture<Output = ()>,
{
    let (future, clean_up) = (future.into_future(), clean_up.into_future());
    named("Finally", async move {
        let outcome = catch_cancel(catch_panic(future)).await;
        clean_up.await;
        match outcome {
            Ok(Ok(value)) => value,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(cancelled) => match cancelled.resume().await {},
        }
    })
}

/// Something that is entered and left by waiting: a connection, a transaction, a lease. For [`with`].
#[doc(alias("AsyncDrop", "__aenter__"))]
pub trait Resource {
    /// Why it could not be entered.
    type Error;

    /// Enters. If this is cancelled or fails, [`exit`](Self::exit) is not called: what was begun is this future's to undo.
    fn enter(&mut self) -> impl Future<Output = Result<(), Self::Error>>;

    /// Leaves, knowing how the body ended.
    fn exit(&mut self, end: &End) -> impl Future<Output = ()>;
}

/// How a body ended, for [`Resource::exit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It gave a value (which may be an error of its own).
    Value,
    /// It was cancelled.
    Cancelled(Reason),
    /// It panicked.
    Panicked,
}

/// Enters `resource`, runs `body` with it, and leaves it on every way out: asyncio's `async with`.
///
/// # Cancel safety
///
/// When cancelled, the resource is left, then the cancellation goes on its way; a second one ends the leaving. Dropping
/// this (rather than cancelling it) drops the resource without leaving it.
///
/// # Errors
///
/// The resource could not be entered.
///
/// # Panics
///
/// With the body's panic, after the resource was left.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{End, EventLoop, Resource, with};
/// struct Door(Vec<&'static str>);
///
/// impl Resource for Door {
///     type Error = std::convert::Infallible;
///     async fn enter(&mut self) -> Result<(), Self::Error> {
///         self.0.push("open");
///         Ok(())
///     }
///     async fn exit(&mut self, end: &End) {
///         self.0.push(if *end == End::Value { "close" } else { "slam" });
///     }
/// }
///
/// # EventLoop::new().run_until_complete(async {
/// let mut door = Door(Vec::new());
/// with(&mut door, async |door| door.0.push("walk through")).await.unwrap();
/// assert_eq!(door.0, ["open", "walk through", "close"]);
/// # });
/// ```
#[doc(alias = "async_with")]
pub fn with<R, B, T>(mut resource: R, body: B) -> impl Future<Output = Result<T, R::Error>> + fmt::Debug
where
    R: Resource,
    B: AsyncFnOnce(&mut R) -> T,
{
    named("With", async move {
        resource.enter().await?;
        let outcome = catch_cancel(catch_panic(body(&mut resource))).await;
        let end = match &outcome {
            Ok(Ok(_)) => End::Value,
            Ok(Err(_)) => End::Panicked,
            Err(cancelled) => End::Cancelled(cancelled.reason().clone()),
        };
        resource.exit(&end).await;
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(cancelled) => match cancelled.resume().await {},
        }
    })
}

impl<R: Resource> Resource for &mut R {
    type Error = R::Error;

    fn enter(&mut self) -> impl Future<Output = Result<(), R::Error>> {
        (**self).enter()
    }

    fn exit(&mut self, end: &End) -> impl Future<Output = ()> {
        (**self).exit(end)
    }
}

// === Panics as values ===

pin_project! {
    /// Gives the panic of a future as a value. Not to be polled after one.
    #[must_use = "futures do nothing unless awaited"]
    pub(crate) struct CatchPanic<F> {
        #[pin]
        future: F,
    }
}

pub(crate) fn catch_panic<F: Future>(future: F) -> CatchPanic<F> {
    CatchPanic { future }
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, Box<dyn Any + Send>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.project().future;
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}
