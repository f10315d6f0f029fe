//! What is known about a connection beside its bytes: asyncio's `get_extra_info`, with types.

use crate::unix::shown;
use std::fmt;
use std::net;
use std::os::unix;
use std::path::{Path, PathBuf};

/// What is known about a connection. asyncio's `get_extra_info`, with a field for each name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExtraInfo {
    /// The peer's address; `None` for what is no socket.
    pub peername: Option<Address>,
    /// This end's address; `None` for what is no socket.
    pub sockname: Option<Address>,
    /// What was agreed on with the peer; `None` without TLS.
    #[cfg(feature = "tls")]
    pub tls: Option<crate::tls::TlsInfo>,
}

/// The address of a socket, of whatever family.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address and a port.
    Inet(net::SocketAddr),
    /// The path of a Unix socket, an abstract name after a NUL byte; `None` if it has none, as clients mostly.
    Unix(Option<PathBuf>),
}

impl Address {
    pub(crate) fn from_unix(address: unix::net::SocketAddr) -> Self {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(name) = std::os::linux::net::SocketAddrExt::as_abstract_name(&address) {
            return Self::Unix(Some(crate::unix::abstract_path(name)));
        }
        Self::Unix(address.as_pathname().map(Path::to_owned))
    }

    /// The IP address and port, if it is one.
    pub fn inet(&self) -> Option<net::SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl From<net::SocketAddr> for Address {
    fn from(address: net::SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Self::Unix(Some(path.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(Some(path)) => f.write_str(&shown(path)),
            Self::Unix(None) => f.write_str("(unnamed)"),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
