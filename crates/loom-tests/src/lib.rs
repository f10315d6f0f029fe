//! What the models share.
//!
//! A model is a `#[test]` in `tests/<type>.rs`, named after the race, that gives its body to [`model`]. With
//! `--cfg evenloop_loom` the body runs once for every interleaving that loom can tell apart; without, it runs many times
//! on plain threads (so that ThreadSanitizer can watch the same bodies). Bodies therefore take threads, atomics and
//! cells from `evenloop_core::shim` alone.

use evenloop_core::shim::atomic::{AtomicUsize, Ordering};
use evenloop_core::shim::{StdArc, thread};
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Wake, Waker};

/// Runs `body` for every interleaving (loom) or many times (plain threads; `EVENLOOP_REPEAT`, default 200).
#[cfg(evenloop_loom)]
pub fn model(body: impl Fn() + Send + Sync + 'static) {
    loom::model(body);
}

/// Runs `body` for every interleaving (loom) or many times (plain threads; `EVENLOOP_REPEAT`, default 200).
#[cfg(not(evenloop_loom))]
pub fn model(body: impl Fn() + Send + Sync + 'static) {
    let repeat = std::env::var("EVENLOOP_REPEAT").ok().and_then(|times| times.parse().ok()).unwrap_or(200);
    for _ in 0..repeat {
        body();
    }
}

/// Counts wake-ups with Relaxed operations only, so that it hides no missing happens-before edge.
#[derive(Debug, Default)]
pub struct Woken(AtomicUsize);

impl Woken {
    /// A waker and its count.
    pub fn waker() -> (StdArc<Self>, Waker) {
        let woken = StdArc::new(Self::default());
        (woken.clone(), Waker::from(woken))
    }

    /// How often it was woken so far.
    pub fn times(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: StdArc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &StdArc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Polls once with `waker`.
pub fn poll<F: Future>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

/// Polls `future` to its end on this thread with a relaxed waker: it is polled again only after a wake-up, and waiting
/// for one synchronises with nobody. A lost wake-up spins until loom's branch limit, which is a failure.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let (woken, waker) = Woken::waker();
    loop {
        let seen = woken.times();
        if let Poll::Ready(output) = poll(future.as_mut(), &waker) {
            return output;
        }
        while woken.times() == seen {
            thread::yield_now();
        }
    }
}
