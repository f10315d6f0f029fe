//! Who waits for something on the server waits here, and one task of the queue watches for all.
//!
//! The watcher has a connection of its own, for what blocks would hold up the others. It learns of every item that is
//! put, whoever puts it, from the stream itself, and of everything else from the stream of news. It ends when the queue
//! is gone, and from then on nobody waits (R5).

use crate::link::{Server, is_passing};
use crate::script::{Keys, Look, Scripts, is_gone};
use evenloop_core::shim::{Mutex, StdArc};
use evenloop_sync::Event;
use evenloop_time::sleep;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};
use std::convert::Infallible;
use std::mem;
use std::time::Duration;

/// What those who wait wait for.
pub(crate) struct News {
    /// The present news. It is set when there are newer ones.
    present: Mutex<StdArc<Event>>,
    /// Set when the queue is gone, before that is told.
    over: Event,
}

impl News {
    pub(crate) fn new() -> Self {
        Self { present: Mutex::new(StdArc::new(Event::new())), over: Event::new() }
    }

    /// To be called before looking at the server (R4): what it gives is set when anything happens from now on.
    pub(crate) fn listen(&self) -> StdArc<Event> {
        self.present.lock().clone()
    }

    fn tell(&self) {
        let old = mem::replace(&mut *self.present.lock(), StdArc::new(Event::new()));
        old.set(); // after the lock: wakers run here
    }

    /// The last news: the queue is gone. Who listens after them finds it so.
    pub(crate) fn end(&self) {
        self.over.set();
        self.tell();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.is_set()
    }
}

/// How long the server holds one question open. It is asked again at once; a connection that is dead shows by this.
const HELD: Duration = Duration::from_secs(10);

/// Watches the server until it is dropped.
pub(crate) async fn watch(
    server: StdArc<Server>,
    scripts: StdArc<Scripts>,
    keys: StdArc<Keys>,
    news: StdArc<News>,
) {
    let mut pause = Duration::from_millis(10);
    loop {
        let Err(error) = match server.connect().await {
            Ok(mut connection) => {
                pause = Duration::from_millis(10);
                follow(&mut connection, &server, &scripts, &keys, &news).await
            }
            Err(error) => Err(error),
        };
        news.tell(); // whatever happened meanwhile
        if is_gone(&error) {
            return news.end();
        }
        // What is wrong for good is told to the calls, which meet it too.
        pause = if is_passing(&error) { pause * 2 } else { Duration::MAX }.min(Duration::from_secs(1));
        sleep(pause).await;
    }
}

/// Tells all news until there are none: the queue is gone, or the connection is broken.
async fn follow(
    connection: &mut MultiplexedConnection,
    server: &Server,
    scripts: &Scripts,
    keys: &Keys,
    news: &News,
) -> Result<Infallible, RedisError> {
    loop {
        let look: Look = server.limited(keys.call(&scripts.look).invoke_async(connection)).await?;
        news.tell();
        let mut wait = redis::cmd("XREAD");
        wait.arg("COUNT").arg(1).arg("BLOCK").arg(HELD.as_millis() as u64);
        wait.arg("STREAMS").arg(&keys.stream).arg(&keys.news);
        let (_, _, _, last_item, last_news) = look;
        wait.arg(last_item).arg(last_news);
        let _: Value = server.limited_beyond(HELD, wait.query_async(connection)).await?;
    }
}
