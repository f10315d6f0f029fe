//! Where a body and its resumer meet: all the unsafe code of this crate.
//!
//! A coroutine is an async block. Its frame keeps, side by side and pinned, the block and the *exchange*: one slot
//! through which values go in and out, and one word that says how things stand. The block's handle holds a pointer to the
//! exchange ([`Link`]), the resumer reaches it through the frame, and they take turns: the resumer leaves a value in the
//! slot and polls, the block takes it, runs on, leaves its next value and returns `Pending`.
//!
//! ```text
//!          begin                hear                   yield_, then its first poll           resume
//! Fresh ─────────► Running ◄───── Answered       Running ───────────────────────► Offered ──────────► Answered
//!                    │  ▲                            ▲                              │
//!                    └──┘ waits for something else   └── the yield is dropped ──────┘
//!
//! any of them ── it returned, it panicked, or close: the body is dropped, then what lies in the slot ──► Done
//! ```
//!
//! Why a pointer and not something safe: a reference to the slot would make the frame borrow from itself; a shared
//! allocation costs one per coroutine; a thread-local or the waker's data costs a look-up at each yield and finds the
//! wrong exchange when one coroutine runs inside another (this is how other crates came to confuse types). So:
//!
//! F1. The body is polled only through a pinned frame, and the frame is pinned from the first poll to its drop. So the
//!     exchange has one address as long as the body can run, be dropped or be looked into.
//! F2. A [`Link`] is made by [`Frame::begin`] alone, from the exchange of the frame that it begins; or it is a copy of one
//!     that stays lent until the copy is gone. A frame is made by [`frame`] alone, which fixes `R` and `Y` of both sides;
//!     both types are invariant in the exchange, so no lifetime in them can be stretched or shrunk between the two.
//! F3. A link is branded: the user's code has to accept `Co<'a>` for *every* `'a`, and `'a` is invariant. So a link can
//!     be put nowhere that outlives the body's own variables, and cannot be swapped with another body's. (The pattern of
//!     `GhostCell`; which lifetime is then chosen says nothing to anybody.) What is leaked inside the body is out of
//!     everybody's reach.
//! F4. The state says which half of `code` is there: the start when Fresh, neither when Done, else the future (but while
//!     `begin` makes it, which lets nobody else look). It is dropped exactly once and before the exchange; Done follows,
//!     also when a destructor panics, and is final. Therefore whoever holds a link, destructors included, finds the
//!     exchange alive.
//! F5. The exchange is only ever borrowed as shared, and it is `!Unpin`, so that an exclusive borrow of the frame does
//!     not claim that nobody else points into it. What lies in it is never borrowed: values are moved in and out.
//! F6. Resumer and body never touch the exchange at once: the resumer does so before and after a poll, the body within.
//!     If the body lends its handle to another thread, that is a scoped thread (F3) which ends before the poll does.
//! F7. The state says what lies in the slot: an `R` when Answered, a `Y` when Offered, else nothing but what F8 says.
//!     Between two polls an Offered `Y` has been taken: [`Frame::run`] does that at once, and whoever lets the body go on
//!     answers first. A body that is dropped there finds the flag `taken`, until it puts something in. Whoever moves a
//!     value in sets the state after, whoever moves one out before; foreign code (destructors) runs when both agree.
//! F8. While a yield is there that has not been polled, the state is Running and its `Y` lies in the slot: the one way to
//!     the slot from within, the handle, is lent to that yield, and from without nobody touches a slot that is Running.
//!     If it is forgotten (`mem::forget`), so is its value. While one is there that has been polled and had no answer, the
//!     state is Offered or Answered. So a poll asks but one question: whether it is Answered; else it is Offered then.
//!     All this holds while the body is dropped too: that begins with the slot as it is, and what its destructors put
//!     there is dropped after it.

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::future::Future;
use std::marker::{PhantomData, PhantomPinned};
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

use crate::Co;

/// Where a body stands, as its resumer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
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
#[derive(Debug)]
pub enum Stop<R, Y, T> {
    /// It yielded.
    Yielded(Y),
    /// It returned, and has been dropped.
    Returned(T),
    /// It waits for something else.
    Waiting,
    /// It waited for something else and left its answer lying, since the future of its yield was not polled. It has been
    /// dropped.
    Unheard,
    /// It did not run, since it was done before; this was to be its answer.
    Refused(R),
}

/// The one word: where the body stands, and what lies in the slot (F7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// As Running, and an `R` lies there that no yield has taken yet.
    Answered,
    /// Being polled or dropped, or stopped at an await that is not a yield. The `Y` of a yield that has not been polled
    /// lies there (F8), or nothing.
    Running,
    /// As Running, and the `Y` of a yield that has been polled lies there, on its way out. Between polls: stopped at that
    /// yield, and the slot is empty.
    Offered,
    /// Never polled; the slot is empty.
    Fresh,
    /// Dropped; the slot is empty.
    Done,
}

/// How far closing an asynchronous generator has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    No,
    /// Begun; the body does not know yet.
    Begun,
    /// Its scope has been asked to end.
    Asked,
    /// A yield has been given `Err(Closed)`.
    Told,
}

/// Room for one of them; both begin at its first byte.
#[repr(C)]
union Value<R, Y> {
    incoming: ManuallyDrop<R>,
    outgoing: ManuallyDrop<Y>,
}

/// Where values pass. It belongs to the resumer between polls and to the body within (F6).
struct Exchange<R, Y> {
    value: UnsafeCell<MaybeUninit<Value<R, Y>>>,
    state: Cell<State>,
    /// Whether an answer was dropped without having been heard.
    missed: Cell<bool>,
    /// Offered, but the slot is empty: in a body that is being dropped (F7).
    taken: Cell<bool>,
    /// The generator's, which keeps it here because there is room.
    closing: Cell<Closing>,
    _pinned: PhantomPinned,
}

impl<R, Y> Exchange<R, Y> {
    fn new() -> Self {
        Self {
            value: UnsafeCell::new(MaybeUninit::uninit()),
            state: Cell::new(State::Fresh),
            missed: Cell::new(false),
            taken: Cell::new(false),
            closing: Cell::new(Closing::No),
            _pinned: PhantomPinned,
        }
    }

    /// Moves an answer in. The slot is empty.
    #[inline]
    fn put_answer(&self, answer: R) {
        // SAFETY: F5, F6: nobody else looks at it now, and no reference to it exists; the union has room for an `R`.
        unsafe { self.value.get().cast::<R>().write(answer) };
        self.state.set(State::Answered);
    }

    /// Moves the answer out, if there is one.
    #[inline]
    fn hear(&self) -> Option<R> {
        if self.state.get() != State::Answered {
            return None;
        }
        self.state.set(State::Running);
        // SAFETY: F7: it was Answered, so an `R` lies there; F5, F6: nobody else looks at it, and it is read this once.
        Some(unsafe { self.value.get().cast::<R>().read() })
    }

    /// After a poll of the body: moves the value out whose yield was polled in it, if one was. The state stays: the body
    /// stands at that yield.
    ///
    /// # Safety
    ///
    /// It is called once after that poll; and before it, Offered meant that a `Y` lay there.
    #[inline]
    unsafe fn take_offered(&self) -> Option<Y> {
        if self.state.get() != State::Offered {
            return None;
        }
        // SAFETY: F7: it is Offered and that is since the poll, so a `Y` lies there; F5, F6: nobody else looks at it, and
        // it is read this once, as the caller says.
        Some(unsafe { self.value.get().cast::<Y>().read() })
    }

    /// Moves the value of a yield in, to be offered when that is polled.
    #[inline]
    fn put_value(&self, value: Y) {
        if self.state.get() != State::Running {
            assert!(
                self.state.get() != State::Offered || self.taken.get(),
                "`yield_` was called while the value of an earlier `yield_` had not been taken; await each before the \
                 next"
            );
            // The argument, or what the resumer sent to a yield that no longer exists.
            self.empty(State::Running);
        }
        // SAFETY: F7: nothing lies there; F5, F6: nobody else looks at it now, and no reference to it exists; the union has
        // room for a `Y`.
        unsafe { self.value.get().cast::<Y>().write(value) };
    }

    /// After a poll of a yield that found no answer: its value is on its way out (F8).
    #[inline]
    fn offer(&self) {
        // Volatile so that the compiler does not make one store of this and of the one in `hear`, which both ways out of a
        // poll would then share, with a second look at which it is: a tenth of what a yield costs.
        // SAFETY: the cell's own place, and there is no reference to what is in it.
        unsafe { self.state.as_ptr().write_volatile(State::Offered) };
    }

    /// Drops what the state says lies there; it is `next` then. The body runs or is being dropped.
    #[inline]
    fn empty(&self, next: State) {
        let place = self.value.get();
        match self.state.replace(next) {
            State::Answered => {
                self.missed.set(true);
                // SAFETY: F7: it was Answered, so an `R` lies there; F5, F6: nobody else looks at it, and it is read
                // this once.
                drop(unsafe { place.cast::<R>().read() });
            }
            State::Offered if !self.taken.take() => {
                // SAFETY: F7: it was Offered and not taken, so a `Y` lies there; F5, F6: nobody else looks at it, and it
                // is read this once.
                drop(unsafe { place.cast::<Y>().read() });
            }
            _ => {}
        }
    }

    /// Drops what is left by a yield that is dropped without its answer.
    #[inline]
    fn withdraw(&self) {
        if self.state.get() == State::Running {
            // SAFETY: F8: it has not been polled, so its `Y` lies there; F5, F6: nobody else looks at it, and it is read
            // this once.
            drop(unsafe { self.value.get().cast::<Y>().read() });
        } else {
            self.empty(State::Running);
        }
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
    fn exchange(&self) -> &Exchange<R, Y> {
        // SAFETY: F1, F2: it points to an exchange of these types; F3, F4: which is alive; F5: shared is all there is.
        unsafe { self.exchange.as_ref() }
    }

    /// Moves the answer out, if there is one.
    #[inline]
    pub(crate) fn hear(&mut self) -> Option<R> {
        self.exchange().hear()
    }

    /// Puts down the value of a yield, to be offered when that is polled.
    ///
    /// # Panics
    ///
    /// If the value of an earlier yield lies there.
    #[inline]
    pub(crate) fn put_value(&mut self, value: Y) -> Lent<'_, 'a, R, Y> {
        self.exchange().put_value(value);
        Lent { exchange: Some(self.exchange), owner: PhantomData }
    }
}

// SAFETY: F6: moving a link to another thread, together with its body or for the time of a scoped thread, moves the
// values in the slot along, and those are `Send`. The slot is never used from two threads at once.
unsafe impl<R: Send, Y: Send> Send for Link<'_, R, Y> {}

// SAFETY: the slot is changed through a link by its one owner; a `Co` gives no access through a shared reference.
unsafe impl<R: Send, Y: Send> Sync for Link<'_, R, Y> {}

/// A copy of a link, lent to one yield as long as this lives (F2). A copy and not a reference, which saves a load at each
/// poll.
pub(crate) struct Lent<'y, 'a, R, Y> {
    /// Until it has given its answer.
    exchange: Option<NonNull<Exchange<R, Y>>>,
    owner: PhantomData<&'y mut Link<'a, R, Y>>,
}

impl<R, Y> Lent<'_, '_, R, Y> {
    #[inline]
    fn exchange(&self) -> Option<&Exchange<R, Y>> {
        // SAFETY: as in `Link::exchange`, of which this is a copy (F2).
        self.exchange.map(|exchange| unsafe { exchange.as_ref() })
    }

    /// A poll of the yield. Ready with the answer; pending as long as the value is on its way out, and in a body that is
    /// being dropped.
    ///
    /// # Panics
    ///
    /// If it had its answer before.
    #[inline]
    pub(crate) fn poll(&mut self) -> Poll<R> {
        let exchange = self.exchange().expect("`yield_` was polled after it had given its value");
        if let Some(answer) = exchange.hear() {
            self.exchange = None;
            return Poll::Ready(answer);
        }
        exchange.offer();
        Poll::Pending
    }
}

impl<R, Y> Drop for Lent<'_, '_, R, Y> {
    #[inline]
    fn drop(&mut self) {
        if let Some(exchange) = self.exchange() {
            exchange.withdraw();
        }
    }
}

// SAFETY: as a link, of which it is a copy.
unsafe impl<R: Send, Y: Send> Send for Lent<'_, '_, R, Y> {}

// SAFETY: as a link: there is no access through a shared reference.
unsafe impl<R: Send, Y: Send> Sync for Lent<'_, '_, R, Y> {}

/// What is called with the handle: every async closure or function that takes one. Hides the future's type, which an
/// `AsyncFnOnce` does not tell.
pub trait Start<R, Y>: sealed::Start<R, Y> {
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
    pub trait Start<R, Y> {}
    impl<R, Y, S, F> Start<R, Y> for S where S: FnOnce(crate::Co<'static, R, Y>) -> F {}

    pub trait Body {}
    impl<R, Y, S: super::Start<R, Y>, E> Body for super::Frame<R, Y, S, E> {}
}

/// A body, whatever it yields: what can be done to it without letting it run.
pub trait Held<R>: sealed::Body + Sync {
    /// Where it stands.
    fn phase(&self) -> Phase;

    /// How far closing has come.
    fn closing(&self) -> Closing;

    /// Notes how far closing has come.
    fn set_closing(self: Pin<&mut Self>, closing: Closing);

    /// Gives the yield at which it stands its answer, to be heard when the body runs on. It is Awaiting then.
    fn answer(self: Pin<&mut Self>, answer: R);

    /// Whether an answer was dropped unheard since this was last asked.
    fn take_missed(self: Pin<&mut Self>) -> bool;

    /// Drops the body in place, then what lies in the slot. Does nothing if that has happened.
    fn close(self: Pin<&mut Self>);
}

/// The body of a coroutine, as a type: where no more than this is said of it, it is `impl Body` or `dyn Body`.
///
/// `R` goes in, `Y` comes out, `Return` is what it returns. What [`PinnedCoroutine::new`](crate::PinnedCoroutine::new)
/// makes of an async closure is one, and nothing else.
pub trait Body<R, Y>: Held<R> {
    /// What it returns.
    type Return;

    /// Lets it run to its next stop. If it stands at a yield, that gives `answer`; if it has not begun, `answer` is its
    /// argument; and if it is done, it refuses.
    ///
    /// A body that panics is dropped before the panic goes on.
    #[doc(hidden)]
    fn resume(self: Pin<&mut Self>, answer: R) -> Stop<R, Y, Self::Return>;

    /// The same with what it may wake, and where it may take no argument.
    #[doc(hidden)]
    fn resume_in(
        self: Pin<&mut Self>,
        answer: R,
        takes_argument: bool,
        cx: &mut Context<'_>,
    ) -> Stop<R, Y, Self::Return>
    where
        Self: Sized;
}

/// The user's code: before it has begun, and after.
union Code<S, F> {
    start: ManuallyDrop<S>,
    future: ManuallyDrop<F>,
}

/// A body and its exchange, in one place.
struct Frame<R, Y, S: Start<R, Y>, E> {
    exchange: Exchange<R, Y>,
    /// F4.
    code: Code<S, S::Future>,
    end: E,
}

/// Sets up a body that has not begun; `end` turns what it returns into what the frame reports. The only place that
/// makes one (F2), and only of code that takes every handle (F3).
pub(crate) fn frame<R, Y, T, U, S>(
    start: S,
    end: impl Fn(<S::Future as Future>::Output) -> U + Copy,
) -> impl Body<R, Y, Return = U>
where
    S: for<'a> AsyncFnOnce(Co<'a, R, Y>) -> T + Start<R, Y>,
{
    Frame { exchange: Exchange::new(), code: Code { start: ManuallyDrop::new(start) }, end }
}

impl<R, Y, S: Start<R, Y>, E> Frame<R, Y, S, E> {
    /// What comes before running where it does not stand at a yield: makes the future if it is Fresh. Gives the answer
    /// back if it is done.
    #[cold]
    #[inline(never)]
    fn begin(self: Pin<&mut Self>, answer: R, takes_argument: bool) -> Result<(), R> {
        match self.exchange.state.get() {
            State::Fresh => {}
            State::Done => return Err(answer),
            _ => return Ok(()),
        }
        // SAFETY: nothing is moved out below but the start, which is not pinned.
        let this = unsafe { self.get_unchecked_mut() };
        let exchange = &this.exchange;
        exchange.state.set(State::Running);
        let over = Over(exchange);
        if takes_argument {
            exchange.put_answer(answer);
        }
        // SAFETY: F4: it was Fresh, so the start is there.
        let start = unsafe { &mut this.code.start };
        // SAFETY: it is taken this once, since it is not Fresh any more.
        let start = unsafe { ManuallyDrop::take(start) };
        let co = Co::new(Link { exchange: NonNull::from(exchange), brand: PhantomData });
        this.code.future = ManuallyDrop::new(start.start(co));
        mem::forget(over);
        Ok(())
    }

    /// Polls the body.
    ///
    /// # Safety
    ///
    /// The future is there (F4), and if the state is Offered, a `Y` lies there (F7).
    #[inline]
    unsafe fn run<U>(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Stop<R, Y, U>
    where
        E: Fn(<S::Future as Future>::Output) -> U,
    {
        let mut running = Running(self);
        // SAFETY: nothing is moved out below.
        let this = unsafe { running.0.as_mut().get_unchecked_mut() };
        // SAFETY: the caller says that it is there.
        let future = unsafe { &mut *this.code.future };
        // SAFETY: it is pinned with its frame, and leaves it only by being dropped in place (F4).
        let future = unsafe { Pin::new_unchecked(future) };
        let Poll::Ready(value) = future.poll(cx) else {
            let exchange = &this.exchange;
            // SAFETY: that was the poll, and of what was before the caller says the same.
            if let Some(value) = unsafe { exchange.take_offered() } {
                mem::forget(running);
                return Stop::Yielded(value);
            }
            if exchange.state.get() != State::Answered {
                mem::forget(running);
                return Stop::Waiting;
            }
            exchange.taken.set(true);
            exchange.empty(State::Offered);
            drop(running);
            return Stop::Unheard;
        };
        let value = (this.end)(value);
        drop(running);
        Stop::Returned(value)
    }

    /// Drops the body in place, then what lies in the slot.
    ///
    /// # Safety
    ///
    /// It is not Done, nor in `begin` (F4); if it is Offered and not `taken`, a `Y` lies there (F7).
    unsafe fn end(self: Pin<&mut Self>) {
        // SAFETY: nothing is moved out below.
        let this = unsafe { self.get_unchecked_mut() };
        let is_fresh = this.exchange.state.get() == State::Fresh;
        let _over = Over(&this.exchange);
        if is_fresh {
            // SAFETY: F4: it is Fresh, so the start is there.
            let start = unsafe { &mut this.code.start };
            // SAFETY: it is dropped this once: it is Done after this, whatever happens.
            unsafe { ManuallyDrop::drop(start) };
        } else {
            // SAFETY: F4: it is neither Fresh nor Done, so the future is there.
            let future = unsafe { &mut this.code.future };
            // SAFETY: it is dropped this once: it is Done after this, whatever happens.
            unsafe { ManuallyDrop::drop(future) };
        }
    }
}

impl<R, Y, S: Start<R, Y>, E> Held<R> for Frame<R, Y, S, E> {
    #[inline]
    fn phase(&self) -> Phase {
        match self.exchange.state.get() {
            State::Fresh => Phase::Fresh,
            State::Offered => Phase::AtYield,
            State::Done => Phase::Done,
            _ => Phase::Awaiting,
        }
    }

    #[inline]
    fn closing(&self) -> Closing {
        self.exchange.closing.get()
    }

    fn set_closing(self: Pin<&mut Self>, closing: Closing) {
        self.exchange.closing.set(closing);
    }

    fn answer(self: Pin<&mut Self>, answer: R) {
        assert_eq!(self.phase(), Phase::AtYield);
        self.exchange.put_answer(answer);
    }

    fn take_missed(self: Pin<&mut Self>) -> bool {
        self.exchange.missed.take()
    }

    fn close(self: Pin<&mut Self>) {
        match self.exchange.state.get() {
            State::Done => return,
            State::Offered => self.exchange.taken.set(true), // F7: this is between polls
            _ => {}
        }
        // SAFETY: F4: it is not Done, and `begin` is over or was never called, since it had this exclusively.
        unsafe { self.end() }
    }
}

impl<R, Y, S: Start<R, Y>, E, U> Body<R, Y> for Frame<R, Y, S, E>
where
    E: Fn(<S::Future as Future>::Output) -> U,
{
    type Return = U;

    #[inline]
    fn resume(self: Pin<&mut Self>, answer: R) -> Stop<R, Y, U> {
        self.resume_in(answer, true, &mut Context::from_waker(Waker::noop()))
    }

    #[inline]
    fn resume_in(
        mut self: Pin<&mut Self>,
        answer: R,
        takes_argument: bool,
        cx: &mut Context<'_>,
    ) -> Stop<R, Y, U> {
        if self.exchange.state.get() == State::Offered {
            self.exchange.put_answer(answer);
        } else if let Err(refused) = self.as_mut().begin(answer, takes_argument) {
            return Stop::Refused(refused);
        }
        // SAFETY: F4: it stood at a yield, or `begin` left it neither Fresh nor Done. F7: if it is Offered now, then since
        // `begin`, by a yield that was polled and leaked there.
        unsafe { self.run(cx) }
    }
}

/// Ends the body when dropped: when it has returned, or when a panic unwinds through its poll.
struct Running<'f, R, Y, S: Start<R, Y>, E>(Pin<&'f mut Frame<R, Y, S, E>>);

impl<R, Y, S: Start<R, Y>, E> Drop for Running<'_, R, Y, S, E> {
    fn drop(&mut self) {
        // SAFETY: F4: made by `run`, where the future is there; F7: if it is Offered, that was in this poll.
        unsafe { self.0.as_mut().end() }
    }
}

/// Drops what lies in the slot of a body that has been dropped or never came to be, when dropped itself: also after a
/// destructor that panics (F4).
struct Over<'f, R, Y>(&'f Exchange<R, Y>);

impl<R, Y> Drop for Over<'_, R, Y> {
    fn drop(&mut self) {
        self.0.empty(State::Done);
    }
}

impl<R, Y, S: Start<R, Y>, E> Drop for Frame<R, Y, S, E> {
    fn drop(&mut self) {
        // SAFETY: F1: a frame that has been polled was pinned and is dropped where it lies; it is not moved below.
        unsafe { Pin::new_unchecked(self) }.close();
    }
}

// SAFETY: a shared reference to a frame gives `phase` and `closing` and nothing else, and those change only under an
// exclusive one. So sharing a frame shares none of its values, whatever they are.
unsafe impl<R, Y, S: Start<R, Y>, E> Sync for Frame<R, Y, S, E> {}
