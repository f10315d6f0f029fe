//! Models of core's `Readiness`.

use evenloop_core::shim::atomic::{AtomicUsize, Ordering};
use evenloop_core::shim::{StdArc, thread};
use evenloop_core::{Direction, Readiness, Ready, Seen, Unwatched, WakeBatch};
use evenloop_loom_tests::{Outcomes, Witness, Woken, block_on, model, model_reaching, poll};
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

/// A descriptor: what its engine and its owner share, and what lies in the kernel.
struct Descriptor {
    readiness: Readiness,
    /// How many bytes the kernel holds. Relaxed: only the readiness tells the owner that they are there.
    bytes: AtomicUsize,
    /// Written by the engine before it tells of news.
    witness: Witness,
    /// What the readiness started out with: no news, so it orders nothing.
    guess: Option<Seen>,
}

fn descriptor(known: Ready) -> StdArc<Descriptor> {
    let readiness = Readiness::new(known);
    let guess = match readiness.look(Direction::Read) {
        Poll::Ready(seen) => seen.ok(),
        Poll::Pending => None,
    };
    StdArc::new(Descriptor { readiness, bytes: AtomicUsize::new(0), witness: Witness::new(0), guess })
}

impl Descriptor {
    /// The engine learns that a byte has come.
    fn byte_comes(&self) {
        self.witness.set(7);
        self.bytes.fetch_add(1, Ordering::Relaxed);
        self.set(Ready::READ);
    }

    fn set(&self, ready: Ready) {
        let mut due = WakeBatch::new();
        while self.readiness.set(ready, &mut due) {
            due.wake_all();
        }
        due.wake_all();
    }

    fn unwatch(&self) {
        let mut due = WakeBatch::new();
        while self.readiness.unwatch(Unwatched::Deregistered, &mut due) {
            due.wake_all();
        }
        due.wake_all();
    }

    /// The owner reads the byte, and waits where a read would block.
    async fn read(&self) {
        loop {
            let ready = poll_fn(|cx| self.readiness.poll_ready(Direction::Read, cx)).await;
            let seen = ready.expect("it is watched");
            if self.bytes.load(Ordering::Relaxed) > 0 {
                if self.guess != Some(seen) {
                    assert_eq!(self.witness.get(), 7);
                }
                return;
            }
            self.readiness.would_block(Direction::Read, seen);
        }
    }
}

/// Does an owner that looks while news comes see it, with all that was written before?
#[test]
fn news_races_poll() {
    model(|| {
        let ours = descriptor(Ready::NOTHING);
        let engine = thread::spawn({
            let theirs = ours.clone();
            move || theirs.byte_comes()
        });
        block_on(ours.read());
        engine.join().unwrap();
    });
}

/// Does the same hold when the owner lives on the spawned thread?
#[test]
fn poll_races_news() {
    model(|| {
        let ours = descriptor(Ready::NOTHING);
        let owner = thread::spawn({
            let theirs = ours.clone();
            move || block_on(theirs.read())
        });
        ours.byte_comes();
        owner.join().unwrap();
    });
}

/// Does news survive that comes between a call that would have blocked and its being noted?
#[test]
fn news_races_would_block() {
    model(|| {
        let ours = descriptor(Ready::READ); // a wrong guess: the first read would block
        let engine = thread::spawn({
            let theirs = ours.clone();
            move || theirs.byte_comes()
        });
        block_on(ours.read());
        engine.join().unwrap();
    });
}

/// Is the end taken back, when a read after it would have blocked, and does the news of writing survive that comes meanwhile?
#[test]
fn would_block_at_the_end_races_news_of_writing() {
    model(|| {
        let ours = descriptor(Ready::READ_END);
        let Poll::Ready(Ok(seen)) = ours.readiness.look(Direction::Read) else { panic!("it was ready") };
        let engine = thread::spawn({
            let theirs = ours.clone();
            move || theirs.set(Ready::WRITE)
        });
        ours.readiness.would_block(Direction::Read, seen);
        engine.join().unwrap();
        assert_eq!(format!("{:?}", ours.readiness), "Readiness [write, waiters: 0 to read, 0 to write]");
    });
}

/// Is one of many waiters told of news, with all that was written before, when it looks meanwhile?
#[test]
fn news_races_shared_wait() {
    model(|| {
        let ours = descriptor(Ready::NOTHING);
        let engine = thread::spawn({
            let theirs = ours.clone();
            move || theirs.byte_comes()
        });
        assert!(block_on(ours.readiness.ready(Direction::Read)).is_ok());
        assert_eq!(ours.witness.get(), 7);
        engine.join().unwrap();
        assert_eq!(ours.readiness.waiting(Direction::Read), 0);
    });
}

/// Is the second waiter woken when the first is dropped while news comes, and is no waker kept?
#[test]
fn drop_of_waiter_races_news() {
    model_reaching(["woken first", "left first"], |outcomes: Outcomes| {
        let ours = descriptor(Ready::NOTHING);
        let (first, first_waker) = Woken::waker();
        let (second, second_waker) = Woken::waker();
        {
            let mut stays = pin!(ours.readiness.ready(Direction::Read));
            assert!(poll(stays.as_mut(), &second_waker).is_pending());
            let engine = {
                let mut leaves = Box::pin(ours.readiness.ready(Direction::Read));
                assert!(poll(leaves.as_mut(), &first_waker).is_pending());
                drop(first_waker);
                let engine = thread::spawn({
                    let theirs = ours.clone();
                    move || theirs.byte_comes()
                });
                drop(leaves);
                engine
            };
            engine.join().unwrap();
            assert_eq!(second.times(), 1);
            assert!(poll(stays.as_mut(), &second_waker).is_ready());
            assert_eq!(ours.witness.get(), 7);
        }
        outcomes.count(if first.times() == 1 { "woken first" } else { "left first" });
        assert_eq!(StdArc::strong_count(&first), 1);
        assert_eq!(ours.readiness.waiting(Direction::Read), 0);
    });
}

/// Is it the newest waker that is woken, when the owner moves to another task while news comes?
#[test]
fn waker_moves_while_news_comes() {
    model(|| {
        let ours = descriptor(Ready::NOTHING);
        let (_, old) = Woken::waker();
        let mut waits = pin!(ours.read());
        assert!(poll(waits.as_mut(), &old).is_pending());
        let engine = thread::spawn({
            let theirs = ours.clone();
            move || theirs.byte_comes()
        });
        block_on(waits);
        engine.join().unwrap();
    });
}

/// Is who looks while the descriptor is deregistered told so, and with all that was written before?
#[test]
fn unwatch_races_poll() {
    model(|| {
        let ours = descriptor(Ready::NOTHING);
        let other = thread::spawn({
            let theirs = ours.clone();
            move || {
                theirs.witness.set(7);
                theirs.unwatch();
            }
        });
        let ready = block_on(poll_fn(|cx| ours.readiness.poll_ready(Direction::Write, cx)));
        assert_eq!(ready, Err(Unwatched::Deregistered));
        assert_eq!(ours.witness.get(), 7);
        other.join().unwrap();
    });
}

/// Does a deregistration stand when a call that would have blocked is noted at the same time?
#[test]
fn unwatch_races_would_block() {
    model(|| {
        let ours = descriptor(Ready::READ);
        let Poll::Ready(Ok(seen)) = ours.readiness.look(Direction::Read) else { panic!("it was ready") };
        let other = thread::spawn({
            let theirs = ours.clone();
            move || {
                theirs.witness.set(7);
                theirs.unwatch();
            }
        });
        ours.readiness.would_block(Direction::Read, seen);
        let ready = block_on(ours.readiness.ready(Direction::Read));
        assert_eq!(ready, Err(Unwatched::Deregistered));
        assert_eq!(ours.witness.get(), 7);
        other.join().unwrap();
    });
}
