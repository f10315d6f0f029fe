//! A scope that others cancel, by a handle.

use super::cancellation::Cancellation;
use super::frames::{self, Kind};
use super::inbox::{Inbox, Life};
use super::reason::Reason;
use super::scope::Scope;
use crate::runtime::Runtime;
use crate::shim::{Arc, StdArc};
use crate::timers::{TimerKey, Timers};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

/// A block of code that can be cancelled from anywhere, and has a deadline that can be moved.
///
/// The handle and its clones speak of the same scope, from any thread. A scope is used once.
///
/// # Examples
///
/// ```
/// use evenloop_core::cancel::CancelScope;
///
/// # let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
/// let scope = CancelScope::new();
/// let mut run = Box::pin(scope.run(std::future::pending::<()>()));
/// assert!(run.as_mut().poll(&mut cx).is_pending());
/// scope.cancel("no longer wanted");
/// let std::task::Poll::Ready(Err(reason)) = run.as_mut().poll(&mut cx) else { panic!() };
/// assert_eq!(reason.text(), Some("no longer wanted"));
/// # use std::future::Future;
/// ```
#[derive(Clone)]
#[doc(alias("CancellationToken", "move_on_after"))]
pub struct CancelScope {
    inbox: Arc<Inbox>,
}

impl CancelScope {
    /// A scope without a deadline. One allocation.
    pub fn new() -> Self {
        Self { inbox: Inbox::new() }
    }

    /// A scope that is cancelled at `deadline`, with the reason "deadline".
    pub fn with_deadline(deadline: Instant) -> Self {
        let scope = Self::new();
        scope.set_deadline(Some(deadline));
        scope
    }

    /// Runs `future` inside this scope. `Err`: the scope was cancelled, and `future` was dropped after everyone inside
    /// who catches had been asked.
    ///
    /// A scope that was cancelled before drops `future` without polling it. A deadline is looked at after each poll, so a
    /// future that is ready when it is polled is never cancelled by it, and one that is not takes one more poll to end.
    ///
    /// # Cancel safety
    ///
    /// As `future`: dropping this drops it.
    ///
    /// # Panics
    ///
    /// When polled: if the scope was entered before; or if it has a deadline and the current runtime has no timers.
    pub fn run<F: Future>(&self, future: F) -> Run<F> {
        self.run_in(Kind::Scope, future)
    }

    /// As [`run`](Self::run), for code that stands for a task: what is [raised](super::raise) inside, as by awaiting a
    /// cancelled task, cancels this scope.
    ///
    /// # Cancel safety
    ///
    /// # Panics
    ///
    /// As `run`.
    pub fn run_as_task<F: Future>(&self, future: F) -> Run<F> {
        self.run_in(Kind::Stand, future)
    }

    fn run_in<F: Future>(&self, kind: Kind, future: F) -> Run<F> {
        Run {
            future: Some(future),
            scope: Scope::of(kind, Some(self.inbox.clone())),
            alarm: Alarm { seen: None, wanted: None, entry: None },
            inbox: self.inbox.clone(),
            entered: false,
        }
    }

    /// Asks the scope to end. From any thread, at any time. False: it has ended already.
    ///
    /// Each call is a request of its own: a second one strikes also the clean-up that the first one caused. Whoever catches
    /// around that is told of both at once.
    pub fn cancel(&self, reason: impl Into<Reason>) -> bool {
        self.cancel_by(&Cancellation::new(reason))
    }

    /// As [`cancel`](Self::cancel), for one of several who are asked at once: by the same cancellation a scope is asked once.
    pub fn cancel_by(&self, cancellation: &Cancellation) -> bool {
        match self.inbox.ask(cancellation) {
            None => false,
            Some(effects) => {
                effects.wake(&self.inbox);
                true
            }
        }
    }

    /// Whether the scope was ever asked to end, by [`cancel`](Self::cancel) or by its deadline.
    pub fn cancel_called(&self) -> bool {
        self.inbox.was_asked()
    }

    /// Whether the scope ended because it was asked: false if the code inside was ready first, or absorbed the
    /// cancellation.
    pub fn cancelled_caught(&self) -> bool {
        self.inbox.was_taken()
    }

    /// When the scope is going to be cancelled.
    pub fn deadline(&self) -> Option<Instant> {
        self.inbox.deadline()
    }

    /// Moves the deadline, or takes it away. From any thread, before or while the scope runs. One that has been met
    /// stays met.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        self.inbox.set_deadline(deadline).wake(&self.inbox);
    }

    /// The nearest deadline of the scopes and timeouts around the code that calls this, as far out as its task or the next
    /// [`shielded`](super::shielded): trio's `current_effective_deadline`. (There a task also knows those around its
    /// group; here whoever starts it hands them on.)
    #[doc(alias = "current_effective_deadline")]
    pub fn nearest_deadline() -> Option<Instant> {
        frames::nearest_deadline()
    }
}

impl Default for CancelScope {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CancelScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let life = match self.inbox.life() {
            Life::New => "new",
            Life::Entered => "entered",
            Life::Ended => "ended",
        };
        write!(f, "CancelScope [{life}, requests: {}]", self.inbox.open())
    }
}

pin_project_lite::pin_project! {
    /// The future of [`CancelScope::run`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Run<F> {
        #[pin]
        future: Option<F>,
        scope: Scope,
        alarm: Alarm,
        inbox: Arc<Inbox>,
        entered: bool,
    }
}

impl<F: Future> Future for Run<F> {
    type Output = Result<F::Output, Reason>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.scope.is_running() && !*this.entered {
            assert!(
                this.inbox.enter(),
                "`CancelScope::run` needs a scope that has not been entered before: make one for each block"
            );
            *this.entered = true;
        }
        let polled = this.scope.poll(this.future, cx);
        // After the future has had its turn: what is ready in time is not lost, and it may have moved the deadline.
        if polled.is_pending() && this.scope.is_running() {
            this.alarm.follow(this.inbox.deadline());
            if let Some(reason) = this.alarm.rings(cx) {
                this.scope.ask(reason);
                cx.waker().wake_by_ref();
            }
        }
        polled
    }
}

impl<F> fmt::Debug for Run<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// The timer entry of a deadline.
struct Alarm {
    /// The deadline as it was found last.
    seen: Option<Instant>,
    /// The same, until it is met.
    wanted: Option<Instant>,
    entry: Option<Entry>,
}

struct Entry {
    timers: StdArc<dyn Timers>,
    key: TimerKey,
    deadline: Instant,
}

impl Alarm {
    /// Takes note of the deadline.
    fn follow(&mut self, deadline: Option<Instant>) {
        if self.seen != deadline {
            (self.seen, self.wanted) = (deadline, deadline);
        }
    }

    /// Sets the timer for the deadline that is wanted. `Some`: it is met.
    fn rings(&mut self, cx: &mut Context<'_>) -> Option<Reason> {
        let Some(deadline) = self.wanted else {
            self.entry = None;
            return None;
        };
        if let Some(entry) = &mut self.entry {
            match entry.timers.update(entry.key, deadline, Some(cx.waker())) {
                Ok(true) => {
                    entry.deadline = deadline;
                    return None;
                }
                Ok(false) if entry.deadline == deadline => {
                    (self.entry, self.wanted) = (None, None);
                    return Some(Reason::new("deadline"));
                }
                // It fired, and was moved before anybody looked.
                Ok(false) => self.entry = None,
                Err(ended) => {
                    (self.entry, self.wanted) = (None, None);
                    return Some(ended.to_string().into());
                }
            }
        }
        let timers = Runtime::current_timers("CancelScope::run").unwrap_or_else(|error| panic!("{error}"));
        match timers.insert(deadline, cx.waker()) {
            Ok(key) => {
                self.entry = Some(Entry { timers, key, deadline });
                None
            }
            Err(ended) => {
                self.wanted = None;
                Some(ended.to_string().into())
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.timers.remove(self.key);
    }
}
