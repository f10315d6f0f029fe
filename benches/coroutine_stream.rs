//! What does one value of an asynchronous generator cost its consumer, and how large is the generator?
//!
//! Peers: async-stream (a macro; thread-local exchange), asynk-strim (data in the waker), async-gen (a macro; a cell
//! beside the future), genawaiter's `Rc` form as a stream. Each yields 1,000 numbers and awaits nothing else, so the
//! cost is that of the exchange; `awaiting` awaits a ready future before each yield and passes Pending on every tenth
//! time, with a waker that costs nothing. `hidden` is how a generator is stored and returned: behind a `dyn`, where the
//! compiler sees neither side from the other.
//!
//! Instructions a value, by callgrind:
//!
//! | | evenloop | async-stream | async-gen | asynk-strim | genawaiter |
//! |---|---|---|---|---|---|
//! | `stream_1000`, in place | 34 | **8** | 37 | 56 | 52 |
//! | `stream_1000`, hidden | **46** | 48 | 50 | 135 | |
//! | `awaiting_1000`, in place | 47 | **5** | 51 | 67 | 62 |
//! | `awaiting_1000`, hidden | 59 | 59 | 62 | 150 | |
//! | bytes | 80 | **56** | 80 | 96 | |
//!
//! Where async-stream is ahead, and why. In place, the compiler sees that nobody holds a pointer to async-stream's generator,
//! keeps all of it in registers and leaves a plain loop. Ours holds a pointer to itself, from its body to its exchange, so its
//! variables stay in memory (SROA, the pass that would take them apart, leaves alone whose address is stored, if only within
//! it): the price of a yield that works in another thread's poll, in a combinator and in a generator inside a generator,
//! where async-stream's thread-local finds the wrong place or none. Three others were weighed. A
//! thread-local or the waker's data find the innermost generator, and a handle may belong to one further out: so it has to
//! carry something to compare. Its address is the same pointer again; a number that is unique for ever is as large, and is
//! taken from a counter for each; a small one that differs from those of the generators around it can be met on another
//! thread, which has others around it, and would mix up types. The waker would have to be wrapped besides, so that each
//! await of the body would register anew at each poll.
//!
//! What has been tried, in instructions a value as in the rows of the table, from top to bottom:
//!
//! - The exchange on the resumer's stack, found through a thread-local and compared by a number: 5 in place, 70 hidden, which
//!   is how generators are mostly held; and it had to refuse a yield of an outer generator in an inner one. Where it looked
//!   further out as well, it took 41 in place.
//! - The same found through the waker: one of our own, whose data is the exchange and which is cloned as the consumer's; a
//!   yield knows its table of functions, compares a number and looks further out along the wakers. It took 6, 79, 31 and 93,
//!   and 80 bytes; 6, 63, 25 and 76 where it did not look further out. That is without closing, and without taking back the
//!   value of a yield that is dropped, which it cannot: a destructor gets no waker. And what the body awaits would find
//!   another waker at each poll than the one it cloned, so it would register anew, and an executor that knows its tasks by
//!   their wakers, as Embassy does, would not know them.
//! - The exchange beside the frame, as a local variable that the caller lends, so that nothing points to itself: 31 in place
//!   as it stands. A bare one, whose state is never volatile, whose destructor is one store and which calls nothing with the
//!   frame's address, took 6, but 59 where the body awaits; and it has to be lent by everybody who writes one.
//!
//! In bytes, that pointer is there three times, since rustc keeps an argument twice that lives across an await: in the
//! argument, in the handle and in the yield. That is the difference: slot, state and what closing needs take 24, as the value
//! with its tag and the flag of async-stream do. A number in place of the pointer could be half as large, and would be looked
//! up in a table at each step. A distance could be, too, but handles and yields are moved, so there is nothing to count from.
//!
//! Where the body awaits, each value asks three things that async-stream, which cannot be closed, does without: whether the
//! body stands at a yield, whether that was offered, and what it is answered. They cost what its look-up does.
//!
//! Not measured: closing (no peer can), executors, and bodies that hold much across a yield.

use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use criterion::{Criterion, criterion_group, criterion_main};
use evenloop_coroutine::{AsyncGenerator, PinnedAsyncGenerator};
use futures::Stream;
use futures::stream::BoxStream;

const VALUES: u64 = 1_000;

/// Polls the stream to its end; pending means poll again.
fn sum(mut stream: Pin<&mut impl Stream<Item = u64>>) -> u64 {
    let mut cx = Context::from_waker(Waker::noop());
    let mut sum = 0;
    loop {
        match stream.as_mut().poll_next(&mut cx) {
            Poll::Ready(Some(n)) => sum += black_box(n),
            Poll::Ready(None) => {
                assert_eq!(sum, VALUES * (VALUES - 1) / 2);
                return sum;
            }
            Poll::Pending => {}
        }
    }
}

/// Pending once, every tenth time.
fn maybe_pending(n: u64) -> impl Future<Output = ()> {
    let mut pending = n.is_multiple_of(10);
    poll_fn(move |_| if std::mem::take(&mut pending) { Poll::Pending } else { Poll::Ready(()) })
}

macro_rules! measured {
    ($name:ident, $n:ident => $before:expr) => {
        fn $name(c: &mut Criterion) {
            let mut group = c.benchmark_group(stringify!($name));
            group.bench_function("evenloop_pinned", |b| {
                b.iter(|| {
                    let bound = black_box(VALUES);
                    sum(pin!(PinnedAsyncGenerator::new(async move |mut co| {
                        for $n in 0..bound {
                            let () = $before;
                            if co.yield_($n).await.is_err() {
                                break;
                            }
                        }
                    })))
                });
            });
            group.bench_function("evenloop_hidden", |b| {
                b.iter(|| {
                    let bound = black_box(VALUES);
                    let numbers = AsyncGenerator::new(async move |mut co| {
                        for $n in 0..bound {
                            let () = $before;
                            if co.yield_($n).await.is_err() {
                                break;
                            }
                        }
                    });
                    sum(pin!(black_box(numbers.boxed())))
                });
            });
            group.bench_function("async_stream", |b| {
                b.iter(|| {
                    let bound = black_box(VALUES);
                    sum(pin!(async_stream::stream! {
                        for $n in 0..bound {
                            let () = $before;
                            yield $n;
                        }
                    }))
                });
            });
            group.bench_function("async_stream_hidden", |b| {
                b.iter(|| {
                    let bound = black_box(VALUES);
                    let numbers: BoxStream<'_, u64> = Box::pin(async_stream::stream! {
                        for $n in 0..bound {
                            let () = $before;
                            yield $n;
                        }
                    });
                    sum(pin!(black_box(numbers)))
                });
            });
            group.bench_function("asynk_strim", |b| {
                b.iter(|| {
                    let bound = black_box(VALUES);
                    sum(pin!(asynk_strim::stream_fn(move |mut yielder| async move {
                        for $n in 0..bound {
                            let () = $before;
                            yielder.yield_item($n).await;
                        }
                    })))
                });
            });
            group.bench_function("async_gen", |b| {
                b.iter(|| {
                    let bound = black_box(VALUES);
                    sum(pin!(async_gen::stream! {
                        for $n in 0..bound {
                            let () = $before;
                            yield $n;
                        }
                    }))
                });
            });
            group.bench_function("genawaiter_rc", |b| {
                b.iter(|| {
                    let bound = black_box(VALUES);
                    sum(pin!(genawaiter::rc::Gen::new(move |co| async move {
                        for $n in 0..bound {
                            let () = $before;
                            co.yield_($n).await;
                        }
                    })))
                });
            });
            group.finish();
        }
    };
}

measured!(stream_1000, n => ());
measured!(awaiting_1000, n => maybe_pending(n).await);

/// Bytes of the generator of `stream_1000`.
fn bytes(_: &mut Criterion) {
    let bound = black_box(VALUES);
    let ours = PinnedAsyncGenerator::new(async move |mut co| {
        for n in 0..bound {
            if co.yield_(n).await.is_err() {
                break;
            }
        }
    });
    let async_stream = async_stream::stream! {
        for n in 0..bound {
            yield n;
        }
    };
    let asynk_strim = asynk_strim::stream_fn(move |mut yielder| async move {
        for n in 0..bound {
            yielder.yield_item(n).await;
        }
    });
    let async_gen = async_gen::stream! {
        for n in 0..bound {
            yield n;
        }
    };
    println!("bytes evenloop_pinned {}", size_of_val(&ours));
    println!("bytes async_stream {}", size_of_val(&async_stream));
    println!("bytes asynk_strim {}", size_of_val(&asynk_strim));
    println!("bytes async_gen {}", size_of_val(&async_gen));
}

criterion_group!(benches, bytes, stream_1000, awaiting_1000);
criterion_main!(benches);
