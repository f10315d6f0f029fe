//! Threads for what would block the loop.
//!
//! ```text
//!           execute                      taken by a worker
//! (new) ────────────► queue, first in first out ────────────► runs ──► the worker takes the next, or waits
//!                        │ shut down, or withdrawn: dropped               │ idle for too long, or shut down: ends
//! ```
//!
//! P1. A worker is started when a job comes, nobody idles and the bound allows it. `idle` counts workers that wait and have
//!     been promised no job: who adds a job takes one off, so two jobs never count on one worker.
//! P2. Jobs, their destructors and what they wake run after the lock is released.
//! P3. After a shutdown nothing is taken; what was queued is dropped, unless the shutdown waits; a running job ends by itself.
//! P4. How many processors there are is asked when it is first needed: on Linux that is two dozen system calls, into the files
//!     of the control group, and most loops never have a job.
//! P5. A worker is started under the lock, before its job is queued. So `threads` counts workers that live, and a job is taken
//!     only if one of them will come to it: where none lives and none can be started, it is the one that goes back, and no other
//!     can have come to wait meanwhile. Where others live it waits for them.
//! P6. A job that is withdrawn leaves its place in the queue empty. All are swept when most are empty: so no more of them are empty
//!     than jobs wait, and a job that is withdrawn costs a search and a look.

use crate::quietly::drop_quietly;
use evenloop_core::shim::{Condvar, Mutex, OnceLock, StdArc, thread};
use evenloop_core::{BoxJob, NotSpawned, deadline_after};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// A bounded set of threads that run jobs which may block. Cheap to clone; clones are the same pool.
///
/// Threads are started when they are needed, and end after having had nothing to do for a while, or when the last clone of
/// the pool is dropped.
///
/// # Examples
///
/// ```
/// use evenloop_executor::{EventLoop, ThreadPool};
/// let pool = ThreadPool::new(2);
/// let answer = EventLoop::new().run_until_complete(pool.run(|| 6 * 7));
/// assert_eq!(answer, 42);
/// ```
#[derive(Clone)]
pub struct ThreadPool {
    owners: StdArc<Owners>,
}

/// Shuts the pool down when its last clone goes; workers hold the inside only.
struct Owners(StdArc<Inside>);

struct Inside {
    state: Mutex<State>,
    /// A job came, or the pool is shut down.
    work: Condvar,
    /// A worker ended.
    ended: Condvar,
    name: &'static str,
    /// Empty: asyncio's default, until it is asked for (P4).
    max_threads: OnceLock<usize>,
    keep_alive: Duration,
}

/// Owned by the pool's mutex.
#[derive(Default)]
struct State {
    /// By their numbers.
    queue: VecDeque<Queued>,
    /// That of the youngest.
    last_number: u64,
    /// How many places in the queue are empty (P6).
    empty: usize,
    threads: usize,
    /// P1.
    idle: usize,
    /// Jobs that idle workers were promised and have not taken yet.
    promised: usize,
    closed: bool,
}

/// A place in the queue, and the job, unless that was withdrawn.
struct Queued {
    number: u64,
    job: Option<BoxJob>,
}

/// Where a job waits, to withdraw it from there.
pub(crate) struct Place {
    inside: StdArc<Inside>,
    number: u64,
}

impl Place {
    /// Drops the job, if it is still there.
    pub(crate) fn leave(self) {
        let job = self.inside.state.lock().withdraw(self.number);
        drop(job); // P2
    }
}

/// What a [`ThreadPool`] looked like a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatistics {
    /// How many threads there were.
    pub threads: usize,
    /// How many there may be.
    pub max_threads: usize,
    /// How many of them had nothing to do.
    pub idle_threads: usize,
    /// How many jobs waited for a thread.
    pub queued_jobs: usize,
    /// Whether the pool was shut down.
    pub is_closed: bool,
}

impl State {
    /// Promises the next job to an idle worker (P1). True: there was one, who has to be woken.
    fn promise(&mut self) -> bool {
        let promised = self.idle > 0;
        if promised {
            self.idle -= 1;
            self.promised += 1;
        }
        promised
    }

    /// Queues a job. Answers its number.
    fn add(&mut self, job: BoxJob) -> u64 {
        self.last_number += 1;
        self.queue.push_back(Queued { number: self.last_number, job: Some(job) });
        self.last_number
    }

    /// How many jobs wait.
    fn queued(&self) -> usize {
        self.queue.len() - self.empty
    }

    /// Takes out the first job.
    fn next_job(&mut self) -> Option<BoxJob> {
        loop {
            match self.queue.pop_front()?.job {
                None => self.empty -= 1,
                job => {
                    self.sweep();
                    return job;
                }
            }
        }
    }

    /// Takes out all jobs.
    fn take_all(&mut self) -> VecDeque<Queued> {
        self.empty = 0;
        std::mem::take(&mut self.queue)
    }

    /// Takes out one job, if it is still there (P6).
    fn withdraw(&mut self, number: u64) -> Option<BoxJob> {
        let place = self.queue.binary_search_by_key(&number, |queued| queued.number).ok()?;
        let job = self.queue[place].job.take()?;
        self.empty += 1;
        self.sweep();
        Some(job)
    }

    /// P6.
    fn sweep(&mut self) {
        if self.empty > self.queue.len() / 2 {
            self.queue.retain(|queued| queued.job.is_some());
            self.empty = 0;
        }
    }
}

/// How long a worker waits for its next job before it ends.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

impl ThreadPool {
    /// A pool of at most so many threads; none is started yet.
    ///
    /// # Panics
    ///
    /// For zero threads: nothing would ever run.
    pub fn new(max_threads: usize) -> Self {
        Self::named("evenloop-pool", max_threads, KEEP_ALIVE)
    }

    /// As [`new`](Self::new); the threads bear `name`, and end after having waited `keep_alive` for a job.
    ///
    /// # Panics
    ///
    /// As for `new`.
    pub fn named(name: &'static str, max_threads: usize, keep_alive: Duration) -> Self {
        assert!(max_threads > 0, "`ThreadPool` needs at least one thread: with none nothing would ever run");
        Self::bounded(name, OnceLock::from(max_threads), keep_alive)
    }

    /// asyncio's default: as many threads as processors and four more, at most 32.
    pub(crate) fn default_of_a_loop() -> Self {
        Self::bounded("evenloop-job", OnceLock::new(), KEEP_ALIVE)
    }

    fn bounded(name: &'static str, max_threads: OnceLock<usize>, keep_alive: Duration) -> Self {
        let inside = Inside {
            state: Mutex::new(State::default()),
            work: Condvar::new(),
            ended: Condvar::new(),
            name,
            max_threads,
            keep_alive,
        };
        Self { owners: StdArc::new(Owners(StdArc::new(inside))) }
    }

    /// Queues a job for the first thread that is free.
    ///
    /// # Errors
    ///
    /// The pool is shut down, or not a single thread can be started; the job comes back.
    pub fn execute(&self, job: BoxJob) -> Result<(), NotSpawned<BoxJob>> {
        self.queue(job).map(drop)
    }

    /// As `execute`. Answers where the job waits.
    pub(crate) fn queue(&self, job: BoxJob) -> Result<Place, NotSpawned<BoxJob>> {
        let inside = &self.owners.0;
        let max_threads = inside.max_threads();
        let mut state = inside.state.lock();
        if state.closed {
            return Err(NotSpawned { value: job, why: "the thread pool is shut down" });
        }
        let promised = state.promise();
        if !promised && state.threads < max_threads {
            match inside.start() {
                Ok(()) => state.threads += 1,
                Err(_) if state.threads > 0 => {} // P5
                Err(_) => return Err(NotSpawned { value: job, why: "no thread could be started" }),
            }
        }
        let number = state.add(job);
        drop(state);
        if promised {
            inside.work.notify_one();
        }
        Ok(Place { inside: inside.clone(), number })
    }

    /// Takes no more jobs and drops those that have not begun. Running ones end by themselves, nobody waits for them.
    pub fn close(&self) {
        self.owners.0.close();
    }

    /// Takes no more jobs and blocks until those that are queued or running are done, but no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// So many threads are still at work; what has not begun by then is dropped.
    #[doc(alias = "shutdown_default_executor")]
    pub fn shutdown(&self, timeout: Duration) -> Result<(), usize> {
        let deadline = deadline_after(Instant::now(), timeout);
        let inside = &self.owners.0;
        let mut state = inside.state.lock();
        state.closed = true;
        inside.work.notify_all();
        while state.threads > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let (busy, dropped) = (state.threads, state.take_all());
                drop(state);
                dropped.into_iter().for_each(drop_quietly); // P2
                return Err(busy);
            }
            inside.ended.wait_for(&mut state, left);
        }
        Ok(())
    }

    /// What the pool looks like. May be out of date by the time it returns.
    pub fn statistics(&self) -> PoolStatistics {
        let inside = &self.owners.0;
        let max_threads = inside.max_threads();
        let state = inside.state.lock();
        PoolStatistics {
            threads: state.threads,
            max_threads,
            idle_threads: state.idle,
            queued_jobs: state.queued(),
            is_closed: state.closed,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.owners.0.state.lock().closed
    }

    /// How many threads there are. A snapshot.
    pub fn threads(&self) -> usize {
        self.owners.0.state.lock().threads
    }

    /// How many jobs wait for a thread. A snapshot.
    pub fn queued_jobs(&self) -> usize {
        self.owners.0.state.lock().queued()
    }
}

impl Inside {
    fn max_threads(&self) -> usize {
        *self.max_threads.get_or_init(|| {
            let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            (processors + 4).min(32)
        })
    }

    /// Starts a worker, which waits for the lock that the caller holds (P5).
    fn start(self: &StdArc<Self>) -> io::Result<()> {
        let inside = self.clone();
        thread::Builder::new().name(self.name.to_owned()).spawn(move || inside.work())?;
        Ok(())
    }

    fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let dropped = state.take_all();
        drop(state);
        self.work.notify_all();
        for job in dropped {
            drop_quietly(job); // one whose destructor panics keeps the others from nothing
        }
    }

    /// A worker's life.
    fn work(&self) {
        let mut state = self.state.lock();
        'life: loop {
            while let Some(job) = state.next_job() {
                drop(state);
                // What the job has to say about a panic it says itself; this thread goes on, whatever the panic carries.
                drop_quietly(catch_unwind(AssertUnwindSafe(job)));
                state = self.state.lock();
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let deadline = deadline_after(Instant::now(), self.keep_alive);
            loop {
                if state.promised > 0 {
                    state.promised -= 1; // whoever promised took this worker off `idle`
                    continue 'life;
                }
                let left = deadline.saturating_duration_since(Instant::now());
                if state.closed || left.is_zero() {
                    state.idle -= 1;
                    break 'life;
                }
                self.work.wait_for(&mut state, left);
            }
        }
        state.threads -= 1;
        drop(state);
        self.ended.notify_all();
    }
}

impl Drop for Owners {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inside = &self.owners.0;
        let most = inside.max_threads();
        let state = inside.state.lock();
        let closed = if state.closed { ", closed" } else { "" };
        let (threads, queued) = (state.threads, state.queued());
        write!(f, "ThreadPool [threads: {threads} of {most}, queued: {queued}{closed}]")
    }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::State;

    #[test]
    fn no_more_places_are_empty_than_jobs_wait() {
        let mut state = State::default();
        let numbers: Vec<_> = (0..100).map(|_| state.add(Box::new(|| ()))).collect();
        let look = |state: &State| (state.queued(), state.queue.len());
        assert_eq!(look(&state), (100, 100));
        for (withdrawn, number) in numbers.iter().skip(1).step_by(2).enumerate() {
            assert!(state.withdraw(*number).is_some());
            assert_eq!(look(&state), (99 - withdrawn, 100));
        }
        assert!(state.withdraw(numbers[1]).is_none(), "it was withdrawn already");
        assert!(state.withdraw(numbers[98]).is_some());
        assert_eq!(look(&state), (49, 49), "swept");
        for number in &numbers[50..74] {
            state.withdraw(*number);
        }
        assert_eq!(look(&state), (37, 49));
        for left in (0..37).rev() {
            assert!(state.next_job().is_some());
            assert_eq!(state.queued(), left);
            assert!(state.queue.len() <= 2 * left, "empty places behind the last jobs go, too");
        }
        assert!(state.next_job().is_none() && state.withdraw(numbers[99]).is_none());
    }
}
