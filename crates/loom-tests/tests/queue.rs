//! Models of sync's `Queue`.

use evenloop_core::shim::{Arc, StdArc, thread};
use evenloop_loom_tests::{Outcomes, Witness, Woken, block_on, model, model_reaching, poll};
use evenloop_sync::{GetNowaitError, PutNowaitError, Queue, QueueShutDown};
use std::pin::{Pin, pin};

/// What is put: reading it checks the order, and loom reports it when it leaks.
struct Item {
    witness: Witness,
    _leak: Arc<()>,
}

impl Item {
    fn new(value: u32) -> Self {
        Self { witness: Witness::new(value), _leak: Arc::new(()) }
    }

    fn read(&self) -> u32 {
        self.witness.get()
    }
}

fn queue(maxsize: usize) -> StdArc<Queue<Item>> {
    StdArc::new(Queue::new(maxsize))
}

/// Do a getter that waits and a putter meet, and does the item arrive whole?
#[test]
fn put_races_get() {
    model(|| {
        let queue = queue(1);
        let putter = thread::spawn({
            let queue = queue.clone();
            move || block_on(queue.put(Item::new(7))).unwrap()
        });
        assert_eq!(block_on(queue.get()).unwrap().read(), 7);
        putter.join().unwrap();
    });
}

/// Does a putter that waits for a slot get it, and do the items stay in order?
#[test]
fn get_races_put_on_a_full_queue() {
    model(|| {
        let queue = queue(1);
        assert!(queue.put_nowait(Item::new(1)).is_ok());
        let getter = thread::spawn({
            let queue = queue.clone();
            move || block_on(queue.get()).unwrap().read()
        });
        block_on(queue.put(Item::new(2))).unwrap();
        assert_eq!(getter.join().unwrap(), 1);
        assert_eq!(queue.get_nowait().unwrap().read(), 2);
    });
}

/// When two threads put at once, is each item there, once, and does the lock order them?
#[test]
fn put_nowait_races_put_nowait() {
    model_reaching(["1 before 2", "2 before 1"], |outcomes: Outcomes| {
        let queue = queue(0);
        let other = thread::spawn({
            let queue = queue.clone();
            move || assert!(queue.put_nowait(Item::new(1)).is_ok())
        });
        assert!(queue.put_nowait(Item::new(2)).is_ok());
        other.join().unwrap();
        let items = [(); 2].map(|()| queue.get_nowait().unwrap().read());
        outcomes.count(match items {
            [1, 2] => "1 before 2",
            [2, 1] => "2 before 1",
            _ => panic!("an item was lost or doubled: {items:?}"),
        });
    });
}

/// When the first getter in line is dropped while an item comes, does the second get it?
#[test]
fn cancel_of_getter_races_put() {
    model(|| {
        let queue = queue(0);
        let (_, waker) = Woken::waker();
        let mut first = queue.get();
        let mut second = pin!(queue.get());
        assert!(poll(Pin::new(&mut first), &waker).is_pending());
        assert!(poll(second.as_mut(), &waker).is_pending());
        let putter = thread::spawn({
            let queue = queue.clone();
            move || assert!(queue.put_nowait(Item::new(7)).is_ok())
        });
        drop(first);
        assert_eq!(block_on(second).unwrap().read(), 7);
        putter.join().unwrap();
        assert_eq!(queue.statistics().getters, 0);
    });
}

/// When the first putter in line is dropped while a slot becomes free, does the second get it, and is nothing put twice?
#[test]
fn cancel_of_putter_races_get() {
    model(|| {
        let queue = queue(1);
        let (_, waker) = Woken::waker();
        assert!(queue.put_nowait(Item::new(1)).is_ok());
        let mut first = queue.put(Item::new(2));
        let mut second = pin!(queue.put(Item::new(3)));
        assert!(poll(Pin::new(&mut first), &waker).is_pending());
        assert!(poll(second.as_mut(), &waker).is_pending());
        let getter = thread::spawn({
            let queue = queue.clone();
            move || queue.get_nowait().unwrap().read()
        });
        drop(first);
        block_on(second).unwrap();
        assert_eq!(getter.join().unwrap(), 1);
        assert_eq!(queue.get_nowait().unwrap().read(), 3);
    });
}

/// Does a slot that was promised to a putter stay its own, whoever else tries to put meanwhile?
#[test]
fn newcomer_races_get_on_a_full_queue() {
    model_reaching(["refused", "put after"], |outcomes: Outcomes| {
        let queue = queue(1);
        let (_, waker) = Woken::waker();
        assert!(queue.put_nowait(Item::new(1)).is_ok());
        let mut waiting = pin!(queue.put(Item::new(2)));
        assert!(poll(waiting.as_mut(), &waker).is_pending());
        let getter = thread::spawn({
            let queue = queue.clone();
            move || {
                let first = block_on(queue.get()).unwrap().read();
                (first, block_on(queue.get()).unwrap().read())
            }
        });
        let refused = queue.put_nowait(Item::new(3)).is_err();
        assert!(refused, "it overtook the putter in line");
        block_on(waiting).unwrap();
        let put = queue.put_nowait(Item::new(3)).is_ok();
        outcomes.count(if put { "put after" } else { "refused" });
        assert_eq!(getter.join().unwrap(), (1, 2));
        assert_eq!(
            queue.get_nowait().map(|item| item.read()),
            if put { Ok(3) } else { Err(GetNowaitError::QueueEmpty) }
        );
    });
}

/// When a getter moves to another task while an item comes, is the task that holds it now woken?
#[test]
fn waker_moves_while_put() {
    model(|| {
        let queue = queue(0);
        let (left_behind, waker) = Woken::waker();
        let mut get = pin!(queue.get());
        assert!(poll(get.as_mut(), &waker).is_pending());
        drop(waker);
        let putter = thread::spawn({
            let queue = queue.clone();
            move || assert!(queue.put_nowait(Item::new(7)).is_ok())
        });
        assert_eq!(block_on(get).unwrap().read(), 7);
        putter.join().unwrap();
        assert_eq!(StdArc::strong_count(&left_behind), 1);
    });
}

/// When a putter moves to another task while a slot becomes free, is the task that holds it now woken?
#[test]
fn waker_moves_while_get() {
    model(|| {
        let queue = queue(1);
        let (left_behind, waker) = Woken::waker();
        assert!(queue.put_nowait(Item::new(1)).is_ok());
        let mut put = pin!(queue.put(Item::new(2)));
        assert!(poll(put.as_mut(), &waker).is_pending());
        drop(waker);
        let getter = thread::spawn({
            let queue = queue.clone();
            move || assert_eq!(queue.get_nowait().unwrap().read(), 1)
        });
        block_on(put).unwrap();
        getter.join().unwrap();
        assert_eq!(StdArc::strong_count(&left_behind), 1);
    });
}

/// When the queue is shut down while somebody puts, is the item either in the queue or back in hand?
#[test]
fn shutdown_races_put() {
    model_reaching(["put", "refused"], |outcomes: Outcomes| {
        let queue = queue(1);
        let other = thread::spawn({
            let queue = queue.clone();
            move || queue.shutdown(false)
        });
        let put = block_on(queue.put(Item::new(7)));
        outcomes.count(if put.is_ok() { "put" } else { "refused" });
        other.join().unwrap();
        match put {
            Ok(()) => assert_eq!(queue.get_nowait().unwrap().read(), 7),
            Err(QueueShutDown(item)) => assert_eq!(item.read(), 7),
        }
        assert_eq!(queue.get_nowait().err(), Some(GetNowaitError::QueueShutDown));
        assert!(matches!(queue.put_nowait(Item::new(8)), Err(PutNowaitError::QueueShutDown(_))));
    });
}

/// Does a putter that waits for a slot learn of the shutdown, and get its item back?
#[test]
fn shutdown_races_waiting_put() {
    model(|| {
        let queue = queue(1);
        assert!(queue.put_nowait(Item::new(1)).is_ok());
        let other = thread::spawn({
            let queue = queue.clone();
            move || queue.shutdown(false)
        });
        let Err(QueueShutDown(item)) = block_on(queue.put(Item::new(2))) else { panic!("the queue is full") };
        assert_eq!(item.read(), 2);
        other.join().unwrap();
    });
}

/// Does a putter that waits for a slot learn of the shutdown, though a slot becomes free at the same time?
#[test]
fn shutdown_races_get_on_a_full_queue() {
    model_reaching(["put", "refused"], |outcomes: Outcomes| {
        let queue = queue(1);
        let (_, waker) = Woken::waker();
        assert!(queue.put_nowait(Item::new(1)).is_ok());
        let mut put = pin!(queue.put(Item::new(2)));
        assert!(poll(put.as_mut(), &waker).is_pending());
        let other = thread::spawn({
            let queue = queue.clone();
            move || {
                assert_eq!(queue.get_nowait().unwrap().read(), 1);
                queue.shutdown(false);
            }
        });
        let put = block_on(put);
        outcomes.count(if put.is_ok() { "put" } else { "refused" });
        other.join().unwrap();
        assert_eq!(queue.get_nowait().is_ok(), put.is_ok());
    });
}

/// When the queue is shut down while getters wait and an item comes, does one get the item and do all others learn of it?
#[test]
fn shutdown_races_get() {
    model_reaching(["got", "nothing came"], |outcomes: Outcomes| {
        let queue = queue(0);
        let (_, waker) = Woken::waker();
        let mut first = queue.get();
        let mut second = pin!(queue.get());
        assert!(poll(Pin::new(&mut first), &waker).is_pending());
        assert!(poll(second.as_mut(), &waker).is_pending());
        let other = thread::spawn({
            let queue = queue.clone();
            move || queue.shutdown(false)
        });
        let put = queue.put_nowait(Item::new(7)).is_ok();
        // The item was promised to this one, if it came.
        drop(first);
        let got = block_on(second).map(|item| item.read());
        assert_eq!(got.is_ok(), put);
        outcomes.count(if put { "got" } else { "nothing came" });
        other.join().unwrap();
    });
}

/// When the queue is shut down at once while an item is in it, does exactly one side have the item?
#[test]
fn immediate_shutdown_races_get() {
    model_reaching(["got", "dropped"], |outcomes: Outcomes| {
        let queue = queue(0);
        assert!(queue.put_nowait(Item::new(7)).is_ok());
        let other = thread::spawn({
            let queue = queue.clone();
            move || queue.shutdown(true)
        });
        match block_on(queue.get()) {
            Ok(item) => {
                outcomes.count("got");
                assert_eq!(item.read(), 7);
                queue.task_done();
            }
            Err(_) => outcomes.count("dropped"),
        }
        block_on(queue.join());
        other.join().unwrap();
        assert_eq!(queue.statistics().unfinished, 0);
    });
}

/// Does whoever waits for `join` see all that was done before the last report?
#[test]
fn task_done_races_join() {
    model(|| {
        let queue = queue(0);
        let done = StdArc::new(Witness::new(0));
        assert!(queue.put_nowait(Item::new(7)).is_ok());
        let worker = thread::spawn({
            let (queue, done) = (queue.clone(), done.clone());
            move || {
                drop(queue.get_nowait().unwrap());
                done.set(1);
                queue.task_done();
            }
        });
        block_on(queue.join());
        assert_eq!(done.get(), 1);
        worker.join().unwrap();
    });
}

/// When one of two that wait for `join` gives up while the last item is reported, is the other one released?
#[test]
fn cancel_of_join_races_task_done() {
    model(|| {
        let queue = queue(0);
        let (_, waker) = Woken::waker();
        assert!(queue.put_nowait(Item::new(7)).is_ok());
        let mut first = queue.join();
        let mut second = pin!(queue.join());
        assert!(poll(Pin::new(&mut first), &waker).is_pending());
        assert!(poll(second.as_mut(), &waker).is_pending());
        let worker = thread::spawn({
            let queue = queue.clone();
            move || queue.task_done()
        });
        drop(first);
        block_on(second);
        worker.join().unwrap();
        assert_eq!(queue.statistics().joiners, 0);
    });
}

/// Is a slot that was reserved and given back free again for the putter in line?
#[test]
fn drop_of_slot_races_put() {
    model(|| {
        let queue = queue(1);
        let slot = block_on(queue.reserve()).unwrap();
        let putter = thread::spawn({
            let queue = queue.clone();
            move || block_on(queue.put(Item::new(7))).unwrap()
        });
        drop(slot);
        assert_eq!(block_on(queue.get()).unwrap().read(), 7);
        putter.join().unwrap();
    });
}

/// Does taking many at once give each of their slots to a putter in line?
#[test]
fn get_many_races_putters() {
    model(|| {
        let queue = queue(1);
        assert!(queue.put_nowait(Item::new(1)).is_ok());
        let putter = thread::spawn({
            let queue = queue.clone();
            move || block_on(queue.put(Item::new(2))).unwrap()
        });
        let mut items = vec![];
        while items.len() < 2 {
            block_on(queue.get_many(&mut items, 2)).unwrap();
        }
        assert_eq!(items.iter().map(Item::read).collect::<Vec<_>>(), [1, 2]);
        putter.join().unwrap();
    });
}
