//! Code that is not to be disturbed.

use super::cancelled::Cancelled;
use super::catch::Catcher;
use super::root::{Requests, Root};
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Runs `future` to its end, whatever is asked of the scopes around this: they wait.
///
/// A cancellation that comes meanwhile is passed on when `future` is ready, so it strikes at the next `await` that has to
/// wait. Catchers inside are not asked; a scope inside (a timeout, say) works as ever. So the way to a bounded clean-up
/// is `shielded(timeout(limit, clean_up()))`.
///
/// # Cancel safety
///
/// As `future`: dropping this drops it. Only cancellations wait, a drop does not.
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
    Shielded { future: future.into_future(), root: Root::new(), catcher: Catcher::new(), cancelled: None }
}

pin_project_lite::pin_project! {
    /// The future of [`shielded`].
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Shielded<F> {
        #[pin]
        future: F,
        // What is inside has a tree of its own.
        root: Root,
        catcher: Catcher,
        cancelled: Option<Cancelled>,
    }
}

impl<F: Future> Future for Shielded<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        while let Poll::Ready(cancelled) = this.catcher.poll_cancelled(cx) {
            Cancelled::gather(this.cancelled, cancelled);
        }
        let polled = {
            let requests = Requests::new();
            let _entered = this.root.enter(&requests);
            this.future.poll(cx)
        };
        if polled.is_ready() {
            this.catcher.leave();
            drop(this.cancelled.take()); // passed on
        }
        polled
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
