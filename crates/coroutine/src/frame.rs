//! Where a body and its resumer meet: all the unsafe code of this crate.
//!
//! A coroutine is an async block. Its frame keeps, side by side and pinned, the block and the *exchange*: one slot
//! through which values go in and out. The block's handle holds a pointer to the exchange ([`Link`]), the resumer reaches
//! it through the frame, and they take turns: the resumer leaves a value in the slot and polls, the block takes it, runs
//! on, leaves its next value and returns `Pending`.
//!
//! ```text
//!             proceed                    Pending, a value in the slot
//! Fresh ───────────────────► Running ───────────────────────────────► AtYield ── answer, proceed ──► Running
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
//! F2. A [`Link`] is made by [`Attach`] alone, within the body's own first poll, from the address that `attach` passes in
//!     the waker's data. The body is made by [`Frame::new`] alone, which fixes `R` and `Y` of both; both types are
//!     invariant in the exchange, so no lifetime in them can be stretched or shrunk between the two sides.
//! F3. A link is branded: the user's code has to accept `Co<'a>` for *every* `'a`, and `'a` is invariant. So a link can
//!     be put nowhere that outlives the body's own variables, and cannot be swapped with another body's. It is neither
//!     `Copy` nor `Clone`. (The pattern of `GhostCell`.) What is leaked inside the body is out of everybody's reach.
//! F4. The body is dropped exactly once, before the exchange: `close` sets Done first, and Done is final. Therefore
//!     whoever holds a link, destructors included, finds the exchange alive.
//! F5. The exchange is only ever borrowed as shared, and it is `!Unpin`, so that an exclusive borrow of the frame does
//!     not claim that nobody else points into it. Its cells are never borrowed across a call: values are moved.
//! F6. Resumer and body never touch the exchange at once: the resumer does so before and after a poll, the body within.
//!     If the body lends its handle to another thread, that is a scoped thread (F3) which ends before the poll does.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::marker::{PhantomData, PhantomPinned};
use std::mem::{self, ManuallyDrop};
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

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

/// What lies between the two sides.
enum Slot<R, Y> {
    Empty,
    /// On its way in.
    Resumed(R),
    /// On its way out.
    Yielded(Y),
}

/// The slot, and where the body stands. The phase belongs to the resumer, the slot to whoever runs (F6).
pub(crate) struct Exchange<R, Y> {
    slot: Cell<Slot<R, Y>>,
    phase: Cell<Phase>,
    _pinned: PhantomPinned,
}

impl<R, Y> Exchange<R, Y> {
    /// Leaves a value for the resumer. False, and nothing done, if one lies there that nobody has taken.
    pub(crate) fn offer(&self, value: Y) -> bool {
        match self.slot.replace(Slot::Empty) {
            taken @ Slot::Yielded(_) => {
                self.slot.set(taken);
                false
            }
            // What the resumer sent to a yield that no longer exists is dropped here.
            Slot::Empty | Slot::Resumed(_) => {
                self.slot.set(Slot::Yielded(value));
                true
            }
        }
    }

    /// Takes what the resumer left.
    pub(crate) fn hear(&self) -> Option<R> {
        match self.slot.replace(Slot::Empty) {
            Slot::Resumed(value) => Some(value),
            other => {
                self.slot.set(other);
                None
            }
        }
    }

    /// Empties the slot; what lay in it is dropped.
    pub(crate) fn withdraw(&self) {
        drop(self.slot.replace(Slot::Empty));
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

/// The first await of every body: learns the address of its exchange from the waker of the poll that `attach` makes.
struct Attach<'a, R, Y>(Option<Link<'a, R, Y>>);

impl<'a, R, Y> Future for Attach<'a, R, Y> {
    type Output = Link<'a, R, Y>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(link) = self.0.take() {
            return Poll::Ready(link);
        }
        let exchange = NonNull::new(cx.waker().data().cast_mut().cast::<Exchange<R, Y>>());
        let exchange = exchange.expect("`attach` passes the address of the exchange");
        self.0 = Some(Link { exchange, brand: PhantomData });
        Poll::Pending
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
    /// makes one (F2).
    pub(crate) fn new<T, U>(
        body: impl for<'a> AsyncFnOnce(Co<'a, R, Y>) -> T,
        end: fn(T) -> U,
    ) -> Frame<R, Y, impl Future<Output = U>> {
        let body = async move {
            let link = Attach(None).await;
            end(body(Co::new(link)).await)
        };
        let exchange =
            Exchange { slot: Cell::new(Slot::Empty), phase: Cell::new(Phase::Fresh), _pinned: PhantomPinned };
        Frame { exchange, body: ManuallyDrop::new(body) }
    }
}

impl<R, Y, B: ?Sized> Frame<R, Y, B> {
    /// Where the body stands. All that can be asked through a shared reference.
    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        self.exchange.phase.get()
    }

    /// Leaves a value for the body to find at its next step.
    #[inline]
    pub(crate) fn answer(self: Pin<&mut Self>, value: R) {
        self.exchange.slot.set(Slot::Resumed(value));
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
    /// Lets the body run to its next stop. It must not be Done.
    ///
    /// A body that panics is dropped before the panic goes on.
    #[inline]
    pub(crate) fn proceed(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Outcome<Y, B::Output> {
        match self.phase() {
            Phase::Fresh => self.as_mut().attach(),
            Phase::Awaiting | Phase::AtYield => {}
            // F4: a body that has been dropped is never polled, whatever the caller thinks.
            Phase::Done => unreachable!("a body that is done has no next stop"),
        }
        let mut running = Running(self);
        let (exchange, body) = running.0.as_mut().project();
        exchange.phase.set(Phase::Awaiting);
        let outcome = match body.poll(cx) {
            Poll::Ready(value) => {
                running.0.as_mut().close();
                Outcome::Returned(value)
            }
            Poll::Pending => match exchange.slot.replace(Slot::Empty) {
                Slot::Yielded(value) => {
                    exchange.phase.set(Phase::AtYield);
                    Outcome::Yielded(value)
                }
                Slot::Resumed(_) => Outcome::Unheard,
                Slot::Empty => Outcome::Waiting,
            },
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
        debug_assert!(polled.is_pending(), "the first await of a body is `Attach`");
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
