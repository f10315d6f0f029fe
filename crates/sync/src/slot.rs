//! A value's way from one half to the other: one allocation, one atomic word, no lock, no reference count.
//!
//! The *giver* gives a value once or leaves without; the *taker* takes it once or leaves without. Each may wait for the
//! other: the taker for the value, the giver for the taker's leaving. Everything they agree on is in `word`:
//!
//! | bit           | set by | means                                     | cleared by                                |
//! |---------------|--------|-------------------------------------------|-------------------------------------------|
//! | `GAVE`        | giver  | the value is in place                     | never                                     |
//! | `GIVER_GONE`  | giver  | it gave, or left without                  | never                                     |
//! | `CLOSED`      | taker  | it accepts no value any more              | never                                     |
//! | `TAKER_GONE`  | taker  | it left; never without `CLOSED`           | never                                     |
//! | `TAKER_WAITS` | taker  | `taker_waker` is full                     | the taker, or the giver after it has gone |
//! | `GIVER_WAITS` | giver  | `giver_waker` is full                     | the giver, or the taker after it closed   |
//!
//! The taker's waker seen by the giver (the other direction is the same with the names exchanged):
//!
//! ```text
//! nothing ── register ──► TAKER_WAITS ── give, leave ──► TAKER_WAITS + GIVER_GONE ── taken out ──► GIVER_GONE, then wake
//!    │  ◄── withdraw ─────────┘                                  the giver's turn
//!    └── give, leave ──► GIVER_GONE
//! ```
//!
//! S1. The value is the giver's until `GAVE`, from then on the taker's.
//! S2. A full waker place is its owner's until the other half ends (`GIVER_GONE`, `CLOSED`). A half that ends and finds
//!     the other one waiting takes that waker out, and clears the bit when it has.
//! S3. The giver is *through* when it is gone and `TAKER_WAITS` is not set; the taker when it is gone and `GIVER_WAITS` is
//!     not set. Who is through touches the memory no more, and the second one to be through frees it.
//! S4. Nobody registers with a half that has ended, and a half withdraws before it leaves. So the bits of S3 cannot be
//!     set again.
//! S5. Wakers are cloned before and woken or dropped after the word changes; a panic in one leaves the word in order.
//!
//! Why not a mutex: making, giving and taking is 18 ns, of which the allocation is 7; a mutex alone would add as much
//! as that. Why no reference count: it would add three read-modify-writes to the single one that a value which nobody waits
//! for needs.
//!
//! Discussion: in the giver's turn above, the taker can already take the value (S1), and only the memory has to wait for the
//! giver. So neither half ever waits for the other one inside a call.

use crate::wait_list::wake;
use evenloop_core::shim::UnsafeCell;
use evenloop_core::shim::atomic::{AtomicU8, Ordering};
use evenloop_core::watch::{self, On};
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::NonNull;
use std::task::{Poll, Waker};

const TAKER_WAITS: u8 = 1;
const GIVER_WAITS: u8 = 2;
const GAVE: u8 = 4;
const GIVER_GONE: u8 = 8;
const CLOSED: u8 = 16;
const TAKER_GONE: u8 = 32;

/// The memory that the halves share.
struct Shared<T> {
    /// The bits above.
    word: AtomicU8,
    /// Owned as S1 says.
    value: UnsafeCell<MaybeUninit<T>>,
    /// Owned as S2 says.
    taker_waker: WakerPlace,
    /// Owned as S2 says.
    giver_waker: WakerPlace,
}

/// Room for a waker; the word says whether it is full and whose it is.
struct WakerPlace(UnsafeCell<MaybeUninit<Waker>>);

/// The half that gives.
pub(crate) struct Giver<T> {
    shared: NonNull<Shared<T>>,
    owns: PhantomData<Box<Shared<T>>>,
}

/// The half that takes.
pub(crate) struct Taker<T> {
    shared: NonNull<Shared<T>>,
    owns: PhantomData<Box<Shared<T>>>,
}

/// What the taker would find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// Nothing yet.
    Open,
    /// A value.
    Given,
    /// Nothing, and nothing will come.
    Ended,
}

// SAFETY: the halves send a `T` from one thread to the other, and share only what the word guards.
unsafe impl<T: Send> Send for Giver<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Taker<T> {}
// SAFETY: a shared reference to a half can do no more than read the word.
unsafe impl<T: Send> Sync for Giver<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Taker<T> {}

/// Two halves with nothing between them yet.
pub(crate) fn pair<T>() -> (Giver<T>, Taker<T>) {
    let shared = Box::new(Shared {
        word: AtomicU8::new(0),
        value: UnsafeCell::new(MaybeUninit::uninit()),
        taker_waker: WakerPlace::new(),
        giver_waker: WakerPlace::new(),
    });
    let shared = NonNull::from(Box::leak(shared));
    (Giver { shared, owns: PhantomData }, Taker { shared, owns: PhantomData })
}

fn giver_is_through(word: u8) -> bool {
    word & (GIVER_GONE | TAKER_WAITS) == GIVER_GONE
}

fn taker_is_through(word: u8) -> bool {
    word & (TAKER_GONE | GIVER_WAITS) == TAKER_GONE
}

// === impl Giver ===

impl<T> Giver<T> {
    /// Gives the value, and wakes the taker if it waits.
    ///
    /// # Errors
    ///
    /// The taker has closed; the value comes back.
    #[inline(always)]
    pub(crate) fn give(self, value: T) -> Result<(), T> {
        let shared = self.shared();
        // ORDERING: Relaxed: the exchange below decides.
        let mut seen = shared.word.load(Ordering::Relaxed);
        if seen & (GIVER_WAITS | CLOSED) != 0 {
            self.withdraw(); // its `closed` future was leaked, if it waits
            seen = shared.word.load(Ordering::Relaxed);
            if seen & CLOSED != 0 {
                return self.refuse(value);
            }
        }
        shared.value.with_mut(|place| {
            // SAFETY: S1: the value is ours, for GAVE is not set.
            let place = unsafe { &mut *place };
            place.write(value);
        });
        // ORDERING: Release publishes the value; pairs with the Acquire with which the taker reads the word. Acquire sees
        // the taker's waker; pairs with the Release in `wait`. A failure decides nothing.
        while let Err(now) = shared.word.compare_exchange_weak(
            seen,
            seen | GAVE | GIVER_GONE,
            Ordering::AcqRel,
            Ordering::Relaxed,
        ) {
            if now & CLOSED != 0 {
                // SAFETY: S1: GAVE is still not set, and the value was written above.
                let value = unsafe { shared.read_value() };
                return self.refuse(value);
            }
            seen = now;
        }
        let this = ManuallyDrop::new(self);
        this.after_going(seen);
        Ok(())
    }

    /// Leaves without having given the value: the taker has closed. Out of line, so that giving is short enough to be inlined.
    #[cold]
    fn refuse(self, value: T) -> Result<(), T> {
        Err(value)
    }

    /// Whether the taker accepts no value any more.
    pub(crate) fn is_closed(&self) -> bool {
        // ORDERING: Acquire sees what the taker did before it closed; pairs with the Release in `close` and `end`.
        self.shared().word.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Whether the taker waits for the value.
    pub(crate) fn is_awaited(&self) -> bool {
        // ORDERING: Relaxed: a snapshot for people.
        self.shared().word.load(Ordering::Relaxed) & TAKER_WAITS != 0
    }

    /// Ready once the taker accepts no value any more.
    pub(crate) fn poll_closed(&mut self, waker: &Waker) -> Poll<()> {
        let shared = self.shared();
        // SAFETY: the place is the giver's own, and `&mut self` says that this is the only one at it.
        unsafe { shared.wait(&shared.giver_waker, GIVER_WAITS, CLOSED, waker) }
    }

    /// Takes back the waker that [`poll_closed`](Self::poll_closed) left.
    #[inline(never)]
    pub(crate) fn withdraw(&self) {
        let shared = self.shared();
        // SAFETY: the place is the giver's own, and nobody else withdraws: the callers hold the giver exclusively.
        drop(unsafe { shared.withdraw(&shared.giver_waker, GIVER_WAITS, CLOSED) });
    }

    /// What is left to do for a giver that set `GIVER_GONE` and found `before`.
    #[inline]
    fn after_going(&self, before: u8) {
        if before & TAKER_WAITS != 0 {
            self.wake_taker();
        } else if taker_is_through(before) {
            // SAFETY: S3: through was the taker, and now the giver.
            unsafe { Shared::free(self.shared) };
        }
    }

    /// The giver's turn: it is gone, and found the taker waiting.
    #[inline(never)]
    fn wake_taker(&self) {
        let shared = self.shared();
        // SAFETY: S2: the taker waited when the giver ended, so the waker is ours.
        let waker = unsafe { shared.taker_waker.take() };
        // ORDERING: Release lets the taker free the memory after we read the waker, Acquire lets us free it after the
        // taker; pairs with the same in `Taker::end`.
        let before = shared.word.fetch_sub(TAKER_WAITS, Ordering::AcqRel); // it is set, and one instruction
        if taker_is_through(before) {
            // SAFETY: S3, as above. The value was the taker's, and it took it before it was gone.
            unsafe { Shared::free(self.shared) };
            drop(waker);
        } else {
            wake(waker);
        }
    }

    fn shared(&self) -> &Shared<T> {
        // SAFETY: S3: the memory lives until this half is through, and its methods do not touch it after that.
        unsafe { self.shared.as_ref() }
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        self.withdraw();
        // ORDERING: Release lets the taker free the memory after us; Acquire sees its waker, and lets us free the memory
        // after it. Pairs with the same in `wait` and `Taker::end`.
        let before = self.shared().word.fetch_or(GIVER_GONE, Ordering::AcqRel);
        self.after_going(before);
    }
}

// === impl Taker ===

impl<T> Taker<T> {
    /// What [`end`](Self::end) would find.
    pub(crate) fn outlook(&self) -> Outlook {
        // ORDERING: Relaxed: `end` acquires what the giver did, and looks at nothing older than this.
        let word = self.shared().word.load(Ordering::Relaxed);
        match word {
            _ if word & GAVE != 0 => Outlook::Given,
            _ if word & (GIVER_GONE | CLOSED) != 0 => Outlook::Ended,
            _ => Outlook::Open,
        }
    }

    /// Whether [`poll_ready`](Self::poll_ready) left a waker.
    pub(crate) fn is_waiting(&self) -> bool {
        // ORDERING: Relaxed: a snapshot for people.
        self.shared().word.load(Ordering::Relaxed) & TAKER_WAITS != 0
    }

    /// Ready once there is a value, or none can come: then [`end`](Self::end) is due.
    #[inline]
    pub(crate) fn poll_ready(&mut self, waker: &Waker) -> Poll<()> {
        // ORDERING: Relaxed, as in `outlook`.
        let word = self.shared().word.load(Ordering::Relaxed);
        if word & (GAVE | GIVER_GONE | CLOSED) != 0 {
            return Poll::Ready(());
        }
        self.wait(waker)
    }

    #[inline(never)]
    fn wait(&mut self, waker: &Waker) -> Poll<()> {
        let shared = self.shared();
        // SAFETY: the place is the taker's own, and `&mut self` says that this is the only one at it.
        unsafe { shared.wait(&shared.taker_waker, TAKER_WAITS, GIVER_GONE, waker) }
    }

    /// Accepts no value from now on, and wakes the giver if it waits for that. A value that is there can be taken.
    pub(crate) fn close(&mut self) {
        let shared = self.shared();
        // Who closes waits for nothing any more.
        // SAFETY: the place is the taker's own, and `&mut self` says that this is the only one at it.
        drop(unsafe { shared.withdraw(&shared.taker_waker, TAKER_WAITS, GIVER_GONE) });
        // ORDERING: Release publishes what came before the closing, Acquire sees the giver's waker; pairs with the Acquire
        // and Release in `wait`, and the Acquire in `is_closed`.
        let before = shared.word.fetch_or(CLOSED, Ordering::AcqRel);
        if before & (CLOSED | GIVER_GONE | GIVER_WAITS) == GIVER_WAITS {
            // SAFETY: S2: the giver waited when this closed, so the waker is ours.
            let waker = unsafe { shared.giver_waker.take() };
            // ORDERING: Relaxed: nobody frees the memory before this half leaves, and that publishes our reading.
            shared.word.fetch_and(!GIVER_WAITS, Ordering::Relaxed);
            wake(waker);
        }
    }

    /// Leaves, with the value if there is one.
    #[inline]
    pub(crate) fn end(self) -> Option<T> {
        ManuallyDrop::new(self).end_in_place()
    }

    #[inline]
    fn end_in_place(&mut self) -> Option<T> {
        let shared = self.shared();
        // ORDERING: Acquire sees the value and all that the giver did with the memory; pairs with the Release in `give`,
        // in the giver's drop and in `wake_taker`.
        let seen = shared.word.load(Ordering::Acquire);
        if giver_is_through(seen) {
            // SAFETY: S1: the bits that were read say whether the value is there, and nobody else took it.
            let value = (seen & GAVE != 0).then(|| unsafe { shared.read_value() });
            // SAFETY: S3: through is the giver, and so are we.
            unsafe { Shared::free(self.shared) };
            return value;
        }
        self.end_before_giver()
    }

    /// As [`end`](Self::end), when the giver was not through a moment ago.
    #[cold]
    fn end_before_giver(&mut self) -> Option<T> {
        let shared = self.shared();
        // SAFETY: the place is the taker's own, and nobody else withdraws.
        let own = unsafe { shared.withdraw(&shared.taker_waker, TAKER_WAITS, GIVER_GONE) };
        // In the giver's turn the value is here while the memory is not ours alone: take it before going.
        // ORDERING: Acquire sees the value, as in `end_in_place`.
        let early = shared.word.load(Ordering::Acquire) & GAVE != 0;
        // SAFETY: S1: GAVE was read, and nobody else took the value.
        let mut value = early.then(|| unsafe { shared.read_value() });
        // ORDERING: Release lets the giver free the memory after us; Acquire sees its waker or its value, and lets us free
        // the memory after it. Pairs with the same in `give`, `wait` and `wake_taker`.
        let before = shared.word.fetch_or(CLOSED | TAKER_GONE, Ordering::AcqRel);
        if giver_is_through(before) {
            if !early && before & GAVE != 0 {
                // SAFETY: S1, as above: it came between the two looks.
                value = Some(unsafe { shared.read_value() });
            }
            // SAFETY: S3: through was the giver, and now the taker.
            unsafe { Shared::free(self.shared) };
        } else if before & (CLOSED | GIVER_GONE | GIVER_WAITS) == GIVER_WAITS {
            // SAFETY: S2: the giver waited when this closed, so the waker is ours.
            let waker = unsafe { shared.giver_waker.take() };
            // ORDERING: as in `wake_taker`, with the halves exchanged.
            let before = shared.word.fetch_and(!GIVER_WAITS, Ordering::AcqRel);
            if giver_is_through(before) {
                // SAFETY: S3, as above. There is no value: who closes gets none.
                unsafe { Shared::free(self.shared) };
                drop(waker);
            } else {
                wake(waker);
            }
        }
        drop(own);
        value
    }

    fn shared(&self) -> &Shared<T> {
        // SAFETY: S3: the memory lives until this half is through, and its methods do not touch it after that.
        unsafe { self.shared.as_ref() }
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        drop(self.end_in_place());
    }
}

// === impl Shared ===

impl<T> Shared<T> {
    /// Moves the value out.
    ///
    /// # Safety
    ///
    /// The value is there, the caller's by S1, and not read again.
    unsafe fn read_value(&self) -> T {
        self.value.with_mut(|place| {
            // SAFETY: the caller guarantees that the value is its own.
            let place = unsafe { &mut *place };
            // SAFETY: the caller guarantees that it is there and is read once.
            unsafe { place.assume_init_read() }
        })
    }

    /// Frees the memory. Value and wakers are not dropped: S1 and S2 say who has done so.
    ///
    /// # Safety
    ///
    /// Both halves are through (S3), and the caller is the second.
    unsafe fn free(this: NonNull<Self>) {
        // SAFETY: the caller guarantees that nobody else knows the memory; `pair` took it from a box.
        let shared = unsafe { Box::from_raw(this.as_ptr()) };
        // Nothing here; in a model these report whoever was at the memory without being ordered before this.
        shared.value.with_mut(|_| ());
        shared.taker_waker.0.with_mut(|_| ());
        shared.giver_waker.0.with_mut(|_| ());
        shared.word.into_inner();
    }

    /// Leaves `waker` in `place` and sets `waits`, unless `ended` is set: then Ready, and no waker is left.
    ///
    /// # Safety
    ///
    /// `place` and `waits` are the calling half's own, `ended` is the other one's, and nobody else calls this or
    /// [`withdraw`](Self::withdraw) for it meanwhile.
    #[inline]
    unsafe fn wait(&self, place: &WakerPlace, waits: u8, ended: u8, waker: &Waker) -> Poll<()> {
        // ORDERING: Relaxed: a word in which nothing has happened yet has nothing to be seen; any other is looked at again.
        let seen = self.word.load(Ordering::Relaxed);
        // While somebody asks what tasks wait for no word looks like this, so nobody else pays for the question.
        if seen != watch::zero() as u8 {
            // SAFETY: as for this function.
            return unsafe { self.wait_otherwise(place, waits, ended, waker) };
        }
        let fresh = waker.clone();
        // SAFETY: S2, S4: `waits` was not set, so the place is ours and empty.
        unsafe { place.put(fresh) };
        // SAFETY: it is full since just now.
        unsafe { self.publish(seen, place, waits, ended) }
    }

    /// As [`wait`](Self::wait), when something has happened already; tells who asks.
    ///
    /// # Safety
    ///
    /// As for [`wait`](Self::wait).
    #[inline(never)]
    unsafe fn wait_otherwise(&self, place: &WakerPlace, waits: u8, ended: u8, waker: &Waker) -> Poll<()> {
        // SAFETY: as for this function.
        let polled = unsafe { self.wait_again(place, waits, ended, waker) };
        if polled.is_pending() {
            let call = if waits == TAKER_WAITS { "oneshot::Receiver" } else { "oneshot::Sender::closed" };
            watch::wait(waker, call, || On::Nothing);
        }
        polled
    }

    /// As [`wait`](Self::wait), whatever has happened already.
    ///
    /// # Safety
    ///
    /// As for [`wait`](Self::wait).
    unsafe fn wait_again(&self, place: &WakerPlace, waits: u8, ended: u8, waker: &Waker) -> Poll<()> {
        // ORDERING: Acquire, as in `wait`.
        let seen = self.word.load(Ordering::Acquire);
        if seen & ended != 0 {
            return Poll::Ready(());
        }
        // SAFETY: S2: the place is full, and at most read by the other half meanwhile.
        if seen & waits != 0 && unsafe { place.will_wake(waker) } {
            // ORDERING: Acquire, as above. A read-modify-write sees the newest word: the wake-up that brings us here may
            // have synchronised with nobody, and a second one will not come.
            let now = self.word.fetch_or(0, Ordering::Acquire);
            return if now & ended != 0 { Poll::Ready(()) } else { Poll::Pending };
        }
        let fresh = waker.clone();
        let (mut seen, mut old) = (seen, None);
        if seen & waits != 0 {
            // SAFETY: as the caller guarantees for us.
            old = unsafe { self.withdraw(place, waits, ended) };
            // ORDERING: as above.
            seen = self.word.load(Ordering::Acquire);
            if seen & ended != 0 {
                return Poll::Ready(());
            }
        }
        // SAFETY: S2, S4: `waits` is not set and was not when the other half ended, if it has, so the place is ours and empty.
        unsafe { place.put(fresh) };
        // SAFETY: it is full since just now.
        let polled = unsafe { self.publish(seen, place, waits, ended) };
        drop(old);
        polled
    }

    /// Says that `place` is full, unless the other half has ended: then empties it again. `seen` is the word as it was found
    /// last.
    ///
    /// # Safety
    ///
    /// As for [`wait`](Self::wait); the caller has filled the place, and `waits` is not set.
    #[inline(always)]
    unsafe fn publish(&self, mut seen: u8, place: &WakerPlace, waits: u8, ended: u8) -> Poll<()> {
        // ORDERING: Release publishes the waker; pairs with the Acquire of the half that ends. Failure: Acquire, as in `wait`.
        while let Err(now) =
            self.word.compare_exchange_weak(seen, seen | waits, Ordering::Release, Ordering::Acquire)
        {
            if now & ended != 0 {
                // SAFETY: S2: `waits` was never set, so the waker is still ours.
                drop(unsafe { place.take() });
                return Poll::Ready(());
            }
            seen = now;
        }
        Poll::Pending
    }

    /// Takes the calling half's waker back, unless there is none or the other half has ended and takes it out.
    ///
    /// # Safety
    ///
    /// As for [`wait`](Self::wait).
    unsafe fn withdraw(&self, place: &WakerPlace, waits: u8, ended: u8) -> Option<Waker> {
        // ORDERING: Relaxed throughout: the waker was put there by this half, and if this succeeds nobody has read it.
        let mut seen = self.word.load(Ordering::Relaxed);
        while seen & (waits | ended) == waits {
            match self.word.compare_exchange_weak(seen, seen & !waits, Ordering::Relaxed, Ordering::Relaxed) {
                // SAFETY: S2: the waker was ours, and `waits` is no longer set.
                Ok(_) => return Some(unsafe { place.take() }),
                Err(now) => seen = now,
            }
        }
        None
    }
}

// === impl WakerPlace ===

impl WakerPlace {
    fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// Fills the place.
    ///
    /// # Safety
    ///
    /// The place is the caller's and empty.
    unsafe fn put(&self, waker: Waker) {
        self.0.with_mut(|place| {
            // SAFETY: the caller guarantees that nobody else is at the place.
            let place = unsafe { &mut *place };
            place.write(waker);
        });
    }

    /// Moves the waker out. The bits stay, so the other half may still compare them.
    ///
    /// # Safety
    ///
    /// The place is full, and the waker is the caller's to move.
    unsafe fn take(&self) -> Waker {
        self.0.with(|place| {
            // SAFETY: the caller guarantees that nobody writes to the place.
            let place = unsafe { &*place };
            // SAFETY: the caller guarantees that it is full, and that nobody else moves the waker.
            unsafe { place.assume_init_read() }
        })
    }

    /// Whether the waker here wakes the same task as `waker`. Compares two addresses and follows neither.
    ///
    /// # Safety
    ///
    /// The place was filled, and nobody writes to it meanwhile.
    unsafe fn will_wake(&self, waker: &Waker) -> bool {
        self.0.with(|place| {
            // SAFETY: the caller guarantees that nobody writes to the place.
            let place = unsafe { &*place };
            // SAFETY: the caller guarantees that it was filled.
            unsafe { place.assume_init_ref() }.will_wake(waker)
        })
    }
}
