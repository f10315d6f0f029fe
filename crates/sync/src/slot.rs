//! A value's way from one half to the other: one allocation, one atomic word, no lock, no reference count.
//!
//! The *giver* gives a value once or leaves without; the *taker* takes it once or leaves without. Each may wait for the
//! other: the taker for the value, the giver for the taker's leaving. Everything they agree on is in `word`:
//!
//! | bit           | set by | means                                     | cleared by                                 |
//! |---------------|--------|-------------------------------------------|--------------------------------------------|
//! | `GAVE`        | giver  | the value is in place                     | never                                      |
//! | `GIVER_GONE`  | giver  | it gave, or left without                  | never                                      |
//! | `CLOSED`      | taker  | it accepts no value any more              | never                                      |
//! | `TAKER_GONE`  | taker  | it left; never without `CLOSED`           | never                                      |
//! | `TAKER_WAITS` | taker  | `taker_waker` is full                     | the taker, or the giver in the step it goes |
//! | `GIVER_WAITS` | giver  | `giver_waker` is full                     | the giver, or the taker in the step it closes |
//! | all above     | both   | how often a waker was withdrawn           | never                                      |
//!
//! The taker's waker seen by the giver (the other direction is the same with the names exchanged):
//!
//! ```text
//! nothing ── register ──► TAKER_WAITS ── give, leave: copies the waker, then one exchange ──► GIVER_GONE, then wake
//!    │  ◄── withdraw ─────────┘
//!    └── give, leave ──► GIVER_GONE
//! ```
//!
//! S1. The value is the giver's until `GAVE`, from then on the taker's.
//! S2. A full waker place is its owner's until the other half ends (`GIVER_GONE`, `CLOSED`). A half that ends copies the
//!     other one's waker first, and the copy is a waker iff the exchange that ends it also clears the other one's bit, in a
//!     word that is still the one after which it copied.
//! S3. A half that is gone touches the memory no more, and the second one to go frees it.
//! S4. Nobody registers with a half that has ended, and a half withdraws before it leaves.
//! S5. Wakers are cloned before and woken or dropped after the word changes; a panic in one leaves the word in order.
//! S6. No two wakers are in a place under the same word: who withdraws one counts, in the bits above the six. So the
//!     exchange of S2 fails if the place was filled anew since. (58 bits are enough for ever, and 26 for one who would have
//!     to be off the processor between two instructions while the other half registers 67,108,864 times.)
//!
//! Why not a mutex: making, giving and taking is 18 ns, of which the allocation is 7; a mutex alone would add as much
//! as that. Why no reference count: it would add three read-modify-writes to the single one that a value which nobody waits
//! for needs. Why a waker is copied before it is owned: who ended first and then took it out would need a second
//! read-modify-write to say that it has, and the taker would have to leave the memory to it until then.
//!
//! Discussion: neither half ever waits for the other one inside a call.

use crate::wait_list::wake;
use evenloop_core::shim::UnsafeCell;
use evenloop_core::shim::atomic::{AtomicPtr, AtomicUsize, Ordering};
use evenloop_core::watch::{self, On};
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::{self, NonNull};
use std::task::{Poll, RawWakerVTable, Waker};

const TAKER_WAITS: usize = 1;
const GIVER_WAITS: usize = 2;
const GAVE: usize = 4;
const GIVER_GONE: usize = 8;
const CLOSED: usize = 16;
const TAKER_GONE: usize = 32;
/// One withdrawal more (S6).
const AGAIN: usize = 64;

/// The memory that the halves share.
struct Shared<T> {
    /// The bits above.
    word: AtomicUsize,
    /// Owned as S1 says.
    value: UnsafeCell<MaybeUninit<T>>,
    /// Owned as S2 says.
    taker_waker: WakerPlace,
    /// Owned as S2 says.
    giver_waker: WakerPlace,
}

/// Room for a waker; the word says whether it is full and whose it is. Atomic, for the other half may read what it will not
/// get.
struct WakerPlace {
    data: AtomicPtr<()>,
    vtable: AtomicPtr<RawWakerVTable>,
}

/// What was in a place: a waker, if the word says so (S2).
struct Copied {
    data: *mut (),
    vtable: *mut RawWakerVTable,
}

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
        word: AtomicUsize::new(0),
        value: UnsafeCell::new(MaybeUninit::uninit()),
        taker_waker: WakerPlace::new(),
        giver_waker: WakerPlace::new(),
    });
    let shared = NonNull::from(Box::leak(shared));
    (Giver { shared, owns: PhantomData }, Taker { shared, owns: PhantomData })
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
        shared.value.with_mut(|place| {
            // SAFETY: S1: the value is ours, for GAVE is not set.
            let place = unsafe { &mut *place };
            place.write(value);
        });
        let ends = GAVE | GIVER_GONE;
        let Ok(ended) = shared.end(ends, &shared.taker_waker, TAKER_WAITS, GIVER_WAITS | CLOSED) else {
            return self.give_otherwise();
        };
        let _gone = ManuallyDrop::new(self);
        if let Some(waker) = ended.waker {
            wake(waker); // and the memory is not touched any more (S3)
        }
        Ok(())
    }

    /// As [`give`](Self::give), when the value is in place but the taker has closed, or the future of `closed` was leaked.
    #[cold]
    fn give_otherwise(self) -> Result<(), T> {
        let shared = self.shared();
        // SAFETY: as in `withdraw`.
        let _own = unsafe { shared.withdraw(&shared.giver_waker, GIVER_WAITS) }; // as in `leave`
        let Ok(ended) = shared.end(GAVE | GIVER_GONE, &shared.taker_waker, TAKER_WAITS, CLOSED) else {
            // SAFETY: S1: GAVE is still not set, and the value was written by `give`.
            return Err(unsafe { shared.read_value() });
        };
        let _gone = ManuallyDrop::new(self);
        if let Some(waker) = ended.waker {
            wake(waker);
        }
        Ok(())
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
        drop(unsafe { shared.withdraw(&shared.giver_waker, GIVER_WAITS) });
    }

    /// Leaves without having given.
    #[inline(never)] // so that what drops a giver is short enough to be inlined
    fn leave(&mut self) {
        let shared = self.shared();
        // Dropped when the giver is gone: its destructor may panic (S5).
        // SAFETY: as in `withdraw`.
        let _own = unsafe { shared.withdraw(&shared.giver_waker, GIVER_WAITS) };
        let Ok(ended) = shared.end(GIVER_GONE, &shared.taker_waker, TAKER_WAITS, 0) else { return };
        if ended.before & TAKER_GONE != 0 {
            // SAFETY: S3: gone was the taker, and now the giver.
            unsafe { Shared::free(self.shared) };
        } else if let Some(waker) = ended.waker {
            wake(waker);
        }
    }

    fn shared(&self) -> &Shared<T> {
        // SAFETY: S3: the memory lives until this half is through, and its methods do not touch it after that.
        unsafe { self.shared.as_ref() }
    }
}

impl<T> Drop for Giver<T> {
    #[inline]
    fn drop(&mut self) {
        self.leave();
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
        drop(unsafe { shared.withdraw(&shared.taker_waker, TAKER_WAITS) });
        let Ok(ended) = shared.end(CLOSED, &shared.giver_waker, GIVER_WAITS, 0) else { return };
        if let Some(waker) = ended.waker {
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
        // ORDERING: Acquire sees the value and all that the giver did with the memory; pairs with the Release in
        // `Shared::end`.
        let seen = shared.word.load(Ordering::Acquire);
        if seen & GIVER_GONE != 0 {
            // SAFETY: S1: the bits that were read say whether the value is there, and nobody else took it.
            let value = (seen & GAVE != 0).then(|| unsafe { shared.read_value() });
            // SAFETY: S3: gone is the giver, and so are we.
            unsafe { Shared::free(self.shared) };
            return value;
        }
        self.end_before_giver()
    }

    /// As [`end`](Self::end), when the giver was not gone a moment ago.
    #[cold]
    fn end_before_giver(&mut self) -> Option<T> {
        let shared = self.shared();
        // SAFETY: the place is the taker's own, and nobody else withdraws.
        let own = unsafe { shared.withdraw(&shared.taker_waker, TAKER_WAITS) };
        let Ok(ended) = shared.end(CLOSED | TAKER_GONE, &shared.giver_waker, GIVER_WAITS, 0) else {
            return None;
        };
        let mut value = None;
        if ended.before & GIVER_GONE != 0 {
            if ended.before & GAVE != 0 {
                // SAFETY: S1: the bits that were read say that it is there, and nobody else took it.
                value = Some(unsafe { shared.read_value() });
            }
            // SAFETY: S3: gone was the giver, and now the taker.
            unsafe { Shared::free(self.shared) };
        } else if let Some(waker) = ended.waker {
            wake(waker);
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

    /// Sets `ends`, with which a half ends, and takes the other half's waker out of `others` if that `waits` (S2).
    ///
    /// # Errors
    ///
    /// One of the bits of `unless` is set; nothing has happened.
    #[inline(always)]
    fn end(&self, ends: usize, others: &WakerPlace, waits: usize, unless: usize) -> Result<Ended, ()> {
        // ORDERING: Acquire sees the other half's waker, and lets us free the memory after that half has gone; pairs with the
        // Release in `publish`, and with the one below.
        let mut before = self.word.load(Ordering::Acquire);
        loop {
            if before & unless != 0 {
                return Err(());
            }
            let copied = (before & waits != 0).then(|| others.copy());
            // ORDERING: Release publishes the value, and what was done with the memory; pairs with the Acquire with which
            // the other half reads the word. What success finds has been read with Acquire already. Failure: as above.
            match self.word.compare_exchange_weak(
                before,
                (before & !waits) | ends,
                Ordering::Release,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    // SAFETY: S2, S6: the other half waited from before the copy until now, so that is its waker, and ours.
                    let waker = copied.map(|copied| unsafe { copied.into_waker() });
                    return Ok(Ended { before, waker });
                }
                Err(now) => before = now,
            }
        }
    }

    /// Frees the memory. Value and wakers are not dropped: S1 and S2 say who has done so.
    ///
    /// # Safety
    ///
    /// Both halves are gone (S3), and the caller is the second.
    unsafe fn free(this: NonNull<Self>) {
        // SAFETY: the caller guarantees that nobody else knows the memory; `pair` took it from a box.
        let shared = unsafe { Box::from_raw(this.as_ptr()) };
        // Nothing here; in a model these report whoever was at the memory without being ordered before this.
        shared.value.with_mut(|_| ());
        shared.taker_waker.unused();
        shared.giver_waker.unused();
        shared.word.into_inner();
    }

    /// Leaves `waker` in `place` and sets `waits`, unless `ended` is set: then Ready, and no waker is left.
    ///
    /// # Safety
    ///
    /// `place` and `waits` are the calling half's own, `ended` is the other one's, and nobody else calls this or
    /// [`withdraw`](Self::withdraw) for it meanwhile.
    #[inline]
    unsafe fn wait(&self, place: &WakerPlace, waits: usize, ended: usize, waker: &Waker) -> Poll<()> {
        // ORDERING: Relaxed: a word in which nothing has happened yet has nothing to be seen; any other is looked at again.
        let seen = self.word.load(Ordering::Relaxed);
        // While somebody asks what tasks wait for no word looks like this, so nobody else pays for the question.
        if seen != watch::zero() {
            // SAFETY: as for this function.
            return unsafe { self.wait_otherwise(place, waits, ended, waker) };
        }
        place.put(waker.clone()); // S2, S4: `waits` was not set, so it is ours and empty
        // SAFETY: it is full since just now.
        unsafe { self.publish(seen, place, waits, ended) }
    }

    /// As [`wait`](Self::wait), when something has happened already; tells who asks.
    ///
    /// # Safety
    ///
    /// As for [`wait`](Self::wait).
    #[inline(never)]
    unsafe fn wait_otherwise(
        &self,
        place: &WakerPlace,
        waits: usize,
        ended: usize,
        waker: &Waker,
    ) -> Poll<()> {
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
    unsafe fn wait_again(&self, place: &WakerPlace, waits: usize, ended: usize, waker: &Waker) -> Poll<()> {
        // ORDERING: Acquire, as in `wait`.
        let seen = self.word.load(Ordering::Acquire);
        if seen & ended != 0 {
            return Poll::Ready(());
        }
        if seen & waits != 0 && place.will_wake(waker) {
            // ORDERING: Acquire, as above. A read-modify-write sees the newest word: the wake-up that brings us here may
            // have synchronised with nobody, and a second one will not come.
            let now = self.word.fetch_or(0, Ordering::Acquire);
            return if now & ended != 0 { Poll::Ready(()) } else { Poll::Pending };
        }
        let fresh = waker.clone();
        let (mut seen, mut old) = (seen, None);
        if seen & waits != 0 {
            // SAFETY: as the caller guarantees for us.
            old = unsafe { self.withdraw(place, waits) };
            // ORDERING: as above.
            seen = self.word.load(Ordering::Acquire);
            if seen & ended != 0 {
                return Poll::Ready(());
            }
        }
        place.put(fresh); // S2, S4: `waits` is not set, so it is ours and empty
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
    unsafe fn publish(&self, mut seen: usize, place: &WakerPlace, waits: usize, ended: usize) -> Poll<()> {
        debug_assert_eq!(seen & waits, 0); // S2
        // ORDERING: Release publishes the waker; pairs with the Acquire of the half that ends. Failure: Acquire, as in `wait`.
        while let Err(now) =
            self.word.compare_exchange_weak(seen, seen | waits, Ordering::Release, Ordering::Acquire)
        {
            if now & ended != 0 {
                // SAFETY: S2: `waits` was never set, so the waker is still ours.
                drop(unsafe { place.copy().into_waker() });
                return Poll::Ready(());
            }
            seen = now;
        }
        Poll::Pending
    }

    /// Takes the calling half's waker back, unless there is none or the other half has ended and took it.
    ///
    /// # Safety
    ///
    /// As for [`wait`](Self::wait).
    unsafe fn withdraw(&self, place: &WakerPlace, waits: usize) -> Option<Waker> {
        // ORDERING: Relaxed throughout: the waker was put there by this half, and if this succeeds nobody else has it.
        let mut seen = self.word.load(Ordering::Relaxed);
        while seen & waits != 0 {
            let next = (seen & !waits).wrapping_add(AGAIN); // S6
            match self.word.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                // SAFETY: S2: the waker was ours, and `waits` is no longer set.
                Ok(_) => return Some(unsafe { place.copy().into_waker() }),
                Err(now) => seen = now,
            }
        }
        None
    }
}

/// How a half ended.
struct Ended {
    /// The word as it was.
    before: usize,
    /// The other half's waker, if it waited: to be woken.
    waker: Option<Waker>,
}

// === impl WakerPlace ===

// ORDERING: Relaxed throughout: the word orders what is here (S2).
impl WakerPlace {
    fn new() -> Self {
        Self { data: AtomicPtr::new(ptr::null_mut()), vtable: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Fills the place.
    fn put(&self, waker: Waker) {
        let waker = ManuallyDrop::new(waker);
        // ORDERING: Relaxed, as said above.
        self.data.store(waker.data().cast_mut(), Ordering::Relaxed);
        // ORDERING: Relaxed, as said above.
        self.vtable.store(ptr::from_ref(waker.vtable()).cast_mut(), Ordering::Relaxed);
    }

    /// What is in the place, and stays there.
    #[inline]
    fn copy(&self) -> Copied {
        // ORDERING: Relaxed, as said above.
        let data = self.data.load(Ordering::Relaxed);
        // ORDERING: Relaxed, as said above.
        Copied { data, vtable: self.vtable.load(Ordering::Relaxed) }
    }

    /// Whether what is here wakes the same task as `waker`. Compares two addresses and follows neither.
    fn will_wake(&self, waker: &Waker) -> bool {
        let here = self.copy();
        ptr::eq(here.data, waker.data()) && ptr::eq(here.vtable, waker.vtable())
    }

    /// Reports in a model whoever was here without being ordered before this.
    fn unused(self) {
        self.data.into_inner();
        self.vtable.into_inner();
    }
}

impl Copied {
    /// Makes it a waker.
    ///
    /// # Safety
    ///
    /// It was copied from a place that had been filled, nobody wrote there meanwhile, and the waker is the caller's.
    #[inline]
    unsafe fn into_waker(self) -> Waker {
        debug_assert!(!self.vtable.is_null(), "S2: the place was filled");
        // SAFETY: the caller guarantees that this came from a waker, whose table is there for ever.
        let vtable = unsafe { &*self.vtable };
        // SAFETY: the caller guarantees that both came from one waker.
        unsafe { Waker::new(self.data, vtable) }
    }
}
