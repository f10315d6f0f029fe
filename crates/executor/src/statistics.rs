//! What a loop looks like, in numbers.

use crate::current::with_current;
use std::time::Instant;

/// What an event loop looked like a moment ago: see [`EventLoop::statistics`](crate::EventLoop::statistics).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// How many tasks were not over.
    pub tasks_alive: usize,
    /// How many tasks and callbacks were ready to run, without the one that asked.
    pub ready: usize,
    /// How many tasks and callbacks other threads had brought or woken that the loop had not looked at.
    pub inbox: usize,
    /// How many timers were pending.
    pub timers: usize,
    /// When the next of them is due, or a little earlier.
    pub next_deadline: Option<Instant>,
    /// How many threads the loop's pool had for blocking jobs.
    pub threads: usize,
    /// How many of those had nothing to do.
    pub idle_threads: usize,
    /// How many jobs waited for one.
    pub queued_jobs: usize,
}

/// What the loop that runs on this thread looks like: trio's `current_statistics`. `None` when none runs.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, create_task, current_statistics};
/// EventLoop::new().run_until_complete(async {
///     create_task(std::future::pending::<()>()).detach();
///     let statistics = current_statistics().unwrap();
///     assert_eq!((statistics.tasks_alive, statistics.ready), (2, 1));
/// });
/// ```
pub fn current_statistics() -> Option<Statistics> {
    with_current(|core| core.statistics())
}
