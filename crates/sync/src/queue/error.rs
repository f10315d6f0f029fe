//! What queues fail with. What was handed in comes back.

use std::error::Error;
use std::fmt;

/// The queue was shut down; here is what was to be put, if anything was.
///
/// # Examples
///
/// ```
/// use evenloop_sync::{Queue, QueueShutDown};
/// # futures::executor::block_on(async {
/// let queue = Queue::new(0);
/// queue.shutdown(false);
/// assert_eq!(queue.put("late").await, Err(QueueShutDown("late")), "the item comes back");
/// assert_eq!(queue.get().await, Err(QueueShutDown(())));
/// # });
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct QueueShutDown<T = ()>(pub T);

/// Why [`put_nowait`](crate::Queue::put_nowait) did not put; here is the item.
///
/// # Examples
///
/// ```
/// use evenloop_sync::{PutNowaitError, Queue};
///
/// let queue = Queue::new(1);
/// queue.put_nowait("first")?;
/// let Err(PutNowaitError::QueueFull(item)) = queue.put_nowait("second") else { unreachable!() };
/// assert_eq!(item, "second");
/// queue.shutdown(false);
/// assert_eq!(queue.put_nowait("third").unwrap_err().into_inner(), "third");
/// # Ok::<(), PutNowaitError<&str>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[doc(alias("QueueFull", "TrySendError"))]
pub enum PutNowaitError<T> {
    /// Every slot is taken, or promised to a putter that waits.
    QueueFull(T),
    /// The queue was shut down.
    QueueShutDown(T),
}

/// Why [`get_nowait`](crate::Queue::get_nowait) did not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias("QueueEmpty", "TryRecvError"))]
pub enum GetNowaitError {
    /// There is no item, or each is promised to a getter that waits.
    QueueEmpty,
    /// The queue was shut down and is empty.
    QueueShutDown,
}

impl<T> QueueShutDown<T> {
    /// Takes the item back.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> PutNowaitError<T> {
    /// Takes the item back.
    pub fn into_inner(self) -> T {
        match self {
            Self::QueueFull(item) | Self::QueueShutDown(item) => item,
        }
    }
}

impl<T> fmt::Debug for QueueShutDown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueueShutDown")
    }
}

impl<T> fmt::Display for QueueShutDown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the queue was shut down")
    }
}

impl<T> Error for QueueShutDown<T> {}

impl<T> fmt::Debug for PutNowaitError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QueueFull(_) => "QueueFull",
            Self::QueueShutDown(_) => "QueueShutDown",
        })
    }
}

impl<T> fmt::Display for PutNowaitError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QueueFull(_) => "the queue is full",
            Self::QueueShutDown(_) => "the queue was shut down",
        })
    }
}

impl<T> Error for PutNowaitError<T> {}

impl fmt::Display for GetNowaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QueueEmpty => "the queue is empty",
            Self::QueueShutDown => "the queue was shut down and is empty",
        })
    }
}

impl Error for GetNowaitError {}
