//! What loops and tasks leave behind when they are gone: no byte, no descriptor, no thread.
//!
//! The allocator counts, so the two run one after the other, in one test.

use evenloop::{call_later, create_task, event_loop_on, new_event_loop, sleep, to_thread, yield_now};
use evenloop_tests::{Counting, many};
use std::future::pending;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What is counted: bytes, blocks, descriptors, threads.
fn counts() -> (isize, isize, usize, usize) {
    let entries = |folder| std::fs::read_dir(folder).map_or(0, Iterator::count);
    let (descriptors, threads) = (entries("/proc/self/fd"), entries("/proc/self/task"));
    let (bytes, blocks) = Counting::of_all_threads();
    (bytes, blocks, descriptors, threads)
}

/// A loop that does a bit of everything, and ends with tasks, timers, callbacks and messages that are left.
fn a_loops_life(number: u32) {
    let event_loop = match number % 8 {
        0 => event_loop_on(evenloop::time::VirtualClock::new().into()),
        _ => new_event_loop(),
    };
    let handle = event_loop.handle();
    event_loop.call_soon(|| ());
    event_loop.run_until_complete(async {
        create_task(pending::<()>()).detach();
        create_task(sleep(Duration::from_secs(3600))).add_done_callback(|_, _| ());
        call_later(Duration::from_secs(3600), || ());
        let cancelled = create_task(pending::<()>());
        yield_now().await;
        cancelled.cancel("enough");
        if number % 16 == 1 {
            assert_eq!(to_thread(|| 7).await, 7);
        }
    });
    handle.spawn_detached(async {}).expect("the loop is open");
    event_loop.call_soon(|| unreachable!("the loop does not run again"));
    let pool = handle.thread_pool().clone();
    drop(event_loop);
    assert!(handle.spawn_detached(async {}).is_err());
    pool.shutdown(Duration::from_secs(30)).expect("its jobs are done");
}

fn many_tasks(number: u32) {
    let event_loop = evenloop::EventLoop::new();
    let mut random = fastrand::Rng::with_seed(444);
    event_loop.run_until_complete(async {
        let mut tasks = Vec::new();
        for _ in 0..number {
            tasks.push(create_task(pending::<()>()));
            if tasks.len() > 1_000 {
                let drawn = tasks.swap_remove(random.usize(..tasks.len()));
                if random.u8(..4) > 0 {
                    drawn.cancel("drawn"); // the others are detached, and live until the end
                }
                drop(drawn);
            }
            if random.u8(..64) == 0 {
                yield_now().await;
            }
        }
        for task in &tasks {
            task.cancel("the end");
        }
    });
    event_loop.cancel_all(None);
    assert_eq!(event_loop.tasks_alive(), 0);
}

#[test]
fn loops_and_tasks_leave_nothing() {
    // What is made once: thread-locals, the table of runtimes, the allocator's own.
    (0..64).for_each(a_loops_life);
    many_tasks(10_000);
    // Threads that have ended for us may be there for the kernel a moment longer.
    let settled = |before: (isize, isize, usize, usize), what: &str| {
        let begin = std::time::Instant::now();
        while counts() != before {
            let now = counts();
            assert!(begin.elapsed() < Duration::from_secs(20), "{what}: {before:?} before, {now:?} after");
            std::thread::yield_now();
        }
    };
    let before = counts();
    (0..many(10_000) as u32).for_each(a_loops_life);
    settled(before, "many loops");
    many_tasks(many(1_000_000) as u32);
    settled(before, "many tasks");
}
