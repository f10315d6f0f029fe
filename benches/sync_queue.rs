//! What does an item cost on its way through a bounded queue: one producer, four producers, and a thread on either side?
//!
//! A queue of 64 that is full or empty every 64 items, so the waits are in the figures, spread over as many items. Tasks
//! run on the least possible loop, the same for everybody. Limit: a `VecDeque` under parking_lot's mutex, which cannot
//! wait. Not measured: `task_done` and `join`, the other orders, items larger than a word.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use evenloop_benches::{block_on, run_all};
use std::collections::VecDeque;
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::thread;
use std::time::Instant;

const CAPACITY: usize = 64;

type Task<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Measures every peer with `measure!(name, sender and receiver, put, get, what says that all went well)`.
macro_rules! every_peer {
    ($measure:ident) => {
        let queue = evenloop_sync::Queue::new(CAPACITY);
        $measure!("evenloop", (&queue, &queue), put, get, is_ok);
        $measure!("tokio", tokio::sync::mpsc::channel(CAPACITY), send, recv, is_some);
        $measure!("async-channel", async_channel::bounded(CAPACITY), send, recv, is_ok);
        $measure!("flume", flume::bounded(CAPACITY), send_async, recv_async, is_ok);
        $measure!("kanal", kanal::bounded_async(CAPACITY), send, recv, is_ok);
        $measure!("asyncband", asyncband::mpmc::bounded(CAPACITY), send, recv, is_ok);
    };
}

fn on_one_thread(group: &mut BenchmarkGroup<'_, WallTime>, producers: u64) {
    macro_rules! measure {
        ($name:literal, $channel:expr, $put:ident, $get:ident, $went_well:ident) => {
            #[allow(unused_mut)] // only tokio's
            let (sender, mut receiver) = $channel;
            group.bench_function($name, |b| {
                b.iter_custom(|times| {
                    let each = times.div_ceil(producers);
                    let sender = &sender;
                    let mut tasks: Vec<Task<'_>> = vec![];
                    for _ in 0..producers {
                        tasks.push(Box::pin(async move {
                            for item in 0..each {
                                assert!(sender.$put(item).await.is_ok());
                            }
                        }));
                    }
                    tasks.push(Box::pin(async {
                        for _ in 0..each * producers {
                            assert!(black_box(receiver.$get().await).$went_well());
                        }
                    }));
                    let start = Instant::now();
                    run_all(tasks);
                    start.elapsed()
                })
            });
        };
    }
    every_peer!(measure);
}

fn one_producer(c: &mut Criterion) {
    let mut group = c.benchmark_group("queue_one_producer");
    on_one_thread(&mut group, 1);
    let queue = parking_lot::Mutex::new(VecDeque::with_capacity(CAPACITY));
    group.bench_function("limit: VecDeque under parking_lot", |b| {
        b.iter(|| {
            queue.lock().push_back(black_box(1_u64));
            black_box(queue.lock().pop_front())
        })
    });
    group.finish();
}

fn four_producers(c: &mut Criterion) {
    let mut group = c.benchmark_group("queue_four_producers");
    on_one_thread(&mut group, 4);
    group.finish();
}

fn two_threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("queue_two_threads");
    macro_rules! measure {
        ($name:literal, $channel:expr, $put:ident, $get:ident, $went_well:ident) => {
            #[allow(unused_mut)] // only tokio's
            let (sender, mut receiver) = $channel;
            group.bench_function($name, |b| {
                b.iter_custom(|times| {
                    let start = Instant::now();
                    thread::scope(|scope| {
                        scope.spawn(|| {
                            block_on(async {
                                for item in 0..times {
                                    assert!(sender.$put(item).await.is_ok());
                                }
                            })
                        });
                        block_on(async {
                            for _ in 0..times {
                                assert!(black_box(receiver.$get().await).$went_well());
                            }
                        });
                    });
                    start.elapsed()
                })
            });
        };
    }
    every_peer!(measure);
    group.finish();
}

criterion_group!(benches, one_producer, four_producers, two_threads);
criterion_main!(benches);
