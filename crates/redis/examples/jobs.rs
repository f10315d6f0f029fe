//! A queue between machines: one program puts jobs, any number of others work.
//!
//! ```text
//! redis-server                                             # a server, in a first terminal
//! cargo run -p evenloop-redis --example jobs -- work       # a worker, in as many more as you like
//! cargo run -p evenloop-redis --example jobs -- put 20     # and the jobs
//! ```
//!
//! End a worker by Ctrl-C in the middle of a job: it gives the job back, and another worker gets it at once. End it by
//! `kill -9`: the job comes back when its five seconds are over.

use evenloop::cancel::catch_cancel;
use evenloop::sleep;
use evenloop_redis::{GetError, RemoteQueue};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::time::Duration;

#[derive(Serialize, Deserialize)]
struct Job {
    number: u32,
    milliseconds: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (what, count) = (words.next(), words.next());
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1".into());
    evenloop::run(async {
        let jobs = RemoteQueue::options(&url, "evenloop-jobs")
            .maxsize(10)
            .visibility(Duration::from_secs(5))
            .open()
            .await?;
        match what.as_deref() {
            Some("put") => put(&jobs, count.map_or(Ok(20), |count| count.parse())?).await,
            Some("work") => work(&jobs).await,
            _ => Err("say `put [COUNT]` or `work`".into()),
        }
    })
}

async fn put(jobs: &RemoteQueue<Job>, count: u32) -> Result<(), Box<dyn Error>> {
    for number in 0..count {
        jobs.put(Job { number, milliseconds: 300 }).await?; // waits while ten wait for workers
        println!("put {number}");
    }
    jobs.join().await?;
    println!("all is done");
    Ok(())
}

async fn work(jobs: &RemoteQueue<Job>) -> Result<(), Box<dyn Error>> {
    loop {
        let job = match jobs.get().await {
            Err(GetError::ShutDown) => return Ok(()),
            job => job?,
        };
        println!("job {}, delivered {} times", job.number, job.attempts());
        // The work.
        match catch_cancel(sleep(Duration::from_millis(job.milliseconds))).await {
            Ok(()) => job.task_done().await?,
            Err(cancelled) => {
                job.give_back().await?; // another worker gets it at once
                match cancelled.resume().await {}
            }
        }
    }
}
