//! Parking: a thread sleeps until there is something to do.
//!
//! Parks nest. The loop parks on the timer driver, which parks on the reactor, which waits in the kernel; where there is
//! no reactor, the innermost park is a [`ThreadPark`]. So one thread waits once for everything.
//!
//! An unpark is a token, as in `std::thread::park`: one that comes while nobody is parked makes the next park return at
//! once, and several before a park count as one.
//!
//! ```text
//!            park                       park
//! Empty ───────────────► Parked      Token ──► Empty (returns at once)
//!   ▲  ◄── time-out ───────┘ │ unpark: Token, and the thread is woken
//!   └────────────────────────┘
//! ```
//!
//! P1. Only the owning thread leaves `Token` and enters `Parked`; only `unpark` enters `Token`.
//! P2. The thread is woken by the unpark that found `Parked`, so at most once a park.

use crate::shim::atomic::{AtomicU8, Ordering};
use crate::shim::{StdArc, thread};
use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// Puts the calling thread to sleep until there is something to do.
///
/// Implementations wrap one another: each does its own part after the inner one has returned (the timer driver wakes
/// what is due, the reactor hands out readiness).
pub trait Park {
    /// Sleeps until an event, an unpark or the time-out, then dispatches what became due.
    ///
    /// `Some(Duration::ZERO)` does not sleep: it only looks. `None` knows no time-out. May return early and without
    /// reason. A pending unpark makes it return at once.
    ///
    /// Answers false only if it certainly made nothing ready: it took no unpark and dispatched nothing. A virtual clock
    /// moves on when the look before it answered so.
    ///
    /// # Errors
    ///
    /// Whatever the kernel answered. A [`ThreadPark`] does not fail.
    fn park(&mut self, timeout: Option<Duration>) -> io::Result<bool>;

    /// The handle that ends a park from any thread.
    fn unparker(&self) -> StdArc<dyn Unpark>;

    /// Says that a loop runs on the calling thread from here to [`end_run`](Self::end_run), and parks before it sleeps. So the
    /// park may keep for then what this thread asks of it meanwhile.
    ///
    /// A park that wraps another one hands both calls on, or does without what the inner one gains by them.
    fn begin_run(&mut self) {}

    /// Says that the run has ended, and that there may be no park any more. Answers what is to be dropped once nothing
    /// borrows the park: that may run foreign code, which may panic.
    fn end_run(&mut self) -> Option<Box<dyn Any>> {
        None
    }

    /// Says that somebody else will wait in this park's place, a user interface with a loop of its own, and answers for
    /// what. From here to the next park, an unpark makes the [`descriptor`](Self::descriptor) readable, or does what else
    /// it does to a sleeper.
    ///
    /// Without a part of its own a park answers that nobody may wait.
    fn hand_over(&mut self) -> Wait {
        Wait::Ready
    }

    /// The descriptor that becomes readable when a park has something to dispatch, if it waits on one. A loop asks once, when
    /// it is built.
    fn descriptor(&self) -> Option<RawFd> {
        None
    }
}

/// How long somebody may wait in a park's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: there is something to do.
    Ready,
    /// Until this instant, unless something happens before.
    Until(Instant),
    /// Until something happens.
    Forever,
}

impl Wait {
    /// The time until then, from `now`; `None` is for ever.
    pub fn timeout(self, now: Instant) -> Option<Duration> {
        match self {
            Self::Ready => Some(Duration::ZERO),
            Self::Until(instant) => Some(instant.saturating_duration_since(now)),
            Self::Forever => None,
        }
    }
}

/// Ends a park, or makes the next one return at once. From any thread, at any time, also after the park is gone.
pub trait Unpark: Send + Sync {
    /// Leaves a token and wakes the parked thread.
    fn unpark(&self);
}

const EMPTY: u8 = 0;
const PARKED: u8 = 1;
const TOKEN: u8 = 2;

/// The state of one park, for those who write one: see the drawing above. How the thread sleeps is theirs.
pub struct ParkState(AtomicU8);

impl ParkState {
    /// Nobody sleeps, no token.
    pub fn new() -> Self {
        Self(AtomicU8::new(EMPTY))
    }

    /// The owner is about to sleep. Answers false if a token is there: then it must not, and only looks.
    pub fn fall_asleep(&self) -> bool {
        // ORDERING: Relaxed either way: `wake_up` acquires what an unpark published.
        self.0.compare_exchange(EMPTY, PARKED, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Whether no token has come since [`fall_asleep`](Self::fall_asleep).
    pub fn is_asleep(&self) -> bool {
        // ORDERING: Relaxed: only whether to sleep on; `wake_up` acquires.
        self.0.load(Ordering::Relaxed) == PARKED
    }

    /// The owner is awake again, or has only looked. Answers whether it took a token.
    pub fn wake_up(&self) -> bool {
        // ORDERING: Acquire sees what was written before the unpark whose token this takes (pairs with its Release).
        self.0.swap(EMPTY, Ordering::Acquire) == TOKEN
    }

    /// Leaves a token. Answers true if the caller has to wake the owner's thread (P2).
    #[must_use = "true: the owner sleeps and has to be woken"]
    pub fn leave_token(&self) -> bool {
        // ORDERING: Release publishes what was written before the unpark; pairs with the Acquire in `wake_up`.
        self.0.swap(TOKEN, Ordering::Release) == PARKED
    }
}

impl Default for ParkState {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ParkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.load(Ordering::Relaxed) {
            PARKED => "parked",
            TOKEN => "unparked",
            _ => "idle",
        })
    }
}

/// The idle park: the thread sleeps, and only an unpark or the time-out ends it.
///
/// Belongs to the thread that made it.
pub struct ThreadPark {
    shared: StdArc<Shared>,
    /// Parking another thread than the one that unpark wakes would sleep for ever.
    not_send: std::marker::PhantomData<*const ()>,
}

struct Shared {
    state: ParkState,
    thread: thread::Thread,
}

impl ThreadPark {
    /// A park for the calling thread.
    pub fn new() -> Self {
        let shared = Shared { state: ParkState::new(), thread: thread::current() };
        Self { shared: StdArc::new(shared), not_send: std::marker::PhantomData }
    }
}

impl Default for ThreadPark {
    fn default() -> Self {
        Self::new()
    }
}

impl Park for ThreadPark {
    fn park(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let state = &self.shared.state;
        if timeout != Some(Duration::ZERO) && state.fall_asleep() {
            match timeout {
                Some(timeout) => thread::park_timeout(timeout),
                // Without a time-out there is nothing to return early for: P1 says who may end this.
                None => {
                    while state.is_asleep() {
                        thread::park();
                    }
                }
            }
        }
        Ok(state.wake_up())
    }

    fn unparker(&self) -> StdArc<dyn Unpark> {
        self.shared.clone()
    }

    fn hand_over(&mut self) -> Wait {
        if self.shared.state.fall_asleep() { Wait::Forever } else { Wait::Ready }
    }
}

impl Unpark for Shared {
    fn unpark(&self) {
        if self.state.leave_token() {
            self.thread.unpark();
        }
    }
}

impl fmt::Debug for ThreadPark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ThreadPark [{:?}]", self.shared.state)
    }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_unpark_before_the_park_makes_it_return_at_once() {
        let mut park = ThreadPark::new();
        park.unparker().unpark();
        park.unparker().unpark();
        assert!(park.park(None).unwrap());
        assert_eq!(format!("{park:?}"), "ThreadPark [idle]");
    }

    #[test]
    fn a_look_takes_the_token_and_says_so() {
        let mut park = ThreadPark::new();
        park.unparker().unpark();
        assert!(park.park(Some(Duration::ZERO)).unwrap());
        assert_eq!(format!("{park:?}"), "ThreadPark [idle]");
        assert!(!park.park(Some(Duration::ZERO)).unwrap());
    }

    #[test]
    fn another_thread_ends_a_park() {
        let mut park = ThreadPark::new();
        let unparker = park.unparker();
        let other = std::thread::spawn(move || unparker.unpark());
        park.park(None).unwrap();
        other.join().unwrap();
    }

    #[test]
    fn an_unparker_outlives_its_park() {
        let unparker = ThreadPark::new().unparker();
        unparker.unpark();
    }

    #[test]
    fn somebody_elses_token_does_not_end_a_park_without_timeout() {
        let mut park = ThreadPark::new();
        let unparker = park.unparker();
        std::thread::current().unpark();
        let other = std::thread::spawn(move || unparker.unpark());
        park.park(None).unwrap();
        other.join().unwrap();
        assert_eq!(format!("{park:?}"), "ThreadPark [idle]");
    }
}
