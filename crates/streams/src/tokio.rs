//! tokio's `AsyncRead` and `AsyncWrite`, directly on the streams (feature `tokio`).
//!
//! With them tokio-util's codecs, tokio-postgres, redis and whatever else is written against tokio's traits run on these
//! streams, under Evenloop's loop or any other host. Only the traits come from tokio; what asks for tokio's own sockets,
//! timers or tasks still needs a running tokio.
//!
//! Discussion: safe code cannot read into memory that nobody has written, so the room is zeroed first; at most
//! [`MOST`] bytes of it, and only when there is something to read. A buffer that is used again is zeroed once.
//!
//! The traits differ in two names only, so a macro gives each stream the same few lines.

use crate::pipe::{Receiver, Sender};
use crate::split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, Split, WriteHalf, sealed::Duplex};
use crate::tcp::TcpStream;
use crate::unix::UnixStream;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most that one call reads.
const MOST: usize = 64 * 1024;

/// Reads into `buf` by whatever `poll_by` reads from.
fn fill(
    buf: &mut ReadBuf<'_>,
    poll_by: impl FnOnce(usize, &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<usize>) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<()>> {
    let room = buf.remaining().min(MOST);
    let polled = poll_by(room, &mut |fd| Ok(rustix::io::read(fd, &mut *buf.initialize_unfilled_to(room))?));
    polled.map_ok(|n| buf.advance(n))
}

macro_rules! reads {
    ($([$($generics:tt)*] $reader:ty: $this:ident => $stream:expr;)*) => {$(
        impl<$($generics)*> AsyncRead for $reader {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                let $this = &*self;
                fill(buf, |room, read| $stream.poll_read_by(cx, room, read))
            }
        }
    )*};
}

reads! {
    [] TcpStream: this => this;
    [] UnixStream: this => this;
    [] Receiver: this => this;
    [S: Split] ReadHalf<'_, S>: this => this.0;
    [S: Split] OwnedReadHalf<S>: this => this.0;
}

macro_rules! writes {
    ($([$($generics:tt)*] $writer:ty;)*) => {$(
        impl<$($generics)*> AsyncWrite for $writer {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                futures_io::AsyncWrite::poll_write(self, cx, bytes)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                futures_io::AsyncWrite::poll_write_vectored(self, cx, bytes)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                futures_io::AsyncWrite::poll_flush(self, cx)
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                futures_io::AsyncWrite::poll_close(self, cx)
            }
        }
    )*};
}

writes! {
    [] TcpStream;
    [] UnixStream;
    [] Sender;
    [S: Split] WriteHalf<'_, S>;
    [S: Split] OwnedWriteHalf<S>;
}
