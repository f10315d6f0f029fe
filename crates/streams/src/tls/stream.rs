//! A stream that speaks TLS through another one.

use super::info::TlsInfo;
use super::split::{TlsReadHalf, TlsWriteHalf, halves};
use evenloop_core::After;
use evenloop_core::Runtime;
use futures_io::{AsyncRead, AsyncWrite};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// A stream that speaks TLS through `S`. Made by [`TlsConnector::connect`](super::TlsConnector::connect) and
/// [`TlsAcceptor::accept`](super::TlsAcceptor::accept).
///
/// Reading ends where the peer said farewell; a connection that ends without it is an error, [`Truncated`]. What was written
/// is on its way after a flush. Closing says farewell and takes at most the shutdown time-out; dropping does not.
///
/// # Examples
///
/// ```no_run
/// # async fn example(connector: evenloop_streams::tls::TlsConnector) -> std::io::Result<()> {
/// use evenloop_streams::TcpStream;
///
/// let plain = TcpStream::connect_host("example.org", 443).await?;
/// let stream = connector.connect("example.org", plain).await?;
/// println!("{:?}, through {}", stream.info(), stream.get_ref().peer_addr()?);
/// # Ok(()) }
/// ```
#[must_use = "dropping it cuts the connection"]
pub struct TlsStream<S> {
    stream: futures_rustls::TlsStream<S>,
    shutdown: Duration,
    /// Bounds a close that has begun.
    overdue: Option<After>,
    closing: bool,
}

impl<S> TlsStream<S> {
    pub(super) fn new(stream: futures_rustls::TlsStream<S>, shutdown: Duration) -> Self {
        Self { stream, shutdown, overdue: None, closing: false }
    }

    pub(crate) fn shutdown_timeout(&self) -> Duration {
        self.shutdown
    }

    /// What was agreed on with the peer.
    pub fn info(&self) -> TlsInfo {
        let (_, common) = self.stream.get_ref();
        let server_name = match &self.stream {
            futures_rustls::TlsStream::Client(_) => None,
            futures_rustls::TlsStream::Server(server) => server.get_ref().1.server_name().map(str::to_owned),
        };
        TlsInfo {
            version: common.protocol_version(),
            cipher: common.negotiated_cipher_suite().map(|suite| suite.suite()),
            alpn: common.alpn_protocol().map(<[u8]>::to_vec),
            peer_certificates: common.peer_certificates().map(<[_]>::to_vec).unwrap_or_default(),
            server_name,
        }
    }

    /// The stream below. Reading from or writing to it by hand breaks the connection.
    pub fn get_ref(&self) -> &S {
        self.stream.get_ref().0
    }

    /// Takes the two directions apart, for two tasks or two owners.
    ///
    /// They share the keys, so each poll of a half locks for as long as it takes.
    pub fn into_split(self) -> (TlsReadHalf<S>, TlsWriteHalf<S>) {
        halves(self)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0)); // else it would be taken for the end
        }
        // L2
        Pin::new(&mut self.stream).poll_read(cx, buf).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), Truncated),
            _ => error,
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !std::mem::replace(&mut this.closing, true) {
            let timers = Runtime::current_timers("TlsStream::close").ok();
            this.overdue = timers.map(|timers| After::new(timers, this.shutdown)); // L1
        }
        if let Poll::Ready(closed) = Pin::new(&mut this.stream).poll_close(cx) {
            this.overdue = None;
            return Poll::Ready(closed);
        }
        match this.overdue.as_mut().is_some_and(|overdue| Pin::new(overdue).poll(cx).is_ready()) {
            true => {
                let message = format!("the peer has not taken the farewell within {:?}", this.shutdown);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
            }
            false => Poll::Pending,
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsStream [through {:?}]", self.get_ref())
    }
}

/// The connection ended without the peer's farewell, so more may have been on its way.
///
/// Lies inside an `io::Error` of the kind [`UnexpectedEof`](io::ErrorKind::UnexpectedEof). Some peers are careless; who knows
/// from the bytes themselves that they are complete may ignore it.
///
/// # Examples
///
/// ```
/// use evenloop_streams::tls::{TlsReader, Truncated};
///
/// /// All of it, or what came before somebody cut the connection.
/// async fn all(mut reader: TlsReader) -> std::io::Result<Vec<u8>> {
///     match reader.read_to_end().await {
///         Err(error) if Truncated::is(&error) => {
///             eprintln!("cut off: {error}");
///             Ok(reader.buffered().to_vec())
///         }
///         read => read,
///     }
/// }
/// # let _ = all;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

impl Truncated {
    /// Whether this is why a read failed.
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

impl fmt::Display for Truncated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection ended without the peer's TLS farewell (close_notify): it was cut")
    }
}

impl Error for Truncated {}
