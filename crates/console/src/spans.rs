//! Tasks as `tracing` spans, as tokio-console and its `console-subscriber` understand them.
//!
//! ```text
//! spawn ── span `runtime.spawn` ──► poll: entered ──► exited ──► … ──► over: closed
//!                                     └ events `tokio::task::waker`: a wake; a waker that was left, and used
//! ```
//!
//! T1. A task has one span from its spawn to its end, which has no parent and is entered while it is polled.
//! T2. A task that waits has left one waker, and the wake uses it. How many clones there are of it nobody here knows; but the
//!     console warns of tasks that have lost theirs, so one is told of.

use evenloop_executor::{Instrument, watch::Step};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;
use tracing::{Level, Span};

/// Shows the tasks of a loop to whoever listens to `tracing`: an instrument for
/// [`EventLoop::add_instrument`](evenloop_executor::EventLoop::add_instrument). Loops that the crate `evenloop` makes, with its
/// feature `tracing`, have it while somebody listens.
///
/// The unmodified `console-subscriber` and tokio-console see each task with its name, where it was spawned, its polls, how long
/// they took, and its wakes. A program that installs the subscriber is built with `RUSTFLAGS="--cfg console_without_tokio_unstable"`,
/// as `console-subscriber` asks. A name that a task is given after its spawn does not show; neither do locks, sleeps and
/// sockets, the console's resources: `evenloop ps` has those.
///
/// # Examples
///
/// ```
/// use evenloop_console::TaskSpans;
/// use evenloop_executor::EventLoop;
/// use std::rc::Rc;
///
/// let event_loop = EventLoop::new();
/// event_loop.add_instrument(Rc::new(TaskSpans::new()));
/// event_loop.run_until_complete(async { println!("shown") });
/// ```
#[derive(Default)]
pub struct TaskSpans {
    /// By the task's number.
    tasks: RefCell<HashMap<u64, Shown>>,
}

/// A task that is not over.
struct Shown {
    span: Span,
    polled: bool,
    /// It has become ready since its last poll began.
    woken: bool,
    /// T2.
    left_a_waker: bool,
    over: bool,
}

impl TaskSpans {
    /// Shows the tasks that are spawned from now on.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether anybody listens to such spans, on this thread.
    pub fn are_wanted() -> bool {
        tracing::enabled!(target: "tokio::task", Level::TRACE)
    }

    /// Looks a task up; one that was spawned before is not shown.
    fn with<R>(&self, task: &Step<'_>, f: impl FnOnce(&mut Shown) -> R) -> Option<R> {
        self.tasks.borrow_mut().get_mut(&task.id().get()).map(f)
    }

    fn close(&self, task: &Step<'_>) {
        let gone = self.tasks.borrow_mut().remove(&task.id().get());
        drop(gone); // a subscriber is foreign code
    }
}

impl Shown {
    /// The span, for a call to its subscriber outside of any borrow.
    fn handle(&self) -> Span {
        self.span.clone()
    }
}

/// Tells of something that happened to the waker of a task.
fn tell(span: &Span, op: &'static str) {
    if let Some(id) = span.id() {
        tracing::trace!(target: "tokio::task::waker", op, task.id = id.into_u64());
    }
}

impl Instrument for TaskSpans {
    fn task_spawned(&self, task: &Step<'_>) {
        let place = task.spawned_at();
        let span = tracing::trace_span!(
            target: "tokio::task",
            parent: None,
            "runtime.spawn",
            kind = "local",
            task.name = task.name(),
            task.id = task.id().get(),
            loc.file = place.file(),
            loc.line = place.line(),
            loc.col = place.column(),
        );
        let shown = Shown { span, polled: false, woken: false, left_a_waker: false, over: false };
        self.tasks.borrow_mut().insert(task.id().get(), shown);
    }

    fn task_scheduled(&self, task: &Step<'_>) {
        let woken = self.with(task, |shown| {
            shown.woken = true;
            let used = std::mem::take(&mut shown.left_a_waker);
            // The first time it was spawned, not woken.
            shown.polled.then(|| (shown.handle(), if used { "waker.wake" } else { "waker.wake_by_ref" }))
        });
        if let Some((span, op)) = woken.flatten() {
            tell(&span, op);
        }
    }

    fn before_task_step(&self, task: &Step<'_>) {
        let span = self.with(task, |shown| {
            shown.polled = true;
            shown.woken = false;
            shown.handle()
        });
        if let Some(span) = span {
            span.with_subscriber(|(id, subscriber)| subscriber.enter(id));
        }
    }

    fn after_task_step(&self, task: &Step<'_>, _: Duration) {
        let seen = self.with(task, |shown| {
            let leaves = !(shown.over || shown.woken || shown.left_a_waker);
            shown.left_a_waker |= leaves;
            (shown.handle(), leaves, shown.over)
        });
        let Some((span, leaves, over)) = seen else { return };
        if leaves {
            tell(&span, "waker.clone");
        }
        span.with_subscriber(|(id, subscriber)| subscriber.exit(id));
        if over {
            self.close(task);
        }
    }

    fn task_exited(&self, task: &Step<'_>) {
        let seen = self.with(task, |shown| {
            shown.over = true;
            (shown.handle(), std::mem::take(&mut shown.left_a_waker))
        });
        let Some((span, left)) = seen else { return };
        if left {
            tell(&span, "waker.drop");
        }
        if !task.is_running() {
            self.close(task);
        }
    }
}

impl fmt::Debug for TaskSpans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskSpans [tasks: {}]", self.tasks.borrow().len())
    }
}
