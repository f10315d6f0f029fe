//! Callbacks for a task's end: `add_done_callback`.
//!
//! They are scheduled when the task is over, in the order of their registration and before who awaits the task, and run in
//! the next pass. Each runs in the context in which it was registered.

use super::raw::Look;
use super::sched::Sched;
use super::{JoinError, TaskInfo};
use evenloop_core::context::Context;
use std::panic::Location;

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskEnd {
    /// With a value.
    Value,
    /// It was cancelled.
    Cancelled,
    /// It panicked.
    Panicked,
}

impl TaskEnd {
    pub(super) fn of<T>(outcome: &Result<T, JoinError>) -> Self {
        match outcome {
            Ok(_) => Self::Value,
            Err(error) if error.is_panic() => Self::Panicked,
            Err(_) => Self::Cancelled,
        }
    }
}

/// Names a callback of one task, for [`Task::remove_done_callback`](super::Task::remove_done_callback).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DoneCallbackId(u64);

/// A callback that waits for a task's end.
pub(crate) struct DoneCallback {
    call: Box<dyn FnOnce(TaskInfo, TaskEnd)>,
    context: Context,
    added_at: &'static Location<'static>,
}

impl DoneCallback {
    pub(crate) fn new(
        call: Box<dyn FnOnce(TaskInfo, TaskEnd)>,
        added_at: &'static Location<'static>,
    ) -> Self {
        Self { call, context: Context::current(), added_at }
    }

    /// Has the loop call it in its next pass.
    pub(super) fn schedule(self, sched: &Sched, task: TaskInfo, end: TaskEnd) {
        let Self { call, context, added_at } = self;
        let turn = async move { call(task, end) };
        context.run(|| drop(sched.spawn_callback(turn, added_at)));
    }
}

/// All callbacks of one task.
pub(super) struct DoneCallbacks {
    last_id: u64,
    entries: Vec<(DoneCallbackId, DoneCallback)>,
    /// Tells how the task ended, given its outcome: whoever adds a callback knows the type.
    pub(super) look: Look,
}

impl DoneCallbacks {
    pub(super) fn new(look: Look) -> Self {
        Self { last_id: 0, entries: Vec::new(), look }
    }

    pub(super) fn add(&mut self, callback: DoneCallback) -> DoneCallbackId {
        self.last_id += 1;
        let id = DoneCallbackId(self.last_id);
        self.entries.push((id, callback));
        id
    }

    pub(super) fn remove(&mut self, id: DoneCallbackId) -> Option<DoneCallback> {
        let place = self.entries.iter().position(|(known, _)| *known == id)?;
        Some(self.entries.remove(place).1)
    }

    /// In the order of registration.
    pub(super) fn into_entries(self) -> impl Iterator<Item = DoneCallback> {
        self.entries.into_iter().map(|(_, callback)| callback)
    }
}
