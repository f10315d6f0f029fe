//! asyncio's low-level calls, on any descriptor: `sock_recv` and its relatives, `add_reader` and `add_writer`.
//!
//! The `sock_*` calls are for sockets that no type of this crate stands for: made elsewhere, of another family, with other
//! options. Each makes its system call at once and waits only if it would block (asyncio's "try first"). Dropping one of their
//! futures takes it out of the line of those who wait, at once: nothing that comes later is lost to it.
//!
//! K1. The first poll makes the call, whatever is known about the descriptor; further ones make it when it is worth it.
//! K2. A future that waits is in the descriptor's line, and leaves it when it is ready or dropped.
//! K3. Each call spends budget before it is made, as every leaf does: one that would come too soon is put off and has done
//!     nothing.

mod callbacks;

use crate::async_fd::{AsyncFd, is_ready};
use crate::transport::Address;
#[cfg(any(target_os = "linux", target_os = "android"))]
use crate::unix::abstract_path;
use crate::unix::raw_address;
use evenloop_core::Direction;
use evenloop_core::budget::poll_spend;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketAddrUnix, SocketFlags, accept_with, connect,
    recv, recvfrom, send, sendto, sockopt,
};
use std::ffi::OsStr;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// Writing to who has gone is an error and no SIGPIPE. Where there is no such flag, std has every program ignore that signal.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: SendFlags = SendFlags::empty();

/// So many bytes are received in one call, whatever is asked for: no socket holds more, and nobody has room for everything.
const MOST: usize = 64 * 1024 * 1024;

impl<T: AsFd> AsyncFd<T> {
    /// Calls `call` at once, and again whenever it is worth it, until it answers something else than "would block" (K1).
    async fn try_first<R>(
        &self,
        direction: Direction,
        mut call: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        poll_fn(poll_spend).await; // K3
        loop {
            match call(self.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                done => return done,
            }
        }
        match direction {
            Direction::Read => self.read_with(call).await,
            Direction::Write => self.write_with(call).await,
        }
    }

    /// Receives at most `n` bytes, and 64 MiB in any case; none at the end of the stream.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Nothing has been taken unless the future is ready.
    ///
    /// # Errors
    ///
    /// What the kernel answered, or the reactor has ended.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use evenloop_streams::AsyncFd;
    /// # async fn example(socket: std::os::fd::OwnedFd) -> std::io::Result<()> {
    /// let socket = AsyncFd::new(socket)?;
    /// socket.sock_sendall(b"hello").await?;
    /// let answer = socket.sock_recv(100).await?;
    /// # Ok(()) }
    /// ```
    pub async fn sock_recv(&self, n: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; n.min(MOST)];
        let came = self.sock_recv_into(&mut bytes).await?;
        bytes.truncate(came);
        Ok(bytes)
    }

    /// Receives into `buf`, and answers how many bytes came; none at the end of the stream.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Nothing has been taken unless the future is ready.
    ///
    /// # Errors
    ///
    /// As [`sock_recv`](Self::sock_recv).
    pub async fn sock_recv_into(&self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0); // else it would be taken for the end
        }
        self.try_first(Direction::Read, |fd| Ok(recv(fd, &mut *buf, RecvFlags::empty())?.0)).await
    }

    /// Receives a datagram of at most `n` bytes, and 64 MiB in any case, and answers it and whom it came from. What is longer
    /// is cut.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Nothing has been taken unless the future is ready.
    ///
    /// # Errors
    ///
    /// As [`sock_recv`](Self::sock_recv).
    pub async fn sock_recvfrom(&self, n: usize) -> io::Result<(Vec<u8>, Option<Address>)> {
        let mut bytes = vec![0; n.min(MOST)];
        let (came, from) = self.sock_recvfrom_into(&mut bytes).await?;
        bytes.truncate(came);
        Ok((bytes, from))
    }

    /// Receives a datagram into `buf`, and answers its length and whom it came from.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Nothing has been taken unless the future is ready.
    ///
    /// # Errors
    ///
    /// As [`sock_recv`](Self::sock_recv).
    pub async fn sock_recvfrom_into(&self, buf: &mut [u8]) -> io::Result<(usize, Option<Address>)> {
        let call = |fd: &T| {
            let (came, _, from) = recvfrom(fd, &mut *buf, RecvFlags::empty())?;
            Ok((came, from.and_then(to_address)))
        };
        self.try_first(Direction::Read, call).await
    }

    /// Sends all of `bytes`.
    ///
    /// # Cancel safety
    ///
    /// **Not cancel safe:** how much has been sent by then is not known. Who has to know sends with
    /// [`write_with`](Self::write_with), which answers how much each call took.
    ///
    /// # Errors
    ///
    /// As [`sock_recv`](Self::sock_recv). How much has been sent by then is not known.
    pub async fn sock_sendall(&self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let sent = self.try_first(Direction::Write, |fd| Ok(send(fd, rest, NO_SIGNAL)?)).await?;
            rest = &rest[sent..];
        }
        Ok(())
    }

    /// Sends one datagram to `to`, and answers how many bytes it had.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Nothing has been sent unless the future is ready.
    ///
    /// # Errors
    ///
    /// As [`sock_recv`](Self::sock_recv); [`InvalidInput`](io::ErrorKind::InvalidInput) for an address without a path;
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if the queue of a Unix socket is full that this one is not connected to: the
    /// kernel tells only a connected sender when there is room again. asyncio tries again without pause there.
    pub async fn sock_sendto(&self, bytes: &[u8], to: impl Into<Address>) -> io::Result<usize> {
        let to = from_address(to.into())?;
        self.send_datagram(bytes, &to).await
    }

    /// As [`sock_sendto`](Self::sock_sendto), to a raw address. Whoever has no room waits for news of it as long as the kernel
    /// says that there is none here, that is, that its own buffer is full and not only the queue of a peer.
    pub(crate) async fn send_datagram(&self, bytes: &[u8], to: &SocketAddrAny) -> io::Result<usize> {
        let is_unix = to.address_family() == AddressFamily::UNIX;
        let send = |fd: &T| Ok(sendto(fd, bytes, NO_SIGNAL, to)?);
        let sent = self.try_first(Direction::Write, |fd| match send(fd) {
            // Tried again: there may have been room in the meantime.
            Err(error) if is_unix && is_full(&error) && reports_room(fd) => match send(fd) {
                Err(error) if is_full(&error) && reports_room(fd) => Ok(Err(error)),
                sent => sent.map(Ok),
            },
            sent => sent.map(Ok),
        });
        sent.await?
    }

    /// Connects the socket to `to`. asyncio resolves names here; [`lookup_host`](crate::lookup_host) does.
    ///
    /// # Cancel safety
    ///
    /// **Not cancel safe:** the kernel goes on connecting. Close the socket, or call again and wait for the rest.
    ///
    /// # Errors
    ///
    /// The kernel's reason; [`InvalidInput`](io::ErrorKind::InvalidInput) for an address without a path.
    pub async fn sock_connect(&self, to: impl Into<Address>) -> io::Result<()> {
        let to = from_address(to.into())?;
        poll_fn(poll_spend).await; // K3
        let begun = loop {
            match connect(self.get_ref(), &to) {
                Err(rustix::io::Errno::INTR) => {}
                begun => break begun,
            }
        };
        match begun {
            Ok(()) => return Ok(()),
            // Begun now, or by a call that was dropped.
            Err(rustix::io::Errno::INPROGRESS | rustix::io::Errno::ALREADY) => {}
            Err(error) => return Err(error.into()),
        }
        let done = |fd: &T| match sockopt::socket_error(fd)? {
            Err(error) => Err(error.into()),
            Ok(()) => match rustix::net::getpeername(fd) {
                // Awake too early: the connection is still on its way.
                Err(rustix::io::Errno::NOTCONN) => Err(io::ErrorKind::WouldBlock.into()),
                connected => connected.map(|_| ()).map_err(io::Error::from),
            },
        };
        self.write_with(done).await
    }

    /// Accepts a connection, and answers its socket, non-blocking and closed on exec, and whom it came from.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** No connection has been taken unless the future is ready.
    ///
    /// # Errors
    ///
    /// As [`TcpListener::accept`](crate::TcpListener::accept).
    pub async fn sock_accept(&self) -> io::Result<(OwnedFd, Option<Address>)> {
        let call = |fd: &T| {
            let socket = accept_with(fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
            let from = rustix::net::getpeername(&socket).ok().flatten().and_then(to_address);
            Ok((socket, from))
        };
        self.try_first(Direction::Read, call).await
    }
}

fn to_address(any: SocketAddrAny) -> Option<Address> {
    if any.address_family() == AddressFamily::UNIX {
        let unix = SocketAddrUnix::try_from(any).ok()?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(name) = unix.abstract_name().filter(|name| !name.is_empty()) {
            return Some(Address::Unix(Some(abstract_path(name))));
        }
        let path = unix.path().map(|path| PathBuf::from(OsStr::from_bytes(path.to_bytes())));
        return Some(Address::Unix(path));
    }
    SocketAddr::try_from(any).ok().map(Address::Inet)
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Whether the kernel takes this socket for one that can be written to: no event is going to come.
fn reports_room(fd: &impl AsFd) -> bool {
    is_ready(fd, Direction::Write).is_ok()
}

fn from_address(address: Address) -> io::Result<SocketAddrAny> {
    match address {
        Address::Inet(address) => Ok(address.into()),
        Address::Unix(Some(path)) => Ok(raw_address(&path)?.into()),
        Address::Unix(None) => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "this address has no path to send or connect to"))
        }
    }
}
