//! Debug mode: what is reported that is dropped open, and what is not.

use evenloop::process::{Command, DEVNULL, Ending, PIPE, SubprocessProtocol, subprocess_exec};
use evenloop::streams::{
    DatagramProtocol, Protocol, StreamReader, StreamWriter, UdpSocket, UnixStream, connect_stream,
    create_datagram_endpoint, create_server, lookup_host, start_server,
};
use evenloop::time::{Clock, VirtualClock};
use evenloop::{EventLoop, ThreadPool, all_tasks, create_task, current_task, event_loop_builder, yield_now};
use evenloop_core::cancel::CancelScope;
use evenloop_core::{Runtime, TimerKey, Timers, TimersEnded};
use futures::poll;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::cell::RefCell;
use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Waker;
use std::time::{Duration, Instant};

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// How a loop comes to its end.
type End = fn(EventLoop);

/// In order, as `run` does; or at once.
const ENDS: [End; 2] = [
    |event_loop| {
        event_loop.cancel_all(None);
        event_loop.close();
    },
    drop,
];

/// Runs `main`, then ends the loop; what debug mode told, without the tasks that were left, and without how long anything took.
fn told(end: End, main: impl AsyncFn()) -> Vec<String> {
    told_if(true, end, main)
}

fn told_if(debug: bool, end: End, main: impl AsyncFn()) -> Vec<String> {
    let reports = Rc::new(RefCell::new(Vec::new()));
    let told = reports.clone();
    let hook = move |error: &evenloop::Unhandled<'_>| told.borrow_mut().push(error.to_string());
    let event_loop = event_loop_builder(Clock::Real).debug(debug).on_unhandled(hook).build();
    event_loop.run_until_complete(main());
    end(event_loop);
    let reports = reports.take();
    let of_others = ["a task was left", "a task kept the event loop"];
    reports.into_iter().filter(|report| !of_others.iter().any(|other| report.starts_with(other))).collect()
}

/// Debug mode tells this once, whichever way the loop ends; without it nobody is told.
#[track_caller]
fn check(expected: &str, main: impl AsyncFn()) {
    for end in ENDS {
        let told = told(end, &main);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(expected), "{told:?}");
        assert!(told_if(false, end, &main).is_empty());
    }
}

#[track_caller]
fn check_silent(main: impl AsyncFn()) {
    for end in ENDS {
        assert_eq!(told(end, &main), [""; 0]);
    }
}

// === Servers ===

async fn silent(_: StreamReader, _: StreamWriter) {
    pending().await
}

#[test]
fn a_server_that_serves_when_its_loop_ends_is_told() {
    check("a server was serving when its task ended, as at the end of a loop: `close` it", async || {
        drop(start_server(silent, loopback()).unwrap());
        yield_now().await;
    });
}

#[test]
fn a_server_that_was_closed_is_not_told() {
    check_silent(async || {
        let closed = start_server(silent, loopback()).unwrap();
        closed.close();
        let shut_down = start_server(silent, loopback()).unwrap();
        assert_eq!(shut_down.shutdown(Duration::from_secs(5)).await.unwrap(), 0);
        let mut served = create_task(async { start_server(silent, loopback())?.serve_forever().await });
        yield_now().await;
        yield_now().await;
        served.cancel("enough");
        assert!(served.join().await.is_err());
    });
}

// === Transports ===

#[derive(Default)]
struct Nothing;

impl Protocol for Nothing {
    fn data_received(&self, _: &[u8]) {}
}

impl DatagramProtocol for Nothing {
    fn datagram_received(&self, _: &[u8], _: SocketAddr) {}
}

impl SubprocessProtocol for Nothing {}

#[test]
fn a_transport_that_is_open_when_its_loop_ends_is_told() {
    let kept = RefCell::new(None);
    check("a transport was open when its task was ", async || {
        let (one, other) = UnixStream::pair().unwrap();
        drop(connect_stream(|| Nothing, one).unwrap());
        yield_now().await;
        kept.replace(Some(other)); // its end must not end the transport
    });
}

#[test]
fn a_transport_that_was_closed_or_is_a_servers_is_not_told() {
    check_silent(async || {
        let (one, _other) = UnixStream::pair().unwrap();
        let (transport, _) = connect_stream(|| Nothing, one).unwrap();
        transport.close();
        let (one, other) = UnixStream::pair().unwrap();
        let _lost = connect_stream(|| Nothing, one).unwrap();
        drop(other);

        let server = create_server(|| Nothing, loopback()).unwrap();
        let _client = std::net::TcpStream::connect(server.local_addr().unwrap()).unwrap();
        while server.connections() == 0 {
            yield_now().await;
        }
        for _ in 0..3 {
            yield_now().await;
        }
        server.close();

        let (one, _other) = UnixStream::pair().unwrap();
        connect_stream(|| Nothing, one).unwrap().0.close(); // which its task has not seen when the loop ends
    });
}

#[test]
fn a_datagram_transport_that_is_open_when_its_loop_ends_is_told() {
    let bind = || create_datagram_endpoint(|| Nothing, Some(loopback()), None).unwrap().0;
    check("a datagram transport at 127.0.0.1:", async || {
        drop(bind());
        yield_now().await;
    });
    check_silent(async || bind().close());
}

#[test]
fn of_what_only_a_task_that_is_cancelled_ends_no_end_of_the_loop_is_told() {
    let told = told(ENDS[0], async || {
        let (one, _other) = UnixStream::pair().unwrap();
        let _transport = connect_stream(|| Nothing, one).unwrap();
        let _endpoint = create_datagram_endpoint(|| Nothing, Some(loopback()), None).unwrap();
        let _server = start_server(silent, loopback()).unwrap();
        let _child = subprocess_exec(|| Nothing, Command::new("sleep").arg("60")).unwrap();
        yield_now().await;
        let own = current_task().unwrap().id();
        for task in all_tasks().into_iter().filter(|task| task.id() != own) {
            task.cancel("alone");
        }
        for _ in 0..5 {
            yield_now().await;
        }
        assert_eq!(all_tasks().len(), 1, "the loop goes on without them");
    });
    assert_eq!(told.len(), 4, "{told:?}");
    for (what, how) in [
        ("a transport was open", "when its task was cancelled, as at the end of a loop: `close` it first"),
        ("a datagram transport at", "when its task was cancelled, as at the end of a loop: `close` it first"),
        ("a server was serving", "when its task ended, as at the end of a loop"),
        ("`sleep` (process", "when its transport's task was dropped, as at the end of a loop"),
    ] {
        assert!(told.iter().any(|report| report.starts_with(what) && report.contains(how)), "{told:?}");
    }
}

// === Children ===

#[test]
fn a_child_whose_handle_is_dropped_while_it_runs_is_told() {
    check("was dropped while it ran, and runs on", async || {
        drop(Command::new("cat").stdin(PIPE).stdout(DEVNULL).spawn().unwrap()); // ends with its input
    });
}

#[test]
fn a_child_that_has_ended_or_whose_end_was_provided_for_is_not_told() {
    check_silent(async || {
        let cat = || Command::new("cat").stdin(PIPE).stdout(DEVNULL);
        drop(cat().on_drop(Ending::Kill).spawn().unwrap());
        drop(cat().on_drop(Ending::Leave).spawn().unwrap());
        cat().spawn().unwrap().end(Ending::Kill).await.unwrap();
        let off_loop = cat().on_drop(Ending::Kill).spawn_off_loop().await.unwrap();
        drop(off_loop);
        assert!(Command::new("true").status().await.unwrap().success());
        let mut given_up = create_task(cat().stdin(DEVNULL).output());
        yield_now().await;
        given_up.cancel("not needed");
        let _ = given_up.join().await;
    });
}

#[test]
fn a_child_that_runs_when_its_transports_loop_ends_is_told() {
    let child = || Command::new("sleep").arg("60");
    check("`sleep` (process ", async || {
        drop(subprocess_exec(|| Nothing, child()).unwrap());
        yield_now().await;
    });
    check_silent(async || {
        drop(subprocess_exec(|| Nothing, child().on_drop(Ending::Kill)).unwrap());
        let (ended, _) = subprocess_exec(|| Nothing, Command::new("true")).unwrap();
        ended.handle().wait().await.unwrap();
        while !ended.is_closing() {
            yield_now().await;
        }
        subprocess_exec(|| Nothing, child()).unwrap().0.close();

        // It has ended, and the loop does not turn any more to see that.
        let (unseen, _) = subprocess_exec(|| Nothing, Command::new("true")).unwrap();
        let pid = Pid::from_raw(unseen.pid().cast_signed()).unwrap();
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    });
}

// === Names ===

/// A clock that is later by a step each time somebody looks.
struct Steps {
    start: Instant,
    step: Duration,
    looks: AtomicU32,
}

impl Timers for Steps {
    fn now(&self) -> Instant {
        self.start + self.step * self.looks.fetch_add(1, Ordering::Relaxed)
    }
    fn insert(&self, _: Instant, _: &Waker) -> Result<TimerKey, TimersEnded> {
        Err(TimersEnded)
    }
    fn update(&self, _: TimerKey, _: Instant, _: Option<&Waker>) -> Result<bool, TimersEnded> {
        Err(TimersEnded)
    }
    fn remove(&self, _: TimerKey) -> bool {
        false
    }
}

#[test]
fn a_look_up_that_is_slow_itself_is_told_by_the_clock_of_the_runtime() {
    for (millis, expected) in [(99, &[][..]), (100, &["looking up localhost took 100.000ms"])] {
        let reports = Rc::new(RefCell::new(Vec::new()));
        let (told, clock) = (reports.clone(), VirtualClock::new());
        let hook = move |error: &evenloop::Unhandled<'_>| told.borrow_mut().push(error.to_string());
        let pool = ThreadPool::new(1);
        let builder = event_loop_builder(clock.clone().into()).thread_pool(pool.clone());
        let event_loop = builder.debug(true).on_unhandled(hook).build();
        event_loop.run_until_complete(async {
            let (let_go, held) = mpsc::channel::<()>();
            let holds = pool.run(move || held.recv()); // the only thread, until it is let go
            let mut looks_up = pin!(lookup_host("localhost", 80));
            {
                let steps = Steps {
                    start: clock.now(),
                    step: Duration::from_millis(millis),
                    looks: AtomicU32::new(0),
                };
                let spawn = Runtime::current_spawn("the test").unwrap();
                let runtime = Runtime::builder("steps").spawn(spawn).timers(Arc::new(steps)).build();
                let _within = runtime.enter();
                assert!(poll!(&mut looks_up).is_pending());
            }
            clock.advance(Duration::from_secs(3600)); // how long it waits for a thread is not its doing
            drop((let_go, holds));
            drop(looks_up.await); // whatever the machine answers
            lookup_host("127.0.0.1", 80).await.unwrap();
        });
        let reports = reports.borrow();
        let looked_up: Vec<_> = reports.iter().filter(|report| report.starts_with("looking up")).collect();
        assert_eq!(looked_up, expected, "{reports:?}");
    }
}

// === Writers ===

#[test]
fn a_writer_with_bytes_unsent_is_told() {
    let unsent = async || {
        let (one, _other) = UnixStream::pair().unwrap();
        let mut writer = StreamWriter::new(one);
        writer.write(b"never sent").unwrap();
    };
    for end in ENDS {
        let told = told(end, unsent);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("dropped with 10 bytes unsent"), "{told:?}");
        // A debug build tells of it anyway.
        assert_eq!(told_if(false, end, unsent).len(), usize::from(cfg!(debug_assertions)));
    }
}

/// Whoever calls it has no writer.
#[test]
fn a_run_that_is_given_up_tells_of_no_input() {
    check_silent(async || {
        let input = vec![0; 1 << 20];
        let run = || Command::new("sleep").arg("1000").run(&input);
        let mut dropped = Box::pin(run());
        assert!(poll!(&mut dropped).is_pending());
        drop(dropped);
        let scope = CancelScope::new();
        let mut cancelled = pin!(scope.run(run()));
        assert!(poll!(&mut cancelled).is_pending());
        scope.cancel("enough");
        assert!(cancelled.await.is_err());
    });
}

#[test]
fn a_socket_that_is_dropped_open_is_closed_and_not_told() {
    check_silent(async || {
        let (one, mut other) = UnixStream::pair().unwrap();
        drop(StreamWriter::new(one));
        drop(UdpSocket::bind(loopback()).unwrap());
        assert_eq!(StreamReader::new(&mut other).read(1).await.unwrap(), b"");
    });
}
