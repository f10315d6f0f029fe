//! What `#[evenloop::main]` and `#[evenloop::test]` expand to; also good for a `main` that reads its flags first.

use crate::hang::reported;
use crate::run::{Interrupted, Runner, event_loop_builder};
use crate::test_kit::TestOutcome;
use crate::test_kit::seeds;
use crate::time::{Clock, VirtualClock};
use std::future::Future;
use std::ops::Range;
use std::time::Duration;

/// Runs `main` on a loop of its own, on the virtual clock if asked. Ctrl-C ends the process with status 130, after
/// everything was cleaned up.
///
/// # Panics
///
/// With `main`'s own panic; when a loop runs on this thread already.
///
/// # Examples
///
/// ```
/// let name = std::env::args().nth(1).unwrap_or("world".into()); // before there is a loop
/// evenloop::entry::main(false, async move { println!("hello, {name}") });
/// ```
#[track_caller]
pub fn main<F: Future>(virtual_clock: bool, main: F) -> F::Output {
    Runner::on_clock(clock(virtual_clock)).run(main).unwrap_or_else(|Interrupted| {
        eprintln!("interrupted");
        std::process::exit(130)
    })
}

/// Runs `test` on a loop of its own, on the virtual clock if asked. Ctrl-C ends the process as if nobody had listened.
///
/// As [`test_within`], with a limit of five minutes, or of as many seconds as the environment variable `EVENLOOP_TEST_LIMIT`
/// says (0: none). With the environment variable `EVENLOOP_TEST_SEED` any task that is ready may be the next to run, and that
/// seed decides which.
///
/// # Panics
///
/// With the test's own panic; when a loop runs on this thread already; when the test hangs.
#[track_caller]
pub fn test<F: Future>(virtual_clock: bool, test: F) -> F::Output {
    test_within(virtual_clock, limit(), test)
}

/// As [`test()`], and the test fails when it takes longer than `limit` of real time.
///
/// A test that hangs fails with what each of its tasks waits for, since when, and who holds it, and with the cycle if they
/// wait for each other. On the virtual clock one in which nothing can happen any more (nothing runs, no deadline is set,
/// nobody waits for a descriptor or a thread) fails after ten seconds. If the loop is blocked, so that the test cannot
/// fail, the report is printed and the process ends with status 101.
///
/// # Panics
///
/// As [`test()`].
#[track_caller]
pub fn test_within<F: Future>(virtual_clock: bool, limit: Duration, test: F) -> F::Output {
    let seed = seeds::from_environment();
    run_test(seed, virtual_clock, limit, test)
}

/// Runs `test` once with each seed, as [`test_within`], until it fails; then it says on the standard error stream with which
/// seed, and how to run that again. The seed decides in which order tasks run: see [`with_seeds`](crate::test_kit::with_seeds).
///
/// With the environment variable `EVENLOOP_TEST_SEED` it runs with that seed alone.
///
/// # Panics
///
/// As [`test()`]; when there is no seed.
#[track_caller]
pub fn test_seeds<F: Future<Output: TestOutcome>>(
    virtual_clock: bool,
    limit: Duration,
    seeds: Range<u64>,
    test: impl Fn() -> F,
) -> F::Output {
    seeds::each(seeds, |seed| run_test(Some(seed), virtual_clock, limit, test()))
}

/// The limit of a test that names none.
pub fn limit() -> Duration {
    crate::hang::limit()
}

/// Runs `test` in the order of that seed, if there is one, and reports it if it hangs.
#[track_caller]
fn run_test<F: Future>(seed: Option<u64>, virtual_clock: bool, limit: Duration, test: F) -> F::Output {
    let builder = event_loop_builder(clock(virtual_clock)).watch(true);
    let builder = match seed {
        Some(seed) => builder.choose_next(seeds::chooser(seed)),
        None => builder,
    };
    let runner = Runner::of(builder.build()).ignore_ctrl_c();
    match runner.run(reported(runner.event_loop(), virtual_clock, limit, test)) {
        Ok(output) => output,
        Err(Interrupted) => unreachable!("this runner does not listen to Ctrl-C"),
    }
}

fn clock(virtual_clock: bool) -> Clock {
    if virtual_clock { VirtualClock::new().into() } else { Clock::Real }
}
