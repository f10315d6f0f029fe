//! sync under Evenloop, tokio, smol and a bare `block_on`: what they promise holds under every host.

use evenloop_sync::{
    Barrier, BoundedSemaphore, Condition, Event, LifoQueue, Limiter, Lock, PriorityQueue, Queue, RwLock,
    Semaphore, oneshot,
};
use evenloop_tests::{Task, everywhere, give_way};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

const TASKS: usize = 8;
const ROUNDS: usize = 50;

/// One task each for `0..TASKS`.
fn tasks<F: Future<Output = ()> + Send + 'static>(task: impl Fn(usize) -> F) -> Vec<Task> {
    (0..TASKS).map(|number| Box::pin(task(number)) as Task).collect()
}

/// How many are inside, and how many were at most.
#[derive(Default)]
struct Inside {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Inside {
    /// Goes in, lets others run, and comes out.
    async fn visit(&self, limit: usize) {
        let inside = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        assert!(inside <= limit, "{inside} inside, {limit} allowed");
        self.most.fetch_max(inside, Ordering::Relaxed);
        give_way().await;
        self.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Polls once, then gives up.
async fn give_up_after_one_poll(future: impl Future) {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await;
}

#[test]
fn a_lock_admits_one() {
    everywhere(|| {
        let lock = Arc::new(Lock::new(0));
        tasks(|number| {
            let lock = lock.clone();
            async move {
                for round in 0..ROUNDS {
                    let mut count = lock.acquire().await;
                    let seen = *count;
                    give_way().await;
                    *count = seen + 1;
                    drop(count);
                    if number == 0 {
                        give_up_after_one_poll(lock.acquire_owned()).await;
                    }
                    let last = number == 0 && round + 1 == ROUNDS;
                    assert!(!last || *lock.acquire().await >= ROUNDS);
                }
            }
        })
    });
}

#[test]
fn a_writer_is_alone_and_readers_are_together() {
    everywhere(|| {
        let lock = Arc::new(RwLock::new((0, 0)));
        tasks(|number| {
            let lock = lock.clone();
            async move {
                for _ in 0..ROUNDS {
                    if number % 4 == 0 {
                        let mut pair = lock.write().await;
                        pair.0 += 1;
                        give_way().await;
                        pair.1 += 1;
                    } else {
                        let pair = lock.read().await;
                        let seen = pair.0;
                        give_way().await;
                        assert_eq!((pair.0, pair.1), (seen, seen));
                        drop(pair);
                        give_up_after_one_poll(lock.write()).await;
                    }
                }
            }
        })
    });
}

#[test]
fn a_semaphore_admits_as_many_as_it_has_permits() {
    everywhere(|| {
        let semaphore = Arc::new(Semaphore::new(3));
        let inside = Arc::new(Inside::default());
        tasks(|number| {
            let (semaphore, inside) = (semaphore.clone(), inside.clone());
            async move {
                for _ in 0..ROUNDS {
                    let permit = semaphore.acquire_many(1 + number as u32 % 2).await.expect("open");
                    inside.visit(3).await;
                    drop(permit);
                    give_up_after_one_poll(semaphore.acquire_many(3)).await;
                }
            }
        })
    });
}

#[test]
fn a_bounded_semaphore_never_exceeds_its_bound() {
    everywhere(|| {
        let semaphore = Arc::new(BoundedSemaphore::new(2));
        let inside = Arc::new(Inside::default());
        tasks(|_| {
            let (semaphore, inside) = (semaphore.clone(), inside.clone());
            async move {
                for _ in 0..ROUNDS {
                    semaphore.acquire_owned().await.expect("open").forget();
                    inside.visit(2).await;
                    semaphore.release(1).expect("one was forgotten");
                }
                assert!(semaphore.value() <= semaphore.bound());
            }
        })
    });
}

#[test]
fn an_event_releases_all_who_wait() {
    everywhere(|| {
        let (event, ready) = (Arc::new(Event::new()), Arc::new(AtomicUsize::new(0)));
        tasks(|number| {
            let (event, ready) = (event.clone(), ready.clone());
            async move {
                if number == 0 {
                    while ready.load(Ordering::Acquire) < TASKS - 1 {
                        give_way().await;
                    }
                    event.set();
                } else {
                    ready.fetch_add(1, Ordering::Release);
                    give_up_after_one_poll(event.wait()).await;
                    event.wait().await;
                    assert!(event.is_set());
                }
            }
        })
    });
}

#[test]
fn a_condition_wakes_who_waits_for_a_change() {
    everywhere(|| {
        let shared = Arc::new((Lock::new(0), Condition::new()));
        tasks(|number| {
            let shared = shared.clone();
            async move {
                let (items, changed) = &*shared;
                for _ in 0..ROUNDS {
                    if number % 2 == 0 {
                        *items.acquire().await += 1;
                        changed.notify(1);
                    } else {
                        give_up_after_one_poll(changed.wait(items.acquire().await)).await;
                        *changed.wait_for(items.acquire().await, |items| *items > 0).await -= 1;
                    }
                }
            }
        })
    });
}

#[test]
fn a_barrier_lets_all_parties_pass_with_an_index_each() {
    everywhere(|| {
        let barrier = Arc::new(Barrier::new(TASKS));
        let indices = Arc::new(AtomicUsize::new(0));
        tasks(|_| {
            let (barrier, indices) = (barrier.clone(), indices.clone());
            async move {
                for round in 1..=ROUNDS {
                    let passed = barrier.wait().await.expect("nobody breaks it");
                    indices.fetch_add(passed.index, Ordering::Relaxed);
                    let all = barrier.wait().await.expect("nobody breaks it");
                    let sum = indices.load(Ordering::Relaxed);
                    assert_eq!(sum, round * TASKS * (TASKS - 1) / 2, "by {all:?}");
                    barrier.wait().await.expect("nobody breaks it");
                }
            }
        })
    });
}

#[test]
fn a_limiter_lends_to_as_many_as_it_may() {
    everywhere(|| {
        let limiter = Arc::new(Limiter::new(0));
        let inside = Arc::new(Inside::default());
        tasks(|number| {
            let (limiter, inside) = (limiter.clone(), inside.clone());
            async move {
                limiter.set_total(2);
                for _ in 0..ROUNDS {
                    let token = limiter.acquire_on_behalf_of(number as u64).await.expect("one each");
                    inside.visit(2).await;
                    drop(token);
                    give_up_after_one_poll(limiter.acquire()).await;
                }
            }
        })
    });
}

/// Half put, half get, and some give up; whoever puts last shuts down, and nothing is lost.
macro_rules! queue_loses_nothing {
    ($test:ident, $new:expr) => {
        #[test]
        fn $test() {
            everywhere(|| {
                let shared = Arc::new(($new, AtomicUsize::new(TASKS / 2), AtomicUsize::new(0)));
                tasks(|number| {
                    let shared = shared.clone();
                    async move {
                        let (queue, putters, sum) = &*shared;
                        if number % 2 == 0 {
                            for item in 1..=ROUNDS {
                                give_up_after_one_poll(queue.reserve()).await;
                                queue.put(item).await.expect("the queue is open");
                            }
                            if putters.fetch_sub(1, Ordering::AcqRel) == 1 {
                                queue.join().await;
                                queue.shutdown(false);
                                let all = TASKS / 2 * ROUNDS * (ROUNDS + 1) / 2;
                                assert_eq!(sum.load(Ordering::Relaxed), all);
                            }
                        } else {
                            give_up_after_one_poll(queue.join()).await;
                            while let Ok(item) = queue.get().await {
                                sum.fetch_add(item, Ordering::Relaxed);
                                queue.task_done();
                            }
                        }
                    }
                })
            });
        }
    };
}

queue_loses_nothing!(a_queue_loses_nothing, Queue::new(3));
queue_loses_nothing!(a_lifo_queue_loses_nothing, LifoQueue::new(3));
queue_loses_nothing!(a_priority_queue_loses_nothing, PriorityQueue::new(3));
queue_loses_nothing!(a_queue_without_a_maxsize_loses_nothing, Queue::new(0));

#[test]
fn every_request_is_answered() {
    everywhere(|| {
        let requests = Arc::new((Queue::new(2), AtomicUsize::new(TASKS - 1)));
        tasks(|number| {
            let requests = requests.clone();
            async move {
                let (queue, clients) = &*requests;
                if number == 0 {
                    while let Ok((request, answer)) = queue.get().await {
                        let answer: oneshot::Sender<usize> = answer;
                        give_way().await;
                        let _ = answer.send(request + 1); // it may be gone
                    }
                    return;
                }
                for request in 0..ROUNDS {
                    let (answer, answered) = oneshot::channel();
                    queue.put((request, answer)).await.expect("the server is there");
                    if request % 3 == 0 {
                        give_up_after_one_poll(answered).await;
                    } else {
                        assert_eq!(answered.await, Ok(request + 1));
                    }
                }
                if clients.fetch_sub(1, Ordering::AcqRel) == 1 {
                    queue.shutdown(false);
                }
            }
        })
    });
}

#[test]
fn a_future_gives_all_who_wait_the_same() {
    everywhere(|| {
        let future = evenloop_sync::Future::<usize, &str>::new();
        tasks(|number| {
            let future = future.clone();
            async move {
                if number == 0 {
                    give_way().await;
                    future.set_result(7).expect("nobody else sets it");
                    return;
                }
                give_up_after_one_poll(future.wait()).await;
                assert_eq!(future.wait().await, Ok(&7));
                assert_eq!(future.await, Ok(7));
            }
        })
    });
}
