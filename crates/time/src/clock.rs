//! The clocks: the real one, and one that a program moves itself.
//!
//! Both speak in std's `Instant`s. A virtual clock stands still while its program runs. It moves in two ways: by hand
//! ([`VirtualClock::advance`]), and by itself when nothing can run: then the loop's park moves it to the next deadline
//! instead of sleeping until then. So an hour of program takes milliseconds, and every run sees the same times.
//!
//! C1. A clock never goes back.
//! C2. A virtual clock drives at most one engine at a time: two loops that jump on their own would each take the other's
//!     time away.

use crate::engine::Engine;
use evenloop_core::deadline_after;
use evenloop_core::shim::{Mutex, StdArc, StdWeak};
use std::fmt;
use std::time::{Duration, Instant};

/// The clock that timers follow.
///
/// # Examples
///
/// ```
/// use evenloop_time::{Clock, VirtualClock};
/// use std::time::Duration;
///
/// let virtual_clock = VirtualClock::paused();
/// let clock = Clock::from(virtual_clock.clone());
/// let begin = clock.now();
/// virtual_clock.advance(Duration::from_secs(3600));
/// assert_eq!(clock.now() - begin, Duration::from_secs(3600));
/// ```
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's monotonic clock.
    #[default]
    Real,
    /// One that the program moves.
    Virtual(VirtualClock),
    /// That of a host which sleeps for us ([`guest`](crate::guest)) and may have its own idea of the time: tokio's, say, which
    /// a test can pause. It never goes back.
    Host(fn() -> Instant),
}

impl Clock {
    /// The present instant of this clock.
    pub fn now(&self) -> Instant {
        match self {
            Self::Real => Instant::now(),
            Self::Virtual(clock) => clock.now(),
            Self::Host(now) => now(),
        }
    }

    /// Blocks the calling thread for `duration` of this clock: a virtual one is moved, else the thread sleeps.
    ///
    /// This is how a program shows what blocking the loop does, on either clock: the loop's thread does nothing else
    /// meanwhile, and afterwards all that became due is late.
    pub fn sleep_blocking(&self, duration: Duration) {
        match self {
            Self::Real | Self::Host(_) => std::thread::sleep(duration),
            Self::Virtual(clock) => clock.advance(duration),
        }
    }
}

impl From<VirtualClock> for Clock {
    fn from(clock: VirtualClock) -> Self {
        Self::Virtual(clock)
    }
}

/// A clock that stands still until it is moved. Cheap to clone; clones are the same clock. It is exact: a sleep of a
/// nanosecond takes one, where the real clock has a resolution of 1 ms. What is due more than 584 years after its making
/// never comes.
///
/// Work on other threads takes no virtual time: if the loop has nothing to do but wait for a thread and a timer, the timer
/// wins. Events of the kernel that are there already, and wake-ups from other threads, come before any jump.
///
/// # Examples
///
/// ```
/// use evenloop_time::VirtualClock;
/// use std::time::Duration;
///
/// let clock = VirtualClock::new();
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(clock.elapsed(), Duration::from_secs(3600));
/// ```
#[derive(Clone)]
#[doc(alias("MockClock", "pause"))]
pub struct VirtualClock(StdArc<Inner>);

struct Inner {
    origin: Instant,
    jumps: bool,
    now: Mutex<Instant>,
    /// Who fires what is due when the clock is moved by hand (C2).
    engine: Mutex<StdWeak<Engine>>,
}

impl VirtualClock {
    /// A clock that jumps to the next deadline when nothing can run, and can be moved by hand.
    pub fn new() -> Self {
        Self::starting(true)
    }

    /// A clock that is moved by hand only.
    pub fn paused() -> Self {
        Self::starting(false)
    }

    fn starting(jumps: bool) -> Self {
        let origin = Instant::now();
        let (now, engine) = (Mutex::new(origin), Mutex::new(StdWeak::new()));
        Self(StdArc::new(Inner { origin, jumps, now, engine }))
    }

    /// The present instant of this clock. Starts at the real time of its making.
    pub fn now(&self) -> Instant {
        *self.0.now.lock()
    }

    /// How far the clock was moved since it was made.
    pub fn elapsed(&self) -> Duration {
        self.now().saturating_duration_since(self.0.origin)
    }

    /// Moves the clock by `duration` and wakes what is due by then, earliest deadline first.
    ///
    /// The clock moves in one step, as if the machine had been suspended: whoever is woken sees the time after it. To let
    /// a program live through the time in between, `sleep` on a clock that jumps. `Duration::MAX` moves it by about
    /// thirty years.
    ///
    /// On another thread than the loop's: what the loop has set since it parked last is woken when it parks next.
    pub fn advance(&self, duration: Duration) {
        let mut now = self.0.now.lock();
        *now = deadline_after(*now, duration);
        drop(now);
        let engine = self.0.engine.lock().upgrade();
        if let Some(engine) = engine {
            engine.clock_moved();
        }
    }

    /// Whether the clock jumps when nothing can run.
    pub(crate) fn jumps(&self) -> bool {
        self.0.jumps
    }

    pub(crate) fn origin(&self) -> Instant {
        self.0.origin
    }

    /// Moves the clock to `instant`, unless it is there already (C1).
    pub(crate) fn move_to(&self, instant: Instant) {
        let mut now = self.0.now.lock();
        *now = instant.max(*now);
    }

    pub(crate) fn attach(&self, engine: &StdArc<Engine>) {
        let before; // outlives the lock: dropping it may run foreign destructors
        let mut attached = self.0.engine.lock();
        before = attached.upgrade();
        assert!(
            before.as_ref().is_none_or(|engine| engine.has_ended()),
            "a virtual clock drives one loop at a time: make another clock, or end the first loop"
        );
        *attached = StdArc::downgrade(engine);
    }
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.0.jumps { "jumps" } else { "paused" };
        write!(f, "VirtualClock [{kind}, elapsed: {:?}]", self.elapsed())
    }
}
