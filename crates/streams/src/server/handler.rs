//! A connection's handler, and what becomes of its outcome.

use super::Shared;
use evenloop_core::cancel::{CancelScope, Scope};
use evenloop_core::shim::StdArc;
use evenloop_core::{Asked, Member};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// What a handler may answer: nothing, or a `Result` whose error is reported.
pub trait HandlerOutcome {
    /// The error, if there is one.
    fn into_error(self) -> Option<String>;
}

impl HandlerOutcome for () {
    fn into_error(self) -> Option<String> {
        None
    }
}

impl<E: fmt::Display> HandlerOutcome for Result<(), E> {
    fn into_error(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

pin_project! {
    /// A connection's task: its handler in a scope of its own, and its place in the set.
    ///
    /// The scope is polled here and asked through the place, so that a connection that nobody asks anything has nothing
    /// allocated for being asked.
    pub(super) struct Connection<F> {
        // Dropped before the place (V1 of the server).
        #[pin]
        handler: Option<F>,
        scope: Scope,
        shared: StdArc<Shared>,
        place: Member<CancelScope>,
    }
}

impl<F> Connection<F> {
    /// Takes a place and calls the handler; neither if the server is closed.
    pub(super) fn enter(shared: &StdArc<Shared>, handler: impl FnOnce() -> F) -> Option<Self> {
        let place = shared.connections.enter(None)?;
        Some(Self { handler: Some(handler()), scope: Scope::new(), shared: shared.clone(), place })
    }
}

impl<F: Future<Output: HandlerOutcome>> Future for Connection<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if this.handler.is_none() {
            return Poll::Ready(());
        }
        loop {
            match this.place.asked(cx.waker()) {
                Asked::Nothing => break,
                Asked::ToEnd(cancellation) => this.scope.ask_by(&cancellation),
                Asked::ToBeDropped => {
                    this.handler.set(None);
                    return Poll::Ready(());
                }
            }
        }
        // One that is cancelled ends silently, as in asyncio.
        let outcome = ready!(this.scope.poll(this.handler.as_mut(), cx)).ok();
        this.handler.set(None);
        if let Some(error) = outcome.and_then(HandlerOutcome::into_error) {
            (this.shared.on_error)(&format!("the handler of a connection failed: {error}"));
        }
        Poll::Ready(())
    }
}
