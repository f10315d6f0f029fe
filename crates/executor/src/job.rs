//! One blocking job, awaited.
//!
//! ```text
//! Queued (the work) ── begins ──► Running ── ends ──► delivered into the slot
//!   │ cancelled: the work is dropped at once            ▲
//!   └───────────────────────────────────────────────────┘ as cancelled, or panicked if the work's destructor does
//! ```
//!
//! J1. Whoever takes the work out, the thread that runs it or who cancels it, has it alone; the work is never run after that.
//! J2. The slot is filled once, whatever panics: by the thread, or by who took the work out to drop it.

use crate::handle::Handle;
use crate::named::named;
use crate::quietly::drop_quietly;
use crate::slot::Slot;
use crate::task::JoinError;
use crate::thread_pool::{Place, ThreadPool};
use evenloop_core::cancel::{Reason, catch_cancel, shielded};
use evenloop_core::context::Context as Variables;
use evenloop_core::shim::atomic::{AtomicBool, Ordering};
use evenloop_core::shim::{Mutex, StdArc};
use evenloop_core::{BoxJob, NoRuntime, NotSpawned, Runtime};
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A job on another thread: awaiting it gives what the job returned.
///
/// Dropping it cancels the job: one that has not begun leaves the line, and what it holds is dropped at once; one that runs is
/// abandoned, and learns of it through [`JobScope::is_cancelled`]. [`detach`](Self::detach) lets it run on instead, and
/// [`cancel`](Self::cancel) waits for its end.
///
/// # Cancel safety
///
/// **Not cancel safe:** dropping it cancels the job. Await `&mut job` to be able to go on.
///
/// # Panics
///
/// Awaiting panics with the job's own panic; when the pool dropped the job; if the outcome was taken before. Dropping it panics
/// with what a destructor panics with that it runs: that of what a job holds which has not begun.
///
/// # Examples
///
/// ```
/// use evenloop_executor::{EventLoop, to_thread};
///
/// EventLoop::new().run_until_complete(async {
///     let sum = to_thread(|| (1..=100).sum::<u32>());
///     assert_eq!(sum.await, 5050);
///
///     let mut fails = to_thread(|| panic!("on purpose"));
///     assert!(fails.join().await.unwrap_err().is_panic(), "`join` gives what awaiting would raise");
///
///     to_thread(|| println!("nobody waits for this")).detach();
/// });
/// ```
#[must_use = "dropping a job cancels it: await it, or call `detach`"]
pub struct Job<T> {
    inner: Option<StdArc<dyn Control<T>>>,
    /// Where it was put to wait, if that is a pool of ours.
    place: Option<Place>,
}

/// What a job may ask while it runs.
///
/// # Examples
///
/// ```
/// use evenloop_executor::{EventLoop, JobScope, try_to_thread};
///
/// EventLoop::new().run_until_complete(async {
///     let work = |scope: &JobScope| {
///         let numbers = (0..1000).take_while(|_| !scope.is_cancelled());
///         numbers.sum::<u32>()
///     };
///     let job = try_to_thread(work).expect("a loop runs here").expect("and has its threads");
///     assert_eq!(job.await, 499_500);
/// });
/// ```
#[derive(Debug)]
#[doc(alias = "check_cancelled")]
pub struct JobScope {
    cancelled: StdArc<AtomicBool>,
}

impl JobScope {
    /// Whether nobody waits for this job any more. It may well end then.
    pub fn is_cancelled(&self) -> bool {
        // ORDERING: Relaxed: a flag and nothing else.
        self.cancelled.load(Ordering::Relaxed)
    }
}

struct Inner<F, T> {
    /// The work, until somebody takes it out (J1).
    work: Mutex<Option<F>>,
    slot: Slot<T>,
    cancelled: StdArc<AtomicBool>,
    /// In which the work runs.
    context: Variables,
}

/// A job, whatever its work is.
trait Control<T>: Send + Sync {
    fn slot(&self) -> &Slot<T>;
    /// Tells the job that nobody waits, and drops the work if it has not begun. True: it did that.
    fn cancel(&self) -> bool;
}

impl<F, T> Inner<F, T> {
    /// Drops the work, if it has not begun, and tells of it.
    fn withdraw(&self) -> bool {
        let work = self.work.lock().take();
        let Some(work) = work else { return false };
        let error = match catch_unwind(AssertUnwindSafe(|| drop(work))) {
            Ok(()) => JoinError::cancelled(Reason::default()),
            Err(panic) => JoinError::panicked(panic),
        };
        drop_quietly(self.slot.deliver(Err(error))); // J2
        true
    }
}

impl<F: Send, T: Send> Control<T> for Inner<F, T> {
    fn slot(&self) -> &Slot<T> {
        &self.slot
    }

    fn cancel(&self) -> bool {
        // ORDERING: Relaxed: a flag and nothing else.
        self.cancelled.store(true, Ordering::Relaxed);
        self.withdraw()
    }
}

/// What the pool holds: runs the work, or tells that it was dropped.
struct Shell<F, T>(StdArc<Inner<F, T>>)
where
    F: FnOnce(&JobScope) -> T + Send,
    T: Send;

impl<F, T> Shell<F, T>
where
    F: FnOnce(&JobScope) -> T + Send,
    T: Send,
{
    fn run(&self) {
        let work = self.0.work.lock().take();
        let Some(work) = work else { return };
        let scope = JobScope { cancelled: self.0.cancelled.clone() };
        let run = || self.0.context.run(|| work(&scope));
        let outcome = catch_unwind(AssertUnwindSafe(run)).map_err(JoinError::panicked);
        // A job that nobody waits for: the thread's own message has told of a panic.
        drop_quietly(self.0.slot.deliver(outcome));
    }
}

impl<F, T> Drop for Shell<F, T>
where
    F: FnOnce(&JobScope) -> T + Send,
    T: Send,
{
    fn drop(&mut self) {
        if self.0.withdraw() {
            Runtime::report_in_debug(|| {
                "a job was dropped before it began: its pool was shut down".to_owned()
            });
        }
    }
}

/// Makes a job and gives its shell to `execute`.
fn start<F, T>(
    work: F,
    context: Variables,
    execute: impl FnOnce(BoxJob) -> Result<Option<Place>, NotSpawned<BoxJob>>,
) -> Result<Job<T>, NotSpawned<F>>
where
    F: FnOnce(&JobScope) -> T + Send + 'static,
    T: Send + 'static,
{
    let cancelled = StdArc::new(AtomicBool::new(false));
    let inner = StdArc::new(Inner { work: Mutex::new(Some(work)), slot: Slot::new(), cancelled, context });
    let shell = Shell(inner.clone());
    match execute(Box::new(move || shell.run())) {
        Ok(place) => Ok(Job { inner: Some(inner), place }),
        Err(refused) => {
            let why = refused.why;
            let value = inner.work.lock().take().expect("a refused job has not begun");
            drop(refused);
            Err(NotSpawned { value, why })
        }
    }
}

impl ThreadPool {
    /// Runs a job that may block on one of the pool's threads: asyncio's `run_in_executor`. As there, the job sees no context
    /// variables; [`to_thread`] hands them on.
    ///
    /// # Panics
    ///
    /// When the pool is shut down, or no thread can be started; [`try_run`](Self::try_run) tells instead.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Job<T> {
        self.try_run(|_| work()).unwrap_or_else(|refused| panic!("`ThreadPool::run`: {}", refused.why))
    }

    /// As [`run`](Self::run); the job is told whether somebody still waits for it.
    ///
    /// # Errors
    ///
    /// The pool is shut down, or no thread can be started; the work comes back.
    pub fn try_run<F, T>(&self, work: F) -> Result<Job<T>, NotSpawned<F>>
    where
        F: FnOnce(&JobScope) -> T + Send + 'static,
        T: Send + 'static,
    {
        start(work, Variables::new(), |job| self.queue(job).map(Some))
    }
}

/// Runs a job that may block on a thread of the current runtime: asyncio's `to_thread`.
///
/// The job runs in a copy of the caller's context variables. Under Evenloop's own loop its thread is one of a pool of as
/// many threads as there are processors and four more, at most 32. A pool of one's own is [`ThreadPool`].
///
/// # Panics
///
/// When there is no runtime, or it cannot run blocking jobs (any more); [`try_to_thread`] tells instead.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, to_thread};
/// EventLoop::new().run_until_complete(async {
///     let answer = to_thread(|| 6 * 7).await;
///     assert_eq!(answer, 42);
/// });
/// ```
#[doc(alias("spawn_blocking", "run_in_executor", "run_sync"))]
pub fn to_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Job<T> {
    match try_to_thread(|_| work()) {
        Ok(Ok(job)) => job,
        Ok(Err(refused)) => panic!("`to_thread`: {}", refused.why),
        Err(missing) => panic!("{missing}"),
    }
}

/// As [`to_thread`]; the job is told whether somebody still waits for it.
///
/// # Errors
///
/// There is no runtime that spawns. Inside `Ok`: it takes no more, or cannot start a thread; the work comes back.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, JobScope, try_to_thread};
/// let count = |scope: &JobScope| (0..1000).take_while(|_| !scope.is_cancelled()).count();
/// assert!(try_to_thread(count).is_err()); // no runtime here
/// EventLoop::new().run_until_complete(async move {
///     let Ok(Ok(job)) = try_to_thread(count) else { panic!("the loop takes jobs") };
///     assert_eq!(job.await, 1000);
/// });
/// ```
pub fn try_to_thread<F, T>(work: F) -> Result<Result<Job<T>, NotSpawned<F>>, NoRuntime>
where
    F: FnOnce(&JobScope) -> T + Send + 'static,
    T: Send + 'static,
{
    let spawner = Runtime::current_spawn("to_thread")?;
    Ok(start(work, Variables::current(), |job| match Handle::current_behind(&spawner) {
        Some(handle) => handle.queue(job).map(Some),
        None => spawner.spawn_blocking(job).map(|()| None), // of a host's line we know nothing
    }))
}

impl<T> Job<T> {
    fn inner(&self) -> &dyn Control<T> {
        &**self.inner.as_ref().expect("taken by `detach` and `cancel` only, which end the handle")
    }

    /// Lets the job run on without a handle.
    pub fn detach(mut self) {
        self.inner = None;
    }

    /// Tells the job that nobody waits. True: it had not begun, what it held was dropped, and it leaves the line.
    fn give_up(&mut self) -> bool {
        let withdrawn = self.inner().cancel();
        if withdrawn {
            self.place.take().into_iter().for_each(Place::leave);
        }
        withdrawn
    }

    /// Whether the job is over. A snapshot.
    #[doc(alias = "is_finished")]
    pub fn done(&self) -> bool {
        self.inner().slot().is_delivered()
    }

    /// Waits for the job and tells how it ended, without handing on its panic.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Dropping it leaves the job running; join again.
    ///
    /// # Errors
    ///
    /// The job panicked, or was dropped before it began.
    pub fn join(&mut self) -> impl Future<Output = Result<T, JoinError>> {
        std::future::poll_fn(|cx| self.inner().slot().poll(cx))
    }

    /// Awaits the job, and waits for its end also when the caller is cancelled: what it uses is not taken from under it.
    ///
    /// On a cancellation the job is told (see [`JobScope::is_cancelled`]). One that had not begun never runs, and the
    /// cancellation goes on its way. One that runs is waited for; what it gives is given, and the cancellation strikes where
    /// the caller waits next. trio does the same unless it is told to abandon threads, asyncio always abandons them; here
    /// awaiting the job itself does.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe** when cancelled by request: see above. **Not cancel safe** when plainly dropped: a job that runs is
    /// abandoned.
    ///
    /// # Panics
    ///
    /// As for awaiting the job.
    #[doc(alias = "abandon_on_cancel")]
    pub fn waited_for(mut self) -> impl Future<Output = T> + fmt::Debug {
        named("WaitedFor", async move {
            let cancelled = match catch_cancel(self.join()).await {
                Ok(outcome) => return given(outcome),
                Err(cancelled) => cancelled,
            };
            self.give_up();
            match shielded(self.join()).await {
                Err(error) if error.is_cancelled() => match cancelled.resume().await {},
                outcome => {
                    drop(cancelled); // goes on at the next await
                    given(outcome)
                }
            }
        })
    }

    /// Cancels the job and waits until it is no longer running: `None` if it never began, else how it ended. What a job held that
    /// never began may have panicked when it was dropped: that is an end too.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Dropping it leaves a job that runs to its end, abandoned.
    pub async fn cancel(mut self) -> Option<Result<T, JoinError>> {
        self.give_up();
        match self.join().await {
            Err(error) if error.is_cancelled() => None,
            outcome => Some(outcome),
        }
    }
}

impl<T> Future for Job<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.inner().slot().poll(cx).map(given)
    }
}

/// What whoever awaits a job gets.
fn given<T>(outcome: Result<T, JoinError>) -> T {
    outcome.unwrap_or_else(|error| match error.into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(_) => panic!("the job was dropped before it began: its pool is shut down"),
    })
}

impl<T> Drop for Job<T> {
    fn drop(&mut self) {
        if self.inner.is_none() || !self.give_up() {
            return;
        }
        if let Some(Err(error)) = self.inner().slot().abandon() {
            match error.into_panic() {
                // A destructor's, which ran here.
                Ok(panic) if !std::thread::panicking() => resume_unwind(panic),
                panic => drop_quietly(panic),
            }
        }
    }
}

impl<T> fmt::Debug for Job<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job [{}]", if self.done() { "finished" } else { "pending" })
    }
}
