//! The watchdog: names a task that blocks its loop while it blocks it.
//!
//! A loop stores where its task was spawned before each poll, and does nothing else: no clock is read, and no count kept.
//! One sleeping thread for all loops of the process looks now and then. It sets a mark in that word; the next poll
//! overwrites it. So a mark that is still there at the next look says that one and the same poll has lasted that long.
//!
//! ```text
//! loop:      store place A ─ poll ───────────────────────────────── … ─ store place B ─ poll
//! watchdog:            mark A ──── period ──── A marked: 1 ──── period ──── A marked: 2 … 4: report
//! ```
//!
//! D1. The word holds a `Site`, which leads to a `&'static Location`, perhaps with the mark: so it may be followed at any time.
//! D2. A loop that sleeps, or does not run, is not blocked.
//! D3. The thread ends with the last loop that it looks after.
//!
//! Discussion: why the place and not the number of the task. A number means something only to whoever can look it up, and a
//! task of a blocked loop cannot be looked at from another thread. If the loop is watched, its record has number and name,
//! and the report says them.

use crate::task::shared::Shared;
use crate::watch::snapshot::{TaskSnapshot, snapshot};
use evenloop_core::shim::{GlobalMutex, StdArc, thread};
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::time::Duration;

/// How many looks in a row make a report.
const LOOKS: u32 = 4;

/// A loop that has been blocked by one poll of one task: what the watchdog tells of.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Blocked {
    /// The name of the loop's thread.
    pub thread: String,
    /// For how long at least.
    pub blocked_for: Duration,
    /// Where the task was spawned, or the callback registered; `None`: in a library that was loaded while the program ran.
    pub spawned_at: Option<&'static Location<'static>>,
    /// The task, if its loop is watched.
    pub task: Option<TaskSnapshot>,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { thread, blocked_for, spawned_at, task } = self;
        write!(f, "the event loop on thread '{thread}' has been blocked for {blocked_for:.1?} by ")?;
        match task {
            Some(task) => write!(f, "task {} '{}'", task.key, task.name)?,
            None => f.write_str("a task")?,
        }
        match spawned_at {
            Some(place) => write!(f, " spawned at {place}"),
            None => f.write_str(" spawned in a library that was loaded later"),
        }
    }
}

/// Who is told of a loop that is blocked.
type BlockedHook = dyn Fn(&Blocked) + Send + Sync;

#[derive(Default)]
struct Dog {
    flock: Vec<Sheep>,
    /// The thread, while there is one.
    thread: Option<thread::Thread>,
    hook: Option<StdArc<BlockedHook>>,
}

/// A loop that is looked after.
struct Sheep {
    shared: StdArc<Shared>,
    thread: String,
    limit: Duration,
    /// Looks in a row that found the same poll.
    stuck: u32,
    /// The next report is due at so many.
    tell_at: u32,
}

static DOG: GlobalMutex<Dog> = GlobalMutex::new(Dog { flock: Vec::new(), thread: None, hook: None });

/// Calls `hook` from now on, on the watchdog's thread, with each loop of this process that is blocked by one poll for longer
/// than its limit; again when it is blocked for twice as long, and so on. Without a hook it prints one line on the standard
/// error stream.
///
/// A loop's limit is that of [`Builder::watchdog`](crate::Builder::watchdog).
///
/// # Examples
///
/// ```
/// # use evenloop_executor::set_blocked_hook;
/// set_blocked_hook(|blocked| {
///     let place = blocked.spawned_at.map_or_else(|| "somewhere".to_owned(), ToString::to_string);
///     println!("{place} has blocked '{}' for {:?}", blocked.thread, blocked.blocked_for);
/// });
/// # evenloop_executor::clear_blocked_hook();
/// ```
#[doc(alias = "slow_callback")]
pub fn set_blocked_hook(hook: impl Fn(&Blocked) + Send + Sync + 'static) {
    replace_hook(Some(StdArc::new(hook)));
}

/// Prints loops that are blocked from now on, as if no hook had been set.
pub fn clear_blocked_hook() {
    replace_hook(None);
}

fn replace_hook(hook: Option<StdArc<BlockedHook>>) {
    let before = std::mem::replace(&mut DOG.lock().hook, hook);
    drop(before); // foreign, so outside the lock
}

/// Begins to look after a loop of the calling thread.
pub(crate) fn look_after(shared: &StdArc<Shared>, limit: Duration) {
    let name = thread::current().name().unwrap_or("unnamed").to_owned();
    let sheep = Sheep { shared: shared.clone(), thread: name, limit, stuck: 0, tell_at: LOOKS };
    let mut dog = DOG.lock();
    dog.flock.push(sheep);
    match &dog.thread {
        Some(thread) => thread.unpark(), // its period may be shorter now
        None => {
            // A process that cannot start a thread does without.
            let started = thread::Builder::new().name("evenloop-watchdog".into()).spawn(watch);
            dog.thread = started.ok().map(|handle| thread::of(&handle));
        }
    }
}

/// Ends that: the loop is closed.
pub(crate) fn let_go(shared: &Shared) {
    let mut dog = DOG.lock();
    let place = dog.flock.iter().position(|sheep| std::ptr::eq(&*sheep.shared, shared));
    let gone = place.map(|place| dog.flock.swap_remove(place));
    if dog.flock.is_empty() {
        dog.thread.iter().for_each(thread::Thread::unpark); // D3
    }
    drop(dog);
    drop(gone);
}

fn watch() {
    loop {
        let (period, due, hook) = {
            let mut dog = DOG.lock();
            let Some(shortest) = dog.flock.iter().map(|sheep| sheep.limit).min() else {
                dog.thread = None; // D3, under the lock: who comes now starts another
                return;
            };
            let due: Vec<_> = dog.flock.iter_mut().filter_map(Sheep::look).collect();
            ((shortest / LOOKS).max(Duration::from_millis(1)), due, dog.hook.clone())
        };
        for (number, mut blocked) in due {
            let snapshot = snapshot();
            let polled = |task: &&TaskSnapshot| task.key.host == number && task.running.is_some();
            blocked.task = snapshot.tasks().find(polled).cloned();
            let told = catch_unwind(AssertUnwindSafe(|| match &hook {
                Some(hook) => hook(&blocked),
                None => eprintln!("{blocked}"),
            }));
            drop(told); // the panic has printed its own message
        }
        thread::park_timeout(period);
    }
}

impl Sheep {
    /// Looks at the loop. Answers what is to be told, and the loop's number.
    fn look(&mut self) -> Option<(u64, Blocked)> {
        let Some(spawned_at) = self.shared.polled_since_last_look() else {
            (self.stuck, self.tell_at) = (0, LOOKS);
            return None;
        };
        self.stuck = self.stuck.saturating_add(1);
        if self.stuck < self.tell_at {
            return None;
        }
        self.tell_at = self.tell_at.saturating_mul(2);
        let blocked_for = self.limit / LOOKS * self.stuck;
        let thread = self.thread.clone();
        Some((self.shared.number(), Blocked { thread, blocked_for, spawned_at, task: None }))
    }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use crate::{EventLoop, yield_now};
    use std::time::Duration;

    #[test]
    fn only_a_poll_that_lasts_from_look_to_look_is_seen() {
        let event_loop = EventLoop::new();
        let shared = event_loop.handle().shared().clone();
        let look = || shared.polled_since_last_look();
        assert!(look().is_none());
        event_loop.run_until_complete(async {
            assert!(look().is_none(), "the first look marks");
            assert_eq!(look().flatten().expect("the same poll").line(), line!() - 2);
            assert!(look().is_some());
            yield_now().await;
            assert!(look().is_none(), "another poll of the same task");
        });
        assert!(look().is_none() && look().is_none(), "D2: between two runs");
        let looks = shared.clone();
        let sleeps = std::thread::spawn(move || (0..100).all(|_| looks.polled_since_last_look().is_none()));
        event_loop.run_once(Some(Duration::ZERO));
        assert!(sleeps.join().expect("it only looks"));
    }
}
