//! asyncio's vocabulary in Rust.
//!
//! An event loop on one thread, with timers that can run on a virtual clock, tasks that need not be `Send`, and the
//! primitives that asyncio's users know by name. This crate puts the loop together and re-exports the crates it is made
//! of; each can be taken alone.
//!
//! ```
//! use evenloop::{create_task, gather, sleep};
//! use std::time::Duration;
//!
//! async fn square(x: u64) -> u64 {
//!     sleep(Duration::from_millis(1)).await;
//!     x * x
//! }
//!
//! evenloop::run(async {
//!     let task = create_task(square(4)); // runs beside this from here on
//!     assert_eq!(gather([1, 2, 3].map(square)).await, [1, 4, 9]);
//!     assert_eq!(task.await, 16);
//! });
//! ```
//!
//! | here            | comes from           | holds                                                         |
//! |-----------------|----------------------|---------------------------------------------------------------|
//! | the root        | `evenloop-executor`  | [`run`], [`create_task`], [`gather`], [`EventLoop`], [`Task`] |
//! | [`time`]        | `evenloop-time`      | [`sleep`], [`timeout`], intervals, clocks                     |
//! | [`sync`]        | `evenloop-sync`      | locks, events, semaphores, queues                             |
//! | [`streams`]     | `evenloop-streams`   | sockets, readers and writers, servers, protocols              |
//! | [`process`]     | `evenloop-streams`   | child processes, their pipes and their end                    |
//! | [`coroutine`]   | `evenloop-coroutine` | generators and async generators                               |
//! | [`watch`]       | `evenloop-executor`  | what tasks wait for: dumps, call graphs, traces               |
//! | [`cancel`]      | `evenloop-core`      | scopes that can be cancelled, and clean-up that can await     |
//! | [`context`]     | `evenloop-core`      | variables whose values follow the flow from task to task      |
//! | [`test_kit`]    | this crate           | other orders of tasks, connections in memory, what tests need |
//!
//! # Features
//!
//! `macros` (default): [`main`] and [`test`]. `signal` (default): Ctrl-C cancels what [`run`] runs. `watch` (default): leaf
//! futures and locks tell what tasks wait for, while somebody asks. `console` (default): `EVENLOOP_CONSOLE=1` has a program listen
//! for the command `evenloop`. `tokio`: tokio's `AsyncRead` and `AsyncWrite` on the streams. `hyper`: hyper's `Read` and `Write` on
//! them, and its timer and executor. `tls`: TLS around streams and transports. `tracing`: tasks and what they wait on as spans, for
//! tokio-console.

#![forbid(unsafe_code)]
#![doc(test(attr(allow(unused), deny(unused_must_use))))]

mod run;

mod hang;

pub mod entry;

pub mod test_kit;

/// The guide's chapters: what they show is compiled, and run.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../guide/src/another-runtime.md")]
    struct AnotherRuntime;
    #[doc = include_str!("../guide/src/cancellation.md")]
    struct Cancellation;
    #[doc = include_str!("../guide/src/coming-from-asyncio.md")]
    struct ComingFromAsyncio;
    #[doc = include_str!("../guide/src/coming-from-tokio.md")]
    struct ComingFromTokio;
    #[doc = include_str!("../guide/src/debugging.md")]
    struct Debugging;
    #[doc = include_str!("../guide/src/loop.md")]
    struct Loop;
    #[doc = include_str!("../guide/src/testing.md")]
    struct Testing;
}

#[cfg(feature = "hyper")]
pub mod hyper;

#[cfg(feature = "console")]
pub use evenloop_console as console;
pub use evenloop_core::cancel;
pub use evenloop_core::context::{self, ContextVar};
pub use evenloop_core::{NoRuntime, Runtime};
pub use evenloop_coroutine as coroutine;
pub use evenloop_executor::*;
#[cfg(feature = "macros")]
pub use evenloop_macros::{main, test};
pub use evenloop_streams as streams;
pub use evenloop_streams::process::{self, create_subprocess_exec, create_subprocess_shell};
pub use evenloop_streams::{
    connect_accepted_socket, connect_read_pipe, connect_write_pipe, create_connection,
    create_datagram_endpoint, create_server, create_unix_connection, create_unix_server,
};
pub use evenloop_streams::{open_connection, open_unix_connection, start_server, start_unix_server};
pub use evenloop_sync as sync;
pub use evenloop_time as time;
pub use evenloop_time::{sleep, sleep_until, timeout, timeout_at};
pub use run::{Interrupted, Runner, event_loop_builder, event_loop_on, new_event_loop, run};
