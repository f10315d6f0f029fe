//! A connection's handler, and what becomes of its outcome.

use super::Shared;
use evenloop_core::shim::StdArc;
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// What a handler may answer: nothing, or a `Result` whose error is reported.
pub trait Outcome {
    /// The error, if there is one.
    fn into_error(self) -> Option<String>;
}

impl Outcome for () {
    fn into_error(self) -> Option<String> {
        None
    }
}

impl<E: fmt::Display> Outcome for Result<(), E> {
    fn into_error(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

pin_project! {
    /// A handler that nobody awaits: an error of it is reported. One that is cancelled ends silently, as in asyncio.
    pub(super) struct Reported<F> {
        #[pin]
        handler: F,
        shared: StdArc<Shared>,
    }
}

impl<F> Reported<F> {
    pub(super) fn new(handler: F, shared: StdArc<Shared>) -> Self {
        Self { handler, shared }
    }
}

impl<F: Future<Output: Outcome>> Future for Reported<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if let Some(error) = ready!(this.handler.poll(cx)).into_error() {
            (this.shared.on_error)(&format!("the handler of a connection failed: {error}"));
        }
        Poll::Ready(())
    }
}
