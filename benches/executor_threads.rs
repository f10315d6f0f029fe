//! What does it cost to leave the loop's thread, and to come back?
//!
//! - `to_thread`: a job that does nothing, on a thread of the pool, awaited. One after the other, so that each wakes a thread
//!   that waits, and that thread the loop.
//! - `to_thread_8_at_once`: one of eight jobs that are awaited together.
//! - `round_trip`: two tasks on two threads pass a ball: a wake from another thread, there and back.
//! - `called_from_another_thread`: a thread without a loop hands a future to one and blocks until it is over.
//!
//! The least is two futex calls a round trip. Not measured: what a job does, and pools that have to start threads.

use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use evenloop_benches::executors::{self, Host};
use futures::task::AtomicWaker;
use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

/// The same for each peer: jobs on threads, and calls from outside.
trait Threads: Host {
    fn job(number: u64) -> impl Future<Output = u64>;
    /// Calls into a loop on another thread so often.
    fn calls(times: u64) -> Duration;
}

fn timed(times: u64, mut call: impl FnMut(u64) -> u64) -> Duration {
    let started = Instant::now();
    for number in 0..times {
        assert_eq!(call(number), number);
    }
    started.elapsed()
}

impl Threads for executors::Evenloop {
    fn job(number: u64) -> impl Future<Output = u64> {
        evenloop_executor::to_thread(move || black_box(number))
    }

    fn calls(times: u64) -> Duration {
        let portal = evenloop_executor::Portal::start(evenloop_executor::EventLoop::new).expect("a thread");
        let handle = portal.handle();
        timed(times, |number| {
            let task = handle.spawn(async move { black_box(number) }).expect("the loop is open");
            task.join_blocking().expect("no panic")
        })
    }
}

impl Threads for executors::Tokio {
    async fn job(number: u64) -> u64 {
        tokio::task::spawn_blocking(move || black_box(number)).await.expect("no panic")
    }

    fn calls(times: u64) -> Duration {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("tokio starts");
        let handle = runtime.handle().clone();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let serving = thread::spawn(move || runtime.block_on(async { drop(ended.await) }));
        let time = timed(times, |number| {
            let task = handle.spawn(async move { black_box(number) });
            evenloop_benches::block_on(task).expect("no panic")
        });
        drop(end);
        serving.join().expect("no panic");
        time
    }
}

impl Threads for executors::Smol {
    fn job(number: u64) -> impl Future<Output = u64> {
        smol::unblock(move || black_box(number))
    }

    fn calls(times: u64) -> Duration {
        let executor = Arc::new(smol::Executor::new());
        let inside = executor.clone();
        let (end, ended) = smol::channel::bounded::<()>(1);
        let serving = thread::spawn(move || {
            smol::future::block_on(inside.run(async { ended.recv().await.unwrap_or_default() }))
        });
        let time = timed(times, |number| {
            evenloop_benches::block_on(executor.spawn(async move { black_box(number) }))
        });
        drop(end);
        serving.join().expect("no panic");
        time
    }
}

fn jobs<H: Threads>(times: u64) -> Duration {
    H::run(async move {
        assert_eq!(H::job(1).await, 1); // a thread is there
        let started = Instant::now();
        for number in 0..times {
            assert_eq!(H::job(number).await, number);
        }
        started.elapsed()
    })
}

fn jobs_at_once<H: Threads>(times: u64) -> Duration {
    H::run(async move {
        futures::future::join_all((0..8).map(H::job)).await;
        let started = Instant::now();
        for round in 0..times.div_ceil(8) {
            black_box(futures::future::join_all((0..8).map(|number| H::job(round + number))).await);
        }
        started.elapsed()
    })
}

/// Two seats, and whose turn it is.
#[derive(Default)]
struct Table {
    turn: AtomicU64,
    seats: [AtomicWaker; 2],
}

async fn play(table: &Table, mine: usize, times: u64) {
    poll_fn(|cx| {
        table.seats[mine].register(cx.waker());
        loop {
            let turn = table.turn.load(Ordering::Acquire);
            if turn >= times {
                table.seats[1 - mine].wake();
                return Poll::Ready(());
            }
            if turn % 2 != mine as u64 {
                return Poll::Pending;
            }
            table.turn.store(turn + 1, Ordering::Release);
            table.seats[1 - mine].wake();
        }
    })
    .await;
}

fn round_trips<H: Threads>(times: u64) -> Duration {
    let (table, begin) = (Arc::new(Table::default()), Arc::new(Barrier::new(2)));
    let (tell, told) = mpsc::channel();
    let other = {
        let (table, begin) = (table.clone(), begin.clone());
        thread::spawn(move || {
            H::run(async move {
                begin.wait();
                play(&table, 1, 2 * times).await;
            });
        })
    };
    H::run(async move {
        begin.wait();
        let started = Instant::now();
        play(&table, 0, 2 * times).await;
        tell.send(started.elapsed()).expect("somebody listens");
    });
    other.join().expect("no panic");
    told.recv().expect("it was sent")
}

fn each<H: Host>(group: &mut BenchmarkGroup<'_, WallTime>, measure: impl Fn(u64) -> Duration) {
    group.bench_function(H::NAME, |bencher| bencher.iter_custom(&measure));
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1_500))
        .sample_size(20)
        .configure_from_args();

    macro_rules! all_hosts {
        ($name:literal, $measure:ident) => {{
            let mut group = criterion.benchmark_group($name);
            each::<executors::Evenloop>(&mut group, $measure::<executors::Evenloop>);
            each::<executors::Tokio>(&mut group, $measure::<executors::Tokio>);
            each::<executors::Smol>(&mut group, $measure::<executors::Smol>);
            group.finish();
        }};
    }
    all_hosts!("to_thread", jobs);
    all_hosts!("to_thread_8_at_once", jobs_at_once);
    all_hosts!("round_trip", round_trips);
    let mut group = criterion.benchmark_group("called_from_another_thread");
    each::<executors::Evenloop>(&mut group, executors::Evenloop::calls);
    each::<executors::Tokio>(&mut group, executors::Tokio::calls);
    each::<executors::Smol>(&mut group, executors::Smol::calls);
    group.finish();
    criterion.final_summary();
}
