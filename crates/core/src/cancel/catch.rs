//! Code that wants to know.

use super::cancelled::{Cancelled, Delivery};
use super::frames::{self, Kind, Seat};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Runs `future`; a cancellation of a scope around it drops `future` and is given to the caller, who cleans up and
/// answers.
///
/// Nothing is allocated unless the first poll of `future` is pending and some scope is around this; then one node of at
/// most 96 bytes. Under no scope (nothing that could be cancelled) it only runs `future`.
///
/// # Cancel safety
///
/// As `future`: dropping this drops it. A delivery that was made and not answered is passed on.
///
/// # Examples
///
/// ```
/// use evenloop_core::cancel::{CancelScope, catch_cancel};
///
/// # let log = std::cell::RefCell::new(Vec::new());
/// # let scope = CancelScope::new();
/// # let body = async {
/// match catch_cancel(std::future::pending::<()>()).await {
///     Ok(()) => {}
///     Err(cancelled) => {
///         log.borrow_mut().push(format!("rolling back: {cancelled}"));
///         // … here the clean-up may await …
///         cancelled.resume().await;
///     }
/// }
/// # };
/// # let mut run = std::pin::pin!(scope.run(body));
/// # let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
/// # assert!(run.as_mut().poll(&mut cx).is_pending());
/// # scope.cancel("shutdown");
/// # assert!(run.as_mut().poll(&mut cx).is_ready());
/// # assert_eq!(*log.borrow(), ["rolling back: cancelled: shutdown"]);
/// # use std::future::Future;
/// ```
#[doc(alias = "CancelledError")]
pub fn catch_cancel<F: Future>(future: F) -> CatchCancel<F> {
    CatchCancel { catcher: Catcher::new(), future: Some(future) }
}

pin_project_lite::pin_project! {
    /// The future of [`catch_cancel`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct CatchCancel<F> {
        catcher: Catcher,
        #[pin]
        future: Option<F>,
    }
}

impl<F: Future> Future for CatchCancel<F> {
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.catcher.poll(this.future, cx)
    }
}

impl<F> fmt::Debug for CatchCancel<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatchCancel")
            .field("catcher", &self.catcher)
            .field("done", &self.future.is_none())
            .finish()
    }
}

/// What a hand-written future embeds to catch cancellations: [`catch_cancel`] without its future.
///
/// It may deliver more than once: after a delivery it is in no tree, and the next poll joins again.
pub struct Catcher {
    seat: Seat,
    /// A second clone of the waker that the node keeps, to compare without a lock.
    kept: Option<Waker>,
}

impl Catcher {
    /// A catcher that nobody finds yet.
    pub const fn new() -> Self {
        Self { seat: Seat::new(None), kept: None }
    }

    /// Polls `future` inside this catcher. Once it is ready or cancelled, `future` is emptied.
    ///
    /// # Panics
    ///
    /// If `future` is empty.
    #[inline]
    pub fn poll<F: Future>(
        &mut self,
        mut future: Pin<&mut Option<F>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output, Cancelled>> {
        frames::relink(&mut self.seat);
        if let Some(cancelled) = self.deliver() {
            return Poll::Ready(Err(self.end(future, cancelled)));
        }
        let polled = {
            let _entered = frames::enter(&mut self.seat, Kind::Catcher, None);
            future.as_mut().as_pin_mut().expect("`catch_cancel` was polled after it had finished").poll(cx)
        };
        match polled {
            Poll::Ready(value) => {
                self.leave();
                future.set(None);
                Poll::Ready(Ok(value))
            }
            Poll::Pending => {
                self.join(cx.waker());
                // Somebody inside may have passed on in this very poll: then this one need not wait for the next turn.
                match self.deliver() {
                    Some(cancelled) => Poll::Ready(Err(self.end(future, cancelled))),
                    None => Poll::Pending,
                }
            }
        }
    }

    /// Ends the code inside. The requests that a clean-up there had in hand come with the one that ends it: else they would
    /// pass this catcher by, and strike the clean-up that follows here.
    fn end<F>(&mut self, mut future: Pin<&mut Option<F>>, mut cancelled: Cancelled) -> Cancelled {
        future.set(None); // Should this panic, `cancelled` is dropped: passed on.
        if let Some(others) = self.deliver() {
            cancelled.merge(others);
            cancelled.sort();
        }
        self.leave();
        cancelled
    }

    /// For a future without others inside: joins the tree, and is ready when a cancellation is delivered.
    pub fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<Cancelled> {
        frames::relink(&mut self.seat);
        match self.deliver() {
            Some(cancelled) => {
                self.leave();
                Poll::Ready(cancelled)
            }
            None => {
                self.join(cx.waker());
                Poll::Pending
            }
        }
    }

    /// Leaves the tree: nothing is delivered here any more, unless it is polled again.
    pub fn leave(&mut self) {
        self.seat.place = None;
        self.kept = None;
    }

    fn join(&mut self, waker: &Waker) {
        frames::join(&mut self.seat);
        let Some(place) = &self.seat.place else { return };
        if !self.kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            place.node().keep_waker(waker.clone());
            self.kept = Some(waker.clone());
        }
    }

    /// Delivers what this was asked, and what it is next for.
    #[inline]
    fn deliver(&mut self) -> Option<Cancelled> {
        if self.seat.place.as_ref().is_some_and(|place| place.node().is_marked()) {
            self.deliver_marks()
        } else {
            None
        }
    }

    #[cold]
    fn deliver_marks(&mut self) -> Option<Cancelled> {
        let node = self.seat.place.as_ref()?.node().clone();
        let mut asked = Vec::new();
        for (inbox, id, next) in node.to_deliver() {
            // C5: a mark of a scope that this was moved out of stays, for that scope to pass over.
            if !frames::is_inside(&inbox) {
                continue;
            }
            // Who has joined inside since is asked first, in the next turn.
            if next && !node.innermost(&None, &inbox, id).asked.is_empty() {
                continue;
            }
            asked.push((inbox, id));
        }
        let mut deliveries = Vec::new();
        for (inbox, id, home) in node.deliver(asked) {
            if let Some(cancellation) = inbox.deliver(id) {
                for scope in frames::scopes_inside(&inbox) {
                    scope.cross(&inbox, id);
                }
                deliveries.push(Delivery { inbox, id, home, cancellation });
            }
        }
        if deliveries.is_empty() {
            return None;
        }
        Some(Cancelled::new(deliveries))
    }
}

impl Default for Catcher {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Catcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.seat.place.is_some() { "Catcher [in a scope]" } else { "Catcher []" })
    }
}
