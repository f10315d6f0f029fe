//! TCP: listeners and streams.
//!
//! T1. Every error of a stream names what was being done and the peer. The peer is kept, because after a reset the kernel
//!     no longer knows it.
//! T2. Everything here is close-on-exec and non-blocking from its first moment.

use crate::async_fd::AsyncFd;
use crate::error::IoFailure;
use crate::listen::ListenConfig;
use crate::split::{self, OwnedReadHalf, OwnedWriteHalf, ReadHalf, Split, WriteHalf, sealed::Duplex};
use evenloop_core::shim::StdArc;
use evenloop_core::{Direction, Reactor, Ready, Runtime};
use futures_core::Stream;
use futures_io::{AsyncRead, AsyncWrite};
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// How many connections may wait to be accepted: see `listen(2)`.
pub(crate) const BACKLOG: i32 = 1024;

/// A TCP connection.
///
/// Reading and writing go through the `futures-io` traits (`AsyncReadExt`, `AsyncWriteExt` of the `futures` crate), or,
/// with a buffer and asyncio's calls, through [`StreamReader`](crate::StreamReader). Dropping it closes the connection; what
/// was written is still delivered, unless there are unread bytes: then the kernel resets it.
#[must_use = "dropping it closes the connection"]
pub struct TcpStream {
    fd: AsyncFd<mio::net::TcpStream>,
    peer: SocketAddr,
}

impl TcpStream {
    /// Connects to `peer`.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Dropping the future closes the socket; the peer may have seen a connection come and go.
    ///
    /// # Errors
    ///
    /// The kernel's reason, with the address; or there is no reactor here.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use evenloop_streams::TcpStream;
    /// use futures::{AsyncReadExt, AsyncWriteExt};
    ///
    /// # async fn example() -> std::io::Result<()> {
    /// let mut stream = TcpStream::connect(([127, 0, 0, 1], 4000).into()).await?;
    /// stream.write_all(b"hello\n").await?;
    /// let mut answer = [0; 100];
    /// let n = stream.read(&mut answer).await?;
    /// # Ok(()) }
    /// ```
    pub async fn connect(peer: SocketAddr) -> io::Result<Self> {
        let reactor = Runtime::current_reactor("TcpStream::connect").map_err(io::Error::other)?;
        Self::connect_with(peer, reactor).await
    }

    /// As [`connect`](Self::connect), on `runtime`.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.**
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn connect_on(runtime: &Runtime, peer: SocketAddr) -> io::Result<Self> {
        let reactor = runtime.reactor_for("TcpStream::connect_on").map_err(io::Error::other)?.clone();
        Self::connect_with(peer, reactor).await
    }

    pub(crate) async fn connect_with(peer: SocketAddr, reactor: StdArc<dyn Reactor>) -> io::Result<Self> {
        let failed = |error| IoFailure::wrap("connecting to", peer, error);
        let connecting = mio::net::TcpStream::connect(peer).map_err(failed)?;
        let fd = AsyncFd::watch(connecting, reactor, Ready::NOTHING).map_err(|not| failed(not.error))?;
        let connected = fd.write_with(|stream| match stream.take_error()? {
            Some(error) => Err(error),
            None => match stream.peer_addr() {
                // Awake too early: the connection is still on its way.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    Err(io::ErrorKind::WouldBlock.into())
                }
                // Not always the one that was asked for: 0.0.0.0 is this machine.
                peer => peer,
            },
        });
        let peer = connected.await.map_err(failed)?;
        Ok(Self { fd, peer })
    }

    /// Takes over a connection of std's, and makes it non-blocking.
    ///
    /// # Errors
    ///
    /// It is not connected, or cannot be watched, or there is no reactor here.
    pub fn from_std(stream: std::net::TcpStream) -> io::Result<Self> {
        let reactor = Runtime::current_reactor("TcpStream::from_std").map_err(io::Error::other)?;
        let peer = stream.peer_addr()?;
        stream.set_nonblocking(true)?;
        Self::watch(mio::net::TcpStream::from_std(stream), peer, reactor)
    }

    fn watch(
        stream: mio::net::TcpStream,
        peer: SocketAddr,
        reactor: StdArc<dyn Reactor>,
    ) -> io::Result<Self> {
        // A fresh connection takes bytes; whether it has some, the reactor will tell.
        let fd = AsyncFd::watch(stream, reactor, Ready::WRITE)
            .map_err(|not| IoFailure::wrap("watching the connection to", peer, not.error))?;
        Ok(Self { fd, peer })
    }

    /// Gives the connection to std, still non-blocking.
    pub fn into_std(self) -> std::net::TcpStream {
        self.fd.into_inner().into()
    }

    /// The peer's address, also after the connection is gone.
    ///
    /// # Errors
    ///
    /// None: the address was noted when the stream was made. The shape is std's.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }

    /// This end's address.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.fd.get_ref().local_addr().map_err(self.failed("asking for this end of the connection to"))
    }

    /// Sends small pieces at once (true) or lets the kernel wait for more (false, as it starts out).
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.fd.get_ref().set_nodelay(nodelay).map_err(self.failed("setting an option of the connection to"))
    }

    /// Whether small pieces are sent at once.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.fd.get_ref().nodelay().map_err(self.failed("asking for an option of the connection to"))
    }

    /// What closing does with bytes not yet sent: with a time, closing sends them that long and then resets; with
    /// `Some(Duration::ZERO)` it resets at once; with `None` the kernel sends them behind the program's back.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        rustix::net::sockopt::set_socket_linger(self, linger)
            .map_err(|error| self.failed("setting an option of the connection to")(error.into()))
    }

    /// Whether the kernel asks a silent peer now and then if it is still there.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn set_keepalive(&self, keepalive: bool) -> io::Result<()> {
        rustix::net::sockopt::set_socket_keepalive(self, keepalive)
            .map_err(|error| self.failed("setting an option of the connection to")(error.into()))
    }

    /// The error that the kernel keeps for this connection, if any; asking takes it away.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.fd.get_ref().take_error()
    }

    /// Closes one direction or both. `Write` sends the end of the stream, and reading goes on.
    ///
    /// # Errors
    ///
    /// What the kernel answered; a connection that is gone already is no error.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self.fd.get_ref().shutdown(how) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            done => done.map_err(self.failed("shutting down the connection to")),
        }
    }

    /// Waits for bytes and copies them, without taking them.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Nothing is taken in any case.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.fd.read_with(|stream| stream.peek(buf)).await.map_err(self.failed("reading from"))
    }

    /// Waits until reading is worth a try. Any number of tasks may wait at once.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.**
    ///
    /// # Errors
    ///
    /// The reactor has ended.
    pub async fn readable(&self) -> io::Result<()> {
        self.fd.readable().await.map_err(self.failed("waiting to read from"))
    }

    /// Waits until writing is worth a try. Any number of tasks may wait at once.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.**
    ///
    /// # Errors
    ///
    /// The reactor has ended.
    pub async fn writable(&self) -> io::Result<()> {
        self.fd.writable().await.map_err(self.failed("waiting to write to"))
    }

    /// Reads what is there, without waiting.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is nothing; else what the kernel answered.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.fd.try_with(Direction::Read, |mut stream| stream.read(buf)).map_err(self.failed("reading from"))
    }

    /// Writes what there is room for, without waiting.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room; else what the kernel answered.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.fd
            .try_with(Direction::Write, |mut stream| stream.write(bytes))
            .map_err(self.failed("writing to"))
    }

    /// Lends the two directions to two users.
    pub fn split(&mut self) -> (ReadHalf<'_, Self>, WriteHalf<'_, Self>) {
        (ReadHalf(self), WriteHalf(self))
    }

    /// Takes the two directions apart. Dropping the writing half sends the end of the stream.
    pub fn into_split(self) -> (OwnedReadHalf<Self>, OwnedWriteHalf<Self>) {
        split::owned(self)
    }

    /// Adds operation and peer to an error (T1).
    fn failed(&self, operation: &'static str) -> impl FnOnce(io::Error) -> io::Error {
        let peer = self.peer;
        move |error| IoFailure::wrap(operation, peer, error)
    }
}

impl Split for TcpStream {}

impl Duplex for TcpStream {
    #[inline]
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.fd.poll_read::<true>(cx, buf).map_err(self.failed("reading from"))
    }

    fn poll_read_vectored(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.fd.poll_read_vectored::<true>(cx, bufs).map_err(self.failed("reading from"))
    }

    #[cfg(any(feature = "tokio", feature = "hyper"))]
    fn poll_read_by(
        &self,
        cx: &mut Context<'_>,
        room: usize,
        mut read: impl FnMut(crate::foreign::Kernel<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        self.fd
            .poll_read_by::<true>(cx, room, |fd| read(crate::foreign::Kernel::Socket(fd)))
            .map_err(self.failed("reading from"))
    }

    #[inline]
    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.fd.poll_write(cx, bytes).map_err(self.failed("writing to"))
    }

    fn poll_write_vectored(&self, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.fd.poll_write_vectored(cx, bytes).map_err(self.failed("writing to"))
    }

    fn poll_kernel_send(
        &self,
        cx: &mut Context<'_>,
        file: BorrowedFd<'_>,
        offset: u64,
        count: usize,
    ) -> Poll<io::Result<usize>> {
        self.fd.poll_send_file(cx, file, offset, count).map_err(self.failed("sending a file to"))
    }

    fn shut_down(&self, how: Shutdown) -> io::Result<()> {
        self.shutdown(how)
    }
}

impl AsyncRead for TcpStream {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Duplex::poll_read(&*self, cx, buf)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Duplex::poll_read_vectored(&*self, cx, bufs)
    }
}

impl AsyncWrite for TcpStream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Duplex::poll_write(&*self, cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Duplex::poll_write_vectored(&*self, cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown(Shutdown::Write))
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl TryFrom<std::net::TcpStream> for TcpStream {
    type Error = io::Error;

    fn try_from(stream: std::net::TcpStream) -> io::Result<Self> {
        Self::from_std(stream)
    }
}

impl TryFrom<OwnedFd> for TcpStream {
    type Error = io::Error;

    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        Self::from_std(fd.into())
    }
}

impl From<TcpStream> for OwnedFd {
    fn from(stream: TcpStream) -> Self {
        stream.fd.into_inner().into()
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcpStream [to {}]", self.peer)
    }
}

// === TcpListener ===

/// A socket that accepts TCP connections.
#[must_use = "dropping it stops listening"]
pub struct TcpListener {
    fd: AsyncFd<mio::net::TcpListener>,
    local: SocketAddr,
}

impl TcpListener {
    /// Listens on `local`; port 0 lets the kernel choose one. For options see [`ListenConfig`], which this is with none.
    ///
    /// # Errors
    ///
    /// The kernel's reason, with the address; or there is no reactor here.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use evenloop_streams::TcpListener;
    /// # async fn example() -> std::io::Result<()> {
    /// let listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    /// println!("listening on {}", listener.local_addr()?);
    /// let (stream, peer) = listener.accept().await?;
    /// # Ok(()) }
    /// ```
    pub fn bind(local: SocketAddr) -> io::Result<Self> {
        let reactor = Runtime::current_reactor("TcpListener::bind").map_err(io::Error::other)?;
        Self::bind_with(local, reactor)
    }

    /// As [`bind`](Self::bind), on `runtime`.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    pub fn bind_on(runtime: &Runtime, local: SocketAddr) -> io::Result<Self> {
        let reactor = runtime.reactor_for("TcpListener::bind_on").map_err(io::Error::other)?.clone();
        Self::bind_with(local, reactor)
    }

    fn bind_with(local: SocketAddr, reactor: StdArc<dyn Reactor>) -> io::Result<Self> {
        ListenConfig::new().listen_with(local, reactor)
    }

    /// Takes over a listener of std's, and makes it non-blocking.
    ///
    /// # Errors
    ///
    /// It cannot be watched, or there is no reactor here.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        let reactor = Runtime::current_reactor("TcpListener::from_std").map_err(io::Error::other)?;
        listener.set_nonblocking(true)?;
        Self::watch(listener, reactor)
    }

    /// Takes over one that does not block.
    pub(crate) fn watch(listener: std::net::TcpListener, reactor: StdArc<dyn Reactor>) -> io::Result<Self> {
        let listener = mio::net::TcpListener::from_std(listener);
        let local = listener.local_addr()?;
        Ok(Self { fd: AsyncFd::watch(listener, reactor, Ready::NOTHING)?, local })
    }

    /// Gives the listener to std, still non-blocking.
    pub fn into_std(self) -> std::net::TcpListener {
        self.fd.into_inner().into()
    }

    /// Where it listens, with the port that the kernel chose.
    ///
    /// # Errors
    ///
    /// None: the address was noted when the listener was made. The shape is std's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    /// Waits for the next connection. Several tasks may accept at once: each connection goes to one of them.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** No connection has been taken unless the future is ready.
    ///
    /// # Errors
    ///
    /// The kernel's reason, with the address. After one about this connection alone (it was aborted) or about too few
    /// descriptors, accepting can go on; the latter comes back at once as long as it is true, so wait before it.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let accepted = self.fd.read_with(|listener| listener.accept()).await;
        self.accepted(accepted)
    }

    fn accepted(
        &self,
        accepted: io::Result<(mio::net::TcpStream, SocketAddr)>,
    ) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = accepted.map_err(|error| IoFailure::wrap("accepting on", self.local, error))?;
        Ok((TcpStream::watch(stream, peer, self.fd.reactor().clone())?, peer))
    }

    /// As [`accept`](Self::accept), in the owner's place: for whoever is the only one to accept.
    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        let accepted =
            ready!(self.fd.poll_with(Direction::Read, cx, |listener| listener.accept(), |_| false));
        Poll::Ready(self.accepted(accepted).map(|(stream, _)| stream))
    }

    /// The connections as they come. Never ends by itself.
    pub fn incoming(&mut self) -> Incoming<'_> {
        Incoming(self)
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl TryFrom<std::net::TcpListener> for TcpListener {
    type Error = io::Error;

    fn try_from(listener: std::net::TcpListener) -> io::Result<Self> {
        Self::from_std(listener)
    }
}

impl TryFrom<OwnedFd> for TcpListener {
    type Error = io::Error;

    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        Self::from_std(fd.into())
    }
}

impl From<TcpListener> for OwnedFd {
    fn from(listener: TcpListener) -> Self {
        listener.fd.into_inner().into()
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcpListener [on {}]", self.local)
    }
}

/// The connections that a [`TcpListener`] accepts, one after the other.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Incoming<'a>(&'a mut TcpListener);

impl Stream for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_accept(cx).map(Some)
    }
}
