//! Any stream, as a connection holds it.

use super::extra::{Address, ExtraInfo};
use crate::buffer::Buffer;
use crate::sendfile::TakesFiles;
use crate::tcp::TcpStream;
use crate::unix::UnixStream;
use futures_io::{AsyncRead, AsyncWrite};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Both directions at once, its type forgotten.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin {
    /// The descriptor below everything, if there is one.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// [`TakesFiles::poll_send_file`].
    fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        file: BorrowedFd<'_>,
        offset: u64,
        count: usize,
    ) -> Poll<io::Result<usize>> {
        let _ = (cx, file, offset, count);
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

macro_rules! sockets {
    ($($socket:ty),*) => {$(
        impl Duplex for $socket {
            fn descriptor(&self) -> Option<BorrowedFd<'_>> {
                Some(self.as_fd())
            }

            fn poll_send_file(
                &self,
                cx: &mut Context<'_>,
                file: BorrowedFd<'_>,
                offset: u64,
                count: usize,
            ) -> Poll<io::Result<usize>> {
                TakesFiles::poll_send_file(self, cx, file, offset, count)
            }
        }
    )*};
}

sockets!(TcpStream, UnixStream);

/// Below TLS.
impl Duplex for Box<dyn Duplex> {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        (**self).descriptor()
    }
}

/// A stream of which we know nothing else.
struct Foreign<S>(S);

impl<S: AsyncRead + AsyncWrite + Unpin> Duplex for Foreign<S> {}

impl<S: AsyncRead + Unpin> AsyncRead for Foreign<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Foreign<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

/// A stream, and what a connection must know to drive it.
pub(crate) struct Wire {
    pub(crate) io: Box<dyn Duplex>,
    pub(crate) info: ExtraInfo,
    /// The end of one direction leaves the other open.
    pub(crate) half_closes: bool,
    /// There is a reading direction; else the end of what is read says that nobody listens.
    pub(crate) reads: bool,
    /// There is a writing direction.
    pub(crate) writes: bool,
    /// Closing it says something to the peer, or may: dropping it is not enough.
    pub(crate) says_farewell: bool,
    /// Closing waits so long at most for the peer's end. None: it does not wait.
    pub(crate) lingers: Option<Duration>,
}

impl Wire {
    /// Bytes both ways, each with an end of its own.
    pub(crate) fn new(io: impl Duplex + 'static, info: ExtraInfo) -> Self {
        let io = Box::new(io);
        let (half_closes, reads, writes, says_farewell) = (true, true, true, false);
        Self { io, info, half_closes, reads, writes, says_farewell, lingers: None }
    }

    /// Any stream, of which we do not know what closing it does.
    pub(crate) fn foreign(io: impl AsyncRead + AsyncWrite + Unpin + 'static) -> Self {
        Self { says_farewell: true, ..Self::new(Foreign(io), ExtraInfo::default()) }
    }
}

/// A socket that is connected: a [`TcpStream`] or a [`UnixStream`]. Implemented by nobody else.
pub trait AcceptedSocket: sealed::IntoWire {}

impl AcceptedSocket for TcpStream {}

impl AcceptedSocket for UnixStream {}

pub(crate) mod sealed {
    use super::*;

    pub trait IntoWire {
        #[doc(hidden)]
        #[expect(private_interfaces, reason = "sealed: only this crate calls it")]
        fn into_wire(self) -> Wire;
    }

    impl IntoWire for TcpStream {
        #[expect(private_interfaces, reason = "sealed: only this crate calls it")]
        fn into_wire(self) -> Wire {
            let info = ExtraInfo {
                peername: self.peer_addr().ok().map(Address::Inet),
                sockname: self.local_addr().ok().map(Address::Inet),
                ..ExtraInfo::default()
            };
            Wire::new(self, info)
        }
    }

    impl IntoWire for UnixStream {
        #[expect(private_interfaces, reason = "sealed: only this crate calls it")]
        fn into_wire(self) -> Wire {
            let info = ExtraInfo {
                peername: self.peer_addr().ok().map(Address::from_unix),
                sockname: self.local_addr().ok().map(Address::from_unix),
                ..ExtraInfo::default()
            };
            Wire::new(self, info)
        }
    }
}

/// A stream with bytes put back in front of it.
#[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "only TLS takes a stream over"))]
pub(crate) struct Prefixed {
    pub(crate) front: Buffer,
    pub(crate) io: Box<dyn Duplex>,
}

impl Duplex for Prefixed {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.io.descriptor()
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.front.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        Poll::Ready(Ok(self.front.move_to(buf)))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}
