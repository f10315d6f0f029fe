//! A name for the future of an `async` block, which has no `Debug` of its own.

use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

pin_project! {
    #[must_use = "futures do nothing unless awaited"]
    pub(crate) struct Named<F> {
        name: &'static str,
        #[pin]
        future: F,
    }
}

pub(crate) fn named<F: Future>(name: &'static str, future: F) -> Named<F> {
    Named { name, future }
}

impl<F: Future> Future for Named<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

impl<F> fmt::Debug for Named<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.name).finish_non_exhaustive()
    }
}
