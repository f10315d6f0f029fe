//! A turn of a scope: what happens before and after the poll of its future.

use super::inbox::Inbox;
use super::marks::How;
use super::reason::Reason;
use super::round;
use super::tree::{Node, Ring};
use crate::shim::Arc;
use std::task::Waker;

/// Before the poll: starts the rounds that are due, and goes on where a catcher is next. `Some`: the scope has taken
/// this request.
pub(crate) fn before(inbox: &Arc<Inbox>, node: Option<&Arc<Node>>, waker: &Waker) -> Option<Reason> {
    settle_marks(inbox); // left by a poll that panicked
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
    for catcher in asked {
        catcher.wake_unless(waker);
    }
    taken
}

/// After a pending poll: passes over who was not polled, takes what has no catcher left. `Some`: the scope has taken this
/// request. What goes on or gets another round does so in the next turn, for which this wakes the scope.
pub(crate) fn after(inbox: &Arc<Inbox>, node: Option<&Arc<Node>>, waker: &Waker) -> Option<Reason> {
    settle_marks(inbox);
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

/// Ends the marks that no poll has turned into deliveries (C3).
fn settle_marks(inbox: &Arc<Inbox>) {
    for (catcher, id) in inbox.take_marked() {
        if let Some(home) = catcher.pass_over(inbox, id) {
            // This is the scope's own turn: it looks for what is due after this.
            round::settle(inbox, id, home, How::PassedOver).wake_others();
        }
    }
}

fn take(inbox: &Arc<Inbox>, id: u64) -> Option<Reason> {
    let (reason, effects) = inbox.take(id)?;
    effects.wake_others();
    Some(reason)
}
