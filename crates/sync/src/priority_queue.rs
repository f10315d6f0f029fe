//! A queue that gives out its least item first.

use crate::queue::state::State;
use crate::queue::{Priority, Queue};
use evenloop_core::shim::Mutex;
use std::fmt;
use std::ops::Deref;

/// A [`Queue`] whose least item comes out first. Among equals it is first in, first out (asyncio leaves that open).
///
/// It is a `Queue` in all else, and has its methods: `put`, `get`, `join`, `shutdown` and the rest. Getters and putters
/// that wait are chosen first come, first served, as there. For the greatest first, put [`Reverse`](std::cmp::Reverse)d
/// items.
///
/// Putting and getting compare items, O(log n) times, under the queue's lock: comparing must not use the same queue, which
/// would wait for itself. A comparison that panics leaves the order open and may lose the item at hand; the queue goes on.
///
/// # Examples
///
/// ```
/// use evenloop_sync::PriorityQueue;
/// # futures::executor::block_on(async {
/// let queue = PriorityQueue::new(0);
/// queue.put((2, "later")).await?;
/// queue.put((1, "sooner")).await?;
/// assert_eq!(queue.get().await.unwrap(), (1, "sooner"));
/// # Ok::<(), evenloop_sync::QueueShutDown<(i32, &str)>>(())
/// # }).unwrap();
/// ```
pub struct PriorityQueue<T: Ord>(Queue<T, Priority<T>>);

impl<T: Ord> PriorityQueue<T> {
    /// An empty queue for `maxsize` items; 0 means any number.
    #[cfg(not(evenloop_loom))]
    pub const fn new(maxsize: usize) -> Self {
        Self(Queue::with_lock(Mutex::new(State::new(Priority::new(), maxsize)), maxsize))
    }

    /// An empty queue for `maxsize` items; 0 means any number.
    #[cfg(evenloop_loom)]
    pub fn new(maxsize: usize) -> Self {
        Self(Queue::with_lock(Mutex::new(State::new(Priority::new(), maxsize)), maxsize))
    }
}

impl<T: Ord> Deref for PriorityQueue<T> {
    type Target = Queue<T, Priority<T>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T: Ord> Default for PriorityQueue<T> {
    /// A queue for any number of items.
    fn default() -> Self {
        Self::new(0)
    }
}

impl<T: Ord> fmt::Debug for PriorityQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_as("PriorityQueue", f)
    }
}
