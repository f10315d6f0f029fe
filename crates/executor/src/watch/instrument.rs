//! Hooks for each step of a loop: trio's instruments.

use crate::task::TaskId;
use crate::watch::record::TaskRecord;
use evenloop_core::watch::{TaskKey, Waits};
use std::fmt;
use std::panic::Location;
use std::time::Duration;

/// Is called at each step of a loop, on the loop's thread: see [`EventLoop::add_instrument`](crate::EventLoop::add_instrument).
///
/// All hooks do nothing by default. One that panics is reported, and its instrument taken out. A loop without instruments
/// pays nothing for them; one with is watched.
#[expect(unused_variables, reason = "the names are for those who write an instrument")]
pub trait Instrument {
    /// A run of the loop begins.
    fn before_run(&self) {}

    /// A run of the loop has ended.
    fn after_run(&self) {}

    /// A task was spawned.
    fn task_spawned(&self, task: &Step<'_>) {}

    /// A task has become ready: it was spawned, or woken while it was not. Called inside of the call that wakes it.
    fn task_scheduled(&self, task: &Step<'_>) {}

    /// A task is about to be polled.
    fn before_task_step(&self, task: &Step<'_>) {}

    /// A task was polled, and that took so long by the loop's clock.
    fn after_task_step(&self, task: &Step<'_>, took: Duration) {}

    /// A task is over.
    fn task_exited(&self, task: &Step<'_>) {}

    /// The loop is about to wait: for so long at most, `None` for as long as it takes, as far as timers let it.
    fn before_io_wait(&self, timeout: Option<Duration>) {}

    /// The loop has waited.
    fn after_io_wait(&self, timeout: Option<Duration>) {}
}

/// The task that a step is about.
pub struct Step<'a> {
    pub(crate) record: &'a TaskRecord,
    /// The loop's number.
    pub(crate) host: u64,
}

impl Step<'_> {
    /// The task's number.
    pub fn id(&self) -> TaskId {
        TaskId::new(self.record.id)
    }

    /// Names the task in this process.
    pub fn key(&self) -> TaskKey {
        TaskKey { host: self.host, task: self.record.id }
    }

    /// The task's name: what it was given, else `Task-N` with its number.
    pub fn name(&self) -> String {
        self.record.name()
    }

    /// Where the task was spawned.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.record.spawned_at
    }

    /// Whether it is being polled.
    pub fn is_running(&self) -> bool {
        self.record.polled_since().is_some()
    }

    /// How many times it had been polled before this step.
    pub fn polls(&self) -> u64 {
        self.record.polls()
    }

    /// What it waits for, as its latest poll has told: a copy. In [`after_task_step`](Instrument::after_task_step) that is the
    /// poll which has just ended. A task that is over waits for nothing, whatever its last poll has told.
    ///
    /// # Examples
    ///
    /// ```
    /// use evenloop_executor::watch::{Instrument, Step};
    /// use evenloop_executor::{EventLoop, create_task, yield_now};
    /// use std::rc::Rc;
    /// use std::time::Duration;
    ///
    /// struct Waiting;
    ///
    /// impl Instrument for Waiting {
    ///     fn after_task_step(&self, task: &Step<'_>, _: Duration) {
    ///         for wait in task.waits().iter() {
    ///             println!("{} waits in {}, poll {}", task.name(), wait.call, wait.polls);
    ///         }
    ///     }
    /// }
    ///
    /// let event_loop = EventLoop::new();
    /// event_loop.add_instrument(Rc::new(Waiting));
    /// event_loop.run_until_complete(async { create_task(yield_now()).await }); // Task-1 waits in await, poll 1
    /// ```
    pub fn waits(&self) -> Waits {
        self.record.waits()
    }
}

impl fmt::Debug for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Step [{} spawned at {}]", self.name(), self.spawned_at())
    }
}

/// Names an instrument of one loop, to take it out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstrumentId(pub(crate) u64);
