//! What happens to a task between its first turn and its end: it is scheduled, asked to end, let go of, and freed (T4).

use super::TaskId;
use super::annex::Annex;
use super::places;
use super::raw::*;
use super::shared::{Queue, Shared};
use crate::quietly::drop_quietly;
use crate::unhandled::{Hook, Unhandled};
use evenloop_core::cancel::{Cancellation, Cancelled, Requests};
use evenloop_core::context::Context as Variables;
use evenloop_core::shim::StdArc;
use std::rc::Rc;

impl TaskPtr {
    /// Puts the task at the end of the run queue, if it is not there and not over.
    ///
    /// # Safety
    ///
    /// As for `own`; the loop is the task's, and alive.
    #[inline]
    pub(super) unsafe fn schedule(self, shared: &Shared) {
        let schedule = |own: &mut Own| {
            let plain = own.flags & (SCHEDULED | OVER | DYING | WATCHED) == 0;
            if plain {
                own.flags |= SCHEDULED;
            }
            plain
        };
        // SAFETY: as for this function.
        if unsafe { self.own(schedule) } {
            // SAFETY: this is the owner.
            unsafe { shared.own(|queue| queue.ready.push(self)) }
        } else {
            // SAFETY: as for this function.
            unsafe { self.schedule_otherwise(shared) }
        }
    }

    /// As [`schedule`](Self::schedule), for a task that has a record, is in the queue already, or over; tells instruments.
    ///
    /// # Safety
    ///
    /// As for [`schedule`](Self::schedule).
    #[cold]
    unsafe fn schedule_otherwise(self, shared: &Shared) {
        let schedule = |own: &mut Own| {
            if own.flags & (SCHEDULED | OVER | DYING) != 0 {
                return None;
            }
            own.flags |= SCHEDULED;
            Some(own.annex.get().and_then(|extra| extra.record.clone()))
        };
        // SAFETY: as for this function.
        let Some(record) = (unsafe { self.own(schedule) }) else { return };
        let schedule = |queue: &mut Queue| {
            queue.ready.push(self);
            queue.watch.clone()
        };
        // SAFETY: this is the owner.
        let watch = unsafe { shared.own(schedule) };
        if let (Some(watch), Some(record)) = (watch, record) {
            watch.scheduled(&record);
        }
    }

    /// Frees a task that has settled, from any thread.
    ///
    /// # Safety
    ///
    /// T4: nobody refers to the task, and the stage is empty.
    pub(super) unsafe fn free(self) {
        // SAFETY: as for this function.
        let shared = unsafe { places::shared_of(self) };
        // SAFETY: T5: this takes over the reference that `settle` took.
        let shared = unsafe { StdArc::from_raw(shared.as_ptr()) };
        // SAFETY: as for this function.
        let header = unsafe { self.header() };
        if header.is_alone() {
            // SAFETY: as for this function.
            unsafe { self.free_alone() }
        } else {
            // SAFETY: as for this function.
            let annex = unsafe { self.end() };
            // SAFETY: it has settled, and nobody refers to it.
            unsafe { shared.push_freed(self) }
            drop(annex);
        }
        drop(shared);
    }

    /// Frees a task that has not settled, on the owner.
    ///
    /// # Safety
    ///
    /// As for [`free`](Self::free) and for `own`; the loop is the task's, and alive.
    unsafe fn free_here(self, shared: &Shared) {
        // SAFETY: as for this function.
        unsafe { self.unlist(shared) }
        // SAFETY: as for this function.
        let header = unsafe { self.header() };
        if header.is_alone() {
            // SAFETY: as for this function.
            unsafe { self.free_alone() }
        } else {
            // SAFETY: as for this function.
            let annex = unsafe { self.end() };
            // SAFETY: this is the owner; it is not LISTED any more, and nobody refers to it.
            unsafe { shared.places.give(self) }
            drop(annex);
        }
    }

    /// Frees a task that is alone.
    ///
    /// # Safety
    ///
    /// As for [`free`](Self::free), but that it may not have settled.
    pub(super) unsafe fn free_alone(self) {
        // SAFETY: as for this function.
        let layout = unsafe { self.header() }.vtable().layout;
        // SAFETY: as for this function.
        let annex = unsafe { self.end() };
        // SAFETY: as for this function.
        unsafe { places::free_alone(self, layout) }
        drop(annex);
    }

    /// Takes out what a task that ends still has: to be dropped when its memory is given back, for that runs foreign code.
    ///
    /// # Safety
    ///
    /// As for [`free`](Self::free).
    unsafe fn end(self) -> Annex {
        // SAFETY: as for this function.
        unsafe { self.header() }.ends();
        // Taken out by hand, so that a model sees that this thread comes after the owner's last touch.
        // SAFETY: nobody refers to the task, so this thread stands in for the owner.
        unsafe { self.own(|own| std::mem::replace(&mut own.annex, Annex::EMPTY)) }
    }

    /// What the owner does when the task is over and out of the run queue (T4).
    ///
    /// # Safety
    ///
    /// As for `own`; the loop is the task's, and alive; called once, and the task may be gone afterwards.
    pub(super) unsafe fn let_go(self, shared: &Shared) {
        let let_go = |own: &mut Own| {
            own.flags &= !LOOP;
            (i64::from(own.refs), own.flags & HANDLE != 0)
        };
        // SAFETY: as for this function.
        let (refs, handle) = unsafe { self.own(let_go) };
        // SAFETY: as for this function.
        let header = unsafe { self.header() };
        // SAFETY: this is the owner.
        let closed = unsafe { shared.own(|queue| queue.closed) };
        if !header.word.nothing(refs) || (handle && closed) {
            // SAFETY: as for this function.
            unsafe { self.settle(shared) }
        } else if !handle {
            // SAFETY: T4: over, not queued, no handle, no waker.
            unsafe { self.free_here(shared) }
        }
    }

    /// Joins the halves of the count (T4) and takes a reference to `Shared` (T5).
    ///
    /// # Safety
    ///
    /// As for `let_go`; the loop is done with the task.
    pub(super) unsafe fn settle(self, shared: &Shared) {
        // SAFETY: as for this function.
        unsafe { self.unlist(shared) }
        let settle = |own: &mut Own| {
            own.flags |= SETTLED;
            i64::from(own.refs) + i64::from(own.flags & HANDLE != 0)
        };
        // SAFETY: as for this function.
        let own_half = unsafe { self.own(settle) };
        // SAFETY: as for this function.
        let header = unsafe { self.header() };
        // Not `shared`, which is no more than a reference.
        // SAFETY: as for this function.
        let counted = unsafe { places::shared_of(self) };
        // SAFETY: T5: the loop is open, so this came from an `StdArc` that lives; `free` gives this reference back.
        unsafe { StdArc::increment_strong_count(counted.as_ptr()) };
        if header.word.settle(own_half) {
            // SAFETY: T4: the last waker was released meanwhile.
            unsafe { self.free() }
        }
    }

    /// The loop is not to find the task any more.
    ///
    /// # Safety
    ///
    /// As for [`let_go`](Self::let_go).
    unsafe fn unlist(self, shared: &Shared) {
        // SAFETY: as for this function.
        unsafe { self.own(|own| own.flags &= !LISTED) }
        // SAFETY: as for this function.
        if unsafe { self.header() }.is_alone() {
            // SAFETY: this is the owner, and it was listed until now.
            unsafe { shared.places.unlink_alone(self) }
        }
    }

    /// The handle is gone: its outcome is dropped, and the task with it if nothing else refers to it.
    ///
    /// # Safety
    ///
    /// As for `own`; the task has its handle, and may be gone afterwards.
    pub(super) unsafe fn let_go_of_handle(self) {
        let take = |own: &mut Own| {
            let unseen = own.flags & (OVER | TAKEN) == OVER;
            if unseen {
                own.flags |= TAKEN;
            }
            (unseen, own.annex.take_joiner())
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
            // SAFETY: not settled, so it is not freed but below.
            let header = unsafe { self.header() };
            // SAFETY: as above, and this is the owner.
            let refs = unsafe { self.own(|own| i64::from(own.refs)) };
            // SAFETY: as above; not settled, so the loop is open (T5).
            let shared = unsafe { self.shared() };
            // `let_go` found nothing but this handle; a callback that was added through it since has a reference of its own.
            if header.word.nothing(refs) {
                // SAFETY: T4: over, not queued, no handle, no waker.
                unsafe { self.free_here(shared) }
            } else {
                // SAFETY: the loop is done with it.
                unsafe { self.settle(shared) }
            }
        }
    }

    /// Drops the outcome and reports a panic that nobody will see.
    ///
    /// # Safety
    ///
    /// As for `own`; the stage holds the outcome, and TAKEN is set.
    pub(super) unsafe fn discard(self) {
        // SAFETY: as for this function.
        let header = unsafe { self.header() };
        // SAFETY: as for this function.
        if unsafe { self.own(|own| own.flags & (WATCHED | OVERLOOKED)) } == WATCHED {
            // SAFETY: as for this function.
            unsafe { self.tell_error() }
        }
        // SAFETY: as for this function.
        let panic = unsafe { (header.vtable().discard)(self) };
        if let Some(panic) = panic {
            let tell = |about: About, hook| {
                let what =
                    if about.callback { "callback panicked" } else { "task panicked, and nobody awaits it" };
                Unhandled::new(what, Some(about), Some(&*panic)).report(hook);
            };
            // SAFETY: as for this function.
            unsafe { self.tell(tell) }
            drop_quietly(panic);
        }
    }

    /// Debug mode, also that of a loop which is closed by now: reports an `Err` that nobody will see.
    ///
    /// # Safety
    ///
    /// As for [`discard`](Self::discard).
    #[cold]
    unsafe fn tell_error(self) {
        // SAFETY: as for this function.
        let shared = unsafe { self.shared() };
        // SAFETY: this is the owner.
        let (watch, was_debug) = unsafe { shared.own(|queue| (queue.watch.clone(), queue.was_debug)) };
        if !(was_debug || watch.is_some_and(|watch| watch.is_debug())) {
            return;
        }
        // SAFETY: as for this function.
        let header = unsafe { self.header() };
        // SAFETY: as for this function.
        let Some(error) = (unsafe { (header.vtable().error)(self) }) else { return };
        let tell = |about: About, hook| {
            Unhandled::new("task gave an error that nobody looked at", Some(about), None)
                .in_other_words(error.to_owned())
                .report(hook);
        };
        // SAFETY: as for this function.
        unsafe { self.tell(tell) }
    }

    /// Calls `tell` with what is known of the task and the loop's hook, in the context of the task.
    ///
    /// # Safety
    ///
    /// As for `own`.
    unsafe fn tell(self, tell: impl FnOnce(About, Option<Rc<Hook>>)) {
        // SAFETY: as for this function.
        let about = unsafe { self.about() };
        // SAFETY: as for this function; T5.
        let shared = unsafe { self.shared() };
        // SAFETY: this is the owner.
        let hook = unsafe { shared.own(|queue| queue.hook.clone()) };
        // SAFETY: as for this function.
        let context = unsafe { self.own(|own| own.annex.get().map(|extra| extra.context.clone())) };
        context.unwrap_or_default().run(|| tell(about, hook));
    }

    /// # Safety
    ///
    /// As for `own`.
    pub(super) unsafe fn about(self) -> About {
        let about = |own: &mut Own| About {
            id: TaskId::new(own.number()),
            name: own.annex.get().and_then(|extra| extra.name.clone()),
            spawned_at: own.spawned_at(),
            over: own.flags & OVER != 0,
            running: false,
            started: own.flags & STARTED != 0,
            callback: own.flags & CALLBACK != 0,
            cancelling: own.flags & (KILL | DYING) != 0
                || own.annex.get().is_some_and(|extra| extra.requests.open() > 0),
        };
        // SAFETY: as for this function.
        let mut about = unsafe { self.own(about) };
        // SAFETY: as for this function; T5: it cannot be freed under us.
        let shared = unsafe { self.shared() };
        // SAFETY: this is the owner.
        about.running = unsafe { shared.own(|queue| queue.current == self.0.as_ptr()) };
        about
    }

    /// A task that was just made gets a copy of the context that it was made in.
    ///
    /// # Safety
    ///
    /// As for `own`; or this is its maker, and nobody else has seen it (T1).
    #[inline]
    pub(super) unsafe fn inherit_context(self) {
        let context = Variables::current();
        if !context.is_empty() {
            // SAFETY: as for this function.
            unsafe { self.own(|own| own.put_context(context)) }
        }
    }

    /// Asks for the task's end. False: it is over.
    ///
    /// # Safety
    ///
    /// As for `own`, and the loop is alive.
    pub(super) unsafe fn request(self, cancellation: &Cancellation) -> bool {
        // SAFETY: as for this function.
        unsafe { self.ask(|requests| requests.request_by(cancellation)) }
    }

    /// As [`request`](Self::request), by code that awaits this task and was itself cancelled.
    ///
    /// # Safety
    ///
    /// As for `own`, and the loop is alive.
    pub(super) unsafe fn hand_in(self, cancelled: &Cancelled) -> bool {
        // SAFETY: as for this function.
        unsafe { self.ask(|requests| requests.hand_in(cancelled)) }
    }

    /// # Safety
    ///
    /// As for `own`, and the loop is alive.
    unsafe fn ask(self, ask: impl FnOnce(&mut Requests) -> bool) -> bool {
        let ask =
            |own: &mut Own| own.flags & (OVER | DYING) == 0 && ask(&mut own.annex.get_or_make().requests);
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
                unsafe { self.schedule(shared) }
            }
        }
        asked
    }

    /// Has the task's future dropped at its next turn, whoever catches.
    ///
    /// # Safety
    ///
    /// As for `own`; a task that is not over has an open loop.
    pub(super) unsafe fn doom(self) {
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
            let shared = unsafe { self.shared() };
            // SAFETY: as for this function.
            unsafe { self.schedule(shared) }
        }
    }
}
