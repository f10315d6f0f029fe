//! Hooks for each step of a loop: trio's instruments.

use crate::task::TaskId;
use crate::watch::record::TaskRecord;
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
pub struct Step<'a>(pub(crate) &'a TaskRecord);

impl Step<'_> {
    /// The task's number.
    pub fn id(&self) -> TaskId {
        TaskId::new(self.0.id)
    }

    /// The task's name: what it was given, else `Task-N` with its number.
    pub fn name(&self) -> String {
        self.0.name()
    }

    /// Where the task was spawned.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.0.spawned_at
    }

    /// Whether it is being polled.
    pub fn is_running(&self) -> bool {
        self.0.polled_since().is_some()
    }

    /// How many times it had been polled before this step.
    pub fn polls(&self) -> u64 {
        self.0.polls()
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
