//! What the models share.
//!
//! A model is a `#[test]` in `tests/<type>.rs`, named after the race, that gives its body to [`model`]. With
//! `--cfg evenloop_loom` the body runs once for every interleaving that loom can tell apart; without, it runs many times
//! on plain threads (so that ThreadSanitizer can watch the same bodies). Bodies therefore take threads, atomics and
//! cells from `evenloop_core::shim` alone.
//!
//! - The file opens with `//! Models of CRATE's TYPE.`; each model with its question, a sentence that ends in `?`.
//! - [`Witness`] is data that the primitive under test has to order: touching it is the check.
//! - [`model_reaching`] also counts outcomes, so that a model that never gets into its race fails.
//! - [`block_on`] waits without hiding a missing order; a lost wake-up panics.
//!
//! `cargo xtask loom` runs them all. `floors.toml` remembers how much each explored (`--bless`), `coverage.toml` says
//! which race is shown by which model, and `cargo xtask ordmut` weakens every ordering to see a model fail.

#![deny(unsafe_code)]

mod wake_site;
mod witness;

pub use witness::Witness;

use evenloop_core::shim::atomic::{AtomicUsize, Ordering};
use evenloop_core::shim::{StdArc, thread};
use std::future::Future;
use std::io::Write;
use std::pin::{Pin, pin};
use std::sync::{Once, atomic as plain};
use std::task::{Context, Poll, Wake, Waker};

/// Runs `body` for every interleaving (loom) or many times (plain threads; `EVENLOOP_REPEAT`, default 200).
///
/// Any panic ends the process: one in a waker would be reported by whoever woke it, who goes on, and the model would pass.
/// A waker that is to panic does so with [`resume_unwind`](std::panic::resume_unwind), of which no hook is told.
pub fn model(body: impl Fn() + Send + Sync + 'static) {
    static PANICS_COUNT: Once = Once::new();
    PANICS_COUNT.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            // Not to where a test's output is caught: nobody would show it any more.
            let _ = writeln!(std::io::stderr(), "{panic}");
            std::process::abort()
        }));
    });
    #[cfg(evenloop_loom)]
    loom::model(move || {
        evenloop_core::shim::hooks::begin_execution();
        body();
    });
    #[cfg(not(evenloop_loom))]
    {
        let repeat =
            std::env::var("EVENLOOP_REPEAT").ok().and_then(|times| times.parse().ok()).unwrap_or(200);
        (0..repeat).for_each(|_| body());
    }
}

/// As [`model`], and each of `names` has to come about in some interleaving: the body calls [`Outcomes::count`].
///
/// Under `cargo xtask loom` both passes together have to reach them; alone, a pass has to reach them by itself. Plain
/// threads promise nothing about outcomes, so there they are not asked for.
///
/// # Panics
///
/// An outcome never came about.
pub fn model_reaching<const N: usize>(
    names: [&'static str; N],
    body: impl Fn(Outcomes) + Send + Sync + 'static,
) {
    let counts = names.map(|name| (name, plain::AtomicU64::new(0)));
    let outcomes = Outcomes(Box::leak(Box::new(counts)));
    model(move || body(outcomes));
    let reported = std::env::var_os("EVENLOOP_OUTCOMES").is_some();
    for (name, count) in outcomes.0 {
        let count = count.load(plain::Ordering::Relaxed);
        println!("outcome: {count} {name}");
        assert!(reported || cfg!(not(evenloop_loom)) || count > 0, "the outcome `{name}` never came about");
    }
}

/// The outcomes that a model of [`model_reaching`] declared. Loom does not see the counting.
#[derive(Clone, Copy, Debug)]
pub struct Outcomes(&'static [(&'static str, plain::AtomicU64)]);

impl Outcomes {
    /// Counts that `name` came about.
    ///
    /// # Panics
    ///
    /// The model did not declare it.
    pub fn count(self, name: &str) {
        let declared = self.0.iter().find(|(declared, _)| *declared == name);
        let (_, count) = declared.unwrap_or_else(|| panic!("`{name}` is no outcome of this model"));
        count.fetch_add(1, plain::Ordering::Relaxed);
    }
}

/// Has the next so many threads not start that the program under test builds. On plain threads nothing happens: there they do.
pub fn fail_starts(times: usize) {
    #[cfg(evenloop_loom)]
    evenloop_core::shim::hooks::fail_starts(times);
    #[cfg(not(evenloop_loom))]
    let _ = times;
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
        if !wake_site::is_skipped() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Panics when woken.
#[derive(Debug)]
pub struct Panics;

impl Panics {
    /// A waker that panics.
    pub fn waker() -> Waker {
        Waker::from(StdArc::new(Self))
    }
}

impl Wake for Panics {
    fn wake(self: StdArc<Self>) {
        std::panic::resume_unwind(Box::new("woken"));
    }
}

/// Polls once with `waker`.
pub fn poll<F: Future>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

/// Under loom a yield lets the others go on, so whoever yields so often in a row waits for nobody.
const LOST: usize = 200;

/// Polls `future` to its end on this thread with a relaxed waker: it is polled again only after a wake-up, and waiting
/// for one synchronises with nobody.
///
/// # Panics
///
/// Under loom, when no wake-up can come any more.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let (woken, waker) = Woken::waker();
    loop {
        let seen = woken.times();
        if let Poll::Ready(output) = poll(future.as_mut(), &waker) {
            return output;
        }
        let mut yields = 0;
        while woken.times() == seen {
            yields += 1;
            assert!(
                yields < LOST || cfg!(not(evenloop_loom)),
                "lost wake-up: nobody is left to wake this future"
            );
            thread::yield_now();
        }
    }
}
