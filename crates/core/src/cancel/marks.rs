//! What a catcher knows of the requests that concern it, and a scope of those that went out through it. Plain state, without
//! a lock of its own.
//!
//! ```text
//!          a turn asks it         polled                              a turn asks those inside it
//!  nothing ────────────► Asked ─────────► delivered         nothing ───────────────► Inside (unanswered > 0)
//!                          │ not polled (C8)                   all inside absorbed: nothing ◄──┤ the last answer
//!                          └──► PassedOver, for good                  delivered ◄── Next ◄─────┘ somebody passed on
//! ```
//!
//! M1. There is at most one mark for a request.
//! M2. `Inside` counts the catchers in the nearest ring inside this one that are asked, or have such inside of them. So
//!     a catcher is next exactly when nothing inside of it is unanswered.

use super::inbox::Inbox;
use super::tree::Node;
use crate::shim::Arc;
use std::mem;

/// The next catcher outside, within the scope that was asked. `None`: that scope itself.
pub(crate) type Home = Option<Arc<Node>>;

/// How a catcher, and all that is inside of it, has dealt with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    PassedOn,
    Absorbed,
    PassedOver,
}

/// What an answer from inside leads to.
pub(crate) enum Heard {
    /// Others inside have not answered.
    Rest,
    /// This catcher is next.
    Next,
    /// It is over here. `home` is to be told.
    Over(How, Home),
}

#[derive(Default)]
pub(crate) struct Marks(Vec<Mark>);

struct Mark {
    inbox: Arc<Inbox>,
    id: u64,
    home: Home,
    stage: Stage,
}

enum Stage {
    /// To be delivered at the next poll.
    Asked,
    PassedOver,
    Inside {
        unanswered: u32,
        passed_on: bool,
        absorbed: bool,
    },
    /// To be delivered as soon as it is found that nobody new is inside.
    Next,
    /// It was delivered inside this scope, on its way to one further out.
    Crossed,
}

impl Mark {
    fn is(&self, inbox: &Inbox, id: u64) -> bool {
        self.id == id && std::ptr::eq(&*self.inbox, inbox)
    }
}

impl Marks {
    fn find(&mut self, inbox: &Inbox, id: u64) -> Option<&mut Mark> {
        self.0.iter_mut().find(|mark| mark.is(inbox, id))
    }

    fn put(&mut self, inbox: &Arc<Inbox>, id: u64, home: Home, stage: Stage) {
        match self.find(inbox, id) {
            // M1: who was next keeps its home.
            Some(mark) => mark.stage = stage,
            None => self.0.push(Mark { inbox: inbox.clone(), id, home, stage }),
        }
    }

    /// A turn asks this catcher.
    pub(super) fn ask(&mut self, inbox: &Arc<Inbox>, id: u64, home: Home) {
        self.put(inbox, id, home, Stage::Asked);
    }

    /// A turn asks so many in the nearest ring inside this catcher.
    pub(super) fn ask_inside(&mut self, inbox: &Arc<Inbox>, id: u64, home: Home, unanswered: u32) {
        self.put(inbox, id, home, Stage::Inside { unanswered, passed_on: false, absorbed: false });
    }

    /// A request of a scope further out was delivered inside this scope.
    pub(super) fn cross(&mut self, inbox: &Arc<Inbox>, id: u64) {
        self.put(inbox, id, None, Stage::Crossed);
    }

    /// The requests that were delivered inside this scope, on their way to others.
    pub(super) fn crossed(&self) -> Vec<(Arc<Inbox>, u64)> {
        let crossed = self.0.iter().filter(|mark| matches!(mark.stage, Stage::Crossed));
        crossed.map(|mark| (mark.inbox.clone(), mark.id)).collect()
    }

    /// Forgets a request that is closed. Answers what is to be dropped without a lock.
    pub(super) fn forget(&mut self, inbox: &Inbox, id: u64) -> Option<Arc<Inbox>> {
        let place = self.0.iter().position(|mark| mark.is(inbox, id))?;
        Some(self.0.remove(place).inbox)
    }

    /// Whether there is something to deliver.
    pub(super) fn pending(&self) -> bool {
        self.0.iter().any(|mark| matches!(mark.stage, Stage::Asked | Stage::Next))
    }

    /// What there is to deliver; true: if nobody new is inside.
    pub(super) fn to_deliver(&self) -> Vec<(Arc<Inbox>, u64, bool)> {
        let pending = self.0.iter().filter(|mark| matches!(mark.stage, Stage::Asked | Stage::Next));
        pending.map(|mark| (mark.inbox.clone(), mark.id, matches!(mark.stage, Stage::Next))).collect()
    }

    pub(super) fn is_asked(&mut self, inbox: &Inbox, id: u64) -> bool {
        self.find(inbox, id).is_some_and(|mark| matches!(mark.stage, Stage::Asked))
    }

    pub(super) fn is_next(&mut self, inbox: &Inbox, id: u64) -> bool {
        self.find(inbox, id).is_some_and(|mark| matches!(mark.stage, Stage::Next))
    }

    pub(super) fn is_passed_over(&mut self, inbox: &Inbox, id: u64) -> bool {
        self.find(inbox, id).is_some_and(|mark| matches!(mark.stage, Stage::PassedOver))
    }

    /// Takes a mark off for its delivery. `None`: it was passed over meanwhile.
    pub(super) fn deliver(&mut self, inbox: &Inbox, id: u64) -> Option<Home> {
        let place = self
            .0
            .iter()
            .position(|mark| mark.is(inbox, id) && matches!(mark.stage, Stage::Asked | Stage::Next))?;
        Some(self.0.remove(place).home)
    }

    /// Passes this catcher over if it is asked. `None`: it was delivered.
    pub(super) fn pass_over(&mut self, inbox: &Inbox, id: u64) -> Option<Home> {
        let mark = self.find(inbox, id).filter(|mark| matches!(mark.stage, Stage::Asked))?;
        mark.stage = Stage::PassedOver;
        Some(mark.home.take())
    }

    /// One in the nearest ring inside has dealt with a request. `gone`: this catcher has left the tree.
    pub(super) fn hear(&mut self, inbox: &Inbox, id: u64, how: How, gone: bool) -> Heard {
        let Some(place) = self.0.iter().position(|mark| mark.is(inbox, id)) else {
            return Heard::Over(how, None);
        };
        let Stage::Inside { unanswered, passed_on, absorbed } = &mut self.0[place].stage else {
            return Heard::Over(how, None);
        };
        *unanswered -= 1;
        *passed_on |= how == How::PassedOn;
        *absorbed |= how == How::Absorbed;
        if *unanswered > 0 {
            return Heard::Rest;
        }
        let how = match (*passed_on, *absorbed) {
            (true, _) => How::PassedOn,
            (_, true) => How::Absorbed,
            _ => How::PassedOver,
        };
        if how != How::Absorbed && !gone {
            self.0[place].stage = Stage::Next;
            return Heard::Next;
        }
        Heard::Over(how, self.0.remove(place).home)
    }

    /// For a catcher that leaves the tree: whom it would have been next to answer to.
    pub(super) fn take_next(&mut self) -> Vec<(Arc<Inbox>, u64, Home)> {
        if !self.0.iter().any(|mark| matches!(mark.stage, Stage::Next)) {
            return Vec::new();
        }
        let (next, others) =
            mem::take(&mut self.0).into_iter().partition(|mark| matches!(mark.stage, Stage::Next));
        self.0 = others;
        let next: Vec<Mark> = next;
        next.into_iter().map(|mark| (mark.inbox, mark.id, mark.home)).collect()
    }
}
