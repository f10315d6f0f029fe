//! A loop's inside: passes, parking, running, closing.
//!
//! ```text
//!        ┌──────────────────────────── one pass ────────────────────────────┐
//!  run ──► inbox ──► nothing ready? park ──► inbox ──► run what is ready now ──► done or stopped? leave
//!        ▲                                                                  │ no
//!        └──────────────────────────────────────────────────────────────────┘
//! ```
//!
//! E1. A pass runs exactly the tasks that were ready when it began, first come first. What they make ready runs in the next.
//!     Where somebody else chooses ([`Builder::choose_next`](super::Builder::choose_next)) a pass runs one task.
//! E2. The loop sleeps only when nothing is ready. While tasks are ready it looks at its park (timers, descriptors) once in
//!     [`LOOK_EVERY`] polls, between passes: a task that only yields costs no system call and no clock read.
//! E3. One loop runs on a thread at a time. While it does, it is the thread's current loop, and its runtime is entered.
//! E4. Tasks are polled and dropped only inside a run, or inside `close`; both enter the runtime first.

use crate::current::Current;
use crate::handle::Handle;
use crate::quietly::drop_quietly;
use crate::settled::Lulls;
use crate::statistics::Statistics;
use crate::task::sched::Sched;
use crate::task::shared::Shared;
use crate::task::waker::Running;
use crate::task::{ChooseHook, Task};
use crate::unhandled::Unhandled;
use crate::watch::Watch;
use crate::watch::record::LoopRecord;
use crate::watchdog;
use evenloop_core::budget;
use evenloop_core::cancel::Cancellation;
use evenloop_core::context::Context as Variables;
use evenloop_core::shim::StdArc;
use evenloop_core::{Entered, Park, Runtime, Spawn, TimerKey, Timers, Wait, deadline_after};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// E2. Measured with a reactor below: at 128 a look costs a yield 2 ns at most.
const LOOK_EVERY: usize = 128;

/// How long closing waits in debug mode for threads that still work.
const PATIENCE: Duration = Duration::from_millis(100);

/// A clean-up that is always ready keeps a virtual clock from jumping. After so many passes without a moment between them
/// its time is over.
const STANDSTILL: u32 = 100_000;

/// A loop's inside: shared with the functions that find it through the thread.
pub(crate) struct Core {
    pub(super) sched: Sched,
    pub(super) handle: Handle,
    park: RefCell<Box<dyn Park>>,
    /// The park's, kept beside it: a waker may ask for it while the loop parks.
    pub(super) descriptor: Option<RawFd>,
    runtime: Runtime,
    /// Asked to leave after this pass.
    stopping: Cell<bool>,
    /// Polls since the last look at the park (E2).
    unlooked: Cell<usize>,
    lulls: Rc<Lulls>,
    /// Who chooses the next task, if it is not the one that was ready first (E1).
    choose: Option<RefCell<Box<ChooseHook>>>,
}

impl Core {
    pub(super) fn new(
        sched: Sched,
        handle: Handle,
        park: Box<dyn Park>,
        runtime: Runtime,
        choose: Option<Box<ChooseHook>>,
    ) -> Self {
        Self {
            sched,
            handle,
            descriptor: park.descriptor(),
            park: RefCell::new(park),
            runtime,
            stopping: Cell::new(false),
            unlooked: Cell::new(0),
            lulls: Rc::default(),
            choose: choose.map(RefCell::new),
        }
    }

    pub(crate) fn sched(&self) -> &Sched {
        &self.sched
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub(crate) fn lulls(&self) -> &Rc<Lulls> {
        &self.lulls
    }

    /// Whether nothing is ready, also when those have been told who wait for that.
    #[inline]
    fn rests(&self) -> bool {
        self.sched.ready() == 0 && self.rests_still()
    }

    /// The same where nothing is ready.
    #[cold]
    fn rests_still(&self) -> bool {
        if !self.lulls.are_awaited() {
            return true;
        }
        self.lulls.tell(|waker| {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
                Unhandled::new("a waker panicked", None, Some(&*panic)).report(self.sched.hook());
                drop_quietly(panic);
            }
        });
        self.sched.ready() == 0
    }

    pub(crate) fn stop(&self) {
        self.stopping.set(true);
    }

    /// The watch over the tasks; it begins now if it has not yet.
    pub(super) fn watch(&self) -> Rc<Watch> {
        if let Some(watch) = self.sched.watch() {
            return watch;
        }
        let clock = self.runtime().timers_for("watch").ok().cloned();
        let watch = Watch::new(LoopRecord::new(self.sched.number(), self.handle.clone(), clock));
        if !self.sched.is_closed() {
            self.sched.set_watch(watch.clone());
        }
        watch
    }

    pub(crate) fn create_task<F: Future + 'static>(
        &self,
        future: F,
        name: Option<Box<str>>,
        spawned_at: &'static Location<'static>,
    ) -> Task<F::Output> {
        Task::new(self.sched.spawn(future, name, spawned_at))
    }

    /// Begins a run, for `call`.
    #[track_caller]
    pub(super) fn start(self: &Rc<Self>, call: &'static str) -> Run {
        assert!(!self.sched.is_closed(), "`{call}`: the event loop is closed");
        assert!(
            !Sched::any_runs_here(),
            "`{call}` cannot be called while an event loop is running on this thread: await instead"
        );
        self.enter()
    }

    fn enter(self: &Rc<Self>) -> Run {
        Run {
            _rests: Rests(self.sched.shared().clone()),
            _told: Told::begin(self),
            _running: self.sched.enter(),
            _current: Current::set(self),
            _runtime: self.runtime().enter(),
            _limited: Limited,
            _parks: Parks::begin(self),
        }
    }

    /// Runs passes until `done` or stopped; true: done.
    pub(super) fn run(&self, done: impl Fn() -> bool) -> bool {
        let _outside = Outside::leave();
        if self.choose.is_none() { self.run_passes::<false>(done) } else { self.run_passes::<true>(done) }
    }

    /// As [`run`](Self::run); `CHOSEN`: somebody chooses what runs next.
    fn run_passes<const CHOSEN: bool>(&self, done: impl Fn() -> bool) -> bool {
        loop {
            let stopping = self.stopping.get();
            self.pass_as::<CHOSEN>(if stopping { Some(Duration::ZERO) } else { None });
            if done() {
                self.stopping.set(false);
                return true;
            }
            if self.stopping.replace(false) {
                return false;
            }
        }
    }

    pub(super) fn cancel_all(&self, limit: Option<Duration>) -> usize {
        let _outside = Outside::leave();
        let timers = self.runtime().timers_for("cancel_all").ok();
        let mut limit = limit.zip(timers).map(|(limit, timers)| CleanUpLimit::new(&**timers, limit));
        let (mut cut_off, mut called_back) = (0, false);
        let end = Cancellation::new("the event loop ends");
        self.tell_who_is_left("a task was left at the end of the run, and is cancelled");
        loop {
            let mut left = self.sched.all();
            if left.is_empty() {
                if called_back || self.sched.ready() == 0 {
                    break;
                }
                called_back = true;
                self.pass(Some(Duration::ZERO)); // the last tasks' callbacks, which may spawn
                continue;
            }
            called_back = false;
            for task in &left {
                task.request(&end);
            }
            while let Some(task) = left.last() {
                if task.is_over() {
                    left.pop();
                } else if limit.as_mut().is_some_and(CleanUpLimit::is_over) {
                    Unhandled::new(
                        "task had not ended at the deadline for clean-up, and was cut off",
                        task.about(),
                        None,
                    )
                    .report(self.sched.hook());
                    task.doom();
                    left.pop();
                    cut_off += 1;
                } else {
                    self.pass(None);
                }
            }
            if limit.as_mut().is_some_and(CleanUpLimit::is_over) {
                self.pass(Some(Duration::ZERO)); // drops those that were cut off
            }
        }
        cut_off
    }

    /// A pass for a foreign loop.
    pub(super) fn run_once(&self, timeout: Option<Duration>) -> usize {
        let _outside = Outside::leave();
        self.pass(timeout)
    }

    /// One pass (E1). Answers how many tasks it ran.
    fn pass(&self, timeout: Option<Duration>) -> usize {
        if self.choose.is_none() { self.pass_as::<false>(timeout) } else { self.pass_as::<true>(timeout) }
    }

    /// As [`pass`](Self::pass); whether somebody chooses is looked at once a run, so that those who do not pay nothing.
    fn pass_as<const CHOSEN: bool>(&self, timeout: Option<Duration>) -> usize {
        self.sched.drain();
        if self.rests() {
            self.park(timeout);
        } else if self.unlooked.get() >= LOOK_EVERY {
            self.park(Some(Duration::ZERO));
        }
        let ready = match &self.choose {
            Some(choose) if CHOSEN => self.sched.run_chosen(&mut **choose.borrow_mut()),
            _ => self.sched.run_ready(),
        };
        self.unlooked.set(self.unlooked.get().saturating_add(ready));
        ready
    }

    /// Begins the sleep that somebody else sleeps; the next step looks first, since the wake-up may lie in the descriptor.
    pub(super) fn wait_elsewhere(&self) -> Wait {
        self.unlooked.set(LOOK_EVERY);
        self.sched.drain();
        if !self.rests() || !self.sched.prepare_park() {
            return Wait::Ready;
        }
        self.park.borrow_mut().hand_over()
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let timers = self.runtime().timers_for("statistics").ok();
        let pool = self.handle.thread_pool().statistics();
        Statistics {
            tasks_alive: self.sched.alive(),
            ready: self.sched.ready(),
            inbox: self.sched.inbox_len(),
            timers: timers.map_or(0, |timers| timers.pending()),
            next_deadline: timers.and_then(|timers| timers.next_deadline()),
            threads: pool.threads,
            idle_threads: pool.idle_threads,
            queued_jobs: pool.queued_jobs,
        }
    }

    /// Sleeps or looks, then takes what other threads brought.
    fn park(&self, timeout: Option<Duration>) {
        self.unlooked.set(0);
        let sleeps = timeout != Some(Duration::ZERO);
        let watch = self.sched.watch();
        if let Some(watch) = &watch {
            watch.before_park(timeout);
        }
        if !sleeps {
            self.sched.take_freed();
        }
        if !sleeps || self.sched.prepare_park() {
            if let Err(error) = self.park.borrow_mut().park(timeout) {
                panic!("the event loop cannot wait: {error}");
            }
        }
        if let Some(watch) = &watch {
            watch.after_park(timeout);
        }
        self.sched.drain();
    }

    /// E4.
    pub(super) fn close(self: &Rc<Self>) {
        if !self.sched.is_closed() {
            let _entered = self.enter();
            let _outside = Outside::leave();
            self.tell_who_is_left("a task was left when its event loop was closed, and is dropped");
            let hook = if self.is_debug() { self.sched.hook() } else { None };
            self.sched.close();
            watchdog::let_go(self.sched.shared());
            self.sched.set_hook(hook); // for jobs that are dropped
            self.close_pool();
            self.sched.set_hook(None);
        }
    }

    fn close_pool(&self) {
        let pool = self.handle.thread_pool();
        let told = pool.is_closed(); // by whoever has waited for it, and knows
        pool.close();
        if !told && self.is_debug() {
            // A thread that has just done its job is no news.
            if let Err(busy) = pool.shutdown(PATIENCE) {
                Unhandled::new("the event loop was closed while jobs ran", None, None)
                    .in_other_words(format!("threads still at work: {busy}"))
                    .report(self.sched.hook());
            }
        }
    }

    pub(crate) fn is_debug(&self) -> bool {
        self.handle.is_debug()
    }

    /// In debug mode, reports each task that is not over.
    fn tell_who_is_left(&self, message: &str) {
        if self.is_debug() {
            for task in self.sched.all() {
                Unhandled::new(message, task.about(), None).report(self.sched.hook());
            }
        }
    }
}

/// How long those who are left at the end may clean up.
struct CleanUpLimit<'a> {
    timers: &'a dyn Timers,
    at: Instant,
    /// Wakes nobody: it ends the sleep of a pass.
    alarm: Option<TimerKey>,
    /// The time as it was found last, and how often it was the same.
    seen: Instant,
    passes: u32,
}

impl<'a> CleanUpLimit<'a> {
    fn new(timers: &'a dyn Timers, limit: Duration) -> Self {
        let seen = timers.now();
        let at = deadline_after(seen, limit);
        Self { timers, at, alarm: timers.insert(at, Waker::noop()).ok(), seen, passes: 0 }
    }

    fn is_over(&mut self) -> bool {
        let now = self.timers.now();
        self.passes = if now == self.seen { self.passes.saturating_add(1) } else { 0 };
        self.seen = now;
        if self.passes > STANDSTILL {
            self.at = now;
        }
        now >= self.at
    }
}

impl Drop for CleanUpLimit<'_> {
    fn drop(&mut self) {
        if let Some(alarm) = self.alarm {
            self.timers.remove(alarm);
        }
    }
}

/// A loop that runs: E3.
pub(super) struct Run {
    _rests: Rests,
    _told: Told,
    _running: Running,
    _current: Current,
    _runtime: Entered,
    _limited: Limited,
    _parks: Parks,
}

/// The park is told when this is dropped that the run has ended.
struct Parks(Rc<Core>);

impl Parks {
    fn begin(core: &Rc<Core>) -> Self {
        core.park.borrow_mut().begin_run();
        Self(core.clone())
    }
}

impl Drop for Parks {
    fn drop(&mut self) {
        let left = self.0.park.borrow_mut().end_run();
        if let Some(left) = left {
            drop_quietly(left); // the run may be unwinding
        }
    }
}

/// Polls have a budget until this is dropped.
struct Limited;

impl Drop for Limited {
    fn drop(&mut self) {
        budget::lift();
    }
}

/// No context variable is current until this is dropped: each task brings its own.
struct Outside(Variables);

impl Outside {
    fn leave() -> Self {
        Self(Variables::take_current())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        std::mem::take(&mut self.0).swap_in();
    }
}

/// The watchdog sees nothing run once this is dropped.
struct Rests(StdArc<Shared>);

impl Drop for Rests {
    fn drop(&mut self) {
        self.0.rest();
    }
}

/// Instruments are told that a run begins, and, when it is dropped, that it has ended.
struct Told(Option<Rc<Watch>>);

impl Told {
    fn begin(core: &Core) -> Self {
        let watch = core.sched.watch();
        if let Some(watch) = &watch {
            watch.tell(|instrument| instrument.before_run());
        }
        Self(watch)
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(watch) = &self.0 {
            watch.tell(|instrument| instrument.after_run());
        }
    }
}
