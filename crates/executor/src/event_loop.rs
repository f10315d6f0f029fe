//! The event loop: passes, parking, running, closing.
//!
//! ```text
//!        ┌──────────────────────────── one pass ────────────────────────────┐
//!  run ──► inbox ──► nothing ready? park ──► inbox ──► run what is ready now ──► done or stopped? leave
//!        ▲                                                                  │ no
//!        └──────────────────────────────────────────────────────────────────┘
//! ```
//!
//! E1. A pass runs exactly the tasks that were ready when it began, first come first. What they make ready runs in the next.
//!     Where somebody else chooses ([`Builder::choose_next`]) a pass runs one task.
//! E2. The loop sleeps only when nothing is ready. While tasks are ready it looks at its park (timers, descriptors) once in
//!     [`LOOK_EVERY`] polls, between passes: a task that only yields costs no system call and no clock read.
//! E3. One loop runs on a thread at a time. While it does, it is the thread's current loop, and its runtime is entered.
//! E4. Tasks are polled and dropped only inside a run, or inside `close`; both enter the runtime first.

use crate::callback::CallHandle;
use crate::current::Current;
use crate::handle::Handle;
use crate::statistics::Statistics;
use crate::task::raw_task::RawTask;
use crate::task::sched::Sched;
use crate::task::shared::Shared;
use crate::task::waker::Running;
use crate::task::{ChooseHook, JoinError, SpawnHook, Task, TaskInfo};
use crate::thread_pool::ThreadPool;
use crate::unhandled::Unhandled;
use crate::watch::Watch;
use crate::watch::instrument::{Instrument, InstrumentId};
use crate::watch::record::LoopRecord;
use crate::watchdog;
use evenloop_core::budget;
use evenloop_core::cancel::Reason;
use evenloop_core::context::Context as Variables;
use evenloop_core::shim::StdArc;
use evenloop_core::{
    Entered, Park, Runtime, RuntimeBuilder, Spawn, ThreadPark, TimerKey, Timers, Wait, deadline_after,
};
use std::cell::{Cell, OnceCell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::os::fd::RawFd;
use std::panic::{Location, resume_unwind};
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

/// Runs tasks on the thread that made it.
///
/// Tasks run one after the other, in passes: what was ready when a pass began runs in it, in the order in which it
/// became ready; what that makes ready runs in the next pass. So a task that is always ready delays the others by one
/// poll a pass.
///
/// A loop made here has no timers; `evenloop::run` and its relatives assemble one that has.
///
/// # Examples
///
/// ```
/// use evenloop_executor::EventLoop;
/// let event_loop = EventLoop::new();
/// let task = event_loop.create_task(async { 20 });
/// assert_eq!(event_loop.run_until_complete(async { task.await + 1 }), 21);
/// ```
#[doc(alias("Runtime", "LocalExecutor", "AbstractEventLoop", "LocalSet"))]
pub struct EventLoop {
    core: Rc<Core>,
}

/// A loop's inside: shared with the functions that find it through the thread.
pub(crate) struct Core {
    sched: Sched,
    handle: Handle,
    park: RefCell<Box<dyn Park>>,
    runtime: OnceCell<Runtime>,
    /// Asked to leave after this pass.
    stopping: Cell<bool>,
    /// Polls since the last look at the park (E2).
    unlooked: Cell<usize>,
    /// Who chooses the next task, if it is not the one that was ready first (E1).
    choose: Option<RefCell<Box<ChooseHook>>>,
}

/// Puts an [`EventLoop`] together.
#[must_use = "`build` makes the loop"]
pub struct Builder {
    park: Option<Box<dyn Park>>,
    runtime: RuntimeBuilder,
    on_unhandled: Option<Rc<crate::unhandled::Hook>>,
    on_spawn: Option<Rc<SpawnHook>>,
    choose: Option<Box<ChooseHook>>,
    instruments: Vec<Rc<dyn Instrument>>,
    pool: Option<ThreadPool>,
    watch: bool,
    debug: Option<bool>,
    watchdog: Option<Duration>,
}

/// Why [`EventLoop::run_task`] gave no value.
#[derive(Debug)]
pub enum RunError {
    /// The loop was stopped first. The task is pending still, and may be run again.
    Stopped,
    /// The task panicked or was cancelled.
    Task(JoinError),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("`run_task`: the event loop was stopped before the task was done"),
            Self::Task(error) => error.fmt(f),
        }
    }
}

impl Error for RunError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Stopped => None,
            Self::Task(error) => Some(error),
        }
    }
}

// === impl Builder ===

impl Builder {
    /// The loop sleeps on `park`. Default: a [`ThreadPark`], which knows no time.
    pub fn park(mut self, park: Box<dyn Park>) -> Self {
        self.park = Some(park);
        self
    }

    /// What the loop's runtime offers besides spawning: timers, say, driven by the park.
    pub fn runtime(mut self, runtime: RuntimeBuilder) -> Self {
        self.runtime = runtime;
        self
    }

    /// Calls `hook` with each error that nobody can see any more, on the loop's thread. Default: one line on the standard
    /// error stream.
    pub fn on_unhandled(mut self, hook: impl Fn(&Unhandled<'_>) + 'static) -> Self {
        self.on_unhandled = Some(Rc::new(hook));
        self
    }

    /// Calls `hook` with each new task, on the loop's thread, before the task's first poll: to count, to name, to watch.
    /// It stands for asyncio's task factory; the type of tasks cannot be replaced. Tasks that the hook itself spawns are not
    /// shown to it, and its panic goes to the hook for unhandled errors.
    pub fn on_spawn(mut self, hook: impl Fn(&TaskInfo) + 'static) -> Self {
        self.on_spawn = Some(Rc::new(hook));
        self
    }

    /// Has `hook` choose which task runs next, instead of the one that was ready first: to test what other orders do. It is
    /// called before each poll, with the tasks that are ready, first come first, of which there is one at least, and answers
    /// which of them runs. What a task makes ready is ready for the next choice, so a pass is one poll; that no task waits
    /// for ever is up to the hook. A loop without it pays nothing for it.
    ///
    /// The loop panics when the hook does, and when it answers a number that none of the tasks has.
    ///
    /// # Examples
    ///
    /// ```
    /// # use evenloop_executor::{EventLoop, create_task};
    /// let event_loop = EventLoop::builder().choose_next(|ready| ready.len() - 1).build(); // last come, first served
    /// let order = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    /// let push = |number| {
    ///     let order = order.clone();
    ///     async move { order.borrow_mut().push(number) }
    /// };
    /// event_loop.run_until_complete(async {
    ///     let tasks = [1, 2, 3].map(|number| create_task(push(number)));
    ///     for task in tasks {
    ///         task.await;
    ///     }
    /// });
    /// assert_eq!(*order.borrow(), [3, 2, 1]);
    /// ```
    pub fn choose_next(mut self, hook: impl FnMut(&[TaskInfo]) -> usize + 'static) -> Self {
        self.choose = Some(Box::new(hook));
        self
    }

    /// Blocking jobs of this loop run on `pool`: asyncio's `set_default_executor`. Default: one of its own, of as many
    /// threads as processors and four more, at most 32. Either is shut down when the loop is closed, without waiting.
    #[doc(alias = "set_default_executor")]
    pub fn thread_pool(mut self, pool: ThreadPool) -> Self {
        self.pool = Some(pool);
        self
    }

    /// Watches the loop's tasks from the start: [`snapshot`](crate::snapshot) and [`dump`](crate::dump) tell what each waits
    /// for. Costs about 100 ns a poll, 3 % of an echo over TCP. Default: not.
    pub fn watch(mut self, watch: bool) -> Self {
        self.watch = watch;
        self
    }

    /// Has `instrument` called at each step of the loop, which is watched from the start: see
    /// [`EventLoop::add_instrument`].
    pub fn instrument(mut self, instrument: Rc<dyn Instrument>) -> Self {
        self.instruments.push(instrument);
        self
    }

    /// Debug mode: watches the tasks, and tells the hook of
    ///
    /// - each poll of a task, and each callback, that takes 100 ms or more by the loop's clock;
    /// - tasks that are left at the end of a run, or when the loop is closed;
    /// - each task that gave an `Err` which nobody looked at: its handle was dropped or detached before;
    /// - what was dropped open: jobs that had not begun, threads at work when the loop is closed (which waits 100 ms for them
    ///   then), and what other crates tell: writers, servers, transports, child processes.
    ///
    /// Default: whether the environment variable `EVENLOOP_DEBUG` is set to something else than `0`.
    #[doc(alias = "set_debug")]
    pub fn debug(mut self, debug: bool) -> Self {
        self.debug = Some(debug);
        self
    }

    /// Has the watchdog name a task that blocks the loop in one poll for `limit` and longer, while it does: see
    /// [`set_blocked_hook`](crate::set_blocked_hook). Costs a store a poll, and one sleeping thread for all loops of the
    /// process, which looks four times in `limit`. `None`, the default here, for none; the loops that the crate `evenloop`
    /// makes have one of a second.
    pub fn watchdog(mut self, limit: Option<Duration>) -> Self {
        self.watchdog = limit;
        self
    }

    /// The loop, for the calling thread.
    pub fn build(self) -> EventLoop {
        budget::begin();
        let debug = self.debug.unwrap_or_else(debug_is_set);
        let watch = self.watch || debug;
        let park = self.park.unwrap_or_else(|| Box::new(ThreadPark::new()));
        let sched = Sched::new(park.unparker(), self.on_unhandled);
        sched.set_spawn_hook(self.on_spawn);
        let pool = self.pool.unwrap_or_else(ThreadPool::default_of_a_loop);
        let handle = Handle::new(sched.shared().clone(), pool, debug);
        let runtime =
            OnceCell::from(self.runtime.spawn(evenloop_core::shim::StdArc::new(handle.clone())).build());
        let (stopping, unlooked) = (Cell::new(false), Cell::new(0));
        let park = RefCell::new(park);
        let choose = self.choose.map(RefCell::new);
        let core = Core { sched, handle, park, runtime, stopping, unlooked, choose };
        let event_loop = EventLoop { core: Rc::new(core) };
        if let Some(limit) = self.watchdog {
            watchdog::look_after(event_loop.core.sched.shared(), limit);
        }
        if watch {
            event_loop.core.watch().set_debug(debug);
        }
        for instrument in self.instruments {
            event_loop.add_instrument(instrument);
        }
        event_loop
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").finish_non_exhaustive()
    }
}

// === impl EventLoop ===

impl EventLoop {
    /// A loop without timers that sleeps on a [`ThreadPark`].
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Starts putting a loop together.
    pub fn builder() -> Builder {
        Builder {
            park: None,
            runtime: Runtime::builder("evenloop"),
            on_unhandled: None,
            on_spawn: None,
            choose: None,
            instruments: Vec::new(),
            pool: None,
            watch: false,
            debug: None,
            watchdog: None,
        }
    }

    /// Runs the loop until `future` is complete, and answers what it gave. Other tasks run meanwhile and stay for the
    /// next run.
    ///
    /// The future may borrow: it is dropped before this returns, whatever happens.
    ///
    /// # Panics
    ///
    /// With the future's own panic. When a loop runs on this thread already; when this one is closed; when it is stopped
    /// before the future is complete ([`run_task`](Self::run_task) tells instead); when the future awaited a task that
    /// was cancelled; when the park fails.
    #[track_caller]
    #[doc(alias = "block_on")]
    pub fn run_until_complete<F: Future>(&self, future: F) -> F::Output {
        match self.run_named("run_until_complete", future, Location::caller()) {
            Ok(value) => value,
            Err(RunError::Stopped) => panic!(
                "`run_until_complete`: the event loop was stopped before the future was done; `run_task` answers that as an error"
            ),
            Err(RunError::Task(error)) => match error.into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => panic!(
                    "`run_until_complete`: the future was cancelled; `run_task` answers that as an error"
                ),
            },
        }
    }

    /// As [`run_until_complete`](Self::run_until_complete), for a function that its callers know as `call`, with what it should
    /// say where that panics.
    #[doc(hidden)]
    #[track_caller]
    pub fn run_named<F: Future>(
        &self,
        call: &'static str,
        future: F,
        spawned_at: &'static Location<'static>,
    ) -> Result<F::Output, RunError> {
        let entered = self.core.start(call);
        let mut stopped = false;
        let outcome = self.core.sched.scoped(future, spawned_at, |task| {
            stopped = !self.core.run(|| task.is_over());
        });
        drop(entered);
        outcome.map_err(|error| if stopped { RunError::Stopped } else { RunError::Task(error) })
    }

    /// Runs the loop until `task`, one of its own, is over.
    ///
    /// # Errors
    ///
    /// [`RunError::Stopped`] when the loop was stopped first: the task is pending still. [`RunError::Task`] when it
    /// panicked or was cancelled.
    ///
    /// # Panics
    ///
    /// When a loop runs on this thread already; when this one is closed and the task's outcome was taken; when the task
    /// belongs to another loop; when its outcome was taken before; when the park fails.
    #[track_caller]
    pub fn run_task<T>(&self, task: &mut Task<T>) -> Result<T, RunError> {
        let raw: &RawTask<T> = task.raw();
        assert!(
            raw.belongs_to(&self.core.sched),
            "`run_task`: {} belongs to another loop: run that one",
            raw.about()
        );
        if !raw.is_over() {
            let _entered = self.core.start("run_task");
            if !self.core.run(|| raw.is_over()) {
                return Err(RunError::Stopped);
            }
        }
        raw.take().expect("`run_task`: the task's outcome was taken before").map_err(RunError::Task)
    }

    /// Runs the loop until [`stop`](Self::stop). If that was called before, exactly one pass runs.
    ///
    /// # Panics
    ///
    /// When a loop runs on this thread already; when this one is closed; when the park fails.
    pub fn run_forever(&self) {
        let _entered = self.core.start("run_forever");
        self.core.run(|| false);
    }

    /// Runs one pass: waits until something is ready, but no longer than `timeout`, then runs what is. For a foreign
    /// loop (a user interface, a game) that drives this one. Answers how many tasks were run.
    ///
    /// # Panics
    ///
    /// When a loop runs on this thread already; when this one is closed; when the park fails.
    pub fn run_once(&self, timeout: Option<Duration>) -> usize {
        let _entered = self.core.start("run_once");
        let _outside = Outside::leave();
        self.core.pass(timeout)
    }

    /// Hands the waiting over to a foreign loop, and answers for how long that may wait: a user interface, a game, another
    /// runtime, that drives this loop step by step.
    ///
    /// ```text
    /// foreign loop:  wait_elsewhere ─► wait for the descriptor, the instant, its own events ─► run_once(ZERO) ─┐
    ///                     ▲                                                                                     │
    ///                     └─────────────────────────────────────────────────────────────────────────────────────┘
    /// ```
    ///
    /// Between the two nothing is lost: what other threads bring, a timer that they set, and what the kernel has to say
    /// makes the [`descriptor`](Self::descriptor) readable. A loop whose park has none calls its unparker instead
    /// ([`Builder::park`] takes one that posts an event to the foreign loop).
    ///
    /// # Panics
    ///
    /// When a loop runs on this thread already; when this one is closed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use evenloop_executor::{EventLoop, yield_now};
    /// use evenloop_core::Wait;
    /// use std::time::Duration;
    ///
    /// let event_loop = EventLoop::new();
    /// let task = event_loop.create_task(async { yield_now().await });
    /// while event_loop.wait_elsewhere() == Wait::Ready {
    ///     event_loop.run_once(Some(Duration::ZERO));
    /// }
    /// assert!(task.done()); // and nothing is left to do
    /// ```
    #[doc(alias = "start_guest_run")]
    pub fn wait_elsewhere(&self) -> Wait {
        let _entered = self.core.start("wait_elsewhere");
        // The next step looks first: the wake-up may lie in the descriptor.
        self.core.unlooked.set(LOOK_EVERY);
        self.core.wait_elsewhere()
    }

    /// The descriptor that becomes readable when [`run_once`](Self::run_once) has something to do, for a foreign loop to
    /// watch (see [`wait_elsewhere`](Self::wait_elsewhere)). It stays the loop's own, and valid for as long as the loop
    /// lives. `None` if the park waits on no descriptor.
    pub fn descriptor(&self) -> Option<RawFd> {
        self.core.park.borrow().descriptor()
    }

    /// What the loop looks like: how many tasks it has, what is ready, what is next. May be out of date by the time it
    /// returns, as far as other threads are concerned.
    pub fn statistics(&self) -> Statistics {
        self.core.statistics()
    }

    /// Asks the loop to leave its run at the end of this pass, or of the first pass of the next run.
    pub fn stop(&self) {
        self.core.stop();
    }

    /// Cancels all tasks and runs the loop until they are over: whoever catches may clean up. asyncio's `run` ends so.
    ///
    /// Tasks that are spawned meanwhile run until the others are over, so that a clean-up may use them; then it is their
    /// turn to be cancelled.
    ///
    /// What is not over after `limit` is dropped where it stands, and reported through the loop's hook; that needs a
    /// runtime with timers, without them (or without a limit) this waits as long as it takes. Answers how many tasks
    /// were cut off. On a virtual clock, which stands still while something is ready, 100,000 passes in a row without
    /// a wait are too long as well.
    ///
    /// # Panics
    ///
    /// As for [`run_forever`](Self::run_forever).
    pub fn cancel_all(&self, limit: Option<Duration>) -> usize {
        let _entered = self.core.start("cancel_all");
        let _outside = Outside::leave();
        self.core.cancel_all(limit)
    }

    /// Ends the loop: takes nothing more, and drops the tasks that are left, under its runtime. Closing twice is
    /// harmless. Dropping the loop closes it.
    ///
    /// # Panics
    ///
    /// When called from one of its own tasks.
    pub fn close(&self) {
        assert!(
            !self.is_running(),
            "`EventLoop::close`: the loop is running: `stop` it, and close it when its run has returned"
        );
        self.core.close();
    }

    /// Whether the loop runs.
    pub fn is_running(&self) -> bool {
        self.core.sched.shared().runs_here()
    }

    /// Whether the loop is closed.
    pub fn is_closed(&self) -> bool {
        self.core.sched.is_closed()
    }

    /// Spawns a task. It runs for the first time in the loop's next pass.
    ///
    /// On a closed loop it is cancelled before it starts: its future is dropped at once.
    #[track_caller]
    pub fn create_task<F: Future + 'static>(&self, future: F) -> Task<F::Output> {
        self.core.create_task(future, None, Location::caller())
    }

    /// Spawns a task that bears `name`, as [`create_task`](Self::create_task).
    #[track_caller]
    pub fn create_named_task<F: Future + 'static>(
        &self,
        name: impl Into<Box<str>>,
        future: F,
    ) -> Task<F::Output> {
        self.core.create_task(future, Some(name.into()), Location::caller())
    }

    /// Calls `closure` in the next pass, after what is ready now; see [`call_soon`](crate::call_soon). On a closed loop the
    /// closure is dropped, as a new task is cancelled; asyncio raises.
    #[track_caller]
    pub fn call_soon(&self, closure: impl FnOnce() + 'static) -> CallHandle {
        self.core.call_soon(Box::new(closure), Location::caller())
    }

    /// Calls `closure` after `delay`; see [`call_later`](crate::call_later).
    ///
    /// # Panics
    ///
    /// When the loop has no timers.
    #[track_caller]
    pub fn call_later(&self, delay: Duration, closure: impl FnOnce() + 'static) -> CallHandle {
        self.core.call_later(delay, Box::new(closure), Location::caller())
    }

    /// Calls `closure` at `when`; see [`call_at`](crate::call_at).
    ///
    /// # Panics
    ///
    /// When the loop has no timers.
    #[track_caller]
    pub fn call_at(&self, when: Instant, closure: impl FnOnce() + 'static) -> CallHandle {
        self.core.call_at(when, Box::new(closure), "call_at", Location::caller())
    }

    /// The present instant of the loop's clock; of the system's, if the loop has no timers.
    pub fn time(&self) -> Instant {
        self.core.time()
    }

    /// Names the loop in this process: see [`LoopSnapshot`](crate::watch::LoopSnapshot).
    pub fn number(&self) -> u64 {
        self.core.sched.number()
    }

    /// Watches the loop's tasks from now on, as [`Builder::watch`] does from the start.
    pub fn watch(&self) {
        self.core.watch();
    }

    /// Whether the loop is in debug mode: see [`Builder::debug`].
    #[doc(alias = "get_debug")]
    pub fn is_debug(&self) -> bool {
        self.core.is_debug()
    }

    /// Has `instrument` called at each step of the loop from now on; the loop is watched from then on.
    pub fn add_instrument(&self, instrument: Rc<dyn Instrument>) -> InstrumentId {
        InstrumentId(self.core.watch().add(instrument))
    }

    /// Takes an instrument out again. False: it was not there any more.
    pub fn remove_instrument(&self, id: InstrumentId) -> bool {
        self.core.sched.watch().is_some_and(|watch| watch.remove(id.0))
    }

    /// How many tasks are not over.
    pub fn tasks_alive(&self) -> usize {
        self.core.sched.alive()
    }

    /// The loop's handle for other threads.
    pub fn handle(&self) -> Handle {
        self.core.handle.clone()
    }

    /// The loop's runtime, as its tasks find it.
    pub fn runtime(&self) -> &Runtime {
        self.core.runtime()
    }

    /// Calls `hook` from now on with each new task, as [`Builder::on_spawn`].
    #[doc(alias = "set_task_factory")]
    pub fn set_spawn_hook(&self, hook: impl Fn(&TaskInfo) + 'static) {
        self.core.sched.set_spawn_hook(Some(Rc::new(hook)));
    }

    /// Calls nobody from now on with new tasks.
    pub fn clear_spawn_hook(&self) {
        self.core.sched.set_spawn_hook(None);
    }

    /// Calls `hook` from now on with each error that nobody can see any more.
    #[doc(alias = "set_exception_handler")]
    pub fn set_unhandled_hook(&self, hook: impl Fn(&Unhandled<'_>) + 'static) {
        self.core.sched.set_hook(Some(Rc::new(hook)));
    }

    /// Prints such errors from now on, as if no hook had been set.
    #[doc(alias = "default_exception_handler")]
    pub fn clear_unhandled_hook(&self) {
        self.core.sched.set_hook(None);
    }
}

impl Default for EventLoop {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.core.close();
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.is_closed(), self.is_running()) {
            (true, _) => "closed",
            (_, true) => "running",
            _ => "idle",
        };
        let sched = &self.core.sched;
        write!(f, "EventLoop [{state}, tasks: {}, ready: {}]", sched.alive(), sched.ready())
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

// === impl Core ===

/// A loop that runs: E3.
struct Run {
    _rests: Rests,
    _told: Told,
    _running: Running,
    _current: Current,
    _runtime: Entered,
    _limited: Limited,
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

/// Whether the environment asks for debug mode.
fn debug_is_set() -> bool {
    std::env::var_os("EVENLOOP_DEBUG").is_some_and(|value| !value.is_empty() && value != "0")
}

impl Core {
    pub(crate) fn sched(&self) -> &Sched {
        &self.sched
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        self.runtime.get().expect("set when the loop is built")
    }

    pub(crate) fn stop(&self) {
        self.stopping.set(true);
    }

    /// The watch over the tasks; it begins now if it has not yet.
    fn watch(&self) -> Rc<Watch> {
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
    fn start(self: &Rc<Self>, call: &'static str) -> Run {
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
        }
    }

    /// Runs passes until `done` or stopped; true: done.
    fn run(&self, done: impl Fn() -> bool) -> bool {
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

    fn cancel_all(&self, limit: Option<Duration>) -> usize {
        let timers = self.runtime().timers_for("cancel_all").ok();
        let mut limit = limit.zip(timers).map(|(limit, timers)| CleanUpLimit::new(&**timers, limit));
        let (mut cut_off, mut called_back) = (0, false);
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
                task.request(Reason::new("the event loop ends"));
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

    /// One pass (E1). Answers how many tasks it ran.
    fn pass(&self, timeout: Option<Duration>) -> usize {
        if self.choose.is_none() { self.pass_as::<false>(timeout) } else { self.pass_as::<true>(timeout) }
    }

    /// As [`pass`](Self::pass); whether somebody chooses is looked at once a run, so that those who do not pay nothing.
    fn pass_as<const CHOSEN: bool>(&self, timeout: Option<Duration>) -> usize {
        self.sched.drain();
        if self.sched.ready() == 0 {
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

    fn wait_elsewhere(&self) -> Wait {
        self.sched.drain();
        if self.sched.ready() > 0 || !self.sched.prepare_park() {
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
    fn close(self: &Rc<Self>) {
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

    fn is_debug(&self) -> bool {
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
