//! `gather`: results in the order of the arguments; with one that fails; with every outcome collected.
//!
//! ```text
//! cargo run -p evenloop --example gather -- --virtual
//! ```

mod support;

use evenloop::{gather, gather_all, gather_settled, sleep};
use std::time::Duration;
use support::{Stopwatch, options};

async fn square(x: u64, pause: Duration) -> u64 {
    sleep(pause).await;
    x * x
}

async fn fails(pause: Duration) -> u64 {
    sleep(pause).await;
    panic!("this one fails")
}

fn main() {
    let options = options(
        "Results in the order of the arguments",
        &[("pause", 1.0, "seconds that a square takes"), ("squares", 3.0, "how many squares")],
    );
    let (pause, squares) = (options.seconds("pause"), options.number("squares") as u64);
    // The failure is expected, and told of below.
    std::panic::set_hook(Box::new(|_| {}));
    options.run(async move {
        let watch = Stopwatch::start();
        let results = gather_all((1..=squares).map(|x| square(x, pause))).await;
        println!("{results:?} in {:.2} s", watch.seconds());

        let watch = Stopwatch::start();
        let (one, two) = gather((square(1, pause), async { "two" })).await;
        println!("{one} and {two:?} in {:.2} s", watch.seconds());

        let watch = Stopwatch::start();
        let (two, failed) = gather_settled((square(2, pause), fails(pause / 2))).await;
        println!("{two:?} and {failed:?} in {:.2} s", watch.seconds());
    });
}
