//! Giving way to the other tasks.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Lets every task that is ready now run once before this one goes on: exactly one pass of the loop goes by.
///
/// This is asyncio's `sleep(0)`. It makes no system call and reads no clock.
///
/// # Cancel safety
///
/// **Cancel safe.** There is nothing to lose.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, yield_now};
/// EventLoop::new().run_until_complete(async {
///     yield_now().await;
/// });
/// ```
#[doc(alias("sleep_zero", "lowlevel_checkpoint"))]
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// The future of [`yield_now`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
