//! What a queue is under its lock: decisions only. Whoever is to be woken goes to a [`Due`], which acts after the lock.
//!
//! An item that is promised to a getter stays where it is, and a slot that is promised to a putter stays empty, until the
//! chosen one comes for it. So nothing is ever in nobody's hands, and a chosen one that is dropped gives back a number.
//!
//! Counted is what is promised, which changes only when somebody waits; what is free is the rest.
//!
//! Q1. `promised_items <= items`, and `items <= room`, which is what fits without the slots that are promised.
//! Q2. Getters wait only while no item is free; putters wait only while no slot is. So who puts or gets looks for them only
//!     then.
//! Q3. After the shutdown nobody waits but for `join`, and nothing is promised: who comes first takes what is left.
//! Q4. Somebody waits for `join` only while `unfinished` is not zero.
//! Q5. After the shutdown `room` is zero, and stays so: no slot is free, nor becomes so.
//! Q6. `shown` is a guess, for who has not locked yet. A side that gets in line says there that it waits; what is free
//!     again takes that back.

use super::order::Order;
use crate::spin_lock::Shows;
use crate::wait_list::{Key, Waiters};
use evenloop_core::Runtime;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

pub(crate) struct State<T, O> {
    items: O,
    /// Items of chosen getters that have not come for them yet. The others are free.
    promised_items: usize,
    /// How many items fit beside the slots that are promised: to chosen putters that have not come yet, and to
    /// `QueueSlot`s (Q1, Q5).
    room: usize,
    /// Items put and not yet reported by `task_done`.
    unfinished: u64,
    is_shut_down: bool,
    /// Q6.
    shown: u8,
    getters: Waiters<()>,
    putters: Waiters<()>,
    joiners: Waiters<()>,
    holds: PhantomData<T>,
}

/// One of the two lines.
pub(super) trait Side {
    /// What a state shows when this side would have to wait (Q6).
    const WAITS: u8;

    fn line<T, O>(state: &mut State<T, O>) -> &mut Waiters<()>;

    /// Promises one more of what they wait for.
    fn promise<T, O>(state: &mut State<T, O>);

    /// Ends a promise.
    fn claim<T, O>(state: &mut State<T, O>);
}

/// They are promised items.
pub(super) struct Getters;

impl Side for Getters {
    const WAITS: u8 = 1;

    fn line<T, O>(state: &mut State<T, O>) -> &mut Waiters<()> {
        &mut state.getters
    }

    fn promise<T, O>(state: &mut State<T, O>) {
        state.promised_items += 1;
    }

    fn claim<T, O>(state: &mut State<T, O>) {
        state.promised_items -= 1;
    }
}

/// They are promised slots.
pub(super) struct Putters;

impl Side for Putters {
    const WAITS: u8 = 2;

    fn line<T, O>(state: &mut State<T, O>) -> &mut Waiters<()> {
        &mut state.putters
    }

    fn promise<T, O>(state: &mut State<T, O>) {
        state.room -= 1;
    }

    fn claim<T, O>(state: &mut State<T, O>) {
        state.room += 1;
    }
}

/// What somebody who comes is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Now,
    /// Wait in line.
    Later,
    /// The queue is shut down.
    Never,
}

/// Wakes whom it was given when it is dropped. Declared before the guard of the lock, it acts after it, also when
/// something under the lock panics.
pub(super) struct Due<T> {
    waker: Option<Waker>,
    /// An item on its way out, while others are compared. It stays here if comparing them panics, and is dropped after the
    /// lock.
    item: Option<T>,
}

impl<T> Due<T> {
    #[inline(always)]
    pub(super) fn nothing() -> Self {
        Self { waker: None, item: None }
    }
}

impl<T> Drop for Due<T> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(waker) = self.waker.take() {
            wake(waker);
        }
    }
}

/// A panic of the waker goes no further: it would take along what the caller has got.
#[inline(never)]
fn wake(waker: Waker) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        Runtime::report_panic("a waker of `Queue` panicked", panic);
    }
}

impl<T, O> State<T, O> {
    pub(crate) const fn new(items: O, maxsize: usize) -> Self {
        Self {
            items,
            promised_items: 0,
            room: if maxsize == 0 { usize::MAX } else { maxsize },
            unfinished: 0,
            is_shut_down: false,
            shown: 0,
            getters: Waiters::new(),
            putters: Waiters::new(),
            joiners: Waiters::new(),
            holds: PhantomData,
        }
    }

    pub(super) fn is_shut_down(&self) -> bool {
        self.is_shut_down
    }

    pub(super) fn unfinished(&self) -> u64 {
        self.unfinished
    }
}

/// Whether a getter and a putter would have to wait: then they make their wakers' clones before they lock.
impl<T, O: Order<T>> Shows for State<T, O> {
    const ANYTHING: bool = true;

    #[inline]
    fn shows(&self) -> u8 {
        self.shown
    }
}

impl<T, O: Order<T>> State<T, O> {
    pub(super) fn items(&self) -> usize {
        self.items.len()
    }

    /// Items that are promised to nobody.
    pub(super) fn free_items(&self) -> usize {
        self.items() - self.promised_items // Q1
    }

    /// Slots that are neither taken nor promised. None after the shutdown (Q5).
    pub(super) fn free_slots(&self) -> usize {
        self.room.saturating_sub(self.items())
    }

    // --- Lines ---

    pub(super) fn getters(&mut self) -> &mut Waiters<()> {
        &mut self.getters
    }

    pub(super) fn putters(&mut self) -> &mut Waiters<()> {
        &mut self.putters
    }

    pub(super) fn joiners(&mut self) -> &mut Waiters<()> {
        &mut self.joiners
    }

    /// Gets in line.
    #[inline(always)]
    pub(super) fn wait<S: Side>(&mut self, waker: Waker) -> Key {
        self.shown |= S::WAITS;
        S::line(self).push(waker, ())
    }

    /// Promises what becomes free in this critical section to the first in line. Without a line it is free.
    #[inline(never)]
    fn promise<S: Side>(&mut self) -> Option<Waker> {
        let waker = S::line(self).grant_first(|()| ());
        match waker {
            Some(_) => S::promise(self),
            None => self.shown &= !S::WAITS,
        }
        waker
    }

    /// Hands a promise on to the first in line, because its owner is gone. Without a line it ends.
    pub(super) fn hand_on<S: Side>(&mut self, due: &mut Due<T>) {
        self.claim::<S>();
        due.waker = self.promise::<S>();
    }

    /// Ends a promise, because its owner is here: what was promised is free until this critical section ends.
    #[inline]
    pub(super) fn claim<S: Side>(&mut self) {
        if !self.is_shut_down {
            S::claim(self); // Q3, Q5
        }
    }

    // --- Items ---

    /// What somebody who wants to put is told. By Q2 nobody is overtaken.
    #[inline]
    pub(super) fn admit_putter(&self) -> Admission {
        match () {
            () if self.items() < self.room => Admission::Now, // Q5
            () if self.is_shut_down => Admission::Never,
            () => Admission::Later,
        }
    }

    /// What somebody who wants to get is told. By Q2 nobody is overtaken.
    #[inline]
    pub(super) fn admit_getter(&self) -> Admission {
        match () {
            () if self.items() > self.promised_items => Admission::Now,
            () if self.is_shut_down => Admission::Never,
            () => Admission::Later,
        }
    }

    /// Puts an item into a free slot.
    #[inline(always)]
    pub(super) fn put(&mut self, item: T, due: &mut Due<T>) {
        self.unfinished += 1;
        // Promised first: comparing items may panic, and the item is in the queue all the same.
        if self.items() == self.promised_items {
            due.waker = self.promise::<Getters>(); // Q2
        }
        self.items.push(item);
    }

    /// Takes a free item.
    #[inline(always)]
    pub(super) fn get(&mut self, due: &mut Due<T>) -> T {
        // Promised first: comparing items may panic, and the item is out of the queue all the same.
        if self.items() >= self.room {
            due.waker = self.promise::<Putters>(); // Q2; after the shutdown nobody is in line (Q3)
        }
        self.items.pop(&mut due.item).expect("an item is free")
    }

    /// Takes free items, at most `limit`, and chooses as many putters. `chose` becomes true once some of those are to be
    /// woken, also if comparing items panics.
    pub(super) fn get_many(&mut self, into: &mut Vec<T>, limit: usize, chose: &mut bool, due: &mut Due<T>) {
        let count = self.free_items().min(limit);
        into.reserve(count);
        for _ in 0..count {
            // As in `get`.
            if self.items() >= self.room {
                if self.putters.defer_first(|()| ()) {
                    Putters::promise(self);
                    *chose = true;
                } else {
                    self.shown &= !Putters::WAITS;
                }
            }
            into.extend(self.items.pop(&mut due.item));
        }
    }

    /// Takes a free slot away until [`claim`](Self::claim).
    pub(super) fn promise_slot(&mut self) {
        Putters::promise(self);
    }

    // --- Finishing ---

    /// Counts an item as finished. Answers whether somebody waits for it; Err if there was none.
    pub(super) fn finish(&mut self) -> Result<bool, ()> {
        self.unfinished = self.unfinished.checked_sub(1).ok_or(())?;
        let last = self.unfinished == 0 && !self.joiners.is_empty();
        if last {
            self.joiners.grant_all(|()| ());
        }
        Ok(last)
    }

    /// Shuts down, and answers the items that nobody is to get any more: to be dropped after the lock, before or after
    /// everybody who is due in the three lists is woken.
    pub(super) fn shut_down(&mut self, immediate: bool) -> O {
        self.is_shut_down = true;
        self.getters.grant_all(|()| ());
        self.putters.grant_all(|()| ());
        let gone = if immediate { std::mem::take(&mut self.items) } else { O::default() };
        self.promised_items = 0; // Q3
        self.room = 0; // Q5
        self.shown = 0; // nobody waits any more
        // Saturating: a task may have reported an item before it got it.
        self.unfinished = self.unfinished.saturating_sub(gone.len() as u64);
        if self.unfinished == 0 {
            self.joiners.grant_all(|()| ());
        }
        gone
    }
}
