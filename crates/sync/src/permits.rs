//! The engine of `Lock`, `RwLock` and the semaphores: a number of permits, handed out strictly in order.
//!
//! One word holds the free permits and two flags; the line is behind a spin lock. As long as nobody waits, taking and giving
//! back is one compare-exchange and the spin lock is not touched.
//!
//! ```text
//! New ── enough are free, nobody waits ─────────────────────────► Done (permits)
//!  └── else ──► Waiting ── release: enough for the first ──► Granted ── poll ──┘
//!                 │ │ drop: unlinked, the next may fit         │ drop: released
//!                 │ └── close ──────────────────────────► Refused ── poll ──► Done (Closed)
//! ```
//!
//! The word: `free permits << 2 | CLOSED | WAITERS`.
//!
//! | flag      | set                                     | cleared                         | while it is set            |
//! |-----------|-----------------------------------------|---------------------------------|----------------------------|
//! | `WAITERS` | by the first to join the line           | by whoever empties the line     | only the spin lock's holder may write the word |
//! | `CLOSED`  | by `close`, which also clears `WAITERS` | never                           | permits come back, none go out |
//!
//! P1. Whenever the spin lock is free, `WAITERS` is set iff the line is not empty. Both change under it only.
//! P2. The first in line asks for more than is free. So whoever adds permits or leaves the line settles: see `settle`.
//! P3. Permits of a Granted waiter are no longer free. Nobody can take them, the task that released them included.
//! P4. With `WAITERS` set nobody takes permits but through the line: a newcomer never overtakes.
//! P5. Wakers are cloned, woken and dropped while the spin lock is free.
//! P6. Tickets are numbered as their owners joined the line, and permits are granted in that order. So who waits was granted some
//!     iff the last ticket that was is its own or a later one, which one load tells; its entry is the releaser's from then on.
//!     Once the line was closed none is granted any more: who was not granted some before is refused.
//!
//! Discussion: why the fast path cannot lose a wake-up. A task that is about to wait sets `WAITERS` in the word it found
//! too small; a release changes that same word. Whichever comes second sees the other: the waiter's exchange fails and it
//! looks again, or the release finds `WAITERS`, and then the spin lock, which the waiter holds until it is in line.
//!
//! Discussion: P6 saves the spin lock of the poll that takes what was granted: 6 of 48 ns that a semaphore takes which tasks
//! keep across a turn. It costs 8 bytes here and in each future. 4 would do for a ticket, but not for who is not polled while
//! 2^31 others are served. The price: a future that is dropped after its grant, while the releaser has not come to its waker yet,
//! cannot take the waker along. The releaser wakes it all the same.
//!
//! Who asks what tasks wait for (see `evenloop_core::watch`) is told who holds the permits of a lock. That costs nothing while
//! nobody does: what a bet takes the word to be is read from memory, and so is what a free spin lock looks like to whoever joins
//! the line. While somebody asks neither looks like that, so every bet is lost and everybody joins by the cold path, which
//! tells; and who joined that way has a mark in its ticket, by which the grant is told as well. Semaphores, which bet nothing,
//! have no holders. Who joined before somebody asked is not known (V4 there).
//!
//! ORDERING: a Relaxed look at the word decides nothing by itself: the exchange that follows it does, or the spin lock, or the
//! look is a snapshot and called one.

use crate::spin_lock::{SpinGuard, SpinLock};
use crate::wait_list::{Chosen, Key, Renewal, Waiters};
use evenloop_core::budget::poll_spend;
use evenloop_core::shim::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use evenloop_core::watch::{self, On};
use std::fmt;
use std::task::{Context, Poll, Waker, ready};

const WAITERS: usize = 1;
const CLOSED: usize = 2;
const ONE: usize = 4;

const _: () = assert!(ONE == 4, "a bet on one permit reads `watch::four`");

/// The greatest number of permits.
pub(crate) const MAX: usize = usize::MAX / ONE;

/// Permits and the line for them.
pub(crate) struct Permits {
    /// See the table above.
    word: AtomicUsize,
    /// The ticket of the last waiter that was granted some (P6).
    granted: AtomicU64,
    /// Its lock also owns the word while `WAITERS` is set.
    waiters: SpinLock<Waiters<Wish>>,
}

/// A waiter's note.
#[derive(Clone, Copy, Default)]
struct Wish {
    /// How many it asks for.
    count: u32,
    ticket: u64,
}

/// In a ticket: its owner joined the line while somebody asked what tasks wait for. So who asks is told when it is granted some,
/// and when it has come for that.
const TOLD: u64 = 1;

/// The distance from one ticket to the next.
const NEXT: u64 = 2;

/// Where a future stands.
pub(crate) enum Place {
    /// Not polled yet.
    New,
    /// In line, or granted some that it has not taken yet, or refused.
    Waiting {
        key: Key,
        ticket: u64,
    },
    Done,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Waiting { .. } => "waiting",
            Self::Done => "done",
        })
    }
}

/// Why there are no permits now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Too few are free, or somebody is in line.
    Busy,
    Closed,
}

/// What the caller expects to find. A lock knows: one permit, or none; to look first costs it a tenth of its time.
#[derive(Clone, Copy)]
pub(crate) enum Bet {
    None,
    /// So many are free and nobody waits.
    Free(usize),
}

impl Bet {
    /// The word that is bet on. While somebody asks what tasks wait for it is none that occurs.
    #[inline(always)]
    fn word(self) -> usize {
        match self {
            Self::None => unreachable!("who bets nothing looks first"),
            Self::Free(0) => watch::zero(),
            Self::Free(1) => watch::four(), // `ONE`
            Self::Free(free) => watch::zero().wrapping_add(free * ONE),
        }
    }

    /// Whether it is told who holds the permits.
    fn has_holders(self) -> bool {
        matches!(self, Self::Free(_))
    }
}

/// What a user called to wait for permits. One reference, so that the slow paths have few arguments.
pub(crate) struct Call {
    /// As the user wrote it, for messages.
    name: &'static str,
    bet: Bet,
}

impl Call {
    pub(crate) const fn new(name: &'static str, bet: Bet) -> Self {
        Self { name, bet }
    }
}

/// The line was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// More permits were given back than there may be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Permits {
    /// `free` is at most [`MAX`].
    #[cfg(not(evenloop_loom))]
    pub(crate) const fn new(free: usize) -> Self {
        Self {
            word: AtomicUsize::new(free * ONE),
            granted: AtomicU64::new(0),
            waiters: SpinLock::new(Waiters::new()),
        }
    }

    /// `free` is at most [`MAX`].
    #[cfg(evenloop_loom)]
    pub(crate) fn new(free: usize) -> Self {
        Self {
            word: AtomicUsize::new(free * ONE),
            granted: AtomicU64::new(0),
            waiters: SpinLock::new(Waiters::new()),
        }
    }

    /// How many are free, whether or not somebody waits for more.
    pub(crate) fn free(&self) -> usize {
        self.word.load(Ordering::Relaxed) / ONE
    }

    /// How many futures are in line.
    pub(crate) fn waiters(&self) -> usize {
        self.waiters.lock().len()
    }

    /// Whether a newcomer that asks for one would have to wait.
    #[inline]
    pub(crate) fn is_locked(&self) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        word & WAITERS != 0 || word < ONE
    }

    pub(crate) fn is_closed(&self) -> bool {
        let closed = self.word.load(Ordering::Relaxed) & CLOSED != 0;
        if closed {
            acquire_what_came_before_close();
        }
        closed
    }

    /// Takes `count` permits if that overtakes nobody.
    #[inline(always)]
    pub(crate) fn try_acquire(&self, count: u32, bet: Bet) -> Result<(), Refused> {
        let Bet::Free(free) = bet else {
            return self.try_acquire_from(self.word.load(Ordering::Relaxed), count);
        };
        let left = (free - count as usize) * ONE;
        // ORDERING: Acquire, as in `try_acquire_from`.
        match self.word.compare_exchange_weak(bet.word(), left, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(now) => {
                take(now, count)?;
                self.try_acquire_after_a_lost_bet(now, count)
            }
        }
    }

    #[cold]
    fn try_acquire_after_a_lost_bet(&self, word: usize, count: u32) -> Result<(), Refused> {
        self.try_acquire_from(word, count)?;
        if watch::asked() {
            watch::hold(watch::address(self));
        }
        Ok(())
    }

    #[inline(always)]
    fn try_acquire_from(&self, mut word: usize, count: u32) -> Result<(), Refused> {
        loop {
            let left = take(word, count)?;
            // ORDERING: Acquire sees what was done under the permits before they came back; pairs with the Release in
            // `release` and `settle`. Failure only looks again.
            match self.word.compare_exchange_weak(word, left, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }

    /// Polls for `count` permits. After Ready, `place` is Done. `call` has the same `bet`, and is asked for on the slow paths.
    #[inline(always)]
    pub(crate) fn poll_acquire(
        &self,
        place: &mut Place,
        count: u32,
        cx: &mut Context<'_>,
        bet: Bet,
        call: impl FnOnce() -> &'static Call,
    ) -> Poll<Result<(), Closed>> {
        match *place {
            Place::New => {
                ready!(poll_spend(cx));
                if self.try_acquire(count, bet).is_ok() {
                    *place = Place::Done;
                    return Poll::Ready(Ok(()));
                }
                let polled = self.join_slow(place, count, cx.waker());
                polled.unwrap_or_else(|| self.join_told(place, count, cx.waker(), call()))
            }
            Place::Waiting { ticket, .. } if ticket & TOLD == 0 && self.is_granted(ticket) => {
                *place = Place::Done;
                Poll::Ready(Ok(()))
            }
            _ => self.poll_in_line(place, cx.waker(), call()),
        }
    }

    /// P6. Whether the owner of `ticket` was granted what it asks for.
    #[inline]
    fn is_granted(&self, ticket: u64) -> bool {
        // ORDERING: Acquire sees what came with the permits; pairs with the Release in `settle`.
        self.granted.load(Ordering::Acquire) >= ticket
    }

    /// The first poll, when there was not enough. `None`: it has done nothing, for the spin lock is not free, or somebody asks.
    #[inline(never)]
    fn join_slow(&self, place: &mut Place, count: u32, waker: &Waker) -> Option<Poll<Result<(), Closed>>> {
        let fresh = waker.clone(); // P5
        match self.waiters.lock_unless_asked(watch::zero()) {
            Some(waiters) => Some(self.join(waiters, place, count, 0, fresh)),
            None => {
                drop(fresh);
                None
            }
        }
    }

    /// Joins the line, once the spin lock is free, and tells who asks.
    #[cold]
    fn join_told(
        &self,
        place: &mut Place,
        count: u32,
        waker: &Waker,
        call: &'static Call,
    ) -> Poll<Result<(), Closed>> {
        let (fresh, asked) = (waker.clone(), watch::asked()); // P5
        let polled = self.join(self.waiters.lock(), place, count, if asked { TOLD } else { 0 }, fresh);
        if asked {
            match *place {
                _ if !call.bet.has_holders() => {}
                Place::Waiting { ticket, .. } => watch::queue(watch::address(self), number(ticket)),
                _ => watch::hold(watch::address(self)),
            }
            self.note(&polled, waker, call);
        }
        polled
    }

    /// A later poll of who was not granted some a moment ago, or has to tell: wakers are cloned and dropped while the spin lock
    /// is free (P5).
    #[cold]
    fn poll_in_line(
        &self,
        place: &mut Place,
        waker: &Waker,
        call: &'static Call,
    ) -> Poll<Result<(), Closed>> {
        let Place::Waiting { key, ticket } = place else {
            panic!("`{}` was polled after it had finished", call.name);
        };
        let mut fresh = None;
        let outcome = loop {
            let mut waiters = self.waiters.lock();
            if self.is_granted(*ticket) {
                break Ok(());
            }
            if self.is_closed() {
                break Err(Closed);
            }
            let renewal = waiters.renew(key, waker, &mut fresh);
            drop(waiters);
            match renewal {
                Renewal::Over => unreachable!("P6: it is in line"),
                Renewal::Clone => fresh = Some(waker.clone()),
                Renewal::Kept(old) => {
                    drop(old);
                    self.note(&Poll::<()>::Pending, waker, call);
                    return Poll::Pending;
                }
            }
        };
        drop(fresh);
        if outcome.is_ok() && *ticket & TOLD != 0 && watch::asked() && call.bet.has_holders() {
            watch::take(watch::address(self), number(*ticket));
        }
        *place = Place::Done;
        Poll::Ready(outcome)
    }

    fn note<T>(&self, polled: &Poll<T>, waker: &Waker, call: &'static Call) {
        if polled.is_pending() {
            let free = self.free();
            watch::wait(waker, call.name, || {
                if call.bet.has_holders() { On::object(self) } else { On::counted(self, free, 0) }
            });
        }
    }

    /// Takes the permits after all, or joins the line.
    #[inline(always)]
    fn join(
        &self,
        mut waiters: SpinGuard<'_, Waiters<Wish>>,
        place: &mut Place,
        count: u32,
        told: u64,
        waker: Waker,
    ) -> Poll<Result<(), Closed>> {
        let mut word = self.word.load(Ordering::Relaxed);
        let outcome = loop {
            let (new, outcome) = match take(word, count) {
                Ok(left) => (left, Poll::Ready(Ok(()))),
                Err(Refused::Closed) => (word, Poll::Ready(Err(Closed))),
                Err(Refused::Busy) => (word | WAITERS, Poll::Pending),
            };
            if new == word {
                break outcome; // closed for good, or others wait and the word is ours
            }
            // ORDERING: Acquire as in `try_acquire`, also with the flag: what is free already may be granted in `settle`. The
            // flag itself publishes nothing: who sees it takes the spin lock (P1).
            match self.word.compare_exchange_weak(word, new, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => break outcome,
                Err(now) => word = now,
            }
        };
        if outcome.is_pending() {
            let (key, Wish { ticket, .. }) =
                waiters.push_numbered(waker, |number| Wish { count, ticket: number * NEXT + told });
            *place = Place::Waiting { key, ticket };
        } else {
            drop(waiters);
            drop(waker); // P5
            *place = Place::Done;
        }
        outcome
    }

    /// Gives `count` permits back, to whoever is first in line.
    ///
    /// # Errors
    ///
    /// [`TooMany`], and nothing has changed, if more than `limit` (at most [`MAX`]) would be free.
    #[inline]
    pub(crate) fn release(&self, count: usize, limit: usize) -> Result<(), TooMany> {
        self.release_from(count, limit, Bet::None)
    }

    #[inline(always)]
    fn release_from(&self, count: usize, limit: usize, bet: Bet) -> Result<(), TooMany> {
        let Bet::Free(free) = bet else {
            let done = self.release_to_nobody(count, limit)?;
            return if done { Ok(()) } else { self.release_slow(count, limit) };
        };
        let more = give(free * ONE, count, limit)?;
        // ORDERING: Release, as in `release_to_nobody`.
        match self.word.compare_exchange_weak(bet.word(), more, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(_) => self.release_slow(count, limit),
        }
    }

    /// Gives back what a guard stands for. Nobody can have released it beside the guard.
    #[inline(always)]
    pub(crate) fn put_back(&self, count: u32, bet: Bet) {
        let _fits = self.release_from(count as usize, MAX, bet);
    }

    /// Gives back what a permit stands for, but no more than make `limit` (at most [`MAX`]) free: the others were released by
    /// somebody else already.
    #[inline(always)]
    pub(crate) fn put_back_at_most(&self, count: u32, limit: usize) {
        if self.release(count as usize, limit).is_err() {
            self.put_back_what_fits(count as usize, limit);
        }
    }

    #[cold]
    fn put_back_what_fits(&self, count: usize, limit: usize) {
        // Others may take and give meanwhile.
        while self.release(count.min(limit - self.free()), limit).is_err() {}
    }

    /// Gives back if nobody is in line; answers whether it did.
    #[inline]
    fn release_to_nobody(&self, count: usize, limit: usize) -> Result<bool, TooMany> {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let more = give(word, count, limit)?;
            if word & WAITERS != 0 {
                return Ok(false);
            }
            // ORDERING: Release publishes what was done under the permits; pairs with the Acquire of whoever takes them.
            match self.word.compare_exchange_weak(word, more, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return Ok(true),
                Err(now) => word = now,
            }
        }
    }

    /// As `release`, when somebody is in line, or a bet was lost.
    #[inline(never)]
    fn release_slow(&self, count: usize, limit: usize) -> Result<(), TooMany> {
        let waiters = self.waiters.lock();
        let word = self.word.load(Ordering::Relaxed);
        if word & WAITERS != 0 {
            give(word, count, limit)?;
            self.settle::<true>(waiters, word, count);
            return Ok(());
        }
        // The line became empty while we came here; or somebody asks what tasks wait for, and nobody was in line.
        let done = self.release_to_nobody(count, limit)?;
        debug_assert!(done, "P1");
        self.tell_release();
        Ok(())
    }

    /// Tells who asks that permits came back.
    #[cold]
    fn tell_release(&self) {
        if watch::asked() {
            watch::release(watch::address(self));
        }
    }

    /// Tells who asks that the waiter with this number was granted some; `BACK`: which came back just now.
    #[cold]
    fn tell_grant<const BACK: bool>(&self, number: usize) {
        if BACK {
            self.tell_release();
        }
        watch::grant(watch::address(self), number);
    }

    /// Gives the place of a future that asks for `count` permits up: its drop. Permits that it was granted go to the next in line,
    /// as in [`put_back_at_most`](Self::put_back_at_most).
    #[inline]
    pub(crate) fn leave(&self, place: &mut Place, count: u32, limit: usize) {
        if let Place::Waiting { .. } = place {
            self.leave_slow(place, count, limit);
        }
    }

    #[inline(never)]
    fn leave_slow(&self, place: &mut Place, count: u32, limit: usize) {
        let Place::Waiting { key, ticket } = std::mem::replace(place, Place::Done) else { return };
        let mut waiters = self.waiters.lock();
        if ticket & TOLD != 0 {
            watch::leave_line(watch::address(self), number(ticket));
        }
        if self.is_granted(ticket) {
            drop(waiters);
            self.put_back_at_most(count, limit);
        } else if !self.is_closed() {
            let _left = waiters.leave(key); // dropped in the end (P5)
            // ORDERING: Relaxed, as in `settle`.
            let word = self.word.load(Ordering::Relaxed);
            self.settle::<false>(waiters, word, 0); // the next may ask for less, or the line be empty
        }
    }

    /// Restores P1 and P2 after `count` permits came back or a waiter left: grants as far as the permits go, in order.
    ///
    /// The caller holds the spin lock and has found `WAITERS` in `word`, which is ours since. Its look was relaxed: what was done
    /// under the permits that are free already was acquired by whoever set `WAITERS` (see `join`), and came through the spin lock.
    #[inline(always)]
    fn settle<const BACK: bool>(&self, mut waiters: SpinGuard<'_, Waiters<Wish>>, word: usize, count: usize) {
        debug_assert_eq!(word & (WAITERS | CLOSED), WAITERS);
        let mut free = word / ONE + count;
        let (mut chosen, mut granted) = (Chosen::default(), 0);
        // Nobody in line asks for none.
        while free != 0
            && let Some(&Wish { count, ticket }) = waiters.first()
            && count as usize <= free
        {
            free -= count as usize;
            granted = ticket;
            if ticket & TOLD != 0 {
                self.tell_grant::<BACK>(number(ticket));
            }
            waiters.dismiss_first(&mut chosen);
        }
        let flag = if waiters.is_empty() { 0 } else { WAITERS };
        // ORDERING: Release publishes what came with all these permits; pairs with the Acquire in `try_acquire` and
        // `join`. Who was granted some sees it through `granted`.
        self.word.store((free * ONE) | flag, Ordering::Release);
        // Last: who sees it may count on P3, and gives back what it was granted as if it had always been out.
        if granted != 0 {
            // ORDERING: Release publishes what came with these permits, and the word; pairs with the Acquire in `is_granted`.
            self.granted.store(granted, Ordering::Release);
        }
        drop(waiters);
        chosen.wake(&self.waiters, |waiters| waiters);
    }

    /// No more permits: everybody in line is refused, and so is every newcomer.
    pub(crate) fn close(&self) {
        let mut waiters = self.waiters.lock();
        let mut word = self.word.load(Ordering::Relaxed);
        // ORDERING: Release publishes what came before; pairs with the fence of whoever finds the flag.
        while let Err(now) = self.word.compare_exchange_weak(
            word,
            (word | CLOSED) & !WAITERS,
            Ordering::Release,
            Ordering::Relaxed,
        ) {
            word = now;
        }
        let chosen = waiters.dismiss_all(); // P6: their tickets are never granted
        drop(waiters);
        chosen.wake(&self.waiters, |waiters| waiters);
    }
}

/// The number by which who asks what tasks wait for knows the owner of a ticket.
fn number(ticket: u64) -> usize {
    (ticket / NEXT) as usize
}

/// The word after `count` permits were taken, if that overtakes nobody (P4). None never waits.
#[inline]
fn take(word: usize, count: u32) -> Result<usize, Refused> {
    if word & CLOSED != 0 {
        acquire_what_came_before_close();
        Err(Refused::Closed)
    } else if count == 0 {
        Ok(word)
    } else if word & WAITERS != 0 || word / ONE < count as usize {
        Err(Refused::Busy)
    } else {
        Ok(word - count as usize * ONE)
    }
}

/// The word after `count` permits came back.
#[inline]
fn give(word: usize, count: usize, limit: usize) -> Result<usize, TooMany> {
    match (word / ONE).checked_add(count) {
        Some(free) if free <= limit => Ok(word + count * ONE),
        _ => Err(TooMany),
    }
}

#[cold]
fn acquire_what_came_before_close() {
    // ORDERING: Acquire, for the relaxed look that found `CLOSED`; pairs with the Release in `close`.
    fence(Ordering::Acquire);
}
