//! A generator as a coroutine: code that stops at `yield` and goes on at the next resume. Two printers of one body,
//! resumed in turn by a loop of ten lines; no event loop is there.
//!
//! Each printer looks at the clock whenever it is its turn. They go on until Ctrl-C, or `--for N` seconds.
//!
//! ```text
//! cargo run -p evenloop --example generator_round_robin
//! cargo run -p evenloop --example generator_round_robin -- --virtual --for 31
//! ```

mod support;

use evenloop::coroutine::{Coroutine, LocalCoroutine};
use evenloop::time::{Clock, VirtualClock};
use std::time::Duration;
use support::options;

fn print_periodically(
    clock: Clock,
    interval: Duration,
    message: &'static str,
) -> LocalCoroutine<'static, (), (), ()> {
    let start = clock.now();
    Coroutine::new(async move |mut co| {
        loop {
            println!("{:5.1} - {message}", (clock.now() - start).as_secs_f64());
            let turn = clock.now();
            while clock.now() - turn < interval {
                co.yield_(()).await;
            }
        }
    })
    .boxed_local()
}

fn main() {
    let options = options(
        "Two printers, each a generator, resumed in turn",
        &[
            ("three", 3.0, "seconds between two lines of the first printer"),
            ("ten", 10.0, "seconds between two lines of the second printer"),
            ("for", f64::INFINITY, "seconds to run"),
        ],
    );
    let clock = if options.virtual_clock { VirtualClock::new().into() } else { Clock::Real };
    let mut printers = [
        print_periodically(clock.clone(), options.seconds("three"), "three"),
        print_periodically(clock.clone(), options.seconds("ten"), "ten"),
    ];

    let start = clock.now();
    while (clock.now() - start).as_secs_f64() < options.number("for") {
        for printer in &mut printers {
            printer.next();
        }
        // A breath, so that the processor does not run hot; on the virtual clock this is what moves it.
        clock.sleep_blocking(Duration::from_millis(1));
    }
}
