//! What does a hop cost: our timers and tasks as guests of tokio and smol, beside the host's own and beside our loop?
//!
//! `slept_1_ms` is processor time of the whole process for each of many sleeps, one after the other: every one wakes the
//! host's task that drives our timers, the worst case. `set_and_dropped` is a timer that is given up, as most are: it
//! wakes nobody. `polled_in_a_scope` is what `Runtime::scope` adds to a poll; a runtime that is installed adds nothing.
//! `byte_there_and_back` is a byte through a socket pair and back between two tasks of one thread, so two waits: for each,
//! a guest's reactor is one hop further away than the host's own sockets.
//! Not measured: many timers at once, for which the host is asked once and not once each.

use criterion::{Criterion, criterion_group, criterion_main};
use evenloop_benches::executors::with_sockets;
use evenloop_core::{Runtime, ThreadPark};
use evenloop_executor::EventLoop;
use evenloop_time::{Clock, Driver, sleep, sleep_until};
use std::future::{Future, poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

/// Processor time that this process has used, all threads together.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

async fn repeat<F: Future>(times: u64, make: impl Fn() -> F) {
    for _ in 0..times {
        make().await;
    }
}

/// How long it takes to make, poll once and drop `times` futures.
async fn set_and_dropped<F: Future>(times: u64, make: impl Fn() -> F) -> Duration {
    poll_fn(|cx| {
        let start = Instant::now();
        for _ in 0..times {
            assert!(pin!(make()).poll(cx).is_pending());
        }
        Poll::Ready(start.elapsed())
    })
    .await
}

/// Runs a future to its end on somebody's loop.
type Run<'a> = &'a dyn Fn(Pin<Box<dyn Future<Output = Duration> + '_>>) -> Duration;

fn timers<F: Future, G: Future>(
    c: &mut Criterion,
    name: &str,
    run: Run<'_>,
    sleep: impl Fn(Duration) -> F,
    until: impl Fn(Instant) -> G,
) {
    let mut group = c.benchmark_group("slept_1_ms");
    group.sample_size(10).measurement_time(Duration::from_millis(500));
    group.bench_function(name, |b| {
        b.iter_custom(|times| {
            run(Box::pin(async {
                let start = cpu_time();
                repeat(times, || sleep(MS)).await;
                cpu_time() - start
            }))
        })
    });
    group.finish();
    let mut group = c.benchmark_group("set_and_dropped");
    let deadline = Instant::now() + 3_600_000 * MS;
    group.bench_function(name, |b| {
        b.iter_custom(|times| run(Box::pin(set_and_dropped(times, || until(deadline)))))
    });
    group.finish();
}

fn tokio_at(deadline: Instant) -> tokio::time::Sleep {
    tokio::time::sleep_until(deadline.into())
}

fn hosts(c: &mut Criterion) {
    let driver = Driver::new(ThreadPark::new(), Clock::Real);
    let runtime = Runtime::builder("evenloop").timers(driver.timers());
    let event_loop = EventLoop::builder().park(Box::new(driver)).runtime(runtime).build();
    timers(c, "evenloop", &|future| event_loop.run_until_complete(future), sleep, sleep_until);

    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let run = |future: Pin<Box<dyn Future<Output = Duration> + '_>>| {
        tokio.block_on(tokio::task::unconstrained(future)) // its budget would answer without setting anything
    };
    timers(c, "tokio", &run, tokio::time::sleep, tokio_at);
    let guest = evenloop_tokio::runtime_on(tokio.handle(), Clock::Real);
    timers(c, "evenloop on tokio", &|future| run(Box::pin(guest.scope(future))), sleep, sleep_until);

    let executor = Arc::new(smol::Executor::new());
    let run = |future: Pin<Box<dyn Future<Output = Duration> + '_>>| smol::block_on(executor.run(future));
    timers(c, "smol", &run, smol::Timer::after, smol::Timer::at);
    let guest = evenloop_smol::runtime_on(&executor, Clock::Real);
    timers(c, "evenloop on smol", &|future| run(Box::pin(guest.scope(future))), sleep, sleep_until);

    let mut group = c.benchmark_group("polled");
    group.bench_function("plain", |b| b.iter(|| evenloop_benches::now(ready(7))));
    group.bench_function("in a scope", |b| b.iter(|| evenloop_benches::now(guest.scope(ready(7)))));
    group.finish();
}

/// Sends a byte there and back, `times` times, between two futures of one task.
macro_rules! there_and_back {
    ($times:expr, $pair:expr) => {{
        let (mut one, mut other) = $pair;
        let asks = async {
            let mut byte = [0];
            for _ in 0..$times {
                one.write_all(&[7]).await.unwrap();
                one.read_exact(&mut byte).await.unwrap();
            }
        };
        let answers = async {
            let mut byte = [0];
            for _ in 0..$times {
                other.read_exact(&mut byte).await.unwrap();
                other.write_all(&byte).await.unwrap();
            }
        };
        let start = Instant::now();
        futures::join!(asks, answers);
        start.elapsed()
    }};
}

async fn ours(times: u64) -> Duration {
    use futures::{AsyncReadExt, AsyncWriteExt};
    there_and_back!(times, evenloop_streams::UnixStream::pair().unwrap())
}

async fn tokios(times: u64) -> Duration {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    there_and_back!(times, tokio::net::UnixStream::pair().unwrap())
}

async fn smols(times: u64) -> Duration {
    use futures::{AsyncReadExt, AsyncWriteExt};
    there_and_back!(times, smol::net::unix::UnixStream::pair().unwrap())
}

fn sockets(c: &mut Criterion) {
    let mut group = c.benchmark_group("byte_there_and_back");
    let event_loop = with_sockets().build();
    group.bench_function("evenloop", |b| b.iter_custom(|times| event_loop.run_until_complete(ours(times))));

    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    group.bench_function("tokio", |b| b.iter_custom(|times| tokio.block_on(tokios(times))));
    let guest = evenloop_tokio::runtime_on(tokio.handle(), Clock::Real);
    group.bench_function("evenloop on tokio", |b| {
        b.iter_custom(|times| tokio.block_on(guest.scope(ours(times))))
    });

    let executor = Arc::new(smol::Executor::new());
    group.bench_function("smol", |b| b.iter_custom(|times| smol::block_on(executor.run(smols(times)))));
    let guest = evenloop_smol::runtime_on(&executor, Clock::Real);
    group.bench_function("evenloop on smol", |b| {
        b.iter_custom(|times| smol::block_on(executor.run(guest.scope(ours(times)))))
    });
    group.finish();
}

criterion_group!(benches, hosts, sockets);
criterion_main!(benches);
