//! The pen: where the thread of a running loop keeps the timers that it has just set.
//!
//! Most timers are set and given up by one thread, within one turn of its loop. Behind the engine's lock that costs four
//! atomic operations. In the pen it costs none: the pen lies in a thread-local, and its entries come into the wheel only
//! when the engine is turned, put to sleep or asked on that thread.
//!
//! ```text
//!            begin_run                    first insert, wake_up
//! Driver ────────────────► thread, shut ──────────────────────► thread, open: 16 places, each with a node of the wheel
//!   ▲                        │      ▲                              │ insert ─► held ─► remove: the next use of the place
//!   └────────── end_run ─────┴──────┴──── start_sleep ─────────────┘             └─► filed, with its node, under the lock
//! ```
//!
//! P1. A pen that holds entries lies on the thread that runs its loop, which is awake. So it is filed before that thread
//!     sleeps, before the run is left, and before the thread ends. One thread has one pen at a time: a loop that is run
//!     inside another one's task does without.
//! P2. A place of the pen has a node of the wheel that was lent for it, so an entry has its key from the start, and keeps it.
//!     The key's hint is the place.
//! P3. `news` counts what was done behind the lock while the pen was open: new entries of the wheel, notes, the end. An entry
//!     is held back only while the pen has seen all of that. So what is new in the wheel when the pen is filed came after
//!     what is in the pen, or at the same time. The pen goes first, and equal deadlines fire in order of insertion.
//! P4. Another thread that removes or updates an entry of the pen leaves a note, under the lock. A note counts for the very
//!     use of the place that its key names. It is read when the pen is filed, and that comes before the entry can fire. An
//!     entry that is moved by a note keeps its place among its new equals.
//! P5. No foreign code runs while the thread-local is borrowed: wakers that are left over are let go afterwards. When a run is
//!     left, that is once the loop does not borrow its park any more.

use crate::engine::Engine;
use crate::wheel::{HINTS, Wheel, When, hint_of, next_use};
use evenloop_core::shim::{StdArc, thread_local};
use evenloop_core::{Runtime, WakeBatch};
use std::cell::RefCell;
use std::cmp::Ordering;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::Instant;

/// How many entries it holds. A model reaches the end.
const PLACES: usize = if cfg!(evenloop_loom) { 2 } else { HINTS };

/// Of a place that has no node.
const NO_KEY: u64 = u64::MAX;

thread_local! {
    /// The pen of the loop that runs on this thread.
    static HERE: RefCell<Option<Box<Pen>>> = const { RefCell::new(None) };
}

pub(crate) struct Pen {
    engine: StdArc<Engine>,
    /// The news up to which everything is filed (P3).
    seen: usize,
    /// The places from here on are free, and the one before is not.
    len: usize,
    /// Entries may be set before this place; 0 while it is shut.
    limit: usize,
    /// Whether it may be open: not from `start_sleep` to `wake_up`.
    awake: bool,
    /// Whether each place has one.
    has_nodes: bool,
    places: [Place; PLACES],
}

struct Place {
    /// Of the entry in it, or of the next one.
    key: u64,
    deadline: Instant,
    waker: Option<Waker>,
}

/// What other threads want of entries in the pen (P4).
#[derive(Default)]
pub(crate) struct Notes(Vec<Note>);

struct Note {
    key: u64,
    wanted: Wanted,
}

pub(crate) enum Wanted {
    Removed,
    Updated(Instant, Option<Waker>),
}

/// The wakers that were left over when a pen was filed. Dropping it lets them go.
#[derive(Default)]
#[must_use = "to be let go after the lock"]
pub(crate) struct LeftOver {
    /// Their timers have ended.
    ended: Vec<Waker>,
    dropped: Vec<Waker>,
}

// === The calling thread's pen ===

/// What came of an entry that was to be held back.
#[must_use = "a waker goes on through the lock"]
pub(crate) enum Insert {
    /// It is, under this key.
    Held(u64),
    /// This thread's pen does not take it.
    Own(Waker),
    /// This thread has no pen of these timers.
    Other(Waker),
}

/// Sets an entry that is held back.
#[inline]
pub(crate) fn insert(engine: &Engine, deadline: Instant, waker: Waker) -> Insert {
    let mut waker = Some(waker);
    let held = HERE.try_with(|here| {
        let mut here = here.borrow_mut();
        let pen = here.as_mut().filter(|pen| pen.is_of(engine))?;
        if pen.seen != engine.news() {
            return Some(None);
        }
        Some(pen.hold(deadline, &mut waker))
    });
    match (held, waker) {
        (Ok(Some(Some(key))), _) => Insert::Held(key),
        (Ok(Some(None)), Some(waker)) => Insert::Own(waker),
        (_, Some(waker)) => Insert::Other(waker),
        (_, None) => unreachable!("the waker was taken along with a key"),
    }
}

/// Takes an entry out; else tells whether the pen of these timers is this thread's.
#[inline]
pub(crate) fn remove(engine: &Engine, key: u64) -> Result<Waker, bool> {
    let removed = HERE.try_with(|here| {
        let mut here = here.borrow_mut();
        let pen = here.as_mut().filter(|pen| pen.is_of(engine)).ok_or(false)?;
        pen.remove(key).ok_or(true)
    });
    removed.unwrap_or(Err(false))
}

/// Where an entry is that was to be updated.
#[derive(PartialEq)]
pub(crate) enum Look {
    /// In the pen, just as it is to be.
    Same,
    /// In the pen.
    Held,
    /// Not in the pen, which is this thread's.
    Own,
    /// This thread has no pen of these timers.
    Other,
}

/// Looks for an entry that is to have that deadline and that waker.
#[inline]
pub(crate) fn look(engine: &Engine, key: u64, deadline: Instant, waker: Option<&Waker>) -> Look {
    let look = HERE.try_with(|here| {
        let here = here.borrow();
        let Some(pen) = here.as_ref().filter(|pen| pen.is_of(engine)) else { return Look::Other };
        let place = pen.places.get(hint_of(key)).filter(|place| place.key == key);
        let Some((place, kept)) = place.and_then(|place| Some((place, place.waker.as_ref()?))) else {
            return Look::Own;
        };
        let is_same = place.deadline == deadline && waker.is_none_or(|waker| kept.will_wake(waker));
        if is_same && pen.seen == engine.news() { Look::Same } else { Look::Held }
    });
    look.unwrap_or(Look::Other)
}

/// Lends this thread's pen to `f`, if it is the one of these timers.
pub(crate) fn with<R>(engine: &Engine, f: impl FnOnce(Option<&mut Pen>) -> R) -> R {
    let mut f = Some(f);
    let mut call = |pen: Option<&mut Pen>| f.take().map(|f| f(pen));
    let answer = HERE.try_with(|here| call(here.borrow_mut().as_deref_mut().filter(|pen| pen.is_of(engine))));
    answer.ok().flatten().or_else(|| call(None)).expect("one of the two has called it")
}

/// Gives this thread a pen; it comes back if there is one already, or can be none any more (P1).
pub(crate) fn give(pen: Box<Pen>) -> Option<Box<Pen>> {
    let mut pen = Some(pen);
    let _ = HERE.try_with(|here| {
        let mut here = here.borrow_mut();
        if here.is_none() {
            *here = pen.take();
        }
    });
    pen
}

/// Takes the pen of these timers off this thread, if it is there. It has been filed.
pub(crate) fn take(engine: &Engine) -> Option<Box<Pen>> {
    HERE.try_with(|here| here.borrow_mut().take_if(|pen| pen.is_of(engine))).ok().flatten()
}

// === impl Pen ===

impl Pen {
    /// A pen that is shut, and has no nodes yet.
    pub(crate) fn new(engine: StdArc<Engine>) -> Box<Self> {
        let deadline = Instant::now(); // any
        let places = std::array::from_fn(|_| Place { key: NO_KEY, deadline, waker: None });
        Box::new(Self { engine, seen: 0, len: 0, limit: 0, awake: true, has_nodes: false, places })
    }

    #[inline]
    fn is_of(&self, engine: &Engine) -> bool {
        std::ptr::eq(&*self.engine, engine)
    }

    /// Whether the host is awake, so that it may be open.
    pub(crate) fn is_awake(&self) -> bool {
        self.awake
    }

    /// Sets an entry, and names it, if there is room and it is open.
    #[inline]
    pub(crate) fn hold(&mut self, deadline: Instant, waker: &mut Option<Waker>) -> Option<u64> {
        if self.len >= self.limit {
            return None;
        }
        let place = self.places.get_mut(self.len)?;
        debug_assert!(place.key != NO_KEY && place.waker.is_none());
        place.deadline = deadline;
        mem::swap(&mut place.waker, waker);
        self.len += 1;
        Some(place.key)
    }

    /// Takes an entry out.
    #[inline]
    fn remove(&mut self, key: u64) -> Option<Waker> {
        let hint = hint_of(key);
        let place = self.places.get_mut(hint).filter(|place| place.key == key)?;
        let waker = place.waker.take()?;
        if !place.use_up() {
            (self.limit, self.has_nodes) = (self.limit.min(hint), false); // until it is opened again
        }
        if hint + 1 == self.len {
            self.len = hint;
            while self.len > 0 && self.places[self.len - 1].waker.is_none() {
                self.len -= 1;
            }
        }
        Some(waker)
    }

    /// Whether it holds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether everything up to there was filed before what it holds.
    pub(crate) fn has_seen(&self, news: usize) -> bool {
        self.seen == news
    }

    /// Lets entries be set until it is shut. It is empty, and nothing is new in the wheel.
    pub(crate) fn open(&mut self, wheel: &mut Wheel<Instant, Waker>, news: usize) {
        debug_assert!(self.len == 0);
        if !mem::replace(&mut self.has_nodes, true) {
            for (hint, place) in self.places.iter_mut().enumerate().filter(|(_, place)| place.key == NO_KEY) {
                place.key = wheel.lend(hint, place.deadline);
            }
        }
        (self.limit, self.seen) = (PLACES, news);
    }

    /// Lets no entries be set. It is empty.
    pub(crate) fn shut(&mut self) {
        debug_assert!(self.len == 0);
        self.limit = 0;
    }

    /// The host is about to sleep: it stays shut until the host wakes up.
    pub(crate) fn fall_asleep(&mut self) {
        self.awake = false;
    }

    /// The host is awake. Answers whether the pen was used before, so that it is to be opened at once.
    pub(crate) fn wake_up(&mut self) -> bool {
        self.awake = true;
        self.has_nodes
    }

    /// Puts its entries into the wheel, heeding the notes. Those of timers that have `ended` are to be woken.
    pub(crate) fn file(
        &mut self,
        wheel: &mut Wheel<Instant, Waker>,
        notes: &mut Notes,
        ended: bool,
        when: impl Fn(Instant) -> When,
    ) -> Option<LeftOver> {
        let mut left = None;
        for (hint, place) in self.places[..mem::take(&mut self.len)].iter_mut().enumerate() {
            let Some(mut waker) = place.waker.take() else { continue };
            let mut deadline = place.deadline;
            match notes.take(place.key) {
                None => {}
                Some(Wanted::Removed) => {
                    self.has_nodes &= place.use_up();
                    LeftOver::of(&mut left).dropped.push(waker);
                    continue;
                }
                Some(Wanted::Updated(other, instead)) => {
                    deadline = other;
                    let before = instead.map(|instead| mem::replace(&mut waker, instead));
                    LeftOver::of(&mut left).dropped.extend(before);
                }
            }
            if ended {
                let waker = mem::replace(&mut waker, Waker::noop().clone());
                LeftOver::of(&mut left).ended.push(waker);
            }
            wheel.adopt(place.key, deadline, when(deadline), waker);
            place.key = wheel.lend(hint, deadline);
        }
        if !notes.0.is_empty() {
            let stale = notes.0.drain(..).filter_map(|note| note.wanted.waker());
            LeftOver::of(&mut left).dropped.extend(stale);
        }
        left
    }
}

impl Place {
    /// The entry in it is gone. Answers false if it was the last that could be there.
    #[inline]
    fn use_up(&mut self) -> bool {
        let next = next_use(self.key);
        self.key = next.unwrap_or(NO_KEY);
        next.is_some()
    }
}

impl Drop for Pen {
    /// The thread ends in the middle of a run that was forgotten (P1).
    fn drop(&mut self) {
        if self.limit.max(self.len) > 0 {
            let engine = self.engine.clone();
            engine.file_for_good(self);
        }
    }
}

// === impl Notes ===

impl Notes {
    /// Notes what is wanted of an entry. Answers false if the entry is known to be gone; and a waker to be dropped.
    pub(crate) fn leave(&mut self, key: u64, wanted: Wanted) -> (bool, Option<Waker>) {
        let Some(note) = self.0.iter_mut().find(|note| hint_of(note.key) == hint_of(key)) else {
            self.0.push(Note { key, wanted });
            return (true, None);
        };
        match (note.key.cmp(&key), &mut note.wanted, wanted) {
            // The place was used again since.
            (Ordering::Greater, _, wanted) | (Ordering::Equal, Wanted::Removed, wanted) => {
                (false, wanted.waker())
            }
            (Ordering::Equal, Wanted::Updated(kept, waker), Wanted::Updated(deadline, instead)) => {
                *kept = deadline;
                (true, instead.and_then(|instead| waker.replace(instead)))
            }
            (_, before, wanted) => {
                note.key = key;
                (true, mem::replace(before, wanted).waker())
            }
        }
    }

    fn take(&mut self, key: u64) -> Option<Wanted> {
        let place = self.0.iter().position(|note| note.key == key)?;
        Some(self.0.swap_remove(place).wanted)
    }
}

impl Wanted {
    fn waker(self) -> Option<Waker> {
        match self {
            Self::Removed => None,
            Self::Updated(_, waker) => waker,
        }
    }
}

// === impl LeftOver ===

impl LeftOver {
    /// The one in `left`; most have none.
    fn of(left: &mut Option<Self>) -> &mut Self {
        left.get_or_insert_default()
    }

    /// Wakes and drops, with no lock held. Answers whether somebody may have been woken: a destructor may do so.
    #[cold]
    pub(crate) fn let_go(self) -> bool {
        !(self.ended.is_empty() && self.dropped.is_empty())
    }
}

impl Drop for LeftOver {
    /// One that panics does not keep the others from being let go.
    fn drop(&mut self) {
        wake_all(mem::take(&mut self.ended));
        let mut dropped = mem::take(&mut self.dropped).into_iter();
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| dropped.by_ref().for_each(drop))) {
            Runtime::report_panic("a waker panicked when it was dropped", panic);
        }
    }
}

/// Wakes any number, with no lock held.
pub(crate) fn wake_all(wakers: Vec<Waker>) {
    let (mut wakers, mut batch) = (wakers.into_iter(), WakeBatch::new());
    while wakers.len() > 0 {
        while !batch.is_full() {
            let Some(waker) = wakers.next() else { break };
            batch.push(waker);
        }
        batch.wake_all_reporting();
    }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use evenloop_core::{Park, ThreadPark};

    #[test]
    fn a_place_whose_keys_are_used_up_gets_another_node() {
        let mut pen = Pen::new(Engine::new(Clock::Real, ThreadPark::new().unparker()));
        let mut wheel = Wheel::new();
        pen.open(&mut wheel, 0);
        pen.places[1].key |= u64::from(u32::MAX) << 32; // this is its last one
        let set = |pen: &mut Pen| pen.hold(Instant::now(), &mut Some(Waker::noop().clone()));
        let (first, last) = (set(&mut pen).unwrap(), set(&mut pen).unwrap());
        assert!(pen.remove(last).is_some() && pen.remove(last).is_none());
        assert_eq!((set(&mut pen), pen.is_empty()), (None, false));
        let when = |_| When { tick: 1, rank: 0 };
        assert!(pen.file(&mut wheel, &mut Notes::default(), false, when).is_none());
        pen.open(&mut wheel, 0);
        let others = [set(&mut pen), set(&mut pen)].map(|key| key.unwrap() as u32);
        assert!(others.iter().all(|&place| place != first as u32 && place != last as u32));
        assert!(wheel.remove(first).is_some());
        assert!(pen.file(&mut wheel, &mut Notes::default(), false, when).is_none());
        pen.shut();
    }

    #[test]
    fn notes_stand_for_one_use_of_a_place_at_a_time() {
        let mut notes = Notes::default();
        let (one, two) = (1 << 32, 2 << 32);
        let updated = || Wanted::Updated(Instant::now(), Some(Waker::noop().clone()));
        assert!(matches!(notes.leave(one, updated()), (true, None)));
        assert!(matches!(notes.leave(one, updated()), (true, Some(_))));
        assert!(matches!(notes.leave(one, Wanted::Removed), (true, Some(_))));
        assert!(matches!(notes.leave(one, updated()), (false, Some(_))));
        assert!(matches!(notes.leave(two, updated()), (true, None)));
        assert!(matches!(notes.leave(one, Wanted::Removed), (false, None)));
        assert!(notes.take(one).is_none());
        assert!(matches!(notes.take(two), Some(Wanted::Updated(..))));
        assert!(notes.0.is_empty());
    }
}
