//! Protocols on the ends of pipes, on terminals and other devices: asyncio's `connect_read_pipe` and `connect_write_pipe`.
//!
//! A reading end is a connection that cannot be written to. A writing end hears nothing, except that nobody reads any more:
//! the kernel tells that as an error of the descriptor, without a write.

use super::create::start;
use super::extra::ExtraInfo;
use super::flow::HIGH;
use super::wire::Duplex;
use super::{Transport, Wire};
use crate::async_fd::AsyncFd;
use crate::error::IoFailure;
use crate::protocol::IntoProtocol;
use evenloop_core::{Direction, Ready, Runtime};
use futures_io::{AsyncRead, AsyncWrite};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Has a new protocol read from a pipe, a socket or a character device (a terminal, say), which becomes non-blocking.
///
/// When everybody who writes has closed, `eof_received` is called and the transport closes. Writing to the transport is an
/// error. Being non-blocking belongs to the open file: a process that shares it sees it too.
///
/// # Errors
///
/// It is something else ([`InvalidInput`](io::ErrorKind::InvalidInput)), cannot be watched, or the runtime has no reactor or
/// cannot spawn on this thread. The descriptor is closed then.
///
/// # Examples
///
/// ```no_run
/// use evenloop_streams::{Protocol, connect_read_pipe};
///
/// struct Prints;
///
/// impl Protocol for Prints {
///     fn data_received(&self, data: &[u8]) {
///         println!("{}", String::from_utf8_lossy(data));
///     }
/// }
///
/// # fn example() -> std::io::Result<()> {
/// let (transport, _protocol) = connect_read_pipe(|| Prints, std::fs::File::open("/run/news.fifo")?)?;
/// # drop(transport);
/// # Ok(()) }
/// ```
pub fn connect_read_pipe<P, K>(
    protocol: impl FnOnce() -> P,
    pipe: impl Into<OwnedFd>,
) -> io::Result<(Transport, Rc<P>)>
where
    P: IntoProtocol<K>,
{
    let spawn = Runtime::current_spawn("connect_read_pipe").map_err(io::Error::other)?;
    let (file, _) = open("connect_read_pipe", pipe.into())?;
    let wire = Wire { half_closes: false, writes: false, ..Wire::new(ReadEnd(file), ExtraInfo::default()) };
    start(protocol, wire, spawn, HIGH)
}

/// Has a new protocol write to a pipe, a socket or a character device, which becomes non-blocking.
///
/// When nobody reads any more, the connection is lost: with an error if something was unsent. `data_received` and
/// `eof_received` are never called. Being non-blocking belongs to the open file: a process that shares it sees it too.
///
/// # Errors
///
/// As [`connect_read_pipe`].
pub fn connect_write_pipe<P, K>(
    protocol: impl FnOnce() -> P,
    pipe: impl Into<OwnedFd>,
) -> io::Result<(Transport, Rc<P>)>
where
    P: IntoProtocol<K>,
{
    let spawn = Runtime::current_spawn("connect_write_pipe").map_err(io::Error::other)?;
    let (file, file_type) = open("connect_write_pipe", pipe.into())?;
    let end = WriteEnd { file, tells_of_readers: file_type != FileType::CharacterDevice };
    // The end of a pipe is sent by closing it, after what is unsent: `write_eof` would be that.
    let wire = Wire { half_closes: false, reads: false, ..Wire::new(end, ExtraInfo::default()) };
    start(protocol, wire, spawn, HIGH)
}

fn open(call: &'static str, fd: OwnedFd) -> io::Result<(AsyncFd<File>, FileType)> {
    let reactor = Runtime::current_reactor(call).map_err(io::Error::other)?;
    let file_type = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
    if !matches!(file_type, FileType::Fifo | FileType::Socket | FileType::CharacterDevice) {
        let message = format!("`{call}` takes pipes, sockets and character devices");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok((AsyncFd::watch(File::from(fd), reactor, Ready::WRITE)?, file_type))
}

fn failed(operation: &'static str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| IoFailure::wrap(operation, "a pipe", error)
}

struct ReadEnd(AsyncFd<File>);

impl Duplex for ReadEnd {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

impl AsyncRead for ReadEnd {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        // What comes short may be a packet, or a line of a terminal: it proves nothing.
        self.0.poll_read::<false>(cx, buf).map_err(failed("reading from"))
    }
}

/// Never called: the transport refuses.
impl AsyncWrite for ReadEnd {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct WriteEnd {
    file: AsyncFd<File>,
    tells_of_readers: bool,
}

impl Duplex for WriteEnd {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }

    fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        file: BorrowedFd<'_>,
        offset: u64,
        count: usize,
    ) -> Poll<io::Result<usize>> {
        self.file.poll_send_file(cx, file, offset, count).map_err(failed("sending a file to"))
    }
}

/// Reads nothing. Ends when nobody reads what is written.
impl AsyncRead for WriteEnd {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.tells_of_readers {
            return Poll::Pending;
        }
        self.file.poll_with(Direction::Read, cx, nobody_reads, |_| false).map_err(failed("watching"))
    }
}

/// `Ok(0)` if every reader is gone, else "would block".
pub(crate) fn nobody_reads(file: &File) -> io::Result<usize> {
    let mut fds = [PollFd::new(file, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now))?;
    match fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) {
        true => Ok(0),
        false => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl AsyncWrite for WriteEnd {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.file.poll_write(cx, bytes).map_err(failed("writing to"))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Does nothing: the end of a pipe is sent by dropping this.
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
