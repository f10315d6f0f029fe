//! How answers go from the inside to the outside, within one scope.
//!
//! Each catcher around others that are asked counts them (`marks.rs`, M2). An answer is told to the nearest one. When the
//! last one inside has answered there, it comes next if somebody passed on, and tells the one around it if all absorbed:
//! so a branch that has nothing to do with another one never waits for it. At each level a count ends, so n answers
//! through n catchers are n steps.

use super::inbox::{Answer, Effects, Inbox};
use super::marks::{Heard, Home, How};
use super::tree::Node;
use crate::shim::Arc;

/// What an answer leads to.
pub(crate) enum Way {
    /// Others in the same ring have not answered.
    Held,
    /// This catcher is next.
    Next(Arc<Node>),
    /// Nobody in the scope is around those who answered.
    Out(How),
}

/// Tells the catchers around how one inside has dealt with a request, as far as that reaches.
pub(crate) fn tell(mut home: Home, inbox: &Inbox, id: u64, mut how: How) -> Way {
    while let Some(catcher) = home {
        match catcher.hear(inbox, id, how) {
            Heard::Rest => return Way::Held,
            Heard::Next => return Way::Next(catcher),
            Heard::Over(now, outside) => (how, home) = (now, outside),
        }
    }
    Way::Out(how)
}

/// One that was asked has dealt with a request.
pub(crate) fn settle(inbox: &Arc<Inbox>, id: u64, home: Home, how: How) -> Effects {
    inbox.settled(id, tell(home, inbox, id, how))
}

/// Answers one delivery.
pub(crate) fn answer(inbox: &Arc<Inbox>, id: u64, home: Home, answer: Answer) -> Effects {
    let (how, hold) = match answer {
        Answer::Absorb => (How::Absorbed, None),
        Answer::PassOn => (How::PassedOn, None),
        Answer::Resume(hold) => (How::PassedOn, Some(hold)),
    };
    inbox.note(id, how == How::PassedOn, hold);
    settle(inbox, id, home, how)
}
