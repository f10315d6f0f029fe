//! How fast does TLS go through our streams, beside rustls over std's blocking sockets?
//!
//! One side is always rustls over a blocking socket, on a thread of its own; the other side, on this thread, is either that
//! too or a `TlsStream` on our loop. Both directions, in turns, medians of many rounds. The aim is nine tenths.
//!
//! Not measured: handshakes (rustls' work, the same for both), other ciphers, many connections.

use evenloop_benches::executors::with_sockets;
use evenloop_streams::TcpStream;
use evenloop_streams::tls::{TlsConnector, pki_types, rustls};
use futures::{AsyncReadExt, AsyncWriteExt};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Instant;

const CHUNK: usize = 64 * 1024;

struct Configs {
    client: Arc<rustls::ClientConfig>,
    server: Arc<rustls::ServerConfig>,
}

impl Configs {
    fn new() -> Self {
        let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = identity.signing_key.serialize_der();
        let key = pki_types::PrivateKeyDer::try_from(key).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(identity.cert.der().clone()).expect("a root");
        let client = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![identity.cert.der().clone()], key)
            .expect("they belong together");
        Self { client: Arc::new(client), server: Arc::new(server) }
    }

    /// The other side: sends or takes so many bytes, then waits for the end.
    fn other_side(&self, bytes: usize, sends: bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let config = self.server.clone();
        std::thread::spawn(move || {
            let (socket, _) = listener.accept().expect("somebody comes");
            socket.set_nodelay(true).expect("an option");
            let connection = rustls::ServerConnection::new(config).expect("a connection");
            let mut tls = rustls::StreamOwned::new(connection, socket);
            tls.read_exact(&mut [0]).expect("the beginning");
            let mut room = vec![0; CHUNK];
            let mut left = bytes;
            while left > 0 {
                let most = left.min(CHUNK);
                left -= match sends {
                    true => tls.write(&room[..most]).expect("it is taken"),
                    false => tls.read(&mut room[..most]).expect("it comes"),
                };
            }
            if !sends {
                tls.write_all(&[1]).expect("it is taken");
            }
            tls.flush().expect("it is taken");
            let _ = tls.read(&mut room); // until the client has gone
        });
        address
    }

    /// Nanoseconds for so many bytes, through std's sockets.
    fn blocking(&self, bytes: usize, receives: bool) -> f64 {
        let socket = std::net::TcpStream::connect(self.other_side(bytes, receives)).expect("it listens");
        socket.set_nodelay(true).expect("an option");
        let name = pki_types::ServerName::try_from("localhost").expect("a name");
        let connection = rustls::ClientConnection::new(self.client.clone(), name).expect("a connection");
        let mut tls = rustls::StreamOwned::new(connection, socket);
        tls.write_all(&[0]).expect("it is taken"); // shakes hands
        tls.flush().expect("it is taken");
        let begin = Instant::now();
        let mut room = vec![0; CHUNK];
        let mut left = bytes;
        while left > 0 {
            let most = left.min(CHUNK);
            left -= match receives {
                true => tls.read(&mut room[..most]).expect("it comes"),
                false => tls.write(&room[..most]).expect("it is taken"),
            };
        }
        if !receives {
            tls.flush().expect("it is taken");
            tls.read_exact(&mut room[..1]).expect("it has come");
        }
        begin.elapsed().as_nanos() as f64
    }

    /// Nanoseconds for so many bytes, through our streams.
    async fn ours(&self, bytes: usize, receives: bool) -> f64 {
        let stream = TcpStream::connect(self.other_side(bytes, receives)).await.expect("it listens");
        stream.set_nodelay(true).expect("an option");
        let connector = TlsConnector::new(self.client.clone());
        let mut tls = connector.connect("localhost", stream).await.expect("a handshake");
        tls.write_all(&[0]).await.expect("it is taken");
        tls.flush().await.expect("it is taken");
        let begin = Instant::now();
        let mut room = vec![0; CHUNK];
        let mut left = bytes;
        while left > 0 {
            let most = left.min(CHUNK);
            left -= match receives {
                true => tls.read(&mut room[..most]).await.expect("it comes"),
                false => tls.write(&room[..most]).await.expect("it is taken"),
            };
        }
        if !receives {
            tls.flush().await.expect("it is taken");
            tls.read_exact(&mut room[..1]).await.expect("it has come");
        }
        begin.elapsed().as_nanos() as f64
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    // Without `--bench` (a test run) it only shows that it works.
    let benches = std::env::args().any(|arg| arg == "--bench");
    let (rounds, bytes) = if benches { (15, 128 << 20) } else { (1, 1 << 20) };
    let configs = Configs::new();
    let event_loop = with_sockets().build();
    for receives in [false, true] {
        let (mut blocking, mut ours) = (vec![], vec![]);
        for _ in 0..rounds {
            blocking.push(configs.blocking(bytes, receives));
            ours.push(event_loop.run_until_complete(configs.ours(bytes, receives)));
        }
        let speed = |values: &mut [f64]| bytes as f64 / median(values) * 1000.0;
        let (blocking, ours) = (speed(&mut blocking), speed(&mut ours));
        let what = if receives { "receiving" } else { "sending" };
        println!(
            "{what}: std's sockets {blocking:6.0} MB/s, ours {ours:6.0} MB/s: {:.3} of it",
            ours / blocking
        );
    }
}
