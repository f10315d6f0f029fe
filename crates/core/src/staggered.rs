//! Attempts that start one after the other, until one succeeds: what "Happy Eyeballs" (RFC 8305) and a race of services
//! have in common.
//!
//! G1. The next attempt starts when the one started last has failed, or `delay` has passed since its start.
//! G2. While the code around is being cancelled, nothing starts beside what still runs. When the cancellation is over, what is
//!     due does.
//! G3. An attempt that was not woken is polled only because another one of the same race was.

use crate::after::After;
use crate::shim::StdArc;
use crate::timers::Timers;
use std::fmt;
use std::future::Future;
use std::iter::Fuse;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Starts attempts staggered. What still runs when one has succeeded is the caller's to end: see
/// [`into_parts`](Self::into_parts).
///
/// Attempts are numbered from 0 in the order of their start. `starts` makes each when it is its turn.
///
/// # Examples
///
/// ```
/// use evenloop_core::Staggered;
/// use std::future::{poll_fn, ready};
///
/// let attempts = [Err("refused"), Ok("answer"), Ok("never started")];
/// let mut race = Staggered::new(attempts.map(ready), None);
/// # let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
/// # use std::future::Future;
/// # let won = std::pin::pin!(poll_fn(|cx| race.poll_winner(cx))).poll(&mut cx);
/// # let std::task::Poll::Ready(won) = won else { panic!() };
/// assert_eq!(won, Some((1, "answer"))); // of `poll_fn(|cx| race.poll_winner(cx)).await`
/// assert_eq!(race.into_parts().failed, [(0, "refused")]);
/// ```
#[must_use = "nothing starts unless it is polled"]
pub struct Staggered<S, F, E> {
    starts: Fuse<S>,
    running: Vec<(usize, F)>,
    failed: Vec<(usize, E)>,
    started: usize,
    delay: Option<(StdArc<dyn Timers>, Duration)>,
    /// When the next one starts in any case.
    next: Option<After>,
    /// Whether the one started last has failed.
    newest_failed: bool,
}

/// What is left of a race, each with its number.
#[derive(Debug)]
pub struct RaceParts<F, E> {
    /// Attempts that are not over.
    pub running: Vec<(usize, F)>,
    /// Why the others failed, in the order of the failures.
    pub failed: Vec<(usize, E)>,
}

impl<S, F, T, E> Staggered<S, F, E>
where
    S: Iterator<Item = F>,
    F: Future<Output = Result<T, E>> + Unpin,
{
    /// Without a `delay` an attempt starts only when the one before has failed.
    pub fn new(
        starts: impl IntoIterator<IntoIter = S>,
        delay: Option<(StdArc<dyn Timers>, Duration)>,
    ) -> Self {
        let starts = starts.into_iter().fuse();
        let (running, failed) = (Vec::new(), Vec::new());
        Self { starts, running, failed, started: 0, delay, next: None, newest_failed: false }
    }

    /// Ready with the first attempt that succeeds, or with `None` when all have failed. Not to be polled after that.
    pub fn poll_winner(&mut self, cx: &mut Context<'_>) -> Poll<Option<(usize, T)>> {
        let mut at = 0;
        loop {
            while let Some((_, attempt)) = self.running.get_mut(at) {
                let Poll::Ready(end) = Pin::new(attempt).poll(cx) else {
                    at += 1;
                    continue;
                };
                let (number, _over) = self.running.remove(at);
                match end {
                    Ok(value) => return Poll::Ready(Some((number, value))),
                    Err(error) => self.failed.push((number, error)),
                }
                self.newest_failed |= number + 1 == self.started;
            }
            let due = self.next.as_mut().is_some_and(|next| Pin::new(next).poll(cx).is_ready());
            if !(self.newest_failed || due || self.running.is_empty()) {
                return Poll::Pending;
            }
            // Who runs cleans up: that is no time to start another one (G2).
            if !self.running.is_empty() && crate::cancel::wait_while_requested(cx.waker()) {
                return Poll::Pending;
            }
            let Some(attempt) = self.starts.next() else {
                self.next = None;
                return if self.running.is_empty() { Poll::Ready(None) } else { Poll::Pending };
            };
            self.running.push((self.started, attempt));
            self.started += 1;
            self.newest_failed = false;
            self.next = self.delay.as_ref().map(|(timers, delay)| After::new(timers.clone(), *delay));
        }
    }

    /// How many attempts were started.
    pub fn started(&self) -> usize {
        self.started
    }

    /// Ends the race: what still runs, and what has failed. Nothing more starts.
    pub fn into_parts(self) -> RaceParts<F, E> {
        RaceParts { running: self.running, failed: self.failed }
    }
}

impl<S, F, E> fmt::Debug for Staggered<S, F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { running, failed, started, .. } = self;
        write!(f, "Staggered [started: {started}, running: {}, failed: {}]", running.len(), failed.len())
    }
}
