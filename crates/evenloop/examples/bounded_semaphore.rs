//! A bounded semaphore: connections are handed over from one task to another, and giving one back twice is an error.
//!
//! ```text
//! cargo run -p evenloop --example bounded_semaphore -- --virtual
//! ```

mod support;

use evenloop::sync::BoundedSemaphore;
use evenloop::{create_task, sleep};
use std::rc::Rc;
use support::{Stopwatch, options};

fn main() {
    let flags = [("connections", 2.0, "in the pool"), ("use", 1.5, "seconds a connection is used")];
    let options = options("A pool of connections", &flags);
    let (connections, used) = (options.number("connections") as usize, options.seconds("use"));
    options.run(async move {
        let watch = Stopwatch::start();
        let pool = Rc::new(BoundedSemaphore::new(connections));
        let mut tasks = Vec::new();
        for number in 1..=2 * connections {
            // Taken here, given back by the task that uses it.
            pool.acquire().await.expect("nobody closes it").forget();
            println!("{:.2} s: connection for user {number}, {pool:?}", watch.seconds());
            let pool = pool.clone();
            tasks.push(create_task(async move {
                sleep(used).await;
                pool.release(1)
            }));
        }
        for task in tasks {
            task.await.expect("each is given back once");
        }
        println!("once more: {}", pool.release(1).expect_err("the pool is full"));
    });
}
