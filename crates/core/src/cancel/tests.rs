//! Every rule of `cancel`, polled by hand. Time is an instant that the test moves. What all of them need is here.

mod answers;
mod branches;
mod deadlines;
mod ends;
mod hostile;
mod parts;
mod requests;

use super::*;
use crate::runtime::Runtime;
use crate::timers::{TimerKey, Timers, TimersEnded};
use futures::future::{FutureExt, join, pending, ready};
use futures::stream::{FuturesUnordered, StreamExt};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a task's host and handles share.
#[derive(Clone, Default)]
struct Asked(Rc<RefCell<Requests>>);

impl Asked {
    fn request(&self, reason: &'static str) -> bool {
        self.0.borrow_mut().request(reason.into())
    }

    fn now(&self) -> Requests {
        self.0.borrow().clone()
    }

    fn uncancel(&self) -> u32 {
        self.now().uncancel()
    }

    fn count(&self) -> u32 {
        self.now().count()
    }
}

/// A task as a host would run it.
struct Task<T> {
    future: Option<Pin<Box<dyn Future<Output = T>>>>,
    root: Root,
    requests: Asked,
    woken: Arc<Woken>,
}

impl<T> Task<T> {
    fn new(future: impl Future<Output = T> + 'static) -> Self {
        Self::with(Asked::default(), future)
    }

    /// A task that can cancel itself.
    fn with(requests: Asked, future: impl Future<Output = T> + 'static) -> Self {
        Self { future: Some(Box::pin(future)), root: Root::new(), requests, woken: Arc::default() }
    }

    fn cancel(&self, reason: &'static str) {
        self.requests.request(reason);
    }

    fn poll(&mut self) -> Poll<Result<T, Reason>> {
        let waker = Waker::from(self.woken.clone());
        let turn = |turn| match turn {
            Turn::Go => None,
            Turn::Take(reason) => Some(Poll::Ready(Err(reason))),
        };
        if let Some(end) = turn(self.root.before(&self.requests.now(), &waker)) {
            self.future = None;
            return end;
        }
        let woken = self.woken();
        let polled = {
            let requests = self.requests.now();
            let future = self.future.as_mut().expect("not polled after its end");
            self.root.enter(&requests, || future.as_mut().poll(&mut Context::from_waker(&waker)))
        };
        match polled {
            Poll::Ready(value) => {
                self.future = None;
                turn(self.root.finish(&self.requests.now())).unwrap_or(Poll::Ready(Ok(value)))
            }
            Poll::Pending => {
                match turn(self.root.after(&self.requests.now(), &waker, self.woken() > woken)) {
                    Some(end) => {
                        self.future = None;
                        end
                    }
                    None => Poll::Pending,
                }
            }
        }
    }

    fn woken(&self) -> usize {
        self.woken.0.load(Ordering::Relaxed)
    }

    /// Polls while it is woken.
    fn run(&mut self) -> Poll<Result<T, Reason>> {
        loop {
            let before = self.woken();
            let polled = self.poll();
            if polled.is_ready() || self.woken() == before {
                return polled;
            }
        }
    }
}

fn cancelled<T>(reason: &'static str) -> Poll<Result<T, Reason>> {
    Poll::Ready(Err(Reason::new(reason)))
}

#[track_caller]
fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    fn add(&self, what: impl ToString) {
        self.0.borrow_mut().push(what.to_string());
    }

    fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// Ready once the test says so, woken then.
#[derive(Clone, Default)]
struct Gate(Rc<(Cell<bool>, RefCell<Vec<Waker>>)>);

impl Gate {
    fn open(&self) {
        self.0.0.set(true);
        self.0.1.take().into_iter().for_each(Waker::wake);
    }

    fn is_open(&self) -> bool {
        self.0.0.get()
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            if self.0.0.get() {
                return Poll::Ready(());
            }
            self.0.1.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Timers whose time the test moves.
struct Hand {
    start: Instant,
    state: Mutex<HandState>,
}

#[derive(Default)]
struct HandState {
    passed: Duration,
    last_key: u64,
    entries: BTreeMap<u64, (Instant, Waker)>,
    ended: bool,
}

impl Hand {
    fn new() -> (Arc<Self>, Runtime) {
        let hand = Arc::new(Self { start: Instant::now(), state: Mutex::default() });
        (hand.clone(), Runtime::builder("hand").timers(hand).build())
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn advance_to(&self, seconds: u64) {
        let now = self.at(seconds);
        let mut state = self.state.lock().unwrap();
        state.passed = now - self.start;
        let due: Vec<_> =
            state.entries.iter().filter(|(_, (at, _))| *at <= now).map(|(key, _)| *key).collect();
        let wakers: Vec<_> = due.iter().filter_map(|key| state.entries.remove(key)).collect();
        drop(state);
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }

    fn end(&self) {
        let entries = {
            let mut state = self.state.lock().unwrap();
            state.ended = true;
            std::mem::take(&mut state.entries)
        };
        entries.into_values().for_each(|(_, waker)| waker.wake());
    }

    fn pending(&self) -> usize {
        self.state.lock().unwrap().entries.len()
    }
}

impl Timers for Hand {
    fn now(&self) -> Instant {
        self.start + self.state.lock().unwrap().passed
    }

    fn insert(&self, deadline: Instant, waker: &Waker) -> Result<TimerKey, TimersEnded> {
        let mut state = self.state.lock().unwrap();
        if state.ended {
            return Err(TimersEnded);
        }
        state.last_key += 1;
        let key = state.last_key;
        state.entries.insert(key, (deadline, waker.clone()));
        Ok(TimerKey::from_raw(key))
    }

    fn update(&self, key: TimerKey, deadline: Instant, waker: Option<&Waker>) -> Result<bool, TimersEnded> {
        let mut state = self.state.lock().unwrap();
        if state.ended {
            return Err(TimersEnded);
        }
        let Some(entry) = state.entries.get_mut(&key.into_raw()) else { return Ok(false) };
        entry.0 = deadline;
        if let Some(waker) = waker {
            entry.1 = waker.clone();
        }
        Ok(true)
    }

    fn remove(&self, key: TimerKey) -> bool {
        self.state.lock().unwrap().entries.remove(&key.into_raw()).is_some()
    }
}
