//! The one wait list: who waits, in which order, and who has been given what.
//!
//! A slab of entries, linked through indices. An entry belongs to one future, which holds its [`Key`] from the first
//! pending poll until it takes what it was granted or is dropped; so keys need no generations, and everything is O(1).
//!
//! ```text
//!            push                grant_first                   leave
//! (future) ──────► Waiting ─────────────────────► Granted ───────────► (gone)
//!                   │ │ │  grant_all, defer_first    ▲
//!                   │ │ └──────────────► Due ────────┘ take_due
//!                   │ │ leave             │ leave
//!                   │ └──► (gone)         └──► (gone)
//!                   │ dismiss_first, dismiss_all
//!                   └──► (in due, without a key) ── take_due ──► (gone)
//! ```
//!
//! *Due* is Granted in every respect but one: the waker is still here. It lets one critical section choose any number of
//! waiters at one instant, and wake them afterwards in batches.
//!
//! W1. `line` links the Waiting entries, first come first; `due` links the Due ones in the order they were chosen.
//! W2. An entry has a waker iff it is Waiting or Due. It is marked as chosen iff it is Due or Granted.
//! W3. The list never calls foreign code: wakers come in cloned and go out to be woken or dropped after the lock.
//! W4. Whoever leaves learns whether it had been granted something: then the primitive hands that on.
//! W5. Who was dismissed stays Waiting, and is in `due`: there is no key to it any more. Its entry is freed when its waker is
//!     taken. So any number are dismissed in a few instructions, and have nothing to come back for.
//! W6. What the first of a linked list says is before it counts for nothing: taking off the first leaves the second alone.
//!
//! Why indices and not nodes inside the pinned futures: those need unsafe code in every primitive, and a future that is
//! leaked would leave a dangling link. Why a slab and not a `VecDeque` with tombstones: a cancelled waiter in the middle
//! is the common case under time-outs, and must cost nothing later.
//!
//! Memory: nothing until the first wait. Then the slab grows to the greatest number of waiters at a time, and keeps that, so
//! that a rush which comes again allocates nothing. When the last waiter is gone, and the slab holds four times as many as
//! there were at most since it was last empty, its memory is given back, unless it is of [`KEEP`] entries or fewer.

use crate::first_panic::FirstPanic;
use crate::spin_lock::Shows;
use evenloop_core::WakeBatch;
use evenloop_core::shim::Mutex;
use std::num::NonZeroU32;
use std::ops::DerefMut;
use std::task::{Poll, Waker};

/// How many entries an idle list may keep whatever comes.
const KEEP: usize = if cfg!(evenloop_loom) { 1 } else { 256 };

/// No entry.
const NONE: u32 = u32::MAX >> 1;

/// In [`Entry::before`]: it was chosen.
const CHOSEN: u32 = 1 << 31;

/// Waiters in line, each with a note of type `T`: what it asks for, and after the grant what it was given.
pub(crate) struct Waiters<T> {
    /// Made by the first wait, so that an idle primitive is small.
    slab: Option<Box<Slab<T>>>,
}

/// A future's claim to its entry. Whoever holds one must give it back through [`Waiters::leave`].
#[derive(Debug)]
pub(crate) struct Key(NonZeroU32);

/// What somebody who left the list takes along. Drop it after the lock is released: the waker is foreign code.
#[must_use = "what was granted must be taken or handed on, and the waker must be dropped outside the lock"]
#[derive(Debug)]
pub(crate) struct Left<T> {
    /// Whether it had been chosen. If its future is being dropped, the grant must be handed on.
    pub(crate) granted: bool,
    pub(crate) note: T,
    /// For its drop only.
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Free,
    Waiting,
    Due,
    Granted,
}

/// Small, for who waits first pays for the memory: of a million waiters that is a third of all the time that they take.
struct Entry<T> {
    /// The neighbour before this in `line` or `due`, and the mark [`CHOSEN`] (W2).
    before: u32,
    /// The neighbour behind this in `line` or `due`, or in the free list.
    next: u32,
    waker: Option<Waker>,
    note: T,
}

impl<T> Entry<T> {
    /// W2.
    fn stage(&self) -> Stage {
        match (&self.waker, self.before & CHOSEN != 0) {
            (Some(_), false) => Stage::Waiting,
            (Some(_), true) => Stage::Due,
            (None, true) => Stage::Granted,
            (None, false) => Stage::Free,
        }
    }

    fn prev(&self) -> u32 {
        self.before & !CHOSEN
    }

    /// Leaves the mark as it is.
    fn set_prev(&mut self, prev: u32) {
        self.before = self.before & CHOSEN | prev;
    }
}

/// The ends of a linked list.
#[derive(Clone, Copy)]
struct Ends {
    head: u32,
    tail: u32,
}

impl Ends {
    const EMPTY: Self = Self { head: NONE, tail: NONE };
}

struct Slab<T> {
    entries: Vec<Entry<T>>,
    /// How many entries were in use since the list was made, or last thought of giving memory back; those beyond are free, and
    /// in no free list.
    touched: u32,
    free: u32,
    /// How many entries are not free.
    used: u32,
    /// How many have joined the line with a number.
    pushed: u64,
    /// How many are Waiting.
    waiting: u32,
    line: Ends,
    due: Ends,
}

impl<T> Shows for Waiters<T> {}

// === impl Waiters ===

impl<T> Waiters<T> {
    pub(crate) const fn new() -> Self {
        Self { slab: None }
    }

    /// How many are Waiting.
    pub(crate) fn len(&self) -> usize {
        self.slab.as_ref().map_or(0, |slab| slab.waiting as usize)
    }

    /// The note of the first in line.
    #[inline]
    pub(crate) fn first(&self) -> Option<&T> {
        let slab = self.slab.as_ref()?;
        slab.entries.get(slab.line.head as usize).map(|entry| &entry.note)
    }

    /// Whether nobody is Waiting.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.slab.as_ref().is_none_or(|slab| slab.line.head == NONE)
    }

    fn slab_mut(&mut self) -> &mut Slab<T> {
        self.slab.as_mut().expect("a key comes from a slab")
    }
}

impl<T: Default> Waiters<T> {
    /// Joins the end of the line. `waker` was cloned before the lock was taken.
    #[inline(always)]
    pub(crate) fn push(&mut self, waker: Waker, note: T) -> Key {
        self.slab.get_or_insert_with(Slab::boxed).push(waker, note)
    }

    /// As [`push`](Self::push), with a note that is made of a number: 1 for the first that ever joined the line, and so on.
    #[inline(always)]
    pub(crate) fn push_numbered(&mut self, waker: Waker, note: impl FnOnce(u64) -> T) -> (Key, T)
    where
        T: Copy,
    {
        let slab = self.slab.get_or_insert_with(Slab::boxed);
        let number = slab.pushed + 1;
        slab.pushed = number;
        let note = note(number);
        (slab.push(waker, note), note)
    }

    /// Grants the first in line, after `grant` has written into its note. The waker is to be woken after the lock.
    #[inline]
    pub(crate) fn grant_first(&mut self, grant: impl FnOnce(&mut T)) -> Option<Waker> {
        let slab = self.slab.as_mut()?;
        let index = slab.unlink_first()?;
        let entry = slab.entry(index);
        grant(&mut entry.note);
        entry.before = CHOSEN;
        entry.waker.take()
    }

    /// Chooses the first in line now; [`take_due`](Self::take_due) gives its waker. Answers whether there was one.
    pub(crate) fn defer_first(&mut self, grant: impl FnOnce(&mut T)) -> bool {
        let Some(slab) = self.slab.as_mut() else { return false };
        let Some(index) = slab.unlink_first() else { return false };
        grant(&mut slab.entry(index).note);
        slab.link_due(index);
        true
    }

    /// Chooses everybody in line now; [`take_due`](Self::take_due) gives the wakers.
    pub(crate) fn grant_all(&mut self, mut grant: impl FnMut(&mut T)) {
        while self.defer_first(&mut grant) {}
    }

    /// Chooses the first in line, as one of several: the first of them gives its waker at once, the others become Due.
    /// Answers whether there was one.
    pub(crate) fn choose_first(&mut self, chosen: &mut Chosen, grant: impl FnOnce(&mut T)) -> bool {
        if chosen.first.is_none() {
            chosen.first = self.grant_first(grant);
            return chosen.first.is_some();
        }
        let more = self.defer_first(grant);
        chosen.more |= more;
        more
    }

    /// Chooses everybody in line, at this instant.
    pub(crate) fn choose_all(&mut self, mut grant: impl FnMut(&mut T)) -> Chosen {
        let mut chosen = Chosen::default();
        while self.choose_first(&mut chosen, &mut grant) {}
        chosen
    }

    /// Chooses the first in line, as one of several: its key is void from now on, and it is for the primitive to let its owner
    /// know.
    #[inline(always)]
    pub(crate) fn dismiss_first(&mut self, chosen: &mut Chosen) {
        let Some(slab) = self.slab.as_mut() else { return };
        let Some(index) = slab.unlink_first() else { return };
        if chosen.first.is_none() {
            chosen.first = slab.take_and_free(index);
        } else {
            slab.due = slab.linked(slab.due, index); // W5
            chosen.more = true;
        }
    }

    /// Chooses everybody in line, at this instant and without looking at any but the first: their keys are void from now
    /// on, and it is for the primitive to let their owners know.
    #[inline]
    pub(crate) fn dismiss_all(&mut self) -> Chosen {
        let Some(slab) = self.slab.as_mut() else { return Chosen::default() };
        let Some(index) = slab.unlink_first() else { return Chosen::default() };
        let first = slab.take_and_free(index);
        let more = slab.line.head != NONE;
        if more {
            slab.dismiss_line();
        }
        Chosen { first, more }
    }

    /// Moves wakers of Due entries to the batch, in order. Answers whether more remain.
    pub(crate) fn take_due(&mut self, batch: &mut WakeBatch) -> bool {
        let Some(slab) = self.slab.as_mut() else { return false };
        let mut head = slab.due.head;
        while head != NONE && !batch.is_full() {
            let index = head;
            let entry = slab.entry(index);
            head = entry.next;
            batch.push(entry.waker.take().expect("W2: a due entry has a waker"));
            if entry.before & CHOSEN == 0 {
                slab.free(index); // W5
            }
        }
        slab.due.head = head;
        if head == NONE {
            slab.due.tail = NONE;
        }
        head != NONE
    }

    /// Leaves with what was granted, if something was and the waker is gone.
    #[inline]
    fn leave_granted(&mut self, key: &Key) -> Option<T> {
        let slab = self.slab_mut();
        let entry = slab.entry(key.index());
        if entry.waker.is_some() {
            return None; // W2
        }
        debug_assert_eq!(entry.stage(), Stage::Granted);
        let note = std::mem::take(&mut entry.note);
        slab.free(key.index());
        Some(note)
    }

    /// Leaves, in whatever stage.
    pub(crate) fn leave(&mut self, key: Key) -> Left<T> {
        let slab = self.slab_mut();
        let index = key.index();
        let stage = slab.entry(index).stage();
        match stage {
            Stage::Waiting => slab.unlink_waiting(index),
            Stage::Due => slab.unlink_due(index),
            Stage::Granted => {}
            Stage::Free => unreachable!("a key names an entry in use"),
        }
        let entry = slab.entry(index);
        let left = Left {
            granted: stage != Stage::Waiting,
            note: std::mem::take(&mut entry.note),
            waker: entry.waker.take(),
        };
        slab.free(index);
        left
    }

    /// What the owner of `key` is to do at a poll with `waker`; `fresh` is a clone of it, if one was made.
    pub(crate) fn renew(&mut self, key: &Key, waker: &Waker, fresh: &mut Option<Waker>) -> Renewal {
        let entry = self.slab_mut().entry(key.index());
        match (entry.stage(), &mut entry.waker) {
            (Stage::Waiting, Some(kept)) if kept.will_wake(waker) => Renewal::Kept(None),
            (Stage::Waiting, Some(kept)) => match fresh.take() {
                Some(fresh) => Renewal::Kept(Some(std::mem::replace(kept, fresh))),
                None => Renewal::Clone,
            },
            _ => Renewal::Over,
        }
    }
}

/// What a waiting future is to do after it has brought its waker.
#[must_use]
pub(crate) enum Renewal {
    /// Nothing: it was granted something.
    Over,
    /// Wait on, and drop the old waker, if there is one, outside the lock.
    Kept(Option<Waker>),
    /// Clone the waker outside the lock and come again.
    Clone,
}

// === impl Place ===

/// The small lock that guards a state with waiters in it.
pub trait Guarding<S> {
    /// Locks it until the answer is dropped.
    fn lock(&self) -> impl DerefMut<Target = S>;

    /// What the state showed when it was last unlocked, if it shows anything: a guess.
    fn shown(&self) -> u8 {
        0
    }
}

impl<S> Guarding<S> for Mutex<S> {
    fn lock(&self) -> impl DerefMut<Target = S> {
        Self::lock(self)
    }
}

/// Where a future stands. `waiters` in its methods finds the list in what `state` guards.
pub(crate) enum Place {
    /// Not polled yet.
    New,
    /// In line, or granted something that it has not taken yet.
    Waiting(Key),
    Done,
}

impl Place {
    /// Polls a future that is Waiting: Ready with what was granted, and Done, once something was.
    #[inline]
    pub(crate) fn poll<S, T: Default>(
        &mut self,
        state: &impl Guarding<S>,
        waiters: impl Fn(&mut S) -> &mut Waiters<T>,
        waker: &Waker,
    ) -> Poll<T> {
        self.poll_then(state, waiters, waker, |_| ()).map(|(note, ())| note)
    }

    /// As [`poll`](Self::poll), and does `then` in the critical section in which it leaves.
    #[inline]
    pub(crate) fn poll_then<S, T: Default, R>(
        &mut self,
        state: &impl Guarding<S>,
        waiters: impl Fn(&mut S) -> &mut Waiters<T>,
        waker: &Waker,
        then: impl FnOnce(&mut S) -> R,
    ) -> Poll<(T, R)> {
        let Self::Waiting(key) = self else { unreachable!("only who waits is polled here") };
        let mut guard = state.lock();
        if let Some(note) = waiters(&mut guard).leave_granted(key) {
            *self = Self::Done;
            return Poll::Ready((note, then(&mut guard)));
        }
        drop(guard);
        self.poll_again(state, waiters, waker, then)
    }

    /// Polled without a reason, by another task, or while it is Due: wakers are cloned and dropped while the lock is free
    /// (W3).
    #[cold]
    fn poll_again<S, T: Default, R>(
        &mut self,
        state: &impl Guarding<S>,
        waiters: impl Fn(&mut S) -> &mut Waiters<T>,
        waker: &Waker,
        then: impl FnOnce(&mut S) -> R,
    ) -> Poll<(T, R)> {
        let Self::Waiting(key) = self else { unreachable!("only who waits is polled here") };
        let mut fresh = None;
        loop {
            let mut guard = state.lock();
            let list = waiters(&mut guard);
            match list.renew(key, waker, &mut fresh) {
                Renewal::Over => {
                    let Self::Waiting(key) = std::mem::replace(self, Self::Done) else { unreachable!() };
                    let left = list.leave(key);
                    let done = then(&mut guard);
                    drop(guard);
                    drop(left.waker);
                    return Poll::Ready((left.note, done));
                }
                Renewal::Kept(old) => {
                    drop(guard);
                    drop(old);
                    return Poll::Pending;
                }
                Renewal::Clone => {
                    drop(guard);
                    fresh = Some(waker.clone());
                }
            }
        }
    }

    /// Leaves the line if this is in it: what a future's drop begins with. Done afterwards.
    pub(crate) fn leave<S, T: Default>(
        &mut self,
        state: &impl Guarding<S>,
        waiters: impl Fn(&mut S) -> &mut Waiters<T>,
    ) -> Option<Left<T>> {
        self.leave_then(state, waiters, |_, _| ()).map(|(left, ())| left)
    }

    /// As [`leave`](Self::leave), and does `then` in the same critical section; it learns whether there was a grant.
    pub(crate) fn leave_then<S, T: Default, R>(
        &mut self,
        state: &impl Guarding<S>,
        waiters: impl Fn(&mut S) -> &mut Waiters<T>,
        then: impl FnOnce(&mut S, bool) -> R,
    ) -> Option<(Left<T>, R)> {
        match std::mem::replace(self, Self::Done) {
            Self::Waiting(key) => {
                let mut guard = state.lock();
                let left = waiters(&mut guard).leave(key);
                let done = then(&mut guard, left.granted);
                Some((left, done))
            }
            Self::New | Self::Done => None,
        }
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Waiting(_) => "waiting",
            Self::Done => "done",
        })
    }
}

// === Waking ===

/// Who was chosen in one critical section, to be woken after it.
#[derive(Default)]
#[must_use = "who was chosen has to be woken"]
pub(crate) struct Chosen {
    first: Option<Waker>,
    /// Whether others are Due.
    more: bool,
}

impl Chosen {
    /// Wakes them, in order. No lock may be held. One waker, which is the usual case, needs neither a batch nor a lock.
    pub(crate) fn wake<S, T: Default>(
        self,
        state: &impl Guarding<S>,
        waiters: impl Fn(&mut S) -> &mut Waiters<T>,
    ) {
        match self.first {
            Some(first) if self.more => wake_due(Some(first), state, waiters),
            Some(first) => wake(first),
            None => {}
        }
    }
}

/// Wakes `first`, then everybody who is due, in order. No lock may be held.
///
/// A waker that panics keeps nobody from being woken; the first panic goes on afterwards.
#[inline(never)]
pub(crate) fn wake_due<S, T: Default>(
    first: Option<Waker>,
    state: &impl Guarding<S>,
    waiters: impl Fn(&mut S) -> &mut Waiters<T>,
) {
    let mut panic = FirstPanic::default();
    let mut batch = WakeBatch::new();
    first.into_iter().for_each(|waker| batch.push(waker));
    loop {
        let more = waiters(&mut state.lock()).take_due(&mut batch);
        panic.catch(|| batch.wake_all());
        if !more {
            break;
        }
    }
    panic.go_on();
}

/// Wakes one. No lock may be held. A panic of the waker is swallowed only while another one is under way.
#[inline(never)]
pub(crate) fn wake(waker: Waker) {
    if std::thread::panicking() {
        wake_while_panicking(waker);
    } else {
        waker.wake();
    }
}

#[cold]
#[inline(never)] // so that `wake` needs no frame
fn wake_while_panicking(waker: Waker) {
    let mut panic = FirstPanic::default();
    panic.catch(|| waker.wake());
    panic.let_go();
}

// === impl Slab ===

impl<T: Default> Slab<T> {
    #[cold]
    fn boxed() -> Box<Self> {
        let (line, due) = (Ends::EMPTY, Ends::EMPTY);
        Box::new(Self {
            entries: Vec::new(),
            touched: 0,
            free: NONE,
            used: 0,
            pushed: 0,
            waiting: 0,
            line,
            due,
        })
    }

    fn entry(&mut self, index: u32) -> &mut Entry<T> {
        &mut self.entries[index as usize]
    }

    #[inline(always)]
    fn push(&mut self, waker: Waker, note: T) -> Key {
        let last = self.line.tail;
        let index = self.free;
        let index = if index == NONE {
            self.touch(last, waker, note)
        } else {
            self.free = self.fill(index, last, waker, note);
            index
        };
        match last {
            NONE => self.line.head = index,
            last => self.entry(last).next = index,
        }
        self.line.tail = index;
        self.used += 1;
        self.waiting += 1;
        Key::new(index)
    }

    /// Makes a free entry one of the last in line, and answers what was free behind it. One field after the other: as a whole
    /// it would be made on the stack first, and reading that back costs as much as the lock.
    #[inline(always)]
    fn fill(&mut self, index: u32, last: u32, waker: Waker, note: T) -> u32 {
        let entry = self.entry(index);
        entry.before = last;
        entry.note = note;
        let free = entry.waker.replace(waker);
        debug_assert!(free.is_none()); // W2
        std::mem::forget(free);
        std::mem::replace(&mut entry.next, NONE)
    }

    /// As [`fill`](Self::fill), where no entry was since the list was last empty. Answers where.
    #[cold]
    fn touch(&mut self, last: u32, waker: Waker, note: T) -> u32 {
        let index = self.touched;
        if (index as usize) < self.entries.len() {
            self.fill(index, last, waker, note);
        } else {
            assert!(index < NONE, "fewer than 2,147,483,647 waiters");
            self.entries.push(Entry { before: last, next: NONE, waker: Some(waker), note });
        }
        self.touched += 1;
        index
    }

    /// Unlinks the first in line, if there is one.
    #[inline]
    fn unlink_first(&mut self) -> Option<u32> {
        let first = self.line.head;
        if first == NONE {
            return None;
        }
        let next = self.entry(first).next;
        self.line.head = next;
        if next == NONE {
            self.line.tail = NONE;
        }
        self.waiting -= 1;
        Some(first)
    }

    fn unlink_waiting(&mut self, index: u32) {
        debug_assert_eq!(self.entry(index).stage(), Stage::Waiting); // W1
        self.line = self.unlinked(self.line, index);
        self.waiting -= 1;
    }

    fn link_due(&mut self, index: u32) {
        self.due = self.linked(self.due, index);
        self.entry(index).before |= CHOSEN;
    }

    /// Moves the line, which is not empty, to the end of those who are Due. Nobody has a key to them any more (W5).
    fn dismiss_line(&mut self) {
        let Ends { head, tail } = std::mem::replace(&mut self.line, Ends::EMPTY);
        self.waiting = 0;
        let last = std::mem::replace(&mut self.due.tail, tail);
        match last {
            NONE => self.due.head = head,
            last => self.entry(last).next = head,
        }
        self.entry(head).before = last;
    }

    fn unlink_due(&mut self, index: u32) {
        debug_assert_eq!(self.entry(index).stage(), Stage::Due); // W1
        self.due = self.unlinked(self.due, index);
    }

    /// `ends` after `index` has joined at the tail.
    fn linked(&mut self, mut ends: Ends, index: u32) -> Ends {
        self.entry(index).before = ends.tail;
        self.entry(index).next = NONE;
        match ends.tail {
            NONE => ends.head = index,
            tail => self.entry(tail).next = index,
        }
        ends.tail = index;
        ends
    }

    /// `ends` after `index` has left from wherever it was.
    fn unlinked(&mut self, mut ends: Ends, index: u32) -> Ends {
        let entry = self.entry(index);
        let next = entry.next;
        let prev = if ends.head == index { NONE } else { entry.prev() }; // W6
        match prev {
            NONE => ends.head = next,
            prev => self.entry(prev).next = next,
        }
        match next {
            NONE => ends.tail = prev,
            next => self.entry(next).set_prev(prev),
        }
        ends
    }

    fn free(&mut self, index: u32) {
        let left = self.take_and_free(index);
        debug_assert!(left.is_none()); // W3
        std::mem::forget(left);
    }

    /// Frees the entry, and answers its waker.
    #[inline]
    fn take_and_free(&mut self, index: u32) -> Option<Waker> {
        let next = self.free;
        let entry = self.entry(index);
        let waker = entry.waker.take();
        entry.before = NONE;
        entry.next = next;
        self.free = index;
        self.used -= 1;
        if self.entries.capacity() > KEEP && self.used == 0 {
            self.keep_or_give_back();
        }
        waker
    }

    /// The list is empty, and its memory more than a little. It is filled anew from its beginning.
    #[cold]
    fn keep_or_give_back(&mut self) {
        let most = std::mem::take(&mut self.touched) as usize;
        self.free = NONE;
        if self.entries.capacity() > 4 * most {
            self.entries = Vec::new();
        }
    }
}

impl Key {
    fn new(index: u32) -> Self {
        Self(NonZeroU32::new(index + 1).expect("an index is less than u32::MAX"))
    }

    fn index(&self) -> u32 {
        self.0.get() - 1
    }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests;
