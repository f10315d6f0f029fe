//! What tasks wait for, and who holds what: told by leaf futures and locks to whoever asked.
//!
//! A leaf future that returns Pending says so through [`noted`] or [`wait`]; a lock says who got it through [`hold`],
//! [`grant`] and [`release`]. While nobody asks, the former cost one relaxed load and the latter nothing at all: a lock
//! compares its word with [`zero`] or [`four`] instead of a constant, and those match no word while somebody asks. A leaf
//! whose wait is a few instructions long does the same instead of looking. `cargo xtask counts` keeps all of it under a
//! hundredth of what the same costs without the feature.
//!
//! ```text
//! host: ask ── enter(task) ── poll: leaves note here ── leave ──► notes ──► `Waits`, the host's record of that task
//! ```
//!
//! V1. Notes belong to the task whose poll is entered on this thread. Outside of one they are dropped.
//! V2. A note that was made with the task's own waker is true until the task's next poll. One that was made with another
//!     waker, that of a child of a `FuturesUnordered`, is true until that waker notes again, or a poll shows that the task
//!     waits for something else by now (see [`Waits::merge`]).
//! V3. No foreign code runs under the tables of holders, nor while the notes of a thread are borrowed.
//! V4. What happens while nobody asks is not known later: a lock that was taken before has no known holder.
//!
//! Without the feature `watch` nobody can ask, and all of this is constant.
//!
//! ORDERING: Relaxed throughout. Whoever asks learns of what is told from then on, give or take a moment.

mod holders;

pub use self::holders::{Follower, Holder, grant, hold, holders, leave_line, queue, release, take};

use crate::runtime::RuntimeId;
use crate::shim::{GlobalAtomicUsize, GlobalMutex, atomic::Ordering};
use std::cell::RefCell;
use std::fmt;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Names one task of one host of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskKey {
    /// The host: the number of a loop.
    pub host: u64,
    /// The task's number there.
    pub task: u64,
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.host, self.task)
    }
}

/// What a future waits on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum On {
    /// Something that has no name.
    Nothing,
    /// A lock, an event and the like: its address, by which holders are found.
    Object(usize),
    /// As `Object`, and how many there are of how many there may be: a queue.
    Counted(usize, usize, usize),
    /// Another task's end.
    Task(TaskKey),
    /// The ends of the children of this group.
    Children(usize),
    /// A time of the host's clock.
    Until(Instant),
    /// A descriptor's readiness.
    Descriptor(i64),
    /// A job on another thread.
    Thread,
}

impl On {
    /// This very object.
    pub fn object<T: ?Sized>(object: &T) -> Self {
        Self::Object(address(object))
    }

    /// This very object, which holds `has` of at most `limit`; 0: as many as there come.
    pub fn counted<T: ?Sized>(object: &T, has: usize, limit: usize) -> Self {
        Self::Counted(address(object), has, limit)
    }

    /// Whether both are the same thing, however many are in it by now.
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Counted(one, ..), Self::Counted(other, ..)) => one == other,
            _ => self == other,
        }
    }

    /// The address of the object, if it is one.
    pub fn address(&self) -> Option<usize> {
        match self {
            Self::Object(address) | Self::Counted(address, ..) => Some(*address),
            _ => None,
        }
    }
}

/// The number by which an object is known here: its address.
pub fn address<T: ?Sized>(object: &T) -> usize {
    std::ptr::from_ref(object).cast::<()>().addr()
}

// === Asking ===

/// What every leaf looks at. Together, so that code which is inlined elsewhere looks up one address.
struct Words {
    asked: GlobalAtomicUsize,
    zero: GlobalAtomicUsize,
    four: GlobalAtomicUsize,
}

static WORDS: Words = Words {
    asked: GlobalAtomicUsize::new(0),
    zero: GlobalAtomicUsize::new(0),
    four: GlobalAtomicUsize::new(4),
};

static WHO_ASKS: GlobalMutex<usize> = GlobalMutex::new(0);

/// No word of a lock looks like this.
const NO_WORD: usize = usize::MAX;

/// Whether anybody asks.
#[inline(always)]
pub fn asked() -> bool {
    cfg!(feature = "watch") && WORDS.asked.load(Ordering::Relaxed) != 0
}

/// Whether there is no runtime, and nobody asks: both with one comparison.
#[inline(always)]
pub fn is_none_and_untold(runtime: Option<RuntimeId>) -> bool {
    runtime.map_or(0, RuntimeId::word) == zero()
}

/// 0 while nobody asks; else a number that is no word of a lock.
#[inline(always)]
pub fn zero() -> usize {
    if cfg!(feature = "watch") { WORDS.zero.load(Ordering::Relaxed) } else { 0 }
}

/// 4 while nobody asks; else a number that is no word of a lock.
#[inline(always)]
pub fn four() -> usize {
    if cfg!(feature = "watch") { WORDS.four.load(Ordering::Relaxed) } else { 4 }
}

/// Asks, until it is dropped.
#[must_use = "dropping it ends the asking"]
#[derive(Debug)]
pub struct Asked(());

/// Asks what tasks wait for, until the answer is dropped. Any number may ask at a time.
pub fn ask() -> Asked {
    let mut who = WHO_ASKS.lock();
    *who += 1;
    if *who == 1 {
        holders::forget_all(); // V4
        set_asked(1, NO_WORD, NO_WORD);
    }
    Asked(())
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut who = WHO_ASKS.lock();
        *who -= 1;
        if *who == 0 {
            set_asked(0, 0, 4);
            holders::forget_all();
        }
    }
}

fn set_asked(asked: usize, zero: usize, four: usize) {
    WORDS.asked.store(asked, Ordering::Relaxed);
    WORDS.zero.store(zero, Ordering::Relaxed);
    WORDS.four.store(four, Ordering::Relaxed);
}

// === Noting ===

/// What a leaf future noted in a poll that returned Pending.
#[derive(Clone, Debug)]
struct Note {
    call: &'static str,
    on: On,
    /// 0: the task's own waker. Else another's data.
    waker: usize,
    /// Waits for others, which have wakers of their own.
    many: bool,
}

/// The poll that this thread is in.
struct Here {
    task: TaskKey,
    waker: usize,
    notes: Vec<Note>,
}

std::thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// Notes that the task which is being polled waits in `call`, if anybody asks. To be called at every poll that is Pending.
#[inline(always)]
pub fn wait(waker: &Waker, call: &'static str, on: impl FnOnce() -> On) {
    if asked() {
        note(waker, call, false, on);
    }
}

/// As [`wait`], for a caller that has to look for the name of the call.
#[inline(always)]
pub fn wait_in(waker: &Waker, told: impl FnOnce() -> (&'static str, On)) {
    if asked() {
        let (call, on) = told();
        note(waker, call, false, || on);
    }
}

/// As [`wait`], for a future that polls others with wakers of their own: what those noted before stays true.
#[inline(always)]
pub fn wait_many(waker: &Waker, call: &'static str, on: impl FnOnce() -> On) {
    if asked() {
        note(waker, call, true, on);
    }
}

/// Notes a poll that was Pending, as [`wait`] does, and answers it.
#[inline(always)]
pub fn noted<T>(polled: Poll<T>, cx: &Context<'_>, call: &'static str, on: impl FnOnce() -> On) -> Poll<T> {
    if polled.is_pending() {
        wait(cx.waker(), call, on);
    }
    polled
}

#[cold]
#[inline(never)]
fn note(waker: &Waker, call: &'static str, many: bool, on: impl FnOnce() -> On) {
    let on = on(); // it may lock the object, so not under a borrow
    let data = waker.data().addr();
    let _ = HERE.try_with(|here| {
        if let Some(here) = &mut *here.borrow_mut() {
            let waker = if data == here.waker { 0 } else { data };
            here.notes.push(Note { call, on, waker, many });
        }
    });
}

/// The task that is being polled on this thread, as far as its host tells.
pub fn current_task() -> Option<TaskKey> {
    HERE.try_with(|here| here.borrow().as_ref().map(|here| here.task)).ok().flatten()
}

/// A poll of a task on this thread, for a host that asks. Dropping it ends the poll too, and loses the notes.
#[must_use = "dropping it ends the poll"]
pub struct Entered {
    /// The poll around this one, if a task polls another.
    outer: Option<Here>,
}

/// Begins a poll of `task`, whose own waker is `waker`. `fresh` lends its memory.
pub fn enter(task: TaskKey, waker: &Waker, fresh: &mut Fresh) -> Entered {
    let mut notes = std::mem::take(&mut fresh.0);
    notes.clear();
    let here = Here { task, waker: waker.data().addr(), notes };
    Entered { outer: HERE.try_with(|place| place.replace(Some(here))).ok().flatten() }
}

impl Entered {
    /// Ends the poll, and puts what was noted into `fresh`.
    pub fn leave(mut self, fresh: &mut Fresh) {
        let outer = self.outer.take();
        if let Ok(Some(here)) = HERE.try_with(|place| place.replace(outer)) {
            fresh.0 = here.notes;
        }
        std::mem::forget(self);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let outer = self.outer.take();
        let here = HERE.try_with(|place| place.replace(outer));
        drop(here);
    }
}

impl fmt::Debug for Entered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entered").finish_non_exhaustive()
    }
}

/// What was noted in one poll. Kept by a host between polls for its memory alone.
#[derive(Default)]
pub struct Fresh(Vec<Note>);

impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fresh [notes: {}]", self.0.len())
    }
}

/// One thing that a task waits for.
#[derive(Clone, Debug)]
pub struct Wait {
    /// What the task called: `Lock::acquire`.
    pub call: &'static str,
    /// What it waits on.
    pub on: On,
    /// Since when, by the host's clock.
    pub since: Instant,
    /// Tells it from all other waits of its task. One that ends and begins anew within one poll keeps its number.
    pub number: u64,
    /// How many polls of it were Pending.
    pub polls: u64,
    waker: usize,
    many: bool,
}

impl Wait {
    /// Whether it stands for others that are in the record as well: `gather`.
    pub fn is_many(&self) -> bool {
        self.many
    }

    fn is(&self, note: &Note) -> bool {
        self.call == note.call && self.on.is_same(&note.on) && self.waker == note.waker
    }
}

/// What one task waits for: a host's record of the notes of its polls.
#[derive(Clone, Debug, Default)]
pub struct Waits {
    waits: Vec<Wait>,
    /// The number of the latest.
    last: u64,
}

impl Waits {
    /// Whether a poll that noted `fresh` leaves this record as it is: the usual case, a task that waits again where it waited.
    fn is_unchanged_by(&self, fresh: &Fresh) -> bool {
        let plain = |wait: &Wait, note: &Note| wait.is(note) && wait.on == note.on && note.waker == 0;
        self.waits.len() == fresh.0.len()
            && self.waits.iter().zip(&fresh.0).all(|(wait, note)| plain(wait, note))
    }

    /// Brings the record up to date with what a poll that was Pending noted; it ended at `now` by the host's clock.
    ///
    /// What children with wakers of their own wait for stays, as long as the task notes nothing with its own waker, or says
    /// that it waits for many (V2).
    pub fn merge(&mut self, fresh: &mut Fresh, now: Instant) {
        if self.is_unchanged_by(fresh) {
            self.waits.iter_mut().for_each(|wait| wait.polls += 1);
            return fresh.0.clear();
        }
        let own = |note: &Note| note.waker == 0;
        let in_the_same_place = !fresh.0.iter().any(own) || fresh.0.iter().any(|note| own(note) && note.many);
        let mut before = std::mem::take(&mut self.waits);
        for note in fresh.0.drain(..) {
            let known = before.iter().position(|wait| wait.is(&note)).map(|place| before.remove(place));
            let wait = self.renewed(known, note, now);
            self.waits.push(wait);
        }
        if in_the_same_place {
            let fresh = self.waits.len();
            for wait in before.into_iter().filter(|wait| wait.waker != 0) {
                let renewed = self.waits[..fresh].iter().any(|newer| newer.waker == wait.waker);
                let met = matches!(wait.on, On::Until(when) if when <= now);
                if !renewed && !met {
                    self.waits.push(wait);
                }
            }
        }
    }

    /// The wait that was noted: it goes on, or is a new one.
    fn renewed(&mut self, known: Option<Wait>, note: Note, now: Instant) -> Wait {
        let Note { call, on, waker, many } = note;
        match known {
            Some(wait) => Wait { on, polls: wait.polls + 1, ..wait },
            None => {
                self.last += 1;
                Wait { call, on, since: now, number: self.last, polls: 1, waker, many }
            }
        }
    }

    /// Forgets everything: the task is over.
    pub fn clear(&mut self) {
        self.waits.clear();
    }

    /// What the task waits for; futures that stand for many others come first.
    pub fn iter(&self) -> impl Iterator<Item = &Wait> {
        let many = self.waits.iter().filter(|wait| wait.many);
        many.chain(self.waits.iter().filter(|wait| !wait.many))
    }
}

#[cfg(all(test, feature = "watch", not(evenloop_loom)))]
mod tests {
    use super::*;
    use crate::shim::StdArc;
    use std::time::Duration;

    const TASK: TaskKey = TaskKey { host: 1, task: 1 };

    /// Polls as a host does, and merges.
    fn poll(waits: &mut Waits, now: Instant, leaves: impl FnOnce(&Waker)) {
        let mut fresh = Fresh::default();
        let entered = enter(TASK, Waker::noop(), &mut fresh);
        leaves(Waker::noop());
        entered.leave(&mut fresh);
        waits.merge(&mut fresh, now);
    }

    fn calls(waits: &Waits) -> Vec<&'static str> {
        waits.iter().map(|wait| wait.call).collect()
    }

    /// A waker whose data differs from that of every other.
    fn child() -> Waker {
        struct Child(#[expect(dead_code, reason = "so that it has an address")] u8);
        impl std::task::Wake for Child {
            fn wake(self: StdArc<Self>) {}
        }
        StdArc::new(Child(0)).into()
    }

    #[test]
    fn a_poll_replaces_what_the_task_itself_noted() {
        let _asked = ask();
        let (start, mut waits) = (Instant::now(), Waits::default());
        poll(&mut waits, start, |own| wait(own, "one", || On::Nothing));
        let later = start + Duration::from_secs(1);
        poll(&mut waits, later, |own| {
            wait(own, "one", || On::Nothing);
            wait(own, "two", || On::Nothing);
        });
        assert_eq!(calls(&waits), ["one", "two"]);
        assert_eq!(waits.iter().map(|wait| wait.since).collect::<Vec<_>>(), [start, later]);
        poll(&mut waits, later, |own| wait(own, "two", || On::Nothing));
        assert_eq!(calls(&waits), ["two"]);
    }

    #[test]
    fn a_wait_keeps_its_number_and_counts_its_polls_while_it_goes_on() {
        let _asked = ask();
        let (start, mut waits) = (Instant::now(), Waits::default());
        let all =
            |waits: &Waits| waits.iter().map(|wait| (wait.call, wait.number, wait.polls)).collect::<Vec<_>>();
        let get = |own: &Waker, has| wait(own, "get", || On::Counted(8, has, 3));
        poll(&mut waits, start, |own| get(own, 0));
        poll(&mut waits, start, |own| get(own, 0));
        assert_eq!(all(&waits), [("get", 1, 2)]);
        let (child, later) = (child(), start + Duration::from_secs(1));
        poll(&mut waits, later, |own| {
            wait(&child, "of a child", || On::Nothing);
            wait_many(own, "gather", || On::Nothing);
            get(own, 1);
        });
        assert_eq!(all(&waits), [("gather", 3, 1), ("of a child", 2, 1), ("get", 1, 3)]);
        let counted = waits.iter().last().unwrap(); // another count is no other wait
        assert_eq!((counted.on, counted.since), (On::Counted(8, 1, 3), start));
        poll(&mut waits, later, |own| wait_many(own, "gather", || On::Nothing));
        assert_eq!(all(&waits), [("gather", 3, 2), ("of a child", 2, 1)]);
        poll(&mut waits, later, |own| get(own, 1));
        assert_eq!(all(&waits), [("get", 4, 1)]);
    }

    #[test]
    fn what_children_noted_stays_until_the_task_moves_on() {
        let _asked = ask();
        let (start, mut waits) = (Instant::now(), Waits::default());
        let (a, b) = (child(), child());
        let all = |own: &Waker| wait_many(own, "gather", || On::Nothing);
        poll(&mut waits, start, |own| {
            wait(&a, "a", || On::Nothing);
            wait(&b, "b", || On::Until(start + Duration::from_secs(1)));
            all(own);
        });
        poll(&mut waits, start, |own| {
            wait(&a, "a again", || On::Nothing);
            all(own);
        });
        assert_eq!(calls(&waits), ["gather", "a again", "b"]);
        poll(&mut waits, start + Duration::from_secs(2), all); // b's time has come: it woke the task, and is over
        assert_eq!(calls(&waits), ["gather", "a again"]);
        poll(&mut waits, start, |own| wait(own, "other", || On::Nothing));
        assert_eq!(calls(&waits), ["other"]);
    }
}
