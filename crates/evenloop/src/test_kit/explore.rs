//! A small test in every order.
//!
//! At each step at which several tasks are ready there is a choice: which of them runs, counted from the one that was ready
//! first. A choice other than 0 is a *deviation* from first come, first served; a schedule is a list of them.
//!
//! ```text
//! to be run:  [] ─► runs, and deviates as it says ─► for each step after its last deviation, and each other choice there:
//!              ▲                                      its deviations, and that one ─┐  if they are within the bound
//!              └────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! X1. Each schedule is run once: it comes from the one that lacks its last deviation.
//! X2. Those with fewer deviations are run first, so the one that fails first has as few as any.

use super::seeds::TestOutcome;
use crate::run::Runner;
use crate::time::{Driver, VirtualClock};
use evenloop_core::shim::StdArc;
use evenloop_core::{Park, Runtime, ThreadPark, Unpark};
use evenloop_executor::watch::snapshot;
use evenloop_executor::{EventLoop, TaskInfo};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The environment variable that has one schedule run alone.
const VARIABLE: &str = "EVENLOOP_TEST_SCHEDULE";

/// So many schedules are no small test any more.
const SCHEDULES: usize = 1_000_000;

/// So many steps of one schedule are taken for a test that never ends.
const STEPS: usize = 100_000;

/// How long a thread that the test started may take before nobody is expected to wake the loop any more.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs `test` in every order of the tasks that are ready that deviates from first come, first served at most `bound` times,
/// and answers how many those were. `usize::MAX` is every order there is.
///
/// Each run has a loop on a virtual clock of its own. At each step any task that is ready may be the next to run: those that
/// the step before has woken, too, which on a loop as it is run later. Once `test` is over the order is the usual one.
/// A schedule fails if `test` panics or answers an `Err`, if another task panics and nobody sees it, and if nothing can happen
/// any more. The schedules with the fewest deviations come first.
///
/// How many there are grows with the power of the bound: most mistakes show with two deviations. The test must do the same
/// each time, so it asks no real clock and no source of chance; it has no network (see [`stream_pair`](super::stream_pair)).
///
/// With the environment variable `EVENLOOP_TEST_SCHEDULE`, which the report of a schedule that fails sets out, that one runs
/// alone.
///
/// # Panics
///
/// When a schedule fails: with how it failed, which task ran at each step where there was a choice, and how to run it again.
/// When `test` does not do the same each time; when there are more than 1,000,000 schedules, or more than 100,000 steps in one;
/// when a loop runs on this thread already.
///
/// # Examples
///
/// ```
/// use evenloop::{create_task, test_kit::explore};
/// use std::cell::Cell;
/// use std::rc::Rc;
///
/// let schedules = explore(usize::MAX, || async {
///     let sum = Rc::new(Cell::new(0));
///     let add = |summand| {
///         let sum = sum.clone();
///         create_task(async move { sum.set(sum.get() + summand) }) // no await between the two: nobody comes between
///     };
///     let (one, two) = (add(1), add(2));
///     one.await;
///     two.await;
///     assert_eq!(sum.get(), 3);
/// });
/// assert_eq!(schedules, 3); // one, two; two, one; one, the test, two
/// ```
#[track_caller]
pub fn explore<F: Future<Output: TestOutcome>>(bound: usize, test: impl Fn() -> F) -> usize {
    if let Ok(schedule) = std::env::var(VARIABLE) {
        replay(&schedule, test);
        return 1;
    }
    // Sorted by their deviations (X2).
    let mut to_run = VecDeque::from([Schedule::default()]);
    let mut count = 0;
    while let Some(schedule) = to_run.pop_front() {
        count += 1;
        let steps = run(&schedule, &test);
        assert!(
            steps.len() >= schedule.end(),
            "`explore`: the test does not do the same each time: there was a choice at {} steps at least, and now at {}",
            schedule.end(),
            steps.len()
        );
        if schedule.0.len() == bound {
            continue;
        }
        for (at, step) in steps.iter().enumerate().skip(schedule.end()) {
            let others = 1..step.ready.len();
            to_run.extend(others.map(|choice| schedule.and(Deviation { at, choice })));
            let known = count + to_run.len();
            assert!(
                known <= SCHEDULES,
                "`explore`: there are more than {SCHEDULES} schedules: lower the bound"
            );
        }
    }
    count
}

/// Runs `test` once, in the order of a schedule as [`explore`] reports it.
///
/// # Panics
///
/// As [`explore`]; and when `schedule` is none.
#[track_caller]
pub fn replay<F: Future<Output: TestOutcome>>(schedule: &str, test: impl Fn() -> F) {
    let choices: Result<_, _> = schedule.split(',').map(|choice| choice.trim().parse()).collect();
    let choices: Vec<usize> = choices.unwrap_or_else(|_: std::num::ParseIntError| {
        panic!("`replay`: a schedule is numbers with commas between them, and not {schedule:?} ({VARIABLE})")
    });
    let deviations = choices.into_iter().enumerate().filter(|&(_, choice)| choice > 0);
    run(&Schedule(deviations.map(|(at, choice)| Deviation { at, choice }).collect()), &test);
}

/// Where a run deviates, first step first.
#[derive(Clone, Default)]
struct Schedule(Vec<Deviation>);

#[derive(Clone, Copy)]
struct Deviation {
    /// At which of the steps at which there is a choice.
    at: usize,
    choice: usize,
}

impl Schedule {
    fn choice(&self, at: usize) -> usize {
        self.0.binary_search_by_key(&at, |deviation| deviation.at).map_or(0, |found| self.0[found].choice)
    }

    /// The step after the last deviation.
    fn end(&self) -> usize {
        self.0.last().map_or(0, |deviation| deviation.at + 1)
    }

    /// This one, and another deviation after its end.
    fn and(&self, another: Deviation) -> Self {
        Self(self.0.iter().copied().chain([another]).collect())
    }
}

/// A step at which there was a choice.
struct Step {
    ready: Vec<String>,
    chosen: usize,
}

/// What the run and those who look at it share.
#[derive(Default)]
struct Run {
    steps: RefCell<Vec<Step>>,
    /// How many, those without a choice included.
    taken: Cell<usize>,
    /// The test itself is over.
    over: Cell<bool>,
    /// An error that nobody sees.
    unseen: RefCell<Option<String>>,
}

impl Run {
    fn choose(&self, schedule: &Schedule, ready: &[TaskInfo]) -> usize {
        if self.over.get() {
            return 0;
        }
        self.taken.set(self.taken.get() + 1);
        assert!(self.taken.get() <= STEPS, "`explore`: the test is not over after {STEPS} steps");
        if ready.len() == 1 {
            return 0;
        }
        let mut steps = self.steps.borrow_mut();
        let chosen = schedule.choice(steps.len());
        assert!(
            chosen < ready.len(),
            "`explore`: the test does not do the same each time: at step {} there were more than {chosen} tasks ready, \
             and now there are {}",
            steps.len(),
            ready.len()
        );
        steps.push(Step { ready: ready.iter().map(TaskInfo::name).collect(), chosen });
        chosen
    }
}

/// Runs the test in the order of a schedule, and answers where there was a choice.
#[track_caller]
fn run<F: Future<Output: TestOutcome>>(schedule: &Schedule, test: &impl Fn() -> F) -> Vec<Step> {
    let shared = Rc::new(Run::default());
    let number = Rc::new(Cell::new(0));
    let driver = Driver::new(LonelyPark::new(number.clone()), VirtualClock::new().into());
    let runtime = Runtime::builder("evenloop").timers(driver.timers());
    let builder = EventLoop::builder().runtime(runtime).park(Box::new(driver)).watch(true).debug(false);
    let (chooses, unseen, schedule) = (shared.clone(), shared.clone(), schedule.clone());
    let event_loop = builder
        .choose_next(move |ready| chooses.choose(&schedule, ready))
        .on_unhandled(move |error| {
            unseen.unseen.borrow_mut().get_or_insert_with(|| error.to_string());
        })
        .build();
    number.set(event_loop.number());
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        Runner::of(event_loop).ignore_ctrl_c().run(async {
            let outcome = test().await;
            shared.over.set(true);
            outcome.has_failed()
        })
    }));
    let steps = shared.steps.take();
    let failure = match outcome {
        Err(panic) => words(&*panic),
        Ok(Ok(true)) => "the test answered an error".to_owned(),
        Ok(_) => match shared.unseen.take() {
            Some(unseen) => unseen,
            None => return steps,
        },
    };
    panic!("{}", report(&failure, &steps))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref().map(|text: &&str| (*text).to_owned()))
        .unwrap_or_else(|| "a panic without words".to_owned())
}

/// What is said of a schedule that fails.
fn report(failure: &str, steps: &[Step]) -> String {
    let mut text = format!("a schedule fails: {failure}\nwhere there was a choice, it went on like this:\n");
    for Step { ready, chosen } in steps {
        let mut others = ready.clone();
        let ran = others.remove(*chosen);
        let mark = if *chosen == 0 { "" } else { "  <- a deviation" };
        let _ = writeln!(text, "  {ran} ran, and {} could have{mark}", others.join(", "));
    }
    let kept = steps.iter().rposition(|step| step.chosen > 0).map_or(1, |last| last + 1);
    let choices: Vec<_> = steps.iter().take(kept).map(|step| step.chosen.to_string()).collect();
    let choices = if choices.is_empty() { "0".to_owned() } else { choices.join(",") };
    let _ = write!(text, "to run it alone: {VARIABLE}={choices}");
    text
}

/// The innermost park of a loop that nobody outside wakes, but threads of its own for a while.
struct LonelyPark {
    inner: ThreadPark,
    /// The loop's number, once it is known.
    number: Rc<Cell<u64>>,
}

impl LonelyPark {
    fn new(number: Rc<Cell<u64>>) -> Self {
        Self { inner: ThreadPark::new(), number }
    }
}

impl Park for LonelyPark {
    fn park(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        if timeout.is_some() {
            return self.inner.park(timeout);
        }
        let begin = Instant::now();
        while let Some(rest) = PATIENCE.checked_sub(begin.elapsed()) {
            if self.inner.park(Some(rest))? {
                return Ok(true);
            }
        }
        let mut snapshot = snapshot();
        snapshot.loops.retain(|it| it.number == self.number.get());
        Err(io::Error::other(format!("all its tasks wait, and no deadline is set\n{snapshot}")))
    }

    fn unparker(&self) -> StdArc<dyn Unpark> {
        self.inner.unparker()
    }
}
