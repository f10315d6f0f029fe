//! Models of sync's `RwLock`.

use evenloop_core::shim::{StdArc, thread};
use evenloop_loom_tests::{Outcomes, Witness, Woken, block_on, model, model_reaching, poll};
use evenloop_sync::RwLock;
use std::pin::pin;
use std::task::Waker;

fn lock() -> StdArc<RwLock<Witness>> {
    StdArc::new(RwLock::new(Witness::new(0)))
}

fn write(lock: &RwLock<Witness>) {
    let guard = block_on(lock.write());
    guard.set(guard.get() + 1);
}

/// Does a reader see the value before the writer or after it, and never during?
#[test]
fn read_races_write() {
    model_reaching(["before", "after"], |outcomes: Outcomes| {
        let lock = lock();
        let writer = thread::spawn({
            let lock = lock.clone();
            move || write(&lock)
        });
        let guard = block_on(lock.read());
        outcomes.count(if guard.get() == 0 { "before" } else { "after" });
        drop(guard);
        writer.join().unwrap();
        assert_eq!(lock.try_read().expect("free").get(), 1);
    });
}

/// Do two writers write one after the other?
#[test]
fn write_races_write() {
    model(|| {
        let lock = lock();
        let writer = thread::spawn({
            let lock = lock.clone();
            move || write(&lock)
        });
        write(&lock);
        writer.join().unwrap();
        assert_eq!(lock.try_read().expect("free").get(), 2);
    });
}

/// Does a writer that waits for two readers write after both, though they go at the same time?
#[test]
fn readers_release_while_writer_waits() {
    model(|| {
        let lock = lock();
        let readers = [lock.clone(), lock.clone()].map(|lock| block_on(lock.read_owned()));
        let (_, waker) = Woken::waker();
        let mut writer = pin!(lock.write());
        assert!(poll(writer.as_mut(), &waker).is_pending());
        let [one, two] = readers;
        let other = thread::spawn(move || {
            assert_eq!(one.get(), 0);
            drop(one);
        });
        assert_eq!(two.get(), 0);
        drop(two);
        block_on(writer).set(1);
        other.join().unwrap();
    });
}

/// When a writer gives up while a reader goes, are the readers behind it served?
#[test]
fn cancel_of_writer_races_release() {
    model(|| {
        let lock = lock();
        let reader = block_on(lock.read_owned());
        let mut writer = Box::pin(lock.write_owned());
        assert!(poll(writer.as_mut(), Waker::noop()).is_pending());
        let (_, waker) = Woken::waker();
        let mut behind = pin!(lock.read());
        assert!(poll(behind.as_mut(), &waker).is_pending());
        let other = thread::spawn(move || drop(writer));
        drop(reader);
        assert_eq!(block_on(behind).get(), 0);
        other.join().unwrap();
        assert!(lock.try_write().is_some());
    });
}

/// Does a reader that comes while a writer waits stay behind it?
#[test]
fn newcomer_never_overtakes() {
    model(|| {
        let lock = lock();
        let reader = block_on(lock.read_owned());
        let mut writer = pin!(lock.write());
        assert!(poll(writer.as_mut(), Waker::noop()).is_pending());
        let newcomer = thread::spawn({
            let lock = lock.clone();
            move || assert!(lock.try_read().is_none())
        });
        drop(reader);
        newcomer.join().unwrap();
        assert!(poll(writer, Waker::noop()).is_ready());
    });
}
