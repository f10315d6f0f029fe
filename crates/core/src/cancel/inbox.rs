//! What was asked of one scope.
//!
//! Every thread may come here; the scope itself looks in during its turn. All decisions are made under one lock, and what
//! follows from them ([`Effects`]) is done after it (C7).
//!
//! I1. `requests` holds the open ones, oldest first. An id that is not there is closed: answers to it do nothing.
//! I2. `asked` is true whenever a request is due (nothing unanswered), a mark is not settled, or a catcher is next. It may
//!     be true without.
//! I3. Whoever has the scope woken takes its waker out and sets `asked`; the scope clears `asked` only as it puts its
//!     waker back. So a running scope whose `asked` is false has its waker here.

use super::cancellation::{Cancellation, Origin};
use super::hold::{Hold, RaisedRequest};
use super::marks::How;
use super::reason::Reason;
use super::round::{self, Way};
use super::tree::Node;
use super::turn::PATIENCE;
use crate::shim::atomic::{AtomicBool, Ordering, fence};
use crate::shim::{Arc, Mutex, MutexGuard};
use crate::wake_batch::for_each;
use std::cmp;
use std::collections::VecDeque;
use std::task::Waker;
use std::time::Instant;

pub(crate) struct Inbox {
    /// I2. Written under the lock.
    asked: AtomicBool,
    state: Mutex<State>,
}

/// How far a scope has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    New,
    Entered,
    Ended,
}

struct State {
    life: Life,
    /// Wakes the scope. Foreign: goes out of the lock before it is woken or dropped.
    waker: Option<Waker>,
    requests: VecDeque<Request>,
    /// The newest of the cancellations that came, open or not.
    newest: Option<Origin>,
    next_id: u64,
    /// Catchers that were asked and not passed over, with the request they were asked for. Those that have delivered since
    /// are here, too.
    marked: Vec<(Arc<Node>, u64)>,
    /// How many turns in a row ended with such that were not polled (C8).
    turns_waited: u32,
    /// Catchers that are next, because all inside them have answered. Those that have delivered since are here, too.
    next: Vec<(Arc<Node>, u64)>,
    /// How many times a task was cancelled and not uncancelled.
    count: u32,
    /// Whether anything was ever asked.
    was_asked: bool,
    /// Whether a request was taken.
    was_taken: bool,
    deadline: Option<Instant>,
}

struct Request {
    id: u64,
    cancellation: Cancellation,
    /// Marks and deliveries that are not settled, and catchers that are next (C3).
    unanswered: u32,
    /// Code that waits for this one and cannot go on.
    holds: Vec<Arc<Hold>>,
    /// Whether a future ended its scope by this: nobody else can take it back.
    raised: bool,
    /// Whether somebody passed it on in this round.
    passed_on: bool,
    /// Whether somebody absorbed it in this round.
    absorbed: bool,
    /// Whether a catcher ever delivered it.
    delivered: bool,
    /// Whether it was ever passed on: then it is on its way out until it is closed.
    on_its_way_out: bool,
    /// Scopes inside that were taken and report once this is closed.
    waiting: Vec<Waker>,
}

/// What is to be done when the lock is free again.
#[must_use = "somebody waits for these wake-ups"]
#[derive(Default)]
pub(crate) struct Effects {
    /// The scope's waker: something became due.
    scope: Option<Waker>,
    /// Scopes inside that may report now.
    waiting: Vec<Waker>,
}

impl Effects {
    /// Wakes whoever is to be woken. The scope itself only from outside of its turn, which looks again anyhow.
    pub(crate) fn wake(self, inbox: &Arc<Inbox>) {
        let Self { scope, waiting } = self;
        let scope = scope.filter(|_| !super::frames::is_inside(inbox));
        for_each(scope.into_iter().chain(waiting), Waker::wake);
    }

    /// In the scope's own turn: wakes all but the scope.
    pub(crate) fn wake_others(self) {
        for_each(self.waiting, Waker::wake);
    }
}

/// What a delivery is answered with.
pub(crate) enum Answer {
    Absorb,
    PassOn,
    /// Passed on by somebody who waits for what follows.
    Resume(Arc<Hold>),
}

impl Inbox {
    pub(crate) fn new() -> Arc<Self> {
        let state = State {
            life: Life::New,
            waker: None,
            requests: VecDeque::new(),
            newest: None,
            next_id: 0,
            marked: Vec::new(),
            turns_waited: 0,
            next: Vec::new(),
            count: 0,
            was_asked: false,
            was_taken: false,
            deadline: None,
        };
        Arc::new(Self { asked: AtomicBool::new(false), state: Mutex::new(state) })
    }

    /// Whether a turn has something to look at (I2).
    #[inline]
    pub(crate) fn asked(&self) -> bool {
        // ORDERING: this poll has begun, then the fence, then the look; and on the other side the note, a fence, then the
        // wake-up. So either the look sees the note, or the wake-up is later than this poll's beginning, and another poll
        // comes (C6). Nothing is asked of the waker: it need not order anything. What is read because of the answer is
        // read under the lock.
        fence(Ordering::SeqCst);
        self.asked.load(Ordering::Relaxed)
    }

    /// Notes, under the lock, that there is something to look at. The wake-up comes after this.
    fn note_asked(&self) {
        // ORDERING: as in `asked`.
        self.asked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The scope has looked: notes, under the lock, whether something is left to look at.
    fn looked(&self, asked: bool) {
        // ORDERING: the mutex's: who notes something after this does so under the lock.
        self.asked.store(asked, Ordering::Relaxed);
    }

    // === From any thread ===

    /// Opens a request, unless this cancellation has come here already. `None`: the scope has ended.
    pub(crate) fn ask(&self, cancellation: &Cancellation) -> Option<Effects> {
        let state = self.state.lock();
        if state.has_had(cancellation) && state.life != Life::Ended {
            return Some(Effects::default());
        }
        self.open_request(state, cancellation.clone(), Vec::new())
    }

    /// Opens a request of the code inside. False: the scope has ended. It looks for itself after its poll, so nobody has to
    /// be woken.
    pub(crate) fn raise(&self, reason: Reason, hold: Arc<Hold>) -> bool {
        self.open_request(self.state.lock(), Cancellation::new(reason), vec![hold]).is_some()
    }

    fn open_request(
        &self,
        mut state: MutexGuard<'_, State>,
        cancellation: Cancellation,
        holds: Vec<Arc<Hold>>,
    ) -> Option<Effects> {
        if !state.open(cancellation, holds) {
            return None;
        }
        self.note_asked();
        Some(Effects { scope: state.waker.take(), waiting: Vec::new() })
    }

    /// As [`ask`](Self::ask), for a task, of the first of these that has not come here already: it is counted, and its host wakes
    /// the task. False: there is none, or the task has ended.
    pub(crate) fn ask_task<'a>(&self, mut of: impl Iterator<Item = &'a Cancellation>) -> bool {
        let mut state = self.state.lock();
        let new = of.find(|cancellation| !state.has_had(cancellation));
        new.is_some_and(|new| self.count_request(&mut state, new.clone(), Vec::new()))
    }

    /// As [`ask_task`](Self::ask_task), for what was raised inside.
    pub(crate) fn raise_in_task(&self, RaisedRequest { reason, holds }: RaisedRequest) -> bool {
        self.count_request(&mut self.state.lock(), Cancellation::new(reason), holds)
    }

    fn count_request(&self, state: &mut State, cancellation: Cancellation, holds: Vec<Arc<Hold>>) -> bool {
        if !state.open(cancellation, holds) {
            return false;
        }
        state.count += 1;
        self.note_asked();
        true
    }

    /// Holds the newest open request. False: none is open.
    pub(crate) fn hold(&self, hold: &Arc<Hold>) -> bool {
        let hold = hold.clone();
        let mut state = self.state.lock();
        let newest = state.requests.back_mut();
        newest.map(|request| request.holds.push(hold)).is_some()
    }

    /// Takes one off the count and withdraws the newest request that nobody delivered. Answers what is left.
    pub(crate) fn uncancel(&self) -> u32 {
        let mut state = self.state.lock();
        state.count = state.count.saturating_sub(1);
        let newest = state.requests.iter().rposition(|request| !request.delivered && !request.raised);
        let withdrawn = newest.and_then(|place| state.requests.remove(place));
        let left = state.count;
        drop(state);
        let waiting = withdrawn.map(|withdrawn| withdrawn.waiting); // C7: its reason was given by a stranger, too
        for_each(waiting.into_iter().flatten(), Waker::wake);
        left
    }

    pub(crate) fn count(&self) -> u32 {
        self.state.lock().count
    }

    /// How many requests are open.
    pub(crate) fn open(&self) -> usize {
        self.state.lock().requests.len()
    }

    pub(crate) fn life(&self) -> Life {
        self.state.lock().life
    }

    pub(crate) fn was_asked(&self) -> bool {
        self.state.lock().was_asked
    }

    pub(crate) fn was_taken(&self) -> bool {
        self.state.lock().was_taken
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.state.lock().deadline
    }

    /// Moves the deadline and has the scope look at it.
    pub(crate) fn set_deadline(&self, deadline: Option<Instant>) -> Effects {
        let mut state = self.state.lock();
        state.deadline = deadline;
        self.note_asked();
        Effects { scope: state.waker.take(), waiting: Vec::new() }
    }

    /// The oldest request that is open, or the next one.
    pub(crate) fn oldest(&self) -> u64 {
        let state = self.state.lock();
        state.requests.front().map_or(state.next_id, |request| request.id)
    }

    pub(crate) fn is_open(&self, id: u64) -> bool {
        self.state.lock().find(id).is_some()
    }

    /// Notes an answer, before it is settled what follows from it.
    pub(crate) fn note(&self, id: u64, passed_on: bool, hold: Option<Arc<Hold>>) {
        let mut state = self.state.lock();
        if let Some(request) = state.find(id) {
            request.on_its_way_out |= passed_on;
            request.holds.extend(hold);
        }
    }

    /// One that was unanswered is settled, in this way.
    pub(crate) fn settled(&self, id: u64, way: Way) -> Effects {
        let mut state = self.state.lock();
        let Some(request) = state.find(id) else { return Effects::default() };
        match way {
            Way::Next(catcher) => {
                state.next.push((catcher, id));
                self.note_asked();
                return Effects { scope: state.waker.take(), waiting: Vec::new() };
            }
            Way::Held => {}
            Way::Out(how) => {
                request.passed_on |= how == How::PassedOn;
                request.absorbed |= how == How::Absorbed;
            }
        }
        request.unanswered -= 1;
        self.settle(state, id)
    }

    /// One future of `resume` is gone.
    pub(crate) fn end_hold(&self, id: u64, hold: &Arc<Hold>) {
        let mut state = self.state.lock();
        let Some(request) = state.find(id) else { return };
        let place = request.holds.iter().position(|it| Arc::ptr_eq(it, hold));
        let ended = place.map(|place| request.holds.swap_remove(place));
        drop(state);
        drop(ended); // C7
    }

    /// C4: what follows if nothing is unanswered any more.
    fn settle(&self, mut state: MutexGuard<'_, State>, id: u64) -> Effects {
        let Some(place) = state.place(id).filter(|place| state.requests[*place].unanswered == 0) else {
            return Effects::default();
        };
        if state.requests[place].is_absorbed() {
            let closed = state.requests.remove(place);
            drop(state); // C7: before the reason and the holds
            let waiting = closed.map(|closed| closed.waiting);
            return Effects { scope: None, waiting: waiting.unwrap_or_default() };
        }
        self.note_asked();
        Effects { scope: state.waker.take(), waiting: Vec::new() }
    }

    // === In the scope's own turn ===

    /// Enters the scope. False: it was entered before.
    pub(crate) fn enter(&self) -> bool {
        let mut state = self.state.lock();
        let first = state.life == Life::New;
        if first {
            state.life = Life::Entered;
        }
        first
    }

    /// Puts the waker of this poll where others find it (C6).
    pub(crate) fn keep_waker(&self, waker: &Waker) {
        let waker = waker.clone();
        let before = self.state.lock().waker.replace(waker);
        drop(before); // C7
    }

    /// The requests that are due, oldest first; none: the scope need not look again until it is asked. Puts the waker
    /// of this turn where others find it (I3). Closes what was absorbed while somebody held it who is gone now.
    pub(crate) fn due(&self, waker: &Waker) -> Vec<u64> {
        let waker = waker.clone();
        let mut state = self.state.lock();
        let before = state.waker.replace(waker);
        let mut closed = VecDeque::new();
        if state.requests.iter().any(Request::is_absorbed) {
            let requests = std::mem::take(&mut state.requests);
            (closed, state.requests) = requests.into_iter().partition(Request::is_absorbed);
        }
        let due: Vec<u64> = state
            .requests
            .iter()
            .filter(|request| request.unanswered == 0)
            .map(|request| request.id)
            .collect();
        self.looked(!due.is_empty() || !state.marked.is_empty() || !state.next.is_empty());
        drop(state);
        drop(before); // C7
        for_each(closed.into_iter().flat_map(|request| request.waiting), Waker::wake);
        due
    }

    /// Starts a round with these catchers. False: the request was withdrawn meanwhile.
    pub(crate) fn begin_round(&self, id: u64, catchers: impl ExactSizeIterator<Item = Arc<Node>>) -> bool {
        let mut state = self.state.lock();
        let Some(request) = state.find(id) else { return false };
        debug_assert_eq!(request.unanswered, 0, "C4");
        (request.passed_on, request.absorbed) = (false, false);
        state.mark(id, catchers);
        self.note_asked();
        true
    }

    /// Goes on with these catchers instead of the one that was next. False: the request was withdrawn meanwhile.
    pub(crate) fn go_on(&self, id: u64, catchers: impl ExactSizeIterator<Item = Arc<Node>>) -> bool {
        let mut state = self.state.lock();
        let Some(request) = state.find(id) else { return false };
        request.unanswered -= 1;
        state.mark(id, catchers);
        self.note_asked();
        true
    }

    /// Those that are next.
    pub(crate) fn take_next(&self) -> Vec<(Arc<Node>, u64)> {
        std::mem::take(&mut self.state.lock().next)
    }

    /// Puts back who still is next.
    pub(crate) fn put_next(&self, still: Vec<(Arc<Node>, u64)>) {
        if !still.is_empty() {
            self.state.lock().next.extend(still);
        }
    }

    /// A marked catcher was polled. `None`: the request was withdrawn meanwhile.
    pub(crate) fn deliver(&self, id: u64) -> Option<Cancellation> {
        let mut state = self.state.lock();
        let request = state.find(id)?;
        request.delivered = true;
        Some(request.cancellation.clone())
    }

    /// The marks that are to be settled.
    pub(crate) fn take_marked(&self) -> Vec<(Arc<Node>, u64)> {
        std::mem::take(&mut self.state.lock().marked)
    }

    /// Puts back the marks that are not.
    pub(crate) fn put_marked(&self, still: Vec<(Arc<Node>, u64)>) {
        if !still.is_empty() {
            self.state.lock().marked.extend(still);
        }
    }

    /// Whether somebody is marked.
    pub(crate) fn has_marked(&self) -> bool {
        !self.state.lock().marked.is_empty()
    }

    /// A turn ends whose scope is woken: whether those who are marked have had their time (C8). `waits`: there are such.
    pub(crate) fn is_out_of_patience(&self, waits: bool) -> bool {
        let mut state = self.state.lock();
        state.turns_waited = if waits { state.turns_waited + 1 } else { 0 };
        let is_out = state.turns_waited > PATIENCE;
        if is_out {
            state.turns_waited = 0;
        }
        is_out
    }

    /// Takes a request, and so ends the scope. `None`: it was withdrawn meanwhile.
    pub(crate) fn take(&self, id: u64) -> Option<(Reason, Effects)> {
        let mut state = self.state.lock();
        let reason = state.find(id)?.cancellation.reason().clone();
        state.was_taken = true;
        Some((reason, self.end_with(state)))
    }

    /// The reason of the first open request that nobody delivered.
    pub(crate) fn unheard(&self) -> Option<Reason> {
        let state = self.state.lock();
        let unheard = state.requests.iter().find(|request| !request.delivered);
        unheard.map(|request| request.cancellation.reason().clone())
    }

    /// Ends the scope: closes what is open.
    pub(crate) fn end(&self) -> Effects {
        self.end_with(self.state.lock())
    }

    fn end_with(&self, mut state: MutexGuard<'_, State>) -> Effects {
        state.life = Life::Ended;
        let requests = std::mem::take(&mut state.requests);
        let (marked, next) = (std::mem::take(&mut state.marked), std::mem::take(&mut state.next));
        let waker = state.waker.take();
        self.looked(false);
        drop(state);
        drop((next, waker)); // C7
        for (catcher, id) in marked {
            // So that no mark keeps a chain of nodes.
            if let Some(home) = catcher.pass_over(self, id, u64::MAX) {
                drop(round::tell(home, self, id, How::PassedOver));
            }
        }
        Effects { scope: None, waiting: requests.into_iter().flat_map(|request| request.waiting).collect() }
    }

    /// Whether that request is on its way out of this scope. Then `waker` is woken when it is closed after all.
    pub(crate) fn wait_while_on_its_way_out(&self, id: u64, waker: &Waker) -> bool {
        let mut waker = Some(waker.clone()); // C7
        let mut state = self.state.lock();
        let Some(request) = state.find(id).filter(|request| request.on_its_way_out) else { return false };
        request.keep_waiting(&mut waker);
        true
    }

    /// Whether a request is open. Then `waker` is woken when the oldest is closed.
    pub(crate) fn wait_while_open(&self, waker: &Waker) -> bool {
        let mut waker = Some(waker.clone()); // C7
        let mut state = self.state.lock();
        let Some(request) = state.requests.front_mut() else { return false };
        request.keep_waiting(&mut waker);
        true
    }
}

impl Request {
    /// Has this waker woken when the request is closed; leaves it where it is if it is known.
    fn keep_waiting(&mut self, waker: &mut Option<Waker>) {
        let known = |new: &Waker| self.waiting.iter().any(|waiting| waiting.will_wake(new));
        if !waker.as_ref().is_some_and(known) {
            self.waiting.extend(waker.take());
        }
    }

    /// Whether it is over: all have answered, nobody passed it on, and nobody holds it open.
    fn is_absorbed(&self) -> bool {
        let answered = self.unanswered == 0 && self.absorbed && !self.passed_on;
        answered && !self.holds.iter().any(|hold| hold.holds())
    }
}

impl State {
    /// Whether this cancellation is open here, or is the newest that came: who hands it in may come when it has been answered.
    /// One that is newer than all that came needs no search.
    fn has_had(&self, cancellation: &Cancellation) -> bool {
        let origin = Some(cancellation.origin());
        match origin.cmp(&self.newest) {
            cmp::Ordering::Greater => false,
            cmp::Ordering::Equal => true,
            cmp::Ordering::Less => {
                self.requests.iter().any(|request| Some(request.cancellation.origin()) == origin)
            }
        }
    }

    /// Opens a request, unless the scope has ended.
    fn open(&mut self, cancellation: Cancellation, holds: Vec<Arc<Hold>>) -> bool {
        if self.life == Life::Ended {
            return false;
        }
        self.newest = self.newest.max(Some(cancellation.origin()));
        let id = self.next_id;
        self.next_id += 1;
        self.was_asked = true;
        self.requests.push_back(Request {
            id,
            cancellation,
            unanswered: 0,
            raised: !holds.is_empty(),
            holds,
            passed_on: false,
            absorbed: false,
            delivered: false,
            on_its_way_out: false,
            waiting: Vec::new(),
        });
        true
    }

    /// These catchers are asked.
    fn mark(&mut self, id: u64, catchers: impl ExactSizeIterator<Item = Arc<Node>>) {
        let asked = u32::try_from(catchers.len()).expect("2^32 catchers do not fit in memory");
        if let Some(request) = self.find(id) {
            request.unanswered += asked;
        }
        self.marked.extend(catchers.map(|catcher| (catcher, id)));
    }

    /// Where the request is: they stand in the order of their ids.
    fn place(&self, id: u64) -> Option<usize> {
        self.requests.binary_search_by_key(&id, |request| request.id).ok()
    }

    fn find(&mut self, id: u64) -> Option<&mut Request> {
        let place = self.place(id)?;
        self.requests.get_mut(place)
    }
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.lock();
        write!(f, "[{:?}, requests: {}]", state.life, state.requests.len())
    }
}
