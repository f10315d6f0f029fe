//! The owner's hand on its tasks: making them, listing them, taking them from the inbox, closing.

use super::JoinError;
use super::cell::TaskCell;
use super::raw::*;
use super::raw_task::RawTask;
use super::shared::{CLOSED, PARKED, Queue, Shared};
use super::state::{Taken, Word};
use super::task_ref::TaskRef;
use super::waker::{RUNNING, Running, running};
use super::{SpawnHook, TaskInfo};
use crate::quietly::drop_quietly;
use crate::unhandled::{Hook, Unhandled};
use crate::watch::Watch;
use crate::watch::record::TaskRecord;
use evenloop_core::Unpark;
use evenloop_core::cancel::{Cancellation, Reason, Requests};
use evenloop_core::context::Context as Variables;
use evenloop_core::shim::atomic::Ordering;
use evenloop_core::shim::{GlobalAtomicUsize, StdArc};
use evenloop_core::watch::current_task;
use std::alloc::Layout;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr::{self, NonNull};
use std::rc::Rc;

/// The next loop's number, counted from 1.
fn next_loop() -> u64 {
    static LAST: GlobalAtomicUsize = GlobalAtomicUsize::new(0);
    // ORDERING: Relaxed: a number that no other loop has, and nothing else.
    LAST.fetch_add(1, Ordering::Relaxed) as u64 + 1
}

/// The queues of one loop, in the hands of its thread.
pub(crate) struct Sched {
    pub(super) shared: StdArc<Shared>,
    /// T1.
    pub(super) not_send: PhantomData<*const ()>,
}

impl Sched {
    pub(crate) fn new(unparker: StdArc<dyn Unpark>, hook: Option<Rc<Hook>>) -> Self {
        let queue = Queue {
            ready: Vec::new(),
            spare: Vec::new(),
            left: 0,
            alive: 0,
            current: ptr::null_mut(),
            last_id: 0,
            last_callback: 0,
            closed: false,
            hook,
            on_spawn: None,
            watch: None,
            was_debug: false,
        };
        let shared = Shared::new(next_loop(), unparker, queue);
        Self { shared: StdArc::new(shared), not_send: PhantomData }
    }

    pub(crate) fn shared(&self) -> &StdArc<Shared> {
        &self.shared
    }

    #[inline]
    pub(super) fn own<R>(&self, f: impl FnOnce(&mut Queue) -> R) -> R {
        // SAFETY: T1: a `Sched` never leaves its thread. T2: the callers in this file.
        unsafe { self.shared.own(f) }
    }

    /// How many tasks are ready.
    pub(crate) fn ready(&self) -> usize {
        self.own(|queue| queue.ready.len() + queue.left)
    }

    /// How many tasks lie in the inbox.
    pub(crate) fn inbox_len(&self) -> usize {
        self.shared.inbox_len_of_owner()
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
    pub(super) unsafe fn spawn_unbounded<F: Future>(
        &self,
        future: F,
        name: Option<Box<str>>,
        spawned_at: &'static Location<'static>,
    ) -> RawTask<F::Output> {
        let task = self.make(future, HANDLE, spawned_at);
        if name.is_some() {
            // SAFETY: just made, by the owner.
            unsafe { task.own(|own| own.annex.get_or_make().name = name) }
        }
        // SAFETY: just made, by the owner.
        unsafe { task.inherit_context() }
        self.list(task);
        if self.own(|queue| queue.closed) {
            self.kill(task, JoinError::cancelled(Reason::default()));
        } else {
            // SAFETY: just made, by the owner.
            unsafe { task.schedule(&self.shared) }
        }
        RawTask { task, not_send: PhantomData }
    }

    /// Makes a callback in the guise of a task, and schedules it. On a closed loop it is dropped.
    pub(crate) fn spawn_callback(
        &self,
        future: impl Future<Output = ()> + 'static,
        spawned_at: &'static Location<'static>,
    ) -> TaskRef {
        let task = self.make(future, CALLBACK, spawned_at);
        // SAFETY: just made, by the owner.
        unsafe { task.inherit_context() }
        // SAFETY: just made.
        let callback = unsafe { TaskRef::new(task) };
        self.list(task);
        if self.own(|queue| queue.closed) {
            self.kill(task, JoinError::cancelled(Reason::default()));
        } else {
            // SAFETY: just made, by the owner.
            unsafe { task.schedule(&self.shared) }
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
        let task = self.make(future, HANDLE, spawned_at);
        let raw = RawTask { task, not_send: PhantomData };
        if let Some(name) = name {
            raw.set_name(name);
        }
        // SAFETY: just made, by the owner.
        unsafe { task.inherit_context() }
        self.list(task);
        let before = self.own(|queue| std::mem::replace(&mut queue.current, task.0.as_ptr()));
        let outside = Variables::take_current();
        // SAFETY: just made, by the owner.
        if unsafe { task.own(|own| own.flags & WATCHED == 0) } {
            self.poll_wrapped(task);
        } else {
            self.poll_watched(task);
        }
        outside.swap_in();
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

    #[inline]
    fn make<F: Future>(&self, future: F, flags: u16, spawned_at: &'static Location<'static>) -> TaskPtr {
        // SAFETY: an `StdArc` leads to something. Not by way of a reference: `free` makes an `StdArc` of it.
        let shared = unsafe { NonNull::new_unchecked(StdArc::as_ptr(&self.shared).cast_mut()) };
        // SAFETY: this is the owner.
        let place = unsafe { self.shared.places.take(Layout::new::<TaskCell<F>>(), shared) };
        TaskCell::alloc(future, Word::new(), shared, flags, spawned_at, place)
    }

    /// From now on the loop finds a new task among its own.
    #[inline]
    pub(super) fn list(&self, task: TaskPtr) {
        // SAFETY: the caller's task is alive.
        let callback = unsafe { task.own(|own| own.flags & CALLBACK != 0) };
        let (id, hooked) = self.own(|queue| {
            let id = if callback {
                queue.last_callback = queue.last_callback.max(first_callback(queue.last_id)) + 1;
                queue.last_callback
            } else {
                queue.alive += 1;
                queue.last_id += 1;
                queue.last_id
            };
            let hooked = match (&queue.watch, callback) {
                (watch, false) => watch.is_some() || queue.on_spawn.is_some(),
                (watch, true) => watch.as_ref().is_some_and(|watch| watch.is_debug()),
            };
            (id, hooked)
        });
        let link = |own: &mut Own| {
            own.id = id;
            own.flags |= LISTED;
        };
        // SAFETY: the caller's task is alive.
        unsafe { task.own(link) }
        // SAFETY: the caller's task is alive.
        if unsafe { task.header() }.is_alone() {
            // SAFETY: this is the owner.
            unsafe { self.shared.places.link_alone(task) }
        }
        if hooked {
            self.attach(task);
            if !callback {
                self.show_spawned(task);
            }
        }
    }

    /// Shows a new task to the spawn hook. Tasks that the hook itself spawns are not shown.
    #[cold]
    fn show_spawned(&self, task: TaskPtr) {
        let Some(hook) = self.own(|queue| queue.on_spawn.take()) else { return };
        let _here = self.enter();
        // SAFETY: the caller's task is alive.
        let info = unsafe { TaskInfo::of(task) };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook(&info))) {
            // SAFETY: as above.
            let about = unsafe { task.about() };
            Unhandled::new("the spawn hook panicked", Some(about), Some(&*panic)).report(self.hook());
            drop_quietly(panic);
        }
        // Unless the hook has set another one.
        let unused = self.own(|queue| match &queue.on_spawn {
            None if !queue.closed => queue.on_spawn.replace(hook),
            _ => Some(hook),
        });
        drop_quietly(unused);
    }

    pub(crate) fn set_spawn_hook(&self, hook: Option<Rc<SpawnHook>>) {
        let before = self.own(|queue| std::mem::replace(&mut queue.on_spawn, hook));
        drop_quietly(before);
    }

    // === Watching ===

    /// The loop's number in this process.
    pub(crate) fn number(&self) -> u64 {
        self.shared.number
    }

    pub(crate) fn watch(&self) -> Option<Rc<Watch>> {
        self.own(|queue| queue.watch.clone())
    }

    /// Begins to watch the loop, with the tasks that it has.
    pub(crate) fn set_watch(&self, watch: Rc<Watch>) {
        let before = self.own(|queue| queue.watch.replace(watch));
        drop(before);
        // Nothing foreign runs meanwhile but hooks of instruments, of which there are none yet.
        self.listed().into_iter().rev().for_each(|task| self.attach(task));
    }

    /// Gives a task that is listed its record. A callback has none; in debug mode its turn is watched.
    #[cold]
    fn attach(&self, task: TaskPtr) {
        // SAFETY: what is listed is alive.
        let header = unsafe { task.header() };
        let future = (header.vtable().name)();
        let Some(watch) = self.watch() else { return };
        let (now, parent) = (watch.record().now(), current_task());
        let attach = |own: &mut Own| {
            if own.flags & (OVER | CALLBACK | WATCHED) != 0 {
                let is_callback = own.flags & (OVER | CALLBACK) == CALLBACK;
                own.flags |= if is_callback && watch.is_debug() { WATCHED } else { 0 };
                return None;
            }
            let name = own.annex.get().and_then(|extra| extra.name.clone());
            let record = TaskRecord::new(own.id, name, own.spawned_at(), future, now, parent);
            own.flags |= WATCHED;
            own.annex.get_or_make().record = Some(record.clone());
            Some(record)
        };
        // SAFETY: as above.
        if let Some(record) = unsafe { task.own(attach) } {
            watch.spawned(record);
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
    pub(super) fn adopt(&self, mut newest: *mut Header) {
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
                    unsafe { task.schedule(&self.shared) }
                    if taken == Taken::Asked {
                        // SAFETY: as above; the loop is draining, so it is alive.
                        unsafe { task.request(&Cancellation::new(Reason::default())) };
                    }
                }
                Taken::Over => {}
                // SAFETY: T4: settled, and the inbox's was the last reference.
                Taken::Free => unsafe { task.free() },
            }
        }
    }

    /// Takes the places back of tasks that were freed elsewhere.
    pub(crate) fn take_freed(&self) {
        // SAFETY: this is the owner.
        unsafe { self.shared.take_freed() }
    }

    /// Announces sleep. False: something is in the inbox, so do not sleep. `drain` ends it.
    pub(crate) fn prepare_park(&self) -> bool {
        self.take_freed();
        let (empty, parked) = (ptr::null_mut(), PARKED);
        // ORDERING: Relaxed: the swap in `drain` sees what comes. One that fails without reason costs one look more.
        match self.shared.inbox.compare_exchange_weak(empty, parked, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => true,
            Err(seen) => seen == PARKED,
        }
    }

    /// All tasks that are not over, oldest first.
    pub(crate) fn all(&self) -> Vec<TaskRef> {
        let mut all = self.without(OVER | CALLBACK);
        all.reverse();
        all
    }

    /// The tasks with none of these flags, newest first.
    fn without(&self, flags: u16) -> Vec<TaskRef> {
        let mut tasks = self.listed();
        // SAFETY: what is listed is alive.
        tasks.retain(|task| unsafe { task.own(|own| own.flags & flags == 0) });
        // SAFETY: as above.
        tasks.into_iter().map(|task| unsafe { TaskRef::new(task) }).collect()
    }

    /// All tasks that the loop knows of, newest first. They are alive until the loop is done with one of them.
    fn listed(&self) -> Vec<TaskPtr> {
        // SAFETY: this is the owner.
        unsafe { self.shared.places.listed() }
    }

    /// Has all tasks dropped that are not over.
    pub(super) fn doom_all(&self) {
        self.without(OVER).iter().for_each(TaskRef::doom);
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
        while self.run_ready() > 0 {}
        // What was over before and has a handle left. Settling runs no foreign code.
        for task in self.listed() {
            // SAFETY: what is listed is alive; over, out of the run queue, so the loop is done with it.
            unsafe { task.settle(&self.shared) }
        }
        self.set_spawn_hook(None);
        self.set_hook(None);
        let watch = self.own(|queue| {
            queue.was_debug = queue.watch.as_ref().is_some_and(|watch| watch.is_debug());
            queue.watch.take()
        });
        drop_quietly(watch); // instruments are foreign
        self.take_freed();
        self.shared.places.free_empty();
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

    /// What was asked of the task that is being polled.
    pub(crate) fn current_requests(&self) -> Option<Requests> {
        let current = self.own(|queue| NonNull::new(queue.current).map(TaskPtr));
        // SAFETY: a task that is being polled is alive; cloning them runs no foreign code.
        current.map(|task| unsafe { task.own(|own| own.requests()) })
    }
}
