//! A home-made scheduler: a deque of coroutines with ids. What the completed ones return and how the failed ones failed
//! is kept by id; whoever only yields goes back to the end of the line.
//!
//! One task counts and returns, one fails on its way, and one runs on until its time is up.
//!
//! ```text
//! cargo run -p evenloop --example deque_scheduler
//! cargo run -p evenloop --example deque_scheduler -- --virtual --three 2 --steps 4 --fails 3
//! ```

mod support;

use evenloop::coroutine::{Coroutine, LocalCoroutine, Resumed};
use evenloop::time::{Clock, VirtualClock};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use support::options;

type Routine = LocalCoroutine<'static, (), (), Result<String, String>>;

#[derive(Default)]
struct Scheduler {
    next_id: u32,
    runnable: VecDeque<(u32, Routine)>,
    completed: BTreeMap<u32, String>,
    failed: BTreeMap<u32, String>,
}

impl Scheduler {
    fn add(&mut self, routine: Routine) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        self.runnable.push_back((id, routine));
        id
    }

    /// One step of the first in line. False: nobody is left.
    fn step(&mut self) -> bool {
        let Some((id, mut routine)) = self.runnable.pop_front() else { return false };
        match routine.resume(()) {
            Resumed::Yielded(()) => self.runnable.push_back((id, routine)),
            Resumed::Returned(Ok(value)) => {
                println!("task {id} completed: {value}");
                self.completed.insert(id, value);
            }
            Resumed::Returned(Err(error)) => {
                println!("task {id} failed: {error}");
                self.failed.insert(id, error);
            }
        }
        true
    }
}

fn counts_to(steps: u32) -> Routine {
    Coroutine::new(async move |mut co| {
        for step in 1..=steps {
            println!("counting {step}");
            co.yield_(()).await;
        }
        Ok(format!("counted to {steps}"))
    })
    .boxed_local()
}

fn fails_after(steps: u32) -> Routine {
    Coroutine::new(async move |mut co| {
        for step in 1..=steps {
            let left = steps - step;
            println!("{left} before the failure");
            co.yield_(()).await;
        }
        Err(format!("no luck after {steps}"))
    })
    .boxed_local()
}

fn prints_every(clock: Clock, interval: Duration, times: u32) -> Routine {
    Coroutine::new(async move |mut co| {
        let start = clock.now();
        for time in 0..times {
            println!("{:5.1} - keep alive", (clock.now() - start).as_secs_f64());
            while clock.now() - start < interval * (time + 1) {
                clock.sleep_blocking(Duration::from_millis(1));
                co.yield_(()).await;
            }
        }
        Ok(format!("printed {times} times"))
    })
    .boxed_local()
}

fn main() {
    let options = options(
        "A scheduler made of a deque",
        &[
            ("three", 3.0, "seconds between two lines of the task that runs on"),
            ("times", 2.0, "lines of the task that runs on"),
            ("steps", 3.0, "steps of the task that returns"),
            ("fails", 2.0, "steps of the task that fails"),
        ],
    );
    let clock = if options.virtual_clock { VirtualClock::new().into() } else { Clock::Real };
    let mut scheduler = Scheduler::default();
    scheduler.add(counts_to(options.number("steps") as u32));
    scheduler.add(fails_after(options.number("fails") as u32));
    scheduler.add(prints_every(clock, options.seconds("three"), options.number("times") as u32));
    while scheduler.step() {}
    println!("completed: {:?}", scheduler.completed);
    println!("failed: {:?}", scheduler.failed);
}
