//! A copy of what is known of all watched loops, and who waits for whom in it.

use crate::watch::record::{self, LoopRecord, TaskRecord};
use evenloop_core::cancel::Reason;
use evenloop_core::watch::{self, On, TaskKey};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::Location;
use std::time::Duration;

/// What was known of the watched loops of this process a moment ago: see [`snapshot`].
///
/// Its `Display` is a list of all tasks with what they wait for, and the cycles among them.
///
/// # Examples
///
/// ```
/// use evenloop_executor::{EventLoop, create_named_task, snapshot, yield_now};
///
/// let event_loop = EventLoop::builder().watch(true).build();
/// event_loop.run_until_complete(async {
///     let _idle = create_named_task("idle", std::future::pending::<()>());
///     yield_now().await;
///     let seen = snapshot();
///     println!("{seen}\n{}", seen.tree()); // what `evenloop ps` and `evenloop pstree` print
///     for cycle in seen.cycles() {
///         println!("{}", seen.describe_cycle(&cycle));
///     }
/// });
/// ```
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The loops, in the order in which the watch over them began.
    pub loops: Vec<LoopSnapshot>,
}

/// What was known of one loop.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoopSnapshot {
    /// The loop's number in this process.
    pub number: u64,
    /// The name of its thread.
    pub thread: String,
    /// Whether it slept, until a deadline or an event.
    pub asleep: bool,
    /// How often it has gone to sleep.
    pub sleeps: u64,
    /// How many tasks were spawned since the watch began.
    pub spawned: u64,
    /// Its tasks that were not over, oldest first.
    pub tasks: Vec<TaskSnapshot>,
}

/// What was known of one task.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskSnapshot {
    /// Names the task in this process.
    pub key: TaskKey,
    /// What it was given, else `Task-N` with its number.
    pub name: String,
    /// Where it was spawned.
    pub spawned_at: Place,
    /// The type of its future, as the compiler names it.
    pub future: &'static str,
    /// The task that spawned it.
    pub parent: Option<TaskKey>,
    /// How long ago it was spawned, by the loop's clock.
    pub age: Duration,
    /// How many times it was polled.
    pub polls: u64,
    /// How long all those polls took together, by the loop's clock.
    pub busy: Duration,
    /// It is being polled, for so long by the real clock.
    pub running: Option<Duration>,
    /// What it waits for.
    pub waits: Vec<WaitSnapshot>,
    /// The group that it is a child of, by address.
    pub group: Option<usize>,
}

/// A place in source code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as the compiler was given it.
    pub file: &'static str,
    /// The line, counted from 1.
    pub line: u32,
    /// The column, counted from 1.
    pub column: u32,
}

impl From<&'static Location<'static>> for Place {
    fn from(location: &'static Location<'static>) -> Self {
        Self { file: location.file(), line: location.line(), column: location.column() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One thing that a task waits for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WaitSnapshot {
    /// What the task called.
    pub call: &'static str,
    /// What it waits on.
    pub on: On,
    /// Since when, by the loop's clock.
    pub since: Duration,
    /// How long until its deadline, if it has one.
    pub left: Option<Duration>,
    /// Who holds what it waits on, as far as known; a future that was given it and has not come for it included.
    pub holders: Vec<watch::Holder>,
    /// It stands for others, which are listed with it: `gather`.
    pub is_many: bool,
}

/// What is known now of the loops of this process that are watched. From any thread, also while a loop is blocked.
///
/// A loop is watched if its builder said so ([`Builder::watch`](crate::Builder::watch)), in debug mode, while the console
/// listens, and in a test.
///
/// # Examples
///
/// ```
/// use evenloop_executor::{EventLoop, create_named_task, snapshot, yield_now};
///
/// let event_loop = EventLoop::builder().watch(true).build();
/// event_loop.run_until_complete(async {
///     let _waiter = create_named_task("waiter", std::future::pending::<()>());
///     yield_now().await;
///     let seen = snapshot();
///     let waiter = seen.tasks().find(|task| task.name == "waiter").unwrap();
///     assert_eq!(waiter.polls, 1);
///     assert!(seen.cycles().is_empty(), "no deadlock");
/// });
/// ```
pub fn snapshot() -> Snapshot {
    Snapshot { loops: record::loops().iter().map(|record| LoopSnapshot::of(record)).collect() }
}

/// What is known now of the loops of this process that are watched, as text: [`snapshot`], printed.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, create_task, dump, yield_now};
/// let event_loop = EventLoop::builder().watch(true).build();
/// event_loop.run_until_complete(async {
///     let (one, two) = (create_task(std::future::pending::<()>()), create_task(yield_now()));
///     two.await;
///     assert!(dump().contains("Task-2"));
/// #   one.cancel("enough");
/// });
/// ```
pub fn dump() -> String {
    snapshot().to_string()
}

/// Asks a task of a watched loop to end, from any thread, as [`Task::cancel`](crate::Task::cancel). The loop does so in its
/// next turn; false: no such task is watched, or its loop is closed.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::watch::{cancel_watched, snapshot};
/// # use evenloop_executor::EventLoop;
/// let event_loop = EventLoop::builder().watch(true).build();
/// let mut task = event_loop.create_named_task("hangs", std::future::pending::<()>());
/// let key = snapshot().tasks().find(|task| task.name == "hangs").unwrap().key;
/// assert!(cancel_watched(key, "enough"));
/// let error = event_loop.run_until_complete(task.join()).unwrap_err();
/// assert!(error.is_cancelled());
/// ```
pub fn cancel_watched(key: TaskKey, reason: impl Into<Reason>) -> bool {
    let loops = record::loops();
    let Some(home) = loops.iter().find(|home| home.number == key.host) else { return false };
    let known = home.tasks().iter().any(|task| task.id == key.task);
    let reason = reason.into();
    let cancel = async move {
        let tasks = crate::current::all_tasks();
        if let Some(task) = tasks.iter().find(|task| task.id().get() == key.task) {
            task.cancel(reason);
        }
    };
    known && home.handle.spawn_detached(cancel).is_ok()
}

impl LoopSnapshot {
    fn of(record: &LoopRecord) -> Self {
        let (asleep, sleeps) = record.asleep();
        let tasks = record.tasks().iter().map(|task| TaskSnapshot::of(record, task)).collect();
        let (number, thread, spawned) = (record.number, record.thread.clone(), record.spawned());
        Self { number, thread, asleep, sleeps, spawned, tasks }
    }
}

impl TaskSnapshot {
    fn of(home: &LoopRecord, task: &TaskRecord) -> Self {
        let (told, now) = (task.told(), home.now());
        let waits = told.waits.iter().map(|wait| WaitSnapshot {
            call: wait.call,
            on: wait.on,
            since: now.saturating_duration_since(wait.since),
            left: match wait.on {
                On::Until(when) => Some(when.saturating_duration_since(now)),
                _ => None,
            },
            holders: wait.on.address().map_or_else(Vec::new, watch::holders),
            is_many: wait.is_many(),
        });
        let running =
            task.polled_since().map(|began| Duration::from_nanos(home.since_epoch().saturating_sub(began)));
        Self {
            key: TaskKey { host: home.number, task: task.id },
            name: told.name.map_or_else(|| format!("Task-{}", task.id), String::from),
            spawned_at: task.spawned_at.into(),
            future: task.future,
            parent: task.parent,
            age: now.saturating_duration_since(task.spawned),
            polls: task.polls(),
            busy: task.busy(),
            running,
            waits: if running.is_some() { Vec::new() } else { waits.collect() },
            group: told.group,
        }
    }

    /// How it is: `running`, `new`, `waiting`, or `ready`, which is also that of one that waits for something unknown.
    pub fn state(&self) -> &'static str {
        match self {
            Self { running: Some(_), .. } => "running",
            Self { polls: 0, .. } => "new",
            Self { waits, .. } if !waits.is_empty() => "waiting",
            _ => "ready",
        }
    }
}

impl Snapshot {
    /// All tasks of all loops.
    pub fn tasks(&self) -> impl Iterator<Item = &TaskSnapshot> {
        self.loops.iter().flat_map(|it| &it.tasks)
    }

    /// That task.
    pub fn task(&self, key: TaskKey) -> Option<&TaskSnapshot> {
        self.tasks().find(|task| task.key == key)
    }

    /// The tasks that this wait is for: those that it awaits, or that hold what it waits on.
    pub fn targets(&self, wait: &WaitSnapshot) -> Vec<TaskKey> {
        match wait.on {
            On::Task(key) => self.task(key).map(|task| task.key).into_iter().collect(),
            On::Children(group) => {
                self.tasks().filter(|task| task.group == Some(group)).map(|task| task.key).collect()
            }
            _ => {
                let mut holders: Vec<_> = wait.holders.iter().filter_map(|holder| holder.task).collect();
                holders.dedup();
                holders
            }
        }
    }

    /// Who awaits this task: asyncio's `awaited_by`.
    pub fn awaited_by(&self, key: TaskKey) -> Vec<&TaskSnapshot> {
        let awaits = |task: &&TaskSnapshot| {
            task.waits.iter().any(|wait| match wait.on {
                On::Task(_) | On::Children(_) => self.targets(wait).contains(&key),
                _ => false,
            })
        };
        self.tasks().filter(awaits).collect()
    }

    /// The cycles among those who wait: each task waits for the next one in the list, and the last one for the first.
    pub fn cycles(&self) -> Vec<Cycle> {
        let edges: BTreeMap<TaskKey, Vec<(usize, TaskKey)>> = self
            .tasks()
            .map(|task| {
                let waits = task.waits.iter().enumerate();
                let targets =
                    waits.flat_map(|(at, wait)| self.targets(wait).into_iter().map(move |key| (at, key)));
                (task.key, targets.collect())
            })
            .collect();
        let mut cycles: Vec<Cycle> = Vec::new();
        let mut done = BTreeSet::new();
        for &start in edges.keys() {
            // Who was looked at, and how many of its edges.
            let mut path: Vec<(TaskKey, usize)> = vec![(start, 0)];
            while let Some(&(key, next)) = path.last() {
                let Some(&(_, target)) = edges.get(&key).and_then(|targets| targets.get(next)) else {
                    done.insert(key);
                    path.pop();
                    continue;
                };
                path.last_mut().expect("it was there a moment ago").1 += 1;
                if let Some(place) = path.iter().position(|(known, _)| *known == target) {
                    let links = path[place..].iter();
                    let links = links.map(|(key, next)| Link { task: *key, wait: edges[key][*next - 1].0 });
                    let cycle = Cycle { links: links.collect() };
                    if !cycles.iter().any(|known| known.is_the_same_as(&cycle)) {
                        cycles.push(cycle);
                    }
                } else if !done.contains(&target) && edges.contains_key(&target) {
                    path.push((target, 0));
                }
            }
        }
        cycles
    }

    /// Whether nobody in the cycle waits for anything else, so that it never ends by itself.
    pub fn is_deadlock(&self, cycle: &Cycle) -> bool {
        let only_wait = |task: &TaskSnapshot| task.waits.iter().filter(|wait| !wait.is_many).count() == 1;
        cycle.links.iter().all(|link| self.task(link.task).is_some_and(only_wait))
    }
}

/// Tasks that wait for each other in a circle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// Each waits for the next one, the last for the first.
    pub links: Vec<Link>,
}

/// A task in a circle, and by which of its waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The task.
    pub task: TaskKey,
    /// Which of the task's waits leads to the next one.
    pub wait: usize,
}

impl Cycle {
    fn is_the_same_as(&self, other: &Self) -> bool {
        let tasks = |cycle: &Self| {
            let mut tasks: Vec<_> = cycle.links.iter().map(|link| link.task).collect();
            tasks.sort_unstable();
            tasks
        };
        tasks(self) == tasks(other)
    }
}
