//! The budget: a task whose futures are always ready lets the others run, and how soon.

use evenloop_core::budget::OPERATIONS;
use evenloop_executor::{EventLoop, create_eager_task, create_task, yield_now};
use evenloop_streams::{StreamReader, StreamWriter};
use evenloop_sync::{Lock, Queue, Semaphore};
use futures::{AsyncReadExt, FutureExt, StreamExt};
use std::cell::Cell;
use std::future::{Future, pending};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// Runs `greedy`, which counts its operations and never waits by itself, beside a task that counts passes. Answers the
/// greatest number of operations between two turns of that task.
fn greatest_step<F: Future<Output = ()> + 'static>(greedy: impl FnOnce(Rc<Cell<u32>>) -> F) -> u32 {
    let event_loop = EventLoop::new();
    let done = Rc::new(Cell::new(0));
    event_loop.create_task(greedy(done.clone())).detach();
    let mut greatest = 0;
    event_loop.run_until_complete(async {
        let mut before = done.get();
        for _ in 0..50 {
            yield_now().await;
            greatest = greatest.max(done.get() - before);
            before = done.get();
        }
        assert!(before > 0);
    });
    greatest
}

fn count(done: &Cell<u32>) {
    done.set(done.get() + 1);
    assert!(done.get() < 100_000, "the other task has its turns");
}

#[test]
fn a_queue_that_is_never_empty_starves_nobody() {
    let step = greatest_step(|done| async move {
        let queue = Queue::<u32>::new(0);
        loop {
            queue.put_nowait(1).unwrap();
            queue.get().await.unwrap();
            count(&done);
        }
    });
    assert_eq!(step, OPERATIONS);
}

#[test]
fn a_lock_that_is_always_free_starves_nobody() {
    let step = greatest_step(|done| async move {
        let (lock, permits) = (Lock::new(()), Semaphore::new(3));
        loop {
            drop(lock.acquire().await);
            count(&done);
            drop(permits.acquire().await);
            count(&done);
        }
    });
    assert!(step <= OPERATIONS + 1, "{step}");
}

#[test]
fn an_eager_task_lives_on_its_spawners_budget() {
    let step = greatest_step(|done| async move {
        let queue = Rc::new(Queue::<u32>::new(0));
        loop {
            queue.put_nowait(1).unwrap();
            let inner = queue.clone();
            let mut task = create_eager_task(async move { inner.get().await.unwrap() });
            task.join().await.unwrap();
            count(&done);
        }
    });
    // The one that was put off is done by its own task, in a turn of its own.
    assert!(step <= OPERATIONS + 1, "{step}");
}

#[test]
fn a_socket_that_is_always_ready_starves_nobody() {
    evenloop::run(async {
        let listener = evenloop::streams::TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        // A thread that writes as fast as it can.
        let feeding = std::thread::spawn(move || {
            use std::io::Write;
            let mut socket = std::net::TcpStream::connect(address).unwrap();
            while socket.write_all(&[7; 64 * 1024]).is_ok() {}
        });
        let (mut stream, _) = listener.accept().await.unwrap();
        let reads = Rc::new(Cell::new(0_u64));
        let counted = reads.clone();
        let greedy = create_task(async move {
            use futures::AsyncReadExt;
            let mut byte = [0; 1]; // less than there is: never dry
            loop {
                stream.read_exact(&mut byte).await.unwrap();
                counted.set(counted.get() + 1);
            }
        });
        let mut turns = 0;
        while reads.get() < 10_000 {
            yield_now().await;
            turns += 1;
        }
        assert!(turns >= 10_000 / u64::from(OPERATIONS), "{turns} turns");
        greedy.cancel("enough");
        yield_now().await;
        yield_now().await;
        drop(greedy);
        feeding.join().unwrap();
    });
}

/// Showed as a peer's 60,000 empty lines, which came at once, between two turns of everybody else.
#[test]
fn lines_that_have_come_already_starve_nobody() {
    let endless = || StreamReader::new(futures::io::repeat(b'\n'));
    let step = greatest_step(|done| async move {
        let mut reader = endless();
        loop {
            assert_eq!(reader.readline().await.unwrap(), b"\n");
            count(&done);
        }
    });
    assert_eq!(step, OPERATIONS);
    let step = greatest_step(|done| async move {
        let mut reader = endless();
        let mut lines = reader.lines();
        while lines.next().await.is_some() {
            count(&done);
        }
    });
    assert_eq!(step, OPERATIONS);
    // As others read from it.
    let step = greatest_step(|done| async move {
        let mut reader = endless();
        reader.read(1).await.unwrap();
        loop {
            AsyncReadExt::read_exact(&mut reader, &mut [0]).await.unwrap();
            count(&done);
        }
    });
    assert!(step <= OPERATIONS, "{step}");
    let step = greatest_step(|done| async move {
        let mut reader = endless();
        let mut line = String::new();
        loop {
            futures::AsyncBufReadExt::read_line(&mut reader, &mut line).await.unwrap();
            count(&done);
        }
    });
    assert!(step <= OPERATIONS, "{step}");
}

#[test]
fn a_writer_whose_stream_takes_everything_starves_nobody() {
    let step = greatest_step(|done| async move {
        let mut writer = StreamWriter::new(futures::io::sink());
        loop {
            writer.write(b"x").unwrap();
            writer.drain().await.unwrap();
            count(&done);
        }
    });
    assert_eq!(step, OPERATIONS);
}

#[test]
fn a_greedy_branch_of_a_join_does_not_eat_what_the_others_live_on() {
    let event_loop = EventLoop::new();
    let greedy = async {
        let queue = Queue::<u32>::new(0);
        loop {
            queue.put_nowait(1).unwrap();
            queue.get().await.unwrap();
        }
    };
    let modest = async {
        let queue = Queue::<u32>::new(0);
        for round in 0..1_000 {
            queue.put_nowait(round).unwrap();
            assert_eq!(queue.get().await, Ok(round));
        }
    };
    event_loop.run_until_complete(async {
        futures::select! {
            () = pin!(async { futures::join!(greedy, pending::<()>()); }.fuse()) => unreachable!(),
            () = pin!(modest.fuse()) => {}
        }
    });
}

#[test]
fn a_branch_that_spends_exactly_everything_does_not_starve_the_next() {
    let event_loop = EventLoop::new();
    let done = Rc::new(Cell::new(false));
    let told = done.clone();
    event_loop
        .create_task(async move {
            let (mine, other) = (Queue::<u32>::new(0), Queue::<u32>::new(0));
            let exact = async {
                loop {
                    for _ in 0..OPERATIONS {
                        mine.put_nowait(1).unwrap();
                        mine.get().await.unwrap();
                    }
                    yield_now().await;
                }
            };
            let next = async {
                other.put_nowait(1).unwrap();
                other.get().await.unwrap();
                told.set(true);
            };
            futures::join!(exact, next);
        })
        .detach();
    for _ in 0..4 {
        event_loop.run_once(Some(Duration::ZERO));
    }
    assert!(done.get());
}

#[test]
fn many_waiters_in_one_task_all_get_into_their_lines() {
    EventLoop::new().run_until_complete(async {
        let queue = Rc::new(Queue::<u32>::new(0));
        let inner = queue.clone();
        let getting = create_task(async move {
            futures::future::join_all((0..1_000).map(|_| inner.get()))
                .await
                .into_iter()
                .map(Result::unwrap)
                .sum()
        });
        for _ in 0..10 {
            yield_now().await;
        }
        assert_eq!(queue.statistics().getters, 1_000);
        for _ in 0..1_000 {
            queue.put_nowait(1).unwrap();
        }
        let sum: u32 = getting.await;
        assert_eq!(sum, 1_000);
    });
}

#[test]
fn outside_of_a_loop_nothing_is_put_off() {
    let queue = Queue::<u32>::new(0);
    EventLoop::new().run_until_complete(async {
        queue.put_nowait(0).unwrap();
        queue.get().await.unwrap();
    });
    for round in 0..10 * OPERATIONS {
        queue.put_nowait(round).unwrap();
        assert_eq!(queue.get().now_or_never(), Some(Ok(round)));
    }
}
