//! The call graph of one task: what it waits in, and who awaits it, and who awaits those.

use crate::current::with_current;
use crate::task::TaskId;
use crate::watch::snapshot::{Snapshot, TaskSnapshot, snapshot};
use evenloop_core::watch::TaskKey;
use std::fmt;

/// A task, what it waits in, and the graphs of those who await it: asyncio's `FutureCallGraph`.
///
/// Its `Display` is asyncio's `format_call_graph`.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[doc(alias = "FutureCallGraph")]
pub struct CallGraph {
    /// The task.
    pub task: TaskSnapshot,
    /// What it waits in, in words.
    pub waits: Vec<String>,
    /// Those who await it. One that stands above it already is not repeated.
    pub awaited_by: Vec<CallGraph>,
}

/// The call graph of a task of the loop that runs on this thread; of the current one if none is named: asyncio's
/// `capture_call_graph`.
///
/// `None` when no loop runs on this thread, when it is not watched, when the task is over, and outside of any task.
///
/// Differs from asyncio's: the frames of a future that is not being polled cannot be seen, so instead of the call stack it
/// tells what the task waits in.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, capture_call_graph, create_named_task};
/// let event_loop = EventLoop::builder().watch(true).build();
/// event_loop.run_until_complete(async {
///     let inner = create_named_task("inner", async { capture_call_graph(None).map(|graph| graph.task.name) });
///     assert_eq!(inner.await.as_deref(), Some("inner"));
/// });
/// ```
pub fn capture_call_graph(task: Option<TaskId>) -> Option<CallGraph> {
    let key = with_current(|core| {
        let host = core.sched().number();
        let id = task.or_else(|| core.sched().current()?.about().map(|about| about.id))?;
        Some(TaskKey { host, task: id.get() })
    });
    let snapshot = snapshot();
    CallGraph::of(&snapshot, key.flatten()?, &mut Vec::new())
}

/// The call graph of a task as text: asyncio's `format_call_graph`. Empty where [`capture_call_graph`] has none.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, create_named_task, format_call_graph};
/// let event_loop = EventLoop::builder().watch(true).build();
/// event_loop.run_until_complete(async {
///     let text = create_named_task("inner", async { format_call_graph(None) }).await;
///     assert!(text.contains("inner"), "{text}");
/// });
/// ```
pub fn format_call_graph(task: Option<TaskId>) -> String {
    capture_call_graph(task).map_or_else(String::new, |graph| graph.to_string())
}

/// Prints the call graph of a task to the standard output: asyncio's `print_call_graph`.
///
/// # Examples
///
/// ```
/// use evenloop_executor::{EventLoop, print_call_graph};
///
/// let event_loop = EventLoop::builder().watch(true).build();
/// event_loop.run_until_complete(async { print_call_graph(None) });
/// ```
pub fn print_call_graph(task: Option<TaskId>) {
    print!("{}", format_call_graph(task));
}

impl CallGraph {
    fn of(snapshot: &Snapshot, key: TaskKey, above: &mut Vec<TaskKey>) -> Option<Self> {
        let task = snapshot.task(key)?.clone();
        above.push(key);
        let waits = task.waits.iter().map(|wait| snapshot.describe(wait)).collect();
        let awaiting = snapshot.awaited_by(key).into_iter().map(|task| task.key).collect::<Vec<_>>();
        let fresh = awaiting.into_iter().filter(|key| !above.contains(key)).collect::<Vec<_>>();
        let awaited_by = fresh.into_iter().filter_map(|key| Self::of(snapshot, key, above)).collect();
        above.pop();
        Some(Self { task, waits, awaited_by })
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let indent = "    ".repeat(depth);
        let TaskSnapshot { name, key, spawned_at, .. } = &self.task;
        writeln!(f, "{indent}* Task(name='{name}', id={key}, spawned at {spawned_at})")?;
        if !self.waits.is_empty() {
            writeln!(f, "{indent}  + Waits:")?;
            self.waits.iter().try_for_each(|wait| writeln!(f, "{indent}  |   {wait}"))?;
        }
        if !self.awaited_by.is_empty() {
            writeln!(f, "{indent}  + Awaited by:")?;
            self.awaited_by.iter().try_for_each(|graph| graph.write(f, depth + 1))?;
        }
        Ok(())
    }
}

impl fmt::Display for CallGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}
