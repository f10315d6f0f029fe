//! Chaining: `part2` needs what `part1` gives. Many chains at once take as long as the longest, not the sum.
//!
//! ```text
//! cargo run -p evenloop --example chained -- --virtual --chains 5
//! ```

mod support;

use evenloop::{gather_all, sleep};
use std::time::Duration;
use support::{Stopwatch, options};

async fn part1(n: usize, pause: Duration) -> String {
    println!("part1({n}) sleeping for {:.2} seconds.", pause.as_secs_f64());
    sleep(pause).await;
    format!("result{n}-1")
}

async fn part2(n: usize, derived_from: &str, pause: Duration) -> String {
    println!("part2({n}, {derived_from}) sleeping for {:.2} seconds.", pause.as_secs_f64());
    sleep(pause).await;
    format!("result{n}-2 derived from {derived_from}")
}

async fn chain(n: usize, first: Duration, second: Duration) {
    let watch = Stopwatch::start();
    let p1 = part1(n, first).await;
    let p2 = part2(n, &p1, second).await;
    println!("-->Chained result{n} => {p2} (took {:.2} seconds).", watch.seconds());
}

fn main() {
    let options = options(
        "Chained coroutines, many chains at once",
        &[("chains", 3.0, "how many chains"), ("longest", 10.0, "the longest a part may sleep, in seconds")],
    );
    let (chains, longest) = (options.number("chains") as usize, options.number("longest"));
    let mut random = options.random();
    let mut pause = || Duration::from_secs_f64((random.f64() * longest).round());
    let pauses: Vec<_> = (0..chains).map(|_| (pause(), pause())).collect();
    options.run(async move {
        let watch = Stopwatch::start();
        let chains = pauses.into_iter().enumerate();
        gather_all(chains.map(|(n, (first, second))| chain(n + 1, first, second))).await;
        println!("Program finished in {:.2} seconds.", watch.seconds());
    });
}
