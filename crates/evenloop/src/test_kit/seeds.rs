//! A test in random orders, each decided by a seed.

use super::random::Random;
use evenloop_executor::TaskInfo;
use std::future::Future;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The environment variable that has every test run in the order of one seed.
pub(crate) const VARIABLE: &str = "EVENLOOP_TEST_SEED";

/// What a test answers, for those who run it more than once.
pub trait TestOutcome {
    /// Whether the test failed.
    fn has_failed(&self) -> bool;
}

impl TestOutcome for () {
    fn has_failed(&self) -> bool {
        false
    }
}

impl<T, E> TestOutcome for Result<T, E> {
    fn has_failed(&self) -> bool {
        self.is_err()
    }
}

/// The seed that the environment asks for.
///
/// # Panics
///
/// When it is no number.
pub(crate) fn from_environment() -> Option<u64> {
    let text = std::env::var(VARIABLE).ok()?;
    let seed = text.trim().parse();
    Some(
        seed.unwrap_or_else(|_| {
            panic!("{VARIABLE} is a seed, a number from 0 to 2^64 - 1, and not {text:?}")
        }),
    )
}

/// Chooses at random: any task that is ready may be next.
pub(crate) fn chooser(seed: u64) -> impl FnMut(&[TaskInfo]) -> usize {
    let mut random = Random::new(seed);
    move |ready| random.below(ready.len() as u64) as usize
}

/// Runs `once` with each seed until one fails: see [`test_seeds`](crate::entry::test_seeds).
pub(crate) fn each<T: TestOutcome>(seeds: Range<u64>, mut once: impl FnMut(u64) -> T) -> T {
    let alone = from_environment();
    let mut seeds = alone.into_iter().chain(if alone.is_none() { seeds } else { 0..0 });
    let mut last = None;
    while last.as_ref().is_none_or(|last: &T| !last.has_failed()) {
        let Some(seed) = seeds.next() else { break };
        let outcome = catch_unwind(AssertUnwindSafe(|| once(seed)));
        if outcome.as_ref().map_or(true, TestOutcome::has_failed) {
            eprintln!("the test fails with seed {seed}; to run it with that alone: {VARIABLE}={seed}");
        }
        last = Some(outcome.unwrap_or_else(|panic| resume_unwind(panic)));
    }
    last.expect("`with_seeds` and `seeds = N` need at least one seed")
}

/// Runs a test in as many random orders: `#[evenloop::test(virtual_clock, seeds = 100)]` without the attribute.
///
/// Each run has a loop on a virtual clock of its own, on which any task that is ready may be the next to run; its seed
/// decides which. So what depends on an order of tasks that the loop does not promise, or that the network would upset, shows
/// sooner or later, and again with the same seed. What `test` answers last, or the first `Err`, is the answer.
///
/// With the environment variable `EVENLOOP_TEST_SEED` it runs once, with that seed. A run that takes too long, or that can
/// never end, fails as [`entry::test`](crate::entry::test()) says.
///
/// # Panics
///
/// With the test's own panic, after a line on the standard error stream that says which seed it was. When `seeds` is 0, or
/// the variable is no number; when a loop runs on this thread already.
///
/// # Examples
///
/// ```
/// use evenloop::create_task;
/// use evenloop::test_kit::with_seeds;
/// use std::cell::RefCell;
/// use std::collections::HashSet;
/// use std::rc::Rc;
///
/// let orders = RefCell::new(HashSet::new());
/// with_seeds(50, || async {
///     let order = Rc::new(RefCell::new(Vec::new()));
///     let push = |number| {
///         let order = order.clone();
///         async move { order.borrow_mut().push(number) }
///     };
///     for task in [1, 2, 3].map(|number| create_task(push(number))) {
///         task.await;
///     }
///     orders.borrow_mut().insert(order.take());
/// });
/// assert_eq!(orders.into_inner().len(), 6);
/// ```
#[track_caller]
pub fn with_seeds<F: Future<Output: TestOutcome>>(seeds: u64, test: impl Fn() -> F) -> F::Output {
    crate::entry::test_seeds(true, crate::entry::limit(), 0..seeds, test)
}
