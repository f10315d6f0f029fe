//! A short version of all that exists, and a table of what it cost.
//!
//! Each part does real work for a fraction of a second and checks its own result; then the table says what ran, how many
//! operations that were, and how long one took.
//!
//! ```text
//! cargo run --release -p evenloop --example tour
//! cargo run --release -p evenloop --example tour -- lock    # only what has that in its name
//! ```

use evenloop::cancel::{CancelScope, catch_cancel};
use evenloop::coroutine::Coroutine;
use evenloop::process::{Command, PIPE};
use evenloop::sync::{Barrier, Event, Lock, Semaphore, oneshot};
use evenloop::time::VirtualClock;
use evenloop::{Runner, Task, create_task, sleep, sleep_until, timeout, yield_now};
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// One row of the table: what it is, and a function that does it and answers how many operations that were.
type Part = (&'static str, fn() -> u64);

const PARTS: &[Part] = &[
    ("1,000 tasks yield to each other", yields),
    ("tasks spawned and joined", spawns),
    ("tasks spawned from another thread", remote_spawns),
    ("timers set, polled and dropped", timers),
    ("10,000 tasks sleep a simulated year", virtual_year),
    ("time-outs that strike, on the virtual clock", timeouts),
    ("lock taken and released, free", locks),
    ("lock handed from task to task", lock_handoffs),
    ("semaphore of 10, 100 tasks", semaphore),
    ("event that releases 1,000 waiters", event),
    ("barrier of 100 tasks passed", barrier),
    ("oneshot made, sent and awaited", oneshots),
    ("generator resumed", generator),
    ("cancelled, caught and cleaned up", cancellations),
    ("programs started and waited for", programs),
    ("bytes fed to a program and read back", piped_bytes),
];

fn main() {
    let asked = std::env::args().nth(1).unwrap_or_default();
    let parts: Vec<_> = PARTS.iter().filter(|(what, _)| what.contains(&asked)).collect();
    let bar = ProgressBar::new(parts.len() as u64);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}").expect("a template");
    bar.set_style(style);
    let rows: Vec<_> = parts
        .into_iter()
        .map(|(what, part)| {
            bar.set_message(*what);
            let start = Instant::now();
            let operations = part();
            bar.inc(1);
            (what, operations, start.elapsed())
        })
        .collect();
    bar.finish_and_clear();

    println!("{:<45} {:>10} {:>9} {:>10}", "what ran", "operations", "took", "each");
    for (what, operations, took) in rows {
        let each = took.as_secs_f64() * 1e9 / operations as f64;
        println!("{what:<45} {operations:>10} {:>6.0} ms {each:>7.1} ns", took.as_secs_f64() * 1e3);
    }
}

/// How often to do something: a tenth as often in a build that is not optimised.
fn times(count: u64) -> u64 {
    if cfg!(debug_assertions) { count / 10 } else { count }
}

/// Spawns `count` tasks and waits for all of them.
async fn all<T: 'static, F: Future<Output = T> + 'static>(
    count: u64,
    mut task: impl FnMut(u64) -> F,
) -> Vec<T> {
    let tasks: Vec<Task<T>> = (0..count).map(|n| create_task(task(n))).collect();
    let mut outputs = Vec::new();
    for task in tasks {
        outputs.push(task.await);
    }
    outputs
}

fn yields() -> u64 {
    let each = times(2_000);
    evenloop::run(async move {
        all(1_000, |_| async move {
            for _ in 0..each {
                yield_now().await;
            }
        })
        .await;
    });
    1_000 * each
}

fn spawns() -> u64 {
    let rounds = times(1_000);
    evenloop::run(async {
        for _ in 0..rounds {
            assert_eq!(all(1_000, |n| async move { n }).await.iter().sum::<u64>(), 499_500);
        }
    });
    rounds * 1_000
}

fn remote_spawns() -> u64 {
    let count = times(50_000);
    let runner = Runner::new();
    let handle = runner.event_loop().handle();
    let other = std::thread::spawn(move || {
        let spawn = |n| handle.spawn(async move { n }).expect("the loop is open");
        let tasks: Vec<_> = (0..count).map(spawn).collect();
        let sum = tasks.into_iter().map(|task| task.join_blocking().expect("it returns")).sum::<u64>();
        handle.stop();
        sum
    });
    runner.event_loop().run_forever();
    assert_eq!(other.join().expect("the other thread returns"), count * (count - 1) / 2);
    count
}

fn timers() -> u64 {
    let count = times(1_000_000);
    evenloop::run(async {
        let far = evenloop::time::now() + Duration::from_secs(3600);
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..count {
            assert!(pin!(sleep_until(far)).poll(&mut cx).is_pending());
        }
    });
    count
}

fn virtual_year() -> u64 {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let clock = VirtualClock::new();
    let runner = Runner::on_clock(clock.clone().into());
    let tasks = 10_000;
    let slept = runner.run(async {
        all(tasks, |n| async move {
            for _ in 0..n % 20 {
                sleep(18 * DAY).await;
            }
            sleep(23 * DAY).await;
            n % 20 + 1
        })
        .await
        .iter()
        .sum()
    });
    assert_eq!(clock.elapsed(), 365 * DAY);
    slept.expect("nobody interrupts")
}

fn timeouts() -> u64 {
    let count = times(200_000);
    let clock = VirtualClock::new();
    let runner = Runner::on_clock(clock.clone().into());
    let run = runner.run(async {
        for _ in 0..count {
            let outcome = timeout(Duration::from_millis(5), sleep(Duration::from_secs(5))).await;
            assert!(outcome.is_err());
        }
    });
    run.expect("nobody interrupts");
    assert_eq!(clock.elapsed(), count as u32 * Duration::from_millis(5));
    count
}

fn locks() -> u64 {
    let count = times(2_000_000);
    evenloop::run(async {
        let lock = Lock::new(0);
        for _ in 0..count {
            *lock.acquire().await += 1;
        }
        assert_eq!(lock.into_inner(), count);
    });
    count
}

fn lock_handoffs() -> u64 {
    let (tasks, each) = (100, times(5_000));
    evenloop::run(async move {
        let lock = Rc::new(Lock::new(0));
        all(tasks, |_| {
            let lock = lock.clone();
            async move {
                for _ in 0..each {
                    let mut guard = lock.acquire().await;
                    *guard += 1;
                    yield_now().await; // the others queue up meanwhile
                }
            }
        })
        .await;
        assert_eq!(*lock.acquire().await, tasks * each);
    });
    tasks * each
}

fn semaphore() -> u64 {
    let (tasks, each) = (100, times(5_000));
    evenloop::run(async move {
        let semaphore = Rc::new(Semaphore::new(10));
        let inside = Rc::new(Cell::new(0));
        all(tasks, |_| {
            let (semaphore, inside) = (semaphore.clone(), inside.clone());
            async move {
                for _ in 0..each {
                    let _permit = semaphore.acquire().await;
                    inside.set(inside.get() + 1);
                    assert!(inside.get() <= 10);
                    yield_now().await;
                    inside.set(inside.get() - 1);
                }
            }
        })
        .await;
    });
    tasks * each
}

fn event() -> u64 {
    let (rounds, waiters) = (times(500), 1_000);
    evenloop::run(async move {
        for _ in 0..rounds {
            let event = Rc::new(Event::new());
            let setter = create_task({
                let event = event.clone();
                async move {
                    while event.statistics().waiters < waiters {
                        yield_now().await;
                    }
                    event.set();
                }
            });
            all(waiters as u64, |_| {
                let event = event.clone();
                async move { event.wait().await }
            })
            .await;
            setter.await;
        }
    });
    rounds * waiters as u64
}

fn barrier() -> u64 {
    let (parties, rounds) = (100, times(5_000));
    evenloop::run(async move {
        let barrier = Rc::new(Barrier::new(parties));
        let leaders = all(parties as u64, |_| {
            let barrier = barrier.clone();
            async move {
                let mut led = 0;
                for _ in 0..rounds {
                    let passed = barrier.wait().await.expect("nobody breaks it");
                    led += u64::from(passed.is_leader());
                }
                led
            }
        })
        .await;
        assert_eq!(leaders.iter().sum::<u64>(), rounds);
    });
    parties as u64 * rounds
}

fn oneshots() -> u64 {
    let count = times(2_000_000);
    evenloop::run(async {
        for n in 0..count {
            let (sender, receiver) = oneshot::channel();
            sender.send(n).expect("the receiver is there");
            assert_eq!(receiver.await, Ok(n));
        }
    });
    count
}

fn generator() -> u64 {
    let count = times(10_000_000);
    let numbers = Coroutine::new(async |mut co| {
        for n in 0..count {
            co.yield_(n).await;
        }
    });
    assert_eq!(numbers.sum::<u64>(), count * (count - 1) / 2);
    count
}

fn cancellations() -> u64 {
    let count = times(100_000);
    evenloop::run(async {
        let cleaned_up = Rc::new(Cell::new(0));
        for _ in 0..count {
            let scope = CancelScope::new();
            let body = async {
                if let Err(cancelled) = catch_cancel(std::future::pending::<()>()).await {
                    yield_now().await; // clean-up that awaits
                    cleaned_up.set(cleaned_up.get() + 1);
                    cancelled.resume().await;
                }
            };
            let mut run = pin!(scope.run(body));
            let cancel = std::future::poll_fn(|cx| {
                assert!(run.as_mut().poll(cx).is_pending());
                scope.cancel("the tour goes on");
                std::task::Poll::Ready(())
            });
            cancel.await;
            assert!(run.await.is_err());
        }
        assert_eq!(cleaned_up.get(), count);
    });
    count
}

fn programs() -> u64 {
    let count = times(200);
    evenloop::run(async {
        for _ in 0..count {
            assert!(Command::new("true").status().await.expect("it starts").success());
        }
    });
    count
}

fn piped_bytes() -> u64 {
    let input = vec![b'x'; times(64 << 20) as usize];
    evenloop::run(async {
        let mut cat = Command::new("cat").stdin(PIPE).stdout(PIPE).spawn().expect("it starts");
        let output = cat.communicate(&input).await.expect("it reads and writes");
        assert_eq!(output.stdout.len(), input.len());
    });
    input.len() as u64
}
