//! Connections in memory.

use evenloop::streams::{StreamReader, StreamWriter};
use evenloop::test_kit::{Link, MemoryStream, settled, stream_pair};
use evenloop::time::now;
use evenloop::{create_task, timeout};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use std::io::ErrorKind;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// A reader and a writer on one end.
fn streams(
    end: MemoryStream,
) -> (StreamReader<evenloop::test_kit::MemoryReader>, StreamWriter<evenloop::test_kit::MemoryWriter>) {
    let (reader, writer) = end.split();
    (StreamReader::new(reader), StreamWriter::new(writer))
}

#[evenloop::test(virtual_clock)]
async fn lines_go_both_ways_through_readers_and_writers() {
    let (client, server) = stream_pair(Link::new());
    let echo = create_task(async move {
        let (mut reader, mut writer) = streams(server);
        loop {
            let line = reader.readline().await.unwrap();
            if line.is_empty() {
                return writer.wait_closed().await.unwrap();
            }
            writer.write(&line.to_ascii_uppercase()).unwrap();
            writer.drain().await.unwrap();
        }
    });
    let (mut reader, mut writer) = streams(client);
    for line in ["one\n", "two\n"] {
        writer.write(line.as_bytes()).unwrap();
        writer.drain().await.unwrap();
        assert_eq!(reader.readline().await.unwrap(), line.to_uppercase().as_bytes());
    }
    writer.write_eof().await.unwrap(); // half of it is closed, the other goes on
    echo.await;
    assert_eq!(reader.readline().await.unwrap(), b"");
}

#[evenloop::test(virtual_clock)]
async fn bytes_are_there_after_the_latency_and_not_before() {
    let (mut client, mut server) = stream_pair(Link::new().latency(40 * MS));
    let start = now();
    client.write_all(b"ping").await.unwrap();
    assert_eq!(now(), start); // who writes does not wait
    let mut bytes = [0; 8];
    assert!(timeout(39 * MS, server.read(&mut bytes)).await.is_err());
    assert_eq!(server.read(&mut bytes).await.unwrap(), 4);
    assert_eq!(now() - start, 40 * MS);
}

/// Sends 200 segments of 10 bytes, and answers when each byte came, since the start.
async fn arrivals(link: Link) -> Vec<Duration> {
    let (mut client, mut server) = stream_pair(link.segment_bytes(10));
    let start = now();
    let sending = create_task(async move {
        let bytes: Vec<u8> = (0..2_000).map(|number| number as u8).collect();
        client.write_all(&bytes).await.unwrap();
        client.close().await.unwrap();
        client // the end that is dropped closes
    });
    let (mut times, mut all, mut bytes) = (Vec::new(), Vec::new(), [0; 64]);
    loop {
        let count = server.read(&mut bytes).await.unwrap();
        if count == 0 {
            break;
        }
        assert!(count <= 10, "a read gives one segment at most");
        all.extend_from_slice(&bytes[..count]);
        times.push(now() - start);
    }
    assert_eq!(all, (0..2_000).map(|number| number as u8).collect::<Vec<_>>()); // in order, each once
    sending.await;
    times
}

#[evenloop::test(virtual_clock)]
async fn what_is_lost_comes_later_in_order_and_by_the_seed() {
    let bad = || Link::new().latency(20 * MS).jitter(5 * MS).loss(0.02).resend_after(300 * MS);
    let times = arrivals(bad().seed(1)).await;
    assert!(times.iter().all(|time| *time >= 20 * MS) && times.is_sorted());
    assert!(*times.last().unwrap() >= 320 * MS, "some were lost: {times:?}");
    assert_eq!(arrivals(bad().seed(1)).await, times);
    assert_ne!(arrivals(bad().seed(2)).await, times);
    let good = arrivals(Link::new().latency(20 * MS)).await;
    assert!(good.iter().all(|time| *time == 20 * MS), "{good:?}");
}

#[evenloop::test(virtual_clock)]
async fn who_writes_more_than_fits_waits_for_who_reads() {
    let (mut client, mut server) = stream_pair(Link::new().capacity_bytes(100));
    let writing = create_task(async move {
        client.write_all(&[7; 150]).await.unwrap();
        client
    });
    settled().await;
    assert!(!writing.done());
    assert_eq!(format!("{server:?}").matches("to be read: 100").count(), 1, "{server:?}");
    server.read_exact(&mut [0; 60]).await.unwrap();
    let mut client = writing.await;
    server.read_exact(&mut [0; 90]).await.unwrap();
    client.write_all(b"more").await.unwrap();
}

#[evenloop::test(virtual_clock)]
async fn ends_that_are_dropped_end_or_reset_the_other() {
    // Nothing unread: the end of the stream, and nobody to write to.
    let (client, mut server) = stream_pair(Link::new());
    drop(client);
    assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(server.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    // Bytes unread: a reset, which also reaches who waits.
    let (mut client, server) = stream_pair(Link::new().latency(MS));
    client.write_all(b"unread").await.unwrap();
    let reading = create_task(async move { client.read(&mut [0; 8]).await.unwrap_err().kind() });
    settled().await;
    drop(server);
    assert_eq!(reading.await, ErrorKind::ConnectionReset);
    // One half dropped is a half-close.
    let (client, mut server) = stream_pair(Link::new());
    let (mut reader, writer) = client.split();
    drop(writer);
    assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
    server.write_all(b"still").await.unwrap();
    reader.read_exact(&mut [0; 5]).await.unwrap();
}

#[evenloop::test(virtual_clock)]
async fn a_wire_that_is_cut_fails_both_ends() {
    let (mut client, mut server) = stream_pair(Link::new().latency(10 * MS));
    let wire = client.wire();
    wire.set_link(Link::new().loss(1.0).resend_after(100 * MS));
    let start = now();
    client.write_all(b"lost").await.unwrap();
    wire.set_link(Link::new());
    client.write_all(b"nor does this overtake it").await.unwrap();
    // 100 ms, doubled eight times.
    assert_eq!(server.read(&mut [0; 8]).await.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(now() - start, 100 * MS * 511);
    assert_eq!(client.write(b"x").await.unwrap_err().kind(), ErrorKind::TimedOut);

    let (mut client, mut server) = stream_pair(Link::new());
    let wire = client.wire();
    let reading = create_task(async move { server.read(&mut [0; 8]).await.unwrap_err().kind() });
    settled().await;
    wire.fail(ErrorKind::ConnectionAborted);
    assert_eq!(reading.await, ErrorKind::ConnectionAborted);
    assert_eq!(client.close().await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert!(format!("{wire:?}").starts_with("Wire [held: 0 and 0, fails: "), "{wire:?}");
}

#[test]
fn a_perfect_link_needs_no_runtime_and_ends_on_any_thread() {
    let (mut client, mut server) = stream_pair(Link::new());
    let other = std::thread::spawn(move || {
        futures::executor::block_on(async {
            let mut bytes = Vec::new();
            server.read_to_end(&mut bytes).await.unwrap();
            bytes
        })
    });
    futures::executor::block_on(client.write_all(b"across")).unwrap();
    drop(client);
    assert_eq!(other.join().unwrap(), b"across");
    drop(stream_pair(Link::new().latency(MS))); // nor does the drop of any other
}

#[test]
#[should_panic(expected = "`Link::loss` is a share, from 0 to 1, and not 10")]
fn a_loss_is_a_share() {
    let _ = Link::new().loss(10.0);
}

#[evenloop::test(virtual_clock)]
async fn a_connection_may_take_for_ever() {
    let (mut client, mut server) = stream_pair(Link::new().latency(Duration::MAX).jitter(Duration::MAX));
    client.write_all(b"lost in space").await.unwrap();
    let mut buf = [0];
    let hour = Duration::from_secs(3600);
    assert!(timeout(hour, server.read(&mut buf)).await.is_err());
}
