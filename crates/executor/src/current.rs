//! The loop that runs on this thread, for functions that are given none.

use crate::event_loop::Core;
use crate::task::sched::Sched;
use crate::task::{Task, TaskInfo};
use crate::unhandled::Unhandled;
use evenloop_core::cancel::Raised;
use evenloop_core::shim::thread_local;
use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::panic::resume_unwind;
use std::rc::Rc;

thread_local! {
    /// Set for the time of a run.
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// Keeps a loop current on this thread.
pub(crate) struct Current(Option<Rc<Core>>);

impl Current {
    /// Makes `core` the loop of this thread.
    pub(crate) fn set(core: &Rc<Core>) -> Self {
        Self(CURRENT.try_with(|current| current.replace(Some(core.clone()))).unwrap_or_default())
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        let before = self.0.take();
        let this = CURRENT.try_with(|current| current.replace(before));
        drop(this);
    }
}

/// Gives the loop that runs here to `f`.
pub(crate) fn with_current<R>(f: impl FnOnce(&Rc<Core>) -> R) -> Option<R> {
    // After the thread-local's end, in a destructor of another one, no loop runs here.
    let core = CURRENT.try_with(|current| current.borrow().clone()).unwrap_or_default();
    core.as_ref().map(f)
}

/// Spawns a task on the loop that runs on this thread. It runs for the first time in the loop's next pass.
///
/// # Panics
///
/// When no loop runs on this thread. [`EventLoop::create_task`](crate::EventLoop::create_task) works before it does, and
/// [`Handle::spawn_detached`](crate::Handle::spawn_detached) from any thread.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, create_task};
/// EventLoop::new().run_until_complete(async {
///     let task = create_task(async { 6 * 7 }); // runs beside this from here on
///     assert_eq!(task.await, 42);
/// });
/// ```
#[track_caller]
#[doc(alias("spawn", "spawn_local"))]
pub fn create_task<F: Future + 'static>(future: F) -> Task<F::Output> {
    match Sched::spawn_here(future, std::panic::Location::caller()) {
        Ok(task) => Task::new(task),
        Err(_) => without_a_loop("create_task"),
    }
}

#[cold]
#[track_caller]
fn without_a_loop(call: &str) -> ! {
    panic!(
        "`{call}` needs a running event loop on this thread: call it inside `run`, or use `EventLoop::create_task`, or from \
         another thread a `Handle`"
    )
}

/// Spawns a task that bears `name`, as [`create_task`].
///
/// # Panics
///
/// As for `create_task`.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, create_named_task};
/// EventLoop::new().run_until_complete(async {
///     let task = create_named_task("answer", async { 42 });
///     assert_eq!(&*task.name(), "answer");
///     assert_eq!(task.await, 42);
/// });
/// ```
#[track_caller]
pub fn create_named_task<F: Future + 'static>(name: impl Into<Box<str>>, future: F) -> Task<F::Output> {
    let location = std::panic::Location::caller();
    let mut given = Some((future, name.into()));
    let task = with_current(|core| {
        let (future, name) = given.take().expect("this is called once");
        core.create_task(future, Some(name), location)
    });
    task.unwrap_or_else(|| without_a_loop("create_named_task"))
}

/// Spawns a task and polls it at once, as itself, inside this call: asyncio's eager start. If it is complete then, it never
/// was in the queue.
///
/// # Panics
///
/// When no loop runs on this thread.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, create_eager_task};
/// EventLoop::new().run_until_complete(async {
///     let mut task = create_eager_task(async { 7 });
///     assert_eq!(task.result().unwrap().unwrap(), 7);
/// });
/// ```
#[track_caller]
#[doc(alias("eager_start", "eager_task_factory"))]
pub fn create_eager_task<F: Future + 'static>(future: F) -> Task<F::Output> {
    let location = std::panic::Location::caller();
    let mut future = Some(future);
    let task = with_current(|core| {
        let future = future.take().expect("this is called once");
        if core.sched().is_closed() {
            return core.create_task(future, None, location);
        }
        Task::new(core.sched().spawn_eager(future, None, location))
    });
    task.unwrap_or_else(|| without_a_loop("create_eager_task"))
}

/// Whether an event loop runs on this thread.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, is_running};
/// assert!(!is_running());
/// EventLoop::new().run_until_complete(async { assert!(is_running()) });
/// ```
pub fn is_running() -> bool {
    with_current(|_| ()).is_some()
}

/// The task that is being polled on this thread; `None` outside of any.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, create_task, current_task};
/// assert!(current_task().is_none());
/// EventLoop::new().run_until_complete(async {
///     let task = create_task(async { current_task().unwrap().id() });
///     let id = task.id();
///     assert_eq!(task.await, id);
/// });
/// ```
pub fn current_task() -> Option<TaskInfo> {
    with_current(|core| core.sched().current()).flatten().and_then(TaskInfo::new)
}

/// The tasks of the loop that runs on this thread which are not over, oldest first. Empty when none runs.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, all_tasks, create_task};
/// EventLoop::new().run_until_complete(async {
///     let before = all_tasks().len();
///     let task = create_task(async {});
///     assert_eq!(all_tasks().len(), before + 1);
///     task.await;
///     assert_eq!(all_tasks().len(), before);
/// });
/// ```
pub fn all_tasks() -> Vec<TaskInfo> {
    with_current(|core| core.sched().all())
        .unwrap_or_default()
        .into_iter()
        .filter_map(TaskInfo::new)
        .collect()
}

/// Has the loop report a panic that nobody will see: raised again in a task of its own.
pub(crate) fn report(panic: Box<dyn Any + Send>) {
    if is_running() {
        create_task(async move { resume_unwind(panic) }).detach();
    }
}

/// Debug mode: tells the loop's hook of an error of a group's child that came after its group's future was dropped.
pub(crate) fn report_error<E>(error: E) {
    let seen_by = |core: &Rc<Core>| core.is_debug().then(|| (core.sched().current(), core.sched().hook()));
    if let Some((task, hook)) = with_current(seen_by).flatten() {
        let about = task.and_then(|task| task.about());
        Unhandled::new("the error of a task group that was dropped was looked at by nobody", about, None)
            .in_other_words(std::any::type_name::<E>().to_owned())
            .report(hook);
    }
    drop(error);
}

/// Whether a cancellation of the calling code is open.
pub(crate) fn cancellation_is_open() -> bool {
    // The first request of a task may have come in this very poll, and core learns of it at its end.
    let of_the_task = || with_current(|core| core.sched().current_requests()).flatten();
    evenloop_core::cancel::is_requested() || of_the_task().is_some_and(|requests| requests.open() > 0)
}

/// Holds the cancellation of the calling code, if one is open.
pub(crate) fn hold_open() -> Option<Raised> {
    let of_the_task = || with_current(|core| core.sched().current_requests()).flatten()?.hold_open(); // as above
    evenloop_core::cancel::hold_open().or_else(of_the_task)
}
