//! Our ends of a child's pipes.
//!
//! Non-blocking is a property of the open file, and the two ends of a pipe are two: only ours is made non-blocking, the
//! child sees an ordinary pipe. An end that is given to another child is made blocking again.

use crate::async_fd::AsyncFd;
use crate::error::IoFailure;
use crate::transport::nobody_reads;
use evenloop_core::shim::StdArc;
use evenloop_core::{Direction, Reactor, Ready};
use futures_io::{AsyncRead, AsyncWrite};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

/// The writing end of a child's stdin. Closing or dropping it ends the child's input.
#[must_use = "dropping it ends the child's input"]
pub struct ChildStdin {
    /// Empty once closed.
    fd: Option<AsyncFd<File>>,
    program: StdArc<str>,
}

/// The reading end of a child's stdout or stderr. Dropping it breaks the pipe under the child.
#[must_use = "dropping it breaks the child's pipe"]
pub struct ChildOutput {
    fd: AsyncFd<File>,
    program: StdArc<str>,
}

impl ChildStdin {
    /// A pipe: the child's end and ours.
    pub(super) fn pipe(program: &StdArc<str>, reactor: &StdArc<dyn Reactor>) -> io::Result<(OwnedFd, Self)> {
        let (child, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let fd = AsyncFd::watch(File::from(ours), reactor.clone(), Ready::WRITE)?;
        Ok((child, Self { fd: Some(fd), program: program.clone() }))
    }

    /// Writes what the pipe takes at once.
    pub(super) fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.open()?.try_with(Direction::Write, |mut pipe| pipe.write(bytes));
        sent.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => error,
            _ => self.failed(error),
        })
    }

    /// Ready when nobody is left who could read: the kernel tells that without a write.
    pub(super) fn poll_nobody_reads(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gone = self.open()?.poll_with(Direction::Read, cx, nobody_reads, |_| false);
        gone.map(|gone| gone.map(drop).map_err(|error| self.failed(error)))
    }

    /// What was unsent when [`poll_nobody_reads`](Self::poll_nobody_reads) became ready.
    pub(super) fn unread(&self) -> io::Error {
        self.failed(io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads any more"))
    }

    fn open(&self) -> io::Result<&AsyncFd<File>> {
        self.fd.as_ref().ok_or_else(|| {
            io::Error::new(io::ErrorKind::BrokenPipe, format!("the stdin of `{}` was closed", self.program))
        })
    }

    fn failed(&self, error: io::Error) -> io::Error {
        IoFailure::wrap("writing to the stdin of", format_args!("`{}`", self.program), error)
    }
}

impl ChildOutput {
    /// A pipe: the child's end and ours.
    pub(super) fn pipe(program: &StdArc<str>, reactor: &StdArc<dyn Reactor>) -> io::Result<(OwnedFd, Self)> {
        let (ours, child) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let fd = AsyncFd::watch(File::from(ours), reactor.clone(), Ready::NOTHING)?;
        Ok((child, Self { fd, program: program.clone() }))
    }

    /// Reads what the pipe holds, whatever the reactor knows of it.
    pub(super) fn read_now(&self, room: &mut [u8]) -> io::Result<usize> {
        self.fd.get_ref().read(room)
    }

    fn failed(&self, error: io::Error) -> io::Error {
        IoFailure::wrap("reading from the output of", format_args!("`{}`", self.program), error)
    }
}

impl AsyncRead for ChildOutput {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        // What comes short may be a packet, and another may follow that no event announces: it proves nothing.
        self.fd.poll_read::<false>(cx, buf).map_err(|error| self.failed(error))
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.fd.poll_read_vectored::<false>(cx, bufs).map_err(|error| self.failed(error))
    }
}

impl AsyncWrite for ChildStdin {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.open()?.poll_write(cx, bytes).map_err(|error| self.failed(error))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.open()?.poll_write_vectored(cx, bytes).map_err(|error| self.failed(error))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Closes the pipe: the child reads the end of its input.
    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fd = None;
        Poll::Ready(Ok(()))
    }
}

impl AsFd for ChildOutput {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The descriptor, blocking.
impl From<ChildOutput> for OwnedFd {
    fn from(output: ChildOutput) -> Self {
        blocking(output.fd)
    }
}

/// The descriptor, blocking.
///
/// # Panics
///
/// It was closed.
impl From<ChildStdin> for OwnedFd {
    fn from(stdin: ChildStdin) -> Self {
        blocking(stdin.fd.expect("`OwnedFd::from` needs a stdin that was not closed"))
    }
}

fn blocking(fd: AsyncFd<File>) -> OwnedFd {
    let file = fd.into_inner();
    // It cannot fail on a pipe that is open.
    let _ = rustix::io::ioctl_fionbio(&file, false);
    file.into()
}

impl fmt::Debug for ChildStdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.fd.is_some() { "open" } else { "closed" };
        write!(f, "ChildStdin [of `{}`, {state}]", self.program)
    }
}

impl fmt::Debug for ChildOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChildOutput [of `{}`]", self.program)
    }
}
