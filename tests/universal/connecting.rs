//! Rows of what makes a connection: to a socket, to a host, and over TLS.
//!
//! On loopback a connection is there at once. So those who connect are watched by a reactor that tells them nothing until it is
//! their turn.

use crate::scene::{OnLoop, Row, Test, Waiting, end, on_loop, tell};
use evenloop_core::shim::Mutex;
use evenloop_core::{Reactor, Readiness, Ready, Runtime, SourceKey, Unwatched, WakeBatch};
use evenloop_streams::tls::{TlsAcceptor, TlsConnector, pki_types, rustls};
use evenloop_streams::{
    Protocol, TcpStream, Transport, UnixStream, connect_accepted_socket, create_connection,
    create_unix_connection, open_connection, open_unix_connection,
};
use evenloop_tests::loopback;
use rustix::event::{PollFd, PollFlags, poll};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net;
use std::path::PathBuf;
use std::sync::Arc;

const NOT_TOLD: &str = "how many wait is not told";
const A_LIMIT: &str = "it keeps a waker for the descriptor and one for the limit";
const GIVES_UP: &str = "the transport's task gives its stream up first";
const A_HANDSHAKE: &str = "each makes a connection and the first message of a handshake";

// === A reactor that waits for its cue ===

/// The number of the last one, and who is watched, by number.
type Watched = (u64, BTreeMap<u64, (OwnedFd, Arc<Readiness>)>);

#[derive(Default)]
struct Reticent(Mutex<Watched>);

impl Reactor for Reticent {
    fn register(&self, fd: BorrowedFd<'_>, readiness: &Arc<Readiness>) -> io::Result<SourceKey> {
        let watched = (fd.try_clone_to_owned()?, readiness.clone());
        let mut all = self.0.lock();
        all.0 += 1;
        let key = all.0;
        all.1.insert(key, watched);
        Ok(SourceKey::from_raw(key))
    }

    fn deregister(&self, _: BorrowedFd<'_>, key: SourceKey) {
        let gone = self.0.lock().1.remove(&key.into_raw());
        let Some((_, readiness)) = gone else { return };
        let mut due = WakeBatch::new();
        while readiness.unwatch(Unwatched::Deregistered, &mut due) {
            due.wake_all();
        }
        due.wake_all();
    }
}

impl Reticent {
    /// Tells everybody that writing is worth a try, once it is.
    fn speak(&self) {
        let copied = |(fd, readiness): &(OwnedFd, Arc<Readiness>)| {
            (fd.try_clone().expect("a descriptor"), readiness.clone())
        };
        let all: Vec<_> = self.0.lock().1.values().map(copied).collect();
        for (fd, readiness) in all {
            poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None).expect("the connection ends");
            tell(&readiness, Ready::WRITE);
        }
    }
}

/// Whom to connect to, and a runtime that is reticent.
struct Hosts {
    tcp: std::net::TcpListener,
    unix: net::UnixListener,
    path: PathBuf,
    reactor: Arc<Reticent>,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Hosts {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let tcp = std::net::TcpListener::bind(loopback()).expect("a port");
        let unix = net::UnixListener::bind(&path).expect("a socket");
        tcp.set_nonblocking(true).expect("a socket can");
        unix.set_nonblocking(true).expect("a socket can");
        let reactor = Arc::new(Reticent::default());
        let timers = Runtime::current_timers("Hosts::new").expect("a loop runs here");
        let spawn = Runtime::current_spawn("Hosts::new").expect("a loop runs here");
        let runtime =
            Runtime::builder("reticent").timers(timers).spawn(spawn).reactor(reactor.clone()).build();
        Self { tcp, unix, path, reactor, runtime, _folder: folder }
    }

    fn address(&self) -> SocketAddr {
        self.tcp.local_addr().expect("an address")
    }

    fn port(&self) -> u16 {
        self.address().port()
    }

    /// Takes those who have connected out of the queues.
    fn accept(&self) {
        while self.tcp.accept().is_ok() {}
        while self.unix.accept().is_ok() {}
    }
}

impl OnLoop<Hosts> {
    /// The future, where the reticent reactor watches.
    fn connecting<'a>(&'a self, future: impl Future<Output = ()> + 'a) -> Waiting<'a> {
        self.of.accept();
        self.inside(self.of.runtime.scope(future))
    }
}

fn connects(name: &'static str, wait: for<'a> fn(&'a OnLoop<Hosts>) -> Waiting<'a>) -> Row {
    on_loop(name, Hosts::new, wait, |on| on.of.reactor.speak(), |_| 0, |on| end(on.event_loop.time()))
        .without(Test::Count, NOT_TOLD)
        .without(Test::Often, "each makes a connection")
}

#[derive(Default)]
struct Nothing;

impl Protocol for Nothing {
    fn data_received(&self, _: &[u8]) {}
}

fn to_hosts() -> Vec<Row> {
    vec![
        connects("streams::TcpStream::connect", |on| {
            on.connecting(async { end(TcpStream::connect(on.of.address()).await.expect("it listens")) })
        }),
        connects("streams::TcpStream::connect_on", |on| {
            let connecting = TcpStream::connect_on(&on.of.runtime, on.of.address());
            on.connecting(async { end(connecting.await.expect("it listens")) })
        }),
        connects("streams::TcpStream::connect_host", |on| {
            on.connecting(async {
                end(TcpStream::connect_host("127.0.0.1", on.of.port()).await.expect("it listens"));
            })
        }),
        connects("streams::TcpStream::connect_any", |on| {
            on.connecting(async {
                let twice = [on.of.address(); 2];
                end(TcpStream::connect_any(&twice).await.expect("it listens"));
            })
        })
        .without(Test::PanicsAgain, "it keeps a waker for each attempt and one for the pause"),
        connects("streams::open_connection", |on| {
            on.connecting(async {
                end(open_connection("127.0.0.1", on.of.port()).await.expect("it listens"));
            })
        }),
        connects("streams::create_connection", |on| {
            on.connecting(async {
                end(create_connection(Nothing::default, "127.0.0.1", on.of.port())
                    .await
                    .expect("it listens"));
            })
        }),
        connects("streams::UnixStream::connect", |on| {
            on.connecting(async { end(UnixStream::connect(&on.of.path).await.expect("it listens")) })
        }),
        connects("streams::UnixStream::connect_on", |on| {
            let connecting = UnixStream::connect_on(&on.of.runtime, &on.of.path);
            on.connecting(async { end(connecting.await.expect("it listens")) })
        }),
        connects("streams::open_unix_connection", |on| {
            on.connecting(async { end(open_unix_connection(&on.of.path).await.expect("it listens")) })
        }),
        connects("streams::create_unix_connection", |on| {
            on.connecting(async {
                end(create_unix_connection(Nothing::default, &on.of.path).await.expect("it listens"));
            })
        }),
    ]
}

// === Handshakes ===

/// Peers that say nothing, until they go.
#[derive(Default)]
struct Silent(RefCell<(u64, BTreeMap<u64, net::UnixStream>)>);

/// Takes its peer away when it is dropped.
struct Met<'a>(u64, &'a Silent);

impl Silent {
    fn meet(&self) -> (Met<'_>, UnixStream) {
        let (peer, ours) = net::UnixStream::pair().expect("two descriptors");
        let mut all = self.0.borrow_mut();
        all.0 += 1;
        let key = all.0;
        all.1.insert(key, peer);
        (Met(key, self), UnixStream::from_std(ours).expect("the reactor watches it"))
    }

    /// All go.
    fn go(&self) {
        let peers = self.0.borrow();
        peers.1.values().for_each(|peer| end(peer.shutdown(std::net::Shutdown::Both)));
    }
}

impl Drop for Met<'_> {
    fn drop(&mut self) {
        end(self.1.0.borrow_mut().1.remove(&self.0));
    }
}

struct Handshakes {
    peers: Silent,
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl Handshakes {
    fn new() -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
        let of_server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("it has some")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("they belong together");
        let of_client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("it has some")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        Self {
            peers: Silent::default(),
            connector: TlsConnector::new(of_client),
            acceptor: TlsAcceptor::new(of_server),
        }
    }

    fn transport(&self) -> (Met<'_>, Transport) {
        let (met, stream) = self.peers.meet();
        let (transport, _) = connect_accepted_socket(Nothing::default, stream).expect("a loop runs here");
        (met, transport)
    }
}

fn shakes_hands(name: &'static str, wait: for<'a> fn(&'a OnLoop<Handshakes>) -> Waiting<'a>) -> Row {
    on_loop(name, Handshakes::new, wait, |on| on.of.peers.go(), |_| 0, |on| end(on.event_loop.time()))
        .without(Test::Count, NOT_TOLD)
        .without(Test::PanicsAgain, A_LIMIT)
        .without(Test::Silence, "its stream is dropped with it, and tells it so")
        .without(Test::Often, A_HANDSHAKE)
}

fn handshakes() -> Vec<Row> {
    vec![
        shakes_hands("streams::TlsConnector::connect", |on| {
            on.inside(async {
                let (met, stream) = on.of.peers.meet();
                end((on.of.connector.connect("localhost", stream).await, met));
            })
        }),
        shakes_hands("streams::TlsAcceptor::accept", |on| {
            on.inside(async {
                let (met, stream) = on.of.peers.meet();
                end((on.of.acceptor.accept(stream).await, met));
            })
        }),
        shakes_hands("streams::Transport::start_tls", |on| {
            on.inside(async {
                let (met, transport) = on.of.transport();
                end((transport.start_tls(&on.of.connector, "localhost").await, met));
            })
        })
        .sets_out_in(2, GIVES_UP),
        shakes_hands("streams::Transport::start_tls_as_server", |on| {
            on.inside(async {
                let (met, transport) = on.of.transport();
                end((transport.start_tls_as_server(&on.of.acceptor).await, met));
            })
        })
        .sets_out_in(2, GIVES_UP),
    ]
}

/// What makes connections.
pub(crate) fn rows() -> Vec<Row> {
    [to_hosts(), handshakes()].into_iter().flatten().collect()
}
