//! Whom a node holds.
//!
//! Joining and leaving are O(1), leaving amortised: a child knows its slot.
//!
//! ORDERING: Relaxed: a slot is read and written under the lock of the parent alone (N1 of `tree`).

use super::tree::Node;
use crate::shim::Arc;
use crate::shim::atomic::Ordering;

/// The children of a node, in the order of joining. The first one needs no allocation.
#[derive(Default)]
pub(super) struct Children {
    first: Option<Arc<Node>>,
    more: Option<Box<More>>,
}

/// The children after the first: those of slot 1, 2, …
#[derive(Default)]
struct More {
    slots: Vec<Option<Arc<Node>>>,
    /// How many slots are full.
    full: usize,
}

impl Children {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Node>> {
        let more = self.more.iter().flat_map(|more| more.slots.iter().flatten());
        self.first.iter().chain(more)
    }

    pub(super) fn add(&mut self, child: Arc<Node>) {
        let more_is_empty = self.more.as_ref().is_none_or(|more| more.full == 0);
        if self.first.is_none() && more_is_empty {
            child.slot.store(0, Ordering::Relaxed);
            self.first = Some(child);
            return;
        }
        let more = self.more.get_or_insert_default();
        more.slots.push(Some(child));
        more.full += 1;
        more.number_from(more.slots.len() - 1);
    }

    /// Takes a child out, if it is one.
    pub(super) fn remove(&mut self, child: &Arc<Node>) -> Option<Arc<Node>> {
        let slot = child.slot.load(Ordering::Relaxed) as usize;
        let is_it = |place: &mut Option<Arc<Node>>| place.as_ref().is_some_and(|it| Arc::ptr_eq(it, child));
        if slot == 0 {
            return if is_it(&mut self.first) { self.first.take() } else { None };
        }
        let more = self.more.as_mut()?;
        let place = more.slots.get_mut(slot - 1)?;
        if !is_it(place) {
            return None;
        }
        let left = place.take();
        more.full -= 1;
        if more.full * 2 < more.slots.len() {
            // Each shift of n slots was paid for by n/2 departures.
            more.slots.retain(Option::is_some);
            more.number_from(0);
        }
        left
    }
}

impl More {
    fn number_from(&mut self, from: usize) {
        for (place, node) in self.slots.iter().enumerate().skip(from) {
            if let Some(node) = node {
                let slot = u32::try_from(place + 1).expect("2^32 nodes do not fit in memory");
                node.slot.store(slot, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;

    #[test]
    fn children_keep_their_order_like_a_plain_list() {
        let mut random = 7_u64;
        let mut next = |below: usize| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) as usize % below
        };
        let (mut children, mut twin) = (Children::default(), Vec::<Arc<Node>>::new());
        for step in 0..4000 {
            if twin.is_empty() || next(100) < if step / 500 % 2 == 0 { 60 } else { 40 } {
                let node = Arc::new(Node::new(true));
                children.add(node.clone());
                twin.push(node);
            } else {
                let node = twin.remove(next(twin.len()));
                assert!(Arc::ptr_eq(&children.remove(&node).unwrap(), &node));
                assert!(children.remove(&node).is_none());
            }
            assert!(children.iter().map(Arc::as_ptr).eq(twin.iter().map(Arc::as_ptr)));
        }
    }
}
