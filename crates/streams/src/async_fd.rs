//! A descriptor with its readiness: what every other type of this crate stands on.
//!
//! ```text
//!   call ──► ready, as far as known? ── no ──► wait
//!                 │ yes                         │ news
//!                 ▼                             ▼
//!            system call ── would block ──► forget what was seen, look again
//!                 │
//!                 ├── came short, on a stream ──► forget what was seen (the next call would block)
//!                 ▼
//!              result
//! ```
//!
//! A1. A system call is made only when it is worth it, as far as is known.
//! A2. The descriptor is deregistered before it is closed or given away.
//! A3. The private `poll_*` methods take `&self` and use the owner's place of their direction; whoever calls them must be
//!     the one user of that direction. Public types show them behind `&mut self` or behind a half.
//!
//! Discussion: on Linux a stream (TCP, a pipe) that moved fewer bytes than there was room for is dry, so the next call
//! would block, and this costs no system call to find out. There are three exceptions. The end of the stream, which no
//! further event announces, and urgent data, at which the kernel cuts reads short, are flags of the readiness. Unix
//! sockets cut reads short where a descriptor was sent along, and pipes of packets at their borders, which nobody
//! announces: there the rule is not used for reads.

use evenloop_core::budget::poll_spend;
use evenloop_core::shim::StdArc;
use evenloop_core::watch::{self, On};
use evenloop_core::{AwaitReady, Direction, Reactor, Readiness, Ready, Runtime, SourceKey};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Up to so many bytes in pieces are put together on the stack and written as one: the copy costs a fifth of what the kernel
/// takes to look at the pieces.
const SMALL: usize = 1024;

/// The kernel looks at no more pieces in one call (`IOV_MAX`), and std gives it no more: what lies behind them is no sign of
/// a stream that is dry or full.
const PIECES: usize = 1024;

/// Any descriptor, watched by the current reactor.
///
/// Owns what it watches; dropping it deregisters, then drops that. Reading and writing is done by closures that make the
/// system call themselves: see [`read_with`](Self::read_with).
///
/// # Examples
///
/// ```no_run
/// # use evenloop_streams::AsyncFd;
/// # use std::io::Read;
/// # async fn example(device: std::fs::File) -> std::io::Result<()> {
/// let device = AsyncFd::new(device)?; // a terminal, a tun device, a timerfd, an inotify descriptor, …
/// let mut bytes = [0; 64];
/// let n = device.read_with(|mut device| device.read(&mut bytes)).await?;
/// # Ok(()) }
/// ```
#[must_use = "dropping it closes the descriptor"]
#[doc(alias = "Async")]
pub struct AsyncFd<T: AsFd> {
    /// Empty only while `into_inner` or `close_last` ends.
    io: Option<T>,
    readiness: StdArc<Readiness>,
    reactor: StdArc<dyn Reactor>,
    key: SourceKey,
}

/// The descriptor could not be watched; it comes back.
pub struct NotWatched<T> {
    /// What was handed in.
    pub io: T,
    /// Why.
    pub error: io::Error,
}

impl<T: AsFd> AsyncFd<T> {
    /// Makes the descriptor non-blocking and has the current runtime's reactor watch it.
    ///
    /// Being non-blocking belongs to the open file, not to the descriptor: its other copies, also in other processes,
    /// become non-blocking with it.
    ///
    /// # Errors
    ///
    /// There is no reactor here, it cannot watch this (a regular file, say), or it has ended; `io` comes back.
    pub fn new(io: T) -> Result<Self, NotWatched<T>> {
        match Runtime::current_reactor("AsyncFd::new") {
            Ok(reactor) => Self::non_blocking(io, reactor),
            Err(error) => Err(NotWatched { io, error: io::Error::other(error) }),
        }
    }

    /// As [`new`](Self::new), with the reactor of `runtime`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn new_on(runtime: &Runtime, io: T) -> Result<Self, NotWatched<T>> {
        match runtime.reactor_for("AsyncFd::new_on") {
            Ok(reactor) => Self::non_blocking(io, reactor.clone()),
            Err(error) => Err(NotWatched { io, error: io::Error::other(error) }),
        }
    }

    fn non_blocking(io: T, reactor: StdArc<dyn Reactor>) -> Result<Self, NotWatched<T>> {
        match rustix::io::ioctl_fionbio(&io, true) {
            Ok(()) => Self::watch(io, reactor, Ready::NOTHING),
            Err(error) => Err(NotWatched { io, error: error.into() }),
        }
    }

    /// Watches what is non-blocking already. `known` is what it starts out ready for.
    pub(crate) fn watch(io: T, reactor: StdArc<dyn Reactor>, known: Ready) -> Result<Self, NotWatched<T>> {
        let readiness = StdArc::new(Readiness::new(known));
        match reactor.register(io.as_fd(), &readiness) {
            Ok(key) => Ok(Self { io: Some(io), readiness, reactor, key }),
            Err(error) => Err(NotWatched { io, error }),
        }
    }

    /// What is watched. Reading from or writing to it by hand is harmless; making it blocking is not.
    pub fn get_ref(&self) -> &T {
        self.io.as_ref().expect("only into_inner empties it, and consumes it")
    }

    /// What is watched, to be changed.
    pub fn get_mut(&mut self) -> &mut T {
        self.io.as_mut().expect("only into_inner empties it, and consumes it")
    }

    /// The reactor that watches, for what is accepted here.
    pub(crate) fn reactor(&self) -> &StdArc<dyn Reactor> {
        &self.reactor
    }

    /// Deregisters and gives back what was watched, still non-blocking.
    pub fn into_inner(mut self) -> T {
        let io = self.io.take().expect("only into_inner empties it, and consumes it");
        self.reactor.deregister(io.as_fd(), self.key); // A2
        io
    }

    /// Deregisters and drops what was watched, which is the last copy of the descriptor: the close itself takes it off the
    /// engine's list.
    pub(crate) fn close_last(mut self) {
        let io = self.io.take().expect("only what consumes it empties it");
        self.reactor.deregister_last(io.as_fd(), self.key); // A2
    }

    /// Waits until reading is worth a try: until the kernel says so. Any number of tasks may wait at once; all are woken.
    ///
    /// It may not be worth it any more when the task runs: use [`read_with`](Self::read_with) to try, which also saves the
    /// question to the kernel.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.**
    ///
    /// # Errors
    ///
    /// The reactor has ended.
    pub async fn readable(&self) -> io::Result<()> {
        self.worth_a_try(Direction::Read).await
    }

    /// Waits until writing is worth a try: until the kernel says so. Any number of tasks may wait at once; all are woken.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.**
    ///
    /// # Errors
    ///
    /// The reactor has ended.
    pub async fn writable(&self) -> io::Result<()> {
        self.worth_a_try(Direction::Write).await
    }

    /// What was seen stays known until a call of ours disproves it, and whoever waits like this makes the calls by hand: so
    /// the kernel is asked.
    async fn worth_a_try(&self, direction: Direction) -> io::Result<()> {
        self.attempt(direction, move |fd: &T| is_ready(fd, direction)).await
    }

    /// Waits until something is known of a direction, without keeping the descriptor: no budget, and no question to the kernel.
    /// Dropping the descriptor ends it with an error.
    pub(crate) fn readiness_of(&self, direction: Direction) -> impl Future<Output = io::Result<()>> + use<T> {
        let readiness = self.readiness.clone();
        async move {
            readiness.ready(direction).await?;
            Ok(())
        }
    }

    /// Calls `read` when reading is worth a try, until it answers something else than "would block".
    ///
    /// `read` makes one system call that takes something out of the descriptor. Several tasks may call this at once: each
    /// piece of what comes goes to one of them.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Nothing has been read unless the future is ready.
    ///
    /// # Errors
    ///
    /// Whatever `read` answered, or the reactor has ended.
    pub fn read_with<R, F>(&self, read: F) -> Attempt<'_, T, F>
    where
        F: FnMut(&T) -> io::Result<R>,
    {
        self.attempt(Direction::Read, read)
    }

    /// Calls `write` when writing is worth a try, until it answers something else than "would block".
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Nothing has been written unless the future is ready.
    ///
    /// # Errors
    ///
    /// Whatever `write` answered, or the reactor has ended.
    pub fn write_with<R, F>(&self, write: F) -> Attempt<'_, T, F>
    where
        F: FnMut(&T) -> io::Result<R>,
    {
        self.attempt(Direction::Write, write)
    }

    fn attempt<F>(&self, direction: Direction, call: F) -> Attempt<'_, T, F> {
        Attempt { fd: self, direction, waits: self.readiness.ready(direction), call }
    }

    /// One try in `direction`, without waiting.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if it is known that `call` would, or if it did; else as
    /// [`read_with`](Self::read_with).
    pub fn try_with<R>(&self, direction: Direction, call: impl FnOnce(&T) -> io::Result<R>) -> io::Result<R> {
        let Poll::Ready(seen) = self.readiness.look(direction) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let seen = seen?;
        let result = call(self.get_ref());
        if matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            self.readiness.would_block(direction, seen);
        }
        result
    }

    /// What who waits for this descriptor waits on.
    fn known(&self) -> On {
        On::Descriptor(self.get_ref().as_fd().as_raw_fd().into())
    }

    /// Calls until the answer is something else than "would block" (A3). `short` tells from the answer whether it proves
    /// that the next call would block.
    #[inline]
    pub(crate) fn poll_with<R>(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        mut call: impl FnMut(&T) -> io::Result<R>,
        short: impl Fn(&R) -> bool,
    ) -> Poll<io::Result<R>> {
        ready!(poll_spend(cx));
        loop {
            let polled = self.readiness.poll_ready(direction, cx);
            let seen = ready!(watch::noted(polled, cx, call_of(direction), || self.known()))?; // A1
            match call(self.get_ref()) {
                Ok(done) => {
                    if short(&done) {
                        self.readiness.came_short(direction, seen);
                    }
                    return Poll::Ready(Ok(done));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readiness.would_block(direction, seen);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// As [`poll_with`](Self::poll_with), for one who is no task: spends no budget, notes nothing, and wakes nobody, so a lock
    /// of the caller's may be held.
    pub(crate) fn poll_quietly<R>(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        mut call: impl FnMut() -> Option<R>,
    ) -> Poll<io::Result<R>> {
        loop {
            let seen = ready!(self.readiness.poll_ready(direction, cx))?; // A1
            match call() {
                Some(done) => return Poll::Ready(Ok(done)),
                None => self.readiness.would_block(direction, seen),
            }
        }
    }
}

/// Reading with a system call of the caller's own, in the owner's place (A3): for rooms that are not slices of bytes.
#[cfg(any(feature = "tokio", feature = "hyper"))]
impl<T: AsFd> AsyncFd<T> {
    #[inline]
    pub(crate) fn poll_read_by<const SHORT_IS_DRY: bool>(
        &self,
        cx: &mut Context<'_>,
        room: usize,
        mut read: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if room == 0 {
            return Poll::Ready(Ok(0)); // else it would be taken for the end
        }
        let short = |n: &usize| SHORT_IS_DRY && (1..room).contains(n);
        self.poll_with(Direction::Read, cx, |io| read(io.as_fd()), short)
    }
}

/// Reading streams of bytes, in the owner's place (A3).
///
/// `SHORT_IS_DRY` is false where the kernel cuts reads for other reasons (see the discussion above).
impl<T: AsFd> AsyncFd<T>
where
    for<'a> &'a T: Read,
{
    #[inline]
    pub(crate) fn poll_read<const SHORT_IS_DRY: bool>(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0)); // else it would be taken for the end
        }
        let room = buf.len();
        let short = |n: &usize| SHORT_IS_DRY && (1..room).contains(n);
        self.poll_with(Direction::Read, cx, |mut io| io.read(buf), short)
    }

    pub(crate) fn poll_read_vectored<const SHORT_IS_DRY: bool>(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        // From the first one with room: many without would be an answer of none, which is taken for the end.
        let Some(first) = bufs.iter().position(|buf| !buf.is_empty()) else { return Poll::Ready(Ok(0)) };
        let end = bufs.len().min(first + PIECES);
        let bufs = &mut bufs[first..end];
        let room = bufs.iter().map(|buf| buf.len()).sum();
        let short = |n: &usize| SHORT_IS_DRY && (1..room).contains(n);
        self.poll_with(Direction::Read, cx, |mut io| io.read_vectored(bufs), short)
    }
}

/// Writing streams of bytes, in the owner's place (A3).
impl<T: AsFd> AsyncFd<T>
where
    for<'a> &'a T: Write,
{
    #[inline]
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let short = |n: &usize| *n < bytes.len();
        self.poll_with(Direction::Write, cx, |mut io| io.write(bytes), short)
    }

    pub(crate) fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = bytes.iter().position(|bytes| !bytes.is_empty()).unwrap_or(bytes.len());
        let bytes = &bytes[first..bytes.len().min(first + PIECES)];
        let all: usize = bytes.iter().map(|bytes| bytes.len()).sum();
        if all <= SMALL {
            let mut together = [0; SMALL];
            let mut end = 0;
            for part in bytes {
                together[end..end + part.len()].copy_from_slice(part);
                end += part.len();
            }
            return self.poll_write(cx, &together[..all]);
        }
        self.poll_with(Direction::Write, cx, |mut io| io.write_vectored(bytes), |n| *n < all)
    }
}

impl<T: AsFd> Drop for AsyncFd<T> {
    fn drop(&mut self) {
        if let Some(io) = &self.io {
            self.reactor.deregister(io.as_fd(), self.key); // A2
        }
    }
}

impl<T: AsFd> AsFd for AsyncFd<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.get_ref().as_fd()
    }
}

impl<T: AsFd + fmt::Debug> fmt::Debug for AsyncFd<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncFd").field("io", self.get_ref()).field("readiness", &self.readiness).finish()
    }
}

// === impl NotWatched ===

impl<T> fmt::Debug for NotWatched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotWatched").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for NotWatched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot watch the descriptor: {}", self.error)
    }
}

impl<T> Error for NotWatched<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl<T> From<NotWatched<T>> for io::Error {
    fn from(not_watched: NotWatched<T>) -> Self {
        not_watched.error
    }
}

/// How who waits in a direction is named to whoever asks.
fn call_of(direction: Direction) -> &'static str {
    match direction {
        Direction::Read => "read",
        Direction::Write => "write",
    }
}

/// "Would block" unless poll(2) says that the direction is ready.
pub(crate) fn is_ready(fd: &impl AsFd, direction: Direction) -> io::Result<()> {
    let wanted = match direction {
        Direction::Read => PollFlags::IN,
        Direction::Write => PollFlags::OUT,
    };
    let mut fds = [PollFd::new(fd, wanted)];
    // A signal that comes meanwhile is no answer.
    rustix::io::retry_on_intr(|| poll(&mut fds, Some(&Timespec::default())))?;
    // The end and errors are news for whoever reads or writes.
    match fds[0].revents().is_empty() {
        false => Ok(()),
        true => Err(io::ErrorKind::WouldBlock.into()),
    }
}

// === Attempt ===

/// A system call that is tried when it is worth it: see [`AsyncFd::read_with`].
#[must_use = "futures do nothing unless awaited"]
pub struct Attempt<'a, T: AsFd, F> {
    fd: &'a AsyncFd<T>,
    direction: Direction,
    waits: AwaitReady<'a>,
    call: F,
}

/// Nothing in it is pinned: the closure is only called.
impl<T: AsFd, F> Unpin for Attempt<'_, T, F> {}

impl<T: AsFd, R, F: FnMut(&T) -> io::Result<R>> Future for Attempt<'_, T, F> {
    type Output = io::Result<R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        let Self { fd, direction, waits, call } = &mut *self;
        ready!(poll_spend(cx));
        loop {
            let polled = Pin::new(&mut *waits).poll(cx);
            let seen = ready!(watch::noted(polled, cx, call_of(*direction), || fd.known()))?; // A1
            match call(fd.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    fd.readiness.would_block(*direction, seen);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl<T: AsFd, F> fmt::Debug for Attempt<'_, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attempt [{:?}]", self.waits)
    }
}
