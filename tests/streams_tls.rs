//! TLS: against rustls itself, against OpenSSL's tools, and when things go wrong.

use evenloop_executor::{create_task, yield_now};
use evenloop_streams::tls::{
    TlsAcceptor, TlsConnector, Truncated, error_of, open_tls_connection, pki_types, rustls, start_tls,
    start_tls_as_server, start_tls_server,
};
use evenloop_streams::tls::{TlsReader, TlsWriteHalf, TlsWriter, create_tls_connection, create_tls_server};
use evenloop_streams::{
    Protocol, ServerConfig, StreamReader, StreamWriter, TcpListener, TcpStream, Transport, UnixStream,
    connect_accepted_socket, connect_stream, open_connection, start_server,
};
use evenloop_tests::{loopback, missing, on_jumping_loop, on_loop, until};
use futures::{AsyncReadExt, AsyncWriteExt};
use pki_types::PrivateKeyDer;
use rustls::{CertificateError, ProtocolVersion};
use std::cell::{Cell, OnceCell, RefCell};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// A certificate for `localhost` that vouches for itself, in memory and in files.
struct Identity {
    certified: rcgen::CertifiedKey<rcgen::KeyPair>,
    folder: tempfile::TempDir,
}

impl Identity {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn expired() -> Self {
        Self::with(|params| {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        })
    }

    fn with(change: impl FnOnce(&mut rcgen::CertificateParams)) -> Self {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "localhost");
        change(&mut params);
        let signing_key = rcgen::KeyPair::generate().unwrap();
        let cert = params.self_signed(&signing_key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cert.pem"), cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), signing_key.serialize_pem()).unwrap();
        Self { certified: rcgen::CertifiedKey { cert, signing_key }, folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn provider() -> Arc<rustls::crypto::CryptoProvider> {
        Arc::new(rustls::crypto::ring::default_provider())
    }

    fn acceptor(&self, alpn: &[&str]) -> TlsAcceptor {
        let key = PrivateKeyDer::try_from(self.certified.signing_key.serialize_der()).unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(Self::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certified.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::new(config)
    }

    /// Trusts this one and no other.
    fn connector(&self, alpn: &[&str]) -> TlsConnector {
        self.connector_of(alpn, rustls::DEFAULT_VERSIONS)
    }

    fn connector_of(
        &self,
        alpn: &[&str],
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certified.cert.der().clone()).unwrap();
        let mut config = rustls::ClientConfig::builder_with_provider(Self::provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::new(config)
    }
}

async fn echo(mut reader: TlsReader, mut writer: TlsWriter) -> io::Result<()> {
    while let bytes @ [_, ..] = &reader.read(64 * 1024).await?[..] {
        writer.write(bytes)?;
        writer.drain().await?;
    }
    writer.wait_closed().await
}

// === Streams ===

#[test]
fn an_echo_over_tls_says_what_was_agreed_on() {
    on_loop(async {
        let identity = Identity::new();
        let infos = Rc::new(RefCell::new(Vec::new()));
        let seen = infos.clone();
        let handler = move |reader: TlsReader, writer| {
            seen.borrow_mut().push(reader.get_ref().info());
            echo(reader, writer)
        };
        let acceptor = identity.acceptor(&["chat", "echo"]);
        let server = start_tls_server(handler, loopback(), &acceptor).unwrap();
        let port = server.local_addr().unwrap().port();
        let connector = identity.connector(&["echo", "other"]);
        let (mut reader, mut writer) = open_tls_connection("localhost", port, &connector).await.unwrap();

        let info = reader.get_ref().info();
        assert_eq!(info.version, Some(ProtocolVersion::TLSv1_3));
        assert_eq!(info.alpn.as_deref(), Some(&b"echo"[..]));
        assert_eq!(info.peer_certificates, [identity.certified.cert.der().clone()]);
        assert!(info.cipher.is_some());
        let shown = format!("{info:?}");
        assert!(shown.contains("alpn: Some(\"echo\"), peer_certificates: 1"), "{shown}");

        // More than the buffers hold, both ways at once.
        let much = vec![9; 3 * 1024 * 1024];
        let (sent, received) = futures::join!(
            async {
                writer.write(&much)?;
                writer.wait_closed().await
            },
            reader.read_to_end(),
        );
        sent.unwrap();
        assert_eq!(received.unwrap(), much);
        server.close();
        server.wait_closed().await;
        let seen = infos.borrow();
        assert_eq!(seen[0].server_name.as_deref(), Some("localhost"));
        assert_eq!((seen[0].cipher, seen[0].alpn.clone()), (info.cipher, info.alpn));
        assert!(seen[0].peer_certificates.is_empty());
    });
}

#[test]
fn tls_is_served_on_listeners_from_elsewhere() {
    on_loop(async {
        let identity = Identity::new();
        let (acceptor, connector) = (identity.acceptor(&[]), identity.connector(&[]));
        let listeners = [TcpListener::bind(loopback()).unwrap(), TcpListener::bind(loopback()).unwrap()];
        let server = ServerConfig::new().start_tls_on(listeners, echo, &acceptor).unwrap();
        let events = Events::default();
        let serves = events.clone();
        let protocols = ServerConfig::new()
            .start_tls_protocol_on(
                [TcpListener::bind(loopback()).unwrap()],
                move || Notes { echoes: true, ..serves.protocol() },
                &acceptor,
            )
            .unwrap();
        let addresses = [server.local_addrs(), protocols.local_addrs()].concat();
        assert_eq!(addresses.len(), 3);
        for address in addresses {
            let opened = open_tls_connection("localhost", address.port(), &connector).await;
            let (mut reader, mut writer) = opened.unwrap();
            writer.write(b"hello\n").unwrap();
            writer.drain().await.unwrap();
            assert_eq!(reader.readline().await.unwrap(), b"hello\n");
            writer.wait_closed().await.unwrap();
        }
        assert_eq!(*events.0.data.borrow(), b"hello\n");
        for server in [server, protocols] {
            server.close();
            server.wait_closed().await;
        }
    });
}

#[test]
fn an_expired_certificate_and_one_for_another_name_are_refused() {
    on_loop(async {
        let reports = Arc::new(std::sync::Mutex::new(Vec::new()));
        for (identity, host, expected) in
            [(Identity::expired(), "localhost", "Expired"), (Identity::new(), "127.0.0.1", "NotValidForName")]
        {
            let told = reports.clone();
            let server = ServerConfig::new()
                .on_error(move |error| told.lock().unwrap().push(error.to_owned()))
                .start_tls(echo, loopback(), &identity.acceptor(&[]))
                .unwrap();
            let port = server.local_addr().unwrap().port();
            let connected = open_tls_connection(host, port, &identity.connector(&[])).await;
            let error = connected.err().unwrap();
            assert!(error.to_string().starts_with(&format!("the TLS handshake with {host}: ")), "{error}");
            let rustls::Error::InvalidCertificate(why) = error_of(&error).unwrap() else { panic!("{error}") };
            assert!(format!("{why:?}").starts_with(expected), "{why:?}");
            assert_ne!(*why, CertificateError::BadEncoding);
            // The server is told, and goes on.
            until(|| !reports.lock().unwrap().is_empty()).await;
            let told = reports.lock().unwrap().pop().unwrap();
            assert!(told.contains("the TLS handshake with a client"), "{told}");
            assert!(server.is_serving());
            server.close();
        }
    });
}

#[test]
fn a_connection_that_is_cut_is_no_end() {
    on_loop(async {
        let identity = Identity::new();
        let says_farewell = Rc::new(Cell::new(true));
        let farewell = says_farewell.clone();
        let handler = move |_, mut writer: TlsWriter| {
            let farewell = farewell.get();
            async move {
                writer.write(b"some of it")?;
                writer.drain().await?;
                if farewell { writer.wait_closed().await } else { Ok(()) }
            }
        };
        let server = start_tls_server(handler, loopback(), &identity.acceptor(&[])).unwrap();
        let port = server.local_addr().unwrap().port();
        for farewell in [true, false] {
            says_farewell.set(farewell);
            let connector = identity.connector(&[]);
            let (mut reader, _writer) = open_tls_connection("localhost", port, &connector).await.unwrap();
            let all = reader.read_to_end().await;
            match farewell {
                true => assert_eq!(all.unwrap(), b"some of it"),
                false => {
                    let error = all.unwrap_err();
                    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                    assert!(Truncated::is(&error), "{error}");
                    assert_eq!(reader.buffered(), b"some of it"); // nothing is lost
                }
            }
        }
    });
}

#[test]
fn going_over_to_tls_loses_nothing_that_was_buffered() {
    on_loop(async {
        let identity = Identity::new();
        let acceptor = identity.acceptor(&[]);
        // A client that does not wait for the answer: its hello lies behind its request, in one piece.
        let handler = move |mut reader: StreamReader, mut writer: StreamWriter| {
            let acceptor = acceptor.clone();
            async move {
                let request = reader.readline().await?;
                assert_eq!(request, b"STARTTLS\n");
                let _more = reader.buffered().len();
                writer.write(b"go on\n")?;
                let (mut reader, mut writer) = start_tls_as_server(reader, writer, &acceptor).await?;
                writer.write(&reader.readline().await?)?;
                writer.wait_closed().await
            }
        };
        let server = start_server(handler, loopback()).unwrap();
        let port = server.local_addr().unwrap().port();
        for eager in [false, true] {
            let (mut reader, mut writer) = open_connection("127.0.0.1", port).await.unwrap();
            let connector = identity.connector(&[]);
            if eager {
                // The request and the hello leave together; the answer in the clear comes first.
                let gate = Gate { stream: writer, reader, answer: b"go on\n", request: Some(b"STARTTLS\n") };
                let mut tls = connector.connect("localhost", gate).await.unwrap();
                tls.write_all(b"secret\n").await.unwrap();
                tls.flush().await.unwrap();
                let mut all = Vec::new();
                tls.read_to_end(&mut all).await.unwrap();
                assert_eq!(all, b"secret\n");
            } else {
                writer.write(b"STARTTLS\n").unwrap();
                assert_eq!(reader.readline().await.unwrap(), b"go on\n");
                let (mut reader, mut writer) =
                    start_tls(reader, writer, &connector, "localhost").await.unwrap();
                writer.write(b"secret\n").unwrap();
                writer.drain().await.unwrap();
                assert_eq!(reader.read_to_end().await.unwrap(), b"secret\n");
            }
        }
        server.close();
        server.wait_closed().await;
    });
}

#[test]
fn going_over_to_tls_keeps_the_limit_of_the_reader() {
    on_loop(async {
        let identity = Identity::new();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let sides = [ours, theirs].map(|stream| {
            let (read, write) = stream.into_split();
            (StreamReader::with_limit(read, 1 << 20), StreamWriter::new(write))
        });
        let [(reader, writer), (their_reader, their_writer)] = sides;
        let (connector, acceptor) = (identity.connector(&[]), identity.acceptor(&[]));
        let (client, server) = futures::join!(
            start_tls(reader, writer, &connector, "localhost"),
            start_tls_as_server(their_reader, their_writer, &acceptor),
        );
        assert_eq!((client.unwrap().0.limit(), server.unwrap().0.limit()), (1 << 20, 1 << 20));
    });
}

/// Wakes before it reads, inside the poll.
struct WakesAtOnce(UnixStream, bool);

impl futures::AsyncRead for WakesAtOnce {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        self.1 = !self.1;
        if self.1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.0).poll_read(cx, room)
    }
}

impl futures::AsyncWrite for WakesAtOnce {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

/// Looks at the writing half when it is woken, and counts.
#[derive(Default)]
struct Looks(Mutex<(Option<TlsWriteHalf<WakesAtOnce>>, usize)>);

impl Wake for Looks {
    fn wake(self: Arc<Self>) {
        let mut looks = self.0.lock().unwrap();
        assert!(looks.0.as_ref().unwrap().info().version.is_some());
        looks.1 += 1;
    }
}

/// The waker ran under the lock that the halves share, and hung.
#[test]
fn a_half_wakes_when_it_has_let_go_of_the_stream() {
    let (says, said) = mpsc::channel();
    std::thread::spawn(move || {
        on_loop(async {
            let identity = Identity::new();
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (connector, acceptor) = (identity.connector(&[]), identity.acceptor(&[]));
            let (client, _server) = futures::join!(
                connector.connect("localhost", WakesAtOnce(ours, false)),
                acceptor.accept(theirs),
            );
            let (mut reader, writer) = client.unwrap().into_split();
            let looks = Arc::new(Looks::default());
            looks.0.lock().unwrap().0 = Some(writer);
            let waker = Waker::from(looks.clone());
            let polls = 8; // the first of them take what belongs to the handshake
            for _ in 0..polls {
                let mut cx = Context::from_waker(&waker);
                assert!(
                    futures::AsyncRead::poll_read(Pin::new(&mut reader), &mut cx, &mut [0; 10]).is_pending()
                );
            }
            says.send(looks.0.lock().unwrap().1).unwrap();
        });
    });
    let wakes = said.recv_timeout(Duration::from_secs(20)).expect("it does not hang");
    assert!((3..=8).contains(&wakes), "{wakes}");
}

/// Sends `request` in one piece with the first bytes, and takes `answer` off the front of what comes.
struct Gate {
    stream: StreamWriter,
    reader: StreamReader,
    answer: &'static [u8],
    request: Option<&'static [u8]>,
}

impl futures::AsyncRead for Gate {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut [u8],
    ) -> std::task::Poll<io::Result<usize>> {
        let this = &mut *self;
        while !this.answer.is_empty() {
            let mut room = [0; 16];
            let most = this.answer.len();
            let n = std::task::ready!(std::pin::Pin::new(&mut this.reader).poll_read(cx, &mut room[..most]))?;
            assert_eq!(room[..n], this.answer[..n]);
            this.answer = &this.answer[n..];
        }
        std::pin::Pin::new(&mut this.reader).poll_read(cx, buf)
    }
}

impl futures::AsyncWrite for Gate {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        let request = self.request.take().unwrap_or_default();
        let pieces = [request, bytes];
        std::task::Poll::Ready(self.stream.writelines(pieces).map(|()| bytes.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_close(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

// === Time-outs, on the virtual clock ===

#[test]
fn a_handshake_takes_at_most_a_minute() {
    on_jumping_loop(async {
        let identity = Identity::new();
        for (limit, connects) in [(60, true), (60, false), (5, true), (5, false)] {
            let (ours, _silent) = UnixStream::pair().unwrap();
            let begin = evenloop_time::now();
            let (connector, acceptor) = (identity.connector(&[]), identity.acceptor(&[]));
            let limits = Duration::from_secs(limit);
            let error = match (connects, limit) {
                (true, 60) => connector.connect("localhost", ours).await.unwrap_err(),
                (false, 60) => acceptor.accept(ours).await.unwrap_err(),
                (true, _) => {
                    connector.handshake_timeout(limits).connect("localhost", ours).await.unwrap_err()
                }
                (false, _) => acceptor.handshake_timeout(limits).accept(ours).await.unwrap_err(),
            };
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            let took = evenloop_time::now() - begin;
            assert!(took >= limits && took < limits + Duration::from_secs(1), "{took:?}");
        }
    });
}

#[test]
fn closing_takes_at_most_half_a_minute() {
    on_jumping_loop(async {
        let identity = Identity::new();
        // With streams: the peer takes nothing, so the farewell cannot leave.
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (connector, acceptor) = (identity.connector(&[]), identity.acceptor(&[]));
        let (client, server) = futures::join!(connector.connect("localhost", ours), acceptor.accept(theirs));
        let (mut client, _server) = (client.unwrap(), server.unwrap());
        let chunk = vec![0; 64 * 1024];
        while futures::poll!(client.write(&chunk)).is_ready() {}
        let begin = evenloop_time::now();
        let error = client.close().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let took = evenloop_time::now() - begin;
        assert!(took >= Duration::from_secs(30) && took < Duration::from_secs(31), "{took:?}");

        // With a protocol: the peer takes all and never says farewell.
        let (ours, theirs) = UnixStream::pair().unwrap();
        let events = Events::default();
        let (transport, _) = connect_accepted_socket(|| events.protocol(), ours).unwrap();
        let going = transport.start_tls(&connector, "localhost");
        let (gone, server) = futures::join!(going, acceptor.accept(theirs));
        gone.unwrap();
        let _server = server.unwrap();
        let begin = evenloop_time::now();
        transport.close();
        while events.lost().is_none() {
            evenloop_time::sleep(Duration::from_millis(100)).await; // a task that spins keeps the clock from jumping
        }
        assert_eq!(events.lost().unwrap(), "TimedOut");
        let took = evenloop_time::now() - begin;
        assert!(took >= Duration::from_secs(30) && took < Duration::from_secs(31), "{took:?}");
    });
}

// === Protocols ===

/// What happened to a protocol.
#[derive(Clone, Default)]
struct Events(Rc<Happened>);

#[derive(Default)]
struct Happened {
    data: RefCell<Vec<u8>>,
    made: Cell<usize>,
    eof: Cell<usize>,
    lost: RefCell<Vec<String>>,
}

impl Events {
    fn protocol(&self) -> Notes {
        Notes { events: self.clone(), transport: OnceCell::new(), echoes: false }
    }

    fn lost(&self) -> Option<String> {
        self.0.lost.borrow().first().cloned()
    }
}

struct Notes {
    events: Events,
    transport: OnceCell<Transport>,
    echoes: bool,
}

impl Protocol for Notes {
    fn connection_made(&self, transport: Transport) {
        self.events.0.made.set(self.events.0.made.get() + 1);
        let _ = self.transport.set(transport);
    }

    fn data_received(&self, data: &[u8]) {
        self.events.0.data.borrow_mut().extend_from_slice(data);
        if self.echoes {
            self.transport.get().unwrap().write(data).unwrap();
        }
    }

    fn eof_received(&self) -> bool {
        self.events.0.eof.set(self.events.0.eof.get() + 1);
        true // not heeded: TLS has one end for both directions
    }

    fn connection_lost(&self, error: Option<io::Error>) {
        let why = error.map_or("in order".to_owned(), |error| match Truncated::is(&error) {
            true => "truncated".to_owned(),
            false => format!("{:?}", error.kind()),
        });
        self.events.0.lost.borrow_mut().push(why);
    }
}

#[test]
fn a_protocol_over_tls_from_the_first_byte_to_the_farewell() {
    on_loop(async {
        let identity = Identity::new();
        let (served, here) = (Events::default(), Events::default());
        let serves = served.clone();
        let server = create_tls_server(
            move || Notes { echoes: true, ..serves.protocol() },
            loopback(),
            &identity.acceptor(&["echo"]),
        )
        .unwrap();
        let port = server.local_addr().unwrap().port();
        let connector = identity.connector(&["echo"]);
        let connected = create_tls_connection(|| here.protocol(), "localhost", port, &connector).await;
        let (transport, _) = connected.unwrap();
        assert_eq!(here.0.made.get(), 1);
        let info = transport.extra_info();
        assert_eq!(info.peername.unwrap().inet(), server.local_addr());
        let tls = info.tls.unwrap();
        assert_eq!((tls.version, tls.alpn.as_deref()), (Some(ProtocolVersion::TLSv1_3), Some(&b"echo"[..])));
        assert!(!transport.can_write_eof());
        assert_eq!(transport.write_eof().unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(transport.write_buffer_limits(), (128 * 1024, 512 * 1024));

        let much: Vec<u8> = (0..2_000_000_u32).map(|number| number as u8).collect();
        transport.write(&much).unwrap();
        until(|| here.0.data.borrow().len() == much.len()).await;
        assert_eq!(*here.0.data.borrow(), much);
        transport.close();
        until(|| here.lost().is_some() && served.lost().is_some()).await;
        assert_eq!((here.lost().unwrap(), served.lost().unwrap()), ("in order".into(), "in order".into()));
        assert_eq!((served.0.made.get(), served.0.eof.get()), (1, 1));
        server.close();
        server.wait_closed().await;
    });
}

/// The peer saw a connection that was cut.
#[test]
fn a_protocol_over_tls_over_any_stream_says_farewell() {
    on_loop(async {
        let identity = Identity::new();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (connector, acceptor) = (identity.connector(&[]), identity.acceptor(&[]));
        let (client, server) = futures::join!(connector.connect("localhost", ours), acceptor.accept(theirs));
        let (read, _write) = server.unwrap().into_split();
        let events = Events::default();
        let (transport, _) = connect_stream(|| events.protocol(), client.unwrap()).unwrap();
        transport.write(b"all of it").unwrap();
        transport.close();
        assert_eq!(StreamReader::new(read).read_to_end().await.unwrap(), b"all of it");
        until(|| events.lost().is_some()).await;
        assert_eq!(events.lost().unwrap(), "in order");
    });
}

#[test]
fn a_transport_goes_over_to_tls_and_stays_itself() {
    on_loop(async {
        let identity = Identity::new();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (client, server) = (Events::default(), Events::default());
        let (here, _) = connect_accepted_socket(|| client.protocol(), ours).unwrap();
        let (there, _) = connect_accepted_socket(|| server.protocol(), theirs).unwrap();
        // What was written before goes first, in the clear.
        here.write(b"in the clear").unwrap();
        until(|| !server.0.data.borrow().is_empty()).await;
        let going = here.start_tls(&identity.connector(&[]), "localhost");
        let error = here.write(b"too early").unwrap_err();
        assert_eq!(error.to_string(), "`write` while the connection goes over to TLS");
        assert!(!here.is_reading());
        let coming = there.start_tls_as_server(&identity.acceptor(&[]));
        let (gone, come) = futures::join!(going, coming);
        gone.unwrap();
        come.unwrap();
        assert!(here.extra_info().tls.is_some() && there.extra_info().tls.is_some());
        here.write(b", secret").unwrap();
        until(|| *server.0.data.borrow() == b"in the clear, secret").await;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"and a file").unwrap();
        assert_eq!(here.sendfile(&mut file, 3, None).await.unwrap(), 7);
        until(|| *server.0.data.borrow() == b"in the clear, secret a file").await;
        rustix::net::getsockname(here.descriptor().unwrap()).unwrap();
        there.abort(); // cuts: no farewell
        until(|| client.lost().is_some()).await;
        assert_eq!(client.lost().unwrap(), "truncated");
        until(|| server.lost().is_some()).await;
        assert_eq!((client.0.made.get(), server.0.made.get()), (1, 1));
        assert_eq!(client.0.lost.borrow().len(), 1);
    });
}

#[test]
fn going_over_that_fails_or_is_given_up_ends_the_connection() {
    on_loop(async {
        let identity = Identity::new();
        // The peer speaks no TLS.
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let events = Events::default();
        let (transport, _) = connect_accepted_socket(|| events.protocol(), ours).unwrap();
        let going = transport.start_tls(&identity.connector(&[]), "localhost");
        theirs.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let error = going.await.unwrap_err();
        assert!(error_of(&error).is_some(), "{error}");
        until(|| events.lost().is_some()).await;
        assert_eq!(events.lost().unwrap(), "InvalidData");
        assert!(transport.start_tls(&identity.connector(&[]), "localhost").await.is_err());

        // Given up before and in the midst of it; aborted meanwhile.
        for polls in [0, 1] {
            let (ours, _theirs) = UnixStream::pair().unwrap();
            let events = Events::default();
            let (transport, _) = connect_accepted_socket(|| events.protocol(), ours).unwrap();
            let mut going = Box::pin(transport.start_tls(&identity.connector(&[]), "localhost"));
            for _ in 0..polls {
                assert!(futures::poll!(&mut going).is_pending());
            }
            drop(going);
            until(|| events.lost().is_some()).await;
            assert_eq!(events.lost().unwrap(), "ConnectionAborted");
        }
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let events = Events::default();
        let (transport, _) = connect_accepted_socket(|| events.protocol(), ours).unwrap();
        let going = create_task(transport.start_tls(&identity.connector(&[]), "localhost"));
        yield_now().await;
        transport.abort();
        assert_eq!(going.await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        until(|| events.lost().is_some()).await;
        assert_eq!(events.lost().unwrap(), "in order");
    });
}

#[test]
fn memory_is_bounded_over_tls_too() {
    on_loop(async {
        let identity = Identity::new();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let events = Events::default();
        let (transport, _) = connect_accepted_socket(|| events.protocol(), ours).unwrap();
        let (connector, acceptor) = (identity.connector(&[]), identity.acceptor(&[]));
        let (gone, server) =
            futures::join!(transport.start_tls(&connector, "localhost"), acceptor.accept(theirs));
        gone.unwrap();
        let _never_reads = server.unwrap();
        let chunk = vec![0; 16 * 1024];
        let mut written = 0;
        while transport.write_buffer_size() <= 512 * 1024 {
            transport.write(&chunk).unwrap();
            written += chunk.len();
            yield_now().await;
        }
        // What is below (rustls' own buffer, the socket) holds no more than a megabyte.
        assert!(written < 2 * 1024 * 1024, "{written}");
        transport.abort();
        until(|| events.lost().is_some()).await;
    });
}

// === OpenSSL ===

/// A program that is ended with the test.
struct Runs(Child);

impl Runs {
    /// `None`, with a line that says so, where the program is not installed.
    fn start(program: &str, arguments: &[&str]) -> Option<Self> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        match command.spawn() {
            Ok(child) => Some(Self(child)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                missing(&format!("`{program}`"));
                None
            }
            Err(error) => panic!("{program}: {error}"),
        }
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(loopback()).unwrap().local_addr().unwrap().port()
}

/// Connects as soon as somebody listens there.
async fn open_when_up(host: &str, port: u16, connector: &TlsConnector) -> io::Result<(TlsReader, TlsWriter)> {
    loop {
        match open_tls_connection(host, port, connector).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => yield_now().await,
            opened => return opened,
        }
    }
}

#[test]
fn our_client_and_openssls_server() {
    let identity = Identity::new();
    for (version, expected) in [("-tls1_2", ProtocolVersion::TLSv1_2), ("-tls1_3", ProtocolVersion::TLSv1_3)]
    {
        let port = free_port();
        let (cert, key) = (identity.file("cert.pem"), identity.file("key.pem"));
        let (cert, key) = (cert.display().to_string(), key.display().to_string());
        let accept = format!("127.0.0.1:{port}");
        // It sends back each line, reversed.
        let arguments = [
            "s_server", "-accept", &accept, "-cert", &cert, "-key", &key, "-rev", "-quiet", version, "-alpn",
            "echo",
        ];
        let Some(_server) = Runs::start("openssl", &arguments) else { return };
        on_loop(async {
            let connector = identity.connector(&["echo"]);
            let (mut reader, mut writer) = open_when_up("localhost", port, &connector).await.unwrap();
            let info = reader.get_ref().info();
            assert_eq!((info.version, info.alpn.as_deref()), (Some(expected), Some(&b"echo"[..])));
            for line in [&b"stressed\n"[..], b"drawer\n"] {
                writer.write(line).unwrap();
                writer.drain().await.unwrap();
                let mut expected: Vec<u8> = line[..line.len() - 1].iter().rev().copied().collect();
                expected.push(b'\n');
                assert_eq!(reader.readline().await.unwrap(), expected);
            }
            writer.wait_closed().await.unwrap();
            drop((reader, writer));

            // Wrong host, of the same server.
            let refused = open_tls_connection("127.0.0.1", port, &connector).await.err().unwrap();
            assert!(matches!(error_of(&refused), Some(rustls::Error::InvalidCertificate(_))), "{refused}");
        });
    }
}

#[test]
fn our_client_refuses_openssls_expired_certificate() {
    let identity = Identity::expired();
    let port = free_port();
    let (cert, key) = (identity.file("cert.pem"), identity.file("key.pem"));
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let accept = format!("127.0.0.1:{port}");
    let arguments = ["s_server", "-accept", &accept, "-cert", &cert, "-key", &key, "-rev", "-quiet"];
    let Some(_server) = Runs::start("openssl", &arguments) else { return };
    on_loop(async {
        let refused = open_when_up("localhost", port, &identity.connector(&[])).await.err().unwrap();
        let Some(rustls::Error::InvalidCertificate(why)) = error_of(&refused) else { panic!("{refused}") };
        assert!(format!("{why:?}").starts_with("Expired"), "{why:?}");
    });
}

#[test]
fn openssls_client_and_our_server() {
    let identity = Identity::new();
    on_loop(async {
        let server = start_tls_server(echo, loopback(), &identity.acceptor(&["echo"])).unwrap();
        let port = server.local_addr().unwrap().port();
        let connect = format!("127.0.0.1:{port}");
        let root = identity.file("cert.pem").display().to_string();
        let arguments = [
            "s_client",
            "-connect",
            &connect,
            "-servername",
            "localhost",
            "-CAfile",
            &root,
            "-verify_return_error",
            "-verify_hostname",
            "localhost",
            "-quiet",
            "-alpn",
            "echo",
        ];
        let Some(mut client) = Runs::start("openssl", &arguments) else { return };
        let mut to = client.0.stdin.take().unwrap();
        let from = client.0.stdout.take().unwrap();
        let lines = std::thread::spawn(move || {
            to.write_all(b"hello\n").unwrap();
            let mut line = String::new();
            BufReader::new(from).read_line(&mut line).unwrap();
            line
        });
        until(|| lines.is_finished()).await;
        assert_eq!(lines.join().unwrap(), "hello\n");
    });
}

#[test]
fn socat_sees_our_farewell_and_we_see_a_cut() {
    let identity = Identity::new();
    on_loop(async {
        let server = start_tls_server(echo, loopback(), &identity.acceptor(&[])).unwrap();
        let port = server.local_addr().unwrap().port();
        let root = identity.file("cert.pem").display().to_string();
        let address =
            format!("OPENSSL:127.0.0.1:{port},cafile={root},commonname=localhost,snihost=localhost");
        let Some(mut client) = Runs::start("socat", &["-", &address]) else { return };
        let (mut to, mut from) = (client.0.stdin.take().unwrap(), client.0.stdout.take().unwrap());
        let talk = std::thread::spawn(move || {
            to.write_all(b"through socat\n").unwrap();
            drop(to);
            let mut all = String::new();
            from.read_to_string(&mut all).unwrap();
            all
        });
        until(|| talk.is_finished()).await;
        assert_eq!(talk.join().unwrap(), "through socat\n");
        server.close();
        server.wait_closed().await;

        // A cut: OpenSSL's server is killed in the midst of it.
        let port = free_port();
        let (cert, key) = (identity.file("cert.pem"), identity.file("key.pem"));
        let listen = format!(
            "OPENSSL-LISTEN:{port},bind=127.0.0.1,cert={},key={},verify=0",
            cert.display(),
            key.display()
        );
        let mut cut = Runs::start("socat", &[&listen, "PIPE"]).unwrap();
        let connector = identity.connector(&[]);
        let (mut reader, mut writer) = open_when_up("localhost", port, &connector).await.unwrap();
        writer.write(b"echo\n").unwrap();
        writer.drain().await.unwrap();
        assert_eq!(reader.readline().await.unwrap(), b"echo\n");
        cut.0.kill().unwrap();
        let error = reader.read(10).await.unwrap_err();
        assert!(Truncated::is(&error), "{error}");
    });
}

/// A peer that speaks no TLS at all, or ends in the midst of the handshake.
#[test]
fn a_handshake_that_is_cut_is_an_error() {
    on_loop(async {
        let identity = Identity::new();
        let server = start_tls_server(echo, loopback(), &identity.acceptor(&[])).unwrap();
        let mut stranger = TcpStream::connect(server.local_addr().unwrap()).await.unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = stranger.read_to_end(&mut answer).await; // an alert, then the end
        until(|| server.connections() == 0).await;

        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let error = identity.connector(&[]).connect("localhost", ours).await.unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe), "{error}");
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let error = identity.connector(&[]).connect("no name!", ours).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    });
}
