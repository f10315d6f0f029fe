//! The task cell, the wakers that point to it, and the queues that it hangs in: all unsafe code of this crate.
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
//! T1. `Own` and `Queue` are touched by the owner only; before a task is in the inbox for the first time, by its maker.
//!     The owner's handles ([`Sched`], [`RawTask`]) are neither `Send` nor `Sync`.
//! T2. A borrow of `Own` or `Queue` lasts for one closure, which runs no foreign code (no waker, destructor, hook).
//! T3. The stage holds the future until `OVER`, then the outcome until `TAKEN`, then nothing. Only the owner touches it.
//! T4. A task is freed once it is over, out of the run queue, and nobody refers to it: neither a [`RawTask`] (`HANDLE`) nor
//!     a waker. How wakers are counted: `state.rs`. When wakers are left behind, the count *settles* and the last of
//!     them frees the task, on whatever thread.
//! T5. Whoever holds a reference to a task may use the `Shared` of its loop: while the task has not settled, the loop is
//!     open and holds `Shared`; a task that settles takes a reference to `Shared` with it, and closing the loop settles
//!     whatever is left.
//! T6. No panic leaves `poll`, `kill` or `discard`: user code runs inside `catch_unwind` there.

use super::state::{Taken, Wake, Word};
use super::{JoinError, TaskId};
use crate::unhandled::{Hook, Unhandled};
use evenloop_core::Unpark;
use evenloop_core::cancel::{Reason, Requests, Root, Turn, open_inside_here};
use evenloop_core::shim::atomic::{AtomicPtr, Ordering};
use evenloop_core::shim::{StdArc, UnsafeCell, thread_local};
use std::any::Any;
use std::cell::Cell;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit, needs_drop};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

/// What a task ends with.
pub(crate) type Outcome<T> = Result<T, JoinError>;

// === The cell ===

/// The part of a task that does not depend on its future.
struct Header {
    /// What other threads may touch.
    word: Word,
    vtable: &'static VTable,
    /// The loop that owns the task (T5).
    shared: *const Shared,
    /// The task below this one in the inbox. Whoever set QUEUED writes it; the owner reads it after taking the inbox.
    below: UnsafeCell<*mut Header>,
    /// The owner's part (T1).
    own: UnsafeCell<Own>,
}

/// What only the owner touches (T1).
struct Own {
    /// The owner's half of the count of wakers.
    refs: i32,
    flags: u32,
    /// The task behind this one in the run queue.
    behind: *mut Header,
    /// Neighbours in the list of all tasks that are not over.
    prev: *mut Header,
    next: *mut Header,
    id: u64,
    spawned_at: &'static Location<'static>,
    /// Who awaits the task, if that is a task of ours: the data of its waker, which is counted. Else null.
    joiner: *const (),
    /// What few tasks have.
    extra: Option<Box<Extra>>,
}

/// What few tasks have.
#[derive(Default)]
struct Extra {
    name: Option<Box<str>>,
    /// Who awaits the task, if that is none of ours.
    joiner: Option<Waker>,
    /// What was asked of the task.
    requests: Requests,
    /// Who inside the task catches cancellations. Taken out for the time of a poll.
    root: Root,
}

impl Own {
    fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// What was asked of the task, to be used without a borrow of this.
    #[inline]
    fn requests(&self) -> Requests {
        self.extra.as_ref().map_or_else(Requests::new, |extra| extra.requests.clone())
    }

    /// Hands out what a poll is wrapped with. Nearly always both are empty.
    #[inline]
    fn take_root(&mut self) -> (Root, Requests) {
        match &mut self.extra {
            None => (Root::new(), Requests::new()),
            Some(extra) => (std::mem::take(&mut extra.root), extra.requests.clone()),
        }
    }

    /// Puts back what `take_root` handed out.
    #[inline]
    fn put_root(&mut self, root: Root) {
        if !root.is_empty() {
            self.extra().root = root;
        }
    }

    /// Whether this waker is kept already.
    fn knows_joiner(&self, waker: &Waker) -> bool {
        match &self.extra {
            _ if !self.joiner.is_null() => ptr::eq(waker.vtable(), &WAKER) && waker.data() == self.joiner,
            Some(extra) => extra.joiner.as_ref().is_some_and(|joiner| joiner.will_wake(waker)),
            None => false,
        }
    }

    /// Keeps a waker; answers the one before, to be dropped without a borrow of this.
    fn set_joiner(&mut self, waker: Waker) -> Option<Waker> {
        let before = self.take_joiner();
        if ptr::eq(waker.vtable(), &WAKER) {
            self.joiner = ManuallyDrop::new(waker).data();
        } else {
            self.extra().joiner = Some(waker);
        }
        before
    }

    #[inline]
    fn take_joiner(&mut self) -> Option<Waker> {
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
    }
}

/// In the run queue.
const SCHEDULED: u32 = 1;
/// The outcome is there (T3).
const OVER: u32 = 2;
/// The outcome was taken or dropped (T3).
const TAKEN: u32 = 4;
/// A `RawTask` refers to it.
const HANDLE: u32 = 8;
/// The loop is being closed, or waits no longer: its future is dropped at its next turn, whoever catches.
const KILL: u32 = 16;
/// The count has settled: even the owner counts on the word now.
const SETTLED: u32 = 32;
/// Polled at least once.
const STARTED: u32 = 64;
/// Its future is being dropped by a cancellation, or by KILL.
const DYING: u32 = 128;
/// In the list of all tasks: from the start until it is freed or settles.
const LISTED: u32 = 256;
/// The loop is not done with it: cleared by `let_go`.
const LOOP: u32 = 512;
/// A callback in the guise of a task: neither numbered nor counted nor shown to anybody.
const CALLBACK: u32 = 1024;

struct VTable {
    /// Polls the future; true: it is over and the outcome is in place.
    poll: unsafe fn(TaskPtr, &mut Context<'_>) -> bool,
    /// Drops the future and leaves this error, or the destructor's panic, as the outcome.
    kill: unsafe fn(TaskPtr, JoinError),
    /// Replaces the value of a task that was cancelled in its last poll by this error.
    revoke: unsafe fn(TaskPtr, JoinError),
    /// Drops the outcome; answers the panic that nobody will see.
    discard: unsafe fn(TaskPtr) -> Option<Box<dyn Any + Send>>,
    /// Points to the outcome.
    outcome: unsafe fn(TaskPtr) -> *const (),
    /// Writes the outcome to where the pointer points, an empty place of the right type.
    take_into: unsafe fn(TaskPtr, *mut ()),
    free: unsafe fn(TaskPtr),
}

#[repr(C)]
struct TaskCell<F: Future> {
    /// First, so that a pointer to the cell is one to the header.
    header: Header,
    stage: UnsafeCell<Stage<F>>,
}

/// T3. Laid out as C does, so a pointer to it is one to whichever of the two it holds.
#[repr(C)]
union Stage<F: Future> {
    future: ManuallyDrop<F>,
    outcome: ManuallyDrop<Outcome<F::Output>>,
}

/// Points to a task that is known to be alive. Copies are not counted.
#[derive(Clone, Copy, PartialEq, Eq)]
struct TaskPtr(NonNull<Header>);

impl<F: Future> TaskCell<F> {
    const VTABLE: VTable = VTable {
        poll: Self::poll,
        kill: Self::kill,
        revoke: Self::revoke,
        discard: Self::discard,
        outcome: Self::outcome,
        take_into: Self::take_into,
        free: Self::free,
    };

    fn alloc(
        future: F,
        word: Word,
        shared: *const Shared,
        flags: u32,
        spawned_at: &'static Location<'static>,
    ) -> TaskPtr {
        let own = Own {
            refs: 0,
            flags: flags | LOOP,
            behind: ptr::null_mut(),
            prev: ptr::null_mut(),
            next: ptr::null_mut(),
            id: 0,
            spawned_at,
            joiner: ptr::null(),
            extra: None,
        };
        let header = Header {
            word,
            vtable: &Self::VTABLE,
            shared,
            below: UnsafeCell::new(ptr::null_mut()),
            own: UnsafeCell::new(own),
        };
        let stage = UnsafeCell::new(Stage { future: ManuallyDrop::new(future) });
        TaskPtr(NonNull::from(Box::leak(Box::new(Self { header, stage }))).cast())
    }

    /// Lends the stage.
    ///
    /// # Safety
    ///
    /// The task is alive, of type `F`, and this is the owner (T3). `f` does not lead back to this stage.
    unsafe fn stage<R>(task: TaskPtr, f: impl FnOnce(*mut Stage<F>) -> R) -> R {
        // SAFETY: the caller says that the cell is alive and of this type.
        let cell = unsafe { task.0.cast::<Self>().as_ref() };
        cell.stage.with_mut(f)
    }

    /// Drops the future in its place and puts the outcome there. A destructor that panics wins over the outcome, unless
    /// that is a panic already.
    ///
    /// # Safety
    ///
    /// As for `stage`; the stage holds the future.
    unsafe fn replace(stage: *mut Stage<F>, outcome: Outcome<F::Output>) {
        let drop_future = || {
            // SAFETY: T3: the stage holds the future, and below it holds the outcome, so nobody drops it again.
            unsafe { ptr::drop_in_place(stage.cast::<F>()) }
        };
        let dropped = if needs_drop::<F>() { catch_unwind(AssertUnwindSafe(drop_future)) } else { Ok(()) };
        let outcome = match (dropped, outcome) {
            (Err(panic), Ok(value)) => {
                // Its destructor may panic too; the first panic is the one to tell of.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
                Err(JoinError::panicked(panic))
            }
            (Err(panic), Err(error)) if error.is_cancelled() => Err(JoinError::panicked(panic)),
            (_, outcome) => outcome,
        };
        // SAFETY: the caller owns the stage; the future in it is gone.
        unsafe { stage.write(Stage { outcome: ManuallyDrop::new(outcome) }) }
    }

    /// # Safety
    ///
    /// As for `stage`; the stage holds the future.
    unsafe fn poll(task: TaskPtr, cx: &mut Context<'_>) -> bool {
        let poll = |stage: *mut Stage<F>| {
            let polled = catch_unwind(AssertUnwindSafe(|| {
                // SAFETY: the caller says that the stage holds the future and that nobody else touches it.
                let future = unsafe { &mut *stage.cast::<F>() };
                // SAFETY: the future lies in an allocation that never moves, and is dropped in its place.
                unsafe { Pin::new_unchecked(future) }.poll(cx)
            }));
            let outcome = match polled {
                Ok(Poll::Pending) => return false,
                Ok(Poll::Ready(value)) => Ok(value),
                Err(panic) => Err(JoinError::panicked(panic)),
            };
            // SAFETY: as for this function.
            unsafe { Self::replace(stage, outcome) }
            true
        };
        // SAFETY: as for this function; the future cannot reach its own stage.
        unsafe { Self::stage(task, poll) }
    }

    /// # Safety
    ///
    /// As for `stage`; the stage holds the future.
    unsafe fn kill(task: TaskPtr, error: JoinError) {
        let kill = |stage: *mut Stage<F>| {
            // SAFETY: as for this function.
            unsafe { Self::replace(stage, Err(error)) }
        };
        // SAFETY: as for this function; a destructor cannot reach this stage.
        unsafe { Self::stage(task, kill) }
    }

    /// # Safety
    ///
    /// As for `stage`; the stage holds the outcome, which is not touched again but by `revoke`.
    unsafe fn take(task: TaskPtr) -> Outcome<F::Output> {
        let take = |stage: *mut Stage<F>| {
            // SAFETY: the caller says that the stage holds the outcome, and that nobody touches it again.
            unsafe { stage.cast::<Outcome<F::Output>>().read() }
        };
        // SAFETY: as for this function.
        unsafe { Self::stage(task, take) }
    }

    /// # Safety
    ///
    /// As for `stage`; the stage holds the outcome.
    unsafe fn revoke(task: TaskPtr, error: JoinError) {
        // SAFETY: as for this function; it is filled again below.
        let outcome = unsafe { Self::take(task) };
        let outcome = match outcome {
            Ok(value) => match catch_unwind(AssertUnwindSafe(|| drop(value))) {
                Ok(()) => Err(error),
                Err(panic) => Err(JoinError::panicked(panic)),
            },
            panicked => panicked,
        };
        let put = |stage: *mut Stage<F>| {
            // SAFETY: as for this function; what was there is taken.
            unsafe { stage.write(Stage { outcome: ManuallyDrop::new(outcome) }) }
        };
        // SAFETY: as for this function.
        unsafe { Self::stage(task, put) }
    }

    /// # Safety
    ///
    /// As for `take`.
    unsafe fn discard(task: TaskPtr) -> Option<Box<dyn Any + Send>> {
        // SAFETY: as for this function.
        let outcome = unsafe { Self::take(task) };
        match outcome {
            Ok(value) => catch_unwind(AssertUnwindSafe(|| drop(value))).err(),
            Err(error) => error.into_panic().ok(),
        }
    }

    /// # Safety
    ///
    /// As for `stage`; the stage holds the outcome.
    unsafe fn outcome(task: TaskPtr) -> *const () {
        // SAFETY: as for this function.
        unsafe { Self::stage(task, |stage| stage.cast_const().cast()) }
    }

    /// # Safety
    ///
    /// As for `take`; `place` is an empty place for an `Outcome<F::Output>`.
    unsafe fn take_into(task: TaskPtr, place: *mut ()) {
        // SAFETY: as for this function.
        let outcome = unsafe { Self::take(task) };
        // SAFETY: as for this function.
        unsafe { place.cast::<Outcome<F::Output>>().write(outcome) }
    }

    /// # Safety
    ///
    /// T4: nobody refers to the task, and the stage is empty. Any thread.
    unsafe fn free(task: TaskPtr) {
        // SAFETY: it came from a box of this type, and nobody refers to it any more.
        drop(unsafe { Box::from_raw(task.0.cast::<Self>().as_ptr()) });
    }
}

impl TaskPtr {
    /// # Safety
    ///
    /// The task is alive for as long as the answer is used.
    unsafe fn header<'a>(self) -> &'a Header {
        // SAFETY: as for this function.
        unsafe { self.0.as_ref() }
    }

    /// Lends the owner's part (T2).
    ///
    /// # Safety
    ///
    /// The task is alive and this is the owner (T1). `f` does not lead back to this task's own part.
    unsafe fn own<R>(self, f: impl FnOnce(&mut Own) -> R) -> R {
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
    unsafe fn shared<'a>(self) -> &'a Shared {
        // SAFETY: as for this function.
        let header = unsafe { self.header() };
        // SAFETY: T5.
        unsafe { &*header.shared }
    }

    /// Puts the task at the end of the run queue, if it is not there and not over.
    ///
    /// # Safety
    ///
    /// As for `own`, and the loop is alive.
    #[inline]
    unsafe fn schedule(self) {
        let schedule = |own: &mut Own| {
            let fresh = own.flags & (SCHEDULED | OVER | DYING) == 0;
            if fresh {
                own.flags |= SCHEDULED;
                own.behind = ptr::null_mut();
            }
            fresh
        };
        // SAFETY: as for this function.
        if unsafe { self.own(schedule) } {
            // SAFETY: as for this function.
            let shared = unsafe { self.shared() };
            // SAFETY: this is the owner.
            let last = unsafe { shared.own(|queue| queue.append(self)) };
            if let Some(last) = last {
                // SAFETY: what is in the run queue is alive (T4).
                unsafe { last.own(|own| own.behind = self.0.as_ptr()) }
            }
        }
    }

    /// Frees the task, from any thread.
    ///
    /// # Safety
    ///
    /// T4: nobody refers to the task, and the stage is empty.
    unsafe fn free(self) {
        // SAFETY: as for this function.
        let header = unsafe { self.header() };
        let (vtable, shared, settled) = (header.vtable, header.shared, header.word.is_settled());
        // Taken out by hand, so that a model sees that this thread comes after the owner's last touch.
        // SAFETY: nobody refers to the task, so this thread stands in for the owner.
        let extra = unsafe { self.own(|own| own.extra.take()) };
        drop(extra);
        // SAFETY: as for this function.
        unsafe { (vtable.free)(self) }
        if settled {
            // SAFETY: T5: the reference that `settle` took.
            drop(unsafe { StdArc::from_raw(shared) });
        }
    }

    /// What the owner does when the task is over and out of the run queue (T4).
    ///
    /// # Safety
    ///
    /// As for `own`, and the loop is alive; called once, and the task may be gone afterwards.
    unsafe fn let_go(self) {
        let let_go = |own: &mut Own| {
            own.flags &= !LOOP;
            (i64::from(own.refs), own.flags & HANDLE != 0)
        };
        // SAFETY: as for this function.
        let (refs, handle) = unsafe { self.own(let_go) };
        // SAFETY: as for this function.
        let header = unsafe { self.header() };
        // SAFETY: as for this function.
        let shared = unsafe { self.shared() };
        // SAFETY: this is the owner.
        let closed = unsafe { shared.own(|queue| queue.closed) };
        if !header.word.nothing(refs) || (handle && closed) {
            // SAFETY: as for this function.
            unsafe { self.settle() }
        } else if !handle {
            // SAFETY: as for this function.
            unsafe { self.unlist() }
            // SAFETY: T4: over, not queued, no handle, no waker.
            unsafe { self.free() }
        }
    }

    /// Joins the halves of the count (T4) and takes a reference to `Shared` (T5).
    ///
    /// # Safety
    ///
    /// As for `let_go`; the loop is done with the task.
    unsafe fn settle(self) {
        // SAFETY: as for this function.
        unsafe { self.unlist() }
        let settle = |own: &mut Own| {
            own.flags |= SETTLED;
            i64::from(own.refs) + i64::from(own.flags & HANDLE != 0)
        };
        // SAFETY: as for this function.
        let own_half = unsafe { self.own(settle) };
        // SAFETY: as for this function.
        let header = unsafe { self.header() };
        // SAFETY: T5: the loop is open, so `shared` came from an `StdArc` that lives; `free` gives this reference back.
        unsafe { StdArc::increment_strong_count(header.shared) };
        if header.word.settle(own_half) {
            // SAFETY: T4: the last waker was released meanwhile.
            unsafe { self.free() }
        }
    }

    /// Takes the task out of the list of all.
    ///
    /// # Safety
    ///
    /// As for `own`, and the loop is alive.
    unsafe fn unlist(self) {
        let unlink = |own: &mut Own| {
            own.flags &= !LISTED;
            let prev = std::mem::replace(&mut own.prev, ptr::null_mut());
            (prev, std::mem::replace(&mut own.next, ptr::null_mut()))
        };
        // SAFETY: as for this function.
        let (prev, next) = unsafe { self.own(unlink) };
        match NonNull::new(prev) {
            // SAFETY: what is listed is alive (T4).
            Some(prev) => unsafe { TaskPtr(prev).own(|own| own.next = next) },
            None => {
                // SAFETY: as for this function.
                let shared = unsafe { self.shared() };
                // SAFETY: this is the owner.
                unsafe { shared.own(|queue| queue.newest = next) }
            }
        }
        if let Some(next) = NonNull::new(next) {
            // SAFETY: what is listed is alive (T4).
            unsafe { TaskPtr(next).own(|own| own.prev = prev) }
        }
    }

    /// The handle is gone: its outcome is dropped, and the task with it if nothing else refers to it.
    ///
    /// # Safety
    ///
    /// As for `own`; the task has its handle, and may be gone afterwards.
    unsafe fn let_go_of_handle(self) {
        let take = |own: &mut Own| {
            let unseen = own.flags & (OVER | TAKEN) == OVER;
            if unseen {
                own.flags |= TAKEN;
            }
            (unseen, own.take_joiner())
        };
        // SAFETY: as for this function.
        let (unseen, joiner) = unsafe { self.own(take) };
        if joiner.is_some() {
            drop_quietly(joiner);
        }
        if unseen {
            // SAFETY: T3: the outcome was there, and TAKEN keeps others off.
            unsafe { self.discard() }
        }
        let clear = |own: &mut Own| {
            own.flags &= !HANDLE;
            own.flags
        };
        // SAFETY: the handle kept the task alive until here.
        let flags = unsafe { self.own(clear) };
        if flags & SETTLED != 0 {
            // SAFETY: the handle's reference is in the count since it settled.
            let header = unsafe { self.header() };
            if header.word.release() {
                // SAFETY: T4: that was the last.
                unsafe { self.free() }
            }
        } else if flags & (OVER | LOOP) == OVER {
            // SAFETY: not settled, so the loop is open (T5).
            unsafe { self.unlist() }
            // SAFETY: T4: `let_go` found nothing but this handle, and nothing can have come since.
            unsafe { self.free() }
        }
    }

    /// Drops the outcome and reports a panic that nobody will see.
    ///
    /// # Safety
    ///
    /// As for `own`; the stage holds the outcome, and TAKEN is set.
    unsafe fn discard(self) {
        // SAFETY: as for this function.
        let header = unsafe { self.header() };
        // SAFETY: as for this function.
        let panic = unsafe { (header.vtable.discard)(self) };
        if let Some(panic) = panic {
            // SAFETY: as for this function.
            let about = unsafe { self.about() };
            // SAFETY: as for this function.
            let shared = unsafe { self.shared() };
            // SAFETY: this is the owner.
            let hook = unsafe { shared.own(|queue| queue.hook.clone()) };
            let what =
                if about.callback { "callback panicked" } else { "task panicked, and nobody awaits it" };
            Unhandled::new(what, Some(about), Some(&*panic)).report(hook);
            drop_quietly(panic);
        }
    }

    /// # Safety
    ///
    /// As for `own`.
    unsafe fn about(self) -> About {
        let about = |own: &mut Own| About {
            id: TaskId::new(own.id),
            name: own.extra.as_ref().and_then(|extra| extra.name.clone()),
            spawned_at: own.spawned_at,
            over: own.flags & OVER != 0,
            running: false,
            started: own.flags & STARTED != 0,
            callback: own.flags & CALLBACK != 0,
            cancelling: own.flags & (KILL | DYING) != 0
                || own.extra.as_ref().is_some_and(|extra| extra.requests.open() > 0),
        };
        // SAFETY: as for this function.
        let mut about = unsafe { self.own(about) };
        // SAFETY: as for this function; T5: it cannot be freed under us.
        let shared = unsafe { self.shared() };
        // SAFETY: this is the owner.
        about.running = unsafe { shared.own(|queue| queue.current == self.0.as_ptr()) };
        about
    }

    /// Asks for the task's end. False: it is over.
    ///
    /// # Safety
    ///
    /// As for `own`, and the loop is alive.
    unsafe fn request(self, reason: Reason) -> bool {
        let ask = |own: &mut Own| own.flags & (OVER | DYING) == 0 && own.extra().requests.request(reason);
        // SAFETY: as for this function; asking runs no foreign code.
        let asked = unsafe { self.own(ask) };
        if asked {
            // SAFETY: as for this function.
            let shared = unsafe { self.shared() };
            // SAFETY: this is the owner.
            let running = unsafe { shared.own(|queue| queue.current == self.0.as_ptr()) };
            // A task that runs looks at its requests when its poll ends.
            if !running {
                // SAFETY: as for this function.
                unsafe { self.schedule() }
            }
        }
        asked
    }

    /// Has the task's future dropped at its next turn, whoever catches.
    ///
    /// # Safety
    ///
    /// As for `own`; a task that is not over has an open loop.
    unsafe fn doom(self) {
        let doom = |own: &mut Own| {
            let lives = own.flags & (OVER | DYING) == 0;
            if lives {
                own.flags |= KILL;
            }
            lives
        };
        // SAFETY: as for this function.
        if unsafe { self.own(doom) } {
            // SAFETY: as for this function.
            unsafe { self.schedule() }
        }
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
fn drop_quietly<T>(value: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}

// === The part of a loop that tasks point to ===

/// What wakers and thread-safe handles share with the loop.
pub(crate) struct Shared {
    /// The last task brought here by another thread, or one of the two marks below.
    inbox: AtomicPtr<Header>,
    unparker: StdArc<dyn Unpark>,
    /// The owner's part (T1).
    queue: UnsafeCell<Queue>,
}

// SAFETY: T1: `queue` is the owner's alone; the rest is made for sharing. When the last reference is dropped elsewhere the
// loop is closed, and then `queue` holds numbers and null pointers only.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// The inbox is empty and the owner sleeps: whoever pushes onto this mark wakes it.
const PARKED: *mut Header = ptr::without_provenance_mut(1);
/// The loop is closed: nothing is taken any more.
const CLOSED: *mut Header = ptr::without_provenance_mut(2);

/// What only the owner touches (T1).
struct Queue {
    first: *mut Header,
    last: *mut Header,
    len: usize,
    /// The newest task that is not over; the list goes on with `next`.
    newest: *mut Header,
    /// How many are in that list.
    alive: usize,
    /// The task that is being polled.
    current: *mut Header,
    last_id: u64,
    closed: bool,
    /// Gone once the loop is closed.
    hook: Option<Rc<Hook>>,
}

impl Queue {
    /// Appends; answers the task that was last before, whose link is to be set.
    fn append(&mut self, task: TaskPtr) -> Option<TaskPtr> {
        let last = std::mem::replace(&mut self.last, task.0.as_ptr());
        self.len += 1;
        if last.is_null() {
            self.first = task.0.as_ptr();
        }
        NonNull::new(last).map(TaskPtr)
    }
}

impl Shared {
    /// Lends the owner's part (T2).
    ///
    /// # Safety
    ///
    /// This is the owner (T1). `f` does not lead back to this loop's own part.
    #[inline]
    unsafe fn own<R>(&self, f: impl FnOnce(&mut Queue) -> R) -> R {
        // SAFETY: T1 and T2: nobody else has a borrow of it.
        self.queue.with_mut(|queue| f(unsafe { &mut *queue }))
    }

    /// Brings a task to the inbox. False: the loop is closed.
    ///
    /// # Safety
    ///
    /// The caller set QUEUED (W1). The task may be gone when this returns.
    unsafe fn push(&self, task: TaskPtr) -> bool {
        // ORDERING: Relaxed: the exchange below fails on an outdated value, and CLOSED never goes away.
        let mut seen = self.inbox.load(Ordering::Relaxed);
        loop {
            if seen == CLOSED {
                return false;
            }
            let parked = seen == PARKED;
            let below = if parked { ptr::null_mut() } else { seen };
            // SAFETY: QUEUED keeps the task alive until the exchange below succeeds.
            let header = unsafe { task.header() };
            // SAFETY: who set QUEUED owns this field until the owner has taken the inbox.
            header.below.with_mut(|place| unsafe { *place = below });
            // After the exchange the owner may free the task, close, and free `self`.
            let unparker = parked.then(|| self.unparker.clone());
            // ORDERING: Release publishes `below` and a new task; pairs with the Acquire in `drain` and `close`.
            match self.inbox.compare_exchange_weak(
                seen,
                task.0.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    if let Some(unparker) = unparker {
                        unparker.unpark();
                    }
                    return true;
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Whether the loop takes no more.
    pub(crate) fn is_closed(&self) -> bool {
        // ORDERING: Relaxed: a snapshot.
        self.inbox.load(Ordering::Relaxed) == CLOSED
    }

    /// Whether this is the loop that runs on the calling thread.
    #[inline]
    pub(crate) fn runs_here(&self) -> bool {
        running() == ptr::from_ref(self)
    }

    /// Hands a future to the loop from any thread.
    ///
    /// # Errors
    ///
    /// The loop is closed; the future comes back.
    pub(crate) fn spawn<F>(&self, future: F, spawned_at: &'static Location<'static>) -> Result<TaskRef, F>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_with(future, 0, spawned_at)
    }

    /// As [`spawn`](Self::spawn), for a callback in the guise of a task.
    pub(crate) fn spawn_callback<F>(
        &self,
        future: F,
        spawned_at: &'static Location<'static>,
    ) -> Result<TaskRef, F>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_with(future, CALLBACK, spawned_at)
    }

    fn spawn_with<F>(
        &self,
        future: F,
        flags: u32,
        spawned_at: &'static Location<'static>,
    ) -> Result<TaskRef, F>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = TaskCell::alloc(future, Word::new_queued(), self, flags, spawned_at);
        // SAFETY: it was made with QUEUED set.
        if unsafe { self.push(task) } {
            // SAFETY: the word was made with one reference for its maker: this one.
            return Ok(TaskRef(ManuallyDrop::into_inner(unsafe { borrowed_waker(task) })));
        }
        let take = |stage: *mut Stage<F>| {
            // SAFETY: T3: it was never polled; nobody else has ever seen it.
            unsafe { stage.cast::<F>().read() }
        };
        // SAFETY: T1: this is its maker.
        let future = unsafe { TaskCell::<F>::stage(task, take) };
        // SAFETY: nobody refers to it, and the stage is empty now.
        unsafe { task.free() }
        Err(future)
    }
}

// === impl TaskRef ===

/// A counted reference to a task, for any thread: it is one of the task's wakers.
#[derive(Clone)]
pub(crate) struct TaskRef(Waker);

impl TaskRef {
    /// # Safety
    ///
    /// The task is alive.
    unsafe fn new(task: TaskPtr) -> Self {
        // SAFETY: as for this function; the clone is counted.
        Self((*unsafe { borrowed_waker(task) }).clone())
    }

    /// The task, if this is its owner and the loop knows of it.
    fn here(&self) -> Option<TaskPtr> {
        // SAFETY: this waker is one of ours, and alive.
        let task = unsafe { waker_task(self.0.data()) };
        // SAFETY: a waker keeps its task alive.
        let known = || unsafe { task.own(|own| own.flags & LISTED != 0) };
        // SAFETY: a waker keeps its task alive.
        (unsafe { here(task) } && known()).then_some(task)
    }

    /// Asks for the task's end. False: it is over. From another thread the reason gets lost, and so does the answer.
    pub(crate) fn request(&self, reason: Reason) -> bool {
        match self.here() {
            // SAFETY: this is the owner, and its loop runs.
            Some(task) => unsafe { task.request(reason) },
            None => {
                self.cancel();
                true
            }
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

    /// What is known of the task, if this is its owner.
    pub(crate) fn about(&self) -> Option<About> {
        // SAFETY: this is the owner.
        self.here().map(|task| unsafe { task.about() })
    }

    /// Asks for the task's end, from any thread. Nothing happens if it is over.
    pub(crate) fn cancel(&self) {
        // SAFETY: this waker is one of ours, and alive.
        let task = unsafe { waker_task(self.0.data()) };
        // SAFETY: a waker keeps its task alive.
        let header = unsafe { task.header() };
        // On the owner too: the task may lie in the inbox still, and not be known to the loop.
        if header.word.cancel() == Wake::Push {
            // SAFETY: QUEUED was set just now.
            unsafe { bring(task) }
        }
    }
}

// === Which loop runs here ===

thread_local! {
    /// The loop that runs on this thread. Has no destructor, so it can be asked until the thread's very end.
    static RUNNING: Cell<*const Shared> = const { Cell::new(ptr::null()) };
}

#[inline]
fn running() -> *const Shared {
    RUNNING.try_with(Cell::get).unwrap_or(ptr::null())
}

/// Makes a loop the one that runs on this thread, until dropped.
pub(crate) struct Running(*const Shared);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = RUNNING.try_with(|running| running.set(self.0));
    }
}

// === Wakers ===

static WAKER: RawWakerVTable = RawWakerVTable::new(waker_clone, waker_wake, waker_wake_by_ref, waker_drop);

/// A waker for the time of a poll: it borrows the task and counts nothing.
///
/// # Safety
///
/// The task stays alive for as long as the waker is used.
unsafe fn borrowed_waker(task: TaskPtr) -> ManuallyDrop<Waker> {
    let raw = RawWaker::new(task.0.as_ptr().cast_const().cast(), &WAKER);
    // SAFETY: the functions below keep the contract of `RawWakerVTable`: each waker is a counted reference; this one is
    // not counted, and never dropped.
    ManuallyDrop::new(unsafe { Waker::from_raw(raw) })
}

/// # Safety
///
/// `data` is that of one of our wakers, and this waker is alive.
#[inline]
unsafe fn waker_task(data: *const ()) -> TaskPtr {
    // SAFETY: it came from a `NonNull`.
    TaskPtr(unsafe { NonNull::new_unchecked(data.cast_mut().cast()) })
}

/// The task, if the calling thread is its owner and its loop runs.
///
/// # Safety
///
/// The task is alive.
#[inline]
unsafe fn here(task: TaskPtr) -> bool {
    // SAFETY: as for this function.
    let header = unsafe { task.header() };
    // T5: the address cannot be that of a newer loop: while a reference to the task is left, its loop's is taken.
    header.shared == running()
}

/// Counts in plain memory, if that is the owner's right, and answers whether it did.
///
/// # Safety
///
/// As for `here`.
#[inline]
unsafe fn count_here(task: TaskPtr, by: i32) -> bool {
    // SAFETY: as for this function.
    if !unsafe { here(task) } {
        return false;
    }
    let count = |own: &mut Own| {
        // A half that would overflow stays; the word has room for the rest.
        match own.refs.checked_add(by) {
            Some(refs) if own.flags & SETTLED == 0 => own.refs = refs,
            _ => return false,
        }
        true
    };
    // SAFETY: this is the owner.
    unsafe { task.own(count) }
}

/// # Safety
///
/// The contract of `RawWakerVTable`.
unsafe fn waker_clone(data: *const ()) -> RawWaker {
    // SAFETY: `data` is of a live waker.
    let task = unsafe { waker_task(data) };
    // SAFETY: a waker keeps its task alive.
    if !unsafe { count_here(task, 1) } {
        // SAFETY: a waker keeps its task alive.
        unsafe { task.header() }.word.add();
    }
    RawWaker::new(data, &WAKER)
}

/// # Safety
///
/// The contract of `RawWakerVTable`.
unsafe fn waker_wake_by_ref(data: *const ()) {
    // SAFETY: `data` is of a live waker.
    let task = unsafe { waker_task(data) };
    // SAFETY: a waker keeps its task alive.
    if unsafe { here(task) } {
        // SAFETY: this is the owner, and its loop runs.
        unsafe { task.schedule() }
        return;
    }
    // SAFETY: a waker keeps its task alive.
    let header = unsafe { task.header() };
    if header.word.wake() == Wake::Push {
        // SAFETY: QUEUED was set just now.
        unsafe { bring(task) }
    }
}

/// # Safety
///
/// The contract of `RawWakerVTable`.
unsafe fn waker_wake(data: *const ()) {
    // SAFETY: `data` is of a live waker.
    let task = unsafe { waker_task(data) };
    // SAFETY: a waker keeps its task alive.
    if unsafe { here(task) } {
        // SAFETY: this is the owner, and its loop runs.
        unsafe { task.schedule() }
        // SAFETY: this waker ends here.
        unsafe { waker_drop(data) }
        return;
    }
    // SAFETY: a waker keeps its task alive.
    let header = unsafe { task.header() };
    match header.word.wake_and_release() {
        // SAFETY: QUEUED was set just now, and keeps the task alive.
        Wake::Push => unsafe { bring(task) },
        Wake::Nothing => {}
        // SAFETY: T4: settled, so it is over, and this was the last reference.
        Wake::Free => unsafe { task.free() },
    }
}

/// Brings a task to its inbox, or ends the attempt.
///
/// # Safety
///
/// The caller set QUEUED (W1).
unsafe fn bring(task: TaskPtr) {
    // SAFETY: QUEUED keeps the task, and with it the loop's shared part, alive until it is taken.
    let shared = unsafe { task.shared() };
    // SAFETY: as for this function.
    if !unsafe { shared.push(task) } {
        // SAFETY: refused, so QUEUED is still ours to end.
        let header = unsafe { task.header() };
        if header.word.take() == Taken::Free {
            // SAFETY: T4: settled, and this was the last reference.
            unsafe { task.free() }
        }
    }
}

/// # Safety
///
/// The contract of `RawWakerVTable`.
unsafe fn waker_drop(data: *const ()) {
    // SAFETY: `data` is of a live waker.
    let task = unsafe { waker_task(data) };
    // SAFETY: a waker keeps its task alive.
    if unsafe { count_here(task, -1) } {
        return;
    }
    // SAFETY: a waker keeps its task alive.
    let header = unsafe { task.header() };
    if header.word.release() {
        // SAFETY: T4: settled, and this was the last reference.
        unsafe { task.free() }
    }
}

// === impl Sched: the owner's hand on its tasks ===

/// The queues of one loop, in the hands of its thread.
pub(crate) struct Sched {
    shared: StdArc<Shared>,
    /// T1.
    not_send: PhantomData<*const ()>,
}

impl Sched {
    pub(crate) fn new(unparker: StdArc<dyn Unpark>, hook: Option<Rc<Hook>>) -> Self {
        let queue = Queue {
            first: ptr::null_mut(),
            last: ptr::null_mut(),
            len: 0,
            newest: ptr::null_mut(),
            alive: 0,
            current: ptr::null_mut(),
            last_id: 0,
            closed: false,
            hook,
        };
        let shared =
            Shared { inbox: AtomicPtr::new(ptr::null_mut()), unparker, queue: UnsafeCell::new(queue) };
        Self { shared: StdArc::new(shared), not_send: PhantomData }
    }

    pub(crate) fn shared(&self) -> &StdArc<Shared> {
        &self.shared
    }

    #[inline]
    fn own<R>(&self, f: impl FnOnce(&mut Queue) -> R) -> R {
        // SAFETY: T1: a `Sched` never leaves its thread. T2: the callers in this file.
        unsafe { self.shared.own(f) }
    }

    /// How many tasks are ready.
    pub(crate) fn ready(&self) -> usize {
        self.own(|queue| queue.len)
    }

    /// How many tasks are not over.
    pub(crate) fn alive(&self) -> usize {
        self.own(|queue| queue.alive)
    }

    pub(crate) fn hook(&self) -> Option<Rc<Hook>> {
        self.own(|queue| queue.hook.clone())
    }

    pub(crate) fn set_hook(&self, hook: Option<Rc<Hook>>) {
        let before = self.own(|queue| std::mem::replace(&mut queue.hook, hook));
        drop_quietly(before);
    }

    /// Whether any loop runs on this thread.
    pub(crate) fn any_runs_here() -> bool {
        !running().is_null()
    }

    /// Makes this the loop that runs here, until the answer is dropped. One that ran here before is out of sight
    /// meanwhile: its tasks are woken as from another thread.
    pub(crate) fn enter(&self) -> Running {
        let before = running();
        let _ = RUNNING.try_with(|running| running.set(StdArc::as_ptr(&self.shared)));
        Running(before)
    }

    /// Makes a task and schedules it. On a closed loop it is cancelled before it starts.
    pub(crate) fn spawn<F: Future + 'static>(
        &self,
        future: F,
        name: Option<Box<str>>,
        spawned_at: &'static Location<'static>,
    ) -> RawTask<F::Output> {
        // SAFETY: the future is `'static`.
        unsafe { self.spawn_unbounded(future, name, spawned_at) }
    }

    /// # Safety
    ///
    /// The task ends before what its future borrows does.
    unsafe fn spawn_unbounded<F: Future>(
        &self,
        future: F,
        name: Option<Box<str>>,
        spawned_at: &'static Location<'static>,
    ) -> RawTask<F::Output> {
        let task = TaskCell::alloc(future, Word::new(), StdArc::as_ptr(&self.shared), HANDLE, spawned_at);
        if name.is_some() {
            // SAFETY: just made, by the owner.
            unsafe { task.own(|own| own.extra().name = name) }
        }
        self.list(task);
        if self.own(|queue| queue.closed) {
            self.kill(task, JoinError::cancelled(Reason::default()));
        } else {
            // SAFETY: just made, by the owner.
            unsafe { task.schedule() }
        }
        RawTask { task, not_send: PhantomData }
    }

    /// Makes a callback in the guise of a task, and schedules it. On a closed loop it is dropped.
    pub(crate) fn spawn_callback(
        &self,
        future: impl Future<Output = ()> + 'static,
        spawned_at: &'static Location<'static>,
    ) -> TaskRef {
        let task = TaskCell::alloc(future, Word::new(), StdArc::as_ptr(&self.shared), CALLBACK, spawned_at);
        // SAFETY: just made.
        let callback = unsafe { TaskRef::new(task) };
        self.list(task);
        if self.own(|queue| queue.closed) {
            self.kill(task, JoinError::cancelled(Reason::default()));
        } else {
            // SAFETY: just made, by the owner.
            unsafe { task.schedule() }
        }
        callback
    }

    /// Makes a task and polls it once at once, as itself.
    pub(crate) fn spawn_eager<F: Future + 'static>(
        &self,
        future: F,
        name: Option<Box<str>>,
        spawned_at: &'static Location<'static>,
    ) -> RawTask<F::Output> {
        let task = TaskCell::alloc(future, Word::new(), StdArc::as_ptr(&self.shared), HANDLE, spawned_at);
        let raw = RawTask { task, not_send: PhantomData };
        if let Some(name) = name {
            raw.set_name(name);
        }
        self.list(task);
        let before = self.own(|queue| std::mem::replace(&mut queue.current, task.0.as_ptr()));
        self.poll(task);
        self.own(|queue| queue.current = before);
        raw
    }

    /// Spawns on the loop that runs on this thread.
    ///
    /// # Errors
    ///
    /// None does; the future comes back.
    #[inline]
    pub(crate) fn spawn_here<F: Future + 'static>(
        future: F,
        spawned_at: &'static Location<'static>,
    ) -> Result<RawTask<F::Output>, F> {
        let shared = running();
        if shared.is_null() {
            return Err(future);
        }
        // SAFETY: a loop that runs is alive, and holds a reference. This one is borrowed only, so it is never dropped.
        let shared = unsafe { StdArc::from_raw(shared) };
        let here = ManuallyDrop::new(Self { shared, not_send: PhantomData });
        Ok(here.spawn(future, None, spawned_at))
    }

    /// Runs `drive` with a task that may borrow: when it returns, or unwinds, the task is over. Answers the outcome.
    pub(crate) fn scoped<F: Future>(
        &self,
        future: F,
        spawned_at: &'static Location<'static>,
        drive: impl FnOnce(&RawTask<F::Output>),
    ) -> Outcome<F::Output> {
        struct Ends<'a, T> {
            sched: &'a Sched,
            task: RawTask<T>,
        }
        impl<T> Drop for Ends<'_, T> {
            fn drop(&mut self) {
                if !self.task.is_over() {
                    self.sched.kill(self.task.task, JoinError::cancelled(Reason::default()));
                }
            }
        }
        // SAFETY: `Ends` ends it before this function is left in any way.
        let task = unsafe { self.spawn_unbounded(future, None, spawned_at) };
        let ends = Ends { sched: self, task };
        drive(&ends.task);
        if !ends.task.is_over() {
            self.kill(ends.task.task, JoinError::cancelled(Reason::default()));
        }
        ends.task.take().expect("the task is over, and only this function has its handle")
    }

    /// Puts a new task into the list of all.
    fn list(&self, task: TaskPtr) {
        // SAFETY: the caller's task is alive.
        let callback = unsafe { task.own(|own| own.flags & CALLBACK != 0) };
        let (id, next) = self.own(|queue| {
            if !callback {
                queue.alive += 1;
                queue.last_id += 1;
            }
            (queue.last_id, std::mem::replace(&mut queue.newest, task.0.as_ptr()))
        });
        let link = |own: &mut Own| {
            own.id = id;
            own.flags |= LISTED;
            own.next = next;
        };
        // SAFETY: the caller's task is alive.
        unsafe { task.own(link) }
        if let Some(next) = NonNull::new(next) {
            // SAFETY: what is listed is not over, so it is alive (T4).
            unsafe { TaskPtr(next).own(|own| own.prev = task.0.as_ptr()) }
        }
    }

    /// Moves what other threads brought into the run queue, in the order in which it came.
    pub(crate) fn drain(&self) {
        let seen = self.shared.inbox.load(Ordering::Relaxed);
        if seen.is_null() || seen == CLOSED {
            return;
        }
        // ORDERING: Acquire sees the links and new tasks; pairs with the Release in `push`.
        let taken = self.shared.inbox.swap(ptr::null_mut(), Ordering::Acquire);
        self.adopt(taken);
    }

    /// Schedules what was taken from the inbox, oldest first.
    fn adopt(&self, mut newest: *mut Header) {
        if newest == PARKED {
            return;
        }
        // Turn the stack round; QUEUED is still set, so the links are ours.
        let mut oldest = ptr::null_mut();
        while let Some(task) = NonNull::new(newest).map(TaskPtr) {
            // SAFETY: W1: QUEUED keeps it alive.
            let header = unsafe { task.header() };
            // SAFETY: the inbox is taken, so this link belongs to the owner.
            newest = header.below.with_mut(|below| unsafe { std::mem::replace(&mut *below, oldest) });
            oldest = task.0.as_ptr();
        }
        while let Some(task) = NonNull::new(oldest).map(TaskPtr) {
            // SAFETY: W1: QUEUED keeps it alive.
            let header = unsafe { task.header() };
            // First the link: after `take` another thread may push the task again.
            // SAFETY: as above.
            oldest = header.below.with(|below| unsafe { *below });
            match header.word.take() {
                taken @ (Taken::Live | Taken::Asked) => {
                    // SAFETY: not settled, so not freed but by this thread.
                    if unsafe { task.own(|own| own.flags & (LISTED | OVER)) } == 0 {
                        self.list(task); // new, from another thread
                    }
                    // SAFETY: as above.
                    unsafe { task.schedule() }
                    if taken == Taken::Asked {
                        // SAFETY: as above; the loop is draining, so it is alive.
                        unsafe { task.request(Reason::default()) };
                    }
                }
                Taken::Over => {}
                // SAFETY: T4: settled, and the inbox's was the last reference.
                Taken::Free => unsafe { task.free() },
            }
        }
    }

    /// Announces sleep. False: something is in the inbox, so do not sleep. `drain` ends it.
    pub(crate) fn prepare_park(&self) -> bool {
        let (empty, parked) = (ptr::null_mut(), PARKED);
        // ORDERING: Relaxed: the swap in `drain` sees what comes. One that fails without reason costs one look more.
        match self.shared.inbox.compare_exchange_weak(empty, parked, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => true,
            Err(seen) => seen == PARKED,
        }
    }

    /// Runs the task that is first in the run queue. False: it is empty.
    #[inline]
    pub(crate) fn run_next(&self) -> bool {
        let Some(task) = NonNull::new(self.own(|queue| queue.first)).map(TaskPtr) else { return false };
        let pop = |own: &mut Own| {
            own.flags &= !SCHEDULED;
            (own.behind, own.flags)
        };
        // SAFETY: what is in the run queue is alive (T4).
        let (behind, flags) = unsafe { task.own(pop) };
        self.own(|queue| {
            queue.len -= 1;
            queue.first = behind;
            if behind.is_null() {
                queue.last = ptr::null_mut();
            }
            queue.current = task.0.as_ptr();
        });
        if flags & (OVER | KILL) == 0 {
            self.poll(task);
        } else if flags & OVER == 0 {
            self.kill(task, JoinError::cancelled(Reason::default()));
        } else {
            self.own(|queue| queue.current = ptr::null_mut());
            // SAFETY: over, and out of the run queue since just now.
            unsafe { task.let_go() }
        }
        true
    }

    /// Polls a task. This is the one place where a poll is wrapped: what is set up around it (the current task, the root of
    /// the task's cancel scopes, its context) is set up and taken back here.
    #[inline]
    fn poll(&self, task: TaskPtr) {
        // SAFETY: it was in the run queue and is not over, so it stays alive during its poll.
        let waker = unsafe { borrowed_waker(task) };
        let mut cx = Context::from_waker(&waker);
        // SAFETY: as above.
        let (mut root, requests) = unsafe { task.own(Own::take_root) };
        if !requests.is_empty() {
            if let Turn::Take(reason) = self.turn(task, || root.before(&requests, &waker)) {
                return self.take(task, root, reason);
            }
        }
        // SAFETY: as above.
        unsafe { task.own(|own| own.flags |= STARTED) }
        // SAFETY: as above.
        let header = unsafe { task.header() };
        let over = {
            let _entered = root.enter(&requests);
            // SAFETY: T3: not over, so the stage holds the future. T6: no panic comes out.
            unsafe { (header.vtable.poll)(task, &mut cx) }
        };
        // The first request may have come during the poll.
        // SAFETY: as above.
        let requests = unsafe { task.own(|own| own.requests()) };
        if over {
            if !requests.is_empty() {
                if let Turn::Take(reason) = self.turn(task, || root.finish(&requests)) {
                    // SAFETY: T3: the outcome is in place.
                    unsafe { (header.vtable.revoke)(task, JoinError::cancelled(reason)) }
                }
            }
            self.own(|queue| queue.current = ptr::null_mut());
            self.finish(task);
            return;
        }
        if !requests.is_empty() {
            if let Turn::Take(reason) = self.turn(task, || root.after(&requests, &waker)) {
                return self.take(task, root, reason);
            }
        }
        // SAFETY: as above.
        unsafe { task.own(|own| own.put_root(root)) }
        self.own(|queue| queue.current = ptr::null_mut());
    }

    /// Half a turn of a task's cancel scope, which wakes strangers (T6).
    #[cold]
    fn turn(&self, task: TaskPtr, half: impl FnOnce() -> Turn) -> Turn {
        catch_unwind(AssertUnwindSafe(half)).unwrap_or_else(|panic| {
            self.report_waker(task, panic);
            Turn::Go
        })
    }

    /// A task that was cancelled ends.
    #[cold]
    fn take(&self, task: TaskPtr, root: Root, reason: Reason) {
        // SAFETY: not over, so it is alive.
        unsafe { task.own(|own| own.put_root(root)) }
        self.kill(task, JoinError::cancelled(reason));
    }

    /// Drops the future of a task that is not over, as that task.
    fn kill(&self, task: TaskPtr, error: JoinError) {
        let before = self.own(|queue| std::mem::replace(&mut queue.current, task.0.as_ptr()));
        // SAFETY: the caller's task is alive.
        unsafe { task.own(|own| own.flags |= DYING) }
        // SAFETY: the caller's task is alive.
        let header = unsafe { task.header() };
        // SAFETY: T3: not over, so the stage holds the future; DYING keeps others off. T6: no panic comes out.
        unsafe { (header.vtable.kill)(task, error) }
        let before = if before == task.0.as_ptr() { ptr::null_mut() } else { before };
        self.own(|queue| queue.current = before);
        self.finish(task);
    }

    /// The outcome is in place: tell who waits, and let go.
    fn finish(&self, task: TaskPtr) {
        let end = |own: &mut Own| {
            own.flags = own.flags & !(KILL | DYING) | OVER;
            if own.flags & HANDLE == 0 {
                own.flags |= TAKEN;
            }
            (own.flags, own.take_joiner(), own.take_root())
        };
        // SAFETY: LOOP is set, so it is alive until `let_go`.
        let (flags, joiner, (mut root, requests)) = unsafe { task.own(end) };
        if flags & CALLBACK == 0 {
            self.own(|queue| queue.alive -= 1);
        }
        if !requests.is_empty() {
            // Whoever was to be told that the task has taken is told already, or does not matter any more.
            let _ = self.turn(task, || root.finish(&requests));
        }
        if flags & HANDLE == 0 {
            // SAFETY: T3: the outcome is there and TAKEN keeps others off.
            unsafe { task.discard() }
        }
        if let Some(joiner) = joiner {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| joiner.wake())) {
                self.report_waker(task, panic);
            }
        }
        // In the run queue, it is let go of when it comes out; once over it does not get in.
        if flags & SCHEDULED == 0 {
            // SAFETY: over, not in the run queue, and LOOP is still set.
            unsafe { task.let_go() }
        }
    }

    /// A waker of a stranger panicked during this task's turn.
    fn report_waker(&self, task: TaskPtr, panic: Box<dyn Any + Send>) {
        // SAFETY: LOOP is set, so it is alive until `let_go`.
        let about = unsafe { task.about() };
        Unhandled::new("a waker panicked", Some(about), Some(&*panic)).report(self.hook());
        drop_quietly(panic);
    }

    /// All tasks that are not over, oldest first.
    pub(crate) fn all(&self) -> Vec<TaskRef> {
        let mut all = Vec::with_capacity(self.alive());
        let mut at = self.own(|queue| queue.newest);
        while let Some(task) = NonNull::new(at).map(TaskPtr) {
            // SAFETY: what is listed is alive.
            let shown = unsafe { task.own(|own| own.flags & (OVER | CALLBACK) == 0) };
            if shown {
                // SAFETY: what is listed is alive.
                all.push(unsafe { TaskRef::new(task) });
            }
            // SAFETY: as above.
            at = unsafe { task.own(|own| own.next) };
        }
        all.reverse();
        all
    }

    /// Has all tasks dropped that are not over.
    fn doom_all(&self) {
        let mut at = self.own(|queue| queue.newest);
        while let Some(task) = NonNull::new(at).map(TaskPtr) {
            // SAFETY: what is listed is alive; this runs no foreign code.
            unsafe { task.doom() };
            // SAFETY: as above.
            at = unsafe { task.own(|own| own.next) };
        }
    }

    /// Takes nothing more, drops all tasks, and settles whatever is left (T5). The loop must be entered.
    pub(crate) fn close(&self) {
        if self.own(|queue| std::mem::replace(&mut queue.closed, true)) {
            return;
        }
        // ORDERING: Acquire as in `drain`. Who finds CLOSED reads nothing else of the loop.
        let taken = self.shared.inbox.swap(CLOSED, Ordering::Acquire);
        if taken != CLOSED {
            self.adopt(taken);
        }
        self.doom_all();
        // What is spawned from now on is over at once, so this comes to an end.
        while self.run_next() {}
        // What was over before and has a handle left. Settling runs no foreign code.
        while let Some(task) = NonNull::new(self.own(|queue| queue.newest)).map(TaskPtr) {
            // SAFETY: what is listed is alive; over, out of the run queue, so the loop is done with it.
            unsafe { task.settle() }
        }
        self.set_hook(None);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.own(|queue| queue.closed)
    }

    /// The task that is being polled.
    pub(crate) fn current(&self) -> Option<TaskRef> {
        let current = self.own(|queue| NonNull::new(queue.current).map(TaskPtr))?;
        // SAFETY: a task that is being polled is alive.
        let callback = unsafe { current.own(|own| own.flags & CALLBACK != 0) };
        // SAFETY: as above.
        (!callback).then(|| unsafe { TaskRef::new(current) })
    }

    /// Whether a request on the task that is being polled is open.
    pub(crate) fn current_is_asked(&self) -> bool {
        let current = self.own(|queue| NonNull::new(queue.current).map(TaskPtr));
        // SAFETY: a task that is being polled is alive; counting runs no foreign code.
        current.is_some_and(|task| unsafe { task.own(|own| own.requests().open() > 0) })
    }

    /// Cancels the task that is being polled. False: there is none.
    pub(crate) fn cancel_current(&self, reason: Reason) -> bool {
        let current = self.own(|queue| NonNull::new(queue.current).map(TaskPtr));
        // SAFETY: a task that is being polled is alive, and so is its loop.
        current.is_some_and(|task| unsafe { task.request(reason) })
    }
}

// === impl RawTask: the owner's handle to one task ===

/// A task's handle: gives its outcome once.
pub(crate) struct RawTask<T> {
    task: TaskPtr,
    /// T1.
    not_send: PhantomData<*const T>,
}

impl<T> RawTask<T> {
    pub(crate) fn is_over(&self) -> bool {
        // SAFETY: HANDLE keeps it alive, and a `RawTask` never leaves the owner.
        unsafe { self.task.own(|own| own.flags & OVER != 0) }
    }

    /// The outcome, once. `None`: not over yet, or taken already.
    pub(crate) fn take(&self) -> Option<Outcome<T>> {
        let claim = |own: &mut Own| {
            let there = own.flags & (OVER | TAKEN) == OVER;
            if there {
                own.flags |= TAKEN;
            }
            there
        };
        // SAFETY: as in `is_over`.
        if !unsafe { self.task.own(claim) } {
            return None;
        }
        // SAFETY: HANDLE keeps it alive.
        let header = unsafe { self.task.header() };
        let mut place = MaybeUninit::<Outcome<T>>::uninit();
        // SAFETY: T3: the outcome is there, TAKEN keeps others off, and a `RawTask<T>` is made for an output `T` only.
        unsafe { (header.vtable.take_into)(self.task, place.as_mut_ptr().cast()) }
        // SAFETY: `take_into` filled it.
        Some(unsafe { place.assume_init() })
    }

    /// The outcome, or the waker is kept to be woken when it is there.
    ///
    /// # Panics
    ///
    /// If the outcome was taken already.
    pub(crate) fn poll(&self, waker: &Waker) -> Poll<Outcome<T>> {
        if self.is_over() {
            return Poll::Ready(
                self.take().expect("a task gives its outcome once, and this one was awaited before"),
            );
        }
        self.keep_joiner(waker);
        Poll::Pending
    }

    fn keep_joiner(&self, waker: &Waker) {
        let known = |own: &mut Own| own.knows_joiner(waker);
        // SAFETY: as in `is_over`; `will_wake` compares two pointers.
        if !unsafe { self.task.own(known) } {
            let joiner = waker.clone();
            // SAFETY: as in `is_over`.
            let before = unsafe { self.task.own(|own| own.set_joiner(joiner)) };
            drop(before);
        }
    }

    /// Asks for the task's end. False: it is over.
    pub(crate) fn cancel(&self, reason: Reason) -> bool {
        // SAFETY: as in `is_over`; a task that is not over has an open loop.
        unsafe { self.task.request(reason) }
    }

    /// Takes one request back. Answers how many are left.
    pub(crate) fn uncancel(&self) -> u32 {
        // SAFETY: as in `is_over`.
        let requests = unsafe { self.task.own(|own| own.requests()) };
        requests.uncancel()
    }

    /// The count of requests, and the open ones of scopes inside.
    pub(crate) fn cancelling(&self) -> usize {
        let count = |own: &mut Own| match &own.extra {
            None => (0, 0),
            Some(extra) => (extra.requests.count() as usize, extra.root.open_inside()),
        };
        // SAFETY: as in `is_over`; counting runs no foreign code.
        let (asked, inside) = unsafe { self.task.own(count) };
        asked + if self.is_running() { open_inside_here() } else { inside }
    }

    /// Another reference to the task.
    pub(crate) fn task_ref(&self) -> TaskRef {
        // SAFETY: HANDLE keeps it alive.
        unsafe { TaskRef::new(self.task) }
    }

    /// Whether the outcome is there, not taken, and as `f` says.
    pub(crate) fn outcome_is(&self, f: impl FnOnce(&Outcome<T>) -> bool) -> bool {
        // SAFETY: as in `is_over`.
        if unsafe { self.task.own(|own| own.flags & (OVER | TAKEN)) } != OVER {
            return false;
        }
        // SAFETY: HANDLE keeps it alive.
        let header = unsafe { self.task.header() };
        // SAFETY: T3: the outcome is there.
        let outcome = unsafe { (header.vtable.outcome)(self.task) };
        // SAFETY: a `RawTask<T>` is made for an output `T` only. The outcome is taken through this handle alone, which is
        // borrowed for as long as `f` runs.
        f(unsafe { &*outcome.cast::<Outcome<T>>() })
    }

    /// Ready when the task is over; else the waker is kept to be woken then.
    pub(crate) fn poll_over(&self, waker: &Waker) -> Poll<()> {
        if self.is_over() {
            return Poll::Ready(());
        }
        self.keep_joiner(waker);
        Poll::Pending
    }

    /// Whether the task is being polled.
    pub(crate) fn is_running(&self) -> bool {
        // SAFETY: HANDLE keeps it alive, and with it its loop's part (T5).
        let shared = unsafe { self.task.shared() };
        // SAFETY: as in `is_over`.
        unsafe { shared.own(|queue| queue.current == self.task.0.as_ptr()) }
    }

    pub(crate) fn about(&self) -> About {
        // SAFETY: as in `is_over`.
        unsafe { self.task.about() }
    }

    pub(crate) fn set_name(&self, name: Box<str>) {
        // SAFETY: as in `is_over`.
        let before = unsafe { self.task.own(|own| own.extra().name.replace(name)) };
        drop(before);
    }

    /// Whether the task is one of this loop's.
    pub(crate) fn belongs_to(&self, sched: &Sched) -> bool {
        // SAFETY: HANDLE keeps it alive.
        let header = unsafe { self.task.header() };
        ptr::eq(header.shared, StdArc::as_ptr(&sched.shared))
    }
}

impl<T> Drop for RawTask<T> {
    fn drop(&mut self) {
        // SAFETY: this is the handle, and it is on the owner.
        unsafe { self.task.let_go_of_handle() }
    }
}
