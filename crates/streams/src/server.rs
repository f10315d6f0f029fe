//! asyncio's servers: a task that accepts, and a task for each connection.
//!
//! ```text
//!              close                  close_clients            abort_clients
//! Serving ─────────────► Closing ─ ─ ─ ─ ─ ─ ─ ─ ─► asked ─ ─ ─ ─ ─ ─ ─ ─ ─► dropped
//!    │ accepts            │ accepts no more,         each handler is            each handler is
//!    │                    │ connections go on        cancelled: it may catch    dropped where it is
//!    │                    ▼                          that and say farewell
//!    │            the last connection is gone: Closed, `wait_closed` ends
//! ```
//!
//! Two sets of children (core's [`ChildSet`]) are all the state there is: those that accept, and the connections.
//!
//! V1. A connection is in its set from before its handler's first poll until its handler is dropped, whichever way.
//! V2. `wait_closed` ends when both sets are empty. Whatever ends an acceptor closes the set of connections first, also if it
//!     was never polled: so nobody comes in any more.
//! V3. An error of `accept` never makes the loop spin: see `accept`.
//! V4. Who closes the server closes its listeners, and removes the file of a Unix socket if it is still the one that the
//!     server made, before `close` returns.
//!
//! | module        | holds                                                     |
//! |---------------|-----------------------------------------------------------|
//! | `config`      | how a server is to behave, and the ways to start one      |
//! | `accept`      | the tasks that accept: limit, back-off                    |
//! | `handler`     | a handler and what becomes of its outcome                 |
//! | `socket_file` | the file of a Unix socket                                 |

mod accept;
mod config;
mod handler;
mod socket_file;

pub use config::ServerConfig;
pub use handler::HandlerOutcome;

use self::accept::Shut;
use crate::reader::StreamReader;
use crate::split::{OwnedReadHalf, OwnedWriteHalf};
use crate::unix::UnixStream;
use crate::writer::StreamWriter;
use evenloop_core::cancel::CancelScope;
use evenloop_core::shim::{Mutex, StdArc};
use evenloop_core::watch::{self, On};
use evenloop_core::{After, ChildSet, FewerThan, Runtime};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

/// Serves TCP on `address`: each connection gets a task that runs `handler` with asyncio's reader and writer.
///
/// The handlers stay on this thread and need not be `Send`. For options, and for hosts that move tasks between threads:
/// [`ServerConfig`]. A handler that answers an error is reported, and its connection closed, as that of one that returns.
///
/// # Errors
///
/// The address cannot be listened on; or the runtime has no reactor or cannot spawn.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use evenloop_streams::{StreamReader, StreamWriter, start_server};
///
/// async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> std::io::Result<()> {
///     while let bytes @ [_, ..] = &reader.read(1024).await?[..] {
///         writer.write(bytes)?;
///         writer.drain().await?;
///     }
///     writer.wait_closed().await
/// }
///
/// let server = start_server(echo, ([127, 0, 0, 1], 8888).into())?;
/// server.serve_forever().await
/// # }
/// ```
#[doc(alias("bind", "serve"))]
pub fn start_server<H, F>(handler: H, address: SocketAddr) -> io::Result<Server>
where
    H: Fn(StreamReader, StreamWriter) -> F + 'static,
    F: Future<Output: HandlerOutcome> + 'static,
{
    ServerConfig::new().start(handler, address)
}

/// Serves the Unix socket at `path`, as [`start_server`] does TCP.
///
/// A socket file that nobody listens on any more is replaced. The server removes its file when it stops accepting, if it is
/// still its own. On Linux a path that begins with a NUL byte is an abstract name, which has no file.
///
/// # Errors
///
/// The path cannot be listened on: [`AddrInUse`](io::ErrorKind::AddrInUse) if somebody listens there, or if there is
/// something else than a socket; or why it cannot be found out whether somebody does. Or the runtime has no reactor or cannot
/// spawn.
///
/// # Examples
///
/// ```no_run
/// use evenloop_streams::{UnixReader, UnixWriter, start_unix_server};
///
/// # async fn example() -> std::io::Result<()> {
/// async fn greet(_: UnixReader, mut writer: UnixWriter) -> std::io::Result<()> {
///     writer.write(b"hello\n")?;
///     writer.drain().await
/// }
///
/// start_unix_server(greet, "/run/service.sock")?.serve_forever().await
/// # }
/// ```
pub fn start_unix_server<H, F>(handler: H, path: impl AsRef<Path>) -> io::Result<Server>
where
    H: Fn(UnixReader, UnixWriter) -> F + 'static,
    F: Future<Output: HandlerOutcome> + 'static,
{
    ServerConfig::new().start_unix(handler, path)
}

/// The reader of a connection through a Unix socket.
pub type UnixReader = StreamReader<OwnedReadHalf<UnixStream>>;

/// The writer of a connection through a Unix socket.
pub type UnixWriter = StreamWriter<OwnedWriteHalf<UnixStream>>;

/// A server that is running. Cheap to clone: clones are the same server.
///
/// Dropping it changes nothing: the server goes on. What ends it is [`close`](Self::close) and the calls that include it.
///
/// Its handlers are spawned by the task that accepts, which was spawned by whoever started the server: what a host hands
/// down from a task to those it spawns, handlers have from there and not from a client.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use evenloop_streams::{StreamReader, StreamWriter, start_server};
/// use std::time::Duration;
///
/// let hello = async |_: StreamReader, mut writer: StreamWriter| {
///     writer.write(b"hello\n")?;
///     writer.wait_closed().await
/// };
/// let server = start_server(hello, ([127, 0, 0, 1], 0).into())?;
/// println!("listening on {:?}", server.local_addrs());
/// let cut_off = server.shutdown(Duration::from_secs(10)).await?; // nobody new; ten seconds for those who are there
/// println!("{cut_off} connections took longer");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Server {
    shared: StdArc<Shared>,
    local: StdArc<[SocketAddr]>,
}

struct Shared {
    /// The tasks that accept, one for each listener.
    acceptors: ChildSet<CancelScope>,
    /// V4.
    doors: Mutex<Vec<StdArc<dyn Shut>>>,
    /// V1. Closed as soon as the server is asked to stop accepting.
    connections: ChildSet<CancelScope>,
    max_connections: usize,
    on_error: StdArc<config::OnError>,
    /// Somebody awaits `serve_forever`.
    served: Mutex<bool>,
    /// `shutdown` has cancelled the handlers.
    asked: Mutex<bool>,
}

impl Shared {
    fn close(&self) {
        self.connections.close();
        let doors = std::mem::take(&mut *self.doors.lock());
        doors.iter().for_each(|door| door.shut());
        self.acceptors.cancel("the server was closed");
    }
}

impl Server {
    /// Where a TCP server listens, with the port that the kernel chose; the first place if there are several.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local.first().copied()
    }

    /// Everywhere a TCP server listens, with the ports that the kernel chose: asyncio's `sockets`.
    #[doc(alias = "sockets")]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local
    }

    /// Whether the server accepts connections. It does from its start; to listen and accept later, bind a
    /// [`TcpListener`](crate::TcpListener) and hand it to [`ServerConfig::start_on`] then.
    pub fn is_serving(&self) -> bool {
        !self.shared.connections.is_closed()
    }

    /// How many connections there are. May be out of date by the time it returns.
    pub fn connections(&self) -> usize {
        self.shared.connections.len()
    }

    /// Stops accepting and closes the listening sockets: their addresses are free when this returns. Connections go on.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Cancels each handler: it may catch that (`catch_cancel`), say farewell and end in its own time; else it is dropped,
    /// and its connection closed.
    pub fn close_clients(&self) {
        self.shared.connections.cancel("the server is closing");
    }

    /// Drops each handler where it is, and with it its connection.
    pub fn abort_clients(&self) {
        self.shared.connections.drop_all();
    }

    /// Waits until the server is closed and its last connection is gone.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.**
    pub fn wait_closed(&self) -> WaitClosed<'_> {
        let Shared { acceptors, connections, .. } = &*self.shared;
        WaitClosed { server: self, accepting: acceptors.wait(), open: connections.wait() }
    }

    /// Waits until the server is closed by somebody else and its last connection is gone. Dropping the future, or cancelling
    /// it, closes the server and cancels its handlers, as asyncio does since 3.15.
    ///
    /// Differs from asyncio: when somebody else closes the server this ends well, not as cancelled.
    ///
    /// # Cancel safety
    ///
    /// **Not cancel safe:** dropping it closes the server and cancels its handlers. Use
    /// [`wait_closed`](Self::wait_closed) to only wait.
    ///
    /// # Errors
    ///
    /// Somebody awaits it already ([`ResourceBusy`](io::ErrorKind::ResourceBusy)), or the server is closed already
    /// ([`NotConnected`](io::ErrorKind::NotConnected)). Nothing changes then.
    pub async fn serve_forever(&self) -> io::Result<()> {
        if !self.is_serving() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "`serve_forever`: the server is closed"));
        }
        if std::mem::replace(&mut *self.shared.served.lock(), true) {
            let message = "`serve_forever` of this server is being awaited already";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
        }
        struct Closes<'a>(&'a Server);
        impl Drop for Closes<'_> {
            fn drop(&mut self) {
                *self.0.shared.served.lock() = false;
                self.0.close();
                self.0.close_clients();
            }
        }
        let closes = Closes(self);
        closes.0.wait_closed().await;
        Ok(())
    }

    /// Ends the server gracefully, then by force: stops accepting, cancels the handlers, gives them `grace` to end, and
    /// drops the rest. Answers how many it had to drop.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** The server stays closed and the handlers stay cancelled; call again to go on.
    ///
    /// # Errors
    ///
    /// The runtime has no timers. Then the handlers are cancelled, and none is dropped.
    #[doc(alias = "graceful_shutdown")]
    pub async fn shutdown(&self, grace: Duration) -> io::Result<usize> {
        self.close();
        // Once: a handler that takes long would have to keep every further request.
        if !std::mem::replace(&mut *self.shared.asked.lock(), true) {
            self.close_clients();
        }
        let timers = Runtime::current_timers("Server::shutdown").map_err(io::Error::other)?;
        let mut over = pin!(After::new(timers, grace));
        let mut closed = pin!(self.wait_closed());
        let in_time = poll_fn(|cx| match closed.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => over.as_mut().poll(cx).map(|_| false),
        });
        if in_time.await {
            return Ok(0);
        }
        let dropped = self.connections();
        self.abort_clients();
        closed.await;
        Ok(dropped)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { acceptors, connections, .. } = &*self.shared;
        let state = match (self.is_serving(), acceptors.is_empty() && connections.is_empty()) {
            (true, _) => "serving",
            (false, false) => "closing",
            (false, true) => "closed",
        };
        write!(f, "Server [{state}, connections: {}]", connections.len())
    }
}

/// Waits for the end of a server: see [`Server::wait_closed`].
#[must_use = "futures do nothing unless awaited"]
pub struct WaitClosed<'a> {
    server: &'a Server,
    /// V2: first these, then nobody comes in any more.
    accepting: FewerThan<'a, CancelScope>,
    open: FewerThan<'a, CancelScope>,
}

impl Future for WaitClosed<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { server, accepting, open } = &mut *self;
        let polled = match Pin::new(accepting).poll(cx) {
            Poll::Ready(()) => Pin::new(open).poll(cx),
            Poll::Pending => Poll::Pending,
        };
        watch::noted(polled, cx, "Server::wait_closed", || On::object(&*server.shared))
    }
}

impl fmt::Debug for WaitClosed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WaitClosed [of {:?}]", self.server)
    }
}
