//! Where a body and its resumer meet: all the unsafe code of this crate.
//!
//! A coroutine is an async block. Its frame keeps, side by side and pinned, the block and the *exchange*: one slot
//! through which values go in and out, and one word that says how things stand. The block's handle holds a pointer to the
//! exchange ([`Link`]), the resumer reaches it through the frame, and they take turns: the resumer leaves a value in the
//! slot and polls, the block takes it, runs on, leaves its next value and returns `Pending`.
//!
//! ```text
//!        begin             yield_            its first poll             resume              its next poll
//! Fresh ───────► Running ──────────► Placed ────────────────► Offered ──────────► Answered ───────────► Running
//!                 │  ▲ ▲               │                         │                   │
//!                 └──┘ └───────────────┴── the yield is dropped ─┴───────────────────┘
//!            waits for something else
//!
//! any of them ── it returned, or close: the body is dropped, then what lies in the slot ──► Done
//! any of them ── a panic comes out of the poll ──► Panicked ── the same, now or at the next touch ──► Done
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
//!     also when a destructor panics, and is final. A future out of which a panic came is not polled any more. Therefore
//!     whoever holds a link, destructors included, finds the exchange alive.
//! F5. The exchange is only ever borrowed as shared, and it is `!Unpin`, so that an exclusive borrow of the frame does
//!     not claim that nobody else points into it. What lies in it is never borrowed: values are moved in and out.
//! F6. Resumer and body never touch the exchange at once: the resumer does so before and after a poll, the body within.
//!     If the body lends its handle to another thread, that is a scoped thread (F3) which ends before the poll does.
//! F7. The state says what lies in the slot: an `R` when Answered or Argument, a `Y` when Placed or Offered, else
//!     nothing. Between two polls an Offered `Y` has been taken: [`Frame::run`] does that at once, and whoever lets the
//!     body go on answers first. A body that is dropped there finds Taken. Whoever moves a value in or out changes the
//!     state with it, and lets no foreign code (destructors) run between the two.
//! F8. There is one yield at a time: the one way to the slot from within, the handle, is lent to it until it is dropped.
//!     So as long as it is there the state is its own: Placed before its first poll, then Offered, then Answered (or
//!     Taken, when the body is dropped instead), and Running once it gave its answer (Overpolled if it is polled even
//!     then). It leaves Running behind, or Taken, or Overpolled, which is told where the body stops next. A yield that is
//!     forgotten (`mem::forget`) leaves its state behind, and what lies there, for the next to find. All this holds while
//!     the body is dropped too: that begins with the slot as it is, and what its destructors put there is dropped after it.

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
///
/// The numbers are such that each step of the usual way is one instruction in memory, which asks as well: a yield subtracts
/// [`STEP`](Self::STEP) and borrows unless it was Running, the greatest; a poll takes all bits but two and leaves zero if it
/// was Answered. That step leads from Placed to Offered, where it stays, however often it is polled, and from Running to
/// Overpolled, which whoever looks next reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State(u8);

impl State {
    /// As Running, and an `R` lies there that no yield has taken yet.
    const ANSWERED: Self = Self(0);
    /// As Running, and the `Y` of a yield that has been polled lies there, on its way out. Between polls: stopped at that
    /// yield, and the slot is empty.
    const OFFERED: Self = Self(0b0000_0001);
    /// As Running, and the `Y` of a yield that has not been polled lies there.
    const PLACED: Self = Self(0b0000_0011);
    /// As Running, and the `R` of the first resume lies there, which nobody has asked for yet.
    const ARGUMENT: Self = Self(0b0000_0100);
    /// Never polled; the slot is empty.
    const FRESH: Self = Self(0b0000_1000);
    /// Dropped; the slot is empty.
    const DONE: Self = Self(0b0001_0000);
    /// As Offered, but in a body that is being dropped, and the slot is empty. Also when that yield is gone.
    const TAKEN: Self = Self(0b0100_0000);
    /// As Running, and a yield has been polled after it had given its value.
    const OVERPOLLED: Self = Self(0b0100_0001);
    /// Being polled or dropped, or stopped at an await that is not a yield; the slot is empty.
    const RUNNING: Self = Self(0b0111_1111);
    /// Set besides when a panic has come out of the poll, where that did not drop everything at once.
    const PANICKED: u8 = 0b1000_0000;

    /// From Running down to Placed.
    const STEP: u8 = Self::RUNNING.0 - Self::PLACED.0;

    /// A yield: from Running to Placed. Whether it was something else.
    #[inline(always)]
    const fn yielding(self) -> (Self, bool) {
        let (state, was_else) = self.0.overflowing_sub(State::STEP);
        (Self(state), was_else)
    }

    fn has_panicked(self) -> bool {
        self.0 & State::PANICKED != 0
    }

    /// What it was before `yielding`.
    const fn not_yielding(self) -> Self {
        Self(self.0.wrapping_add(State::STEP))
    }

    /// After the poll of a yield: from Placed to Offered, from Running to Overpolled.
    #[inline(always)]
    const fn polled(self) -> Self {
        Self(self.0 & Self::OVERPOLLED.0)
    }
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
#[repr(C)]
struct Exchange<R, Y> {
    state: Cell<State>,
    /// The slot for an `R` that is no larger: beside the state, so that both are written at once.
    small: UnsafeCell<MaybeUninit<u8>>,
    /// Whether an answer was dropped without having been heard.
    missed: Cell<bool>,
    /// The generator's, which keeps it here because there is room.
    closing: Cell<Closing>,
    value: UnsafeCell<MaybeUninit<Value<R, Y>>>,
    _pinned: PhantomPinned,
}

impl<R, Y> Exchange<R, Y> {
    fn new() -> Self {
        Self {
            state: Cell::new(State::FRESH),
            small: UnsafeCell::new(MaybeUninit::uninit()),
            missed: Cell::new(false),
            closing: Cell::new(Closing::No),
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
        if self.state.get() != State::ARGUMENT {
            return None;
        }
        self.state.set(State::RUNNING);
        // SAFETY: F7: it was Argument, so an `R` lies there; F5, F6: nobody else looks at it, and it is read this once.
        Some(unsafe { self.answer_place().read() })
    }

    /// After a poll of the body: moves the value out whose yield was polled in it, if one was. The state stays: the body
    /// stands at that yield.
    ///
    /// # Safety
    ///
    /// It is called once after that poll; and before it, Offered meant that a `Y` lay there.
    #[inline]
    unsafe fn take_offered(&self) -> Option<Y> {
        if self.state.get() != State::OFFERED {
            return None;
        }
        // SAFETY: F7: it is Offered and that is since the poll, so a `Y` lies there; F5, F6: nobody else looks at it, and
        // it is read this once, as the caller says.
        Some(unsafe { self.value.get().cast::<Y>().read() })
    }

    /// Moves the value of a yield in. The slot is empty, or what lies there is forgotten.
    #[inline(always)]
    fn put_value(&self, value: Y) {
        // SAFETY: F5, F6: nobody else looks at it now, and no reference to it exists; the union has room for a `Y`.
        unsafe { self.value.get().cast::<Y>().write(value) };
    }

    /// Takes back the step of a yield that did not find Running, and makes room for its value: drops the argument, an
    /// unpolled value, or what the resumer sent to a yield that no longer exists.
    fn make_room(&self) {
        self.state.set(self.state.get().not_yielding());
        match self.state.get() {
            State::OFFERED => panic!(
                "`yield_` was called while the value of an earlier `yield_` had not been taken; await each before the \
                 next"
            ),
            State::OVERPOLLED => overpolled(),
            _ => self.empty(State::RUNNING),
        }
        self.state.set(State::PLACED);
    }

    /// The same where nothing needs to be dropped. In place, since a call that comes back costs the usual way a register.
    #[inline(always)]
    fn make_room_in_place(&self) {
        // First what every coroutine meets once. Read twice, so that the compiler does not ask it last.
        if self.state_again().not_yielding() != State::ARGUMENT {
            match self.state_again().not_yielding() {
                State::OFFERED | State::OVERPOLLED => self.misused(),
                State::ANSWERED => self.missed.set(true),
                _ => {}
            }
        }
        self.state.set(State::PLACED);
    }

    #[cold]
    #[inline(never)]
    fn misused(&self) -> ! {
        self.make_room();
        unreachable!("`make_room` panics in these states")
    }

    /// The state, read from memory once more. Volatile, so that the compiler compares it where it lies rather than in a
    /// register that all ways then share.
    #[inline]
    fn state_again(&self) -> State {
        // SAFETY: the cell's own place, and there is no reference to what is in it.
        unsafe { self.state.as_ptr().read_volatile() }
    }

    /// Drops what the state says lies there; it is `next` then. The body runs or is being dropped.
    #[inline]
    fn empty(&self, next: State) {
        match self.state.replace(next) {
            state @ (State::ANSWERED | State::ARGUMENT) => {
                if state == State::ANSWERED {
                    self.missed.set(true);
                }
                // SAFETY: F7: it was Answered or Argument, so an `R` lies there; F5, F6: nobody else looks at it,
                // and it is read this once.
                drop(unsafe { self.answer_place().read() });
            }
            State::OFFERED | State::PLACED => {
                // SAFETY: F7: it was Placed or Offered, so a `Y` lies there; F5, F6: nobody else looks at it, and it is read
                // this once.
                drop(unsafe { self.value.get().cast::<Y>().read() });
            }
            State::OVERPOLLED if next == State::RUNNING => self.state.set(State::OVERPOLLED), // to be reported
            _ => {}
        }
    }

    /// Drops what is left by a yield that is dropped, if it had no answer.
    #[inline]
    fn withdraw(&self) {
        // Taken is what most find that are dropped with their body, and it may stay.
        if !matches!(self.state.get(), State::RUNNING | State::TAKEN) {
            self.empty(State::RUNNING);
        }
    }
}

/// Tells the compiler where to put what follows: out of the way.
#[cold]
#[inline(always)]
fn rarely() {}

#[cold]
#[inline(never)]
fn overpolled() -> ! {
    panic!("`yield_` was polled after it had given its value")
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

    /// Moves the argument out, if there is one.
    #[inline]
    pub(crate) fn argument(&mut self) -> Option<R> {
        self.exchange().argument()
    }

    /// Puts down the value of a yield, to be offered when that is polled.
    ///
    /// # Panics
    ///
    /// If the value of an earlier yield lies there.
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
            exchange.make_room_in_place();
        }
        exchange.put_value(value);
        Lent { exchange: self.exchange, owner: PhantomData, _may_alias: PhantomPinned }
    }

    /// `put_value` where something lies there. Gives the pointer back, so that no register has to keep it meanwhile; which
    /// the compiler would do if it knew.
    #[cold]
    #[inline(never)]
    fn put_over(&mut self, value: Y) -> NonNull<Exchange<R, Y>> {
        let exchange = self.exchange();
        exchange.make_room();
        exchange.put_value(value);
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
        let state = exchange.state.get().polled();
        exchange.state.set(state);
        if state != State::ANSWERED {
            return Poll::Pending;
        }
        rarely(); // The value that is offered next is the longer way.
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
    /// What comes before running where it does not stand at a yield: makes the future if it is Fresh. Gives the answer
    /// back if it is done. In place as far as it is Fresh, so that the compiler sees what is made, begun and dropped in one
    /// function: a third of what that costs.
    #[inline(always)]
    fn begin(self: Pin<&mut Self>, answer: R, takes_argument: bool) -> Result<(), R> {
        rarely();
        if self.exchange.state_again() != State::FRESH {
            return self.has_begun(answer);
        }
        // SAFETY: nothing is moved out below but the start, which is not pinned.
        let this = unsafe { self.get_unchecked_mut() };
        let exchange = &this.exchange;
        exchange.state.set(State::RUNNING);
        let over = Over(exchange);
        if takes_argument {
            exchange.put_answer(answer, State::ARGUMENT);
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

    /// `begin` where it is not Fresh.
    #[cold]
    #[inline(never)]
    fn has_begun(self: Pin<&mut Self>, answer: R) -> Result<(), R> {
        match self.exchange.state.get() {
            State::DONE => Err(answer),
            state if state.has_panicked() => {
                self.close();
                Err(answer)
            }
            _ => Ok(()),
        }
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
        if this.exchange.state_again() == State::OVERPOLLED {
            this.overpolled()
        }
        let end = this.end;
        // SAFETY: F4: the future is there, since it has just been polled; F7: if it is Offered, that was in this poll.
        unsafe { this.end_future() };
        Stop::Returned(end(value))
    }

    /// What stopped the body, if not a yield that was polled.
    #[inline]
    fn waiting<U>(self: Pin<&mut Self>) -> Stop<R, Y, U> {
        match self.exchange.state_again() {
            State::ANSWERED => {
                let ends = Ends(self);
                ends.0.exchange.empty(State::TAKEN);
                Stop::Unheard
            }
            State::OVERPOLLED => self.overpolled(),
            _ => Stop::Waiting,
        }
    }

    /// Drops the body, and panics.
    #[cold]
    #[inline(never)]
    fn overpolled(self: Pin<&mut Self>) -> ! {
        let _ends = Ends(self);
        overpolled()
    }

    /// Drops the body in place, then what lies in the slot.
    ///
    /// # Safety
    ///
    /// It is not Done, nor in `begin` (F4); if it is Offered, a `Y` lies there (F7).
    #[inline]
    unsafe fn end(self: Pin<&mut Self>) {
        if self.exchange.state.get() != State::FRESH {
            // SAFETY: F4: it is neither Fresh nor Done, so the future is there; the rest is as the caller says.
            return unsafe { self.end_future() };
        }
        // SAFETY: nothing is moved out below.
        let this = unsafe { self.get_unchecked_mut() };
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
            State::OFFERED => Phase::AtYield,
            State::DONE => Phase::Done,
            state if state.has_panicked() => Phase::Done,
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
        self.exchange.put_answer(answer, State::ANSWERED);
    }

    fn take_missed(self: Pin<&mut Self>) -> bool {
        self.exchange.missed.take()
    }

    fn close(self: Pin<&mut Self>) {
        match self.exchange.state.get() {
            State::DONE => return,
            // F7: what was offered before the panic has not been taken.
            state if state.has_panicked() => self.exchange.state.set(State(state.0 & !State::PANICKED)),
            State::OFFERED => self.exchange.state.set(State::TAKEN), // F7: this is between polls
            _ => {}
        }
        // SAFETY: F4: it is not Done, and `begin` is over or was never called, since it had this exclusively.
        unsafe { self.end() }
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
        if self.exchange.state.get() == State::OFFERED {
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
/// Where no value needs to be dropped, it only notes the panic: an async block has dropped what it held by then, and a note
/// is short enough to be made in place, so that the usual way saves no register for a call. Another future is dropped when
/// its frame is next touched.
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
        } else {
            let state = &self.0.exchange.state;
            state.set(State(state.get().0 | State::PANICKED));
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
