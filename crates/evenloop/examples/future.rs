//! A future is a placeholder: some tasks wait for it, and whoever knows the value sets it, once.
//!
//! ```text
//! cargo run -p evenloop --example future -- --virtual
//! ```

mod support;

use evenloop::sync::Future;
use evenloop::{create_task, sleep};
use support::{Stopwatch, options};

fn main() {
    let options =
        options("Futures: set once, awaited by many", &[("delay", 1.0, "seconds until each is set")]);
    let delay = options.seconds("delay");
    options.run(async move {
        let watch = Stopwatch::start();
        let future = Future::<u32, String>::new();
        println!("before: {future:?}");
        future.add_done_callback(|future| println!("callback 1: {:?}", future.result()));
        future.add_done_callback(|_| println!("callback 2, in the order of registration"));

        let waiters: Vec<_> = (1..=3)
            .map(|waiter| {
                let future = future.clone();
                create_task(async move { println!("waiter {waiter} got {:?}", future.wait().await) })
            })
            .collect();
        let setter = create_task({
            let future = future.clone();
            async move {
                sleep(delay).await;
                println!("while they wait: {future:?}");
                future.set_result(42).expect("nobody else sets it");
                println!("set again: {:?}", future.set_result(43));
            }
        });
        setter.await;
        for waiter in waiters {
            waiter.await;
        }
        println!("after: {future:?}, {:.2} s", watch.seconds());

        let failing = Future::<u32, String>::new();
        let setter = create_task({
            let failing = failing.clone();
            async move {
                sleep(delay).await;
                failing.set_exception("no luck".to_owned()).expect("nobody else sets it");
            }
        });
        println!("an error instead: {:?}", failing.clone().await);
        setter.await;

        let cancelled = Future::<u32, String>::new();
        println!("cancelled: {}, then {:?}", cancelled.cancel(), cancelled.await);
        println!("{:.2} s in all", watch.seconds());
    });
}
