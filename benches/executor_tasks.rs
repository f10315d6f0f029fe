//! What does a turn of a task cost, and what does a task?
//!
//! - `yield_1000_tasks`, `yield_one_task`: one yield of one task, among as many. The limit is a hand-written loop that does
//!   nothing but turn its queue.
//! - `spawn_and_join_1000`: one task, spawned with 999 others and awaited by the main task.
//! - `wake_another_task`: two tasks that wake each other in turn, through wakers they keep.
//!
//! All run on one thread, without timers that are set. Not measured: other threads (`executor_threads`), memory
//! (`executor_bytes`), and anything that waits for the kernel.

use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use evenloop_benches::executors::{self, Host, Minimal, yield_once};
use std::cell::RefCell;
use std::future::poll_fn;
use std::hint::black_box;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// Yields `times` in each of `tasks` tasks; answers the time of one yield.
fn yields<H: Host>(tasks: u64, times: u64) -> Duration {
    H::run(async move {
        let started = Instant::now();
        let spawned: Vec<_> = (0..tasks)
            .map(|_| {
                H::spawn(async move {
                    for _ in 0..times {
                        yield_once().await;
                    }
                })
            })
            .collect();
        for task in spawned {
            H::join(task).await;
        }
        started.elapsed()
    })
}

fn spawns<H: Host>(rounds: u64) -> Duration {
    H::run(async move {
        let mut spawned = Vec::with_capacity(1_000);
        let started = Instant::now();
        for _ in 0..rounds {
            for number in 0..1_000_u64 {
                spawned.push(H::spawn(async move {
                    black_box(number);
                }));
            }
            for task in spawned.drain(..) {
                H::join(task).await;
            }
        }
        started.elapsed()
    })
}

/// Two tasks pass a ball: who has it wakes the other and waits.
fn ping_pong<H: Host>(times: u64) -> Duration {
    type Seats = Rc<RefCell<(u64, [Option<Waker>; 2])>>;
    async fn player(seats: Seats, mine: usize, times: u64) {
        poll_fn(move |cx| {
            let mut seats = seats.borrow_mut();
            let known = &mut seats.1[mine];
            if !known.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                *known = Some(cx.waker().clone());
            }
            let (turn, wakers) = &mut *seats;
            if *turn % 2 == mine as u64 {
                *turn += 1;
                if let Some(other) = &wakers[1 - mine] {
                    other.wake_by_ref();
                }
            }
            if *turn >= times { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
    H::run(async move {
        let seats: Seats = Rc::default();
        let started = Instant::now();
        let one = H::spawn(player(seats.clone(), 0, times));
        let two = H::spawn(player(seats, 1, times));
        H::join(one).await;
        H::join(two).await;
        started.elapsed()
    })
}

fn each<H: Host>(group: &mut BenchmarkGroup<'_, WallTime>, measure: impl Fn(u64) -> Duration) {
    group.bench_function(H::NAME, |bencher| bencher.iter_custom(&measure));
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1_500))
        .sample_size(30)
        .configure_from_args();

    macro_rules! all_hosts {
        ($name:literal, $measure:ident($($argument:expr),*)) => {{
            let mut group = criterion.benchmark_group($name);
            each::<executors::Evenloop>(&mut group, |times| $measure::<executors::Evenloop>($($argument(times)),*));
            each::<executors::Tokio>(&mut group, |times| $measure::<executors::Tokio>($($argument(times)),*));
            each::<executors::Smol>(&mut group, |times| $measure::<executors::Smol>($($argument(times)),*));
            each::<executors::Futures>(&mut group, |times| $measure::<executors::Futures>($($argument(times)),*));
            each::<executors::Monoio>(&mut group, |times| $measure::<executors::Monoio>($($argument(times)),*));
            each::<Minimal>(&mut group, |times| $measure::<Minimal>($($argument(times)),*));
            group.finish();
        }};
    }
    // Criterion divides by its own count: one thousand tasks that yield `times / 1,000` each make `times` yields.
    all_hosts!("yield_1000_tasks", yields((|_| 1_000), (|times: u64| times.div_ceil(1_000))));
    all_hosts!("yield_one_task", yields((|_| 1), (|times| times)));
    all_hosts!("spawn_and_join_1000", spawns((|times: u64| times.div_ceil(1_000))));
    all_hosts!("wake_another_task", ping_pong((|times| times)));
    criterion.final_summary();
}
