//! Two printers on the event loop. Neither sleeps: each looks at the clock whenever it is its turn, and yields with
//! `sleep(0)`. They go on until Ctrl-C, or `--for N` seconds.
//!
//! ```text
//! cargo run -p evenloop --example periodic
//! cargo run -p evenloop --example periodic -- --virtual --for 31
//! ```

mod support;

use evenloop::{create_task, sleep};
use std::time::Duration;
use support::{Stopwatch, options};

async fn print_periodically(interval: Duration, message: &'static str, start: Stopwatch) {
    loop {
        println!("{:6.2} - {message}", start.seconds());
        let turn = Stopwatch::start();
        while turn.seconds() < interval.as_secs_f64() {
            sleep(Duration::ZERO).await;
        }
    }
}

/// With printers that are always ready the loop is never idle, and simulated time would stand still. So it is moved by
/// hand: a tenth of a second a pass.
async fn move_time() {
    loop {
        evenloop::time::advance(Duration::from_millis(100));
        sleep(Duration::ZERO).await;
    }
}

fn main() {
    let options = options(
        "Two periodic printers that yield with sleep(0)",
        &[
            ("three", 3.0, "seconds between two lines of the first printer"),
            ("ten", 10.0, "seconds between two lines of the second printer"),
            ("for", f64::INFINITY, "seconds to run"),
        ],
    );
    let (three, ten, end) = (options.seconds("three"), options.seconds("ten"), options.number("for"));
    let virtual_clock = options.virtual_clock;
    options.run(async move {
        let start = Stopwatch::start();
        let mut tasks = vec![
            create_task(print_periodically(three, "three", Stopwatch::start())),
            create_task(print_periodically(ten, "ten", Stopwatch::start())),
        ];
        if virtual_clock {
            tasks.push(create_task(move_time()));
        }
        while start.seconds() < end {
            sleep(Duration::ZERO).await;
        }
        // Tasks that are left when `main` ends are cancelled.
    });
}
