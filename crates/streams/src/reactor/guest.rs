//! The reactor as a guest: of a host that waits in the kernel by itself.
//!
//! ```text
//! New ── first registration: `start` hands the driver to the host ─► Running ── nobody holds the reactor ──► Ended
//!  └── `start` fails: Failed, for good                                  └── the host drops the driver ──────► Ended
//! ```
//!
//! The host watches one descriptor, the reactor's own, and calls `turn` when it becomes readable. No thread is made for it.
//!
//! G1. Nothing is opened and the host is asked for nothing before the first descriptor is registered.
//! G2. When nobody holds the reactor any more, its table is ended and the driver woken: its next turn says so.
//! G3. When the host drops the driver, whoever waits is told that the reactor has ended, and so is every later caller.
//! G4. `start` runs with no lock held.

use super::{ReactorDriver, ReactorHandle};
use evenloop_core::shim::{Mutex, StdArc};
use evenloop_core::{Reactor, Readiness, SourceKey};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Turns in a row before others have theirs, while there are events.
const TURNS: usize = 8;

/// A reactor that starts when it is first needed, as the guest of a host that has one of its own.
///
/// `start` is called once, with the driver, when the first descriptor is registered. It hands the driver to the host, which
/// runs something like this in the background:
///
/// ```
/// # use evenloop_streams::{GuestDriver, Turned};
/// # async fn host_readable(_: &GuestDriver) {}
/// # async fn host_yield() {}
/// async fn drive(mut driver: GuestDriver) -> std::io::Result<()> {
///     loop {
///         host_readable(&driver).await; // the driver is `AsFd`
///         match driver.turn()? {
///             Turned::Dry => {}
///             Turned::More => host_yield().await, // and then once more, readable or not
///             Turned::Ended => return Ok(()),
///         }
///     }
/// }
/// ```
///
/// When the driver is dropped, whoever waits for a descriptor is told that the reactor has ended. If `start` fails, that
/// registration and all later ones fail with the same kind and text.
pub fn guest<S>(start: S) -> StdArc<dyn Reactor>
where
    S: Fn(GuestDriver) -> io::Result<()> + Send + Sync + 'static,
{
    StdArc::new(Guest { start, state: Mutex::new(State::New) })
}

struct Guest<S> {
    start: S,
    state: Mutex<State>,
}

enum State {
    New,
    Running(ReactorHandle),
    /// The kind and the text of what `start` said.
    Failed(io::ErrorKind, Box<str>),
}

impl State {
    /// The reactor, if it has been started.
    fn handle(&self) -> io::Result<Option<ReactorHandle>> {
        match self {
            Self::New => Ok(None),
            Self::Running(handle) => Ok(Some(handle.clone())),
            Self::Failed(kind, why) => Err(io::Error::new(*kind, why.as_ref())),
        }
    }
}

impl<S: Fn(GuestDriver) -> io::Result<()>> Guest<S> {
    fn started(&self) -> io::Result<ReactorHandle> {
        if let Some(handle) = self.state.lock().handle()? {
            return Ok(handle);
        }
        let driver = ReactorDriver::new()?;
        let ours = driver.handle();
        let theirs = {
            let mut state = self.state.lock();
            let theirs = state.handle()?;
            if theirs.is_none() {
                *state = State::Running(ours.clone());
            }
            theirs
        };
        if let Some(theirs) = theirs {
            return Ok(theirs); // another thread was faster
        }
        match (self.start)(GuestDriver(driver)) {
            Ok(()) => Ok(ours),
            Err(error) => {
                *self.state.lock() = State::Failed(error.kind(), error.to_string().into());
                Err(error)
            }
        }
    }
}

impl<S: Fn(GuestDriver) -> io::Result<()> + Send + Sync> Reactor for Guest<S> {
    fn register(&self, fd: BorrowedFd<'_>, readiness: &StdArc<Readiness>) -> io::Result<SourceKey> {
        self.started()?.register(fd, readiness)
    }

    fn deregister(&self, fd: BorrowedFd<'_>, key: SourceKey) {
        let running = self.state.lock().handle();
        if let Ok(Some(handle)) = running {
            handle.deregister(fd, key);
        }
    }

    fn deregister_last(&self, fd: BorrowedFd<'_>, key: SourceKey) {
        let running = self.state.lock().handle();
        if let Ok(Some(handle)) = running {
            handle.deregister_last(fd, key);
        }
    }
}

impl<S> Drop for Guest<S> {
    fn drop(&mut self) {
        let running = self.state.lock().handle();
        if let Ok(Some(handle)) = running {
            handle.0.sources.end(); // G2
            // It fails only if the descriptor is gone, and the handle keeps it.
            let woken = handle.0.waker.wake();
            debug_assert!(woken.is_ok(), "the wake-up descriptor takes a write: {woken:?}");
        }
    }
}

/// The end of a guest that its host drives: see [`guest`]. Its descriptor is readable when there is something to do.
pub struct GuestDriver(ReactorDriver);

/// What is to be done after a [`turn`](GuestDriver::turn).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it says when to turn again"]
pub enum Turned {
    /// Wait until the descriptor is readable, then turn again.
    Dry,
    /// There may be more: let others run, then turn again without waiting. A host that watches for edges hears of none
    /// for what is there already.
    More,
    /// Nobody holds the reactor any more: drop the driver.
    Ended,
}

impl GuestDriver {
    /// Dispatches what has happened, without sleeping.
    ///
    /// # Errors
    ///
    /// What the kernel answered; drop the driver then.
    pub fn turn(&mut self) -> io::Result<Turned> {
        for _ in 0..TURNS {
            let more = self.0.turn()?;
            if self.0.shared.sources.has_ended() {
                return Ok(Turned::Ended); // G2
            }
            if !more {
                return Ok(Turned::Dry);
            }
        }
        Ok(Turned::More)
    }
}

impl AsFd for GuestDriver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What tokio's and mio's older interfaces ask for.
impl std::os::fd::AsRawFd for GuestDriver {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for GuestDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuestDriver [sources: {}]", self.0.shared.sources.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenloop_core::Ready;
    use std::sync::mpsc;

    fn readiness() -> StdArc<Readiness> {
        StdArc::new(Readiness::new(Ready::NOTHING))
    }

    #[test]
    fn it_starts_with_its_first_descriptor_and_ends_with_its_last_holder() {
        let (send, drivers) = mpsc::channel();
        let reactor = guest(move |driver| send.send(driver).map_err(|_| io::ErrorKind::Other.into()));
        assert!(drivers.try_recv().is_err(), "G1");
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let key = reactor.register(ours.as_fd(), &readiness()).unwrap();
        let mut driver = drivers.recv().unwrap();
        assert_eq!(driver.turn().unwrap(), Turned::Dry);
        assert_eq!(format!("{driver:?}"), "GuestDriver [sources: 1]");
        reactor.deregister(ours.as_fd(), key);
        reactor.register(ours.as_fd(), &readiness()).unwrap();
        assert!(drivers.try_recv().is_err(), "only once");
        drop(reactor);
        let mut polled = [rustix::event::PollFd::new(&driver, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut polled, Some(&now)).unwrap(), 1, "it is woken");
        assert_eq!(driver.turn().unwrap(), Turned::Ended);
    }

    #[test]
    fn what_the_host_said_when_it_refused_is_said_again() {
        let reactor = guest(|_| Err(io::Error::new(io::ErrorKind::Unsupported, "no room for guests")));
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        for _ in 0..2 {
            let error = reactor.register(ours.as_fd(), &readiness()).unwrap_err();
            assert_eq!(
                (error.kind(), error.to_string().as_str()),
                (io::ErrorKind::Unsupported, "no room for guests")
            );
        }
    }

    #[test]
    fn a_driver_that_is_dropped_ends_the_reactor() {
        let reactor = guest(|driver| {
            drop(driver);
            Ok(())
        });
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let error = reactor.register(ours.as_fd(), &readiness()).unwrap_err();
        assert!(error.to_string().contains("has ended"), "{error}");
    }
}
