//! What a row of the table is made of.

use evenloop::time::VirtualClock;
use evenloop_core::shim::Mutex;
use evenloop_core::{Readiness, Ready, WakeBatch};
use evenloop_executor::EventLoop;
use evenloop_streams::ReactorDriver;
use evenloop_time::Driver;
use std::cell::Cell;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// An operation that waits, here.
pub(crate) type Waiting<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;
/// And on any thread.
pub(crate) type WaitingAnywhere<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A test that does not fit every operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    /// Several wait at once.
    Many,
    /// How many wait can be seen from outside.
    Count,
    /// On several threads.
    Threads,
    /// No allocation of its own.
    Lean,
    /// Who is served is woken once, not more often.
    Once,
    /// Who is dropped is woken no more.
    Silence,
    /// A waker that panics each time, not only the first.
    PanicsAgain,
    /// It is woken on the thread that waits, where a hostile waker knows what to do.
    WakesHere,
    /// Who comes when others have been served takes nothing of theirs.
    Newcomer,
    /// Made as often as others: it costs no more than they do.
    Often,
}

/// An operation that waits, and its surroundings.
pub(crate) struct Row {
    /// The crate, the type and the function, as in `sync::Lock::acquire`; after a comma, in which case.
    pub(crate) name: &'static str,
    pub(crate) scene: Box<dyn Fn() -> Box<dyn Scene>>,
    pub(crate) anywhere: Option<Box<dyn Fn() -> Box<dyn Anywhere>>>,
    pub(crate) without: Vec<(Test, &'static str)>,
    /// How often it is polled until it waits, if it is polled whenever it is woken.
    pub(crate) polls: usize,
    /// How often at most until it is done, where others wait on other threads.
    pub(crate) polls_among_threads: usize,
    /// Why it is polled more often than others.
    pub(crate) why_polls: Option<&'static str>,
}

impl Row {
    /// It is polled so often until it waits, and why.
    pub(crate) fn sets_out_in(mut self, polls: usize, why: &'static str) -> Self {
        self.polls = polls;
        self.why_polls = Some(why);
        self
    }

    /// It is polled so often at most among threads, and why.
    pub(crate) fn among_threads(mut self, polls: usize, why: &'static str) -> Self {
        self.polls_among_threads = polls;
        self.why_polls = Some(why);
        self
    }

    /// Leaves out a test, and says why.
    pub(crate) fn without(mut self, test: Test, why: &'static str) -> Self {
        self.without.push((test, why));
        self
    }

    /// Why the test is left out.
    pub(crate) fn why_without(&self, test: Test) -> Option<&'static str> {
        self.without.iter().find(|(left_out, _)| *left_out == test).map(|(_, why)| *why)
    }

    /// Whether the test is for this row. If not, says why.
    pub(crate) fn stands(&self, test: Test) -> bool {
        let why = self.why_without(test);
        if let Some(why) = why {
            println!("{}: without {test:?}: {why}", self.name);
        }
        why.is_none()
    }
}

/// Surroundings in which the operation waits.
pub(crate) trait Scene {
    /// The operation. What it is given, it gives up when it is done.
    fn wait(&self) -> Waiting<'_>;
    /// Serves the first in line, or everybody.
    fn serve(&self);
    /// How many wait.
    fn waiters(&self) -> usize;
    /// What a hostile waker does: calls that do not wait.
    fn poke(&self);
    /// Lets the surroundings run, with nothing new for anybody.
    fn turn(&self) {}
    /// How many polls it takes until it waits, those that it wakes itself for included.
    fn polls_to_wait(&self) -> usize {
        1
    }
}

/// Surroundings that threads share.
pub(crate) trait Anywhere: Send + Sync {
    fn wait_anywhere(&self) -> WaitingAnywhere<'_>;
    fn as_scene(&self) -> &dyn Scene;
}

/// A scene of plain functions.
struct Plain<S> {
    state: S,
    wait: for<'a> fn(&'a S) -> WaitingAnywhere<'a>,
    serve: fn(&S),
    waiters: fn(&S) -> usize,
    poke: fn(&S),
}

impl<S> Scene for Plain<S> {
    fn wait(&self) -> Waiting<'_> {
        (self.wait)(&self.state)
    }

    fn serve(&self) {
        (self.serve)(&self.state);
    }

    fn waiters(&self) -> usize {
        (self.waiters)(&self.state)
    }

    fn poke(&self) {
        (self.poke)(&self.state);
    }
}

impl<S: Send + Sync> Anywhere for Plain<S> {
    fn wait_anywhere(&self) -> WaitingAnywhere<'_> {
        (self.wait)(&self.state)
    }

    fn as_scene(&self) -> &dyn Scene {
        self
    }
}

/// A row of a primitive that needs no surroundings.
pub(crate) fn row<S: Send + Sync + 'static>(
    name: &'static str,
    state: fn() -> S,
    wait: for<'a> fn(&'a S) -> WaitingAnywhere<'a>,
    serve: fn(&S),
    waiters: fn(&S) -> usize,
    poke: fn(&S),
) -> Row {
    let plain = move || Plain { state: state(), wait, serve, waiters, poke };
    Row {
        name,
        scene: Box::new(move || Box::new(plain())),
        anywhere: Some(Box::new(move || Box::new(plain()))),
        without: Vec::new(),
        polls: 1,
        polls_among_threads: 2,
        why_polls: None,
    }
}

/// A primitive, and what is held of it so that others wait.
pub(crate) struct Held<P, G> {
    pub(crate) of: P,
    guard: Mutex<Option<G>>,
}

impl<P, G> Held<P, G> {
    pub(crate) fn new(of: P, hold: impl FnOnce(&P) -> Option<G>) -> Self {
        let guard = Mutex::new(Some(hold(&of).expect("free")));
        Self { of, guard }
    }

    pub(crate) fn give_up(&self) {
        let guard = self.guard.lock().take();
        drop(guard);
    }
}

/// Drops whatever it is.
pub(crate) fn end<T>(_: T) {}

/// As a reactor does.
pub(crate) fn tell(readiness: &Readiness, ready: Ready) {
    let mut due = WakeBatch::new();
    while readiness.set(ready, &mut due) {
        due.wake_all();
    }
    due.wake_all();
}

// === On a loop ===

/// Why a row has no twin on several threads.
const ONE_THREAD: &str = "it belongs to the loop of one thread";
/// Why a row may allocate.
const ALLOCATES: &str = "the loop keeps a task or an entry for it; that nothing grows is U5's";

/// A loop with timers and sockets whose clock is moved by hand, and what the operation needs.
pub(crate) struct OnLoop<S> {
    pub(crate) of: S,
    pub(crate) event_loop: EventLoop,
    pub(crate) clock: VirtualClock,
}

impl<S> OnLoop<S> {
    /// Polls and drops the future in the loop, for whoever polls this.
    pub(crate) fn inside<'a>(&'a self, future: impl Future<Output = ()> + 'a) -> Waiting<'a> {
        Box::pin(Inside { event_loop: &self.event_loop, future: Some(Box::pin(future)) })
    }
}

/// See [`OnLoop::inside`].
struct Inside<'a> {
    event_loop: &'a EventLoop,
    future: Option<Waiting<'a>>,
}

impl Future for Inside<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { event_loop, future } = &mut *self;
        let future = future.as_mut().expect("it is dropped last");
        enter(event_loop, || future.as_mut().poll(cx))
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let future = self.future.take();
        enter(self.event_loop, || drop(future));
    }
}

/// Calls `f` while the loop runs on this thread. A hostile waker may be inside already.
fn enter<R>(event_loop: &EventLoop, f: impl FnOnce() -> R) -> R {
    if event_loop.is_running() { f() } else { event_loop.run_until_complete(async { f() }) }
}

struct Looped<S> {
    state: OnLoop<S>,
    wait: for<'a> fn(&'a OnLoop<S>) -> Waiting<'a>,
    serve: fn(&OnLoop<S>),
    waiters: fn(&OnLoop<S>) -> usize,
    poke: fn(&OnLoop<S>),
}

impl<S> Scene for Looped<S> {
    fn wait(&self) -> Waiting<'_> {
        (self.wait)(&self.state)
    }

    fn serve(&self) {
        (self.serve)(&self.state);
        self.turn();
    }

    fn waiters(&self) -> usize {
        (self.waiters)(&self.state)
    }

    fn poke(&self) {
        (self.poke)(&self.state);
    }

    fn polls_to_wait(&self) -> usize {
        4
    }

    fn turn(&self) {
        if !self.state.event_loop.is_running() {
            for _ in 0..4 {
                self.state.event_loop.run_once(Some(Duration::ZERO));
            }
        }
    }
}

/// A row of an operation that needs a loop.
pub(crate) fn on_loop<S: 'static>(
    name: &'static str,
    state: impl Fn() -> S + 'static,
    wait: for<'a> fn(&'a OnLoop<S>) -> Waiting<'a>,
    serve: fn(&OnLoop<S>),
    waiters: fn(&OnLoop<S>) -> usize,
    poke: fn(&OnLoop<S>),
) -> Row {
    let scene = move || {
        let reactor = ReactorDriver::new().expect("the reactor starts");
        let clock = VirtualClock::paused();
        let handle = Arc::new(reactor.handle());
        let driver = Driver::new(reactor, clock.clone().into());
        let runtime = evenloop_core::Runtime::builder("evenloop").timers(driver.timers()).reactor(handle);
        let event_loop = EventLoop::builder().runtime(runtime).park(Box::new(driver)).build();
        let of = event_loop.run_until_complete(async { state() });
        let looped = Looped { state: OnLoop { of, event_loop, clock }, wait, serve, waiters, poke };
        looped.turn(); // what was set going, such as an accept
        looped
    };
    let row = Row {
        name,
        scene: Box::new(move || Box::new(scene())),
        anywhere: None,
        without: Vec::new(),
        polls: 1,
        polls_among_threads: 2,
        why_polls: None,
    };
    row.without(Test::Threads, ONE_THREAD).without(Test::Lean, ALLOCATES)
}

/// One thing that is waited for through `&mut`, and that outlives those who wait for it.
pub(crate) struct Only<T>(Cell<Option<T>>);

impl<T> Default for Only<T> {
    fn default() -> Self {
        Self(Cell::new(None))
    }
}

impl<T> Only<T> {
    /// The thing, until the answer is dropped.
    pub(crate) fn take(&self) -> Option<Taken<'_, T>> {
        self.0.take().map(|thing| self.put(thing))
    }

    /// This is the thing.
    pub(crate) fn put(&self, thing: T) -> Taken<'_, T> {
        Taken { thing: Some(thing), home: self }
    }

    /// The thing; there is none yet: a new one.
    pub(crate) fn or_put(&self, make: impl FnOnce() -> T) -> Taken<'_, T> {
        self.take().unwrap_or_else(|| self.put(make()))
    }
}

/// Puts its thing back when it is dropped.
pub(crate) struct Taken<'a, T> {
    thing: Option<T>,
    home: &'a Only<T>,
}

impl<T> Taken<'_, T> {
    /// There is nothing more to wait for: the next who waits makes a new one.
    pub(crate) fn over(mut self) {
        self.thing = None;
    }
}

impl<T> Deref for Taken<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.thing.as_ref().expect("it is there until the end")
    }
}

impl<T> DerefMut for Taken<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.thing.as_mut().expect("it is there until the end")
    }
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        self.home.0.set(self.thing.take());
    }
}

// === Each for itself ===

/// The next number, and what is open: its number, whether it was served, and itself.
pub(crate) type Ends<T> = (usize, Vec<(usize, bool, T)>);

/// The other ends of those who wait, where each waits for an end of its own. Served all at once.
pub(crate) struct Apart<T> {
    ends: Mutex<Ends<T>>,
}

impl<T> Default for Apart<T> {
    fn default() -> Self {
        Self { ends: Mutex::new((0, Vec::new())) }
    }
}

impl<T> Apart<T> {
    /// Keeps an end until it serves, or the answer is dropped.
    pub(crate) fn join(&self, end: T) -> Joined<'_, T> {
        let mut ends = self.ends.lock();
        ends.0 += 1;
        let number = ends.0;
        ends.1.push((number, false, end));
        Joined(number, self)
    }

    pub(crate) fn serve(&self, serve: impl Fn(T)) {
        // One at a time: serving wakes, and who is woken may come here.
        loop {
            let first = {
                let mut ends = self.ends.lock();
                if ends.1.is_empty() { None } else { Some(ends.1.remove(0)) }
            };
            let Some((_, _, first)) = first else { return };
            serve(first);
        }
    }

    pub(crate) fn count(&self, which: impl Fn(&T) -> bool) -> usize {
        self.ends.lock().1.iter().filter(|(_, _, end)| which(end)).count()
    }

    pub(crate) fn count_in(&self, number: usize) {
        let mut ends = self.ends.lock();
        ends.1.iter_mut().filter(|(other, ..)| *other == number).for_each(|end| end.1 = true);
    }

    pub(crate) fn counted(&self) -> usize {
        self.ends.lock().1.iter().filter(|(_, counted, _)| *counted).count()
    }
}

/// Takes its end away when it is dropped.
pub(crate) struct Joined<'a, T>(pub(crate) usize, &'a Apart<T>);

impl<T> Drop for Joined<'_, T> {
    fn drop(&mut self) {
        let mut ends = self.1.ends.lock();
        let place = ends.1.iter().position(|(number, ..)| *number == self.0);
        let gone = place.map(|place| ends.1.remove(place));
        drop(ends);
        drop(gone);
    }
}
