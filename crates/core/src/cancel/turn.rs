//! A turn of a scope: what happens before and after the poll of its future.

use super::inbox::Inbox;
use super::reason::Reason;
use super::tree::Node;
use crate::shim::Arc;
use std::task::Waker;

/// Before the poll: starts the rounds that are due. `Some`: the scope has taken this request.
pub(crate) fn before(inbox: &Arc<Inbox>, node: Option<&Arc<Node>>, waker: &Waker) -> Option<Reason> {
    settle_marks(inbox); // left by a poll that panicked
    let mut marked = Vec::new();
    let mut taken = None;
    for id in inbox.due(waker) {
        let catchers = node.map_or_else(Vec::new, |node| node.innermost(inbox, id));
        if catchers.is_empty() {
            taken = take(inbox, id);
            if taken.is_some() {
                break;
            }
        } else if inbox.begin_round(id, &catchers) {
            if let Some(node) = node {
                node.keep_inbox(inbox);
            }
            for catcher in &catchers {
                catcher.mark(inbox, id);
            }
            marked.extend(catchers);
        }
    }
    // A catcher with the waker of this very poll is reached by it. The others sit behind combinators that poll only
    // those who were woken.
    for catcher in marked {
        catcher.wake_unless(waker);
    }
    taken
}

/// After a pending poll: passes over who was not polled, takes what has no catcher left. `Some`: the scope has taken this
/// request. What gets another round gets it in the next turn, for which this wakes the scope.
pub(crate) fn after(inbox: &Arc<Inbox>, node: Option<&Arc<Node>>, waker: &Waker) -> Option<Reason> {
    settle_marks(inbox);
    let mut again = false;
    for id in inbox.due(waker) {
        if node.is_some_and(|node| !node.innermost(inbox, id).is_empty()) {
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

/// Ends the marks that no poll has turned into deliveries (C3).
fn settle_marks(inbox: &Arc<Inbox>) {
    for (catcher, id) in inbox.take_marked() {
        if catcher.pass_over(inbox, id) {
            // This is the scope's own turn: it looks for what is due after this.
            inbox.passed_over(id).wake_others();
        }
    }
}

fn take(inbox: &Arc<Inbox>, id: u64) -> Option<Reason> {
    let (reason, effects) = inbox.take(id)?;
    effects.wake_others();
    Some(reason)
}
