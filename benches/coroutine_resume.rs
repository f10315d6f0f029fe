//! What does one resume of a coroutine cost, and how large is a coroutine?
//!
//! Peers on stable Rust: genawaiter (in place, and behind an `Rc` or an `Arc`) and fauxgen. For reference: corosensei,
//! which switches stacks in assembly, and an iterator written by hand. Every body is a loop over its own counter, and
//! its bound is hidden from the compiler, so that no loop is folded. `bytes` is printed before the measurements: the
//! size of the coroutine itself, and what it has allocated besides.
//!
//! Instructions a resume, by callgrind; `made_resumed_dropped` is all of it, without 6 of the loop around it:
//!
//! | | evenloop in place | hidden | genawaiter in place | `Rc` |
//! |---|---|---|---|---|
//! | `iterate_1000` | **32** | 41 | 40 | 40 |
//! | `echo_1000` | **31** | 51 | 34 | |
//! | `made_resumed_dropped` | 20 | | **18** | |
//! | bytes, allocated ones included | **72** | 80 | | 96 |
//!
//! A body that is made, resumed once and dropped at its yield pays for a question that genawaiter does not ask: whether its
//! yield leaves something behind when it is dropped, four instructions. In time it is ahead all the same: 3.9 ns and 7.5 in
//! place, 20 and 24 in one allocation. Whether it has begun costs nothing there: that is kept in a byte of its own, and read
//! in such a way that the compiler knows the answer. With a volatile read where a resume asks whether the body stands at a
//! yield, `iterate_1000` in place would take 31, and this 27.
//!
//! Not measured: bodies that hold much across a yield (rustc lays them out, whoever resumes them), and moving between
//! threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::pin::pin;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use evenloop_coroutine::{Co, Coroutine, PinnedCoroutine, Resumed};
use futures::FutureExt;
use genawaiter::GeneratorState;

const VALUES: u64 = 1_000;

#[fauxgen::generator(yield = u64)]
fn faux_counter(bound: u64) {
    for n in 0..bound {
        r#yield!(n);
    }
}

/// One value out at each resume, nothing in: 1,000 of them, summed up.
fn iterate_1000(c: &mut Criterion) {
    let mut group = c.benchmark_group("iterate_1000");
    group.bench_function("by_hand", |b| {
        b.iter(|| {
            let mut next = 0;
            let numbers = std::iter::from_fn(|| {
                next += 1;
                (next <= black_box(VALUES)).then_some(next)
            });
            numbers.sum::<u64>()
        });
    });
    group.bench_function("evenloop_pinned", |b| {
        b.iter(|| {
            let bound = black_box(VALUES);
            let numbers = pin!(PinnedCoroutine::new(async |mut co| {
                for n in 0..bound {
                    co.yield_(n).await;
                }
            }));
            numbers.values().map(black_box).sum::<u64>()
        });
    });
    group.bench_function("evenloop_boxed", |b| {
        b.iter(|| {
            let bound = black_box(VALUES);
            let numbers = Coroutine::new(async |mut co| {
                for n in 0..bound {
                    co.yield_(n).await;
                }
            });
            numbers.map(black_box).sum::<u64>()
        });
    });
    group.bench_function("evenloop_hidden", |b| {
        b.iter(|| {
            let bound = black_box(VALUES);
            let numbers = Coroutine::new(async move |mut co| {
                for n in 0..bound {
                    co.yield_(n).await;
                }
            });
            black_box(numbers.boxed()).map(black_box).sum::<u64>()
        });
    });
    group.bench_function("genawaiter_stack", |b| {
        b.iter(|| {
            let bound = black_box(VALUES);
            genawaiter::stack::let_gen_using!(numbers, |co| async move {
                for n in 0..bound {
                    co.yield_(n).await;
                }
            });
            numbers.into_iter().map(black_box).sum::<u64>()
        });
    });
    group.bench_function("genawaiter_rc", |b| {
        b.iter(|| {
            let bound = black_box(VALUES);
            let numbers = genawaiter::rc::Gen::new(|co| async move {
                for n in 0..bound {
                    co.yield_(n).await;
                }
            });
            numbers.into_iter().map(black_box).sum::<u64>()
        });
    });
    group.bench_function("genawaiter_sync", |b| {
        b.iter(|| {
            let bound = black_box(VALUES);
            let numbers = genawaiter::sync::Gen::new(|co| async move {
                for n in 0..bound {
                    co.yield_(n).await;
                }
            });
            numbers.into_iter().map(black_box).sum::<u64>()
        });
    });
    group.bench_function("fauxgen", |b| {
        b.iter(|| {
            let numbers = pin!(faux_counter(black_box(VALUES)));
            numbers.map(black_box).sum::<u64>()
        });
    });
    group.bench_function("corosensei", |b| {
        b.iter(|| {
            let bound = black_box(VALUES);
            let mut numbers =
                corosensei::Coroutine::new(move |yielder: &corosensei::Yielder<(), u64>, ()| {
                    for n in 0..bound {
                        yielder.suspend(n);
                    }
                });
            let mut sum = 0;
            while let corosensei::CoroutineResult::Yield(n) = numbers.resume(()) {
                sum += black_box(n);
            }
            sum
        });
    });
    group.finish();
}

/// A value in and a value out at each resume: 1,000 round trips.
fn echo_1000(c: &mut Criterion) {
    let mut group = c.benchmark_group("echo_1000");
    group.bench_function("evenloop_pinned", |b| {
        b.iter(|| {
            let mut echo = pin!(PinnedCoroutine::new(async |mut co| {
                let mut value: u64 = co.argument().unwrap_or(0);
                while value < VALUES {
                    value = co.yield_(value + 1).await;
                }
                value
            }));
            let mut value = 0;
            while let Resumed::Yielded(next) = echo.as_mut().resume(black_box(value)) {
                value = next;
            }
            value
        });
    });
    group.bench_function("evenloop_hidden", |b| {
        b.iter(|| {
            let echo = Coroutine::new(async |mut co| {
                let mut value: u64 = co.argument().unwrap_or(0);
                while value < VALUES {
                    value = co.yield_(value + 1).await;
                }
                value
            });
            let mut echo = black_box(echo.boxed());
            let mut value = 0;
            while let Resumed::Yielded(next) = echo.resume(black_box(value)) {
                value = next;
            }
            value
        });
    });
    group.bench_function("genawaiter_stack", |b| {
        b.iter(|| {
            genawaiter::stack::let_gen_using!(echo, |co| async move {
                let mut value: u64 = 0;
                while value < VALUES {
                    value = co.yield_(value + 1).await;
                }
                value
            });
            let mut value = 0;
            while let GeneratorState::Yielded(next) = echo.resume_with(black_box(value)) {
                value = next;
            }
            value
        });
    });
    group.bench_function("genawaiter_rc", |b| {
        b.iter(|| {
            let mut echo = genawaiter::rc::Gen::new(|co| async move {
                let mut value: u64 = 0;
                while value < VALUES {
                    value = co.yield_(value + 1).await;
                }
                value
            });
            let mut value = 0;
            while let GeneratorState::Yielded(next) = echo.resume_with(black_box(value)) {
                value = next;
            }
            value
        });
    });
    group.bench_function("corosensei", |b| {
        b.iter(|| {
            let mut echo =
                corosensei::Coroutine::new(|yielder: &corosensei::Yielder<u64, u64>, mut value: u64| {
                    while value < VALUES {
                        value = yielder.suspend(value + 1);
                    }
                    value
                });
            let mut value = 0;
            while let corosensei::CoroutineResult::Yield(next) = echo.resume(black_box(value)) {
                value = next;
            }
            value
        });
    });
    group.finish();
}

/// Made, resumed once, dropped at its yield.
fn made_resumed_dropped(c: &mut Criterion) {
    let mut group = c.benchmark_group("made_resumed_dropped");
    group.bench_function("evenloop_pinned", |b| {
        b.iter(|| {
            let body = pin!(PinnedCoroutine::new(async |mut co| co.yield_(black_box(1)).await));
            body.values().next()
        });
    });
    group.bench_function("evenloop_boxed", |b| {
        b.iter(|| Coroutine::new(async |mut co| co.yield_(black_box(1)).await).next());
    });
    group.bench_function("genawaiter_stack", |b| {
        b.iter(|| {
            genawaiter::stack::let_gen_using!(body, |co| async move { co.yield_(black_box(1)).await });
            body.into_iter().next()
        });
    });
    group.bench_function("genawaiter_rc", |b| {
        b.iter(|| {
            let body = genawaiter::rc::Gen::new(|co| async move { co.yield_(black_box(1)).await });
            body.into_iter().next()
        });
    });
    group.bench_function("genawaiter_rc_boxed", |b| {
        b.iter(|| {
            let body =
                genawaiter::rc::Gen::new(|co| async move { co.yield_(black_box(1)).await }.boxed_local());
            body.into_iter().next()
        });
    });
    group.bench_function("fauxgen", |b| {
        b.iter(|| pin!(faux_counter(black_box(2))).next());
    });
    group.finish();
}

/// 1,000 coroutines, resumed in turn: the round of a scheduler, from cache that others have used meanwhile.
fn round_of_1000(c: &mut Criterion) {
    let mut group = c.benchmark_group("round_of_1000");
    group.bench_function("evenloop_hidden", |b| {
        b.iter_batched_ref(
            || {
                let one = |start| {
                    Coroutine::new(async move |mut co| {
                        for n in start.. {
                            co.yield_(n).await;
                        }
                    })
                    .boxed()
                };
                (0..VALUES).map(one).collect::<Vec<_>>()
            },
            |all| all.iter_mut().filter_map(Iterator::next).sum::<u64>(),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("genawaiter_rc_boxed", |b| {
        b.iter_batched_ref(
            || {
                let one = |start| {
                    genawaiter::rc::Gen::new(move |co| {
                        let body = async move {
                            for n in start.. {
                                co.yield_(n).await;
                            }
                        };
                        body.boxed_local()
                    })
                };
                (0..VALUES).map(one).collect::<Vec<_>>()
            },
            |all| {
                let next = |one: &mut genawaiter::rc::Gen<u64, (), _>| match one.resume() {
                    GeneratorState::Yielded(n) => n,
                    GeneratorState::Complete(()) => 0,
                };
                all.iter_mut().map(next).sum::<u64>()
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// Counts the bytes that are allocated.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get() + layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, that is from the same allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn report<T>(name: &str, make: impl FnOnce() -> T) {
    let before = ALLOCATED.get();
    let made = make();
    println!("bytes {name:<20} {:>4} + {:>4} allocated", size_of_val(&made), ALLOCATED.get() - before);
}

/// Bytes of the counter of `iterate_1000`, before its first resume.
fn bytes(_: &mut Criterion) {
    let bound = black_box(VALUES);
    report("evenloop_pinned", || {
        PinnedCoroutine::new(async move |mut co: Co<'_, (), u64>| {
            for n in 0..bound {
                co.yield_(n).await;
            }
        })
    });
    report("evenloop_boxed", || {
        Coroutine::new(async move |mut co: Co<'_, (), u64>| {
            for n in 0..bound {
                co.yield_(n).await;
            }
        })
    });
    report("genawaiter_rc", || {
        genawaiter::rc::Gen::<u64, (), _>::new(|co| async move {
            for n in 0..bound {
                co.yield_(n).await;
            }
        })
    });
    report("genawaiter_rc_boxed", || {
        genawaiter::rc::Gen::<u64, (), _>::new(|co| {
            let body = async move {
                for n in 0..bound {
                    co.yield_(n).await;
                }
            };
            body.boxed_local()
        })
    });
    report("genawaiter_sync", || {
        genawaiter::sync::Gen::<u64, (), _>::new(|co| async move {
            for n in 0..bound {
                co.yield_(n).await;
            }
        })
    });
    report("fauxgen", || faux_counter(bound));
}

criterion_group!(benches, bytes, iterate_1000, echo_1000, made_resumed_dropped, round_of_1000);
criterion_main!(benches);
