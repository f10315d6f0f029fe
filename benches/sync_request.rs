//! What does a request with an answer cost: a oneshot through a bounded queue to a server task, and the answer through
//! the oneshot?
//!
//! One client that waits for each answer, so every request wakes the server and every answer the client; on one thread
//! (the least possible loop, the same for everybody) and with a thread for each. Not measured: many clients, and what the
//! server does.

use criterion::{Criterion, criterion_group, criterion_main};
use evenloop_benches::{block_on, run_all};
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::thread;
use std::time::Instant;

const CAPACITY: usize = 64;

type Task<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Measures every peer with `measure!(name, queue's ends, oneshot, put, get)`.
macro_rules! every_peer {
    ($measure:ident) => {
        let queue = evenloop_sync::Queue::new(CAPACITY);
        $measure!("evenloop", (&queue, &queue), evenloop_sync::oneshot::channel(), put, get);
        $measure!("tokio", tokio::sync::mpsc::channel(CAPACITY), tokio::sync::oneshot::channel(), send, recv);
        $measure!(
            "async-channel, oneshot",
            async_channel::bounded(CAPACITY),
            oneshot::async_channel(),
            send,
            recv
        );
        $measure!(
            "async-channel, futures",
            async_channel::bounded(CAPACITY),
            futures::channel::oneshot::channel(),
            send,
            recv
        );
        $measure!("kanal, oneshot", kanal::bounded_async(CAPACITY), oneshot::async_channel(), send, recv);
        $measure!("asyncband", asyncband::mpmc::bounded(CAPACITY), asyncband::oneshot::channel(), send, recv);
    };
}

/// The two sides of so many requests.
macro_rules! sides {
    ($sender:ident, $receiver:ident, $oneshot:expr, $put:ident, $get:ident, $times:ident) => {{
        let client = async {
            for request in 0..$times {
                let (answer, answered) = $oneshot;
                assert!($sender.$put((request, answer)).await.is_ok());
                assert!(black_box(answered.await).is_ok());
            }
        };
        let server = async {
            for _ in 0..$times {
                let (request, answer) = $receiver.$get().await.expect("the client is there");
                assert!(answer.send(black_box(request + 1)).is_ok());
            }
        };
        (client, server)
    }};
}

fn one_thread(c: &mut Criterion) {
    let mut group = c.benchmark_group("request_one_thread");
    macro_rules! measure {
        ($name:literal, $queue:expr, $oneshot:expr, $put:ident, $get:ident) => {
            #[allow(unused_mut)] // only tokio's
            let (sender, mut receiver) = $queue;
            group.bench_function($name, |b| {
                b.iter_custom(|times| {
                    let (client, server) = sides!(sender, receiver, $oneshot, $put, $get, times);
                    let tasks: [Task<'_>; 2] = [Box::pin(client), Box::pin(server)];
                    let start = Instant::now();
                    run_all(tasks);
                    start.elapsed()
                })
            });
        };
    }
    every_peer!(measure);
    group.finish();
}

fn two_threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("request_two_threads");
    macro_rules! measure {
        ($name:literal, $queue:expr, $oneshot:expr, $put:ident, $get:ident) => {
            #[allow(unused_mut)] // only tokio's
            let (sender, mut receiver) = $queue;
            group.bench_function($name, |b| {
                b.iter_custom(|times| {
                    let (client, server) = sides!(sender, receiver, $oneshot, $put, $get, times);
                    let start = Instant::now();
                    thread::scope(|scope| {
                        scope.spawn(|| block_on(server));
                        block_on(client);
                    });
                    start.elapsed()
                })
            });
        };
    }
    every_peer!(measure);
    group.finish();
}

criterion_group!(benches, one_thread, two_threads);
criterion_main!(benches);
