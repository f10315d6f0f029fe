//! A future that takes its runtime along.

use crate::runtime::Runtime;
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

impl Runtime {
    /// The same future, for which this runtime is current whenever it is polled, on whatever thread, and when it is
    /// dropped.
    ///
    /// For hosts that move tasks between threads: an [`Entered`](crate::Entered) guard must not be held across an await.
    /// Costs one small allocation a poll.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe** as far as `future` is: dropping this drops it.
    ///
    /// # Examples
    ///
    /// ```
    /// use evenloop_core::Runtime;
    ///
    /// let runtime = Runtime::builder("mine").build();
    /// let name = runtime.scope(async { Runtime::current().map(|current| current.name()) });
    /// assert_eq!(futures::executor::block_on(name), Some("mine"));
    /// ```
    pub fn scope<F: Future>(&self, future: F) -> Within<F> {
        Within { runtime: self.clone(), future: Some(future) }
    }
}

pin_project! {
    /// The future of [`Runtime::scope`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Within<F> {
        runtime: Runtime,
        // Empty only while this is dropped.
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Within<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let _entered = this.runtime.enter();
            this.future.set(None);
        }
    }
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = this.runtime.enter();
        this.future.as_pin_mut().expect("only the drop empties it").poll(cx)
    }
}

impl<F> fmt::Debug for Within<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Within [{}]", self.runtime.name())
    }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::task::Waker;

    #[test]
    fn its_runtime_is_current_while_it_is_polled_and_while_it_is_dropped() {
        struct Asks<'a>(&'a Cell<Option<&'static str>>);
        impl Drop for Asks<'_> {
            fn drop(&mut self) {
                self.0.set(Runtime::current().map(|runtime| runtime.name()));
            }
        }
        let seen = Cell::new(None);
        let asks = Asks(&seen);
        let mut scoped = Box::pin(Runtime::builder("mine").build().scope(async move {
            let asks = asks;
            asks.0.set(Runtime::current().map(|runtime| runtime.name()));
            std::future::pending::<()>().await
        }));
        assert!(scoped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!((seen.take(), Runtime::current().is_none()), (Some("mine"), true));
        drop(scoped);
        assert_eq!((seen.get(), Runtime::current().is_none()), (Some("mine"), true));
    }
}
