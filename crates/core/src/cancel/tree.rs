//! Who catches, and inside what.
//!
//! A node is one allocation of 96 bytes. Its parent holds it in a list from which it leaves in O(1) amortised, in the
//! order of joining; whoever is polled as that node holds the [`Place`], and dropping it leaves the tree. A node has a
//! lock of its own rather than its tree's: a subtree that is polled under another root moves as a whole, at no cost.
//!
//! N1. `slot` is read and written under the lock of the parent alone, and says where in its list the node is.
//! N2. `pending` is true iff `marks` holds something to deliver. `gone` is true once the node has left for good. Both are
//!     written under the node's lock.
//!
//! ORDERING: everything here is Relaxed: `slot` by N1; `gone` is read under the lock, or where it may be out of date (see
//! `is_gone`); `pending` without it only as a hint (see `is_marked`).

use super::children::Children;
use super::inbox::Inbox;
use super::marks::{Heard, Home, How, Marks};
use super::round;
use crate::shim::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::shim::{Arc, Mutex};
use crate::wake_batch::for_each;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Waker;

/// One scope or catcher.
pub(crate) struct Node {
    catches: bool,
    /// N2.
    pending: AtomicBool,
    /// N2.
    gone: AtomicBool,
    /// N1.
    pub(super) slot: AtomicU32,
    inside: Mutex<Inside>,
}

struct Inside {
    children: Children,
    /// What this catcher knows of requests, and a scope of those that were delivered inside of it.
    marks: Marks,
    /// How to get this catcher polled. `None` for a scope, and for a moment while it is woken.
    waker: Option<Waker>,
    /// What was asked of this scope, from its first round on. `None` for a catcher.
    inbox: Option<Arc<Inbox>>,
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
        // The marks stay: a turn passes this node over when it ends, and what is answered inside of it goes
        // on to its home. Only what it was next for is settled here.
        let node = self.node();
        let mut inside = node.inside.lock();
        let children = std::mem::take(&mut inside.children);
        let (waker, inbox) = (inside.waker.take(), inside.inbox.take());
        let next = inside.marks.take_next();
        node.gone.store(true, Ordering::Relaxed);
        drop(inside);
        drop((children, waker, inbox)); // C7
        for_each(next, |(inbox, id, home)| round::settle(&inbox, id, home, How::PassedOn).wake(&inbox));
    }
}

impl Node {
    pub(super) fn new(catches: bool) -> Self {
        let inside =
            Inside { children: Children::default(), marks: Marks::default(), waker: None, inbox: None };
        Self {
            catches,
            pending: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            slot: AtomicU32::new(0),
            inside: Mutex::new(inside),
        }
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

    /// Who is to be asked for this request below this node: the innermost catchers that were not passed over. `base` is
    /// this node if it catches. Walks without recursion, holding one lock at a time.
    pub(crate) fn innermost(&self, base: &Home, inbox: &Inbox, id: u64) -> Ring {
        struct Seen {
            node: Arc<Node>,
            /// Where the next catcher outside is.
            home: usize,
            catches: bool,
            /// How many in the nearest ring inside are asked, or have such inside of them.
            inside: u32,
        }
        const BASE: usize = usize::MAX;
        let mut seen: Vec<Seen> = Vec::new();
        let visit = |seen: &mut Vec<Seen>, inside: &Inside, home: usize| {
            seen.extend(inside.children.iter().map(|child| Seen {
                node: child.clone(),
                home,
                catches: child.catches,
                inside: 0,
            }));
        };
        visit(&mut seen, &self.inside.lock(), BASE);
        let mut at = 0;
        while at < seen.len() {
            let node = seen[at].node.clone();
            let mut inside = node.inside.lock();
            seen[at].catches &= !inside.marks.is_passed_over(inbox, id);
            let home = if seen[at].catches { at } else { seen[at].home };
            visit(&mut seen, &inside, home);
            at += 1;
        }
        let mut ring = Ring::default();
        // The innermost ones come last, level by level.
        for at in (0..seen.len()).rev() {
            let Seen { home, catches, inside, .. } = seen[at];
            if !catches {
                continue;
            }
            let node = seen[at].node.clone();
            let place = if home == BASE { base.clone() } else { Some(seen[home].node.clone()) };
            match home {
                BASE => ring.outermost += 1,
                _ => seen[home].inside += 1,
            }
            match inside {
                0 => ring.asked.push((node, place)),
                _ => ring.around.push((node, place, inside)),
            }
        }
        ring.asked.reverse();
        ring
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

    /// Does something to the marks, and follows N2.
    fn with_marks<R>(&self, f: impl FnOnce(&mut Marks) -> R) -> R {
        let mut inside = self.inside.lock();
        let result = f(&mut inside.marks);
        self.pending.store(inside.marks.pending(), Ordering::Relaxed);
        result
    }

    /// A turn asks this catcher.
    pub(crate) fn ask(&self, inbox: &Arc<Inbox>, id: u64, home: Home) {
        self.with_marks(|marks| marks.ask(inbox, id, home));
    }

    /// A turn asks so many in the nearest ring inside this catcher.
    pub(crate) fn ask_inside(&self, inbox: &Arc<Inbox>, id: u64, home: Home, unanswered: u32) {
        self.with_marks(|marks| marks.ask_inside(inbox, id, home, unanswered));
    }

    /// One in the nearest ring inside has dealt with a request.
    pub(crate) fn hear(&self, inbox: &Inbox, id: u64, how: How) -> Heard {
        self.with_marks(|marks| marks.hear(inbox, id, how, self.gone.load(Ordering::Relaxed)))
    }

    /// A request of a scope further out was delivered inside this scope.
    pub(crate) fn cross(&self, inbox: &Arc<Inbox>, id: u64) {
        let oldest = inbox.oldest();
        self.inside.lock().marks.cross(inbox, id, oldest);
    }

    /// The requests that were delivered inside this scope, on their way to others.
    pub(crate) fn crossed(&self) -> Vec<(Arc<Inbox>, u64)> {
        self.inside.lock().marks.crossed()
    }

    /// Whether the node has left its tree for good.
    pub(crate) fn is_gone(&self) -> bool {
        // ORDERING: Relaxed: who absorbs what was delivered here has left before, in this thread or one that handed the
        // delivery on.
        self.gone.load(Ordering::Relaxed)
    }

    /// Whether this catcher is asked, and was not polled since.
    pub(crate) fn is_asked(&self, inbox: &Inbox, id: u64) -> bool {
        self.inside.lock().marks.is_asked(inbox, id)
    }

    /// Whether all inside have answered, and this catcher comes next.
    pub(crate) fn is_next(&self, inbox: &Inbox, id: u64) -> bool {
        self.inside.lock().marks.is_next(inbox, id)
    }

    /// Gets this catcher polled, unless `here` does so already.
    pub(crate) fn wake_unless(&self, here: &Waker) {
        // Even a clone is foreign code: so the waker is taken out, and put back unless a poll brought a newer one (C7).
        let Some(waker) = self.inside.lock().waker.take() else { return };
        let woken = catch_unwind(AssertUnwindSafe(|| {
            if !waker.will_wake(here) {
                waker.wake_by_ref();
            }
        }));
        let mut inside = self.inside.lock();
        if inside.waker.is_none() {
            inside.waker = Some(waker);
        } else {
            drop(inside);
            drop(waker);
        }
        if let Err(panic) = woken {
            resume_unwind(panic);
        }
    }

    /// Whether there is something to deliver.
    #[inline]
    pub(crate) fn is_marked(&self) -> bool {
        // ORDERING: Relaxed: what counts was made earlier in this very poll, by this thread (C5); what another thread
        // makes at the same time is found by the next turn.
        self.pending.load(Ordering::Relaxed)
    }

    /// What there is to deliver; true: if nobody new is inside.
    pub(crate) fn to_deliver(&self) -> Vec<(Arc<Inbox>, u64, bool)> {
        self.inside.lock().marks.to_deliver()
    }

    /// Takes marks off for their delivery, but for those that were passed over meanwhile.
    pub(crate) fn deliver(&self, asked: Vec<(Arc<Inbox>, u64)>) -> Vec<(Arc<Inbox>, u64, Home)> {
        self.with_marks(|marks| marks.deliver(asked))
    }

    /// Passes this catcher over for a request that it was asked. `None`: it was delivered. `oldest`: of those that are open
    /// there.
    pub(crate) fn pass_over(&self, inbox: &Inbox, id: u64, oldest: u64) -> Option<Home> {
        self.with_marks(|marks| marks.pass_over(inbox, id, oldest))
    }
}

/// Who is asked in one round, in the order of joining, level by level; and the catchers around them.
#[derive(Default)]
pub(crate) struct Ring {
    pub(crate) asked: Vec<(Arc<Node>, Home)>,
    /// With the number of those in the nearest ring inside that are asked, or have such inside of them.
    pub(crate) around: Vec<(Arc<Node>, Home, u32)>,
    /// How many of all these have nobody around them.
    pub(crate) outermost: u32,
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;

    // ThreadSanitizer's face has larger locks.
    #[cfg(not(evenloop_tsan))]
    #[test]
    fn a_node_is_96_bytes_with_its_counts() {
        assert!(size_of::<Node>() + 2 * size_of::<usize>() <= 96, "{}", size_of::<Node>());
    }
}
