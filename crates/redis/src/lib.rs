//! A queue across machines: `asyncio.Queue`'s vocabulary on a Redis stream.
//!
//! [`RemoteQueue`] is a type of its own, because it promises other things than a queue inside one process:
//!
//! | | `evenloop_sync::Queue` | [`RemoteQueue`] |
//! |---|---|---|
//! | an item is given out | exactly once | at least once: again when a worker has not said [`task_done`] in time |
//! | an item is | any value, moved | JSON, copied: a Python producer can write it |
//! | dies with | the process | the server's files: see [What survives](#what-survives) |
//! | order between waiters | strictly first come first served | none: whoever asks first after news |
//! | order of items | strict | as put; what comes back comes back out of order |
//! | `maxsize` | exact | exact, over all machines: checked and put in one step on the server |
//! | `get` gives | the item | a [`Delivery`], to be finished by `task_done` |
//! | a call that fails | hands back what was handed in | the same; a [`Delivery`] stays in hand, to be answered again |
//!
//! ```no_run
//! use evenloop_redis::RemoteQueue;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let jobs = RemoteQueue::<String>::open("redis://127.0.0.1", "jobs").await?;
//! jobs.put("resize cat.png".to_owned()).await?;
//!
//! let job = jobs.get().await?; // on any machine
//! println!("{}", *job);
//! job.task_done().await?;
//! jobs.join().await?; // every job that was put is done
//! # Ok(()) }
//! ```
//!
//! [`task_done`]: Delivery::task_done
//!
//! # On the server
//!
//! | key | holds |
//! |---|---|
//! | `NAME` | the stream: one entry an item, in its field `json`; gone when the item is done |
//! | `{NAME}:deadlines` | until when each item that was taken is its worker's; 0: it was given back |
//! | `{NAME}:state` | the queue's generation, `maxsize`, and whether it is shut down |
//! | `{NAME}:news` | at most one entry, whose id moves when somebody who waits should look again |
//! | `{NAME}:put:GENERATION:TOKEN` | for a while: this `put` has arrived, so that a repeated one puts nothing |
//!
//! Every operation is one script (`src/scripts`), which the server runs as one step:
//!
//! R1. What is in the stream and not in the group's list of pending entries waits; so does what was given back, which has
//!     the deadline 0. All else in the stream is with a worker.
//! R2. An entry is in the list iff it has a deadline. Past it, the next `get` of anybody takes it over.
//! R3. Only the worker who had an entry last may finish it: worker and number of deliveries are compared.
//! R4. Whoever waits notes the present news first, then looks, then waits for news: none is missed.
//! R5. Who makes a queue draws its generation. Every script compares the caller's and says `GONE` if it is another, or none:
//!     whoever had the queue before it was destroyed remembers that, asks no more, and never meets a later one of its name.
//!
//! A producer in any language puts by `XADD NAME * json '{"…"}'`: at once, whatever `maxsize` says. Workers in other
//! languages run the scripts.
//!
//! # What survives
//!
//! A worker that dies: its items come back after the *visibility* time. A connection that breaks: every call tries again
//! for as long as the *patience* lasts, and a `put` that had arrived already is not put twice. A server that restarts: what
//! its append-only file holds; with `appendfsync everysec`, its default, that is all but the last second, with `always`
//! all that was answered.
//!
//! # Where it runs
//!
//! Under every host that offers timers, a reactor and tasks that may move between threads: Evenloop's own loop, and tokio
//! and smol with the adapters. Redis 7 or newer, or Valkey.

#![forbid(unsafe_code)]
#![doc(test(attr(allow(unused), deny(unused_must_use))))]

/// What the README shows is run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod delivery;
mod error;
mod link;
mod news;
mod options;
mod queue;
mod script;

pub use delivery::Delivery;
pub use error::{AnswerError, Broken, GetError, OpenError, PutError, Undecodable};
pub use options::Options;
pub use queue::{RemoteQueue, RemoteQueueStatistics};
