//! The owner's handle to one task.

use super::done::{DoneCallback, DoneCallbackId, DoneCallbacks};
use super::places::shared_of;
use super::raw::*;
use super::sched::Sched;
use super::task_ref::TaskRef;
use super::{TaskEnd, TaskInfo};
use evenloop_core::cancel::{Cancellation, Cancelled, open_inside_here};
use evenloop_core::context::Context as Variables;
use evenloop_core::shim::StdArc;
use evenloop_core::watch::{self, On, TaskKey};
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr;
use std::task::{Poll, Waker};

/// A task's handle: gives its outcome once.
pub(crate) struct RawTask<T> {
    pub(super) task: TaskPtr,
    /// T1.
    pub(super) not_send: PhantomData<*const T>,
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
        unsafe { (header.vtable().take_into)(self.task, place.as_mut_ptr().cast()) }
        // SAFETY: `take_into` filled it.
        let outcome = unsafe { place.assume_init() };
        if let Err(error) = &outcome {
            let how = if error.is_panic() { ENDED_PANICKED } else { ENDED_CANCELLED };
            // SAFETY: as in `is_over`.
            unsafe { self.task.own(|own| own.flags |= how) }
        }
        Some(outcome)
    }

    /// How the task ended; `None` if it is not over.
    pub(crate) fn end(&self) -> Option<TaskEnd> {
        // SAFETY: as in `is_over`.
        let flags = unsafe { self.task.own(|own| own.flags) };
        match flags & (OVER | TAKEN) {
            0 => None,
            OVER => {
                let mut end = TaskEnd::Value;
                self.outcome_is(|outcome| {
                    end = TaskEnd::of(outcome);
                    true
                });
                Some(end)
            }
            _ if flags & ENDED_PANICKED != 0 => Some(TaskEnd::Panicked),
            _ if flags & ENDED_CANCELLED != 0 => Some(TaskEnd::Cancelled),
            _ => Some(TaskEnd::Value),
        }
    }

    /// Registers a callback, or schedules it at once if the task is over.
    pub(crate) fn add_done_callback(&self, entry: DoneCallback) -> DoneCallbackId {
        if let Some(end) = self.end() {
            // SAFETY: HANDLE keeps it alive.
            let info = unsafe { TaskInfo::of(self.task) };
            // SAFETY: as above.
            let shared = unsafe { shared_of(self.task) };
            // SAFETY: T5: it lives as long as the task. Borrowed only, so it is never dropped.
            let shared = unsafe { StdArc::from_raw(shared.as_ptr()) };
            let sched = ManuallyDrop::new(Sched { shared, not_send: PhantomData });
            entry.schedule(&sched, info, end);
            return DoneCallbackId::default();
        }
        /// # Safety
        ///
        /// `outcome` points to the outcome of a task with an output of type `T`.
        unsafe fn look<T>(outcome: *const ()) -> TaskEnd {
            // SAFETY: as for this function.
            TaskEnd::of(unsafe { &*outcome.cast::<Outcome<T>>() })
        }
        let add = |own: &mut Own| {
            let done =
                own.annex.get_or_make().done.get_or_insert_with(|| Box::new(DoneCallbacks::new(look::<T>)));
            done.add(entry)
        };
        // SAFETY: as in `is_over`.
        unsafe { self.task.own(add) }
    }

    /// Takes a callback back. False: it was not registered.
    pub(crate) fn remove_done_callback(&self, id: DoneCallbackId) -> bool {
        let remove = |own: &mut Own| own.annex.get_mut()?.done.as_mut()?.remove(id);
        // SAFETY: as in `is_over`.
        let removed = unsafe { self.task.own(remove) };
        removed.is_some()
    }

    /// A copy of the task's context variables.
    pub(crate) fn context(&self) -> Variables {
        if self.is_running() {
            return Variables::current();
        }
        // SAFETY: as in `is_over`.
        unsafe { self.task.own(|own| own.annex.get().map(|extra| extra.context.clone())) }.unwrap_or_default()
    }

    /// The outcome, or the waker is kept to be woken when it is there.
    ///
    /// # Panics
    ///
    /// If the outcome was taken already.
    pub(crate) fn poll(&self, waker: &Waker) -> Poll<Outcome<T>> {
        self.poll_as(waker, "await")
    }

    /// As [`poll`](Self::poll); who asks what tasks wait for is told that this one is in `call`.
    pub(crate) fn poll_as(&self, waker: &Waker, call: &'static str) -> Poll<Outcome<T>> {
        if self.is_over() {
            return Poll::Ready(self.take().unwrap_or_else(|| self.was_taken()));
        }
        self.wait(waker, call);
        Poll::Pending
    }

    /// A function of its own, so that a poll which finds the outcome saves no registers for this.
    #[inline(never)]
    fn wait(&self, waker: &Waker, call: &'static str) {
        self.keep_joiner(waker);
        watch::wait(waker, call, || On::Task(self.key()));
    }

    #[cold]
    fn was_taken(&self) -> ! {
        panic!("{} gives its outcome once, and it was taken before", self.about())
    }

    /// The task's name for whoever watches tasks.
    pub(crate) fn key(&self) -> TaskKey {
        // SAFETY: HANDLE keeps it alive, and with it its loop's part (T5).
        let host = unsafe { self.task.shared() }.number;
        // SAFETY: as in `is_over`.
        TaskKey { host, task: unsafe { self.task.own(|own| own.id) } }
    }

    /// Tells whoever watches that this is a child of the group at this address.
    #[cold]
    pub(crate) fn set_group(&self, group: usize) {
        // SAFETY: as in `is_over`.
        let record = unsafe { self.task.own(|own| own.annex.get().and_then(|extra| extra.record.clone())) };
        if let Some(record) = record {
            record.set_group(group);
        }
    }

    pub(super) fn keep_joiner(&self, waker: &Waker) {
        let known = |own: &mut Own| own.annex.knows_joiner(waker);
        // SAFETY: as in `is_over`; `will_wake` compares two pointers.
        if !unsafe { self.task.own(known) } {
            let joiner = waker.clone();
            // SAFETY: as in `is_over`.
            let before = unsafe { self.task.own(|own| own.annex.set_joiner(joiner)) };
            drop(before);
        }
    }

    /// Asks for the task's end. False: it is over.
    pub(crate) fn cancel(&self, cancellation: &Cancellation) -> bool {
        // SAFETY: as in `is_over`; a task that is not over has an open loop.
        unsafe { self.task.request(cancellation) }
    }

    /// Hands in a cancellation of the code that awaits the task.
    pub(crate) fn hand_in(&self, cancelled: &Cancelled) {
        // SAFETY: as in `cancel`.
        unsafe { self.task.hand_in(cancelled) };
    }

    /// Has nobody told of an error that the task gives and nobody looks at.
    pub(crate) fn overlook(&self) {
        // SAFETY: as in `is_over`.
        unsafe { self.task.own(|own| own.flags |= OVERLOOKED) }
    }

    /// Takes one request back. Answers how many are left.
    pub(crate) fn uncancel(&self) -> u32 {
        // SAFETY: as in `is_over`.
        let requests = unsafe { self.task.own(|own| own.requests()) };
        requests.uncancel()
    }

    /// The count of requests, and the open ones of scopes inside.
    pub(crate) fn cancelling(&self) -> usize {
        let count = |own: &mut Own| match own.annex.get() {
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
        let outcome = unsafe { (header.vtable().outcome)(self.task) };
        // SAFETY: a `RawTask<T>` is made for an output `T` only. The outcome is taken through this handle alone, which is
        // borrowed for as long as `f` runs.
        f(unsafe { &*outcome.cast::<Outcome<T>>() })
    }

    /// Ready when the task is over; else the waker is kept to be woken then.
    pub(crate) fn poll_over(&self, waker: &Waker) -> Poll<()> {
        if self.is_over() {
            return Poll::Ready(());
        }
        self.wait(waker, "await");
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
        let record = unsafe { self.task.own(|own| own.annex.get().and_then(|extra| extra.record.clone())) };
        if let Some(record) = record {
            record.set_name(name.clone());
        }
        // SAFETY: as in `is_over`.
        let before = unsafe { self.task.own(|own| own.annex.get_or_make().name.replace(name)) };
        drop(before);
    }

    /// Whether the task is one of this loop's.
    pub(crate) fn belongs_to(&self, sched: &Sched) -> bool {
        // SAFETY: HANDLE keeps it alive.
        let shared = unsafe { shared_of(self.task) };
        ptr::eq(shared.as_ptr(), StdArc::as_ptr(&sched.shared))
    }
}

impl<T> Drop for RawTask<T> {
    fn drop(&mut self) {
        // SAFETY: this is the handle, and it is on the owner.
        unsafe { self.task.let_go_of_handle() }
    }
}
