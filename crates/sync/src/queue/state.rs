//! What a queue is under its lock: decisions only. Whoever is to be woken goes to a [`Due`], which acts after the lock.
//!
//! An item that is promised to a getter stays where it is, and a slot that is promised to a putter stays empty, until the
//! chosen one comes for it. So nothing is ever in nobody's hands, and a chosen one that is dropped gives back a number.
//!
//! Q1. `promised_items <= items`, and `items + promised_slots <= slots`.
//! Q2. Getters wait only while every item is promised; putters wait only while every slot is taken or promised.
//! Q3. After the shutdown nobody waits but for `join`, and nothing is promised: who comes first takes what is left.
//! Q4. Somebody waits for `join` only while `unfinished` is not zero.

use super::order::Order;
use crate::spin_lock::Shows;
use crate::wait_list::{self, Waiters};
use std::marker::PhantomData;
use std::task::Waker;

pub(crate) struct State<T, O> {
    items: O,
    /// How many items fit; `usize::MAX` when any number does.
    slots: usize,
    /// Items of chosen getters that have not come for them yet.
    promised_items: usize,
    /// Empty slots of chosen putters that have not come for them yet, and of `QueueSlot`s.
    promised_slots: usize,
    /// Items put and not yet reported by `task_done`.
    unfinished: u64,
    is_shut_down: bool,
    getters: Waiters<()>,
    putters: Waiters<()>,
    joiners: Waiters<()>,
    holds: PhantomData<T>,
}

/// The two lines.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    /// They are promised items.
    Getters,
    /// They are promised slots.
    Putters,
}

impl Side {
    /// What its waiters called.
    pub(super) fn call(self) -> &'static str {
        match self {
            Self::Getters => "Queue::get",
            Self::Putters => "Queue::put",
        }
    }

    /// What a state shows when this side would have to wait.
    pub(super) const fn waits(self) -> u8 {
        match self {
            Self::Getters => 1,
            Self::Putters => 2,
        }
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
#[derive(Default)]
pub(super) struct Due(Option<Waker>);

impl Drop for Due {
    #[inline]
    fn drop(&mut self) {
        if let Some(waker) = self.0.take() {
            wait_list::wake(waker);
        }
    }
}

impl<T, O> State<T, O> {
    pub(crate) const fn new(items: O, maxsize: usize) -> Self {
        Self {
            items,
            slots: if maxsize == 0 { usize::MAX } else { maxsize },
            promised_items: 0,
            promised_slots: 0,
            unfinished: 0,
            is_shut_down: false,
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
        let getter = if self.free_items() == 0 { Side::Getters.waits() } else { 0 };
        let putter = if self.free_slots() == 0 { Side::Putters.waits() } else { 0 };
        getter | putter
    }
}

impl<T, O: Order<T>> State<T, O> {
    pub(super) fn items(&self) -> usize {
        self.items.len()
    }

    /// Items that are promised to nobody.
    #[inline]
    pub(super) fn free_items(&self) -> usize {
        self.items.len() - self.promised_items // Q1
    }

    /// Slots that are neither taken nor promised.
    #[inline]
    pub(super) fn free_slots(&self) -> usize {
        self.slots - self.items.len() - self.promised_slots // Q1
    }

    // --- Lines ---

    pub(super) fn line(&mut self, side: Side) -> &mut Waiters<()> {
        match side {
            Side::Getters => &mut self.getters,
            Side::Putters => &mut self.putters,
        }
    }

    pub(super) fn getters(&mut self) -> &mut Waiters<()> {
        &mut self.getters
    }

    pub(super) fn putters(&mut self) -> &mut Waiters<()> {
        &mut self.putters
    }

    pub(super) fn joiners(&mut self) -> &mut Waiters<()> {
        &mut self.joiners
    }

    /// Chooses the first in line, for an item or slot that is free, or is about to be.
    #[inline]
    fn choose(&mut self, side: Side, due: &mut Due) {
        let chosen = self.line(side).grant_first(|()| ());
        if chosen.is_some() {
            *self.promised(side) += 1;
            due.0 = chosen;
        }
    }

    /// Ends a promise, because its owner is here: what was promised is free until this critical section ends.
    pub(super) fn claim(&mut self, side: Side) {
        if !self.is_shut_down {
            *self.promised(side) -= 1;
        }
    }

    /// Ends a promise, because its owner is gone: it goes to the next in line.
    pub(super) fn hand_on(&mut self, side: Side, due: &mut Due) {
        self.claim(side);
        self.choose(side, due);
    }

    fn promised(&mut self, side: Side) -> &mut usize {
        match side {
            Side::Getters => &mut self.promised_items,
            Side::Putters => &mut self.promised_slots,
        }
    }

    // --- Items ---

    /// What somebody who wants to put is told. By Q2 nobody is overtaken.
    #[inline]
    pub(super) fn admit_putter(&self) -> Admission {
        match () {
            () if self.is_shut_down => Admission::Never,
            () if self.free_slots() > 0 => Admission::Now,
            () => Admission::Later,
        }
    }

    /// What somebody who wants to get is told. By Q2 nobody is overtaken.
    #[inline]
    pub(super) fn admit_getter(&self) -> Admission {
        match () {
            () if self.free_items() > 0 => Admission::Now,
            () if self.is_shut_down => Admission::Never,
            () => Admission::Later,
        }
    }

    /// Puts an item into a free slot.
    #[inline]
    pub(super) fn put(&mut self, item: T, due: &mut Due) {
        debug_assert!(self.free_slots() > 0, "Q1");
        self.unfinished += 1;
        // Chosen first: comparing items may panic, and the item is in the queue all the same.
        self.choose(Side::Getters, due);
        self.items.push(item);
    }

    /// Takes a free item.
    #[inline]
    pub(super) fn get(&mut self, due: &mut Due) -> T {
        debug_assert!(self.free_items() > 0, "Q1");
        let item = self.items.pop().expect("an item is free");
        self.choose(Side::Putters, due);
        item
    }

    /// Takes free items, at most `limit`, and chooses as many putters. Answers whether some of those are to be woken.
    pub(super) fn get_many(&mut self, into: &mut Vec<T>, limit: usize) -> bool {
        let count = self.free_items().min(limit);
        into.extend((0..count).map_while(|_| self.items.pop()));
        let mut chosen = 0;
        while chosen < count && self.putters.defer_first(|()| ()) {
            chosen += 1;
        }
        self.promised_slots += chosen;
        chosen > 0
    }

    /// Takes a free slot away until [`claim`](Self::claim).
    pub(super) fn promise_slot(&mut self) {
        debug_assert!(self.free_slots() > 0, "Q1");
        self.promised_slots += 1;
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
        self.promised_items = 0;
        self.promised_slots = 0;
        self.getters.grant_all(|()| ());
        self.putters.grant_all(|()| ());
        let gone = if immediate { std::mem::take(&mut self.items) } else { O::default() };
        // Saturating: a task may have reported an item before it got it.
        self.unfinished = self.unfinished.saturating_sub(gone.len() as u64);
        if self.unfinished == 0 {
            self.joiners.grant_all(|()| ());
        }
        gone
    }
}
