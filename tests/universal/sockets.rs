//! Rows of what waits for the kernel: sockets, readers and writers, servers, child processes, threads.

use crate::scene::{OnLoop, Only, Row, Test, Waiting, end, on_loop};
use evenloop_core::Direction;
use evenloop_core::cancel::shielded;
use evenloop_streams::{
    AsyncFd, Protocol, Server, StreamReader, StreamWriter, TcpListener, UdpSocket, UnixDatagram,
    UnixListener, UnixStream, connect_accepted_socket, sendfile, start_server,
};
use evenloop_sync::Event;
use evenloop_tests::loopback;
use rustix::net::RecvFlags;
use std::io::{self, Read, Write};
use std::net::{self as net_tcp, Shutdown};
use std::os::unix::net;
use std::sync::Arc;
use std::time::Duration;

const THROUGH_MUT: &str = "it is awaited through `&mut`, so one waits at a time";
/// A limit that no test meets.
const FAR: Duration = Duration::from_secs(1_000_000);

const NOT_TOLD: &str = "how many wait is not told";

const FILLS: &str = "it fills the buffer anew before it waits";

/// A row whose waiters nobody counts.
fn uncounted<S: 'static>(
    name: &'static str,
    state: impl Fn() -> S + 'static,
    wait: for<'a> fn(&'a OnLoop<S>) -> Waiting<'a>,
    serve: fn(&OnLoop<S>),
    poke: fn(&OnLoop<S>),
) -> Row {
    on_loop(name, state, wait, serve, |_| 0, poke).without(Test::Count, NOT_TOLD)
}

/// The other end of a socket, and what stays of ours.
struct Ends<T> {
    peer: net::UnixStream,
    ours: Only<T>,
}

fn ends<T>(of: fn(UnixStream) -> T) -> Ends<T> {
    let (peer, ours) = net::UnixStream::pair().expect("two descriptors");
    peer.set_nonblocking(true).expect("a socket can");
    ours.set_nonblocking(true).expect("a socket can");
    let made = Ends { peer, ours: Only::default() };
    drop(made.ours.put(of(UnixStream::from_std(ours).expect("the reactor watches it"))));
    made
}

/// What it takes is there from the beginning.
const THERE: &str = "it was put there";

// === Readers ===

fn reads(
    name: &'static str,
    wait: for<'a> fn(&'a OnLoop<Ends<StreamReader<UnixStream>>>) -> Waiting<'a>,
) -> Row {
    let serve = |on: &OnLoop<Ends<StreamReader<UnixStream>>>| {
        (&on.of.peer).write_all(b"line\n").expect("there is room");
    };
    uncounted(name, || ends(StreamReader::new), wait, serve, |on| end(on.event_loop.time()))
        .without(Test::Many, THROUGH_MUT)
}

fn readers() -> Vec<Row> {
    vec![
        reads("streams::StreamReader::read", |on| {
            on.inside(async { end(on.of.ours.take().expect(THERE).read(5).await) })
        }),
        reads("streams::StreamReader::readexactly", |on| {
            on.inside(async { end(on.of.ours.take().expect(THERE).readexactly(5).await) })
        }),
        reads("streams::StreamReader::readline", |on| {
            on.inside(async { end(on.of.ours.take().expect(THERE).readline().await) })
        }),
        reads("streams::StreamReader::readuntil", |on| {
            on.inside(async { end(on.of.ours.take().expect(THERE).readuntil(b"e\n").await) })
        }),
        reads("streams::StreamReader::readuntil_any", |on| {
            on.inside(async { end(on.of.ours.take().expect(THERE).readuntil_any(&[b"x", b"e\n"]).await) })
        }),
        uncounted(
            "streams::StreamReader::read_to_end",
            || ends(StreamReader::new),
            |on| on.inside(async { end(on.of.ours.take().expect(THERE).read_to_end().await) }),
            |on| end(on.of.peer.shutdown(Shutdown::Write)),
            |on| end(on.event_loop.time()),
        )
        .without(Test::Many, THROUGH_MUT),
    ]
}

// === Writers ===

type Writing = OnLoop<Ends<StreamWriter<UnixStream>>>;

/// All that the kernel takes, and a byte.
fn fill(writer: &mut StreamWriter<UnixStream>) {
    if !writer.is_closing() && writer.write_buffer_size() == 0 {
        while rustix::io::write(writer.get_ref(), &[0; 4096]).is_ok() {}
        writer.write(b"1").expect("the peer is there");
    }
}

fn writes(name: &'static str, wait: for<'a> fn(&'a Writing) -> Waiting<'a>) -> Row {
    let read_all = |on: &Writing| {
        let mut bytes = [0; 4096];
        while matches!((&on.of.peer).read(&mut bytes), Ok(1..)) {}
    };
    uncounted(name, || ends(StreamWriter::new), wait, read_all, |on| end(on.event_loop.time()))
        .without(Test::Many, THROUGH_MUT)
}

/// Hears nothing that matters.
struct Nothing;

impl Protocol for Nothing {
    fn data_received(&self, _: &[u8]) {}
}

/// With something in it.
fn a_file() -> std::fs::File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(b"in the file").expect("room on the disk");
    file
}

fn writers() -> Vec<Row> {
    vec![
        writes("streams::StreamWriter::drain", |on| {
            on.inside(async {
                let mut writer = on.of.ours.take().expect(THERE);
                fill(&mut writer);
                end(writer.drain().await);
            })
        }),
        writes("streams::StreamWriter::write_eof", |on| {
            on.inside(async {
                let mut writer = on.of.ours.take().expect(THERE);
                fill(&mut writer);
                end(writer.write_eof().await);
            })
        }),
        writes("streams::StreamWriter::sendfile", |on| {
            on.inside(async {
                let mut writer = on.of.ours.take().expect(THERE);
                fill(&mut writer);
                end(writer.sendfile(&mut a_file(), 0, None).await);
            })
        }),
        uncounted(
            "streams::sendfile",
            || {
                let ends = ends(std::convert::identity);
                let stream = ends.ours.take().expect(THERE);
                while rustix::io::write(&*stream, &[0; 4096]).is_ok() {}
                drop(stream);
                ends
            },
            |on| {
                on.inside(async {
                    let mut stream = on.of.ours.take().expect(THERE);
                    end(sendfile(&mut *stream, &mut a_file()).await);
                })
            },
            |on| while matches!((&on.of.peer).read(&mut [0; 4096]), Ok(1..)) {},
            |on| end(on.event_loop.time()),
        )
        .without(Test::Many, THROUGH_MUT),
        uncounted(
            "streams::Transport::sendfile",
            || {
                let (peer, ours) = net::UnixStream::pair().expect("two descriptors");
                peer.set_nonblocking(true).expect("a socket can");
                let ours = UnixStream::from_std(ours).expect("the reactor watches it");
                while rustix::io::write(&ours, &[0; 4096]).is_ok() {}
                (peer, connect_accepted_socket(|| Nothing, ours).expect("a loop runs here").0)
            },
            |on| {
                on.inside(async {
                    end(on.of.1.sendfile(&mut a_file(), 0, None).await);
                })
            },
            |on| while matches!((&on.of.0).read(&mut [0; 4096]), Ok(1..)) {},
            |on| end(on.of.1.write_buffer_size()),
        )
        .without(Test::Many, "one file is sent at a time"),
        writes("streams::StreamWriter::wait_closed", |on| {
            on.inside(async {
                let mut writer = on.of.ours.take().expect(THERE);
                fill(&mut writer);
                end(writer.wait_closed().await);
            })
        }),
    ]
}

// === Descriptors ===

type Watched = (net::UnixStream, AsyncFd<net::UnixStream>);

fn watched() -> Watched {
    let (peer, ours) = net::UnixStream::pair().expect("two descriptors");
    ours.set_nonblocking(true).expect("a socket can");
    peer.set_nonblocking(true).expect("a socket can");
    (peer, AsyncFd::new(ours).expect("the reactor watches it"))
}

fn a_byte_comes(on: &OnLoop<Watched>) {
    (&on.of.0).write_all(b"1").expect("there is room");
}

fn descriptor(name: &'static str, wait: for<'a> fn(&'a OnLoop<Watched>) -> Waiting<'a>) -> Row {
    uncounted(name, watched, wait, a_byte_comes, |on| end(format!("{:?}", on.of.1)))
}

fn read_one(mut from: &net::UnixStream) -> io::Result<usize> {
    from.read(&mut [0])
}

fn write_one(mut to: &net::UnixStream) -> io::Result<usize> {
    to.write(&[0])
}

/// All that the kernel takes.
fn fill_up(ours: &AsyncFd<net::UnixStream>) {
    while ours.try_with(Direction::Write, |mut ours| ours.write(&[0; 4096])).is_ok() {}
}

/// Waits for room.
fn full(name: &'static str, wait: for<'a> fn(&'a OnLoop<Watched>) -> Waiting<'a>) -> Row {
    let read_all = |on: &OnLoop<Watched>| while matches!((&on.of.0).read(&mut [0; 4096]), Ok(1..)) {};
    uncounted(name, watched, wait, read_all, |on| end(format!("{:?}", on.of.1)))
        .without(Test::Newcomer, FILLS)
}

fn descriptors() -> Vec<Row> {
    vec![
        descriptor("streams::AsyncFd::readable", |on| on.inside(async { end(on.of.1.readable().await) })),
        descriptor("streams::AsyncFd::read_with", |on| {
            on.inside(async { end(on.of.1.read_with(read_one).await) })
        }),
        descriptor("streams::AsyncFd::sock_recv", |on| on.inside(async { end(on.of.1.sock_recv(1).await) })),
        descriptor("streams::AsyncFd::sock_recv_into", |on| {
            on.inside(async { end(on.of.1.sock_recv_into(&mut [0]).await) })
        }),
        descriptor("streams::AsyncFd::sock_recvfrom", |on| {
            on.inside(async { end(on.of.1.sock_recvfrom(1).await) })
        }),
        descriptor("streams::AsyncFd::sock_recvfrom_into", |on| {
            on.inside(async { end(on.of.1.sock_recvfrom_into(&mut [0]).await) })
        }),
        full("streams::AsyncFd::writable", |on| {
            on.inside(async {
                fill_up(&on.of.1);
                end(on.of.1.writable().await);
            })
        }),
        full("streams::AsyncFd::write_with", |on| {
            on.inside(async {
                fill_up(&on.of.1);
                end(on.of.1.write_with(write_one).await);
            })
        }),
        full("streams::AsyncFd::sock_sendall", |on| {
            on.inside(async {
                fill_up(&on.of.1);
                end(on.of.1.sock_sendall(b"1").await);
            })
        }),
        uncounted(
            "streams::AsyncFd::sock_accept",
            || {
                let listener = net_tcp::TcpListener::bind(loopback()).expect("a port");
                listener.set_nonblocking(true).expect("a socket can");
                AsyncFd::new(listener).expect("the reactor watches it")
            },
            |on| on.inside(async { end(on.of.sock_accept().await) }),
            |on| {
                let address = on.of.get_ref().local_addr().expect("an address");
                end(net_tcp::TcpStream::connect(address).expect("the listener's queue takes it"));
            },
            |on| end(format!("{:?}", on.of)),
        ),
        uncounted(
            "streams::AsyncFd::sock_sendto",
            || {
                let folder = tempfile::tempdir().expect("a folder");
                let path = folder.path().join("socket");
                let peer = net::UnixDatagram::bind(&path).expect("a socket");
                peer.set_nonblocking(true).expect("a socket can");
                let ours = net::UnixDatagram::unbound().expect("a socket");
                ours.connect(&path).expect("the peer is there"); // of others' room it is told nothing
                ours.set_nonblocking(true).expect("a socket can");
                (peer, AsyncFd::new(ours).expect("the reactor watches it"), path, folder)
            },
            |on| {
                on.inside(async {
                    while on.of.1.get_ref().send(b"1").is_ok() {}
                    end(on.of.1.sock_sendto(b"1", on.of.2.as_path()).await);
                })
            },
            |on| while on.of.0.recv(&mut [0]).is_ok() {},
            |on| end(format!("{:?}", on.of.1)),
        )
        .without(Test::Newcomer, FILLS),
        uncounted(
            "streams::TcpListener::accept",
            || TcpListener::bind(loopback()).expect("a port"),
            |on| on.inside(async { end(on.of.accept().await) }),
            |on| {
                let address = on.of.local_addr().expect("an address");
                end(std::net::TcpStream::connect(address).expect("the listener's queue takes it"));
            },
            |on| end(on.of.local_addr()),
        ),
        uncounted(
            "streams::UnixListener::accept",
            || {
                let folder = tempfile::tempdir().expect("a folder");
                let path = folder.path().join("socket");
                (UnixListener::bind(&path).expect("a socket"), path, folder)
            },
            |on| on.inside(async { end(on.of.0.accept().await) }),
            |on| end(net::UnixStream::connect(&on.of.1).expect("the listener's queue takes it")),
            |on| end(format!("{:?}", on.of.0)),
        ),
        uncounted(
            "streams::UdpSocket::recv_from",
            || {
                (
                    UdpSocket::bind(loopback()).expect("a port"),
                    std::net::UdpSocket::bind(loopback()).expect("a port"),
                )
            },
            |on| on.inside(async { end(on.of.0.recv_from(&mut [0; 8]).await) }),
            |on| {
                end(on.of.1.send_to(b"1", on.of.0.local_addr().expect("an address")).expect("there is room"))
            },
            |on| end(on.of.0.local_addr()),
        ),
        uncounted(
            "streams::UnixDatagram::send",
            || UnixDatagram::pair().expect("two descriptors"),
            |on| {
                on.inside(async {
                    while rustix::io::write(&on.of.0, b"1").is_ok() {}
                    end(on.of.0.send(b"1").await);
                })
            },
            |on| while rustix::net::recv(&on.of.1, &mut [0], RecvFlags::DONTWAIT).is_ok() {},
            |on| end(format!("{:?}", on.of.0)),
        )
        .without(Test::Newcomer, FILLS),
        uncounted(
            "streams::UnixDatagram::recv",
            || UnixDatagram::pair().expect("two descriptors"),
            |on| on.inside(async { end(on.of.0.recv(&mut [0; 8]).await) }),
            |on| {
                on.event_loop.run_until_complete(on.of.1.send(b"1")).expect("there is room");
            },
            |on| end(format!("{:?}", on.of.0)),
        ),
    ]
}

// === Servers, children, threads ===

fn others() -> Vec<Row> {
    vec![
        uncounted(
            "streams::Server::wait_closed",
            || start_server(async |_, _| {}, loopback()).expect("a port"),
            |on: &OnLoop<Server>| on.inside(on.of.wait_closed()),
            |on| on.of.close(),
            |on| end((on.of.is_serving(), on.of.connections())),
        ),
        uncounted(
            "streams::Server::shutdown",
            || {
                let event = Arc::new(Event::new());
                let leaves_with_it = event.clone();
                let handler = move |_, _| {
                    let event = leaves_with_it.clone();
                    async move { shielded(event.wait()).await }
                };
                let server = start_server(handler, loopback()).expect("a port");
                let client = net_tcp::TcpStream::connect(server.local_addr().expect("an address"));
                (server, event, client.expect("the listener's queue takes it"))
            },
            |on| on.inside(async { end(on.of.0.shutdown(FAR).await) }),
            |on| on.of.1.set(),
            |on| end((on.of.0.is_serving(), on.of.0.connections())),
        )
        .without(Test::PanicsAgain, "it keeps a waker for the end and one for the limit")
        .sets_out_in(2, "those who accept end first, and tell it so"),
    ]
}

/// What waits for the kernel.
pub(crate) fn rows() -> Vec<Row> {
    [readers(), writers(), descriptors(), others()].into_iter().flatten().collect()
}
