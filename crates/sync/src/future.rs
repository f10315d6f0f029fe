//! A value that will be set once, and that any number of tasks wait for.
//!
//! ```text
//! pending ── set_result, set_exception, cancel ──► done: waiters released in order, callbacks run in order
//!
//! wait   New ── done ──────────────────────► Done (the outcome)
//!         └── pending ──► Waiting ── done ──► Granted ── poll ──┘
//!                            │ drop: leaves      │ drop: nothing to hand on, all were released
//! ```
//!
//! F1. The outcome is written once, under the mutex, and never changes: so it is lent, not copied.
//! F2. Done implies an empty line: whoever comes later finds the outcome.
//! F3. Wakers, callbacks and the user's values run and are dropped after the mutex is released.
//! F4. An error that nobody has looked at when the last handle goes is reported, once.
//! F5. Callbacks of a done future are run by one job at a time (`Delivery`), which is on its way iff `delivering`. Who registers
//!     meanwhile leaves the callback to it, so that it comes after those before it, on whatever thread they run.
//!
//! Callbacks need somebody to run them. asyncio's loop does it in its next pass, never inside the call that sets; here the
//! current runtime's [`Spawn`](evenloop_core::Spawn) takes them as one job, so that their order holds. Without a runtime
//! they run on the setter's thread, before the call returns.

use crate::first_panic::FirstPanic;
use crate::report::report;
use crate::wait_list::{Place, Waiters, wake_due};
use evenloop_core::context::Context as Variables;
use evenloop_core::shim::atomic::{AtomicBool, Ordering};
use evenloop_core::shim::{Arc, Mutex, OnceLock};
use evenloop_core::watch::{self, On};
use evenloop_core::{BoxFuture, Runtime};
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::future::IntoFuture;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

/// An error of any type.
type BoxError = Box<dyn Error + Send + Sync>;

/// A value that will be set once, awaited by any number of tasks: asyncio's `Future`.
///
/// Cheap to clone; clones are the same future. [`wait`](Self::wait) (or `(&future).await`) lends the outcome; awaiting a
/// clone (`future.clone().await`) gives a clone of it, where result and error can be cloned. If nobody sets it, whoever
/// waits does so for ever: where the loss of the setter has to be noticed, take a [`oneshot`](crate::oneshot).
///
/// # Examples
///
/// ```
/// use evenloop_sync::Future;
/// # futures::executor::block_on(async {
/// let future = Future::<_>::new();
/// let waiting = future.clone();
/// let (seen, set) = futures::join!(async { *waiting.wait().await.unwrap() }, async { future.set_result(7) });
/// assert_eq!(seen, 7);
/// assert!(set.is_ok());
/// assert!(future.set_result(8).is_err()); // once
/// # });
/// ```
#[doc(alias = "OnceCell")]
pub struct Future<T, E = BoxError> {
    shared: Arc<Shared<T, E>>,
}

struct Shared<T, E> {
    /// F1.
    outcome: OnceLock<Outcome<T, E>>,
    /// Whether somebody has seen the outcome (F4).
    seen: AtomicBool,
    state: Mutex<State<T, E>>,
}

struct State<T, E> {
    waiters: Waiters<()>,
    /// In the order of registration. Once the future is done: those that the job has not come to (F5).
    callbacks: VecDeque<(CallbackId, Callback<T, E>)>,
    /// F5.
    delivering: bool,
    last_id: u64,
    /// Hands callbacks to a runtime; known to whoever registered one.
    deliver: Option<Deliver<T, E>>,
}

type Callback<T, E> = Box<dyn FnOnce(&Future<T, E>) + Send>;

type Deliver<T, E> = fn(Delivery<T, E>);

enum Outcome<T, E> {
    Result(T),
    Exception {
        error: E,
        /// How to show the error, and where it was set, for the report.
        show: fn(&E, &mut fmt::Formatter<'_>) -> fmt::Result,
        set_at: &'static Location<'static>,
    },
    Cancelled,
}

/// The future is done already; here is what was to be set.
///
/// # Examples
///
/// ```
/// use evenloop_sync::{Future, InvalidState};
///
/// let answer: Future<u32> = Future::new();
/// answer.set_result(1).unwrap();
/// assert_eq!(answer.set_result(2), Err(InvalidState(2)), "what was not set comes back");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[doc(alias = "InvalidStateError")]
pub struct InvalidState<T>(pub T);

/// What a future ended with, instead of a result.
///
/// # Examples
///
/// ```
/// use evenloop_sync::{Future, FutureError};
///
/// let answer: Future<u32, &str> = Future::new();
/// answer.set_exception("no route").unwrap();
/// let error = answer.result().unwrap().unwrap_err();
/// assert_eq!(error.cloned(), FutureError::Exception("no route"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FutureError<E> {
    /// [`Future::cancel`] was called.
    Cancelled,
    /// The error that was set.
    Exception(E),
}

/// Names a callback, for [`Future::remove_done_callback`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallbackId(u64);

/// What a [`Future`] looked like a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FutureStatistics {
    /// Whether it was done.
    pub done: bool,
    /// How many futures waited for it.
    pub waiters: usize,
    /// How many callbacks were registered.
    pub callbacks: usize,
}

// === impl Future ===

impl<T, E> Future<T, E> {
    /// A future that is pending.
    pub fn new() -> Self {
        let state = State {
            waiters: Waiters::new(),
            callbacks: VecDeque::new(),
            delivering: false,
            last_id: 0,
            deliver: None,
        };
        let (outcome, seen) = (OnceLock::new(), AtomicBool::new(false));
        Self { shared: Arc::new(Shared { outcome, seen, state: Mutex::new(state) }) }
    }

    /// Ends the future with a result: releases all who wait, in order, and runs the callbacks.
    ///
    /// # Errors
    ///
    /// The future is done already; `result` comes back.
    pub fn set_result(&self, result: T) -> Result<(), InvalidState<T>> {
        self.finish(Outcome::Result(result)).map_err(|refused| match refused {
            Outcome::Result(result) => InvalidState(result),
            _ => unreachable!("what was handed in comes back"),
        })
    }

    /// Ends the future with an error, as [`set_result`](Self::set_result) with a result.
    ///
    /// An error that nobody has seen when the last handle is dropped is reported, once: to the current runtime's
    /// [`Spawn::report`](evenloop_core::Spawn::report), else to the standard error stream.
    ///
    /// # Errors
    ///
    /// The future is done already; `error` comes back.
    #[track_caller]
    pub fn set_exception(&self, error: E) -> Result<(), InvalidState<E>>
    where
        E: fmt::Debug,
    {
        let outcome = Outcome::Exception { error, show: E::fmt, set_at: Location::caller() };
        self.finish(outcome).map_err(|refused| match refused {
            Outcome::Exception { error, .. } => InvalidState(error),
            _ => unreachable!("what was handed in comes back"),
        })
    }

    /// Cancels the future, as [`set_result`](Self::set_result) ends it. Answers whether it was still pending.
    pub fn cancel(&self) -> bool {
        self.finish(Outcome::Cancelled).is_ok()
    }

    /// Whether the future has a result, an error, or was cancelled.
    #[doc(alias = "is_finished")]
    pub fn done(&self) -> bool {
        self.outcome().is_some()
    }

    /// Whether the future was cancelled.
    pub fn cancelled(&self) -> bool {
        matches!(self.outcome(), Some(Outcome::Cancelled))
    }

    /// The outcome, if there is one. Does not wait; where asyncio raises `InvalidStateError`, this is None.
    pub fn result(&self) -> Option<Result<&T, FutureError<&E>>> {
        self.outcome().map(|outcome| self.lend(outcome))
    }

    /// The error, if the future ended with one.
    pub fn exception(&self) -> Option<&E> {
        match self.result()? {
            Err(FutureError::Exception(error)) => Some(error),
            _ => None,
        }
    }

    /// Waits until the future is done, and lends the outcome.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.** The place only decides the order of being woken: all are released
    /// together.
    ///
    /// # Errors
    ///
    /// [`Exception`](FutureError::Exception): the error that was set. [`Cancelled`](FutureError::Cancelled): the future
    /// was cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let future = evenloop_sync::Future::<u8>::new();
    /// future.set_exception("no luck".into()).unwrap();
    /// let error = future.wait().await.unwrap_err();
    /// assert_eq!(error.to_string(), "the future failed: no luck");
    /// # });
    /// ```
    pub fn wait(&self) -> FutureWait<'_, T, E> {
        FutureWait { future: self, place: Place::New }
    }

    /// Takes a callback back. Answers whether it was still registered: it is until its job has come to it.
    pub fn remove_done_callback(&self, id: CallbackId) -> bool {
        let mut state = self.shared.state.lock();
        let place = state.callbacks.iter().position(|(known, _)| *known == id);
        let removed = place.and_then(|place| state.callbacks.remove(place));
        drop(state); // before the callback
        removed.is_some()
    }

    /// What the future looks like. May be out of date by the time it returns.
    pub fn statistics(&self) -> FutureStatistics {
        let state = self.shared.state.lock();
        FutureStatistics {
            done: self.shared.outcome.get().is_some(),
            waiters: state.waiters.len(),
            callbacks: state.callbacks.len(),
        }
    }

    /// The outcome, once the mutex says that it is there.
    fn outcome(&self) -> Option<&Outcome<T, E>> {
        let _written_under_it = self.shared.state.lock();
        self.shared.outcome.get()
    }

    fn lend<'a>(&self, outcome: &'a Outcome<T, E>) -> Result<&'a T, FutureError<&'a E>> {
        // ORDERING: Relaxed: the last handle's drop comes after all others' by their count.
        self.shared.seen.store(true, Ordering::Relaxed);
        match outcome {
            Outcome::Result(result) => Ok(result),
            Outcome::Exception { error, .. } => Err(FutureError::Exception(error)),
            Outcome::Cancelled => Err(FutureError::Cancelled),
        }
    }

    /// Ends the future, unless it is done: then the outcome comes back.
    fn finish(&self, outcome: Outcome<T, E>) -> Result<(), Outcome<T, E>> {
        let mut state = self.shared.state.lock();
        if let Err(refused) = self.shared.outcome.set(outcome) {
            drop(state); // before the value
            return Err(refused);
        }
        state.waiters.grant_all(|()| ());
        let deliver = state.deliver.filter(|_| !state.callbacks.is_empty());
        state.delivering = deliver.is_some();
        drop(state);
        // A waker that panics keeps no callback from being run.
        let mut panic = FirstPanic::default();
        panic.catch(|| wake_due(None, &self.shared.state, |state: &mut State<T, E>| &mut state.waiters));
        if let Some(deliver) = deliver {
            panic.catch(|| deliver(Delivery { future: self.clone(), is_over: false }));
        }
        panic.go_on();
        Ok(())
    }
}

impl<T: Send + Sync + 'static, E: Send + Sync + 'static> Future<T, E> {
    /// Registers what is to run once the future is done; at once if it is.
    ///
    /// Callbacks run one after another in the order of their registration, as a job of the runtime that is current where the
    /// future is ended (or, if it is done, here): never inside this call or the one that ends the future. Without a runtime
    /// they run on the thread that ends the future (or here), before that call returns. What is registered while others are
    /// still to be run is run after them, by the same job or thread. A callback that panics keeps no other from running; the
    /// first panic goes on afterwards. A runtime that ends before it has run them drops them.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc;
    /// let future = evenloop_sync::Future::<u8>::new();
    /// let (said, heard) = mpsc::channel();
    /// future.add_done_callback(move |future| said.send(*future.result().unwrap().unwrap()).unwrap());
    /// future.set_result(7).unwrap();
    /// assert_eq!(heard.recv(), Ok(7));
    /// ```
    pub fn add_done_callback(&self, callback: impl FnOnce(&Self) + Send + 'static) -> CallbackId {
        let variables = Variables::current();
        let callback: Callback<T, E> = Box::new(move |future| variables.run(|| callback(future)));
        let mut state = self.shared.state.lock();
        state.last_id += 1;
        let id = CallbackId(state.last_id);
        state.callbacks.push_back((id, callback));
        if self.shared.outcome.get().is_none() {
            state.deliver = Some(Self::deliver);
        } else if !std::mem::replace(&mut state.delivering, true) {
            drop(state);
            Self::deliver(Delivery { future: self.clone(), is_over: false });
        }
        id
    }

    /// Gives callbacks to the current runtime, or runs them here.
    fn deliver(delivery: Delivery<T, E>) {
        let Ok(spawn) = Runtime::current_spawn("Future::add_done_callback") else {
            return delivery.run();
        };
        let job: BoxFuture = Box::pin(async move { delivery.run() });
        if let Err(refused) = spawn.spawn(job) {
            // The host has ended. The job never waits, so one poll is all of it.
            let mut job = refused.into_inner();
            let _ = job.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()));
        }
    }
}

impl<T, E> Clone for Future<T, E> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T, E> Default for Future<T, E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, E> fmt::Debug for Future<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome() {
            None => {
                let FutureStatistics { waiters, callbacks, .. } = self.statistics();
                write!(f, "Future [pending, waiters: {waiters}, callbacks: {callbacks}]")
            }
            Some(Outcome::Result(_)) => f.write_str("Future [finished]"),
            Some(Outcome::Exception { error, show, .. }) => {
                f.write_str("Future [failed: ")?;
                show(error, f)?;
                f.write_str("]")
            }
            Some(Outcome::Cancelled) => f.write_str("Future [cancelled]"),
        }
    }
}

// === Callbacks (F5) ===

/// The job of a done future's callbacks. Dropped without having run, it drops them.
struct Delivery<T, E> {
    future: Future<T, E>,
    is_over: bool,
}

impl<T, E> Delivery<T, E> {
    /// Runs the callbacks, until there are no more.
    fn run(mut self) {
        let mut panic = FirstPanic::default();
        while let Some(callback) = self.next() {
            panic.catch(|| callback(&self.future));
        }
        panic.go_on();
    }

    /// The next one; the others stay registered meanwhile. None: that was all, and whoever registers from now on needs another
    /// job.
    fn next(&mut self) -> Option<Callback<T, E>> {
        let mut state = self.future.shared.state.lock();
        let next = state.callbacks.pop_front();
        if next.is_none() {
            state.delivering = false;
            self.is_over = true;
        }
        next.map(|(_, callback)| callback)
    }
}

impl<T, E> Drop for Delivery<T, E> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut panic = FirstPanic::default();
        while let Some(callback) = self.next() {
            panic.catch(|| drop(callback));
        }
        panic.go_on();
    }
}

// === The report (F4) ===

impl<T, E> Drop for Shared<T, E> {
    fn drop(&mut self) {
        // ORDERING: Relaxed: see `lend`.
        if self.seen.load(Ordering::Relaxed) {
            return;
        }
        if let Some(Outcome::Exception { error, show, set_at }) = self.outcome.get() {
            // A panic here could be the second one at once.
            let mut panic = FirstPanic::default();
            panic.catch(|| report("Future::set_exception", &Unseen { error, show: *show, set_at }));
            panic.let_go();
        }
    }
}

/// An error that nobody has seen.
struct Unseen<'a, E> {
    error: &'a E,
    show: fn(&E, &mut fmt::Formatter<'_>) -> fmt::Result,
    set_at: &'static Location<'static>,
}

impl<E> fmt::Display for Unseen<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("future failed, and nobody has seen the error: ")?;
        (self.show)(self.error, f)?;
        write!(f, " (set at {})", self.set_at)
    }
}

// === impl FutureWait ===

/// The future of [`Future::wait`].
#[must_use = "futures do nothing unless awaited"]
pub struct FutureWait<'a, T, E = BoxError> {
    future: &'a Future<T, E>,
    place: Place,
}

impl<T, E> Shared<T, E> {
    /// Ready once there is an outcome.
    fn poll(&self, place: &mut Place, cx: &mut Context<'_>) -> Poll<()> {
        let polled = match place {
            Place::New => {
                let waker = cx.waker().clone();
                let mut state = self.state.lock();
                if self.outcome.get().is_none() {
                    *place = Place::Waiting(state.waiters.push(waker, ()));
                    Poll::Pending
                } else {
                    drop(state); // before the waker
                    *place = Place::Done;
                    Poll::Ready(())
                }
            }
            Place::Waiting(_) => {
                place.poll(&self.state, |state: &mut State<T, E>| &mut state.waiters, cx.waker())
            }
            Place::Done => panic!("`Future::wait` was polled after it had finished"),
        };
        watch::noted(polled, cx, "Future::wait", || On::object(self))
    }

    fn leave(&self, place: &mut Place) {
        let left = place.leave(&self.state, |state: &mut State<T, E>| &mut state.waiters);
        drop(left); // nothing to hand on: all were released together
    }
}

impl<'a, T, E> std::future::Future for FutureWait<'a, T, E> {
    type Output = Result<&'a T, FutureError<&'a E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { future, place } = &mut *self;
        future.shared.poll(place, cx).map(|()| {
            let outcome = future.shared.outcome.get().expect("F1");
            future.lend(outcome)
        })
    }
}

impl<T, E> Drop for FutureWait<'_, T, E> {
    fn drop(&mut self) {
        self.future.shared.leave(&mut self.place);
    }
}

impl<T, E> fmt::Debug for FutureWait<'_, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FutureWait [{:?}]", self.place)
    }
}

impl<'a, T, E> IntoFuture for &'a Future<T, E> {
    type Output = Result<&'a T, FutureError<&'a E>>;
    type IntoFuture = FutureWait<'a, T, E>;

    fn into_future(self) -> Self::IntoFuture {
        self.wait()
    }
}

// === impl OwnedFutureWait ===

/// The future of awaiting a [`Future`] itself, or a clone: it gives a clone of the outcome.
///
/// # Cancel safety
///
/// **Cancel safe; the place in line is lost**, as for [`Future::wait`].
#[must_use = "futures do nothing unless awaited"]
pub struct OwnedFutureWait<T, E = BoxError> {
    future: Future<T, E>,
    place: Place,
}

impl<T: Clone, E: Clone> std::future::Future for OwnedFutureWait<T, E> {
    type Output = Result<T, FutureError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { future, place } = &mut *self;
        future.shared.poll(place, cx).map(|()| {
            let outcome = future.shared.outcome.get().expect("F1");
            future.lend(outcome).cloned().map_err(|error| error.cloned())
        })
    }
}

impl<T, E> Drop for OwnedFutureWait<T, E> {
    fn drop(&mut self) {
        self.future.shared.leave(&mut self.place);
    }
}

impl<T, E> fmt::Debug for OwnedFutureWait<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnedFutureWait [{:?}]", self.place)
    }
}

impl<T: Clone, E: Clone> IntoFuture for Future<T, E> {
    type Output = Result<T, FutureError<E>>;
    type IntoFuture = OwnedFutureWait<T, E>;

    fn into_future(self) -> Self::IntoFuture {
        OwnedFutureWait { future: self, place: Place::New }
    }
}

// === Errors ===

impl<T> InvalidState<T> {
    /// Takes back what was to be set.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for InvalidState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InvalidState")
    }
}

impl<T> fmt::Display for InvalidState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the future is done already")
    }
}

impl<T> Error for InvalidState<T> {}

impl<E: Clone> FutureError<&E> {
    /// The same with the error cloned.
    pub fn cloned(&self) -> FutureError<E> {
        match self {
            Self::Cancelled => FutureError::Cancelled,
            Self::Exception(error) => FutureError::Exception((*error).clone()),
        }
    }
}

impl<E: fmt::Display> fmt::Display for FutureError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("the future was cancelled"),
            Self::Exception(error) => write!(f, "the future failed: {error}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> Error for FutureError<E> {}
