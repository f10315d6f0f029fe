//! The reactor: the innermost park, where one thread waits once for everything.
//!
//! Sockets, pipes, signals, child processes, timers (as the time-out) and other threads all end the same wait in the
//! kernel. Descriptors are registered once, edge-triggered, for both directions; what the kernel reports is written into
//! their [`Readiness`], and the wakers that are due are woken when no lock is held.
//!
//! There are two ends. The [`ReactorDriver`] belongs to the thread that waits; the [`ReactorHandle`] is for everybody:
//! it registers, deregisters and unparks from any thread. The driver can also be a guest of another runtime ([`guest`]): that
//! one watches the driver's own descriptor ([`AsFd`]) and calls `turn` when it becomes readable.
//!
//! R1. At most one write to the kernel's wake-up descriptor a park: only the unpark that finds the owner asleep writes.
//! R2. When the driver is dropped, everything registered is told that it is unwatched, and later registrations fail.
//! R3. A sleep that was interrupted is an early return, not an error. A look is repeated: whoever asks whether there is news
//!     (a clock that jumps when there is none, a guest that waits for edges) would take "interrupted" for "none".
//! R4. To look while nothing is watched costs no system call: only an unpark can have happened, and that is a word.

mod guest;
mod table;

pub use guest::{GuestDriver, Turned, guest};
pub use table::{Full, SourceTable};

use evenloop_core::shim::StdArc;
use evenloop_core::{Park, ParkState, Reactor, Readiness, Ready, SourceKey, Unpark, Unwatched, Wait};
use mio::unix::SourceFd;
use mio::{Interest, Token};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

/// How many events one wait takes from the kernel; the rest comes with the next. Few enough that a task and its source are
/// still in the processor's cache when the task runs after the batch was dispatched: with 1,000 busy connections 128 takes
/// 8 % less processor time an echo than 1,024, although it makes more system calls.
const EVENTS: usize = 128;

/// The end of the reactor that waits: an innermost [`Park`], or another runtime's guest.
///
/// # Examples
///
/// ```
/// use evenloop_core::{Park, Runtime};
/// use evenloop_core::shim::StdArc;
/// use evenloop_streams::ReactorDriver;
/// use std::time::Duration;
///
/// let mut driver = ReactorDriver::new()?;
/// let runtime = Runtime::builder("mine").reactor(StdArc::new(driver.handle())).build();
/// let _entered = runtime.enter(); // sockets made from here on are watched by this driver
/// driver.park(Some(Duration::from_millis(1)))?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct ReactorDriver {
    poll: mio::Poll,
    events: mio::Events,
    shared: StdArc<Shared>,
    /// Somebody waits in this park's place, so an unpark may have written to the wake-up descriptor (R4).
    handed_over: bool,
}

/// The end of the reactor that everybody holds. Cheap to clone; clones are the same reactor.
#[derive(Clone)]
pub struct ReactorHandle(StdArc<Shared>);

struct Shared {
    registry: mio::Registry,
    waker: mio::Waker,
    park: ParkState,
    sources: SourceTable,
}

/// The wake-up descriptor's own event. No [`SourceTable`] gives out this token.
const WAKE: Token = Token(usize::MAX);

impl ReactorDriver {
    /// A reactor that watches nothing yet. Opens two descriptors.
    ///
    /// # Errors
    ///
    /// What the kernel answered, mostly that there are too many descriptors.
    pub fn new() -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = mio::Waker::new(&registry, WAKE)?;
        let shared = Shared { registry, waker, park: ParkState::new(), sources: SourceTable::new() };
        Ok(Self {
            poll,
            events: mio::Events::with_capacity(EVENTS),
            shared: StdArc::new(shared),
            handed_over: false,
        })
    }

    /// The end for everybody.
    pub fn handle(&self) -> ReactorHandle {
        ReactorHandle(self.shared.clone())
    }

    /// Looks without sleeping, and dispatches what there is. Answers true if there may be more: call again.
    ///
    /// This is for a host that watches the driver's descriptor. If it watches for edges, it calls until the answer is
    /// false before it waits for the next one.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn turn(&mut self) -> io::Result<bool> {
        self.wait(Some(Duration::ZERO))?;
        Ok(self.events.iter().count() == EVENTS)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        self.handed_over = false;
        let park = &self.shared.park;
        let sleeps = timeout != Some(Duration::ZERO) && park.fall_asleep();
        let timeout = if sleeps { timeout } else { Some(Duration::ZERO) };
        let polled = loop {
            match self.poll.poll(&mut self.events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted && !sleeps => {} // R3
                polled => break polled,
            }
        };
        let unparked = park.wake_up();
        match polled {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(unparked), // R3
            polled => polled?,
        }
        let news = self.events.iter().filter(|event| event.token() != WAKE);
        let dispatched = self.shared.sources.dispatch(news.map(|event| (event.token().0, learned(event))));
        Ok(unparked || dispatched)
    }
}

impl Park for ReactorDriver {
    fn park(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        // R4. A busy loop looks often, and most loops of a test or of pure computing watch nothing.
        if timeout == Some(Duration::ZERO) && self.shared.sources.is_empty() && !self.handed_over {
            return Ok(self.shared.park.wake_up());
        }
        self.wait(timeout)
    }

    fn unparker(&self) -> StdArc<dyn Unpark> {
        self.shared.clone()
    }

    fn hand_over(&mut self) -> Wait {
        self.handed_over = true;
        if self.shared.park.fall_asleep() { Wait::Forever } else { Wait::Ready }
    }

    fn descriptor(&self) -> Option<RawFd> {
        Some(self.poll.as_raw_fd())
    }
}

/// What an event of the kernel's says.
fn learned(event: &mio::event::Event) -> Ready {
    let says = [
        (event.is_readable(), Ready::READ),
        (event.is_read_closed(), Ready::READ_END),
        (event.is_priority(), Ready::URGENT),
        (event.is_writable() || event.is_write_closed(), Ready::WRITE),
        // Whoever tries gets the error.
        (event.is_error(), Ready::READ | Ready::WRITE),
    ];
    says.into_iter().filter(|(so, _)| *so).fold(Ready::NOTHING, |all, (_, ready)| all | ready)
}

impl Drop for ReactorDriver {
    fn drop(&mut self) {
        self.shared.sources.end(); // R2
    }
}

/// The descriptor that becomes readable when [`turn`](ReactorDriver::turn) has something to do.
impl AsFd for ReactorDriver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }
}

impl Unpark for Shared {
    fn unpark(&self) {
        if self.park.leave_token() {
            // R1. But for an interruption it can fail only if the descriptor is gone, and it lives as long as this.
            let woken = loop {
                match self.waker.wake() {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    woken => break woken,
                }
            };
            debug_assert!(woken.is_ok(), "the wake-up descriptor takes a write: {woken:?}");
        }
    }
}

impl Reactor for ReactorHandle {
    fn register(&self, fd: BorrowedFd<'_>, readiness: &StdArc<Readiness>) -> io::Result<SourceKey> {
        let shared = &*self.0;
        let token = shared.sources.insert(readiness)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        // Where urgent data makes reads come short, it must be heard of (`Ready::URGENT`).
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let interest = interest | Interest::PRIORITY;
        if let Err(error) = shared.registry.register(&mut SourceFd(&fd.as_raw_fd()), Token(token), interest) {
            shared.sources.remove(token, Unwatched::Deregistered);
            return Err(error);
        }
        Ok(SourceKey::from_raw(token as u64))
    }

    fn deregister(&self, fd: BorrowedFd<'_>, key: SourceKey) {
        let Ok(token) = usize::try_from(key.into_raw()) else { return };
        if self.0.sources.remove(token, Unwatched::Deregistered) {
            // The kernel forgets a descriptor by itself only when its last copy is closed, and somebody may hold a copy.
            // It refuses if the descriptor was closed behind our back: then there is nothing to forget.
            let _ = self.0.registry.deregister(&mut SourceFd(&fd.as_raw_fd()));
        }
    }

    fn deregister_last(&self, _: BorrowedFd<'_>, key: SourceKey) {
        if let Ok(token) = usize::try_from(key.into_raw()) {
            // Should a child that is being started hold a copy until it is loaded, its news find nothing (S1).
            self.0.sources.remove(token, Unwatched::Deregistered);
        }
    }
}

impl Unpark for ReactorHandle {
    fn unpark(&self) {
        self.0.unpark();
    }
}

impl fmt::Debug for ReactorDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReactorDriver [{:?}, sources: {}]", self.shared.park, self.shared.sources.len())
    }
}

impl fmt::Debug for ReactorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReactorHandle [{:?}, sources: {}]", self.0.park, self.0.sources.len())
    }
}
