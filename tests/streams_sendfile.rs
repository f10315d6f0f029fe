//! Files into streams.

use evenloop_streams::pipe::pipe;
use evenloop_streams::{
    Protocol, SendFileFailed, StreamWriter, TakesFiles, UnixStream, connect_accepted_socket, connect_stream,
    connect_write_pipe, sendfile,
};
use evenloop_tests::{Log, connected, on_loop, on_reactor, until};
use futures::future::join;
use futures::{AsyncReadExt, AsyncWrite, AsyncWriteExt, poll};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

/// More than the kernel holds, each byte known by its place.
const LENGTH: usize = 12_000_003;

fn content() -> Vec<u8> {
    (0..LENGTH).map(|place| (place % 251) as u8).collect()
}

fn file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

/// What arrives of `file`, sent as a whole by the kernel, and ended by dropping the writer.
async fn through(
    mut writer: impl TakesFiles + Unpin,
    mut reader: impl futures::AsyncRead + Unpin,
    file: &mut File,
) -> Vec<u8> {
    let send = async {
        let sent = sendfile(&mut writer, file).fallback(false).await.unwrap();
        drop(writer);
        sent
    };
    let (sent, got) = join(send, everything(&mut reader)).await;
    assert_eq!(sent, got.len() as u64);
    got
}

/// Reads to the end. (`read_to_end` zeroes all of its room before each read, which takes a minute here.)
async fn everything(reader: &mut (impl futures::AsyncRead + Unpin)) -> Vec<u8> {
    let (mut got, mut room) = (Vec::new(), vec![0; 256 * 1024]);
    while let n @ 1.. = reader.read(&mut room).await.unwrap() {
        got.extend_from_slice(&room[..n]);
    }
    got
}

#[test]
fn the_kernel_sends_a_file_through_every_stream() {
    let content = content();
    let mut file = file(&content);
    on_reactor(async {
        let (client, server) = connected().await;
        assert!(through(client, server, &mut file).await == content);
        assert_eq!(file.stream_position().unwrap(), LENGTH as u64);

        let (client, server) = connected().await;
        let (_reads, writes) = client.into_split();
        assert!(through(writes, server, &mut file).await == content);

        let (one, other) = UnixStream::pair().unwrap();
        assert!(through(one, other, &mut file).await == content);

        let (sender, receiver) = pipe().unwrap();
        assert!(through(sender, receiver, &mut file).await == content);
    });
}

#[test]
fn a_part_of_a_file_and_where_its_position_is_then() {
    let mut file = file(b"0123456789");
    on_reactor(async {
        let (mut client, mut server) = connected().await;
        assert_eq!(sendfile(&mut client, &mut file).offset(3).count(4).await.unwrap(), 4);
        assert_eq!(file.stream_position().unwrap(), 7);
        assert_eq!(sendfile(&mut client, &mut file).offset(8).count(100).await.unwrap(), 2, "it ends first");
        assert_eq!(file.stream_position().unwrap(), 10);
        assert_eq!(sendfile(&mut client, &mut file).offset(5).count(0).await.unwrap(), 0);
        assert_eq!(file.stream_position().unwrap(), 5);
        assert_eq!(sendfile(&mut client, &mut file).offset(100).await.unwrap(), 0, "behind its end");
        drop(client);
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"345689");
    });
}

/// A stream of somebody else's: takes few bytes at a time, and does not know the kernel's way.
#[derive(Default)]
struct Foreign(Vec<u8>);

impl AsyncWrite for Foreign {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let n = bytes.len().min(10_000);
        self.0.extend_from_slice(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl TakesFiles for Foreign {}

#[test]
fn what_the_kernel_cannot_send_is_copied_or_refused() {
    on_reactor(async {
        let content = content();
        let mut stream = Foreign::default();
        let mut source = file(&content);
        assert_eq!(sendfile(&mut stream, &mut source).offset(3).await.unwrap(), LENGTH as u64 - 3);
        assert!(stream.0 == content[3..]);
        assert_eq!(source.stream_position().unwrap(), LENGTH as u64);

        let error = sendfile(&mut stream, &mut source).fallback(false).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(SendFileFailed::of(&error).unwrap().stream_is_fine());

        // A directory cannot be read, whichever way.
        let (mut client, _server) = connected().await;
        let mut directory = File::open(".").unwrap();
        let error = sendfile(&mut client, &mut directory).await.unwrap_err();
        assert!(error.to_string().starts_with("sending a file, after 0 bytes: "), "{error}");
        client.write_all(b"still fine").await.unwrap();
    });
}

#[test]
fn a_reset_says_how_many_bytes_went() {
    let content = content();
    let mut file = file(&content);
    on_reactor(async {
        let (mut client, mut server) = connected().await;
        let send = async { sendfile(&mut client, &mut file).offset(1).await.unwrap_err() };
        let reset = async {
            let mut some = vec![0; 100_000];
            server.read_exact(&mut some).await.unwrap();
            server.set_linger(Some(Duration::ZERO)).unwrap();
            drop(server);
        };
        let (error, ()) = join(send, reset).await;
        let failed = SendFileFailed::of(&error).unwrap();
        assert!(error.to_string().contains(&format!("after {} bytes", failed.sent())), "{error}");
        assert!((100_000..LENGTH as u64).contains(&failed.sent()), "{error}");
        assert!(
            matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
            "{error}"
        );
        assert_eq!(file.stream_position().unwrap(), 1 + failed.sent());
    });
}

#[test]
fn dropped_in_the_middle_it_goes_on_from_the_files_position() {
    let content = content();
    let mut file = file(&content);
    on_reactor(async {
        let (mut client, mut server) = connected().await;
        assert!(poll!(pin!(sendfile(&mut client, &mut file))).is_pending());
        let so_far = file.stream_position().unwrap();
        assert!(so_far > 0 && so_far < LENGTH as u64, "{so_far}");
        let rest = async {
            let sent = sendfile(&mut client, &mut file).offset(so_far).await.unwrap();
            drop(client);
            sent
        };
        let (sent, got) = join(rest, everything(&mut server)).await;
        assert_eq!(so_far + sent, LENGTH as u64);
        assert!(got == content);
    });
}

#[test]
fn a_writer_sends_what_was_written_before_the_file_and_after_it() {
    let mut file = file(b"the body");
    on_reactor(async {
        let (client, mut server) = connected().await;
        let mut writer = StreamWriter::new(client);
        writer.write(b"head, ").unwrap();
        assert_eq!(writer.sendfile(&mut file, 0, None).await.unwrap(), 8);
        writer.write(b", tail").unwrap();
        writer.wait_closed().await.unwrap();
        let error = writer.sendfile(&mut file, 0, None).await.unwrap_err();
        assert!(error.to_string().contains("`sendfile` after `close`"), "{error}");
        let mut got = String::new();
        server.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "head, the body, tail");

        let (client, server) = connected().await;
        let mut writer = StreamWriter::new(client);
        let missing = writer.sendfile(&mut File::open(".").unwrap(), 0, None).await;
        assert!(missing.is_err());
        writer.write(b"the writer goes on").unwrap();
        writer.drain().await.unwrap();
        server.set_linger(Some(Duration::ZERO)).unwrap();
        drop(server);
        let error = writer.sendfile(&mut file, 0, None).await.unwrap_err();
        assert_eq!(writer.write(b"x").unwrap_err().to_string(), error.to_string(), "a failure stays");
    });
}

// === Through a transport ===

/// Notes why it was lost.
#[derive(Default)]
struct Quiet(Log);

impl Protocol for Quiet {
    fn data_received(&self, _: &[u8]) {}

    fn connection_lost(&self, error: Option<io::Error>) {
        self.0.add(error.map_or("in order".to_owned(), |error| format!("{:?}", error.kind())));
    }
}

#[test]
fn a_transport_sends_a_file_between_what_is_written() {
    let content = content();
    let mut file = file(&content);
    on_loop(async {
        for by_kernel in [true, false] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let (transport, _) = match by_kernel {
                true => connect_accepted_socket(Quiet::default, ours).unwrap(),
                false => connect_stream(Quiet::default, ours).unwrap(),
            };
            transport.write(&content).unwrap();
            assert!(transport.write_buffer_size() > 0);
            let send = async {
                let mut sending = pin!(transport.sendfile(&mut file, 3, Some(LENGTH as u64 - 5)));
                assert!(poll!(&mut sending).is_pending());
                let error = transport.write(b"in between").unwrap_err();
                assert_eq!(error.to_string(), "`write` while a file is sent");
                assert!(transport.write_eof().is_err());
                assert!(transport.sendfile(&mut tempfile::tempfile().unwrap(), 0, None).await.is_err());
                let sent = sending.await.unwrap();
                transport.write(b"after").unwrap();
                transport.close();
                sent
            };
            let (sent, got) = join(send, everything(&mut theirs)).await;
            assert_eq!((sent, file.stream_position().unwrap()), (LENGTH as u64 - 5, LENGTH as u64 - 2));
            assert!(got == [&content[..], &content[3..LENGTH - 2], b"after"].concat(), "{}", got.len());
        }
    });
}

#[test]
fn a_transport_sends_a_file_into_a_pipe() {
    let content = content();
    let mut file = file(&content);
    on_loop(async {
        let (mut reads, writes) = io::pipe().unwrap();
        let (transport, quiet) = connect_write_pipe(Quiet::default, writes).unwrap();
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            reads.read_to_end(&mut got).unwrap();
            got
        });
        transport.write(b"before").unwrap();
        assert_eq!(transport.sendfile(&mut file, 3, None).await.unwrap(), LENGTH as u64 - 3);
        transport.write(b"after").unwrap();
        transport.close();
        until(|| quiet.0.has("in order")).await;
        assert!(reader.join().unwrap() == [b"before", &content[3..], b"after"].concat());

        let (reads, writes) = io::pipe().unwrap();
        let (transport, quiet) = connect_write_pipe(Quiet::default, writes).unwrap();
        let mut sending = pin!(transport.sendfile(&mut file, 0, None));
        assert!(poll!(&mut sending).is_pending(), "nobody reads");
        drop(reads);
        assert!(sending.await.is_err());
        until(|| quiet.0.has("BrokenPipe")).await;
    });
}

#[test]
fn a_file_that_is_given_up_leaves_the_transport_as_it_was() {
    let content = content();
    let mut file = file(&content);
    on_loop(async {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (transport, _) = connect_accepted_socket(Quiet::default, ours).unwrap();
        {
            let mut sending = pin!(transport.sendfile(&mut file, 0, None));
            assert!(poll!(&mut sending).is_pending(), "nobody reads");
        }
        let sent = file.stream_position().unwrap() as usize;
        assert!(sent > 0);
        transport.write(b"after").unwrap();
        transport.close();
        assert!(everything(&mut theirs).await == [&content[..sent], b"after"].concat());
    });
}

#[test]
fn the_end_of_a_connection_ends_its_file() {
    let mut file = file(&content());
    on_loop(async {
        for in_order in [true, false] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (transport, quiet) = connect_accepted_socket(Quiet::default, ours).unwrap();
            let mut sending = pin!(transport.sendfile(&mut file, 0, None));
            assert!(poll!(&mut sending).is_pending(), "nobody reads");
            if in_order {
                transport.close();
                assert_eq!(sending.await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
                until(|| quiet.0.has("in order")).await;
            } else {
                drop(theirs);
                assert!(sending.await.is_err());
                until(|| !quiet.0.all().is_empty()).await;
            }
            let error = transport.sendfile(&mut tempfile::tempfile().unwrap(), 0, None).await.unwrap_err();
            assert_eq!(error.to_string(), "`sendfile` after the end of the connection");
        }
    });
}
