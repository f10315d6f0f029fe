//! Protocols on UDP sockets and on the ends of pipes.

use evenloop_executor::yield_now;
use evenloop_streams::{
    Address, DatagramProtocol, DatagramTransport, Protocol, Transport, UdpSocket, UnixStream,
    connect_accepted_socket, connect_datagram_socket, connect_read_pipe, connect_stream, connect_write_pipe,
    create_datagram_endpoint,
};
use evenloop_tests::{Log, connected, loopback, on_loop, until};
use std::cell::{Cell, OnceCell};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

fn told(error: Option<io::Error>) -> String {
    error.map_or("lost".to_owned(), |error| format!("lost: {:?}", error.kind()))
}

#[derive(Default)]
struct Datagrams {
    log: Log,
    transport: OnceCell<DatagramTransport>,
    answers: bool,
    panics: bool,
}

impl DatagramProtocol for Datagrams {
    fn connection_made(&self, transport: DatagramTransport) {
        self.log.add("made");
        let _ = self.transport.set(transport);
    }

    fn datagram_received(&self, data: &[u8], from: SocketAddr) {
        self.log.add(format!("datagram {}", String::from_utf8_lossy(data)));
        assert!(!self.panics, "bad protocol");
        if self.answers {
            self.transport.get().unwrap().sendto(data, from).unwrap();
        }
    }

    fn error_received(&self, error: io::Error) {
        self.log.add(format!("error: {:?}", error.kind()));
    }

    fn connection_lost(&self, error: Option<io::Error>) {
        self.log.add(told(error));
    }

    fn pause_writing(&self) {
        self.log.add("pause");
    }

    fn resume_writing(&self) {
        self.log.add("resume");
    }
}

fn endpoint(
    log: &Log,
    local: Option<SocketAddr>,
    remote: Option<SocketAddr>,
    answers: bool,
) -> DatagramTransport {
    let protocol = || Datagrams { log: log.clone(), answers, ..Datagrams::default() };
    create_datagram_endpoint(protocol, local, remote).unwrap().0
}

#[test]
fn datagrams_come_whole_and_answers_go_back() {
    on_loop(async {
        let (served, here) = (Log::default(), Log::default());
        let server = endpoint(&served, Some(loopback()), None, true);
        let address = server.extra_info().sockname.unwrap().inet().unwrap();
        let client = endpoint(&here, None, Some(address), false);
        assert_eq!(client.extra_info().peername.unwrap().inet(), Some(address));
        client.sendto(b"one", None).unwrap();
        client.sendto(b"two", address).unwrap();
        client.sendto(b"", None).unwrap();
        until(|| here.has("datagram ")).await;
        assert_eq!(here.all(), ["made", "datagram one", "datagram two", "datagram "]);

        // Misuse.
        let error = client.sendto(b"x", SocketAddr::from(([127, 0, 0, 1], 9))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(server.sendto(b"x", None).unwrap_err().kind(), io::ErrorKind::InvalidInput);

        client.close();
        client.close();
        assert!(client.is_closing() && !here.has("lost"));
        assert_eq!(client.sendto(b"late", None).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        until(|| here.has("lost")).await;
        server.abort();
        until(|| served.has("lost")).await;
        assert_eq!(here.all().iter().filter(|said| *said == "lost").count(), 1);
    });
}

#[test]
fn an_endpoint_with_a_peer_alone_knows_its_own_address() {
    on_loop(async {
        let peer = std::net::UdpSocket::bind(loopback()).unwrap();
        let remote = peer.local_addr().unwrap();
        let log = Log::default();
        let transport = endpoint(&log, None, Some(remote), false);
        transport.sendto(b"from there", None).unwrap();
        // A datagram that never comes must not block the loop.
        peer.set_nonblocking(true).unwrap();
        let mut from = loopback();
        until(|| peer.recv_from(&mut [0; 20]).map(|(_, sender)| from = sender).is_ok()).await;
        assert_eq!(transport.extra_info().sockname, Some(Address::Inet(from)));
        transport.close();
    });
}

#[test]
fn a_refusal_and_a_datagram_that_is_too_long_are_told_and_the_endpoint_goes_on() {
    on_loop(async {
        let gone = std::net::UdpSocket::bind(loopback()).unwrap();
        let address = gone.local_addr().unwrap();
        gone.connect("127.0.0.1:9").unwrap(); // it takes nothing from others, and nobody else gets its port
        let log = Log::default();
        let transport = endpoint(&log, None, Some(address), false);
        transport.sendto(b"anybody?", None).unwrap();
        until(|| log.has("error: ConnectionRefused")).await;
        transport.sendto(&vec![0; 70_000], None).unwrap();
        until(|| log.all().len() >= 3).await;
        assert!(!transport.is_closing());

        drop(gone);
        let now_there = std::net::UdpSocket::bind(address).unwrap();
        now_there.set_nonblocking(true).unwrap();
        transport.sendto(b"again", None).unwrap();
        let mut room = [0; 10];
        until(|| now_there.recv(&mut room).is_ok_and(|n| n == 5)).await;
        transport.close();
        until(|| log.has("lost")).await;
    });
}

#[test]
fn a_datagram_protocol_that_panics_ends_its_own_endpoint() {
    on_loop(async {
        let log = Log::default();
        let well = Log::default();
        let other = endpoint(&well, Some(loopback()), None, true);
        let protocol = || Datagrams { log: log.clone(), panics: true, ..Datagrams::default() };
        let (transport, _) = create_datagram_endpoint(protocol, Some(loopback()), None).unwrap();
        let address = transport.extra_info().sockname.unwrap().inet().unwrap();
        other.sendto(b"boom", address).unwrap();
        until(|| log.has("lost: Other")).await;
        assert_eq!(log.all(), ["made", "datagram boom", "lost: Other"]);
        assert!(!other.is_closing());
    });
}

#[test]
fn a_socket_that_was_made_elsewhere_is_served_and_its_marks_count_headers() {
    on_loop(async {
        let socket = UdpSocket::bind(loopback()).unwrap();
        socket.set_broadcast(true).unwrap();
        let log = Log::default();
        let (transport, protocol) =
            connect_datagram_socket(|| Datagrams { log: log.clone(), ..Datagrams::default() }, socket)
                .unwrap();
        assert_eq!(transport.write_buffer_limits(), (16 * 1024, 64 * 1024));
        transport.set_write_buffer_limits(None, Some(10));
        assert_eq!(transport.write_buffer_limits(), (10, 40));
        assert_eq!(transport.write_buffer_size(), 0);
        assert!(protocol.transport.get().is_some());
        transport.close();
        until(|| log.has("lost")).await;
    });
}

// === Pipes ===

#[derive(Default)]
struct End {
    log: Log,
    transport: OnceCell<Transport>,
    received: Cell<usize>,
}

impl Protocol for End {
    fn connection_made(&self, transport: Transport) {
        self.log.add("made");
        let _ = self.transport.set(transport);
    }

    fn data_received(&self, data: &[u8]) {
        self.received.set(self.received.get() + data.len());
        self.log.add(format!("data {}", String::from_utf8_lossy(&data[..data.len().min(10)])));
    }

    fn eof_received(&self) -> bool {
        self.log.add("eof");
        true // a pipe has one end: not heeded
    }

    fn connection_lost(&self, error: Option<io::Error>) {
        self.log.add(told(error));
    }

    fn pause_writing(&self) {
        self.log.add("pause");
    }

    fn resume_writing(&self) {
        self.log.add("resume");
    }
}

#[test]
fn a_pipes_reading_end_hears_data_and_then_the_end() {
    on_loop(async {
        let (reads, mut writes) = std::io::pipe().unwrap();
        let log = Log::default();
        let (transport, _) =
            connect_read_pipe(|| End { log: log.clone(), ..End::default() }, OwnedFd::from(reads)).unwrap();
        let error = transport.write(b"x").unwrap_err();
        assert_eq!(error.to_string(), "`write`: this connection is for reading only");
        writes.write_all(b"hello").unwrap();
        until(|| log.has("data hello")).await;
        drop(writes);
        until(|| log.has("lost")).await;
        assert_eq!(log.all(), ["made", "data hello", "eof", "lost"]);
    });
}

#[test]
fn a_pipes_writing_end_sends_all_before_it_closes_and_notices_that_nobody_reads() {
    on_loop(async {
        let (mut reads, writes) = std::io::pipe().unwrap();
        let log = Log::default();
        let (transport, _) =
            connect_write_pipe(|| End { log: log.clone(), ..End::default() }, OwnedFd::from(writes)).unwrap();
        let much = vec![1; 1024 * 1024];
        transport.write(&much).unwrap();
        transport.close();
        assert!(log.has("pause"));
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            reads.read_to_end(&mut all).unwrap();
            all.len()
        });
        until(|| log.has("lost")).await;
        assert_eq!(reader.join().unwrap(), much.len());

        // Nothing unsent: in order. Something unsent: an error.
        for unsent in [false, true] {
            let (reads, writes) = std::io::pipe().unwrap();
            let log = Log::default();
            let (transport, _) =
                connect_write_pipe(|| End { log: log.clone(), ..End::default() }, OwnedFd::from(writes))
                    .unwrap();
            if unsent {
                transport.write(&much).unwrap();
            }
            for _ in 0..100 {
                yield_now().await;
            }
            assert!(!transport.is_closing());
            drop(reads);
            until(|| log.all().iter().any(|said| said.starts_with("lost"))).await;
            assert!(log.has(if unsent { "lost: BrokenPipe" } else { "lost" }), "{:?}", log.all());
        }
    });
}

#[test]
fn a_regular_file_is_refused() {
    on_loop(async {
        let file = tempfile::tempfile().unwrap();
        let error = connect_read_pipe(End::default, file.try_clone().unwrap()).err().unwrap();
        assert_eq!(error.to_string(), "`connect_read_pipe` takes pipes, sockets and character devices");
        assert_eq!(connect_write_pipe(End::default, file).err().unwrap().kind(), io::ErrorKind::InvalidInput);
    });
}

// === What is below ===

struct Nothing;

impl Protocol for Nothing {
    fn data_received(&self, _: &[u8]) {}
}

impl DatagramProtocol for Nothing {
    fn datagram_received(&self, _: &[u8], _: SocketAddr) {}
}

/// asyncio's `get_extra_info('socket')`: a protocol had no way to the options of its socket.
#[test]
fn a_transport_gives_out_what_is_below_it_for_options() {
    on_loop(async {
        let (client, server) = connected().await;
        let (transport, _) = connect_accepted_socket(|| Nothing, client).unwrap();
        let socket = || transport.descriptor().map(std::net::TcpStream::from);
        assert!(!socket().unwrap().nodelay().unwrap());
        socket().unwrap().set_nodelay(true).unwrap();
        assert!(socket().unwrap().nodelay().unwrap(), "it belongs to the socket");
        let peer = server.peer_addr().unwrap();
        assert_eq!(socket().unwrap().local_addr().unwrap(), peer);
        transport.close();
        until(|| transport.protocol().is_none()).await;
        assert_eq!(socket().unwrap_err().kind(), io::ErrorKind::NotConnected);

        let (_reading, writing) = io::pipe().unwrap();
        let (pipe, _) = connect_write_pipe(|| Nothing, writing).unwrap();
        rustix::pipe::fcntl_getpipe_size(pipe.descriptor().unwrap()).unwrap();
        pipe.close();
        let (foreign, _) = connect_stream(|| Nothing, UnixStream::pair().unwrap().0).unwrap();
        assert_eq!(foreign.descriptor().unwrap_err().kind(), io::ErrorKind::Unsupported);
        foreign.close();

        let (endpoint, _) = create_datagram_endpoint(|| Nothing, Some(loopback()), None).unwrap();
        let socket = endpoint.descriptor().map(std::net::UdpSocket::from).unwrap();
        socket.set_broadcast(true).unwrap();
        assert_eq!(Some(socket.local_addr().unwrap()), endpoint.extra_info().sockname.unwrap().inet());
        endpoint.close();
    });
}
