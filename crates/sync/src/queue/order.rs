//! Which item comes out next: what makes the difference between the three queues.

use crate::spin_lock::{Shows, SpinLock};
use crate::wait_list::Guarding;
use evenloop_core::shim::Mutex;
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::collections::binary_heap::{BinaryHeap, PeekMut};

/// The order in which a [`Queue`](crate::Queue) gives its items out. Implemented by [`Fifo`], [`Lifo`] and [`Priority`]
/// alone.
pub trait Order<T>: Container<T> {}

/// First in, first out: [`Queue`](crate::Queue).
#[derive(Debug)]
pub struct Fifo<T>(VecDeque<T>);

/// Last in, first out: [`LifoQueue`](crate::LifoQueue).
#[derive(Debug)]
pub struct Lifo<T>(Vec<T>);

/// Least first, and first in, first out among equals: [`PriorityQueue`](crate::PriorityQueue).
#[derive(Debug)]
pub struct Priority<T> {
    heap: BinaryHeap<Ranked<T>>,
    /// The rank of the next item.
    next: u64,
}

/// Where the items are. The lock is chosen by what runs under it.
pub trait Container<T>: Default {
    /// Guards the items and all else.
    type Lock<S: Shows>: Guarding<S>;

    /// Puts an item in.
    fn push(&mut self, item: T);

    /// Takes the next item out. Where that compares items, the one to come out is `leaving` meanwhile.
    fn pop(&mut self, leaving: &mut Option<T>) -> Option<T>;

    /// How many there are.
    fn len(&self) -> usize;
}

// === impl Fifo ===

impl<T> Fifo<T> {
    pub(crate) const fn new() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Order<T> for Fifo<T> {}

impl<T> Container<T> for Fifo<T> {
    type Lock<S: Shows> = SpinLock<S>;

    #[inline]
    fn push(&mut self, item: T) {
        self.0.push_back(item);
    }

    #[inline]
    fn pop(&mut self, _: &mut Option<T>) -> Option<T> {
        self.0.pop_front()
    }

    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }
}

// === impl Lifo ===

impl<T> Lifo<T> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }
}

impl<T> Default for Lifo<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Order<T> for Lifo<T> {}

impl<T> Container<T> for Lifo<T> {
    type Lock<S: Shows> = SpinLock<S>;

    #[inline]
    fn push(&mut self, item: T) {
        self.0.push(item);
    }

    #[inline]
    fn pop(&mut self, _: &mut Option<T>) -> Option<T> {
        self.0.pop()
    }

    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }
}

// === impl Priority ===

impl<T: Ord> Priority<T> {
    pub(crate) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), next: 0 }
    }
}

impl<T: Ord> Default for Priority<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Ord> Order<T> for Priority<T> {}

impl<T: Ord> Container<T> for Priority<T> {
    /// Comparing is the user's code.
    type Lock<S: Shows> = Mutex<S>;

    fn push(&mut self, item: T) {
        let rank = self.next;
        self.next += 1;
        self.heap.push(Ranked { item: Some(item), rank });
    }

    fn pop(&mut self, leaving: &mut Option<T>) -> Option<T> {
        let mut next = self.heap.peek_mut()?;
        *leaving = next.item.take();
        PeekMut::pop(next);
        leaving.take()
    }

    fn len(&self) -> usize {
        self.heap.len()
    }
}

/// An item with its place among equals. The greatest is the one to come out.
#[derive(Debug)]
struct Ranked<T> {
    /// None while it comes out.
    item: Option<T>,
    rank: u64,
}

impl<T: Ord> Ord for Ranked<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.item.cmp(&self.item).then_with(|| other.rank.cmp(&self.rank))
    }
}

impl<T: Ord> PartialOrd for Ranked<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord> PartialEq for Ranked<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: Ord> Eq for Ranked<T> {}
