//! The ends of pipes.
//!
//! A pipe carries bytes one way, between tasks, processes or programs. Reading ends when every writing end is closed;
//! writing fails with [`BrokenPipe`](io::ErrorKind::BrokenPipe) when every reading end is.

use crate::async_fd::AsyncFd;
use crate::error::IoFailure;
use evenloop_core::{Ready, Runtime};
use futures_io::{AsyncRead, AsyncWrite};
use rustix::fs::FileType;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A new pipe, closed on exec.
///
/// # Errors
///
/// The kernel's reason, or there is no reactor here.
///
/// # Examples
///
/// ```no_run
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// # async fn example() -> std::io::Result<()> {
/// let (mut sender, mut receiver) = evenloop_streams::pipe::pipe()?;
/// sender.write_all(b"hello").await?;
/// drop(sender);
/// let mut all = String::new();
/// receiver.read_to_string(&mut all).await?;
/// # Ok(()) }
/// ```
pub fn pipe() -> io::Result<(Sender, Receiver)> {
    let reactor = Runtime::current_reactor("pipe").map_err(io::Error::other)?;
    let (sender, receiver) = mio::unix::pipe::new()?;
    let sender = Sender { fd: Some(AsyncFd::watch(sender, reactor.clone(), Ready::WRITE)?) };
    let receiver = Receiver { fd: AsyncFd::watch(receiver, reactor, Ready::NOTHING)?, short_is_dry: true };
    Ok((sender, receiver))
}

/// Takes over one end, after a look at what it is.
fn open_end(fd: &OwnedFd) -> io::Result<()> {
    if FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) != FileType::Fifo {
        let message = "`from_fd`: this is no pipe: a terminal, a device or a socket goes into an `AsyncFd`";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    rustix::io::ioctl_fionbio(fd, true)?;
    Ok(())
}

/// The writing end of a pipe. Closing or dropping it ends the pipe.
#[must_use = "dropping it ends the pipe"]
pub struct Sender {
    /// Empty once closed.
    fd: Option<AsyncFd<mio::unix::pipe::Sender>>,
}

/// The reading end of a pipe.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use evenloop_streams::StreamReader;
/// use evenloop_streams::pipe::Receiver;
///
/// // What another program writes into our standard input, if that is a pipe.
/// let stdin = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned()?;
/// let mut lines = StreamReader::new(Receiver::from_fd(stdin)?);
/// let first = lines.readline().await.map_err(std::io::Error::from)?;
/// println!("{} bytes", first.len());
/// # Ok(()) }
/// ```
#[must_use = "dropping it breaks the pipe"]
pub struct Receiver {
    fd: AsyncFd<mio::unix::pipe::Receiver>,
    /// A read that comes short proves that the pipe is dry. Not so in a pipe of packets (`O_DIRECT`), where a read ends with
    /// its packet, and only the writing end knows that it is one: so this is true for the pipes that are made here.
    short_is_dry: bool,
}

impl Sender {
    /// Takes over the writing end of a pipe or a named one (FIFO), and makes it non-blocking.
    ///
    /// Being non-blocking belongs to the open file: a process that shares it sees it too. A new pipe's two ends do not
    /// share it with each other.
    ///
    /// # Errors
    ///
    /// It is no pipe ([`InvalidInput`](io::ErrorKind::InvalidInput)), or there is no reactor here.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> io::Result<Self> {
        let reactor = Runtime::current_reactor("Sender::from_fd").map_err(io::Error::other)?;
        let fd = fd.into();
        open_end(&fd)?;
        Ok(Self { fd: Some(AsyncFd::watch(fd.into(), reactor, Ready::WRITE)?) })
    }

    fn open(&self) -> io::Result<&AsyncFd<mio::unix::pipe::Sender>> {
        let closed = || io::Error::new(io::ErrorKind::BrokenPipe, "this end of the pipe was closed");
        self.fd.as_ref().ok_or_else(closed)
    }
}

impl Receiver {
    /// Takes over the reading end of a pipe or a named one (FIFO), and makes it non-blocking.
    ///
    /// Being non-blocking belongs to the open file: a process that shares it sees it too. A new pipe's two ends do not
    /// share it with each other.
    ///
    /// # Errors
    ///
    /// It is no pipe ([`InvalidInput`](io::ErrorKind::InvalidInput)), or there is no reactor here.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> io::Result<Self> {
        let reactor = Runtime::current_reactor("Receiver::from_fd").map_err(io::Error::other)?;
        let fd = fd.into();
        open_end(&fd)?;
        Ok(Self { fd: AsyncFd::watch(fd.into(), reactor, Ready::NOTHING)?, short_is_dry: false })
    }
}

/// Reading into a room that is no slice of bytes.
#[cfg(any(feature = "tokio", feature = "hyper"))]
impl Receiver {
    pub(crate) fn poll_read_by(
        &self,
        cx: &mut Context<'_>,
        room: usize,
        mut read: impl FnMut(crate::foreign::Kernel<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let read = |fd: BorrowedFd<'_>| read(crate::foreign::Kernel::Pipe(fd));
        let polled = match self.short_is_dry {
            true => self.fd.poll_read_by::<true>(cx, room, read),
            false => self.fd.poll_read_by::<false>(cx, room, read),
        };
        polled.map_err(failed("reading from"))
    }
}

impl Sender {
    /// Has the kernel send a part of a file.
    pub(crate) fn poll_kernel_send(
        &self,
        cx: &mut Context<'_>,
        file: BorrowedFd<'_>,
        offset: u64,
        count: usize,
    ) -> Poll<io::Result<usize>> {
        self.open()?.poll_send_file(cx, file, offset, count).map_err(failed("sending a file to"))
    }
}

fn failed(operation: &'static str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| IoFailure::wrap(operation, "a pipe", error)
}

impl AsyncRead for Receiver {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let polled = match self.short_is_dry {
            true => self.fd.poll_read::<true>(cx, buf),
            false => self.fd.poll_read::<false>(cx, buf),
        };
        polled.map_err(failed("reading from"))
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = match self.short_is_dry {
            true => self.fd.poll_read_vectored::<true>(cx, bufs),
            false => self.fd.poll_read_vectored::<false>(cx, bufs),
        };
        polled.map_err(failed("reading from"))
    }
}

impl AsyncWrite for Sender {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.open()?.poll_write(cx, bytes).map_err(failed("writing to"))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.open()?.poll_write_vectored(cx, bytes).map_err(failed("writing to"))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Closes this end: whoever reads comes to the end of the pipe.
    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fd = None;
        Poll::Ready(Ok(()))
    }
}

/// # Panics
///
/// It was closed.
impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("`as_fd` needs an end of a pipe that was not closed").as_fd()
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The descriptor, still non-blocking.
///
/// # Panics
///
/// It was closed.
impl From<Sender> for OwnedFd {
    fn from(sender: Sender) -> Self {
        sender.fd.expect("`OwnedFd::from` needs an end of a pipe that was not closed").into_inner().into()
    }
}

/// The descriptor, still non-blocking.
impl From<Receiver> for OwnedFd {
    fn from(receiver: Receiver) -> Self {
        receiver.fd.into_inner().into()
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fd {
            Some(fd) => f.debug_tuple("Sender").field(fd.get_ref()).finish(),
            None => f.write_str("Sender(closed)"),
        }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(self.fd.get_ref()).finish()
    }
}
