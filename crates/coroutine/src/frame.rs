//! Where a body and its resumer meet: all the unsafe code of this crate.
//!
//! A coroutine is an async block. Its frame keeps, side by side and pinned, the block and the *exchange*: one slot
//! through which values go in and out, and one word that says how things stand. The block's handle holds a pointer to the
//! exchange ([`Link`]), the resumer reaches it through the frame, and they take turns: the resumer leaves a value in the
//! slot and polls, the block takes it, runs on, leaves its next value and returns `Pending`.
//!
//! ```text
//!          proceed              hear                  yield_              poll             taken by the resumer
//! Fresh ─────────────► Running ◄───── Answered       Running ──► Prepared ─────► Offered ──────────────────────► AtYield
//!                        │  ▲                            ▲           │ dropped      │ dropped                        │
//!                        └──┘ waits for something else   └───────────┴──────────────┘     Answered ◄── proceed ──────┘
//!
//! any of them ── it returns, it panics, or close ──► Done
//! ```
//!
//! Why a pointer and not something safe: a reference to the slot would make the frame borrow from itself; a shared
//! allocation costs one per coroutine; a thread-local or the waker's data costs a look-up at each yield and finds the
//! wrong exchange when one coroutine runs inside another (this is how other crates came to confuse types). So:
//!
//! F1. The body is polled only through a pinned frame, and the frame is pinned from the first poll to its drop. So the
//!     exchange has one address as long as the body can run, be dropped or be looked into.
//! F2. A [`Link`] is made by [`Body`] alone, in its first poll and before it runs foreign code, from the address that its
//!     frame left in a thread-local right before; or it is a copy of one that stays lent until the copy is gone. A body is made by
//!     [`Frame::new`] alone, which fixes `R` and `Y` of both; both types are invariant in the exchange, so no lifetime in
//!     them can be stretched or shrunk between the two sides.
//! F3. A link is branded: the user's code has to accept `Co<'a>` for *every* `'a`, and `'a` is invariant. So a link can
//!     be put nowhere that outlives the body's own variables, and cannot be swapped with another body's. (The pattern of
//!     `GhostCell`; which lifetime is then chosen says nothing to anybody.) What is leaked inside the body is out of
//!     everybody's reach.
//! F4. The body is dropped exactly once, before the exchange: `close` sets Done first, and Done is final. Therefore
//!     whoever holds a link, destructors included, finds the exchange alive; once it is Done, it takes nothing in.
//! F5. The exchange is only ever borrowed as shared, and it is `!Unpin`, so that an exclusive borrow of the frame does
//!     not claim that nobody else points into it. What lies in it is never borrowed: values are moved in and out.
//! F6. Resumer and body never touch the exchange at once: the resumer does so before and after a poll, the body within.
//!     If the body lends its handle to another thread, that is a scoped thread (F3) which ends before the poll does.
//! F7. `state` says what lies in `value`: an `R` when Answered, a `Y` when Prepared or Offered, else nothing. Whoever
//!     moves a value in sets it after, whoever moves one out sets it before; foreign code (destructors) runs when both
//!     agree.

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::future::Future;
use std::marker::{PhantomData, PhantomPinned};
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::Co;

/// Where a body stands, as its resumer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Never polled.
    Fresh,
    /// Being polled, or stopped at an await that is not a yield.
    Awaiting,
    /// Stopped at a yield whose value has been taken.
    AtYield,
    /// Returned, closed or panicked; the body has been dropped.
    Done,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Fresh => "not started",
            Phase::Awaiting => "awaiting",
            Phase::AtYield => "at a yield",
            Phase::Done => "done",
        })
    }
}

/// What stopped a body.
pub(crate) enum Outcome<Y, T> {
    /// It yielded.
    Yielded(Y),
    /// It returned, and has been dropped.
    Returned(T),
    /// It waits for something else.
    Waiting,
    /// It waits for something else and left its answer lying: the future of its yield was not polled.
    Unheard,
}

/// The one word: where the body stands, and what lies in the slot. Ordered so that one comparison tells whether anything
/// lies there (up to Offered), and one whether the body can simply be polled (up to AtYield).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum State {
    /// As Running, and an `R` lies there that no yield has taken yet.
    Answered,
    /// As Running, and a `Y` lies there whose yield has not been polled.
    Prepared,
    /// As Running, and a `Y` lies there, on its way out.
    Offered,
    /// Being polled, or stopped at an await that is not a yield; the slot is empty.
    Running,
    /// Stopped at a yield whose value has been taken; the slot is empty.
    AtYield,
    /// Never polled; the slot is empty.
    Fresh,
    /// Being dropped, or dropped; the slot is empty.
    Done,
}

/// Room for one of them; both begin at its first byte.
#[repr(C)]
union Value<R, Y> {
    incoming: ManuallyDrop<R>,
    outgoing: ManuallyDrop<Y>,
}

/// What lay in the slot at the end; dropped where this is.
enum Left<R, Y> {
    Nothing,
    Answer { _dropped: R },
    Offer { _dropped: Y },
}

/// Where values pass. It belongs to the resumer between polls and to the body within (F6).
pub(crate) struct Exchange<R, Y> {
    value: UnsafeCell<MaybeUninit<Value<R, Y>>>,
    state: Cell<State>,
    /// Whether an answer was dropped without having been heard.
    missed: Cell<bool>,
    _pinned: PhantomPinned,
}

impl<R, Y> Exchange<R, Y> {
    fn new() -> Self {
        Self {
            value: UnsafeCell::new(MaybeUninit::uninit()),
            state: Cell::new(State::Fresh),
            missed: Cell::new(false),
            _pinned: PhantomPinned,
        }
    }

    /// Before the first poll, which follows at once: leaves word where the exchange is (F2).
    #[inline]
    fn begin(&self) {
        // F4: a body that has been dropped is never polled, whatever the caller thinks.
        assert!(self.state.get() == State::Fresh, "a body that is done has no next stop");
        self.state.set(State::Running);
        FIRST_POLL.set(ptr::from_ref(self).cast());
    }

    /// Moves an answer in. The slot is empty.
    #[inline]
    fn put_answer(&self, answer: R) {
        // SAFETY: F5, F6: nobody else looks at it now, and no reference to it exists; the union has room for an `R`.
        unsafe { self.value.get().cast::<R>().write(answer) };
        self.state.set(State::Answered);
    }

    /// Moves the value of a yield in. The slot is empty.
    #[inline]
    fn put_offer(&self, value: Y) {
        // SAFETY: F5, F6: nobody else looks at it now, and no reference to it exists; the union has room for a `Y`.
        unsafe { self.value.get().cast::<Y>().write(value) };
        self.state.set(State::Prepared);
    }

    /// Moves the answer out, if there is one.
    #[inline]
    pub(crate) fn hear(&self) -> Option<R> {
        if self.state.get() != State::Answered {
            return None;
        }
        self.state.set(State::Running);
        // SAFETY: F7: it was Answered, so an `R` lies there; F5, F6: nobody else looks at it, and it is read this once.
        Some(unsafe { self.value.get().cast::<R>().read() })
    }

    /// Moves the value out that is on its way, if there is one: the body stands at that yield.
    #[inline]
    fn take_offered(&self) -> Option<Y> {
        if self.state.get() == State::Offered { self.take_offer(State::AtYield) } else { None }
    }

    /// Moves the value of a yield out, if there is one; the state is `next` then.
    #[inline]
    fn take_offer(&self, next: State) -> Option<Y> {
        if !matches!(self.state.get(), State::Prepared | State::Offered) {
            return None;
        }
        self.state.set(next);
        // SAFETY: F7: it was Prepared or Offered, so a `Y` lies there; F5, F6: nobody else looks at it, and it is read
        // this once.
        Some(unsafe { self.value.get().cast::<Y>().read() })
    }

    /// Puts down the value of a yield, to be offered when that is polled.
    ///
    /// # Panics
    ///
    /// If the value of an earlier yield lies there.
    #[inline]
    pub(crate) fn prepare(&self, value: Y) {
        if self.state.get() == State::Running || self.make_room() {
            self.put_offer(value);
        }
    }

    /// Whether the slot is empty now, and open. A body that is being dropped yields nothing any more.
    #[cold]
    #[inline(never)]
    fn make_room(&self) -> bool {
        assert!(
            !matches!(self.state.get(), State::Prepared | State::Offered),
            "`yield_` was called while the value of an earlier `yield_` had not been taken; await each before the next"
        );
        // What the resumer sent to a yield that no longer exists, or the argument.
        if let Some(answer) = self.hear() {
            self.missed.set(true);
            drop(answer);
        }
        self.state.get() != State::Done
    }

    /// A poll of the yield whose value was put down last. Ready with the answer; pending as long as the value is on its
    /// way out, and in a body that is being dropped.
    ///
    /// # Panics
    ///
    /// If neither a value nor an answer lies there: the yield had its answer before.
    #[inline]
    pub(crate) fn poll_yield(&self) -> Poll<R> {
        if let Some(answer) = self.hear() {
            return Poll::Ready(answer);
        }
        if self.state.get() == State::Prepared {
            self.state.set(State::Offered);
        } else {
            self.assert_offered();
        }
        Poll::Pending
    }

    #[cold]
    #[inline(never)]
    fn assert_offered(&self) {
        assert!(
            matches!(self.state.get(), State::Offered | State::Done),
            "`yield_` was polled after it had given its value"
        );
    }

    /// Drops what lies there.
    #[inline]
    pub(crate) fn withdraw(&self) {
        if self.state.get() <= State::Offered {
            self.empty();
        }
    }

    #[cold]
    #[inline(never)]
    fn empty(&self) {
        if let Some(answer) = self.hear() {
            self.missed.set(true);
            drop(answer);
        } else {
            drop(self.take_offer(State::Running));
        }
    }

    /// The end: nothing goes in any more. Gives what lay there.
    #[inline]
    fn end(&self) -> Left<R, Y> {
        let left = match (self.hear(), self.take_offer(State::Done)) {
            (Some(answer), _) => Left::Answer { _dropped: answer },
            (None, Some(value)) => Left::Offer { _dropped: value },
            (None, None) => Left::Nothing,
        };
        self.state.set(State::Done);
        left
    }
}

/// The body's way to its exchange.
pub(crate) struct Link<'a, R, Y> {
    exchange: NonNull<Exchange<R, Y>>,
    /// F3: invariant in `'a`.
    brand: PhantomData<fn(&'a ()) -> &'a ()>,
}

impl<'a, R, Y> Link<'a, R, Y> {
    #[inline]
    pub(crate) fn exchange(&self) -> &Exchange<R, Y> {
        // SAFETY: F1, F2: it points to an exchange of these types; F3, F4: which is alive; F5: shared is all there is.
        unsafe { self.exchange.as_ref() }
    }

    /// The link itself instead of a reference to it, which saves a load at each poll of a yield.
    #[inline]
    pub(crate) fn lend(&mut self) -> Lent<'_, 'a, R, Y> {
        Lent { link: Link { exchange: self.exchange, brand: PhantomData }, owner: PhantomData }
    }
}

/// A copy of a link, which is lent as long as this lives (F2).
pub(crate) struct Lent<'y, 'a, R, Y> {
    link: Link<'a, R, Y>,
    owner: PhantomData<&'y mut Link<'a, R, Y>>,
}

impl<R, Y> Lent<'_, '_, R, Y> {
    #[inline]
    pub(crate) fn exchange(&self) -> &Exchange<R, Y> {
        self.link.exchange()
    }
}

// SAFETY: F6: moving a link to another thread, together with its body or for the time of a scoped thread, moves the
// values in the slot along, and those are `Send`. The slot is never used from two threads at once.
unsafe impl<R: Send, Y: Send> Send for Link<'_, R, Y> {}

// SAFETY: the slot is changed through a link by its one owner; a `Co` gives no access through a shared reference.
unsafe impl<R: Send, Y: Send> Sync for Link<'_, R, Y> {}

/// What is called with the handle: every async closure or function that takes one. Hides the future's type, which an
/// `AsyncFnOnce` does not tell.
pub trait Start<R, Y>: sealed::Sealed<R, Y> {
    #[doc(hidden)]
    type Future: Future;
    #[doc(hidden)]
    fn start(self, co: Co<'static, R, Y>) -> Self::Future;
}

impl<R, Y, S, F> Start<R, Y> for S
where
    S: FnOnce(Co<'static, R, Y>) -> F,
    F: Future,
{
    type Future = F;

    #[inline]
    fn start(self, co: Co<'static, R, Y>) -> F {
        self(co)
    }
}

mod sealed {
    pub trait Sealed<R, Y> {}
    impl<R, Y, S, F> Sealed<R, Y> for S where S: FnOnce(crate::Co<'static, R, Y>) -> F {}
}

pin_project! {
    /// The user's code, before and after its first poll.
    #[project = BodyProjected]
    enum Body<S, F, E, X> {
        Fresh { start: Option<S>, end: E, exchange: PhantomData<X> },
        Running { #[pin] future: F, end: E },
    }
}

impl<R, Y, S, E, U> Future for Body<S, S::Future, E, fn(R) -> Y>
where
    S: Start<R, Y>,
    E: Fn(<S::Future as Future>::Output) -> U + Copy,
{
    type Output = U;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<U> {
        loop {
            match self.as_mut().project() {
                BodyProjected::Running { future, end } => return future.poll(cx).map(end),
                BodyProjected::Fresh { start, end, .. } => {
                    // F2: this is the first poll, and `proceed` has just left the address here.
                    let exchange = NonNull::new(FIRST_POLL.take().cast_mut().cast::<Exchange<R, Y>>());
                    let exchange = exchange.expect("`proceed` leaves the address of the exchange");
                    let start = start.take().expect("a body is started once");
                    let end = *end;
                    let future = start.start(Co::new(Link { exchange, brand: PhantomData }));
                    self.set(Body::Running { future, end });
                }
            }
        }
    }
}

evenloop_core::shim::thread_local! {
    /// The exchange of the body whose first poll comes next on this thread: between two statements, no longer (F2).
    static FIRST_POLL: Cell<*const ()> = const { Cell::new(ptr::null()) };
}

/// A body and its exchange, in one place.
pub(crate) struct Frame<R, Y, B: ?Sized> {
    exchange: Exchange<R, Y>,
    /// Alive until the phase is Done (F4).
    body: ManuallyDrop<B>,
}

impl<R, Y> Frame<R, Y, ()> {
    /// Sets up a body that has not begun; `end` turns what it returns into what the frame reports. The only place that
    /// makes one (F2), and only of code that takes every handle (F3).
    pub(crate) fn new<T, U, S>(
        start: S,
        end: impl Fn(<S::Future as Future>::Output) -> U + Copy,
    ) -> Frame<R, Y, impl Future<Output = U>>
    where
        S: for<'a> AsyncFnOnce(Co<'a, R, Y>) -> T + Start<R, Y>,
    {
        let body = Body::Fresh { start: Some(start), end, exchange: PhantomData::<fn(R) -> Y> };
        Frame { exchange: Exchange::new(), body: ManuallyDrop::new(body) }
    }
}

impl<R, Y, B: ?Sized> Frame<R, Y, B> {
    /// Where the body stands. All that can be asked through a shared reference.
    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        match self.exchange.state.get() {
            State::Fresh => Phase::Fresh,
            State::Running | State::Answered | State::Prepared | State::Offered => Phase::Awaiting,
            State::AtYield => Phase::AtYield,
            State::Done => Phase::Done,
        }
    }

    /// Whether an answer was dropped unheard since this was last asked.
    pub(crate) fn take_missed(self: Pin<&mut Self>) -> bool {
        self.exchange.missed.take()
    }

    /// Drops the body in place, then what lies in the slot. Does nothing if that has happened.
    #[inline]
    pub(crate) fn close(self: Pin<&mut Self>) {
        if self.exchange.state.get() == State::Done {
            return;
        }
        // SAFETY: nothing is moved out below.
        let this = unsafe { self.get_unchecked_mut() };
        // Dropped last, also when a destructor of the body panics.
        let _left = this.exchange.end();
        // SAFETY: F4: the state was not Done, so the body is alive, and this happens once.
        unsafe { ManuallyDrop::drop(&mut this.body) };
    }

    #[inline]
    fn project(self: Pin<&mut Self>) -> (&Exchange<R, Y>, Pin<&mut B>) {
        // SAFETY: nothing is moved out below.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: the body is pinned with its frame, and leaves it only by being dropped in place (F4).
        let body = unsafe { Pin::new_unchecked(&mut *this.body) };
        (&this.exchange, body)
    }
}

impl<R, Y, B: ?Sized + Future> Frame<R, Y, B> {
    /// Lets the body run to its next stop, with `answer` for it to find. It must not be Done.
    ///
    /// A body that panics is dropped before the panic goes on.
    #[inline]
    pub(crate) fn proceed(
        self: Pin<&mut Self>,
        answer: Option<R>,
        cx: &mut Context<'_>,
    ) -> Outcome<Y, B::Output> {
        let mut running = Running(self);
        let (exchange, body) = running.0.as_mut().project();
        if exchange.state.get() > State::AtYield {
            exchange.begin();
        }
        if let Some(answer) = answer {
            debug_assert!(matches!(exchange.state.get(), State::Running | State::AtYield));
            exchange.put_answer(answer);
        }
        let outcome = match body.poll(cx) {
            Poll::Pending => match exchange.take_offered() {
                Some(value) => Outcome::Yielded(value),
                None if exchange.hear().is_some() => Outcome::Unheard,
                None => Outcome::Waiting,
            },
            Poll::Ready(value) => {
                running.0.as_mut().close();
                Outcome::Returned(value)
            }
        };
        mem::forget(running);
        outcome
    }
}

/// Closes the frame when a panic unwinds through its poll.
struct Running<'f, R, Y, B: ?Sized>(Pin<&'f mut Frame<R, Y, B>>);

impl<R, Y, B: ?Sized> Drop for Running<'_, R, Y, B> {
    #[cold]
    fn drop(&mut self) {
        self.0.as_mut().close();
    }
}

impl<R, Y, B: ?Sized> Drop for Frame<R, Y, B> {
    fn drop(&mut self) {
        // SAFETY: F1: a frame that has been polled was pinned and is dropped where it lies; it is not moved below.
        unsafe { Pin::new_unchecked(self) }.close();
    }
}

// SAFETY: a shared reference to a frame gives `phase` and nothing else, and the state changes only under an exclusive
// one. So sharing a frame shares none of its values, whatever they are.
unsafe impl<R, Y, B: ?Sized> Sync for Frame<R, Y, B> {}
