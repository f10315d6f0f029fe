//! A task's turn: out of the run queue, polled, and finished if it is over.

use super::JoinError;
use super::TaskInfo;
use super::done::DoneCallbacks;
use super::raw::*;
use super::sched::Sched;
use super::waker::borrowed_waker;
use crate::unhandled::Unhandled;
use evenloop_core::budget;
use evenloop_core::cancel::{Reason, Root, Turn};
use evenloop_core::context::Context as Variables;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::task::Context;

impl Sched {
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
        if flags & (OVER | KILL | WATCHED) == 0 {
            budget::renew();
            self.poll(task);
        } else if flags & OVER != 0 {
            self.own(|queue| queue.current = ptr::null_mut());
            // SAFETY: over, and out of the run queue since just now.
            unsafe { task.let_go() }
        } else if flags & KILL != 0 {
            self.kill(task, JoinError::cancelled(Reason::default()));
        } else {
            self.poll_watched(task);
        }
        true
    }

    /// Polls a task. This is the one place where a poll is wrapped: what is set up around it (the current task, the root of
    /// the task's cancel scopes, its context) is set up and taken back here.
    #[inline]
    pub(super) fn poll(&self, task: TaskPtr) {
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
        // SAFETY: as above.
        let context = unsafe { task.own(Own::take_context) };
        if !context.is_empty() {
            context.swap_in(); // where no variable was current: `Outside` keeps it so
        }
        let over = root.enter(&requests, || {
            // SAFETY: T3: not over, so the stage holds the future. T6: no panic comes out.
            unsafe { (header.vtable.poll)(task, &mut cx) }
        });
        let context = Variables::take_current();
        // SAFETY: as above.
        unsafe { task.own(|own| own.put_context(context)) }
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

    /// As `poll`, for a task that has a record.
    #[cold]
    pub(super) fn poll_watched(&self, task: TaskPtr) {
        // SAFETY: it was in the run queue and is not over, so it is alive.
        let record = unsafe { task.own(|own| own.extra.as_ref().and_then(|extra| extra.record.clone())) };
        let (Some(watch), Some(record)) = (self.watch(), record) else { return self.poll(task) };
        let polling = {
            // SAFETY: as above.
            let waker = unsafe { borrowed_waker(task) };
            watch.begin(&record, &waker)
        };
        budget::renew();
        self.poll(task); // it may be gone after this
        watch.end(&record, polling, || self.hook());
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
        unsafe { (header.vtable.kill)(task, error) }
        let context = outside.swap_in();
        // SAFETY: the caller's task is alive.
        unsafe { task.own(|own| own.put_context(context)) }
        let before = if before == task.0.as_ptr() { ptr::null_mut() } else { before };
        self.own(|queue| queue.current = before);
        self.finish(task);
    }

    /// The outcome is in place: tell who waits, and let go.
    pub(super) fn finish(&self, task: TaskPtr) {
        let end = |own: &mut Own| {
            own.flags = own.flags & !(KILL | DYING) | OVER;
            if own.flags & HANDLE == 0 {
                own.flags |= TAKEN;
            }
            let done = own.extra.as_mut().and_then(|extra| extra.done.take());
            (own.flags, own.take_joiner(), own.take_root(), done)
        };
        // SAFETY: LOOP is set, so it is alive until `let_go`.
        let (flags, joiner, (mut root, requests), done) = unsafe { task.own(end) };
        if flags & CALLBACK == 0 {
            self.own(|queue| queue.alive -= 1);
        }
        if !requests.is_empty() {
            // Whoever was to be told that the task has taken is told already, or does not matter any more.
            let _ = self.turn(task, || root.finish(&requests));
        }
        if let Some(done) = done {
            self.call_back(task, done);
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
            let record = unsafe { task.own(|own| own.extra.as_mut().and_then(|extra| extra.record.take())) };
            if let (Some(watch), Some(record)) = (self.watch(), record) {
                watch.finished(&record);
            }
        }
        // In the run queue, it is let go of when it comes out; once over it does not get in.
        if flags & SCHEDULED == 0 {
            // SAFETY: over, not in the run queue, and LOOP is still set.
            unsafe { task.let_go() }
        }
    }

    /// Schedules the callbacks of a task that is over; its outcome has not been touched.
    #[cold]
    fn call_back(&self, task: TaskPtr, done: Box<DoneCallbacks>) {
        // SAFETY: LOOP is set, so it is alive until `let_go`.
        let header = unsafe { task.header() };
        // SAFETY: T3: the outcome is there.
        let outcome = unsafe { (header.vtable.outcome)(task) };
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
