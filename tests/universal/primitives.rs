//! Rows of core's and sync's primitives, which need no loop.

use crate::block_on;
use crate::scene::{Apart, Held, Row, end, row, tell};
use evenloop_core::ChildSet;
use evenloop_core::cancel::CancelScope;
use evenloop_core::{Direction, Readiness, Ready};
use evenloop_sync::{
    Barrier, BoundedSemaphore, Condition, Event, LifoQueue, Limiter, Lock, PriorityQueue, Queue, RwLock,
    Semaphore, oneshot,
};
use futures::{SinkExt, StreamExt};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

/// Of a condition.
const THE_LOCK: &str = "another may hold the lock before it waits, and when it is notified";
const WAITS_AGAIN: &str =
    "whoever is notified while another holds the lock finds nothing changed, and waits again";

/// What waits on one thread as on many.
pub(crate) fn rows() -> Vec<Row> {
    vec![
        row(
            "sync::Lock::acquire",
            || Held::new(Arc::new(Lock::new(1)), Lock::try_acquire_owned),
            |held| Box::pin(async { end(held.of.acquire().await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end((held.of.try_acquire(), format!("{:?}", held.of))),
        ),
        row(
            "sync::Lock::acquire_owned",
            || Held::new(Arc::new(Lock::new(1)), Lock::try_acquire_owned),
            |held| Box::pin(async { end(held.of.acquire_owned().await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end((held.of.try_acquire_owned(), held.of.locked())),
        ),
        row(
            "sync::RwLock::read",
            || Held::new(Arc::new(RwLock::new(1)), |lock| block_on(lock.write_owned()).into()),
            |held| Box::pin(async { end(held.of.read().await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end((held.of.try_read().is_some(), held.of.try_write().is_some())),
        ),
        row(
            "sync::RwLock::write",
            || Held::new(Arc::new(RwLock::new(1)), |lock| block_on(lock.read_owned()).into()),
            |held| Box::pin(async { end(held.of.write().await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end((held.of.try_read().is_some(), format!("{:?}", held.of))),
        ),
        row(
            "sync::RwLock::read_owned",
            || Held::new(Arc::new(RwLock::new(1)), |lock| block_on(lock.write_owned()).into()),
            |held| Box::pin(async { end(held.of.read_owned().await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end(held.of.try_read().is_some()),
        ),
        row(
            "sync::RwLock::write_owned",
            || Held::new(Arc::new(RwLock::new(1)), |lock| block_on(lock.write_owned()).into()),
            |held| Box::pin(async { end(held.of.write_owned().await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end(held.of.try_write().is_some()),
        ),
        row(
            "sync::Semaphore::acquire",
            || Held::new(Arc::new(Semaphore::new(1)), |semaphore| semaphore.try_acquire_owned().ok()),
            |held| Box::pin(async { end(held.of.acquire().await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| {
                end(held.of.try_acquire());
                held.of.release(0);
            },
        ),
        row(
            "sync::Semaphore::acquire_many",
            || Held::new(Arc::new(Semaphore::new(3)), |semaphore| semaphore.try_acquire_many_owned(2).ok()),
            |held| Box::pin(async { end(held.of.acquire_many(3).await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end((held.of.try_acquire(), held.of.try_acquire_many(3))),
        ),
        row(
            "sync::Semaphore::acquire_owned",
            || Held::new(Arc::new(Semaphore::new(1)), |semaphore| semaphore.try_acquire_owned().ok()),
            |held| Box::pin(async { end(held.of.acquire_owned().await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end(held.of.try_acquire_owned()),
        ),
        row(
            "sync::Semaphore::acquire, closed",
            || Semaphore::new(0),
            |semaphore| Box::pin(async { assert!(semaphore.acquire().await.is_err()) }),
            Semaphore::close,
            |semaphore| semaphore.statistics().waiters,
            |semaphore| end((semaphore.try_acquire(), semaphore.is_closed())),
        ),
        row(
            "sync::BoundedSemaphore::acquire",
            || Held::new(Arc::new(BoundedSemaphore::new(1)), |semaphore| semaphore.try_acquire_owned().ok()),
            |held| Box::pin(async { end(held.of.acquire().await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end((held.of.try_acquire(), held.of.release(0))),
        ),
        row(
            "sync::Event::wait",
            Event::new,
            |event| Box::pin(event.wait()),
            Event::set,
            |event| event.statistics().waiters,
            |event| {
                let was_set = event.is_set();
                event.set();
                if !was_set {
                    event.clear();
                }
            },
        ),
        row(
            "core::ChildSet::wait",
            || Held::new(ChildSet::<CancelScope>::new(), |set| set.enter(None)),
            |held| Box::pin(held.of.wait()),
            Held::give_up,
            |held| held.of.waiters(),
            |held| {
                held.of.cancel("of nobody who could be asked");
                end((held.of.len(), held.of.enter(None)));
            },
        ),
        row(
            "core::ChildSet::fewer_than",
            || {
                let one_stays = Held::new(ChildSet::<CancelScope>::new(), |set| set.enter(None));
                let stays = one_stays.of.enter(None);
                (one_stays, stays)
            },
            |(held, _)| Box::pin(held.of.fewer_than(2)),
            |(held, _)| held.give_up(),
            |(held, _)| held.of.waiters(),
            |(held, _)| end((held.of.len(), held.of.is_empty())),
        ),
        row(
            "sync::Condition::wait, notify",
            || (Lock::new(1), Condition::new()),
            |(lock, condition)| Box::pin(async { end(condition.wait(lock.acquire().await).await) }),
            |(_, condition)| condition.notify(1),
            |(_, condition)| condition.statistics().waiters,
            |(lock, condition)| {
                end(lock.try_acquire());
                condition.notify(1);
            },
        )
        .among_threads(4, THE_LOCK),
        row(
            "sync::Condition::wait, notify_all",
            || (Lock::new(1), Condition::new()),
            |(lock, condition)| Box::pin(async { end(condition.wait(lock.acquire().await).await) }),
            |(_, condition)| condition.notify_all(),
            |(_, condition)| condition.statistics().waiters,
            |(lock, condition)| {
                end(lock.try_acquire());
                condition.notify_all();
            },
        )
        .among_threads(4, THE_LOCK),
        row(
            "sync::Condition::wait_catching",
            || (Lock::new(1), Condition::new()),
            |(lock, condition)| Box::pin(async { end(condition.wait_catching(lock.acquire().await).await) }),
            |(_, condition)| condition.notify(1),
            |(_, condition)| condition.statistics().waiters,
            |(lock, condition)| {
                end(lock.try_acquire());
                condition.notify(1);
            },
        )
        .among_threads(4, THE_LOCK),
        row(
            "sync::Condition::wait_for",
            || (Lock::new(false), Condition::new()),
            |(lock, condition)| {
                Box::pin(async { end(condition.wait_for(lock.acquire().await, |done| *done).await) })
            },
            |(lock, condition)| {
                // Who was woken may hold it for a moment; who serves until they have ended comes again.
                if let Some(mut done) = lock.try_acquire() {
                    *done = true;
                }
                condition.notify_all();
            },
            |(_, condition)| condition.statistics().waiters,
            |(_, condition)| condition.notify_all(),
        )
        .among_threads(100, WAITS_AGAIN),
        row(
            "sync::Barrier::wait",
            || Barrier::new(200),
            |barrier| Box::pin(async { end(barrier.wait().await) }),
            |barrier| {
                let mut arrivals = Vec::new();
                loop {
                    let mut arrival = barrier.wait();
                    if Pin::new(&mut arrival).poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                        break;
                    }
                    arrivals.push(arrival);
                }
            },
            Barrier::n_waiting,
            |barrier| end((barrier.statistics(), format!("{barrier:?}"))),
        ),
        row(
            "sync::Barrier::wait, reset",
            || Barrier::new(usize::MAX),
            |barrier| Box::pin(async { end(barrier.wait().await) }),
            Barrier::reset,
            Barrier::n_waiting,
            Barrier::reset,
        ),
        row(
            "sync::Barrier::wait, aborted",
            || Barrier::new(usize::MAX),
            |barrier| Box::pin(async { end(barrier.wait().await) }),
            Barrier::abort,
            Barrier::n_waiting,
            |barrier| end((barrier.broken(), barrier.statistics())),
        ),
        row(
            "sync::Limiter::acquire",
            || Limiter::new(0),
            |limiter| Box::pin(async { end(limiter.acquire().await) }),
            |limiter| limiter.set_total(1),
            |limiter| limiter.statistics().waiters,
            |limiter| end((limiter.try_acquire(), limiter.statistics())),
        ),
        row(
            "sync::Limiter::acquire_on_behalf_of",
            || (Limiter::new(0), AtomicU64::new(0)),
            |(limiter, id)| {
                let id = id.fetch_add(1, Ordering::Relaxed);
                Box::pin(async move { end(limiter.acquire_on_behalf_of(id).await) })
            },
            |(limiter, _)| limiter.set_total(1),
            |(limiter, _)| limiter.statistics().waiters,
            |(limiter, _)| end((limiter.try_acquire_on_behalf_of(0), limiter.statistics())),
        ),
        row(
            "sync::Queue::put",
            full_queue,
            |queue| Box::pin(async { end(queue.put(2).await) }),
            |queue| end(queue.get_nowait()),
            |queue| queue.statistics().putters,
            |queue| end((queue.put_nowait(3), format!("{queue:?}"))),
        ),
        row(
            "sync::Queue::put, shut down",
            full_queue,
            |queue| Box::pin(async { assert!(queue.put(2).await.is_err()) }),
            |queue| queue.shutdown(false),
            |queue| queue.statistics().putters,
            |queue| end((queue.put_nowait(3), queue.full())),
        ),
        row(
            "sync::Queue::reserve",
            full_queue,
            |queue| Box::pin(async { end(queue.reserve().await) }),
            |queue| end(queue.get_nowait()),
            |queue| queue.statistics().putters,
            |queue| end((queue.put_nowait(3), queue.qsize())),
        ),
        row(
            "sync::Queue::get",
            || Queue::new(0),
            |queue| Box::pin(async { end(queue.get().await) }),
            |queue| queue.put_nowait(1).expect("it is not bounded"),
            |queue| queue.statistics().getters,
            |queue| end((queue.get_nowait(), format!("{queue:?}"))),
        ),
        row(
            "sync::Queue::get, shut down",
            || Queue::<u8>::new(0),
            |queue| Box::pin(async { assert!(queue.get().await.is_err()) }),
            |queue| queue.shutdown(true),
            |queue| queue.statistics().getters,
            |queue| end((queue.get_nowait(), queue.is_shut_down())),
        ),
        row(
            "sync::Queue::get_many",
            || Queue::new(0),
            |queue| Box::pin(async { end(queue.get_many(&mut vec![], 1).await) }),
            |queue| queue.put_nowait(1).expect("it is not bounded"),
            |queue| queue.statistics().getters,
            |queue| end((queue.get_nowait(), queue.empty())),
        ),
        row(
            "sync::Queue::join",
            full_queue,
            |queue| Box::pin(queue.join()),
            |queue| (0..queue.statistics().unfinished).for_each(|_| queue.task_done()),
            |queue| queue.statistics().joiners,
            |queue| end((queue.get_nowait(), queue.statistics())),
        ),
        row(
            "sync::Future::wait",
            evenloop_sync::Future::<u8, u8>::new,
            |future| Box::pin(async { end(future.wait().await) }),
            |future| end(future.set_result(1)),
            |future| future.statistics().waiters,
            |future| end((future.done(), format!("{future:?}"))),
        ),
        row(
            "sync::Future::new, awaited by value, cancelled",
            evenloop_sync::Future::<u8, u8>::new,
            |future| Box::pin(async { end(future.clone().await) }),
            |future| end(future.cancel()),
            |future| future.statistics().waiters,
            |future| end((future.result(), future.add_done_callback(|_| ()))),
        ),
        row(
            "sync::Queue::stream, next",
            || Queue::new(0),
            |queue| Box::pin(async { end(queue.stream().next().await) }),
            |queue| queue.put_nowait(1).expect("it is not bounded"),
            |queue| queue.statistics().getters,
            |queue| end((queue.get_nowait(), queue.empty())),
        ),
        row(
            "sync::Queue::sink, send",
            full_queue,
            |queue| Box::pin(async { end(queue.sink().send(2).await) }),
            |queue| end(queue.get_nowait()),
            |queue| queue.statistics().putters,
            |queue| end((queue.put_nowait(3), queue.full())),
        ),
        row(
            "sync::Semaphore::acquire_many_owned",
            || Held::new(Arc::new(Semaphore::new(3)), |semaphore| semaphore.try_acquire_many_owned(2).ok()),
            |held| Box::pin(async { end(held.of.acquire_many_owned(3).await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end((held.of.try_acquire_owned(), held.of.try_acquire_many_owned(3))),
        ),
        row(
            "sync::BoundedSemaphore::acquire_many",
            || Held::new(Arc::new(BoundedSemaphore::new(2)), |semaphore| semaphore.try_acquire_owned().ok()),
            |held| Box::pin(async { end(held.of.acquire_many(2).await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end((held.of.try_acquire(), held.of.try_acquire_many(2))),
        ),
        row(
            "sync::BoundedSemaphore::acquire_owned",
            || Held::new(Arc::new(BoundedSemaphore::new(1)), |semaphore| semaphore.try_acquire_owned().ok()),
            |held| Box::pin(async { end(held.of.acquire_owned().await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end(held.of.try_acquire_owned()),
        ),
        row(
            "sync::BoundedSemaphore::acquire_many_owned",
            || Held::new(Arc::new(BoundedSemaphore::new(2)), |semaphore| semaphore.try_acquire_owned().ok()),
            |held| Box::pin(async { end(held.of.acquire_many_owned(2).await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end((held.of.try_acquire_many(2), held.of.release(0))),
        ),
        row(
            "sync::channel, the receiver",
            Apart::default,
            |senders| {
                let (sender, receiver) = oneshot::channel::<u8>();
                let joined = senders.join(sender);
                Box::pin(async move { end((receiver.await, joined)) })
            },
            |senders| senders.serve(|sender| end(sender.send(1))),
            |senders| senders.count(|sender| format!("{sender:?}").ends_with("receivers: 1]")),
            |senders| end(senders.count(oneshot::Sender::is_closed)),
        ),
        row(
            "sync::Sender::closed",
            Apart::default,
            |receivers| {
                let (mut sender, receiver) = oneshot::channel::<u8>();
                let joined = receivers.join(receiver);
                Box::pin(async move {
                    receivers.count_in(joined.0);
                    sender.closed().await;
                    end(joined);
                })
            },
            |receivers| receivers.serve(|mut receiver| receiver.close()),
            Apart::counted,
            |receivers| end(receivers.count(|receiver| format!("{receiver:?}").is_empty())),
        ),
        row(
            "sync::Queue::put, by priority",
            || {
                let queue = PriorityQueue::new(1);
                queue.put_nowait(1).expect("it is empty");
                queue
            },
            |queue| Box::pin(async { end(queue.put(2).await) }),
            |queue| end(queue.get_nowait()),
            |queue| queue.statistics().putters,
            |queue| end((queue.put_nowait(3), format!("{queue:?}"))),
        ),
        row(
            "sync::Queue::get, by priority",
            || PriorityQueue::new(0),
            |queue| Box::pin(async { end(queue.get().await) }),
            |queue| queue.put_nowait(1).expect("it is not bounded"),
            |queue| queue.statistics().getters,
            |queue| end((queue.get_nowait(), format!("{queue:?}"))),
        ),
        row(
            "core::Readiness::ready, to read",
            || Readiness::new(Ready::NOTHING),
            |readiness| Box::pin(async { end(readiness.ready(Direction::Read).await) }),
            |readiness| tell(readiness, Ready::READ),
            |readiness| readiness.waiting(Direction::Read),
            |readiness| end((readiness.look(Direction::Read), format!("{readiness:?}"))),
        ),
        row(
            "core::Readiness::ready, to write",
            || Readiness::new(Ready::NOTHING),
            |readiness| Box::pin(async { end(readiness.ready(Direction::Write).await) }),
            |readiness| tell(readiness, Ready::WRITE),
            |readiness| readiness.waiting(Direction::Write),
            |readiness| end((readiness.look(Direction::Write), format!("{readiness:?}"))),
        ),
        row(
            "sync::Queue::get, the last first",
            || LifoQueue::new(0),
            |queue| Box::pin(async { end(queue.get().await) }),
            |queue| queue.put_nowait(1).expect("it is not bounded"),
            |queue| queue.statistics().getters,
            |queue| end((queue.get_nowait(), format!("{queue:?}"))),
        ),
    ]
}

fn full_queue() -> Queue<u8> {
    let queue = Queue::new(1);
    queue.put_nowait(1).expect("it is empty");
    queue
}
