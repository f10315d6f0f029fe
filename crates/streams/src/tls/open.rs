//! asyncio's readers and writers over TLS.

use super::connector::{TlsAcceptor, TlsConnector};
use super::split::{TlsReadHalf, TlsWriteHalf};
use super::stream::TlsStream;
use crate::reader::StreamReader;
use crate::server::{HandlerOutcome, Server, ServerConfig};
use crate::split::{OwnedReadHalf, OwnedWriteHalf};
use crate::tcp::{TcpListener, TcpStream};
use crate::writer::StreamWriter;
use futures_io::{AsyncRead, AsyncWrite};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A reader of a connection over TLS.
pub type TlsReader<S = Joined> = StreamReader<TlsReadHalf<S>>;

/// A writer of a connection over TLS. It sends in `drain` and `wait_closed` only, and `wait_closed` says farewell.
pub type TlsWriter<S = Joined> = StreamWriter<TlsWriteHalf<S>>;

/// Connects to `host` with TLS, whose certificate must be for that name, and answers asyncio's reader and writer.
///
/// # Cancel safety
///
/// **Cancel safe.** Dropping the future closes every socket it has opened.
///
/// # Errors
///
/// As [`open_connection`](crate::open_connection) and [`TlsConnector::connect`].
///
/// # Examples
///
/// ```
/// use evenloop_streams::tls::{TlsConnector, open_tls_connection};
///
/// async fn head(tls: &TlsConnector) -> std::io::Result<Vec<u8>> {
///     let (mut reader, mut writer) = open_tls_connection("example.org", 443, tls).await?;
///     writer.write(b"HEAD / HTTP/1.0\r\nHost: example.org\r\n\r\n")?;
///     writer.drain().await?;
///     reader.read_to_end().await
/// }
/// # let _ = head;
/// ```
pub async fn open_tls_connection(
    host: &str,
    port: u16,
    tls: &TlsConnector,
) -> io::Result<(TlsReader, TlsWriter)> {
    let (reader, writer) = crate::open_connection(host, port).await?;
    start_tls(reader, writer, tls, host).await
}

/// Serves TLS on `address`, as [`start_server`](crate::start_server) does TCP. A handler is called when the handshake is
/// over; one that fails is reported, and its connection closed.
///
/// # Errors
///
/// As [`start_server`](crate::start_server).
///
/// # Examples
///
/// ```
/// use evenloop_streams::tls::{TlsAcceptor, TlsReader, TlsWriter, start_tls_server};
///
/// async fn greet(_: TlsReader, mut writer: TlsWriter) -> std::io::Result<()> {
///     writer.write(b"hello, and nobody else has read it\n")?;
///     writer.wait_closed().await
/// }
///
/// fn serve(tls: &TlsAcceptor) -> std::io::Result<evenloop_streams::Server> {
///     start_tls_server(greet, ([0, 0, 0, 0], 8443).into(), tls)
/// }
/// # let _ = serve;
/// ```
pub fn start_tls_server<H, F>(handler: H, address: SocketAddr, tls: &TlsAcceptor) -> io::Result<Server>
where
    H: Fn(TlsReader, TlsWriter) -> F + 'static,
    F: Future<Output: HandlerOutcome> + 'static,
{
    ServerConfig::new().start_tls(handler, address, tls)
}

impl ServerConfig {
    /// Serves TLS on `address`: see [`start_tls_server`].
    ///
    /// # Errors
    ///
    /// As [`start_tls_server`].
    pub fn start_tls<H, F>(&self, handler: H, address: SocketAddr, tls: &TlsAcceptor) -> io::Result<Server>
    where
        H: Fn(TlsReader, TlsWriter) -> F + 'static,
        F: Future<Output: HandlerOutcome> + 'static,
    {
        self.start_tls_on([TcpListener::bind(address)?], handler, tls)
    }

    /// Serves TLS on listeners that are there already, as [`start_on`](Self::start_on).
    ///
    /// # Errors
    ///
    /// As [`start_on`](Self::start_on).
    pub fn start_tls_on<H, F>(
        &self,
        listeners: impl IntoIterator<Item = TcpListener>,
        handler: H,
        tls: &TlsAcceptor,
    ) -> io::Result<Server>
    where
        H: Fn(TlsReader, TlsWriter) -> F + 'static,
        F: Future<Output: HandlerOutcome> + 'static,
    {
        let (handler, tls) = (Rc::new(handler), tls.clone());
        let serve = move |reader: StreamReader, writer: StreamWriter| {
            let (handler, tls) = (handler.clone(), tls.clone());
            async move {
                let shaken = start_tls_as_server(reader, writer, &tls).await;
                let (reader, writer) = shaken.map_err(|error| error.to_string())?;
                handler(reader, writer).await.into_error().map_or(Ok(()), Err)
            }
        };
        self.start_on(listeners, serve)
    }
}

/// Goes over to TLS on a connection that is running, as the client; the server's certificate must be for `host`.
///
/// What is written and not yet sent is sent first, in the clear. What has come and is not yet taken from `reader` is taken
/// for TLS: nothing is lost, and nothing that came in the clear can pass for something secret. The new reader has the limit of
/// the old one.
///
/// # Cancel safety
///
/// **Not cancel safe:** dropping the future drops the connection, in the midst of a handshake.
///
/// # Errors
///
/// The stream failed, or as [`TlsConnector::connect`]. The connection is dropped then.
///
/// # Examples
///
/// ```
/// use evenloop_streams::tls::{TlsConnector, start_tls};
/// use evenloop_streams::{open_connection, ReadError};
///
/// /// A mail server begins in the clear, and goes over to TLS.
/// async fn greet(tls: &TlsConnector) -> Result<(), ReadError> {
///     let (mut reader, mut writer) = open_connection("mail.example.org", 587).await?;
///     reader.readline().await?;
///     writer.write(b"STARTTLS\r\n")?;
///     writer.drain().await?;
///     reader.readline().await?;
///     let (mut reader, mut writer) = start_tls(reader, writer, tls, "mail.example.org").await?;
///     writer.write(b"EHLO me\r\n")?;
///     writer.drain().await?;
///     println!("{} bytes", reader.readline().await?.len());
///     Ok(())
/// }
/// # let _ = greet;
/// ```
pub async fn start_tls<R, W>(
    reader: StreamReader<R>,
    writer: StreamWriter<W>,
    tls: &TlsConnector,
    host: &str,
) -> io::Result<(TlsReader<Joined<R, W>>, TlsWriter<Joined<R, W>>)>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let limit_bytes = reader.limit();
    let joined = Joined::drained(reader, writer).await?;
    Ok(pair(tls.connect(host, joined).await?, limit_bytes))
}

/// Goes over to TLS on a connection that is running, as the server: see [`start_tls`].
///
/// # Cancel safety
///
/// **Not cancel safe:** dropping the future drops the connection, in the midst of a handshake.
///
/// # Errors
///
/// As [`start_tls`].
pub async fn start_tls_as_server<R, W>(
    reader: StreamReader<R>,
    writer: StreamWriter<W>,
    tls: &TlsAcceptor,
) -> io::Result<(TlsReader<Joined<R, W>>, TlsWriter<Joined<R, W>>)>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let limit_bytes = reader.limit();
    let joined = Joined::drained(reader, writer).await?;
    Ok(pair(tls.accept(joined).await?, limit_bytes))
}

fn pair<S: AsyncRead + AsyncWrite + Unpin>(
    stream: TlsStream<S>,
    limit_bytes: usize,
) -> (TlsReader<S>, TlsWriter<S>) {
    let (read, write) = stream.into_split();
    let mut reader = StreamReader::new(read);
    reader.set_limit(limit_bytes);
    (reader, StreamWriter::new(write))
}

/// A reader and a writer as one stream, for TLS to go through.
pub struct Joined<R = OwnedReadHalf<TcpStream>, W = OwnedWriteHalf<TcpStream>> {
    /// With what it has buffered.
    reader: StreamReader<R>,
    writer: W,
}

impl<R, W: AsyncWrite + Unpin> Joined<R, W> {
    async fn drained(reader: StreamReader<R>, mut writer: StreamWriter<W>) -> io::Result<Self> {
        writer.set_write_buffer_limits(0, 0);
        writer.drain().await?;
        let (writer, unsent) = writer.into_parts();
        debug_assert!(unsent.is_empty(), "drained to the last byte");
        Ok(Self { reader, writer })
    }
}

impl<R: AsyncRead + Unpin, W: Unpin> AsyncRead for Joined<R, W> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl<R: Unpin, W: AsyncWrite + Unpin> AsyncWrite for Joined<R, W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_close(cx)
    }
}

impl<R: fmt::Debug, W: fmt::Debug> fmt::Debug for Joined<R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Joined [{:?}, {:?}]", self.reader, self.writer)
    }
}
