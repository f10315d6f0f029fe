//! Tasks that another thread waits for.
//!
//! A [`Task`](crate::Task) belongs to its loop's thread. What is spawned from another thread is wrapped: the wrapper
//! delivers the outcome into a slot that both sides share, also when it is dropped unfinished.
//!
//! R1. The slot is filled once, by the wrapper: with what the future gave, its panic, or "cancelled" when it is dropped; with the
//!     panic of a destructor, if one does.
//! R2. A panic that nobody took is raised again under the loop, so that the loop reports it.

use crate::current::with_current;
use crate::quietly::drop_quietly;
use crate::slot::Slot;
use crate::task::JoinError;
use crate::task::shared::Shared;
use crate::task::task_ref::TaskRef;
use evenloop_core::cancel::Reason;
use evenloop_core::shim::{Mutex, StdArc};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A task of a loop, for other threads: awaited under any executor, or waited for by blocking.
///
/// Dropping it detaches the task: it runs on. A panic that nobody took from it goes to the loop's hook.
///
/// # Cancel safety
///
/// **Cancel safe.** Dropping the future `&mut task` leaves the task running; await it again.
///
/// # Panics
///
/// Awaiting panics if the outcome was taken before.
///
/// # Examples
///
/// ```
/// use evenloop_executor::{EventLoop, yield_now};
///
/// let event_loop = EventLoop::new();
/// let handle = event_loop.handle();
/// let elsewhere = std::thread::spawn(move || {
///     let task = handle.spawn(async {
///         yield_now().await;
///         42
///     });
///     let answer = task.expect("the loop is open").join_blocking();
///     handle.stop();
///     answer
/// });
/// event_loop.run_forever();
/// assert_eq!(elsewhere.join().unwrap().unwrap(), 42);
/// ```
#[must_use = "dropping the handle detaches the task: call `detach` if that is meant"]
#[doc(alias = "wrap_future")]
pub struct RemoteTask<T> {
    slot: StdArc<Slot<T>>,
    /// The task; or, if its future is made on the loop's thread, the callback that does so.
    task: TaskRef,
    /// Where the task is found once that callback has made it.
    made: Option<StdArc<Mutex<Made>>>,
    shared: StdArc<Shared>,
    spawned_at: &'static Location<'static>,
}

// === impl RemoteTask ===

impl<T: Send + 'static> RemoteTask<T> {
    /// Wraps `future` and hands it to the loop.
    pub(crate) fn spawn<F>(
        shared: &StdArc<Shared>,
        future: F,
        spawned_at: &'static Location<'static>,
    ) -> Result<Self, F>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let slot = StdArc::new(Slot::new());
        let delivers = Delivers { future: Some(future), slot: Some(slot.clone()) };
        match shared.spawn(delivers, spawned_at) {
            Ok(task) => Ok(Self { slot, task, made: None, shared: shared.clone(), spawned_at }),
            Err(mut delivers) => {
                delivers.slot = None;
                Err(delivers.future.take().expect("it was never polled"))
            }
        }
    }
}

impl<T: Send + 'static> RemoteTask<T> {
    /// Has the loop make a future by `make`, and spawn it.
    pub(crate) fn spawn_with<M, F>(
        shared: &StdArc<Shared>,
        make: M,
        spawned_at: &'static Location<'static>,
    ) -> Result<Self, M>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (slot, made) = (StdArc::new(Slot::new()), StdArc::new(Mutex::new(Made::NotYet)));
        let makes = Makes { make: Some(make), slot: Some(slot.clone()), made: made.clone(), spawned_at };
        match shared.spawn_callback(makes, spawned_at) {
            Ok(task) => Ok(Self { slot, task, made: Some(made), shared: shared.clone(), spawned_at }),
            Err(mut makes) => {
                makes.slot = None;
                Err(makes.make.take().expect("it was never polled"))
            }
        }
    }
}

impl<T> RemoteTask<T> {
    /// Asks the task to end, from any thread: at the loop's next turn whoever catches inside it may clean up, else its
    /// future is dropped there. If it is complete by then, nothing happens.
    pub fn cancel(&self) {
        if let Some(made) = &self.made {
            let mut made = made.lock();
            if let Made::Runs(task) = &*made {
                let task = task.clone();
                drop(made);
                task.cancel();
                return;
            }
            *made = Made::Cancelled;
        }
        self.task.cancel();
    }

    /// Lets the task run on without a handle.
    pub fn detach(self) {}

    /// Whether the task is over. A snapshot.
    #[doc(alias = "is_finished")]
    pub fn done(&self) -> bool {
        self.slot.is_delivered()
    }

    /// Blocks this thread until the task is over.
    ///
    /// # Errors
    ///
    /// The task was cancelled or panicked.
    ///
    /// # Panics
    ///
    /// On the thread of the task's loop while that runs: it would wait for itself. If the outcome was taken before.
    pub fn join_blocking(self) -> Result<T, JoinError> {
        self.not_here("join_blocking");
        self.slot.wait(None).expect("without a deadline it waits for the outcome")
    }

    /// As [`join_blocking`](Self::join_blocking), for no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// The task is not over in time: the handle comes back. Inside `Ok`, as for `join_blocking`.
    ///
    /// # Panics
    ///
    /// As for `join_blocking`.
    pub fn join_timeout(self, timeout: Duration) -> Result<Result<T, JoinError>, Self> {
        self.not_here("join_timeout");
        let deadline = evenloop_core::deadline_after(Instant::now(), timeout);
        self.slot.wait(Some(deadline)).ok_or(self)
    }

    fn not_here(&self, call: &str) {
        assert!(
            !self.shared.runs_here(),
            "`{call}` on the thread of the task's own loop would wait for itself: await the task instead"
        );
    }
}

impl<T> Drop for RemoteTask<T> {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.slot.abandon() {
            if let Ok(panic) = error.into_panic() {
                // Refused by a loop that is closed: then nobody is left to tell.
                drop(self.shared.spawn(async move { resume_unwind(panic) }, self.spawned_at).map(drop));
            }
        }
    }
}

impl<T> Future for RemoteTask<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.slot.poll(cx)
    }
}

impl<T> fmt::Debug for RemoteTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteTask [{}]", if self.done() { "finished" } else { "pending" })
    }
}

pin_project! {
    /// Runs a future and delivers how it ended, even if it is dropped.
    struct Delivers<F: Future> {
        // Gone once it is over.
        #[pin]
        future: Option<F>,
        // Gone once delivered, or when the loop refused.
        slot: Option<StdArc<Slot<F::Output>>>,
    }

    impl<F: Future> PinnedDrop for Delivers<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let dropped = catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
            deliver_end(this.slot.take(), dropped);
        }
    }
}

impl<F: Future> Future for Delivers<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        let outcome = match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(value)) => Ok(value),
            Err(panic) => Err(JoinError::panicked(panic)),
        };
        // Before the outcome is told, what the future held is gone.
        let dropped = catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
        let outcome = match dropped {
            Err(panic) if outcome.is_ok() => Err(JoinError::panicked(panic)),
            _ => outcome,
        };
        let panic = this.slot.take().and_then(|slot| slot.deliver(outcome));
        if let Some(panic) = panic {
            resume_unwind(panic); // R2: the loop catches it
        }
        Poll::Ready(())
    }
}

/// Delivers, once, that what was to run was dropped, and how that went.
fn deliver_end<T>(slot: Option<StdArc<Slot<T>>>, dropped: std::thread::Result<()>) {
    let error = dropped.map_or_else(JoinError::panicked, |()| JoinError::cancelled(Reason::default()));
    match slot.and_then(|slot| slot.deliver(Err(error))) {
        Some(panic) if !std::thread::panicking() => resume_unwind(panic), // R2: the loop catches it
        panic => drop_quietly(panic),
    }
}

/// How far a task is whose future is made on its loop's thread.
enum Made {
    NotYet,
    /// Before it was made.
    Cancelled,
    Runs(TaskRef),
}

/// A callback that makes a future on the loop's thread and spawns it. Dropped before, it delivers that (R1).
struct Makes<M, T> {
    make: Option<M>,
    // Gone once it is somebody else's to fill, or when the loop refused.
    slot: Option<StdArc<Slot<T>>>,
    made: StdArc<Mutex<Made>>,
    spawned_at: &'static Location<'static>,
}

/// Nothing of it is pinned.
impl<M, T> Unpin for Makes<M, T> {}

impl<M, F> Future for Makes<M, F::Output>
where
    M: FnOnce() -> F,
    F: Future + 'static,
    F::Output: Send + 'static,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let (Some(make), Some(slot)) = (self.make.take(), self.slot.take()) else { return Poll::Ready(()) };
        let future = match catch_unwind(AssertUnwindSafe(make)) {
            Ok(future) => future,
            Err(panic) => {
                if let Some(panic) = slot.deliver(Err(JoinError::panicked(panic))) {
                    resume_unwind(panic); // R2: the loop catches it
                }
                return Poll::Ready(());
            }
        };
        let delivers = Delivers { future: Some(future), slot: Some(slot) };
        let task = with_current(|core| core.create_task(delivers, None, self.spawned_at));
        let task = task.expect("a callback runs under its loop");
        let task_ref = task.raw().task_ref();
        task.detach();
        let before = std::mem::replace(&mut *self.made.lock(), Made::Runs(task_ref.clone()));
        if let Made::Cancelled = before {
            task_ref.cancel();
        }
        Poll::Ready(())
    }
}

impl<M, T> Drop for Makes<M, T> {
    fn drop(&mut self) {
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(self.make.take())));
        deliver_end(self.slot.take(), dropped);
    }
}
