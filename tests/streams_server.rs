//! Servers: serving, and the ways in which they end.

use evenloop_core::cancel::catch_cancel;
use evenloop_executor::yield_now;
use evenloop_streams::{
    Address, AsyncFd, Protocol, Server, ServerConfig, StreamReader, StreamWriter, TcpListener, UnixListener,
    UnixReader, UnixWriter, create_unix_connection, open_connection, open_unix_connection, start_server,
    start_unix_server,
};
use evenloop_tests::{loopback, on_loop, panic_of, until};
use futures::{future, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::cell::{Cell, OnceCell};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    loop {
        let bytes = reader.read(1024).await?;
        if bytes.is_empty() {
            return writer.wait_closed().await;
        }
        writer.write(&bytes)?;
        writer.drain().await?;
    }
}

async fn connect(server: &Server) -> (StreamReader, StreamWriter) {
    open_connection("127.0.0.1", server.local_addr().unwrap().port()).await.unwrap()
}

#[test]
fn an_echo_server_in_asyncios_words() {
    on_loop(async {
        let server = start_server(echo, loopback()).unwrap();
        let clients = (0..20).map(|number| {
            let server = server.clone();
            async move {
                let (mut reader, mut writer) = connect(&server).await;
                let line = format!("hello from {number}\n");
                writer.write(line.as_bytes()).unwrap();
                writer.drain().await.unwrap();
                assert_eq!(reader.readline().await.unwrap(), line.as_bytes());
                writer.wait_closed().await.unwrap();
                assert!(reader.readline().await.unwrap().is_empty());
            }
        });
        future::join_all(clients).await;
        server.close();
        server.wait_closed().await;
        assert_eq!(format!("{server:?}"), "Server [closed, connections: 0]");
    });
}

#[test]
fn closing_stops_accepting_and_connections_go_on() {
    on_loop(async {
        let server = start_server(echo, loopback()).unwrap();
        let address = server.local_addr().unwrap();
        let (mut reader, mut writer) = connect(&server).await;
        until(|| server.connections() == 1).await;
        server.close();
        assert!(!server.is_serving());
        drop(std::net::TcpListener::bind(address).expect("the listener is gone at once, as in asyncio"));
        let mut closed = pin!(server.wait_closed());
        assert!(poll!(&mut closed).is_pending());
        writer.write(b"still here\n").unwrap();
        assert_eq!(reader.readline().await.unwrap(), b"still here\n");
        writer.wait_closed().await.unwrap();
        closed.await;
    });
}

#[test]
fn a_server_may_be_closed_by_the_call_of_its_handler_and_is_gone_after_that() {
    on_loop(async {
        let itself = Rc::new(OnceCell::<Server>::new());
        let freed = Rc::new(Cell::new(false));
        let (closes, frees) = (itself.clone(), freed.clone());
        let handler = move |_: StreamReader, _: StreamWriter| {
            let server = closes.get().unwrap();
            server.close();
            frees.set(std::net::TcpListener::bind(server.local_addr().unwrap()).is_ok());
            async {}
        };
        let server = itself.get_or_init(|| start_server(handler, loopback()).unwrap());
        let _client = connect(server).await;
        server.wait_closed().await;
        assert!(freed.get(), "at once");
    });
}

/// Showed as a server that was serving, and whose end had come.
#[test]
fn a_server_without_a_listener_and_a_reader_without_room_are_refused() {
    async fn quiet(_: UnixReader, _: UnixWriter) {}
    on_loop(async {
        let config = ServerConfig::new();
        for started in [
            config.start_on([], echo),
            config.start_on_send([], echo),
            config.start_unix_on([], quiet),
            config.start_protocol_on([], || Deaf),
        ] {
            let error = started.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("without a listener"), "{error}");
        }
    });
    assert_eq!(panic_of(|| ServerConfig::new().limit(0)), "`limit` needs at least one byte");
}

#[test]
fn a_cancelled_handler_says_farewell_and_one_that_does_not_end_is_dropped() {
    async fn handler(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
        let stubborn = reader.readline().await? == b"stay\n";
        writer.write(b"ready\n")?;
        match catch_cancel(reader.readline()).await {
            Ok(_) => unreachable!("the client says nothing more"),
            Err(cancelled) => {
                writer.write(b"farewell\n")?;
                writer.drain().await?;
                if stubborn {
                    future::pending::<()>().await;
                }
                writer.wait_closed().await?;
                cancelled.absorb();
            }
        }
        Ok(())
    }
    on_loop(async {
        let silent = ServerConfig::new().on_error(|error| panic!("cancelled is no error: {error}"));
        let server = silent.start(handler, loopback()).unwrap();
        let (mut stays, mut stays_writer) = connect(&server).await;
        let (mut goes, mut goes_writer) = connect(&server).await;
        stays_writer.write(b"stay\n").unwrap();
        goes_writer.write(b"go\n").unwrap();
        for reader in [&mut stays, &mut goes] {
            assert_eq!(reader.readline().await.unwrap(), b"ready\n");
        }
        let dropped = server.shutdown(Duration::from_millis(50)).await.unwrap();
        assert_eq!(dropped, 1);
        for reader in [&mut stays, &mut goes] {
            assert_eq!(reader.readline().await.unwrap(), b"farewell\n");
            assert_eq!(reader.readline().await.unwrap(), b"", "and the connection is closed");
        }
        server.wait_closed().await; // at once
        assert_eq!(server.shutdown(Duration::ZERO).await.unwrap(), 0);
    });
}

#[test]
fn a_handlers_error_is_reported_and_its_connection_closed() {
    let errors = Arc::new(Mutex::new(Vec::new()));
    on_loop(async {
        let config = ServerConfig::new().on_error({
            let errors = errors.clone();
            move |error| errors.lock().unwrap().push(error.to_owned())
        });
        let fails = async |_: StreamReader, _: StreamWriter| Err::<(), _>("out of tea");
        let server = config.start(fails, loopback()).unwrap();
        let (mut reader, _writer) = connect(&server).await;
        assert!(reader.read(1).await.unwrap().is_empty());
        let (mut reader, _writer) = connect(&server).await;
        assert!(reader.read(1).await.unwrap().is_empty());
        server.close();
        server.wait_closed().await;
    });
    let expected = "the handler of a connection failed: out of tea";
    assert_eq!(*errors.lock().unwrap(), [expected, expected]);
}

#[test]
fn a_handler_that_panics_costs_its_own_connection_only() {
    let errors = Arc::new(Mutex::new(Vec::new()));
    on_loop(async {
        let config = ServerConfig::new().on_error({
            let errors = errors.clone();
            move |error| errors.lock().unwrap().push(error.to_owned())
        });
        let called = std::cell::Cell::new(0);
        let handler = move |reader, writer| {
            called.set(called.get() + 1);
            assert!(called.get() > 1, "panics as it is called");
            let panics = called.get() == 2;
            async move {
                assert!(!panics, "panics when it is polled");
                echo(reader, writer).await
            }
        };
        let server = config.start(handler, loopback()).unwrap();
        for _ in 0..2 {
            let (mut reader, _writer) = connect(&server).await;
            assert!(reader.read(1).await.unwrap().is_empty());
        }
        let (mut reader, mut writer) = connect(&server).await;
        writer.write(b"third\n").unwrap();
        assert_eq!(reader.readline().await.unwrap(), b"third\n");
        assert_eq!(server.connections(), 1);
    });
    assert_eq!(*errors.lock().unwrap(), ["a connection was dropped: calling the handler panicked"]);
}

#[test]
fn no_more_connections_than_allowed_and_the_next_when_one_ends() {
    on_loop(async {
        let config = ServerConfig::new().max_connections(1);
        let server = config.start(echo, loopback()).unwrap();
        let (mut first, mut first_writer) = connect(&server).await;
        let (mut second, mut second_writer) = connect(&server).await; // waits in the kernel
        second_writer.write(b"two\n").unwrap();
        first_writer.write(b"one\n").unwrap();
        assert_eq!(first.readline().await.unwrap(), b"one\n");
        assert_eq!(server.connections(), 1);
        assert!(poll!(second.readline()).is_pending(), "served although there was no place");
        first_writer.wait_closed().await.unwrap();
        assert_eq!(second.readline().await.unwrap(), b"two\n");
    });
}

#[test]
fn who_serves_for_ever_closes_when_it_is_dropped_and_cancels_the_handlers() {
    on_loop(async {
        let server = start_server(echo, loopback()).unwrap();
        let other = server.clone();
        let (mut reader, _writer) = connect(&server).await;
        until(|| server.connections() == 1).await;
        {
            let mut forever = pin!(server.serve_forever());
            assert!(poll!(&mut forever).is_pending());
            assert!(other.is_serving());
            let second = server.serve_forever().await.unwrap_err();
            assert_eq!(second.to_string(), "`serve_forever` of this server is being awaited already");
        }
        assert!(!other.is_serving());
        assert_eq!(reader.read(1).await.unwrap(), b"", "its handler was cancelled");
        other.wait_closed().await;
        assert_eq!(
            server.serve_forever().await.unwrap_err().to_string(),
            "`serve_forever`: the server is closed"
        );

        // Closed by somebody else, it ends well.
        let server = start_server(echo, loopback()).unwrap();
        let mut forever = pin!(server.serve_forever());
        assert!(poll!(&mut forever).is_pending());
        server.close();
        forever.await.unwrap();
    });
}

#[test]
fn one_server_listens_in_several_places_and_within_one_limit() {
    check_several_places(|config, listeners| config.start_on(listeners, echo));
    // With tasks that the host may move between threads.
    check_several_places(|config, listeners| config.start_on_send(listeners, echo));
}

fn check_several_places(start: impl FnOnce(ServerConfig, [TcpListener; 2]) -> io::Result<Server>) {
    on_loop(async {
        let listeners = [TcpListener::bind(loopback()).unwrap(), TcpListener::bind(loopback()).unwrap()];
        let server = start(ServerConfig::new().max_connections(1), listeners).unwrap();
        let [one, other] = server.local_addrs() else { panic!("two places") };
        assert_eq!((server.local_addr(), one.port() == other.port()), (Some(*one), false));
        let (mut first, mut first_writer) = open_connection("127.0.0.1", one.port()).await.unwrap();
        let (mut second, mut second_writer) = open_connection("127.0.0.1", other.port()).await.unwrap();
        second_writer.write(b"two\n").unwrap();
        first_writer.write(b"one\n").unwrap();
        assert_eq!(first.readline().await.unwrap(), b"one\n");
        assert!(poll!(second.readline()).is_pending(), "served although there was no place");
        first_writer.wait_closed().await.unwrap();
        assert_eq!(second.readline().await.unwrap(), b"two\n");
        server.close();
        server.close_clients();
        server.wait_closed().await;
        for address in [*one, *other] {
            drop(std::net::TcpListener::bind(address).expect("both are gone"));
        }
    });
}

#[test]
fn a_server_whose_loop_ends_before_it_began_is_closed() {
    let (server, path, _directory) = evenloop::new_event_loop().run_until_complete(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        async fn quiet(_: UnixReader, _: UnixWriter) {}
        let server = start_unix_server(quiet, &path).unwrap();
        assert!(path.exists());
        (server, path, directory)
    });
    assert!(!server.is_serving());
    assert!(!path.exists(), "it takes its file along");
    evenloop_tests::park_until(server.wait_closed());
}

#[test]
fn a_crowd_that_connects_does_not_keep_others_from_their_turn() {
    on_loop(async {
        let server = start_server(echo, loopback()).unwrap();
        let address = server.local_addr().unwrap();
        let crowd: Vec<_> = (0..250).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        yield_now().await; // the acceptor begins to wait, or accepts
        let mut steps = vec![server.connections()];
        while server.connections() < crowd.len() {
            yield_now().await;
            steps.push(server.connections());
        }
        let most = steps.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        assert!(most <= 100, "in one turn: {steps:?}");
        server.abort_clients();
        server.close();
        server.wait_closed().await;
    });
}

#[test]
fn servers_for_hosts_with_several_threads_do_the_same_over_a_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    on_loop(async {
        async fn shout(mut reader: UnixReader, mut writer: UnixWriter) -> io::Result<()> {
            let line = reader.readline().await?;
            writer.write(&line.to_ascii_uppercase())?;
            writer.wait_closed().await
        }
        let server = ServerConfig::new().limit(100).start_unix_send(shout, &path).unwrap();
        let (mut reader, mut writer) = open_unix_connection(&path).await.unwrap();
        writer.write(b"hello\n").unwrap();
        assert_eq!(reader.read_to_end().await.unwrap(), b"HELLO\n");
        assert_eq!(server.shutdown(Duration::from_secs(5)).await.unwrap(), 0);
        assert!(!path.exists());
    });
}

#[test]
fn a_socket_file_is_replaced_refused_and_removed_as_it_should() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    async fn quiet(_: UnixReader, _: UnixWriter) {}
    on_loop(async {
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap()); // leaves its file
        let server = start_unix_server(quiet, &path).unwrap();
        drop(open_unix_connection(&path).await.unwrap());

        let error = start_unix_server(quiet, &path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        let file = directory.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        let error = start_unix_server(quiet, &file).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), b"precious");

        server.close();
        assert!(!path.exists(), "at once");
        server.wait_closed().await;

        let server = start_unix_server(quiet, &path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "another's").unwrap();
        server.close();
        server.wait_closed().await;
        assert!(path.exists(), "not the server's own file any more");
    });
}

/// Showed as a thread that blocked for ever: the question whether somebody listens waited for a place in their queue.
#[test]
fn whoever_listens_with_a_full_queue_listens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    rustix::net::bind(&listener, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _waits = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let datagrams = directory.path().join("datagrams");
    let _bound = std::os::unix::net::UnixDatagram::bind(&datagrams).unwrap();
    let (answers, answer) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        on_loop(async {
            for path in [path, datagrams] {
                let started = start_unix_server(async |_: UnixReader, _: UnixWriter| {}, &path);
                answers.send((started.unwrap_err(), path.exists())).unwrap();
            }
        });
    });
    for _ in 0..2 {
        let (error, is_there) =
            answer.recv_timeout(Duration::from_secs(20)).expect("nobody waits for others");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        assert!(is_there);
    }
}

/// Showed as the claim that somebody listens. (A superuser may everything.)
#[test]
fn whoever_may_not_find_out_whether_somebody_listens_is_told_that() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    on_loop(async {
        let started = start_unix_server(async |_: UnixReader, _: UnixWriter| {}, &path);
        match rustix::process::geteuid().is_root() {
            true => drop(started.unwrap()),
            false => assert_eq!(started.unwrap_err().kind(), io::ErrorKind::PermissionDenied),
        }
    });
}

async fn greet(_: UnixReader, mut writer: UnixWriter) -> io::Result<()> {
    writer.write(b"hello\n")?;
    writer.wait_closed().await
}

struct Deaf;

impl Protocol for Deaf {
    fn data_received(&self, _: &[u8]) {}
}

#[test]
fn an_abstract_name_is_served_as_a_path_is_and_leaves_no_file() {
    let name = format!("\0evenloop-test-{}", std::process::id());
    let shown = format!("\"{}\" (abstract)", &name[1..]);
    let name = OsStr::from_bytes(name.as_bytes());
    on_loop(async {
        let server = start_unix_server(greet, name).unwrap();
        let (mut reader, _writer) = open_unix_connection(name).await.unwrap();
        assert_eq!(reader.readline().await.unwrap(), b"hello\n");
        let (transport, _) = create_unix_connection(|| Deaf, name).await.unwrap();
        let peer = transport.extra_info().peername.unwrap();
        assert_eq!((peer.to_string(), &peer), (shown.clone(), &Address::Unix(Some(name.into()))));
        transport.close();
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        let socket = AsyncFd::new(socket).unwrap();
        socket.sock_connect(peer).await.unwrap();
        let mut room = [0; 6];
        assert_eq!(socket.sock_recv_into(&mut room).await.unwrap(), 6);
        assert_eq!(&room, b"hello\n");
        let error = start_unix_server(greet, name).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        assert!(error.to_string().contains(&shown), "{error}");
        server.close();
        server.wait_closed().await;
        let error = open_unix_connection(name).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
        assert!(error.to_string().contains(&shown), "{error}");
    });
}

#[test]
fn a_unix_listener_from_elsewhere_is_served_and_its_file_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    on_loop(async {
        let listener = UnixListener::bind(&path).unwrap();
        let server = ServerConfig::new().start_unix_on([listener], greet).unwrap();
        let (mut reader, _writer) = open_unix_connection(&path).await.unwrap();
        assert_eq!(reader.readline().await.unwrap(), b"hello\n");
        server.close();
        server.wait_closed().await;
        assert!(path.exists());
    });
}
