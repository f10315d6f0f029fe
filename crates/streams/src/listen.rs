//! How a TCP listener is to be made.

use crate::error::IoFailure;
use crate::tcp::{BACKLOG, TcpListener};
use evenloop_core::shim::StdArc;
use evenloop_core::{Reactor, Runtime};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use std::io;
use std::net::SocketAddr;

/// How a TCP listener is to be made. Makes any number of them.
///
/// An address whose connections are still ending can always be taken at once (`SO_REUSEADDR`).
///
/// # Examples
///
/// ```no_run
/// use evenloop_streams::{ListenConfig, ServerConfig, StreamReader, StreamWriter};
///
/// # async fn handler(_: StreamReader, _: StreamWriter) {}
/// # fn example() -> std::io::Result<()> {
/// let listen = ListenConfig::new().backlog(4096);
/// let both = [listen.listen("0.0.0.0:8080".parse().unwrap())?, listen.only_v6(true).listen("[::]:8080".parse().unwrap())?];
/// let server = ServerConfig::new().start_on(both, handler)?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "`listen` listens"]
#[doc(alias = "TcpSocket")]
pub struct ListenConfig {
    backlog: i32,
    reuse_port: bool,
    only_v6: Option<bool>,
}

impl ListenConfig {
    /// Room for 1,024 connections that wait to be accepted, an address of its own, and the system's way with IPv6.
    pub const fn new() -> Self {
        Self { backlog: BACKLOG, reuse_port: false, only_v6: None }
    }

    /// How many connections may wait to be accepted. The system has a limit of its own (`net.core.somaxconn`). asyncio has
    /// room for 100.
    pub const fn backlog(mut self, connections: u32) -> Self {
        self.backlog = if connections > i32::MAX as u32 { i32::MAX } else { connections as i32 };
        self
    }

    /// Whether other listeners that say the same may have the same address: the kernel spreads the connections over them
    /// (`SO_REUSEPORT`). For a loop on each processor.
    pub const fn reuse_port(mut self, reuse: bool) -> Self {
        self.reuse_port = reuse;
        self
    }

    /// Whether a listener on IPv6 takes no connections by IPv4. Listeners on `0.0.0.0` and `[::]` can have the same port only
    /// if this is so. asyncio's take none; if nothing is said here, the system decides (`net.ipv6.bindv6only`).
    pub const fn only_v6(mut self, only: bool) -> Self {
        self.only_v6 = Some(only);
        self
    }

    /// Listens on `address`; port 0 lets the kernel choose one.
    ///
    /// # Errors
    ///
    /// The kernel's reason, with the address; or there is no reactor here.
    pub fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let reactor = Runtime::current_reactor("ListenConfig::listen").map_err(io::Error::other)?;
        self.listen_with(address, reactor)
    }

    /// As [`listen`](Self::listen), on `runtime`.
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen).
    pub fn listen_on(&self, runtime: &Runtime, address: SocketAddr) -> io::Result<TcpListener> {
        let reactor = runtime.reactor_for("ListenConfig::listen_on").map_err(io::Error::other)?.clone();
        self.listen_with(address, reactor)
    }

    pub(crate) fn listen_with(
        &self,
        address: SocketAddr,
        reactor: StdArc<dyn Reactor>,
    ) -> io::Result<TcpListener> {
        TcpListener::watch(self.listen_std(address)?, reactor).map_err(failed(address))
    }

    /// As [`listen`](Self::listen), for no loop yet: whichever thread will accept hands it to [`TcpListener::from_std`]. It
    /// does not block.
    ///
    /// # Errors
    ///
    /// The kernel's reason, with the address.
    pub fn listen_std(&self, address: SocketAddr) -> io::Result<std::net::TcpListener> {
        self.listen_raw(address).map_err(|error| failed(address)(error.into()))
    }

    fn listen_raw(&self, address: SocketAddr) -> rustix::io::Result<std::net::TcpListener> {
        let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK; // T2 of the sockets
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if self.reuse_port {
            sockopt::set_socket_reuseport(&socket, true)?;
        }
        if let (Some(only), true) = (self.only_v6, address.is_ipv6()) {
            sockopt::set_ipv6_v6only(&socket, only)?;
        }
        bind(&socket, &address)?;
        listen(&socket, self.backlog)?;
        Ok(socket.into())
    }
}

fn failed(address: SocketAddr) -> impl FnOnce(io::Error) -> io::Error {
    move |error| IoFailure::wrap("listening on", address, error)
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self::new()
    }
}
