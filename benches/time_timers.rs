//! What does a timer cost that is set and given up, as nearly every time-out is; does it depend on how many others are
//! pending; and what do 100,000 tasks cost that sleep for a second?
//!
//! A timer is set for an instant, and `for a time`: that is one clock read more.
//!
//! Everybody runs on a current-thread loop of their own and polls with their own task's waker. `limit` is what anybody
//! would write by hand for one thread: a sorted map without a lock. `wait` is processor time of the whole process, not
//! wall time, and includes spawning and joining. Not measured: how late timers are, and what sleeping costs in system
//! calls (a test counts those).
//!
//! monoio's timers belong to one thread, and need no lock. Ours may be set and dropped on any; the thread of a running loop
//! does without a lock too, as long as it has set no more than 16 since it parked. What an insert would pay for a tick and a
//! place in the wheel is put off until the loop parks.

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use evenloop_core::{Runtime, ThreadPark};
use evenloop_executor::{EventLoop, create_task};
use evenloop_time::{Clock, Driver, sleep, sleep_until};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

const PENDING: [usize; 3] = [100, 10_000, 1_000_000];
const SLEEPERS: usize = 100_000;
const SECOND: Duration = Duration::from_secs(1);

fn evenloop_loop() -> EventLoop {
    let driver = Driver::new(ThreadPark::new(), Clock::Real);
    let runtime = Runtime::builder("evenloop").timers(driver.timers());
    EventLoop::builder().park(Box::new(driver)).runtime(runtime).build()
}

/// Far enough away that none comes due, and spread as those of many connections are.
fn far(start: Instant, place: usize) -> Instant {
    start + 600 * SECOND + Duration::from_micros(place as u64 * 977 % 600_000_000)
}

/// Polls once what has to wait.
async fn started<F: Future>(mut future: Pin<Box<F>>) -> Pin<Box<F>> {
    poll_fn(|cx| {
        assert!(future.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    future
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

thread_local! {
    static BY_HAND: RefCell<BTreeMap<(Instant, u64), Waker>> = const { RefCell::new(BTreeMap::new()) };
}

/// The limit: a timer on a sorted map of one thread.
struct ByHand {
    deadline: Instant,
    set: Option<u64>,
}

impl Future for ByHand {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        BY_HAND.with_borrow_mut(|timers| {
            let id = timers.last_key_value().map_or(0, |((_, id), _)| id + 1);
            timers.insert((self.deadline, id), cx.waker().clone());
            self.set = Some(id);
        });
        Poll::Pending
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        if let Some(id) = self.set {
            BY_HAND.with_borrow_mut(|timers| timers.remove(&(self.deadline, id)));
        }
    }
}

/// Runs a future to its end on somebody's loop.
type Run<'a> = &'a dyn Fn(Pin<Box<dyn Future<Output = ()> + '_>>);

fn peer<F: Future>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    pending: usize,
    run: Run<'_>,
    make: impl Fn(Instant) -> F,
) {
    let start = Instant::now();
    let kept = RefCell::new(Vec::with_capacity(pending));
    run(Box::pin(async {
        for place in 0..pending {
            let timer = started(Box::pin(make(far(start, place)))).await;
            kept.borrow_mut().push(timer);
        }
    }));
    group.bench_function(BenchmarkId::new(name, pending), |b| {
        b.iter_custom(|times| {
            let took = Cell::new(Duration::ZERO);
            run(Box::pin(async {
                took.set(set_and_dropped(times, || make(start + 900 * SECOND)).await);
            }));
            took.get()
        })
    });
    run(Box::pin(async { drop(kept.take()) }));
}

fn set_polled_dropped(c: &mut Criterion) {
    let mut group = c.benchmark_group("timer_set_polled_dropped");
    let length = 900 * SECOND;
    for pending in PENDING {
        let event_loop = evenloop_loop();
        let run: Run<'_> = &|future| event_loop.run_until_complete(future);
        peer(&mut group, "evenloop", pending, run, sleep_until);
        peer(&mut group, "evenloop: for a time", pending, run, |_| sleep(length));

        let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        // Its budget would have it answer without setting anything.
        let run: Run<'_> = &|future| tokio.block_on(tokio::task::unconstrained(future));
        peer(&mut group, "tokio", pending, run, |deadline| tokio::time::sleep_until(deadline.into()));
        peer(&mut group, "tokio: for a time", pending, run, |_| tokio::time::sleep(length));

        let run: Run<'_> = &|future| smol::block_on(future);
        peer(&mut group, "smol", pending, run, smol::Timer::at);
        peer(&mut group, "smol: for a time", pending, run, |_| smol::Timer::after(length));

        let monoio = RefCell::new(monoio_loop());
        let run: Run<'_> = &|future| monoio.borrow_mut().block_on(future);
        peer(&mut group, "monoio", pending, run, |deadline| monoio::time::sleep_until(deadline.into()));
        peer(&mut group, "monoio: for a time", pending, run, |_| monoio::time::sleep(length));

        let by_hand = |deadline| ByHand { deadline, set: None };
        peer(&mut group, "limit", pending, &|future| smol::block_on(future), by_hand);
    }
    group.finish();
}

fn monoio_loop() -> monoio::Runtime<monoio::time::TimeDriver<monoio::LegacyDriver>> {
    monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().enable_timer().build().unwrap()
}

fn two_threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("timer_set_polled_dropped_by_two_threads");
    let deadline = Instant::now() + 900 * SECOND;
    /// What enters the runtime on a thread, and how to make a timer there.
    macro_rules! peer {
        ($name:literal, $enter:expr, $make:expr) => {
            group.bench_function($name, |b| {
                b.iter_custom(|times| {
                    let start = Instant::now();
                    std::thread::scope(|scope| {
                        for _ in 0..2 {
                            scope.spawn(|| {
                                let _entered = $enter;
                                let mut cx = Context::from_waker(Waker::noop());
                                for _ in 0..times.div_ceil(2) {
                                    assert!(pin!($make(deadline)).poll(&mut cx).is_pending());
                                }
                            });
                        }
                    });
                    start.elapsed()
                })
            });
        };
    }
    let driver = Driver::new(ThreadPark::new(), Clock::Real);
    let runtime = Runtime::builder("bench").timers(driver.timers()).build();
    peer!("evenloop", runtime.enter(), sleep_until);
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    peer!("tokio", tokio.enter(), |deadline: Instant| tokio::time::sleep_until(deadline.into()));
    peer!("smol", (), smol::Timer::at);
    group.finish();
}

/// Processor time that this process has used, all threads together.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn sleeping_tasks(c: &mut Criterion) {
    let mut group = c.benchmark_group("wait_100_000_tasks_sleep_1_s_cpu");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(SECOND);
    group.throughput(Throughput::Elements(SLEEPERS as u64));
    let mut measure = |name: &str, run: &dyn Fn()| {
        group.bench_function(name, |b| {
            b.iter_custom(|times| {
                let start = cpu_time();
                (0..times).for_each(|_| run());
                cpu_time() - start
            })
        });
    };
    measure("evenloop", &|| {
        evenloop_loop().run_until_complete(async {
            let tasks = (0..SLEEPERS).map(|_| create_task(async { sleep(SECOND).await })).collect::<Vec<_>>();
            for task in tasks {
                task.await;
            }
        });
    });
    measure("tokio", &|| {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        tokio.block_on(async {
            let tasks = (0..SLEEPERS).map(|_| tokio::spawn(async { tokio::time::sleep(SECOND).await }));
            for task in tasks.collect::<Vec<_>>() {
                task.await.unwrap();
            }
        });
    });
    measure("smol", &|| {
        let executor = smol::LocalExecutor::new();
        smol::block_on(executor.run(async {
            let tasks = (0..SLEEPERS).map(|_| {
                executor.spawn(async {
                    smol::Timer::after(SECOND).await;
                })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await;
            }
        }));
    });
    measure("monoio", &|| {
        monoio_loop().block_on(async {
            let tasks = (0..SLEEPERS).map(|_| monoio::spawn(async { monoio::time::sleep(SECOND).await }));
            for task in tasks.collect::<Vec<_>>() {
                task.await;
            }
        });
    });
    group.finish();
}

criterion_group!(benches, set_polled_dropped, two_threads, sleeping_tasks);
criterion_main!(benches);
