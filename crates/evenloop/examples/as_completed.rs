//! `as_completed`: results as they come, whatever the order in which they were asked for.
//!
//! ```text
//! cargo run -p evenloop --example as_completed -- --virtual --seed 7
//! ```

mod support;

use evenloop::{as_completed, sleep};
use support::{Stopwatch, options};

fn main() {
    let options = options(
        "Downloads in the order in which they finish",
        &[("downloads", 5.0, "how many"), ("unit", 1.0, "seconds; each takes another multiple of it")],
    );
    let (downloads, unit) = (options.number("downloads") as u32, options.seconds("unit"));
    let mut lengths: Vec<u32> = (1..=downloads).collect();
    options.random().shuffle(&mut lengths);
    options.run(async move {
        let watch = Stopwatch::start();
        println!("asked for: {lengths:?}");
        let mut coming = as_completed(lengths.into_iter().map(|length| async move {
            sleep(length * unit).await;
            length
        }));
        while let Some(task) = coming.next().await {
            let name = task.name();
            println!("{:.2} s: {name} gave {}, {} to come", watch.seconds(), task.await, coming.len());
        }
    });
}
