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
//! M3. The marks of one scope stand in the order of their requests: one is found in logarithmic time.

use super::inbox::Inbox;
use super::tree::Node;
use crate::shim::Arc;

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

/// By scope, in the order in which they first asked.
#[derive(Default)]
pub(crate) struct Marks(Vec<OfOne>);

/// The marks for the requests of one scope.
struct OfOne {
    inbox: Arc<Inbox>,
    /// M3.
    marks: Vec<Mark>,
    /// How many of them are to be delivered.
    to_deliver: usize,
}

struct Mark {
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
    /// Just now: the mark goes.
    Delivered,
    /// It was delivered inside this scope, on its way to one further out.
    Crossed,
}

impl Mark {
    fn is_to_deliver(&self) -> bool {
        matches!(self.stage, Stage::Asked | Stage::Next)
    }
}

impl OfOne {
    fn find(&mut self, id: u64) -> Option<(&mut Mark, &mut usize)> {
        let place = self.marks.binary_search_by_key(&id, |mark| mark.id).ok()?;
        Some((&mut self.marks[place], &mut self.to_deliver))
    }

    fn remove(&mut self, id: u64) -> Option<Mark> {
        let place = self.marks.binary_search_by_key(&id, |mark| mark.id).ok()?;
        let mark = self.marks.remove(place);
        self.to_deliver -= usize::from(mark.is_to_deliver());
        Some(mark)
    }

    /// Forgets what is closed: what is older than the oldest that is open. Only what nobody is to be told of.
    fn forget_older(&mut self, oldest: u64) {
        let is_over =
            |mark: &&Mark| mark.id < oldest && matches!(mark.stage, Stage::PassedOver | Stage::Crossed);
        let over = self.marks.iter().take_while(is_over).count();
        self.marks.drain(..over);
    }
}

impl Marks {
    fn of(&mut self, inbox: &Inbox) -> Option<&mut OfOne> {
        self.0.iter_mut().find(|of| std::ptr::eq(&*of.inbox, inbox))
    }

    fn find(&mut self, inbox: &Inbox, id: u64) -> Option<(&mut Mark, &mut usize)> {
        self.of(inbox)?.find(id)
    }

    fn put(&mut self, inbox: &Arc<Inbox>, id: u64, home: Home, stage: Stage) -> &mut OfOne {
        let known = self.0.iter().position(|of| Arc::ptr_eq(&of.inbox, inbox));
        let at = known.unwrap_or_else(|| {
            self.0.push(OfOne { inbox: inbox.clone(), marks: Vec::new(), to_deliver: 0 });
            self.0.len() - 1
        });
        let of = &mut self.0[at];
        let place = match of.marks.binary_search_by_key(&id, |mark| mark.id) {
            Ok(place) => {
                of.to_deliver -= usize::from(of.marks[place].is_to_deliver());
                of.marks[place].stage = stage; // M1: who was next keeps its home.
                place
            }
            Err(place) => {
                of.marks.insert(place, Mark { id, home, stage });
                place
            }
        };
        of.to_deliver += usize::from(of.marks[place].is_to_deliver());
        of
    }

    /// A turn asks this catcher.
    pub(super) fn ask(&mut self, inbox: &Arc<Inbox>, id: u64, home: Home) {
        self.put(inbox, id, home, Stage::Asked);
    }

    /// A turn asks so many in the nearest ring inside this catcher.
    pub(super) fn ask_inside(&mut self, inbox: &Arc<Inbox>, id: u64, home: Home, unanswered: u32) {
        self.put(inbox, id, home, Stage::Inside { unanswered, passed_on: false, absorbed: false });
    }

    /// A request of a scope further out was delivered inside this scope. `oldest`: of those that are open there.
    pub(super) fn cross(&mut self, inbox: &Arc<Inbox>, id: u64, oldest: u64) {
        self.put(inbox, id, None, Stage::Crossed).forget_older(oldest);
    }

    /// The requests that were delivered inside this scope, on their way to others.
    pub(super) fn crossed(&self) -> Vec<(Arc<Inbox>, u64)> {
        self.all(|mark| matches!(mark.stage, Stage::Crossed))
            .map(|(inbox, mark)| (inbox.clone(), mark.id))
            .collect()
    }

    fn all(&self, which: impl Fn(&Mark) -> bool) -> impl Iterator<Item = (&Arc<Inbox>, &Mark)> {
        let all = self.0.iter().flat_map(|of| of.marks.iter().map(move |mark| (&of.inbox, mark)));
        all.filter(move |(_, mark)| which(mark))
    }

    /// Whether there is something to deliver.
    pub(super) fn pending(&self) -> bool {
        self.0.iter().any(|of| of.to_deliver > 0)
    }

    /// What there is to deliver; true: if nobody new is inside.
    pub(super) fn to_deliver(&self) -> Vec<(Arc<Inbox>, u64, bool)> {
        let pending = self.all(Mark::is_to_deliver);
        pending.map(|(inbox, mark)| (inbox.clone(), mark.id, matches!(mark.stage, Stage::Next))).collect()
    }

    pub(super) fn is_asked(&mut self, inbox: &Inbox, id: u64) -> bool {
        self.find(inbox, id).is_some_and(|(mark, _)| matches!(mark.stage, Stage::Asked))
    }

    pub(super) fn is_next(&mut self, inbox: &Inbox, id: u64) -> bool {
        self.find(inbox, id).is_some_and(|(mark, _)| matches!(mark.stage, Stage::Next))
    }

    pub(super) fn is_passed_over(&mut self, inbox: &Inbox, id: u64) -> bool {
        self.find(inbox, id).is_some_and(|(mark, _)| matches!(mark.stage, Stage::PassedOver))
    }

    /// Takes marks off for their delivery, but for those that were passed over meanwhile.
    pub(super) fn deliver(&mut self, asked: Vec<(Arc<Inbox>, u64)>) -> Vec<(Arc<Inbox>, u64, Home)> {
        let deliver = |(inbox, id): (Arc<Inbox>, u64)| {
            let (mark, to_deliver) = self.find(&inbox, id).filter(|(mark, _)| mark.is_to_deliver())?;
            mark.stage = Stage::Delivered;
            *to_deliver -= 1;
            let home = mark.home.take();
            Some((inbox, id, home))
        };
        let delivered = asked.into_iter().filter_map(deliver).collect();
        for of in &mut self.0 {
            of.marks.retain(|mark| !matches!(mark.stage, Stage::Delivered));
        }
        delivered
    }

    /// Passes this catcher over if it is asked. `None`: it was delivered. `oldest`: of those that are open there.
    pub(super) fn pass_over(&mut self, inbox: &Inbox, id: u64, oldest: u64) -> Option<Home> {
        let of = self.of(inbox)?;
        let (mark, to_deliver) = of.find(id).filter(|(mark, _)| matches!(mark.stage, Stage::Asked))?;
        mark.stage = Stage::PassedOver;
        *to_deliver -= 1;
        let home = mark.home.take();
        of.forget_older(oldest);
        Some(home)
    }

    /// One in the nearest ring inside has dealt with a request. `gone`: this catcher has left the tree.
    pub(super) fn hear(&mut self, inbox: &Inbox, id: u64, how: How, gone: bool) -> Heard {
        let Some(of) = self.of(inbox) else { return Heard::Over(how, None) };
        let Some((mark, to_deliver)) = of.find(id) else { return Heard::Over(how, None) };
        let Stage::Inside { unanswered, passed_on, absorbed } = &mut mark.stage else {
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
            mark.stage = Stage::Next;
            *to_deliver += 1;
            return Heard::Next;
        }
        Heard::Over(how, of.remove(id).and_then(|mark| mark.home))
    }

    /// For a catcher that leaves the tree: whom it would have been next to answer to.
    pub(super) fn take_next(&mut self) -> Vec<(Arc<Inbox>, u64, Home)> {
        let next = self.all(|mark| matches!(mark.stage, Stage::Next));
        let next = next.map(|(inbox, mark)| (inbox.clone(), mark.id)).collect();
        self.deliver(next)
    }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;
    use crate::cancel::Cancellation;

    #[test]
    fn what_is_closed_is_forgotten() {
        let inbox = Inbox::new();
        let mut marks = Marks::default();
        for id in 0..1000 {
            drop(inbox.ask(&Cancellation::new("a test")));
            marks.ask(&inbox, id, None);
            assert!(marks.pass_over(&inbox, id, inbox.oldest()).is_some());
            assert!(marks.is_passed_over(&inbox, id) && !marks.pending());
            marks.cross(&inbox, 1_000_000 + id, 1_000_000 + id);
            inbox.uncancel();
        }
        assert!(marks.0.len() == 1 && marks.0[0].marks.len() <= 3, "{}", marks.0[0].marks.len());
    }

    #[test]
    fn marks_stand_in_the_order_of_their_requests() {
        let (one, other) = (Inbox::new(), Inbox::new());
        let mut marks = Marks::default();
        for (inbox, id) in [(&one, 7), (&other, 1), (&one, 3), (&one, 5)] {
            marks.ask(inbox, id, None);
        }
        let ids = |marks: &Marks| marks.to_deliver().iter().map(|(_, id, _)| *id).collect::<Vec<_>>();
        assert_eq!(ids(&marks), [3, 5, 7, 1]);
        assert_eq!(marks.deliver(vec![(one.clone(), 5), (one.clone(), 6)]).len(), 1);
        assert_eq!(ids(&marks), [3, 7, 1]);
        marks.ask_inside(&one, 3, None, 2);
        assert_eq!(ids(&marks), [7, 1]);
        assert!(matches!(marks.hear(&one, 3, How::Absorbed, false), Heard::Rest));
        assert!(matches!(marks.hear(&one, 3, How::PassedOn, false), Heard::Next));
        assert_eq!(marks.take_next().len(), 1);
        assert!(marks.pass_over(&one, 7, 8).is_some() && marks.pass_over(&other, 1, 0).is_some());
        assert!(!marks.pending() && marks.to_deliver().is_empty());
    }
}
