//! Callbacks: `call_soon` and its relatives.
//!
//! A callback is a task that is neither numbered nor shown: so callbacks and tasks take their turns in one queue, and a
//! callback's panic is caught and reported as a task's is. The closure lies in a slot that the handle shares: cancelling takes it out
//! and drops it there and then.
//!
//! ```text
//! waiting for its time ── timer fires ──► in the queue ── its turn ──► closure taken out and called
//!   └──────── cancel, or the loop's end: closure taken out and dropped ◄────┘
//! ```
//!
//! C1. The closure is taken out once, by the turn, by `cancel`, or by the drop of the callback, as when its loop is closed; so it
//!     runs at most once, never after `cancel`, and no handle keeps what it holds.
//! C2. A timer's entry is removed by the callback's own drop, under the loop.

use crate::current::with_current;
use crate::event_loop::Core;
use crate::handle::Handle;
use crate::task::task_ref::TaskRef;
use evenloop_core::shim::{Mutex, StdArc};
use evenloop_core::{BoxJob, NotSpawned, TimerKey, Timers, deadline_after};
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A callback that waits for its turn on this thread's loop. Dropping the handle changes nothing.
///
/// # Examples
///
/// ```
/// use evenloop_executor::{EventLoop, yield_now};
/// use std::cell::Cell;
/// use std::rc::Rc;
///
/// let (event_loop, called) = (EventLoop::new(), Rc::new(Cell::new(0)));
/// let count = |called: &Rc<Cell<u32>>| {
///     let called = called.clone();
///     move || called.set(called.get() + 1)
/// };
/// let kept = event_loop.call_soon(count(&called));
/// let cancelled = event_loop.call_soon(count(&called));
/// assert!(cancelled.cancel(), "it had not run");
/// event_loop.run_until_complete(yield_now());
/// assert!(kept.done() && !kept.cancel(), "it has run");
/// assert_eq!(called.get(), 1);
/// ```
pub struct CallHandle {
    closure: Rc<Local>,
    task: TaskRef,
    when: Option<Instant>,
}

/// A callback that waits for its turn, made by [`Handle::call_soon_threadsafe`]; for any thread. Dropping the handle
/// changes nothing.
pub struct ThreadsafeCallHandle {
    closure: StdArc<Remote>,
    task: TaskRef,
}

/// Where the closure lies until it is taken out (C1).
type Local = Cell<Option<Box<dyn FnOnce()>>>;
type Remote = Mutex<Option<Box<dyn FnOnce() + Send>>>;

impl CallHandle {
    /// Makes sure that the callback does not run, and drops it, with what it holds, before this returns. False: it has
    /// run or was cancelled before.
    pub fn cancel(&self) -> bool {
        let closure = self.closure.take();
        let waited = closure.is_some();
        drop(closure);
        if waited {
            self.task.cancel();
        }
        waited
    }

    /// Whether the callback has run or was cancelled, or its loop is closed.
    pub fn done(&self) -> bool {
        let closure = self.closure.take();
        let over = closure.is_none();
        self.closure.set(closure);
        over
    }

    /// When it is due, if it has a time.
    pub fn when(&self) -> Option<Instant> {
        self.when
    }
}

impl ThreadsafeCallHandle {
    /// Makes sure that the callback does not start, from any thread, and drops it, with what it holds, before this
    /// returns. False: it has started or was cancelled before.
    pub fn cancel(&self) -> bool {
        let closure = self.closure.lock().take();
        let waited = closure.is_some();
        drop(closure);
        if waited {
            self.task.cancel();
        }
        waited
    }

    /// Whether the callback has started or was cancelled, or its loop is closed. A snapshot.
    pub fn done(&self) -> bool {
        self.closure.lock().is_none()
    }
}

impl fmt::Debug for CallHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallHandle [{}]", if self.done() { "over" } else { "waiting" })
    }
}

impl fmt::Debug for ThreadsafeCallHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ThreadsafeCallHandle [{}]", if self.done() { "over" } else { "waiting" })
    }
}

/// A callback's turn.
struct Turn<C: TakeOut> {
    closure: C,
    timer: Option<Timer>,
}

struct Timer {
    timers: StdArc<dyn Timers>,
    when: Instant,
    key: Option<TimerKey>,
}

impl Timer {
    /// Ready once the time has come. Pending for ever when the timers have ended: the loop ends too, and drops this.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.key {
            None => self.key = self.timers.insert(self.when, cx.waker()).ok(),
            Some(key) => {
                if self.timers.update(key, self.when, None) == Ok(false) {
                    self.key = None;
                    return Poll::Ready(());
                }
            }
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.timers.remove(key); // C2
        }
    }
}

/// Where a closure lies that is taken out once (C1).
trait TakeOut: Unpin {
    type Closure: FnOnce();

    fn take_out(&self) -> Option<Self::Closure>;
}

impl TakeOut for Rc<Local> {
    type Closure = Box<dyn FnOnce()>;

    fn take_out(&self) -> Option<Self::Closure> {
        self.take()
    }
}

impl TakeOut for StdArc<Remote> {
    type Closure = Box<dyn FnOnce() + Send>;

    fn take_out(&self) -> Option<Self::Closure> {
        self.lock().take()
    }
}

impl<C: TakeOut> Future for Turn<C> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(timer) = &mut self.timer {
            if timer.poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        self.timer = None;
        if let Some(closure) = self.closure.take_out() {
            closure();
        }
        Poll::Ready(())
    }
}

impl<C: TakeOut> Drop for Turn<C> {
    fn drop(&mut self) {
        drop(self.closure.take_out()); // C1
    }
}

impl Core {
    fn call(
        &self,
        closure: Box<dyn FnOnce()>,
        timer: Option<Timer>,
        at: &'static Location<'static>,
    ) -> CallHandle {
        let when = timer.as_ref().map(|timer| timer.when);
        let closure = Rc::new(Cell::new(Some(closure)));
        let task = self.sched().spawn_callback(Turn { closure: closure.clone(), timer }, at);
        CallHandle { closure, task, when }
    }

    pub(crate) fn call_soon(&self, closure: Box<dyn FnOnce()>, at: &'static Location<'static>) -> CallHandle {
        self.call(closure, None, at)
    }

    pub(crate) fn call_at(
        &self,
        when: Instant,
        closure: Box<dyn FnOnce()>,
        call: &'static str,
        at: &'static Location<'static>,
    ) -> CallHandle {
        let timers = self.runtime().timers_for(call).unwrap_or_else(|missing| panic!("{missing}")).clone();
        self.call(closure, Some(Timer { timers, when, key: None }), at)
    }

    pub(crate) fn call_later(
        &self,
        delay: Duration,
        closure: Box<dyn FnOnce()>,
        at: &'static Location<'static>,
    ) -> CallHandle {
        let timers = self.runtime().timers_for("call_later").unwrap_or_else(|missing| panic!("{missing}"));
        self.call_at(deadline_after(timers.now(), delay), closure, "call_later", at)
    }

    pub(crate) fn time(&self) -> Instant {
        self.runtime().timers_for("time").map_or_else(|_| Instant::now(), |timers| timers.now())
    }
}

/// The loop that runs on this thread, for `call`.
fn here<R>(call: &str, f: impl FnOnce(&Rc<Core>) -> R) -> R {
    with_current(f).unwrap_or_else(|| {
        panic!(
            "`{call}` needs a running event loop on this thread: call it inside `run`, or on the `EventLoop`"
        )
    })
}

/// Calls `closure` in the next pass of the loop that runs on this thread, after what is ready now.
///
/// Callbacks and tasks take their turns in one queue, first come first served. A panic of the callback goes to the loop's
/// hook.
///
/// # Panics
///
/// When no loop runs on this thread.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::{EventLoop, call_soon, yield_now};
/// EventLoop::new().run_until_complete(async {
///     let unwanted = call_soon(|| unreachable!("it is cancelled"));
///     call_soon(|| println!("at the next pass"));
///     unwanted.cancel();
///     yield_now().await;
/// });
/// ```
#[track_caller]
pub fn call_soon(closure: impl FnOnce() + 'static) -> CallHandle {
    let at = Location::caller();
    here("call_soon", |core| core.call_soon(Box::new(closure), at))
}

/// Calls `closure` after `delay`, on the loop that runs on this thread. Never early; any delay is valid. The order of
/// callbacks that are due at the same instant is not promised.
///
/// # Panics
///
/// When no loop runs on this thread, or it has no timers.
///
/// # Examples
///
/// ```
/// use evenloop_executor::call_later;
/// use std::time::Duration;
///
/// fn remind() {
///     let tea = call_later(Duration::from_secs(180), || println!("the tea is ready"));
///     println!("to be at {:?}; `cancel` takes it back", tea.when());
/// }
/// # let _ = remind;
/// ```
#[track_caller]
pub fn call_later(delay: Duration, closure: impl FnOnce() + 'static) -> CallHandle {
    let at = Location::caller();
    here("call_later", |core| core.call_later(delay, Box::new(closure), at))
}

/// Calls `closure` at `when` by the loop's clock, or in the next passes if that has passed. Otherwise as [`call_later`].
///
/// # Panics
///
/// As for `call_later`.
///
/// # Examples
///
/// ```
/// use evenloop_executor::call_at;
/// use std::time::{Duration, Instant};
///
/// fn at_noon(noon: Instant) {
///     call_at(noon - Duration::from_secs(60), || println!("a minute to go"));
///     call_at(noon, || println!("noon"));
/// }
/// # let _ = at_noon;
/// ```
#[track_caller]
pub fn call_at(when: Instant, closure: impl FnOnce() + 'static) -> CallHandle {
    let at = Location::caller();
    here("call_at", |core| core.call_at(when, Box::new(closure), "call_at", at))
}

impl Handle {
    /// Calls `closure` on the loop's thread at its next turn, from any thread.
    ///
    /// # Errors
    ///
    /// The loop is closed; the closure comes back.
    ///
    /// # Examples
    ///
    /// ```
    /// use evenloop_executor::EventLoop;
    /// use std::sync::mpsc;
    ///
    /// let event_loop = EventLoop::new();
    /// let handle = event_loop.handle();
    /// let (say, hear) = mpsc::channel();
    /// let elsewhere = std::thread::spawn(move || {
    ///     let stop = handle.clone();
    ///     handle.call_soon_threadsafe(move || {
    ///         say.send("on the loop's thread").unwrap();
    ///         stop.stop();
    ///     })
    /// });
    /// event_loop.run_forever();
    /// assert!(elsewhere.join().unwrap().is_ok());
    /// assert_eq!(hear.recv(), Ok("on the loop's thread"));
    /// ```
    #[track_caller]
    pub fn call_soon_threadsafe(
        &self,
        closure: impl FnOnce() + Send + 'static,
    ) -> Result<ThreadsafeCallHandle, NotSpawned<BoxJob>> {
        let closure: StdArc<Remote> = StdArc::new(Mutex::new(Some(Box::new(closure))));
        let turn = Turn { closure: closure.clone(), timer: None };
        match self.shared().spawn_callback(turn, Location::caller()) {
            Ok(task) => Ok(ThreadsafeCallHandle { closure, task }),
            Err(turn) => {
                let value = turn.closure.lock().take().expect("nobody else has its handle");
                Err(NotSpawned { value, why: crate::handle::CLOSED })
            }
        }
    }
}
