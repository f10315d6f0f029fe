//! Tasks: scheduled by `create_task`, run at the next turn; names, states and results; what the end of `run` does to one
//! that is left.
//!
//! ```text
//! cargo run -p evenloop --example tasks -- --virtual
//! ```

mod support;

use evenloop::cancel::catch_cancel;
use evenloop::{create_named_task, create_task, current_task, sleep};
use std::future::pending;
use support::{Stopwatch, options};

fn main() {
    let options = options("What a task is at which time", &[("work", 1.0, "seconds that the task works")]);
    let work = options.seconds("work");
    options.run(async move {
        let watch = Stopwatch::start();
        let mut task = create_named_task("worker", async move {
            println!("during: {:?}", current_task().expect("this is a task").state());
            sleep(work).await;
            7 * 6
        });
        println!("before: {:?}, {} is number {}", task.state(), task.name(), task.id());
        println!("{}", format!("{task:?}").split(" spawned").next().unwrap_or_default());
        println!("no result yet: {:?}", task.result().is_none());
        task.add_done_callback(|task, end| println!("called back: {} ended with a {end:?}", task.name()));
        while !task.done() {
            sleep(work * 3 / 4).await;
            println!("{:.2} s: {:?}", watch.seconds(), task.state());
        }
        println!("after: {:?}, result {:?}", task.state(), task.result().map(Result::unwrap));

        let mut unwanted = create_task(pending::<()>());
        unwanted.cancel("no longer wanted");
        println!("{}", unwanted.join().await.expect_err("it was cancelled"));

        // Left behind: the end of the run finds it pending, cancels it, and waits for its clean-up.
        create_task(async move {
            if let Err(cancelled) = catch_cancel(pending::<()>()).await {
                println!("left behind: {}", cancelled.reason().text().unwrap_or("cancelled"));
                sleep(work).await;
                println!("{:.2} s: cleaned up", watch.seconds());
                cancelled.resume().await;
            }
        })
        .detach();
        sleep(work).await;
        println!("main ends");
    });
}
