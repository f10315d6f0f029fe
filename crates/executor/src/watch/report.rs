//! A snapshot as text: a list of all tasks, the cycles among them, and asyncio's tree.

use crate::watch::snapshot::{Cycle, LoopSnapshot, Snapshot, TaskSnapshot, WaitSnapshot};
use evenloop_core::watch::{On, TaskKey};
use std::fmt;

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.loops.is_empty() {
            return f.write_str("no event loop of this process is watched: build it with `watch(true)`, or set EVENLOOP_DEBUG=1\n");
        }
        for it in &self.loops {
            writeln!(f, "{it}")?;
            for task in &it.tasks {
                writeln!(f, "  {task}")?;
                for wait in &task.waits {
                    writeln!(f, "    {}", self.describe(wait))?;
                }
            }
        }
        self.cycles().iter().try_for_each(|cycle| f.write_str(&self.describe_cycle(cycle)))
    }
}

impl fmt::Display for LoopSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.asleep { "asleep" } else { "awake" };
        let (number, thread, tasks) = (self.number, &self.thread, self.tasks.len());
        write!(f, "event loop {number} on thread '{thread}', {state}, {tasks} of {} tasks left", self.spawned)
    }
}

impl fmt::Display for TaskSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}' {}", self.key, self.name, self.state())?;
        if let Some(running) = self.running {
            write!(f, " for {running:.1?}")?;
        }
        let (age, polls, busy) = (self.age, self.polls, self.busy);
        write!(f, ", {age:.1?} old, {polls} polls, busy {busy:.1?}, spawned at {}", self.spawned_at)
    }
}

impl Snapshot {
    fn name(&self, key: TaskKey) -> String {
        self.task(key).map_or_else(|| format!("{key} (over)"), |task| format!("{key} '{}'", task.name))
    }

    /// One line that tells what a task waits for, and who holds it.
    pub fn describe(&self, wait: &WaitSnapshot) -> String {
        let mut text = format!("waits {:.1?} in {}", wait.since, wait.call);
        match wait.on {
            On::Task(key) => text += &format!(" for task {}", self.name(key)),
            On::Children(_) => text += &format!(" for {} children", self.targets(wait).len()),
            On::Until(_) => text += &format!(", {:.1?} left", wait.left.unwrap_or_default()),
            On::Descriptor(descriptor) => text += &format!(" on descriptor {descriptor}"),
            On::Counted(_, has, 0) => text += &format!(" on {}, {has} in it", object(wait)),
            On::Counted(_, has, limit) => text += &format!(" on {}, {has} of {limit} in it", object(wait)),
            On::Object(_) => text += &format!(" on {}", object(wait)),
            _ => {}
        }
        for holder in &wait.holders {
            text += &match (holder.task, holder.untaken) {
                (Some(key), false) => format!(", held by task {}", self.name(key)),
                (Some(key), true) => {
                    format!(", given to a future of task {} that has not come for it", self.name(key))
                }
                (None, _) => ", held outside of any watched task".to_owned(),
            };
        }
        text
    }

    /// A cycle, as the deadlock that it is.
    pub fn describe_cycle(&self, cycle: &Cycle) -> String {
        let futurelock = cycle.links.iter().find_map(|link| {
            let wait = self.task(link.task)?.waits.get(link.wait)?;
            wait.holders.iter().any(|holder| holder.untaken).then(|| object(wait))
        });
        let mut text = match futurelock {
            Some(object) => format!(
                "futurelock: {object} was given to a future that nobody polls, and others wait for it behind that future\n"
            ),
            None if self.is_deadlock(cycle) => {
                "deadlock: each of these tasks waits for the next one\n".to_owned()
            }
            None => {
                "cycle: each of these tasks waits for the next one, and some for something else as well\n"
                    .to_owned()
            }
        };
        for link in &cycle.links {
            let Some(task) = self.task(link.task) else { continue };
            let wait = task.waits.get(link.wait).map_or_else(String::new, |wait| self.describe(wait));
            text += &format!("  task {} {wait}\n", self.name(link.task));
        }
        text
    }

    /// The tasks as a forest, in the shape of asyncio's `pstree`: below each task what it waits in, and below that the tasks
    /// that it awaits. Cycles, which have no place in a tree, come last.
    pub fn tree(&self) -> String {
        let mut text = String::new();
        let mut shown = Vec::new();
        let roots = self.tasks().filter(|task| self.awaited_by(task.key).is_empty());
        for root in roots {
            self.branch(root, "", true, &mut shown, &mut text);
        }
        for rest in self.tasks() {
            if !shown.contains(&rest.key) {
                self.branch(rest, "", true, &mut shown, &mut text);
            }
        }
        self.cycles().iter().for_each(|cycle| text += &self.describe_cycle(cycle));
        text
    }

    fn branch(
        &self,
        task: &TaskSnapshot,
        indent: &str,
        last: bool,
        shown: &mut Vec<TaskKey>,
        text: &mut String,
    ) {
        let (tee, below) = if last { ("└── ", "    ") } else { ("├── ", "│   ") };
        *text += &format!("{indent}{tee}(T) {} {} at {}\n", task.name, task.key, task.spawned_at);
        if shown.contains(&task.key) {
            *text += &format!("{indent}{below}└──  (see above)\n");
            return;
        }
        shown.push(task.key);
        let indent = format!("{indent}{below}");
        for (at, wait) in task.waits.iter().enumerate() {
            let last = at + 1 == task.waits.len();
            let (tee, below) = if last { ("└──  ", "    ") } else { ("├──  ", "│   ") };
            *text += &format!("{indent}{tee}{}\n", self.describe(wait));
            if let On::Task(_) | On::Children(_) = wait.on {
                let targets = self.targets(wait);
                let indent = format!("{indent}{below}");
                for (at, target) in targets.iter().enumerate() {
                    if let Some(target) = self.task(*target) {
                        self.branch(target, &indent, at + 1 == targets.len(), shown, text);
                    }
                }
            }
        }
    }
}

/// `Lock@7f3a10`: what kind of thing a wait is on, and which.
fn object(wait: &WaitSnapshot) -> String {
    let kind = wait.call.split("::").next().unwrap_or(wait.call);
    format!("{kind}@{:x}", wait.on.address().unwrap_or_default())
}
