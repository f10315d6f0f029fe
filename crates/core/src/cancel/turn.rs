//! A turn of a scope: what happens before and after the poll of its future.

use super::inbox::Inbox;
use super::marks::How;
use super::reason::Reason;
use super::round;
use super::tree::{Node, Ring};
use crate::shim::atomic::{AtomicBool, Ordering};
use crate::shim::{Arc, StdArc};
use crate::wake_batch::for_each;
use std::task::{Wake, Waker};

/// So many turns in a row a scope that is woken in each of its polls may let a catcher wait that it has asked (C8).
pub(super) const PATIENCE: u32 = 4096;

/// Before the poll: starts the rounds that are due, and goes on where a catcher is next. `Some`: the scope has taken
/// this request.
pub(crate) fn before(inbox: &Arc<Inbox>, node: Option<&Arc<Node>>, waker: &Waker) -> Option<Reason> {
    let mut asked = Vec::new();
    for (catcher, id) in inbox.take_next() {
        if catcher.is_next(inbox, id) {
            go_on(inbox, id, catcher, &mut asked);
        }
    }
    let mut taken = None;
    for id in inbox.due(waker) {
        let ring = node.map_or_else(Ring::default, |node| node.innermost(&None, inbox, id));
        if ring.asked.is_empty() {
            taken = take(inbox, id);
            if taken.is_some() {
                break;
            }
        } else if inbox.begin_round(id, ring.asked.iter().map(|(catcher, _)| catcher.clone())) {
            if let Some(node) = node {
                node.keep_inbox(inbox);
            }
            ask(inbox, id, ring, &mut asked);
        }
    }
    // A catcher with the waker of this very poll is reached by it. The others sit behind combinators that poll only
    // those who were woken.
    for_each(asked, |catcher| catcher.wake_unless(waker));
    taken
}

/// After a pending poll: passes over who was not polled, takes what has no catcher left. `Some`: the scope has taken this
/// request. What goes on or gets another round does so in the next turn, for which this wakes the scope. `woken`: the
/// scope's waker was woken during the poll, so another turn comes anyhow.
pub(crate) fn after(
    inbox: &Arc<Inbox>,
    node: Option<&Arc<Node>>,
    waker: &Waker,
    woken: bool,
) -> Option<Reason> {
    settle_marks(inbox, woken);
    let mut next = inbox.take_next();
    next.retain(|(catcher, id)| catcher.is_next(inbox, *id));
    let mut again = !next.is_empty();
    inbox.put_next(next);
    for id in inbox.due(waker) {
        if node.is_some_and(|node| !node.innermost(&None, inbox, id).asked.is_empty()) {
            again = true;
        } else if let Some(reason) = take(inbox, id) {
            return Some(reason);
        }
    }
    if again {
        waker.wake_by_ref();
    }
    None
}

/// All inside `catcher` have answered, and somebody passed on: asks it, or who has joined inside of it since.
fn go_on(inbox: &Arc<Inbox>, id: u64, catcher: Arc<Node>, asked: &mut Vec<Arc<Node>>) {
    let base = Some(catcher.clone());
    let mut ring = catcher.innermost(&base, inbox, id);
    match ring.outermost {
        0 => ring.asked.push((catcher, None)), // it keeps its home
        inside => catcher.ask_inside(inbox, id, None, inside),
    }
    if inbox.go_on(id, ring.asked.iter().map(|(catcher, _)| catcher.clone())) {
        ask(inbox, id, ring, asked);
    }
}

fn ask(inbox: &Arc<Inbox>, id: u64, ring: Ring, asked: &mut Vec<Arc<Node>>) {
    for (catcher, home, inside) in ring.around {
        catcher.ask_inside(inbox, id, home, inside);
    }
    for (catcher, home) in ring.asked {
        catcher.ask(inbox, id, home);
        asked.push(catcher);
    }
}

/// Ends the marks that no poll has turned into deliveries (C3), unless their catchers may be polled yet (C8).
fn settle_marks(inbox: &Arc<Inbox>, woken: bool) {
    let mut marked = inbox.take_marked();
    marked.retain(|(catcher, id)| catcher.is_asked(inbox, *id));
    if woken && !inbox.is_out_of_patience(!marked.is_empty()) {
        return inbox.put_marked(marked);
    }
    let oldest = inbox.oldest();
    for_each(marked, |(catcher, id)| {
        if let Some(home) = catcher.pass_over(inbox, id, oldest) {
            // This is the scope's own turn: it looks for what is due after this.
            round::settle(inbox, id, home, How::PassedOver).wake_others();
        }
    });
}

fn take(inbox: &Arc<Inbox>, id: u64) -> Option<Reason> {
    let (reason, effects) = inbox.take(id)?;
    effects.wake_others();
    Some(reason)
}

/// A waker that knows whether it was woken.
pub(crate) struct Noticed {
    waker: Waker,
    woken: AtomicBool,
}

impl Noticed {
    pub(crate) fn new(waker: &Waker) -> StdArc<Self> {
        StdArc::new(Self { waker: waker.clone(), woken: AtomicBool::new(false) })
    }

    pub(crate) fn was_woken(&self) -> bool {
        // ORDERING: Relaxed: what counts was woken in this very poll, by this thread (C8).
        self.woken.load(Ordering::Relaxed)
    }
}

impl Wake for Noticed {
    fn wake(self: StdArc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &StdArc<Self>) {
        // ORDERING: as in `was_woken`.
        self.woken.store(true, Ordering::Relaxed);
        self.waker.wake_by_ref();
    }
}
