//! What does a lock for readers and writers cost: free for each, and with one writer in ten among 100 tasks?
//!
//! Tasks run on the least possible loop, the same for everybody. Not measured: readers on many processors (whose word is
//! one cache line, as the peers' is), and waiters that give up.

use criterion::{Criterion, criterion_group, criterion_main};
use evenloop_benches::{now, run_all, yield_now};
use std::hint::black_box;
use std::time::Instant;

const TASKS: u64 = 100;

fn free(c: &mut Criterion) {
    macro_rules! peers {
        ($group:expr, $method:ident) => {
            let mut group = c.benchmark_group($group);
            let ours = evenloop_sync::RwLock::new(0_u64);
            group.bench_function("evenloop", |b| b.iter(|| black_box(*now(ours.$method()))));
            let lock = tokio::sync::RwLock::new(0_u64);
            group.bench_function("tokio", |b| b.iter(|| black_box(*now(lock.$method()))));
            let lock = async_lock::RwLock::new(0_u64);
            group.bench_function("async-lock", |b| b.iter(|| black_box(*now(lock.$method()))));
            let lock = asyncband::rwlock::RwLock::new(0_u64);
            group.bench_function("asyncband", |b| b.iter(|| black_box(*now(lock.$method()))));
            let lock = parking_lot::RwLock::new(0_u64);
            group.bench_function("limit: parking_lot", |b| b.iter(|| black_box(*lock.$method())));
            group.finish();
        };
    }
    peers!("rwlock_read_free", read);
    peers!("rwlock_write_free", write);
}

fn one_writer_in_ten(c: &mut Criterion) {
    let mut group = c.benchmark_group("rwlock_across_yield_100_tasks_10_write");
    macro_rules! peer {
        ($name:literal, $lock:expr) => {
            group.bench_function($name, |b| {
                b.iter_custom(|times| {
                    let lock = &$lock;
                    let start = Instant::now();
                    run_all((0..TASKS).map(|task| async move {
                        for _ in 0..times.div_ceil(TASKS) {
                            if task % 10 == 0 {
                                let mut guard = lock.write().await;
                                *guard += 1;
                                yield_now().await;
                            } else {
                                let guard = lock.read().await;
                                black_box(*guard);
                                yield_now().await;
                            }
                        }
                    }));
                    start.elapsed()
                })
            });
        };
    }
    peer!("evenloop", evenloop_sync::RwLock::new(0_u64));
    peer!("tokio", tokio::sync::RwLock::new(0_u64));
    peer!("async-lock", async_lock::RwLock::new(0_u64));
    peer!("asyncband", asyncband::rwlock::RwLock::new(0_u64));
    group.finish();
}

criterion_group!(benches, free, one_writer_in_ten);
criterion_main!(benches);
