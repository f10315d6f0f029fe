//! Bytes over TCP, Unix sockets and any other descriptor, in asyncio's words.
//!
//! Two layers. Below, the raw types ([`TcpStream`], [`TcpListener`], [`UnixStream`], [`AsyncFd`], …): a descriptor and
//! what is known about its readiness; each call is at most one system call more than the work itself, and they implement
//! the `futures-io` traits. Above, asyncio's [`StreamReader`] and [`StreamWriter`], around any reader and writer, and its [`open_connection`]
//! and [`start_server`].
//!
//! A byte's journey: the reader asks its buffer first, which costs no system call; then it reads without blocking; only
//! then does it wait. Bytes leave the kernel only into the buffer, and the buffer only in the statement that returns
//! them, so dropping any read future loses nothing.
//!
//! Codecs are not ours. Those for futures-io (`asynchronous-codec`) work on the streams and on a [`StreamReader`], which hands
//! on what it has buffered first; with the feature `tokio`, those of `tokio_util::codec` work on the streams.
//!
//! | module     | holds                                                                        |
//! |------------|------------------------------------------------------------------------------|
//! | [`reactor`] | the innermost park: one wait for every descriptor, and for other threads     |
//! | `async_fd` | a descriptor with its readiness; everything else stands on it                |
//! | [`tcp`], [`unix`] | streams and listeners                                                 |
//! | `listen`   | how a TCP listener is to be made                                             |
//! | [`pipe`], `datagram` | the ends of pipes; UDP and Unix datagrams                        |
//! | `split`    | the two halves of a stream                                                   |
//! | `buffer`   | bytes that were received and not yet taken; knows no descriptor              |
//! | `reader`, `writer` | asyncio's calls, around any `AsyncRead` and `AsyncWrite`             |
//! | `sendfile` | files into streams, without a copy through the program                     |
//! | `resolve`, `connect` | names, staggered attempts, `open_connection`                      |
//! | `server`   | accepting, a task for each connection, three ways to end                     |
//! | `sock`     | asyncio's low-level calls on any descriptor                                  |
//! | `protocol`, `transport` | connections that run by themselves and call a protocol            |
//! | [`process`] | child processes: their pipes, their end, signals to them                    |
//! | `tls`      | TLS around any stream (feature `tls`)                                        |
//! | `signal`   | signals as streams and as handlers (feature `signal`)                        |
//! | `foreign`, `tokio`, `hyper` | the traits of these crates on the streams (features of these names) |
//! | `error`    | what a failed call was doing, and with whom                                  |
//!
//! What this crate does not know: who runs its futures, and what time it is. It finds both in
//! [`Runtime`](evenloop_core::Runtime), or is given them.

#![deny(unsafe_code)]
#![doc(test(attr(allow(unused), deny(unused_must_use))))]

/// What the README shows is run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod reactor;

mod async_fd;

pub mod tcp;

pub mod unix;

pub mod pipe;

mod datagram;

mod split;

mod buffer;

mod reader;

mod writer;

mod sendfile;

mod off_loop;

mod resolve;

mod connect;

mod listen;

mod server;

mod signal_kind;

mod sock;

mod protocol;

mod transport;

pub mod process;

#[cfg(feature = "tls")]
pub mod tls;

#[cfg(feature = "signal")]
pub mod signal;

#[cfg(any(feature = "hyper", feature = "tokio"))]
mod foreign;

#[cfg(feature = "tokio")]
mod tokio;

#[cfg(feature = "hyper")]
mod hyper;

mod error;

pub use async_fd::{AsyncFd, NotWatched};
pub use connect::{ConnectFailures, open_connection, open_unix_connection};
pub use datagram::{UdpSocket, UnixDatagram};
pub use error::{IncompleteRead, IoFailure, LimitOverrun, ReadError};
pub use listen::ListenConfig;
pub use protocol::{
    AnyProtocol, BufferedKind, BufferedProtocol, DatagramProtocol, IntoProtocol, Protocol, StreamingKind,
};
pub use reactor::{GuestDriver, ReactorDriver, ReactorHandle, Turned, guest};
pub use reader::{Chunks, Lines, Reading, StreamReader};
pub use resolve::lookup_host;
pub use sendfile::{SendFile, SendFileFailed, TakesFiles, sendfile};
pub use server::{
    HandlerOutcome, Server, ServerConfig, UnixReader, UnixWriter, WaitClosed, start_server, start_unix_server,
};
pub use signal_kind::SignalKind;
pub use split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
pub use tcp::{TcpListener, TcpStream};
pub use transport::{
    AcceptedSocket, Address, DatagramTransport, ExtraInfo, Transport, connect_accepted_socket,
    connect_datagram_socket, connect_read_pipe, connect_stream, connect_write_pipe, create_connection,
    create_datagram_endpoint, create_server, create_unix_connection, create_unix_server,
};
pub use unix::{UnixListener, UnixStream};
pub use writer::{Draining, StreamWriter};
