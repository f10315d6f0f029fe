//! The event loop: what its user sees of it. `builder.rs` puts one together, `core.rs` runs it.

mod builder;
mod core;

pub use builder::Builder;

pub(crate) use core::Core;

use crate::callback::CallHandle;
use crate::handle::Handle;
use crate::statistics::Statistics;
use crate::task::raw_task::RawTask;
use crate::task::{JoinError, Task, TaskInfo};
use crate::unhandled::Unhandled;
use crate::watch::instrument::{Instrument, InstrumentId};
use evenloop_core::{Runtime, Wait};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::os::fd::RawFd;
use std::panic::{Location, resume_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

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

impl EventLoop {
    /// A loop without timers that sleeps on a [`ThreadPark`](evenloop_core::ThreadPark).
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Starts putting a loop together.
    pub fn builder() -> Builder {
        Builder::new()
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
        self.core.run_once(timeout)
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
        self.core.wait_elsewhere()
    }

    /// The descriptor that becomes readable when [`run_once`](Self::run_once) has something to do, for a foreign loop to
    /// watch (see [`wait_elsewhere`](Self::wait_elsewhere)). It stays the loop's own, and valid for as long as the loop
    /// lives. `None` if the park waits on no descriptor.
    pub fn descriptor(&self) -> Option<RawFd> {
        self.core.descriptor
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
