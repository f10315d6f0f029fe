//! What few tasks have, in one word of every task.
//!
//! ```text
//! null                  nothing: nearly every task, nearly always
//! a task's address      who awaits this one, if that is a task of ours: the data of its waker, which is counted
//! a box's address + 1   all that and more: [`Extra`]
//! ```
//!
//! A1. The word is changed here only. Both addresses are even, so its lowest bit says which of the two it is.
//! A2. An address of a task stands for one counted waker, made by `set_joiner` and unmade by `take_joiner`.

use super::done::DoneCallbacks;
use super::waker::WAKER;
use crate::quietly::drop_quietly;
use crate::watch::record::TaskRecord;
use evenloop_core::cancel::{Requests, Root};
use evenloop_core::context::Context as Variables;
use evenloop_core::shim::StdArc;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::ptr;
use std::task::Waker;

/// See the head. Touched by the owner only (T1), and by whoever frees the task.
pub(super) struct Annex(*mut ());

/// What few tasks have.
#[derive(Default)]
pub(super) struct Extra {
    pub(super) name: Option<Box<str>>,
    /// Where the task was spawned, if that is too far away for `Site`.
    pub(super) spawned_at: Option<&'static Location<'static>>,
    /// Who awaits the task.
    joiner: Option<Waker>,
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

const BOXED: usize = 1;
const _: () = assert!(align_of::<Extra>() > BOXED && align_of::<super::raw::Header>() > BOXED, "A1");

impl Annex {
    pub(super) const EMPTY: Self = Self(ptr::null_mut());

    /// Whether there is nothing but, perhaps, a task that awaits this one.
    #[inline]
    pub(super) fn is_bare(&self) -> bool {
        self.0.addr() & BOXED == 0
    }

    fn address(&self) -> *mut Extra {
        self.0.map_addr(|address| address & !BOXED).cast()
    }

    #[inline]
    pub(super) fn get(&self) -> Option<&Extra> {
        if self.is_bare() {
            return None;
        }
        // SAFETY: A1: the box is ours.
        Some(unsafe { &*self.address() })
    }

    #[inline]
    pub(super) fn get_mut(&mut self) -> Option<&mut Extra> {
        if self.is_bare() {
            return None;
        }
        // SAFETY: A1: the box is ours.
        Some(unsafe { &mut *self.address() })
    }

    /// Makes the box, if there is none.
    pub(super) fn get_or_make(&mut self) -> &mut Extra {
        if self.is_bare() {
            let extra = Box::new(Extra { joiner: self.take_joiner(), ..Extra::default() });
            self.0 = Box::into_raw(extra).cast::<()>().map_addr(|address| address | BOXED);
        }
        // SAFETY: A1: the box is ours, and there now.
        unsafe { &mut *self.address() }
    }

    /// Whether this waker is kept already.
    pub(super) fn knows_joiner(&self, waker: &Waker) -> bool {
        match self.get() {
            None => {
                !self.0.is_null() && ptr::eq(waker.vtable(), &WAKER) && waker.data() == self.0.cast_const()
            }
            Some(extra) => extra.joiner.as_ref().is_some_and(|joiner| joiner.will_wake(waker)),
        }
    }

    /// Keeps a waker; answers the one before, to be dropped without a borrow of this.
    pub(super) fn set_joiner(&mut self, waker: Waker) -> Option<Waker> {
        let before = self.take_joiner();
        if self.is_bare() && ptr::eq(waker.vtable(), &WAKER) {
            self.0 = ManuallyDrop::new(waker).data().cast_mut();
        } else {
            self.get_or_make().joiner = Some(waker);
        }
        before
    }

    #[inline]
    pub(super) fn take_joiner(&mut self) -> Option<Waker> {
        if let Some(extra) = self.get_mut() {
            return extra.joiner.take();
        }
        let data = std::mem::replace(&mut self.0, ptr::null_mut());
        // SAFETY: A2: it comes from a waker of ours, which was not dropped.
        (!data.is_null()).then(|| unsafe { Waker::new(data, &WAKER) })
    }
}

impl Drop for Annex {
    /// On whatever thread: a task that is over has no joiner, and the rest may be dropped anywhere.
    #[inline]
    fn drop(&mut self) {
        if self.is_bare() {
            debug_assert!(self.0.is_null(), "a task that is over has no joiner");
            return;
        }
        // SAFETY: A1: the box is ours, and this is the last look at it.
        let extra = unsafe { Box::from_raw(self.address()) };
        debug_assert!(
            extra.joiner.is_none() && extra.done.is_none(),
            "a task that is over has nobody to tell"
        );
        drop_quietly(extra); // context variables are foreign
    }
}
