//! Datagrams: UDP and Unix sockets that keep the borders of messages.
//!
//! Sending and receiving take `&self`: several tasks may use one socket at once, and each datagram goes to one of them.
//! A datagram that is longer than the room for it is cut, and the rest is lost; that is how datagrams are.

use crate::async_fd::AsyncFd;
use crate::error::IoFailure;
use crate::unix::{address, raw_address, shown};
use evenloop_core::shim::StdArc;
use evenloop_core::{Direction, Reactor, Ready, Runtime};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net as unix;
use std::path::Path;
use std::task::{Context, Poll};

/// A UDP socket.
///
/// An error that an earlier datagram caused (the peer's port is closed, say) comes with a later call, once, and the socket
/// goes on.
#[must_use = "dropping it closes the socket"]
pub struct UdpSocket {
    fd: AsyncFd<mio::net::UdpSocket>,
    /// For messages: where it was bound.
    local: SocketAddr,
}

impl UdpSocket {
    /// A socket at `local`; port 0 lets the kernel choose one.
    ///
    /// # Errors
    ///
    /// The kernel's reason, with the address; or there is no reactor here.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use evenloop_streams::UdpSocket;
    /// # async fn example() -> std::io::Result<()> {
    /// let socket = UdpSocket::bind(([127, 0, 0, 1], 0).into())?;
    /// socket.send_to(b"hello", ([127, 0, 0, 1], 4000).into()).await?;
    /// let mut room = [0; 1500];
    /// let (n, peer) = socket.recv_from(&mut room).await?;
    /// # Ok(()) }
    /// ```
    pub fn bind(local: SocketAddr) -> io::Result<Self> {
        let reactor = Runtime::current_reactor("UdpSocket::bind").map_err(io::Error::other)?;
        let failed = |error| IoFailure::wrap("binding to", local, error);
        Self::watch(mio::net::UdpSocket::bind(local).map_err(failed)?, reactor).map_err(failed)
    }

    /// As [`bind`](Self::bind), on `runtime`.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    pub fn bind_on(runtime: &Runtime, local: SocketAddr) -> io::Result<Self> {
        let reactor = runtime.reactor_for("UdpSocket::bind_on").map_err(io::Error::other)?.clone();
        let failed = |error| IoFailure::wrap("binding to", local, error);
        Self::watch(mio::net::UdpSocket::bind(local).map_err(failed)?, reactor).map_err(failed)
    }

    /// Takes over a socket of std's, and makes it non-blocking.
    ///
    /// # Errors
    ///
    /// It cannot be watched, or there is no reactor here.
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<Self> {
        let reactor = Runtime::current_reactor("UdpSocket::from_std").map_err(io::Error::other)?;
        socket.set_nonblocking(true)?;
        Self::watch(mio::net::UdpSocket::from_std(socket), reactor)
    }

    fn watch(socket: mio::net::UdpSocket, reactor: StdArc<dyn Reactor>) -> io::Result<Self> {
        let local = socket.local_addr()?;
        Ok(Self { fd: AsyncFd::watch(socket, reactor, Ready::WRITE)?, local })
    }

    /// Gives the socket to std, still non-blocking.
    pub fn into_std(self) -> std::net::UdpSocket {
        self.fd.into_inner().into()
    }

    /// Where it is bound, with the port that the kernel chose. One that is bound to any address has one of its own once it
    /// is connected.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.fd.get_ref().local_addr()
    }

    /// From now on sends to `peer` only, and hears nobody else.
    ///
    /// # Errors
    ///
    /// The kernel's reason, with the address.
    pub fn connect(&self, peer: SocketAddr) -> io::Result<()> {
        self.fd.get_ref().connect(peer).map_err(|error| IoFailure::wrap("connecting to", peer, error))
    }

    /// The peer of a connected socket.
    ///
    /// # Errors
    ///
    /// It is not connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.fd.get_ref().peer_addr()
    }

    /// Whether datagrams may be sent to a broadcast address.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn set_broadcast(&self, allowed: bool) -> io::Result<()> {
        self.fd.get_ref().set_broadcast(allowed)
    }

    /// Sends a datagram to `peer`.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Nothing has been sent unless the future is ready.
    ///
    /// # Errors
    ///
    /// The kernel's reason, with the peer: the datagram is too long, or an earlier one was refused.
    pub async fn send_to(&self, bytes: &[u8], peer: SocketAddr) -> io::Result<usize> {
        let sent = self.fd.write_with(|socket| socket.send_to(bytes, peer)).await;
        sent.map_err(|error| IoFailure::wrap("sending to", peer, error))
    }

    /// Receives a datagram, and answers its length and whom it came from.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** No datagram has been taken unless the future is ready.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub async fn recv_from(&self, room: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let received = self.fd.read_with(|socket| socket.recv_from(room)).await;
        received.map_err(|error| IoFailure::wrap("receiving on", self.local, error))
    }

    /// Sends a datagram to the peer of a connected socket.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Nothing has been sent unless the future is ready.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to); or it is not connected.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.fd.write_with(|socket| socket.send(bytes)).await;
        sent.map_err(|error| IoFailure::wrap("sending from", self.local, error))
    }

    /// Receives a datagram from the peer of a connected socket, and answers its length.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** No datagram has been taken unless the future is ready.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub async fn recv(&self, room: &mut [u8]) -> io::Result<usize> {
        let received = self.fd.read_with(|socket| socket.recv(room)).await;
        received.map_err(|error| IoFailure::wrap("receiving on", self.local, error))
    }

    /// As [`recv_from`](Self::recv_from), in the owner's place: for whoever is the only one to receive.
    pub(crate) fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let polled = self.fd.poll_with(Direction::Read, cx, |socket| socket.recv_from(room), |_| false);
        polled.map_err(|error| IoFailure::wrap("receiving on", self.local, error))
    }

    /// As [`send_to`](Self::send_to), or [`send`](Self::send) without a peer, in the owner's place.
    pub(crate) fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        peer: Option<SocketAddr>,
    ) -> Poll<io::Result<usize>> {
        let send = |socket: &mio::net::UdpSocket| match peer {
            Some(peer) => socket.send_to(bytes, peer),
            None => socket.send(bytes),
        };
        self.fd
            .poll_with(Direction::Write, cx, send, |_| false)
            .map_err(|error| IoFailure::wrap("sending from", self.local, error))
    }

    /// As [`recv_from`](Self::recv_from), and leaves the datagram for the next call.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Nothing is taken in any case.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub async fn peek_from(&self, room: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let received = self.fd.read_with(|socket| socket.peek_from(room)).await;
        received.map_err(|error| IoFailure::wrap("receiving on", self.local, error))
    }

    /// Sends a datagram to `peer`, without waiting.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if the kernel's buffer is full; else as [`send_to`](Self::send_to).
    pub fn try_send_to(&self, bytes: &[u8], peer: SocketAddr) -> io::Result<usize> {
        let sent = self.fd.try_with(Direction::Write, |socket| socket.send_to(bytes, peer));
        sent.map_err(|error| IoFailure::wrap("sending to", peer, error))
    }

    /// Receives a datagram that is there, without waiting.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is none; else what the kernel answered.
    pub fn try_recv_from(&self, room: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let received = self.fd.try_with(Direction::Read, |socket| socket.recv_from(room));
        received.map_err(|error| IoFailure::wrap("receiving on", self.local, error))
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<UdpSocket> for OwnedFd {
    fn from(socket: UdpSocket) -> Self {
        socket.fd.into_inner().into()
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UdpSocket [at {}]", self.local)
    }
}

// === UnixDatagram ===

/// A Unix socket that carries datagrams. None is lost between two sockets: who sends waits for room.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use evenloop_streams::UnixDatagram;
///
/// let (one, other) = UnixDatagram::pair()?;
/// one.send(b"as one piece").await?;
/// let mut room = [0; 64];
/// let n = other.recv(&mut room).await?;
/// assert_eq!(&room[..n], b"as one piece");
/// # Ok(()) }
/// ```
#[must_use = "dropping it closes the socket"]
pub struct UnixDatagram {
    fd: AsyncFd<mio::net::UnixDatagram>,
}

impl UnixDatagram {
    /// A socket at `path`, where nothing may be yet. The file stays when the socket is dropped. On Linux, a path that begins
    /// with a NUL byte is an abstract name, which has no file.
    ///
    /// # Errors
    ///
    /// The kernel's reason, with the path; or there is no reactor here.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let reactor = Runtime::current_reactor("UnixDatagram::bind").map_err(io::Error::other)?;
        let path = path.as_ref();
        let failed = |error| IoFailure::wrap("binding to", shown(path), error);
        let bound = address(path).and_then(|at| unix::UnixDatagram::bind_addr(&at)).map_err(failed)?;
        bound.set_nonblocking(true).map_err(failed)?;
        Self::watch(mio::net::UnixDatagram::from_std(bound), reactor).map_err(failed)
    }

    /// A socket without a name: it can send, and hear answers only if it is connected.
    ///
    /// # Errors
    ///
    /// What the kernel answered, or there is no reactor here.
    pub fn unbound() -> io::Result<Self> {
        let reactor = Runtime::current_reactor("UnixDatagram::unbound").map_err(io::Error::other)?;
        Self::watch(mio::net::UnixDatagram::unbound()?, reactor)
    }

    /// Two sockets that are connected to each other.
    ///
    /// # Errors
    ///
    /// What the kernel answered, or there is no reactor here.
    pub fn pair() -> io::Result<(Self, Self)> {
        let reactor = Runtime::current_reactor("UnixDatagram::pair").map_err(io::Error::other)?;
        let (one, other) = mio::net::UnixDatagram::pair()?;
        Ok((Self::watch(one, reactor.clone())?, Self::watch(other, reactor)?))
    }

    /// Takes over a socket of std's, and makes it non-blocking.
    ///
    /// # Errors
    ///
    /// It cannot be watched, or there is no reactor here.
    pub fn from_std(socket: unix::UnixDatagram) -> io::Result<Self> {
        let reactor = Runtime::current_reactor("UnixDatagram::from_std").map_err(io::Error::other)?;
        socket.set_nonblocking(true)?;
        Self::watch(mio::net::UnixDatagram::from_std(socket), reactor)
    }

    fn watch(socket: mio::net::UnixDatagram, reactor: StdArc<dyn Reactor>) -> io::Result<Self> {
        Ok(Self { fd: AsyncFd::watch(socket, reactor, Ready::WRITE)? })
    }

    /// Gives the socket to std, still non-blocking.
    pub fn into_std(self) -> unix::UnixDatagram {
        self.fd.into_inner().into()
    }

    /// Where it is bound.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn local_addr(&self) -> io::Result<unix::SocketAddr> {
        self.fd.get_ref().local_addr()
    }

    /// From now on sends to the socket at `path` only; on Linux, one that begins with a NUL byte is an abstract name.
    ///
    /// # Errors
    ///
    /// The kernel's reason, with the path.
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        let connected = raw_address(path).and_then(|to| Ok(rustix::net::connect(&self.fd, &to)?));
        connected.map_err(|error| IoFailure::wrap("connecting to", shown(path), error))
    }

    /// Sends a datagram to the socket at `path`; on Linux, one that begins with a NUL byte is an abstract name.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Nothing has been sent unless the future is ready.
    ///
    /// # Errors
    ///
    /// The kernel's reason, with the path. [`WouldBlock`](io::ErrorKind::WouldBlock) if the peer's queue is full: the kernel
    /// tells only a connected sender when there is room again. (If this socket's own buffer is full, this waits for room.)
    pub async fn send_to(&self, bytes: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        let path = path.as_ref();
        let sent = match raw_address(path) {
            Ok(to) => self.fd.send_datagram(bytes, &to.into()).await,
            Err(error) => Err(error),
        };
        sent.map_err(|error| IoFailure::wrap("sending to", shown(path), error))
    }

    /// Receives a datagram, and answers its length and whom it came from.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** No datagram has been taken unless the future is ready.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub async fn recv_from(&self, room: &mut [u8]) -> io::Result<(usize, unix::SocketAddr)> {
        let received = self.fd.read_with(|socket| socket.recv_from(room)).await;
        received.map_err(|error| IoFailure::wrap("receiving on", "a Unix socket", error))
    }

    /// Sends a datagram to the peer of a connected socket.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Nothing has been sent unless the future is ready.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.fd.write_with(|socket| socket.send(bytes)).await;
        sent.map_err(|error| IoFailure::wrap("sending to", "the peer of a Unix socket", error))
    }

    /// Receives a datagram, and answers its length.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** No datagram has been taken unless the future is ready.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub async fn recv(&self, room: &mut [u8]) -> io::Result<usize> {
        let received = self.fd.read_with(|socket| socket.recv(room)).await;
        received.map_err(|error| IoFailure::wrap("receiving on", "a Unix socket", error))
    }
}

impl AsFd for UnixDatagram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<UnixDatagram> for OwnedFd {
    fn from(socket: UnixDatagram) -> Self {
        socket.fd.into_inner().into()
    }
}

impl fmt::Debug for UnixDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UnixDatagram").field(self.fd.get_ref()).finish()
    }
}
