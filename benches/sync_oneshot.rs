//! What does a oneshot cost from making to awaiting: sent first, awaited first, and sent by another thread?
//!
//! Polled by hand, so no loop is in the figures; the two threads sleep in between. Limits: one allocation, and two bare
//! atomic exchanges on top. Not measured: halves that are dropped, and waiting for the receiver to leave.

use criterion::{Criterion, criterion_group, criterion_main};
use evenloop_benches::{block_on, now};
use std::future::{Future, IntoFuture};
use std::hint::black_box;
use std::pin::pin;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::thread;
use std::time::Instant;

/// Measures every peer with `measure!(name, sender and receiver)`.
macro_rules! every_peer {
    ($measure:ident) => {
        $measure!("evenloop", evenloop_sync::oneshot::channel());
        $measure!("tokio", tokio::sync::oneshot::channel());
        $measure!("futures", futures::channel::oneshot::channel());
        $measure!("oneshot", oneshot::async_channel());
        $measure!("asyncband", asyncband::oneshot::channel());
    };
}

fn sent_then_awaited(c: &mut Criterion) {
    let mut group = c.benchmark_group("oneshot_sent_then_awaited");
    macro_rules! measure {
        ($name:literal, $channel:expr) => {
            group.bench_function($name, |b| {
                b.iter(|| {
                    let (sender, receiver) = $channel;
                    assert!(sender.send(black_box(1_u64)).is_ok());
                    assert!(black_box(now(receiver.into_future())).is_ok());
                })
            });
        };
    }
    every_peer!(measure);
    // What a small executor's users do without a type for it.
    measure!("async-channel of 1", {
        let (sender, receiver) = async_channel::bounded(1);
        (Sender(sender), async move { receiver.recv().await })
    });
    group.bench_function("limit: one allocation", |b| b.iter(|| black_box(Box::new([1_u64; 6]))));
    let word = AtomicU64::new(0);
    group.bench_function("limit: one allocation, two atomics", |b| {
        b.iter(|| {
            black_box(Box::new([1_u64; 6]));
            word.swap(1, Ordering::AcqRel) + word.swap(0, Ordering::AcqRel)
        })
    });
    group.finish();
}

/// A sender that does not wait.
struct Sender(async_channel::Sender<u64>);

impl Sender {
    fn send(self, value: u64) -> Result<(), async_channel::TrySendError<u64>> {
        self.0.try_send(value)
    }
}

fn awaited_then_sent(c: &mut Criterion) {
    let mut group = c.benchmark_group("oneshot_awaited_then_sent");
    let mut cx = Context::from_waker(Waker::noop());
    macro_rules! measure {
        ($name:literal, $channel:expr) => {
            group.bench_function($name, |b| {
                b.iter(|| {
                    let (sender, receiver) = $channel;
                    let mut receiver = pin!(receiver.into_future());
                    assert!(receiver.as_mut().poll(&mut cx).is_pending());
                    assert!(sender.send(black_box(1_u64)).is_ok());
                    assert!(black_box(receiver.as_mut().poll(&mut cx)).is_ready());
                })
            });
        };
    }
    every_peer!(measure);
    group.finish();
}

fn sent_by_another_thread(c: &mut Criterion) {
    let mut group = c.benchmark_group("oneshot_two_threads");
    macro_rules! measure {
        ($name:literal, $channel:expr) => {
            group.bench_function($name, |b| {
                b.iter_custom(|times| {
                    let (senders, receivers): (Vec<_>, Vec<_>) = (0..times).map(|_| $channel).unzip();
                    let begin = Barrier::new(2);
                    thread::scope(|scope| {
                        scope.spawn(|| {
                            begin.wait();
                            for sender in senders {
                                assert!(sender.send(black_box(1_u64)).is_ok());
                            }
                        });
                        begin.wait();
                        let start = Instant::now();
                        block_on(async {
                            for receiver in receivers {
                                assert!(black_box(receiver.await).is_ok());
                            }
                        });
                        start.elapsed()
                    })
                })
            });
        };
    }
    every_peer!(measure);
    group.finish();
}

criterion_group!(benches, sent_then_awaited, awaited_then_sent, sent_by_another_thread);
criterion_main!(benches);
