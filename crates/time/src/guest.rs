//! The guest: our timers under a host that has its own.
//!
//! The host runs one future, which turns the engine and sleeps on the host's timer until the next deadline. So a thousand
//! sleeps of ours are one sleep of the host's.
//!
//! ```text
//! poll: turn the engine ─► start its sleep ─► signalled? ── yes ──────────────┐
//!                                               └─ no ─► host's timer over? ──┤─► once more, a few times; then give way
//!                                                            └─ no ─► pending
//! ```
//!
//! G1. The future keeps the engine only while it is polled; once nobody else has it, the future ends.
//! G2. Dropping the future ends the engine: who waits is woken and told so.
//! G3. The signal is read after the engine's sleep has started, and by its own waker's lock: an earlier timer is either in
//!     the answer of `start_sleep` or finds the waker (E3).

use crate::clock::Clock;
use crate::engine::Engine;
use evenloop_core::Unpark;
use evenloop_core::shim::{Mutex, StdArc, StdWeak};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Turns in one poll, before the host's other tasks have theirs.
const TURNS: usize = 8;

/// Timers under a host that has its own, and the future that drives them there.
///
/// The host runs the future in the background for as long as it lives; `sleep_until` makes one of the host's own timers.
/// On a virtual clock the host's timers are not used: time moves by hand, and a clock that jumps does not, for only a loop
/// knows when nothing can run.
///
/// # Panics
///
/// When `clock` is virtual and drives another engine that has not ended.
///
/// # Examples
///
/// ```
/// use evenloop_core::Runtime;
/// use evenloop_time::{Clock, guest};
///
/// # async fn host_sleep_until(_: std::time::Instant) {}
/// let (timers, drive) = guest(Clock::Real, host_sleep_until);
/// let runtime = Runtime::builder("mine").timers(timers).build();
/// // The host spawns `drive`; tasks run in `runtime.scope(…)`.
/// # drop((drive, runtime));
/// ```
pub fn guest<M, S>(clock: Clock, sleep_until: M) -> (StdArc<Engine>, Guest<M, S>)
where
    M: FnMut(Instant) -> S,
    S: Future<Output = ()>,
{
    let signal = StdArc::new(Signal(Mutex::new(Signalled { token: false, waker: None })));
    let engine = Engine::new(clock, StdArc::new(Rouse(signal.clone())));
    let guest = Guest { engine: StdArc::downgrade(&engine), signal, sleep_until, until: None, sleep: None };
    (engine, guest)
}

pin_project! {
    /// The future of [`guest`]: ends when its timers are gone.
    #[must_use = "futures do nothing unless awaited"]
    pub struct Guest<M, S> {
        engine: StdWeak<Engine>,
        signal: StdArc<Signal>,
        sleep_until: M,
        // When `sleep` is over.
        until: Option<Instant>,
        #[pin]
        sleep: Option<S>,
    }

    impl<M, S> PinnedDrop for Guest<M, S> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(engine) = this.engine.upgrade() {
                engine.end(); // G2
            }
        }
    }
}

impl<M, S> Future for Guest<M, S>
where
    M: FnMut(Instant) -> S,
    S: Future<Output = ()>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        for _ in 0..TURNS {
            let Some(engine) = this.engine.upgrade() else { return Poll::Ready(()) }; // G1
            engine.turn();
            let until = engine.start_sleep();
            if until.is_some_and(|until| until <= engine.clock().now()) {
                continue; // set since the turn
            }
            let until = until.filter(|_| !matches!(engine.clock(), Clock::Virtual(_)));
            drop(engine);
            if until != *this.until {
                *this.until = until;
                this.sleep.set(until.map(&mut *this.sleep_until));
            }
            if this.signal.take(cx.waker()) {
                continue;
            }
            match this.sleep.as_mut().as_pin_mut().map(|sleep| sleep.poll(cx)) {
                Some(Poll::Ready(())) => {
                    *this.until = None;
                    this.sleep.set(None);
                }
                Some(Poll::Pending) | None => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<M, S> fmt::Debug for Guest<M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.engine.upgrade() {
            Some(engine) => write!(f, "Guest [{engine:?}]"),
            None => f.write_str("Guest [ended]"),
        }
    }
}

/// Wakes the guest's task, or lets its next poll know.
struct Signal(Mutex<Signalled>);

struct Signalled {
    token: bool,
    /// Of the guest's last poll that found no token.
    waker: Option<Waker>,
}

impl Signal {
    /// Takes the token if there is one; else keeps the waker for it.
    fn take(&self, waker: &Waker) -> bool {
        let mut state = self.0.lock();
        if std::mem::take(&mut state.token) {
            return true;
        }
        if state.waker.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            return false;
        }
        drop(state);
        let waker = waker.clone(); // foreign code, outside the lock
        let mut state = self.0.lock();
        let before = state.waker.replace(waker);
        let token = std::mem::take(&mut state.token);
        drop(state);
        drop(before);
        token
    }

    fn give(&self) {
        let mut state = self.0.lock();
        state.token = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The engine's end of the signal; the guest hears of its drop as well (G1).
struct Rouse(StdArc<Signal>);

impl Unpark for Rouse {
    fn unpark(&self) {
        self.0.give();
    }
}

impl Drop for Rouse {
    fn drop(&mut self) {
        self.0.give();
    }
}
