//! `timeout` and `timeout_at`: a future with a deadline.
//!
//! T1. Every poll asks the inner future first: what is ready is given, and code without a pending await never times out.
//! T2. When it is pending the timer is asked: an inner future that is always woken cannot run past the deadline.
//! T3. The timer is set only once the inner future was pending.
//! T4. When the deadline is met, that is a request on the timeout's own scope, from the next poll on: who catches inside is
//!     asked first, and may clean up; then the inner future is dropped, before `Elapsed` is given. If it gives a value all the
//!     same, that wins.
//! T5. While a scope around the timeout is being left, the timeout reports nothing: of nested timeouts with one deadline
//!     only the outer one reports. Its request comes with the next poll, as theirs do, and goes before them. (Unless a set of
//!     futures between the two polls one of its own twice in a poll, as `FuturesUnordered` does: then both report.)
//! T6. One that waits without a deadline keeps its waker, so that whoever gives it one can have the timer set.

use crate::entry::{Entry, or_panic};
use evenloop_core::cancel::{Reason, Scope};
use evenloop_core::watch::{self, On};
use evenloop_core::{Elapsed, Runtime, deadline_after};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Waits for `future`, but no longer than `duration`, counted from this call.
///
/// The future runs as part of the calling task. If it is pending when the time is over, it is dropped, after whoever
/// catches inside it (`catch_cancel`, an awaited task) was asked and has cleaned up. A future that is
/// ready when its turn comes gives its value, even with `Duration::ZERO`, and even if the deadline has been met by then: asyncio
/// throws that value away. One that is woken again and again cannot run past the deadline. Never early; the resolution is 1 ms,
/// rounded up; a virtual clock is exact. `Duration::MAX` is about thirty years.
///
/// # Cancel safety
///
/// **Cancel safe** as far as `future` is: dropping this drops `future` and takes the timer out. So does the deadline:
/// what dropping `future` loses, a time-out loses.
///
/// # Errors
///
/// [`Elapsed`] when the deadline was met first.
///
/// # Panics
///
/// When it has to wait where no runtime is current that offers timers, as [`sleep`](crate::sleep()) does.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// async fn answer() -> Option<u32> {
///     evenloop_time::timeout(Duration::from_secs(1), async { 42 }).await.ok()
/// }
/// # let _ = answer();
/// ```
#[doc(alias = "fail_after")]
pub fn timeout<F: IntoFuture>(duration: Duration, future: F) -> Timeout<F::IntoFuture> {
    let entry = Entry::new();
    Timeout {
        limit: Limit::after(duration, &entry),
        entry,
        expired: false,
        scope: Scope::new(),
        inner: Some(future.into_future()),
    }
}

/// As [`timeout`], on the given runtime.
///
/// # Errors
///
/// [`Elapsed`] when the deadline was met first.
///
/// # Panics
///
/// When it has to wait and `runtime` offers no timers or has ended.
///
/// # Examples
///
/// ```
/// use evenloop_core::Runtime;
/// use evenloop_time::timeout_on;
/// use std::time::Duration;
///
/// async fn answer(runtime: &Runtime, question: impl Future<Output = u32>) -> Option<u32> {
///     timeout_on(runtime, Duration::from_secs(1), question).await.ok()
/// }
/// ```
pub fn timeout_on<F: IntoFuture>(runtime: &Runtime, duration: Duration, future: F) -> Timeout<F::IntoFuture> {
    let entry = Entry::on(runtime);
    Timeout {
        limit: Limit::after(duration, &entry),
        entry,
        expired: false,
        scope: Scope::new(),
        inner: Some(future.into_future()),
    }
}

/// Waits for `future`, but not beyond `deadline`; without one, as long as it takes.
///
/// As [`timeout`] in all else.
///
/// # Errors
///
/// [`Elapsed`] when the deadline was met first.
///
/// # Panics
///
/// As [`timeout`].
///
/// # Examples
///
/// ```
/// use std::time::Instant;
///
/// async fn answer(by: Option<Instant>) -> Result<u32, evenloop_time::Elapsed> {
///     evenloop_time::timeout_at(by, async { 42 }).await
/// }
/// # let _ = answer(None);
/// ```
pub fn timeout_at<F: IntoFuture>(deadline: impl Into<Option<Instant>>, future: F) -> Timeout<F::IntoFuture> {
    let inner = Some(future.into_future());
    Timeout { limit: deadline.into().into(), entry: Entry::new(), expired: false, scope: Scope::new(), inner }
}

/// As [`timeout_at`], on the given runtime.
///
/// # Errors
///
/// [`Elapsed`] when the deadline was met first.
///
/// # Panics
///
/// As [`timeout_on`].
pub fn timeout_at_on<F: IntoFuture>(
    runtime: &Runtime,
    deadline: impl Into<Option<Instant>>,
    future: F,
) -> Timeout<F::IntoFuture> {
    let inner = Some(future.into_future());
    Timeout {
        limit: deadline.into().into(),
        entry: Entry::on(runtime),
        expired: false,
        scope: Scope::new(),
        inner,
    }
}

pin_project! {
    /// The future of [`timeout`] and [`timeout_at`].
    ///
    /// # Examples
    ///
    /// ```
    /// use evenloop_time::{now, timeout};
    /// use std::pin::pin;
    /// use std::time::Duration;
    ///
    /// async fn with_more_time(work: impl Future<Output = u32>) -> Option<u32> {
    ///     let mut work = pin!(timeout(Duration::from_secs(1), work));
    ///     work.as_mut().reschedule(now() + Duration::from_secs(10));
    ///     work.await.ok()
    /// }
    /// # let _ = with_more_time(async { 1 });
    /// ```
    #[must_use = "futures do nothing unless awaited"]
    pub struct Timeout<F> {
        limit: Limit,
        entry: Entry,
        expired: bool,
        scope: Scope,
        // Gone once it has ended, or was dropped at the deadline.
        #[pin]
        inner: Option<F>,
    }
}

enum Limit {
    /// With the waker of whoever waits (T6).
    Never(Option<Waker>),
    /// From the first poll on.
    After(Duration),
    At(Instant),
}

impl Limit {
    fn after(duration: Duration, entry: &Entry) -> Self {
        entry.now("timeout").map_or(Self::After(duration), |now| Self::At(deadline_after(now, duration)))
    }

    fn deadline(&self) -> Option<Instant> {
        match *self {
            Self::At(deadline) => Some(deadline),
            Self::Never(_) | Self::After(_) => None,
        }
    }
}

impl From<Option<Instant>> for Limit {
    fn from(deadline: Option<Instant>) -> Self {
        deadline.map_or(Self::Never(None), Self::At)
    }
}

impl<F> Timeout<F> {
    /// The deadline, if there is one and it is known yet.
    pub fn when(&self) -> Option<Instant> {
        self.limit.deadline()
    }

    /// Gives it another deadline, or none. Does nothing once it has expired or ended; asyncio raises.
    ///
    /// Who waits already is held to the new deadline, and not to the old one unless that has just been met.
    pub fn reschedule(self: Pin<&mut Self>, deadline: impl Into<Option<Instant>>) {
        let this = self.project();
        if *this.expired || !this.scope.is_running() {
            return;
        }
        match (deadline.into(), &*this.limit) {
            (None, Limit::Never(_)) => {}
            (None, _) => {
                *this.limit = Limit::Never(None);
                this.entry.ring("timeout"); // so that who waits is polled, and kept (T6)
            }
            (Some(deadline), _) => {
                let before = mem::replace(this.limit, Limit::At(deadline));
                this.entry.move_to("timeout", deadline);
                if let Limit::Never(Some(waits)) = before {
                    waits.wake(); // to set the timer
                }
            }
        }
    }

    /// Whether the deadline was met. It gives its value all the same if the future catches that and is ready.
    #[doc(alias = "is_elapsed")]
    pub fn expired(&self) -> bool {
        self.expired
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    /// # Panics
    ///
    /// When it is polled after its end, and as [`timeout`] says.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Limit::After(duration) = *this.limit {
            // Before the future has its turn, which may take a while.
            let now = this.entry.now("timeout");
            *this.limit = now.map_or(Limit::After(duration), |now| Limit::At(deadline_after(now, duration)));
        }
        if let Poll::Ready(outcome) = this.scope.poll_until(this.limit.deadline(), this.inner, cx) {
            this.entry.clear();
            if let Limit::Never(waits) = this.limit {
                *waits = None;
            }
            return Poll::Ready(outcome.map_err(|_| Elapsed));
        }
        if this.scope.is_running() && !*this.expired {
            match this.limit {
                Limit::Never(waits) => {
                    this.entry.clear();
                    match waits {
                        Some(kept) => kept.clone_from(cx.waker()),
                        None => *waits = Some(cx.waker().clone()),
                    }
                }
                // T2, T3. What has passed already fires in the next turn.
                Limit::At(deadline) => {
                    if or_panic(this.entry.poll("timeout", *deadline, cx.waker())) {
                        *this.expired = true;
                        this.scope.ask(DEADLINE); // T4
                        cx.waker().wake_by_ref();
                    }
                }
                Limit::After(_) => or_panic(this.entry.now("timeout").map(drop)),
            }
        }
        watch::wait_many(cx.waker(), "timeout", || this.limit.deadline().map_or(On::Nothing, On::Until));
        Poll::Pending
    }
}

/// What those who catch inside are told.
const DEADLINE: Reason = Reason::new("deadline");

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.inner {
            None if self.expired => "expired",
            None => "done",
            Some(_) if self.expired => "expiring",
            Some(_) if self.entry.is_set() || matches!(self.limit, Limit::Never(Some(_))) => "waiting",
            Some(_) => "new",
        };
        write!(f, "Timeout [{state}]")
    }
}
