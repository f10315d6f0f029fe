//! Puts a loop together.

use super::EventLoop;
use super::core::Core;
use crate::handle::Handle;
use crate::task::sched::Sched;
use crate::task::{ChooseHook, SpawnHook, TaskInfo};
use crate::thread_pool::ThreadPool;
use crate::unhandled::{Hook, Unhandled};
use crate::watch::instrument::Instrument;
use crate::watchdog;
use evenloop_core::budget;
use evenloop_core::shim::StdArc;
use evenloop_core::{Park, Runtime, RuntimeBuilder, ThreadPark};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// Puts an [`EventLoop`] together.
#[must_use = "`build` makes the loop"]
pub struct Builder {
    park: Option<Box<dyn Park>>,
    runtime: RuntimeBuilder,
    on_unhandled: Option<Rc<Hook>>,
    on_spawn: Option<Rc<SpawnHook>>,
    choose: Option<Box<ChooseHook>>,
    instruments: Vec<Rc<dyn Instrument>>,
    pool: Option<ThreadPool>,
    watch: bool,
    debug: Option<bool>,
    watchdog: Option<Duration>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
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

    /// Watches the loop's tasks from the start: [`snapshot`](crate::snapshot()) and [`dump`](crate::dump) tell what each waits
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
        let runtime = self.runtime.spawn(StdArc::new(handle.clone())).build();
        let core = Core::new(sched, handle, park, runtime, self.choose);
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

/// Whether the environment asks for debug mode.
fn debug_is_set() -> bool {
    std::env::var_os("EVENLOOP_DEBUG").is_some_and(|value| !value.is_empty() && value != "0")
}
