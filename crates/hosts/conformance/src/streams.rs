//! Sockets, pipes and servers.

use crate::Host;
use crate::together::{Shared, spawn, until};
use evenloop_core::cancel::catch_cancel;
use evenloop_streams::pipe::pipe;
use evenloop_streams::process::{Command, Ending, PIPE};
use evenloop_streams::{
    IoFailure, ServerConfig, StreamReader, StreamWriter, TcpListener, TcpStream, UdpSocket, UnixStream,
    open_connection,
};
use evenloop_time::{Clock, sleep, timeout};
use futures_util::future::{join, join_all};
use futures_util::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(loopback()).expect("a port");
    let (client, server) = join(TcpStream::connect(listener.local_addr().unwrap()), listener.accept()).await;
    (client.expect("connected"), server.expect("accepted").0)
}

/// Sends back what comes, until the end.
async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut room = [0; 4096];
    loop {
        match stream.read(&mut room).await? {
            0 => return stream.close().await,
            n => stream.write_all(&room[..n]).await?,
        }
    }
}

/// Two tasks, one connection.
pub fn bytes_go_both_ways_and_the_end_arrives<H: Host>() {
    H::run(Clock::Real, async {
        let (mut client, server) = connected().await;
        let echoes = spawn(echo(server));
        for round in 0..100_u8 {
            client.write_all(&[round; 100]).await.unwrap();
            let mut back = [0; 100];
            client.read_exact(&mut back).await.unwrap();
            assert_eq!(back, [round; 100]);
        }
        client.close().await.unwrap();
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        echoes.await.unwrap();
    });
}

/// Writers and readers wait for each other, in both directions at once.
pub fn more_bytes_than_the_kernel_holds_go_through<H: Host>() {
    H::run(Clock::Real, async {
        let (client, server) = connected().await;
        let echoes = spawn(echo(server));
        let sent: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
        let (mut read, mut write) = client.into_split();
        let writes = spawn({
            let sent = sent.clone();
            async move {
                write.write_all(&sent).await.unwrap();
                write.close().await.unwrap();
            }
        });
        let mut got = Vec::new();
        read.read_to_end(&mut got).await.unwrap();
        assert!(got == sent, "{} bytes of {}", got.len(), sent.len());
        writes.await;
        echoes.await.unwrap();
    });
}

/// A read that waits in one task goes on in another: the new task is woken, and no byte is missed.
pub fn a_stream_moves_to_another_task_while_bytes_come<H: Host>() {
    H::run(Clock::Real, async {
        let (client, mut server) = connected().await;
        let mut reader = StreamReader::new(client);
        let feeds = spawn(async move {
            for round in 0..50_u8 {
                server.write_all(&[round; 10]).await.unwrap();
                sleep(MS / 10).await;
            }
        });
        // Each round polls the read where it is, then hands it to a task of its own.
        for round in 0..50_u8 {
            let begun = timeout(Duration::ZERO, reader.readexactly(10)).await;
            let bytes = match begun {
                Ok(bytes) => bytes.unwrap(),
                Err(_) => {
                    let (bytes, back) = spawn(async move { (reader.readexactly(10).await, reader) }).await;
                    reader = back;
                    bytes.unwrap()
                }
            };
            assert_eq!(bytes, [round; 10]);
        }
        feeds.await;
    });
}

/// Dropped at any moment: what came stays in the reader.
pub fn a_read_that_is_dropped_loses_no_byte<H: Host>() {
    H::run(Clock::Real, async {
        let (client, mut server) = connected().await;
        let feeds = spawn(async move {
            for number in 0..200_u32 {
                server.write_all(&number.to_le_bytes()[..2]).await.unwrap();
                sleep(Duration::ZERO).await;
                server.write_all(&number.to_le_bytes()[2..]).await.unwrap();
            }
        });
        let mut reader = StreamReader::new(client);
        let mut number = 0;
        let mut dropped = 0;
        while number < 200_u32 {
            match timeout(Duration::ZERO, reader.readexactly(4)).await {
                Ok(bytes) => {
                    assert_eq!(bytes.unwrap(), number.to_le_bytes());
                    number += 1;
                }
                Err(_) => {
                    dropped += 1;
                    sleep(if dropped % 10 == 0 { MS } else { Duration::ZERO }).await;
                }
            }
        }
        feeds.await;
    });
}

/// The other streams.
pub fn unix_sockets_and_pipes_do_the_same<H: Host>() {
    H::run(Clock::Real, async {
        let (mut client, server) = UnixStream::pair().unwrap();
        let echoes = spawn(echo(server));
        client.write_all(b"over a path").await.unwrap();
        client.close().await.unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, b"over a path");
        echoes.await.unwrap();

        let (mut sender, mut receiver) = pipe().unwrap();
        let writes = spawn(async move { sender.write_all(&[7; 300_000]).await });
        let mut all = Vec::new();
        receiver.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), 300_000);
        writes.await.unwrap();
    });
}

/// Several tasks may wait on one socket; each datagram goes to one of them.
pub fn datagrams_keep_their_borders<H: Host>() {
    H::run(Clock::Real, async {
        let receiver = evenloop_core::shim::StdArc::new(UdpSocket::bind(loopback()).unwrap());
        let to = receiver.local_addr().unwrap();
        let waits = [1, 2, 3].map(|_| {
            let receiver = receiver.clone();
            spawn(async move {
                let mut room = [0; 16];
                receiver.recv_from(&mut room).await.unwrap().0
            })
        });
        let sender = UdpSocket::bind(loopback()).unwrap();
        for length in [1, 2, 3] {
            assert_eq!(sender.send_to(&[7; 16][..length], to).await.unwrap(), length);
        }
        let mut lengths = join_all(waits).await;
        lengths.sort_unstable();
        assert_eq!(lengths, [1, 2, 3]);
    });
}

/// The resolver runs on one of the host's threads.
pub fn a_name_is_looked_up_and_a_refused_connection_says_with_whom<H: Host>() {
    H::run(Clock::Real, async {
        let listener = TcpListener::bind(loopback()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connected, accepted) = join(TcpStream::connect_host("localhost", port), listener.accept()).await;
        let (connected, accepted) = (connected.unwrap(), accepted.unwrap());
        assert_eq!(connected.local_addr().unwrap(), accepted.1);
        let nobody = accepted.1; // that port is a client's, so nobody else can come to listen there
        let error = TcpStream::connect(nobody).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(IoFailure::of(&error).unwrap().whom(), nobody.to_string());
    });
}

/// One wait in the kernel for all.
pub fn many_tasks_wait_for_one_socket_each<H: Host>() {
    H::run(Clock::Real, async {
        let waiting = Shared::default();
        let mut ends = Vec::new();
        let tasks: Vec<_> = (0..200)
            .map(|_| {
                let (mut ours, theirs) = UnixStream::pair().unwrap();
                ends.push(theirs);
                let waiting = waiting.clone();
                spawn(async move {
                    waiting.add_one();
                    let mut byte = [0];
                    ours.read_exact(&mut byte).await.unwrap();
                    byte[0]
                })
            })
            .collect();
        until(|| waiting.get() == 200).await;
        for (number, end) in ends.iter_mut().enumerate() {
            end.write_all(&[number as u8]).await.unwrap();
        }
        let got = join_all(tasks).await;
        assert!(got.iter().enumerate().all(|(number, byte)| *byte == number as u8), "{got:?}");
    });
}

async fn shout(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    while let line @ [_, ..] = &reader.readline().await?[..] {
        writer.write(&line.to_ascii_uppercase())?;
        writer.drain().await?;
    }
    writer.wait_closed().await
}

/// `start_server` with handlers that may move between threads, and `open_connection`.
pub fn a_server_serves_in_asyncios_words<H: Host>() {
    H::run(Clock::Real, async {
        let server = ServerConfig::new().start_send(shout, loopback()).unwrap();
        let port = server.local_addr().unwrap().port();
        let clients = (0..20).map(|number| {
            spawn(async move {
                let (mut reader, mut writer) = open_connection("127.0.0.1", port).await.unwrap();
                for round in 0..10 {
                    writer.write(format!("hello {number} {round}\n").as_bytes()).unwrap();
                    writer.drain().await.unwrap();
                    let line = reader.readline().await.unwrap();
                    assert_eq!(line, format!("HELLO {number} {round}\n").as_bytes());
                }
                writer.wait_closed().await.unwrap();
                assert!(reader.readline().await.unwrap().is_empty());
            })
        });
        join_all(clients.collect::<Vec<_>>()).await;
        server.close();
        server.wait_closed().await;
        assert_eq!(server.connections(), 0);
    });
}

/// Cancelled handlers clean up; one that does not end is dropped after the grace.
pub fn a_server_says_farewell_and_ends<H: Host>() {
    async fn handler(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
        let stays = reader.readline().await? == b"stay\n";
        writer.write(b"ready\n")?;
        writer.drain().await?;
        if let Err(cancelled) = catch_cancel(reader.readline()).await {
            writer.write(b"farewell\n")?;
            writer.drain().await?;
            if stays {
                std::future::pending::<()>().await;
            }
            writer.wait_closed().await?;
            cancelled.absorb();
        }
        Ok(())
    }
    H::run(Clock::Real, async {
        let server = ServerConfig::new().start_send(handler, loopback()).unwrap();
        let port = server.local_addr().unwrap().port();
        let mut clients = Vec::new();
        for word in [&b"stay\n"[..], b"go\n"] {
            let (mut reader, mut writer) = open_connection("127.0.0.1", port).await.unwrap();
            writer.write(word).unwrap();
            writer.drain().await.unwrap();
            assert_eq!(reader.readline().await.unwrap(), b"ready\n");
            clients.push((reader, writer));
        }
        assert_eq!(server.shutdown(50 * MS).await.unwrap(), 1);
        for (reader, _) in &mut clients {
            assert_eq!(reader.readline().await.unwrap(), b"farewell\n");
            assert_eq!(reader.readline().await.unwrap(), b"");
        }
    });
}

/// A child's pipes and its end, started on the spot and on a thread for jobs.
pub fn a_child_is_fed_read_and_waited_for<H: Host>() {
    H::run(Clock::Real, async {
        let input = vec![b'x'; 1 << 20];
        let mut cat = Command::new("cat").stdin(PIPE).stdout(PIPE).spawn().expect("it starts");
        let output = cat.communicate(&input).await.expect("it reads and writes");
        assert!(output.status.success() && output.stdout == input);
        let output = Command::shell("echo out; exit 3").spawn_off_loop().await.expect("it starts");
        assert_eq!(output.wait().await.expect("it ends").code(), Some(3));
    });
}

/// One task waits for eight at once.
pub fn children_end_while_others_wait_for_them<H: Host>() {
    H::run(Clock::Real, async {
        let children: Vec<_> =
            (0..8).map(|code| Command::shell(format!("exit {code}")).spawn().expect("it starts")).collect();
        let codes = join_all(children.iter().map(|child| child.wait())).await;
        let codes: Vec<_> = codes.into_iter().map(|status| status.expect("it ends").code()).collect();
        assert_eq!(codes, (0..8).map(Some).collect::<Vec<_>>());
    });
}

/// The ending of a dropped child needs no host, and its waiters hear of it.
pub fn a_child_that_is_dropped_can_be_killed<H: Host>() {
    H::run(Clock::Real, async {
        let child = Command::new("cat").stdin(PIPE).on_drop(Ending::Kill).spawn().expect("it starts");
        let handle = child.handle();
        drop(child);
        handle.wait().await.expect("it ends");
        assert_eq!(handle.returncode(), Some(-9));
    });
}
