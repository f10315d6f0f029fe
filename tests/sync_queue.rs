//! The queues: asyncio's rules one by one, then any sequence of operations against a twin that anybody can read.

use evenloop_sync::{
    GetNowaitError, LifoQueue, PriorityQueue, PutNowaitError, Queue, QueueGet, QueueJoin, QueuePut,
    QueueReserve, QueueShutDown, QueueSink, QueueSlot, QueueStream,
};
use evenloop_tests::{Woken, many, panic_of, poll};
use futures::executor::block_on;
use futures::stream::FusedStream;
use futures::{FutureExt, SinkExt, StreamExt};
use proptest::prelude::*;
use static_assertions::{assert_impl_all, assert_not_impl_any};
use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

assert_impl_all!(Queue<Cell<u8>>: Send, Sync, Unpin, std::fmt::Debug, Default);
assert_impl_all!(LifoQueue<Cell<u8>>: Send, Sync, Unpin, std::fmt::Debug, Default);
assert_impl_all!(PriorityQueue<u8>: Send, Sync, Unpin, std::fmt::Debug, Default);
assert_impl_all!(QueueGet<'static, Cell<u8>>: Send, Sync, Unpin, std::fmt::Debug);
assert_impl_all!(QueuePut<'static, u8>: Send, Sync, std::fmt::Debug);
assert_impl_all!(QueuePut<'static, std::marker::PhantomPinned>: Unpin);
assert_impl_all!(QueuePut<'static, Cell<u8>>: Send);
assert_not_impl_any!(QueuePut<'static, Cell<u8>>: Sync);
assert_impl_all!(QueueReserve<'static, Cell<u8>>: Send, Sync, Unpin, std::fmt::Debug);
assert_impl_all!(QueueSlot<'static, Cell<u8>>: Send, Sync, Unpin, std::fmt::Debug);
assert_impl_all!(QueueJoin<'static, Cell<u8>>: Send, Sync, Unpin, std::fmt::Debug);
assert_impl_all!(QueueStream<'static, Cell<u8>>: Send, Sync, Unpin, std::fmt::Debug, FusedStream);
assert_impl_all!(QueueSink<'static, Cell<u8>>: Send, Sync, Unpin, std::fmt::Debug);
assert_not_impl_any!(Queue<Rc<u8>>: Send, Sync, Clone);
assert_not_impl_any!(LifoQueue<Rc<u8>>: Send, Sync);
assert_not_impl_any!(PriorityQueue<Rc<u8>>: Send, Sync);
assert_not_impl_any!(QueueGet<'static, Rc<u8>>: Send, Sync);
assert_not_impl_any!(QueuePut<'static, Rc<u8>>: Send, Sync);
assert_not_impl_any!(QueueSlot<'static, Rc<u8>>: Send, Sync);
assert_impl_all!(QueueShutDown<Rc<u8>>: std::error::Error);
assert_impl_all!(PutNowaitError<Rc<u8>>: std::error::Error);

fn pending<F: Future + Unpin>(mut future: F) -> F {
    assert!(poll(&mut future, Waker::noop()).is_pending());
    future
}

fn ready<F: Future + Unpin>(future: &mut F) -> F::Output {
    match poll(future, Waker::noop()) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("this future should be ready"),
    }
}

// === Order ===

#[test]
fn items_come_out_as_each_queue_promises() {
    let (fifo, lifo, priority) = (Queue::new(0), LifoQueue::new(0), PriorityQueue::new(0));
    for item in [(2, 'a'), (1, 'b'), (2, 'c')] {
        fifo.put_nowait(item).unwrap();
        lifo.put_nowait(item).unwrap();
        priority.put_nowait(Ranked(item.0, item.1)).unwrap();
    }
    let chars = |mut next: Box<dyn FnMut() -> char>| (0..3).map(|_| next()).collect::<String>();
    assert_eq!(chars(Box::new(|| fifo.get_nowait().unwrap().1)), "abc");
    assert_eq!(chars(Box::new(|| lifo.get_nowait().unwrap().1)), "cba");
    assert_eq!(chars(Box::new(|| priority.get_nowait().unwrap().1)), "bac");
}

/// Compares by number only.
#[derive(Debug)]
struct Ranked(u32, char);

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

#[test]
fn a_newcomer_does_not_overtake_a_putter_in_line() {
    let queue = Queue::new(1);
    queue.put_nowait(1).unwrap();
    let mut waiting = pending(queue.put(2));
    assert_eq!(queue.get_nowait(), Ok(1));
    assert_eq!(queue.put_nowait(3), Err(PutNowaitError::QueueFull(3)), "the slot is promised");
    assert!(queue.full() && queue.qsize() == 0);
    let mut newcomer = pending(queue.put(3));
    assert_eq!(ready(&mut waiting), Ok(()));
    assert_eq!(queue.get_nowait(), Ok(2));
    assert_eq!(ready(&mut newcomer), Ok(()));
    assert_eq!(queue.get_nowait(), Ok(3));
}

#[test]
fn a_newcomer_does_not_overtake_a_getter_in_line() {
    let queue = Queue::new(0);
    let mut waiting = pending(queue.get());
    queue.put_nowait(1).unwrap();
    assert_eq!(queue.get_nowait(), Err(GetNowaitError::QueueEmpty), "the item is promised");
    assert!(queue.empty() && queue.qsize() == 1);
    let mut newcomer = pending(queue.get());
    queue.put_nowait(2).unwrap();
    assert_eq!((ready(&mut waiting), ready(&mut newcomer)), (Ok(1), Ok(2)));
}

#[test]
fn a_cancelled_put_drops_its_item_and_leaves_no_slot_behind() {
    let queue = Queue::new(1);
    let item = Arc::new(());
    queue.put_nowait(item.clone()).unwrap();
    let waiting = pending(queue.put(item.clone()));
    assert_eq!(Arc::strong_count(&item), 3);
    drop(queue.get_nowait().unwrap());
    drop(waiting); // it was chosen, and has not come for its slot
    assert_eq!(Arc::strong_count(&item), 1);
    assert!(queue.put_nowait(item.clone()).is_ok());
}

#[test]
fn a_reserved_slot_is_nobody_elses() {
    let queue = Queue::new(2);
    let (first, second) = (ready(&mut queue.reserve()).unwrap(), ready(&mut queue.reserve()).unwrap());
    assert_eq!(queue.put_nowait('x'), Err(PutNowaitError::QueueFull('x')));
    let mut waiting = pending(queue.put('c'));
    second.put('b').unwrap();
    drop(first);
    assert_eq!(ready(&mut waiting), Ok(()));
    assert_eq!((queue.get_nowait(), queue.get_nowait()), (Ok('b'), Ok('c')));
}

#[test]
fn two_hundred_and_fifty_getters_of_one_task_are_served_in_order() {
    let queue = Queue::new(3);
    let mut getters: Vec<_> = (0..250).map(|_| pending(queue.get())).collect();
    assert_eq!(queue.statistics().getters, 250);
    for (item, getter) in getters.iter_mut().enumerate() {
        ready(&mut queue.put(item)).unwrap();
        assert_eq!(ready(getter), Ok(item));
    }
}

#[test]
fn put_and_get_wait_for_each_other_in_both_directions_at_once() {
    let queue = Queue::new(1);
    let (put, got) = block_on(async {
        futures::join!(
            async {
                for item in 0..1000 {
                    queue.put(item).await.unwrap();
                }
            },
            queue.stream().take(1000).collect::<Vec<_>>(),
        )
    });
    let () = put;
    assert_eq!(got, (0..1000).collect::<Vec<_>>());
}

// === Many at once ===

#[test]
fn get_many_takes_what_is_there_up_to_the_limit() {
    let queue = Queue::new(0);
    let mut items = vec![0];
    assert_eq!(ready(&mut queue.get_many(&mut items, 0)), Ok(0));
    (1..=5).for_each(|item| queue.put_nowait(item).unwrap());
    assert_eq!(ready(&mut queue.get_many(&mut items, 2)), Ok(2));
    assert_eq!(ready(&mut queue.get_many(&mut items, 9)), Ok(3));
    assert_eq!(items, [0, 1, 2, 3, 4, 5]);
    queue.shutdown(false);
    assert_eq!(ready(&mut queue.get_many(&mut items, 1)), Err(QueueShutDown(())));
    assert_eq!(ready(&mut queue.get_many(&mut items, 0)), Ok(0));
}

#[test]
fn get_many_makes_room_for_as_many_putters() {
    let queue = Queue::new(2);
    (0..2).for_each(|item| queue.put_nowait(item).unwrap());
    let (woken, waker) = Woken::waker();
    let mut putters: Vec<_> = (2..5).map(|item| queue.put(item)).collect();
    assert!(putters.iter_mut().all(|putter| poll(putter, &waker).is_pending()));
    assert_eq!(ready(&mut queue.get_many(&mut vec![], 9)), Ok(2));
    assert_eq!(woken.times(), 2);
    let put: Vec<_> = putters.iter_mut().map(|putter| poll(putter, &waker).is_ready()).collect();
    assert_eq!(put, [true, true, false]);
}

// === task_done and join ===

#[test]
fn join_waits_until_all_is_reported_and_again_after_further_puts() {
    let queue = Queue::new(0);
    ready(&mut queue.join());
    queue.put_nowait(1).unwrap();
    queue.put_nowait(2).unwrap();
    let mut joins = [pending(queue.join()), pending(queue.join())];
    queue.get_nowait().unwrap();
    queue.get_nowait().unwrap();
    queue.task_done();
    assert!(joins.iter_mut().all(|join| poll(join, Waker::noop()).is_pending()));
    queue.task_done();
    queue.put_nowait(3).unwrap();
    joins.iter_mut().for_each(ready); // released, whatever came since
    drop(pending(queue.join()));
}

#[test]
#[should_panic(expected = "`Queue::task_done` was called more often than items were put")]
fn one_report_too_many_panics() {
    let queue = Queue::new(0);
    queue.put_nowait(1).unwrap();
    queue.task_done();
    queue.task_done();
}

#[test]
fn a_report_too_many_leaves_the_queue_in_order() {
    let queue = Queue::new(1);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| queue.task_done())).unwrap_err();
    queue.put_nowait(1).unwrap();
    assert_eq!(format!("{queue:?}"), "Queue [1/1, getters: 0, putters: 0, unfinished: 1]");
}

// === Shutdown ===

#[test]
fn a_shutdown_lets_what_is_in_the_queue_out_and_nothing_in() {
    let queue = Queue::new(2);
    (1..=2).for_each(|item| queue.put_nowait(item).unwrap());
    let mut putter = pending(queue.put(3));
    let slotless = pending(queue.reserve());
    queue.shutdown(false);
    assert_eq!(ready(&mut putter), Err(QueueShutDown(3)));
    drop(slotless);
    assert_eq!(queue.put_nowait(4), Err(PutNowaitError::QueueShutDown(4)));
    assert_eq!(ready(&mut queue.put(4)), Err(QueueShutDown(4)));
    assert!(ready(&mut queue.reserve()).is_err());
    assert_eq!((queue.get_nowait(), ready(&mut queue.get())), (Ok(1), Ok(2)));
    assert_eq!(queue.get_nowait(), Err(GetNowaitError::QueueShutDown));
    assert_eq!(ready(&mut queue.get()), Err(QueueShutDown(())));
    let mut join = pending(queue.join());
    queue.task_done();
    queue.task_done();
    ready(&mut join);
}

#[test]
fn a_putter_that_was_chosen_fails_too_when_the_shutdown_comes_first() {
    let queue = Queue::new(1);
    queue.put_nowait(1).unwrap();
    let mut chosen = pending(queue.put(2));
    let slot_before = {
        queue.get_nowait().unwrap();
        queue.full()
    };
    queue.shutdown(false);
    assert!(slot_before);
    assert_eq!(ready(&mut chosen), Err(QueueShutDown(2)));
    assert_eq!(queue.statistics().qsize, 0);
}

#[test]
fn a_slot_that_was_reserved_before_the_shutdown_gives_the_item_back() {
    let queue = Queue::new(1);
    let slot = ready(&mut queue.reserve()).unwrap();
    queue.shutdown(false);
    assert_eq!(slot.put(7), Err(QueueShutDown(7)));
    drop(ready(&mut Queue::<u8>::new(1).reserve()));
}

#[test]
fn getters_in_line_fail_at_once_when_an_empty_queue_is_shut_down() {
    let queue = Queue::<u8>::new(0);
    let [mut first, mut second] = [pending(queue.get()), pending(queue.get())];
    queue.shutdown(false);
    assert_eq!((ready(&mut first), ready(&mut second)), (Err(QueueShutDown(())), Err(QueueShutDown(()))));
}

#[test]
fn after_the_shutdown_no_item_is_left_for_a_getter_that_never_comes() {
    let queue = Queue::new(0);
    let [chosen, mut second] = [pending(queue.get()), pending(queue.get())];
    queue.put_nowait(1).unwrap();
    queue.shutdown(false);
    assert_eq!(ready(&mut second), Ok(1), "asyncio: who comes first takes what is left");
    drop(chosen);
    assert_eq!(queue.get_nowait(), Err(GetNowaitError::QueueShutDown));
}

#[test]
fn an_immediate_shutdown_drops_the_items_and_reports_them() {
    let queue = Queue::new(0);
    let item = Arc::new(());
    (0..3).for_each(|_| queue.put_nowait(item.clone()).unwrap());
    drop(queue.get_nowait().unwrap());
    let mut join = pending(queue.join());
    queue.shutdown(true);
    assert_eq!(Arc::strong_count(&item), 1);
    assert_eq!(queue.get_nowait().err(), Some(GetNowaitError::QueueShutDown));
    assert!(poll(&mut join, Waker::noop()).is_pending(), "one was taken before and is not reported");
    queue.task_done();
    ready(&mut join);
    assert_eq!(queue.statistics().unfinished, 0);
}

#[test]
fn a_shutdown_may_become_an_immediate_one() {
    let queue = Queue::new(0);
    queue.put_nowait(1).unwrap();
    let mut join = pending(queue.join());
    queue.shutdown(false);
    queue.shutdown(false);
    assert!(poll(&mut join, Waker::noop()).is_pending());
    queue.shutdown(true);
    ready(&mut join);
    assert!(queue.is_shut_down());
    assert_eq!(format!("{queue:?}"), "Queue [0, getters: 0, putters: 0, unfinished: 0, shut down]");
}

#[test]
fn reports_before_their_items_do_not_go_below_zero() {
    let queue = Queue::new(0);
    queue.put_nowait(1).unwrap();
    queue.task_done();
    queue.shutdown(true);
    assert_eq!(queue.statistics().unfinished, 0);
}

#[test]
fn items_dropped_by_a_shutdown_tell_those_who_wait_for_their_answers() {
    let queue = Queue::new(0);
    let (sender, receiver) = evenloop_sync::oneshot::channel::<u8>();
    queue.put_nowait(sender).unwrap();
    queue.shutdown(true);
    assert!(block_on(receiver).is_err());
}

// === What each state answers ===

#[test]
fn every_state_answers_as_the_table_says() {
    type Answers = (Result<(), PutNowaitError<u8>>, Result<u8, GetNowaitError>);
    const FULL: Result<(), PutNowaitError<u8>> = Err(PutNowaitError::QueueFull(9));
    const NO_MORE: Result<(), PutNowaitError<u8>> = Err(PutNowaitError::QueueShutDown(9));
    const EMPTY: Result<u8, GetNowaitError> = Err(GetNowaitError::QueueEmpty);
    const OVER: Result<u8, GetNowaitError> = Err(GetNowaitError::QueueShutDown);
    // A queue for two; how many items are in it, how many slots are reserved, and whether it was shut down.
    let table: [(usize, usize, bool, Answers); 11] = [
        (0, 0, false, (Ok(()), EMPTY)),
        (0, 1, false, (Ok(()), EMPTY)),
        (0, 2, false, (FULL, EMPTY)),
        (1, 0, false, (Ok(()), Ok(0))),
        (1, 1, false, (FULL, Ok(0))),
        (2, 0, false, (FULL, Ok(0))),
        (0, 0, true, (NO_MORE, OVER)),
        (0, 2, true, (NO_MORE, OVER)),
        (1, 0, true, (NO_MORE, Ok(0))),
        (1, 1, true, (NO_MORE, Ok(0))),
        (2, 0, true, (NO_MORE, Ok(0))),
    ];
    for (items, reserved, shut_down, (put, get)) in table {
        let queue = || {
            let queue = Queue::new(2);
            (0..items).for_each(|item| queue.put_nowait(item as u8).unwrap());
            queue
        };
        for waits in [false, true] {
            let queue = queue();
            let slots: Vec<_> = (0..reserved).map(|_| ready(&mut queue.reserve()).unwrap()).collect();
            if shut_down {
                queue.shutdown(false);
            }
            let row = format!("items {items}, reserved {reserved}, shut down {shut_down}, waits {waits}");
            if waits {
                let waited = poll(&mut queue.put(9), Waker::noop());
                assert_eq!(waited.is_pending(), put == FULL, "{row}");
                let got = poll(&mut queue.get(), Waker::noop());
                assert_eq!(got.is_pending(), get == EMPTY && put != Ok(()), "{row}");
            } else {
                assert_eq!(queue.get_nowait(), get, "{row}");
                if get.is_err() {
                    assert_eq!(queue.put_nowait(9), put, "{row}");
                }
            }
            drop(slots);
        }
        let queue = queue();
        let slots: Vec<_> = (0..reserved).map(|_| ready(&mut queue.reserve()).unwrap()).collect();
        if shut_down {
            queue.shutdown(false);
        }
        assert_eq!(queue.put_nowait(9), put, "items {items}, reserved {reserved}, shut down {shut_down}");
        drop(slots);
    }
}

#[test]
fn counts_seen_from_another_thread_are_always_possible() {
    let items = many(20_000) as u64;
    let queue = Queue::new(3);
    std::thread::scope(|threads| {
        threads.spawn(|| (0..items).for_each(|item| block_on(queue.put(item)).unwrap()));
        let getter =
            threads.spawn(|| (0..items).for_each(|item| assert_eq!(block_on(queue.get()), Ok(item))));
        while !getter.is_finished() {
            assert!(queue.qsize() <= 3);
            let statistics = queue.statistics();
            assert!(statistics.qsize <= 3 && statistics.unfinished <= items, "{statistics:?}");
            assert!(statistics.getters <= 1 && statistics.putters <= 1, "{statistics:?}");
            let _ = (queue.empty(), queue.full());
        }
    });
    assert!(queue.empty() && !queue.full());
}

#[test]
fn without_a_maxsize_any_number_fits() {
    let queue = Queue::new(0);
    (0..10_000).for_each(|item| queue.put_nowait(item).unwrap());
    assert!(!queue.full() && queue.maxsize() == 0);
}

// === Foreign code ===

/// Uses its queue when it is dropped, if it is told to.
struct Meddler(Arc<Queue<Meddler>>, bool);

impl Drop for Meddler {
    fn drop(&mut self) {
        if self.1 {
            // One that did the same would never end.
            assert!(self.0.put_nowait(Meddler(self.0.clone(), false)).is_err());
            self.0.statistics();
        }
    }
}

#[test]
fn an_item_may_use_its_queue_when_it_is_dropped() {
    let queue = Arc::new(Queue::new(1));
    queue.put_nowait(Meddler(queue.clone(), true)).ok().unwrap();
    let waiting = pending(queue.put(Meddler(queue.clone(), true)));
    drop(waiting);
    queue.shutdown(true);
}

/// A waker that panics.
struct Wild;

impl std::task::Wake for Wild {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics");
    }
}

/// Showed as an item that nobody had, for which `join` waited for ever.
#[test]
fn a_waker_that_panics_takes_no_item_with_it() {
    let get_one: fn(&Queue<u8>) -> u8 = |queue| ready(&mut queue.get()).unwrap();
    let get_nowait: fn(&Queue<u8>) -> u8 = |queue| queue.get_nowait().unwrap();
    let get_many: fn(&Queue<u8>) -> u8 = |queue| {
        let mut items = vec![];
        assert_eq!(ready(&mut queue.get_many(&mut items, 1)), Ok(1));
        items[0]
    };
    for get in [get_one, get_nowait, get_many] {
        let queue = Queue::new(1);
        queue.put_nowait(1).unwrap();
        let mut put = queue.put(2);
        assert!(poll(&mut put, &Waker::from(Arc::new(Wild))).is_pending());
        assert_eq!(get(&queue), 1);
        ready(&mut put).unwrap();
        assert_eq!(get(&queue), 2);
        queue.task_done();
        queue.task_done();
        ready(&mut queue.join());
    }
}

/// Panics when it is compared, if it is told to.
struct Touchy(Rc<Cell<bool>>);

impl Ord for Touchy {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        assert!(!self.0.get(), "a comparison that panics");
        std::cmp::Ordering::Equal
    }
}

impl PartialOrd for Touchy {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Touchy {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Touchy {}

#[test]
fn a_comparison_that_panics_blocks_nobody() {
    let queue = PriorityQueue::new(0);
    let panics = Rc::new(Cell::new(false));
    let [mut first, mut second] = [pending(queue.get()), pending(queue.get())];
    queue.put_nowait(Touchy(panics.clone())).ok().unwrap();
    panics.set(true);
    let put = std::panic::AssertUnwindSafe(|| queue.put_nowait(Touchy(panics.clone())));
    assert!(std::panic::catch_unwind(put).is_err());
    panics.set(false);
    assert!(ready(&mut first).is_ok() && ready(&mut second).is_ok(), "both items are in the queue");
}

#[test]
fn a_comparison_that_panics_in_a_get_keeps_no_putter_waiting() {
    let queue = PriorityQueue::new(3);
    let panics = Rc::new(Cell::new(false));
    let touchy = || Touchy(panics.clone());
    (0..3).try_for_each(|_| queue.put_nowait(touchy())).ok().unwrap();
    let woken = [Woken::waker(), Woken::waker()];
    let mut puts = [queue.put(touchy()), queue.put(touchy())];
    for (put, (_, waker)) in puts.iter_mut().zip(&woken) {
        assert!(poll(put, waker).is_pending());
    }
    panics.set(true);
    let get = std::panic::AssertUnwindSafe(|| queue.get_nowait());
    assert!(std::panic::catch_unwind(get).is_err());
    panics.set(false);
    assert_eq!(woken.each_ref().map(|(woken, _)| woken.times()), [1, 0], "an item is gone");
    ready(&mut puts[0]).unwrap();

    panics.set(true);
    let get_many = std::panic::AssertUnwindSafe(|| queue.get_many(&mut vec![], 3).now_or_never());
    assert!(std::panic::catch_unwind(get_many).is_err());
    panics.set(false);
    assert_eq!(woken[1].0.times(), 1, "an item is gone");
    ready(&mut puts[1]).unwrap();
    assert_eq!((queue.qsize(), queue.full()), (3, true));
}

/// Looks at its queue when it is dropped.
struct Looker {
    touchy: Touchy,
    queue: std::rc::Weak<PriorityQueue<Looker>>,
    /// How many items it has seen there.
    seen: Rc<Cell<usize>>,
}

impl Ord for Looker {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.touchy.cmp(&other.touchy)
    }
}

impl PartialOrd for Looker {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Looker {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Looker {}

impl Drop for Looker {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.upgrade() {
            self.seen.set(queue.qsize());
        }
    }
}

/// Showed as a destructor that waited for the lock its own thread held.
#[test]
fn an_item_that_a_comparison_loses_may_use_its_queue_when_it_is_dropped() {
    let get_nowait: fn(&PriorityQueue<Looker>) = |queue| drop(queue.get_nowait());
    let get: fn(&PriorityQueue<Looker>) = |queue| drop(queue.get().now_or_never());
    let get_many: fn(&PriorityQueue<Looker>) =
        |queue| assert!(queue.get_many(&mut vec![], 1).now_or_never().is_none());
    for get in [get_nowait, get, get_many] {
        let queue = Rc::new(PriorityQueue::new(0));
        let (panics, seen) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        for _ in 0..5 {
            let touchy = Touchy(panics.clone());
            let item = Looker { touchy, queue: Rc::downgrade(&queue), seen: seen.clone() };
            queue.put_nowait(item).ok().unwrap();
        }
        panics.set(true);
        catch_unwind(AssertUnwindSafe(|| get(&queue))).expect_err("the comparison's panic");
        assert_eq!(seen.get(), 4);
    }
}

/// Showed as a stream that panicked for ever, where it had waited before.
#[test]
fn a_stream_goes_on_after_a_comparison_that_panics() {
    for waits in [false, true] {
        let queue = PriorityQueue::new(0);
        let panics = Rc::new(Cell::new(false));
        let mut stream = queue.stream();
        if waits {
            assert!(stream.next().now_or_never().is_none());
        }
        (0..4).try_for_each(|_| queue.put_nowait(Touchy(panics.clone()))).ok().unwrap();
        panics.set(true);
        catch_unwind(AssertUnwindSafe(|| stream.next().now_or_never().is_some()))
            .expect_err("the comparison's panic");
        panics.set(false);
        (0..3).for_each(|_| assert!(block_on(stream.next()).is_some()));
        assert!(stream.next().now_or_never().is_none(), "one item is gone");
    }
}

#[test]
fn a_future_that_is_polled_after_its_end_says_so_and_touches_nothing() {
    fn again<F: Future + Unpin>(mut future: F) -> String {
        let _ended = ready(&mut future);
        panic_of(|| poll(&mut future, Waker::noop()).is_ready())
    }
    let queue = Queue::new(4);
    let end = |call| format!("`Queue::{call}` was polled after it had finished");
    assert_eq!(again(queue.put(1)), end("put"));
    assert_eq!(again(queue.reserve()), end("reserve"));
    (2..4).try_for_each(|item| queue.put_nowait(item)).unwrap();
    assert_eq!(again(queue.get()), end("get"));
    assert_eq!(again(queue.get_many(&mut vec![], 1)), end("get_many"));
    let mut waiting = pending({
        assert_eq!(queue.get_nowait(), Ok(3));
        queue.get()
    });
    queue.put_nowait(4).unwrap();
    queue.put_nowait(5).unwrap();
    assert_eq!(ready(&mut waiting), Ok(4));
    assert_eq!(panic_of(|| poll(&mut waiting, Waker::noop()).is_ready()), end("get"));
    assert_eq!(queue.get_nowait(), Ok(5));
}

// === Stream and sink ===

#[test]
fn a_stream_ends_with_the_queue_and_stays_ended() {
    let queue = Queue::new(0);
    let mut stream = queue.stream();
    assert!(stream.next().now_or_never().is_none());
    queue.put_nowait(1).unwrap();
    queue.put_nowait(2).unwrap();
    queue.shutdown(false);
    assert_eq!(block_on(stream.by_ref().collect::<Vec<_>>()), [1, 2]);
    assert!(stream.is_terminated());
    assert_eq!(format!("{stream:?}"), "QueueStream [ended]");
    assert_eq!(block_on(stream.next()), None);
}

#[test]
fn a_stream_that_is_dropped_hands_on_what_it_was_promised() {
    let queue = Queue::new(0);
    let mut stream = queue.stream();
    assert!(stream.next().now_or_never().is_none());
    queue.put_nowait(1).unwrap();
    assert!(queue.empty());
    drop(stream);
    assert_eq!(queue.get_nowait(), Ok(1));
}

#[test]
fn a_sink_puts_and_gives_back_what_a_shutdown_refuses() {
    let queue = Queue::new(1);
    let mut sink = queue.sink();
    block_on(sink.send(1)).unwrap();
    assert!(sink.send(2).now_or_never().is_none(), "the queue is full");
    assert_eq!(queue.get_nowait(), Ok(1));
    block_on(sink.feed(3)).unwrap();
    assert_eq!(queue.get_nowait(), Ok(3), "2 was never taken from its future");
    block_on(futures::future::poll_fn(|cx| sink.poll_ready_unpin(cx))).unwrap();
    assert!(queue.full());
    queue.shutdown(false);
    assert_eq!(sink.start_send_unpin(4), Err(QueueShutDown(Some(4))));
    assert_eq!(block_on(sink.send(5)), Err(QueueShutDown(None)));
    block_on(sink.close()).unwrap();
}

/// Showed as a slot that nobody could have: the closed sink kept it.
#[test]
fn a_sink_that_is_closed_gives_up_its_slot_and_its_place_in_line() {
    let queue = Queue::new(1);
    let mut sink = queue.sink();
    block_on(futures::future::poll_fn(|cx| sink.poll_ready_unpin(cx))).unwrap();
    block_on(sink.close()).unwrap();
    assert_eq!(queue.put_nowait(0), Ok(()));

    let mut sinks = [queue.sink(), queue.sink()];
    for sink in &mut sinks {
        assert!(futures::future::poll_fn(|cx| sink.poll_ready_unpin(cx)).now_or_never().is_none());
    }
    let mut put = pending(queue.put(1));
    let [waits, chosen] = &mut sinks;
    block_on(waits.close()).unwrap();
    assert_eq!(queue.get_nowait(), Ok(0), "the other sink is promised the slot");
    assert!(poll(&mut put, Waker::noop()).is_pending());
    block_on(chosen.close()).unwrap();
    ready(&mut put).unwrap();
}

#[test]
fn debug_shows_the_state() {
    let queue = Queue::new(1);
    let get = pending(queue.get());
    assert_eq!(
        format!("{queue:?} {get:?}"),
        "Queue [0/1, getters: 1, putters: 0, unfinished: 0] QueueGet [waiting]"
    );
    drop(get);
    queue.put_nowait('a').unwrap();
    let put = pending(queue.put('b'));
    assert_eq!(
        format!("{queue:?} {put:?}"),
        "Queue [1/1, getters: 0, putters: 1, unfinished: 1] QueuePut [waiting]"
    );
    assert_eq!(
        format!("{:?}", LifoQueue::<u8>::new(0)),
        "LifoQueue [0, getters: 0, putters: 0, unfinished: 0]"
    );
    assert_eq!(
        format!("{:?}", PriorityQueue::<u8>::new(2)),
        "PriorityQueue [0/2, getters: 0, putters: 0, unfinished: 0]"
    );
    let error = queue.put_nowait('c').unwrap_err();
    assert_eq!(format!("{error:?}: {error}"), "QueueFull: the queue is full");
    assert_eq!(error.into_inner(), 'c');
}

// === Any sequence, against a twin ===

#[derive(Clone, Copy, Debug)]
enum Operation {
    Put,
    PutNowait,
    Reserve,
    Get,
    GetNowait,
    Join,
    /// Polls one of the futures that wait.
    Poll(usize),
    /// Drops one of the futures that wait.
    Drop(usize),
    /// Puts into one of the slots.
    FillSlot(usize),
    DropSlot(usize),
    TaskDone,
    Shutdown(bool),
}

/// Somebody in line. After the shutdown everybody counts as chosen.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    id: u32,
    chosen: bool,
}

/// The rules, told with lists: after every step whoever can be chosen is chosen, first come, first served.
#[derive(Debug, Default)]
struct Twin {
    maxsize: usize,
    items: VecDeque<u32>,
    getters: Vec<Waiter>,
    putters: Vec<Waiter>,
    joiners: Vec<Waiter>,
    slots: usize,
    unfinished: u64,
    shut_down: bool,
}

impl Twin {
    fn chosen(line: &[Waiter]) -> usize {
        line.iter().filter(|waiter| waiter.chosen).count()
    }

    fn free_items(&self) -> usize {
        self.items.len() - if self.shut_down { 0 } else { Self::chosen(&self.getters) }
    }

    fn free_slots(&self) -> usize {
        let promised = if self.shut_down { 0 } else { Self::chosen(&self.putters) + self.slots };
        (if self.maxsize == 0 { 1000 } else { self.maxsize }) - self.items.len() - promised
    }

    fn settle(&mut self) {
        let choose = |line: &mut Vec<Waiter>, count: usize| {
            line.iter_mut()
                .filter(|waiter| !waiter.chosen)
                .take(count)
                .for_each(|waiter| waiter.chosen = true);
        };
        let (items, slots) = (self.free_items(), self.free_slots());
        choose(&mut self.getters, if self.shut_down { usize::MAX } else { items });
        choose(&mut self.putters, if self.shut_down { usize::MAX } else { slots });
        choose(&mut self.joiners, if self.unfinished == 0 { usize::MAX } else { 0 });
    }

    /// Leaves the line. Answers whether it may act now: it was chosen, or it is new.
    fn turn(line: &mut Vec<Waiter>, id: u32) -> bool {
        let Some(place) = line.iter().position(|waiter| waiter.id == id) else { return true };
        line[place].chosen && {
            line.remove(place);
            true
        }
    }

    /// What putting does, or None to wait. `item` is None for a reserve.
    fn put(&mut self, id: u32, item: Option<u32>) -> Option<Result<(), ()>> {
        if !Self::turn(&mut self.putters, id) {
            return None;
        }
        match () {
            () if self.shut_down => Some(Err(())),
            () if self.free_slots() > 0 => {
                match item {
                    Some(item) => self.place(item),
                    None => self.slots += 1,
                }
                Some(Ok(()))
            }
            () => {
                self.putters.push(Waiter { id, chosen: false });
                None
            }
        }
    }

    fn place(&mut self, item: u32) {
        self.items.push_back(item);
        self.unfinished += 1;
    }

    fn place_if<E>(&mut self, item: u32, refused: Option<E>) -> Result<(), E> {
        match refused {
            Some(refused) => Err(refused),
            None => {
                self.place(item);
                Ok(())
            }
        }
    }

    fn get(&mut self, id: u32) -> Option<Result<u32, ()>> {
        if !Self::turn(&mut self.getters, id) {
            return None;
        }
        match () {
            () if self.free_items() > 0 => Some(Ok(self.items.pop_front().unwrap())),
            () if self.shut_down => Some(Err(())),
            () => {
                self.getters.push(Waiter { id, chosen: false });
                None
            }
        }
    }

    fn join(&mut self, id: u32) -> Option<()> {
        let waits = self.joiners.iter().any(|waiter| waiter.id == id);
        if waits {
            return Self::turn(&mut self.joiners, id).then_some(());
        }
        if self.unfinished > 0 {
            self.joiners.push(Waiter { id, chosen: false });
            return None;
        }
        Some(())
    }

    fn forget(&mut self, id: u32) {
        for line in [&mut self.getters, &mut self.putters, &mut self.joiners] {
            line.retain(|waiter| waiter.id != id);
        }
    }
}

/// A future in line, and the number that the twin knows it by.
enum Waiting<'a> {
    Put(u32, QueuePut<'a, u32>),
    Reserve(u32, QueueReserve<'a, u32>),
    Get(u32, QueueGet<'a, u32>),
    Join(u32, QueueJoin<'a, u32>),
}

impl Waiting<'_> {
    fn id(&self) -> u32 {
        match self {
            Self::Put(id, _) | Self::Reserve(id, _) | Self::Get(id, _) | Self::Join(id, _) => *id,
        }
    }
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => Just(Operation::Put),
        2 => Just(Operation::PutNowait),
        2 => Just(Operation::Reserve),
        6 => Just(Operation::Get),
        2 => Just(Operation::GetNowait),
        1 => Just(Operation::Join),
        8 => any::<usize>().prop_map(Operation::Poll),
        4 => any::<usize>().prop_map(Operation::Drop),
        2 => any::<usize>().prop_map(Operation::FillSlot),
        1 => any::<usize>().prop_map(Operation::DropSlot),
        3 => Just(Operation::TaskDone),
        1 => prop_oneof![9 => Just(Operation::Poll(0)), 1 => any::<bool>().prop_map(Operation::Shutdown)],
    ]
}

fn check(maxsize: usize, operations: &[Operation]) {
    let queue = Queue::new(maxsize);
    let mut twin = Twin { maxsize, ..Twin::default() };
    let mut waiting: Vec<Waiting<'_>> = vec![];
    let mut slots: Vec<QueueSlot<'_, u32>> = vec![];
    let mut woken = std::collections::HashMap::new();
    for (id, operation) in (0..).zip(operations) {
        // Who polls: a newcomer, or one of those in line.
        let turn = match *operation {
            Operation::Put => Some(Waiting::Put(id, queue.put(id))),
            Operation::Reserve => Some(Waiting::Reserve(id, queue.reserve())),
            Operation::Get => Some(Waiting::Get(id, queue.get())),
            Operation::Join => Some(Waiting::Join(id, queue.join())),
            Operation::Poll(n) if !waiting.is_empty() => Some(waiting.remove(n % waiting.len())),
            _ => None,
        };
        match *operation {
            Operation::PutNowait => {
                let refused = match () {
                    () if twin.shut_down => Some(PutNowaitError::QueueShutDown(id)),
                    () if twin.free_slots() == 0 => Some(PutNowaitError::QueueFull(id)),
                    () => None,
                };
                assert_eq!(queue.put_nowait(id), twin.place_if(id, refused));
            }
            Operation::GetNowait => {
                let expected = match () {
                    () if twin.free_items() > 0 => Ok(twin.items.pop_front().unwrap()),
                    () if twin.shut_down => Err(GetNowaitError::QueueShutDown),
                    () => Err(GetNowaitError::QueueEmpty),
                };
                assert_eq!(queue.get_nowait(), expected);
            }
            Operation::Drop(n) if !waiting.is_empty() => {
                let gone = waiting.remove(n % waiting.len());
                twin.forget(gone.id());
            }
            Operation::FillSlot(n) if !slots.is_empty() => {
                let put = slots.remove(n % slots.len()).put(id);
                twin.slots -= 1;
                assert_eq!(put, twin.place_if(id, twin.shut_down.then_some(QueueShutDown(id))));
            }
            Operation::DropSlot(n) if !slots.is_empty() => {
                drop(slots.remove(n % slots.len()));
                twin.slots -= 1;
            }
            Operation::TaskDone if twin.unfinished > 0 => {
                queue.task_done();
                twin.unfinished -= 1;
            }
            Operation::Shutdown(immediate) => {
                queue.shutdown(immediate);
                twin.shut_down = true;
                if immediate {
                    twin.unfinished = twin.unfinished.saturating_sub(twin.items.len() as u64);
                    twin.items.clear();
                }
            }
            _ => {}
        }
        if let Some(mut turn) = turn {
            let (count, waker) = Woken::waker();
            let done = match &mut turn {
                Waiting::Put(id, put) => {
                    let put =
                        poll(put, &waker).map(|put| put.map_err(|QueueShutDown(item)| assert_eq!(item, *id)));
                    let expected = twin.put(*id, Some(*id));
                    assert_eq!(put, expected.map_or(Poll::Pending, Poll::Ready));
                    put.is_ready()
                }
                Waiting::Reserve(id, reserve) => {
                    let reserved = poll(reserve, &waker);
                    let expected = twin.put(*id, None);
                    let done = reserved.is_ready();
                    assert_eq!(done, expected.is_some());
                    if let Poll::Ready(reserved) = reserved {
                        assert_eq!(reserved.is_ok(), expected == Some(Ok(())));
                        slots.extend(reserved.ok());
                    }
                    done
                }
                Waiting::Get(id, get) => {
                    let got = poll(get, &waker).map(|got| got.map_err(|QueueShutDown(())| ()));
                    assert_eq!(got, twin.get(*id).map_or(Poll::Pending, Poll::Ready));
                    got.is_ready()
                }
                Waiting::Join(id, join) => {
                    let joined = poll(join, &waker);
                    assert_eq!(joined, twin.join(*id).map_or(Poll::Pending, Poll::Ready));
                    joined.is_ready()
                }
            };
            if !done {
                woken.insert(turn.id(), count);
                waiting.push(turn);
            }
        }
        twin.settle();
        let statistics = queue.statistics();
        assert_eq!(statistics.qsize, twin.items.len());
        assert_eq!(statistics.unfinished, twin.unfinished);
        let lines = [&twin.getters, &twin.putters, &twin.joiners];
        let in_line = lines.map(|line| line.iter().filter(|waiter| !waiter.chosen).count());
        assert_eq!([statistics.getters, statistics.putters, statistics.joiners], in_line);
        assert_eq!((queue.empty(), queue.full()), (twin.free_items() == 0, twin.free_slots() == 0));
        // Whoever was chosen was woken, once; nobody else was.
        for waiter in lines.into_iter().flatten() {
            assert_eq!(woken[&waiter.id].times(), usize::from(waiter.chosen), "{waiter:?}");
        }
    }
    // What is left in the queue is what was not taken, in order.
    drop(slots);
    drop(waiting);
    let left: VecDeque<_> = std::iter::from_fn(|| queue.get_nowait().ok()).collect();
    assert_eq!(left, twin.items);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: many(2_000) as u32, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_doubled_or_out_of_order(maxsize in 0_usize..4, operations in prop::collection::vec(operation(), 1..60)) {
        check(maxsize, &operations);
    }
}
