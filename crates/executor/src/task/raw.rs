//! What a task is in memory, and who may touch what: the law of all unsafe code of this crate.
//!
//! A task is one allocation: a header, and the future or, later, what it gave. Its loop's thread (the *owner*) does
//! with it what it likes, in plain memory; every other thread has the word of `state.rs` and nothing else.
//!
//! ```text
//!                      wake on the owner: a flag and a link, no atomic operation
//!            ┌───────────────────────────────────────────────────────────────────────┐
//!   idle ────┤                                                                       ├──► run queue ──► polled
//!            └── wake elsewhere: QUEUED ──► inbox (a stack in one word) ──► drain ───┘
//! ```
//!
//! A waker knows whether it is on the owner by comparing the loop that runs on this thread (a thread-local pointer) with the
//! loop of its task. A loop never leaves its thread, so if they are equal this is the owner.
//!
//! | file          | holds                                                                                |
//! |---------------|--------------------------------------------------------------------------------------|
//! | this one      | the header, its flags, and the pointer to it                                         |
//! | `state.rs`    | the word that other threads may write                                                |
//! | `cell.rs`     | the allocation: the header and the future in it                                      |
//! | `waker.rs`    | its wakers, and which loop runs on this thread                                       |
//! | `life.rs`     | scheduled, asked to end, let go of, freed                                            |
//! | `shared.rs`   | the part of a loop that tasks point to: inbox and run queue                          |
//! | `sched.rs`    | the loop's hand on its tasks: making, listing, closing                               |
//! | `turn.rs`     | one turn: out of the run queue, polled, finished                                     |
//! | `raw_task.rs`, `task_ref.rs` | the owner's handle; a counted reference for any thread                |
//!
//! T1. `Own` and `Queue` are touched by the owner only; before a task is in the inbox for the first time, by its maker.
//!     The owner's handles (`Sched`, `RawTask`) are neither `Send` nor `Sync`.
//! T2. A borrow of `Own` or `Queue` lasts for one closure, which runs no foreign code (no waker, destructor, hook).
//! T3. The stage holds the future until `OVER`, then the outcome until `TAKEN`, then nothing. Only the owner touches it.
//! T4. A task is freed once it is over, out of the run queue, and nobody refers to it: neither a `RawTask` (`HANDLE`) nor
//!     a waker. How wakers are counted: `state.rs`. When wakers are left behind, the count *settles* and the last of
//!     them frees the task, on whatever thread.
//! T5. Whoever holds a reference to a task may use the `Shared` of its loop: while the task has not settled, the loop is
//!     open and holds `Shared`; a task that settles takes a reference to `Shared` with it, and closing the loop settles
//!     whatever is left.
//! T6. No panic leaves `poll`, `kill` or `discard`: user code runs inside `catch_unwind` there.

use super::JoinError;
use super::TaskId;
use super::done::{DoneCallbacks, TaskEnd};
use super::shared::Shared;
use super::state::Word;
use super::waker::WAKER;
use crate::watch::record::TaskRecord;
use evenloop_core::cancel::{Requests, Root};
use evenloop_core::context::Context as Variables;
use evenloop_core::shim::{StdArc, UnsafeCell};
use std::any::Any;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr::{self, NonNull};
use std::task::{Context, Waker};

/// Tells how a task ended, given what points to its outcome.
pub(super) type Look = unsafe fn(*const ()) -> TaskEnd;

/// What a task ends with.
pub(crate) type Outcome<T> = Result<T, JoinError>;

/// The part of a task that does not depend on its future.
pub(super) struct Header {
    /// What other threads may touch.
    pub(super) word: Word,
    pub(super) vtable: &'static VTable,
    /// The loop that owns the task (T5).
    pub(super) shared: *const Shared,
    /// The task below this one in the inbox. Whoever set QUEUED writes it; the owner reads it after taking the inbox.
    pub(super) below: UnsafeCell<*mut Header>,
    /// The owner's part (T1).
    pub(super) own: UnsafeCell<Own>,
}

/// What only the owner touches (T1).
pub(super) struct Own {
    /// The owner's half of the count of wakers.
    pub(super) refs: i32,
    pub(super) flags: u32,
    /// The task behind this one in the run queue.
    pub(super) behind: *mut Header,
    /// Neighbours in the list of all tasks that are not over.
    pub(super) prev: *mut Header,
    pub(super) next: *mut Header,
    pub(super) id: u64,
    pub(super) spawned_at: &'static Location<'static>,
    /// Who awaits the task, if that is a task of ours: the data of its waker, which is counted. Else null.
    pub(super) joiner: *const (),
    /// What few tasks have.
    pub(super) extra: Option<Box<Extra>>,
}

/// What few tasks have.
#[derive(Default)]
pub(super) struct Extra {
    pub(super) name: Option<Box<str>>,
    /// Who awaits the task, if that is none of ours.
    pub(super) joiner: Option<Waker>,
    /// What was asked of the task.
    pub(super) requests: Requests,
    /// Who inside the task catches cancellations. Taken out for the time of a poll.
    pub(super) root: Root,
    /// The task's context variables. Taken out for the time of a poll.
    pub(super) context: Variables,
    /// Who is called when it is over. Taken out then, so it never leaves the owner.
    pub(super) done: Option<Box<DoneCallbacks>>,
    /// What others may know of it, while its loop is watched.
    pub(super) record: Option<StdArc<TaskRecord>>,
}

impl Own {
    pub(super) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// What was asked of the task, to be used without a borrow of this.
    #[inline]
    pub(super) fn requests(&self) -> Requests {
        self.extra.as_ref().map_or_else(Requests::new, |extra| extra.requests.clone())
    }

    /// Hands out what a poll is wrapped with. Nearly always both are empty.
    #[inline]
    pub(super) fn take_root(&mut self) -> (Root, Requests) {
        match &mut self.extra {
            None => (Root::new(), Requests::new()),
            Some(extra) => (std::mem::take(&mut extra.root), extra.requests.clone()),
        }
    }

    /// Puts back what `take_root` handed out.
    #[inline]
    pub(super) fn put_root(&mut self, root: Root) {
        if !root.is_empty() {
            self.extra().root = root;
        }
    }

    /// Hands out the task's context variables.
    #[inline]
    pub(super) fn take_context(&mut self) -> Variables {
        self.extra.as_mut().map_or_else(Variables::new, |extra| std::mem::take(&mut extra.context))
    }

    /// Puts back what the task's variables are now.
    #[inline]
    pub(super) fn put_context(&mut self, context: Variables) {
        if !context.is_empty() {
            self.extra().context = context;
        }
    }

    /// Whether this waker is kept already.
    pub(super) fn knows_joiner(&self, waker: &Waker) -> bool {
        match &self.extra {
            _ if !self.joiner.is_null() => ptr::eq(waker.vtable(), &WAKER) && waker.data() == self.joiner,
            Some(extra) => extra.joiner.as_ref().is_some_and(|joiner| joiner.will_wake(waker)),
            None => false,
        }
    }

    /// Keeps a waker; answers the one before, to be dropped without a borrow of this.
    pub(super) fn set_joiner(&mut self, waker: Waker) -> Option<Waker> {
        let before = self.take_joiner();
        if ptr::eq(waker.vtable(), &WAKER) {
            self.joiner = ManuallyDrop::new(waker).data();
        } else {
            self.extra().joiner = Some(waker);
        }
        before
    }

    #[inline]
    pub(super) fn take_joiner(&mut self) -> Option<Waker> {
        let data = std::mem::replace(&mut self.joiner, ptr::null());
        if data.is_null() {
            return self.extra.as_mut().and_then(|extra| extra.joiner.take());
        }
        // SAFETY: `set_joiner` took it from a waker of ours, which it did not drop.
        Some(unsafe { Waker::new(data, &WAKER) })
    }
}

impl Drop for Own {
    /// On whatever thread: `OVER` took the joiner out, and the rest may be dropped anywhere.
    fn drop(&mut self) {
        debug_assert!(self.joiner.is_null(), "a task that is over has no joiner");
        debug_assert!(self.extra.as_ref().is_none_or(|extra| extra.done.is_none()), "nor callbacks");
    }
}

/// In the run queue.
pub(super) const SCHEDULED: u32 = 1;
/// The outcome is there (T3).
pub(super) const OVER: u32 = 2;
/// The outcome was taken or dropped (T3).
pub(super) const TAKEN: u32 = 4;
/// A `RawTask` refers to it.
pub(super) const HANDLE: u32 = 8;
/// The loop is being closed, or waits no longer: its future is dropped at its next turn, whoever catches.
pub(super) const KILL: u32 = 16;
/// The count has settled: even the owner counts on the word now.
pub(super) const SETTLED: u32 = 32;
/// Polled at least once.
pub(super) const STARTED: u32 = 64;
/// Its future is being dropped by a cancellation, or by KILL.
pub(super) const DYING: u32 = 128;
/// In the list of all tasks: from the start until it is freed or settles.
pub(super) const LISTED: u32 = 256;
/// The loop is not done with it: cleared by `let_go`.
pub(super) const LOOP: u32 = 512;
/// A callback in the guise of a task: neither numbered nor counted nor shown to anybody.
pub(super) const CALLBACK: u32 = 1024;
/// How a task ended whose outcome was taken, if not with a value.
pub(super) const ENDED_CANCELLED: u32 = 2048;
pub(super) const ENDED_PANICKED: u32 = 4096;
/// It has a record, and its polls are watched.
pub(super) const WATCHED: u32 = 1 << 16;

pub(super) struct VTable {
    /// Polls the future; true: it is over and the outcome is in place.
    pub(super) poll: unsafe fn(TaskPtr, &mut Context<'_>) -> bool,
    /// Drops the future and leaves this error, or the destructor's panic, as the outcome.
    pub(super) kill: unsafe fn(TaskPtr, JoinError),
    /// Replaces the value of a task that was cancelled in its last poll by this error.
    pub(super) revoke: unsafe fn(TaskPtr, JoinError),
    /// Drops the outcome; answers the panic that nobody will see.
    pub(super) discard: unsafe fn(TaskPtr) -> Option<Box<dyn Any + Send>>,
    /// Points to the outcome.
    pub(super) outcome: unsafe fn(TaskPtr) -> *const (),
    /// Writes the outcome to where the pointer points, an empty place of the right type.
    pub(super) take_into: unsafe fn(TaskPtr, *mut ()),
    pub(super) free: unsafe fn(TaskPtr),
    /// The name of the future's type.
    pub(super) name: fn() -> &'static str,
}

/// Points to a task that is known to be alive. Copies are not counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TaskPtr(pub(super) NonNull<Header>);

impl TaskPtr {
    /// # Safety
    ///
    /// The task is alive for as long as the answer is used.
    pub(super) unsafe fn header<'a>(self) -> &'a Header {
        // SAFETY: as for this function.
        unsafe { self.0.as_ref() }
    }

    /// Lends the owner's part (T2).
    ///
    /// # Safety
    ///
    /// The task is alive and this is the owner (T1). `f` does not lead back to this task's own part.
    pub(super) unsafe fn own<R>(self, f: impl FnOnce(&mut Own) -> R) -> R {
        // SAFETY: as for this function.
        let header = unsafe { self.header() };
        // SAFETY: T1 and T2: nobody else has a borrow of it.
        header.own.with_mut(|own| f(unsafe { &mut *own }))
    }

    /// The shared part of the task's loop.
    ///
    /// # Safety
    ///
    /// The caller's reference to the task lasts for as long as the answer is used (T5).
    pub(super) unsafe fn shared<'a>(self) -> &'a Shared {
        // SAFETY: as for this function.
        let header = unsafe { self.header() };
        // SAFETY: T5.
        unsafe { &*header.shared }
    }
}

/// A snapshot of what is known of a task.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) id: TaskId,
    pub(crate) name: Option<Box<str>>,
    pub(crate) spawned_at: &'static Location<'static>,
    pub(crate) over: bool,
    pub(crate) running: bool,
    pub(crate) started: bool,
    pub(crate) cancelling: bool,
    pub(crate) callback: bool,
}

/// Drops what belongs to a stranger; a destructor that panics has nobody to tell.
pub(super) fn drop_quietly<T>(value: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}
