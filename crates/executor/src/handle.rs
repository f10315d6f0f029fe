//! The loop's handle for other threads.

use crate::current;
use crate::remote::RemoteTask;
use crate::task::shared::Shared;
use crate::thread_pool::ThreadPool;
use crate::unhandled::Unhandled;
use evenloop_core::shim::StdArc;
use evenloop_core::{BoxFuture, BoxJob, LocalBoxFuture, NotSpawned, Spawn};
use std::fmt;
use std::future::Future;
use std::panic::Location;

pub(crate) const CLOSED: &str = "the event loop is closed";

/// Reaches a loop from any thread. Cheap to clone; does not keep the loop open.
#[derive(Clone)]
pub struct Handle {
    shared: StdArc<Shared>,
    /// Where blocking jobs run.
    pool: ThreadPool,
}

impl Handle {
    pub(crate) fn new(shared: StdArc<Shared>, pool: ThreadPool) -> Self {
        Self { shared, pool }
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
    pub fn spawn<F>(&self, future: F) -> Result<RemoteTask<F::Output>, NotSpawned<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        RemoteTask::spawn(&self.shared, future, Location::caller())
            .map_err(|value| NotSpawned { value, why: CLOSED })
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

    /// Asks the loop to leave its run at the end of a pass, as [`EventLoop::stop`](crate::EventLoop::stop) does. From
    /// any thread; nothing happens if it is closed.
    pub fn stop(&self) {
        // What a closed loop refuses needs no stop.
        let _ = self.spawn_detached(async {
            current::with_current(|core| core.stop());
        });
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
        if self.is_closed() {
            return Err(NotSpawned { value: job, why: CLOSED });
        }
        self.pool.execute(job)
    }

    /// Gives it to the loop's hook, on the loop's thread; from elsewhere it is printed.
    fn report(&self, what: &dyn fmt::Display) {
        let what = what.to_string();
        let hook = self.shared.runs_here().then(|| current::with_current(|core| core.sched().hook()));
        Unhandled::told_by_a_crate(&what).report(hook.flatten().flatten());
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle [{}]", if self.is_closed() { "closed" } else { "open" })
    }
}
