//! Connections whose protocol is called: by name, by path, and around what is connected already.

use super::connection::{Connection, Drive};
use super::flow::HIGH;
use super::wire::AcceptedSocket;
use super::{Transport, Wire};
use crate::protocol::IntoProtocol;
use crate::tcp::TcpStream;
use crate::unix::UnixStream;
use evenloop_core::shim::StdArc;
use evenloop_core::{Runtime, Spawn};
use futures_io::{AsyncRead, AsyncWrite};
use std::io;
use std::path::Path;
use std::rc::Rc;

/// Connects to `host`, a name or an address, and has a new protocol serve the connection. Answers when its
/// `connection_made` has returned. Small writes are sent at once (`TCP_NODELAY`), as asyncio does.
///
/// # Cancel safety
///
/// **Cancel safe.** Dropping the future closes every socket it has opened; the protocol has not been made then.
///
/// # Errors
///
/// As [`TcpStream::connect_host`]; or the runtime cannot spawn on this thread.
///
/// # Examples
///
/// ```no_run
/// use evenloop_streams::{Protocol, Transport, create_connection};
///
/// struct Prints;
///
/// impl Protocol for Prints {
///     fn connection_made(&self, transport: Transport) {
///         let _ = transport.write(b"hello\n");
///     }
///
///     fn data_received(&self, data: &[u8]) {
///         println!("{}", String::from_utf8_lossy(data));
///     }
/// }
///
/// # async fn example() -> std::io::Result<()> {
/// let (transport, _protocol) = create_connection(|| Prints, "localhost", 8888).await?;
/// # Ok(()) }
/// ```
pub async fn create_connection<P, K>(
    protocol: impl FnOnce() -> P,
    host: &str,
    port: u16,
) -> io::Result<(Transport, Rc<P>)>
where
    P: IntoProtocol<K>,
{
    let spawn = Runtime::current_spawn("create_connection").map_err(io::Error::other)?;
    let stream = TcpStream::connect_host(host, port).await?;
    stream.set_nodelay(true)?;
    start(protocol, wire_of(stream), spawn, HIGH)
}

/// Connects to the Unix socket at `path`, as [`create_connection`] does to a host.
///
/// # Cancel safety
///
/// **Cancel safe.** Dropping the future closes the socket; the protocol has not been made then.
///
/// # Errors
///
/// As [`UnixStream::connect`]; or the runtime cannot spawn on this thread.
///
/// # Examples
///
/// ```no_run
/// use evenloop_streams::{Protocol, create_unix_connection};
///
/// struct Prints;
///
/// impl Protocol for Prints {
///     fn data_received(&self, data: &[u8]) {
///         println!("{}", String::from_utf8_lossy(data));
///     }
/// }
///
/// # async fn example() -> std::io::Result<()> {
/// let (transport, _protocol) = create_unix_connection(|| Prints, "/run/service.sock").await?;
/// transport.write(b"status\n")?;
/// # Ok(()) }
/// ```
pub async fn create_unix_connection<P, K>(
    protocol: impl FnOnce() -> P,
    path: impl AsRef<Path>,
) -> io::Result<(Transport, Rc<P>)>
where
    P: IntoProtocol<K>,
{
    let spawn = Runtime::current_spawn("create_unix_connection").map_err(io::Error::other)?;
    let stream = UnixStream::connect(path).await?;
    start(protocol, wire_of(stream), spawn, HIGH)
}

/// Has a new protocol serve a socket that is connected: one that was accepted elsewhere, or half of a pair.
///
/// # Errors
///
/// The runtime cannot spawn on this thread. The socket is closed then.
///
/// # Examples
///
/// ```no_run
/// use evenloop_streams::{Protocol, UnixStream, connect_accepted_socket};
///
/// struct Prints;
///
/// impl Protocol for Prints {
///     fn data_received(&self, data: &[u8]) {
///         println!("{}", String::from_utf8_lossy(data));
///     }
/// }
///
/// # fn example() -> std::io::Result<()> {
/// let (ours, theirs) = UnixStream::pair()?;
/// let (transport, _protocol) = connect_accepted_socket(|| Prints, ours)?;
/// # let _ = (transport, theirs);
/// # Ok(()) }
/// ```
pub fn connect_accepted_socket<P, K>(
    protocol: impl FnOnce() -> P,
    socket: impl AcceptedSocket,
) -> io::Result<(Transport, Rc<P>)>
where
    P: IntoProtocol<K>,
{
    let spawn = Runtime::current_spawn("connect_accepted_socket").map_err(io::Error::other)?;
    start(protocol, wire_of(socket), spawn, HIGH)
}

/// Has a new protocol serve any stream: one in memory, one of another crate's. asyncio has no such call.
///
/// [`Transport::close`] closes the stream when everything is sent, and takes as long as that does: TLS over a Unix socket, say,
/// says its farewell. [`Transport::write_eof`] closes it too, and reads on.
///
/// # Errors
///
/// The runtime cannot spawn on this thread. The stream is dropped then.
pub fn connect_stream<P, K>(
    protocol: impl FnOnce() -> P,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
) -> io::Result<(Transport, Rc<P>)>
where
    P: IntoProtocol<K>,
{
    let spawn = Runtime::current_spawn("connect_stream").map_err(io::Error::other)?;
    start(protocol, Wire::foreign(stream), spawn, HIGH)
}

/// Connects to `host` with TLS, whose certificate must be for that name, and has a new protocol serve the connection.
/// Answers when the handshake is over and the protocol's `connection_made` has returned.
///
/// # Cancel safety
///
/// **Cancel safe.** Dropping the future closes every socket it has opened; the protocol has not been made then.
///
/// # Errors
///
/// As [`create_connection`] and [`TlsConnector::connect`](crate::tls::TlsConnector::connect).
#[cfg(feature = "tls")]
pub async fn create_tls_connection<P, K>(
    protocol: impl FnOnce() -> P,
    host: &str,
    port: u16,
    tls: &crate::tls::TlsConnector,
) -> io::Result<(Transport, Rc<P>)>
where
    P: IntoProtocol<K>,
{
    let spawn = Runtime::current_spawn("create_tls_connection").map_err(io::Error::other)?;
    let stream = TcpStream::connect_host(host, port).await?;
    stream.set_nodelay(true)?;
    let mut wire = wire_of(stream);
    let stream = tls.connect(host, wire.io).await?;
    wire.info.tls = Some(stream.info());
    let wire = Wire::of_tls(stream, wire.info);
    start(protocol, wire, spawn, super::flow::HIGH_TLS)
}

pub(super) fn wire_of(socket: impl AcceptedSocket) -> Wire {
    socket.into_wire()
}

/// Makes the protocol and the connection, spawns its task and tells the protocol.
pub(super) fn start<P, K>(
    protocol: impl FnOnce() -> P,
    wire: Wire,
    host: StdArc<dyn Spawn>,
    high_bytes: usize,
) -> io::Result<(Transport, Rc<P>)>
where
    P: IntoProtocol<K>,
{
    let protocol = Rc::new(protocol());
    let connection = Connection::new(wire, protocol.clone().into_protocol(), host.clone(), high_bytes);
    // Spawned first: the task does not run before this returns, and without it nothing must be told.
    let drive = Box::pin(Drive::made(connection.clone()));
    if let Err(not) = host.spawn_local(drive) {
        connection.forget();
        return Err(io::Error::other(format!("not spawned: {}", not.why)));
    }
    connection.made();
    Ok((Transport(connection), protocol))
}
