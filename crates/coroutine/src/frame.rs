//! Where a body and its resumer meet: all the unsafe code of this crate.
//!
//! A coroutine is an async block. Its frame keeps, side by side and pinned, the block and the *exchange*: one slot
//! through which values go in and out. The block's handle holds a pointer to the exchange ([`Link`]), the resumer reaches
//! it through the frame, and they take turns: the resumer leaves a value in the slot and polls, the block takes it, runs
//! on, leaves its next value and returns `Pending`.
//!
//! ```text
//!             proceed                    Pending, a value in the slot
//! Fresh ───────────────────► Running ───────────────────────────────► AtYield ── proceed ──► Running
//!   │                        │  │ └── Pending, no value ──► Awaiting ── proceed ──► Running
//!   │ close                  │  └── Ready, or it panics ──► Done
//!   └────────► Done ◄────────┴── close (from AtYield and Awaiting as well)
//! ```
//!
//! Why a pointer and not something safe: a reference to the slot would make the frame borrow from itself; a shared
//! allocation costs one per coroutine; a thread-local or the waker's data costs a look-up at each yield and finds the
//! wrong exchange when one coroutine runs inside another (this is how other crates came to confuse types). So:
//!
//! F1. The body is polled only through a pinned frame, and the frame is pinned from the first poll to its drop. So the
//!     exchange has one address as long as the body can run, be dropped or be looked into.
//! F2. A [`Link`] is made by [`Body`] alone, when its frame polls it for the first time, from the address that `attach`
//!     passes in the waker's data. A body is made by [`Frame::new`] alone, which fixes `R` and `Y` of both; both types are
//!     invariant in the exchange, so no lifetime in them can be stretched or shrunk between the two sides.
//! F3. A link is branded: the user's code has to accept `Co<'a>` for *every* `'a`, and `'a` is invariant. So a link can
//!     be put nowhere that outlives the body's own variables, and cannot be swapped with another body's. It is neither
//!     `Copy` nor `Clone`. (The pattern of `GhostCell`; which lifetime is then chosen says nothing to anybody.) What is
//!     leaked inside the body is out of everybody's reach.
//! F4. The body is dropped exactly once, before the exchange: `close` sets Done first, and Done is final. Therefore
//!     whoever holds a link, destructors included, finds the exchange alive.
//! F5. The exchange is only ever borrowed as shared, and it is `!Unpin`, so that an exclusive borrow of the frame does
//!     not claim that nobody else points into it. What lies in it is never borrowed: values are moved in and out.
//! F6. Resumer and body never touch the exchange at once: the resumer does so before and after a poll, the body within.
//!     If the body lends its handle to another thread, that is a scoped thread (F3) which ends before the poll does.
//! F7. `holds` says what lies in `value`: nothing, an `R`, or a `Y`. Whoever moves a value in sets it after, whoever moves
//!     one out sets it before; foreign code (destructors) runs when both agree.

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::future::Future;
use std::marker::{PhantomData, PhantomPinned};
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use pin_project_lite::pin_project;

use crate::Co;

/// Where a body stands.
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

/// What lies in the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Nothing,
    /// An `R`, on its way in.
    Answer,
    /// A `Y` whose yield has not been polled.
    Prepared,
    /// A `Y`, on its way out.
    Offer,
}

/// What a yield learns when it is polled.
pub(crate) enum Heard<R> {
    Answer(R),
    /// The value is on its way out, or the body is being dropped.
    NotYet,
    /// Neither a value nor an answer is there: the yield had its answer before.
    Nothing,
}

union Value<R, Y> {
    incoming: ManuallyDrop<R>,
    outgoing: ManuallyDrop<Y>,
}

/// Where values pass, and where the body stands. The phase belongs to the resumer, the rest to whoever runs (F6).
pub(crate) struct Exchange<R, Y> {
    value: UnsafeCell<MaybeUninit<Value<R, Y>>>,
    holds: Cell<Holds>,
    phase: Cell<Phase>,
    _pinned: PhantomPinned,
}

impl<R, Y> Exchange<R, Y> {
    fn new() -> Self {
        Self {
            value: UnsafeCell::new(MaybeUninit::uninit()),
            holds: Cell::new(Holds::Nothing),
            phase: Cell::new(Phase::Fresh),
            _pinned: PhantomPinned,
        }
    }

    /// Moves a value in.
    #[inline]
    fn put(&self, holds: Holds, value: Value<R, Y>) {
        debug_assert_eq!(self.holds.get(), Holds::Nothing);
        // SAFETY: F5, F6: nobody else looks at it now, and no reference to it exists.
        unsafe { self.value.get().write(MaybeUninit::new(value)) };
        self.holds.set(holds);
    }

    /// Moves the value out; the caller knows what it is.
    ///
    /// # Safety
    ///
    /// `holds` is not `Nothing`.
    #[inline]
    unsafe fn take(&self) -> Value<R, Y> {
        self.holds.set(Holds::Nothing);
        // SAFETY: F5, F6: nobody else looks at it now, and no reference to it exists.
        let value = unsafe { self.value.get().read() };
        // SAFETY: F7: something was there, as the caller guarantees; it is moved out, and `holds` says so.
        unsafe { value.assume_init() }
    }

    /// Moves the answer out, if there is one.
    #[inline]
    pub(crate) fn hear(&self) -> Option<R> {
        if self.holds.get() != Holds::Answer {
            return None;
        }
        // SAFETY: it holds something.
        let value = unsafe { self.take() };
        // SAFETY: F7: what it held was an answer, which is an `R`.
        Some(ManuallyDrop::into_inner(unsafe { value.incoming }))
    }

    /// Moves the value of a yield out, if there is one.
    #[inline]
    fn take_offer(&self) -> Option<Y> {
        if !matches!(self.holds.get(), Holds::Offer | Holds::Prepared) {
            return None;
        }
        // SAFETY: it holds something.
        let value = unsafe { self.take() };
        // SAFETY: F7: what it held was prepared or offered, which is a `Y`.
        Some(ManuallyDrop::into_inner(unsafe { value.outgoing }))
    }

    /// Puts down the value of a yield, to be offered when that is polled. False, and the value is dropped: that of an
    /// earlier yield lies there.
    #[inline]
    pub(crate) fn prepare(&self, value: Y) -> bool {
        match self.holds.get() {
            Holds::Offer | Holds::Prepared => return false,
            // What the resumer sent to a yield that no longer exists.
            Holds::Answer => drop(self.hear()),
            Holds::Nothing => {}
        }
        self.put(Holds::Prepared, Value { outgoing: ManuallyDrop::new(value) });
        true
    }

    /// A poll of the yield whose value was put down last.
    #[inline]
    pub(crate) fn poll_yield(&self) -> Heard<R> {
        if let Some(answer) = self.hear() {
            return Heard::Answer(answer);
        }
        match self.holds.get() {
            Holds::Prepared => {
                self.holds.set(Holds::Offer);
                Heard::NotYet
            }
            Holds::Offer => Heard::NotYet,
            Holds::Nothing | Holds::Answer => Heard::Nothing,
        }
    }

    /// Drops what lies there.
    #[inline]
    pub(crate) fn withdraw(&self) {
        match self.holds.get() {
            Holds::Nothing => {}
            Holds::Answer => drop(self.hear()),
            Holds::Prepared | Holds::Offer => drop(self.take_offer()),
        }
    }
}

/// The body's way to its exchange.
pub(crate) struct Link<'a, R, Y> {
    exchange: NonNull<Exchange<R, Y>>,
    /// F3: invariant in `'a`.
    brand: PhantomData<fn(&'a ()) -> &'a ()>,
}

impl<R, Y> Link<'_, R, Y> {
    #[inline]
    pub(crate) fn exchange(&self) -> &Exchange<R, Y> {
        // SAFETY: F1, F2: it points to an exchange of these types; F3, F4: which is alive; F5: shared is all there is.
        unsafe { self.exchange.as_ref() }
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
        Fresh { start: Option<S>, end: Option<E>, exchange: PhantomData<X> },
        Running { #[pin] future: F, end: E },
    }
}

impl<R, Y, S, E, U> Future for Body<S, S::Future, E, fn(R) -> Y>
where
    S: Start<R, Y>,
    E: Fn(<S::Future as Future>::Output) -> U,
{
    type Output = U;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<U> {
        match self.as_mut().project() {
            BodyProjected::Running { future, end } => future.poll(cx).map(end),
            BodyProjected::Fresh { start, end, .. } => {
                // F2: this poll is made by `attach`.
                let exchange = NonNull::new(cx.waker().data().cast_mut().cast::<Exchange<R, Y>>());
                let exchange = exchange.expect("`attach` passes the address of the exchange");
                let start = start.take().expect("a body is started once");
                let end = end.take().expect("a body is started once");
                let future = start.start(Co::new(Link { exchange, brand: PhantomData }));
                self.set(Body::Running { future, end });
                Poll::Pending
            }
        }
    }
}

/// A waker that only carries an address.
static ADDRESS: RawWakerVTable =
    RawWakerVTable::new(|data| RawWaker::new(data, &ADDRESS), |_| (), |_| (), |_| ());

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
        end: impl Fn(<S::Future as Future>::Output) -> U,
    ) -> Frame<R, Y, impl Future<Output = U>>
    where
        S: for<'a> AsyncFnOnce(Co<'a, R, Y>) -> T + Start<R, Y>,
    {
        let body = Body::Fresh { start: Some(start), end: Some(end), exchange: PhantomData::<fn(R) -> Y> };
        Frame { exchange: Exchange::new(), body: ManuallyDrop::new(body) }
    }
}

impl<R, Y, B: ?Sized> Frame<R, Y, B> {
    /// Where the body stands. All that can be asked through a shared reference.
    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        self.exchange.phase.get()
    }

    /// Drops the body in place, then what lies in the slot. Does nothing if that has happened.
    pub(crate) fn close(self: Pin<&mut Self>) {
        // SAFETY: nothing is moved out below.
        let this = unsafe { self.get_unchecked_mut() };
        if this.exchange.phase.replace(Phase::Done) != Phase::Done {
            // SAFETY: F4: the phase was not Done, so the body is alive, and this happens once.
            unsafe { ManuallyDrop::drop(&mut this.body) };
            this.exchange.withdraw();
        }
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
        match running.0.phase() {
            Phase::Fresh => running.0.as_mut().attach(),
            Phase::Awaiting | Phase::AtYield => {}
            // F4: a body that has been dropped is never polled, whatever the caller thinks.
            Phase::Done => unreachable!("a body that is done has no next stop"),
        }
        let (exchange, body) = running.0.as_mut().project();
        if let Some(answer) = answer {
            exchange.put(Holds::Answer, Value { incoming: ManuallyDrop::new(answer) });
        }
        let outcome = match body.poll(cx) {
            Poll::Pending if exchange.holds.get() == Holds::Offer => {
                exchange.phase.set(Phase::AtYield);
                Outcome::Yielded(exchange.take_offer().expect("an offer lies there"))
            }
            Poll::Pending => {
                exchange.phase.set(Phase::Awaiting);
                if exchange.hear().is_some() { Outcome::Unheard } else { Outcome::Waiting }
            }
            Poll::Ready(value) => {
                running.0.as_mut().close();
                Outcome::Returned(value)
            }
        };
        mem::forget(running);
        outcome
    }

    /// Tells the body where its exchange is.
    #[cold]
    fn attach(self: Pin<&mut Self>) {
        let (exchange, body) = self.project();
        // SAFETY: the table's functions touch no data, so any pointer keeps their contract.
        let waker = unsafe { Waker::new(ptr::from_ref(exchange).cast(), &ADDRESS) };
        let polled = body.poll(&mut Context::from_waker(&waker));
        debug_assert!(polled.is_pending(), "the first poll of a body starts it");
        // A function that returns its future may have polled a yield before: there is nobody yet to take that.
        exchange.withdraw();
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

// SAFETY: a shared reference to a frame gives `phase` and nothing else, and the phase changes only under an exclusive
// one. So sharing a frame shares none of its values, whatever they are.
unsafe impl<R, Y, B: ?Sized> Sync for Frame<R, Y, B> {}
