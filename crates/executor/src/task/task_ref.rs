//! A reference to a task whose type and thread do not matter.

use super::TaskInfo;
use super::raw::*;
use super::state::Wake;
use super::waker::{borrowed_waker, bring, here, waker_task};
use evenloop_core::Cancel;
use evenloop_core::cancel::Cancellation;
use std::task::Waker;

impl TaskInfo {
    /// # Safety
    ///
    /// The task is alive, and this is the owner.
    pub(super) unsafe fn of(task: TaskPtr) -> Self {
        // SAFETY: as for this function.
        Self(unsafe { task.about() }, unsafe { TaskRef::new(task) })
    }
}

/// A counted reference to a task, for any thread: it is one of the task's wakers.
#[derive(Clone)]
pub(crate) struct TaskRef(pub(super) Waker);

impl TaskRef {
    /// # Safety
    ///
    /// The task is alive.
    pub(super) unsafe fn new(task: TaskPtr) -> Self {
        // SAFETY: as for this function; the clone is counted.
        Self((*unsafe { borrowed_waker(task) }).clone())
    }

    /// The task, if this is its owner and the loop knows of it.
    pub(super) fn here(&self) -> Option<TaskPtr> {
        // SAFETY: this waker is one of ours, and alive.
        let task = unsafe { waker_task(self.0.data()) };
        // SAFETY: a waker keeps its task alive.
        let known = || unsafe { task.own(|own| own.flags & LISTED != 0) };
        // SAFETY: a waker keeps its task alive.
        (unsafe { here(task) }.is_some() && known()).then_some(task)
    }

    /// Asks for the task's end. False: it is over. From another thread the reason gets lost, and true may be too late.
    pub(crate) fn request(&self, cancellation: &Cancellation) -> bool {
        match self.here() {
            // SAFETY: this is the owner, and its loop runs.
            Some(task) => unsafe { task.request(cancellation) },
            None => self.cancel(),
        }
    }

    /// Whether the task is known to be over. Asked by the owner.
    pub(crate) fn is_over(&self) -> bool {
        // SAFETY: this is the owner.
        self.here().is_none_or(|task| unsafe { task.own(|own| own.flags & OVER != 0) })
    }

    /// Has the task's future dropped at its next turn, whoever catches. For the owner.
    pub(crate) fn doom(&self) {
        if let Some(task) = self.here() {
            // SAFETY: this is the owner, and its loop runs.
            unsafe { task.doom() }
        }
    }

    /// Gives the task a name, if this is its owner and the loop runs.
    pub(crate) fn set_name(&self, name: Box<str>) {
        if let Some(task) = self.here() {
            // SAFETY: this is the owner.
            let before = unsafe { task.own(|own| own.annex.get_or_make().name.replace(name)) };
            drop(before);
        }
    }

    /// What is known of the task, if this is its owner.
    pub(crate) fn about(&self) -> Option<About> {
        // SAFETY: this is the owner.
        self.here().map(|task| unsafe { task.about() })
    }

    /// Asks for the task's end, from any thread. False: nothing happens, it is over.
    pub(crate) fn cancel(&self) -> bool {
        // SAFETY: this waker is one of ours, and alive.
        let task = unsafe { waker_task(self.0.data()) };
        // SAFETY: a waker keeps its task alive.
        let header = unsafe { task.header() };
        // On the owner too: the task may lie in the inbox still, and not be known to the loop.
        if header.word.cancel() == Wake::Push {
            // SAFETY: QUEUED was set just now.
            unsafe { bring(task) }
        }
        !header.word.is_settled()
    }
}

impl Cancel for TaskRef {
    fn cancel(&self, cancellation: &Cancellation) {
        self.request(cancellation);
    }
}
