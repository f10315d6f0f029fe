//! A task's wakers, and which loop runs on this thread: how a waker tells whether it is on the owner.

use super::places::shared_of;
use super::raw::{Own, SETTLED, TaskPtr};
use super::shared::Shared;
use super::state::{Taken, Wake};
use evenloop_core::shim::thread_local;
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::task::{RawWaker, RawWakerVTable, Waker};

thread_local! {
    /// The loop that runs on this thread. Has no destructor, so it can be asked until the thread's very end.
    pub(super) static RUNNING: Cell<*const Shared> = const { Cell::new(ptr::null()) };
}

#[inline]
pub(super) fn running() -> *const Shared {
    RUNNING.try_with(Cell::get).unwrap_or(ptr::null())
}

/// Makes a loop the one that runs on this thread, until dropped.
pub(crate) struct Running(pub(super) *const Shared);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = RUNNING.try_with(|running| running.set(self.0));
    }
}

// === The waker ===

pub(super) static WAKER: RawWakerVTable =
    RawWakerVTable::new(waker_clone, waker_wake, waker_wake_by_ref, waker_drop);

/// A waker for the time of a poll: it borrows the task and counts nothing.
///
/// # Safety
///
/// The task stays alive for as long as the waker is used.
pub(super) unsafe fn borrowed_waker(task: TaskPtr) -> ManuallyDrop<Waker> {
    let raw = RawWaker::new(task.0.as_ptr().cast_const().cast(), &WAKER);
    // SAFETY: the functions below keep the contract of `RawWakerVTable`: each waker is a counted reference; this one is
    // not counted, and never dropped.
    ManuallyDrop::new(unsafe { Waker::from_raw(raw) })
}

/// # Safety
///
/// `data` is that of one of our wakers, and this waker is alive.
#[inline]
pub(super) unsafe fn waker_task(data: *const ()) -> TaskPtr {
    // SAFETY: it came from a `NonNull`.
    TaskPtr(unsafe { NonNull::new_unchecked(data.cast_mut().cast()) })
}

/// The task's loop, if the calling thread is the owner and the loop runs.
///
/// # Safety
///
/// The task is alive, also for as long as the answer is used.
#[inline]
pub(super) unsafe fn here<'a>(task: TaskPtr) -> Option<&'a Shared> {
    // SAFETY: as for this function.
    let shared = unsafe { shared_of(task) };
    // T5: the address cannot be that of a newer loop: while a reference to the task is left, its loop's is taken.
    // SAFETY: T5.
    ptr::eq(shared.as_ptr(), running()).then_some(unsafe { shared.as_ref() })
}

/// Counts in plain memory, if that is the owner's right, and answers whether it did.
///
/// # Safety
///
/// As for `here`.
#[inline]
pub(super) unsafe fn count_here(task: TaskPtr, by: i16) -> bool {
    // SAFETY: as for this function.
    if unsafe { here(task) }.is_none() {
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
pub(super) unsafe fn waker_clone(data: *const ()) -> RawWaker {
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
pub(super) unsafe fn waker_wake_by_ref(data: *const ()) {
    // SAFETY: `data` is of a live waker.
    let task = unsafe { waker_task(data) };
    // SAFETY: a waker keeps its task alive.
    if let Some(shared) = unsafe { here(task) } {
        // SAFETY: this is the owner, and its loop runs.
        unsafe { task.schedule(shared) }
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
pub(super) unsafe fn waker_wake(data: *const ()) {
    // SAFETY: `data` is of a live waker.
    let task = unsafe { waker_task(data) };
    // SAFETY: a waker keeps its task alive.
    if let Some(shared) = unsafe { here(task) } {
        // SAFETY: this is the owner, and its loop runs.
        unsafe { task.schedule(shared) }
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
pub(super) unsafe fn bring(task: TaskPtr) {
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
pub(super) unsafe fn waker_drop(data: *const ()) {
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
