//! The process's own reaper: a thread that waits for children whom no loop watches any more.
//!
//! It is started when the first handle of a running child is dropped, or the loop under one ends, and lives as long as the
//! process: a thread, an epoll descriptor and one to wake it. It is a reactor like any loop's, and the children's own
//! wakers do the reaping.
//!
//! P1. Periods of grace are kept here in real time: children do not live on a virtual clock.

use super::child::Child;
use crate::reactor::{ReactorDriver, ReactorHandle};
use crate::signal_kind::SignalKind;
use evenloop_core::shim::{GlobalMutex, OnceLock, StdArc, StdWeak, thread};
use evenloop_core::{Park as _, Unpark as _, deadline_after};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

static REAPER: OnceLock<GlobalMutex<Option<Reaper>>> = OnceLock::new();

struct Reaper {
    handle: ReactorHandle,
    /// Who is to be killed when.
    graces: StdArc<GlobalMutex<Vec<Grace>>>,
}

struct Grace {
    deadline: Instant,
    child: StdWeak<Child>,
    group: bool,
}

/// The reaper's reactor.
///
/// # Errors
///
/// There are no descriptors for it, or no thread. The next call tries again.
pub(crate) fn handle() -> io::Result<ReactorHandle> {
    with_reaper(|reaper| reaper.handle.clone())
}

/// Kills `child` after `grace`, unless it has ended by then.
///
/// # Errors
///
/// As [`handle`].
pub(crate) fn kill_after(grace: Duration, child: &StdArc<Child>, group: bool) -> io::Result<()> {
    let deadline = deadline_after(Instant::now(), grace);
    let handle = with_reaper(|reaper| {
        let child = StdArc::downgrade(child);
        reaper.graces.lock().push(Grace { deadline, child, group });
        reaper.handle.clone()
    })?;
    handle.unpark();
    Ok(())
}

fn with_reaper<R>(use_it: impl FnOnce(&Reaper) -> R) -> io::Result<R> {
    let mut reaper = REAPER.get_or_init(GlobalMutex::default).lock();
    if let Some(reaper) = &*reaper {
        return Ok(use_it(reaper));
    }
    let driver = ReactorDriver::new()?;
    let graces = StdArc::default();
    let started = Reaper { handle: driver.handle(), graces: StdArc::clone(&graces) };
    thread::Builder::new().name("evenloop-reaper".into()).spawn(move || run(driver, &graces))?;
    Ok(use_it(reaper.insert(started)))
}

fn run(mut driver: ReactorDriver, graces: &GlobalMutex<Vec<Grace>>) {
    loop {
        let now = Instant::now();
        let (due, next): (Vec<Grace>, _) = {
            let mut graces = graces.lock();
            // Who has ended, and is asked for by nobody any more, is gone.
            graces.retain(|grace| grace.child.strong_count() > 0);
            let (due, later) = graces.drain(..).partition(|grace| grace.deadline <= now);
            *graces = later;
            (due, graces.iter().map(|grace| grace.deadline).min())
        };
        for Grace { child, group, .. } in due {
            child.upgrade().into_iter().for_each(|child| child.send(SignalKind::KILL, group));
        }
        let timeout = next.map(|deadline| deadline.saturating_duration_since(now));
        match catch_unwind(AssertUnwindSafe(|| driver.park(timeout))) {
            Ok(Ok(_)) => {}
            // The kernel does not let us wait now; it may later.
            Ok(Err(_)) => thread::park_timeout(Duration::from_millis(10)),
            // A stranger's waker, which the panic hook has told of: the other children are still to be reaped.
            Err(_) => {}
        }
    }
}
