//! Three counters side by side take as long as one; the same three on a blocked thread take the sum.
//!
//! ```text
//! cargo run -p evenloop --example count -- --virtual
//! ```

mod support;

use evenloop::{gather_all, sleep};
use std::time::Duration;
use support::{Stopwatch, options};

async fn count(pause: Duration) {
    println!("One");
    sleep(pause).await;
    println!("Two");
}

fn count_blocking(pause: Duration) {
    println!("One");
    // Blocks the thread, and with it the loop; on the virtual clock, time moves as far.
    evenloop::time::sleep_blocking(pause);
    println!("Two");
}

fn main() {
    let options = options(
        "Concurrent counting against the synchronous version",
        &[("pause", 1.0, "seconds between One and Two"), ("times", 3.0, "how many counters")],
    );
    let (pause, times) = (options.seconds("pause"), options.number("times") as usize);
    options.run(async move {
        let watch = Stopwatch::start();
        gather_all((0..times).map(|_| count(pause))).await;
        println!("concurrent: {:.2} s", watch.seconds());

        let watch = Stopwatch::start();
        (0..times).for_each(|_| count_blocking(pause));
        println!("synchronous: {:.2} s", watch.seconds());
    });
}
