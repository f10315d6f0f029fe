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
//! V1. A connection is a child of the server's set, from before its handler's first poll until its handler is dropped,
//!     whichever way.
//! V2. `wait_closed` ends when nothing accepts and the set is empty. Once nothing accepts, nobody new comes in.
//! V3. An error of `accept` never makes the loop spin: one that is about a single connection comes once a connection; after
//!     any other (no descriptors, no memory) accepting stops for a second or until a connection ends.
//! V4. The file of a Unix socket is removed when accepting stops, if it is still the one that the server made.
//! V5. Wakers and handlers run, and are dropped, while no lock is held.

use crate::connect::{tcp_pair, unix_pair};
use crate::error::IoFailure;
use crate::reader::StreamReader;
use crate::split::{OwnedReadHalf, OwnedWriteHalf};
use crate::tcp::{TcpListener, TcpStream};
use crate::unix::{UnixListener, UnixStream};
use crate::writer::StreamWriter;
use evenloop_core::cancel::CancelScope;
use evenloop_core::shim::{Mutex, StdArc};
use evenloop_core::watch::{self, On};
use evenloop_core::{After, ChildSet, FewerThan, NotSpawned, Runtime, Spawn};
use slab::Slab;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

/// How long accepting stops when there are no descriptors, unless a connection ends before: asyncio's second.
const BACK_OFF: Duration = Duration::from_secs(1);

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
pub fn start_server<H, F>(handler: H, address: SocketAddr) -> io::Result<Server>
where
    H: Fn(StreamReader, StreamWriter) -> F + 'static,
    F: Future<Output: Outcome> + 'static,
{
    ServerConfig::new().start(handler, address)
}

/// Serves the Unix socket at `path`, as [`start_server`] does TCP.
///
/// A socket file that nobody listens on any more is replaced. The server removes its file when it stops accepting, if it is
/// still its own.
///
/// # Errors
///
/// The path cannot be listened on: [`AddrInUse`](io::ErrorKind::AddrInUse) if somebody listens there, or if there is
/// something else than a socket. Or the runtime has no reactor or cannot spawn.
pub fn start_unix_server<H, F>(handler: H, path: impl AsRef<Path>) -> io::Result<Server>
where
    H: Fn(UnixReader, UnixWriter) -> F + 'static,
    F: Future<Output: Outcome> + 'static,
{
    ServerConfig::new().start_unix(handler, path)
}

/// The reader of a connection through a Unix socket.
pub type UnixReader = StreamReader<OwnedReadHalf<UnixStream>>;

/// The writer of a connection through a Unix socket.
pub type UnixWriter = StreamWriter<OwnedWriteHalf<UnixStream>>;

/// What a handler may answer: nothing, or a `Result` whose error is reported.
pub trait Outcome {
    /// The error, if there is one.
    fn into_error(self) -> Option<String>;
}

impl Outcome for () {
    fn into_error(self) -> Option<String> {
        None
    }
}

impl<E: fmt::Display> Outcome for Result<(), E> {
    fn into_error(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

/// How a server is to behave. Starts any number of servers.
///
/// # Examples
///
/// ```no_run
/// # use evenloop_streams::{ServerConfig, StreamReader, StreamWriter};
/// # fn example() -> std::io::Result<()> {
/// let handler = async |_: StreamReader, mut writer: StreamWriter| {
///     writer.write(b"go away\n")?;
///     writer.wait_closed().await
/// };
/// let server = ServerConfig::new()
///     .max_connections(1000)
///     .start(handler, ([127, 0, 0, 1], 0).into())?;
/// println!("listening on {}", server.local_addr().expect("a TCP server"));
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "`start` starts the server"]
pub struct ServerConfig {
    max_connections: usize,
    limit: Option<usize>,
    nodelay: bool,
    /// None: whoever watches over the host is told.
    on_error: Option<StdArc<OnError>>,
}

type OnError = dyn Fn(&str) + Send + Sync;

impl ServerConfig {
    /// Any number of connections, small writes sent at once, errors told to the host, which prints them or knows better.
    pub fn new() -> Self {
        Self { max_connections: usize::MAX, limit: None, nodelay: true, on_error: None }
    }

    /// How many connections there may be at a time; further ones wait in the kernel until one ends.
    ///
    /// # Panics
    ///
    /// `max_connections` needs at least one.
    pub fn max_connections(mut self, most: usize) -> Self {
        assert!(most > 0, "`max_connections` needs at least one");
        self.max_connections = most;
        self
    }

    /// The limit of the readers, in bytes: see [`StreamReader::with_limit`].
    pub fn limit(mut self, limit_bytes: usize) -> Self {
        self.limit = Some(limit_bytes);
        self
    }

    /// Whether small writes are sent at once (TCP only; the default, as in asyncio).
    pub fn nodelay(mut self, nodelay: bool) -> Self {
        self.nodelay = nodelay;
        self
    }

    /// What is called with each error that nobody else sees: of a handler, and of accepting.
    pub fn on_error(mut self, on_error: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_error = Some(StdArc::new(on_error));
        self
    }

    /// Serves TCP on `address`; handlers stay on this thread.
    ///
    /// # Errors
    ///
    /// As [`start_server`].
    pub fn start<H, F>(&self, handler: H, address: SocketAddr) -> io::Result<Server>
    where
        H: Fn(StreamReader, StreamWriter) -> F + 'static,
        F: Future<Output: Outcome> + 'static,
    {
        let (shared, spawn) = self.prepare("start_server")?;
        let listener = TcpListener::bind(address)?;
        let local = listener.local_addr();
        let (config, table, spawn_each) = (self.clone(), shared.clone(), spawn.clone());
        let start = move |stream: TcpStream| {
            let connection = config.tcp_connection(&table, stream, &handler)?;
            table.connections.spawn_local(&*spawn_each, connection).map(drop).map_err(not_spawned)
        };
        let accepting = accept(listener, shared.clone(), Removes(None), start);
        spawn.spawn_local(Box::pin(accepting)).map_err(not_spawned)?;
        Ok(Server { shared, local: Some(local) })
    }

    /// Serves TCP on `address`; the host may move handlers between threads.
    ///
    /// # Errors
    ///
    /// As [`start_server`].
    pub fn start_send<H, F>(&self, handler: H, address: SocketAddr) -> io::Result<Server>
    where
        H: Fn(StreamReader, StreamWriter) -> F + Send + Sync + 'static,
        F: Future<Output: Outcome> + Send + 'static,
    {
        let (shared, spawn) = self.prepare("start_server")?;
        let listener = TcpListener::bind(address)?;
        let local = listener.local_addr();
        let (config, table, spawn_each) = (self.clone(), shared.clone(), spawn.clone());
        let start = move |stream: TcpStream| {
            let connection = config.tcp_connection(&table, stream, &handler)?;
            table.connections.spawn(&*spawn_each, connection).map(drop).map_err(not_spawned)
        };
        let accepting = accept(listener, shared.clone(), Removes(None), start);
        spawn.spawn(Box::pin(accepting)).map_err(not_spawned)?;
        Ok(Server { shared, local: Some(local) })
    }

    /// Serves the Unix socket at `path`; handlers stay on this thread.
    ///
    /// # Errors
    ///
    /// As [`start_unix_server`].
    pub fn start_unix<H, F>(&self, handler: H, path: impl AsRef<Path>) -> io::Result<Server>
    where
        H: Fn(UnixReader, UnixWriter) -> F + 'static,
        F: Future<Output: Outcome> + 'static,
    {
        let (shared, spawn) = self.prepare("start_unix_server")?;
        let path = path.as_ref();
        let (listener, removes) =
            bind_unix(path).map_err(|error| IoFailure::wrap("listening on", path.display(), error))?;
        let (config, table, spawn_each) = (self.clone(), shared.clone(), spawn.clone());
        let start = move |stream: UnixStream| {
            let (mut reader, writer) = unix_pair(stream);
            config.limit.into_iter().for_each(|limit| reader.set_limit(limit));
            let connection = serve(table.clone(), handler(reader, writer));
            table.connections.spawn_local(&*spawn_each, connection).map(drop).map_err(not_spawned)
        };
        let accepting = accept(listener, shared.clone(), removes, start);
        spawn.spawn_local(Box::pin(accepting)).map_err(not_spawned)?;
        Ok(Server { shared, local: None })
    }

    fn prepare(&self, call: &'static str) -> io::Result<(StdArc<Shared>, StdArc<dyn Spawn>)> {
        let spawn = Runtime::current_spawn(call).map_err(io::Error::other)?;
        let table = Table {
            serving: true,
            accepting: true,
            max_connections: self.max_connections,
            acceptor: None,
            waiting: Slab::new(),
        };
        let on_error = self.on_error.clone().unwrap_or_else(|| {
            let host = spawn.clone();
            StdArc::new(move |error: &str| host.report(&error))
        });
        let shared = Shared { table: Mutex::new(table), connections: ChildSet::new(), on_error };
        Ok((StdArc::new(shared), spawn))
    }

    fn tcp_connection<H, F>(
        &self,
        table: &StdArc<Shared>,
        stream: TcpStream,
        handler: &H,
    ) -> io::Result<impl Future<Output = ()> + use<H, F>>
    where
        H: Fn(StreamReader, StreamWriter) -> F,
        F: Future<Output: Outcome>,
    {
        if self.nodelay {
            stream.set_nodelay(true)?;
        }
        let (mut reader, writer) = tcp_pair(stream);
        self.limit.into_iter().for_each(|limit| reader.set_limit(limit));
        Ok(serve(table.clone(), handler(reader, writer)))
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { max_connections, limit, nodelay, .. } = self;
        f.debug_struct("ServerConfig")
            .field("max_connections", max_connections)
            .field("limit", limit)
            .field("nodelay", nodelay)
            .finish_non_exhaustive()
    }
}

fn not_spawned<T>(not: NotSpawned<T>) -> io::Error {
    io::Error::other(format!("not spawned: {}", not.why))
}

// === Server ===

/// A server that is running. Cheap to clone: clones are the same server.
///
/// Dropping it changes nothing: the server goes on. What ends it is [`close`](Self::close) and the calls that include it.
#[derive(Clone)]
pub struct Server {
    shared: StdArc<Shared>,
    local: Option<SocketAddr>,
}

struct Shared {
    table: Mutex<Table>,
    /// V1.
    connections: ChildSet<CancelScope>,
    on_error: StdArc<OnError>,
}

struct Table {
    /// Not yet asked to stop accepting.
    serving: bool,
    /// The accepting task is alive.
    accepting: bool,
    max_connections: usize,
    /// The accepting task, when it waits for anything but a connection, or while it waits for one.
    acceptor: Option<Waker>,
    /// Those who wait for the end.
    waiting: Slab<Waker>,
}

impl Server {
    /// Where a TCP server listens, with the port that the kernel chose.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local
    }

    /// Whether the server accepts connections.
    pub fn is_serving(&self) -> bool {
        self.shared.table.lock().serving
    }

    /// How many connections there are. May be out of date by the time it returns.
    pub fn connections(&self) -> usize {
        self.shared.connections.len()
    }

    /// Stops accepting. Connections go on.
    pub fn close(&self) {
        let acceptor = {
            let mut table = self.shared.table.lock();
            table.serving = false;
            table.acceptor.take()
        };
        acceptor.into_iter().for_each(Waker::wake);
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
        WaitClosed { server: self, key: None, gone: self.shared.connections.wait() }
    }

    /// Waits until the server is closed by somebody else. Dropping the future, or cancelling it, closes the server and
    /// leaves its connections.
    ///
    /// # Cancel safety
    ///
    /// **Not cancel safe:** dropping it closes the server. Use [`wait_closed`](Self::wait_closed) to only wait.
    ///
    /// # Errors
    ///
    /// None so far; the `Result` leaves room for `?` in `main`.
    pub async fn serve_forever(&self) -> io::Result<()> {
        struct Closes<'a>(&'a Server);
        impl Drop for Closes<'_> {
            fn drop(&mut self) {
                self.0.close();
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
    pub async fn shutdown(&self, grace: Duration) -> io::Result<usize> {
        self.close();
        self.close_clients();
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
        let table = self.shared.table.lock();
        let state = match (table.serving, table.accepting) {
            (true, _) => "serving",
            (false, true) => "closing",
            (false, false) => "closed",
        };
        drop(table);
        write!(f, "Server [{state}, connections: {}]", self.connections())
    }
}

/// Waits for the end of a server: see [`Server::wait_closed`].
#[must_use = "futures do nothing unless polled"]
pub struct WaitClosed<'a> {
    server: &'a Server,
    /// Its place among those who wait until nothing accepts.
    key: Option<usize>,
    /// After that: until the last connection is gone.
    gone: FewerThan<'a, CancelScope>,
}

impl Future for WaitClosed<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut waker = Some(cx.waker().clone());
        let Self { server, key, gone } = &mut *self;
        let accepting = {
            let mut table = server.shared.table.lock();
            match *key {
                Some(key) => std::mem::swap(&mut table.waiting[key], waker.as_mut().expect("just made")),
                None if table.accepting => *key = waker.take().map(|waker| table.waiting.insert(waker)),
                None => {}
            }
            table.accepting
        };
        drop(waker); // V5
        let polled = if accepting { Poll::Pending } else { Pin::new(gone).poll(cx) };
        watch::noted(polled, cx, "Server::wait_closed", || On::object(&*self.server.shared))
    }
}

impl Drop for WaitClosed<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = self.server.shared.table.lock().waiting.remove(key);
            drop(waker); // V5
        }
    }
}

impl fmt::Debug for WaitClosed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WaitClosed [of {:?}]", self.server)
    }
}

// === Accepting ===

/// What a server needs of a listener.
trait Accepts {
    type Stream;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Stream>>;
}

impl Accepts for TcpListener {
    type Stream = TcpStream;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        Self::poll_accept(self, cx)
    }
}

impl Accepts for UnixListener {
    type Stream = UnixStream;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<UnixStream>> {
        Self::poll_accept(self, cx)
    }
}

/// What the accepting task does next.
enum Next<S> {
    Serve(S),
    Report(io::Error),
    Stop,
}

/// The accepting task.
async fn accept<L: Accepts>(
    listener: L,
    shared: StdArc<Shared>,
    removes: Removes,
    start: impl Fn(L::Stream) -> io::Result<()>,
) {
    let ends = EndsAccepting(&shared);
    let most = shared.table.lock().max_connections;
    let mut room = shared.connections.fewer_than(most);
    loop {
        match poll_fn(|cx| shared.poll_next(&listener, &mut room, cx)).await {
            Next::Stop => break,
            Next::Serve(stream) => {
                if let Err(error) = start(stream) {
                    (shared.on_error)(&format!("a connection was dropped: {error}"));
                }
            }
            Next::Report(error) if is_about_one_connection(&error) => {}
            Next::Report(error) => {
                (shared.on_error)(&format!("{error}; accepting stops for a second"));
                shared.back_off().await; // V3
            }
        }
    }
    drop((listener, removes, room)); // before anyone is told
    drop(ends);
}

/// Tells those who wait that nothing accepts any more, also when the task is dropped.
struct EndsAccepting<'a>(&'a Shared);

impl Drop for EndsAccepting<'_> {
    fn drop(&mut self) {
        let waiting: Vec<_> = {
            let mut table = self.0.table.lock();
            (table.serving, table.accepting) = (false, false);
            table.waiting.iter().map(|(_, waker)| waker.clone()).collect()
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// Whether a connection came to nothing before it was accepted, so that the next one may well succeed: accept(2) answers the
/// errors that are already pending on the new socket.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    let kinds = [
        Kind::ConnectionAborted,
        Kind::ConnectionReset,
        Kind::ConnectionRefused,
        Kind::HostUnreachable,
        Kind::NetworkUnreachable,
        Kind::NetworkDown,
        Kind::PermissionDenied, // a firewall's rule
        Kind::TimedOut,
    ];
    let proto = rustix::io::Errno::PROTO.raw_os_error();
    kinds.contains(&error.kind()) || IoFailure::of(error).and_then(IoFailure::os_error) == Some(proto)
}

impl Shared {
    fn poll_next<L: Accepts>(
        &self,
        listener: &L,
        room: &mut FewerThan<'_, CancelScope>,
        cx: &mut Context<'_>,
    ) -> Poll<Next<L::Stream>> {
        if !self.serves(cx) {
            return Poll::Ready(Next::Stop);
        }
        ready!(Pin::new(room).poll(cx));
        Poll::Ready(match ready!(listener.poll_accept(cx)) {
            Ok(stream) => Next::Serve(stream),
            Err(error) if IoFailure::is_unwatched(&error) => Next::Stop,
            Err(error) => Next::Report(error),
        })
    }

    /// Whether the server is to accept; else has the acceptor woken when it is not any more.
    fn serves(&self, cx: &Context<'_>) -> bool {
        let mut waker = Some(cx.waker().clone());
        let serving = {
            let mut table = self.table.lock();
            std::mem::swap(&mut table.acceptor, &mut waker);
            table.serving
        };
        drop(waker); // V5
        serving
    }

    /// Waits a second, or until a connection ends or the server is closed.
    async fn back_off(&self) {
        let timers = Runtime::current_timers("Server").ok();
        let mut second = pin!(timers.map(|timers| After::new(timers, BACK_OFF)));
        let mut fewer = self.connections.fewer_than(self.connections.len());
        poll_fn(|cx| {
            if !self.serves(cx) || Pin::new(&mut fewer).poll(cx).is_ready() {
                return Poll::Ready(());
            }
            match second.as_mut().as_pin_mut() {
                Some(second) => second.poll(cx).map(drop),
                None => Poll::Pending,
            }
        })
        .await;
    }
}

/// One connection. Cancelled is a handler's silent way to end, as in asyncio.
async fn serve<F: Future<Output: Outcome>>(shared: StdArc<Shared>, handler: F) {
    if let Some(error) = handler.await.into_error() {
        (shared.on_error)(&format!("the handler of a connection failed: {error}"));
    }
}

// === The file of a Unix socket ===

/// Removes the file when dropped, if it is still that file (V4).
struct Removes(Option<(PathBuf, (u64, u64))>);

impl Drop for Removes {
    fn drop(&mut self) {
        let Some((path, made)) = self.0.take() else { return };
        if identity(&path).is_ok_and(|now| now == made) {
            // If it is gone meanwhile, there is nothing left to do.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Device and number of the file itself.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Listens at `path`, and replaces a socket there that nobody listens on.
fn bind_unix(path: &Path) -> io::Result<(UnixListener, Removes)> {
    if std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            _ => return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there")),
        }
    }
    let listener = UnixListener::bind(path)?;
    let made = identity(path)?;
    Ok((listener, Removes(Some((path.to_owned(), made)))))
}
