//! A foreign loop drives this one step by step; a loop in numbers.

use evenloop::streams::{StreamReader, StreamWriter};
use evenloop::time::{VirtualClock, sleep};
use evenloop_core::{Park, ThreadPark, Unpark, Wait};
use evenloop_executor::{EventLoop, create_task, current_statistics, to_thread, yield_now};
use evenloop_sync::Queue;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cell::{Cell, OnceCell};
use std::future::{Future, pending};
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake};
use std::time::{Duration, Instant};

const ZERO: Option<Duration> = Some(Duration::ZERO);

/// A user interface in miniature: it waits for its own descriptors, and steps the loop when that has something to do.
/// Answers how often it woke up.
fn drive(event_loop: &EventLoop, done: impl Fn() -> bool) -> usize {
    let fd = event_loop.descriptor().expect("this loop waits on a descriptor");
    // SAFETY: the loop lives longer than this.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let mut woken = 0;
    while !done() {
        let timeout = event_loop.wait_elsewhere().timeout(Instant::now());
        let timeout = timeout.map(|timeout| Timespec::try_from(timeout).unwrap());
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], timeout.as_ref()).unwrap();
        event_loop.run_once(ZERO);
        woken += 1;
        assert!(woken < 10_000, "it spins");
    }
    woken
}

#[test]
fn a_foreign_loop_serves_timers_sockets_and_other_threads() {
    let event_loop = evenloop::new_event_loop();
    let handle = event_loop.handle();
    let answers = Rc::new(Cell::new(0));
    let count = answers.clone();
    let task = event_loop.create_task(async move {
        sleep(Duration::from_millis(5)).await;
        count.set(count.get() + 1);
        assert_eq!(to_thread(|| 7).await, 7);
        count.set(count.get() + 1);
        let serve = |mut reader: StreamReader, mut writer: StreamWriter| async move {
            let line = reader.readline().await.unwrap();
            writer.write(&line).unwrap();
            writer.drain().await.unwrap();
        };
        let server = evenloop::start_server(serve, "127.0.0.1:0".parse().unwrap()).unwrap();
        let port = server.local_addr().unwrap().port();
        let (mut reader, mut writer) = evenloop::open_connection("127.0.0.1", port).await.unwrap();
        writer.write(b"a line\n").unwrap();
        writer.drain().await.unwrap();
        assert_eq!(reader.readline().await.unwrap(), b"a line\n");
        count.set(count.get() + 1);
    });
    drive(&event_loop, || task.done());
    assert_eq!(answers.get(), 3);

    // While the foreign loop waits, another thread brings something.
    let ran = Arc::new(AtomicUsize::new(0));
    let inside = ran.clone();
    let work = async move {
        inside.store(1, Ordering::Relaxed);
        8
    };
    let other = std::thread::spawn(move || handle.spawn(work).unwrap().join_blocking());
    let woken = drive(&event_loop, || ran.load(Ordering::Relaxed) == 1);
    assert_eq!(other.join().unwrap().unwrap(), 8);
    assert!(woken < 100, "{woken}");
}

#[test]
fn what_another_thread_brings_while_waiting_elsewhere_makes_the_descriptor_readable_once() {
    let event_loop = evenloop::new_event_loop();
    // SAFETY: the loop lives longer than this.
    let fd = unsafe { BorrowedFd::borrow_raw(event_loop.descriptor().unwrap()) };
    let readable = || {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&now)).unwrap() > 0
    };
    assert_eq!(event_loop.wait_elsewhere(), Wait::Forever);
    assert!(!readable());
    let handle = event_loop.handle();
    std::thread::spawn(move || handle.spawn_detached(async {})).join().unwrap().unwrap();
    assert!(readable());
    assert_eq!(event_loop.run_once(ZERO), 1);
    assert!(!readable(), "taken, though nothing is watched");
    assert_eq!(event_loop.wait_elsewhere(), Wait::Forever);
}

#[test]
fn the_wait_ends_at_the_next_deadline_and_is_none_when_something_is_ready() {
    let event_loop = evenloop::new_event_loop();
    event_loop.create_task(sleep(Duration::from_secs(3600))).detach();
    assert_eq!(event_loop.wait_elsewhere(), Wait::Ready);
    event_loop.run_once(ZERO);
    let Wait::Until(deadline) = event_loop.wait_elsewhere() else { panic!("a timer is pending") };
    let left = deadline - Instant::now();
    assert!(left > Duration::from_secs(3000) && left < Duration::from_secs(3601), "{left:?}");
    let timeout = Wait::Until(deadline).timeout(deadline - Duration::from_secs(2)).unwrap();
    assert_eq!(timeout, Duration::from_secs(2));

    // Virtual time moves only while the loop looks: nobody may wait for it.
    let event_loop = evenloop::event_loop_on(VirtualClock::new().into());
    let hour = event_loop.create_task(sleep(Duration::from_secs(3600)));
    while !hour.done() {
        assert_eq!(event_loop.wait_elsewhere(), Wait::Ready);
        event_loop.run_once(Some(Duration::from_secs(3600)));
    }
}

#[test]
fn a_loop_without_a_descriptor_calls_its_unparker() {
    /// Posts an event to a foreign loop.
    #[derive(Default)]
    struct Posts(AtomicUsize);
    impl Unpark for Posts {
        fn unpark(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    struct Foreign(Arc<Posts>);
    impl Park for Foreign {
        fn park(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
            assert_eq!(timeout, ZERO, "the foreign loop waits");
            Ok(true)
        }
        fn unparker(&self) -> Arc<dyn Unpark> {
            self.0.clone()
        }
        fn hand_over(&mut self) -> Wait {
            Wait::Forever
        }
    }
    let posts = Arc::new(Posts::default());
    let event_loop = EventLoop::builder().park(Box::new(Foreign(posts.clone()))).build();
    assert_eq!((event_loop.descriptor(), event_loop.wait_elsewhere()), (None, Wait::Forever));
    let handle = event_loop.handle();
    std::thread::spawn(move || {
        handle.spawn_detached(async {}).unwrap();
        handle.spawn_detached(async {}).unwrap();
    })
    .join()
    .unwrap();
    assert_eq!(posts.0.load(Ordering::Relaxed), 1, "once, until the loop looks");
    assert_eq!(event_loop.run_once(ZERO), 2);
    // Without a part of its own a park lets nobody wait.
    assert_eq!(ThreadPark::new().hand_over(), Wait::Forever);
}

#[test]
fn a_waker_may_ask_for_the_descriptor_while_the_loop_parks() {
    thread_local! {
        static ASKED: OnceCell<(EventLoop, Cell<bool>)> = const { OnceCell::new() };
    }
    struct Asks;
    impl Wake for Asks {
        fn wake(self: Arc<Self>) {
            ASKED.with(|asked| {
                let (event_loop, answered) = asked.get().unwrap();
                answered.set(event_loop.descriptor().is_some());
            });
        }
    }
    ASKED.with(|asked| {
        let event_loop = evenloop::event_loop_on(VirtualClock::new().into());
        let (event_loop, answered) = asked.get_or_init(|| (event_loop, Cell::new(false)));
        event_loop.run_until_complete(async {
            let mut short = pin!(sleep(Duration::from_secs(1)));
            let waker = Arc::new(Asks).into();
            assert!(short.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            sleep(Duration::from_secs(2)).await;
        });
        assert!(answered.get());
    });
}

#[test]
fn statistics_tell_what_is_there() {
    let event_loop = evenloop::new_event_loop();
    event_loop.create_task(sleep(Duration::from_secs(60))).detach();
    event_loop.create_task(pending::<()>()).detach();
    event_loop.call_later(Duration::from_secs(30), || ());
    assert_eq!((event_loop.statistics().tasks_alive, event_loop.statistics().ready), (2, 3));
    event_loop.run_once(ZERO);
    let handle = event_loop.handle();
    std::thread::spawn(move || {
        handle.spawn_detached(async {}).unwrap();
        handle.spawn_detached(async {}).unwrap();
    })
    .join()
    .unwrap();
    let statistics = event_loop.statistics();
    assert_eq!((statistics.tasks_alive, statistics.ready, statistics.inbox, statistics.timers), (2, 0, 2, 2));
    let left = statistics.next_deadline.unwrap() - Instant::now();
    assert!(left > Duration::from_secs(20) && left <= Duration::from_secs(31), "{left:?}");
    event_loop.run_until_complete(async {
        yield_now().await;
        create_task(pending::<()>()).detach();
        let statistics = current_statistics().unwrap();
        // Main, the two from before, and one that is ready.
        assert_eq!((statistics.tasks_alive, statistics.ready, statistics.inbox), (4, 1, 0));
        assert_eq!((statistics.threads, statistics.queued_jobs), (0, 0));
        let queue = Arc::new(Queue::<u8>::new(0));
        let inside = queue.clone();
        let job = to_thread(move || evenloop_tests::park_until(inside.get()));
        assert_eq!(current_statistics().unwrap().threads, 1);
        queue.put_nowait(1).unwrap();
        job.await.unwrap();
    });
    assert!(current_statistics().is_none());
}
