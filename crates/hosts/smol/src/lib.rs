//! Evenloop's crates under smol.
//!
//! smol's global executor, or an `Executor` of one's own, offers what Evenloop's leaf futures ask of a host: timers, tasks
//! and threads that may block. Nothing else changes: the same `sleep`, `Lock` or `CancelScope` works in a smol task.
//!
//! ```
//! use evenloop_time::sleep;
//! use std::time::Duration;
//!
//! evenloop_smol::install()?; // once per process: every task and thread finds it
//! smol::block_on(async {
//!     smol::spawn(async { sleep(Duration::from_millis(1)).await }).await;
//! });
//! # Ok::<(), evenloop_smol::NotInstalled>(())
//! ```
//!
//! # Which way in
//!
//! - [`install`]: a program that uses smol throughout. Costs nothing per poll.
//! - [`runtime`] and its [`scope`](Runtime::scope): several executors or hosts in one process. The future in the scope has
//!   this runtime wherever it is polled, and so has what it spawns through Evenloop.
//! - [`runtime`] and its [`enter`](Runtime::enter): code that does not await.
//! - [`runtime`] and the `_on` twin of a call: a single place.
//!
//! # How it works, and what it costs
//!
//! One task of smol's drives all our timers: it sleeps on one timer of smol's until the next of ours is due. A deadline of
//! ours is rounded up to a millisecond: never early. Only a timer that is earlier than all others wakes that task. No
//! thread of ours.
//!
//! With the feature `streams` our reactor is a guest: one more task of smol's watches the reactor's one descriptor, whatever
//! number of sockets there are, and wakes who waits. It starts with the first socket. Readiness comes one hop later than
//! that of smol's own sockets: about 2 µs.
//!
//! # When an executor is dropped
//!
//! Whoever waits for a time on it is woken. A sleep that is polled after that goes on under the runtime that is current
//! there; if there is none it panics, and the message names both ways out. Whoever waits for a socket is woken and gets an
//! error that says so; sockets do not change hosts. What is spawned through Evenloop afterwards comes back. smol's global
//! executor is never dropped.

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
use smol::{Executor, Timer};
use std::error::Error;
use std::fmt;

/// A runtime for Evenloop's futures on smol's global executor. Each call makes another one, with timers of its own: make
/// one and clone it.
///
/// # Examples
///
/// ```
/// use evenloop_time::sleep;
/// use std::time::Duration;
///
/// let runtime = evenloop_smol::runtime();
/// smol::block_on(runtime.scope(sleep(Duration::from_millis(1))));
/// ```
pub fn runtime() -> Runtime {
    build(Where::Global, Clock::Real)
}

/// As [`runtime`], on the given executor, with timers that follow `clock`.
///
/// The runtime does not keep the executor alive. Somebody has to run it. Time on a virtual clock moves by hand only.
///
/// # Panics
///
/// When `clock` is virtual and drives other timers that have not ended.
///
/// # Examples
///
/// ```
/// use evenloop_time::{VirtualClock, sleep};
/// use std::{sync::Arc, time::Duration};
///
/// let executor = Arc::new(smol::Executor::new());
/// let clock = VirtualClock::paused();
/// let runtime = evenloop_smol::runtime_on(&executor, clock.clone().into());
/// smol::block_on(executor.run(runtime.scope(async {
///     let hour = sleep(Duration::from_secs(3600));
///     clock.advance(Duration::from_secs(3600));
///     hour.await;
/// })));
/// ```
pub fn runtime_on(executor: &StdArc<Executor<'static>>, clock: Clock) -> Runtime {
    build(Where::On(StdArc::downgrade(executor)), clock)
}

/// Makes smol's global executor the runtime that every thread finds which has entered no other.
///
/// Once per process, for as long as it runs.
///
/// # Errors
///
/// Some runtime is installed already.
///
/// # Examples
///
/// ```
/// use evenloop_time::sleep;
/// use std::time::Duration;
///
/// evenloop_smol::install().unwrap();
/// smol::block_on(smol::spawn(sleep(Duration::from_millis(1)))); // without `scope`, on any thread
/// ```
pub fn install() -> Result<(), NotInstalled> {
    Runtime::set_fallback(runtime()).map_err(|_| NotInstalled)
}

fn build(place: Where, clock: Clock) -> Runtime {
    let (engine, drive) = guest(clock, |deadline| async move {
        Timer::at(deadline).await;
    });
    let spawn = StdArc::new(Smol { place, id: OnceLock::new() });
    let driven = spawn.place.spawn(Box::pin(drive));
    debug_assert!(driven.is_ok(), "the caller holds the executor");
    let runtime = Runtime::builder("smol").timers(engine).spawn(spawn.clone());
    #[cfg(feature = "streams")]
    let runtime = runtime.reactor(streams::reactor_on(&spawn));
    let runtime = runtime.build();
    let _ = spawn.id.set(runtime.id()); // nobody else has it yet
    runtime
}

const DROPPED: &str = "the smol executor was dropped";

/// What smol does for those who spawn.
struct Smol {
    place: Where,
    /// The runtime that this is a part of; what is spawned gets it.
    id: OnceLock<RuntimeId>,
}

enum Where {
    Global,
    On(StdWeak<Executor<'static>>),
}

impl Where {
    /// Whether there is an executor still.
    fn is_there(&self) -> bool {
        match self {
            Self::Global => true,
            Self::On(executor) => executor.strong_count() > 0,
        }
    }

    fn spawn(&self, future: BoxFuture) -> Result<(), NotSpawned<BoxFuture>> {
        match self {
            Self::Global => smol::spawn(future).detach(),
            Self::On(executor) => match executor.upgrade() {
                Some(executor) => executor.spawn(future).detach(),
                None => return Err(NotSpawned { value: future, why: DROPPED }),
            },
        }
        Ok(())
    }
}

impl Smol {
    fn runtime(&self) -> Option<Runtime> {
        self.id.get().and_then(|&id| Runtime::with_id(id, Runtime::clone))
    }
}

impl Spawn for Smol {
    fn spawn(&self, future: BoxFuture) -> Result<(), NotSpawned<BoxFuture>> {
        match self.runtime() {
            // Before it is wrapped, which cannot be undone.
            _ if !self.place.is_there() => Err(NotSpawned { value: future, why: DROPPED }),
            Some(runtime) => self.place.spawn(Box::pin(runtime.scope(future))),
            None => self.place.spawn(future),
        }
    }

    fn spawn_local(&self, future: LocalBoxFuture) -> Result<(), NotSpawned<LocalBoxFuture>> {
        Err(NotSpawned { value: future, why: "smol moves its tasks between threads: use its LocalExecutor" })
    }

    fn spawn_blocking(&self, job: BoxJob) -> Result<(), NotSpawned<BoxJob>> {
        if !self.place.is_there() {
            return Err(NotSpawned { value: job, why: DROPPED });
        }
        let runtime = self.runtime();
        smol::unblock(move || {
            let _entered = runtime.as_ref().map(Runtime::enter);
            job();
        })
        .detach();
        Ok(())
    }
}

/// Some runtime is installed for this process already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotInstalled;

impl fmt::Display for NotInstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a runtime is installed for this process already: use `evenloop_smol::runtime` and its `scope`",
        )
    }
}

impl Error for NotInstalled {}
