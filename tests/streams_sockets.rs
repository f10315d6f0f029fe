//! TCP and Unix sockets on the reactor alone: bytes, ends, errors, and what happens behind our back.

use evenloop_core::shim::StdArc;
use evenloop_core::{Park, Reactor, Readiness, Ready, Runtime, Wait};
use evenloop_streams::{
    AsyncFd, IoFailure, ListenConfig, ReactorDriver, StreamReader, TcpListener, TcpStream, UnixListener,
    UnixStream, open_connection,
};
use evenloop_tests::{connected, drive, loopback, many, on_reactor};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, future};
use std::io::{self, IoSlice, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

static_assertions::assert_impl_all!(TcpStream: Send, Sync, Unpin, std::fmt::Debug);
static_assertions::assert_impl_all!(UnixStream: Send, Sync, Unpin, std::fmt::Debug);
static_assertions::assert_impl_all!(AsyncFd<OwnedFd>: Send, Sync, Unpin, std::fmt::Debug);
static_assertions::assert_impl_all!(evenloop_streams::ReactorHandle: Send, Sync, Clone);
static_assertions::assert_impl_all!(ReactorDriver: Send, AsFd);

/// Counts its wake-ups.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn bytes_go_both_ways_and_the_end_arrives() {
    on_reactor(async {
        let (mut client, mut server) = connected().await;
        assert_eq!(client.peer_addr().unwrap(), server.local_addr().unwrap());
        client.write_all(b"ping").await.unwrap();
        let mut bytes = [0; 4];
        server.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"ping");
        server.write_all(b"pong").await.unwrap();
        server.close().await.unwrap(); // half: the server still reads
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"pong");
        client.write_all(b"late").await.unwrap();
        drop(client);
        all.clear();
        server.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"late");
    });
}

#[test]
fn more_bytes_than_the_kernel_holds_go_through_in_order() {
    const MANY: usize = 8 * 1024 * 1024;
    on_reactor(async {
        let (client, server) = connected().await;
        let (mut from_server, mut to_server) = client.into_split();
        let (mut from_client, mut to_client) = server.into_split();
        let sent: Vec<u8> = (0..MANY).map(|i| (i * 7 + i / 256) as u8).collect();
        let write = async {
            to_server.write_all(&sent).await.unwrap();
            drop(to_server); // sends the end
        };
        let echo = async {
            futures::io::copy(&mut from_client, &mut to_client).await.unwrap();
            drop(to_client);
        };
        let mut got = Vec::new();
        let read = async { from_server.read_to_end(&mut got).await.unwrap() };
        future::join3(write, echo, read).await;
        assert!(got == sent, "{} bytes came back of {}", got.len(), sent.len());
    });
}

/// Small writes of many pieces are put together first: whatever their sizes, every byte comes, in order.
#[test]
fn pieces_of_any_size_arrive_in_order() {
    on_reactor(async {
        let (mut here, mut there) = connected().await;
        for sizes in [
            &[0, 0][..],
            &[1, 0, 2],
            &[1000, 23],
            &[1000, 24],
            &[1000, 25],
            &[1023, 1, 1],
            &[0, 1024],
            &[5000, 1, 300],
        ] {
            let all: Vec<u8> = (0..sizes.iter().sum()).map(|place: usize| place as u8).collect();
            let mut rest = &all[..];
            let pieces: Vec<IoSlice<'_>> = sizes
                .iter()
                .map(|size| {
                    let (piece, others) = rest.split_at(*size);
                    rest = others;
                    IoSlice::new(piece)
                })
                .collect();
            assert_eq!(here.write_vectored(&pieces).await.unwrap(), all.len(), "{sizes:?}");
            let mut came = vec![0; all.len()];
            there.read_exact(&mut came).await.unwrap();
            assert!(came == all, "{sizes:?}");
        }
    });
}

#[test]
fn unix_sockets_do_the_same_and_name_the_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    on_reactor(async {
        let mut listener = UnixListener::bind(&path).unwrap();
        let (client, server) = future::join(UnixStream::connect(&path), listener.accept()).await;
        let (mut client, (mut server, _)) = (client.unwrap(), server.unwrap());
        assert_eq!(format!("{client:?}"), format!("UnixStream [to {}]", path.display()));
        assert_eq!(format!("{server:?}"), format!("UnixStream [to client of {}]", path.display()));
        client.write_all(b"ping").await.unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        server.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"ping");

        let mut incoming = listener.incoming();
        let (client, server) = future::join(UnixStream::connect(&path), incoming.next()).await;
        drop((client.unwrap(), server.unwrap().unwrap()));
    });
    let error = on_reactor(UnixStream::connect(directory.path().join("nobody"))).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().contains("connecting to ") && error.to_string().contains("nobody"), "{error}");
}

/// The kernel cuts a read where a descriptor was sent along, and tells nobody that more has come.
#[test]
fn a_read_cut_short_by_a_descriptor_does_not_hang() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    on_reactor(async {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let passed = [theirs.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut with_fd = SendAncillaryBuffer::new(&mut space);
        assert!(with_fd.push(SendAncillaryMessage::ScmRights(&passed)));
        let none = &mut SendAncillaryBuffer::new(&mut []);
        sendmsg(&theirs, &[io::IoSlice::new(b"one")], &mut with_fd, SendFlags::empty()).unwrap();
        sendmsg(&theirs, &[io::IoSlice::new(b"two")], none, SendFlags::empty()).unwrap();
        let mut reader = StreamReader::new(&mut ours);
        assert_eq!(reader.readexactly(6).await.unwrap(), b"onetwo");
    });
}

/// The kernel also cuts a read at urgent data.
#[test]
fn a_read_cut_short_by_urgent_data_does_not_hang() {
    use rustix::net::{SendFlags, send};
    on_reactor(async {
        let (client, server) = connected().await;
        send(&client, b"one", SendFlags::empty()).unwrap();
        send(&client, b"!", SendFlags::OOB).unwrap();
        send(&client, b"two", SendFlags::empty()).unwrap();
        let mut reader = StreamReader::new(server);
        assert_eq!(reader.readexactly(6).await.unwrap(), b"onetwo");
    });
}

#[test]
fn errors_say_what_and_with_whom() {
    on_reactor(async {
        let (client, _server) = connected().await;
        let nobody = client.local_addr().unwrap(); // a client's port: nobody else can come to listen there
        let error = TcpStream::connect(nobody).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().starts_with(&format!("connecting to {nobody}: ")), "{error}");
        assert_eq!(IoFailure::of(&error).unwrap().os_error(), Some(111));

        let taken = TcpListener::bind(loopback()).unwrap();
        let error = TcpListener::bind(taken.local_addr().unwrap()).unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("listening on {}: ", taken.local_addr().unwrap())),
            "{error}"
        );

        let (mut client, server) = connected().await;
        server.set_linger(Some(Duration::ZERO)).unwrap(); // dropping it resets
        let peer = client.peer_addr().unwrap();
        drop(server);
        let error = client.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(error.to_string().starts_with(&format!("reading from {peer}: ")), "{error}");
    });
    let message = futures::executor::block_on(TcpStream::connect(loopback())).unwrap_err().to_string();
    assert!(message.starts_with("`TcpStream::connect` needs a reactor"), "{message}");
    let failed = futures::executor::block_on(open_connection("localhost", 9)).unwrap_err().to_string();
    assert!(failed.starts_with("`open_connection` needs a reactor"), "{failed}"); // and not a call inside of it
    let failed =
        futures::executor::block_on(TcpStream::connect_host("localhost", 9)).unwrap_err().to_string();
    assert!(failed.starts_with("`TcpStream::connect_host` needs a reactor"), "{failed}");
}

#[test]
fn the_peer_is_the_one_that_the_kernel_connected_to() {
    on_reactor(async {
        let listener = TcpListener::bind(loopback()).unwrap();
        let at = listener.local_addr().unwrap();
        let stream = TcpStream::connect(([0, 0, 0, 0], at.port()).into()).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), at);
    });
}

#[test]
fn an_empty_read_is_not_the_end_and_a_closed_side_spins_nobody() {
    on_reactor(async {
        let (mut client, mut server) = connected().await;
        server.write_all(b"last").await.unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut []).await.unwrap(), 0);
        client.readable().await.unwrap();
        let mut bytes = [0; 100];
        assert_eq!(client.read(&mut bytes).await.unwrap(), 4);
        assert_eq!(client.read(&mut bytes).await.unwrap(), 0);
        assert_eq!(client.read(&mut bytes).await.unwrap(), 0, "the end stays");
    });
}

#[test]
fn an_idle_connection_polls_nobody() {
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let mut driver = ReactorDriver::new().unwrap();
    let runtime = Runtime::builder("test").reactor(StdArc::new(driver.handle())).build();
    let _entered = runtime.enter();
    let (mut client, server) = drive(&mut driver, connected());
    let mut bytes = [0; 8];
    let mut read = client.read(&mut bytes);
    assert!(Pin::new(&mut read).poll_it(&waker).is_pending());
    while driver.park(Some(Duration::from_millis(20))).unwrap() {}
    assert_eq!(count.0.load(Ordering::Relaxed), 0, "nothing has come, so nobody is woken");
    assert_eq!(server.try_write(b"x").unwrap(), 1);
    driver.park(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert!(matches!(Pin::new(&mut read).poll_it(&waker), Poll::Ready(Ok(1))));
}

/// Polls with a waker at hand.
trait PollIt: std::future::Future {
    fn poll_it(self: Pin<&mut Self>, waker: &Waker) -> Poll<Self::Output> {
        self.poll(&mut Context::from_waker(waker))
    }
}

impl<F: std::future::Future> PollIt for F {}

#[test]
fn only_the_last_waker_of_a_read_is_woken() {
    let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let (one, two) = (Waker::from(first.clone()), Waker::from(second.clone()));
    let mut driver = ReactorDriver::new().unwrap();
    let runtime = Runtime::builder("test").reactor(StdArc::new(driver.handle())).build();
    let _entered = runtime.enter();
    let (mut client, server) = drive(&mut driver, connected());
    let mut bytes = [0; 8];
    let mut read = client.read(&mut bytes);
    assert!(Pin::new(&mut read).poll_it(&one).is_pending());
    assert!(Pin::new(&mut read).poll_it(&two).is_pending());
    drop(one);
    assert_eq!(Arc::strong_count(&first), 1, "the first waker is dropped with its turn");
    server.try_write(b"x").unwrap();
    while second.0.load(Ordering::Relaxed) == 0 {
        driver.park(Some(Duration::from_secs(20))).unwrap();
    }
    assert_eq!((first.0.load(Ordering::Relaxed), second.0.load(Ordering::Relaxed)), (0, 1));
}

#[test]
fn several_tasks_accept_and_a_cancelled_one_takes_no_connection() {
    on_reactor(async {
        let listener = TcpListener::bind(loopback()).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let mut first = Box::pin(listener.accept());
        let second = listener.accept();
        assert!(first.as_mut().poll(&mut cx).is_pending());
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        drop(first); // woken perhaps, but never polled again
        let (_, peer) = second.await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    });
}

#[test]
fn giving_a_descriptor_away_deregisters_it() {
    let driver = ReactorDriver::new().unwrap();
    let runtime = Runtime::builder("test").reactor(StdArc::new(driver.handle())).build();
    let _entered = runtime.enter();
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut stream = ours;
    for _ in 0..1000 {
        stream = UnixStream::from_std(stream).unwrap().into_std();
    }
    assert_eq!(format!("{driver:?}"), "ReactorDriver [idle, sources: 0]");
    let fd: OwnedFd = UnixStream::from_std(stream).unwrap().into();
    drop(UnixStream::try_from(fd).unwrap());
    assert_eq!(format!("{driver:?}"), "ReactorDriver [idle, sources: 0]");
}

#[test]
fn options_of_a_connection_are_set() {
    on_reactor(async {
        let (stream, _peer) = connected().await;
        for on in [true, false] {
            stream.set_nodelay(on).unwrap();
            stream.set_keepalive(on).unwrap();
            assert_eq!(stream.nodelay().unwrap(), on);
            assert_eq!(rustix::net::sockopt::socket_keepalive(&stream).unwrap(), on);
        }
    });
}

#[test]
fn what_cannot_be_watched_comes_back_and_leaves_no_trace() {
    let driver = ReactorDriver::new().unwrap();
    let runtime = Runtime::builder("test").reactor(StdArc::new(driver.handle())).build();
    let file = tempfile::tempfile().unwrap();
    let number = file.as_raw_fd();
    let refused = AsyncFd::new_on(&runtime, file).unwrap_err();
    assert_eq!(refused.error.raw_os_error(), Some(1), "EPERM: a regular file is always ready");
    assert_eq!(refused.io.as_raw_fd(), number);
    assert_eq!(format!("{driver:?}"), "ReactorDriver [idle, sources: 0]");
}

#[test]
fn after_the_reactor_has_ended_every_call_is_an_error() {
    let mut driver = ReactorDriver::new().unwrap();
    let handle = driver.handle();
    let runtime = Runtime::builder("test").reactor(StdArc::new(handle.clone())).build();
    let _entered = runtime.enter();
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let (mut client, server) = drive(&mut driver, connected());
    let listener = TcpListener::bind(loopback()).unwrap();
    let mut bytes = [0; 8];
    let mut waiting = client.read(&mut bytes);
    assert!(Pin::new(&mut waiting).poll_it(&waker).is_pending());
    drop(driver);
    assert_eq!(count.0.load(Ordering::Relaxed), 1, "who waits is told");
    let ended = |error: io::Error| assert!(error.to_string().ends_with("has ended"), "{error}");
    futures::executor::block_on(async {
        ended(waiting.await.unwrap_err());
    });
    futures::executor::block_on(async {
        ended(client.write(b"x").await.unwrap_err());
        ended(server.readable().await.unwrap_err());
        ended(listener.accept().await.unwrap_err());
        ended(TcpStream::connect(server.peer_addr().unwrap()).await.unwrap_err());
    });
    assert!(handle.register(server.as_fd(), &StdArc::new(Readiness::new(Ready::NOTHING))).is_err());
}

#[test]
fn other_threads_end_the_wait_with_one_write_a_park() {
    /// What was written to the wake-up descriptor so far, which is all that a new driver watches; nobody reads it.
    fn writes(driver: &ReactorDriver) -> u64 {
        let told = |fd: &str, name: &str| {
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
            let rest = info.split_once(name).expect("the kernel tells").1;
            rest.split_whitespace().next().unwrap().to_owned()
        };
        let wake_up = told(&driver.as_fd().as_raw_fd().to_string(), "tfd:");
        u64::from_str_radix(&told(&wake_up, "eventfd-count:"), 16).unwrap()
    }
    let mut driver = ReactorDriver::new().unwrap();
    let unparker = driver.unparker();
    for _ in 0..many(1_000_000) {
        unparker.unpark(); // nobody sleeps: no system call, nothing fills up
    }
    assert_eq!(writes(&driver), 0);
    assert!(driver.park(None).unwrap());
    for parks in 1..=100 {
        assert_eq!(driver.hand_over(), Wait::Forever); // from here to the next park it is as if it slept
        let others = [(); 2].map(|()| {
            let unparker = unparker.clone();
            thread::spawn(move || (0..100).for_each(|_| unparker.unpark()))
        });
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(writes(&driver), parks);
        assert!(driver.park(None).unwrap());
    }
    let before = writes(&driver);
    let other = thread::spawn(move || {
        for _ in 0..10_000 {
            unparker.unpark();
        }
        unparker
    });
    let mut parks = 0;
    while !other.is_finished() {
        driver.park(Some(Duration::from_millis(1))).unwrap();
        parks += 1;
    }
    let unparker = other.join().unwrap();
    assert!(writes(&driver) - before <= parks);
    drop(driver);
    unparker.unpark(); // after the end: nothing happens
}

#[test]
fn a_guest_turns_when_its_descriptor_is_readable() {
    let mut driver = ReactorDriver::new().unwrap();
    let handle = driver.handle();
    let runtime = Runtime::builder("guest").reactor(StdArc::new(handle)).build();
    let _entered = runtime.enter();
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let stream = UnixStream::from_std(ours).unwrap();
    while driver.turn().unwrap() {}
    let readable = |driver: &ReactorDriver, timeout_ms: i64| {
        let mut polled = [rustix::event::PollFd::new(driver, rustix::event::PollFlags::IN)];
        let timeout =
            rustix::time::Timespec { tv_sec: timeout_ms / 1000, tv_nsec: timeout_ms % 1000 * 1_000_000 };
        rustix::event::poll(&mut polled, Some(&timeout)).unwrap() == 1
    };
    while readable(&driver, 0) {
        driver.turn().unwrap(); // what registration reported
    }
    theirs.write_all(b"x").unwrap();
    assert!(readable(&driver, 20_000));
    driver.turn().unwrap();
    assert_eq!(stream.try_read(&mut [0; 8]).unwrap(), 1);
    assert!(!readable(&driver, 0));
}

#[test]
fn halves_reunite_only_with_their_own() {
    on_reactor(async {
        let (one, two) = connected().await;
        let (read_one, write_one) = one.into_split();
        let (read_two, write_two) = two.into_split();
        let error = read_one.reunite(write_two).unwrap_err();
        let (read_one, write_two) = (error.read, error.write);
        let mut one = read_one.reunite(write_one).unwrap();
        let mut two = read_two.reunite(write_two).unwrap();
        one.write_all(b"x").await.unwrap(); // reuniting sent no end
        assert_eq!(two.read(&mut [0; 8]).await.unwrap(), 1);
    });
}

#[test]
fn everything_is_closed_on_exec() {
    on_reactor(async {
        let (client, server) = connected().await;
        let listener = TcpListener::bind(loopback()).unwrap();
        let (left, right) = UnixStream::pair().unwrap();
        let fds = [client.as_fd(), server.as_fd(), listener.as_fd(), left.as_fd(), right.as_fd()];
        for fd in fds {
            assert!(rustix::io::fcntl_getfd(fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC), "{fd:?}");
        }
    });
}

#[test]
fn options_of_a_listener_are_set() {
    on_reactor(async {
        let anywhere = loopback();
        let alone = ListenConfig::new().listen(anywhere).unwrap();
        let taken = ListenConfig::new().reuse_port(true).listen(alone.local_addr().unwrap()).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        assert!(taken.to_string().contains("listening on 127.0.0.1:"), "{taken}");

        let shared = ListenConfig::new().reuse_port(true);
        let one = shared.listen(anywhere).unwrap();
        let other = shared.listen_std(one.local_addr().unwrap()).unwrap();
        assert_eq!(other.local_addr().unwrap(), one.local_addr().unwrap());
        assert_eq!(other.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);

        // A full queue takes one more than it says, then clients wait.
        let short = ListenConfig::new().backlog(1).listen(anywhere).unwrap();
        let address = short.local_addr().unwrap();
        let _waiting =
            [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let mut third = pin!(TcpStream::connect(address));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(third.as_mut().poll(&mut cx).is_pending());
        let _elsewhere = connected().await; // by then it would be through
        assert!(third.as_mut().poll(&mut cx).is_pending());
        let _accepted = short.accept().await.unwrap();

        let six = std::net::SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
        if ListenConfig::new().only_v6(true).listen(six).is_err() {
            return; // no IPv6 here
        }
        // Somebody else may have the port under IPv4.
        let both = (0..100).any(|_| {
            let six = ListenConfig::new().only_v6(true).listen(six).unwrap();
            let four = std::net::SocketAddr::from(([0, 0, 0, 0], six.local_addr().unwrap().port()));
            ListenConfig::new().listen(four).is_ok()
        });
        assert!(both, "IPv6 leaves it free");
    });
}
