//! The delivery of one or more requests, to be answered.

use super::cancellation::Cancellation;
use super::frames;
use super::hold::Hold;
use super::inbox::{Answer, Inbox};
use super::marks::Home;
use super::reason::Reason;
use super::round;
use crate::shim::Arc;
use crate::wake_batch::for_each;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The code inside a [`catch_cancel`](super::catch_cancel) was cancelled, and somebody waits for the answer.
///
/// It bears every request that was delivered with it. There are three answers:
///
/// - [`absorb`](Self::absorb): this code outlives the cancellation. It is over if all who were asked say so.
/// - [`resume`](Self::resume): clean-up is done, the cancellation goes on its way. Does not return.
/// - dropping it passes on, too: the next code outside that catches is asked, or the scope ends, at the next `await`
///   that has to wait. So clean-up that is itself dropped, whatever by, loses nobody's request.
///
/// # Examples
///
/// ```
/// use evenloop_core::cancel::{CancelScope, catch_cancel};
/// # futures::executor::block_on(async {
/// let scope = CancelScope::new();
/// let block = scope.run(async {
///     let error = catch_cancel(std::future::pending::<()>()).await.unwrap_err();
///     assert_eq!(error.reason().text(), Some("lunch"));
///     error.absorb(); // this code goes on
///     "went on"
/// });
/// let ask = async { scope.cancel("lunch") };
/// let (outcome, asked) = futures::join!(block, ask);
/// assert!(asked);
/// assert_eq!(outcome.unwrap(), "went on");
/// # });
/// ```
#[must_use = "dropping it passes the cancellation on; `absorb` ends it, `resume` awaits its way"]
#[doc(alias = "CancelledError")]
pub struct Cancelled {
    /// Not empty until the answer is given.
    deliveries: Vec<Delivery>,
}

/// One request, delivered.
pub(crate) struct Delivery {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) id: u64,
    /// Who is told of the answer. Taken by it.
    pub(crate) home: Home,
    pub(crate) cancellation: Cancellation,
}

impl Delivery {
    fn answer(&mut self, answer: Answer) {
        round::answer(&self.inbox, self.id, self.home.take(), answer).wake(&self.inbox);
    }
}

impl Cancelled {
    pub(crate) fn new(deliveries: Vec<Delivery>) -> Self {
        debug_assert!(!deliveries.is_empty(), "somebody asked");
        Self { deliveries }
    }

    /// The reason of the first of the requests that were delivered with this: see [`reasons`](Self::reasons).
    pub fn reason(&self) -> &Reason {
        self.cancellation().reason()
    }

    /// The reasons of all requests that were delivered with this, outermost scope first.
    pub fn reasons(&self) -> impl Iterator<Item = &Reason> {
        self.cancellations().map(Cancellation::reason)
    }

    /// The first of the cancellations that this bears, for those whom this code ends because of it.
    pub fn cancellation(&self) -> &Cancellation {
        &self.deliveries[0].cancellation
    }

    /// All that this bears, outermost scope first.
    pub(crate) fn cancellations(&self) -> impl Iterator<Item = &Cancellation> {
        self.deliveries.iter().map(|delivery| &delivery.cancellation)
    }

    /// Ends the cancellation here: this code goes on as if it had not been asked.
    ///
    /// If the same request was also delivered elsewhere (in another branch of a `join!`) and is passed on there, it
    /// goes on nevertheless.
    pub fn absorb(mut self) {
        self.answer(|| Answer::Absorb);
    }

    /// Passes the cancellation on and waits for it: never returns.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** The answer is given by the call, dropping the future takes nothing back.
    ///
    /// # Panics
    ///
    /// The future panics when it is polled outside of every scope whose request it bears: there it would wait for ever.
    pub fn resume(mut self) -> Resume {
        let deliveries = std::mem::take(&mut self.deliveries);
        let held = |delivery: Delivery| (Hold::new(delivery.home.clone()), delivery);
        let mut resume = Resume { deliveries: deliveries.into_iter().map(held).collect() };
        for_each(&mut resume.deliveries, |(hold, delivery)| delivery.answer(Answer::Resume(hold.clone())));
        resume
    }

    /// Joins the deliveries of `other` to this one: one answer serves both.
    pub fn merge(&mut self, mut other: Self) {
        self.deliveries.append(&mut other.deliveries);
    }

    /// Outermost scope first, and for each the oldest request.
    pub(crate) fn sort(&mut self) {
        let around = frames::around();
        let outside =
            |delivery: &Delivery| around.iter().rposition(|inbox| Arc::ptr_eq(inbox, &delivery.inbox));
        self.deliveries.sort_by_key(|delivery| (std::cmp::Reverse(outside(delivery)), delivery.id));
    }

    /// Puts `other` to what was caught before, if anything was.
    pub fn gather(before: &mut Option<Self>, other: Self) {
        match before {
            Some(before) => before.merge(other),
            None => *before = Some(other),
        }
    }

    fn answer(&mut self, answer: impl Fn() -> Answer) {
        for_each(std::iter::from_fn(|| self.deliveries.pop()), |mut delivery| delivery.answer(answer()));
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        self.answer(|| Answer::PassOn);
    }
}

impl fmt::Debug for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cancelled ")?;
        f.debug_list().entries(self.reasons()).finish()
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason().fmt(f)
    }
}

impl Error for Cancelled {}

/// The future of [`Cancelled::resume`]: never ready, ends with the scope whose request was passed on.
#[must_use = "code after the clean-up runs on unless this is awaited"]
pub struct Resume {
    deliveries: Vec<(Arc<Hold>, Delivery)>,
}

impl Resume {
    /// Whether nobody waits here any more, because the code around this caught the cancellation in its turn, or the scope
    /// has ended. For a future that may be awaited by reference, and so again.
    pub fn is_over(&self) -> bool {
        let waits =
            |(hold, delivery): &(Arc<Hold>, Delivery)| hold.holds() && delivery.inbox.is_open(delivery.id);
        !self.deliveries.iter().any(waits)
    }
}

impl Future for Resume {
    type Output = std::convert::Infallible;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let mut deliveries = self.deliveries.iter();
        if deliveries
            .any(|(_, delivery)| frames::is_inside(&delivery.inbox) && delivery.inbox.is_open(delivery.id))
        {
            return Poll::Pending;
        }
        panic!(
            "`Cancelled::resume` needs to be awaited inside the scope that was cancelled ({}): \
             here it would wait for ever; drop the `Cancelled` or `absorb` it instead",
            self.deliveries[0].1.cancellation.reason()
        );
    }
}

impl Drop for Resume {
    fn drop(&mut self) {
        for (hold, delivery) in &self.deliveries {
            delivery.inbox.end_hold(delivery.id, hold);
        }
    }
}

impl fmt::Debug for Resume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resume ")?;
        f.debug_list()
            .entries(self.deliveries.iter().map(|(_, delivery)| delivery.cancellation.reason()))
            .finish()
    }
}
