//! Where a body and its resumer meet: all the unsafe code of this crate.
//!
//! A coroutine is an async block. Its frame keeps, side by side and pinned, the block and the *exchange*: one slot
//! through which values go in and out, and one word that says how things stand. The block's handle holds a pointer to the
//! exchange ([`Link`]), the resumer reaches it through the frame, and they take turns: the resumer leaves a value in the
//! slot and polls, the block takes it, runs on, leaves its next value and returns `Pending`.
//!
//! ```text
//!        begin             yield_           its first poll            the poll ends             resume
//! Fresh ───────► Running ──────────► Placed ──────────────► Offered ───────────────► AtYield ──────────► Answered
//!                 │  ▲ ▲               │                       │                                          │
//!                 │  │ └───────────────┴─ the yield is dropped ┴──────────────────────────────────────────┤
//!                 │  └───────────────────────────────────────── its next poll ────────────────────────────┘
//!                 └ the poll ends: Running + Waiting, until the next; the same from Placed
//!
//! any of them ── it returned, or close: the body is dropped, then what lies in the slot ──► Done
//! any of them ── a panic comes out of the poll ── the same, now or at the next touch ──► Done
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
//!     also when a destructor panics, and is final. A future out of which a panic came is not polled any more: either it
//!     was dropped at once, or the state is one that no poll leaves behind. Therefore whoever holds a link, destructors
//!     included, finds the exchange alive. And `closing` is empty only as long as the state is Fresh.
//! F5. The exchange is only ever borrowed as shared, and it is `!Unpin`, so that an exclusive borrow of the frame does
//!     not claim that nobody else points into it. What lies in it is never borrowed: values are moved in and out.
//! F6. Resumer and body never touch the exchange at once: the resumer does so before and after a poll, the body within.
//!     If the body lends its handle to another thread, that is a scoped thread (F3) which ends before the poll does.
//! F7. The state says what lies in the slot: an `R` when Answered, Argument or OwnedArgument, a `Y` when Placed,
//!     PlacedFirst, Offered or Crowded, else nothing; with Waiting added, the same. An Argument is of a type without
//!     destructor, so a yield may put its value over it. [`Frame::run`] takes an Offered `Y` at once, and whoever lets the
//!     body go on answers first. A body that is dropped there finds Taken. Whoever moves a value in or out changes the state
//!     with it, and lets no foreign code (destructors) run between the two.
//! F8. There is one yield at a time: the one way to the slot from within, the handle, is lent to it until it is dropped.
//!     So as long as it is there the state is its own: Placed before its first poll, then Offered, then Answered (or
//!     Taken, when the body is dropped instead), and Running once it gave its answer. A yield that is forgotten
//!     (`mem::forget`) leaves its state behind, and what lies there, for the next to find. Two things are misuse and nothing
//!     else: a yield that is polled after its answer (Overpolled), and one made when another was polled and forgotten in
//!     that poll (Crowded). They leave the slot as it is, let no later yield have an answer, and are reported by the resumer
//!     where the body stops: a panic within would cost every yield a register to clean up with. All this holds while the
//!     body is dropped too: that begins with the slot as it is, and what its destructors put there is dropped after it.

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::future::Future;
use std::hint;
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
    /// Stopped at an await that is not a yield.
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
///
/// The numbers are such that each step of the usual way is one instruction in memory, which asks as well. A yield subtracts
/// [`STEP`](Self::STEP) and borrows unless it was Running or Argument, the greatest of those that are met in a poll. A poll of
/// it takes three bits and leaves zero if it was Answered; that step leads from Placed to Offered, where it stays, however
/// often it is polled, and from Running to Overpolled. What follows the poll of the body subtracts one and leaves zero if it
/// was Offered. What lets a waiting body go on subtracts [`WAITING`](Self::WAITING) and borrows if it was not waiting. A yield
/// that is dropped compares with Taken: in a state below, there is something to take back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State(u8);

// Between two polls: AtYield, Fresh, Done, or one with WAITING. If it is another, a panic came out of the last.
impl State {
    /// Stopped at a yield whose value has been taken; the slot is empty.
    const AT_YIELD: Self = Self(0);
    /// As Running, and the `Y` of a yield that has been polled lies there, on its way out.
    const OFFERED: Self = Self(0b0000_0001);
    /// As Running, and an `R` lies there that no yield has taken yet.
    const ANSWERED: Self = Self(0b0000_0010);
    /// As Running, and the `Y` of a yield that has not been polled lies there.
    const PLACED: Self = Self(0b0000_0011);
    /// As Argument, but it needs a drop.
    const OWNED_ARGUMENT: Self = Self(0b0000_0100);
    /// As Placed, by a yield that found an Argument.
    const PLACED_FIRST: Self = Self(0b0000_0101);
    /// Never polled; the slot is empty.
    const FRESH: Self = Self(0b0000_1000);
    /// Dropped; the slot is empty.
    const DONE: Self = Self(0b0001_0000);
    /// As Offered, but in a body that is being dropped, and the slot is empty. Also when that yield is gone.
    const TAKEN: Self = Self(0b0100_0000);
    /// As Offered, and there has been another yield since. For good: it is reported where the body stops.
    const CROWDED: Self = Self(0b0100_0001);
    /// As Running, and a yield has been polled after it had given its value. For good: it is reported where the body stops.
    const OVERPOLLED: Self = Self(0b0110_0001);
    /// Being polled or dropped; the slot is empty.
    const RUNNING: Self = Self(0b0110_0111);
    /// As Running, and the `R` of the first resume lies there, which nobody has asked for yet.
    const ARGUMENT: Self = Self(0b0110_1001);

    /// From Running down to Placed.
    const STEP: u8 = Self::RUNNING.0 - Self::PLACED.0;

    /// Added to one of those "as Running" between polls: stopped at an await that is not a yield.
    const WAITING: u8 = Self::ARGUMENT.0 + 1;

    /// Argument or OwnedArgument, as it is for an `R`.
    const fn argument<R>() -> Self {
        if mem::needs_drop::<R>() { Self::OWNED_ARGUMENT } else { Self::ARGUMENT }
    }

    /// A yield: from Running to Placed, from Argument to PlacedFirst. Whether it was something else.
    #[inline(always)]
    const fn yielding(self) -> (Self, bool) {
        let (state, was_else) = self.0.overflowing_sub(State::STEP);
        (Self(state), was_else)
    }

    /// What it was before `yielding`.
    const fn not_yielding(self) -> Self {
        Self(self.0.wrapping_add(State::STEP))
    }

    /// The poll of a yield: from Placed or PlacedFirst to Offered, from Running to Overpolled. Whether it was Answered.
    #[inline(always)]
    const fn polled(self) -> (Self, bool) {
        let state = self.0 & Self::OVERPOLLED.0;
        (Self(state), state == 0)
    }

    /// After the poll of the body: from Offered to AtYield. Whether it was Offered.
    #[inline(always)]
    const fn stopping(self) -> (Self, bool) {
        let state = self.0.wrapping_sub(Self::OFFERED.0);
        (Self(state), state == Self::AT_YIELD.0)
    }

    /// What it was before `stopping`.
    const fn not_stopping(self) -> Self {
        Self(self.0.wrapping_add(Self::OFFERED.0))
    }

    /// Stopped at an await that is not a yield.
    const fn waiting(self) -> Self {
        Self(self.0.wrapping_add(State::WAITING))
    }

    const fn is_waiting(self) -> bool {
        self.0 >= State::WAITING
    }

    /// What it was before `waiting`. Whether it was something else.
    #[inline(always)]
    const fn going_on(self) -> (Self, bool) {
        let (state, was_else) = self.0.overflowing_sub(State::WAITING);
        (Self(state), was_else)
    }

    /// Whether a yield that is dropped leaves something to take back.
    const fn is_withdrawn(self) -> bool {
        self.0 < State::TAKEN.0
    }

    /// Whether it is to be reported where the body stops.
    const fn is_misuse(self) -> bool {
        matches!(self, State::CROWDED | State::OVERPOLLED)
    }
}

// What the numbers have to be.
const _: () = {
    assert!(matches!(State::RUNNING.yielding(), (State::PLACED, false)));
    assert!(matches!(State::ARGUMENT.yielding(), (State::PLACED_FIRST, false)));
    assert!(State::OVERPOLLED.yielding().1 && State::CROWDED.yielding().1 && State::TAKEN.yielding().1);
    assert!(State::ANSWERED.polled().1);
    assert!(matches!(State::PLACED.polled(), (State::OFFERED, false)));
    assert!(matches!(State::PLACED_FIRST.polled(), (State::OFFERED, false)));
    assert!(matches!(State::OFFERED.polled(), (State::OFFERED, false)));
    assert!(matches!(State::CROWDED.polled(), (State::CROWDED, false)));
    assert!(matches!(State::TAKEN.polled(), (State::TAKEN, false)));
    assert!(matches!(State::RUNNING.polled(), (State::OVERPOLLED, false)));
    assert!(matches!(State::OVERPOLLED.polled(), (State::OVERPOLLED, false)));
    assert!(matches!(State::ANSWERED.waiting().going_on(), (State::ANSWERED, false)));
    assert!(matches!(State::RUNNING.waiting().going_on(), (State::RUNNING, false)));
    assert!(matches!(State::ARGUMENT.waiting().going_on(), (State::ARGUMENT, false)));
    assert!(State::RUNNING.going_on().1 && State::ARGUMENT.going_on().1 && State::AT_YIELD.going_on().1);
    assert!(State::OFFERED.is_withdrawn() && State::ANSWERED.is_withdrawn());
    assert!(State::PLACED.is_withdrawn() && State::PLACED_FIRST.is_withdrawn());
    assert!(
        !State::RUNNING.is_withdrawn() && !State::OVERPOLLED.is_withdrawn() && !State::CROWDED.is_withdrawn()
    );
};

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
#[repr(C)]
struct Exchange<R, Y> {
    state: Cell<State>,
    /// The slot for an `R` that is no larger: beside the state, so that both are written at once.
    small: UnsafeCell<MaybeUninit<u8>>,
    /// Whether an answer was dropped without having been heard.
    missed: Cell<bool>,
    /// The generator's, which keeps it here because there is room. Empty as long as the body is Fresh (F4): asked here and
    /// not of the state, so that the compiler knows the answer where it sees what is made and resumed in one function.
    closing: Cell<Option<Closing>>,
    value: UnsafeCell<MaybeUninit<Value<R, Y>>>,
    _pinned: PhantomPinned,
}

impl<R, Y> Exchange<R, Y> {
    fn new() -> Self {
        Self {
            state: Cell::new(State::FRESH),
            small: UnsafeCell::new(MaybeUninit::new(0)), // so that these four are one store
            missed: Cell::new(false),
            closing: Cell::new(None),
            value: UnsafeCell::new(MaybeUninit::uninit()),
            _pinned: PhantomPinned,
        }
    }

    /// Where an answer lies.
    #[inline(always)]
    fn answer_place(&self) -> *mut R {
        if const { size_of::<R>() <= 1 && align_of::<R>() <= 1 } {
            self.small.get().cast()
        } else {
            self.value.get().cast()
        }
    }

    /// Moves an answer in, or the argument; it is `next` then. The slot is empty.
    #[inline]
    fn put_answer(&self, answer: R, next: State) {
        // SAFETY: F5, F6: nobody else looks at it now, and no reference to it exists; the union has room for an `R`.
        unsafe { self.answer_place().write(answer) };
        self.state.set(next);
    }

    /// Moves the argument out, if there is one.
    #[inline]
    fn argument(&self) -> Option<R> {
        if self.state.get() != const { State::argument::<R>() } {
            return None;
        }
        self.state.set(State::RUNNING);
        // SAFETY: F7: it was Argument, so an `R` lies there; F5, F6: nobody else looks at it, and it is read this once.
        Some(unsafe { self.answer_place().read() })
    }

    /// After a poll of the body: moves the value out whose yield was polled in it, if one was. The body stands at that yield
    /// then; else the state is left as `stopping` leaves it.
    ///
    /// # Safety
    ///
    /// It is called once after that poll; and before it, Offered meant that a `Y` lay there.
    #[inline]
    unsafe fn take_offered(&self) -> Option<Y> {
        let (state, was_offered) = self.state.get().stopping();
        self.state.set(state);
        if !was_offered {
            return None;
        }
        // SAFETY: F7: it was Offered and that is since the poll, so a `Y` lies there; F5, F6: nobody else looks at it, and
        // it is read this once, as the caller says.
        Some(unsafe { self.value.get().cast::<Y>().read() })
    }

    /// Moves the value of a yield in. The slot is empty, or what lies there is forgotten, as an Argument is.
    #[inline(always)]
    fn put_value(&self, value: Y) {
        // SAFETY: F5, F6: nobody else looks at it now, and no reference to it exists; the union has room for a `Y`.
        unsafe { self.value.get().cast::<Y>().write(value) };
    }

    /// Takes back the step of a yield that did not find Running, and puts its value down after all: what lies there is
    /// dropped, be it the argument, an unpolled value, or what the resumer sent to a yield that no longer exists. But in a
    /// misuse what lies there stays, and the value is dropped.
    fn put_over(&self, value: Y) {
        self.state.set(match self.state.get().not_yielding() {
            State::OFFERED => State::CROWDED,
            state => state,
        });
        if !self.state.get().is_misuse() {
            self.empty(State::RUNNING);
            self.put_value(value);
            self.state.set(State::PLACED);
        }
    }

    /// The same where nothing needs to be dropped, up to the value. In place, since a call that comes back costs the usual
    /// way a register; and without a panic, for which the body would keep one, too.
    #[inline(always)]
    fn make_room(&self) {
        let next = match self.state_again().not_yielding() {
            State::OFFERED | State::CROWDED => State::CROWDED,
            State::OVERPOLLED => State::OVERPOLLED,
            State::ANSWERED => {
                self.missed.set(true);
                State::PLACED
            }
            _ => State::PLACED,
        };
        self.state.set(next);
    }

    /// The state, read once more.
    #[inline(always)]
    fn state_again(&self) -> State {
        again(&self.state)
    }

    /// Drops what the state says lies there; it is `next` then. The body runs or is being dropped.
    #[inline]
    fn empty(&self, next: State) {
        self.empty_of(self.state.get(), next);
    }

    /// The same of a state that has just been read.
    #[inline]
    fn empty_of(&self, state: State, next: State) {
        self.state.set(next);
        match state {
            State::ANSWERED | State::ARGUMENT | State::OWNED_ARGUMENT => {
                if state == State::ANSWERED {
                    self.missed.set(true);
                }
                // SAFETY: F7: it was one of these, so an `R` lies there; F5, F6: nobody else looks at it, and it is read this
                // once.
                drop(unsafe { self.answer_place().read() });
            }
            State::OFFERED | State::PLACED | State::PLACED_FIRST | State::CROWDED => {
                // SAFETY: F7: it was one of these, so a `Y` lies there; F5, F6: nobody else looks at it, and it is read this
                // once.
                drop(unsafe { self.value.get().cast::<Y>().read() });
            }
            _ => {}
        }
    }

    /// Drops what is left by a yield that is dropped, if it had no answer.
    #[inline]
    fn withdraw(&self) {
        // Taken is what most find that are dropped with their body, and it may stay; a misuse does, to be reported.
        if self.state.get().is_withdrawn() {
            self.empty_of(self.state_again(), State::RUNNING);
        }
    }
}

/// What lies in the cell, read once more. Volatile, so that the compiler compares it where it lies rather than in a register
/// that all ways then share.
#[inline(always)]
fn again<T: Copy>(cell: &Cell<T>) -> T {
    // SAFETY: the cell's own place, and there is no reference to what is in it.
    unsafe { cell.as_ptr().read_volatile() }
}

/// Tells the compiler where to put what follows: out of the way.
#[cold]
#[inline(always)]
fn rarely() {}

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

    /// Moves the argument out, if there is one.
    #[inline]
    pub(crate) fn argument(&mut self) -> Option<R> {
        self.exchange().argument()
    }

    /// Puts down the value of a yield, to be offered when that is polled.
    #[inline]
    pub(crate) fn put_value(&mut self, value: Y) -> Lent<'_, 'a, R, Y> {
        let exchange = self.exchange();
        let (state, was_else) = exchange.state.get().yielding();
        exchange.state.set(state);
        if was_else {
            rarely();
            if const { mem::needs_drop::<R>() || mem::needs_drop::<Y>() } {
                let exchange = self.put_over(value);
                return Lent { exchange, owner: PhantomData, _may_alias: PhantomPinned };
            }
            exchange.make_room();
        }
        exchange.put_value(value);
        Lent { exchange: self.exchange, owner: PhantomData, _may_alias: PhantomPinned }
    }

    /// `put_value` where something lies there. Gives the pointer back, so that no register has to keep it meanwhile; which
    /// the compiler would do if it knew.
    #[cold]
    #[inline(never)]
    fn put_over(&mut self, value: Y) -> NonNull<Exchange<R, Y>> {
        self.exchange().put_over(value);
        hint::black_box(self.exchange)
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
    exchange: NonNull<Exchange<R, Y>>,
    owner: PhantomData<&'y mut Link<'a, R, Y>>,
    /// So that the compiler does not take what a poll says about the exchange to be about another than the drop asks.
    _may_alias: PhantomPinned,
}

/// It is a pointer to what is pinned.
impl<R, Y> Unpin for Lent<'_, '_, R, Y> {}

impl<R, Y> Lent<'_, '_, R, Y> {
    #[inline]
    fn exchange(&self) -> &Exchange<R, Y> {
        // SAFETY: as in `Link::exchange`, of which this is a copy (F2).
        unsafe { self.exchange.as_ref() }
    }

    /// A poll of the yield. Ready with the answer; pending as long as the value is on its way out, and in a body that is
    /// being dropped. Pending as well if it had its answer before: that is Overpolled then.
    #[inline(always)]
    pub(crate) fn poll(&mut self) -> Poll<R> {
        let exchange = self.exchange();
        let (state, was_answered) = exchange.state.get().polled();
        exchange.state.set(state);
        if !was_answered {
            return Poll::Pending;
        }
        // Volatile, so that the compiler does not make one store of this and the one above, for which it would compute both
        // states in registers: a quarter of what a resume costs.
        // SAFETY: the cell's own place, and there is no reference to what is in it.
        unsafe { exchange.state.as_ptr().write_volatile(State::RUNNING) };
        // SAFETY: F7: it was Answered, so an `R` lies there; F5, F6: nobody else looks at it, and it is read this once.
        let answer = unsafe { exchange.answer_place().read() };
        let state = self.exchange().state.get();
        // Nothing is to be withdrawn when this is dropped, as it is next: told here, that need not be asked there.
        // SAFETY: it has been set above, and nothing has run since.
        unsafe { hint::assert_unchecked(state == State::RUNNING) };
        Poll::Ready(answer)
    }
}

impl<R, Y> Drop for Lent<'_, '_, R, Y> {
    #[inline(always)]
    fn drop(&mut self) {
        self.exchange().withdraw();
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
    /// A body that panics is done when the panic goes on.
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

/// A body and its exchange, in one place. The exchange is first: its address is the frame's, and no other has to be kept.
#[repr(C)]
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
    /// What comes before running where it does not stand at a yield: makes the future if it is Fresh. Gives the answer back
    /// if it is not to run. In place as far as it is Fresh, so that the compiler sees what is made, begun and dropped in one
    /// function: a third of what that costs.
    #[inline(always)]
    fn begin(self: Pin<&mut Self>, answer: R, takes_argument: bool) -> Result<(), R> {
        rarely();
        let closing = &self.exchange.closing;
        if takes_argument {
            // No generator: it is not closed but at once.
            if closing.get().is_some() {
                return self.go_on(answer);
            }
        } else {
            if closing.get() == Some(Closing::No) {
                return self.go_on(answer);
            }
            // G5 of `async_generator.rs`.
            if again(closing).is_some() {
                return Err(answer);
            }
        }
        rarely();
        // SAFETY: nothing is moved out below but the start, which is not pinned.
        let this = unsafe { self.get_unchecked_mut() };
        let exchange = &this.exchange;
        exchange.closing.set(Some(Closing::No));
        exchange.state.set(State::RUNNING);
        let over = Over(exchange);
        if takes_argument {
            exchange.put_answer(answer, const { State::argument::<R>() });
        }
        // SAFETY: F4: it was Fresh, since `closing` was empty; so the start is there.
        let start = unsafe { &mut this.code.start };
        // SAFETY: it is taken this once, since it is not Fresh any more.
        let start = unsafe { ManuallyDrop::take(start) };
        let co = Co::new(Link { exchange: NonNull::from(exchange), brand: PhantomData });
        this.code.future = ManuallyDrop::new(start.start(co));
        mem::forget(over);
        Ok(())
    }

    /// `begin` where it has begun.
    #[inline(always)]
    fn go_on(self: Pin<&mut Self>, answer: R) -> Result<(), R> {
        let (state, was_else) = self.exchange.state_again().going_on();
        self.exchange.state.set(state);
        if !was_else {
            return Ok(());
        }
        rarely();
        let state = self.exchange.state_again().waiting(); // as it was
        self.exchange.state.set(state);
        Err(if state == State::DONE { answer } else { self.panicked(answer) })
    }

    /// Drops a body out of which a panic came. Hands the answer through, so that no register has to keep it meanwhile.
    #[cold]
    #[inline(never)]
    fn panicked(self: Pin<&mut Self>, answer: R) -> R {
        self.close();
        answer
    }

    /// Polls the body.
    ///
    /// # Safety
    ///
    /// The future is there (F4), and if the state is Offered, a `Y` lies there (F7).
    #[inline]
    unsafe fn run<U>(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Stop<R, Y, U>
    where
        E: Fn(<S::Future as Future>::Output) -> U + Copy,
    {
        let mut running = Running(self);
        // SAFETY: nothing is moved out below.
        let this = unsafe { running.0.as_mut().get_unchecked_mut() };
        // SAFETY: the caller says that it is there.
        let future = unsafe { &mut *this.code.future };
        // SAFETY: it is pinned with its frame, and leaves it only by being dropped in place (F4).
        let future = unsafe { Pin::new_unchecked(future) };
        let polled = future.poll(cx);
        let this = running.finish();
        let Poll::Ready(value) = polled else {
            // SAFETY: that was the poll, and of what was before the caller says the same.
            if let Some(value) = unsafe { this.exchange.take_offered() } {
                return Stop::Yielded(value);
            }
            return this.waiting();
        };
        if this.exchange.state_again().is_misuse() {
            this.misused()
        }
        let end = this.end;
        // SAFETY: F4: the future is there, since it has just been polled; F7: if it is Offered, that was in this poll.
        unsafe { this.end_future() };
        Stop::Returned(end(value))
    }

    /// What stopped the body, if not a yield that was polled. The state is as `stopping` left it.
    #[inline]
    fn waiting<U>(self: Pin<&mut Self>) -> Stop<R, Y, U> {
        // Asked by itself, so that the usual case is one comparison in memory.
        if self.exchange.state_again() == const { State::RUNNING.stopping().0 } {
            self.exchange.state.set(State::RUNNING.waiting());
            return Stop::Waiting;
        }
        let state = self.exchange.state_again().not_stopping();
        self.exchange.state.set(state);
        match state {
            State::ANSWERED => {
                self.unheard();
                Stop::Unheard
            }
            State::CROWDED | State::OVERPOLLED => self.misused(),
            _ => {
                self.exchange.state.set(state.waiting());
                Stop::Waiting
            }
        }
    }

    /// Drops a body that did not listen to its answer.
    #[cold]
    #[inline(never)]
    fn unheard(self: Pin<&mut Self>) {
        let ends = Ends(self);
        ends.0.exchange.empty(State::TAKEN);
    }

    /// Drops the body, and reports.
    #[cold]
    #[inline(never)]
    fn misused(self: Pin<&mut Self>) -> ! {
        let state = self.exchange.state.get();
        let _ends = Ends(self);
        if state == State::OVERPOLLED {
            panic!("`yield_` was polled after it had given its value")
        }
        panic!(
            "`yield_` was called while the value of an earlier `yield_` had not been taken; await each before the next"
        )
    }

    /// Drops a body that has not begun.
    ///
    /// # Safety
    ///
    /// It is Fresh.
    #[inline]
    unsafe fn end_fresh(self: Pin<&mut Self>) {
        // SAFETY: nothing is moved out below.
        let this = unsafe { self.get_unchecked_mut() };
        this.exchange.closing.set(Some(Closing::No));
        let _over = Over(&this.exchange);
        // SAFETY: F4: it is Fresh, so the start is there.
        let start = unsafe { &mut this.code.start };
        // SAFETY: it is dropped this once: it is Done after this, whatever happens.
        unsafe { ManuallyDrop::drop(start) };
    }

    /// The same where it is not Fresh.
    ///
    /// # Safety
    ///
    /// The future is there (F4); if it is Offered, a `Y` lies there (F7).
    #[inline]
    unsafe fn end_future(self: Pin<&mut Self>) {
        // SAFETY: nothing is moved out below.
        let this = unsafe { self.get_unchecked_mut() };
        let _over = Over(&this.exchange);
        // SAFETY: the caller says that it is there.
        let future = unsafe { &mut this.code.future };
        // SAFETY: it is dropped this once: it is Done after this, whatever happens.
        unsafe { ManuallyDrop::drop(future) };
    }
}

impl<R, Y, S: Start<R, Y>, E> Held<R> for Frame<R, Y, S, E> {
    #[inline]
    fn phase(&self) -> Phase {
        match self.exchange.state.get() {
            State::FRESH => Phase::Fresh,
            State::AT_YIELD => Phase::AtYield,
            state if state.is_waiting() => Phase::Awaiting,
            _ => Phase::Done, // or a panic came out of it
        }
    }

    #[inline]
    fn closing(&self) -> Closing {
        self.exchange.closing.get().unwrap_or(Closing::No)
    }

    fn set_closing(self: Pin<&mut Self>, closing: Closing) {
        self.exchange.closing.set(Some(closing));
    }

    fn answer(self: Pin<&mut Self>, answer: R) {
        assert_eq!(self.phase(), Phase::AtYield);
        self.exchange.put_answer(answer, State::ANSWERED.waiting());
    }

    fn take_missed(self: Pin<&mut Self>) -> bool {
        self.exchange.missed.take()
    }

    #[inline]
    fn close(self: Pin<&mut Self>) {
        match self.exchange.state.get() {
            State::DONE => return,
            // SAFETY: it is.
            State::FRESH => return unsafe { self.end_fresh() },
            State::AT_YIELD => self.exchange.state.set(State::TAKEN), // F7: this is between polls
            state if state.is_waiting() => self.exchange.state.set(state.going_on().0),
            _ => {} // a panic came out of it, and what lies there is as it was then
        }
        // SAFETY: F4: it is neither Fresh nor Done, and `begin` is over, since it had this exclusively: so the future is
        // there. F7: what lies in the slot is as the state says.
        unsafe { self.end_future() }
    }
}

impl<R, Y, S: Start<R, Y>, E, U> Body<R, Y> for Frame<R, Y, S, E>
where
    E: Fn(<S::Future as Future>::Output) -> U + Copy,
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
        if self.exchange.state.get() == State::AT_YIELD {
            self.exchange.put_answer(answer, State::ANSWERED);
        } else if let Err(refused) = self.as_mut().begin(answer, takes_argument) {
            return Stop::Refused(refused);
        }
        // SAFETY: F4: it stood at a yield, or `begin` left it neither Fresh nor Done. F7: if it is Offered now, then since
        // `begin`, by a yield that was polled and leaked there.
        unsafe { self.run(cx) }
    }
}

/// Sees a panic that unwinds through the poll, and ends the body.
///
/// Where no value needs to be dropped, it does nothing: an async block has dropped what it held by then, and the state is one
/// that no poll leaves behind, so that whoever looks next sees it. Then the usual way saves no register for a panic. Another
/// future is dropped when its frame is next touched.
struct Running<'f, R, Y, S: Start<R, Y>, E>(Pin<&'f mut Frame<R, Y, S, E>>);

impl<'f, R, Y, S: Start<R, Y>, E> Running<'f, R, Y, S, E> {
    /// The poll is over, and without a panic.
    #[inline(always)]
    fn finish(self) -> Pin<&'f mut Frame<R, Y, S, E>> {
        let this = ManuallyDrop::new(self);
        // SAFETY: it is moved out this once: the rest is neither used nor dropped.
        unsafe { std::ptr::read(&this.0) }
    }
}

impl<R, Y, S: Start<R, Y>, E> Drop for Running<'_, R, Y, S, E> {
    #[inline(always)]
    fn drop(&mut self) {
        if const { mem::needs_drop::<R>() || mem::needs_drop::<Y>() } {
            // SAFETY: F4: made by `run`, where the future is there; F7: if it is Offered, that was in this poll.
            unsafe { self.0.as_mut().end_future() }
        }
    }
}

/// Ends a body that has been polled, when dropped.
struct Ends<'f, R, Y, S: Start<R, Y>, E>(Pin<&'f mut Frame<R, Y, S, E>>);

impl<R, Y, S: Start<R, Y>, E> Drop for Ends<'_, R, Y, S, E> {
    fn drop(&mut self) {
        // SAFETY: F4: made after a poll, where the future is there; F7: it is not Offered, since nothing was yielded.
        unsafe { self.0.as_mut().end_future() }
    }
}

/// Drops what lies in the slot of a body that has been dropped or never came to be, when dropped itself: also after a
/// destructor that panics (F4).
struct Over<'f, R, Y>(&'f Exchange<R, Y>);

impl<R, Y> Drop for Over<'_, R, Y> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.empty(State::DONE);
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
