//! What the code of a program does, what came of each request, and whether that is as it has to be: R1 to R8.

use super::program::{Answer, Code};
use evenloop::cancel::{CancelScope, Reason};
use evenloop::sync::Event;
use evenloop::time::now;
use evenloop::{Task, TaskInfo};
use evenloop_tests::SECOND;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::time::Instant;

/// Where code is: in which block or catcher, and what is around that.
pub(crate) struct Place {
    pub(crate) block: usize,
    /// `None`: no request comes in from outside.
    pub(crate) around: Option<Rc<Place>>,
}

impl Place {
    /// The blocks whose requests come as far as this, if need be by tasks that hand them in. Innermost first.
    fn blocks(&self) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(self), |place| place.around.as_deref()).map(|place| place.block)
    }

    fn is_inside(&self, block: usize) -> bool {
        self.blocks().any(|it| it == block)
    }
}

/// A request, by the number that its reason says. `None`: a deadline's.
pub(crate) type Name = Option<usize>;

pub(crate) fn name(reason: &Reason) -> Name {
    reason.text().and_then(|text| text.parse().ok())
}

/// What a piece of code does until it ends, or goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Catches,
    CleansUp,
    Resumes,
    IsShielded,
    /// A task.
    Awaits,
    /// Waits for a scope or a timeout.
    Waits,
    /// Is the code of that block.
    Runs,
}

pub(crate) struct Doing {
    piece: usize,
    what: What,
    /// The requests that it was told of.
    names: Vec<Name>,
    place: Rc<Place>,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.piece, self.what)?;
        if self.names.is_empty() { Ok(()) } else { write!(f, " {:?}", self.names) }
    }
}

/// What came of a request. A moment is the number of what happened then.
struct Request {
    to: usize,
    told: Option<usize>,
    passed_on: Option<usize>,
    absorbed: Option<usize>,
    unanswered: usize,
    withdrawn: bool,
    /// The blocks that it goes out through.
    crosses: BTreeSet<usize>,
}

impl Request {
    fn new(to: usize) -> Self {
        let (told, passed_on, absorbed) = (None, None, None);
        Self { to, told, passed_on, absorbed, unanswered: 0, withdrawn: false, crosses: BTreeSet::new() }
    }

    /// R5, as far as is known: whether all who were told have absorbed it.
    fn is_absorbed(&self) -> bool {
        self.absorbed.is_some() && self.passed_on.is_none() && self.unanswered == 0
    }
}

pub(crate) enum Block {
    Task(TaskInfo),
    Scope(CancelScope),
}

/// So many events are there for code to wait for each other.
pub(crate) const EVENTS: usize = 3;

#[derive(Default)]
pub(crate) struct Ledger {
    /// In words, if it is to tell.
    happened: RefCell<Vec<String>>,
    tells: bool,
    /// How much has happened.
    moment: Cell<usize>,
    /// What was not as it has to be.
    faults: RefCell<Vec<String>>,
    /// By the moment in which it began.
    doing: RefCell<BTreeMap<usize, Doing>>,
    requests: RefCell<Vec<Request>>,
    /// The clean-ups that were dropped just now.
    dropped: RefCell<Vec<Doing>>,
    blocks: RefCell<BTreeMap<usize, Block>>,
    pub(crate) events: [Event; EVENTS],
    /// When the timeouts that have begun are to end.
    deadlines: RefCell<BTreeMap<usize, Instant>>,
    /// Scopes that were given a deadline.
    moved: RefCell<BTreeSet<usize>>,
    /// Timeouts whose deadline was absorbed inside.
    outlived: RefCell<BTreeSet<usize>>,
    /// How often the program was asked, less what was taken back.
    count: Cell<usize>,
    /// Whether there are awaited tasks: those may do what they like with a request, and cancel who awaits them.
    tasks: bool,
    /// Whether somebody is told of a request, and the ledger is not: an awaited task, shielded code.
    hides: bool,
}

impl Ledger {
    /// An empty one. `tells`: keeps what has happened, too.
    pub(crate) fn new(code: &Code, tells: bool) -> Rc<Self> {
        let mut ledger = Self { tells, ..Self::default() };
        code.clone().each(&mut |code| {
            ledger.tasks |= matches!(code, Code::Await(..));
            ledger.hides |= matches!(code, Code::Await(..) | Code::Shielded(..));
        });
        Rc::new(ledger)
    }

    /// What has happened, and what was not as it has to be.
    pub(crate) fn take(&self) -> [String; 2] {
        [&self.happened, &self.faults].map(|lines| lines.take().join("\n"))
    }

    /// Something has happened. Answers the moment.
    fn add(&self, what: fmt::Arguments<'_>) -> usize {
        if self.tells {
            self.happened.borrow_mut().push(what.to_string());
        }
        self.moment.set(self.moment.get() + 1);
        self.moment.get()
    }

    pub(crate) fn fault(&self, what: String) {
        self.add(format_args!("FAULT: {what}"));
        self.faults.borrow_mut().push(what);
    }

    pub(crate) fn begin(
        self: &Rc<Self>,
        what: What,
        piece: usize,
        names: &[Name],
        place: &Rc<Place>,
    ) -> Begun {
        let doing = Doing { piece, what, names: names.to_vec(), place: place.clone() };
        let began = self.add(format_args!("{doing}"));
        self.doing.borrow_mut().insert(began, doing);
        self.dropped.take();
        Begun { ledger: self.clone(), began }
    }

    /// Whether some code does that inside of a block, as far as requests come.
    fn does(&self, what: What, block: usize, also: impl Fn(&Doing) -> bool) -> bool {
        let does = |doing: &Doing| doing.what == what && doing.place.is_inside(block) && also(doing);
        self.doing.borrow().values().any(does)
    }

    fn runs(&self, block: usize) -> bool {
        self.does(What::Runs, block, |doing| doing.piece == block)
    }

    /// Whether a clean-up inside of a block has this request in hand.
    fn holds(&self, name: Name, block: usize) -> bool {
        self.does(What::CleansUp, block, |doing| doing.names.contains(&name))
    }

    fn awaits(&self, block: usize) -> bool {
        self.does(What::Awaits, block, |_| true)
    }

    /// Whether a request to that block may come here. Who awaits a task that was cancelled is cancelled by the same.
    fn reaches(&self, block: usize, place: &Place) -> bool {
        let is_task = || matches!(self.blocks.borrow()[&block], Block::Task(_));
        place.is_inside(block) || (self.tasks && is_task())
    }

    // === What is asked ===

    pub(crate) fn add_block(&self, piece: usize, block: Block) {
        self.blocks.borrow_mut().insert(piece, block);
    }

    pub(crate) fn add_deadline(&self, piece: usize, deadline: Instant) {
        self.deadlines.borrow_mut().insert(piece, deadline);
    }

    /// Asks the block of that number, or the last one before it that is there.
    pub(crate) fn ask(&self, which: usize) {
        let blocks = self.blocks.borrow();
        let Some((&to, block)) = blocks.range(..=which).next_back() else { return };
        let mut requests = self.requests.borrow_mut();
        let reason = requests.len().to_string();
        let asked = match block {
            Block::Task(task) => task.cancel(reason),
            Block::Scope(scope) => scope.cancel(reason),
        };
        if asked {
            self.add(format_args!("request {} to {to}", requests.len()));
            requests.push(Request::new(to));
            self.count.set(self.count.get() + usize::from(to == 0));
        }
    }

    /// Takes a request to the program back.
    pub(crate) fn uncancel(&self, program: &Task<()>) {
        if program.done() {
            return;
        }
        let left = program.uncancel();
        self.add(format_args!("uncancelled: {left} left"));
        self.count.set(self.count.get().saturating_sub(1));
        // The newest one that nobody was told of. If that may have been in secret, it may be any of them.
        let known = if self.hides { usize::MAX } else { 1 };
        let mut requests = self.requests.borrow_mut();
        let untold = requests.iter_mut().rev().filter(|it| it.to == 0 && it.told.is_none() && !it.withdrawn);
        untold.take(known).for_each(|request| request.withdrawn = true);
    }

    /// Gives the scope of that number, or the last one before it, another deadline.
    pub(crate) fn move_deadline(&self, which: usize, seconds: Option<u8>) {
        for (&piece, block) in self.blocks.borrow().range(..=which).rev() {
            if let Block::Scope(scope) = block {
                self.add(format_args!("deadline of {piece}: {seconds:?}"));
                self.moved.borrow_mut().insert(piece);
                return scope.set_deadline(seconds.map(|seconds| now() + SECOND * u32::from(seconds)));
            }
        }
    }

    /// R8.
    pub(crate) fn check_count(&self, program: &Task<()>) {
        let (own, counted) = (self.count.get(), program.cancelling());
        let blocks = self.blocks.borrow();
        let scopes = blocks.values().map(|block| match block {
            Block::Scope(scope) => open(scope),
            Block::Task(_) => 0,
        });
        let timeouts = self.deadlines.borrow().values().filter(|deadline| **deadline <= now()).count();
        let most = own + scopes.sum::<usize>() + timeouts;
        if !self.tasks && !(own..=most).contains(&counted) {
            self.fault(format!("it counts {counted}, and was asked {own} times"));
        }
    }

    // === What the code says ===

    /// Code that catches was told of these.
    pub(crate) fn told(&self, catches: &Begun, names: &[Name]) {
        let now = self.add(format_args!("told of {names:?}"));
        let doing = self.doing.borrow();
        let Doing { place, piece, .. } = &doing[&catches.began];
        for dropped in self.dropped.take().iter().filter(|dropped| dropped.place.is_inside(*piece)) {
            let requests = self.requests.borrow();
            let comes = |name: &&usize| place.is_inside(requests[**name].to);
            if !dropped.names.iter().flatten().filter(comes).all(|name| names.contains(&Some(*name))) {
                self.fault(format!("{piece} is not told what {dropped} had in hand")); // R2
            }
        }
        for name in names.iter().flatten() {
            let request = &mut self.requests.borrow_mut()[*name];
            if !self.hides && request.is_absorbed() && request.absorbed < Some(catches.began) {
                self.fault(format!("request {name} was absorbed before this began")); // R5
            }
            if !self.reaches(request.to, place) || (request.withdrawn && !self.hides) {
                self.fault(format!("request {name} is none of its business")); // R6
            }
            request.told = Some(now);
            request.unanswered += 1;
            request.crosses.extend(place.blocks().take_while(|block| *block != request.to));
        }
    }

    pub(crate) fn answered(&self, place: &Place, names: &[Name], answer: Answer) {
        let now = self.add(format_args!("{answer:?} {names:?}"));
        for name in names.iter().flatten() {
            let request = &mut self.requests.borrow_mut()[*name];
            request.unanswered -= 1;
            match answer {
                Answer::Absorb => request.absorbed = Some(now),
                Answer::PassOn | Answer::Resume => request.passed_on = Some(now),
            }
        }
        if answer == Answer::Absorb && names.contains(&None) {
            self.outlive(place);
        }
    }

    /// A deadline was absorbed here.
    fn outlive(&self, place: &Place) {
        let deadlines = self.deadlines.borrow();
        let around = deadlines.keys().copied().filter(|timeout| place.is_inside(*timeout));
        self.outlived.borrow_mut().extend(around);
    }

    /// A task was awaited and gave its value: whatever it was told of is absorbed where that came from.
    fn awaited(&self, place: &Place, now: usize) {
        let mut requests = self.requests.borrow_mut();
        let handed_in = requests.iter_mut().filter(|request| place.is_inside(request.to));
        handed_in.for_each(|request| request.told = Some(now));
        self.outlive(place);
    }

    /// A scope or timeout ends cancelled: R7.
    pub(crate) fn reports(&self, block: usize) {
        let goes_out = |request: &Request| {
            let is_open = request.unanswered > 0 || request.passed_on > request.absorbed;
            is_open && request.passed_on.is_some() && request.crosses.contains(&block)
        };
        if !self.tasks && self.requests.borrow().iter().any(goes_out) {
            self.fault(format!("{block} tells of its end, and another request is on its way out"));
        }
        if self.deadlines.borrow().get(&block).is_some_and(|deadline| *deadline > now()) {
            self.fault(format!("{block} ends before its time"));
        }
    }

    /// A block was cancelled by this one: R5, R6.
    pub(crate) fn cancelled(&self, block: usize, by: Name) {
        self.add(format_args!("{block} was cancelled by {by:?}"));
        let Some(name) = by.filter(|_| block != 0 || !self.tasks) else { return };
        let request = &self.requests.borrow()[name];
        let is_over = !self.hides && (request.is_absorbed() || request.withdrawn);
        if request.to != block || is_over {
            self.fault(format!("request {name} has cancelled {block}"));
        }
    }

    /// The program has come to its end, and so all it was asked was heard.
    pub(crate) fn returned(&self) {
        let heard = |request: &Request| request.to != 0 || request.told.is_some() || request.withdrawn;
        if !self.hides && !self.requests.borrow().iter().all(heard) {
            self.fault("it has ended, and a request was not heard".into());
        }
    }

    /// Code went away before it came to its end: R1 to R3.
    fn dropped(&self, doing: Doing) {
        self.add(format_args!("{doing}: dropped"));
        let (place, names) = (&doing.place, &doing.names);
        let right = match doing.what {
            What::Catches => false,
            What::CleansUp => {
                self.answered(place, names, Answer::PassOn);
                let requests = self.requests.borrow();
                let mut others =
                    requests.iter().enumerate().filter(|(name, _)| !names.contains(&Some(*name)));
                let deadlines = self.deadlines.borrow();
                let met = deadlines.iter().filter(|(block, at)| place.is_inside(**block) && **at <= now());
                let known = names.iter().filter(|name| name.is_none()).count();
                others.any(|(_, request)| self.reaches(request.to, place))
                    || met.count() > known
                    || self.moved.borrow().iter().any(|block| place.is_inside(*block))
            }
            What::IsShielded => self.tasks,
            What::Awaits => !self.runs(doing.piece),
            What::Resumes | What::Waits | What::Runs => true,
        };
        if !right {
            self.fault(format!("{doing} was dropped"));
        }
        if doing.what == What::CleansUp {
            self.dropped.borrow_mut().push(doing);
        }
    }

    // === What is left ===

    /// All that can run has run: R4.
    pub(crate) fn look(&self) {
        self.add(format_args!("all has run"));
        for (name, request) in self.requests.borrow().iter().enumerate() {
            if request.withdrawn || !self.runs(request.to) || self.awaits(request.to) {
                continue;
            }
            let waits = request.unanswered == 0 && request.passed_on > request.told;
            if request.told.is_none() || waits {
                self.fault(format!("request {name} comes to nobody"));
            }
        }
        for doing in self.doing.borrow().values() {
            let right = match doing.what {
                What::Resumes => {
                    let requests = self.requests.borrow();
                    let held = |name: &usize| self.holds(Some(*name), requests[*name].to);
                    self.tasks || doing.names.iter().flatten().all(held)
                }
                What::IsShielded => false,
                What::Waits => self.may_wait(doing.piece),
                What::Catches | What::CleansUp | What::Awaits | What::Runs => true,
            };
            if !right {
                self.fault(format!("{doing} for ever"));
            }
        }
    }

    /// Whether it is right that code still waits for this scope or timeout.
    fn may_wait(&self, block: usize) -> bool {
        if !self.runs(block) {
            // R7. Of a deadline, and of what is told in secret, it is not known what that goes out through.
            let goes_out = |(name, request): (usize, &Request)| {
                request.crosses.contains(&block) && self.holds(Some(name), request.to)
            };
            let known = self.requests.borrow().iter().enumerate().any(goes_out);
            let perhaps = self.does(What::CleansUp, 0, |it| self.hides || it.names.contains(&None));
            return known || perhaps || self.awaits(0);
        }
        if self.awaits(block) || self.holds(None, block) {
            return true;
        }
        match self.blocks.borrow().get(&block) {
            Some(Block::Scope(scope)) => {
                let requests = self.requests.borrow();
                let own = requests.iter().enumerate().filter(|(_, request)| request.to == block);
                open(scope) == own.filter(|(name, _)| self.holds(Some(*name), block)).count()
            }
            _ => self.outlived.borrow().contains(&block) || self.deadlines.borrow()[&block] > now(),
        }
    }

    /// Nothing is left of the program.
    pub(crate) fn close(&self) {
        for doing in self.doing.take().values() {
            self.fault(format!("{doing} after the end"));
        }
    }
}

/// How many requests of a scope are open.
fn open(scope: &CancelScope) -> usize {
    let shown = format!("{scope:?}");
    let number = shown.rsplit(' ').next().and_then(|last| last.strip_suffix(']'));
    number.and_then(|number| number.parse().ok()).expect("it ends with a number")
}

/// Code does something. Dropped: it goes away.
pub(crate) struct Begun {
    ledger: Rc<Ledger>,
    began: usize,
}

impl Begun {
    pub(crate) fn ends(self) {
        if let Some(doing) = self.ledger.doing.borrow_mut().remove(&self.began) {
            let now = self.ledger.add(format_args!("{doing}: ends"));
            self.ledger.dropped.take();
            if doing.what == What::Awaits {
                self.ledger.awaited(&doing.place, now);
            }
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let dropped = self.ledger.doing.borrow_mut().remove(&self.began);
        if let Some(doing) = dropped.filter(|_| !std::thread::panicking()) {
            self.ledger.dropped(doing);
        }
    }
}
