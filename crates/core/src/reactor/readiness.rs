//! What is known about one descriptor: whether reading and writing are worth a system call, and who waits for it.
//!
//! The engine adds what it learns to a word; the owner notes beside it what its own system calls disprove. A direction is
//! ready while the count of its news is another than the one at which a call last came back empty-handed. Between the owner's
//! look and its note, news may have come: then the count has gone on, and the note says nothing.
//!
//! ```text
//!        63 ........... 36   35 ........... 8   7   6   5      4             3       2
//!       | news of writing  | news of reading  |       | ended | deregistered| urgent| read end|
//!
//!                 engine: set(READ)                        owner: a read would block
//!   not ready ─────────────────────────► ready, news + 1 ─────────────────────────────► not ready
//!                 wakes who waits                  (only if there was no news since the look)
//! ```
//!
//! - *read end*: the peer sends no more. The end itself is then the last thing to be read, and no further news will tell
//!   of it, so a short read does not take readiness away; only a read that would block does.
//! - *urgent*: urgent data is (or was) on its way. The kernel cuts a read short there although more has come, so again a
//!   short read proves nothing.
//! - *deregistered*, *ended*: nobody watches any more. Never taken back.
//!
//! N1. Every `set` adds one to the count of each direction that it tells of.
//! N2. A direction stops being ready only for whoever finds its count where an owner's call was disproved; any news moves
//!     the count on, and never to there. (Counts wrap around: unless 2^28 pieces of news, and not one more or less, come
//!     between an owner's look and its note.)
//! N3. Who finds nothing stores its waker under the lock and looks again there. The engine first changes the word and then
//!     takes the wakers under the lock. Whichever comes second sees the other: no wake-up is lost.
//! N4. Wakers are cloned, woken and dropped with no lock held.
//! N5. A waiter is in the list only while its future lives and has not been woken.

use crate::WakeBatch;
use crate::shim::Mutex;
use crate::shim::atomic::{AtomicU32, AtomicU64, Ordering};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::ops::BitOr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// One way that bytes can go through a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Out of the kernel: read, receive, accept.
    Read,
    /// Into the kernel: write, send, the end of a connect.
    Write,
}

/// What an engine has learned about a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready(u8);

impl Ready {
    /// Nothing.
    pub const NOTHING: Self = Self(0);
    /// A read would not block.
    pub const READ: Self = Self(READ);
    /// A write would not block.
    pub const WRITE: Self = Self(WRITE);
    /// The peer sends no more: what is left to read ends with the end of the stream.
    pub const READ_END: Self = Self(READ | READ_END);
    /// Urgent data is about: short reads prove nothing from now on.
    pub const URGENT: Self = Self(READ | URGENT);

    /// Whether this tells a waiter of `direction` to try.
    const fn is_for(self, direction: Direction) -> bool {
        self.0 & direction.flag() != 0
    }
}

impl BitOr for Ready {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

const READ: u8 = 1;
const WRITE: u8 = 1 << 1;
const READ_END: u8 = 1 << 2;
const URGENT: u8 = 1 << 3;
/// What of a [`Ready`] stays in the word.
const KEPT: u8 = READ_END | URGENT;
const DEREGISTERED: u64 = 1 << 4;
const ENDED: u64 = 1 << 5;
/// The counts of news lie above the flags, side by side.
const FLAG_BITS: u32 = 8;
const COUNT_BITS: u32 = (u64::BITS - FLAG_BITS) / 2;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

impl Direction {
    const fn flag(self) -> u8 {
        match self {
            Self::Read => READ,
            Self::Write => WRITE,
        }
    }

    const fn place(self) -> usize {
        match self {
            Self::Read => 0,
            Self::Write => 1,
        }
    }

    /// How far to the left the count of this direction lies in the word.
    const fn shift(self) -> u32 {
        match self {
            Self::Read => FLAG_BITS,
            Self::Write => FLAG_BITS + COUNT_BITS,
        }
    }

    /// How much news of this direction the word has counted.
    const fn news(self, word: u64) -> u32 {
        (word >> self.shift() & COUNT) as u32
    }
}

/// The word after this was learned (N1). When the count of reading overflows, that of writing goes up by one: no harm, but a
/// call that would block.
const fn told(word: u64, ready: Ready) -> u64 {
    let read = (ready.0 & READ) as u64;
    let wrote = (ready.0 & WRITE) as u64 >> 1;
    let news = read << Direction::Read.shift() | wrote << Direction::Write.shift();
    word.wrapping_add(news) | (ready.0 & KEPT) as u64
}

/// The word as it was when a direction was found ready: proof of what may be taken away again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen(u64);

/// Nobody watches the descriptor any more, so waiting for it would last for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwatched {
    /// Its owner has taken it out of the reactor: it was closed or given away.
    Deregistered,
    /// The reactor itself has ended.
    Ended,
}

impl fmt::Display for Unwatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deregistered => "the descriptor was closed or given away while it was waited for",
            Self::Ended => "the reactor that watched the descriptor has ended",
        })
    }
}

impl Error for Unwatched {}

impl From<Unwatched> for io::Error {
    fn from(unwatched: Unwatched) -> Self {
        Self::new(io::ErrorKind::NotConnected, unwatched)
    }
}

/// What is known about one descriptor, and who waits for more. Shared by its engine and its owner.
pub struct Readiness {
    word: AtomicU64,
    /// One a direction: the count of its news when a call was last disproved (N2).
    dry: [AtomicU32; 2],
    waiters: Mutex<Waiters>,
}

struct Waiters {
    /// One place a direction, for the owner's own polls: whoever polled last is woken.
    owner: [Option<Waker>; 2],
    /// Any number of futures. Boxed because most descriptors never have one.
    shared: Option<Box<Shared>>,
}

#[derive(Default)]
struct Shared {
    last_key: u64,
    line: Vec<(WaiterKey, Direction, Waker)>,
}

/// Names one waiting future of one [`Readiness`]; never names another one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaiterKey(u64);

impl Readiness {
    /// A readiness that starts with `known`.
    ///
    /// A fresh connection takes bytes, so its owner may start with [`Ready::WRITE`] and save the first wait. A wrong guess
    /// costs one system call that would block.
    pub fn new(known: Ready) -> Self {
        let waiters = Waiters { owner: [None, None], shared: None };
        Self {
            word: AtomicU64::new(told(0, known)),
            dry: [AtomicU32::new(0), AtomicU32::new(0)],
            waiters: Mutex::new(waiters),
        }
    }

    // The owner's side.

    /// Whether a call in this direction is worth trying; else `cx` is woken when it is. For the one owner of a direction:
    /// a poll with another waker takes the place of the one before.
    ///
    /// # Errors
    ///
    /// Nobody watches any more.
    #[inline]
    pub fn poll_ready(&self, direction: Direction, cx: &mut Context<'_>) -> Poll<Result<Seen, Unwatched>> {
        match self.look(direction) {
            Poll::Pending => self.wait_as_owner(direction, cx.waker()),
            found => found,
        }
    }

    /// Whether a call in this direction is worth trying, now.
    #[inline]
    pub fn look(&self, direction: Direction) -> Poll<Result<Seen, Unwatched>> {
        // ORDERING: Acquire sees what the engine wrote before its `set`; pairs with the Release there.
        let word = self.word.load(Ordering::Acquire);
        if word & (DEREGISTERED | ENDED) != 0 {
            return Poll::Ready(Err(if word & ENDED != 0 {
                Unwatched::Ended
            } else {
                Unwatched::Deregistered
            }));
        }
        // ORDERING: Relaxed: an outdated note costs a call that would block, and the owner knows its own.
        if direction.news(word) == self.dry[direction.place()].load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        Poll::Ready(Ok(Seen(word)))
    }

    /// The owner's call would have blocked: forgets what was seen, unless there has been news since.
    #[inline]
    pub fn would_block(&self, direction: Direction, seen: Seen) {
        if direction == Direction::Read && seen.0 & u64::from(READ_END) != 0 {
            self.goes_on(seen);
        }
        self.note_dry(direction, seen);
    }

    /// The owner's call on a stream moved fewer bytes than it was given room for, so the next one would block: forgets
    /// what was seen, unless there has been news since, or unless a short read proves nothing here.
    #[inline]
    pub fn came_short(&self, direction: Direction, seen: Seen) {
        if direction == Direction::Write || seen.0 & u64::from(KEPT) == 0 {
            self.note_dry(direction, seen);
        }
    }

    #[inline]
    fn note_dry(&self, direction: Direction, seen: Seen) {
        // ORDERING: Relaxed: it publishes nothing, and is compared with what the word says (N2).
        self.dry[direction.place()].store(direction.news(seen.0), Ordering::Relaxed);
    }

    /// After the end there may be more to read all the same: a pipe has got a new writer.
    #[cold]
    fn goes_on(&self, seen: Seen) {
        let read_on = |word| {
            let no_news = Direction::Read.news(word) == Direction::Read.news(seen.0);
            no_news.then_some(word & !u64::from(READ_END))
        };
        // ORDERING: Relaxed: it publishes nothing, and an exchange keeps the engine's release sequence unbroken.
        let _ = self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, read_on);
    }

    #[cold]
    #[inline(never)]
    fn wait_as_owner(&self, direction: Direction, waker: &Waker) -> Poll<Result<Seen, Unwatched>> {
        let mut mine = Some(waker.clone()); // N4
        let found = {
            let mut waiters = self.waiters.lock();
            let stored = &mut waiters.owner[direction.place()];
            if !stored.as_ref().is_some_and(|stored| stored.will_wake(waker)) {
                std::mem::swap(stored, &mut mine);
            }
            self.look(direction) // N3
        };
        drop(mine); // N4: the waker of an earlier poll
        found
    }

    /// Waits, beside any number of others, until a call in this direction is worth trying.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Everybody who waits is woken, so no place can be lost.
    pub fn ready(&self, direction: Direction) -> AwaitReady<'_> {
        AwaitReady { readiness: self, direction, key: None }
    }

    /// As [`poll_ready`](Self::poll_ready), for one of many waiters. `key` is `None` at first; a waiter that gives up
    /// while it holds one hands it to [`forget`](Self::forget).
    ///
    /// # Errors
    ///
    /// Nobody watches any more.
    pub fn poll_shared(
        &self,
        direction: Direction,
        key: &mut Option<WaiterKey>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Seen, Unwatched>> {
        let found = self.look(direction);
        if found.is_ready() {
            self.forget(key);
            return found;
        }
        let mut mine = Some(cx.waker().clone()); // N4
        let found = {
            let mut waiters = self.waiters.lock();
            let shared = waiters.shared.get_or_insert_default();
            match shared.line.iter_mut().find(|(stored, ..)| Some(*stored) == *key) {
                Some((_, _, stored)) if stored.will_wake(cx.waker()) => {}
                Some((_, _, stored)) => {
                    mine = Some(std::mem::replace(stored, mine.take().expect("just put")))
                }
                None => {
                    shared.last_key += 1;
                    *key = Some(WaiterKey(shared.last_key));
                    shared.line.push((WaiterKey(shared.last_key), direction, mine.take().expect("just put")));
                }
            }
            self.look(direction) // N3
        };
        drop(mine); // N4
        if found.is_ready() {
            self.forget(key);
        }
        found
    }

    /// Takes a waiter out of the line, if it is still there (N5).
    pub fn forget(&self, key: &mut Option<WaiterKey>) {
        let Some(key) = key.take() else { return };
        let left = {
            let mut waiters = self.waiters.lock();
            let line = waiters.shared.as_mut().map(|shared| &mut shared.line);
            line.and_then(|line| {
                let place = line.iter().position(|(stored, ..)| *stored == key)?;
                Some(line.swap_remove(place))
            })
        };
        drop(left); // N4
    }

    // The engine's side.

    /// Adds what the engine has learned, and puts the wakers that are due into `due`.
    ///
    /// Answers true if `due` became full before all were in: then wake them and call again with the same. Wake with no
    /// lock held.
    #[must_use = "true: wake what is due and call again"]
    pub fn set(&self, ready: Ready, due: &mut WakeBatch) -> bool {
        // ORDERING: Release publishes what the engine wrote before; pairs with the Acquire in `look`. Relaxed to read: the
        // exchange decides.
        let added =
            self.word.fetch_update(Ordering::Release, Ordering::Relaxed, |word| Some(self.told(word, ready)));
        debug_assert!(added.is_ok(), "the closure never declines");
        self.take_due(|direction| ready.is_for(direction), due)
    }

    /// Says that nobody watches any more, and puts all wakers into `due`; to be called again as [`set`](Self::set).
    #[must_use = "true: wake what is due and call again"]
    pub fn unwatch(&self, why: Unwatched, due: &mut WakeBatch) -> bool {
        let flag = match why {
            Unwatched::Deregistered => DEREGISTERED,
            Unwatched::Ended => ENDED,
        };
        // ORDERING: Release as in `set`.
        self.word.fetch_or(flag, Ordering::Release);
        self.take_due(|_| true, due)
    }

    /// As [`told`], and no count that moved stands where a call was disproved long ago (N2).
    #[inline]
    fn told(&self, word: u64, ready: Ready) -> u64 {
        let mut next = told(word, ready);
        for direction in [Direction::Read, Direction::Write] {
            // ORDERING: Relaxed: a note that is not seen yet is of a count that was passed just now.
            let dry = self.dry[direction.place()].load(Ordering::Relaxed);
            if direction.news(next) == dry && direction.news(word) != dry {
                next = next.wrapping_add(1 << direction.shift());
            }
        }
        next
    }

    fn take_due(&self, is_due: impl Fn(Direction) -> bool, due: &mut WakeBatch) -> bool {
        let mut waiters = self.waiters.lock(); // N3
        for direction in [Direction::Read, Direction::Write] {
            let place = &mut waiters.owner[direction.place()];
            if is_due(direction) && place.is_some() {
                if due.is_full() {
                    return true;
                }
                place.take().into_iter().for_each(|waker| due.push(waker));
            }
        }
        let Some(shared) = &mut waiters.shared else { return false };
        while let Some(place) = shared.line.iter().position(|(_, direction, _)| is_due(*direction)) {
            if due.is_full() {
                return true;
            }
            due.push(shared.line.swap_remove(place).2);
        }
        false
    }

    /// How many wait in a direction, owner included. May be out of date by the time it returns.
    pub fn waiting(&self, direction: Direction) -> usize {
        let waiters = self.waiters.lock();
        let shared = waiters.shared.as_ref().map_or(0, |shared| {
            shared.line.iter().filter(|(_, waits_for, _)| *waits_for == direction).count()
        });
        usize::from(waiters.owner[direction.place()].is_some()) + shared
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word.load(Ordering::Relaxed);
        let is_ready = |direction: Direction| {
            direction.news(word) != self.dry[direction.place()].load(Ordering::Relaxed)
        };
        let known = [
            (is_ready(Direction::Read), "read"),
            (is_ready(Direction::Write), "write"),
            (word & u64::from(READ_END) != 0, "read end"),
            (word & u64::from(URGENT) != 0, "urgent"),
            (word & DEREGISTERED != 0, "deregistered"),
            (word & ENDED != 0, "ended"),
        ];
        let known: Vec<_> = known.into_iter().filter(|(so, _)| *so).map(|(_, name)| name).collect();
        let known = if known.is_empty() { "not ready".to_owned() } else { known.join("+") };
        let (reading, writing) = (self.waiting(Direction::Read), self.waiting(Direction::Write));
        write!(f, "Readiness [{known}, waiters: {reading} to read, {writing} to write]")
    }
}

/// Waits until a direction is ready: see [`Readiness::ready`].
#[must_use = "futures do nothing unless awaited"]
pub struct AwaitReady<'a> {
    readiness: &'a Readiness,
    direction: Direction,
    key: Option<WaiterKey>,
}

impl Future for AwaitReady<'_> {
    type Output = Result<Seen, Unwatched>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { readiness, direction, key } = &mut *self;
        readiness.poll_shared(*direction, key, cx)
    }
}

impl Drop for AwaitReady<'_> {
    fn drop(&mut self) {
        self.readiness.forget(&mut self.key);
    }
}

impl fmt::Debug for AwaitReady<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.key.is_some() { "waiting" } else { "new" };
        write!(f, "AwaitReady [{:?}, {state}]", self.direction)
    }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;

    fn look(readiness: &Readiness, direction: Direction) -> Option<Seen> {
        match readiness.look(direction) {
            Poll::Ready(found) => Some(found.unwrap()),
            Poll::Pending => None,
        }
    }

    fn set(readiness: &Readiness, ready: Ready) {
        assert!(!readiness.set(ready, &mut WakeBatch::new()));
    }

    #[test]
    fn what_was_seen_is_taken_away_and_news_is_not() {
        let readiness = Readiness::new(Ready::NOTHING);
        assert_eq!(look(&readiness, Direction::Read), None);
        set(&readiness, Ready::READ);
        let seen = look(&readiness, Direction::Read).unwrap();
        set(&readiness, Ready::READ); // news between the look and the end of the call
        readiness.would_block(Direction::Read, seen);
        let seen = look(&readiness, Direction::Read).expect("N2");
        readiness.would_block(Direction::Read, seen);
        assert_eq!(look(&readiness, Direction::Read), None);
    }

    #[test]
    fn a_count_that_wraps_around_forgets_no_news() {
        let full = !u64::from(u8::MAX);
        let word = told(full, Ready::WRITE);
        assert_eq!((Direction::Read.news(word), Direction::Write.news(word)), (COUNT as u32, 0));
        let word = told(full, Ready::READ_END);
        assert_eq!((Direction::Read.news(word), Direction::Write.news(word)), (0, 0), "both have moved on");
        assert_eq!(word as u8, READ_END);
    }

    #[test]
    fn a_count_that_comes_round_is_not_taken_for_one_that_was_disproved() {
        for ready in [Ready::READ, Ready::WRITE, Ready::READ | Ready::WRITE] {
            // Both counts are the last ones before they wrap around, and neither was ever disproved.
            let readiness = Readiness::new(Ready::NOTHING);
            readiness.word.store(!u64::from(u8::MAX), Ordering::Relaxed);
            set(&readiness, ready);
            for direction in [Direction::Read, Direction::Write] {
                assert!(look(&readiness, direction).is_some(), "{ready:?}, {direction:?}");
            }
        }
    }

    #[test]
    fn the_directions_do_not_disturb_each_other() {
        let readiness = Readiness::new(Ready::NOTHING);
        set(&readiness, Ready::READ | Ready::WRITE);
        let read = look(&readiness, Direction::Read).unwrap();
        let write = look(&readiness, Direction::Write).unwrap();
        readiness.came_short(Direction::Write, write);
        readiness.came_short(Direction::Read, read);
        assert_eq!(look(&readiness, Direction::Read), None);
        assert_eq!(look(&readiness, Direction::Write), None);
    }

    #[test]
    fn a_short_read_proves_nothing_before_the_end_or_urgent_data() {
        for ready in [Ready::READ_END, Ready::URGENT] {
            let readiness = Readiness::new(Ready::NOTHING);
            set(&readiness, ready);
            let seen = look(&readiness, Direction::Read).unwrap();
            readiness.came_short(Direction::Read, seen);
            assert!(look(&readiness, Direction::Read).is_some(), "{ready:?}");
            readiness.would_block(Direction::Read, seen); // a pipe that got a new writer, say
            assert_eq!(look(&readiness, Direction::Read), None, "{ready:?}");
        }
    }

    #[test]
    fn who_gives_up_leaves_the_line() {
        let readiness = Readiness::new(Ready::NOTHING);
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..1000 {
            let mut waits = readiness.ready(Direction::Read);
            assert!(Pin::new(&mut waits).poll(&mut cx).is_pending());
            assert!(Pin::new(&mut waits).poll(&mut cx).is_pending());
            assert_eq!(readiness.waiting(Direction::Read), 1);
        }
        assert_eq!(format!("{readiness:?}"), "Readiness [not ready, waiters: 0 to read, 0 to write]");
    }

    #[test]
    fn more_waiters_than_a_batch_holds_are_all_woken() {
        let readiness = Readiness::new(Ready::NOTHING);
        let mut cx = Context::from_waker(Waker::noop());
        let mut waiters: Vec<_> = (0..100).map(|_| readiness.ready(Direction::Write)).collect();
        waiters.iter_mut().for_each(|waits| assert!(Pin::new(waits).poll(&mut cx).is_pending()));
        let mut due = WakeBatch::new();
        let mut rounds = 1;
        while readiness.set(Ready::WRITE, &mut due) {
            due.wake_all();
            rounds += 1;
        }
        assert_eq!((readiness.waiting(Direction::Write), rounds), (0, 4));
    }

    #[test]
    fn unwatched_is_an_error_for_everybody_and_for_ever() {
        let readiness = Readiness::new(Ready::READ);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(readiness.poll_ready(Direction::Write, &mut cx).is_pending());
        let mut due = WakeBatch::new();
        assert!(!readiness.unwatch(Unwatched::Deregistered, &mut due));
        assert!(!due.is_empty());
        due.wake_all();
        for direction in [Direction::Read, Direction::Write] {
            assert_eq!(readiness.look(direction), Poll::Ready(Err(Unwatched::Deregistered)));
        }
    }
}
