//! What `#[evenloop::main]` and `#[evenloop::test]` expand to; also good for a `main` that reads its flags first.

use crate::run::{Interrupted, Runner};
use crate::time::VirtualClock;
use std::future::Future;

/// Runs `main` on a loop of its own, on the virtual clock if asked. Ctrl-C ends the process with status 130, after
/// everything was cleaned up.
///
/// # Panics
///
/// With `main`'s own panic; when a loop runs on this thread already.
#[track_caller]
pub fn main<F: Future>(virtual_clock: bool, main: F) -> F::Output {
    runner(virtual_clock).run(main).unwrap_or_else(|Interrupted| {
        eprintln!("interrupted");
        std::process::exit(130)
    })
}

/// Runs `test` on a loop of its own, on the virtual clock if asked. Ctrl-C ends the process as if nobody had listened.
///
/// # Panics
///
/// With the test's own panic; when a loop runs on this thread already.
#[track_caller]
pub fn test<F: Future>(virtual_clock: bool, test: F) -> F::Output {
    match runner(virtual_clock).ignore_ctrl_c().run(test) {
        Ok(output) => output,
        Err(Interrupted) => unreachable!("this runner does not listen to Ctrl-C"),
    }
}

fn runner(virtual_clock: bool) -> Runner {
    if virtual_clock { Runner::on_clock(VirtualClock::new().into()) } else { Runner::new() }
}
