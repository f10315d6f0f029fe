//! A child, for those who wait for it or signal it without owning it.

use super::child::Child;
use super::exit::Waiter;
use crate::signal_kind::SignalKind;
use evenloop_core::budget::poll_spend;
use evenloop_core::shim::StdArc;
use evenloop_core::watch::{self, On};
use std::fmt;
use std::future::Future;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::Pin;
use std::process::ExitStatus;
use std::task::{Context, Poll, ready};

/// A child process, to wait for and to signal from anywhere: any thread, any number of tasks. Cheap to clone.
///
/// Dropping it does nothing to the child; that is the [`Process`](super::Process)'s to decide. A signal can never reach
/// another process: see [`send_signal`](Self::send_signal).
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use evenloop_streams::process::{Command, SignalKind};
///
/// let process = Command::new("nginx").spawn()?;
/// let handle = process.handle(); // clones go to other tasks, and other threads
/// handle.send_signal(SignalKind::HANGUP)?;
/// let status = handle.wait().await?;
/// println!("{status}, which asyncio calls {:?}", handle.returncode());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ProcessHandle {
    child: StdArc<Child>,
}

impl ProcessHandle {
    pub(super) fn new(child: StdArc<Child>) -> Self {
        Self { child }
    }

    pub(super) fn child(&self) -> &StdArc<Child> {
        &self.child
    }

    /// Its number. Once it has ended, that may be another's: to signal it, use [`send_signal`](Self::send_signal).
    pub fn pid(&self) -> u32 {
        self.child.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// What was started.
    pub fn program(&self) -> &str {
        &self.child.program
    }

    /// Waits until the child has ended, whoever else holds its pipes, and answers its status.
    ///
    /// Any number may wait. The pipes are another matter: [`communicate`](super::Process::communicate) also reads them to
    /// their end.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** The child is left alone.
    ///
    /// # Errors
    ///
    /// The status was taken by somebody else: SIGCHLD is ignored, or another part of this process waits for all children.
    /// Everybody who asks is told so.
    pub fn wait(&self) -> Wait<'_> {
        Wait { child: &self.child, place: None }
    }

    /// Its status, if it has ended. Asks the kernel.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.child.look();
        self.child.exit.outcome().map(|outcome| self.child.status(outcome)).transpose()
    }

    /// Its status as asyncio tells it: the code, or the signal that ended it as a negative number; `None` while it runs.
    /// 255 if the status was taken by somebody else, as in asyncio. Asks the kernel.
    pub fn returncode(&self) -> Option<i32> {
        const LOST: i32 = 255;
        match self.try_wait() {
            Ok(status) => status.and_then(|status| status.code().or(status.signal().map(|signal| -signal))),
            Err(_) => Some(LOST),
        }
    }

    /// Sends it a signal. Does nothing if it has ended.
    ///
    /// It can never reach another process that was given the same number later: a signal is sent only to a child that was
    /// not reaped, under the same lock that reaps. (Where there are no pidfds, somebody else in this process who reaps our
    /// children can break this within a microsecond.)
    ///
    /// # Errors
    ///
    /// It runs as another user by now ([`PermissionDenied`](io::ErrorKind::PermissionDenied)); or it is a real-time signal,
    /// which has no name ([`InvalidInput`](io::ErrorKind::InvalidInput)).
    pub fn send_signal(&self, signal: SignalKind) -> io::Result<()> {
        self.child.signal(signal)
    }

    /// Asks it to end: sends SIGTERM. Does nothing if it has ended.
    ///
    /// # Errors
    ///
    /// As [`send_signal`](Self::send_signal).
    pub fn terminate(&self) -> io::Result<()> {
        self.send_signal(SignalKind::TERMINATE)
    }

    /// Ends it: sends SIGKILL. Does nothing if it has ended.
    ///
    /// # Errors
    ///
    /// As [`send_signal`](Self::send_signal).
    pub fn kill(&self) -> io::Result<()> {
        self.send_signal(SignalKind::KILL)
    }

    /// Sends a signal to everybody in the child's own process group. Does nothing once the child has ended and that was
    /// noticed: from then on the group's number may be another's.
    ///
    /// # Errors
    ///
    /// As [`send_signal`](Self::send_signal); and [`InvalidInput`](io::ErrorKind::InvalidInput) if it has no group of its
    /// own ([`Command::own_group`](super::Command::own_group)).
    pub fn signal_group(&self, signal: SignalKind) -> io::Result<()> {
        self.child.signal_group(signal)
    }
}

impl fmt::Debug for ProcessHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Child { program, exit, .. } = &*self.child;
        write!(f, "ProcessHandle [`{program}`, pid {}, {exit:?}]", self.pid())
    }
}

/// Waits for a child: see [`ProcessHandle::wait`].
#[must_use = "futures do nothing unless awaited"]
pub struct Wait<'a> {
    child: &'a Child,
    place: Option<Waiter>,
}

impl Future for Wait<'_> {
    type Output = io::Result<ExitStatus>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { child, place } = &mut *self;
        if place.is_none() {
            ready!(poll_spend(cx));
        }
        let polled = child.exit.poll_ended(place, cx);
        let outcome = ready!(watch::noted(polled, cx, "Process::wait", || On::object(*child)));
        Poll::Ready(child.status(outcome))
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.child.exit.forget(&mut self.place);
    }
}

impl fmt::Debug for Wait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wait [for {}, {:?}]", self.child, self.child.exit)
    }
}
