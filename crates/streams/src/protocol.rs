//! Protocols: what a connection calls when something happens to it, in asyncio's words.
//!
//! A protocol is an ordinary value of yours. A [`Transport`] owns the connection and calls
//! the protocol's methods, on the thread of the loop, one at a time for each connection:
//!
//! ```text
//! connection_made ── data_received* ── eof_received? ── connection_lost
//!                    pause_writing, resume_writing by turns, from the first write on
//! ```
//!
//! P1. `connection_made` comes first and once, `eof_received` at most once and after the last byte, `connection_lost`
//!     exactly once for each `connection_made`, and last.
//! P2. `connection_lost` comes in a later pass of the loop than what caused it, never inside a call of the protocol's own.
//!     (If the loop itself ends first, it comes while the loop drops its tasks.)
//! P3. `pause_writing` comes inside the `write` that goes above the high water mark, and `resume_writing` once the low one
//!     is reached; each once, by turns.
//! P4. A method that panics ends its own connection: the panic is told to whoever watches over the host,
//!     `connection_lost` gets an error, and nobody else notices.
//!
//! Methods take `&self`, because a write inside `data_received` may have to call `pause_writing` there and then: state
//! that changes lives in a `Cell` or a `RefCell`. Do not hold a borrow of it across a `write`.

mod any;

mod call;

pub use any::{AnyProtocol, BufferedKind, IntoProtocol, StreamingKind};

pub(crate) use call::{call, call_back, wake};

use crate::transport::{DatagramTransport, Transport};
use std::cell::RefMut;
use std::io;
use std::net::SocketAddr;

/// Is told what happens to a connection, and gets its bytes as they come.
///
/// # Examples
///
/// ```no_run
/// use evenloop_streams::{Protocol, Transport, create_server};
/// use std::cell::OnceCell;
///
/// #[derive(Default)]
/// struct Echo(OnceCell<Transport>);
///
/// impl Protocol for Echo {
///     fn connection_made(&self, transport: Transport) {
///         let _ = self.0.set(transport);
///     }
///
///     fn data_received(&self, data: &[u8]) {
///         let transport = self.0.get().expect("made before data");
///         let _ = transport.write(data); // a failure comes to `connection_lost` as well
///     }
/// }
///
/// # async fn example() -> std::io::Result<()> {
/// let server = create_server(Echo::default, ([127, 0, 0, 1], 8888).into())?;
/// server.serve_forever().await
/// # }
/// ```
pub trait Protocol: 'static {
    /// The connection is there. Keep the handle to write to it; clones are the same connection.
    fn connection_made(&self, transport: Transport) {
        let _ = transport;
    }

    /// Bytes came: at least one, at most 64 KiB. Where one piece ends and the next begins means nothing.
    fn data_received(&self, data: &[u8]);

    /// The peer sends no more. `true` keeps the connection for writing, `false` has the transport close it.
    ///
    /// A TLS connection cannot be kept: there the answer is not looked at.
    fn eof_received(&self) -> bool {
        false
    }

    /// The connection is gone. `None`: it ended in order, by either side; else why.
    fn connection_lost(&self, error: Option<io::Error>) {
        let _ = error;
    }

    /// More is unsent than the high water mark: write less, or nothing, until [`resume_writing`](Self::resume_writing).
    ///
    /// Called inside the `write` that went above the mark.
    fn pause_writing(&self) {}

    /// Writing may go on: no more is unsent than the low water mark.
    fn resume_writing(&self) {}
}

/// As [`Protocol`], with the memory for what comes given by the protocol: nothing is copied.
///
/// # Examples
///
/// ```
/// use evenloop_streams::BufferedProtocol;
/// use std::cell::{Cell, RefCell, RefMut};
///
/// /// Keeps a header of eight bytes.
/// #[derive(Default)]
/// struct Header {
///     bytes: RefCell<[u8; 8]>,
///     have: Cell<usize>,
/// }
///
/// impl BufferedProtocol for Header {
///     fn get_buffer(&self, _size_hint: usize) -> RefMut<'_, [u8]> {
///         // What comes beyond the header is not wanted here, and must go somewhere.
///         let free = if self.have.get() < 8 { self.have.get() } else { 0 };
///         RefMut::map(self.bytes.borrow_mut(), |bytes| &mut bytes[free..])
///     }
///
///     fn buffer_updated(&self, n: usize) {
///         self.have.set((self.have.get() + n).min(8));
///     }
/// }
/// ```
pub trait BufferedProtocol: 'static {
    /// The connection is there: see [`Protocol::connection_made`].
    fn connection_made(&self, transport: Transport) {
        let _ = transport;
    }

    /// Lends memory for what comes: at least one byte, else the connection is closed with an error. `size_hint` says how
    /// many bytes the transport would like to have room for.
    ///
    /// May be called again without a [`buffer_updated`](Self::buffer_updated) in between: then nothing had come.
    fn get_buffer(&self, size_hint: usize) -> RefMut<'_, [u8]>;

    /// So many bytes have come into the front of the buffer that was lent last: at least one, at most its length. Called
    /// once for each buffer that was filled, after the borrow has ended.
    fn buffer_updated(&self, n: usize);

    /// The peer sends no more: see [`Protocol::eof_received`].
    fn eof_received(&self) -> bool {
        false
    }

    /// The connection is gone: see [`Protocol::connection_lost`].
    fn connection_lost(&self, error: Option<io::Error>) {
        let _ = error;
    }

    /// More is unsent than the high water mark: see [`Protocol::pause_writing`].
    fn pause_writing(&self) {}

    /// Writing may go on: see [`Protocol::resume_writing`].
    fn resume_writing(&self) {}
}

/// Is told what happens to a UDP socket, and gets its datagrams as they come.
///
/// # Examples
///
/// ```no_run
/// use evenloop_streams::{DatagramProtocol, DatagramTransport, create_datagram_endpoint};
/// use std::{cell::OnceCell, net::SocketAddr};
///
/// #[derive(Default)]
/// struct Echo(OnceCell<DatagramTransport>);
///
/// impl DatagramProtocol for Echo {
///     fn connection_made(&self, transport: DatagramTransport) {
///         let _ = self.0.set(transport);
///     }
///
///     fn datagram_received(&self, data: &[u8], from: SocketAddr) {
///         let _ = self.0.get().expect("made before data").sendto(data, from);
///     }
/// }
///
/// # fn example() -> std::io::Result<()> {
/// let (transport, _) = create_datagram_endpoint(Echo::default, Some(([127, 0, 0, 1], 9999).into()), None)?;
/// # Ok(()) }
/// ```
pub trait DatagramProtocol: 'static {
    /// The socket is there. Keep the handle to send through it.
    fn connection_made(&self, transport: DatagramTransport) {
        let _ = transport;
    }

    /// A whole datagram came. An empty one is a datagram too.
    fn datagram_received(&self, data: &[u8], from: SocketAddr);

    /// The kernel told of an error: mostly that an earlier datagram was refused. The endpoint goes on.
    fn error_received(&self, error: io::Error) {
        let _ = error;
    }

    /// The socket is closed. `None`: as asked; else why.
    fn connection_lost(&self, error: Option<io::Error>) {
        let _ = error;
    }

    /// More is unsent than the high water mark: see [`Protocol::pause_writing`].
    fn pause_writing(&self) {}

    /// Sending may go on: see [`Protocol::resume_writing`].
    fn resume_writing(&self) {}
}
