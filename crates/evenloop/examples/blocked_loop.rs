//! A task that blocks the thread makes everything else late; debug mode names the culprit, and for how long it blocked.
//!
//! ```text
//! cargo run -p evenloop --example blocked_loop
//! cargo run -p evenloop --example blocked_loop -- --virtual --block 30
//! ```
//!
//! On the real clock the watchdog speaks first, while the loop is blocked. On the virtual one blocking takes no real time.

mod support;

use evenloop::time::{Clock, VirtualClock};
use evenloop::{create_task, event_loop_builder, gather_all, set_blocked_hook, sleep};
use std::time::Duration;
use support::{Stopwatch, options};

async fn sleeper(seconds: f64) {
    let watch = Stopwatch::start();
    sleep(Duration::from_secs_f64(seconds)).await;
    println!("slept {seconds} s: {:.2} s late", watch.seconds() - seconds);
}

fn main() {
    let options = options(
        "A blocked loop, and who blocked it",
        &[
            ("block", 3.0, "seconds for which the thread is blocked"),
            ("first", 1.0, "seconds"),
            ("second", 2.0, "seconds"),
        ],
    );
    let (block, first, second) =
        (options.seconds("block"), options.number("first"), options.number("second"));
    set_blocked_hook(|blocked| eprintln!("watchdog: {blocked}"));
    let clock = if options.virtual_clock { VirtualClock::new().into() } else { Clock::Real };
    let event_loop = event_loop_builder(clock).debug(true).build();
    event_loop.set_unhandled_hook(|report| {
        let place = report.spawned_at().map_or(0, std::panic::Location::line);
        let name = report.task_name().unwrap_or_default();
        println!("debug: '{name}' spawned at line {place}: {}", report.details().unwrap_or_default());
    });
    event_loop.run_until_complete(async move {
        let sleepers = gather_all([first, second].map(sleeper)); // they run from here on
        let culprit = create_task(async move {
            evenloop::time::sleep_blocking(block); // not `sleep(block).await`: the mistake that this is about
        });
        culprit.set_name("culprit");
        sleepers.await;
        culprit.await;
    });
}
