//! What does a semaphore cost: free, with ten permits for 100 tasks, and wanted by two threads at once?
//!
//! The ten permits in two situations. `across_yield`: whoever gives a permit back asks for the next one in the same breath.
//! async-lock lets that task overtake the line: ten tasks go on without waiting, ninety starve until those have ended, and
//! its figure is that of a semaphore that nobody waits for. `in_turns`: tasks give way before they ask again. evenloop and tokio
//! then hand every permit to somebody in line (39,990 of 40,000 acquires wait). async-lock only wakes the first in line, and
//! whoever comes by before that one is polled takes the permit: 6,032 of 40,000 wait, and those waits are what it saves.
//!
//! Tasks run on the least possible loop, the same for everybody, so its cost (`lock_across_yield_100_tasks/loop_only` in
//! `sync_lock.rs`) is in every figure. Limit: two bare atomic exchanges. Not measured: many permits at once, closing, and
//! waiters that give up.

use criterion::{Criterion, criterion_group, criterion_main};
use evenloop_benches::{block_on, now, on_two_threads, run_all, yield_now};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const TASKS: u64 = 100;

fn free(c: &mut Criterion) {
    let mut group = c.benchmark_group("semaphore_free");
    macro_rules! peer {
        ($name:literal, $semaphore:expr, $($acquire:tt)*) => {
            let semaphore = $semaphore;
            group.bench_function($name, |b| b.iter(|| drop(black_box(now(semaphore.$($acquire)*)))));
        };
    }
    peer!("evenloop", evenloop_sync::Semaphore::new(10), acquire());
    peer!("tokio", tokio::sync::Semaphore::new(10), acquire());
    peer!("async-lock", async_lock::Semaphore::new(10), acquire());
    peer!("asyncband", asyncband::semaphore::Semaphore::new(10), acquire(1));
    let word = AtomicU64::new(10);
    group.bench_function("limit: two atomics", |b| {
        b.iter(|| {
            let taken = word.fetch_sub(1, Ordering::Acquire);
            black_box((taken, word.fetch_add(1, Ordering::Release)))
        })
    });
    group.finish();
}

fn across_a_yield(c: &mut Criterion) {
    ten_for_100_tasks(c, "semaphore_10_across_yield_100_tasks", false);
}

fn in_turns(c: &mut Criterion) {
    ten_for_100_tasks(c, "semaphore_10_in_turns_100_tasks", true);
}

fn ten_for_100_tasks(c: &mut Criterion, situation: &str, gives_way: bool) {
    let mut group = c.benchmark_group(situation);
    macro_rules! peer {
        ($name:literal, $semaphore:expr, $($acquire:tt)*) => {
            group.bench_function($name, |b| {
                b.iter_custom(|times| {
                    let semaphore = &$semaphore;
                    let start = Instant::now();
                    run_all((0..TASKS).map(|_| async move {
                        for _ in 0..times.div_ceil(TASKS) {
                            let permit = semaphore.$($acquire)*.await;
                            yield_now().await;
                            drop(permit);
                            if gives_way {
                                yield_now().await;
                            }
                        }
                    }));
                    start.elapsed()
                })
            });
        };
    }
    peer!("evenloop", evenloop_sync::Semaphore::new(10), acquire());
    peer!("tokio", tokio::sync::Semaphore::new(10), acquire());
    peer!("async-lock", async_lock::Semaphore::new(10), acquire());
    peer!("asyncband", asyncband::semaphore::Semaphore::new(10), acquire(1));
    group.finish();
}

fn two_threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("semaphore_two_threads");
    macro_rules! peer {
        ($name:literal, $semaphore:expr, $($acquire:tt)*) => {
            group.bench_function($name, |b| {
                b.iter_custom(|times| {
                    let semaphore = $semaphore;
                    on_two_threads(times, |half| {
                        block_on(async {
                            for _ in 0..half {
                                drop(black_box(semaphore.$($acquire)*.await));
                            }
                        })
                    })
                })
            });
        };
    }
    peer!("evenloop", evenloop_sync::Semaphore::new(1), acquire());
    peer!("tokio", tokio::sync::Semaphore::new(1), acquire());
    peer!("async-lock", async_lock::Semaphore::new(1), acquire());
    peer!("asyncband", asyncband::semaphore::Semaphore::new(1), acquire(1));
    group.finish();
}

criterion_group!(benches, free, across_a_yield, in_turns, two_threads);
criterion_main!(benches);
