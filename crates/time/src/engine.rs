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
//! E1. A tick is a millisecond since `origin`. Deadlines are rounded up to ticks and the present down: never early, at most
//!     one tick late.
//! E2. No foreign code under the lock: wakers are cloned before it, and woken and dropped after it.
//! E3. `asleep_until` is 0 while the host is awake. It is set under the lock in which the host learnt how long it may
//!     sleep, so an earlier insert either is seen by the host or sees that it has to rouse it.
//! E4. Once ended, nothing is inserted, and the wakers of what was pending have been woken. Pending entries stay, so that
//!     one that fired before the end can be told from one that never will.

use crate::clock::Clock;
use crate::wheel::{Wheel, When};
use evenloop_core::shim::{Mutex, StdArc};
use evenloop_core::{TimerKey, Timers, TimersEnded, Unpark, WakeBatch};
use std::fmt;
use std::task::Waker;
use std::time::{Duration, Instant};

const TICK_NS: u32 = 1_000_000;

/// The tick of all deadlines that are too far away to be counted in milliseconds. No clock reaches it.
const NEVER: u64 = u64::MAX;

/// Timers on a wheel, turned by a host.
///
/// Hosts that have a [`Park`](evenloop_core::Park) use a [`Driver`](crate::Driver); this is for those that have not.
pub struct Engine {
    clock: Clock,
    origin: Instant,
    unparker: StdArc<dyn Unpark>,
    state: Mutex<State>,
}

struct State {
    wheel: Wheel<Instant, Waker>,
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
            Clock::Real => Instant::now(),
            Clock::Virtual(clock) => clock.origin(),
        };
        let state = Mutex::new(State { wheel: Wheel::new(), asleep_until: 0, ended: false });
        let engine = StdArc::new(Self { clock, origin, unparker, state });
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

    /// The clock that these timers follow.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// How many timers are pending. A snapshot.
    pub fn pending(&self) -> usize {
        self.with(|state| state.wheel.len())
    }

    /// Whether [`end`](Self::end) was called.
    pub fn has_ended(&self) -> bool {
        self.with(|state| state.ended)
    }

    /// Wakes what is due, earliest deadline first, equal deadlines in order of insertion. Answers whether anything was.
    ///
    /// Ends the host's sleep. What is inserted by the wakers is left for the next turn, due or not.
    pub fn turn(&self) -> bool {
        let mut more = self.with(|state| {
            state.asleep_until = 0;
            if state.wheel.is_empty() {
                return false;
            }
            self.file(state);
            state.wheel.advance(self.tick_at(self.clock.now()));
            state.wheel.has_due()
        });
        if !more {
            return false;
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
            batch.wake_all(); // E2
        }
        true
    }

    /// Says that the host goes to sleep, and answers until when it may: `None` for as long as it likes.
    ///
    /// From here to the next turn an insert of an earlier deadline rouses the host.
    pub fn start_sleep(&self) -> Option<Instant> {
        let next = self.with(|state| {
            let next = self.file(state).next();
            state.asleep_until = next.unwrap_or(NEVER);
            next
        });
        self.instant_of(next?)
    }

    /// Moves the virtual clock to the next deadline, but not past `limit`. Answers false if there is neither.
    pub(crate) fn jump(&self, limit: Option<Instant>) -> bool {
        let Clock::Virtual(clock) = &self.clock else { return false };
        let limit_tick = limit.map(|limit| self.tick_at(limit));
        self.with(|state| {
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
        })
    }

    /// Ends the timers: who waits is woken, and told so when it asks again. Dropping the engine does the same.
    pub fn end(&self) {
        let wakers = self.with(|state| {
            state.ended = true;
            state.asleep_until = 0;
            let wakers = state.wheel.values_mut();
            wakers.map(|waker| std::mem::replace(waker, Waker::noop().clone())).collect::<Vec<_>>()
        });
        let mut wakers = wakers.into_iter();
        let mut batch = WakeBatch::new();
        while wakers.len() > 0 {
            while !batch.is_full() {
                let Some(waker) = wakers.next() else { break };
                batch.push(waker);
            }
            batch.wake_all(); // E2
        }
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
        after.as_secs().saturating_mul(1000).saturating_add(after.subsec_millis().into()).min(NEVER - 1)
    }

    /// When a tick is reached; `None` if no instant is so far away.
    fn instant_of(&self, tick: u64) -> Option<Instant> {
        if tick == NEVER { None } else { self.origin.checked_add(Duration::from_millis(tick)) }
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

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.state.get_mut().ended {
            self.end();
        }
    }
}

impl Timers for Engine {
    fn next_deadline(&self) -> Option<Instant> {
        let next = self.with(|state| self.file(state).next())?;
        self.instant_of(next)
    }

    fn pending(&self) -> usize {
        self.with(|state| state.wheel.len())
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn insert(&self, deadline: Instant, waker: &Waker) -> Result<TimerKey, TimersEnded> {
        let waker = waker.clone(); // E2
        let set = self.with(|state| {
            if state.ended {
                return Err(waker); // E2: dropped after the lock
            }
            let key = state.wheel.insert(deadline, waker);
            Ok((key, self.rouses(state, deadline)))
        });
        let (key, rouses) = set.map_err(|_| TimersEnded)?;
        if rouses {
            self.unparker.unpark();
        }
        Ok(TimerKey::from_raw(key))
    }

    fn update(&self, key: TimerKey, deadline: Instant, waker: Option<&Waker>) -> Result<bool, TimersEnded> {
        let key = key.into_raw();
        let updated = self.with(|state| {
            let Some(kept) = state.wheel.update(key, deadline) else { return Ok(None) };
            let other = waker.filter(|waker| !kept.will_wake(waker));
            if state.ended {
                return Err(TimersEnded); // E4
            }
            Ok(Some((other, self.rouses(state, deadline))))
        })?;
        let Some((other, rouses)) = updated else { return Ok(false) };
        if rouses {
            self.unparker.unpark();
        }
        let Some(waker) = other else { return Ok(true) };
        // E2: a waker that is new costs a second look.
        let waker = waker.clone();
        let (answer, _dropped_after_the_lock) = self.with(|state| {
            if state.ended {
                let is_kept = state.wheel.update(key, deadline).is_some();
                return (if is_kept { Err(TimersEnded) } else { Ok(false) }, waker);
            }
            match state.wheel.update(key, deadline) {
                Some(kept) => (Ok(true), std::mem::replace(kept, waker)),
                None => (Ok(false), waker),
            }
        });
        answer
    }

    fn remove(&self, key: TimerKey) -> bool {
        let waker = self.with(|state| state.wheel.remove(key.into_raw()));
        waker.is_some() // E2: dropped here, after the lock
    }

    fn advance(&self, duration: Duration) -> bool {
        let Clock::Virtual(clock) = &self.clock else { return false };
        clock.advance(duration);
        true
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pending, ended) = self.with(|state| (state.wheel.len(), state.ended));
        let ended = if ended { ", ended" } else { "" };
        write!(f, "Timers [pending: {pending}{ended}]")
    }
}
