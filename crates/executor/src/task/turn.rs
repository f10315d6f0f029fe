//! A task's turn: out of the run queue, polled, and finished if it is over.

use super::JoinError;
use super::done::DoneCallbacks;
use super::raw::*;
use super::sched::Sched;
use super::shared::Queue;
use super::waker::borrowed_waker;
use super::{ChooseHook, TaskInfo};
use crate::quietly::drop_quietly;
use crate::unhandled::Unhandled;
use evenloop_core::budget;
use evenloop_core::cancel::{Reason, Root, Turn};
use evenloop_core::context::Context as Variables;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::task::{Context, Waker};

/// How many places the run queue keeps whatever happens.
const KEPT: usize = 1024;

impl Sched {
    /// Runs what is in the run queue now, and nothing that this brings there. Answers how many that were.
    #[inline]
    pub(crate) fn run_ready(&self) -> usize {
        let take = |queue: &mut Queue| std::mem::replace(&mut queue.ready, std::mem::take(&mut queue.spare));
        let mut batch = self.own(take);
        let count = batch.len();
        let mut left = count;
        for &task in &batch {
            left -= 1;
            self.own(|queue| {
                queue.current = task.0.as_ptr();
                queue.left = left;
            });
            self.run(task);
        }
        batch.clear();
        // A burst long ago is no reason to keep its memory.
        if batch.capacity() > KEPT && count < batch.capacity() / 8 {
            batch.shrink_to(KEPT);
        }
        self.own(|queue| {
            queue.current = ptr::null_mut();
            queue.spare = batch;
        });
        count
    }

    /// Runs one task of the run queue: the one that `choose` names. Answers how many that were.
    #[cold]
    pub(crate) fn run_chosen(&self, choose: &mut ChooseHook) -> usize {
        let ready = self.own(|queue| queue.ready.clone());
        if ready.is_empty() {
            return 0;
        }
        // SAFETY: what is in the run queue is alive (T4).
        let is_over = |task: &TaskPtr| unsafe { task.own(|own| own.flags & OVER != 0) };
        // One that is over is let go of, whatever the order.
        let place = ready.iter().position(is_over).unwrap_or_else(|| {
            // SAFETY: as above; asking runs no foreign code.
            let ready: Vec<_> = ready.iter().map(|task| unsafe { TaskInfo::of(*task) }).collect();
            let (place, count) = (choose(&ready), ready.len());
            assert!(place < count, "`Builder::choose_next`: the hook chose {place}, of {count} tasks");
            place
        });
        let task = self.own(|queue| {
            let task = queue.ready.remove(place);
            queue.current = task.0.as_ptr();
            task
        });
        self.run(task);
        self.own(|queue| queue.current = ptr::null_mut());
        1
    }

    /// Runs a task from the run queue. No foreign code runs between this and the next, which finds `current` as this one
    /// leaves it.
    #[inline]
    fn run(&self, task: TaskPtr) {
        let leave_queue = |own: &mut Own| {
            let (flags, bare) = (own.flags, own.annex.is_bare());
            own.flags = flags & !SCHEDULED | if bare { STARTED } else { 0 };
            (flags, bare, own.site)
        };
        // SAFETY: what is in the run queue is alive (T4).
        let (flags, bare, site) = unsafe { task.own(leave_queue) };
        self.shared.publish(site);
        if flags & (OVER | KILL | WATCHED) != 0 {
            return self.run_otherwise(task, flags);
        }
        budget::renew();
        if bare {
            self.poll_bare(task);
        } else {
            self.poll_wrapped(task);
        }
    }

    /// The turn of a task that is not to be polled, or not without being watched.
    #[cold]
    fn run_otherwise(&self, task: TaskPtr, flags: u16) {
        if flags & OVER != 0 {
            self.own(|queue| queue.current = ptr::null_mut());
            // SAFETY: over, and out of the run queue since just now.
            unsafe { task.let_go(&self.shared) }
        } else if flags & KILL != 0 {
            self.kill(task, JoinError::cancelled(Reason::default()));
        } else {
            self.poll_watched(task);
        }
    }

    /// Polls a task that is STARTED and whose annex is bare. This and [`poll_wrapped`](Self::poll_wrapped) are the two places
    /// where a poll is wrapped: what is set up around it (the current task, the root of the task's cancel scopes, its context)
    /// is set up and taken back here.
    #[inline]
    fn poll_bare(&self, task: TaskPtr) {
        // SAFETY: it was in the run queue and is not over, so it stays alive during its poll.
        let waker = unsafe { borrowed_waker(task) };
        // SAFETY: as above.
        let header = unsafe { task.header() };
        let mut root = Root::new();
        let over = root.enter_bare(|| {
            // SAFETY: T3: not over, so the stage holds the future. T6: no panic comes out.
            unsafe { (header.vtable().poll)(task, &mut Context::from_waker(&waker)) }
        });
        // SAFETY: as above.
        if !root.is_empty() || Variables::any_current() || !unsafe { task.own(|own| own.annex.is_bare()) } {
            self.wrap_up(task, root, over, &waker);
        } else if over {
            self.own(|queue| queue.current = ptr::null_mut());
            self.finish(task);
        }
    }

    /// Polls a task, whatever is inside it or was asked of it.
    #[inline(never)]
    pub(super) fn poll_wrapped(&self, task: TaskPtr) {
        // SAFETY: as in `poll_bare`.
        let waker = unsafe { borrowed_waker(task) };
        // SAFETY: as in `poll_bare`.
        let (mut root, requests) = unsafe { task.own(Own::take_root) };
        if !requests.is_empty() {
            if let Turn::Take(reason) = self.turn(task, || root.before(&requests, &waker)) {
                return self.take(task, root, reason);
            }
        }
        // SAFETY: as in `poll_bare`.
        unsafe { task.own(|own| own.flags |= STARTED) }
        // SAFETY: as in `poll_bare`.
        let header = unsafe { task.header() };
        // SAFETY: as above.
        let context = unsafe { task.own(Own::take_context) };
        if !context.is_empty() {
            context.swap_in(); // where no variable was current: `Outside` keeps it so
        }
        let over = root.enter(&requests, || {
            // SAFETY: T3: not over, so the stage holds the future. T6: no panic comes out.
            unsafe { (header.vtable().poll)(task, &mut Context::from_waker(&waker)) }
        });
        self.wrap_up(task, root, over, &waker);
    }

    /// What follows a poll, if there is more to be done than to let the task wait or end.
    fn wrap_up(&self, task: TaskPtr, mut root: Root, over: bool, waker: &Waker) {
        let context = Variables::take_current();
        // SAFETY: as in `poll_bare`.
        unsafe { task.own(|own| own.put_context(context)) }
        if !root.is_empty() {
            if let Some(raised) = root.take_raised() {
                // SAFETY: as in `poll_bare`; asking runs no foreign code. What follows looks at it.
                let _ = unsafe { task.own(|own| own.annex.get_or_make().requests.raise(raised)) };
            }
        }
        // The first request may have come during the poll.
        // SAFETY: as in `poll_bare`.
        let requests = unsafe { task.own(|own| own.requests()) };
        if over {
            if !requests.is_empty() {
                if let Turn::Take(reason) = self.turn(task, || root.finish(&requests)) {
                    // SAFETY: as in `poll_bare`.
                    let header = unsafe { task.header() };
                    // SAFETY: T3: the outcome is in place.
                    unsafe { (header.vtable().revoke)(task, JoinError::cancelled(reason)) }
                }
            }
            self.own(|queue| queue.current = ptr::null_mut());
            return self.finish(task);
        }
        if !requests.is_empty() {
            // SAFETY: as in `poll_bare`.
            let woken = unsafe { task.own(|own| own.flags & SCHEDULED != 0) };
            if let Turn::Take(reason) = self.turn(task, || root.after(&requests, waker, woken)) {
                return self.take(task, root, reason);
            }
        }
        // SAFETY: as in `poll_bare`.
        unsafe { task.own(|own| own.put_root(root)) }
    }

    /// As `poll_wrapped`, for a task that has a record.
    #[cold]
    pub(super) fn poll_watched(&self, task: TaskPtr) {
        // SAFETY: it was in the run queue and is not over, so it is alive.
        let record = unsafe { task.own(|own| own.annex.get().and_then(|extra| extra.record.clone())) };
        let (Some(watch), Some(record)) = (self.watch(), record) else { return self.poll_callback(task) };
        let polling = {
            // SAFETY: as above.
            let waker = unsafe { borrowed_waker(task) };
            watch.begin(&record, &waker)
        };
        budget::renew();
        self.poll_wrapped(task); // it may be gone after this
        self.own(|queue| queue.current = ptr::null_mut());
        watch.end(&record, polling, || self.hook());
    }

    /// As `poll_wrapped`, for a callback of a loop in debug mode.
    #[cold]
    #[inline(never)]
    fn poll_callback(&self, task: TaskPtr) {
        budget::renew();
        let Some(watch) = self.watch() else { return self.poll_wrapped(task) };
        // SAFETY: as in `poll_watched`.
        let about = unsafe { task.about() };
        let began = watch.record().now();
        self.poll_wrapped(task); // it may be gone after this
        watch.tell_slow(began, About { over: true, ..about }, || self.hook());
    }

    /// Half a turn of a task's cancel scope, which wakes strangers (T6).
    #[cold]
    pub(super) fn turn(&self, task: TaskPtr, half: impl FnOnce() -> Turn) -> Turn {
        catch_unwind(AssertUnwindSafe(half)).unwrap_or_else(|panic| {
            self.report_waker(task, panic);
            Turn::Go
        })
    }

    /// A task that was cancelled ends.
    #[cold]
    pub(super) fn take(&self, task: TaskPtr, root: Root, reason: Reason) {
        // SAFETY: not over, so it is alive.
        unsafe { task.own(|own| own.put_root(root)) }
        self.kill(task, JoinError::cancelled(reason));
    }

    /// Drops the future of a task that is not over, as that task.
    pub(super) fn kill(&self, task: TaskPtr, error: JoinError) {
        let before = self.own(|queue| std::mem::replace(&mut queue.current, task.0.as_ptr()));
        // SAFETY: the caller's task is alive.
        unsafe { task.own(|own| own.flags |= DYING) }
        // SAFETY: the caller's task is alive.
        let header = unsafe { task.header() };
        // A task may be killed in the middle of another one's turn.
        let outside = Variables::take_current();
        // SAFETY: the caller's task is alive.
        unsafe { task.own(Own::take_context) }.swap_in();
        // SAFETY: T3: not over, so the stage holds the future; DYING keeps others off. T6: no panic comes out.
        unsafe { (header.vtable().kill)(task, error) }
        let context = outside.swap_in();
        // SAFETY: the caller's task is alive.
        unsafe { task.own(|own| own.put_context(context)) }
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
            let done = own.annex.get_mut().and_then(|extra| extra.done.take());
            (own.flags, own.annex.take_joiner(), own.annex.is_bare(), done)
        };
        // SAFETY: LOOP is set, so it is alive until `let_go`.
        let (flags, joiner, bare, done) = unsafe { task.own(end) };
        if flags & CALLBACK == 0 {
            self.own(|queue| queue.alive -= 1);
        }
        if !bare {
            self.end_requests(task);
        }
        if let Some(done) = done {
            self.call_back(task, *done);
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
        if flags & WATCHED != 0 {
            // SAFETY: LOOP is set, so it is alive until `let_go`.
            let record = unsafe { task.own(|own| own.annex.get_mut().and_then(|extra| extra.record.take())) };
            if let (Some(watch), Some(record)) = (self.watch(), record) {
                watch.finished(&record);
            }
        }
        // In the run queue, it is let go of when it comes out; once over it does not get in.
        if flags & SCHEDULED == 0 {
            // SAFETY: over, not in the run queue, and LOOP is still set.
            unsafe { task.let_go(&self.shared) }
        }
    }

    /// Refuses what is asked of a task from here on.
    fn end_requests(&self, task: TaskPtr) {
        // SAFETY: as in `finish`.
        let (mut root, requests) = unsafe { task.own(Own::take_root) };
        if !requests.is_empty() {
            // Whoever was to be told that the task has taken is told already, or does not matter any more.
            let _ = self.turn(task, || root.finish(&requests));
        }
    }

    /// Schedules the callbacks of a task that is over; its outcome has not been touched.
    #[cold]
    fn call_back(&self, task: TaskPtr, done: DoneCallbacks) {
        // SAFETY: LOOP is set, so it is alive until `let_go`.
        let header = unsafe { task.header() };
        // SAFETY: T3: the outcome is there.
        let outcome = unsafe { (header.vtable().outcome)(task) };
        // SAFETY: `look` came from the handle, which knows the type of this task's outcome.
        let end = unsafe { (done.look)(outcome) };
        // SAFETY: as above.
        let info = unsafe { TaskInfo::of(task) };
        for entry in done.into_entries() {
            entry.schedule(self, info.clone(), end);
        }
    }

    /// A waker of a stranger panicked during this task's turn.
    pub(super) fn report_waker(&self, task: TaskPtr, panic: Box<dyn Any + Send>) {
        // SAFETY: LOOP is set, so it is alive until `let_go`.
        let about = unsafe { task.about() };
        Unhandled::new("a waker panicked", Some(about), Some(&*panic)).report(self.hook());
        drop_quietly(panic);
    }
}
