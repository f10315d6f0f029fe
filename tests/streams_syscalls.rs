//! System calls for an echo, counted by strace: six for client and server together (each waits, reads and writes), and not
//! one to find out that a socket is dry.

use evenloop_streams::{StreamReader, StreamWriter, TcpListener, TcpStream, open_connection, start_server};
use evenloop_tests::syscalls::{per_round, rounds};
use evenloop_tests::{connected, on_loop};
use futures::{AsyncReadExt, AsyncWriteExt, future};
use std::io::{self, IoSlice};

fn assert_budget(test: &str) {
    let Some(calls) = per_round(test, 100, 1100) else { return };
    let all: f64 = calls.values().sum();
    println!("system calls an echo: {calls:?}");
    assert!(all <= 6.05, "{all} system calls an echo: {calls:?}");
    assert!(all >= 4.0, "strace saw too few: {calls:?}");
}

#[test]
fn raw_streams_make_six_system_calls_an_echo() {
    let Some(echoes) = rounds() else { return assert_budget("raw_streams_make_six_system_calls_an_echo") };
    on_loop(async {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let (client, server) =
            future::join(TcpStream::connect(listener.local_addr().unwrap()), listener.accept()).await;
        let (mut client, mut server) = (client.unwrap(), server.unwrap().0);
        let serve = async {
            let mut room = [0; 128];
            while let n @ 1.. = server.read(&mut room).await.unwrap() {
                server.write_all(&room[..n]).await.unwrap();
            }
        };
        let ask = async {
            let mut room = [0; 128];
            for _ in 0..echoes {
                client.write_all(&[7; 64]).await.unwrap();
                assert_eq!(client.read(&mut room).await.unwrap(), 64);
            }
            client.close().await.unwrap();
        };
        future::join(serve, ask).await;
    });
}

#[test]
fn readers_and_writers_make_six_system_calls_an_echo() {
    async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
        while let line @ [_, ..] = &reader.readline().await?[..] {
            writer.write(line)?;
            writer.drain().await?;
        }
        Ok(())
    }
    let Some(echoes) = rounds() else {
        return assert_budget("readers_and_writers_make_six_system_calls_an_echo");
    };
    on_loop(async {
        let server = start_server(echo, ([127, 0, 0, 1], 0).into()).unwrap();
        let port = server.local_addr().unwrap().port();
        let (mut reader, mut writer) = open_connection("127.0.0.1", port).await.unwrap();
        for _ in 0..echoes {
            writer.write(b"hello\n").unwrap();
            writer.drain().await.unwrap();
            assert_eq!(reader.readline().await.unwrap(), b"hello\n");
        }
        server.close();
        writer.wait_closed().await.unwrap();
        server.wait_closed().await;
    });
}

/// The kernel takes a fifth less time for one piece than for two.
#[test]
fn small_pieces_are_sent_as_one() {
    let Some(rounds) = rounds() else {
        let Some(calls) = per_round("small_pieces_are_sent_as_one", 100, 1100) else { return };
        assert!(!calls.contains_key("writev"), "{calls:?}");
        assert!((0.95..1.05).contains(&calls["sendto"]), "{calls:?}");
        return;
    };
    on_loop(async {
        let (mut client, mut server) = connected().await;
        let mut room = [0; 10];
        for _ in 0..rounds {
            let pieces = [IoSlice::new(b"head"), IoSlice::new(b"body")];
            assert_eq!(client.write_vectored(&pieces).await.unwrap(), 8);
            assert_eq!(server.read(&mut room).await.unwrap(), 8);
        }
    });
}
