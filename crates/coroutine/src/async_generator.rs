//! Asynchronous generators: a body that yields and awaits, read as a stream.
//!
//! The frame is the coroutine's; what goes in at each yield is whether the consumer wants more. The body's other awaits
//! get the consumer's own waker, unwrapped, so whatever it awaits behaves as if awaited in the consumer, and a
//! cancellation of the consumer is heard by whoever catches it in the body.
//!
//! Closing asks in the way that fits where the body stands:
//!
//! ```text
//!          next                     value                aclose: the yield gives Err(Closed)
//! Fresh ─────────► body runs ◄─────────────────► AtYield ──────────────────────────────► clean-up ──► Done
//!   │               │     ▲                                                                ▲           ▲
//!   │ aclose        │     └── next ──┐         aclose: cancelled, and somebody catches it  │           │
//!   └──► Done       └── Awaiting ────┴─────────────────────────────────────────────────────┘           │
//!                                    └── aclose: cancelled, and nobody catches it: dropped ────────────┘
//! ```
//!
//! G1. A value leaves the body only in the poll that returns it: dropping `next` loses nothing.
//! G2. One yield hears `Err(Closed)`. A body that yields after that is closed, and `aclose` panics. If the yield is
//!     dropped before it hears it, as by a `select!`, the next is given it.
//! G3. Once closing has begun, the stream is at its end for its consumer, whatever the body still does.
//! G4. A body that awaits when closing begins is polled inside a cancel scope from then on, first once without a
//!     request, so that its catchers join the scope, then with one. The scope is kept until the body yields or ends.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use evenloop_core::cancel::Scope;
use futures_core::Stream;
use futures_core::stream::FusedStream;
use pin_project_lite::pin_project;

use crate::Co;
use crate::frame::{Frame, Outcome, Phase, Start};

/// What a yield gives when nobody will ask for another value: the body may await its clean-up, and returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the generator is being closed")
    }
}

impl Error for Closed {}

/// What the body of an asynchronous generator may return: nothing, or that it was closed.
///
/// As in Python, the end of such a generator carries no value. A fallible generator yields `Result`s.
#[diagnostic::on_unimplemented(
    message = "the body of an asynchronous generator returns nothing, not `{Self}`",
    note = "it may return `()` or `Result<(), Closed>`; yield what the consumer has to know",
    note = "`!` means that the body never returns: leave its loop when `yield_` gives `Err(Closed)`"
)]
pub trait Ending: sealed::Ending {}

impl Ending for () {}
impl Ending for Result<(), Closed> {}

mod sealed {
    pub trait Ending {}
    impl Ending for () {}
    impl Ending for Result<(), super::Closed> {}
}

/// How far closing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// Begun; the body does not know yet.
    Begun,
    /// Its scope has been asked to end.
    Asked,
    /// A yield has been given `Err(Closed)`.
    Told,
}

// === PinnedAsyncGenerator ===

pin_project! {
    /// An asynchronous generator in place: on the stack or inside another future, without any allocation.
    ///
    /// [`AsyncGenerator`] explains what the methods do; here they ask for a pinned reference.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::pin::pin;
    /// use evenloop_coroutine::PinnedAsyncGenerator;
    ///
    /// # futures::executor::block_on(async {
    /// let mut squares = pin!(PinnedAsyncGenerator::new(async |mut co| {
    ///     for n in 1..=2 {
    ///         co.yield_(n * n).await?;
    ///     }
    ///     Ok(())
    /// }));
    /// assert_eq!(squares.as_mut().next().await, Some(1));
    /// assert_eq!(squares.as_mut().next().await, Some(4));
    /// assert_eq!(squares.as_mut().next().await, None);
    /// # });
    /// ```
    #[must_use = "a generator does nothing until it is asked for a value"]
    pub struct PinnedAsyncGenerator<Y, B: ?Sized> {
        closing: Closing,
        // Around a body that awaits while it is being closed (G4).
        scope: Option<Box<Scope>>,
        #[pin]
        frame: Frame<Result<(), Closed>, Y, B>,
    }
}

impl<Y> PinnedAsyncGenerator<Y, ()> {
    /// Sets up a generator; `body` begins to run when the first value is asked for.
    pub fn new<T, S>(body: S) -> PinnedAsyncGenerator<Y, impl Future<Output = ()>>
    where
        S: for<'a> AsyncFnOnce(Co<'a, Result<(), Closed>, Y>) -> T + Start<Result<(), Closed>, Y>,
        T: Ending,
    {
        PinnedAsyncGenerator { closing: Closing::No, scope: None, frame: Frame::new(body, drop) }
    }
}

impl<Y, B: ?Sized + Future<Output = ()>> PinnedAsyncGenerator<Y, B> {
    /// See [`AsyncGenerator::next`].
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** As there.
    ///
    /// # Panics
    ///
    /// As there.
    pub fn next(self: Pin<&mut Self>) -> Next<'_, Y, B> {
        Next { generator: self }
    }

    /// See [`AsyncGenerator::aclose`].
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** As there.
    ///
    /// # Panics
    ///
    /// As there.
    pub fn aclose(self: Pin<&mut Self>) -> Aclose<'_, Y, B> {
        Aclose { generator: self }
    }

    /// See [`AsyncGenerator::close`].
    pub fn close(self: Pin<&mut Self>) {
        self.project().frame.close();
    }

    /// See [`AsyncGenerator::done`].
    pub fn done(&self) -> bool {
        self.frame.phase() == Phase::Done
    }

    fn poll_aclose(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let frame = &mut this.frame;
        loop {
            if frame.phase() == Phase::Fresh {
                frame.as_mut().close();
            }
            if frame.phase() == Phase::Done && this.scope.as_ref().is_none_or(|scope| scope.is_running()) {
                *this.scope = None; // of a body that was closed or panicked inside it
                return Poll::Ready(());
            }
            let at_yield = frame.phase() == Phase::AtYield;
            if at_yield {
                *this.closing = Closing::Told;
            }
            if *this.closing == Closing::Told {
                let answer = at_yield.then(|| {
                    frame.as_mut().take_missed();
                    Err(Closed)
                });
                if ready!(Step(frame.as_mut()).poll_step(answer, cx)).is_some() {
                    if frame.as_mut().take_missed() {
                        // G2. Not in this poll: a body that never listens would never let go of the thread.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    frame.as_mut().close();
                    panic!(
                        "the body of an `AsyncGenerator` yielded after a `yield_` had given `Err(Closed)`; it has \
                         been closed. It may await its clean-up then, but not yield"
                    )
                }
                continue;
            }
            if *this.closing == Closing::No {
                *this.closing = Closing::Begun;
            }
            // G4. What the scope takes is this step; the body is dropped after it, and the scope polled to its end.
            let scope = this.scope.get_or_insert_default();
            let waiting = frame.phase() != Phase::Done;
            let mut step = waiting.then_some(Step(frame.as_mut()));
            let polled = scope.poll(Pin::new(&mut step), cx);
            let taken = step.is_none() && !matches!(polled, Poll::Ready(Ok(_)));
            if taken {
                frame.as_mut().close();
            }
            match polled {
                Poll::Ready(_) => *this.scope = None,
                Poll::Pending if taken || *this.closing == Closing::Asked => return Poll::Pending,
                Poll::Pending => {
                    *this.closing = Closing::Asked;
                    scope.ask("the generator is being closed");
                }
            }
        }
    }
}

/// A run of the body to its next stop: the value that it yields, or `None` if it is done. A panic in it leaves the body
/// dropped.
struct Step<'f, Y, B: ?Sized>(Pin<&'f mut Frame<Result<(), Closed>, Y, B>>);

impl<Y, B: ?Sized + Future<Output = ()>> Step<'_, Y, B> {
    #[inline]
    fn poll_step(&mut self, answer: Option<Result<(), Closed>>, cx: &mut Context<'_>) -> Poll<Option<Y>> {
        match self.0.as_mut().proceed(answer, cx) {
            Outcome::Yielded(value) => Poll::Ready(Some(value)),
            Outcome::Returned(()) => Poll::Ready(None),
            Outcome::Waiting => Poll::Pending,
            Outcome::Unheard => {
                self.0.as_mut().close();
                panic!(
                    "the body of an `AsyncGenerator` did not poll its `yield_` when it went on, so nobody would ever; \
                     it has been closed. Await a `yield_` directly or in `join!` and `select!`, not in a \
                     `FuturesUnordered`, which polls only what was woken"
                )
            }
        }
    }
}

impl<Y, B: ?Sized + Future<Output = ()>> Future for Step<'_, Y, B> {
    type Output = Option<Y>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Y>> {
        self.poll_step(None, cx)
    }
}

impl<Y, B: ?Sized + Future<Output = ()>> Stream for PinnedAsyncGenerator<Y, B> {
    type Item = Y;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Y>> {
        let this = self.project();
        let frame = this.frame;
        if *this.closing != Closing::No {
            return Poll::Ready(None);
        }
        let answer = match frame.phase() {
            Phase::Done => return Poll::Ready(None),
            Phase::AtYield => Some(Ok(())),
            Phase::Fresh | Phase::Awaiting => None,
        };
        Step(frame).poll_step(answer, cx)
    }
}

impl<Y, B: ?Sized + Future<Output = ()>> FusedStream for PinnedAsyncGenerator<Y, B> {
    fn is_terminated(&self) -> bool {
        self.closing != Closing::No || self.done()
    }
}

impl<Y, B: ?Sized> fmt::Debug for PinnedAsyncGenerator<Y, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_state(f, "PinnedAsyncGenerator", self)
    }
}

fn write_state<Y, B: ?Sized>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    generator: &PinnedAsyncGenerator<Y, B>,
) -> fmt::Result {
    let phase = generator.frame.phase();
    let closing = if generator.closing != Closing::No && phase != Phase::Done { ", closing" } else { "" };
    write!(f, "{name} [{phase}{closing}]")
}

// === AsyncGenerator ===

/// A body that yields values and awaits other futures in between: a stream that is written as a loop.
///
/// It runs inside whoever asks for the next value, under any executor, and needs none of its own. It is a
/// [`Stream`]; [`next`](Self::next) is here for those who need no more.
///
/// `yield_` gives `Ok(())` when the next value is asked for, and [`Err(Closed)`](Closed) when the generator is closed
/// with [`aclose`](Self::aclose): the body leaves its loop and awaits its clean-up. With `?` that is one character.
///
/// # When the consumer leaves early
///
/// | how                                       | what the body's destructors do | what the body may still await          |
/// |-------------------------------------------|--------------------------------|----------------------------------------|
/// | [`aclosing`](crate::aclosing)             | they run                       | its clean-up, before `aclosing` is done |
/// | `generator.aclose().await`                | they run                       | its clean-up, before `aclose` is done  |
/// | `generator.close()`, or it is dropped     | they run at once               | nothing: a drop cannot wait            |
///
/// # Examples
///
/// ```
/// use evenloop_coroutine::AsyncGenerator;
/// # use futures::future::ready as fetch;
///
/// # futures::executor::block_on(async {
/// let mut closed = false;
/// let mut pages = AsyncGenerator::new(async |mut co| {
///     let mut number = 1;
///     while co.yield_(fetch(number).await).await.is_ok() {
///         number += 1;
///     }
///     closed = fetch(true).await; // the clean-up
/// });
/// while let Some(page) = pages.next().await {
///     if page == 3 {
///         break;
///     }
/// }
/// pages.aclose().await;
/// drop(pages);
/// assert!(closed);
/// # });
/// ```
#[must_use = "a generator does nothing until it is asked for a value"]
#[doc(alias = "async_stream")]
pub struct AsyncGenerator<Y, B: ?Sized = dyn Future<Output = ()>> {
    inner: Pin<Box<PinnedAsyncGenerator<Y, B>>>,
}

/// An [`AsyncGenerator`] whose body is hidden; it stays on its thread and may borrow for `'a`.
pub type LocalAsyncGenerator<'a, Y> = AsyncGenerator<Y, dyn Future<Output = ()> + 'a>;

/// An [`AsyncGenerator`] whose body is hidden; it may go to other threads and may borrow for `'a`.
pub type SendAsyncGenerator<'a, Y> = AsyncGenerator<Y, dyn Future<Output = ()> + Send + 'a>;

impl<Y> AsyncGenerator<Y> {
    /// Sets up a generator, in one allocation; `body` begins to run when the first value is asked for.
    pub fn new<T, S>(body: S) -> AsyncGenerator<Y, impl Future<Output = ()>>
    where
        S: for<'a> AsyncFnOnce(Co<'a, Result<(), Closed>, Y>) -> T + Start<Result<(), Closed>, Y>,
        T: Ending,
    {
        AsyncGenerator { inner: Box::pin(PinnedAsyncGenerator::new(body)) }
    }
}

impl<Y, B: Future<Output = ()>> AsyncGenerator<Y, B> {
    /// Hides the body's type and keeps that it may go to another thread. Allocates nothing.
    pub fn boxed<'a>(self) -> SendAsyncGenerator<'a, Y>
    where
        B: Send + 'a,
    {
        AsyncGenerator { inner: self.inner }
    }

    /// Hides the body's type. Allocates nothing.
    pub fn boxed_local<'a>(self) -> LocalAsyncGenerator<'a, Y>
    where
        B: 'a,
    {
        AsyncGenerator { inner: self.inner }
    }
}

impl<Y, B: ?Sized + Future<Output = ()>> AsyncGenerator<Y, B> {
    /// Waits for the next value; `None` at the end, and after that.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Dropped while waiting, it leaves the body at its await; the next call goes on from there. No
    /// value is lost.
    ///
    /// # Panics
    ///
    /// If the body panics, or does not poll its pending yield when it goes on (a `FuturesUnordered` does that). It has
    /// then been dropped, and the stream is at its end.
    #[expect(clippy::should_implement_trait, reason = "the name that every stream has for it")]
    pub fn next(&mut self) -> Next<'_, Y, B> {
        self.inner.as_mut().next()
    }

    /// Closes the generator and waits until its body has cleaned up.
    ///
    /// - The body stands at a yield: that yield gives [`Closed`], and the body is driven to its end.
    /// - It stands at another await, because a `next` was dropped: it is cancelled there. Whoever catches that in the body
    ///   (see [`evenloop_core::cancel`]) may await a clean-up; if nobody does, the body is dropped. A body that absorbs it
    ///   and goes on gets `Closed` from its next yield, whose value is dropped. This takes one allocation.
    /// - It has not begun: it never does. It has ended: nothing happens.
    ///
    /// From the first poll on, the stream is at its end.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Dropped while waiting, it leaves the body in the midst of its clean-up; another `aclose` goes on
    /// from there, and dropping the generator drops the body. The clean-up itself is cancelled with the task that waits
    /// for it, like any other code of that task.
    ///
    /// # Panics
    ///
    /// If the body panics, or yields after a yield gave `Closed`. It has then been dropped.
    pub fn aclose(&mut self) -> Aclose<'_, Y, B> {
        self.inner.as_mut().aclose()
    }

    /// Ends the generator where it stands, without waiting: the body is dropped before this returns.
    ///
    /// # Panics
    ///
    /// If a destructor panics. The generator has ended all the same.
    pub fn close(&mut self) {
        self.inner.as_mut().close();
    }

    /// Whether the body has ended: returned, was closed, or panicked.
    pub fn done(&self) -> bool {
        self.inner.done()
    }
}

impl<Y, B: ?Sized + Future<Output = ()>> Stream for AsyncGenerator<Y, B> {
    type Item = Y;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Y>> {
        self.inner.as_mut().poll_next(cx)
    }
}

impl<Y, B: ?Sized + Future<Output = ()>> FusedStream for AsyncGenerator<Y, B> {
    fn is_terminated(&self) -> bool {
        self.inner.is_terminated()
    }
}

impl<Y, B: ?Sized> fmt::Debug for AsyncGenerator<Y, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_state(f, "AsyncGenerator", &self.inner)
    }
}

// === The futures ===

/// The future of [`AsyncGenerator::next`].
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub struct Next<'g, Y, B: ?Sized> {
    generator: Pin<&'g mut PinnedAsyncGenerator<Y, B>>,
}

impl<Y, B: ?Sized + Future<Output = ()>> Future for Next<'_, Y, B> {
    type Output = Option<Y>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Y>> {
        self.generator.as_mut().poll_next(cx)
    }
}

/// The future of [`AsyncGenerator::aclose`].
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub struct Aclose<'g, Y, B: ?Sized> {
    generator: Pin<&'g mut PinnedAsyncGenerator<Y, B>>,
}

impl<Y, B: ?Sized + Future<Output = ()>> Future for Aclose<'_, Y, B> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.generator.as_mut().poll_aclose(cx)
    }
}
