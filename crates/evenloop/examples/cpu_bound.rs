//! Work that keeps a processor busy: on the loop everything else is late, on a pool of threads it is not.
//!
//! ```text
//! cargo run --release -p evenloop --example cpu_bound
//! ```

mod support;

use evenloop::time::{interval, now};
use evenloop::{ThreadPool, create_task, gather_all};
use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;
use support::{Stopwatch, options};

/// How many primes there are below `limit`, the slow way.
fn primes(limit: u32) -> usize {
    (2..limit).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0)).count()
}

/// Does `work` beside a clock that ticks every 5 ms; answers what it gave and the latest tick.
async fn beside_a_clock<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let latest = Rc::new(Cell::new(Duration::ZERO));
    let noted = latest.clone();
    let clock = create_task(async move {
        let mut ticks = interval(Duration::from_millis(5));
        loop {
            let scheduled = ticks.tick().await;
            noted.set(noted.get().max(now() - scheduled));
        }
    });
    let done = work.await;
    // The clock's last tick may have been held up until now.
    evenloop::yield_now().await;
    evenloop::sleep(Duration::from_millis(1)).await;
    clock.cancel("measured");
    (done, latest.get())
}

fn main() {
    let options = options(
        "Processor-bound work beside a loop that stays responsive",
        &[("jobs", 8.0, "how many jobs"), ("below", 60_000.0, "each counts the primes below this")],
    );
    let (jobs, below) = (options.number("jobs") as usize, options.number("below") as u32);
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    options.run(async move {
        let watch = Stopwatch::start();
        let on_the_loop = async { (0..jobs).map(|_| primes(below)).sum::<usize>() };
        let (sum, late) = beside_a_clock(async {
            evenloop::yield_now().await; // the clock starts
            on_the_loop.await
        })
        .await;
        println!("on the loop: {sum} primes in {:.2} s, the clock was {late:.1?} late", watch.seconds());

        let watch = Stopwatch::start();
        let pool = ThreadPool::new(processors);
        let on_threads = gather_all((0..jobs).map(|_| pool.run(move || primes(below))));
        let (sums, late) = beside_a_clock(on_threads).await;
        let sum: usize = sums.into_iter().sum();
        println!("on a pool: {sum} primes in {:.2} s, the clock was {late:.1?} late", watch.seconds());
    });
}
