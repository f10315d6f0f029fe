//! Code that is not to be disturbed.

use super::cancel_scope::{CancelScope, Run};
use super::cancelled::{Cancelled, Resume};
use super::catch::Catcher;
use super::frames::raise;
use super::hold::Raised;
use super::reason::Reason;
use super::root::{Requests, Root};
use super::scope::Scope;
use crate::runtime::Runtime;
use crate::timers::{Elapsed, deadline_after};
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Runs `future` to its end, whatever is asked of the scopes around this: they wait.
///
/// A cancellation that comes meanwhile is passed on when `future` is ready, so it strikes at the next `await` that has to
/// wait. Catchers inside are not asked; a scope inside (a timeout, say) works as ever. A clean-up that may hang is better
/// bounded: [`shielded_for`].
///
/// Stands for a task: if `future` ends cancelled of its own, by awaiting a task that was cancelled, it is dropped once
/// everyone inside who catches has been asked, and the cancellation goes on outside.
///
/// # Cancel safety
///
/// As `future`: dropping this drops it. Only cancellations wait, a drop does not.
///
/// # Panics
///
/// When `future` ends cancelled where nothing could be cancelled too.
///
/// # Examples
///
/// ```
/// # use evenloop_core::cancel::{Cancelled, shielded};
/// # async fn close_the_books() {}
/// # async fn example(cancelled: Cancelled) {
/// shielded(close_the_books()).await; // a second cancellation waits
/// cancelled.resume().await;
/// # }
/// ```
pub fn shielded<F: IntoFuture>(future: F) -> Shielded<F::IntoFuture> {
    Shielded {
        future: Some(future.into_future()),
        inside: Scope::for_a_task(),
        root: Root::new(),
        catcher: Catcher::new(),
        cancelled: None,
        gone: None,
    }
}

/// As [`shielded`], but for no longer than `limit`, counted from the first poll. Then whoever catches inside is asked, and
/// `future` is dropped; the cancellations that waited go on.
///
/// # Cancel safety
///
/// As `future`: dropping this drops it. Only cancellations wait, a drop does not.
///
/// # Errors
///
/// [`Elapsed`]: the limit was met first.
///
/// # Panics
///
/// When it is first polled where no runtime is current that offers timers.
///
/// # Examples
///
/// ```
/// # use evenloop_core::cancel::{Cancelled, shielded_for};
/// # use std::time::Duration;
/// # async fn close_the_books() {}
/// # async fn example(cancelled: Cancelled) {
/// if shielded_for(Duration::from_secs(5), close_the_books()).await.is_err() {
///     eprintln!("the books stay open");
/// }
/// cancelled.resume().await;
/// # }
/// ```
pub fn shielded_for<F: IntoFuture>(limit: Duration, future: F) -> ShieldedFor<F::IntoFuture> {
    let scope = CancelScope::new();
    let inner = shielded(scope.run(future.into_future()));
    ShieldedFor { inner, scope, limit: Some(limit) }
}

pin_project_lite::pin_project! {
    /// The future of [`shielded_for`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct ShieldedFor<F> {
        #[pin]
        inner: Shielded<Run<F>>,
        scope: CancelScope,
        // Until the first poll.
        limit: Option<Duration>,
    }
}

impl<F: Future> Future for ShieldedFor<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(limit) = this.limit.take() {
            let timers = Runtime::current_timers("shielded_for").unwrap_or_else(|error| panic!("{error}"));
            this.scope.set_deadline(Some(deadline_after(timers.now(), limit)));
        }
        this.inner.poll(cx).map(|outcome| outcome.map_err(|_| Elapsed))
    }
}

impl<F> fmt::Debug for ShieldedFor<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShieldedFor").field("inner", &self.inner).finish_non_exhaustive()
    }
}

pin_project_lite::pin_project! {
    /// The future of [`shielded`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Shielded<F> {
        #[pin]
        future: Option<F>,
        // Ends what is cancelled of its own.
        inside: Scope,
        // What is inside has a tree of its own.
        root: Root,
        catcher: Catcher,
        cancelled: Option<Cancelled>,
        gone: Option<Gone>,
    }
}

/// It ended cancelled of its own, and so does the code around it.
struct Gone {
    reason: Reason,
    how: How,
}

enum How {
    /// By a cancellation that waited.
    Resume(Resume),
    Raised(Raised),
}

fn raise_around(reason: &Reason) -> Raised {
    raise(reason.clone()).expect(
        "`shielded`: a task was cancelled that is awaited inside, and nothing around this could be cancelled too: `join` that \
         task, which tells how it ended",
    )
}

impl<F: Future> Future for Shielded<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if let Some(Gone { reason, how }) = this.gone {
            match how {
                How::Resume(resume) if !resume.is_over() => {
                    return Pin::new(resume).poll(cx).map(|never| match never {});
                }
                How::Raised(raised) if !raised.is_over() => return Poll::Pending,
                // Awaited again after code around this has caught what went on from here.
                how => {
                    *how = How::Raised(raise_around(reason));
                    return Poll::Pending;
                }
            }
        }
        while let Poll::Ready(cancelled) = this.catcher.poll_cancelled(cx) {
            Cancelled::gather(this.cancelled, cancelled);
        }
        let polled = {
            let requests = Requests::new();
            this.root.enter(&requests, || this.inside.poll(this.future, cx))
        };
        let Poll::Ready(outcome) = polled else { return Poll::Pending };
        this.catcher.leave();
        let waited = this.cancelled.take();
        match outcome {
            Ok(value) => {
                drop(waited); // passed on
                Poll::Ready(value)
            }
            Err(reason) => {
                let how = match waited {
                    Some(cancelled) => How::Resume(cancelled.resume()),
                    None => How::Raised(raise_around(&reason)),
                };
                *this.gone = Some(Gone { reason, how });
                Poll::Pending
            }
        }
    }
}

impl<F> fmt::Debug for Shielded<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cancelled {
            None => f.write_str("Shielded []"),
            Some(cancelled) => write!(f, "Shielded [{cancelled}]"),
        }
    }
}
