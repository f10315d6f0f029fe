//! The two sides of a handshake, with their time-outs.

use super::stream::TlsStream;
use crate::error::IoFailure;
use evenloop_core::After;
use evenloop_core::Runtime;
use evenloop_core::shim::StdArc;
use futures_io::{AsyncRead, AsyncWrite};
use futures_rustls::pki_types::ServerName;
use futures_rustls::rustls::{self, ClientConfig, ServerConfig};
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

/// asyncio's limits (L1).
const HANDSHAKE: Duration = Duration::from_secs(60);
const SHUTDOWN: Duration = Duration::from_secs(30);

/// Makes connections to servers that speak TLS. Cheap to clone.
///
/// # Examples
///
/// ```no_run
/// use evenloop_streams::tls::{TlsConnector, open_tls_connection, pki_types, rustls};
/// use pki_types::pem::PemObject;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut roots = rustls::RootCertStore::empty();
/// for root in pki_types::CertificateDer::pem_file_iter("/etc/ssl/certs/ca-certificates.crt")? {
///     roots.add(root?)?;
/// }
/// let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
/// config.alpn_protocols = vec![b"http/1.1".to_vec()];
///
/// let tls = TlsConnector::new(config);
/// let (mut reader, mut writer) = open_tls_connection("example.org", 443, &tls).await?;
/// println!("{:?}", reader.get_ref().info());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TlsConnector {
    config: StdArc<ClientConfig>,
    limits: Limits,
}

/// Takes connections of clients that speak TLS. Cheap to clone.
///
/// # Examples
///
/// ```no_run
/// use evenloop_streams::tls::{TlsAcceptor, pki_types, rustls, start_tls_server};
/// use pki_types::pem::PemObject;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let certificates =
///     pki_types::CertificateDer::pem_file_iter("server.pem")?.collect::<Result<Vec<_>, _>>()?;
/// let key = pki_types::PrivateKeyDer::from_pem_file("server.key")?;
/// let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key)?;
///
/// let server = start_tls_server(
///     async |mut reader, mut writer| {
///         writer.write(&reader.readline().await?)?;
///         writer.wait_closed().await
///     },
///     ([127, 0, 0, 1], 8443).into(),
///     &TlsAcceptor::new(config),
/// )?;
/// server.serve_forever().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TlsAcceptor {
    config: StdArc<ServerConfig>,
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    handshake: Duration,
    shutdown: Duration,
}

impl Limits {
    const DEFAULT: Self = Self { handshake: HANDSHAKE, shutdown: SHUTDOWN };
}

impl TlsConnector {
    /// Connects as `config` says.
    pub fn new(config: impl Into<StdArc<ClientConfig>>) -> Self {
        Self { config: config.into(), limits: Limits::DEFAULT }
    }

    /// How long a handshake may take; 60 s unless set.
    #[must_use = "the changed connector comes back"]
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.limits.handshake = limit;
        self
    }

    /// How long closing may take; 30 s unless set.
    #[must_use = "the changed connector comes back"]
    pub fn shutdown_timeout(mut self, limit: Duration) -> Self {
        self.limits.shutdown = limit;
        self
    }

    /// Speaks TLS through `stream`, to a server whose certificate must be for `host`: a name or an IP address.
    ///
    /// # Cancel safety
    ///
    /// **Not cancel safe:** dropping the future drops `stream`, in the midst of a handshake.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](io::ErrorKind::TimedOut) after the handshake time-out. The handshake failed: see [`error_of`] for rustls'
    /// reason. `host` is no name. `stream` is dropped then.
    pub async fn connect<S>(&self, host: &str, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let failed = |error| IoFailure::wrap("the TLS handshake with", host, error);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let shaking = futures_rustls::TlsConnector::from(self.config.clone()).connect(name, stream);
        let shaken = within(self.limits.handshake, shaking).await.map_err(failed)?;
        Ok(TlsStream::new(shaken.into(), self.limits.shutdown))
    }
}

impl TlsAcceptor {
    /// Accepts as `config` says.
    pub fn new(config: impl Into<StdArc<ServerConfig>>) -> Self {
        Self { config: config.into(), limits: Limits::DEFAULT }
    }

    /// How long a handshake may take; 60 s unless set.
    #[must_use = "the changed acceptor comes back"]
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.limits.handshake = limit;
        self
    }

    /// How long closing may take; 30 s unless set.
    #[must_use = "the changed acceptor comes back"]
    pub fn shutdown_timeout(mut self, limit: Duration) -> Self {
        self.limits.shutdown = limit;
        self
    }

    /// Speaks TLS through `stream`, to a client.
    ///
    /// # Cancel safety
    ///
    /// **Not cancel safe:** dropping the future drops `stream`, in the midst of a handshake.
    ///
    /// # Errors
    ///
    /// As [`TlsConnector::connect`].
    pub async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let shaking = futures_rustls::TlsAcceptor::from(self.config.clone()).accept(stream);
        let shaken = within(self.limits.handshake, shaking)
            .await
            .map_err(|error| IoFailure::wrap("the TLS handshake with", "a client", error))?;
        Ok(TlsStream::new(shaken.into(), self.limits.shutdown))
    }
}

/// Waits for the handshake, no longer than `limit`.
async fn within<T>(limit: Duration, shaking: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let timers = Runtime::current_timers("TlsConnector::connect").ok();
    let mut over = timers.map(|timers| After::new(timers, limit));
    let mut shaking = pin!(shaking);
    poll_fn(|cx| {
        if let Poll::Ready(shaken) = shaking.as_mut().poll(cx) {
            return Poll::Ready(shaken);
        }
        match over.as_mut().is_some_and(|over| Pin::new(over).poll(cx).is_ready()) {
            true => {
                let message = format!("the handshake has not ended within {limit:?}");
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
            }
            false => Poll::Pending,
        }
    })
    .await
}

/// rustls' own error inside `error`, if it comes from there: an expired certificate, one for another name, …
pub fn error_of(error: &io::Error) -> Option<&rustls::Error> {
    let mut inner: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = inner {
        let own = match error.downcast_ref::<io::Error>() {
            Some(error) => error.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => Some(error),
        };
        if let Some(found) = own.and_then(|own| own.downcast_ref()) {
            return Some(found);
        }
        inner = own.and_then(Error::source);
    }
    None
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsConnector [{:?}]", self.limits)
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsAcceptor [{:?}]", self.limits)
    }
}
