//! The watchdog: names a task that blocks its loop while it blocks it.
//!
//! A loop stores where its task was spawned before each poll, and does nothing else: no clock is read, and no count kept.
//! One sleeping thread for all loops of the process looks now and then. It sets a mark in that word, and notes when; the next
//! poll overwrites it. So a mark that is still there at a later look says that one and the same poll has lasted since.
//!
//! ```text
//! loop:      store place A ─ poll ──────────────────────────────────── … ─ store place B ─ poll
//! watchdog:            mark A, note when ── A marked ── A marked, limit over: report ── …
//! ```
//!
//! D1. The word holds a `Site`, which leads to a `&'static Location`, perhaps with the mark: so it may be followed at any time.
//! D2. A loop that sleeps, or does not run, is not blocked. Between its sleep and its next poll it may still show the mark of
//!     the poll before: so one look that finds a mark is not enough, however late it comes.
//! D3. The thread ends with the last loop that it looks after.
//! D4. What is told is time, by this thread's clock. How often it looks says nothing: that depends on the shortest limit of all
//!     loops, and each loop that comes has it look once more.
//! D5. Nothing foreign ends the thread: neither a hook nor what a hook panics with.
//!
//! Discussion: why the place and not the number of the task. A number means something only to whoever can look it up, and a
//! task of a blocked loop cannot be looked at from another thread. If the loop is watched, its record has number and name,
//! and the report says them.

use crate::quietly::drop_quietly;
use crate::task::shared::Shared;
use crate::watch::snapshot::{TaskSnapshot, snapshot};
use evenloop_core::shim::{GlobalMutex, StdArc, thread};
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::time::{Duration, Instant};

/// How often the loop with the shortest limit is looked at in that time.
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
    /// When the mark had been set at the latest, and how many looks have found it since (D2).
    marked: Instant,
    found: u32,
    /// The next report is due when the mark is so old.
    tell_at: Duration,
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
    let sheep = Sheep::new(shared, limit);
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
            let due: Vec<_> = dog.flock.iter_mut().filter_map(|sheep| sheep.look(Instant::now)).collect();
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
            drop_quietly(told); // the panic has printed its own message
        }
        drop_quietly(hook); // the last one, if it was replaced meanwhile (D5)
        thread::park_timeout(period);
    }
}

impl Sheep {
    /// A loop of the calling thread.
    fn new(shared: &StdArc<Shared>, limit: Duration) -> Self {
        let thread = thread::current().name().unwrap_or("unnamed").to_owned();
        Self { shared: shared.clone(), thread, limit, marked: Instant::now(), found: 0, tell_at: limit }
    }

    /// Looks at the loop. Answers what is to be told, and the loop's number.
    fn look(&mut self, now: impl Fn() -> Instant) -> Option<(u64, Blocked)> {
        let before = now();
        let Some(spawned_at) = self.shared.polled_since_last_look() else {
            // Read again: a poll that began before the mark is as old as the mark, and not as old as `before`.
            (self.marked, self.found, self.tell_at) = (now(), 0, self.limit);
            return None;
        };
        self.found = self.found.saturating_add(1);
        let blocked_for = before.saturating_duration_since(self.marked);
        if self.found == 1 || blocked_for < self.tell_at {
            return None; // D2
        }
        self.tell_at = blocked_for.saturating_mul(2);
        let thread = self.thread.clone();
        Some((self.shared.number(), Blocked { thread, blocked_for, spawned_at, task: None }))
    }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::Sheep;
    use crate::{EventLoop, yield_now};
    use std::time::{Duration, Instant};

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

    #[test]
    fn a_report_is_due_by_time_however_often_it_is_looked() {
        let event_loop = EventLoop::new();
        let limit = Duration::from_secs(1);
        let [mut sheep, mut never] =
            [limit, Duration::MAX].map(|limit| Sheep::new(event_loop.handle().shared(), limit));
        let start = Instant::now();
        let told = |sheep: &mut Sheep, after: f64| {
            let told = sheep.look(|| start + limit.mul_f64(after));
            told.map(|(_, blocked)| blocked.blocked_for.as_secs_f64())
        };
        event_loop.run_until_complete(async {
            assert_eq!(told(&mut sheep, 0.), None, "it marks");
            assert!((0..1000).all(|look| told(&mut sheep, 0.999 * f64::from(look) / 1000.).is_none()));
            assert_eq!(told(&mut sheep, 1.), Some(1.));
            assert!((0..1000).all(|_| told(&mut sheep, 1.999).is_none()));
            assert_eq!(told(&mut sheep, 5.), Some(5.));
            assert_eq!(told(&mut sheep, 9.9), None, "not yet twice as long");
            yield_now().await;
            assert_eq!(told(&mut sheep, 20.), None, "another poll, marked anew");
            assert_eq!(told(&mut sheep, 20.9), None);
            assert_eq!(told(&mut sheep, 21.), Some(1.));
            assert!((0..1000).all(|look| told(&mut never, 1e9 * f64::from(look)).is_none()));
        });
    }

    #[test]
    fn a_mark_from_before_a_sleep_is_not_told_by_a_look_that_comes_late() {
        let event_loop = EventLoop::new();
        let mut sheep = Sheep::new(event_loop.handle().shared(), Duration::from_secs(1));
        let start = Instant::now();
        event_loop.run_until_complete(async {
            assert!(sheep.look(|| start).is_none());
            assert!(sheep.look(|| start + Duration::from_secs(9)).is_none(), "D2: found once");
            assert!(sheep.look(|| start + Duration::from_secs(9)).is_some());
        });
    }
}
