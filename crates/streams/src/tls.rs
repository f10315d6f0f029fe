//! TLS around any stream: connect, accept, or go over to it on a connection that is running. Through rustls.
//!
//! Who is trusted, which certificate is shown, and which protocols are offered (ALPN) is said in rustls' own configurations,
//! which this module re-exports ([`rustls`], [`pki_types`]); it adds what rustls leaves to others: time-outs, the halves of a
//! stream, and asyncio's calls.
//!
//! | to                                | with streams                                   | with a protocol                |
//! |-----------------------------------|------------------------------------------------|--------------------------------|
//! | connect                           | [`open_tls_connection`]                        | [`create_tls_connection`]      |
//! | serve                             | [`start_tls_server`]                           | [`create_tls_server`]          |
//! | go over to TLS on a live connection | [`start_tls`], [`start_tls_as_server`]       | [`Transport::start_tls`], …    |
//! | wrap any stream                   | [`TlsConnector::connect`], [`TlsAcceptor::accept`] | [`connect_stream`]         |
//!
//! L1. A handshake takes at most 60 s, and closing at most 30 s, unless other times are set; without timers there is no limit.
//! L2. The end of the stream is told only if the peer said farewell (`close_notify`). A connection that ends without it was
//!     cut, maybe by a stranger: that is [`Truncated`], an error.
//! L3. Closing says farewell. Dropping does not, so the peer sees [`Truncated`].
//!
//! [`Transport::start_tls`]: crate::Transport::start_tls
//! [`connect_stream`]: crate::connect_stream

mod connector;

mod stream;

mod split;

mod info;

mod open;

pub use crate::transport::{create_tls_connection, create_tls_server};
pub use connector::{TlsAcceptor, TlsConnector, error_of};
pub use futures_rustls::{pki_types, rustls};
pub use info::TlsInfo;
pub use open::{
    Joined, TlsReader, TlsWriter, open_tls_connection, start_tls, start_tls_as_server, start_tls_server,
};
pub use split::{TlsReadHalf, TlsWriteHalf};
pub use stream::{TlsStream, Truncated};
