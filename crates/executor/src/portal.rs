//! A loop on a thread of its own, for programs that are not asynchronous.
//!
//! ```text
//! start ─► thread: make the loop ─► run for ever ─► stopped ─► wait for its tasks, or cancel them ─► closed
//!            └ its handle ◄──────────── call, spawn: from any thread
//! ```

use crate::event_loop::EventLoop;
use crate::handle::Handle;
use crate::slot::Slot;
use crate::task::JoinError;
use evenloop_core::shim::atomic::{AtomicBool, Ordering};
use evenloop_core::shim::{GlobalMutex, StdArc, thread};
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// What is left when a portal stops may clean up for so long.
const CLEAN_UP_LIMIT: Duration = Duration::from_secs(60);

/// An event loop on a thread of its own, into which any thread may call: anyio's blocking portal.
///
/// Dropping it [closes](Self::close) the loop.
///
/// # Examples
///
/// ```
/// use evenloop_executor::{EventLoop, Portal, yield_now};
/// let portal = Portal::start(EventLoop::new)?;
/// let answer = portal.call(|| async {
///     yield_now().await;
///     6 * 7
/// });
/// assert_eq!(answer.unwrap(), 42);
/// # Ok::<(), std::io::Error>(())
/// ```
#[doc(alias = "BlockingPortal")]
pub struct Portal {
    handle: Handle,
    /// Taken when it is joined.
    thread: Option<thread::JoinHandle<()>>,
    /// Whether tasks that are left are waited for.
    waits: StdArc<AtomicBool>,
}

impl Portal {
    /// Starts a thread, which makes a loop by `make` and runs it.
    ///
    /// # Errors
    ///
    /// No thread could be started.
    ///
    /// # Panics
    ///
    /// With `make`'s own panic.
    pub fn start(make: impl FnOnce() -> EventLoop + Send + 'static) -> io::Result<Self> {
        let (slot, waits) = (StdArc::new(Slot::new()), StdArc::new(AtomicBool::new(false)));
        let (told, waits_inside) = (slot.clone(), waits.clone());
        let body = move || {
            let event_loop = match catch_unwind(AssertUnwindSafe(make)) {
                Ok(event_loop) => event_loop,
                Err(panic) => {
                    drop(told.deliver(Err(JoinError::panicked(panic))));
                    return;
                }
            };
            drop(told.deliver(Ok(event_loop.handle())));
            run(&event_loop, &waits_inside);
        };
        let thread = thread::Builder::new().name("evenloop-portal".to_owned()).spawn(body)?;
        match slot.wait(None).expect("without a deadline it waits for the outcome") {
            Ok(handle) => Ok(Self { handle, thread: Some(thread), waits }),
            Err(error) => match error.into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => unreachable!("the thread delivers a handle or a panic"),
            },
        }
    }

    /// Reaches the loop: to spawn, to call back, to pass on.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Has the loop run a future, which it makes there, and blocks until that is over: see [`Handle::call_blocking`].
    ///
    /// # Errors
    ///
    /// The future panicked, was cancelled, or the loop is closed.
    ///
    /// # Panics
    ///
    /// On the loop's own thread: it would wait for itself.
    #[track_caller]
    pub fn call<M, F>(&self, make: M) -> Result<F::Output, JoinError>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        self.handle.call_blocking(make)
    }

    /// Closes the loop and blocks until its thread has ended. Its tasks are cancelled, and may clean up for 60 s.
    #[doc(alias = "stop")]
    pub fn close(mut self) {
        self.end();
    }

    /// As [`close`](Self::close), but the tasks are waited for, however long they take; those they spawn as well.
    pub fn join(mut self) {
        // ORDERING: Relaxed: the request to stop, which comes after it, publishes it.
        self.waits.store(true, Ordering::Relaxed);
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.handle.stop();
        // On its own thread the loop ends later, by itself.
        if !self.handle.shared().runs_here() {
            if let (Err(panic), false) = (thread.join(), std::thread::panicking()) {
                resume_unwind(panic); // the loop could not wait, say
            }
        }
    }
}

/// The life of the loop on its thread.
fn run(event_loop: &EventLoop, waits: &AtomicBool) {
    event_loop.run_forever();
    // ORDERING: Relaxed: see `join`.
    while waits.load(Ordering::Relaxed) && event_loop.tasks_alive() > 0 {
        event_loop.run_once(None);
    }
    event_loop.cancel_all(Some(CLEAN_UP_LIMIT));
    event_loop.close();
}

impl Drop for Portal {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Portal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Portal [{:?}]", self.handle)
    }
}

/// A portal that starts at its first use and closes after its last: anyio's `BlockingPortalProvider`. Fit for a `static`.
///
/// # Examples
///
/// ```
/// use evenloop_executor::{EventLoop, PortalProvider};
///
/// static LOOP: PortalProvider = PortalProvider::new(EventLoop::new);
///
/// let lease = LOOP.lease()?; // the loop starts
/// assert_eq!(lease.call(|| async { 1 }).unwrap(), 1);
/// drop(lease); // and closes
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct PortalProvider {
    make: fn() -> EventLoop,
    state: GlobalMutex<Lent>,
}

/// Owned by the provider's mutex.
struct Lent {
    /// There iff `leases` is not zero.
    portal: Option<Portal>,
    leases: usize,
}

/// Keeps a [`PortalProvider`]'s loop running. Dropping the last one closes it, as [`Portal::close`].
#[must_use = "dropping the lease may close the loop"]
pub struct PortalLease<'a> {
    provider: &'a PortalProvider,
    handle: Handle,
}

impl PortalProvider {
    /// A provider of loops that `make` makes; none runs yet.
    pub const fn new(make: fn() -> EventLoop) -> Self {
        Self { make, state: GlobalMutex::new(Lent { portal: None, leases: 0 }) }
    }

    /// The running loop, which is started if nobody else has it.
    ///
    /// # Errors
    ///
    /// No thread could be started.
    ///
    /// # Panics
    ///
    /// With the panic of whoever makes the loop.
    pub fn lease(&self) -> io::Result<PortalLease<'_>> {
        let mut state = self.state.lock();
        let portal = match &mut state.portal {
            Some(portal) => portal,
            // Whoever else comes waits for the loop as well, so the lock may be held.
            none => none.insert(Portal::start(self.make)?),
        };
        let handle = portal.handle.clone();
        state.leases += 1;
        Ok(PortalLease { provider: self, handle })
    }
}

impl PortalLease<'_> {
    /// As [`Portal::handle`].
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// As [`Portal::call`].
    ///
    /// # Errors
    ///
    /// As for that.
    ///
    /// # Panics
    ///
    /// As for that.
    #[track_caller]
    pub fn call<M, F>(&self, make: M) -> Result<F::Output, JoinError>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        self.handle.call_blocking(make)
    }
}

impl Drop for PortalLease<'_> {
    fn drop(&mut self) {
        let mut state = self.provider.state.lock();
        state.leases -= 1;
        let last = if state.leases == 0 { state.portal.take() } else { None };
        drop(state); // before it stops
        drop(last);
    }
}

impl fmt::Debug for PortalProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortalProvider [leases: {}]", self.state.lock().leases)
    }
}

impl fmt::Debug for PortalLease<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortalLease [{:?}]", self.handle)
    }
}
