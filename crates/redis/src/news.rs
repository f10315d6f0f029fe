//! Who waits for something on the server waits here, and one task of the queue watches for all.
//!
//! The watcher has a connection of its own, for what blocks would hold up the others. It learns of every item that is
//! put, whoever puts it, from the stream itself, and of everything else from the stream of news.

use crate::link::{Server, is_passing};
use crate::script::{Keys, Scripts};
use evenloop_core::shim::{Mutex, StdArc};
use evenloop_sync::Event;
use evenloop_time::sleep;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};
use std::mem;
use std::time::Duration;

/// The present news. It is set when there are newer ones.
pub(crate) struct News(Mutex<StdArc<Event>>);

impl News {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(StdArc::new(Event::new())))
    }

    /// To be called before looking at the server (R4): what it gives is set when anything happens from now on.
    pub(crate) fn listen(&self) -> StdArc<Event> {
        self.0.lock().clone()
    }

    fn tell(&self) {
        let old = mem::replace(&mut *self.0.lock(), StdArc::new(Event::new()));
        old.set(); // after the lock: wakers run here
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
        let outcome = match server.connect().await {
            Ok(mut connection) => {
                pause = Duration::from_millis(10);
                follow(&mut connection, &server, &scripts, &keys, &news).await
            }
            Err(error) => Err(error),
        };
        news.tell(); // whatever happened meanwhile
        match outcome {
            Ok(Gone) => return,
            // What is wrong for good is told to the calls, which meet it too.
            Err(error) if !is_passing(&error) => pause = Duration::from_secs(1),
            Err(_) => pause = (pause * 2).min(Duration::from_secs(1)),
        }
        sleep(pause).await;
    }
}

/// The queue has been destroyed.
struct Gone;

async fn follow(
    connection: &mut MultiplexedConnection,
    server: &Server,
    scripts: &Scripts,
    keys: &Keys,
    news: &News,
) -> Result<Gone, RedisError> {
    loop {
        let look: Vec<Value> = server.limited(keys.call(&scripts.look).invoke_async(connection)).await?;
        let Some([items, others]) = look.last_chunk::<2>() else {
            return Ok(Gone);
        };
        news.tell();
        let mut wait = redis::cmd("XREAD");
        wait.arg("COUNT").arg(1).arg("BLOCK").arg(HELD.as_millis() as u64);
        wait.arg("STREAMS").arg(&keys.stream).arg(&keys.news);
        wait.arg(redis::from_redis_value_ref::<String>(items)?);
        wait.arg(redis::from_redis_value_ref::<String>(others)?);
        let _: Value = server.limited_beyond(HELD, wait.query_async(connection)).await?;
    }
}
