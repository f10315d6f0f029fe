//! Tasks and what they wait on as `tracing` spans, as tokio-console and its `console-subscriber` understand them.
//!
//! ```text
//! spawn ── span `runtime.spawn` ──► poll: entered ──► exited ──► … ──► over: closed
//!                                     └ events `tokio::task::waker`: a wake; a waker that was left, and used
//! ```
//!
//! T1. A task has one span from its spawn to its end, which has no parent and is entered while it is polled.
//! T2. A task that waits has left one waker, and the wake uses it. How many clones there are of it nobody here knows; but the
//!     console warns of tasks that have lost theirs, so one is told of.
//!
//! `resources.rs` has the rest: what is waited on, and the waits.

mod resources;

use self::resources::{Ops, Resources};
use evenloop_executor::Instrument;
use evenloop_executor::watch::{Step, TaskKey, Waits};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;
use tracing::{Level, Span};

/// Shows the tasks of a loop to whoever listens to `tracing`: an instrument for
/// [`EventLoop::add_instrument`](evenloop_executor::EventLoop::add_instrument). Loops that the crate `evenloop` makes, with its
/// feature `tracing`, have it while somebody listens.
///
/// The unmodified `console-subscriber` and tokio-console see each task with its name, where it was spawned, its polls, how long
/// they took, and its wakes. What tasks wait on shows as resources: locks with their holders, queues and semaphores with what is
/// in them, events, oneshots, sleeps and timeouts, descriptors, jobs on other threads; and each wait as an async op of its task. A
/// program that installs the subscriber is built with `RUSTFLAGS="--cfg console_without_tokio_unstable"`, as `console-subscriber`
/// asks.
///
/// What is known is what was waited for. A resource shows from the first wait on it, and what is in a queue as the last wait
/// found it. One that has an address or a descriptor goes when for 10 s nobody has waited for it or held it, whether it was
/// dropped or not. Where in the code it was made does not show, nor whether a wait came to anything or was given up. A wait that
/// ends and begins anew within one poll of its task is one. A name that a task is given after its spawn does not show.
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
pub struct TaskSpans {
    tasks: RefCell<HashMap<TaskKey, Shown>>,
    resources: Resources,
}

/// A task that is not over.
struct Shown {
    /// Behind an `Rc`, because to clone a span is to call its subscriber: R4 in `resources.rs`.
    span: Rc<Span>,
    name: String,
    /// What it waits for, as it was shown last.
    ops: Ops,
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
        Self { tasks: RefCell::default(), resources: Resources::new() }
    }

    /// Whether anybody listens to such spans, on this thread.
    pub fn are_wanted() -> bool {
        tracing::enabled!(target: "tokio::task", Level::TRACE)
    }

    /// Looks a task up; one that was spawned before is not shown.
    fn with<R>(&self, task: &Step<'_>, f: impl FnOnce(&mut Shown) -> R) -> Option<R> {
        self.tasks.borrow_mut().get_mut(&task.key()).map(f)
    }

    fn close(&self, task: &Step<'_>) {
        let gone = self.tasks.borrow_mut().remove(&task.key());
        if let Some(Shown { span, ops, .. }) = gone {
            self.resources.end(ops);
            drop(span); // a subscriber is foreign code
        }
    }

    /// Shows what the task, which is entered, waits for by now.
    fn show_waits(&self, task: &Step<'_>, before: Ops, waits: &Waits) {
        let ops = self.resources.step(before, waits, &|key| self.name_of(key));
        let rest = match self.tasks.borrow_mut().get_mut(&task.key()) {
            Some(shown) => std::mem::replace(&mut shown.ops, ops),
            None => ops,
        };
        self.resources.end(rest);
    }

    fn settle(&self) {
        self.resources.settle(&|key| self.name_of(key));
    }

    fn name_of(&self, key: TaskKey) -> String {
        self.tasks.borrow().get(&key).map_or_else(|| key.to_string(), |shown| shown.name.clone())
    }
}

impl Shown {
    /// The span, for a call to its subscriber outside of any borrow.
    fn handle(&self) -> Rc<Span> {
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
        let (place, name) = (task.spawned_at(), task.name());
        let span = tracing::trace_span!(
            target: "tokio::task",
            parent: None,
            "runtime.spawn",
            kind = "local",
            task.name = name.as_str(),
            task.id = task.id().get(),
            loc.file = place.file(),
            loc.line = place.line(),
            loc.col = place.column(),
        );
        let span = Rc::new(span);
        let (ops, polled, woken, left_a_waker, over) = (Ops::new(), false, false, false, false);
        let shown = Shown { span, name, ops, polled, woken, left_a_waker, over };
        self.tasks.borrow_mut().insert(task.key(), shown);
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
            (shown.handle(), leaves, shown.over, std::mem::take(&mut shown.ops))
        });
        let Some((span, leaves, over, ops)) = seen else { return };
        if leaves {
            tell(&span, "waker.clone");
        }
        self.show_waits(task, ops, &if over { Waits::default() } else { task.waits() });
        self.settle();
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

    fn before_io_wait(&self, _: Option<Duration>) {
        self.settle(); // callbacks and other threads release too
    }
}

impl Default for TaskSpans {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TaskSpans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tasks, resources) = (self.tasks.borrow().len(), self.resources.len());
        write!(f, "TaskSpans [tasks: {tasks}, resources: {resources}]")
    }
}
