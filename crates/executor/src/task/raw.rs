//! What a task is in memory, and who may touch what: the law of all unsafe code of this crate.
//!
//! A task is one allocation: a header, and the future or, later, what it gave. Its loop's thread (the *owner*) does
//! with it what it likes, in plain memory; every other thread has the word of `state.rs` and nothing else.
//!
//! ```text
//!                 wake on the owner: a flag and a place in the queue, no atomic operation
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
//! | `annex.rs`, `site.rs` | what few tasks have; where it was spawned                                    |
//! | `join_error.rs` | why it gave no value                                                               |
//! | `pool.rs`     | the memory of tasks that are gone                                                    |
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
use super::annex::Annex;
use super::done::TaskEnd;
use super::shared::Shared;
use super::site::Site;
use super::state::Word;
use evenloop_core::cancel::{Requests, Root};
use evenloop_core::context::Context as Variables;
use evenloop_core::shim::UnsafeCell;
use std::any::Any;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr::{self, NonNull};
use std::task::Context;

/// Tells how a task ended, given what points to its outcome.
pub(super) type Look = unsafe fn(*const ()) -> TaskEnd;

/// What a task ends with.
pub(crate) type Outcome<T> = Result<T, JoinError>;

/// The part of a task that does not depend on its future.
pub(super) struct Header {
    /// What other threads may touch.
    pub(super) word: Word,
    pub(super) vtable: &'static VTable,
    /// The loop that owns the task (T5). Never changes; in a cell so that a model sees who reads it before it is freed.
    shared: UnsafeCell<*const Shared>,
    /// The task below this one in the inbox. Whoever set QUEUED writes it; the owner reads it after taking the inbox.
    pub(super) below: UnsafeCell<*mut Header>,
    /// The owner's part (T1).
    pub(super) own: UnsafeCell<Own>,
}

impl Header {
    pub(super) fn new(word: Word, vtable: &'static VTable, shared: *const Shared, own: Own) -> Self {
        let (shared, own) = (UnsafeCell::new(shared), UnsafeCell::new(own));
        Self { word, vtable, shared, below: UnsafeCell::new(ptr::null_mut()), own }
    }

    /// The loop that owns the task.
    #[inline]
    pub(super) fn shared(&self) -> *const Shared {
        // SAFETY: nobody writes it.
        self.shared.with(|shared| unsafe { *shared })
    }

    /// Says to a model that from here on nobody may read this: it is about to be freed.
    pub(super) fn ends(&self) {
        self.shared.with_mut(|_| ());
    }
}

/// What only the owner touches (T1). As small as it gets: a program may have a million tasks.
pub(super) struct Own {
    /// The owner's half of the count of wakers.
    pub(super) refs: i16,
    pub(super) flags: u16,
    /// Where it was spawned, if that is near enough; else the annex says.
    pub(super) site: Site,
    pub(super) id: u64,
    /// Neighbours in the list of all tasks that are not over.
    pub(super) prev: *mut Header,
    pub(super) next: *mut Header,
    /// Who awaits the task, and what few tasks have.
    pub(super) annex: Annex,
}

impl Own {
    pub(super) fn spawned_at(&self) -> &'static Location<'static> {
        let far = || self.annex.get().and_then(|extra| extra.spawned_at);
        self.site.get().or_else(far).expect("a task knows where it was spawned")
    }

    /// What was asked of the task, to be used without a borrow of this.
    #[inline]
    pub(super) fn requests(&self) -> Requests {
        self.annex.get().map_or_else(Requests::new, |extra| extra.requests.clone())
    }

    /// Hands out what a poll is wrapped with.
    #[inline]
    pub(super) fn take_root(&mut self) -> (Root, Requests) {
        match self.annex.get_mut() {
            None => (Root::new(), Requests::new()),
            Some(extra) => (std::mem::take(&mut extra.root), extra.requests.clone()),
        }
    }

    /// Puts back what `take_root` handed out.
    #[inline]
    pub(super) fn put_root(&mut self, root: Root) {
        if !root.is_empty() {
            self.annex.get_or_make().root = root;
        }
    }

    /// Hands out the task's context variables.
    #[inline]
    pub(super) fn take_context(&mut self) -> Variables {
        self.annex.get_mut().map_or_else(Variables::new, |extra| std::mem::take(&mut extra.context))
    }

    /// Puts back what the task's variables are now.
    #[inline]
    pub(super) fn put_context(&mut self, context: Variables) {
        if !context.is_empty() {
            self.annex.get_or_make().context = context;
        }
    }
}

/// In the run queue.
pub(super) const SCHEDULED: u16 = 1;
/// The outcome is there (T3).
pub(super) const OVER: u16 = 2;
/// The outcome was taken or dropped (T3).
pub(super) const TAKEN: u16 = 4;
/// A `RawTask` refers to it.
pub(super) const HANDLE: u16 = 8;
/// The loop is being closed, or waits no longer: its future is dropped at its next turn, whoever catches.
pub(super) const KILL: u16 = 16;
/// The count has settled: even the owner counts on the word now.
pub(super) const SETTLED: u16 = 32;
/// Polled at least once.
pub(super) const STARTED: u16 = 64;
/// Its future is being dropped by a cancellation, or by KILL.
pub(super) const DYING: u16 = 128;
/// In the list of all tasks: from the start until it is freed or settles.
pub(super) const LISTED: u16 = 256;
/// The loop is not done with it: cleared by `let_go`.
pub(super) const LOOP: u16 = 512;
/// A callback in the guise of a task: neither numbered nor counted nor shown to anybody.
pub(super) const CALLBACK: u16 = 1024;
/// How a task ended whose outcome was taken, if not with a value.
pub(super) const ENDED_CANCELLED: u16 = 2048;
pub(super) const ENDED_PANICKED: u16 = 4096;
/// It has a record, and its polls are watched; then it has an annex. Or it is a callback of a loop in debug mode.
pub(super) const WATCHED: u16 = 8192;
/// Nobody shall be told of an error that it gives: a sibling's was passed on.
pub(super) const OVERLOOKED: u16 = 16384;

pub(super) struct VTable {
    /// Polls the future; true: it is over and the outcome is in place.
    pub(super) poll: unsafe fn(TaskPtr, &mut Context<'_>) -> bool,
    /// Drops the future and leaves this error, or the destructor's panic, as the outcome.
    pub(super) kill: unsafe fn(TaskPtr, JoinError),
    /// Replaces the value of a task that was cancelled in its last poll by this error.
    pub(super) revoke: unsafe fn(TaskPtr, JoinError),
    /// Drops the outcome; answers the panic that nobody will see.
    pub(super) discard: unsafe fn(TaskPtr) -> Option<Box<dyn Any + Send>>,
    /// The name of the outcome's type, if it is an `Err` that the future gave.
    pub(super) error: unsafe fn(TaskPtr) -> Option<&'static str>,
    /// Points to the outcome.
    pub(super) outcome: unsafe fn(TaskPtr) -> *const (),
    /// Writes the outcome to where the pointer points, an empty place of the right type.
    pub(super) take_into: unsafe fn(TaskPtr, *mut ()),
    /// Frees the task; true: its memory is kept for the next one, on the owner.
    pub(super) free: unsafe fn(TaskPtr, bool),
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
        unsafe { &*header.shared() }
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
