//! What does a lock cost: free, held across a yield by 100 tasks, and wanted by two threads at once?
//!
//! Tasks run on the least possible loop, the same for everybody, so its cost (`loop_only`) is in every figure. Limits:
//! two bare atomic exchanges, and parking_lot's mutex, which cannot wait without blocking. Not measured: a loop's own
//! cost, time in line, and locks that are abandoned.

use criterion::{Criterion, criterion_group, criterion_main};
use evenloop_benches::{block_on, now, on_two_threads, run_all, yield_now};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const TASKS: u64 = 100;

fn free(c: &mut Criterion) {
    let mut group = c.benchmark_group("lock_free");
    macro_rules! peer {
        ($name:literal, $lock:expr, $method:ident) => {
            let lock = $lock;
            group.bench_function($name, |b| {
                b.iter(|| {
                    let mut guard = now(lock.$method());
                    *guard = black_box(*guard + 1);
                })
            });
        };
    }
    peer!("evenloop", evenloop_sync::Lock::new(0_u64), acquire);
    peer!("tokio", tokio::sync::Mutex::new(0_u64), lock);
    peer!("async-lock", async_lock::Mutex::new(0_u64), lock);
    peer!("futures", futures::lock::Mutex::new(0_u64), lock);
    peer!("asyncband", asyncband::mutex::Mutex::new(0_u64), lock);
    let lock = parking_lot::Mutex::new(0_u64);
    group.bench_function("limit: parking_lot", |b| {
        b.iter(|| {
            let mut guard = lock.lock();
            *guard = black_box(*guard + 1);
        })
    });
    let word = AtomicU64::new(0);
    group.bench_function("limit: two atomics", |b| {
        b.iter(|| {
            let taken = word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
            let given = word.compare_exchange(1, 0, Ordering::Release, Ordering::Relaxed);
            black_box((taken.is_ok(), given.is_ok()))
        })
    });
    group.finish();
}

fn across_a_yield(c: &mut Criterion) {
    let mut group = c.benchmark_group("lock_across_yield_100_tasks");
    macro_rules! peer {
        ($name:literal, $lock:expr, $method:ident) => {
            group.bench_function($name, |b| {
                b.iter_custom(|times| {
                    let lock = &$lock;
                    let start = Instant::now();
                    run_all((0..TASKS).map(|_| async move {
                        for _ in 0..times.div_ceil(TASKS) {
                            let mut guard = lock.$method().await;
                            *guard += 1;
                            yield_now().await;
                        }
                    }));
                    start.elapsed()
                })
            });
        };
    }
    peer!("evenloop", evenloop_sync::Lock::new(0_u64), acquire);
    peer!("tokio", tokio::sync::Mutex::new(0_u64), lock);
    peer!("async-lock", async_lock::Mutex::new(0_u64), lock);
    peer!("futures", futures::lock::Mutex::new(0_u64), lock);
    peer!("asyncband", asyncband::mutex::Mutex::new(0_u64), lock);
    group.bench_function("loop_only", |b| {
        b.iter_custom(|times| {
            let start = Instant::now();
            run_all((0..TASKS).map(|_| async move {
                for _ in 0..times.div_ceil(TASKS) {
                    yield_now().await;
                }
            }));
            start.elapsed()
        })
    });
    group.finish();
}

fn two_threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("lock_two_threads");
    macro_rules! peer {
        ($name:literal, $lock:expr, $method:ident) => {
            group.bench_function($name, |b| {
                b.iter_custom(|times| {
                    let lock = $lock;
                    on_two_threads(times, |half| {
                        block_on(async {
                            for _ in 0..half {
                                *lock.$method().await += 1;
                            }
                        })
                    })
                })
            });
        };
    }
    peer!("evenloop", evenloop_sync::Lock::new(0_u64), acquire);
    peer!("tokio", tokio::sync::Mutex::new(0_u64), lock);
    peer!("async-lock", async_lock::Mutex::new(0_u64), lock);
    peer!("futures", futures::lock::Mutex::new(0_u64), lock);
    peer!("asyncband", asyncband::mutex::Mutex::new(0_u64), lock);
    group.finish();
}

criterion_group!(benches, free, across_a_yield, two_threads);
criterion_main!(benches);
