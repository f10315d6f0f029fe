//! An event: runners wait for the start, and one signal releases them all.
//!
//! ```text
//! cargo run -p evenloop --example event -- --virtual
//! ```

mod support;

use evenloop::sync::Event;
use evenloop::{create_task, sleep};
use std::rc::Rc;
use support::{Stopwatch, options};

fn main() {
    let options = options(
        "Runners wait for the start",
        &[("delay", 3.0, "seconds until it"), ("runners", 3.0, "how many")],
    );
    let (delay, runners) = (options.seconds("delay"), options.number("runners") as u32);
    options.run(async move {
        let watch = Rc::new(Stopwatch::start());
        let start = Rc::new(Event::new());
        let running: Vec<_> = (1..=runners)
            .map(|number| {
                let (watch, start) = (watch.clone(), start.clone());
                create_task(async move {
                    start.wait().await;
                    println!("runner {number} starts after {:.2} s", watch.seconds());
                })
            })
            .collect();
        sleep(delay).await;
        println!("{start:?}");
        start.set();
        start.clear(); // whoever waited is released all the same
        for runner in running {
            runner.await;
        }
        println!("{start:?}");
    });
}
