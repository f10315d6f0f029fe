//! The queue's calls: each is a script, tried again, and a wait for news between two tries.

use crate::delivery::Delivery;
use crate::error::{Broken, GetError, OpenError, PutError, Undecodable, Undone};
use crate::link::Link;
use crate::news::News;
use crate::options::Options;
use crate::script::{Keys, Look, Scripts, is_gone, milliseconds};
use evenloop_core::shim::StdArc;
use evenloop_sync::Event;
use evenloop_time::timeout;
use redis::{FromRedisValue, RedisError, ScriptInvocation, Value, from_redis_value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// A queue of items of type `T` on a Redis server, shared by any number of processes.
///
/// Clones are the same queue. See the [crate](crate) for what it promises.
///
/// Once somebody has [destroyed](Self::destroy) the queue, this is of no use any more, even if another one is opened under the
/// name: `put` and `get` say that it is gone, and nothing is in it. [`open`](Self::open) gives the other one.
///
/// # Examples
///
/// ```
/// use evenloop_redis::RemoteQueue;
///
/// async fn work() -> Result<(), Box<dyn std::error::Error>> {
///     let queue: RemoteQueue<String> = RemoteQueue::open("redis://localhost:6379", "letters").await?;
///     queue.put("dear all".into()).await?;
///     let letter = queue.get().await?;
///     println!("attempt {}: {}", letter.attempts(), *letter);
///     letter.task_done().await?;
///     Ok(())
/// }
/// # let _ = work;
/// ```
pub struct RemoteQueue<T> {
    inner: StdArc<Inner>,
    of: PhantomData<fn(T) -> T>,
}

/// What clones and deliveries share.
pub(crate) struct Inner {
    pub(crate) link: Link,
    pub(crate) scripts: StdArc<Scripts>,
    pub(crate) keys: StdArc<Keys>,
    pub(crate) news: StdArc<News>,
    /// Set at the end: the watcher leaves.
    pub(crate) closed: StdArc<Event>,
    /// The name by which the server tells this queue's deliveries from those of other processes.
    pub(crate) worker: String,
    pub(crate) maxsize: usize,
    pub(crate) visibility: Duration,
    pub(crate) remember: Duration,
}

impl Inner {
    /// Has the server run `script` for the method `call`. Of a queue that is gone the server is not asked any more (R5).
    pub(crate) async fn run<A: FromRedisValue>(
        &self,
        call: &'static str,
        script: &ScriptInvocation<'_>,
    ) -> Result<A, Undone> {
        if self.news.is_over() {
            return Err(Undone::Gone);
        }
        self.link.run(script).await.map_err(|error| {
            if !is_gone(&error) {
                return Undone::Broken(Broken::new(call, error));
            }
            self.news.end();
            Undone::Gone
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.closed.set();
    }
}

/// A snapshot of a queue; it may be out of date by the time it is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoteQueueStatistics {
    /// Items that nobody has: new, or given back.
    pub qsize: usize,
    /// Items that workers have, in time or not.
    pub taken: usize,
    /// Whether [`shutdown`](RemoteQueue::shutdown) was called.
    pub is_shut_down: bool,
}

/// What `take` answers.
enum Taken {
    Item {
        id: String,
        attempts: u64,
        json: Vec<u8>,
    },
    ShutDown,
    /// None, and when the next one's time is up.
    Empty(Option<Duration>),
}

impl<T> RemoteQueue<T> {
    /// Opens the queue `name` on the server at `url`, as the [defaults](Options) have it.
    ///
    /// `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]` or `unix:PATH`.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.**
    ///
    /// # Errors
    ///
    /// See [`Options::open`].
    pub async fn open(url: &str, name: &str) -> Result<Self, OpenError> {
        Self::options(url, name).open().await
    }

    /// For a queue that is not as the defaults have it.
    pub fn options(url: &str, name: &str) -> Options<T> {
        Options::new(url, name)
    }

    pub(crate) fn of(inner: Inner) -> Self {
        Self { inner: StdArc::new(inner), of: PhantomData }
    }

    /// How many items may wait at a time, over all machines; 0: any number.
    pub fn maxsize(&self) -> usize {
        self.inner.maxsize
    }

    /// How many items wait; those that workers have are not counted, as in `Queue`. What was given back waits again, even
    /// beyond `maxsize`.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.**
    ///
    /// # Errors
    ///
    /// The server did not answer.
    pub async fn qsize(&self) -> Result<usize, Broken> {
        Ok(self.statistics().await?.qsize)
    }

    /// What is in the queue just now; of a queue that was destroyed, nothing.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.**
    ///
    /// # Errors
    ///
    /// The server did not answer.
    pub async fn statistics(&self) -> Result<RemoteQueueStatistics, Broken> {
        self.look("statistics").await
    }

    async fn look(&self, call: &'static str) -> Result<RemoteQueueStatistics, Broken> {
        let inner = &*self.inner;
        let look = inner.run::<Look>(call, &inner.keys.call(&inner.scripts.look)).await;
        let (entries, taken, is_shut_down) = match look {
            Ok((entries, taken, is_shut_down, _, _)) => (entries, taken, is_shut_down),
            Err(Undone::Gone) => (0, 0, true),
            Err(Undone::Broken(broken)) => return Err(broken),
        };
        Ok(RemoteQueueStatistics { qsize: entries.saturating_sub(taken), taken, is_shut_down })
    }

    /// Waits until every item that was put is done, or the queue is destroyed. Items that are put meanwhile are waited for as
    /// well.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.**
    ///
    /// # Errors
    ///
    /// The server did not answer.
    pub async fn join(&self) -> Result<(), Broken> {
        loop {
            let news = self.inner.news.listen();
            let now = self.look("join").await?;
            if now.qsize + now.taken == 0 {
                return Ok(());
            }
            news.wait().await;
        }
    }

    /// From now on nothing can be put. What is in the queue can still be got; with `immediate`, what nobody has just now is
    /// thrown away instead. Answers how many that were. It can be called again, to throw away what was given back since;
    /// nothing undoes it but [`destroy`](Self::destroy).
    ///
    /// Unlike in `Queue`, who waits in `get` goes on waiting while workers have items, for those may come back.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** The queue may be shut down or not; calling again is fine.
    ///
    /// # Errors
    ///
    /// The server did not answer.
    pub async fn shutdown(&self, immediate: bool) -> Result<usize, Broken> {
        let inner = &*self.inner;
        let mut shutdown = inner.keys.call(&inner.scripts.shutdown);
        shutdown.arg(u8::from(immediate));
        match inner.run("shutdown", &shutdown).await {
            Ok(dropped) => Ok(dropped),
            Err(Undone::Gone) => Ok(0),
            Err(Undone::Broken(broken)) => Err(broken),
        }
    }

    /// Removes the queue and all that is in it from the server. Whoever waits is told that it is gone. One that is opened
    /// under its name afterwards has nothing of it, not even the keys of [`put_once`](Self::put_once), and to call this again
    /// leaves it alone.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** The queue may be gone or not; calling again is fine.
    ///
    /// # Errors
    ///
    /// The server did not answer.
    pub async fn destroy(&self) -> Result<(), Broken> {
        let inner = &*self.inner;
        let destroy = inner.keys.call(&inner.scripts.destroy);
        match inner.run::<String>("destroy", &destroy).await {
            Ok(_) | Err(Undone::Gone) => {}
            Err(Undone::Broken(broken)) => return Err(broken),
        }
        inner.news.end();
        Ok(())
    }
}

impl<T: Serialize> RemoteQueue<T> {
    /// Puts `item`, waiting for room if need be.
    ///
    /// If the connection breaks it is tried again, and what had arrived already is not put twice.
    ///
    /// # Cancel safety
    ///
    /// **Not cancel safe:** dropped while it waits for room, the item is dropped and not put; dropped while the server is
    /// being asked, it may be put. [`put_once`](Self::put_once) can be repeated.
    ///
    /// # Errors
    ///
    /// With the item: the queue is shut down or destroyed, the item is no JSON, the server does not answer.
    pub async fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.put_by(item, &token(), self.retry_window(), true).await
    }

    /// Puts `item` unless the queue is full.
    ///
    /// # Cancel safety
    ///
    /// **Not cancel safe:** the item may be put or not.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put), and [`PutError::Full`].
    pub async fn put_nowait(&self, item: T) -> Result<(), PutError<T>> {
        self.put_by(item, &token(), self.retry_window(), false).await
    }

    /// Puts `item` unless one was put under this `key` already, within the time that the queue
    /// [remembers](Options::remember) keys. That counts as put: the call can be repeated until it succeeds.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe**, for it can be repeated.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub async fn put_once(&self, key: &str, item: T) -> Result<(), PutError<T>> {
        self.put_by(item, &format!("once:{key}"), self.inner.remember, true).await
    }

    /// For longer than one call can go on trying.
    fn retry_window(&self) -> Duration {
        self.inner.link.patience().saturating_mul(2).saturating_add(Duration::from_secs(60))
    }

    async fn put_by(&self, item: T, token: &str, remember: Duration, wait: bool) -> Result<(), PutError<T>> {
        let inner = &*self.inner;
        let json = match serde_json::to_vec(&item) {
            Ok(json) => json,
            Err(error) => return Err(PutError::Unencodable(item, error)),
        };
        let mut put = inner.keys.call(&inner.scripts.put);
        put.key(inner.keys.put(token)).arg(json).arg(milliseconds(remember));
        loop {
            let news = inner.news.listen();
            let answer: String = match inner.run("put", &put).await {
                Ok(answer) => answer,
                Err(Undone::Gone) => return Err(PutError::Gone(item)),
                Err(Undone::Broken(broken)) => return Err(PutError::Broken(item, broken)),
            };
            match answer.as_str() {
                "put" => return Ok(()),
                "full" if wait => news.wait().await,
                "full" => return Err(PutError::Full(item)),
                _ => return Err(PutError::ShutDown(item)),
            }
        }
    }
}

/// A name for one put, so that repeating it does no harm.
fn token() -> String {
    format!("{:032x}", fastrand::u128(..))
}

impl<T: DeserializeOwned> RemoteQueue<T> {
    /// Waits for an item. First come those whose worker has not finished them in time.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost**, and lines are not kept anyway. An item that was on its way is delivered
    /// again when its visibility time is up.
    ///
    /// # Errors
    ///
    /// The queue is destroyed, or shut down and done with; the entry is no JSON of a `T` (and is in the error); the server
    /// does not answer.
    pub async fn get(&self) -> Result<Delivery<T>, GetError> {
        loop {
            let news = self.inner.news.listen();
            match self.take("get").await? {
                Taken::Empty(None) => news.wait().await,
                // Whether news came or an item's time is up: look again.
                Taken::Empty(Some(due)) => drop(timeout(due, news.wait()).await),
                taken => return self.deliver(taken),
            }
        }
    }

    /// An item that waits, if there is one.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe**, as [`get`](Self::get).
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and [`GetError::Empty`].
    pub async fn get_nowait(&self) -> Result<Delivery<T>, GetError> {
        let taken = self.take("get_nowait").await?;
        self.deliver(taken)
    }

    async fn take(&self, call: &'static str) -> Result<Taken, GetError> {
        let inner = &*self.inner;
        let mut take = inner.keys.call(&inner.scripts.take);
        take.arg(&inner.worker).arg(milliseconds(inner.visibility));
        let answer = inner.run(call, &take).await?;
        Taken::read(answer).map_err(|error| GetError::Broken(Broken::new(call, error)))
    }

    fn deliver(&self, taken: Taken) -> Result<Delivery<T>, GetError> {
        let (id, attempts, json) = match taken {
            Taken::Item { id, attempts, json } => (id, attempts, json),
            Taken::ShutDown => return Err(GetError::ShutDown),
            Taken::Empty(_) => return Err(GetError::Empty),
        };
        let raw = Delivery::new(json, id, attempts, self.inner.clone());
        raw.try_map(|json| serde_json::from_slice(json))
            .map_err(|(delivery, error)| GetError::Undecodable(Box::new(Undecodable { delivery, error })))
    }
}

impl Taken {
    fn read(answer: Vec<Value>) -> Result<Self, RedisError> {
        let mut answer = answer.into_iter();
        let mut next = || answer.next().unwrap_or(Value::Nil);
        Ok(match String::from_redis_value(next())?.as_str() {
            "item" => {
                let (id, attempts) = (from_redis_value(next())?, from_redis_value(next())?);
                let fields: Vec<(String, Vec<u8>)> = from_redis_value(next())?;
                let json = fields.into_iter().find(|(name, _)| name == "json");
                Self::Item { id, attempts, json: json.map(|(_, value)| value).unwrap_or_default() }
            }
            "shut" => Self::ShutDown,
            _ => {
                let due: i64 = from_redis_value(next())?;
                Self::Empty(u64::try_from(due).ok().map(|due| Duration::from_millis(due.max(1))))
            }
        })
    }
}

impl<T> Clone for RemoteQueue<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), of: PhantomData }
    }
}

impl<T> fmt::Debug for RemoteQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteQueue [{}, maxsize: {}]", self.inner.keys.stream, self.inner.maxsize)
    }
}
