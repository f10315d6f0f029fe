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
//! G5. Once closing has begun, the body stands at no yield between two polls: if it is to hear from one, its answer lies
//!     there. So a `next` asks whether it has begun only where it does not stand at a yield.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use evenloop_core::cancel::Scope;
use futures_core::Stream;
use futures_core::stream::FusedStream;
use pin_project_lite::pin_project;

use crate::Co;
use crate::frame::{Body, Closing, Held, Phase, Start, Stop, frame};

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

/// The body of an asynchronous generator, as a type: where no more than this is said of it, it is `impl AsyncBody` or
/// `dyn AsyncBody`.
///
/// `Y` is what it yields. What [`PinnedAsyncGenerator::new`] makes of an async closure is one, and nothing else.
pub trait AsyncBody<Y>: Held<Result<(), Closed>> {
    /// Lets it run to the next value that it yields, or to its end: `None`. Where it stands at a yield, that gives
    /// `Ok(())`. Once closing has begun, it does not run.
    #[doc(hidden)]
    fn poll_value(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Y>>;

    /// The same once closing has begun: that is left unasked.
    #[doc(hidden)]
    fn poll_closing(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Y>> {
        let closing = self.closing();
        self.as_mut().set_closing(Closing::No);
        let polled = self.as_mut().poll_value(cx);
        self.set_closing(closing);
        polled
    }
}

impl<Y, B: Body<Result<(), Closed>, Y, Return = ()>> AsyncBody<Y> for B {
    #[inline]
    fn poll_value(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Y>> {
        match self.resume_in(Ok(()), false, cx) {
            Stop::Yielded(value) => Poll::Ready(Some(value)),
            Stop::Returned(()) | Stop::Refused(_) => Poll::Ready(None),
            Stop::Waiting => Poll::Pending,
            Stop::Unheard => unheard(),
        }
    }
}

#[cold]
fn unheard() -> ! {
    panic!(
        "the body of an `AsyncGenerator` did not poll its `yield_` when it went on, so nobody would ever; it has been \
         closed. Await a `yield_` directly or in `join!` and `select!`, not in a `FuturesUnordered`, which polls only \
         what was woken"
    )
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
        yielded: PhantomData<fn() -> Y>,
        // Around a body that awaits while it is being closed (G4).
        scope: Option<Box<Scope>>,
        #[pin]
        body: B,
    }
}

impl<Y> PinnedAsyncGenerator<Y, ()> {
    /// Sets up a generator; `body` begins to run when the first value is asked for.
    pub fn new<T, S>(body: S) -> PinnedAsyncGenerator<Y, impl AsyncBody<Y>>
    where
        S: for<'a> AsyncFnOnce(Co<'a, Result<(), Closed>, Y>) -> T + Start<Result<(), Closed>, Y>,
        T: Ending,
    {
        PinnedAsyncGenerator { yielded: PhantomData, scope: None, body: frame(body, drop) }
    }
}

impl<Y, B: ?Sized + AsyncBody<Y>> PinnedAsyncGenerator<Y, B> {
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
        self.project().body.close();
    }

    /// See [`AsyncGenerator::done`].
    pub fn done(&self) -> bool {
        self.body.phase() == Phase::Done
    }

    fn poll_aclose(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let (mut body, scope) = (this.body, this.scope);
        loop {
            match body.phase() {
                Phase::Fresh => body.as_mut().close(),
                Phase::AtYield => {
                    body.as_mut().take_missed();
                    body.as_mut().set_closing(Closing::Told);
                    body.as_mut().answer(Err(Closed));
                }
                Phase::Awaiting | Phase::Done => {}
            }
            if body.phase() == Phase::Done && scope.as_ref().is_none_or(|scope| scope.is_running()) {
                *scope = None; // of a body that was closed or panicked inside it
                return Poll::Ready(());
            }
            if body.closing() == Closing::Told {
                if ready!(body.as_mut().poll_closing(cx)).is_some() {
                    if body.as_mut().take_missed() {
                        // G2. Not in this poll: a body that never listens would never let go of the thread.
                        body.as_mut().answer(Err(Closed)); // G5
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    body.as_mut().close();
                    panic!(
                        "the body of an `AsyncGenerator` yielded after a `yield_` had given `Err(Closed)`; it has \
                         been closed. It may await its clean-up then, but not yield"
                    )
                }
                continue;
            }
            if body.closing() == Closing::No {
                body.as_mut().set_closing(Closing::Begun);
            }
            // G4. What the scope takes is this step; the body is dropped after it, and the scope polled to its end.
            let around = scope.get_or_insert_default();
            let waiting = body.phase() != Phase::Done;
            let mut step = waiting.then_some(Step { body: body.as_mut(), yielded: PhantomData });
            let polled = around.poll(Pin::new(&mut step), cx);
            let taken = step.is_none() && !matches!(polled, Poll::Ready(Ok(_)));
            if taken {
                body.as_mut().close();
            }
            match polled {
                Poll::Ready(_) => *scope = None,
                Poll::Pending if taken || body.closing() == Closing::Asked => return Poll::Pending,
                Poll::Pending => {
                    body.as_mut().set_closing(Closing::Asked);
                    around.ask("the generator is being closed");
                }
            }
        }
    }
}

/// A step of a body that is being closed, as a future.
struct Step<'f, Y, B: ?Sized> {
    body: Pin<&'f mut B>,
    yielded: PhantomData<fn() -> Y>,
}

impl<Y, B: ?Sized + AsyncBody<Y>> Future for Step<'_, Y, B> {
    type Output = Option<Y>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Y>> {
        self.body.as_mut().poll_closing(cx)
    }
}

impl<Y, B: ?Sized + AsyncBody<Y>> Stream for PinnedAsyncGenerator<Y, B> {
    type Item = Y;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Y>> {
        self.project().body.poll_value(cx)
    }
}

impl<Y, B: ?Sized + AsyncBody<Y>> FusedStream for PinnedAsyncGenerator<Y, B> {
    fn is_terminated(&self) -> bool {
        self.body.closing() != Closing::No || self.done()
    }
}

impl<Y, B: ?Sized + AsyncBody<Y>> fmt::Debug for PinnedAsyncGenerator<Y, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_state(f, "PinnedAsyncGenerator", self)
    }
}

fn write_state<Y, B: ?Sized + AsyncBody<Y>>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    generator: &PinnedAsyncGenerator<Y, B>,
) -> fmt::Result {
    let phase = generator.body.phase();
    let closing =
        if generator.body.closing() != Closing::No && phase != Phase::Done { ", closing" } else { "" };
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
pub struct AsyncGenerator<Y, B: ?Sized + AsyncBody<Y> = dyn AsyncBody<Y>> {
    inner: Pin<Box<PinnedAsyncGenerator<Y, B>>>,
}

/// An [`AsyncGenerator`] whose body is hidden; it stays on its thread and may borrow for `'a`.
pub type LocalAsyncGenerator<'a, Y> = AsyncGenerator<Y, dyn AsyncBody<Y> + 'a>;

/// An [`AsyncGenerator`] whose body is hidden; it may go to other threads and may borrow for `'a`.
pub type SendAsyncGenerator<'a, Y> = AsyncGenerator<Y, dyn AsyncBody<Y> + Send + 'a>;

impl<Y> AsyncGenerator<Y> {
    /// Sets up a generator, in one allocation; `body` begins to run when the first value is asked for.
    ///
    /// A function or a field that has to name the type hides the body: [`boxed`](AsyncGenerator::boxed) gives a
    /// [`SendAsyncGenerator`], [`boxed_local`](AsyncGenerator::boxed_local) a [`LocalAsyncGenerator`].
    pub fn new<T, S>(body: S) -> AsyncGenerator<Y, impl AsyncBody<Y>>
    where
        S: for<'a> AsyncFnOnce(Co<'a, Result<(), Closed>, Y>) -> T + Start<Result<(), Closed>, Y>,
        T: Ending,
    {
        AsyncGenerator { inner: Box::pin(PinnedAsyncGenerator::new(body)) }
    }
}

impl<Y, B: AsyncBody<Y>> AsyncGenerator<Y, B> {
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

impl<Y, B: ?Sized + AsyncBody<Y>> AsyncGenerator<Y, B> {
    /// Waits for the next value; `None` at the end, and after that.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Dropped while waiting, it leaves the body at its await; the next call goes on from there. No
    /// value is lost.
    ///
    /// # Panics
    ///
    /// If the body panics, polls a yield that has given its value, yields again after it has polled a yield and leaked it, or
    /// waits on without polling its pending yield (a `FuturesUnordered` does that). The stream is then at its end, and what an async block held has been dropped; another
    /// future is dropped with the generator at the latest.
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
    /// As [`next`](Self::next), and if the body yields after a yield gave `Closed`. It has then been dropped.
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

impl<Y, B: ?Sized + AsyncBody<Y>> Stream for AsyncGenerator<Y, B> {
    type Item = Y;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Y>> {
        self.inner.as_mut().poll_next(cx)
    }
}

impl<Y, B: ?Sized + AsyncBody<Y>> FusedStream for AsyncGenerator<Y, B> {
    fn is_terminated(&self) -> bool {
        self.inner.is_terminated()
    }
}

impl<Y, B: ?Sized + AsyncBody<Y>> fmt::Debug for AsyncGenerator<Y, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_state(f, "AsyncGenerator", &self.inner)
    }
}

// === The futures ===

/// The future of [`AsyncGenerator::next`].
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub struct Next<'g, Y, B: ?Sized + AsyncBody<Y>> {
    generator: Pin<&'g mut PinnedAsyncGenerator<Y, B>>,
}

impl<Y, B: ?Sized + AsyncBody<Y>> Future for Next<'_, Y, B> {
    type Output = Option<Y>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Y>> {
        self.generator.as_mut().poll_next(cx)
    }
}

/// The future of [`AsyncGenerator::aclose`].
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub struct Aclose<'g, Y, B: ?Sized + AsyncBody<Y>> {
    generator: Pin<&'g mut PinnedAsyncGenerator<Y, B>>,
}

impl<Y, B: ?Sized + AsyncBody<Y>> Future for Aclose<'_, Y, B> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.generator.as_mut().poll_aclose(cx)
    }
}
