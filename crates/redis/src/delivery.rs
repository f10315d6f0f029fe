//! An item that a worker has.

use crate::error::AnswerError;
use crate::queue::Inner;
use crate::script::milliseconds;
use evenloop_core::shim::StdArc;
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

/// An item, for as long as the queue's visibility time; [`task_done`](Self::task_done) finishes it.
///
/// Dropped without that, it is given to another worker when its time is up: a drop cannot wait for the server.
/// [`give_back`](Self::give_back) does it at once.
///
/// # Examples
///
/// ```
/// use evenloop_redis::{AnswerError, Delivery};
///
/// async fn work(letter: Delivery<String>) -> Result<(), AnswerError> {
///     match letter.attempts() {
///         0..3 if letter.is_empty() => letter.give_back().await, // somebody else may try
///         _ => letter.task_done().await,
///     }
/// }
/// # let _ = work;
/// ```
#[must_use = "say `task_done` when the item is done, or it is delivered again"]
pub struct Delivery<T> {
    item: T,
    id: String,
    attempts: u64,
    inner: StdArc<Inner>,
}

impl<T> Delivery<T> {
    pub(crate) fn new(item: T, id: String, attempts: u64, inner: StdArc<Inner>) -> Self {
        Self { item, id, attempts, inner }
    }

    pub(crate) fn try_map<U, E>(
        self,
        map: impl FnOnce(&T) -> Result<U, E>,
    ) -> Result<Delivery<U>, (Self, E)> {
        match map(&self.item) {
            Ok(item) => Ok(Delivery { item, id: self.id, attempts: self.attempts, inner: self.inner }),
            Err(error) => Err((self, error)),
        }
    }

    /// How often the item has been delivered, this time included: more than once after a worker died, or took too long.
    pub fn attempts(&self) -> u64 {
        self.attempts
    }

    /// The server's name for the item, in order of putting: `1716239022301-0`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Finishes the item: it leaves the queue, and [`join`](crate::RemoteQueue::join) counts it no more. May be said again, after
    /// the server was away, say: what is finished stays so.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** The item may be finished or not; to say it again tells.
    ///
    /// # Errors
    ///
    /// [`AnswerError::Lost`] if the time was up and another worker has the item, [`AnswerError::Gone`] if the queue was
    /// destroyed; what the server said otherwise.
    pub async fn task_done(&self) -> Result<(), AnswerError> {
        self.answer("task_done", "done", Duration::ZERO).await
    }

    /// Gives the item `more` time from now on, instead of what it had left.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** The item may have its new time or the old one.
    ///
    /// # Errors
    ///
    /// As [`task_done`](Self::task_done).
    pub async fn extend(&self, more: Duration) -> Result<(), AnswerError> {
        self.answer("extend", "extend", more).await
    }

    /// Gives the item back: the next who asks gets it. Until then it waits as a new one does: `qsize` counts it, and an
    /// immediate `shutdown` throws it away.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** The item may be given back or not; if not, it comes back when its time is up.
    ///
    /// # Errors
    ///
    /// As [`task_done`](Self::task_done).
    pub async fn give_back(&self) -> Result<(), AnswerError> {
        self.answer("give_back", "back", Duration::ZERO).await
    }

    async fn answer(&self, call: &'static str, word: &str, more: Duration) -> Result<(), AnswerError> {
        let inner = &*self.inner;
        let mut answer = inner.keys.call(&inner.scripts.answer);
        answer.arg(&inner.worker).arg(&self.id).arg(self.attempts).arg(word).arg(milliseconds(more));
        let said: String = inner.run(call, &answer).await?;
        match (said.as_str(), word) {
            ("ours", _) | ("finished", "done") => Ok(()),
            _ => Err(AnswerError::Lost),
        }
    }
}

impl<T> Deref for Delivery<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.item
    }
}

impl<T: fmt::Debug> fmt::Debug for Delivery<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { item, id, attempts, .. } = self;
        f.debug_struct("Delivery")
            .field("item", item)
            .field("id", id)
            .field("attempts", attempts)
            .finish_non_exhaustive()
    }
}
