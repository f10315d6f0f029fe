//! What every operation that waits has to stand, from one table: a new primitive gets all of it by adding a row.
//!
//! | test | what                                                                                       |
//! |------|--------------------------------------------------------------------------------------------|
//! | U1   | dropped after being chosen: somebody else gets what it was given                           |
//! | U2   | dropped before being chosen: it is forgotten, and counted no more                          |
//! | U3   | the waker of the last poll is woken, once; no other is kept                                |
//! | U4   | wakers that call back into the primitive, or panic, on being cloned, woken and dropped     |
//! | U5   | no growth: polled a million times, made and dropped a million times (a tenth in a debug build) |
//! | U6   | no spinning: polls ≤ wakes + 1                                                             |
//! | U7   | dropped after any number of polls, before or after being chosen: the next is served        |
//!
//! A row needs: a scene in which the operation waits; the operation; what ends the wait of the first in line, or of all;
//! how many wait; and what a hostile waker calls back.

use evenloop_core::ChildSet;
use evenloop_core::cancel::CancelScope;
use evenloop_core::{Direction, Readiness, Ready, WakeBatch};
use evenloop_sync::{
    Barrier, BoundedSemaphore, Condition, Event, LifoQueue, Limiter, Lock, PriorityQueue, Queue, RwLock,
    Semaphore, oneshot,
};
use evenloop_tests::{Counting, Woken};
use futures::{SinkExt, StreamExt};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};

/// How often the tests of growth repeat.
const MANY: usize = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };

type Waiting<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// An operation that waits, and its surroundings.
struct Row {
    name: &'static str,
    scene: Box<dyn Fn() -> Box<dyn Scene>>,
}

/// Surroundings in which the operation waits.
trait Scene: Send + Sync {
    /// The operation. What it is given, it gives up when it is done.
    fn wait(&self) -> Waiting<'_>;
    /// Serves the first in line, or everybody.
    fn serve(&self);
    fn waiters(&self) -> usize;
    /// What a hostile waker does: calls that do not wait.
    fn poke(&self);
}

/// A scene of plain functions.
struct Plain<S> {
    state: S,
    wait: for<'a> fn(&'a S) -> Waiting<'a>,
    serve: fn(&S),
    waiters: fn(&S) -> usize,
    poke: fn(&S),
}

impl<S: Send + Sync> Scene for Plain<S> {
    fn wait(&self) -> Waiting<'_> {
        (self.wait)(&self.state)
    }

    fn serve(&self) {
        (self.serve)(&self.state);
    }

    fn waiters(&self) -> usize {
        (self.waiters)(&self.state)
    }

    fn poke(&self) {
        (self.poke)(&self.state);
    }
}

fn row<S: Send + Sync + 'static>(
    name: &'static str,
    state: fn() -> S,
    wait: for<'a> fn(&'a S) -> Waiting<'a>,
    serve: fn(&S),
    waiters: fn(&S) -> usize,
    poke: fn(&S),
) -> Row {
    Row { name, scene: Box::new(move || Box::new(Plain { state: state(), wait, serve, waiters, poke })) }
}

/// A primitive, and what is held of it so that others wait.
struct Held<P, G> {
    of: P,
    guard: Mutex<Option<G>>,
}

impl<P, G> Held<P, G> {
    fn new(of: P, hold: impl FnOnce(&P) -> Option<G>) -> Self {
        let guard = Mutex::new(Some(hold(&of).expect("free")));
        Self { of, guard }
    }

    fn give_up(&self) {
        let guard = self.guard.lock().unwrap().take();
        drop(guard);
    }
}

/// Drops whatever it is.
fn end<T>(_: T) {}

/// Every operation that waits.
fn rows() -> Vec<Row> {
    vec![
        row(
            "Lock::acquire",
            || Held::new(Arc::new(Lock::new(1)), Lock::try_acquire_owned),
            |held| Box::pin(async { end(held.of.acquire().await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end((held.of.try_acquire(), format!("{:?}", held.of))),
        ),
        row(
            "Lock::acquire_owned",
            || Held::new(Arc::new(Lock::new(1)), Lock::try_acquire_owned),
            |held| Box::pin(async { end(held.of.acquire_owned().await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end((held.of.try_acquire_owned(), held.of.locked())),
        ),
        row(
            "RwLock::read",
            || Held::new(Arc::new(RwLock::new(1)), |lock| block_on(lock.write_owned()).into()),
            |held| Box::pin(async { end(held.of.read().await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end((held.of.try_read().is_some(), held.of.try_write().is_some())),
        ),
        row(
            "RwLock::write",
            || Held::new(Arc::new(RwLock::new(1)), |lock| block_on(lock.read_owned()).into()),
            |held| Box::pin(async { end(held.of.write().await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end((held.of.try_read().is_some(), format!("{:?}", held.of))),
        ),
        row(
            "RwLock::read_owned",
            || Held::new(Arc::new(RwLock::new(1)), |lock| block_on(lock.write_owned()).into()),
            |held| Box::pin(async { end(held.of.read_owned().await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end(held.of.try_read().is_some()),
        ),
        row(
            "RwLock::write_owned",
            || Held::new(Arc::new(RwLock::new(1)), |lock| block_on(lock.write_owned()).into()),
            |held| Box::pin(async { end(held.of.write_owned().await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end(held.of.try_write().is_some()),
        ),
        row(
            "Semaphore::acquire",
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
            "Semaphore::acquire_many",
            || Held::new(Arc::new(Semaphore::new(3)), |semaphore| semaphore.try_acquire_many_owned(2).ok()),
            |held| Box::pin(async { end(held.of.acquire_many(3).await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end((held.of.try_acquire(), held.of.try_acquire_many(3))),
        ),
        row(
            "Semaphore::acquire_owned",
            || Held::new(Arc::new(Semaphore::new(1)), |semaphore| semaphore.try_acquire_owned().ok()),
            |held| Box::pin(async { end(held.of.acquire_owned().await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end(held.of.try_acquire_owned()),
        ),
        row(
            "Semaphore::acquire, closed",
            || Semaphore::new(0),
            |semaphore| Box::pin(async { assert!(semaphore.acquire().await.is_err()) }),
            Semaphore::close,
            |semaphore| semaphore.statistics().waiters,
            |semaphore| end((semaphore.try_acquire(), semaphore.is_closed())),
        ),
        row(
            "BoundedSemaphore::acquire",
            || Held::new(Arc::new(BoundedSemaphore::new(1)), |semaphore| semaphore.try_acquire_owned().ok()),
            |held| Box::pin(async { end(held.of.acquire().await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end((held.of.try_acquire(), held.of.release(0))),
        ),
        row(
            "Event::wait",
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
            "ChildSet::wait",
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
            "Condition::wait, notify",
            || (Lock::new(1), Condition::new()),
            |(lock, condition)| Box::pin(async { end(condition.wait(lock.acquire().await).await) }),
            |(_, condition)| condition.notify(1),
            |(_, condition)| condition.statistics().waiters,
            |(lock, condition)| {
                end(lock.try_acquire());
                condition.notify(1);
            },
        ),
        row(
            "Condition::wait, notify_all",
            || (Lock::new(1), Condition::new()),
            |(lock, condition)| Box::pin(async { end(condition.wait(lock.acquire().await).await) }),
            |(_, condition)| condition.notify_all(),
            |(_, condition)| condition.statistics().waiters,
            |(lock, condition)| {
                end(lock.try_acquire());
                condition.notify_all();
            },
        ),
        row(
            "Condition::wait_catching",
            || (Lock::new(1), Condition::new()),
            |(lock, condition)| Box::pin(async { end(condition.wait_catching(lock.acquire().await).await) }),
            |(_, condition)| condition.notify(1),
            |(_, condition)| condition.statistics().waiters,
            |(lock, condition)| {
                end(lock.try_acquire());
                condition.notify(1);
            },
        ),
        row(
            "Condition::wait_for",
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
        ),
        row(
            "Barrier::wait",
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
            "Barrier::wait, reset",
            || Barrier::new(usize::MAX),
            |barrier| Box::pin(async { end(barrier.wait().await) }),
            Barrier::reset,
            Barrier::n_waiting,
            Barrier::reset,
        ),
        row(
            "Barrier::wait, aborted",
            || Barrier::new(usize::MAX),
            |barrier| Box::pin(async { end(barrier.wait().await) }),
            Barrier::abort,
            Barrier::n_waiting,
            |barrier| end((barrier.broken(), barrier.statistics())),
        ),
        row(
            "Limiter::acquire",
            || Limiter::new(0),
            |limiter| Box::pin(async { end(limiter.acquire().await) }),
            |limiter| limiter.set_total(1),
            |limiter| limiter.statistics().waiters,
            |limiter| end((limiter.try_acquire(), limiter.statistics())),
        ),
        row(
            "Limiter::acquire_on_behalf_of",
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
            "Queue::put",
            full_queue,
            |queue| Box::pin(async { end(queue.put(2).await) }),
            |queue| end(queue.get_nowait()),
            |queue| queue.statistics().putters,
            |queue| end((queue.put_nowait(3), format!("{queue:?}"))),
        ),
        row(
            "Queue::put, shut down",
            full_queue,
            |queue| Box::pin(async { assert!(queue.put(2).await.is_err()) }),
            |queue| queue.shutdown(false),
            |queue| queue.statistics().putters,
            |queue| end((queue.put_nowait(3), queue.full())),
        ),
        row(
            "Queue::reserve",
            full_queue,
            |queue| Box::pin(async { end(queue.reserve().await) }),
            |queue| end(queue.get_nowait()),
            |queue| queue.statistics().putters,
            |queue| end((queue.put_nowait(3), queue.qsize())),
        ),
        row(
            "Queue::get",
            || Queue::new(0),
            |queue| Box::pin(async { end(queue.get().await) }),
            |queue| queue.put_nowait(1).expect("it is not bounded"),
            |queue| queue.statistics().getters,
            |queue| end((queue.get_nowait(), format!("{queue:?}"))),
        ),
        row(
            "Queue::get, shut down",
            || Queue::<u8>::new(0),
            |queue| Box::pin(async { assert!(queue.get().await.is_err()) }),
            |queue| queue.shutdown(true),
            |queue| queue.statistics().getters,
            |queue| end((queue.get_nowait(), queue.is_shut_down())),
        ),
        row(
            "Queue::get_many",
            || Queue::new(0),
            |queue| Box::pin(async { end(queue.get_many(&mut vec![], 1).await) }),
            |queue| queue.put_nowait(1).expect("it is not bounded"),
            |queue| queue.statistics().getters,
            |queue| end((queue.get_nowait(), queue.empty())),
        ),
        row(
            "Queue::join",
            full_queue,
            |queue| Box::pin(queue.join()),
            |queue| (0..queue.statistics().unfinished).for_each(|_| queue.task_done()),
            |queue| queue.statistics().joiners,
            |queue| end((queue.get_nowait(), queue.statistics())),
        ),
        row(
            "Future::wait",
            evenloop_sync::Future::<u8, u8>::new,
            |future| Box::pin(async { end(future.wait().await) }),
            |future| end(future.set_result(1)),
            |future| future.statistics().waiters,
            |future| end((future.done(), format!("{future:?}"))),
        ),
        row(
            "Future, awaited by value, cancelled",
            evenloop_sync::Future::<u8, u8>::new,
            |future| Box::pin(async { end(future.clone().await) }),
            |future| end(future.cancel()),
            |future| future.statistics().waiters,
            |future| end((future.result(), future.add_done_callback(|_| ()))),
        ),
        row(
            "Queue::stream, next",
            || Queue::new(0),
            |queue| Box::pin(async { end(queue.stream().next().await) }),
            |queue| queue.put_nowait(1).expect("it is not bounded"),
            |queue| queue.statistics().getters,
            |queue| end((queue.get_nowait(), queue.empty())),
        ),
        row(
            "Queue::sink, send",
            full_queue,
            |queue| Box::pin(async { end(queue.sink().send(2).await) }),
            |queue| end(queue.get_nowait()),
            |queue| queue.statistics().putters,
            |queue| end((queue.put_nowait(3), queue.full())),
        ),
        row(
            "Semaphore::acquire_many_owned",
            || Held::new(Arc::new(Semaphore::new(3)), |semaphore| semaphore.try_acquire_many_owned(2).ok()),
            |held| Box::pin(async { end(held.of.acquire_many_owned(3).await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end((held.of.try_acquire_owned(), held.of.try_acquire_many_owned(3))),
        ),
        row(
            "BoundedSemaphore::acquire_many_owned",
            || Held::new(Arc::new(BoundedSemaphore::new(2)), |semaphore| semaphore.try_acquire_owned().ok()),
            |held| Box::pin(async { end(held.of.acquire_many_owned(2).await) }),
            Held::give_up,
            |held| held.of.statistics().waiters,
            |held| end((held.of.try_acquire_many(2), held.of.release(0))),
        ),
        row(
            "oneshot::Receiver",
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
            "oneshot::Sender::closed",
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
            "PriorityQueue::put",
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
            "PriorityQueue::get",
            || PriorityQueue::new(0),
            |queue| Box::pin(async { end(queue.get().await) }),
            |queue| queue.put_nowait(1).expect("it is not bounded"),
            |queue| queue.statistics().getters,
            |queue| end((queue.get_nowait(), format!("{queue:?}"))),
        ),
        row(
            "AsyncFd::readable, accept, peek, recv, read_with",
            || Readiness::new(Ready::NOTHING),
            |readiness| Box::pin(async { end(readiness.ready(Direction::Read).await) }),
            |readiness| tell(readiness, Ready::READ),
            |readiness| readiness.waiting(Direction::Read),
            |readiness| end((readiness.look(Direction::Read), format!("{readiness:?}"))),
        ),
        row(
            "AsyncFd::writable, connect, send, write_with",
            || Readiness::new(Ready::NOTHING),
            |readiness| Box::pin(async { end(readiness.ready(Direction::Write).await) }),
            |readiness| tell(readiness, Ready::WRITE),
            |readiness| readiness.waiting(Direction::Write),
            |readiness| end((readiness.look(Direction::Write), format!("{readiness:?}"))),
        ),
        row(
            "LifoQueue::get",
            || LifoQueue::new(0),
            |queue| Box::pin(async { end(queue.get().await) }),
            |queue| queue.put_nowait(1).expect("it is not bounded"),
            |queue| queue.statistics().getters,
            |queue| end((queue.get_nowait(), format!("{queue:?}"))),
        ),
    ]
}

/// The next number, and what is open: its number, whether it was served, and itself.
type Ends<T> = (usize, Vec<(usize, bool, T)>);

/// The other ends of those who wait, where each waits for an end of its own. Served all at once.
struct Apart<T> {
    ends: Mutex<Ends<T>>,
}

impl<T> Default for Apart<T> {
    fn default() -> Self {
        Self { ends: Mutex::new((0, Vec::new())) }
    }
}

impl<T> Apart<T> {
    /// Keeps an end until it serves, or the answer is dropped.
    fn join(&self, end: T) -> Joined<'_, T> {
        let mut ends = self.ends.lock().unwrap();
        ends.0 += 1;
        let number = ends.0;
        ends.1.push((number, false, end));
        Joined(number, self)
    }

    fn serve(&self, serve: impl Fn(T)) {
        // One at a time: serving wakes, and who is woken may come here.
        loop {
            let first = {
                let mut ends = self.ends.lock().unwrap();
                if ends.1.is_empty() { None } else { Some(ends.1.remove(0)) }
            };
            let Some((_, _, first)) = first else { return };
            serve(first);
        }
    }

    fn count(&self, which: impl Fn(&T) -> bool) -> usize {
        self.ends.lock().unwrap().1.iter().filter(|(_, _, end)| which(end)).count()
    }

    fn count_in(&self, number: usize) {
        let mut ends = self.ends.lock().unwrap();
        ends.1.iter_mut().filter(|(other, ..)| *other == number).for_each(|end| end.1 = true);
    }

    fn counted(&self) -> usize {
        self.ends.lock().unwrap().1.iter().filter(|(_, counted, _)| *counted).count()
    }
}

/// Takes its end away when it is dropped.
struct Joined<'a, T>(usize, &'a Apart<T>);

impl<T> Drop for Joined<'_, T> {
    fn drop(&mut self) {
        let mut ends = self.1.ends.lock().unwrap();
        let place = ends.1.iter().position(|(number, ..)| *number == self.0);
        let gone = place.map(|place| ends.1.remove(place));
        drop(ends);
        drop(gone);
    }
}

/// As a reactor does.
fn tell(readiness: &Readiness, ready: Ready) {
    let mut due = WakeBatch::new();
    while readiness.set(ready, &mut due) {
        due.wake_all();
    }
    due.wake_all();
}

fn full_queue() -> Queue<u8> {
    let queue = Queue::new(1);
    queue.put_nowait(1).expect("it is empty");
    queue
}

/// Runs `test` on a new scene of every row.
fn for_every_row(test: impl Fn(&dyn Scene)) {
    for Row { name, scene } in rows() {
        println!("{name}");
        test(&*scene());
    }
}

fn poll(future: &mut Waiting<'_>, waker: &Waker) -> Poll<()> {
    future.as_mut().poll(&mut Context::from_waker(waker))
}

/// Makes the operation wait.
fn waiting<'a>(scene: &'a dyn Scene, waker: &Waker) -> Waiting<'a> {
    let mut future = scene.wait();
    assert!(poll(&mut future, waker).is_pending());
    future
}

// === U1, U2, U7 ===

#[test]
fn u1_who_is_dropped_after_being_chosen_hands_on() {
    for_every_row(|scene| {
        let first = waiting(scene, Waker::noop());
        let (woken, waker) = Woken::waker();
        let mut second = waiting(scene, &waker);
        scene.serve();
        drop(first);
        assert_eq!(woken.times(), 1);
        assert!(poll(&mut second, &waker).is_ready());
        assert_eq!(scene.waiters(), 0);
    });
}

#[test]
fn u2_who_is_dropped_before_being_chosen_is_forgotten() {
    for_every_row(|scene| {
        let (gone_woken, gone_waker) = Woken::waker();
        let gone = waiting(scene, &gone_waker);
        let (woken, waker) = Woken::waker();
        let mut second = waiting(scene, &waker);
        assert_eq!(scene.waiters(), 2);
        drop(gone);
        assert_eq!(scene.waiters(), 1);
        scene.serve();
        assert_eq!((gone_woken.times(), woken.times()), (0, 1));
        assert!(poll(&mut second, &waker).is_ready());
        assert_eq!(scene.waiters(), 0);
    });
}

#[test]
fn u7_dropped_after_any_number_of_polls_it_leaves_no_trace() {
    for Row { name, scene } in rows() {
        for polls in 0..3 {
            for served in [false, true] {
                println!("{name}, {polls} polls, served: {served}");
                let scene = &*scene();
                let mut gone = scene.wait();
                let mut second = waiting(scene, Waker::noop());
                if served {
                    scene.serve();
                }
                let _ = (0..polls).find(|_| poll(&mut gone, Waker::noop()).is_ready());
                drop(gone);
                if poll(&mut second, Waker::noop()).is_pending() {
                    scene.serve();
                    assert!(poll(&mut second, Waker::noop()).is_ready());
                }
                assert_eq!(scene.waiters(), 0);
            }
        }
    }
}

// === U3 ===

#[test]
fn u3_the_last_waker_is_woken_once_and_no_other_is_kept() {
    for_every_row(|scene| {
        let [(old, old_waker), (last, last_waker)] = [Woken::waker(), Woken::waker()];
        let mut future = waiting(scene, &old_waker);
        assert!(poll(&mut future, &last_waker).is_pending());
        assert_eq!(Arc::strong_count(&old), 2, "the old waker was let go");
        assert!(poll(&mut future, &last_waker).is_pending());
        scene.serve();
        assert_eq!((old.times(), last.times()), (0, 1));
        assert!(poll(&mut future, &last_waker).is_ready());
        drop(future);
        assert_eq!((Arc::strong_count(&old), Arc::strong_count(&last)), (2, 2), "nothing is kept");
        assert_eq!((old.times(), last.times()), (0, 1));
    });
}

// === U4 ===

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Clone,
    Wake,
    Drop,
}

/// What a hostile waker does.
type Act = Arc<dyn Fn()>;

thread_local! {
    /// What hostile wakers of this thread do on which occasion, and whether they are at it.
    static HOSTILITY: RefCell<Option<(On, Act)>> = const { RefCell::new(None) };
    static AT_IT: Cell<bool> = const { Cell::new(false) };
    static DONE: Cell<u32> = const { Cell::new(0) };
}

fn occasion(now: On) {
    let hostility = HOSTILITY.with_borrow(|hostility| hostility.clone());
    let Some((on, act)) = hostility else { return };
    if on == now && !AT_IT.replace(true) {
        DONE.set(DONE.get() + 1);
        let result = catch_unwind(AssertUnwindSafe(|| act()));
        AT_IT.set(false);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    }
}

const HOSTILE: RawWakerVTable = RawWakerVTable::new(
    |data| {
        occasion(On::Clone);
        RawWaker::new(data, &HOSTILE)
    },
    |_| {
        occasion(On::Wake);
        occasion(On::Drop);
    },
    |_| occasion(On::Wake),
    |_| occasion(On::Drop),
);

/// A waker that does on `on` what `act` does, until the guard is dropped. It is never dropped itself.
fn hostile(on: On, act: impl Fn() + 'static) -> (ManuallyDrop<Waker>, impl Drop) {
    struct Calm;
    impl Drop for Calm {
        fn drop(&mut self) {
            HOSTILITY.set(None);
        }
    }
    HOSTILITY.set(Some((on, Arc::new(act))));
    // SAFETY: the functions use no data, so every contract on it holds.
    let waker = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &HOSTILE)) };
    (ManuallyDrop::new(waker), Calm)
}

/// Polls unless it has ended, in whatever way.
fn poll_if_alive(future: &mut Option<Waiting<'_>>, waker: &Waker) {
    let Some(alive) = future else { return };
    let polled = catch_unwind(AssertUnwindSafe(|| poll(alive, waker)));
    if !matches!(polled, Ok(Poll::Pending)) {
        let _ = catch_unwind(AssertUnwindSafe(|| *future = None));
    }
}

/// Lets an operation wait with a hostile waker, gives it another and the old one again, serves it and drops it; then a
/// calm one must still be served.
fn check_hostile(scene: &dyn Scene, on: On, act: impl Fn() + 'static) {
    DONE.set(0);
    let (waker, calm) = hostile(on, act);
    let mut first = Some(scene.wait());
    let mut second = Some(scene.wait());
    poll_if_alive(&mut first, &waker);
    poll_if_alive(&mut second, Waker::noop());
    poll_if_alive(&mut first, Waker::noop());
    poll_if_alive(&mut first, &waker);
    let _ = catch_unwind(AssertUnwindSafe(|| scene.serve()));
    let _ = catch_unwind(AssertUnwindSafe(|| first = None));
    assert_ne!(DONE.get(), 0, "the waker had its occasion");
    drop(calm);
    for _ in 0..3 {
        poll_if_alive(&mut second, Waker::noop());
        if second.is_none() {
            break;
        }
        scene.serve();
    }
    assert!(second.is_none(), "the second is served");
    assert_eq!(scene.waiters(), 0);
}

#[test]
fn u4_hostile_wakers_neither_block_nor_break_a_primitive() {
    for Row { name, scene } in rows() {
        for on in [On::Clone, On::Wake, On::Drop] {
            println!("{name}, on {on:?}");
            let shared: Arc<dyn Scene> = scene().into();
            let weak = Arc::downgrade(&shared);
            check_hostile(&*shared, on, move || weak.upgrade().expect("it outlives its futures").poke());
            check_hostile(&*scene(), on, || std::panic::resume_unwind(Box::new("hostile")));
        }
    }
}

// === U5 ===

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn u5_memory_does_not_grow() {
    for_every_row(|scene| {
        let wakers = [Woken::waker().1, Woken::waker().1];
        let mut stays = waiting(scene, &wakers[0]);
        drop(waiting(scene, &wakers[1])); // warms up
        let before = Counting::bytes();
        for waker in wakers.iter().cycle().take(MANY) {
            assert!(poll(&mut stays, waker).is_pending());
        }
        assert_eq!(Counting::bytes(), before, "polled often");
        for waker in wakers.iter().cycle().take(MANY) {
            drop(waiting(scene, waker));
        }
        assert_eq!((Counting::bytes(), scene.waiters()), (before, 1), "made and dropped often");
        drop(stays);
        assert_eq!(scene.waiters(), 0);
    });
}

#[test]
fn u5_nothing_is_allocated_per_wait() {
    for_every_row(|scene| {
        let mut many: Vec<_> = (0..100).map(|_| waiting(scene, Waker::noop())).collect();
        many.clear();
        let before = Counting::bytes();
        let future = scene.wait();
        let alone = Counting::bytes() - before; // the test's own box
        drop(future);
        many.extend((0..100).map(|_| waiting(scene, Waker::noop())));
        assert_eq!(Counting::bytes() - before, 100 * alone);
    });
}

// === U6 ===

/// Unparks a thread, and counts.
struct Unpark {
    thread: std::thread::Thread,
    wakes: AtomicUsize,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
        self.thread.unpark();
    }
}

/// Polls to the end on this thread; answers the output, the polls and the wakes.
fn count_polls<F: Future>(future: F) -> (F::Output, usize, usize) {
    let mut future = std::pin::pin!(future);
    let unpark = Arc::new(Unpark { thread: std::thread::current(), wakes: AtomicUsize::new(0) });
    let waker = Waker::from(unpark.clone());
    for polls in 1.. {
        let wakes = unpark.wakes.load(Ordering::Relaxed);
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return (output, polls, unpark.wakes.load(Ordering::Relaxed));
        }
        while unpark.wakes.load(Ordering::Relaxed) == wakes {
            std::thread::park();
        }
    }
    unreachable!("it ends before polls run out")
}

fn block_on<F: Future>(future: F) -> F::Output {
    count_polls(future).0
}

#[test]
fn u6_no_poll_without_a_wake() {
    for_every_row(|scene| {
        std::thread::scope(|threads| {
            let others = [(); 2].map(|()| threads.spawn(|| count_polls(scene.wait())));
            while scene.waiters() < others.len() {
                std::thread::yield_now();
            }
            while others.iter().any(|other| !other.is_finished()) {
                scene.serve();
                std::thread::yield_now();
            }
            for other in others {
                let ((), polls, wakes) = other.join().expect("no panic");
                assert!(polls <= wakes + 1, "{polls} polls, {wakes} wakes");
            }
        });
    });
}
