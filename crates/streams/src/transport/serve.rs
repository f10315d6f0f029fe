//! Servers whose connections get a protocol each.
//!
//! The servers are those of the streams: accepting, limits, back-off, and the three ways to end are theirs. The handler of a
//! connection puts its two halves together again and becomes the connection's task.

use super::connection::{Connection, Drive};
use super::create::wire_of;
use super::flow::HIGH;
use super::wire::AcceptedSocket;
use crate::protocol::IntoProtocol;
use crate::reader::StreamReader;
use crate::server::{Server, ServerConfig, UnixReader, UnixWriter};
use crate::split::{OwnedReadHalf, OwnedWriteHalf, Split};
use crate::tcp::TcpListener;
use crate::unix::UnixListener;
use crate::writer::StreamWriter;
use evenloop_core::Runtime;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

/// Serves TCP on `address`: `protocol` makes a protocol for each connection.
///
/// [`Server::close_clients`] closes each transport in order, [`Server::abort_clients`] drops its task: then
/// `connection_lost` is told that the connection was aborted. For options: [`ServerConfig::start_protocol`].
///
/// # Errors
///
/// The address cannot be listened on; or the runtime has no reactor or cannot spawn.
///
/// # Panics
///
/// Not here; a `protocol` that panics ends its own connection only.
///
/// # Examples
///
/// ```no_run
/// use evenloop_streams::{Protocol, Transport, create_server};
/// use std::cell::OnceCell;
///
/// /// An echo, one for each connection.
/// #[derive(Default)]
/// struct Echo(OnceCell<Transport>);
///
/// impl Protocol for Echo {
///     fn connection_made(&self, transport: Transport) {
///         let _ = self.0.set(transport);
///     }
///
///     fn data_received(&self, data: &[u8]) {
///         let _ = self.0.get().expect("connected").write(data);
///     }
/// }
///
/// # async fn example() -> std::io::Result<()> {
/// create_server(Echo::default, ([127, 0, 0, 1], 8888).into())?.serve_forever().await
/// # }
/// ```
pub fn create_server<P, K>(protocol: impl Fn() -> P + 'static, address: SocketAddr) -> io::Result<Server>
where
    P: IntoProtocol<K>,
    K: 'static,
{
    ServerConfig::new().start_protocol(protocol, address)
}

/// Serves the Unix socket at `path`, as [`create_server`] does TCP. What is done with the file at the path is as with
/// [`start_unix_server`](crate::start_unix_server).
///
/// # Errors
///
/// As [`start_unix_server`](crate::start_unix_server).
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use evenloop_streams::{Protocol, Transport, create_unix_server};
///
/// #[derive(Default)]
/// struct Greets;
///
/// impl Protocol for Greets {
///     fn connection_made(&self, transport: Transport) {
///         let _ = transport.write(b"hello\n");
///         transport.close();
///     }
///
///     fn data_received(&self, _: &[u8]) {}
/// }
///
/// let server = create_unix_server(Greets::default, "/tmp/greets.sock")?;
/// server.serve_forever().await?;
/// # Ok(()) }
/// ```
pub fn create_unix_server<P, K>(
    protocol: impl Fn() -> P + 'static,
    path: impl AsRef<Path>,
) -> io::Result<Server>
where
    P: IntoProtocol<K>,
    K: 'static,
{
    ServerConfig::new().start_unix_protocol(protocol, path)
}

/// Serves TLS on `address`, as [`create_server`] does TCP. A protocol is made when the handshake is over; one that fails is
/// reported, and its connection closed.
///
/// # Errors
///
/// As [`create_server`].
#[cfg(feature = "tls")]
pub fn create_tls_server<P, K>(
    protocol: impl Fn() -> P + 'static,
    address: SocketAddr,
    tls: &crate::tls::TlsAcceptor,
) -> io::Result<Server>
where
    P: IntoProtocol<K>,
    K: 'static,
{
    ServerConfig::new().start_tls_protocol(protocol, address, tls)
}

impl ServerConfig {
    /// Serves TCP on `address` with a protocol for each connection: see [`create_server`].
    ///
    /// # Errors
    ///
    /// As [`create_server`].
    pub fn start_protocol<P, K>(
        &self,
        protocol: impl Fn() -> P + 'static,
        address: SocketAddr,
    ) -> io::Result<Server>
    where
        P: IntoProtocol<K>,
        K: 'static,
    {
        self.start_protocol_on([TcpListener::bind(address)?], protocol)
    }

    /// Serves TCP on listeners that are there already, as [`start_on`](Self::start_on), with a protocol for each connection.
    ///
    /// # Errors
    ///
    /// As [`start_on`](Self::start_on).
    pub fn start_protocol_on<P, K>(
        &self,
        listeners: impl IntoIterator<Item = TcpListener>,
        protocol: impl Fn() -> P + 'static,
    ) -> io::Result<Server>
    where
        P: IntoProtocol<K>,
        K: 'static,
    {
        let protocol = Rc::new(protocol);
        self.start_on(listeners, move |reader: StreamReader, writer: StreamWriter| {
            serve(protocol.clone(), reunited(reader, writer))
        })
    }

    /// Serves the Unix socket at `path` with a protocol for each connection: see [`create_unix_server`].
    ///
    /// # Errors
    ///
    /// As [`create_unix_server`].
    pub fn start_unix_protocol<P, K>(
        &self,
        protocol: impl Fn() -> P + 'static,
        path: impl AsRef<Path>,
    ) -> io::Result<Server>
    where
        P: IntoProtocol<K>,
        K: 'static,
    {
        let protocol = Rc::new(protocol);
        let handler =
            move |reader: UnixReader, writer: UnixWriter| serve(protocol.clone(), reunited(reader, writer));
        self.start_unix(handler, path)
    }

    /// Serves Unix sockets on listeners that are there already, as [`start_unix_on`](Self::start_unix_on), with a protocol for
    /// each connection.
    ///
    /// # Errors
    ///
    /// As [`start_unix_on`](Self::start_unix_on).
    pub fn start_unix_protocol_on<P, K>(
        &self,
        listeners: impl IntoIterator<Item = UnixListener>,
        protocol: impl Fn() -> P + 'static,
    ) -> io::Result<Server>
    where
        P: IntoProtocol<K>,
        K: 'static,
    {
        let protocol = Rc::new(protocol);
        self.start_unix_on(listeners, move |reader: UnixReader, writer: UnixWriter| {
            serve(protocol.clone(), reunited(reader, writer))
        })
    }

    /// Serves TLS on `address` with a protocol for each connection: see [`create_tls_server`].
    ///
    /// # Errors
    ///
    /// As [`create_tls_server`].
    #[cfg(feature = "tls")]
    pub fn start_tls_protocol<P, K>(
        &self,
        protocol: impl Fn() -> P + 'static,
        address: SocketAddr,
        tls: &crate::tls::TlsAcceptor,
    ) -> io::Result<Server>
    where
        P: IntoProtocol<K>,
        K: 'static,
    {
        self.start_tls_protocol_on([TcpListener::bind(address)?], protocol, tls)
    }

    /// Serves TLS on listeners that are there already, as [`start_tls_on`](Self::start_tls_on), with a protocol for each
    /// connection.
    ///
    /// # Errors
    ///
    /// As [`start_on`](Self::start_on).
    #[cfg(feature = "tls")]
    pub fn start_tls_protocol_on<P, K>(
        &self,
        listeners: impl IntoIterator<Item = TcpListener>,
        protocol: impl Fn() -> P + 'static,
        tls: &crate::tls::TlsAcceptor,
    ) -> io::Result<Server>
    where
        P: IntoProtocol<K>,
        K: 'static,
    {
        let (protocol, tls) = (Rc::new(protocol), tls.clone());
        self.start_on(listeners, move |reader: StreamReader, writer: StreamWriter| {
            serve_tls(protocol.clone(), tls.clone(), reunited(reader, writer))
        })
    }
}

/// The stream of a connection that nobody has used yet.
fn reunited<S: Split>(reader: StreamReader<OwnedReadHalf<S>>, writer: StreamWriter<OwnedWriteHalf<S>>) -> S {
    let ((read, _), (write, _)) = (reader.into_parts(), writer.into_parts());
    read.reunite(write).expect("a server's handler gets the halves of one stream")
}

async fn serve<P, K>(protocol: Rc<impl Fn() -> P>, socket: impl AcceptedSocket) -> io::Result<()>
where
    P: IntoProtocol<K>,
{
    drive(&*protocol, wire_of(socket), HIGH)?.await;
    Ok(())
}

#[cfg(feature = "tls")]
async fn serve_tls<P, K>(
    protocol: Rc<impl Fn() -> P>,
    tls: crate::tls::TlsAcceptor,
    socket: impl AcceptedSocket,
) -> io::Result<()>
where
    P: IntoProtocol<K>,
{
    let mut wire = wire_of(socket);
    let stream = tls.accept(wire.io).await?;
    wire.info.tls = Some(stream.info());
    let wire = super::Wire::of_tls(stream, wire.info);
    drive(&*protocol, wire, super::flow::HIGH_TLS)?.await;
    Ok(())
}

fn drive<P, K>(protocol: &impl Fn() -> P, wire: super::Wire, high_bytes: usize) -> io::Result<Drive>
where
    P: IntoProtocol<K>,
{
    let host = Runtime::current_spawn("create_server").map_err(io::Error::other)?;
    let protocol = Rc::new(protocol()).into_protocol();
    Ok(Drive::served(Connection::new(wire, protocol, host, high_bytes)))
}
