//! Transports: connections that run by themselves and call a [`Protocol`](crate::Protocol), as asyncio's do.
//!
//! They stand on the streams of this crate: a connection is one task that owns a stream, reads from it, and sends what its
//! handle could not send at once. The handle, [`Transport`], never waits.
//!
//! ```text
//!            close                    all is sent                   next pass
//! Open ──────────────► Closing ──────────────────────► Ending ─────────────────────► Lost
//!  │ reads, writes       │ sends what is left (TLS:       ▲  `connection_lost` is due    `connection_lost` was
//!  │                     │ says farewell)                 │  and was given its reason    called; all is let go
//!  │                     └── abort, failure, panic ───────┤
//!  └── abort, failure, a protocol that panics ────────────┘
//! ```
//!
//! | module       | holds                                                                        |
//! |--------------|------------------------------------------------------------------------------|
//! | `connection` | one connection: its state, and the task that moves it                        |
//! | `flow`       | the water marks: when to pause who writes; pure                              |
//! | `wire`       | any stream, as a connection holds it                                         |
//! | `extra`      | what is known about a connection beside its bytes                            |
//! | `create`     | connections: by name, by path, from what is there already                    |
//! | `serve`      | servers whose connections get a protocol each                                |
//! | `pipes`      | protocols on the ends of pipes, on terminals and other devices               |
//! | `datagram`   | the same for UDP                                                             |
//! | `upgrade`    | TLS on a connection that is running (feature `tls`)                          |
//!
//! Everything here stays on the thread of its loop; a host that moves tasks between threads cannot run it, and says so.

mod connection;

pub(crate) mod flow;

mod wire;

mod extra;

mod create;

mod serve;

mod pipes;

mod datagram;

#[cfg(feature = "tls")]
mod upgrade;

#[cfg(feature = "tls")]
pub use create::create_tls_connection;
pub use create::{connect_accepted_socket, connect_stream, create_connection, create_unix_connection};
pub use datagram::{DatagramTransport, connect_datagram_socket, create_datagram_endpoint};
pub use extra::{Address, ExtraInfo};
pub(crate) use pipes::nobody_reads;
pub use pipes::{connect_read_pipe, connect_write_pipe};
#[cfg(feature = "tls")]
pub use serve::create_tls_server;
pub use serve::{create_server, create_unix_server};
pub use wire::AcceptedSocket;

pub(crate) use wire::Wire;

use crate::protocol::{AnyProtocol, IntoProtocol};
use crate::sendfile::sendfile;
use connection::{Connection, ForFile};
use std::fmt;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// A connection that runs by itself and calls a protocol. Cheap to clone: clones are the same connection.
///
/// Dropping it changes nothing: the connection goes on. What ends it is [`close`](Self::close), [`abort`](Self::abort), the
/// peer, or the end of the loop.
///
/// Differs from asyncio: [`write`](Self::write) answers a failure or a misuse (asyncio drops the bytes, mostly in silence);
/// a connection that goes over to TLS keeps its transport.
///
/// # Examples
///
/// ```
/// use evenloop_streams::{Protocol, Transport};
///
/// /// Says hello, and is content.
/// struct Hello;
///
/// impl Protocol for Hello {
///     fn connection_made(&self, transport: Transport) {
///         let _ = transport.write(b"hello\n"); // a failure is told to `connection_lost` as well
///         println!("said to {:?}", transport.extra_info().peername);
///         transport.close();
///     }
///
///     fn data_received(&self, _: &[u8]) {}
/// }
/// ```
#[derive(Clone)]
pub struct Transport(Rc<Connection>);

impl Transport {
    /// Sends `bytes`, without waiting: what the kernel takes at once is sent, the rest is kept and sent by the connection's
    /// own task. If more is kept then than the high water mark, calls `pause_writing` before it returns.
    ///
    /// # Errors
    ///
    /// [`close`](Self::close), [`abort`](Self::abort) or [`write_eof`](Self::write_eof) was called, the connection is gone or
    /// goes over to TLS, or it fails now: then `connection_lost` is told too, so a protocol may leave this answer unread.
    /// Nothing is kept.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.write("write", &[bytes])
    }

    /// Sends all of `pieces`, one after the other, in one piece. Adds no newlines.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub fn writelines<B: AsRef<[u8]>>(&self, pieces: impl IntoIterator<Item = B>) -> io::Result<()> {
        let pieces: Vec<B> = pieces.into_iter().collect();
        let pieces: Vec<&[u8]> = pieces.iter().map(AsRef::as_ref).collect();
        self.0.write("writelines", &pieces)
    }

    /// Sends the end of the stream after what was written. Reading goes on.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) where [`can_write_eof`](Self::can_write_eof) is false; else as
    /// [`write`](Self::write), except that calling it twice is no error.
    pub fn write_eof(&self) -> io::Result<()> {
        self.0.write_eof()
    }

    /// Whether the end of the stream can be sent alone. Not so with TLS.
    pub fn can_write_eof(&self) -> bool {
        self.0.can_write_eof()
    }

    /// Ends the connection in order: stops reading, sends what is unsent, then calls `connection_lost(None)`. Calling it
    /// again does nothing.
    ///
    /// With TLS it says farewell and waits for the peer's, no longer than the shutdown time-out. A stream of
    /// [`connect_stream`]'s is closed as it closes itself, and nothing is waited for then.
    pub fn close(&self) {
        self.0.close();
    }

    /// Ends the connection now: gives up what is unsent, then calls `connection_lost(None)`.
    pub fn abort(&self) {
        self.0.end(None);
    }

    /// Whether the connection is on its way to its end, or there.
    pub fn is_closing(&self) -> bool {
        self.0.is_closing()
    }

    /// Stops reading: `data_received` is not called until [`resume_reading`](Self::resume_reading), nor is `eof_received`.
    /// Calling it again does nothing.
    ///
    /// The peer fills the kernel's buffers and then has to wait.
    pub fn pause_reading(&self) {
        self.0.pause_reading();
    }

    /// Reads again. Calling it again does nothing.
    pub fn resume_reading(&self) {
        self.0.resume_reading();
    }

    /// Whether bytes that come are read: not paused, not closing, not at the end of the stream.
    pub fn is_reading(&self) -> bool {
        self.0.is_reading()
    }

    /// How many bytes are written and not yet taken by the stream below.
    #[doc(alias = "get_write_buffer_size")]
    pub fn write_buffer_size(&self) -> usize {
        self.0.unsent_len()
    }

    /// The water marks in bytes, the low one first, as asyncio has it.
    #[doc(alias = "get_write_buffer_limits")]
    pub fn write_buffer_limits(&self) -> (usize, usize) {
        self.0.limits()
    }

    /// Sets the water marks. Without `high_bytes` it is four times the low one; without `low_bytes` it is a quarter of the
    /// high one; without both they are 64 KiB and 16 KiB again (with TLS 512 and 128).
    ///
    /// A high mark of 0 pauses whoever writes as soon as anything is unsent.
    ///
    /// # Panics
    ///
    /// `set_write_buffer_limits` needs a low mark no higher than the high one.
    pub fn set_write_buffer_limits(&self, high_bytes: Option<usize>, low_bytes: Option<usize>) {
        self.0.set_limits(high_bytes, low_bytes);
    }

    /// Gives the connection to another protocol, of either kind. Its `connection_made` is not called; whatever happens from
    /// now on, it is told.
    ///
    /// Bytes that the old protocol got and did not want can be given on with [`unread`](Self::unread). After the end of the
    /// connection this does nothing.
    pub fn set_protocol<P: IntoProtocol<K>, K>(&self, protocol: Rc<P>) {
        self.0.set_protocol(protocol.into_protocol());
    }

    /// The protocol; `None` after `connection_lost`.
    #[doc(alias = "get_protocol")]
    pub fn protocol(&self) -> Option<AnyProtocol> {
        self.0.protocol()
    }

    /// Puts bytes back in front of what is going to be received: the protocol gets them (again) before
    /// anything else, or TLS does if the connection goes over to it. asyncio has no such call.
    ///
    /// For a protocol that was given more than it understands, before [`set_protocol`](Self::set_protocol) or `start_tls`. At
    /// the end of the stream, and inside `eof_received`, the end is received again after them: the answer of that
    /// `eof_received` counts for nothing then.
    pub fn unread(&self, bytes: &[u8]) {
        self.0.unread(bytes);
    }

    /// Sends what was written so far, then `count_bytes` of `file` (or all there is) from `offset_bytes` on, and answers how
    /// many bytes of the file were sent: asyncio's `loop.sendfile`. Nothing else can be written meanwhile.
    ///
    /// The kernel moves the bytes where it can; else, as with TLS, they are copied.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** The connection goes on, and the file's position says how far the file got.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write); or the connection ends meanwhile, or as [`sendfile`](crate::sendfile()). A failure of the
    /// stream ends the connection; after one of the file it goes on.
    pub async fn sendfile(
        &self,
        file: &mut File,
        offset_bytes: u64,
        count_bytes: Option<u64>,
    ) -> io::Result<u64> {
        let mut side = ForFile::begin(&self.0)?;
        poll_fn(|cx| side.poll_drained(cx)).await?;
        sendfile(&mut side, file).offset(offset_bytes).count(count_bytes.unwrap_or(u64::MAX)).await
    }

    /// What is known about the connection: its addresses, its TLS.
    #[doc(alias = "get_extra_info")]
    pub fn extra_info(&self) -> ExtraInfo {
        self.0.extra_info()
    }

    /// A duplicate of the descriptor below, also below TLS: asyncio's `get_extra_info('socket')` and `('pipe')`. For options,
    /// which belong to the socket and not to the descriptor: whatever is set on the duplicate holds for the connection.
    ///
    /// Drop it soon: the peer sees no end as long as there is a duplicate.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported): the stream was given to [`connect_stream`].
    /// [`NotConnected`](io::ErrorKind::NotConnected): the connection is gone, or goes over to TLS. Or there are too many
    /// descriptors.
    ///
    /// # Examples
    ///
    /// ```
    /// use evenloop_streams::{Protocol, Transport};
    /// use std::net::TcpStream;
    ///
    /// /// Waits for what belongs together rather than sending small packets.
    /// struct Bulk;
    ///
    /// impl Protocol for Bulk {
    ///     fn connection_made(&self, transport: Transport) {
    ///         let socket = transport.descriptor().map(TcpStream::from);
    ///         let _ = socket.and_then(|socket| socket.set_nodelay(false));
    ///     }
    ///
    ///     fn data_received(&self, _: &[u8]) {}
    /// }
    /// ```
    #[doc(alias = "get_extra_info")]
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.0.descriptor()
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transport [{:?}]", self.0)
    }
}
