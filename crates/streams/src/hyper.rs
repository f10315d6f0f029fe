//! hyper's `Read` and `Write`, directly on the streams (feature `hyper`).
//!
//! With them hyper's clients and servers, and so axum and tonic, run on these streams, under Evenloop's loop or any other
//! host. hyper's timer and executor are the host's: for Evenloop's own loop they are in the facade (`evenloop::hyper`).
//!
//! hyper hands out room that nobody has written yet, behind unsafe calls. The kernel writes into it and says how much:
//!
//! H1. Room is only ever given to `read(2)`, which writes and does not look.
//! H2. The cursor moves by as many bytes as the kernel says it wrote.

#![allow(unsafe_code)]

use crate::pipe::{Receiver, Sender};
use crate::split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, Split, WriteHalf, sealed::Duplex};
use crate::tcp::TcpStream;
use crate::unix::UnixStream;
use hyper::rt::{Read, ReadBufCursor, Write};
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Reads into `buf` by whatever `poll_by` reads from.
fn fill(
    mut buf: ReadBufCursor<'_>,
    poll_by: impl FnOnce(usize, &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<usize>) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<()>> {
    let polled = poll_by(buf.remaining(), &mut |fd| {
        // SAFETY: H1: nothing that was written before becomes unwritten, for the kernel writes bytes or leaves them.
        let room = unsafe { buf.as_mut() };
        let (written, _) = rustix::io::read(fd, room)?;
        Ok(written.len())
    });
    polled.map_ok(|n| {
        // SAFETY: H2: the kernel has written these `n` bytes, at the start of the room.
        unsafe { buf.advance(n) }
    })
}

macro_rules! reads {
    ($([$($generics:tt)*] $reader:ty: $this:ident => $stream:expr;)*) => {$(
        impl<$($generics)*> Read for $reader {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: ReadBufCursor<'_>,
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
        impl<$($generics)*> Write for $writer {
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
