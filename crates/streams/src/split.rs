//! The two halves of a stream, for two tasks or two owners.
//!
//! Reading and writing never meet: each half uses its own direction of the descriptor, so splitting costs nothing but, for
//! the owned halves, one shared reference count.
//!
//! H1. A write half that is dropped sends the end of the stream: the peer reads what was written, then the end.
//! H2. The descriptor is closed with the second half.
//! H3. Halves are unique, so each is the one user of its direction.

use evenloop_core::shim::StdArc;
use futures_io::{AsyncRead, AsyncWrite};
use std::error::Error;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A stream that can be split. Implemented by the streams of this crate and by nobody else.
pub trait Split: sealed::Duplex {}

pub(crate) mod sealed {
    use super::*;

    /// What the halves need of a stream. `&self`, because two halves hold it; each direction has one user (H3).
    pub trait Duplex: fmt::Debug {
        fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;
        fn poll_read_vectored(
            &self,
            cx: &mut Context<'_>,
            bufs: &mut [IoSliceMut<'_>],
        ) -> Poll<io::Result<usize>>;
        /// As `poll_read`, with a system call of the caller's own that has `room` for so many bytes.
        #[cfg(any(feature = "tokio", feature = "hyper"))]
        fn poll_read_by(
            &self,
            cx: &mut Context<'_>,
            room: usize,
            read: impl FnMut(crate::foreign::Kernel<'_>) -> io::Result<usize>,
        ) -> Poll<io::Result<usize>>;
        fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
        fn poll_write_vectored(&self, cx: &mut Context<'_>, bytes: &[IoSlice<'_>])
        -> Poll<io::Result<usize>>;
        /// Has the kernel send a part of a file: see [`TakesFiles`](crate::TakesFiles).
        fn poll_kernel_send(
            &self,
            cx: &mut Context<'_>,
            file: BorrowedFd<'_>,
            offset: u64,
            count: usize,
        ) -> Poll<io::Result<usize>>;
        fn shut_down(&self, how: Shutdown) -> io::Result<()>;
    }
}

/// The reading half of a borrowed stream.
#[derive(Debug)]
pub struct ReadHalf<'a, S>(pub(crate) &'a S);

/// The writing half of a borrowed stream. Closing it sends the end of the stream; dropping it does nothing.
#[derive(Debug)]
pub struct WriteHalf<'a, S>(pub(crate) &'a S);

/// The reading half of a stream. The stream's own methods that take `&self` are there by [`Deref`].
#[derive(Debug)]
pub struct OwnedReadHalf<S>(pub(crate) StdArc<S>);

/// The writing half of a stream. Dropping it sends the end of the stream (H1).
///
/// The stream's own methods that take `&self` are there by [`Deref`].
#[must_use = "dropping the writing half sends the end of the stream"]
pub struct OwnedWriteHalf<S: Split> {
    /// Empty only while `reunite` ends.
    stream: Option<StdArc<S>>,
}

pub(crate) fn owned<S: Split>(stream: S) -> (OwnedReadHalf<S>, OwnedWriteHalf<S>) {
    let stream = StdArc::new(stream);
    (OwnedReadHalf(stream.clone()), OwnedWriteHalf { stream: Some(stream) })
}

impl<S: Split> OwnedReadHalf<S> {
    /// Puts the two halves together again.
    ///
    /// # Errors
    ///
    /// They are not halves of the same stream; both come back.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> std::io::Result<()> {
    /// use evenloop_streams::TcpStream;
    ///
    /// let stream = TcpStream::connect(([127, 0, 0, 1], 9000).into()).await?;
    /// let (read, write) = stream.into_split();
    /// let stream = read.reunite(write).expect("halves of one stream");
    /// stream.set_nodelay(true)?;
    /// # Ok(()) }
    /// ```
    pub fn reunite(self, other: OwnedWriteHalf<S>) -> Result<S, ReuniteError<S>> {
        other.reunite(self)
    }
}

impl<S: Split> OwnedWriteHalf<S> {
    /// Puts the two halves together again.
    ///
    /// # Errors
    ///
    /// They are not halves of the same stream; both come back.
    pub fn reunite(mut self, other: OwnedReadHalf<S>) -> Result<S, ReuniteError<S>> {
        if !StdArc::ptr_eq(&other.0, self.shared()) {
            return Err(ReuniteError { read: other, write: self });
        }
        drop(self.stream.take()); // No end of the stream: H1 is for halves that are given up.
        Ok(StdArc::into_inner(other.0).expect("H3: there were two halves"))
    }

    pub(crate) fn shared(&self) -> &StdArc<S> {
        self.stream.as_ref().expect("only reunite empties it, and consumes it")
    }
}

impl<S: Split> Drop for OwnedWriteHalf<S> {
    fn drop(&mut self) {
        if let Some(stream) = &self.stream {
            // H1. It fails if the connection is gone: then the peer knows.
            let _ = stream.shut_down(Shutdown::Write);
        }
    }
}

impl<S> Deref for OwnedReadHalf<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.0
    }
}

impl<S: Split> Deref for OwnedWriteHalf<S> {
    type Target = S;

    fn deref(&self) -> &S {
        self.shared()
    }
}

impl<S: Split> fmt::Debug for OwnedWriteHalf<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnedWriteHalf").field(self.shared()).finish()
    }
}

/// Two halves that do not belong together; both are inside.
pub struct ReuniteError<S: Split> {
    /// The reading half that was handed in.
    pub read: OwnedReadHalf<S>,
    /// The writing half that was handed in.
    pub write: OwnedWriteHalf<S>,
}

impl<S: Split> fmt::Debug for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReuniteError").field("read", &self.read).field("write", &self.write).finish()
    }
}

impl<S: Split> fmt::Display for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "halves of two different streams: {:?} and {:?}", self.read, self.write)
    }
}

impl<S: Split> Error for ReuniteError<S> {}

// === futures-io ===

impl<S: Split> AsyncRead for ReadHalf<'_, S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll_read(cx, buf)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_read_vectored(cx, bufs)
    }
}

impl<S: Split> AsyncRead for OwnedReadHalf<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll_read(cx, buf)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_read_vectored(cx, bufs)
    }
}

impl<S: Split> AsyncWrite for WriteHalf<'_, S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write_vectored(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shut_down(Shutdown::Write))
    }
}

impl<S: Split> AsyncWrite for OwnedWriteHalf<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.shared().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.shared().poll_write_vectored(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shared().shut_down(Shutdown::Write))
    }
}
