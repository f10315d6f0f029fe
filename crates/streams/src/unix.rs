//! Unix sockets: streams and listeners that are known by a path.
//!
//! The same as TCP, but for three things. There is often no name for the peer, so errors name the path that was connected
//! to or listened on. On Linux a path that begins with a NUL byte is no file but an abstract name, as in asyncio. And a read
//! that comes short proves nothing: the kernel also cuts reads where a descriptor was sent along, so what remains costs one
//! system call to find out.

use crate::async_fd::AsyncFd;
use crate::error::IoFailure;
use crate::split::{self, OwnedReadHalf, OwnedWriteHalf, ReadHalf, Split, WriteHalf, sealed::Duplex};
use crate::tcp::BACKLOG;
use evenloop_core::shim::StdArc;
use evenloop_core::{Direction, Reactor, Ready, Runtime};
use futures_core::Stream;
use futures_io::{AsyncRead, AsyncWrite};
use rustix::net::SocketAddrUnix;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A connection through a Unix socket.
///
/// Dropping it closes the connection; what was written is still delivered.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use evenloop_streams::UnixStream;
/// use futures::{AsyncReadExt as _, AsyncWriteExt as _};
///
/// let (mut one, mut other) = UnixStream::pair()?;
/// one.write_all(b"hello").await?;
/// drop(one);
/// let mut text = String::new();
/// other.read_to_string(&mut text).await?;
/// assert_eq!(text, "hello");
/// # Ok(()) }
/// ```
#[must_use = "dropping it closes the connection"]
pub struct UnixStream {
    fd: AsyncFd<mio::net::UnixStream>,
    /// For messages: a path, an abstract name, or "(unnamed)".
    peer: Box<str>,
}

/// An address as messages show it.
fn name(address: &SocketAddr) -> Box<str> {
    match address.as_pathname() {
        Some(path) => path.display().to_string().into(),
        None => format!("{address:?}").into(),
    }
}

/// The address that `path` stands for.
pub(crate) fn address(path: &Path) -> io::Result<SocketAddr> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = abstract_name(path) {
        use std::os::linux::net::SocketAddrExt as _;
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(path)
}

/// The same for calls that std has no safe form of. The empty path is no address: it is refused by whoever is called with it.
pub(crate) fn raw_address(path: &Path) -> io::Result<SocketAddrUnix> {
    address(path)?; // its errors say more
    if path.as_os_str().is_empty() {
        return Ok(SocketAddrUnix::new_unnamed());
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = abstract_name(path) {
        return Ok(SocketAddrUnix::new_abstract_name(name)?);
    }
    Ok(SocketAddrUnix::new(path)?)
}

/// The abstract name that `path` is, if it is one.
pub(crate) fn abstract_name(path: &Path) -> Option<&[u8]> {
    let linux = cfg!(any(target_os = "linux", target_os = "android"));
    path.as_os_str().as_bytes().strip_prefix(b"\0").filter(|_| linux)
}

/// An abstract name as a path.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn abstract_path(name: &[u8]) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    std::ffi::OsString::from_vec([b"\0", name].concat()).into()
}

/// A path as messages show it.
pub(crate) fn shown(path: &Path) -> String {
    match abstract_name(path) {
        Some(name) => format!("\"{}\" (abstract)", name.escape_ascii()),
        None => path.display().to_string(),
    }
}

impl UnixStream {
    /// Connects to the socket at `path`; on Linux, one that begins with a NUL byte is an abstract name.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Dropping the future closes the socket; the peer may have seen a connection come and go.
    ///
    /// # Errors
    ///
    /// The kernel's reason, with the path; [`WouldBlock`](io::ErrorKind::WouldBlock) if the listener's backlog is full
    /// (Linux does not wait for a place in it); or there is no reactor here.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let reactor = Runtime::current_reactor("UnixStream::connect").map_err(io::Error::other)?;
        Self::connect_with(path.as_ref(), reactor).await
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
    pub async fn connect_on(runtime: &Runtime, path: impl AsRef<Path>) -> io::Result<Self> {
        let reactor = runtime.reactor_for("UnixStream::connect_on").map_err(io::Error::other)?.clone();
        Self::connect_with(path.as_ref(), reactor).await
    }

    pub(crate) async fn connect_with(path: &Path, reactor: StdArc<dyn Reactor>) -> io::Result<Self> {
        let failed = |error| IoFailure::wrap("connecting to", shown(path), error);
        let connecting =
            address(path).and_then(|to| mio::net::UnixStream::connect_addr(&to)).map_err(failed)?;
        let fd = AsyncFd::watch(connecting, reactor, Ready::NOTHING).map_err(|not| failed(not.error))?;
        fd.write_with(|stream| match stream.take_error()? {
            Some(error) => Err(error),
            None => match stream.peer_addr() {
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    Err(io::ErrorKind::WouldBlock.into())
                }
                done => done.map(drop),
            },
        })
        .await
        .map_err(failed)?;
        Ok(Self { fd, peer: shown(path).into() })
    }

    /// Two streams that are connected to each other.
    ///
    /// # Errors
    ///
    /// What the kernel answered, or there is no reactor here.
    pub fn pair() -> io::Result<(Self, Self)> {
        let reactor = Runtime::current_reactor("UnixStream::pair").map_err(io::Error::other)?;
        let (one, other) = mio::net::UnixStream::pair()?;
        Ok((Self::watch(one, reactor.clone())?, Self::watch(other, reactor)?))
    }

    /// Takes over a connection of std's, and makes it non-blocking.
    ///
    /// # Errors
    ///
    /// It is not connected, or cannot be watched, or there is no reactor here.
    pub fn from_std(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        let reactor = Runtime::current_reactor("UnixStream::from_std").map_err(io::Error::other)?;
        stream.set_nonblocking(true)?;
        Self::watch(mio::net::UnixStream::from_std(stream), reactor)
    }

    fn watch(stream: mio::net::UnixStream, reactor: StdArc<dyn Reactor>) -> io::Result<Self> {
        let peer = name(&stream.peer_addr()?);
        let fd = AsyncFd::watch(stream, reactor, Ready::WRITE)
            .map_err(|not| IoFailure::wrap("watching the connection to", &peer, not.error))?;
        Ok(Self { fd, peer })
    }

    /// Gives the connection to std, still non-blocking.
    pub fn into_std(self) -> std::os::unix::net::UnixStream {
        self.fd.into_inner().into()
    }

    /// The peer's address. That of a client is nearly always without a name.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.fd.get_ref().peer_addr().map_err(self.failed("asking for the address of"))
    }

    /// This end's address.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.fd.get_ref().local_addr().map_err(self.failed("asking for this end of the connection to"))
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

    /// Adds operation and peer to an error.
    fn failed(&self, operation: &'static str) -> impl FnOnce(io::Error) -> io::Error + '_ {
        move |error| IoFailure::wrap(operation, &self.peer, error)
    }
}

impl Split for UnixStream {}

impl Duplex for UnixStream {
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.fd.poll_read::<false>(cx, buf).map_err(self.failed("reading from"))
    }

    fn poll_read_vectored(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.fd.poll_read_vectored::<false>(cx, bufs).map_err(self.failed("reading from"))
    }

    #[cfg(any(feature = "tokio", feature = "hyper"))]
    fn poll_read_by(
        &self,
        cx: &mut Context<'_>,
        room: usize,
        mut read: impl FnMut(crate::foreign::Kernel<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        self.fd
            .poll_read_by::<false>(cx, room, |fd| read(crate::foreign::Kernel::Socket(fd)))
            .map_err(self.failed("reading from"))
    }

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

impl AsyncRead for UnixStream {
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

impl AsyncWrite for UnixStream {
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

impl AsFd for UnixStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl TryFrom<std::os::unix::net::UnixStream> for UnixStream {
    type Error = io::Error;

    fn try_from(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        Self::from_std(stream)
    }
}

impl TryFrom<OwnedFd> for UnixStream {
    type Error = io::Error;

    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        Self::from_std(fd.into())
    }
}

impl From<UnixStream> for OwnedFd {
    fn from(stream: UnixStream) -> Self {
        stream.fd.into_inner().into()
    }
}

impl fmt::Debug for UnixStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnixStream [to {}]", self.peer)
    }
}

// === UnixListener ===

/// A socket that accepts connections at a path.
///
/// The file at the path stays when the listener is dropped; `start_unix_server` takes care of it.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use evenloop_streams::UnixListener;
///
/// let listener = UnixListener::bind("/tmp/app.sock")?;
/// let (stream, _) = listener.accept().await?;
/// println!("{:?} came", stream.peer_addr()?);
/// # Ok(()) }
/// ```
#[must_use = "dropping it stops listening"]
pub struct UnixListener {
    fd: AsyncFd<mio::net::UnixListener>,
    /// For messages.
    local: Box<str>,
}

impl UnixListener {
    /// Listens at `path`, where nothing may be yet; on Linux, one that begins with a NUL byte is an abstract name.
    ///
    /// # Errors
    ///
    /// The kernel's reason, with the path; or there is no reactor here.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let reactor = Runtime::current_reactor("UnixListener::bind").map_err(io::Error::other)?;
        Self::bind_with(path.as_ref(), reactor)
    }

    /// As [`bind`](Self::bind), on `runtime`.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    pub fn bind_on(runtime: &Runtime, path: impl AsRef<Path>) -> io::Result<Self> {
        let reactor = runtime.reactor_for("UnixListener::bind_on").map_err(io::Error::other)?.clone();
        Self::bind_with(path.as_ref(), reactor)
    }

    fn bind_with(path: &Path, reactor: StdArc<dyn Reactor>) -> io::Result<Self> {
        let failed = |error| IoFailure::wrap("listening on", shown(path), error);
        let listener = address(path).and_then(|at| mio::net::UnixListener::bind_addr(&at)).map_err(failed)?;
        rustix::net::listen(&listener, BACKLOG).map_err(|error| failed(error.into()))?;
        Self::watch(listener, reactor).map_err(failed)
    }

    /// Takes over a listener of std's, and makes it non-blocking.
    ///
    /// # Errors
    ///
    /// It cannot be watched, or there is no reactor here.
    pub fn from_std(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        let reactor = Runtime::current_reactor("UnixListener::from_std").map_err(io::Error::other)?;
        listener.set_nonblocking(true)?;
        Self::watch(mio::net::UnixListener::from_std(listener), reactor)
    }

    fn watch(listener: mio::net::UnixListener, reactor: StdArc<dyn Reactor>) -> io::Result<Self> {
        let local = name(&listener.local_addr()?);
        Ok(Self { fd: AsyncFd::watch(listener, reactor, Ready::NOTHING)?, local })
    }

    /// Gives the listener to std, still non-blocking.
    pub fn into_std(self) -> std::os::unix::net::UnixListener {
        self.fd.into_inner().into()
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.fd.get_ref().local_addr()
    }

    /// Waits for the next connection. Several tasks may accept at once: each connection goes to one of them.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** No connection has been taken unless the future is ready.
    ///
    /// # Errors
    ///
    /// As [`TcpListener::accept`](crate::TcpListener::accept).
    pub async fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let accepted = self.fd.read_with(|listener| listener.accept()).await;
        self.accepted(accepted)
    }

    fn accepted(
        &self,
        accepted: io::Result<(mio::net::UnixStream, SocketAddr)>,
    ) -> io::Result<(UnixStream, SocketAddr)> {
        let (stream, peer) = accepted.map_err(|error| IoFailure::wrap("accepting on", &self.local, error))?;
        // A client rarely has a name, so the listener's tells more.
        let named = if peer.is_unnamed() { format!("client of {}", self.local).into() } else { name(&peer) };
        let fd = AsyncFd::watch(stream, self.fd.reactor().clone(), Ready::WRITE)
            .map_err(|not| IoFailure::wrap("watching the connection to", &named, not.error))?;
        Ok((UnixStream { fd, peer: named }, peer))
    }

    /// As [`accept`](Self::accept), in the owner's place: for whoever is the only one to accept.
    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<UnixStream>> {
        let accepted =
            ready!(self.fd.poll_with(Direction::Read, cx, |listener| listener.accept(), |_| false));
        Poll::Ready(self.accepted(accepted).map(|(stream, _)| stream))
    }

    /// The connections as they come. Never ends by itself.
    pub fn incoming(&mut self) -> Incoming<'_> {
        Incoming(self)
    }
}

impl AsFd for UnixListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl TryFrom<std::os::unix::net::UnixListener> for UnixListener {
    type Error = io::Error;

    fn try_from(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        Self::from_std(listener)
    }
}

impl TryFrom<OwnedFd> for UnixListener {
    type Error = io::Error;

    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        Self::from_std(fd.into())
    }
}

impl From<UnixListener> for OwnedFd {
    fn from(listener: UnixListener) -> Self {
        listener.fd.into_inner().into()
    }
}

impl fmt::Debug for UnixListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnixListener [on {}]", self.local)
    }
}

/// The connections that a [`UnixListener`] accepts, one after the other.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Incoming<'a>(&'a mut UnixListener);

impl Stream for Incoming<'_> {
    type Item = io::Result<UnixStream>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_accept(cx).map(Some)
    }
}
