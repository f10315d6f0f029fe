//! `wait`: until all tasks are over, until the first is, or until the first has failed.
//!
//! ```text
//! cargo run -p evenloop --example wait -- --virtual
//! ```

mod support;

use evenloop::{ReturnWhen, Task, create_task, sleep, timeout, wait};
use std::time::Duration;
use support::{Stopwatch, options};

/// Takes so many units; an odd number of them is a failure.
async fn job(units: u32, unit: Duration) -> Result<u32, String> {
    sleep(units * unit).await;
    if units % 2 == 0 { Ok(units) } else { Err(format!("{units} is odd")) }
}

async fn until(what: &str, return_when: ReturnWhen<Result<u32, String>>, tasks: u32, unit: Duration) {
    let watch = Stopwatch::start();
    let names = |tasks: &[Task<_>]| tasks.iter().map(Task::name).collect::<Vec<_>>().join(" ");
    // The longest first: who is over first stands last.
    let mut pending: Vec<_> = (0..tasks).rev().map(|n| create_task(job(2 + n, unit))).collect();
    for (task, units) in pending.iter().zip((0..tasks).rev().map(|n| 2 + n)) {
        task.set_name(format!("job-{units}"));
    }
    let done = wait(&mut pending, return_when).await;
    println!("{what}: {:.2} s, done: {}; pending: {}", watch.seconds(), names(&done), names(&pending));
    // Whoever waits cancels nothing: that is for the caller.
    for task in pending {
        task.cancel("enough");
    }
}

fn main() {
    let options = options(
        "Waiting for some of many tasks",
        &[("tasks", 4.0, "how many"), ("unit", 1.0, "seconds; the first takes two units, the next three …")],
    );
    let (tasks, unit) = (options.number("tasks") as u32, options.seconds("unit"));
    options.run(async move {
        until("ALL_COMPLETED", ReturnWhen::AllCompleted, tasks, unit).await;
        until("FIRST_COMPLETED", ReturnWhen::FirstCompleted, tasks, unit).await;
        until("FIRST_EXCEPTION", ReturnWhen::FirstException(Result::is_err), tasks, unit).await;

        // A limit is a timeout around it: the tasks stay where they are.
        let mut pending = vec![create_task(job(4, unit))];
        let in_time = timeout(unit, wait(&mut pending, ReturnWhen::AllCompleted)).await;
        println!("in time: {}, still pending: {}", in_time.is_ok(), pending.len());
    });
}
