//! A semaphore: many downloads, few at a time, in the order of asking.
//!
//! ```text
//! cargo run -p evenloop --example semaphore -- --virtual
//! ```

mod support;

use evenloop::sync::Semaphore;
use evenloop::{create_task, sleep};
use std::rc::Rc;
use support::{Stopwatch, options};

fn main() {
    let flags =
        [("downloads", 5.0, "how many"), ("at-once", 2.0, "how many at a time"), ("each", 1.0, "seconds")];
    let options = options("Many downloads, few at a time", &flags);
    let each = options.seconds("each");
    let (downloads, at_once) = (options.number("downloads") as u32, options.number("at-once") as usize);
    options.run(async move {
        let watch = Rc::new(Stopwatch::start());
        let slots = Rc::new(Semaphore::new(at_once));
        let tasks: Vec<_> = (1..=downloads)
            .map(|number| {
                let (watch, slots) = (watch.clone(), slots.clone());
                create_task(async move {
                    let _slot = slots.acquire().await.expect("nobody closes it");
                    println!("{:.2} s: download {number} starts, {slots:?}", watch.seconds());
                    sleep(each).await;
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        println!("{:.2} s: all done, {slots:?}", watch.seconds());
    });
}
