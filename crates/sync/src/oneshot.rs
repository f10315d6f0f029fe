//! One value from one task to another.
//!
//! The [`Sender`] sends once, the [`Receiver`] is a future of the value. Each learns when the other one is gone. The
//! halves share one allocation; how they agree stands in `slot.rs`, this file is its public face.
//!
//! ```text
//! Sender                                  Receiver
//! open ── send ────► value on its way     waiting ──► the value
//!  ├── dropped ────► nothing will come    waiting ──► RecvError
//!  └── closed().await ◄───────────────────── dropped, or close()
//! ```
//!
//! O1. A value that was sent is taken by the receiver or dropped with it: exactly once, and never inside the protocol.
//! O2. `send` answers Ok iff the receiver had not closed: then `closed` never completes for nothing, and a value that is
//!     refused comes back.
//! O3. A receiver that gave its answer says [`RecvError`] from then on. No order of calls panics.
//!
//! asyncio has no such type: there, a `Future` serves.

use crate::slot::{self, Giver, Outlook, Taker};
use futures_core::future::FusedFuture;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A sender and a receiver of one value.
///
/// One allocation, of 40 bytes beside the value on a 64-bit machine.
///
/// # Examples
///
/// ```
/// use evenloop_sync::oneshot;
/// # futures::executor::block_on(async {
/// let (sender, receiver) = oneshot::channel();
/// sender.send("an answer")?;
/// assert_eq!(receiver.await, Ok("an answer"));
/// # Ok::<(), oneshot::SendError<&str>>(())
/// # }).unwrap();
/// ```
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (giver, taker) = slot::pair();
    (Sender { giver }, Receiver { taker: Some(taker) })
}

/// Sends one value, once.
///
/// Dropping it without sending ends the receiver's wait with [`RecvError`].
#[must_use = "dropping the sender tells the receiver that nothing will come"]
pub struct Sender<T> {
    giver: Giver<T>,
}

/// The future of the value.
///
/// It may be awaited by reference (`(&mut receiver).await`) and again after that was dropped.
///
/// # Cancel safety
///
/// **Cancel safe.** Dropping a `&mut receiver` that is being awaited loses nothing. Dropping the receiver itself drops the
/// value if it was sent; a value sent later comes back to its sender.
#[must_use = "dropping the receiver tells the sender that nobody waits"]
pub struct Receiver<T> {
    /// None after the answer.
    taker: Option<Taker<T>>,
}

/// The receiver is gone or has closed; here is the value.
///
/// # Examples
///
/// ```
/// use evenloop_sync::oneshot;
///
/// let (sender, receiver) = oneshot::channel();
/// drop(receiver);
/// assert_eq!(sender.send("too late").unwrap_err().into_inner(), "too late");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendError<T>(pub T);

/// Nothing will come: the sender was dropped without sending, the receiver closed before it sent, or the value was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecvError;

/// Why [`Receiver::try_recv`] has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// Nothing was sent yet.
    Empty,
    /// Nothing will come, as for [`RecvError`].
    Closed,
}

// === impl Sender ===

impl<T> Sender<T> {
    /// Sends the value and wakes the receiver.
    ///
    /// # Errors
    ///
    /// The receiver is gone or has closed; the value comes back. Ok does not promise that the value will be looked at: the
    /// receiver may still be dropped, and the value with it.
    #[inline(always)]
    pub fn send(self, value: T) -> Result<(), SendError<T>> {
        self.giver.give(value).map_err(SendError)
    }

    /// Whether the receiver is gone or has closed: a value would come back. Once true, it stays true.
    pub fn is_closed(&self) -> bool {
        self.giver.is_closed()
    }

    /// Waits until the receiver is gone or has closed.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.**
    ///
    /// # Examples
    ///
    /// Work stops when nobody waits for its outcome any more:
    ///
    /// ```
    /// use evenloop_sync::oneshot;
    /// # futures::executor::block_on(async {
    /// let (mut sender, receiver) = oneshot::channel::<u32>();
    /// drop(receiver);
    /// sender.closed().await;
    /// assert_eq!(sender.send(1), Err(oneshot::SendError(1)));
    /// # });
    /// ```
    pub fn closed(&mut self) -> Closed<'_, T> {
        Closed { sender: self }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match () {
            () if self.is_closed() => "Sender [closed]",
            () if self.giver.is_awaited() => "Sender [open, receivers: 1]",
            () => "Sender [open, receivers: 0]",
        })
    }
}

/// The future of [`Sender::closed`].
#[must_use = "futures do nothing unless awaited"]
pub struct Closed<'a, T> {
    sender: &'a mut Sender<T>,
}

impl<T> Future for Closed<'_, T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.sender.giver.poll_closed(cx.waker())
    }
}

impl<T> Drop for Closed<'_, T> {
    fn drop(&mut self) {
        self.sender.giver.withdraw();
    }
}

impl<T> fmt::Debug for Closed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.sender.is_closed() { "Closed [done]" } else { "Closed [waiting]" })
    }
}

// === impl Receiver ===

impl<T> Receiver<T> {
    /// The value, if it is here. Does not wait.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty): nothing was sent yet. [`Closed`](TryRecvError::Closed): nothing will come.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        match self.taker.as_ref().map(Taker::outlook) {
            Some(Outlook::Open) => Err(TryRecvError::Empty),
            _ => self.finish().map_err(|RecvError| TryRecvError::Closed),
        }
    }

    /// Accepts no value from now on: a value sent later comes back to its sender. One that was sent before can be received
    /// still, without waiting.
    ///
    /// # Examples
    ///
    /// ```
    /// use evenloop_sync::oneshot;
    /// # futures::executor::block_on(async {
    /// let (sender, mut receiver) = oneshot::channel();
    /// receiver.close();
    /// assert!(sender.send(1).is_err());
    /// assert_eq!(receiver.await, Err(oneshot::RecvError));
    /// # });
    /// ```
    pub fn close(&mut self) {
        if let Some(taker) = &mut self.taker {
            taker.close();
        }
    }

    #[inline]
    fn finish(&mut self) -> Result<T, RecvError> {
        self.taker.take().and_then(Taker::end).ok_or(RecvError)
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, RecvError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(taker) = &mut self.taker {
            ready!(taker.poll_ready(cx.waker()));
        }
        Poll::Ready(self.finish())
    }
}

impl<T> FusedFuture for Receiver<T> {
    fn is_terminated(&self) -> bool {
        self.taker.is_none()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.taker {
            None => "Receiver [done]",
            Some(taker) => match taker.outlook() {
                Outlook::Given => "Receiver [value]",
                Outlook::Ended => "Receiver [closed]",
                Outlook::Open if taker.is_waiting() => "Receiver [waiting]",
                Outlook::Open => "Receiver [open]",
            },
        })
    }
}

// The halves move no matter what `T` does: it lives behind a pointer.
impl<T> Unpin for Sender<T> {}
impl<T> Unpin for Receiver<T> {}

// === Errors ===

impl<T> SendError<T> {
    /// Takes the value back.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError").finish_non_exhaustive()
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the receiver is gone or has closed")
    }
}

impl<T> Error for SendError<T> {}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing will come: the sender is gone or the receiver was closed")
    }
}

impl Error for RecvError {}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("nothing was sent yet"),
            Self::Closed => RecvError.fmt(f),
        }
    }
}

impl Error for TryRecvError {}
