//! A protocol of either kind, as a transport holds it.

use super::{BufferedProtocol, Protocol};
use crate::transport::Transport;
use std::fmt;
use std::io;
use std::rc::Rc;

/// A [`Protocol`] or a [`BufferedProtocol`]. Clones are the same protocol.
#[derive(Clone)]
pub enum AnyProtocol {
    /// Is given its bytes.
    Streaming(Rc<dyn Protocol>),
    /// Gives the memory for its bytes.
    Buffered(Rc<dyn BufferedProtocol>),
}

/// Marks what is a [`Protocol`]. Inferred; nobody names it.
#[derive(Debug)]
pub enum StreamingKind {}

/// Marks what is a [`BufferedProtocol`]. Inferred; nobody names it.
#[derive(Debug)]
pub enum BufferedKind {}

/// What can serve a [`Transport`]: each [`Protocol`] and each [`BufferedProtocol`]. `Kind` is inferred.
pub trait IntoProtocol<Kind>: Sized + 'static {
    /// This protocol, its kind forgotten.
    fn into_protocol(self: Rc<Self>) -> AnyProtocol;
}

impl<P: Protocol> IntoProtocol<StreamingKind> for P {
    fn into_protocol(self: Rc<Self>) -> AnyProtocol {
        AnyProtocol::Streaming(self)
    }
}

impl<P: BufferedProtocol> IntoProtocol<BufferedKind> for P {
    fn into_protocol(self: Rc<Self>) -> AnyProtocol {
        AnyProtocol::Buffered(self)
    }
}

impl AnyProtocol {
    pub(crate) fn connection_made(&self, transport: Transport) {
        match self {
            Self::Streaming(protocol) => protocol.connection_made(transport),
            Self::Buffered(protocol) => protocol.connection_made(transport),
        }
    }

    pub(crate) fn eof_received(&self) -> bool {
        match self {
            Self::Streaming(protocol) => protocol.eof_received(),
            Self::Buffered(protocol) => protocol.eof_received(),
        }
    }

    pub(crate) fn connection_lost(&self, error: Option<io::Error>) {
        match self {
            Self::Streaming(protocol) => protocol.connection_lost(error),
            Self::Buffered(protocol) => protocol.connection_lost(error),
        }
    }

    pub(crate) fn pause_writing(&self) {
        match self {
            Self::Streaming(protocol) => protocol.pause_writing(),
            Self::Buffered(protocol) => protocol.pause_writing(),
        }
    }

    pub(crate) fn resume_writing(&self) {
        match self {
            Self::Streaming(protocol) => protocol.resume_writing(),
            Self::Buffered(protocol) => protocol.resume_writing(),
        }
    }
}

impl fmt::Debug for AnyProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Streaming(_) => "AnyProtocol [streaming]",
            Self::Buffered(_) => "AnyProtocol [buffered]",
        })
    }
}
