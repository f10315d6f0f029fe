//! Tasks that wait for each other.

use crate::Host;
use crate::together::{Shared, spawn, until};
use evenloop_core::Runtime;
use evenloop_core::shim::{StdArc, thread};
use evenloop_sync::{Event, Lock, Queue, Semaphore, oneshot};
use evenloop_time::{Clock, sleep};
use futures_util::future::join_all;
use futures_util::poll;
use std::time::Duration;

const TASKS: usize = 20;

/// What one task reads under the lock, no other has written since.
pub fn a_lock_is_held_by_one_task_at_a_time<H: Host>() {
    H::run(Clock::Real, async {
        let count = StdArc::new(Lock::new(0_usize));
        let tasks = (0..TASKS).map(|_| {
            let count = count.clone();
            spawn(async move {
                for _ in 0..10 {
                    let mut count = count.acquire().await;
                    let seen = *count;
                    sleep(Duration::ZERO).await;
                    *count = seen + 1;
                }
            })
        });
        join_all(tasks.collect::<Vec<_>>()).await;
        assert_eq!(*count.acquire().await, TASKS * 10);
    });
}

/// One `set` is enough.
pub fn an_event_wakes_all_who_wait<H: Host>() {
    H::run(Clock::Real, async {
        let (event, begun) = (StdArc::new(Event::new()), Shared::default());
        let tasks = (0..TASKS).map(|_| {
            let (event, begun) = (event.clone(), begun.clone());
            spawn(async move {
                begun.add_one();
                event.wait().await;
            })
        });
        let tasks = tasks.collect::<Vec<_>>();
        until(|| begun.get() == TASKS).await;
        event.set();
        join_all(tasks).await;
    });
}

/// Never more at once, and all in the end.
pub fn a_semaphore_lets_in_as_many_as_it_has<H: Host>() {
    H::run(Clock::Real, async {
        let (semaphore, inside) = (StdArc::new(Semaphore::new(3)), Shared::default());
        let tasks = (0..TASKS).map(|_| {
            let (semaphore, inside) = (semaphore.clone(), inside.clone());
            spawn(async move {
                let _permit = semaphore.acquire().await;
                assert!(inside.add_one() < 3);
                sleep(Duration::ZERO).await;
                inside.take_one();
            })
        });
        join_all(tasks.collect::<Vec<_>>()).await;
        assert_eq!(semaphore.value(), 3);
    });
}

/// It had been given the lock, and was dropped before it knew.
pub fn a_waiter_that_is_dropped_takes_nothing_with_it<H: Host>() {
    H::run(Clock::Real, async {
        let lock = StdArc::new(Lock::new(()));
        let held = lock.acquire().await;
        let mut chosen = Box::pin(lock.acquire());
        assert!(poll!(chosen.as_mut()).is_pending());
        let next = spawn({
            let lock = lock.clone();
            async move { drop(lock.acquire().await) }
        });
        drop(held);
        drop(chosen);
        next.await;
    });
}

/// Producers and consumers that know nothing of each other.
pub fn a_queue_hands_each_item_to_one_consumer<H: Host>() {
    H::run(Clock::Real, async {
        let queue = StdArc::new(Queue::new(2));
        let producers = (0..4_usize).map(|producer| {
            let queue = queue.clone();
            spawn(async move {
                for item in 0..25 {
                    assert!(queue.put(producer * 25 + item).await.is_ok());
                }
            })
        });
        let consumers = (0..4).map(|_| {
            let queue = queue.clone();
            spawn(async move {
                let mut got = Vec::new();
                while let Ok(item) = queue.get().await {
                    got.push(item);
                    queue.task_done();
                }
                got
            })
        });
        let (producers, consumers) = (producers.collect::<Vec<_>>(), consumers.collect::<Vec<_>>());
        join_all(producers).await;
        queue.join().await;
        queue.shutdown(false);
        let mut all = join_all(consumers).await.concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..100));
    });
}

/// From task to task.
pub fn a_oneshot_carries_its_value_to_another_task<H: Host>() {
    H::run(Clock::Real, async {
        let (send, receive) = oneshot::channel();
        let other = spawn(async move { receive.await.is_ok_and(|value: String| value == "a value") });
        assert!(send.send("a value".to_owned()).is_ok());
        assert!(other.await);
    });
}

/// The host has threads for what would block a task's.
pub fn a_blocking_job_runs_beside_the_tasks<H: Host>() {
    H::run(Clock::Real, async {
        let (send, receive) = oneshot::channel();
        let go = Shared::default();
        let spawn = Runtime::current_spawn("conformance").expect("a host that spawns");
        let job = spawn.spawn_blocking(Box::new({
            let go = go.clone();
            move || {
                while go.get() == 0 {
                    thread::yield_now();
                }
                let _ = send.send(7);
            }
        }));
        assert!(job.is_ok());
        sleep(Duration::from_millis(1)).await; // no task is blocked
        go.set(1);
        assert_eq!(receive.await.ok(), Some(7));
    });
}
