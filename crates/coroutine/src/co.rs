//! The body's side: the handle it receives, and the future that stops it.
//!
//! The handle belongs to its body and cannot leave it: its lifetime is one that nobody outside can name (invariant F3
//! of `frame.rs`). `yield_` borrows it exclusively, so one body has one yield under way: joining two does not compile.
//!
//! The value is put into the exchange at once and offered by the first poll, so the future is one pointer and nothing
//! else:
//!
//! ```text
//! not polled ── poll: the value is offered ──► polled ── poll, once the resumer has answered ──► done
//!     └── drop: the exchange is emptied ──────────┘
//! ```

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::frame::{Lent, Link};

/// What a body yields through: received as its argument, and valid in it only.
///
/// `R` comes in with each resume, `Y` goes out with each yield. A body passes its handle on to functions that yield on
/// its behalf as `&mut Co<'_, R, Y>`.
///
/// # Examples
///
/// ```
/// use evenloop_coroutine::{Co, Coroutine};
///
/// async fn count_down(co: &mut Co<'_, (), u32>, from: u32) {
///     for n in (1..=from).rev() {
///         co.yield_(n).await;
///     }
/// }
///
/// let numbers = Coroutine::new(async |mut co| {
///     count_down(&mut co, 2).await;
///     count_down(&mut co, 3).await;
/// });
/// assert_eq!(numbers.collect::<Vec<_>>(), [2, 1, 3, 2, 1]);
/// ```
///
/// The handle cannot leave the body:
///
/// ```compile_fail
/// # use evenloop_coroutine::{Co, Coroutine};
/// let mut kept = None;
/// let escape = Coroutine::<(), (), _>::new(async |co| kept = Some(co));
/// ```
pub struct Co<'a, R, Y> {
    link: Link<'a, R, Y>,
}

impl<'a, R, Y> Co<'a, R, Y> {
    pub(crate) fn new(link: Link<'a, R, Y>) -> Self {
        Self { link }
    }

    /// Stops the body here and hands `value` to whoever resumes it; gives the value of the next resume.
    ///
    /// Where the resume type is a `Result`, an error is what was [thrown](crate::Coroutine::throw) in; in an
    /// [`AsyncGenerator`](crate::AsyncGenerator) it is [`Closed`](crate::Closed).
    ///
    /// # Cancel safety
    ///
    /// **Not cancel safe:** dropped after the value has been handed out, it loses the value of the resume that follows.
    /// Dropped before (in the same resume, as by a `select!` of which another branch is ready), it takes the value back
    /// and drops it: nothing was yielded.
    ///
    /// # Panics
    ///
    /// Never here, but there is a misuse that the resumer panics for, where the body stops next: when an earlier yield was
    /// polled and leaked (`mem::forget`) in the same resume, so that its value has not been taken, and when a yield is polled
    /// after it gave its value. The future is pending then.
    #[inline]
    pub fn yield_(&mut self, value: Y) -> Yield<'_, 'a, R, Y> {
        Yield { link: self.link.put_value(value) }
    }

    /// Takes the value that the first resume brought in, before any yield could receive it.
    ///
    /// `None` when it has been taken before. It is dropped if it still lies there at the first yield. An asynchronous
    /// generator begins without one.
    ///
    /// # Examples
    ///
    /// ```
    /// use evenloop_coroutine::{Coroutine, Resumed};
    ///
    /// let mut sum = Coroutine::new(async |mut co| {
    ///     let mut total: i32 = co.argument().expect("the first resume brings a number");
    ///     loop {
    ///         total += co.yield_(total).await;
    ///     }
    /// });
    /// # let sum: &mut Coroutine<i32, i32, (), _> = &mut sum;
    /// assert_eq!(sum.resume(1), Resumed::Yielded(1));
    /// assert_eq!(sum.resume(2), Resumed::Yielded(3));
    /// ```
    pub fn argument(&mut self) -> Option<R> {
        self.link.argument()
    }
}

impl<R, Y> fmt::Debug for Co<'_, R, Y> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Co")
    }
}

/// The future of [`Co::yield_`].
#[must_use = "nothing is yielded until this is awaited"]
pub struct Yield<'y, 'a, R, Y> {
    link: Lent<'y, 'a, R, Y>,
}

impl<R, Y> Future for Yield<'_, '_, R, Y> {
    type Output = R;

    /// Registers no waker: whoever resumes the body polls it.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<R> {
        self.link.poll()
    }
}

impl<R, Y> fmt::Debug for Yield<'_, '_, R, Y> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Yield")
    }
}
