//! A queue that gives out its youngest item first.

use crate::queue::state::State;
use crate::queue::{Lifo, Queue};
use crate::spin_lock::SpinLock;
use std::fmt;
use std::ops::Deref;

/// A [`Queue`] whose youngest item comes out first.
///
/// It is a `Queue` in all else, and has its methods: `put`, `get`, `join`, `shutdown` and the rest. Getters and putters
/// that wait are chosen first come, first served, as there.
///
/// # Examples
///
/// ```
/// use evenloop_sync::LifoQueue;
/// # futures::executor::block_on(async {
/// let queue = LifoQueue::new(0);
/// (1..=3).try_for_each(|item| queue.put_nowait(item))?;
/// assert_eq!(queue.get().await?, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct LifoQueue<T>(Queue<T, Lifo<T>>);

impl<T> LifoQueue<T> {
    /// An empty queue for `maxsize` items; 0 means any number.
    #[cfg(not(evenloop_loom))]
    pub const fn new(maxsize: usize) -> Self {
        Self(Queue::with_lock(SpinLock::new(State::new(Lifo::new(), maxsize)), maxsize))
    }

    /// An empty queue for `maxsize` items; 0 means any number.
    #[cfg(evenloop_loom)]
    pub fn new(maxsize: usize) -> Self {
        Self(Queue::with_lock(SpinLock::new(State::new(Lifo::new(), maxsize)), maxsize))
    }
}

impl<T> Deref for LifoQueue<T> {
    type Target = Queue<T, Lifo<T>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T> Default for LifoQueue<T> {
    /// A queue for any number of items.
    fn default() -> Self {
        Self::new(0)
    }
}

impl<T> fmt::Debug for LifoQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_as("LifoQueue", f)
    }
}
