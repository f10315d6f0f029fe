//! How a queue is opened.

use crate::error::{Broken, OpenError};
use crate::link::{Link, Server};
use crate::news::{News, watch};
use crate::queue::{Inner, RemoteQueue};
use crate::script::{Keys, Scripts};
use evenloop_core::Runtime;
use evenloop_core::shim::StdArc;
use evenloop_sync::Event;
use futures_util::{FutureExt as _, select_biased};
use redis::IntoConnectionInfo as _;
use std::fmt;
use std::marker::PhantomData;
use std::process;
use std::time::Duration;

/// What a [`RemoteQueue`] is to be like: [`RemoteQueue::options`] makes it, [`open`](Self::open) opens the queue.
///
/// # Examples
///
/// ```
/// use evenloop_redis::{OpenError, RemoteQueue};
/// use std::time::Duration;
///
/// async fn letters() -> Result<RemoteQueue<String>, OpenError> {
///     let options = RemoteQueue::options("redis://localhost:6379", "letters");
///     options.maxsize(1000).visibility(Duration::from_secs(60)).open().await
/// }
/// # let _ = letters;
/// ```
#[must_use = "`open` opens the queue"]
pub struct Options<T> {
    url: String,
    name: String,
    maxsize: usize,
    visibility: Duration,
    patience: Duration,
    response_limit: Duration,
    remember: Duration,
    of: PhantomData<fn(T) -> T>,
}

/// A worker that has nothing and has said nothing for so long is forgotten.
const STALE: Duration = Duration::from_secs(24 * 3600);

impl<T> Options<T> {
    pub(crate) fn new(url: &str, name: &str) -> Self {
        Self {
            url: url.to_owned(),
            name: name.to_owned(),
            maxsize: 0,
            visibility: Duration::from_secs(60),
            patience: Duration::from_secs(30),
            response_limit: Duration::from_secs(5),
            remember: Duration::from_secs(3600),
            of: PhantomData,
        }
    }

    /// At most `maxsize` items wait at a time, over all machines; 0, the default: any number. The same for everybody who
    /// opens the queue.
    pub fn maxsize(mut self, maxsize: usize) -> Self {
        self.maxsize = maxsize;
        self
    }

    /// An item that was taken and not [finished](crate::Delivery::task_done) within `visibility` is given to the next who
    /// asks. Default: one minute. Counted by the server's clock, in milliseconds, rounded up; at least one.
    pub fn visibility(mut self, visibility: Duration) -> Self {
        self.visibility = visibility;
        self
    }

    /// For how long a call tries when the server cannot be reached, counted from the call; many that wait for one connection
    /// wait no longer than one. Default: 30 seconds. The first try may take longer, as the
    /// [limit of a response](Self::response_limit) has it.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// A connection that takes longer to be made, or on which an answer takes longer, is given up. Default: 5 seconds.
    pub fn response_limit(mut self, response_limit: Duration) -> Self {
        self.response_limit = response_limit;
        self
    }

    /// For how long the server remembers the keys of [`put_once`](RemoteQueue::put_once). Default: one hour; at least a
    /// millisecond. Shorter than the [patience](Self::patience), a key may be forgotten before the call itself tries again.
    pub fn remember(mut self, remember: Duration) -> Self {
        self.remember = remember;
        self
    }

    /// Opens the queue; the first to do so makes it.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** The queue may have been made on the server.
    ///
    /// # Errors
    ///
    /// The name or the address is none, the queue has another `maxsize`, the server cannot be reached for longer than the
    /// patience, or there is no runtime with tasks here.
    pub async fn open(self) -> Result<RemoteQueue<T>, OpenError> {
        if self.name.is_empty() || self.name.contains(['{', '}']) {
            return Err(OpenError::Name(self.name));
        }
        let info = self
            .url
            .as_str()
            .into_connection_info()
            .map_err(|error| OpenError::Address { url: self.url.clone(), error: StdArc::new(error) })?;
        let runtime = Runtime::current().ok_or_else(|| {
            OpenError::NoRuntime(evenloop_core::NoRuntime::none_found(
                "RemoteQueue::open",
                "tasks, timers and a reactor",
            ))
        })?;
        let spawn = runtime.spawn_for("RemoteQueue::open").map_err(OpenError::NoRuntime)?.clone();
        let server =
            StdArc::new(Server { info, response_limit: self.response_limit, runtime: runtime.clone() });
        let (link, scripts) = (Link::new(server.clone(), self.patience), Scripts::new());
        let mut keys = Keys::new(&self.name, format!("{:032x}", fastrand::u128(..)));
        let mut open = keys.call(&scripts.open);
        open.arg(self.maxsize).arg(STALE.as_millis() as u64);
        let (generation, theirs): (String, usize) =
            link.run(&open).await.map_err(|error| OpenError::Broken(Broken::new("open", error)))?;
        if theirs != self.maxsize {
            return Err(OpenError::Maxsize { theirs, ours: self.maxsize });
        }
        keys.generation = generation; // ours, or that of whoever made it
        let inner = Inner {
            link,
            scripts: StdArc::new(scripts),
            keys: StdArc::new(keys),
            news: StdArc::new(News::new()),
            closed: StdArc::new(Event::new()),
            worker: format!("{}-{:016x}", process::id(), fastrand::u64(..)),
            maxsize: self.maxsize,
            visibility: self.visibility,
            remember: self.remember,
        };
        let watch = watch(server, inner.scripts.clone(), inner.keys.clone(), inner.news.clone());
        let closed = inner.closed.clone();
        let watch = runtime.scope(async move {
            select_biased! {
                () = closed.wait().fuse() => {}
                () = Box::pin(watch).fuse() => {}
            }
        });
        spawn.spawn(Box::pin(watch)).map_err(|not| OpenError::NotSpawned(not.why))?;
        Ok(RemoteQueue::of(inner))
    }
}

impl<T> fmt::Debug for Options<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a password.
        f.debug_struct("Options")
            .field("name", &self.name)
            .field("maxsize", &self.maxsize)
            .field("visibility", &self.visibility)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}
