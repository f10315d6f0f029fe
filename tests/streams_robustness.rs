//! What goes wrong with connections in real life, many times over: nothing is left behind. Each test counts descriptors,
//! tasks and bytes of memory before and after, and the processor time of a quiet moment, and prints the figures.
//!
//! The tests run one at a time: descriptors are the whole process's.

use evenloop::time::Clock;
use evenloop::{ThreadPool, all_tasks, create_task, event_loop_builder, sleep, timeout, yield_now};
use evenloop_core::{Direction, Park, Reactor, Readiness, Ready, Unwatched};
use evenloop_streams::pipe::pipe;
use evenloop_streams::process::Command;
use evenloop_streams::{
    ReactorDriver, ReadError, Server, ServerConfig, StreamReader, StreamWriter, TcpListener, TcpStream,
    UdpSocket, UnixDatagram, UnixListener, UnixStream, lookup_host, open_connection,
};
use evenloop_tests::{Counting, connected, descriptors, on_loop, on_reactor, thread_time, until};
use futures::future::{join, join_all};
use futures::{AsyncReadExt, AsyncWriteExt, poll};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The look-up hung: its job had been dropped, and nobody said so.
#[test]
fn a_look_up_whose_thread_pool_is_shut_down_is_an_error() {
    let _alone = alone();
    let pool = ThreadPool::new(1);
    let event_loop = event_loop_builder(Clock::Real).thread_pool(pool.clone()).build();
    let (let_go, holds) = std::sync::mpsc::channel::<()>();
    let (begins, begun) = std::sync::mpsc::channel();
    let job = move || {
        begins.send(()).unwrap();
        let _ = holds.recv();
    };
    pool.execute(Box::new(job)).unwrap();
    begun.recv().unwrap();
    event_loop.run_until_complete(async {
        let mut looks_up = pin!(lookup_host("localhost", 80));
        assert!(poll!(&mut looks_up).is_pending());
        assert_eq!(pool.queued_jobs(), 1);
        pool.close();
        let error = timeout(Duration::from_secs(20), looks_up).await.expect("it does not hang").unwrap_err();
        assert!(error.to_string().starts_with("`lookup_host`: its job came to nothing"), "{error}");
    });
    drop(let_go);
}

/// What a server's handlers have reported, by text and number.
#[derive(Clone, Default)]
struct Reports(std::sync::Arc<Mutex<std::collections::BTreeMap<String, usize>>>);

impl Reports {
    fn config(&self) -> ServerConfig {
        let reports = self.clone();
        ServerConfig::new().on_error(move |error| {
            let kind = error.rsplit(": ").next().unwrap_or(error).to_owned();
            *reports.0.lock().unwrap().entry(kind).or_default() += 1;
        })
    }
}

/// Runs `round` three times for warming up, then `rounds` times, against one server, and asserts that nothing is left.
async fn leaves_nothing<F: Future<Output = ()>>(
    what: &str,
    rounds: usize,
    server: &Server,
    round: impl Fn() -> F,
) {
    let settle = async || {
        until(|| server.connections() == 0).await;
        for _ in 0..3 {
            yield_now().await;
        }
    };
    for _ in 0..3 {
        round().await;
        settle().await;
    }
    let before = (descriptors(), all_tasks().len(), Counting::bytes());
    let began = thread_time();
    for _ in 0..rounds {
        round().await;
    }
    settle().await;
    let each = (thread_time() - began) / rounds as u32;
    let after = (descriptors(), all_tasks().len(), Counting::bytes());
    let idle = thread_time();
    sleep(Duration::from_millis(50)).await;
    let idle = thread_time() - idle;
    println!(
        "{what}, {rounds} times, {each:?} each: descriptors {} to {}, tasks {} to {}, bytes {} to {}; idle for 50 ms: {idle:?}",
        before.0, after.0, before.1, after.1, before.2, after.2
    );
    assert_eq!((before.0, before.1), (after.0, after.1), "{what}");
    assert!((after.2 - before.2).abs() < 8192, "{what}: bytes {} to {}", before.2, after.2);
    assert!(idle < Duration::from_millis(15), "{what}: {idle:?} of idling");
}

/// Frames: a length in two bytes, then so many bytes; each comes back.
async fn frames(mut reader: StreamReader, mut writer: StreamWriter) -> Result<(), ReadError> {
    loop {
        let length = match reader.readexactly(2).await {
            Err(ReadError::Incomplete(end)) if end.partial.is_empty() => break,
            head => u16::from_be_bytes(head?.try_into().expect("two bytes")),
        };
        let frame = reader.readexactly(length.into()).await?;
        writer.writelines([&length.to_be_bytes()[..], &frame])?;
        writer.drain().await?;
    }
    Ok(writer.wait_closed().await?)
}

async fn client(server: &Server) -> TcpStream {
    TcpStream::connect(server.local_addr().unwrap()).await.unwrap()
}

fn start(reports: &Reports) -> Server {
    reports.config().start(frames, ([127, 0, 0, 1], 0).into()).unwrap()
}

#[test]
fn resets_in_mid_frame_leave_nothing() {
    let _alone = alone();
    on_loop(async {
        let reports = Reports::default();
        let server = start(&reports);
        leaves_nothing("reset in mid-frame", 300, &server, || async {
            let mut client = client(&server).await;
            client.write_all(b"\x00\x05whole\x00\xffonly a pa").await.unwrap();
            let mut back = [0; 7];
            client.read_exact(&mut back).await.unwrap();
            assert_eq!(&back, b"\x00\x05whole");
            client.set_linger(Some(Duration::ZERO)).unwrap();
        })
        .await;
        let reports = reports.0.lock().unwrap().clone();
        assert_eq!(reports.values().sum::<usize>(), 303, "each is told once: {reports:?}");
        assert!(reports.keys().all(|kind| kind.contains("reset")), "{reports:?}");
    });
}

#[test]
fn ends_in_mid_frame_say_how_much_was_there() {
    let _alone = alone();
    on_loop(async {
        let reports = Reports::default();
        let server = start(&reports);
        leaves_nothing("end in mid-frame", 300, &server, || async {
            let mut client = client(&server).await;
            client.write_all(b"\x00\x09only").await.unwrap();
            client.close().await.unwrap();
            assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0, "the server closes as well");
        })
        .await;
        let reports = reports.0.lock().unwrap().clone();
        assert_eq!(reports.get("the stream ended after 4 of 9 bytes"), Some(&303), "{reports:?}");
    });
}

/// The peer is silent for ever, as one whose machine lost its power is. A handler with a time-out ends, on the virtual clock.
#[test]
fn half_open_connections_end_with_their_time_out() {
    let _alone = alone();
    let clock = evenloop::time::VirtualClock::new();
    evenloop::event_loop_on(clock.clone().into()).run_until_complete(async {
        const PATIENCE: Duration = Duration::from_secs(30 * 60);
        let handler = async |reader: StreamReader, writer: StreamWriter| {
            timeout(PATIENCE, frames(reader, writer))
                .await
                .map_err(|_| "silent for half an hour")?
                .map_err(|_| "failed")
        };
        let reports = Reports::default();
        let server = reports.config().start(handler, ([127, 0, 0, 1], 0).into()).unwrap();
        leaves_nothing("half-open", 60, &server, || async {
            let mut silent = Vec::new();
            for _ in 0..10 {
                let mut client = client(&server).await;
                client.write_all(b"\x00").await.unwrap();
                silent.push(client);
            }
            // Virtual time goes on, for a server that waits before it accepts again.
            let all = async {
                while server.connections() < 10 {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(Duration::from_secs(60), all).await.expect("ten are served");
            sleep(PATIENCE + Duration::from_secs(1)).await;
            for client in &mut silent {
                // The server's side is closed; that a byte of ours came in between makes it a reset.
                let _ = client.read(&mut [0; 8]).await;
            }
        })
        .await;
        assert_eq!(reports.0.lock().unwrap().get("silent for half an hour"), Some(&630));
    });
    println!("virtual time: {:?}", clock.elapsed());
}

#[test]
fn half_closed_connections_get_all_of_their_answer() {
    let _alone = alone();
    const ANSWER: usize = 3_000_000;
    on_loop(async {
        let handler = async |mut reader: StreamReader, mut writer: StreamWriter| -> io::Result<()> {
            let question = reader.read_to_end().await?; // the client has closed its side
            for _ in 0..ANSWER / 1000 {
                writer.write(&[question[0]; 1000])?;
                writer.drain().await?;
            }
            writer.wait_closed().await
        };
        let reports = Reports::default();
        let server = reports.config().start(handler, ([127, 0, 0, 1], 0).into()).unwrap();
        leaves_nothing("half-close", 10, &server, || async {
            let mut client = client(&server).await;
            client.write_all(b"?").await.unwrap();
            client.close().await.unwrap();
            let (mut room, mut got) = (vec![0; 65536], 0);
            while let n @ 1.. = client.read(&mut room).await.unwrap() {
                assert!(room[..n].iter().all(|byte| *byte == b'?'));
                got += n;
            }
            assert_eq!(got, ANSWER);
        })
        .await;
        assert!(reports.0.lock().unwrap().is_empty());
    });
}

/// A client that reads slowly holds the server's memory at the water mark, and gets every byte.
#[test]
fn a_slow_reader_costs_no_memory() {
    let _alone = alone();
    const ALL: usize = 6_000_000;
    on_loop(async {
        let handler = async |_reader: StreamReader, mut writer: StreamWriter| -> io::Result<()> {
            writer.set_write_buffer_limits(64 * 1024, 16 * 1024);
            let mut sent = 0_usize;
            while sent < ALL {
                let piece: Vec<u8> = (sent..sent + 10_000).map(|place| (place % 251) as u8).collect();
                writer.write(&piece)?;
                writer.drain().await?;
                sent += piece.len();
            }
            writer.wait_closed().await
        };
        let reports = Reports::default();
        let server = reports.config().start(handler, ([127, 0, 0, 1], 0).into()).unwrap();
        let most = Rc::new(Cell::new(0));
        leaves_nothing("slow reader", 1, &server, || async {
            let mut client = client(&server).await;
            let before = Counting::bytes();
            Counting::forget_most();
            let (mut room, mut place) = (vec![0; 100_000], 0);
            while let n @ 1.. = client.read(&mut room).await.unwrap() {
                assert!(room[..n].iter().enumerate().all(|(at, byte)| *byte == ((place + at) % 251) as u8));
                place += n;
                yield_now().await; // the server is always ahead
                yield_now().await;
            }
            assert_eq!(place, ALL);
            most.set(Counting::most() - before);
        })
        .await;
        println!("slow reader: at most {} bytes of memory for {ALL}", most.get());
        assert!(most.get() < 600_000, "{} bytes", most.get());
        assert!(reports.0.lock().unwrap().is_empty());
    });
}

/// A client that writes byte by byte gets each frame back whole.
#[test]
fn a_slow_writer_is_served_frame_by_frame() {
    let _alone = alone();
    on_loop(async {
        let reports = Reports::default();
        let server = start(&reports);
        leaves_nothing("slow writer", 20, &server, || async {
            let mut client = client(&server).await;
            client.set_nodelay(true).unwrap();
            for length in [1_u16, 0, 100, 3] {
                let mut frame = length.to_be_bytes().to_vec();
                frame.extend((0..length).map(|place| place as u8));
                for byte in &frame {
                    client.write_all(&[*byte]).await.unwrap();
                    yield_now().await;
                }
                let mut back = vec![0; frame.len()];
                client.read_exact(&mut back).await.unwrap();
                assert_eq!(back, frame);
            }
            client.close().await.unwrap();
            assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        })
        .await;
        assert!(reports.0.lock().unwrap().is_empty());
    });
}

/// Servers that are shut down while their clients talk: who was answered was answered whole.
#[test]
fn shutdown_under_load_leaves_nothing_and_tears_no_frame() {
    let _alone = alone();
    on_loop(async {
        let reports = Reports::default();
        let quiet = start(&reports); // to be counted against
        let answered = Rc::new(Cell::new(0_usize));
        let dropped = Rc::new(Cell::new(0_usize));
        leaves_nothing("shutdown under load", 20, &quiet, || async {
            let server = start(&reports);
            let clients: Vec<_> = (0..50_u8)
                .map(|number| {
                    let (server, answered) = (server.clone(), answered.clone());
                    create_task(async move {
                        let address = server.local_addr().unwrap();
                        let Ok(mut client) = TcpStream::connect(address).await else { return };
                        let frame = [&[0, 200][..], &[number; 200]].concat();
                        loop {
                            if client.write_all(&frame).await.is_err() {
                                return;
                            }
                            let mut back = vec![0; frame.len()];
                            match client.read_exact(&mut back).await {
                                Ok(()) => assert_eq!(back, frame),
                                Err(_) => return,
                            }
                            answered.set(answered.get() + 1);
                        }
                    })
                })
                .collect();
            let target = answered.get() + 500;
            until(|| answered.get() >= target).await;
            dropped.set(dropped.get() + server.shutdown(Duration::from_millis(20)).await.unwrap());
            assert_eq!(format!("{server:?}"), "Server [closed, connections: 0]");
            join_all(clients).await;
        })
        .await;
        println!("answered: {}, handlers dropped by force: {}", answered.get(), dropped.get());
        quiet.close();
        quiet.wait_closed().await;
    });
}

/// Handlers that do not hear of the cancellation are dropped after the grace, with all they had.
#[test]
fn stubborn_handlers_are_dropped_with_all_they_had() {
    let _alone = alone();
    on_loop(async {
        let quiet = start(&Reports::default());
        leaves_nothing("stubborn handlers", 20, &quiet, || async {
            let held = Rc::new(RefCell::new(0));
            let handler = {
                let held = held.clone();
                move |mut reader: StreamReader, _writer: StreamWriter| {
                    let held = held.clone();
                    async move {
                        *held.borrow_mut() += 1;
                        let _kept = vec![7; 10_000];
                        loop {
                            if let Err(cancelled) = evenloop::cancel::catch_cancel(reader.readline()).await {
                                cancelled.absorb();
                            }
                        }
                    }
                }
            };
            let server = ServerConfig::new()
                .start::<_, Pin<Box<dyn Future<Output = ()>>>>(
                    move |reader, writer| Box::pin(handler(reader, writer)),
                    ([127, 0, 0, 1], 0).into(),
                )
                .unwrap();
            let port = server.local_addr().unwrap().port();
            let mut clients = Vec::new();
            for _ in 0..10 {
                clients.push(open_connection("127.0.0.1", port).await.unwrap());
            }
            until(|| *held.borrow() == 10).await;
            assert_eq!(server.shutdown(Duration::from_millis(5)).await.unwrap(), 10);
            for (reader, _) in &mut clients {
                assert_eq!(reader.read(8).await.unwrap(), b"");
            }
        })
        .await;
    });
}

/// Elsewhere the waker in a socket kept alive the task that owned the socket (tokio#3477).
#[test]
fn a_task_that_waits_for_its_own_socket_is_freed_with_its_loop() {
    let _alone = alone();
    let alive = Rc::new(());
    let before = descriptors();
    for _ in 0..3 {
        let alive = alive.clone();
        evenloop::new_event_loop().run_until_complete(async move {
            let task = evenloop::create_task(async move {
                let (mut one, _other) = UnixStream::pair().unwrap();
                let _never = one.read(&mut [0; 8]).await;
                drop(alive);
            });
            evenloop::yield_now().await;
            evenloop::yield_now().await;
            drop(task); // it goes on, until the loop ends
        });
    }
    assert_eq!(Rc::strong_count(&alive), 1);
    assert_eq!(descriptors(), before);
}

/// Elsewhere a connect that was given up leaked its socket, or disturbed the next owner of its number (bpo-30064).
#[test]
fn a_connect_given_up_closes_its_socket_and_disturbs_nobody() {
    let _alone = alone();
    on_reactor(async {
        // A listener whose backlog is full: connecting hangs.
        let full = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&full, 0).unwrap();
        let address = full.local_addr().unwrap();
        let mut waiting = Vec::new();
        let mut hangs = false;
        while !hangs {
            assert!(waiting.len() < 20, "the backlog is never full");
            let mut connect = Box::pin(TcpStream::connect(address));
            hangs = true;
            for _ in 0..1000 {
                if let std::task::Poll::Ready(connected) = poll!(&mut connect) {
                    waiting.push(connected.unwrap());
                    hangs = false;
                    break;
                }
                evenloop_tests::give_way().await;
            }
        }
        let before = descriptors();
        let given_up = TcpStream::connect(address);
        {
            let mut given_up = pin!(given_up);
            assert!(poll!(&mut given_up).is_pending());
            assert_eq!(descriptors(), before + 1);
        }
        assert_eq!(descriptors(), before, "its socket is closed");
        // The next socket gets the same number, and nothing of the old one's news.
        let (mut client, mut server) = connected().await;
        client.write_all(b"mine").await.unwrap();
        let mut room = [0; 8];
        assert_eq!(server.read(&mut room).await.unwrap(), 4);

        let missing = UnixStream::connect("/nonexistent/socket").await.unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert_eq!(descriptors(), before + 2, "and a refused one leaves none either");
    });
}

/// Elsewhere some descriptors lost their close-on-exec (mio#1497).
#[test]
fn a_program_that_is_started_inherits_nothing_of_ours() {
    let _alone = alone();
    let listing = || {
        let output = std::process::Command::new("ls").arg("/proc/self/fd").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let before = listing();
    on_loop(async {
        let tcp = connected().await;
        let accepting = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let unix = UnixStream::pair().unwrap();
        let path = directory.path().join("socket");
        let named = UnixListener::bind(&path).unwrap();
        let (accepted, connected) = join(named.accept(), UnixStream::connect(&path)).await;
        let udp = UdpSocket::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let datagrams = UnixDatagram::pair().unwrap();
        let pipes = pipe().unwrap();
        let all = (tcp, accepting, unix, named, accepted, connected, udp, datagrams, pipes);
        assert_eq!(listing(), before, "of {all:?}");
    });
}

// === The reactor ===

/// A child that is being started has a copy of every descriptor until its program is loaded.
#[test]
fn news_of_a_descriptor_that_was_let_go_reach_nobody_while_a_copy_is_open() {
    let _one_at_a_time = alone();
    let readiness = || Arc::new(Readiness::new(Ready::NOTHING));
    let mut driver = ReactorDriver::new().unwrap();
    let reactor = driver.handle();
    let (mut theirs, ours) = StdUnixStream::pair().unwrap();
    let (number, copy) = (ours.as_raw_fd(), ours.try_clone().unwrap());
    let (before, after) = (readiness(), readiness());
    let key = reactor.register(ours.as_fd(), &before).unwrap();
    driver.turn().unwrap(); // it can be written to, from the beginning
    reactor.deregister_last(ours.as_fd(), key);
    drop(ours);
    assert_eq!(before.look(Direction::Read), Poll::Ready(Err(Unwatched::Deregistered)));

    let (quiet, _writer) = rustix::pipe::pipe().unwrap();
    assert_eq!(quiet.as_raw_fd(), number, "the number is used again");
    let key = reactor.register(quiet.as_fd(), &after).unwrap();
    theirs.write_all(b"for the copy").unwrap();
    assert!(
        !driver.park(Some(Duration::from_secs(20))).unwrap(),
        "the kernel tells, and nothing has happened"
    );
    assert!(after.look(Direction::Read).is_pending());

    drop(copy); // now the kernel has forgotten it
    theirs.write_all(b"for nobody").unwrap_err();
    assert!(!driver.park(Some(Duration::ZERO)).unwrap());
    reactor.deregister(quiet.as_fd(), key);
}

#[test]
fn being_stopped_and_continued_loses_nothing() {
    let _alone = alone();
    evenloop::run(async {
        let (ours, theirs) = connected().await;
        let (read, write) = ours.into_split();
        let (mut reader, mut writer) = (StreamReader::new(read), StreamWriter::new(write));
        let _echo = create_task(async move {
            let (mut from, mut to) = theirs.into_split();
            futures::io::copy(&mut from, &mut to).await
        });
        for round in 0..50 {
            // A park that was stopped returns early, with or without an event.
            let stops = Command::new("sh").args(["-c", "kill -STOP $PPID; kill -CONT $PPID"]).status();
            let line = format!("{round}\n");
            let echoed = async {
                writer.write(line.as_bytes()).unwrap();
                writer.drain().await.unwrap();
                reader.readline().await.unwrap()
            };
            let slept = sleep(Duration::from_millis(1));
            let (stopped, echoed, ()) = futures::join!(stops, echoed, slept);
            assert!(stopped.unwrap().success());
            assert_eq!(echoed, line.as_bytes());
        }
    });
}
