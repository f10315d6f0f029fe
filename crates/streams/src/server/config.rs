//! How a server is to behave, and the ways to start one.

use super::accept::{Accepting, Accepts, Door};
use super::handler::{Connection, HandlerOutcome};
use super::socket_file::{Removes, bind_unix};
use super::{Server, Shared, UnixReader, UnixWriter};
use crate::connect::{tcp_pair, unix_pair};
use crate::error::IoFailure;
use crate::reader::StreamReader;
use crate::tcp::{TcpListener, TcpStream};
use crate::unix::{UnixListener, UnixStream, shown};
use crate::writer::StreamWriter;
use evenloop_core::shim::{Mutex, StdArc};
use evenloop_core::{ChildSet, NotSpawned, Runtime, Spawn};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

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

pub(super) type OnError = dyn Fn(&str) + Send + Sync;

impl ServerConfig {
    /// Any number of connections, small writes sent at once, errors told to the host, which prints them or knows better.
    pub fn new() -> Self {
        Self { max_connections: usize::MAX, limit: None, nodelay: true, on_error: None }
    }

    /// How many connections there may be at a time; further ones wait in the kernel until one ends. (Several listeners on a
    /// host of several threads may accept one more each.)
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
    ///
    /// # Panics
    ///
    /// `limit` needs at least one byte.
    pub fn limit(mut self, limit_bytes: usize) -> Self {
        assert!(limit_bytes > 0, "`limit` needs at least one byte");
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
    /// As [`start_server`](crate::start_server).
    pub fn start<H, F>(&self, handler: H, address: SocketAddr) -> io::Result<Server>
    where
        H: Fn(StreamReader, StreamWriter) -> F + 'static,
        F: Future<Output: HandlerOutcome> + 'static,
    {
        self.start_on([TcpListener::bind(address)?], handler)
    }

    /// Serves TCP on listeners that are there already: on several addresses, with options
    /// ([`ListenConfig`](crate::ListenConfig)), or on sockets from elsewhere; handlers stay on this thread.
    ///
    /// # Errors
    ///
    /// There is no listener ([`InvalidInput`](io::ErrorKind::InvalidInput)), or the runtime cannot spawn.
    pub fn start_on<H, F>(
        &self,
        listeners: impl IntoIterator<Item = TcpListener>,
        handler: H,
    ) -> io::Result<Server>
    where
        H: Fn(StreamReader, StreamWriter) -> F + 'static,
        F: Future<Output: HandlerOutcome> + 'static,
    {
        let mut starting = Starting::new(self, "start_server")?;
        let connection = std::rc::Rc::new(self.tcp_connections(handler, &starting.shared));
        let mut local = Vec::new();
        for listener in listeners {
            local.push(listener.local_addr()?);
            let connection = connection.clone();
            starting.accept_here(listener, Removes::nothing(), move |stream| connection(stream))?;
        }
        starting.started(local)
    }

    /// Serves TCP on `address`; the host may move handlers between threads.
    ///
    /// # Errors
    ///
    /// As [`start_server`](crate::start_server).
    pub fn start_send<H, F>(&self, handler: H, address: SocketAddr) -> io::Result<Server>
    where
        H: Fn(StreamReader, StreamWriter) -> F + Send + Sync + 'static,
        F: Future<Output: HandlerOutcome> + Send + 'static,
    {
        self.start_on_send([TcpListener::bind(address)?], handler)
    }

    /// As [`start_on`](Self::start_on); the host may move handlers between threads.
    ///
    /// # Errors
    ///
    /// As [`start_on`](Self::start_on).
    pub fn start_on_send<H, F>(
        &self,
        listeners: impl IntoIterator<Item = TcpListener>,
        handler: H,
    ) -> io::Result<Server>
    where
        H: Fn(StreamReader, StreamWriter) -> F + Send + Sync + 'static,
        F: Future<Output: HandlerOutcome> + Send + 'static,
    {
        let mut starting = Starting::new(self, "start_server")?;
        let connection = StdArc::new(self.tcp_connections(handler, &starting.shared));
        let mut local = Vec::new();
        for listener in listeners {
            local.push(listener.local_addr()?);
            let connection = connection.clone();
            starting.accept_anywhere(listener, Removes::nothing(), move |stream| connection(stream))?;
        }
        starting.started(local)
    }

    /// Serves the Unix socket at `path`; handlers stay on this thread.
    ///
    /// # Errors
    ///
    /// As [`start_unix_server`](crate::start_unix_server).
    pub fn start_unix<H, F>(&self, handler: H, path: impl AsRef<Path>) -> io::Result<Server>
    where
        H: Fn(UnixReader, UnixWriter) -> F + 'static,
        F: Future<Output: HandlerOutcome> + 'static,
    {
        let mut starting = Starting::new(self, "start_unix_server")?;
        let (listener, removes) = listen_at(path.as_ref())?;
        starting.accept_here(listener, removes, self.unix_connections(handler, &starting.shared))?;
        starting.started(Vec::new())
    }

    /// Serves Unix sockets on listeners that are there already; handlers stay on this thread. Their files are not the
    /// server's: it removes none (asyncio's `cleanup_socket=False`).
    ///
    /// # Errors
    ///
    /// There is no listener ([`InvalidInput`](io::ErrorKind::InvalidInput)), or the runtime cannot spawn.
    pub fn start_unix_on<H, F>(
        &self,
        listeners: impl IntoIterator<Item = UnixListener>,
        handler: H,
    ) -> io::Result<Server>
    where
        H: Fn(UnixReader, UnixWriter) -> F + 'static,
        F: Future<Output: HandlerOutcome> + 'static,
    {
        let mut starting = Starting::new(self, "start_unix_server")?;
        let connection = std::rc::Rc::new(self.unix_connections(handler, &starting.shared));
        for listener in listeners {
            let connection = connection.clone();
            starting.accept_here(listener, Removes::nothing(), move |stream| connection(stream))?;
        }
        starting.started(Vec::new())
    }

    /// Serves the Unix socket at `path`; the host may move handlers between threads.
    ///
    /// # Errors
    ///
    /// As [`start_unix_server`](crate::start_unix_server).
    pub fn start_unix_send<H, F>(&self, handler: H, path: impl AsRef<Path>) -> io::Result<Server>
    where
        H: Fn(UnixReader, UnixWriter) -> F + Send + Sync + 'static,
        F: Future<Output: HandlerOutcome> + Send + 'static,
    {
        let mut starting = Starting::new(self, "start_unix_server")?;
        let (listener, removes) = listen_at(path.as_ref())?;
        starting.accept_anywhere(listener, removes, self.unix_connections(handler, &starting.shared))?;
        starting.started(Vec::new())
    }

    /// What makes a connection of a TCP stream.
    fn tcp_connections<H, F>(
        &self,
        handler: H,
        shared: &StdArc<Shared>,
    ) -> impl Fn(TcpStream) -> io::Result<Option<Connection<F>>> + use<H, F>
    where
        H: Fn(StreamReader, StreamWriter) -> F,
    {
        let (nodelay, limit, shared) = (self.nodelay, self.limit, shared.clone());
        move |stream| {
            if nodelay {
                stream.set_nodelay(true)?;
            }
            let (mut reader, writer) = tcp_pair(stream);
            limit.into_iter().for_each(|limit| reader.set_limit(limit));
            Ok(Connection::enter(&shared, || handler(reader, writer)))
        }
    }

    /// What makes a connection of a Unix stream.
    fn unix_connections<H, F>(
        &self,
        handler: H,
        shared: &StdArc<Shared>,
    ) -> impl Fn(UnixStream) -> io::Result<Option<Connection<F>>> + use<H, F>
    where
        H: Fn(UnixReader, UnixWriter) -> F,
    {
        let (limit, shared) = (self.limit, shared.clone());
        move |stream| {
            let (mut reader, writer) = unix_pair(stream);
            limit.into_iter().for_each(|limit| reader.set_limit(limit));
            Ok(Connection::enter(&shared, || handler(reader, writer)))
        }
    }
}

fn listen_at(path: &Path) -> io::Result<(UnixListener, Removes)> {
    bind_unix(path).map_err(|error| IoFailure::wrap("listening on", shown(path), error))
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

// === Starting ===

/// A server that begins to accept. Given up half-way, it accepts nothing.
struct Starting {
    shared: StdArc<Shared>,
    spawn: StdArc<dyn Spawn>,
    call: &'static str,
    /// It has a listener.
    listens: bool,
    started: bool,
}

impl Starting {
    fn new(config: &ServerConfig, call: &'static str) -> io::Result<Self> {
        let spawn = Runtime::current_spawn(call).map_err(io::Error::other)?;
        let on_error = config.on_error.clone().unwrap_or_else(|| {
            let host = spawn.clone();
            StdArc::new(move |error: &str| host.report(&error))
        });
        let shared = Shared {
            acceptors: ChildSet::new(),
            doors: Mutex::new(Vec::new()),
            connections: ChildSet::new(),
            max_connections: config.max_connections,
            on_error,
            served: Mutex::new(false),
            asked: Mutex::new(false),
        };
        Ok(Self { shared: StdArc::new(shared), spawn, call, listens: false, started: false })
    }

    /// Opens a door, which whoever closes the server shuts.
    fn open<L: Accepts>(&mut self, listener: L, removes: Removes) -> Accepting<L> {
        self.listens = true;
        let door = Door::new(listener, removes);
        self.shared.doors.lock().push(door.clone());
        Accepting::new(door, self.shared.clone())
    }

    /// Accepts, with everything on this thread.
    fn accept_here<L, F>(
        &mut self,
        listener: L,
        removes: Removes,
        connection: impl Fn(L::Stream) -> io::Result<Option<F>> + 'static,
    ) -> io::Result<()>
    where
        L: Accepts,
        F: Future<Output = ()> + 'static,
    {
        let spawn = self.spawn.clone();
        let start = move |stream| match connection(stream)? {
            Some(connection) => spawn.spawn_local(Box::pin(connection)).map_err(not_spawned),
            None => Ok(()), // closed meanwhile
        };
        let accepting = self.open(listener, removes).run(start);
        self.shared.acceptors.spawn_local(&*self.spawn, accepting).map(drop).map_err(not_spawned)
    }

    /// Accepts, wherever the host likes.
    fn accept_anywhere<L, F>(
        &mut self,
        listener: L,
        removes: Removes,
        connection: impl Fn(L::Stream) -> io::Result<Option<F>> + Send + Sync + 'static,
    ) -> io::Result<()>
    where
        L: Accepts<Stream: Send>,
        F: Future<Output = ()> + Send + 'static,
    {
        let spawn = self.spawn.clone();
        let start = move |stream| match connection(stream)? {
            Some(connection) => spawn.spawn(Box::pin(connection)).map_err(not_spawned),
            None => Ok(()), // closed meanwhile
        };
        let accepting = self.open(listener, removes).run(start);
        self.shared.acceptors.spawn(&*self.spawn, accepting).map(drop).map_err(not_spawned)
    }

    /// A server without a listener would serve nobody, and would be closed and serving at once.
    fn started(mut self, local: Vec<SocketAddr>) -> io::Result<Server> {
        if !self.listens {
            let message = format!("`{}` without a listener: a server needs at least one", self.call);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        self.started = true;
        Ok(Server { shared: self.shared.clone(), local: local.into() })
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if !self.started {
            self.shared.close();
        }
    }
}

fn not_spawned<T>(not: NotSpawned<T>) -> io::Error {
    io::Error::other(format!("not spawned: {}", not.why))
}
