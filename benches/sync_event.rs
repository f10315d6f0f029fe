//! What does it cost to wake those who wait: one by one through a condition, all by an event or a notification, and by
//! meeting at a barrier? And does it stay linear up to a million?
//!
//! Everything is polled by hand with one cheap waker, so that no loop is in the figures: per waiter, one first poll, one
//! wake-up and one last poll. Not measured: waiters that give up, and threads.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// A waker with a count of references and nothing to do: what a loop's waker costs at least.
struct Cheap;

impl Wake for Cheap {
    fn wake(self: Arc<Self>) {}
}

/// Polls `count` futures, calls `wake`, polls them to their end; answers the time per future, `times` of them.
fn rounds<F: Future>(times: u64, count: u64, mut new: impl FnMut() -> F, mut wake: impl FnMut()) -> Duration {
    let waker = Waker::from(Arc::new(Cheap));
    let cx = &mut Context::from_waker(&waker);
    let mut spent = Duration::ZERO;
    for _ in 0..times.div_ceil(count) {
        let mut waiting: Vec<Pin<Box<F>>> = (0..count).map(|_| Box::pin(new())).collect();
        let start = Instant::now();
        for future in &mut waiting {
            assert!(future.as_mut().poll(cx).is_pending());
        }
        wake();
        for future in &mut waiting {
            assert!(matches!(future.as_mut().poll(cx), Poll::Ready(_)));
        }
        spent += start.elapsed();
    }
    spent
}

const COUNTS: [u64; 3] = [1, 100, 1_000_000];

fn event(c: &mut Criterion) {
    let mut group = c.benchmark_group("event_releases_all");
    for count in COUNTS {
        group.bench_function(BenchmarkId::new("evenloop", count), |b| {
            let event = evenloop_sync::Event::new();
            let set = || {
                event.set();
                event.clear();
            };
            b.iter_custom(|times| rounds(times, count, || event.wait(), set));
        });
        group.bench_function(BenchmarkId::new("tokio", count), |b| {
            let notify = tokio::sync::Notify::new();
            b.iter_custom(|times| rounds(times, count, || notify.notified(), || notify.notify_waiters()));
        });
        group.bench_function(BenchmarkId::new("asyncband", count), |b| {
            let event = asyncband::event::ManualResetEvent::new();
            let set = || {
                event.set();
                event.reset();
            };
            b.iter_custom(|times| rounds(times, count, || event.wait(), set));
        });
    }
    group.finish();
}

fn condition(c: &mut Criterion) {
    let mut group = c.benchmark_group("condition_notifies_one_by_one");
    for count in COUNTS {
        group.bench_function(BenchmarkId::new("evenloop", count), |b| {
            let (lock, condition) = (evenloop_sync::Lock::new(()), evenloop_sync::Condition::new());
            let new = || condition.wait(lock.try_acquire().expect("free"));
            b.iter_custom(|times| {
                rounds_with_guard(times, count, new, || (0..count).for_each(|_| condition.notify(1)))
            });
        });
        group.bench_function(BenchmarkId::new("asyncband", count), |b| {
            let lock = asyncband::mutex::Mutex::new(());
            let condition = asyncband::condvar::Condvar::new();
            let new = || condition.wait(lock.try_lock().expect("free"));
            b.iter_custom(|times| {
                rounds_with_guard(times, count, new, || (0..count).for_each(|_| condition.notify_one()))
            });
        });
    }
    group.finish();
}

/// As [`rounds`], for futures that hold a lock until they are polled.
fn rounds_with_guard<F: Future>(
    times: u64,
    count: u64,
    mut new: impl FnMut() -> F,
    mut wake: impl FnMut(),
) -> Duration {
    let waker = Waker::from(Arc::new(Cheap));
    let cx = &mut Context::from_waker(&waker);
    let mut spent = Duration::ZERO;
    for _ in 0..times.div_ceil(count) {
        let mut waiting = Vec::with_capacity(count as usize);
        let start = Instant::now();
        for _ in 0..count {
            let mut future = Box::pin(new());
            assert!(future.as_mut().poll(cx).is_pending());
            waiting.push(future);
        }
        wake();
        for future in &mut waiting {
            assert!(matches!(future.as_mut().poll(cx), Poll::Ready(_)));
        }
        spent += start.elapsed();
    }
    spent
}

fn barrier(c: &mut Criterion) {
    let mut group = c.benchmark_group("barrier_of_100");
    const PARTIES: u64 = 100;
    macro_rules! peer {
        ($name:literal, $barrier:expr) => {
            group.bench_function($name, |b| {
                let barrier = $barrier;
                let waker = Waker::from(Arc::new(Cheap));
                let cx = &mut Context::from_waker(&waker);
                b.iter_custom(|times| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..times.div_ceil(PARTIES) {
                        let mut waiting: Vec<_> = (0..PARTIES).map(|_| Box::pin(barrier.wait())).collect();
                        let start = Instant::now();
                        let (last, rest) = waiting.split_last_mut().expect("100");
                        for future in &mut *rest {
                            assert!(future.as_mut().poll(cx).is_pending());
                        }
                        assert!(last.as_mut().poll(cx).is_ready());
                        for future in rest {
                            assert!(future.as_mut().poll(cx).is_ready());
                        }
                        spent += start.elapsed();
                    }
                    spent
                })
            });
        };
    }
    peer!("evenloop", evenloop_sync::Barrier::new(PARTIES as usize));
    peer!("tokio", tokio::sync::Barrier::new(PARTIES as usize));
    peer!("async-lock", async_lock::Barrier::new(PARTIES as usize));
    peer!("asyncband", asyncband::barrier::Barrier::new(PARTIES as u32));
    group.finish();
}

criterion_group!(benches, event, condition, barrier);
criterion_main!(benches);
