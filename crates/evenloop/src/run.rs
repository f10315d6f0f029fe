//! Putting a loop together, and running a program on it.
//!
//! ```text
//! EventLoop ── parks on ──► Driver (timers, clock) ── parks on ──► ReactorDriver (descriptors, other threads)
//! ```

use evenloop_core::Runtime;
use evenloop_core::context::Context;
use evenloop_core::shim::StdArc;
use evenloop_executor::{EventLoop, RunError};
use evenloop_streams::ReactorDriver;
use evenloop_time::{Clock, Driver};
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::time::Duration;
#[cfg(feature = "signal")]
use {evenloop_core::cancel::CancelScope, std::future::poll_fn, std::pin::pin};

/// An event loop with timers on the real clock and a reactor: asyncio's `new_event_loop`. Opens two descriptors.
///
/// # Panics
///
/// When the kernel gives no reactor: the process has no descriptors left, say.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// let event_loop = evenloop::new_event_loop();
/// let answer = event_loop.run_until_complete(async {
///     evenloop::sleep(Duration::from_millis(1)).await;
///     42
/// });
/// assert_eq!(answer, 42);
/// ```
pub fn new_event_loop() -> EventLoop {
    event_loop_on(Clock::Real)
}

/// As [`new_event_loop`], with timers that follow `clock`.
///
/// # Panics
///
/// When `clock` is virtual and drives another loop already; when the kernel gives no reactor: the process has no descriptors
/// left, say.
///
/// # Examples
///
/// ```
/// use evenloop::time::VirtualClock;
/// use std::time::Duration;
///
/// let clock = VirtualClock::new();
/// let event_loop = evenloop::event_loop_on(clock.clone().into());
/// event_loop.run_until_complete(evenloop::sleep(Duration::from_secs(3600)));
/// assert_eq!(clock.elapsed(), Duration::from_secs(3600)); // in no time
/// ```
pub fn event_loop_on(clock: Clock) -> EventLoop {
    event_loop_builder(clock).build()
}

/// A loop as [`event_loop_on`] makes it, not yet built: to be watched, say, or with a hook of its own.
///
/// # Panics
///
/// As [`event_loop_on`].
///
/// # Examples
///
/// ```
/// let event_loop = evenloop::event_loop_builder(evenloop::time::Clock::Real).debug(true).build();
/// assert!(event_loop.is_debug());
/// ```
pub fn event_loop_builder(clock: Clock) -> evenloop_executor::Builder {
    let reactor = ReactorDriver::new().expect("a loop needs two descriptors for its reactor");
    let handle = StdArc::new(reactor.handle());
    let driver = Driver::new(reactor, clock);
    let runtime = Runtime::builder("evenloop").timers(driver.timers()).reactor(handle);
    let builder = EventLoop::builder().runtime(runtime).park(Box::new(driver));
    shown(builder.watchdog(Some(Duration::from_secs(1))).watch(console_listens()))
}

/// The loop, whose tasks are shown to `tracing` if somebody listens.
#[cfg(feature = "tracing")]
fn shown(builder: evenloop_executor::Builder) -> evenloop_executor::Builder {
    use evenloop_console::TaskSpans;
    if TaskSpans::are_wanted() { builder.instrument(std::rc::Rc::new(TaskSpans::new())) } else { builder }
}

/// Without the feature `tracing` nobody is shown anything.
#[cfg(not(feature = "tracing"))]
fn shown(builder: evenloop_executor::Builder) -> evenloop_executor::Builder {
    builder
}

/// Whether this process has an agent for the command `evenloop`, because the environment says so: then loops are watched.
#[cfg(feature = "console")]
fn console_listens() -> bool {
    use evenloop_console::{Agent, VARIABLE, listen_if_asked};
    use evenloop_core::shim::OnceLock;
    static AGENT: OnceLock<Option<Agent>> = OnceLock::new();
    let listen = || {
        listen_if_asked().unwrap_or_else(|error| {
            eprintln!("{VARIABLE}: {error}");
            None
        })
    };
    AGENT.get_or_init(listen).is_some()
}

/// Without the feature `console` nobody listens.
#[cfg(not(feature = "console"))]
fn console_listens() -> bool {
    false
}

/// Runs `main` on a loop of its own, and cleans up behind it: asyncio's `run`.
///
/// Whatever way `main` ends, tasks that are left are cancelled, may clean up, and are over before this returns. On Ctrl-C
/// (feature `signal`) `main` is cancelled, the rest is cleaned up, and then the process ends with status 130; if `main`
/// catches that and gives a value all the same, the value is what `run` gives. A program that goes on after Ctrl-C uses a
/// [`Runner`].
///
/// # Panics
///
/// With `main`'s own panic, and when `main` awaited a task that was cancelled (`join` tells instead). When a loop runs on this
/// thread already: await instead. When the loop is stopped before `main` is done. When the kernel gives no reactor: the process
/// has no descriptors left, say.
///
/// # Examples
///
/// ```
/// let sum = evenloop::run(async {
///     let task = evenloop::create_task(async { 20 });
///     task.await + 1
/// });
/// assert_eq!(sum, 21);
/// ```
#[track_caller]
pub fn run<F: Future>(main: F) -> F::Output {
    crate::entry::main(false, main)
}

/// Runs several programs one after the other on one loop, and can be told of Ctrl-C: asyncio's `Runner`.
///
/// They share the context variables: what one sets, the next one finds. Those that are set outside when the runner is made
/// are there from the start.
///
/// # Examples
///
/// ```
/// let runner = evenloop::Runner::new();
/// let one = runner.run(async { 1 })?;
/// let two = runner.run(async { one + 1 })?;
/// assert_eq!(two, 2);
/// # Ok::<(), evenloop::Interrupted>(())
/// ```
#[derive(Debug)]
pub struct Runner {
    event_loop: EventLoop,
    listens: bool,
    clean_up_limit: Option<Duration>,
    job_limit: Duration,
    /// The context variables of `main`, from run to run.
    context: RefCell<Context>,
}

impl Runner {
    /// A runner with a loop on the real clock.
    pub fn new() -> Self {
        Self::on_clock(Clock::Real)
    }

    /// A runner whose loop follows `clock`.
    ///
    /// # Panics
    ///
    /// When `clock` is virtual and drives another loop already; when the kernel gives no reactor.
    pub fn on_clock(clock: Clock) -> Self {
        Self::of(event_loop_on(clock))
    }

    /// A runner with that loop.
    pub(crate) fn of(event_loop: EventLoop) -> Self {
        Self {
            event_loop,
            listens: cfg!(feature = "signal"),
            clean_up_limit: Some(Duration::from_secs(60)),
            job_limit: Duration::ZERO,
            context: RefCell::new(Context::current()),
        }
    }

    /// How long the tasks that are left at the end of a run may clean up, all together; `None`: as long as they like.
    /// What is not over by then is cut off, and reported through the loop's hook. Default: 60 s.
    #[must_use = "the changed runner comes back"]
    pub fn clean_up_limit(mut self, limit: Option<Duration>) -> Self {
        self.clean_up_limit = limit;
        self
    }

    /// How long [`close`](Self::close) waits for jobs on the loop's threads. Default: not at all (100 ms in debug
    /// mode, which tells of them); asyncio waits 300 s, also for a thread that reads from a terminal and never ends.
    #[must_use = "the changed runner comes back"]
    pub fn job_limit(mut self, limit: Duration) -> Self {
        self.job_limit = limit;
        self
    }

    /// Leaves Ctrl-C to the system, which ends the process.
    #[must_use = "the changed runner comes back"]
    pub fn ignore_ctrl_c(mut self) -> Self {
        self.listens = false;
        self
    }

    /// The loop: to set it up before, or to look at afterwards.
    #[doc(alias = "get_loop")]
    pub fn event_loop(&self) -> &EventLoop {
        &self.event_loop
    }

    /// Runs `main` to its end, then cancels the tasks that are left and waits until each is over.
    ///
    /// # Errors
    ///
    /// Ctrl-C came first, and `main` was cancelled by it. It and its tasks are cleaned up; the runner can go on.
    ///
    /// # Panics
    ///
    /// With `main`'s own panic, after the clean-up; also when `main` ended cancelled otherwise than by Ctrl-C, by awaiting a
    /// task that was cancelled, say. When the runner is closed; when a loop runs on this thread already; when the loop is
    /// stopped before `main` is done; when SIGINT cannot be taken over.
    #[track_caller]
    pub fn run<F: Future>(&self, main: F) -> Result<F::Output, Interrupted> {
        assert!(!self.event_loop.is_closed(), "`Runner::run`: the runner is closed");
        assert!(
            !evenloop_executor::is_running(),
            "`run` cannot be called while an event loop is running on this thread: await instead"
        );
        let at = Location::caller(); // a closure has no caller
        let main = keeping(&self.context, interruptible(self.listens, main));
        let context = self.context.borrow().clone();
        let run = || context.run(|| self.event_loop.run_named("run", main, at));
        let outcome = catch_unwind(AssertUnwindSafe(run));
        self.event_loop.cancel_all(self.clean_up_limit);
        match outcome.unwrap_or_else(|panic| resume_unwind(panic)) {
            Ok(output) => output,
            Err(RunError::Stopped) => panic!("`run`: the event loop was stopped before `main` was done"),
            Err(RunError::Task(error)) => match error.into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(error) => panic!(
                    "`run`: `main` awaited what was cancelled ({error}); to get that as an error, await `task.join()`"
                ),
            },
        }
    }
}

impl Runner {
    /// Waits for jobs on the loop's threads as long as [`job_limit`](Self::job_limit) says, and closes the loop. What is
    /// still at work then is reported through the loop's hook and ends by itself. Closing twice is harmless; dropping the
    /// runner closes it.
    ///
    /// # Panics
    ///
    /// When called inside of [`run`](Self::run).
    pub fn close(&self) {
        let event_loop = &self.event_loop;
        if event_loop.is_closed() {
            return;
        }
        if !self.job_limit.is_zero() {
            if let Err(busy) = event_loop.handle().thread_pool().shutdown(self.job_limit) {
                let limit = self.job_limit;
                event_loop.handle().report(format_args!("{busy} threads are still at work after {limit:?}"));
            }
        }
        event_loop.close();
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Default for Runner {
    fn default() -> Self {
        Self::new()
    }
}

/// The run was ended by Ctrl-C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted by Ctrl-C")
    }
}

impl std::error::Error for Interrupted {}

/// `main`, which leaves its context variables behind, however it ends.
async fn keeping<F: Future>(kept: &RefCell<Context>, main: F) -> F::Output {
    struct Keeps<'a>(&'a RefCell<Context>);
    impl Drop for Keeps<'_> {
        fn drop(&mut self) {
            let before = self.0.replace(Context::current());
            drop(before);
        }
    }
    let _keeps = Keeps(kept);
    main.await
}

/// `main` in a scope that Ctrl-C cancels: who catches inside may clean up. The interrupt counts only if it ends `main`.
#[cfg(feature = "signal")]
async fn interruptible<F: Future>(listens: bool, main: F) -> Result<F::Output, Interrupted> {
    if !listens {
        return Ok(main.await);
    }
    let scope = CancelScope::new();
    let mut interrupt = pin!(evenloop_executor::ctrl_c().expect("SIGINT can be taken over"));
    let mut main = pin!(scope.run(main));
    let mut told = false;
    poll_fn(|cx| {
        if !told && interrupt.as_mut().poll(cx).is_ready() {
            told = true;
            scope.cancel("interrupted by Ctrl-C");
        }
        main.as_mut().poll(cx).map_err(|_| Interrupted)
    })
    .await
}

/// `main` as it is: without the feature `signal` nobody listens to Ctrl-C.
#[cfg(not(feature = "signal"))]
async fn interruptible<F: Future>(_: bool, main: F) -> Result<F::Output, Interrupted> {
    Ok(main.await)
}
