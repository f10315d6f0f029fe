//! A block that can be cancelled, as a part of a future.

use super::cancellation::Cancellation;
use super::frames::{self, Kind, Seat};
use super::inbox::Inbox;
use super::reason::Reason;
use super::turn::{self, Noticed};
use crate::shim::Arc;
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// What a future embeds that can be cancelled by its own decision, such as a timeout. Nothing is allocated until it
/// asks, or somebody inside catches.
///
/// For a scope that others cancel, see [`CancelScope`](super::CancelScope).
pub struct Scope {
    seat: Seat,
    /// A second clone of the waker that the inbox keeps, to compare without a lock.
    kept: Option<Waker>,
    state: State,
    kind: Kind,
}

enum State {
    Running,
    /// The future is dropped; the reason is reported once no request of a scope around this is on its way out through it.
    Taken(Reason),
    Ended,
}

impl Scope {
    /// A scope that nobody has asked anything.
    pub const fn new() -> Self {
        Self::of(Kind::Scope, None)
    }

    /// The same, standing for a task: what is [raised](super::raise) inside is asked of it.
    pub const fn for_a_task() -> Self {
        Self::of(Kind::Stand, None)
    }

    pub(crate) const fn of(kind: Kind, inbox: Option<Arc<Inbox>>) -> Self {
        Self { seat: Seat::new(inbox), kept: None, state: State::Running, kind }
    }

    /// Asks this scope to end, from the next [`poll`](Self::poll) on. Several requests are several requests.
    pub fn ask(&mut self, reason: impl Into<Reason>) {
        self.ask_by(&Cancellation::new(reason));
    }

    /// As [`ask`](Self::ask), for one of several who are asked at once: by the same cancellation a scope is asked once.
    pub fn ask_by(&mut self, cancellation: &Cancellation) {
        if matches!(self.state, State::Running) {
            let inbox = self.seat.inbox.get_or_insert_with(Inbox::new);
            // The caller polls this next, so nobody has to be woken.
            drop(inbox.ask(cancellation));
        }
    }

    /// Whether the future runs or waits: not yet taken, not yet ended.
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running)
    }

    /// A turn of this scope around a poll of `future`. `Err`: the scope has taken a request, and `future` was dropped.
    /// Once it is ready or taken, `future` is empty.
    ///
    /// # Panics
    ///
    /// If it is polled after it has ended.
    pub fn poll<F: Future>(
        &mut self,
        future: Pin<&mut Option<F>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output, Reason>> {
        self.poll_until(None, future, cx)
    }

    /// As [`poll`](Self::poll), for a scope whose owner is going to ask it at `deadline`: so that the code inside can know
    /// ([`CancelScope::nearest_deadline`](super::CancelScope::nearest_deadline)).
    ///
    /// # Panics
    ///
    /// If it is polled after it has ended.
    pub fn poll_until<F: Future>(
        &mut self,
        deadline: Option<Instant>,
        mut future: Pin<&mut Option<F>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output, Reason>> {
        match self.state {
            State::Running => {}
            State::Taken(_) => return self.report(cx.waker()),
            State::Ended => {
                panic!("the future of a cancel scope or a timeout was polled after it had finished")
            }
        }
        frames::relink(&mut self.seat);
        let mut noticed = None;
        if let Some(inbox) = &self.seat.inbox {
            if !self.kept.as_ref().is_some_and(|kept| kept.will_wake(cx.waker())) {
                inbox.keep_waker(cx.waker());
                self.kept = Some(cx.waker().clone());
            }
            if inbox.asked() {
                let node = self.seat.place.as_ref().map(|place| place.node());
                if let Some(reason) = turn::before(inbox, node, cx.waker()) {
                    return self.take(future, reason, cx.waker());
                }
                noticed = inbox.has_marked().then(|| Noticed::new(cx.waker())); // C8
            }
        }
        let polled = {
            let _entered = frames::enter(&mut self.seat, self.kind, deadline);
            let future = future.as_mut().as_pin_mut().expect("a running scope has its future");
            match &noticed {
                None => future.poll(cx),
                Some(noticed) => future.poll(&mut Context::from_waker(&noticed.clone().into())),
            }
        };
        if let Poll::Ready(value) = polled {
            self.end();
            future.set(None);
            return Poll::Ready(Ok(value));
        }
        if let Some(inbox) = self.seat.inbox.as_ref().filter(|inbox| inbox.asked()) {
            let node = self.seat.place.as_ref().map(|place| place.node());
            let woken = noticed.is_some_and(|noticed| noticed.was_woken());
            if let Some(reason) = turn::after(inbox, node, cx.waker(), woken) {
                return self.take(future, reason, cx.waker());
            }
        }
        Poll::Pending
    }

    fn take<F: Future>(
        &mut self,
        mut future: Pin<&mut Option<F>>,
        reason: Reason,
        waker: &Waker,
    ) -> Poll<Result<F::Output, Reason>> {
        self.state = State::Taken(reason);
        future.set(None); // Outside every lock, with the parent as the current node.
        self.report(waker)
    }

    /// Says that this scope was taken, unless a scope around it is about to end as well, by a request that goes out through
    /// this one. (One that does not may wait for this one: a clean-up further out uses it, say.)
    fn report<T>(&mut self, waker: &Waker) -> Poll<Result<T, Reason>> {
        let crossed = self.seat.place.as_ref().map(|place| place.node().crossed());
        if crossed.is_some_and(|crossed| frames::is_being_left(&crossed, waker)) {
            return Poll::Pending;
        }
        match mem::replace(&mut self.state, State::Ended) {
            State::Taken(reason) => {
                self.end();
                Poll::Ready(Err(reason))
            }
            State::Running | State::Ended => unreachable!("only a taken scope reports"),
        }
    }

    /// Leaves the tree and refuses requests from here on.
    fn end(&mut self) {
        self.state = State::Ended;
        self.seat.place = None;
        self.kept = None;
        if let Some(inbox) = &self.seat.inbox {
            inbox.end().wake_others();
        }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        if !matches!(self.state, State::Ended) {
            self.end();
        }
    }
}

impl Default for Scope {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Running => f.write_str("Scope [running]"),
            State::Taken(reason) => write!(f, "Scope [{reason}]"),
            State::Ended => f.write_str("Scope [ended]"),
        }
    }
}
