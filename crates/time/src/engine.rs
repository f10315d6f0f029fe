//! The engine: the wheel behind a lock, a clock to read, and somebody to rouse.
//!
//! This is what `Timers` means for every host of ours. The host calls [`Engine::turn`] when it is awake, and brackets its
//! own sleep with [`Engine::start_sleep`] and the next turn. [`Driver`](crate::Driver) is such a host on a park; the
//! adapters for other runtimes are such hosts on a task of theirs.
//!
//! ```text
//!          start_sleep: asleep_until = the next deadline
//! awake ──────────────────────────────────────────────► asleep
//!   ▲ └─ insert: no call to anybody                        │ insert of an earlier one: unpark, once
//!   └────────────────────────── turn ──────────────────────┘
//! ```
//!
//! E1. A tick is a millisecond since `origin`; on a virtual clock, for which nobody waits, a nanosecond. Deadlines are rounded
//!     up to ticks and the present down: never early, at most one tick late, and on a virtual clock exact.
//! E2. No foreign code under the lock: wakers are cloned before it, and woken and dropped after it. One that panics falls on
//!     nobody, neither on the others that are due nor on whoever turns: its panic is reported.
//! E3. `asleep_until` is 0 while the host is awake. It is set under the lock in which the host learnt how long it may
//!     sleep, so an earlier insert either is seen by the host or sees that it has to rouse it. Who moves the clock fires
//!     what is due, and leaves the host asleep: what is inserted from then on rouses it, for that may be due already.
//! E4. Once ended, nothing is inserted, and the wakers of what was pending have been woken. Pending entries stay, so that
//!     one that fired before the end can be told from one that never will.
//! E5. The thread of a running loop holds back what it sets in a [pen](crate::pen), and files it when it next turns, sleeps or
//!     asks. Other threads do not see that before, but for `remove`, `update` and `end`.

use crate::clock::Clock;
use crate::pen::{self, Insert, LeftOver, Look, Notes, Pen, Wanted};
use crate::wheel::{Wheel, When};
use evenloop_core::shim::atomic::{AtomicUsize, Ordering};
use evenloop_core::shim::{Mutex, StdArc};
use evenloop_core::{TimerKey, Timers, TimersEnded, Unpark, WakeBatch};
use std::fmt;
use std::task::Waker;
use std::time::{Duration, Instant};

const TICK_NS: u32 = 1_000_000;

/// The tick of all deadlines that are too far away to be counted. No clock reaches it.
const NEVER: u64 = u64::MAX;

/// Timers on a wheel, turned by a host.
///
/// Hosts that have a [`Park`](evenloop_core::Park) use a [`Driver`](crate::Driver); this is for those that have not.
pub struct Engine {
    clock: Clock,
    /// Whether a tick is a nanosecond (E1).
    exact: bool,
    origin: Instant,
    unparker: StdArc<dyn Unpark>,
    /// Written under the lock: what the pen has to see (P3).
    news: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    wheel: Wheel<Instant, Waker>,
    /// Whether there may be entries in the pen of the host's thread.
    pen_is_open: bool,
    /// What others want of those.
    notes: Notes,
    /// The tick until which the host sleeps; 0 while it is awake (E3).
    asleep_until: u64,
    ended: bool,
}

impl Engine {
    /// Timers that follow `clock`; `unparker` rouses the host when it has to turn earlier than it knew.
    ///
    /// # Panics
    ///
    /// When `clock` is virtual and drives another engine that has not ended.
    pub fn new(clock: Clock, unparker: StdArc<dyn Unpark>) -> StdArc<Self> {
        let origin = match &clock {
            Clock::Real | Clock::Host(_) => clock.now(),
            Clock::Virtual(clock) => clock.origin(),
        };
        let (wheel, notes) = (Wheel::new(), Notes::default());
        let state = State { wheel, pen_is_open: false, notes, asleep_until: 0, ended: false };
        let (news, state) = (AtomicUsize::new(0), Mutex::new(state));
        let exact = matches!(clock, Clock::Virtual(_));
        let engine = StdArc::new(Self { clock, exact, origin, unparker, news, state });
        if let Clock::Virtual(clock) = &engine.clock {
            clock.attach(&engine);
        }
        engine
    }

    /// Lends the state to `f`, under the lock.
    #[inline]
    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.state.lock())
    }

    /// As [`with`](Self::with), once all that this thread's pen holds is in the wheel; lends the pen as well. Answers too
    /// whether that may have woken somebody.
    fn with_all<R>(&self, f: impl FnOnce(&mut State, Option<&mut Pen>) -> R) -> (R, bool) {
        let (answer, left) = self.with_all_left(f);
        (answer, left.is_some_and(LeftOver::let_go))
    }

    /// As [`with_all`](Self::with_all), but leaves to the caller whom that lets go.
    fn with_all_left<R>(&self, f: impl FnOnce(&mut State, Option<&mut Pen>) -> R) -> (R, Option<LeftOver>) {
        let mut left = None;
        let answer = pen::with(self, |mut pen| {
            self.with(|state| {
                if let Some(pen) = pen.as_deref_mut().filter(|_| state.pen_is_open) {
                    left = self.refile_pen(state, pen);
                }
                f(state, pen)
            })
        });
        (answer, left)
    }

    /// The clock that these timers follow.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// How many timers are pending. A snapshot. On another thread than the loop's: without the few that the loop has set
    /// since it parked last.
    pub fn pending(&self) -> usize {
        self.with_all(|state, _| state.wheel.len()).0
    }

    /// Whether [`end`](Self::end) was called.
    pub fn has_ended(&self) -> bool {
        self.with(|state| state.ended)
    }

    /// Wakes what is due, earliest deadline first, equal deadlines in order of insertion. Answers whether anything was.
    ///
    /// Ends the host's sleep. What is inserted by the wakers is left for the next turn, due or not.
    pub fn turn(&self) -> bool {
        self.fire(|state, _| state.asleep_until = 0)
    }

    /// As [`turn`](Self::turn), by the host's own thread, which is awake now.
    pub(crate) fn wake_up(&self) -> bool {
        self.fire(|state, pen| {
            state.asleep_until = 0;
            if let Some(pen) = pen {
                if pen.wake_up() && !state.pen_is_open {
                    self.open_pen(state, pen);
                }
            }
        })
    }

    /// As [`turn`](Self::turn), by whoever has moved the clock: the host may sleep on (E3).
    pub(crate) fn clock_moved(&self) {
        self.fire(|state, _| {
            if state.asleep_until != 0 {
                state.asleep_until = NEVER;
            }
        });
    }

    /// Wakes what is due, once `first` has seen to the host. Answers whether anything was.
    fn fire(&self, first: impl FnOnce(&mut State, Option<&mut Pen>)) -> bool {
        let (mut more, woke) = self.with_all(|state, pen| {
            first(state, pen);
            if state.wheel.is_empty() {
                return false;
            }
            self.file(state);
            state.wheel.advance(self.tick_at(self.clock.now()));
            state.wheel.has_due()
        });
        if !more {
            return woke;
        }
        let mut batch = WakeBatch::new();
        while more {
            more = self.with(|state| {
                while !batch.is_full() {
                    let Some(waker) = state.wheel.pop_due() else { break };
                    batch.push(waker);
                }
                state.wheel.has_due()
            });
            batch.wake_all_reporting(); // E2
        }
        true
    }

    /// Says that the host goes to sleep, and answers until when it may: `None` for as long as it likes.
    ///
    /// From here to the next turn an insert of an earlier deadline rouses the host.
    pub fn start_sleep(&self) -> Option<Instant> {
        let (next, woke) = self.with_all(|state, pen| {
            if let Some(pen) = pen {
                Self::shut_pen(state, pen);
                pen.fall_asleep();
            }
            let next = self.file(state).next();
            state.asleep_until = next.unwrap_or(NEVER);
            next
        });
        if woke { Some(self.origin) } else { self.instant_of(next?) }
    }

    /// Moves the virtual clock to the next deadline, but not past `limit`. Answers false if there is neither.
    pub(crate) fn jump(&self, limit: Option<Instant>) -> bool {
        let Clock::Virtual(clock) = &self.clock else { return false };
        let limit_tick = limit.map(|limit| self.tick_at(limit));
        let jump = |state: &mut State, _: Option<&mut Pen>| {
            self.file(state);
            // The wheel may answer too early a tick (W3): look on until something is due.
            while let Some(next) = state.wheel.next() {
                if limit_tick.is_some_and(|limit| limit < next) {
                    break;
                }
                let Some(instant) = self.instant_of(next) else { break };
                state.wheel.advance(next);
                if state.wheel.has_due() {
                    clock.move_to(instant);
                    return true;
                }
            }
            limit.inspect(|&limit| clock.move_to(limit)).is_some()
        };
        let (jumped, woke) = self.with_all(jump);
        jumped | woke
    }

    /// Ends the timers: who waits is woken, and told so when it asks again. Dropping the engine does the same.
    ///
    /// On another thread than the loop's: those that the loop has set since it parked last are woken when it parks next.
    pub fn end(&self) {
        let (wakers, _) = self.with_all(|state, pen| {
            match pen {
                Some(pen) => Self::shut_pen(state, pen),
                None => self.tell_pen(state),
            }
            (state.ended, state.asleep_until) = (true, 0);
            let wakers = state.wheel.values_mut();
            wakers.map(|waker| std::mem::replace(waker, Waker::noop().clone())).collect::<Vec<_>>()
        });
        pen::wake_all(wakers); // E2
    }

    /// Has the wheel file what is new.
    fn file<'a>(&self, state: &'a mut State) -> &'a mut Wheel<Instant, Waker> {
        state.wheel.file(|deadline| self.when(deadline));
        &mut state.wheel
    }

    /// The tick at or after `deadline`, and the deadline's rank in it (E1).
    #[inline]
    fn when(&self, deadline: Instant) -> When {
        let after = deadline.saturating_duration_since(self.origin);
        if self.exact {
            return When { tick: nanos(after), rank: TICK_NS };
        }
        let (millis, rest) = (after.subsec_nanos() / TICK_NS, after.subsec_nanos() % TICK_NS);
        let floor = after.as_secs().saturating_mul(1000).saturating_add(millis.into());
        match rest {
            0 => When { tick: floor, rank: TICK_NS },
            _ => When { tick: floor.saturating_add(1), rank: rest },
        }
    }

    /// The last tick that is over at `instant` (E1); never `NEVER`.
    fn tick_at(&self, instant: Instant) -> u64 {
        let after = instant.saturating_duration_since(self.origin);
        let millis = || after.as_secs().saturating_mul(1000).saturating_add(after.subsec_millis().into());
        if self.exact { nanos(after) } else { millis() }.min(NEVER - 1)
    }

    /// When a tick is reached; `None` if no instant is so far away.
    fn instant_of(&self, tick: u64) -> Option<Instant> {
        let after = if self.exact { Duration::from_nanos(tick) } else { Duration::from_millis(tick) };
        if tick == NEVER { None } else { self.origin.checked_add(after) }
    }

    /// Whether an entry at `deadline` has to rouse the host, which is then taken to be awake until then.
    #[inline]
    fn rouses(&self, state: &mut State, deadline: Instant) -> bool {
        state.asleep_until != 0 && self.rouses_asleep(state, deadline)
    }

    #[cold]
    fn rouses_asleep(&self, state: &mut State, deadline: Instant) -> bool {
        let tick = self.when(deadline).tick;
        let rouses = tick < state.asleep_until;
        if rouses {
            state.asleep_until = tick;
        }
        rouses
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos().into())
}

/// What the pen is not for. `own`: this thread has it.
impl Engine {
    #[inline(never)]
    fn insert_locked(&self, deadline: Instant, waker: Waker) -> Result<TimerKey, TimersEnded> {
        let set = self.with(|state| {
            if state.ended {
                return Err(waker); // E2: dropped after the lock
            }
            let key = state.wheel.insert(deadline, waker);
            self.tell_pen(state);
            Ok((key, self.rouses(state, deadline)))
        });
        let (key, rouses) = set.map_err(|_| TimersEnded)?;
        if rouses {
            self.unparker.unpark();
        }
        Ok(TimerKey::from_raw(key))
    }

    /// Makes room in this thread's pen.
    #[inline(never)]
    fn insert_filing(&self, deadline: Instant, waker: Waker) -> Result<TimerKey, TimersEnded> {
        let mut waker = Some(waker);
        let (held, _) = self.with_all(|state, pen| {
            let pen = pen.filter(|pen| pen.is_awake() && state.asleep_until == 0)?;
            if !state.pen_is_open {
                self.open_pen(state, pen);
            }
            pen.hold(deadline, &mut waker)
        });
        match waker {
            Some(waker) => self.insert_locked(deadline, waker),
            None => Ok(TimerKey::from_raw(held.expect("the waker was taken along with a key"))),
        }
    }

    #[inline(never)]
    fn update_locked(
        &self,
        key: u64,
        deadline: Instant,
        waker: Option<&Waker>,
        place: Look,
    ) -> Result<bool, TimersEnded> {
        if place == Look::Held {
            self.with_all(|_, _| ()); // it goes on as one in the wheel
        }
        let own = place != Look::Other;
        let mut clone = None;
        let wants_clone = self.update_once(key, deadline, waker, &mut clone, own)?;
        if wants_clone != Some(true) {
            return Ok(wants_clone.is_some());
        }
        clone = waker.cloned(); // E2: a waker that is new costs a second look
        Ok(self.update_once(key, deadline, waker, &mut clone, own)?.is_some())
    }

    /// One look: answers `None` if the entry is not there, else whether it has yet to be given a clone of `waker`. What the
    /// clone stands for now is to be dropped.
    fn update_once(
        &self,
        key: u64,
        deadline: Instant,
        waker: Option<&Waker>,
        clone: &mut Option<Waker>,
        own: bool,
    ) -> Result<Option<bool>, TimersEnded> {
        let updated = self.with(|state| match state.wheel.update(key, deadline) {
            Some(_) if state.ended => Err(TimersEnded), // E4
            Some((kept, moved)) => {
                let wants_clone = clone.is_none() && waker.is_some_and(|waker| !kept.will_wake(waker));
                if let Some(clone) = clone {
                    std::mem::swap(kept, clone);
                }
                if moved {
                    self.tell_pen(state);
                }
                Ok(Some((wants_clone, self.rouses(state, deadline))))
            }
            None if own || !state.pen_is_open => Ok(None),
            None => {
                let wants_clone = clone.is_none() && waker.is_some();
                let (noted, left) = self.note(state, key, || Wanted::Updated(deadline, clone.take()));
                *clone = clone.take().or(left);
                if noted && state.ended {
                    Err(TimersEnded)
                } else {
                    Ok(noted.then_some((wants_clone, false)))
                }
            }
        });
        let Some((wants_clone, rouses)) = updated? else { return Ok(None) };
        if rouses {
            self.unparker.unpark();
        }
        Ok(Some(wants_clone))
    }

    #[inline(never)]
    fn remove_locked(&self, key: u64, own: bool) -> bool {
        let mut state = self.state.lock();
        let waker = state.wheel.remove(key);
        if waker.is_none() && state.pen_is_open && !own {
            let (noted, _dropped_after_the_lock) = self.note(&mut state, key, || Wanted::Removed);
            drop(state);
            return noted;
        }
        drop(state);
        waker.is_some() // E2: dropped here, after the lock
    }
}

// === The pen ===

impl Engine {
    /// How much has been done that the pen has to know of (P3).
    #[inline]
    pub(crate) fn news(&self) -> usize {
        // ORDERING: Relaxed: what happened before this call is seen; the rest is learnt under the lock (P3).
        self.news.load(Ordering::Relaxed)
    }

    /// Tells the pen that something was done that it has to know of.
    #[inline]
    fn tell_pen(&self, state: &State) {
        if state.pen_is_open {
            // ORDERING: Relaxed: written under the lock alone, under which the pen learns what it is about.
            self.news.store(self.news().wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Files a pen that is open, so that it has seen all.
    fn refile_pen(&self, state: &mut State, pen: &mut Pen) -> Option<LeftOver> {
        if pen.is_empty() && pen.has_seen(self.news()) {
            return None;
        }
        let left = self.file_pen(state, pen);
        self.open_pen(state, pen);
        left
    }

    fn file_pen(&self, state: &mut State, pen: &mut Pen) -> Option<LeftOver> {
        let State { wheel, notes, ended, .. } = state;
        pen.file(wheel, notes, *ended, |deadline| self.when(deadline))
    }

    /// Opens the pen, which is empty. That of timers which have ended stays shut.
    fn open_pen(&self, state: &mut State, pen: &mut Pen) {
        if state.ended {
            return Self::shut_pen(state, pen);
        }
        self.file(state);
        pen.open(&mut state.wheel, self.news());
        state.pen_is_open = true;
    }

    /// Shuts the pen, which is empty.
    fn shut_pen(state: &mut State, pen: &mut Pen) {
        pen.shut();
        state.pen_is_open = false;
    }

    /// Takes back the pen that a run was given, if this thread has it; and whoever is left over.
    pub(crate) fn take_pen(&self) -> (Option<Box<Pen>>, Option<LeftOver>) {
        let (_, left) = self.with_all_left(|state, pen| pen.map(|pen| Self::shut_pen(state, pen)));
        (pen::take(self), left)
    }

    /// Empties a pen that nobody will have any more.
    pub(crate) fn file_for_good(&self, pen: &mut Pen) {
        let left = self.with(|state| {
            let left = self.file_pen(state, pen);
            Self::shut_pen(state, pen);
            left
        });
        left.map(LeftOver::let_go);
    }

    /// Leaves a note for another thread's pen (P4). Answers false if the entry is not there; and a waker to be dropped.
    #[cold]
    fn note(&self, state: &mut State, key: u64, wanted: impl FnOnce() -> Wanted) -> (bool, Option<Waker>) {
        if !state.wheel.is_lent(key) {
            return (false, None);
        }
        self.tell_pen(state);
        state.notes.leave(key, wanted())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.state.get_mut().ended {
            self.end();
        }
    }
}

impl Timers for Engine {
    fn next_deadline(&self) -> Option<Instant> {
        let (next, _) = self.with_all(|state, _| self.file(state).next());
        self.instant_of(next?)
    }

    fn pending(&self) -> usize {
        self.pending()
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    #[inline]
    fn insert(&self, deadline: Instant, waker: &Waker) -> Result<TimerKey, TimersEnded> {
        match pen::insert(self, deadline, waker.clone()) {
            Insert::Held(key) => Ok(TimerKey::from_raw(key)),
            Insert::Own(waker) => self.insert_filing(deadline, waker),
            Insert::Other(waker) => self.insert_locked(deadline, waker),
        }
    }

    fn update(&self, key: TimerKey, deadline: Instant, waker: Option<&Waker>) -> Result<bool, TimersEnded> {
        let key = key.into_raw();
        match pen::look(self, key, deadline, waker) {
            Look::Same => Ok(true),
            place => self.update_locked(key, deadline, waker, place),
        }
    }

    #[inline]
    fn remove(&self, key: TimerKey) -> bool {
        match pen::remove(self, key.into_raw()) {
            Ok(_waker) => true, // E2: dropped here
            Err(own) => self.remove_locked(key.into_raw(), own),
        }
    }

    fn advance(&self, duration: Duration) -> bool {
        let Clock::Virtual(clock) = &self.clock else { return false };
        clock.advance(duration);
        true
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((pending, ended), _) = self.with_all(|state, _| (state.wheel.len(), state.ended));
        let ended = if ended { ", ended" } else { "" };
        write!(f, "Timers [pending: {pending}{ended}]")
    }
}
