//! A task as a scope: what a host embeds, see the head of [`cancel`](super).

use super::cancellation::Cancellation;
use super::cancelled::Cancelled;
use super::frames;
use super::hold::{Raised, RaisedRequest};
use super::inbox::Inbox;
use super::reason::Reason;
use super::tree::Node;
use super::turn;
use crate::shim::Arc;
use std::fmt;
use std::mem;
use std::task::Waker;

/// What a host does next with a task.
#[must_use = "a task that was taken must be dropped"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Go on as if nothing had been asked.
    Go,
    /// The task has taken this request: drop its future, without polling it again, and end it as cancelled.
    Take(Reason),
}

impl From<Option<Reason>> for Turn {
    fn from(taken: Option<Reason>) -> Self {
        taken.map_or(Self::Go, Self::Take)
    }
}

/// What was asked of a task. Empty, and one pointer, until the first request; clones made after that share it, and may be
/// used from any thread.
#[derive(Clone, Default)]
pub struct Requests {
    inbox: Option<Arc<Inbox>>,
}

impl Requests {
    /// Nothing asked, nothing allocated.
    pub const fn new() -> Self {
        Self { inbox: None }
    }

    /// Asks the task to end, and counts it. The caller wakes the task afterwards. False: it has ended.
    ///
    /// Runs no foreign code.
    pub fn request(&mut self, reason: Reason) -> bool {
        self.request_by(&Cancellation::new(reason))
    }

    /// As [`request`](Self::request), for one of several who are asked at once. False: it has come to this task already, or the
    /// task has ended.
    pub fn request_by(&mut self, cancellation: &Cancellation) -> bool {
        self.ask_first_of(std::iter::once(cancellation))
    }

    /// As [`request_by`](Self::request_by), by code that awaits the task and was itself cancelled. Tasks that await each other
    /// do not hand it round for ever, and a task that was asked for the same cause is not asked again.
    pub fn hand_in(&mut self, cancelled: &Cancelled) -> bool {
        self.ask_first_of(cancelled.cancellations())
    }

    fn ask_first_of<'a>(&mut self, of: impl Iterator<Item = &'a Cancellation>) -> bool {
        self.inbox.get_or_insert_with(Inbox::new).ask_task(of)
    }

    /// As [`request`](Self::request), for what was [raised](super::raise) inside the task.
    pub fn raise(&mut self, raised: RaisedRequest) -> bool {
        self.inbox.get_or_insert_with(Inbox::new).raise_in_task(raised)
    }

    /// Takes one off the count and withdraws the newest request that nobody has delivered yet and that no code inside has
    /// [raised](super::raise). Answers the count that is left; zero stays zero.
    pub fn uncancel(&self) -> u32 {
        self.inbox.as_ref().map_or(0, |inbox| inbox.uncancel())
    }

    /// How many times the task was asked, less the times that was taken back.
    pub fn count(&self) -> u32 {
        self.inbox.as_ref().map_or(0, |inbox| inbox.count())
    }

    /// As [`hold_open`](super::hold_open), for the task that this thread polls: its first request may have come in this very
    /// poll, and code inside does not see it before the next.
    pub fn hold_open(&self) -> Option<Raised> {
        self.inbox.as_ref().filter(|inbox| inbox.open() > 0).and_then(frames::hold_in_root)
    }

    /// How many requests are open: not taken, not absorbed, not withdrawn.
    pub fn open(&self) -> usize {
        self.inbox.as_ref().map_or(0, |inbox| inbox.open())
    }

    /// Whether nothing was ever asked.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.inbox.is_none()
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inbox {
            None => f.write_str("Requests []"),
            Some(inbox) => write!(f, "Requests {inbox:?}"),
        }
    }
}

/// A task as the root of its tree: the part that belongs to whoever polls it. One pointer.
#[derive(Default)]
pub struct Root {
    node: Option<Arc<Node>>,
}

impl Root {
    /// A root with nobody inside, nothing allocated.
    pub const fn new() -> Self {
        Self { node: None }
    }

    /// Whether nobody inside the task catches or can be cancelled.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.node.is_none()
    }

    /// To be called before each poll with the waker of that poll.
    #[inline]
    pub fn before(&mut self, requests: &Requests, waker: &Waker) -> Turn {
        match &requests.inbox {
            None => Turn::Go,
            Some(inbox) => self.before_asked(inbox, waker),
        }
    }

    #[cold]
    fn before_asked(&mut self, inbox: &Arc<Inbox>, waker: &Waker) -> Turn {
        inbox.enter();
        if !inbox.asked() {
            return Turn::Go;
        }
        turn::before(inbox, self.node.as_ref(), waker).into()
    }

    /// Polls the task's future: whatever `poll` polls is inside this task. A closure rather than a guard, so that no
    /// task is ever left out of order.
    #[inline]
    pub fn enter<R>(&mut self, requests: &Requests, poll: impl FnOnce() -> R) -> R {
        let unwinds = frames::Unwinds; // the last to be dropped
        let _entered = frames::enter_root(&mut self.node, requests.inbox.as_ref());
        let polled = poll();
        mem::forget(unwinds);
        polled
    }

    /// As [`enter`](Self::enter), for a root that is empty and a task of which nothing was asked, for less.
    #[inline]
    pub fn enter_bare<R>(&mut self, poll: impl FnOnce() -> R) -> R {
        debug_assert!(self.is_empty(), "a root with somebody inside is entered with `enter`");
        let unwinds = frames::Unwinds; // the last to be dropped
        let _entered = frames::enter_bare(&mut self.node);
        let polled = poll();
        mem::forget(unwinds);
        polled
    }

    /// To be called after each poll after which this is not empty: what was [raised](super::raise) in it, which is to be
    /// [handed in](Requests::raise) before anything else follows. Of a poll that panicked nothing is left.
    pub fn take_raised(&mut self) -> Option<RaisedRequest> {
        frames::take_raised()
    }

    /// To be called after each poll that was pending. `woken`: the task was woken since that poll began, and so another
    /// comes. Then a catcher that was asked and not polled may be polled yet; else it is passed over.
    #[inline]
    pub fn after(&mut self, requests: &Requests, waker: &Waker, woken: bool) -> Turn {
        match &requests.inbox {
            None => Turn::Go,
            Some(inbox) => self.after_asked(inbox, waker, woken),
        }
    }

    #[cold]
    fn after_asked(&mut self, inbox: &Arc<Inbox>, waker: &Waker, woken: bool) -> Turn {
        if !inbox.asked() {
            return Turn::Go;
        }
        turn::after(inbox, self.node.as_ref(), waker, woken).into()
    }

    /// To be called once when the task's future is ready, and also after it panicked or was dropped: from here on requests
    /// are refused, and what keeps the requests alive keeps nothing else.
    ///
    /// A request that no catcher delivered wins over the value: the task ends cancelled.
    pub fn finish(&mut self, requests: &Requests) -> Turn {
        let Some(inbox) = &requests.inbox else { return Turn::Go };
        let unheard = inbox.unheard();
        inbox.end().wake_others();
        unheard.into()
    }

    /// The open requests of the scopes inside this task, of those that have asked a catcher.
    pub fn open_inside(&self) -> usize {
        self.node.as_ref().map_or(0, |node| node.open_inside())
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.node.is_some() { "Root [with catchers]" } else { "Root []" })
    }
}
