//! Evenloop's crates under tokio.
//!
//! A tokio runtime, current-thread or multi-thread, offers what Evenloop's leaf futures ask of a host: timers, tasks and
//! threads that may block. Nothing else changes: the same `sleep`, `Lock` or `CancelScope` works in a tokio task.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use evenloop_time::sleep;
//! use std::time::Duration;
//!
//! let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
//! tokio.block_on(async {
//!     evenloop_tokio::install()?; // once per process: every task and thread finds it
//!     tokio::spawn(async { sleep(Duration::from_millis(1)).await }).await?;
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # Which way in
//!
//! - [`install`]: a program with one tokio runtime. Costs nothing per poll.
//! - [`runtime`] and its [`scope`](Runtime::scope): several runtimes or hosts in one process. The future in the scope has
//!   this runtime wherever it is polled, and so has what it spawns through Evenloop.
//! - [`runtime`] and its [`enter`](Runtime::enter): code that does not await.
//! - [`runtime`] and the `_on` twin of a call: a single place.
//!
//! # How it works, and what it costs
//!
//! One task of tokio's drives all our timers: it sleeps on one timer of tokio's until the next of ours is due. A deadline
//! of ours is rounded up to a millisecond, and tokio rounds up again: at most 2 ms late, never early. Only a timer that is
//! earlier than all others wakes that task. No thread of ours.
//!
//! With the feature `streams` our reactor is a guest: one more task of tokio's watches the reactor's one descriptor, whatever
//! number of sockets there are, and wakes who waits. It starts with the first socket. Readiness comes one hop later than
//! that of tokio's own sockets: about 2 µs, measured.
//!
//! # When tokio shuts down
//!
//! Whoever waits for a time is woken. A sleep that is polled after that goes on under the runtime that is current there;
//! if there is none it panics, and the message names both ways out. Whoever waits for a socket is woken and gets an error
//! that says so; sockets do not change hosts. What is spawned through Evenloop afterwards comes back.

#![forbid(unsafe_code)]
#![doc(test(attr(allow(unused), deny(unused_must_use))))]

/// What the README shows is run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(feature = "streams")]
mod streams;

use evenloop_core::shim::{OnceLock, StdArc, StdWeak};
use evenloop_core::{BoxFuture, BoxJob, LocalBoxFuture, NotSpawned, Runtime, RuntimeId, Spawn};
use evenloop_time::{Clock, guest};
use std::error::Error;
use std::fmt;
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use tokio::runtime::Handle;

/// A runtime for Evenloop's futures on the tokio runtime that the caller is in. Each call makes another one, with timers
/// of its own: make one and clone it.
///
/// # Errors
///
/// The caller is not in a tokio runtime.
///
/// # Examples
///
/// ```
/// use evenloop_time::sleep;
/// use std::time::Duration;
///
/// let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// tokio.block_on(async {
///     let runtime = evenloop_tokio::runtime().unwrap();
///     runtime.scope(sleep(Duration::from_millis(1))).await;
/// });
/// ```
pub fn runtime() -> Result<Runtime, NotInTokio> {
    Handle::try_current().map(|handle| runtime_on(&handle, Clock::Real)).map_err(|_| NotInTokio)
}

/// As [`runtime`], on the tokio runtime of `handle`, with timers that follow `clock`.
///
/// Time on a virtual clock moves by hand only. The real one is tokio's: the machine's, unless a test has paused it, when our
/// sleeps jump with tokio's own. For that one, tokio needs its time driver (`enable_time`): without it
/// the first timer that has to wait finds that the timers have ended. Sockets need its I/O driver (`enable_io`): without it
/// each is an error that says so.
///
/// # Panics
///
/// When `clock` is virtual and drives other timers that have not ended.
///
/// # Examples
///
/// ```
/// use evenloop_time::{VirtualClock, sleep};
/// use std::time::Duration;
///
/// let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// let clock = VirtualClock::paused();
/// let runtime = evenloop_tokio::runtime_on(tokio.handle(), clock.clone().into());
/// tokio.block_on(runtime.scope(async {
///     let hour = sleep(Duration::from_secs(3600));
///     clock.advance(Duration::from_secs(3600));
///     hour.await;
/// }));
/// ```
pub fn runtime_on(handle: &Handle, clock: Clock) -> Runtime {
    let clock = match clock {
        Clock::Real => Clock::Host(|| tokio::time::Instant::now().into_std()),
        other => other,
    };
    let entered = handle.enter(); // it is this one's clock that the timers begin with
    let (engine, drive) = guest(clock, |deadline| tokio::time::sleep_until(deadline.into()));
    drop(entered);
    let (alive, id) = (StdArc::new(Alive), OnceLock::new());
    let spawn = StdArc::new(Tokio { handle: handle.clone(), alive: StdArc::downgrade(&alive), id });
    spawn.handle.spawn(keep(alive, drive));
    let runtime = Runtime::builder("tokio").timers(engine).spawn(spawn.clone());
    #[cfg(feature = "streams")]
    let runtime = runtime.reactor(streams::reactor_on(&spawn.handle));
    let runtime = runtime.build();
    let _ = spawn.id.set(runtime.id()); // nobody else has it yet
    runtime
}

/// Makes the tokio runtime that the caller is in the one that every thread finds which has entered no other.
///
/// Once per process, for as long as it runs: for programs with a single tokio runtime.
///
/// # Errors
///
/// The caller is not in a tokio runtime, or some runtime is installed already.
///
/// # Examples
///
/// ```
/// use evenloop_time::sleep;
/// use std::time::Duration;
///
/// let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// tokio.block_on(async {
///     evenloop_tokio::install().unwrap();
///     tokio::spawn(sleep(Duration::from_millis(1))).await.unwrap(); // without `scope`, on any thread
/// });
/// ```
pub fn install() -> Result<(), NotInstalled> {
    let runtime = runtime().map_err(NotInstalled::NotInTokio)?;
    Runtime::set_fallback(runtime).map_err(|_| NotInstalled::Already)
}

/// Held by a task of tokio's: it is gone when tokio has shut down.
struct Alive;

/// Drives the timers. Where tokio has no time driver their first sleep panics; tokio itself is alive after that.
async fn keep(_alive: StdArc<Alive>, drive: impl Future<Output = ()>) {
    let mut drive = Box::pin(drive);
    let driven = poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| drive.as_mut().poll(cx)));
        polled.map_or_else(|_| Poll::Ready(false), |polled| polled.map(|()| true))
    });
    if !driven.await {
        drop(drive); // ends the timers
        pending::<()>().await;
    }
}

/// What tokio does for those who spawn.
struct Tokio {
    handle: Handle,
    alive: StdWeak<Alive>,
    /// The runtime that this is a part of; what is spawned gets it.
    id: OnceLock<RuntimeId>,
}

impl Tokio {
    fn runtime(&self) -> Option<Runtime> {
        self.id.get().and_then(|&id| Runtime::with_id(id, Runtime::clone))
    }

    /// What comes back if tokio has shut down. A shutdown at this very moment drops it instead.
    fn alive<T>(&self, value: T) -> Result<T, NotSpawned<T>> {
        match self.alive.strong_count() {
            0 => Err(NotSpawned { value, why: "the tokio runtime has shut down" }),
            _ => Ok(value),
        }
    }
}

impl Spawn for Tokio {
    fn spawn(&self, future: BoxFuture) -> Result<(), NotSpawned<BoxFuture>> {
        let future = self.alive(future)?;
        match self.runtime() {
            Some(runtime) => drop(self.handle.spawn(runtime.scope(future))),
            None => drop(self.handle.spawn(future)),
        }
        Ok(())
    }

    fn spawn_local(&self, future: LocalBoxFuture) -> Result<(), NotSpawned<LocalBoxFuture>> {
        Err(NotSpawned { value: future, why: "tokio moves its tasks between threads: use its LocalSet" })
    }

    fn spawn_blocking(&self, job: BoxJob) -> Result<(), NotSpawned<BoxJob>> {
        let (job, runtime) = (self.alive(job)?, self.runtime());
        self.handle.spawn_blocking(move || {
            let _entered = runtime.as_ref().map(Runtime::enter);
            job();
        });
        Ok(())
    }
}

/// The caller is not in a tokio runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotInTokio;

impl fmt::Display for NotInTokio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "this thread is in no tokio runtime: call it in a tokio task, or hand a tokio `Handle` to \
             `evenloop_tokio::runtime_on`",
        )
    }
}

impl Error for NotInTokio {}

/// Nothing was installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotInstalled {
    /// The caller is not in a tokio runtime.
    NotInTokio(NotInTokio),
    /// Some runtime is installed already.
    Already,
}

impl fmt::Display for NotInstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInTokio(error) => error.fmt(f),
            Self::Already => f.write_str(
                "a runtime is installed for this process already: use `evenloop_tokio::runtime` and its `scope`",
            ),
        }
    }
}

impl Error for NotInstalled {}
