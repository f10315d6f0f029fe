//! What `#[evenloop::main]` and `#[evenloop::test]` expand to; also good for a `main` that reads its flags first.

use crate::hang::reported;
use crate::run::{Interrupted, Runner};
use crate::time::VirtualClock;
use std::future::Future;
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
    runner(virtual_clock).run(main).unwrap_or_else(|Interrupted| {
        eprintln!("interrupted");
        std::process::exit(130)
    })
}

/// Runs `test` on a loop of its own, on the virtual clock if asked. Ctrl-C ends the process as if nobody had listened.
///
/// As [`test_within`], with a limit of five minutes, or of as many seconds as the environment variable `EVENLOOP_TEST_LIMIT`
/// says (0: none).
///
/// # Panics
///
/// With the test's own panic; when a loop runs on this thread already; when the test hangs.
#[track_caller]
pub fn test<F: Future>(virtual_clock: bool, test: F) -> F::Output {
    test_within(virtual_clock, crate::hang::limit(), test)
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
    let runner = runner(virtual_clock).ignore_ctrl_c();
    runner.event_loop().watch();
    match runner.run(reported(runner.event_loop(), virtual_clock, limit, test)) {
        Ok(output) => output,
        Err(Interrupted) => unreachable!("this runner does not listen to Ctrl-C"),
    }
}

fn runner(virtual_clock: bool) -> Runner {
    if virtual_clock { Runner::on_clock(VirtualClock::new().into()) } else { Runner::new() }
}
