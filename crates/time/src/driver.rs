//! The driver: a park around a park, that also wakes at deadlines.
//!
//! ```text
//! real clock     park(inner, until the next deadline or the time-out) ─► fire what is due
//! virtual clock  look(inner) ─ something happened ─► fire what is due
//!                    └ nothing ─► move the clock to the next deadline or the time-out ─► fire
//!                                 or, if there is neither, park(inner) for real
//! ```
//!
//! D1. The inner park is entered once a park, whatever is due: what the kernel has to say is never starved.
//! D2. Virtual time moves only after a look at the inner park that found nothing; so what other threads and the kernel have
//!     done already is dealt with before time passes.
//! D3. Within a run the thread has the [pen](crate::pen), which makes it cheap to set timers. A driver does not leave its
//!     thread: its pen would stay behind.

use crate::clock::Clock;
use crate::engine::Engine;
use crate::pen::{self, Pen};
use evenloop_core::shim::StdArc;
use evenloop_core::{Park, Unpark, Wait, deadline_after};
use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// A park that wakes timers when they are due. Dropping it ends its timers: who waits is woken and told so.
///
/// # Examples
///
/// ```
/// use evenloop_core::{Park, Runtime, ThreadPark};
/// use evenloop_time::{Clock, Driver, VirtualClock};
/// use std::time::Duration;
///
/// let clock = VirtualClock::new();
/// let mut driver = Driver::new(ThreadPark::new(), Clock::from(clock.clone()));
/// let runtime = Runtime::builder("example").timers(driver.timers()).build();
///
/// let mut hour = std::pin::pin!(evenloop_time::sleep_on(&runtime, Duration::from_secs(3600)));
/// # use std::future::Future;
/// let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
/// assert!(hour.as_mut().poll(&mut cx).is_pending());
/// driver.park(None)?; // nothing can run, so time jumps
/// assert!(hour.as_mut().poll(&mut cx).is_ready());
/// assert_eq!(clock.elapsed(), Duration::from_secs(3600));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Driver<P> {
    inner: P,
    engine: StdArc<Engine>,
    /// Unless the thread has it (D3).
    pen: Option<Box<Pen>>,
    /// See D3.
    not_send: std::marker::PhantomData<*const ()>,
}

impl<P: Park> Driver<P> {
    /// Timers that follow `clock`, on a thread that sleeps in `inner`.
    ///
    /// # Panics
    ///
    /// When `clock` is virtual and drives another loop that has not ended.
    pub fn new(inner: P, clock: Clock) -> Self {
        let engine = Engine::new(clock, inner.unparker());
        let pen = Some(Pen::new(engine.clone()));
        Self { inner, engine, pen, not_send: std::marker::PhantomData }
    }

    /// The timers, for a runtime to offer.
    pub fn timers(&self) -> StdArc<Engine> {
        self.engine.clone()
    }

    /// The park inside.
    pub fn inner(&self) -> &P {
        &self.inner
    }

    fn park_real(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let timeout = match timeout {
            Some(Duration::ZERO) => timeout,
            _ => match self.engine.start_sleep() {
                Some(until) => {
                    let rest = until.saturating_duration_since(self.engine.clock().now());
                    Some(timeout.map_or(rest, |timeout| timeout.min(rest)))
                }
                None => timeout,
            },
        };
        let happened = self.inner.park(timeout);
        let fired = self.engine.wake_up();
        Ok(happened? | fired)
    }

    fn park_virtual(&mut self, timeout: Option<Duration>, jumps: bool) -> io::Result<bool> {
        let happened = self.inner.park(Some(Duration::ZERO))? | self.engine.wake_up();
        if happened || timeout == Some(Duration::ZERO) {
            return Ok(happened); // D2
        }
        let limit = timeout.map(|timeout| deadline_after(self.engine.clock().now(), timeout));
        if jumps && self.engine.jump(limit) {
            self.engine.wake_up();
            return Ok(true);
        }
        // Somebody may have set a timer since: sleep only if there is nothing to jump to, or to fire, even now.
        let until = self.engine.start_sleep().filter(|&until| jumps || until <= self.engine.clock().now());
        let happened = self.inner.park(until.map_or(timeout, |_| Some(Duration::ZERO)));
        let fired = self.engine.wake_up();
        Ok(happened? | fired)
    }
}

impl<P: Park> Park for Driver<P> {
    fn park(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let jumps = match self.engine.clock() {
            Clock::Real | Clock::Host(_) => return self.park_real(timeout),
            Clock::Virtual(clock) => clock.jumps(),
        };
        self.park_virtual(timeout, jumps)
    }

    fn unparker(&self) -> StdArc<dyn Unpark> {
        self.inner.unparker()
    }

    fn begin_run(&mut self) {
        self.inner.begin_run();
        self.pen = self.pen.take().and_then(pen::give);
    }

    fn end_run(&mut self) -> Option<Box<dyn Any>> {
        let mut left = None;
        if self.pen.is_none() {
            (self.pen, left) = self.engine.take_pen();
        }
        match (left, self.inner.end_run()) {
            (None, inner) => inner,
            both => Some(Box::new(both)),
        }
    }

    fn hand_over(&mut self) -> Wait {
        let inner = self.inner.hand_over();
        let Some(until) = self.engine.start_sleep() else { return inner };
        match (self.engine.clock(), inner) {
            (_, Wait::Ready) => Wait::Ready,
            // Virtual time jumps inside `park` alone: who waits for a deadline has to come back at once. A clock that is moved
            // by hand wakes by itself who is due then, but not who is due already.
            (Clock::Virtual(clock), _) if clock.jumps() || until <= clock.now() => Wait::Ready,
            (Clock::Virtual(_), wait) => wait,
            (_, Wait::Until(inner)) => Wait::Until(inner.min(until)),
            (_, Wait::Forever) => Wait::Until(until),
        }
    }

    fn descriptor(&self) -> Option<RawFd> {
        self.inner.descriptor()
    }
}

impl<P> Drop for Driver<P> {
    fn drop(&mut self) {
        let _let_go_at_last = self.engine.take_pen(); // of a run that has not ended
        self.engine.end();
    }
}

impl<P> fmt::Debug for Driver<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Driver [{:?}, clock: {:?}]", self.engine, self.engine.clock())
    }
}
