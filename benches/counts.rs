//! How many instructions does one key operation take?
//!
//! No time is measured here: `cargo xtask counts` runs this under callgrind with two numbers of rounds and takes the
//! difference. `counts list` names the operations, `counts OPERATION ROUNDS` does one. Each is the uncontended or the
//! one-thread way through; what happens between threads is a matter of cache lines, not of instructions.

use evenloop_core::cancel::{CancelScope, catch_cancel};
use evenloop_core::{Park, Runtime, ThreadPark};
use evenloop_coroutine::{Coroutine, Resumed};
use evenloop_executor::{EventLoop, yield_now};
use evenloop_sync::{Event, Lock, Queue, Semaphore, oneshot};
use evenloop_time::{Clock, Driver, VirtualClock};
use std::future::{Future, pending};
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// A name, and what does that operation so many times.
type Operation = (&'static str, fn(u64));

const OPERATIONS: &[Operation] = &[
    ("cancel_request_among_many", cancel_request_among_many),
    ("coroutine_resume", coroutine_resume),
    ("event_wait_then_set", event_wait_then_set),
    ("lock_free", lock_free),
    ("lock_waited_for", lock_waited_for),
    ("oneshot_sent_then_awaited", oneshot_sent_then_awaited),
    ("oneshot_awaited_then_sent", oneshot_awaited_then_sent),
    ("queue_put_then_get", queue_put_then_get),
    ("semaphore_free", semaphore_free),
    ("sleep_on_virtual_clock", sleep_on_virtual_clock),
    ("task_spawned_and_joined", task_spawned_and_joined),
    ("task_spawned_and_joined_among_1000", task_spawned_and_joined_among_1000),
    ("timer_set_and_dropped", timer_set_and_dropped),
    ("timer_set_and_dropped_outside_of_a_run", timer_set_and_dropped_outside_of_a_run),
    ("yield_among_1000_tasks", yield_among_1000_tasks),
    ("yield_one_task", yield_one_task),
    ("yield_one_task_watched", yield_one_task_watched),
];

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [list] if list == "list" => OPERATIONS.iter().for_each(|(name, _)| println!("{name}")),
        [name, rounds] if rounds.parse::<u64>().is_ok() => {
            let operation =
                OPERATIONS.iter().find(|(known, _)| known == name).expect("`counts list` names them");
            (operation.1)(rounds.parse().expect("it was parsed above"));
        }
        // `cargo bench` comes by without arguments of ours.
        _ => println!("counts: see `cargo xtask counts`"),
    }
}

/// Polls once, without a waker.
fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn lock_free(rounds: u64) {
    let lock = Lock::new(0_u64);
    for _ in 0..rounds {
        let Poll::Ready(mut guard) = poll(pin!(lock.acquire())) else { unreachable!("the lock is free") };
        *guard = black_box(*guard + 1);
    }
}

fn lock_waited_for(rounds: u64) {
    let lock = Lock::new(0_u64);
    for _ in 0..rounds {
        let held = lock.try_acquire().expect("the lock is free");
        let mut next = pin!(lock.acquire());
        assert!(poll(next.as_mut()).is_pending());
        drop(held);
        assert!(poll(next).is_ready());
    }
}

fn event_wait_then_set(rounds: u64) {
    let event = Event::new();
    for _ in 0..rounds {
        let mut wait = pin!(event.wait());
        assert!(poll(wait.as_mut()).is_pending());
        event.set();
        assert!(poll(wait).is_ready());
        event.clear();
    }
}

fn queue_put_then_get(rounds: u64) {
    let queue = Queue::new(64);
    queue.put_nowait(0).expect("there is room");
    for round in 0..rounds {
        assert!(poll(pin!(queue.put(black_box(round)))).is_ready());
        assert!(poll(pin!(queue.get())).is_ready());
    }
}

fn semaphore_free(rounds: u64) {
    let semaphore = Semaphore::new(10);
    for _ in 0..rounds {
        assert!(poll(pin!(semaphore.acquire())).is_ready());
    }
}

fn oneshot_sent_then_awaited(rounds: u64) {
    for round in 0..rounds {
        let (sender, receiver) = oneshot::channel();
        sender.send(round).expect("the receiver is there");
        assert!(poll(pin!(receiver)).is_ready());
    }
}

fn oneshot_awaited_then_sent(rounds: u64) {
    for round in 0..rounds {
        let (sender, receiver) = oneshot::channel();
        let mut receiver = pin!(receiver);
        assert!(poll(receiver.as_mut()).is_pending());
        sender.send(round).expect("the receiver is there");
        assert!(poll(receiver).is_ready());
    }
}

fn coroutine_resume(rounds: u64) {
    let mut doubled = Coroutine::new(async |mut co| {
        let mut value: u64 = co.argument().expect("the first resume brings one");
        loop {
            value = co.yield_(value * 2).await;
        }
    });
    for round in 0..rounds {
        let resumed: Resumed<u64, ()> = doubled.resume(black_box(round));
        assert_eq!(resumed.yielded(), Some(round * 2));
    }
}

/// A request of many that are delivered in one turn: half of all are absorbed, the others passed on. Twice as many in a turn are
/// to cost twice as much; if each cost a look at all others, the figure would be ten times as high.
fn cancel_request_among_many(rounds: u64) {
    let scope = CancelScope::new();
    let mut run = pin!(scope.run(async {
        for absorbs in [true, false] {
            let inner = CancelScope::new();
            let caught = inner.run(catch_cancel(pending::<()>())).await;
            let cancelled = caught.expect("nobody asked the inner scope").expect_err("it was asked");
            if absorbs {
                cancelled.absorb();
            }
        }
    }));
    for _ in 0..2 {
        assert!(poll(run.as_mut()).is_pending());
        for _ in 0..rounds / 2 {
            scope.cancel("again");
        }
    }
    assert!(poll(run).is_ready());
}

fn yield_one_task(rounds: u64) {
    EventLoop::new().run_until_complete(async {
        for _ in 0..rounds {
            yield_now().await;
        }
    });
}

/// What a watched loop pays for a poll: two looks at the clock, and a record that stays as it is.
fn yield_one_task_watched(rounds: u64) {
    EventLoop::builder().watch(true).build().run_until_complete(async {
        for _ in 0..rounds {
            yield_now().await;
        }
    });
}

/// For rounds that are a multiple of a thousand.
fn yield_among_1000_tasks(rounds: u64) {
    EventLoop::new().run_until_complete(async {
        let tasks: Vec<_> = (0..1_000)
            .map(|_| {
                evenloop_executor::create_task(async move {
                    for _ in 0..rounds / 1_000 {
                        yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
    });
}

/// For rounds that are a multiple of a thousand.
fn task_spawned_and_joined_among_1000(rounds: u64) {
    EventLoop::new().run_until_complete(async {
        for _ in 0..rounds / 1_000 {
            let tasks: Vec<_> = (0..1_000)
                .map(|round| evenloop_executor::create_task(async move { black_box(round) }))
                .collect();
            for task in tasks {
                black_box(task.await);
            }
        }
    });
}

fn task_spawned_and_joined(rounds: u64) {
    let event_loop = EventLoop::new();
    event_loop.run_until_complete(async {
        for round in 0..rounds {
            let task = evenloop_executor::create_task(async move { black_box(round) });
            assert_eq!(task.await, round);
        }
    });
}

/// A runtime with timers that nobody drives: for entries that come and go.
fn timers(driver: &Driver<ThreadPark>) -> Runtime {
    Runtime::builder("counts").timers(driver.timers()).build()
}

fn timer_set_and_dropped(rounds: u64) {
    let mut driver = Driver::new(ThreadPark::new(), Clock::Real);
    driver.begin_run();
    set_and_dropped(&driver, rounds);
}

fn timer_set_and_dropped_outside_of_a_run(rounds: u64) {
    set_and_dropped(&Driver::new(ThreadPark::new(), Clock::Real), rounds);
}

fn set_and_dropped(driver: &Driver<ThreadPark>, rounds: u64) {
    let _entered = timers(driver).enter();
    let deadline = Instant::now() + Duration::from_secs(3600);
    for _ in 0..rounds {
        assert!(poll(pin!(evenloop_time::sleep_until(deadline))).is_pending());
    }
}

fn sleep_on_virtual_clock(rounds: u64) {
    let driver = Driver::new(ThreadPark::new(), Clock::from(VirtualClock::new()));
    let runtime = Runtime::builder("counts").timers(driver.timers());
    let event_loop = EventLoop::builder().park(Box::new(driver)).runtime(runtime).build();
    event_loop.run_until_complete(async {
        for _ in 0..rounds {
            evenloop_time::sleep(Duration::from_millis(10)).await;
        }
    });
}
