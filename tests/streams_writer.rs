//! `StreamWriter`: order, waiting, closing, failing.

use evenloop_core::shim::StdArc;
use evenloop_core::{Park, Runtime};
use evenloop_streams::{
    ReactorDriver, StreamReader, StreamWriter, TcpListener, TcpStream, open_connection, open_unix_connection,
};
use evenloop_tests::{drive, on_loop, on_reactor};
use futures::{AsyncWrite, future};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A stream that takes what the script says, poll after poll; then everything.
#[derive(Default)]
struct Script {
    steps: VecDeque<Option<usize>>,
    taken: Vec<u8>,
    closed: bool,
}

impl AsyncWrite for Script {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.steps.pop_front() {
            Some(None) => Poll::Pending,
            step => {
                let n = step.flatten().unwrap_or(bytes.len()).min(bytes.len());
                self.taken.extend_from_slice(&bytes[..n]);
                Poll::Ready(Ok(n))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

proptest! {
    /// Whatever the stream takes at a time, and however often a drain is dropped on the way, the bytes arrive in order and
    /// once.
    #[test]
    fn dropping_drains_at_any_poll_loses_no_bytes(
        writes in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9), 0..3_usize), 0..20),
        steps in prop::collection::vec(prop::option::of(1..6_usize), 0..40),
    ) {
        let mut writer = StreamWriter::new(Script { steps: steps.into(), ..Script::default() });
        let mut written = Vec::new();
        for (bytes, drains) in writes {
            writer.write(&bytes).unwrap();
            written.extend(bytes);
            for _ in 0..drains {
                let drained = poll_once(writer.drain());
                prop_assert_eq!(drained.is_ready(), writer.write_buffer_size() == 0);
                prop_assert_eq!(writer.get_ref().taken.len() + writer.write_buffer_size(), written.len());
            }
        }
        while poll_once(writer.wait_closed()).is_pending() {}
        prop_assert!(writer.get_ref().closed);
        prop_assert_eq!(&writer.get_ref().taken, &written);
    }
}

#[test]
fn water_marks_say_when_drain_waits() {
    let mut writer = StreamWriter::new(Script { steps: [Some(3), None].into(), ..Script::default() });
    writer.set_write_buffer_limits(8, 4);
    writer.write(b"01234567").unwrap();
    assert!(poll_once(writer.drain()).is_ready(), "no more than the high mark");
    assert_eq!(writer.write_buffer_size(), 8);
    writer.write(b"8").unwrap();
    assert!(poll_once(writer.drain()).is_pending(), "6 left, more than the low mark");
    assert!(poll_once(writer.drain()).is_ready(), "no longer above the high mark");
    assert_eq!(writer.write_buffer_size(), 6);
    assert_eq!(format!("{writer:?}"), "StreamWriter [open, unsent: 6]");
    let (stream, unsent) = writer.into_parts();
    assert_eq!((&stream.taken[..], &unsent[..]), (&b"012"[..], &b"345678"[..]));
}

#[test]
#[should_panic(expected = "`set_write_buffer_limits` needs low marks no higher than high ones")]
fn a_low_mark_above_the_high_one_is_a_mistake() {
    StreamWriter::new(Script::default()).set_write_buffer_limits(1, 2);
}

#[test]
fn nothing_is_written_after_close() {
    let mut writer = StreamWriter::new(Script::default());
    writer.write(b"last").unwrap();
    writer.close();
    let error = writer.write(b"").unwrap_err();
    assert_eq!(error.to_string(), "`write` after `close`: the writer is closing");
    assert_eq!(poll_once(writer.wait_closed()).map(Result::unwrap), Poll::Ready(()));
    assert_eq!(poll_once(writer.wait_closed()).map(Result::unwrap), Poll::Ready(()), "again");
    assert_eq!(writer.get_ref().taken, b"last");
    assert_eq!(writer.writelines([b"x"]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn small_writes_are_on_their_way_without_a_drain() {
    on_loop(async {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (client, server) = future::join(open_connection("127.0.0.1", port), listener.accept()).await;
        let ((_reader, mut writer), (server, _)) = (client.unwrap(), server.unwrap());
        assert!(writer.get_ref().nodelay().unwrap());
        writer.write(b"he").unwrap();
        writer.writelines([&b"l"[..], b"lo"]).unwrap();
        assert_eq!(writer.write_buffer_size(), 0);
        let mut reader = StreamReader::new(server);
        assert_eq!(reader.readexactly(5).await.unwrap(), b"hello");
        writer.wait_closed().await.unwrap();
        assert_eq!(reader.readline().await.unwrap(), b"");
    });
}

#[test]
fn a_slow_reader_holds_the_writer_and_its_reset_frees_it() {
    let mut driver = ReactorDriver::new().unwrap();
    let runtime = Runtime::builder("test").reactor(StdArc::new(driver.handle())).build();
    let _entered = runtime.enter();
    let (mut writer, server) = drive(&mut driver, async {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let local = listener.local_addr().unwrap();
        let (client, server) = future::join(TcpStream::connect(local), listener.accept()).await;
        let (_, write) = client.unwrap().into_split();
        (StreamWriter::new(write), server.unwrap().0)
    });
    let block = vec![7; 1 << 20];
    while poll_once(writer.drain()).is_ready() {
        writer.write(&block).unwrap();
        driver.park(Some(Duration::ZERO)).unwrap();
    }
    assert!(writer.write_buffer_size() > 0);
    server.set_linger(Some(Duration::ZERO)).unwrap();
    drop(server); // with bytes unread: a reset
    let error = drive(&mut driver, writer.drain()).unwrap_err();
    assert!(matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error}");
    assert_eq!(writer.write_buffer_size(), 0, "nothing is kept for nobody");
    let again = writer.write(b"x").unwrap_err();
    assert_eq!((again.kind(), again.to_string()), (error.kind(), error.to_string()), "a failure stays");
    assert!(drive(&mut driver, writer.wait_closed()).is_err());
    assert_eq!(format!("{writer:?}"), "StreamWriter [failed, unsent: 0]");
}

#[test]
fn a_host_with_several_addresses_is_tried_until_one_answers() {
    on_loop(async {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let refusing: Vec<_> = (0..2)
            .map(|_| {
                let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                listener.local_addr().unwrap()
            })
            .collect();
        let addresses = [refusing[0], refusing[1], listener.local_addr().unwrap()];
        let (client, _) = future::join(TcpStream::connect_any(&addresses), listener.accept()).await;
        assert_eq!(client.unwrap().peer_addr().unwrap(), listener.local_addr().unwrap());

        let error = TcpStream::connect_any(&refusing).await.unwrap_err();
        let failures = evenloop_streams::ConnectFailures::of(&error).unwrap();
        assert_eq!(failures.iter().map(|(address, _)| address).collect::<Vec<_>>(), refusing);
        let message = error.to_string();
        assert!(refusing.iter().all(|address| message.contains(&address.to_string())), "{message}");
        let error = TcpStream::connect_any(&refusing[..1]).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("connecting to {}", refusing[0])), "{error}");
    });
}

#[test]
fn a_silent_address_is_overtaken() {
    on_loop(async {
        // A backlog of one that is full: the kernel drops what comes, and the connect hears nothing.
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
        let silent = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
        bind(&silent, &any).unwrap();
        listen(&silent, 0).unwrap();
        let silent_at: std::net::SocketAddr = getsockname(&silent).unwrap().try_into().unwrap();
        let _fills: Vec<_> =
            (0..2).map(|_| TcpStream::connect(silent_at)).map(Box::pin).map(poll_once_kept).collect();

        let listener = TcpListener::bind(any).unwrap();
        let addresses = [silent_at, listener.local_addr().unwrap()];
        let began = std::time::Instant::now();
        let client = TcpStream::connect_any(&addresses).await.unwrap();
        assert_eq!(client.peer_addr().unwrap(), listener.local_addr().unwrap());
        assert!(began.elapsed() >= Duration::from_millis(250), "the second one started after the stagger");
    });
}

fn poll_once_kept<F: Future>(mut future: Pin<Box<F>>) -> Pin<Box<F>> {
    let _ = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    future
}

#[test]
fn a_path_is_as_good_as_a_port() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    on_reactor(async {
        let listener = evenloop_streams::UnixListener::bind(&path).unwrap();
        let (client, server) = future::join(open_unix_connection(&path), listener.accept()).await;
        let ((mut reader, mut writer), (server, _)) = (client.unwrap(), server.unwrap());
        let (server_read, server_write) = server.into_split();
        writer.write(b"ping\n").unwrap();
        assert_eq!(StreamReader::new(server_read).readline().await.unwrap(), b"ping\n");
        drop(server_write);
        assert_eq!(reader.readline().await.unwrap(), b"");
    });
}
