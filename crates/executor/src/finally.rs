//! Clean-up on every way out: `finally` and `with`.

use crate::current::report;
use crate::named::named;
use evenloop_core::cancel::{Reason, catch_cancel};
use evenloop_core::shim::Mutex;
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
/// With the panic of `future` or of what it drops, after `clean_up`, or with that of `clean_up`; a cancellation is passed
/// on even then.
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
        let dropping = Dropping::new();
        let outcome = catch_cancel(catch_panic(future, &dropping)).await;
        clean_up.await;
        dropping.go_on(&outcome); // should it, `outcome` is dropped: passed on
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
        let dropping = Dropping::new();
        let outcome = catch_cancel(catch_panic(body(&mut resource), &dropping)).await;
        let end = match &outcome {
            _ if dropping.panicked() => End::Panicked,
            Ok(Ok(_)) => End::Value,
            Ok(Err(_)) => End::Panicked,
            Err(cancelled) => End::Cancelled(cancelled.reason().clone()),
        };
        resource.exit(&end).await;
        dropping.go_on(&outcome);
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
    /// Gives the panic of a future as a value, and that of its destructor to a [`Dropping`]. Not to be polled after one.
    #[must_use = "futures do nothing unless awaited"]
    pub(crate) struct CatchPanic<'a, F> {
        // Empty only while this is dropped.
        #[pin]
        future: Option<F>,
        dropping: &'a Dropping,
    }

    impl<'a, F> PinnedDrop for CatchPanic<'a, F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let dropped = catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
            *this.dropping.0.lock() = dropped.err();
        }
    }
}

pub(crate) fn catch_panic<F: Future>(future: F, dropping: &Dropping) -> CatchPanic<'_, F> {
    CatchPanic { future: Some(future), dropping }
}

impl<F: Future> Future for CatchPanic<'_, F> {
    type Output = Result<F::Output, Box<dyn Any + Send>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.project().future.as_pin_mut().expect("there until this is dropped");
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

/// What a destructor panicked with when its future was cancelled, or over: whoever cleans up behind the future takes it
/// afterwards. If that one is dropped where it stands, the panic goes on.
///
/// Never contended: its lock is there so that the future around it may move to another thread.
pub(crate) struct Dropping(Mutex<Option<Box<dyn Any + Send>>>);

impl Dropping {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(None))
    }

    pub(crate) fn take(&self) -> Option<Box<dyn Any + Send>> {
        self.0.lock().take()
    }

    fn panicked(&self) -> bool {
        self.0.lock().is_some()
    }

    /// Goes on panicking, if a destructor did; behind a panic of the future itself, which came first, that is reported.
    fn go_on<T, E>(&self, outcome: &Result<std::thread::Result<T>, E>) {
        match (self.take(), outcome) {
            (None, _) => {}
            (Some(panic), Ok(Err(_))) => report(panic),
            (Some(panic), _) => resume_unwind(panic),
        }
    }
}

impl Drop for Dropping {
    fn drop(&mut self) {
        if let Some(panic) = self.take().filter(|_| !std::thread::panicking()) {
            resume_unwind(panic);
        }
    }
}
