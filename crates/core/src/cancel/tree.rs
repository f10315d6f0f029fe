//! Who catches, and inside what.
//!
//! A node is one allocation of 96 bytes. Its parent holds it in a list from which it leaves in O(1) amortised, in the
//! order of joining; whoever is polled as that node holds the [`Place`], and dropping it leaves the tree. A node has a
//! lock of its own rather than its tree's: a subtree that is polled under another root moves as a whole, at no cost.
//!
//! N1. `slot` is read and written under the lock of the parent alone, and says where in its list the node is.
//! N2. `pending` is true iff `marks` holds one that is not passed over.
//!
//! ORDERING: everything here is Relaxed: `slot` by N1, and `pending` is written under the node's lock and read without it
//! only by the thread that wrote it (see `is_marked`).

use super::inbox::Inbox;
use crate::shim::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::shim::{Arc, Mutex};
use std::task::Waker;

/// One scope or catcher.
pub(crate) struct Node {
    catches: bool,
    /// N2. Set by a turn of a scope around this catcher, in the very poll in which it is then read.
    pending: AtomicBool,
    slot: AtomicU32,
    inside: Mutex<Inside>,
}

struct Inside {
    children: Children,
    /// Requests that this catcher is to deliver, or was passed over for. Empty for a scope.
    marks: Vec<Mark>,
    /// How to get this catcher polled. `None` for a scope, and for a moment while it is woken.
    waker: Option<Waker>,
    /// What was asked of this scope, from its first round on. `None` for a catcher.
    inbox: Option<Arc<Inbox>>,
}

struct Mark {
    inbox: Arc<Inbox>,
    id: u64,
    passed_over: bool,
}

impl Mark {
    fn is(&self, inbox: &Arc<Inbox>, id: u64) -> bool {
        self.id == id && Arc::ptr_eq(&self.inbox, inbox)
    }
}

/// A node's own end of its link: held by the future that is polled as this node. Dropping it leaves the tree.
pub(crate) struct Place {
    /// `None` only while [`into_node`](Self::into_node) takes this apart.
    node: Option<Arc<Node>>,
    /// `None` at the root of a tree.
    parent: Option<Arc<Node>>,
}

impl Place {
    /// Makes a node and joins `parent`.
    pub(crate) fn new(catches: bool, parent: Option<Arc<Node>>) -> Self {
        let node = Arc::new(Node::new(catches));
        if let Some(parent) = &parent {
            parent.add(node.clone());
        }
        Self { node: Some(node), parent }
    }

    /// The place of a root's node.
    pub(crate) fn root(node: Arc<Node>) -> Self {
        Self { node: Some(node), parent: None }
    }

    /// The node of a root's place.
    pub(crate) fn into_node(mut self) -> Arc<Node> {
        self.node.take().expect("a place is taken apart once")
    }

    #[inline]
    pub(crate) fn node(&self) -> &Arc<Node> {
        self.node.as_ref().expect("a place that is in use has its node")
    }

    #[inline]
    pub(crate) fn is_under(&self, parent: Option<&Arc<Node>>) -> bool {
        match (&self.parent, parent) {
            (Some(mine), Some(parent)) => Arc::ptr_eq(mine, parent),
            (None, None) => true,
            _ => false,
        }
    }

    /// Leaves the old parent and joins the new one (C2).
    pub(crate) fn move_under(&mut self, parent: Option<Arc<Node>>) {
        self.leave();
        if let Some(parent) = &parent {
            parent.add(self.node().clone());
        }
        self.parent = parent;
    }

    fn leave(&mut self) {
        if let Some(parent) = self.parent.take() {
            let left = parent.inside.lock().children.remove(self.node());
            drop(left); // C7
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.node.is_none() {
            return;
        }
        self.leave();
        // Who is still inside was taken out of the future that ends here; its next poll joins it to another node.
        // The marks stay: their turn passes this node over when it ends.
        let mut inside = self.node().inside.lock();
        let children = std::mem::take(&mut inside.children);
        let (waker, inbox) = (inside.waker.take(), inside.inbox.take());
        drop(inside);
        drop((children, waker, inbox)); // C7
    }
}

impl Node {
    fn new(catches: bool) -> Self {
        let inside = Inside { children: Children::default(), marks: Vec::new(), waker: None, inbox: None };
        Self { catches, pending: AtomicBool::new(false), slot: AtomicU32::new(0), inside: Mutex::new(inside) }
    }

    fn add(&self, child: Arc<Self>) {
        self.inside.lock().children.add(child);
    }

    /// Puts the waker of the last poll where a mark finds it.
    pub(crate) fn keep_waker(&self, waker: Waker) {
        let before = self.inside.lock().waker.replace(waker);
        drop(before); // C7
    }

    /// Says whose requests run through this scope's rounds.
    pub(crate) fn keep_inbox(&self, inbox: &Arc<Inbox>) {
        let mut inside = self.inside.lock();
        if inside.inbox.is_none() {
            inside.inbox = Some(inbox.clone());
        }
    }

    /// The innermost catchers below this node that were not passed over for this request. Those who joined first come
    /// first, level by level. Walks without recursion, holding one lock at a time.
    pub(crate) fn innermost(&self, inbox: &Arc<Inbox>, id: u64) -> Vec<Arc<Self>> {
        struct Seen {
            node: Arc<Node>,
            parent: usize,
            catches: bool,
            catcher_below: bool,
        }
        const TOP: usize = usize::MAX;
        let mut seen: Vec<Seen> = Vec::new();
        let visit = |seen: &mut Vec<Seen>, inside: &Inside, parent: usize| {
            seen.extend(inside.children.iter().map(|child| Seen {
                node: child.clone(),
                parent,
                catches: child.catches,
                catcher_below: false,
            }));
        };
        visit(&mut seen, &self.inside.lock(), TOP);
        let mut at = 0;
        while at < seen.len() {
            let node = seen[at].node.clone();
            let inside = node.inside.lock();
            seen[at].catches &= !inside.marks.iter().any(|mark| mark.is(inbox, id));
            visit(&mut seen, &inside, at);
            at += 1;
        }
        let mut innermost = Vec::new();
        while let Some(Seen { node, parent, catches, catcher_below }) = seen.pop() {
            if parent != TOP {
                seen[parent].catcher_below |= catches || catcher_below;
            }
            if catches && !catcher_below {
                innermost.push(node);
            }
        }
        innermost.reverse();
        innermost
    }

    /// The open requests of the scopes below this node.
    pub(crate) fn open_inside(&self) -> usize {
        let mut nodes: Vec<Arc<Self>> = self.inside.lock().children.iter().cloned().collect();
        let mut open = 0;
        while let Some(node) = nodes.pop() {
            let inside = node.inside.lock();
            nodes.extend(inside.children.iter().cloned());
            let inbox = inside.inbox.clone();
            drop(inside);
            open += inbox.map_or(0, |inbox| inbox.open());
        }
        open
    }

    /// Marks this catcher with a request.
    pub(crate) fn mark(&self, inbox: &Arc<Inbox>, id: u64) {
        let mut inside = self.inside.lock();
        inside.marks.push(Mark { inbox: inbox.clone(), id, passed_over: false });
        self.pending.store(true, Ordering::Relaxed);
    }

    /// Gets this catcher polled, unless `here` does so already.
    pub(crate) fn wake_unless(&self, here: &Waker) {
        // Even a clone is foreign code: so the waker is taken out, and put back unless a poll brought a newer one (C7).
        let Some(waker) = self.inside.lock().waker.take() else { return };
        if !waker.will_wake(here) {
            waker.wake_by_ref();
        }
        let mut inside = self.inside.lock();
        if inside.waker.is_none() {
            inside.waker = Some(waker);
        } else {
            drop(inside);
            drop(waker);
        }
    }

    /// Whether there is something to deliver.
    #[inline]
    pub(crate) fn is_marked(&self) -> bool {
        // ORDERING: Relaxed: a mark that counts was made earlier in this very poll, by this thread (C5).
        self.pending.load(Ordering::Relaxed)
    }

    /// What there is to deliver.
    pub(crate) fn marks(&self) -> Vec<(Arc<Inbox>, u64)> {
        let inside = self.inside.lock();
        let pending = inside.marks.iter().filter(|mark| !mark.passed_over);
        pending.map(|mark| (mark.inbox.clone(), mark.id)).collect()
    }

    /// Takes a mark off for its delivery. False: it was passed over meanwhile.
    pub(crate) fn unmark(&self, inbox: &Arc<Inbox>, id: u64) -> bool {
        let mut inside = self.inside.lock();
        let found = inside.marks.iter().position(|mark| mark.is(inbox, id) && !mark.passed_over);
        let gone = found.map(|place| inside.marks.remove(place));
        self.pending.store(inside.marks.iter().any(|mark| !mark.passed_over), Ordering::Relaxed);
        drop(inside);
        gone.is_some()
    }

    /// Passes this catcher over for a request that it was marked with. False: it was delivered.
    pub(crate) fn pass_over(&self, inbox: &Arc<Inbox>, id: u64) -> bool {
        let mut inside = self.inside.lock();
        let Some(mark) = inside.marks.iter_mut().find(|mark| mark.is(inbox, id)) else { return false };
        let first = !std::mem::replace(&mut mark.passed_over, true);
        self.pending.store(inside.marks.iter().any(|mark| !mark.passed_over), Ordering::Relaxed);
        first
    }
}

/// The children of a node, in the order of joining. The first one needs no allocation.
#[derive(Default)]
struct Children {
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
    fn iter(&self) -> impl Iterator<Item = &Arc<Node>> {
        let more = self.more.iter().flat_map(|more| more.slots.iter().flatten());
        self.first.iter().chain(more)
    }

    fn add(&mut self, child: Arc<Node>) {
        let more_is_empty = self.more.as_ref().is_none_or(|more| more.full == 0);
        if self.first.is_none() && more_is_empty {
            // ORDERING: Relaxed, here and below: N1.
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
    fn remove(&mut self, child: &Arc<Node>) -> Option<Arc<Node>> {
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
    fn a_node_is_96_bytes_with_its_counts() {
        assert!(size_of::<Node>() + 2 * size_of::<usize>() <= 96, "{}", size_of::<Node>());
    }

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
