//! A moment to wait for, on whatever timers the runtime has.

use crate::shim::StdArc;
use crate::timers::{TimerKey, Timers, TimersEnded, deadline_after};
use crate::watch::{self, On};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Ready once `delay` has passed since it was made. Leaves the timers when it is dropped.
///
/// The plain tool of crates that know no `sleep`: it holds its timers, looks at the clock at each poll, and fails when the
/// timers have ended.
///
/// # Cancel safety
///
/// **Cancel safe.**
#[must_use = "futures do nothing unless awaited"]
pub struct After {
    timers: StdArc<dyn Timers>,
    deadline: Instant,
    /// The entry, and the waker it has.
    entry: Option<(TimerKey, Waker)>,
}

impl After {
    /// Waits from now on, by the clock of `timers`.
    pub fn new(timers: StdArc<dyn Timers>, delay: Duration) -> Self {
        let deadline = deadline_after(timers.now(), delay);
        Self { timers, deadline, entry: None }
    }
}

impl Future for After {
    type Output = Result<(), TimersEnded>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { timers, deadline, entry } = &mut *self;
        if timers.now() >= *deadline {
            return Poll::Ready(Ok(()));
        }
        if let Some((key, waker)) = entry {
            let waits = if waker.will_wake(cx.waker()) {
                timers.update(*key, *deadline, None)?
            } else {
                waker.clone_from(cx.waker());
                timers.update(*key, *deadline, Some(waker))?
            };
            if waits {
                watch::wait(cx.waker(), "sleep", || On::Until(*deadline));
                return Poll::Pending;
            }
        }
        let waker = cx.waker().clone();
        *entry = Some((timers.insert(*deadline, &waker)?, waker));
        watch::wait(cx.waker(), "sleep", || On::Until(*deadline));
        Poll::Pending
    }
}

impl Drop for After {
    fn drop(&mut self) {
        if let Some((key, _)) = &self.entry {
            self.timers.remove(*key);
        }
    }
}

impl fmt::Debug for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("After").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
