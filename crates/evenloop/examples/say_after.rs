//! Awaiting one after the other takes the sum of the waits; tasks that are created first run side by side.
//!
//! ```text
//! cargo run -p evenloop --example say_after -- --virtual
//! ```

mod support;

use evenloop::{create_task, sleep};
use std::time::Duration;
use support::{Stopwatch, options};

async fn say_after(delay: Duration, what: &'static str) {
    sleep(delay).await;
    println!("{what}");
}

fn main() {
    let options = options(
        "Awaiting one after the other, and as tasks",
        &[("first", 1.0, "seconds before hello"), ("second", 2.0, "seconds before world")],
    );
    let (first, second) = (options.seconds("first"), options.seconds("second"));
    options.run(async move {
        let watch = Stopwatch::start();
        say_after(first, "hello").await;
        say_after(second, "world").await;
        println!("one after the other: {:.2} s", watch.seconds());

        let watch = Stopwatch::start();
        let hello = create_task(say_after(first, "hello"));
        let world = create_task(say_after(second, "world"));
        hello.await;
        world.await;
        println!("tasks created first: {:.2} s", watch.seconds());
    });
}
