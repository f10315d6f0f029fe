//! Coroutines: a body that stops at each `yield_` and goes on at the next `resume`.
//!
//! There is one machine, the frame, and three ways to hold it:
//!
//! | form                                  | where the body lives          | its type          | moves       |
//! |---------------------------------------|-------------------------------|-------------------|-------------|
//! | [`PinnedCoroutine`]                   | in place, nothing allocated   | known to rustc    | not at all  |
//! | [`Coroutine`] as `new` returns it     | one allocation                | known to rustc    | freely      |
//! | [`LocalCoroutine`], [`SendCoroutine`] | the same allocation           | hidden by a `dyn` | freely      |
//!
//! Each is `Send` if the body's variables and the values exchanged are, except `LocalCoroutine`, and always `Sync`.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;

use pin_project_lite::pin_project;

use crate::Co;
use crate::frame::{Body, Phase, Start, Stop, frame};

/// What a resumed coroutine answers.
///
/// # Examples
///
/// ```
/// use evenloop_coroutine::{Coroutine, Resumed};
///
/// let mut once = Coroutine::new(async |mut co| {
///     co.yield_(1).await;
///     "the end"
/// });
/// assert_eq!(once.resume(()), Resumed::Yielded(1));
/// assert_eq!(once.resume(()).returned(), Some("the end"));
/// ```
#[must_use = "the coroutine may have returned"]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resumed<Y, T> {
    /// It stopped at a yield, with this value.
    Yielded(Y),
    /// It returned this value. It cannot be resumed any more.
    Returned(T),
}

impl<Y, T> Resumed<Y, T> {
    /// The yielded value, if it is one.
    pub fn yielded(self) -> Option<Y> {
        match self {
            Resumed::Yielded(value) => Some(value),
            Resumed::Returned(_) => None,
        }
    }

    /// The returned value, if it is one.
    pub fn returned(self) -> Option<T> {
        match self {
            Resumed::Yielded(_) => None,
            Resumed::Returned(value) => Some(value),
        }
    }
}

/// The coroutine had ended: what was to be sent comes back.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Exhausted<R>(pub R);

impl<R> fmt::Debug for Exhausted<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exhausted")
    }
}

impl<R> fmt::Display for Exhausted<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the coroutine has ended: it returned, was closed, or panicked")
    }
}

impl<R> Error for Exhausted<R> {}

// === PinnedCoroutine ===

pin_project! {
    /// A coroutine in place: on the stack or inside another value, without any allocation.
    ///
    /// [`Coroutine`] explains what the methods do; here they ask for a pinned reference.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::pin::pin;
    /// use evenloop_coroutine::{PinnedCoroutine, Resumed};
    ///
    /// let mut echo = pin!(PinnedCoroutine::new(async |mut co| {
    ///     let name: &str = co.yield_("who?").await;
    ///     name.len()
    /// }));
    /// assert_eq!(echo.as_mut().resume(""), Resumed::Yielded("who?"));
    /// assert_eq!(echo.as_mut().resume("Ada"), Resumed::Returned(3));
    /// ```
    ///
    /// It is pinned for good, since its body points into it. One that may still move cannot be resumed:
    ///
    /// ```compile_fail,E0277
    /// # use std::pin::Pin;
    /// # use evenloop_coroutine::PinnedCoroutine;
    /// let mut body = PinnedCoroutine::new(async |mut co| co.yield_("moved?").await);
    /// let _ = Pin::new(&mut body).resume(());
    /// ```
    #[must_use = "a coroutine does nothing until it is resumed"]
    pub struct PinnedCoroutine<R, Y, B: ?Sized> {
        exchanged: PhantomData<fn(R) -> Y>,
        #[pin]
        body: B,
    }
}

impl<R, Y> PinnedCoroutine<R, Y, ()> {
    /// Sets up a coroutine; `body` begins to run at the first resume.
    pub fn new<T, S>(body: S) -> PinnedCoroutine<R, Y, impl Body<R, Y, Return = T>>
    where
        S: for<'a> AsyncFnOnce(Co<'a, R, Y>) -> T + Start<R, Y, Future: Future<Output = T>>,
    {
        PinnedCoroutine { exchanged: PhantomData, body: frame(body, |value| value) }
    }
}

impl<R, Y, B: ?Sized + Body<R, Y>> PinnedCoroutine<R, Y, B> {
    /// See [`Coroutine::done`].
    pub fn done(&self) -> bool {
        self.body.phase() == Phase::Done
    }

    /// See [`Coroutine::close`].
    pub fn close(self: Pin<&mut Self>) {
        self.project().body.close();
    }
}

impl<R, Y, B: ?Sized + Body<R, Y>> PinnedCoroutine<R, Y, B> {
    /// See [`Coroutine::resume`].
    ///
    /// # Panics
    ///
    /// As there.
    #[inline]
    #[track_caller]
    pub fn resume(self: Pin<&mut Self>, value: R) -> Resumed<Y, B::Return> {
        match self.try_resume(value) {
            Ok(resumed) => resumed,
            Err(Exhausted(_)) => panic!(
                "`Coroutine::resume` was called on a coroutine that has ended; ask `done` before, or call \
                 `try_resume`, which gives the value back"
            ),
        }
    }

    /// See [`Coroutine::try_resume`].
    ///
    /// # Errors
    ///
    /// # Panics
    ///
    /// As there.
    #[inline]
    #[track_caller]
    pub fn try_resume(self: Pin<&mut Self>, value: R) -> Result<Resumed<Y, B::Return>, Exhausted<R>> {
        let mut body = self.project().body;
        match body.as_mut().resume(value) {
            Stop::Yielded(value) => Ok(Resumed::Yielded(value)),
            Stop::Returned(value) => Ok(Resumed::Returned(value)),
            Stop::Refused(value) => Err(Exhausted(value)),
            Stop::Waiting => {
                body.close();
                panic!(
                    "the body of a `Coroutine` awaited something other than its own `yield_`, which nobody would \
                     wake; it has been closed. A body that awaits other futures is an `AsyncGenerator`"
                )
            }
            Stop::Unheard => panic!(
                "the body of a `Coroutine` did not poll its `yield_` when it went on; it has been closed. Await a \
                 `yield_` directly, not in a `FuturesUnordered`, which polls only what was woken"
            ),
        }
    }
}

impl<V, E, Y, B: ?Sized + Body<Result<V, E>, Y>> PinnedCoroutine<Result<V, E>, Y, B> {
    /// See [`Coroutine::send`].
    ///
    /// # Panics
    ///
    /// As there.
    #[track_caller]
    pub fn send(self: Pin<&mut Self>, value: V) -> Resumed<Y, B::Return> {
        self.resume(Ok(value))
    }

    /// See [`Coroutine::throw`].
    ///
    /// # Errors
    ///
    /// # Panics
    ///
    /// As there.
    #[track_caller]
    pub fn throw(mut self: Pin<&mut Self>, error: E) -> Result<Resumed<Y, B::Return>, E> {
        match self.body.phase() {
            Phase::AtYield => Ok(self.resume(Err(error))),
            Phase::Fresh | Phase::Awaiting | Phase::Done => {
                self.as_mut().close();
                Err(error)
            }
        }
    }
}

impl<Y, B: ?Sized + Body<(), Y>> PinnedCoroutine<(), Y, B> {
    /// See [`Coroutine::values`].
    pub fn values(self: Pin<&mut Self>) -> Values<'_, Y, B> {
        Values { coroutine: self, returned: None }
    }
}

impl<R, Y, B: ?Sized + Body<R, Y>> fmt::Debug for PinnedCoroutine<R, Y, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinnedCoroutine [{}]", self.body.phase())
    }
}

// === Coroutine ===

/// A body that stops at each `yield_` and goes on at the next `resume`.
///
/// Python's generator as a coroutine: `R` goes in with each resume, `Y` comes out with each yield, `T` at the end. The
/// body is an async closure that gets a handle, [`Co`]; it runs on the resumer's stack, and only while it is resumed.
///
/// `B` is the body's type. Left out, it is hidden, so that coroutines of different bodies have one type: see
/// [`boxed_local`](Self::boxed_local) and [`boxed`](Self::boxed).
///
/// Being resumed while it runs cannot be written: `resume` borrows exclusively. Dropping a coroutine closes it.
///
/// # Examples
///
/// ```
/// use evenloop_coroutine::{Coroutine, Resumed};
///
/// let mut average = Coroutine::new(async |mut co| {
///     let (mut sum, mut count) = (0.0, 0);
///     let mut next: Option<f64> = co.argument().flatten();
///     while let Some(number) = next {
///         (sum, count) = (sum + number, count + 1);
///         next = co.yield_(sum / f64::from(count)).await;
///     }
///     count
/// });
/// assert_eq!(average.resume(Some(10.0)), Resumed::Yielded(10.0));
/// assert_eq!(average.resume(Some(20.0)), Resumed::Yielded(15.0));
/// assert_eq!(average.resume(None), Resumed::Returned(2));
/// assert_eq!(average.try_resume(Some(1.0)).unwrap_err().0, Some(1.0));
/// ```
///
/// A reference to a variable of the body cannot be yielded, since it would outlive the variable:
///
/// ```compile_fail
/// # use evenloop_coroutine::Coroutine;
/// let mut names = Coroutine::<(), &str, _>::new(async |mut co| {
///     let name = String::from("Ada");
///     co.yield_(&name).await;
/// });
/// ```
#[must_use = "a coroutine does nothing until it is resumed"]
#[doc(alias = "generator")]
pub struct Coroutine<R, Y, T, B: ?Sized + Body<R, Y, Return = T> = dyn Body<R, Y, Return = T>> {
    inner: Pin<Box<PinnedCoroutine<R, Y, B>>>,
    returns: PhantomData<fn() -> T>,
}

/// A [`Coroutine`] whose body is hidden; it stays on its thread and may borrow for `'a`.
pub type LocalCoroutine<'a, R, Y, T> = Coroutine<R, Y, T, dyn Body<R, Y, Return = T> + 'a>;

/// A [`Coroutine`] whose body is hidden; it may be resumed on any thread and may borrow for `'a`.
pub type SendCoroutine<'a, R, Y, T> = Coroutine<R, Y, T, dyn Body<R, Y, Return = T> + Send + 'a>;

impl<R, Y, T> Coroutine<R, Y, T> {
    /// Sets up a coroutine, in one allocation; `body` begins to run at the first resume.
    ///
    /// The value of that resume is [`Co::argument`].
    pub fn new<S>(body: S) -> Coroutine<R, Y, T, impl Body<R, Y, Return = T>>
    where
        S: for<'a> AsyncFnOnce(Co<'a, R, Y>) -> T + Start<R, Y, Future: Future<Output = T>>,
    {
        Coroutine { inner: Box::pin(PinnedCoroutine::new(body)), returns: PhantomData }
    }
}

impl<R, Y, T, B: Body<R, Y, Return = T>> Coroutine<R, Y, T, B> {
    /// Hides the body's type and keeps that it may go to another thread. Allocates nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use evenloop_coroutine::{Coroutine, SendCoroutine};
    ///
    /// let mut both: Vec<SendCoroutine<'_, (), u8, ()>> = vec![
    ///     Coroutine::new(async |mut co| co.yield_(1).await).boxed(),
    ///     Coroutine::new(async |mut co| co.yield_(2).await).boxed(),
    /// ];
    /// let there = std::thread::spawn(move || both.iter_mut().filter_map(Iterator::next).sum::<u8>());
    /// assert_eq!(there.join().unwrap(), 3);
    /// ```
    pub fn boxed<'a>(self) -> SendCoroutine<'a, R, Y, T>
    where
        B: Send + 'a,
    {
        Coroutine { inner: self.inner, returns: PhantomData }
    }

    /// Hides the body's type. Allocates nothing.
    pub fn boxed_local<'a>(self) -> LocalCoroutine<'a, R, Y, T>
    where
        B: 'a,
    {
        Coroutine { inner: self.inner, returns: PhantomData }
    }
}

impl<R, Y, T, B: ?Sized + Body<R, Y, Return = T>> Coroutine<R, Y, T, B> {
    /// Runs the body to its next yield or to its end, with `value` as what its present yield gives.
    ///
    /// The first resume starts the body, and its value is [`Co::argument`].
    ///
    /// # Panics
    ///
    /// - If the coroutine has ended; [`try_resume`](Self::try_resume) does not.
    /// - If the body awaits anything but its own `yield_` and that is not ready at once: nobody would wake it. It is
    ///   closed first.
    /// - If the body waits on without polling its pending yield, as in a `FuturesUnordered`. It is closed first.
    /// - If the body panics; the coroutine has then ended, and what an async block held has been dropped. Another future is
    ///   dropped with the coroutine at the latest.
    /// - If the body polled a yield again that had given its value, or yielded again after it had polled a yield and leaked
    ///   it. It is closed first.
    #[inline]
    #[track_caller]
    pub fn resume(&mut self, value: R) -> Resumed<Y, T> {
        self.inner.as_mut().resume(value)
    }

    /// Like [`resume`](Self::resume), but asks whether the coroutine has ended.
    ///
    /// # Errors
    ///
    /// [`Exhausted`] with the value if it has: it returned, was closed, or panicked.
    ///
    /// # Panics
    ///
    /// As `resume`, except for that.
    #[inline]
    #[track_caller]
    pub fn try_resume(&mut self, value: R) -> Result<Resumed<Y, T>, Exhausted<R>> {
        self.inner.as_mut().try_resume(value)
    }

    /// Ends the coroutine where it stands: the body is dropped, and its destructors run, before this returns.
    ///
    /// Does nothing if it has ended. Unlike Python's `close`, it cannot be refused: the body does not run any more.
    ///
    /// # Panics
    ///
    /// If a destructor panics. The coroutine has ended all the same.
    ///
    /// # Examples
    ///
    /// ```
    /// use evenloop_coroutine::Coroutine;
    ///
    /// let held = std::rc::Rc::new(());
    /// let theirs = held.clone();
    /// let mut holder = Coroutine::new(async move |mut co| {
    ///     let _theirs = theirs;
    ///     co.yield_(1).await;
    /// });
    /// assert_eq!(holder.next(), Some(1));
    /// holder.close();
    /// assert_eq!(std::rc::Rc::strong_count(&held), 1);
    /// assert_eq!(holder.next(), None);
    /// ```
    pub fn close(&mut self) {
        self.inner.as_mut().close();
    }

    /// Whether it has ended: returned, was closed, or panicked.
    pub fn done(&self) -> bool {
        self.inner.done()
    }
}

impl<V, E, Y, T, B: ?Sized + Body<Result<V, E>, Y, Return = T>> Coroutine<Result<V, E>, Y, T, B> {
    /// Resumes with `Ok(value)`. See [`throw`](Self::throw).
    ///
    /// # Panics
    ///
    /// As [`resume`](Self::resume).
    #[track_caller]
    pub fn send(&mut self, value: V) -> Resumed<Y, T> {
        self.inner.as_mut().send(value)
    }

    /// Raises `error` into the body: its present yield gives `Err(error)`.
    ///
    /// A body that can be thrown into says so in its type: it is resumed with a `Result`.
    ///
    /// # Errors
    ///
    /// Gives `error` back if there is no yield that could receive it, as Python raises it in the caller: the coroutine
    /// has ended, or it had not begun, and then it ends without having run.
    ///
    /// # Panics
    ///
    /// As [`resume`](Self::resume), except on a coroutine that has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use evenloop_coroutine::{Coroutine, Resumed};
    ///
    /// let mut patient = Coroutine::new(async |mut co| {
    ///     loop {
    ///         match co.yield_("ready").await {
    ///             Ok(()) => {}
    ///             Err("again") => continue,
    ///             Err(error) => return error,
    ///         }
    ///     }
    /// });
    /// assert_eq!(patient.send(()), Resumed::Yielded("ready"));
    /// assert_eq!(patient.throw("again"), Ok(Resumed::Yielded("ready")));
    /// assert_eq!(patient.throw("enough"), Ok(Resumed::Returned("enough")));
    /// assert_eq!(patient.throw("too late"), Err("too late"));
    /// ```
    #[track_caller]
    pub fn throw(&mut self, error: E) -> Result<Resumed<Y, T>, E> {
        self.inner.as_mut().throw(error)
    }
}

impl<Y, T, B: ?Sized + Body<(), Y, Return = T>> Coroutine<(), Y, T, B> {
    /// An iterator over what it yields, which keeps what it returns.
    ///
    /// A coroutine that returns nothing is an iterator by itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use evenloop_coroutine::Coroutine;
    ///
    /// let mut halves = Coroutine::new(async |mut co| {
    ///     let mut n = 12;
    ///     while n % 2 == 0 {
    ///         n /= 2;
    ///         co.yield_(n).await;
    ///     }
    ///     n
    /// });
    /// let mut values = halves.values();
    /// assert!(values.by_ref().eq([6, 3]));
    /// assert_eq!(values.into_returned(), Some(3));
    /// ```
    pub fn values(&mut self) -> Values<'_, Y, B> {
        self.inner.as_mut().values()
    }
}

impl<Y, B: ?Sized + Body<(), Y, Return = ()>> Iterator for Coroutine<(), Y, (), B> {
    type Item = Y;

    #[inline]
    fn next(&mut self) -> Option<Y> {
        self.try_resume(()).ok()?.yielded()
    }
}

impl<Y, B: ?Sized + Body<(), Y, Return = ()>> std::iter::FusedIterator for Coroutine<(), Y, (), B> {}

impl<R, Y, T, B: ?Sized + Body<R, Y, Return = T>> fmt::Debug for Coroutine<R, Y, T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Coroutine [{}]", self.inner.body.phase())
    }
}

// === Values ===

/// The iterator of [`Coroutine::values`].
pub struct Values<'c, Y, B: ?Sized + Body<(), Y>> {
    coroutine: Pin<&'c mut PinnedCoroutine<(), Y, B>>,
    returned: Option<B::Return>,
}

impl<Y, B: ?Sized + Body<(), Y>> Values<'_, Y, B> {
    /// What the coroutine returned; `None` if it has not, or had ended before.
    pub fn into_returned(self) -> Option<B::Return> {
        self.returned
    }
}

impl<Y, B: ?Sized + Body<(), Y>> Iterator for Values<'_, Y, B> {
    type Item = Y;

    #[inline]
    fn next(&mut self) -> Option<Y> {
        match self.coroutine.as_mut().try_resume(()).ok()? {
            Resumed::Yielded(value) => Some(value),
            Resumed::Returned(value) => {
                self.returned = Some(value);
                None
            }
        }
    }
}

impl<Y, B: ?Sized + Body<(), Y>> std::iter::FusedIterator for Values<'_, Y, B> {}

impl<Y, B: ?Sized + Body<(), Y>> fmt::Debug for Values<'_, Y, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Values of {:?}", self.coroutine)
    }
}
