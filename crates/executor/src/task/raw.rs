//! What a task is in memory, and who may touch what: the law of all unsafe code of this crate.
//!
//! A task is one piece of memory: a header, and the future or, later, what it gave. Its loop's thread (the *owner*) does
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
//! | `cell.rs`     | the header and the future behind it                                                  |
//! | `annex.rs`, `site.rs` | what few tasks have; where it was spawned                                    |
//! | `join_error.rs` | why it gave no value                                                               |
//! | `places.rs`   | where tasks lie: in chunks or alone; how the loop finds them all                     |
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
//!     whatever is left. The memory of tasks goes back with `Shared` at the latest.
//! T6. No panic leaves `poll`, `kill` or `discard`: user code runs inside `catch_unwind` there.

use super::JoinError;
use super::TaskId;
use super::annex::Annex;
use super::done::TaskEnd;
use super::places::shared_of;
use super::shared::Shared;
use super::site::Site;
use super::state::Word;
use evenloop_core::cancel::{Requests, Root};
use evenloop_core::context::Context as Variables;
use evenloop_core::shim::UnsafeCell;
use std::alloc::Layout;
use std::any::Any;
use std::panic::Location;
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
    /// The functions for its type; with [`ALONE`] added if it is alone (K1 in `places.rs`).
    vtable: *const VTable,
    /// Nothing: so that a model sees who uses the task before it is freed.
    used: UnsafeCell<()>,
    /// The task below this one in the inbox. Whoever set QUEUED writes it; the owner reads it after taking the inbox. In a free
    /// place: the next one.
    pub(super) below: UnsafeCell<*mut Header>,
    /// The owner's part (T1).
    pub(super) own: UnsafeCell<Own>,
}

impl Header {
    #[inline]
    pub(super) fn new(word: Word, vtable: &'static VTable, alone: bool, own: Own) -> Self {
        let bit = if alone { ALONE } else { 0 };
        let vtable = ptr::from_ref(vtable).map_addr(|address| address | bit);
        let (used, below) = (UnsafeCell::new(()), UnsafeCell::new(ptr::null_mut()));
        Self { word, vtable, used, below, own: UnsafeCell::new(own) }
    }

    #[inline]
    pub(super) fn vtable(&self) -> &'static VTable {
        let vtable = self.vtable.map_addr(|address| address & !ALONE);
        // SAFETY: `new` had it from such a reference.
        unsafe { &*vtable }
    }

    /// Whether the task is alone, or lies in a chunk.
    #[inline]
    pub(super) fn is_alone(&self) -> bool {
        self.used.with(|_| ());
        self.vtable.addr() & ALONE != 0
    }

    /// Says to a model that nobody uses the task at the same time, and from here on only whoever comes after this.
    pub(super) fn ends(&self) {
        self.used.with_mut(|_| ());
    }
}

#[cfg(not(any(evenloop_loom, evenloop_tsan)))]
const _: () = assert!(size_of::<Header>() <= 48, "a program may have a million tasks");

/// What only the owner touches (T1).
pub(super) struct Own {
    /// The owner's half of the count of wakers.
    pub(super) refs: i16,
    pub(super) flags: u16,
    /// Where it was spawned, if that is near enough; else the annex says.
    pub(super) site: Site,
    /// A task's number. A callback has the number of the task before it, moved up by [`CALLBACK_BITS`], and below it how
    /// many callbacks have come since then; when those are too many, it counts on.
    pub(super) id: u64,
    /// Who awaits the task, and what few tasks have.
    pub(super) annex: Annex,
}

/// So many callbacks between two tasks have numbers that tell whether they are older than the next task. Among callbacks the
/// age is always right.
const CALLBACK_BITS: u32 = 24;

/// What is below the `id` of all callbacks after the task of this number.
pub(super) fn first_callback(last_task: u64) -> u64 {
    last_task << CALLBACK_BITS
}

impl Own {
    /// The number that is shown: a callback has that of the task before it.
    pub(super) fn number(&self) -> u64 {
        if self.flags & CALLBACK != 0 { self.id >> CALLBACK_BITS } else { self.id }
    }

    /// Who has more is newer.
    pub(super) fn age(&self) -> u128 {
        let id = u128::from(self.id);
        if self.flags & CALLBACK != 0 { id } else { id << CALLBACK_BITS }
    }

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
/// The loop finds it among its tasks: from the start until it is freed or settles.
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

/// A bit that no address of a [`VTable`] has.
const ALONE: usize = 1;
const _: () = assert!(align_of::<VTable>() > ALONE);

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
    /// What the task takes.
    pub(super) layout: Layout,
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
        let shared = unsafe { shared_of(self) };
        // SAFETY: T5.
        unsafe { shared.as_ref() }
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
