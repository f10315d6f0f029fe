//! The event loop and its tasks.
//!
//! An [`EventLoop`] runs tasks on one thread, in passes as asyncio's loop does: what was ready when a pass began runs in
//! it, in the order in which it became ready; what that makes ready runs in the next pass. Tasks need not be `Send`.
//!
//! | module       | holds                                                                                 |
//! |--------------|---------------------------------------------------------------------------------------|
//! | `event_loop` | the loop: passes, parking, running, closing                                           |
//! | `task`       | the handle; `task/raw.rs` says what a task is in memory and who may touch what        |
//! | `current`    | the loop that runs on this thread                                                     |
//! | `callback`   | `call_soon` and its relatives                                                         |
//! | `handle`     | the loop's handle for other threads                                                   |
//! | `remote`     | tasks that another thread waits for                                                   |
//! | `portal`     | a loop on a thread of its own, to be called into                                      |
//! | `thread_pool`, `job` | threads for what would block the loop, and one such job                       |
//! | `slot`       | where an outcome is delivered to whoever waits elsewhere                              |
//! | `quietly`    | foreign destructors where nobody can be told of their panics                           |
//! | `statistics` | a loop in numbers                                                                     |
//! | `unhandled`  | errors that nobody can see any more                                                   |
//! | `finally`    | clean-up on every way out: `finally`, `with`                                          |
//! | `shield`, `checkpoint` | waiting without handing a cancellation in; points at which it strikes       |
//! | `gather`, `as_completed` | many at once: `gather`, `as_completed`, `wait`                            |
//! | `wait_for`   | a task, and how long it may take                                                      |
//! | `staggered_race` | attempts that start one after the other                                           |
//! | `group`      | `TaskGroup`: no child outlives its block; `group/borrowing.rs`: children that borrow  |
//! | `watch`      | what tasks wait for: dumps, call graphs, instruments, traces                          |
//! | `watchdog`   | names a task that blocks its loop, while it does                                      |
//! | `interrupt`  | Ctrl-C as a future (feature `signal`)                                                 |
//!
//! The executor knows no clock and no descriptor: it parks on whatever [`Park`](evenloop_core::Park) it is given.

#![deny(unsafe_code)]
#![doc(test(attr(allow(unused), deny(unused_must_use))))]

/// What the README shows is run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod event_loop;

mod task;

mod callback;
mod current;
mod handle;
mod job;
mod portal;
mod quietly;
mod remote;
mod settled;
mod slot;
mod statistics;
mod thread_pool;
mod unhandled;
mod yield_now;

pub mod watch;

mod watchdog;

mod as_completed;
mod checkpoint;
mod finally;
mod gather;
mod group;
mod named;
mod shield;
mod staggered_race;
mod wait_for;

#[cfg(feature = "signal")]
mod interrupt;

pub use as_completed::{AsCompleted, ReturnWhen, as_completed, wait};
pub use callback::{CallHandle, ThreadsafeCallHandle, call_at, call_later, call_soon};
pub use checkpoint::{checkpoint, checkpoint_if_cancelled};
pub use current::{all_tasks, create_eager_task, create_named_task, create_task, current_task, is_running};
pub use event_loop::{Builder, EventLoop, RunError};
pub use finally::{End, Resource, finally, with};
pub use gather::{Children, Gather, ensure_future, gather, gather_all, gather_settled, try_gather};
pub use group::{
    BorrowedChild, BorrowingGroup, Child, ChildError, GroupError, NotStarted, StartError, Started, TaskGroup,
};
pub use handle::Handle;
#[cfg(feature = "signal")]
pub use interrupt::{CtrlC, ctrl_c};
pub use job::{Job, JobScope, to_thread, try_to_thread};
pub use portal::{Portal, PortalLease, PortalProvider};
pub use remote::RemoteTask;
pub use settled::{Settled, settled};
pub use shield::{Shield, shield};
pub use staggered_race::{Race, RaceEnd, staggered_race};
pub use statistics::{Statistics, current_statistics};
pub use task::done::{DoneCallbackId, TaskEnd};
pub use task::{Join, JoinError, Task, TaskId, TaskInfo, TaskState};
pub use thread_pool::{PoolStatistics, ThreadPool};
pub use unhandled::Unhandled;
pub use wait_for::wait_for;
pub use watch::{Instrument, capture_call_graph, dump, format_call_graph, print_call_graph, snapshot};
pub use watchdog::{Blocked, clear_blocked_hook, set_blocked_hook};
pub use yield_now::{YieldNow, yield_now};
