//! Which of our types get the traits of other crates, and how: what tokio's and hyper's have in common.
//!
//! Their traits differ in names and in the room that a read is given. So each of those crates has a file that fills such a
//! room, and the lists stand here.

use rustix::buffer::Buffer;
use std::io;
use std::os::fd::BorrowedFd;

/// A descriptor by the call that reads it. Sockets have one of their own, which takes a shorter way through the kernel than
/// the one that serves all.
pub enum Kernel<'a> {
    Socket(BorrowedFd<'a>),
    Pipe(BorrowedFd<'a>),
}

impl Kernel<'_> {
    pub fn read<B: Buffer<u8>>(self, room: B) -> io::Result<B::Output> {
        match self {
            Self::Socket(fd) => {
                let (filled, _) = rustix::net::recv(fd, room, rustix::net::RecvFlags::empty())?;
                Ok(filled)
            }
            Self::Pipe(fd) => Ok(rustix::io::read(fd, room)?),
        }
    }
}

/// Implements `$read` for everything that reads; `$fill` fills a `$room` by whatever reads a descriptor.
macro_rules! reads {
    ($read:path, $room:ty, $fill:path) => {
        $crate::foreign::reads! { @each $read, $room, $fill =>
            [] $crate::tcp::TcpStream: this => this;
            [] $crate::unix::UnixStream: this => this;
            [] $crate::pipe::Receiver: this => this;
            [S: $crate::split::Split] $crate::split::ReadHalf<'_, S>: this => this.0;
            [S: $crate::split::Split] $crate::split::OwnedReadHalf<S>: this => this.0;
        }
    };
    (@each $read:path, $room:ty, $fill:path =>
        $([$($generics:tt)*] $reader:ty: $this:ident => $stream:expr;)*) => {$(
        impl<$($generics)*> $read for $reader {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, room: $room) -> Poll<io::Result<()>> {
                let $this = &*self;
                $fill(room, |most, read| $stream.poll_read_by(cx, most, read))
            }
        }
    )*};
}

/// Implements `$write` for everything that writes, by the trait of futures-io.
macro_rules! writes {
    ($write:path) => {
        $crate::foreign::writes! { @each $write =>
            [] $crate::tcp::TcpStream;
            [] $crate::unix::UnixStream;
            [] $crate::pipe::Sender;
            [S: $crate::split::Split] $crate::split::WriteHalf<'_, S>;
            [S: $crate::split::Split] $crate::split::OwnedWriteHalf<S>;
        }
    };
    (@each $write:path => $([$($generics:tt)*] $writer:ty;)*) => {$(
        impl<$($generics)*> $write for $writer {
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
                bytes: &[io::IoSlice<'_>],
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

pub(crate) use {reads, writes};
