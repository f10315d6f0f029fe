//! The loop's handle for other threads.

use crate::current;
use crate::event_loop::Core;
use crate::remote::RemoteTask;
use crate::task::JoinError;
use crate::task::shared::Shared;
use crate::thread_pool::{Place, ThreadPool};
use crate::unhandled::Told;
use evenloop_core::cancel::Reason;
use evenloop_core::shim::StdArc;
use evenloop_core::{BoxFuture, BoxJob, LocalBoxFuture, NotSpawned, Spawn};
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;

pub(crate) const CLOSED: &str = "the event loop is closed";

/// Reaches a loop from any thread. Cheap to clone; does not keep the loop open.
#[derive(Clone)]
#[doc(alias = "TrioToken")]
pub struct Handle {
    shared: StdArc<Shared>,
    /// Where blocking jobs run.
    pool: ThreadPool,
    /// The loop is in debug mode. Never changes.
    debug: bool,
}

impl Handle {
    pub(crate) fn new(shared: StdArc<Shared>, pool: ThreadPool, debug: bool) -> Self {
        Self { shared, pool, debug }
    }

    pub(crate) fn shared(&self) -> &StdArc<Shared> {
        &self.shared
    }

    /// The threads on which [`to_thread`](crate::to_thread) runs jobs of this loop. Shut down when the loop is closed.
    pub fn thread_pool(&self) -> &ThreadPool {
        &self.pool
    }

    /// Whether the loop is closed. It may be by the time this returns.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// Hands a future to the loop and waits for it elsewhere: asyncio's `run_coroutine_threadsafe`.
    ///
    /// # Errors
    ///
    /// The loop is closed; the future comes back.
    ///
    /// # Examples
    ///
    /// ```
    /// # use evenloop_executor::EventLoop;
    /// let event_loop = EventLoop::new();
    /// let handle = event_loop.handle();
    /// let asking = std::thread::spawn(move || {
    ///     let answer = handle.spawn(async { 6 * 7 }).unwrap().join_blocking();
    ///     handle.stop();
    ///     answer.unwrap()
    /// });
    /// event_loop.run_forever();
    /// assert_eq!(asking.join().unwrap(), 42);
    /// ```
    #[track_caller]
    #[doc(alias = "run_coroutine_threadsafe")]
    pub fn spawn<F>(&self, future: F) -> Result<RemoteTask<F::Output>, NotSpawned<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        RemoteTask::spawn(&self.shared, future, Location::caller())
            .map_err(|value| NotSpawned { value, why: CLOSED })
    }

    /// As [`spawn`](Self::spawn), for a future that stays on the loop's thread: `make` is called there.
    ///
    /// # Errors
    ///
    /// The loop is closed; `make` comes back.
    ///
    /// # Examples
    ///
    /// ```
    /// # use evenloop_executor::EventLoop;
    /// use std::rc::Rc;
    ///
    /// let event_loop = EventLoop::new();
    /// let task = event_loop.handle().spawn_with(|| {
    ///     let shared = Rc::new(7); // cannot change threads
    ///     async move { *shared }
    /// });
    /// while event_loop.run_once(Some(std::time::Duration::ZERO)) > 0 {}
    /// assert_eq!(task.unwrap().join_blocking().unwrap(), 7);
    /// ```
    #[track_caller]
    pub fn spawn_with<M, F>(&self, make: M) -> Result<RemoteTask<F::Output>, NotSpawned<M>>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        RemoteTask::spawn_with(&self.shared, make, Location::caller())
            .map_err(|value| NotSpawned { value, why: CLOSED })
    }

    /// Has the loop make and run a future, and blocks this thread until it is over.
    ///
    /// # Errors
    ///
    /// The future panicked or was cancelled, or the loop is closed: it is cancelled then, with that for a reason.
    ///
    /// # Panics
    ///
    /// On the thread of the loop while that runs: it would wait for itself.
    #[track_caller]
    #[doc(alias = "block_on")]
    pub fn call_blocking<M, F>(&self, make: M) -> Result<F::Output, JoinError>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        assert!(
            !self.shared.runs_here(),
            "`call_blocking` on the loop's own thread would wait for itself: await the future instead"
        );
        match self.spawn_with(make) {
            Ok(task) => task.join_blocking(),
            Err(refused) => Err(JoinError::cancelled(Reason::new(refused.why))),
        }
    }

    /// Hands a future to the loop, which runs it in the background from its next turn on.
    ///
    /// # Errors
    ///
    /// The loop is closed; the future comes back.
    #[track_caller]
    pub fn spawn_detached<F>(&self, future: F) -> Result<(), NotSpawned<F>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        match self.shared.spawn(future, Location::caller()) {
            Ok(task) => {
                drop(task);
                Ok(())
            }
            Err(value) => Err(NotSpawned { value, why: CLOSED }),
        }
    }

    /// Gives the loop's hook something to report, from any thread: asyncio's `call_exception_handler`. On the loop's own
    /// thread at once, from another one at the loop's next turn. Never panics. What a loop that is closed refuses is printed
    /// to the standard error stream, so that nothing gets lost.
    #[doc(alias = "call_exception_handler")]
    pub fn report(&self, what: impl fmt::Display) {
        let shown = catch_unwind(AssertUnwindSafe(|| what.to_string()));
        let told = Told(shown.unwrap_or_else(|_| "a report that cannot be shown".to_owned()));
        if self.shared.runs_here() {
            return drop(told);
        }
        // Refused, it is dropped, and so told, here.
        drop(self.call_soon_threadsafe(move || drop(told)));
    }

    /// Asks the loop to leave its run at the end of a pass, as [`EventLoop::stop`](crate::EventLoop::stop) does. From
    /// any thread; nothing happens if it is closed.
    pub fn stop(&self) {
        // What a closed loop refuses needs no stop.
        let _ = self.spawn_detached(async {
            current::with_current(|core| core.stop());
        });
    }

    /// That of the loop that runs on this thread, if it is the one that spawns by `spawner`.
    pub(crate) fn current_behind(spawner: &StdArc<dyn Spawn>) -> Option<Self> {
        let own = |core: &Rc<Core>| {
            let own = core.runtime().spawn_for("to_thread").is_ok_and(|own| StdArc::ptr_eq(own, spawner));
            own.then(|| core.handle().clone())
        };
        current::with_current(own).flatten()
    }

    /// Has a thread run a job. Answers where it waits for one.
    pub(crate) fn queue(&self, job: BoxJob) -> Result<Place, NotSpawned<BoxJob>> {
        if self.is_closed() {
            return Err(NotSpawned { value: job, why: CLOSED });
        }
        self.pool.queue(job)
    }
}

impl Spawn for Handle {
    fn spawn(&self, future: BoxFuture) -> Result<(), NotSpawned<BoxFuture>> {
        self.spawn_detached(future)
    }

    fn spawn_local(&self, future: LocalBoxFuture) -> Result<(), NotSpawned<LocalBoxFuture>> {
        if self.is_closed() {
            return Err(NotSpawned { value: future, why: CLOSED });
        }
        if !self.shared.runs_here() {
            return Err(NotSpawned { value: future, why: "the event loop does not run on this thread" });
        }
        let location = Location::caller();
        let mut future = Some(future);
        current::with_current(|core| {
            core.create_task(future.take().expect("called once"), None, location).detach()
        });
        match future {
            None => Ok(()),
            Some(value) => Err(NotSpawned { value, why: "this thread is at its end" }),
        }
    }

    fn spawn_blocking(&self, job: BoxJob) -> Result<(), NotSpawned<BoxJob>> {
        self.queue(job).map(drop)
    }

    fn report(&self, what: &dyn fmt::Display) {
        Self::report(self, what);
    }

    fn is_debug(&self) -> bool {
        self.debug
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle [{}]", if self.is_closed() { "closed" } else { "open" })
    }
}
