//! The nodes that this thread is polling, outermost first.
//!
//! Each scope and catcher puts a frame on the stack around the poll of its inner future and takes it off again, also when
//! that panics. A task's root is a floor: what is below it belongs to somebody else. A frame has a node only once
//! somebody inside needs it as a parent.
//!
//! A root that nothing was asked of and that nobody has joined is only owed to the stack: a flag says so, and whoever looks
//! at the stack first puts the frame there. So a task that uses none of this pays for two stores a poll.

use super::hold::{Hold, Raised, RaisedRequest};
use super::inbox::Inbox;
use super::marks;
use super::reason::Reason;
use super::tree::{Node, Place};
use crate::shim::{Arc, thread_local};
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::task::Waker;
use std::time::Instant;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A task: the floor.
    Root,
    Scope,
    /// A scope that stands for a task: what is raised inside is asked of it.
    Stand,
    Catcher,
}

struct Frame {
    kind: Kind,
    place: Option<Place>,
    inbox: Option<Arc<Inbox>>,
    /// When the scope is going to end, if its owner says so. (What is moved from other threads stands in the inbox.)
    deadline: Option<Instant>,
    /// What was raised inside a task, for its host to find. Its node exists then.
    raised: Option<Box<RaisedRequest>>,
}

impl Frame {
    fn root(place: Option<Place>, inbox: Option<Arc<Inbox>>) -> Self {
        Self { kind: Kind::Root, place, inbox, deadline: None, raised: None }
    }
}

/// What a scope or catcher keeps of itself between polls.
pub(crate) struct Seat {
    /// Its place in the tree, once it has one.
    pub(crate) place: Option<Place>,
    /// What was asked of it, once something could be.
    pub(crate) inbox: Option<Arc<Inbox>>,
}

impl Seat {
    pub(crate) const fn new(inbox: Option<Arc<Inbox>>) -> Self {
        Self { place: None, inbox }
    }
}

/// What this thread polls.
struct Stack {
    frames: Vec<Frame>,
    /// Where the tasks and scopes among them are: a request is looked for there, past any number of catchers.
    scopes: Vec<usize>,
}

impl Stack {
    fn push(&mut self, frame: Frame) {
        if frame.kind != Kind::Catcher {
            self.scopes.push(self.frames.len());
        }
        self.frames.push(frame);
    }

    fn pop(&mut self) -> Option<Frame> {
        let frame = self.frames.pop()?;
        if frame.kind != Kind::Catcher {
            self.scopes.pop();
        }
        Some(frame)
    }

    /// The frames of the scopes around this code, innermost first, the task's last.
    fn around(&self) -> impl Iterator<Item = &Frame> {
        let mut ended = false;
        self.scopes
            .iter()
            .rev()
            .map(|at| &self.frames[*at])
            .take_while(move |frame| !std::mem::replace(&mut ended, frame.kind == Kind::Root))
    }

    fn is_inside(&self, inbox: &Arc<Inbox>) -> bool {
        self.around().any(|frame| frame.is(inbox))
    }
}

impl Frame {
    fn is(&self, inbox: &Arc<Inbox>) -> bool {
        self.inbox.as_ref().is_some_and(|it| Arc::ptr_eq(it, inbox))
    }
}

thread_local! {
    static FRAMES: RefCell<Stack> = const { RefCell::new(Stack { frames: Vec::new(), scopes: Vec::new() }) };
    /// The root entered last has no frame yet. Nothing lies above it then.
    static OWED: Cell<bool> = const { Cell::new(false) };
    /// What was raised inside the root that was left last, until its host asks.
    static RAISED: Cell<Option<Box<RaisedRequest>>> = const { Cell::new(None) };
}

/// Says whether a root is owed, and answers whether one was.
#[inline]
fn owe(owed: bool) -> bool {
    OWED.try_with(|it| it.replace(owed)).unwrap_or_default()
}

/// Calls `f` with the stack; `None` when the thread is ending and has none any more: then everything is inert.
#[inline]
fn with_frames<R>(f: impl FnOnce(&mut Stack) -> R) -> Option<R> {
    FRAMES
        .try_with(|frames| {
            let mut frames = frames.borrow_mut();
            if owe(false) {
                frames.push(Frame::root(None, None));
            }
            f(&mut frames)
        })
        .ok()
}

/// Keeps a task, scope or catcher on the stack of what this thread polls; dropping it takes it off. Guards are dropped in
/// the reverse order, because none leaves this module's relatives: see [`Root::enter`](super::Root::enter).
#[must_use = "dropping the guard ends the poll"]
pub(crate) struct Entered<'a> {
    /// Where the frame's contents go back to.
    home: Home<'a>,
    /// The stack belongs to this thread.
    not_send: PhantomData<*const ()>,
}

enum Home<'a> {
    Seat(&'a mut Seat),
    Root(&'a mut Option<Arc<Node>>),
}

#[inline]
pub(crate) fn enter(seat: &mut Seat, kind: Kind, deadline: Option<Instant>) -> Entered<'_> {
    let (place, inbox) = (seat.place.take(), seat.inbox.take());
    push(Frame { kind, place, inbox, deadline, raised: None });
    Entered { home: Home::Seat(seat), not_send: PhantomData }
}

/// Keeps a task without scopes on the stack of what this thread polls: as [`Entered`], for less.
#[must_use = "dropping the guard ends the poll"]
pub(crate) struct Bare<'a> {
    /// Where the node goes that the task may get meanwhile.
    home: &'a mut Option<Arc<Node>>,
    /// The stack belongs to this thread.
    not_send: PhantomData<*const ()>,
}

#[inline]
pub(crate) fn enter_bare(home: &mut Option<Arc<Node>>) -> Bare<'_> {
    if owe(true) {
        owe_another();
    }
    Bare { home, not_send: PhantomData }
}

impl Drop for Bare<'_> {
    #[inline]
    fn drop(&mut self) {
        if !owe(false) {
            take_off_root(self.home);
        } // else nobody has looked.
    }
}

#[cold]
fn take_off_root(home: &mut Option<Arc<Node>>) {
    with_frames(|stack| stack.pop().map(|frame| bring_home(frame, home)));
}

/// Brings a root's node home, and puts where its host finds it what was raised inside.
fn bring_home(frame: Frame, home: &mut Option<Arc<Node>>) {
    *home = frame.place.map(Place::into_node);
    if frame.raised.is_some() {
        let _ = RAISED.try_with(|raised| raised.set(frame.raised));
    }
}

/// Dropped by a poll of a root that panics, after the root was left: forgets what was raised in it. A host that lets the panic
/// through does not ask, and that of another task would find it.
pub(crate) struct Unwinds;

impl Drop for Unwinds {
    #[cold]
    fn drop(&mut self) {
        drop(take_raised());
    }
}

/// What was raised inside the root that this thread has just left.
pub(crate) fn take_raised() -> Option<RaisedRequest> {
    RAISED.try_with(Cell::take).ok().flatten().map(|raised| *raised)
}

#[inline]
pub(crate) fn enter_root<'a>(node: &'a mut Option<Arc<Node>>, inbox: Option<&Arc<Inbox>>) -> Entered<'a> {
    if node.is_none() && inbox.is_none() {
        if owe(true) {
            owe_another();
        }
        return Entered { home: Home::Root(node), not_send: PhantomData };
    }
    let place = node.take().map(Place::root);
    push(Frame::root(place, inbox.cloned()));
    Entered { home: Home::Root(node), not_send: PhantomData }
}

/// Another root is owed already: its frame comes first.
#[cold]
fn owe_another() {
    with_frames(|_| ());
    owe(true);
}

#[inline]
fn push(frame: Frame) {
    with_frames(|frames| frames.push(frame));
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        if !owe(false) {
            self.take_off();
        } // else nobody has looked.
    }
}

impl Entered<'_> {
    /// Brings the frame's contents home.
    #[inline(never)]
    fn take_off(&mut self) {
        with_frames(|stack| {
            let Some(frame) = stack.pop() else { return };
            match &mut self.home {
                Home::Seat(seat) => **seat = Seat { place: frame.place, inbox: frame.inbox },
                Home::Root(node) => bring_home(frame, node),
            }
        });
    }
}

/// Joins the node to the top of the stack if it is elsewhere (C2): its first poll, or it was moved.
#[inline]
pub(crate) fn relink(seat: &mut Seat) {
    let Some(place) = &mut seat.place else { return };
    let unmoved = with_frames(|stack| match stack.frames.last() {
        Some(Frame { place: Some(top), .. }) => place.is_under(Some(top.node())),
        Some(_) => false,
        None => place.is_under(None),
    });
    if unmoved == Some(false) {
        place.move_under(top());
    }
}

/// Gives the catcher a node under the top of the stack, unless nothing is there: then it is inert.
pub(crate) fn join(seat: &mut Seat) {
    if seat.place.is_none() {
        if let Some(parent) = top() {
            seat.place = Some(Place::new(true, Some(parent)));
        }
    }
}

/// The node on top of the stack, made if need be, and joined down to the floor (C1).
fn top() -> Option<Arc<Node>> {
    with_frames(|Stack { frames, .. }| {
        let mut from = frames.len();
        let mut parent = None;
        while from > 0 {
            if let Some(place) = &frames[from - 1].place {
                parent = Some(place.node().clone());
                break;
            }
            from -= 1;
            if frames[from].kind == Kind::Root {
                break;
            }
        }
        for frame in &mut frames[from..] {
            let place = Place::new(frame.kind == Kind::Catcher, parent.take());
            parent = Some(place.node().clone());
            frame.place = Some(place);
        }
        parent
    })
    .flatten()
}

/// Whether this code runs inside the poll of that scope, with no other task in between.
pub(crate) fn is_inside(inbox: &Arc<Inbox>) -> bool {
    with_frames(|stack| stack.is_inside(inbox)).unwrap_or_default()
}

/// The nodes of the scopes between here, where a catcher is in the tree (C1), and that one.
pub(crate) fn scopes_inside(inbox: &Arc<Inbox>) -> Vec<Arc<Node>> {
    let nodes = |stack: &mut Stack| {
        let inside = stack.around().take_while(|frame| !frame.is(inbox) && frame.kind != Kind::Root);
        inside.filter_map(|frame| Some(frame.place.as_ref()?.node().clone())).collect()
    };
    with_frames(nodes).unwrap_or_default()
}

/// Cancels the task around the calling code, or what stands for one ([`shielded`](super::shielded) code, a child that
/// borrows): when the present poll is over, who catches inside is asked, innermost first. `None`: there is none.
///
/// For a future that cannot give a value any more, such as the awaiting of a task that was cancelled. It is pending from
/// then on, and keeps what is answered: asyncio's `raise CancelledError`. The cancellation is over if code around that
/// future absorbs it; another branch cannot. Of a task that is cancelled more than once in one poll the first reason counts.
///
/// # Examples
///
/// ```
/// use evenloop_core::cancel::{Scope, raise};
/// use std::task::{Context, Poll, Waker};
///
/// let mut task = Scope::for_a_task();
/// let mut body = std::pin::pin!(Some(async {
///     let _raised = raise("nothing will come").expect("there is a task");
///     std::future::pending::<()>().await
/// }));
/// let polled = task.poll(body.as_mut(), &mut Context::from_waker(Waker::noop()));
/// assert_eq!(polled, Poll::Ready(Err("nothing will come".into())));
/// ```
pub fn raise(reason: impl Into<Reason>) -> Option<Raised> {
    let reason = reason.into();
    let stand = with_frames(|Stack { frames, scopes }| {
        let innermost = *scopes.iter().rev().find(|at| frames[**at].kind != Kind::Scope)?;
        let frame = &mut frames[innermost];
        let inbox = (frame.kind == Kind::Stand).then(|| frame.inbox.get_or_insert_with(Inbox::new).clone());
        Some((innermost, inbox))
    });
    let (at, inbox) = stand.flatten()?;
    if inbox.is_none() {
        drop(top()); // so that the host looks
    }
    let hold = Hold::new(nearest_catcher(at));
    let raised = match inbox {
        Some(inbox) => inbox.raise(reason, hold.clone()),
        None => with_frames(|Stack { frames, .. }| {
            let first = || Box::new(RaisedRequest { reason, holds: Vec::new() });
            frames[at].raised.get_or_insert_with(first).holds.push(hold.clone());
        })
        .is_some(),
    };
    raised.then(|| Raised::new(&hold))
}

/// For a future that can give nothing, because of a cancellation of a scope around it that is open: as [`raise`], and
/// that cancellation is the one. `None`: none is open.
pub fn hold_open() -> Option<Raised> {
    let open = with_frames(|Stack { frames, scopes }| {
        for at in scopes.iter().rev() {
            let frame = &frames[*at];
            let asked = frame.inbox.clone().filter(|inbox| inbox.open() > 0);
            if frame.raised.is_some() || asked.is_some() {
                return Some((*at, asked));
            }
            if frame.kind == Kind::Root {
                break;
            }
        }
        None
    });
    let (at, inbox) = open.flatten()?;
    let hold = Hold::new(nearest_catcher(at));
    let held = match inbox {
        Some(inbox) => inbox.hold(&hold),
        None => with_frames(|Stack { frames, .. }| {
            frames[at].raised.as_mut().map(|raised| raised.holds.push(hold.clone()))
        })
        .flatten()
        .is_some(),
    };
    held.then(|| Raised::new(&hold))
}

/// As [`hold_open`], for the innermost task, whose requests these are.
pub(crate) fn hold_in_root(inbox: &Arc<Inbox>) -> Option<Raised> {
    let root = |Stack { frames, scopes }: &mut Stack| {
        scopes.iter().rev().copied().find(|at| frames[*at].kind == Kind::Root)
    };
    let hold = Hold::new(nearest_catcher(with_frames(root).flatten()?));
    inbox.hold(&hold).then(|| Raised::new(&hold))
}

/// The nearest catcher around this code, inside of the scope whose frame is there; its node is made if need be.
fn nearest_catcher(scope: usize) -> marks::Home {
    let nearest = |Stack { frames, .. }: &mut Stack| {
        let inside = frames.get(scope + 1..).unwrap_or_default();
        inside.iter().rposition(|frame| frame.kind == Kind::Catcher).map(|at| scope + 1 + at)
    };
    let at = with_frames(nearest).flatten()?;
    drop(top());
    with_frames(|Stack { frames, .. }| Some(frames[at].place.as_ref()?.node().clone())).flatten()
}

/// Whether one of these requests is on its way out of a scope around this code. Then `waker` is woken when that ends here
/// after all.
pub(crate) fn is_being_left(crossed: &[(Arc<Inbox>, u64)], waker: &Waker) -> bool {
    crossed.iter().any(|(inbox, id)| is_inside(inbox) && inbox.wait_while_on_its_way_out(*id, waker))
}

/// The nearest deadline of the scopes around this code.
pub(crate) fn nearest_deadline() -> Option<Instant> {
    let own = with_frames(|stack| stack.around().filter_map(|frame| frame.deadline).min());
    around().iter().filter_map(|inbox| inbox.deadline()).chain(own.flatten()).min()
}

/// The open requests of the scopes inside the task that this thread polls, of those that have asked a catcher.
///
/// For a host that is asked while the [`Root`](super::Root) is in use, and cannot tell.
pub fn open_inside_here() -> usize {
    let node = with_frames(|stack| {
        Some(stack.around().find(|frame| frame.kind == Kind::Root)?.place.as_ref()?.node().clone())
    });
    node.flatten().map_or(0, |node| node.open_inside())
}

/// Whether a cancellation of a scope around the calling code is open: asked, and not yet taken, absorbed or withdrawn. A
/// long computation may look now and then, and come to an `await`.
///
/// # Examples
///
/// ```
/// use evenloop_core::cancel::is_requested;
///
/// /// Sums up, as far as it is let.
/// async fn sum(numbers: &[u64]) -> u64 {
///     let mut sum = 0;
///     for chunk in numbers.chunks(1000) {
///         if is_requested() {
///             break; // the next wait of the caller tells it why
///         }
///         sum += chunk.iter().sum::<u64>();
///     }
///     sum
/// }
/// # assert_eq!(futures::executor::block_on(sum(&[1, 2])), 3);
/// ```
pub fn is_requested() -> bool {
    let raised = with_frames(|stack| stack.around().any(|frame| frame.raised.is_some()));
    raised.unwrap_or_default() || around().iter().any(|inbox| inbox.open() > 0)
}

/// As [`is_requested`]. Then `waker` is woken when a cancellation is over that was open.
pub(crate) fn wait_while_requested(waker: &Waker) -> bool {
    if with_frames(|stack| stack.around().any(|frame| frame.raised.is_some())).unwrap_or_default() {
        waker.wake_by_ref(); // it is handed in after this poll, and can be waited for then
        return true;
    }
    around().iter().any(|inbox| inbox.wait_while_open(waker))
}

/// The inboxes of the scopes around this code, the task's included, innermost first.
pub(crate) fn around() -> Vec<Arc<Inbox>> {
    with_frames(|stack| stack.around().filter_map(|frame| frame.inbox.clone()).collect()).unwrap_or_default()
}
