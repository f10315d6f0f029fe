//! `staggered_race`: attempts that start one after the other; the first that succeeds wins.

use crate::named::named;
use evenloop_core::cancel::{CancelScope, Reason, Run};
use evenloop_core::watch::{self, On};
use evenloop_core::{RaceParts, Runtime, Staggered};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Runs `attempts` until one succeeds. The next one starts when the one before has failed, or after `delay`; without a delay
/// they run strictly one after the other.
///
/// The first success cancels the others, which may clean up and are waited for. Attempts run as part of the calling task
/// and may borrow; `attempts` makes each when it is its turn. (asyncio makes each a task.)
///
/// # Cancel safety
///
/// When cancelled, whoever catches inside an attempt is asked. Dropping this drops the attempts.
///
/// # Panics
///
/// With the panic of an attempt; the others are dropped. With a delay: where no runtime is current that offers timers.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, RaceEnd, staggered_race};
/// # EventLoop::new().run_until_complete(async {
/// let servers = ["down", "up", "never asked"];
/// let attempts = servers.into_iter().map(|name| async move {
///     if name == "down" { Err("refused") } else { Ok(name) }
/// });
/// let race = staggered_race(attempts, None).await;
/// assert_eq!(race.winner, Some((1, "up")));
/// assert_eq!(race.ends, [RaceEnd::Failed("refused"), RaceEnd::Won]);
/// # });
/// ```
#[doc(alias("select_ok", "happy_eyeballs"))]
pub fn staggered_race<I, F, T, E>(
    attempts: I,
    delay: impl Into<Option<Duration>>,
) -> impl Future<Output = Race<T, E>> + fmt::Debug
where
    I: IntoIterator<Item = F>,
    F: Future<Output = Result<T, E>>,
{
    let delay = delay.into();
    named("StaggeredRace", async move {
        let delay = delay.map(|delay| {
            let timers = Runtime::current_timers("staggered_race");
            (timers.unwrap_or_else(|error| panic!("{error}")), delay)
        });
        let mut race = Staggered::new(attempts.into_iter().map(Attempt::new), delay);
        let winner = poll_fn(|cx| noted(race.poll_winner(cx), cx)).await;
        let mut ends: Vec<RaceEnd<E>> = (0..race.started()).map(|_| RaceEnd::Cancelled).collect();
        let RaceParts { running, failed } = race.into_parts();
        let mut losers: Vec<_> = running.into_iter().map(|(_, attempt)| attempt).collect();
        for loser in &losers {
            loser.scope.cancel(LOST);
        }
        poll_fn(|cx| {
            losers.retain_mut(|loser| Pin::new(loser).poll(cx).is_pending());
            noted(if losers.is_empty() { Poll::Ready(()) } else { Poll::Pending }, cx)
        })
        .await;
        for (number, error) in failed {
            if let Some(error) = error {
                ends[number] = RaceEnd::Failed(error);
            }
        }
        if let Some((number, _)) = winner {
            ends[number] = RaceEnd::Won;
        }
        Race { winner, ends }
    })
}

/// Notes that the task waits for attempts, which note what they wait for.
fn noted<T>(polled: Poll<T>, cx: &Context<'_>) -> Poll<T> {
    if polled.is_pending() {
        watch::wait_many(cx.waker(), "staggered_race", || On::Nothing);
    }
    polled
}

/// What losers are told.
const LOST: Reason = Reason::new("another attempt succeeded");

/// How a [`staggered_race`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Race<T, E> {
    /// The first success, with its number counted from 0; `None` if all failed, or there were none.
    pub winner: Option<(usize, T)>,
    /// How each attempt ended that was started.
    pub ends: Vec<RaceEnd<E>>,
}

/// How one attempt of a race ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RaceEnd<E> {
    /// It succeeded first.
    Won,
    /// It failed before another one succeeded.
    Failed(E),
    /// It was cancelled because another one had succeeded. What it gave all the same is dropped.
    Cancelled,
}

/// An attempt in a scope of its own. Its error is `None` if it was cancelled.
struct Attempt<F> {
    scope: CancelScope,
    run: Pin<Box<Run<F>>>,
}

impl<F: Future> Attempt<F> {
    fn new(attempt: F) -> Self {
        let scope = CancelScope::new();
        let run = Box::pin(scope.run(attempt));
        Self { scope, run }
    }
}

impl<F: Future<Output = Result<T, E>>, T, E> Future for Attempt<F> {
    type Output = Result<T, Option<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.run.as_mut().poll(cx).map(|end| match end {
            Ok(outcome) => outcome.map_err(Some),
            Err(_) => Err(None),
        })
    }
}
