//! Children: counted, cancelled together, waited for. What task groups and servers build on.
//!
//! A child is a place in the set, which ends with its [`Member`], and a handle by which it is asked to end. Whoever makes the
//! children with means of its own (a loop's tasks) uses these two; [`ChildSet::spawn`] makes children out of futures, through
//! a host's [`Spawn`].
//!
//! S1. A child is counted from [`enter`](ChildSet::enter) until its [`Member`] is dropped, which is after its future is.
//! S2. A child that entered before a [`cancel`](ChildSet::cancel) is asked, also if its handle is attached after it; one
//!     without a handle hears of it from its [`Member`].
//! S3. Whoever waits is in `waiting`, with the number of children that it waits to fall below. Who is woken is taken out.
//! S4. Handles and wakers are called and dropped while no lock is held.
//! S5. Whatever a child learns from its place moves `news` on first. So a child whose waker is kept, and that sees no news, was
//!     asked nothing.
//!
//! ORDERING: a waker need not synchronise. So a child reads `news` by adding nothing, with Release, and whoever asks adds with
//! Acquire: a look that comes before the news is over for whoever asks, so the wake-up that follows is none that this look
//! was for, and brings another. A look that comes after the news sees them, and takes the lock.

use crate::cancel::{CancelScope, Cancellation, Reason, Run};
use crate::shim::atomic::{AtomicUsize, Ordering};
use crate::shim::{Arc, Mutex, MutexGuard};
use crate::spawn::{BoxFuture, LocalBoxFuture, NotSpawned, Spawn};
use crate::wake_batch::for_each;
use crate::watch::{self, On};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// How a child is asked to end.
pub trait Cancel {
    /// Asks it, from any thread that the handle may be on.
    fn cancel(&self, cancellation: &Cancellation);
}

impl Cancel for CancelScope {
    fn cancel(&self, cancellation: &Cancellation) {
        let _ = self.cancel_by(cancellation);
    }
}

/// Children, each known by a handle of the type `H`. Clones are the same set.
///
/// # Examples
///
/// ```
/// use evenloop_core::{ChildSet, Runtime};
/// use evenloop_core::cancel::CancelScope;
///
/// async fn example(runtime: Runtime) {
///     let spawn = runtime.spawn_for("example").expect("a host that spawns");
///     let children = ChildSet::new();
///     for _ in 0..3 {
///         children.spawn(&**spawn, async { /* … */ }).expect("a host that runs");
///     }
///     children.cancel("enough"); // whoever catches inside may clean up
///     children.wait().await;
///     assert!(children.is_empty());
/// }
/// # let _ = example;
/// ```
pub struct ChildSet<H> {
    shared: Arc<Shared<H>>,
}

struct Shared<H> {
    /// S5. Written under the lock.
    news: AtomicUsize,
    state: Mutex<State<H>>,
}

struct State<H> {
    closed: bool,
    last: u64,
    /// S1. Oldest first.
    children: BTreeMap<u64, Entry<H>>,
    /// S3.
    waiting: Waiting,
}

/// Those who wait. Places are used again, so that waiting allocates nothing in the long run.
#[derive(Default)]
struct Waiting {
    /// With the ticket of whoever has the place, or had it last.
    places: Vec<(u64, Option<(usize, Waker)>)>,
    free: Vec<usize>,
    last: u64,
}

/// A place in the line, and whose it is.
type Ticket = (usize, u64);

struct Entry<H> {
    handle: Option<H>,
    /// Asked to end, while there was no handle (S2).
    asked: Option<Cancellation>,
    /// To be dropped where it stands.
    dropped: bool,
    /// Gets it polled, so that it learns of that.
    waker: Option<Waker>,
}

/// Names one child of one set; never names another one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChildKey(u64);

// === impl ChildSet ===

impl<H> ChildSet<H> {
    /// An open set with nobody in it.
    pub fn new() -> Self {
        let state = State { closed: false, last: 0, children: BTreeMap::new(), waiting: Waiting::default() };
        Self { shared: Arc::new(Shared { news: AtomicUsize::new(0), state: Mutex::new(state) }) }
    }

    fn lock(&self) -> MutexGuard<'_, State<H>> {
        self.shared.state.lock()
    }

    /// Says, under the lock, that something was asked of children that learn it from their places (S5).
    fn tell_news(&self) {
        // ORDERING: Acquire, against the Release of a look (see the head).
        self.shared.news.fetch_add(1, Ordering::Acquire);
    }

    /// Takes in a child, which is counted until the member is dropped. A handle that is not known yet is
    /// [attached](Self::attach) later. `None`: the set is closed.
    pub fn enter(&self, handle: Option<H>) -> Option<Member<H>> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        state.last += 1;
        let key = state.last;
        state.children.insert(key, Entry { handle, asked: None, dropped: false, waker: None });
        drop(state);
        Some(Member { set: self.clone(), key: ChildKey(key), known: None })
    }

    /// Closes the set: nobody new comes in. Those who are in go on. False: so it was already.
    pub fn close(&self) -> bool {
        !std::mem::replace(&mut self.lock().closed, true)
    }

    /// Whether nobody new comes in.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// How many children are not over. May be out of date by the time it returns.
    pub fn len(&self) -> usize {
        self.lock().children.len()
    }

    /// Whether all children are over.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many wait for children to leave. May be out of date by the time it returns.
    pub fn waiters(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Has each child dropped where it stands, at its next turn: no clean-up. For children that ask
    /// [`Member::is_dropped`], as those of [`spawn`](Self::spawn) do. Those that enter later are not concerned.
    pub fn drop_all(&self) {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        self.tell_news();
        for entry in state.children.values_mut() {
            entry.dropped = true;
            wakers.extend(entry.waker.take());
        }
        drop(state);
        wake(wakers);
    }

    /// Waits until no child is left, those included that enter meanwhile.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** The children are not touched.
    pub fn wait(&self) -> FewerThan<'_, H> {
        self.fewer_than(1)
    }

    /// Waits until there are fewer than so many children.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** The children are not touched.
    pub fn fewer_than(&self, than: usize) -> FewerThan<'_, H> {
        FewerThan { set: self, than, ticket: None }
    }
}

impl<H: Cancel> ChildSet<H> {
    /// Asks every child to end, all by one cancellation. Each call is one of its own, but of several from other threads that meet at one child
    /// the later ones may be one.
    pub fn cancel(&self, reason: impl Into<Reason>) {
        self.cancel_others(None, &Cancellation::new(reason));
    }

    /// As [`cancel`](Self::cancel), by a cancellation that others are asked by, too, and but for a child that ends anyhow.
    pub fn cancel_others(&self, ends: Option<ChildKey>, cancellation: &Cancellation) {
        let (mut handles, mut wakers) = (Vec::new(), Vec::new());
        let mut state = self.lock();
        self.tell_news();
        for (key, entry) in &mut state.children {
            if ends == Some(ChildKey(*key)) {
                continue;
            }
            // Even a clone is foreign code (S4): so a handle is taken out, and attached again after it was used.
            match entry.handle.take() {
                Some(handle) => handles.push((ChildKey(*key), handle)),
                None => {
                    entry.asked = Some(cancellation.clone());
                    wakers.extend(entry.waker.take());
                }
            }
        }
        drop(state);
        let mut panicked = catch_unwind(AssertUnwindSafe(|| wake(wakers))).err(); // S4
        for (key, handle) in handles {
            match catch_unwind(AssertUnwindSafe(|| handle.cancel(cancellation))) {
                Err(panic) if panicked.is_none() => panicked = Some(panic),
                asked => std::mem::forget(asked), // a panic's destructor is foreign too
            }
            self.attach(key, handle);
        }
        if let Some(panic) = panicked {
            resume_unwind(panic);
        }
    }

    /// Says by which handle a child is asked to end. Does nothing if it is over.
    pub fn attach(&self, key: ChildKey, handle: H) {
        loop {
            let mut state = self.lock();
            let Some(entry) = state.children.get_mut(&key.0) else { break };
            let Some(cancellation) = entry.asked.take() else {
                let before = entry.handle.replace(handle);
                drop(state);
                drop(before); // S4
                return;
            };
            drop(state);
            handle.cancel(&cancellation); // S2, S4
        }
    }
}

impl ChildSet<CancelScope> {
    /// Spawns `future` as a child, in a scope of its own. Answers the scope, by which this one child is cancelled.
    ///
    /// # Errors
    ///
    /// The set is closed, or the host takes no more; the child comes back, and leaves the set when it is dropped.
    pub fn spawn<F>(&self, spawn: &dyn Spawn, future: F) -> Result<CancelScope, NotSpawned<BoxFuture>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let scope = CancelScope::new();
        match self.enter(Some(scope.clone())) {
            Some(member) => {
                let run = Some(scope.run(future));
                spawn.spawn(Box::pin(Child { run, member })).map(|()| scope)
            }
            None => Err(NotSpawned { value: Box::pin(future), why: CLOSED }),
        }
    }

    /// As [`spawn`](Self::spawn), for a future that must stay on the calling thread.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn), and when the host moves its tasks between threads.
    pub fn spawn_local<F>(
        &self,
        spawn: &dyn Spawn,
        future: F,
    ) -> Result<CancelScope, NotSpawned<LocalBoxFuture>>
    where
        F: Future<Output = ()> + 'static,
    {
        let scope = CancelScope::new();
        match self.enter(Some(scope.clone())) {
            Some(member) => {
                let run = Some(scope.run(future));
                spawn.spawn_local(Box::pin(Child { run, member })).map(|()| scope)
            }
            None => Err(NotSpawned { value: Box::pin(future), why: CLOSED }),
        }
    }
}

/// A waker that panics silences none of those in its batch.
fn wake(wakers: Vec<Waker>) {
    for_each(wakers, Waker::wake);
}

const CLOSED: &str = "the set of children is closed";

impl<H> Clone for ChildSet<H> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<H> Default for ChildSet<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H> fmt::Debug for ChildSet<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        let open = if state.closed { "closed" } else { "open" };
        write!(f, "ChildSet [{open}, children: {}]", state.children.len())
    }
}

// === impl Member ===

/// A child's place in its set. Dropping it, after whatever must be over by then, is leaving.
#[must_use = "dropping it leaves the set"]
pub struct Member<H> {
    set: ChildSet<H>,
    key: ChildKey,
    /// S5: the news at the last look that found nothing, and a second clone of the waker that is kept since.
    known: Option<(usize, Waker)>,
}

impl<H> Member<H> {
    /// Which child this is.
    pub fn key(&self) -> ChildKey {
        self.key
    }

    /// Whether the child is to be dropped where it stands; else keeps `waker` to have it polled when it is.
    pub fn is_dropped(&mut self, waker: &Waker) -> bool {
        matches!(self.look(waker, false), Asked::ToBeDropped)
    }

    /// What was asked of a child that has no handle, since the last look; keeps `waker` to have it polled when something is.
    ///
    /// A child with a handle is asked through that. This one costs no handle: no allocation a child, for those who poll the
    /// child's future in a [`Scope`](crate::cancel::Scope) of their own. Requests between two looks are one.
    pub fn asked(&mut self, waker: &Waker) -> Asked {
        self.look(waker, true)
    }

    #[inline]
    fn look(&mut self, waker: &Waker, takes: bool) -> Asked {
        // ORDERING: Release, for the Acquire of the news (see the head).
        let news = self.set.shared.news.fetch_add(0, Ordering::Release); // S5
        match &self.known {
            Some((seen, kept)) if *seen == news && kept.will_wake(waker) => Asked::Nothing,
            _ => self.look_up(waker, takes),
        }
    }

    fn look_up(&mut self, waker: &Waker, takes: bool) -> Asked {
        let mut kept = Some(waker.clone());
        let mut state = self.set.lock();
        let news = self.set.shared.news.load(Ordering::Relaxed); // under the lock
        let entry = state.children.get_mut(&self.key.0).expect("S1");
        let asked = match () {
            () if entry.dropped => Asked::ToBeDropped,
            () if takes => entry.asked.take().map_or(Asked::Nothing, Asked::ToEnd),
            () => Asked::Nothing,
        };
        if let Asked::Nothing = asked {
            std::mem::swap(&mut entry.waker, &mut kept);
        }
        let nothing = matches!(asked, Asked::Nothing) && entry.asked.is_none();
        drop(state);
        drop(kept); // S4
        if nothing {
            self.known = Some((news, waker.clone()));
        }
        asked
    }
}

/// What was asked of a child: see [`Member::asked`].
#[derive(Clone, Debug)]
#[must_use = "the request is delivered once"]
pub enum Asked {
    /// Nothing new. When something is, the waker is woken.
    Nothing,
    /// To end, by this cancellation; it may clean up. Look again: the waker is not kept yet.
    ToEnd(Cancellation),
    /// To be dropped where it stands.
    ToBeDropped,
}

impl<H> Drop for Member<H> {
    fn drop(&mut self) {
        let mut state = self.set.lock();
        let left = state.children.remove(&self.key.0);
        let now = state.children.len();
        let woken = state.waiting.due(now);
        drop(state);
        drop(left); // S4
        wake(woken);
    }
}

impl<H> fmt::Debug for Member<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Member [{} of {:?}]", self.key.0, self.set)
    }
}

// === impl Waiting ===

impl Waiting {
    fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    fn has(&mut self, (place, ticket): Ticket) -> Option<&mut (usize, Waker)> {
        let (of, waiting) = self.places.get_mut(place)?;
        waiting.as_mut().filter(|_| *of == ticket)
    }

    /// Puts a waker in, in the place that it has or a new one; and answers the waker that was there.
    fn put(&mut self, ticket: &mut Option<Ticket>, than: usize, waker: Waker) -> Option<Waker> {
        if let Some((_, before)) = ticket.and_then(|ticket| self.has(ticket)) {
            return Some(std::mem::replace(before, waker));
        }
        self.last += 1;
        let entry = (self.last, Some((than, waker)));
        let place = self.free.pop().unwrap_or(self.places.len());
        match self.places.get_mut(place) {
            Some(free) => *free = entry,
            None => self.places.push(entry),
        }
        *ticket = Some((place, self.last));
        None
    }

    /// Takes a waker out, if it was not woken.
    fn remove(&mut self, ticket: Ticket) -> Option<Waker> {
        self.has(ticket)?;
        self.take(ticket.0)
    }

    fn take(&mut self, place: usize) -> Option<Waker> {
        let (_, waker) = self.places[place].1.take()?;
        self.free.push(place);
        Some(waker)
    }

    /// Takes out those who wait for fewer children than they waited for.
    fn due(&mut self, children: usize) -> Vec<Waker> {
        let mut due = Vec::new();
        for place in 0..self.places.len() {
            if self.places[place].1.as_ref().is_some_and(|(than, _)| children < *than) {
                due.extend(self.take(place));
            }
        }
        due
    }
}

// === The futures ===

/// Waits for children: see [`ChildSet::wait`] and [`ChildSet::fewer_than`].
#[must_use = "futures do nothing unless awaited"]
pub struct FewerThan<'a, H> {
    set: &'a ChildSet<H>,
    than: usize,
    /// Its place among those who wait.
    ticket: Option<Ticket>,
}

impl<H> Future for FewerThan<'_, H> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let Self { set, than, ticket } = &mut *self;
        let mut state = set.lock();
        if state.children.len() < *than {
            let gone = ticket.take().and_then(|ticket| state.waiting.remove(ticket));
            drop(state);
            drop((gone, waker)); // S4
            return Poll::Ready(());
        }
        let before = state.waiting.put(ticket, *than, waker);
        drop(state);
        drop(before); // S4
        watch::wait(cx.waker(), "ChildSet::wait", || On::Children(watch::address(&set.shared.state)));
        Poll::Pending
    }
}

impl<H> Drop for FewerThan<'_, H> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let waker = self.set.lock().waiting.remove(ticket);
            drop(waker); // S4
        }
    }
}

impl<H> fmt::Debug for FewerThan<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FewerThan [{} of {:?}]", self.than, self.set)
    }
}

pin_project_lite::pin_project! {
    /// A child made of a future.
    struct Child<F> {
        // Dropped before the member (S1).
        #[pin]
        run: Option<Run<F>>,
        member: Member<CancelScope>,
    }
}

impl<F: Future<Output = ()>> Future for Child<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(run) = this.run.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        if !this.member.is_dropped(cx.waker()) && run.poll(cx).is_pending() {
            return Poll::Pending;
        }
        this.run.set(None);
        Poll::Ready(())
    }
}
