//! asyncio's low-level calls: try first, leave the line when dropped; callbacks on descriptors.

use evenloop_core::budget::OPERATIONS;
use evenloop_executor::{create_task, yield_now};
use evenloop_streams::{Address, AsyncFd, TcpStream, lookup_host};
use evenloop_tests::syscalls::{rounds, succeeds_interrupted};
use evenloop_tests::{loopback, on_loop, on_reactor, until};
use futures::{AsyncReadExt, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use tempfile::TempDir;

fn pair() -> (Rc<AsyncFd<UnixStream>>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Rc::new(AsyncFd::new(ours).unwrap()), theirs)
}

async fn passes(n: usize) {
    for _ in 0..n {
        yield_now().await;
    }
}

#[test]
fn each_call_is_made_at_once_and_waits_only_if_it_would_block() {
    on_reactor(async {
        let (ours, mut theirs) = pair();
        theirs.write_all(b"hello").unwrap();
        // The reactor has not looked yet, so nothing is known: the first poll takes it nevertheless.
        let polled = poll!(pin!(ours.sock_recv(3)));
        assert!(matches!(polled, std::task::Poll::Ready(Ok(bytes)) if bytes == b"hel"));
        let mut room = [0; 10];
        assert_eq!(ours.sock_recv_into(&mut room).await.unwrap(), 2);
        assert_eq!(ours.sock_recv_into(&mut []).await.unwrap(), 0);
        let mut waits = Box::pin(ours.sock_recv(10));
        assert!(poll!(&mut waits).is_pending());
        theirs.write_all(b"more").unwrap();
        assert_eq!(waits.await.unwrap(), b"more");
        theirs.write_all(b"all").unwrap();
        assert_eq!(ours.sock_recv(usize::MAX).await.unwrap(), b"all");
        drop(theirs);
        assert!(ours.sock_recv(10).await.unwrap().is_empty());
    });
}

#[test]
fn dropping_a_call_leaves_the_line_at_once_and_takes_nothing() {
    on_reactor(async {
        let (ours, mut theirs) = pair();
        for _ in 0..100 {
            let mut waits = Box::pin(ours.sock_recv(10));
            assert!(poll!(&mut waits).is_pending());
            assert!(format!("{ours:?}").contains("waiters: 1 to read"), "{ours:?}");
            drop(waits);
            assert!(format!("{ours:?}").contains("waiters: 0 to read"), "{ours:?}");
        }
        theirs.write_all(b"for whom?").unwrap();
        assert_eq!(ours.sock_recv(10).await.unwrap(), b"for whom?");

        // A connection that comes after an accept was dropped is still there.
        let listener = AsyncFd::new(TcpListener::bind(loopback()).unwrap()).unwrap();
        let address = listener.get_ref().local_addr().unwrap();
        let mut waits = Box::pin(listener.sock_accept());
        assert!(poll!(&mut waits).is_pending());
        let mut client = std::net::TcpStream::connect(address).unwrap();
        drop(waits);
        let (socket, from) = listener.sock_accept().await.unwrap();
        assert_eq!(from, Some(Address::Inet(client.local_addr().unwrap())));
        let socket = AsyncFd::new(socket).unwrap();
        client.write_all(b"here").unwrap();
        assert_eq!(socket.sock_recv(10).await.unwrap(), b"here");
    });
}

/// Showed as a sender without a name, whom nobody could answer.
#[test]
fn a_path_is_bytes() {
    on_reactor(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(OsStr::from_bytes(b"a\xff"));
        let theirs = UnixDatagram::bind(&path).unwrap();
        let here = folder.path().join("here");
        let ours = AsyncFd::new(UnixDatagram::bind(&here).unwrap()).unwrap();
        theirs.send_to(b"ping", &here).unwrap();
        let (_, from) = ours.sock_recvfrom(10).await.unwrap();
        assert_eq!(from, Some(Address::Unix(Some(path))));
        ours.sock_sendto(b"pong", from.unwrap()).await.unwrap();
        assert_eq!(theirs.recv(&mut [0; 10]).unwrap(), 4);
    });
}

/// Runs `greedy`, which counts what it does, beside a task that counts the passes. Answers the greatest step in between.
async fn greatest_step(greedy: impl Future<Output = ()>, done: &Cell<u32>) -> u32 {
    let mut greedy = pin!(greedy);
    let (mut greatest, mut before) = (0, 0);
    while before < 5000 {
        assert!(poll!(&mut greedy).is_pending(), "it goes on and on");
        greatest = greatest.max(done.get() - before);
        before = done.get();
        yield_now().await;
    }
    greatest
}

fn count(done: &Cell<u32>) {
    done.set(done.get() + 1);
    assert!(done.get() < 100_000, "the other task has its turns");
}

/// Showed as 20,000 datagrams between two turns of everybody else.
#[test]
fn calls_that_never_wait_starve_nobody() {
    on_loop(async {
        let done = Cell::new(0);
        let socket = AsyncFd::new(UdpSocket::bind(loopback()).unwrap()).unwrap();
        let here = socket.get_ref().local_addr().unwrap();
        let sends = async {
            loop {
                socket.sock_sendto(b"x", here).await.unwrap();
                assert_eq!(socket.sock_recv(1).await.unwrap(), b"x");
                count(&done);
                count(&done);
            }
        };
        let step = greatest_step(sends, &done).await;
        assert!(step <= OPERATIONS, "{step}");

        let done = Cell::new(0);
        let waits = async {
            loop {
                socket.writable().await.unwrap();
                count(&done);
            }
        };
        assert_eq!(greatest_step(waits, &done).await, OPERATIONS);

        let done = Cell::new(0);
        let connects = async {
            loop {
                socket.sock_connect(here).await.unwrap();
                count(&done);
            }
        };
        assert_eq!(greatest_step(connects, &done).await, OPERATIONS);
    });
}

/// Showed as a loop that never came to its other tasks, nor to the timeout around this: what the reactor had seen once was
/// taken for true until a call of the descriptor's own disproved it.
#[test]
fn readable_waits_again_when_everything_was_read_by_hand() {
    on_loop(async {
        let (ours, theirs) = pair();
        let writes = create_task(async move {
            for _ in 0..3 {
                passes(300).await; // so the reactor looks in between
                (&theirs).write_all(b"x").unwrap();
            }
            theirs
        });
        let (mut came, mut in_vain) = (0, 0);
        while came < 3 {
            ours.readable().await.unwrap();
            match ours.get_ref().read(&mut [0; 10]) {
                Ok(n) => came += n,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    in_vain += 1;
                    assert!(in_vain < 3, "it was not readable");
                }
            }
        }
        // The end is news, too.
        drop(writes.await);
        ours.readable().await.unwrap();
        assert_eq!(ours.get_ref().read(&mut [0; 10]).unwrap(), 0);
    });
}

#[test]
fn sendall_sends_more_than_the_buffers_hold() {
    on_reactor(async {
        let (ours, mut theirs) = pair();
        let much = vec![7; 4 * 1024 * 1024];
        let reads = std::thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).unwrap();
            all.len()
        });
        ours.sock_sendall(&much).await.unwrap();
        drop(ours);
        assert_eq!(reads.join().unwrap(), much.len());

        let (ours, theirs) = pair();
        drop(theirs);
        assert_eq!(ours.sock_sendall(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn datagrams_keep_their_borders_and_say_whom_they_come_from() {
    on_reactor(async {
        let ours = AsyncFd::new(UdpSocket::bind(loopback()).unwrap()).unwrap();
        let theirs = UdpSocket::bind(loopback()).unwrap();
        let (here, there) = (ours.get_ref().local_addr().unwrap(), theirs.local_addr().unwrap());
        assert_eq!(ours.sock_sendto(b"ping", there).await.unwrap(), 4);
        let mut room = [0; 10];
        assert_eq!(theirs.recv_from(&mut room).unwrap(), (4, here));
        theirs.send_to(b"pong, and more", here).unwrap();
        theirs.send_to(b"", here).unwrap();
        assert_eq!(ours.sock_recvfrom(4).await.unwrap(), (b"pong".to_vec(), Some(there.into())));
        assert_eq!(ours.sock_recvfrom_into(&mut room).await.unwrap(), (0, Some(there.into())));
    });
}

fn new_socket(family: AddressFamily) -> AsyncFd<OwnedFd> {
    AsyncFd::new(socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()).unwrap()
}

#[test]
fn a_socket_that_is_bound_first_connects_and_becomes_a_stream() {
    on_loop(async {
        let listener = TcpListener::bind(loopback()).unwrap();
        let socket = new_socket(AddressFamily::INET);
        let from = SocketAddr::from(([127, 0, 0, 2], 0));
        bind(&socket, &from).unwrap();
        socket.sock_connect(listener.local_addr().unwrap()).await.unwrap();
        let mut stream = TcpStream::from_std(socket.into_inner().into()).unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), from.ip());
        let (mut served, peer) = listener.accept().unwrap();
        assert_eq!(peer, stream.local_addr().unwrap());
        served.write_all(b"hello").unwrap();
        let mut room = [0; 5];
        AsyncReadExt::read_exact(&mut stream, &mut room).await.unwrap();
        assert_eq!(&room, b"hello");
    });
}

#[test]
fn connecting_waits_for_the_answer_and_tells_a_refusal() {
    on_loop(async {
        let listener = TcpListener::bind(loopback()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = lookup_host("127.0.0.1", port).await.unwrap()[0];
        let socket = new_socket(AddressFamily::INET);
        passes(100).await; // the kernel calls an unconnected socket writable: that must not pass for connected
        socket.sock_connect(address).await.unwrap();
        let (mut served, _) = listener.accept().unwrap();
        socket.sock_sendall(b"hello").await.unwrap();
        let mut room = [0; 5];
        served.read_exact(&mut room).unwrap();
        assert_eq!(&room, b"hello");
        let nobody = served.peer_addr().unwrap(); // a client's port: nobody else can come to listen there
        let another = new_socket(AddressFamily::INET);
        let error = another.sock_connect(nobody).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);

        // Unix: by path.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = new_socket(AddressFamily::UNIX);
        bind(&listener, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&listener, 8).unwrap();
        let socket = new_socket(AddressFamily::UNIX);
        socket.sock_connect(path.as_path()).await.unwrap();
        let (_, from) = listener.sock_accept().await.unwrap();
        assert_eq!(from, Some(Address::Unix(None)));
        let error = socket.sock_connect(Address::Unix(None)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let missing = new_socket(AddressFamily::UNIX);
        let error = missing.sock_connect(Path::new("/no/such/socket")).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    });
}

// === Callbacks ===

#[test]
fn a_reader_is_called_once_a_pass_as_long_as_there_is_something() {
    on_loop(async {
        let (ours, mut theirs) = pair();
        let calls = Rc::new(Cell::new(0));
        let counts = calls.clone();
        assert!(!ours.add_reader(move || counts.set(counts.get() + 1)).unwrap());
        passes(100).await;
        assert_eq!(calls.get(), 0);
        theirs.write_all(b"x").unwrap();
        while calls.get() < 10 {
            yield_now().await; // it does not read, and is called again
        }
        ours.get_ref().read_exact(&mut [0]).unwrap();
        passes(5).await;
        let after = calls.get();
        passes(200).await;
        assert_eq!(calls.get(), after, "nothing is there any more");
        theirs.write_all(b"y").unwrap();
        while calls.get() == after {
            yield_now().await;
        }
        assert!(ours.remove_reader());
        assert!(!ours.remove_reader());
        let after = calls.get();
        passes(100).await;
        assert_eq!(calls.get(), after, "removed");
    });
}

#[test]
fn a_new_callback_takes_the_place_of_the_old_one_which_is_dropped_at_once() {
    on_loop(async {
        struct Held(Rc<RefCell<Vec<&'static str>>>, &'static str);
        impl Drop for Held {
            fn drop(&mut self) {
                self.0.borrow_mut().push(self.1);
            }
        }
        let (ours, mut theirs) = pair();
        let log = Rc::new(RefCell::new(Vec::new()));
        let called = Rc::new(Cell::new(""));
        for name in ["first", "second"] {
            let (held, called) = (Held(log.clone(), name), called.clone());
            let there_was_one = ours.add_reader(move || {
                let _ = &held;
                called.set(name);
            });
            assert_eq!(there_was_one.unwrap(), name == "second");
        }
        assert_eq!(*log.borrow(), ["first"]);
        theirs.write_all(b"x").unwrap();
        while called.get().is_empty() {
            yield_now().await;
        }
        assert_eq!(called.get(), "second");
        // Directions are apart.
        let writes = called.clone();
        assert!(!ours.add_writer(move || writes.set("writer")).unwrap());
        while called.get() != "writer" {
            yield_now().await;
        }
        assert!(ours.remove_writer() && ours.remove_reader());
        assert_eq!(*log.borrow(), ["first", "second"]);
    });
}

#[test]
fn a_callback_may_remove_itself_and_does_not_keep_its_descriptor() {
    on_loop(async {
        let (ours, mut theirs) = pair();
        let calls = Rc::new(Cell::new(0));
        let (counts, itself) = (calls.clone(), Rc::downgrade(&ours));
        ours.add_reader(move || {
            counts.set(counts.get() + 1);
            assert!(itself.upgrade().unwrap().remove_reader());
        })
        .unwrap();
        theirs.write_all(b"x").unwrap();
        passes(200).await;
        assert_eq!(calls.get(), 1);
        assert_eq!(ours.sock_recv(10).await.unwrap(), b"x");

        let held = Rc::new(());
        let holds = held.clone();
        ours.add_writer(move || {
            let _ = &holds;
        })
        .unwrap();
        passes(10).await;
        drop(ours);
        passes(10).await;
        assert_eq!(Rc::strong_count(&held), 1, "the callback went with its descriptor");
        assert_eq!(theirs.read(&mut [0; 10]).unwrap(), 0, "which is closed");
    });
}

#[test]
fn a_callback_that_panics_is_reported_and_stays() {
    on_loop(async {
        let (ours, mut theirs) = pair();
        let calls = Rc::new(Cell::new(0));
        let counts = calls.clone();
        ours.add_reader(move || {
            counts.set(counts.get() + 1);
            assert!(counts.get() != 1, "only once");
        })
        .unwrap();
        theirs.write_all(b"x").unwrap();
        while calls.get() < 3 {
            yield_now().await;
        }
        assert!(ours.remove_reader());
    });
}

/// Showed as a reader that was never called again, and as a send that never ended.
#[test]
fn a_signal_while_the_kernel_is_asked_is_no_answer() {
    if rounds().is_none() {
        let succeeds = succeeds_interrupted("a_signal_while_the_kernel_is_asked_is_no_answer", "poll,ppoll");
        return assert!(succeeds != Some(false), "see above");
    }
    on_loop(async {
        let (ours, mut theirs) = pair();
        let calls = Rc::new(Cell::new(0));
        let (counts, reads) = (calls.clone(), Rc::downgrade(&ours));
        ours.add_reader(move || {
            reads.upgrade().unwrap().get_ref().read_exact(&mut [0]).unwrap();
            counts.set(counts.get() + 1);
        })
        .unwrap();
        for n in 1..=5 {
            theirs.write_all(b"x").unwrap();
            until(|| calls.get() == n).await;
        }
        assert!(ours.remove_reader());
        let (_folder, _peer, ours, path) = full_peer();
        for _ in 0..5 {
            let full = ours.sock_sendto(b"2", path.as_path()).await.unwrap_err();
            assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        }
    });
}

/// A peer whose queue is full, and a socket that is not connected to it.
fn full_peer() -> (TempDir, UnixDatagram, AsyncFd<UnixDatagram>, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peer");
    let peer = UnixDatagram::bind(&path).unwrap();
    peer.set_nonblocking(true).unwrap();
    let ours = UnixDatagram::unbound().unwrap();
    ours.set_nonblocking(true).unwrap();
    while ours.send_to(b"1", &path).is_ok() {}
    (folder, peer, AsyncFd::new(ours).unwrap(), path)
}

#[test]
fn sending_to_a_peer_that_has_no_room_says_so_where_nobody_would_report_room() {
    on_loop(async {
        let (_folder, peer, ours, path) = full_peer();
        passes(4).await;
        let polled = poll!(pin!(ours.sock_sendto(b"2", path.as_path())));
        let Poll::Ready(Err(full)) = polled else { panic!("it would wait for ever: {polled:?}") };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(peer.recv(&mut [0]).unwrap(), 1);
        assert_eq!(ours.sock_sendto(b"2", path.as_path()).await.unwrap(), 1);
    });
}
