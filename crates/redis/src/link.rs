//! The connection that all calls of a queue share, made anew when it breaks.

use evenloop_core::Runtime;
use evenloop_core::shim::{Mutex, StdArc};
use evenloop_streams::{TcpStream, UnixStream};
use evenloop_sync::Lock;
use evenloop_time::{now, sleep, timeout};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue, RedisError,
    ScriptInvocation, ServerErrorKind,
};
use std::future::Future;
use std::io;
use std::time::{Duration, Instant};

/// Where the server is, and how long it may take to answer.
pub(crate) struct Server {
    pub(crate) info: ConnectionInfo,
    pub(crate) response_limit: Duration,
    pub(crate) runtime: Runtime,
}

impl Server {
    /// A new connection, with a task of its own that moves its bytes and ends with it.
    pub(crate) async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let settings = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let login = self.info.redis_settings();
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) => {
                let connect = async {
                    let stream = TcpStream::connect_host(host, *port).await?;
                    stream.set_nodelay(true)?;
                    MultiplexedConnection::new_with_config(login, stream, settings).await
                };
                let (connection, driver) = self.limited(connect).await?;
                self.spawn(driver)?;
                Ok(connection)
            }
            ConnectionAddr::Unix(path) => {
                let connect = async {
                    let stream = UnixStream::connect(path).await?;
                    MultiplexedConnection::new_with_config(login, stream, settings).await
                };
                let (connection, driver) = self.limited(connect).await?;
                self.spawn(driver)?;
                Ok(connection)
            }
            other => {
                let what = format!("`{other}` is neither redis://HOST:PORT nor unix:PATH");
                Err(io::Error::new(io::ErrorKind::Unsupported, what).into())
            }
        }
    }

    fn spawn(&self, driver: impl Future<Output = ()> + Send + 'static) -> Result<(), RedisError> {
        let spawn = self.runtime.spawn_for("RemoteQueue").map_err(io::Error::other)?;
        spawn.spawn(Box::pin(driver)).map_err(|not| io::Error::other(not.to_string()).into())
    }

    /// An answer that does not come in time is a connection that is dead.
    pub(crate) async fn limited<T>(
        &self,
        answer: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, RedisError> {
        self.limited_beyond(Duration::ZERO, answer).await
    }

    /// As `limited`, of an answer that the server holds back for `held`.
    pub(crate) async fn limited_beyond<T>(
        &self,
        held: Duration,
        answer: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, RedisError> {
        let limit = held.saturating_add(self.response_limit);
        timeout(limit, answer).await.unwrap_or_else(|_elapsed| {
            let what = format!("no answer in {:?}", self.response_limit);
            Err(io::Error::new(io::ErrorKind::TimedOut, what).into())
        })
    }
}

/// Whether trying again may help.
pub(crate) fn is_passing(error: &RedisError) -> bool {
    let by_server = [
        ServerErrorKind::BusyLoading,
        ServerErrorKind::TryAgain,
        ServerErrorKind::ClusterDown,
        ServerErrorKind::MasterDown,
        ServerErrorKind::ReadOnly,
    ];
    let unsupported = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|error| error.kind() == io::ErrorKind::Unsupported);
    (error.is_io_error() && !unsupported)
        || error.is_connection_dropped()
        || error.is_timeout()
        || by_server.iter().any(|kind| error.kind() == ErrorKind::Server(*kind))
}

/// The connection that calls share.
pub(crate) struct Link {
    server: StdArc<Server>,
    patience: Duration,
    /// The connection, and which one it is.
    current: Mutex<(u64, Option<MultiplexedConnection>)>,
    /// Held by who makes a connection, while the others wait for it. When the last attempt failed, and how: it counts for all
    /// who waited for it.
    connecting: Lock<Option<(Instant, RedisError)>>,
}

impl Link {
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    pub(crate) fn new(server: StdArc<Server>, patience: Duration) -> Self {
        Self { server, patience, current: Mutex::new((0, None)), connecting: Lock::new(None) }
    }

    /// Has the server run `call`, and tries again while a broken connection may come back. The patience is counted from here,
    /// and ends a try that is under way; only the first has all the time that the server may take.
    pub(crate) async fn run<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, RedisError> {
        let begin = now();
        let mut pause = Duration::from_millis(10);
        let mut outcome = self.attempt(call).await;
        loop {
            let error = match outcome {
                Err(error) if is_passing(&error) => error,
                answer => return answer,
            };
            let left = self.patience.saturating_sub(now() - begin);
            let again = async {
                sleep(pause).await;
                self.attempt(call).await
            };
            outcome = match timeout(left, again).await {
                Ok(outcome) => outcome,
                Err(_elapsed) => return Err(error),
            };
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    async fn attempt<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, RedisError> {
        let (which, mut connection) = self.connection().await?;
        let outcome = self.server.limited(call.invoke_async(&mut connection)).await;
        if outcome.as_ref().is_err_and(is_passing) {
            self.forget(which);
        }
        outcome
    }

    fn current(&self) -> Option<(u64, MultiplexedConnection)> {
        let current = self.current.lock();
        current.1.clone().map(|connection| (current.0, connection))
    }

    async fn connection(&self) -> Result<(u64, MultiplexedConnection), RedisError> {
        if let Some(current) = self.current() {
            return Ok(current);
        }
        let begin = now();
        let mut failure = self.server.limited(async { Ok(self.connecting.acquire().await) }).await?;
        if let Some(current) = self.current() {
            return Ok(current);
        }
        if let Some((when, error)) = &*failure
            && *when >= begin
        {
            return Err(error.clone());
        }
        match self.server.connect().await {
            Ok(connection) => {
                let mut current = self.current.lock();
                current.1 = Some(connection.clone()); // there was none, and nobody else makes one
                Ok((current.0, connection))
            }
            Err(error) => {
                *failure = Some((now(), error.clone()));
                Err(error)
            }
        }
    }

    /// The connection `which` is broken: the next call makes another one.
    fn forget(&self, which: u64) {
        let mut current = self.current.lock();
        let broken = if current.0 == which { current.1.take() } else { None };
        current.0 += u64::from(broken.is_some());
        drop(current);
        drop(broken); // after the lock: its task is woken
    }
}
