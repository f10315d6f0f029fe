//! A limiter knows who borrows: a second token for the same borrower is an error, and the limit may change.
//!
//! ```text
//! cargo run -p evenloop --example limiter -- --virtual
//! ```

mod support;

use evenloop::sync::Limiter;
use evenloop::{create_task, sleep};
use std::rc::Rc;
use support::{Stopwatch, options};

fn main() {
    let flags =
        [("jobs", 4.0, "how many"), ("each", 1.0, "seconds"), ("later", 3.0, "the limit after half a job")];
    let options = options("Jobs under a limit that changes", &flags);
    let (jobs, later) = (options.number("jobs") as u64, options.number("later") as usize);
    let each = options.seconds("each");
    options.run(async move {
        let watch = Rc::new(Stopwatch::start());
        let limiter = Rc::new(Limiter::new(1));
        let tasks: Vec<_> = (1..=jobs)
            .map(|job| {
                let (watch, limiter) = (watch.clone(), limiter.clone());
                create_task(async move {
                    let _token = limiter.acquire_on_behalf_of(job).await.expect("each job asks once");
                    println!("{:.2} s: job {job} runs, {limiter:?}", watch.seconds());
                    sleep(each).await;
                })
            })
            .collect();
        sleep(each / 2).await;
        println!("{}", limiter.try_acquire_on_behalf_of(1).expect_err("job 1 runs"));
        limiter.set_total(later);
        for task in tasks {
            task.await;
        }
        println!("{:.2} s: {limiter:?}", watch.seconds());
    });
}
