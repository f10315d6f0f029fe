//! What was agreed on with the peer.

use futures_rustls::pki_types::CertificateDer;
use futures_rustls::rustls::{CipherSuite, ProtocolVersion};
use std::fmt;

/// What a handshake agreed on.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// TLS 1.2 or 1.3.
    pub version: Option<ProtocolVersion>,
    /// How it is encrypted.
    pub cipher: Option<CipherSuite>,
    /// The protocol that both sides chose from what was offered (ALPN).
    pub alpn: Option<Vec<u8>>,
    /// The peer's certificate, then those that vouch for it. Empty if it showed none, as clients mostly.
    pub peer_certificates: Vec<CertificateDer<'static>>,
    /// The name that the client asked for; known to the server.
    pub server_name: Option<String>,
}

/// The certificates by number: their bytes tell nobody anything.
impl fmt::Debug for TlsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, cipher, alpn, peer_certificates, server_name } = self;
        f.debug_struct("TlsInfo")
            .field("version", version)
            .field("cipher", cipher)
            .field("alpn", &alpn.as_ref().map(|alpn| String::from_utf8_lossy(alpn)))
            .field("peer_certificates", &peer_certificates.len())
            .field("server_name", server_name)
            .finish()
    }
}
