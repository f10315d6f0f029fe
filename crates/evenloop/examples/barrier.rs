//! A barrier: nobody begins a round before everybody has finished the last one; one of them says so.
//!
//! ```text
//! cargo run -p evenloop --example barrier -- --virtual
//! ```

mod support;

use evenloop::sync::Barrier;
use evenloop::{create_task, sleep};
use std::rc::Rc;
use support::{Stopwatch, options};

fn main() {
    let flags =
        [("workers", 3.0, "how many"), ("rounds", 2.0, "how many"), ("unit", 1.0, "seconds of the fastest")];
    let options = options("Rounds in step", &flags);
    let (workers, rounds) = (options.number("workers") as usize, options.number("rounds") as u32);
    let unit = options.seconds("unit");
    options.run(async move {
        let watch = Rc::new(Stopwatch::start());
        let barrier = Rc::new(Barrier::new(workers));
        let tasks: Vec<_> = (1..=workers as u32)
            .map(|speed| {
                let (watch, barrier) = (watch.clone(), barrier.clone());
                create_task(async move {
                    for round in 1..=rounds {
                        sleep(unit * speed).await;
                        println!("{:.2} s: worker {speed} done, {barrier:?}", watch.seconds());
                        let passed = barrier.wait().await.expect("nobody breaks it");
                        if passed.is_leader() {
                            println!("{:.2} s: round {round} is over", watch.seconds());
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
    });
}
