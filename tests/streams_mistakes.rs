//! Mistakes that were made elsewhere with descriptors, streams and servers, each shown not to be made here.
//!
//! Some cannot be written down any more: two reads or two writes at once, and closing a socket while another task uses it,
//! are refused by the borrow checker, because readers and writers take `&mut self` and closing takes `self`. What is left of
//! them, and all others, is tested, here or where the subject is at home.

use evenloop_core::{Park, Reactor, Readiness, Ready, Runtime};
use evenloop_streams::pipe::pipe;
use evenloop_streams::{
    AsyncFd, ReactorDriver, StreamReader, StreamWriter, TcpListener, TcpStream, UdpSocket, UnixDatagram,
    UnixStream, sendfile, start_server,
};
use evenloop_sync::Lock;
use evenloop_tests::{Counting, connected, on_loop, on_reactor, thread_time};
use futures::future::join_all;
use futures::{AsyncReadExt, AsyncWriteExt, poll};
use std::future::pending;
use std::io::{self, Read, Write};
use std::mem::ManuallyDrop;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// How often the tests of growth repeat.
const MANY: usize = if cfg!(debug_assertions) { 10_000 } else { 100_000 };

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A stream whose peer takes nothing, filled until a write waits.
fn fill(stream: &TcpStream) {
    // An attempt that is interrupted says so.
    let goes_on = |error: &io::Error| error.kind() == io::ErrorKind::Interrupted;
    while stream.try_write(&[7; 64 * 1024]).as_ref().map_or_else(goes_on, |_| true) {}
}

// === Records and descriptors ===

/// Elsewhere a record stayed when the descriptor was closed by others (tokio#3104, #7563). Here another file takes its
/// number, which closes it.
#[test]
fn a_descriptor_closed_behind_our_back_leaves_no_record() {
    let driver = ReactorDriver::new().unwrap();
    let runtime = Runtime::builder("test").reactor(Arc::new(driver.handle())).build();
    let _entered = runtime.enter();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let number = ours.as_raw_fd();
    let watched = AsyncFd::new(ours).unwrap();
    // SAFETY: `watched` owns the number, and closes it.
    let mut borrowed = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
    // In one step, so that the number is never free: a test beside this one would be given it.
    rustix::io::dup3(&theirs, &mut borrowed, rustix::io::DupFlags::CLOEXEC).unwrap();
    drop(watched);
    assert_eq!(format!("{driver:?}"), "ReactorDriver [idle, sources: 0]");
}

#[test]
fn taking_a_descriptor_out_and_in_again_does_not_grow_anything() {
    let driver = ReactorDriver::new().unwrap();
    let runtime = Runtime::builder("test").reactor(Arc::new(driver.handle())).build();
    let _entered = runtime.enter();
    let (mut ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours = AsyncFd::new(ours).unwrap().into_inner();
    let before = Counting::bytes();
    for _ in 0..MANY {
        ours = AsyncFd::new(ours).unwrap().into_inner();
    }
    assert_eq!(Counting::bytes(), before);
    assert_eq!(format!("{driver:?}"), "ReactorDriver [idle, sources: 0]");
}

/// Elsewhere the wakers of waits that were given up stayed in a list (async-io#13).
#[test]
fn waits_that_are_given_up_leave_nothing_behind() {
    on_reactor(async {
        let (client, _server) = connected().await;
        fill(&client);
        let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let give_up = async || {
            assert!(poll!(pin!(client.readable())).is_pending());
            assert!(poll!(pin!(client.writable())).is_pending());
            assert!(poll!(pin!(client.peek(&mut [0; 8]))).is_pending());
            assert!(poll!(pin!(listener.accept())).is_pending());
        };
        give_up().await;
        let before = Counting::bytes();
        for _ in 0..MANY {
            give_up().await;
        }
        assert_eq!(Counting::bytes(), before);
        let mut waits = (Box::pin(client.readable()), Box::pin(listener.accept()));
        assert!(poll!(&mut waits.0).is_pending() && poll!(&mut waits.1).is_pending());
        let before = Counting::bytes();
        for _ in 0..MANY {
            assert!(poll!(&mut waits.0).is_pending() && poll!(&mut waits.1).is_pending());
        }
        assert_eq!(Counting::bytes(), before);
    });
}

/// Elsewhere a writer that waited when its socket was closed went on in the next file of that number (trio#661).
#[test]
fn closing_under_a_waiting_writer_ends_it_and_touches_no_other_file() {
    on_reactor(async {
        let (client, _server) = connected().await;
        fill(&client);
        let (reads, mut writes) = client.into_split();
        let mut block = Box::pin(async { writes.write_all(&[1; 1000]).await });
        assert!(poll!(&mut block).is_pending());
        reads.shutdown(Shutdown::Both).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        let error = block.await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        assert!(content.is_empty());
    });
}

// === After the end ===

/// Elsewhere calls after the driver's shutdown panicked (tokio#6067), or waited for ever.
#[test]
fn after_the_loop_has_ended_everything_answers_with_an_error() {
    let (mut tcp, unix, listener, udp, datagrams, pipes, mut reader, mut writer, server) =
        evenloop::new_event_loop().run_until_complete(async {
            let (client, other) = connected().await;
            fill(&client);
            let (reads, writes) = other.into_split();
            let mut writer = StreamWriter::new(writes);
            writer.write(b"too late").unwrap();
            let server = start_server(async |_, _| (), ([127, 0, 0, 1], 0).into()).unwrap();
            let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
            let udp = UdpSocket::bind(([127, 0, 0, 1], 0).into()).unwrap();
            let unix = UnixStream::pair().unwrap();
            let reader = StreamReader::new(reads);
            (
                client,
                unix,
                listener,
                udp,
                UnixDatagram::pair().unwrap(),
                pipe().unwrap(),
                reader,
                writer,
                server,
            )
        });
    let says = |error: io::Error| assert!(error.to_string().contains("has ended"), "{error}");
    let (mut one, mut other) = unix;
    let (mut sender, mut receiver) = pipes;
    let mut room = [0; 8];
    futures::executor::block_on(async {
        says(tcp.read(&mut room).await.unwrap_err());
        says(tcp.write(b"x").await.unwrap_err());
        says(tcp.readable().await.unwrap_err());
        says(tcp.writable().await.unwrap_err());
        says(tcp.peek(&mut room).await.unwrap_err());
        says(tcp.try_read(&mut room).unwrap_err());
        says(tcp.try_write(b"x").unwrap_err());
        says(sendfile(&mut tcp, &mut tempfile_with(b"x")).await.unwrap_err());
        says(one.read(&mut room).await.unwrap_err());
        says(other.write(b"x").await.unwrap_err());
        says(listener.accept().await.unwrap_err());
        says(udp.recv_from(&mut room).await.unwrap_err());
        says(udp.send_to(b"x", udp.local_addr().unwrap()).await.unwrap_err());
        says(datagrams.0.send(b"x").await.unwrap_err());
        says(datagrams.1.recv(&mut room).await.unwrap_err());
        says(sender.write(b"x").await.unwrap_err());
        says(receiver.read(&mut room).await.unwrap_err());
        says(reader.readline().await.unwrap_err().into());
        says(writer.drain().await.unwrap_err());
        server.wait_closed().await; // its task was dropped with the loop
        assert!(!server.is_serving());
    });
}

fn tempfile_with(content: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

// === Writers ===

/// Elsewhere a writer kept what was written after its connection was lost (gh-136234).
#[test]
fn after_a_reset_a_writer_keeps_no_bytes_and_says_so_each_time() {
    on_reactor(async {
        let (client, server) = connected().await;
        server.set_linger(Some(Duration::ZERO)).unwrap();
        fill(&client);
        let mut writer = StreamWriter::new(client);
        writer.write(&[7; 100_000]).unwrap();
        let mut drain = Box::pin(async { writer.drain().await });
        assert!(poll!(&mut drain).is_pending());
        drop(server); // in the middle of the write
        let error = drain.await.unwrap_err();
        assert!(
            matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
            "{error}"
        );
        for _ in 0..10 {
            assert_eq!(writer.write(b"more").unwrap_err().to_string(), error.to_string());
            assert_eq!(writer.write_buffer_size(), 0);
            assert_eq!(writer.drain().await.unwrap_err().to_string(), error.to_string());
            assert_eq!(writer.wait_closed().await.unwrap_err().to_string(), error.to_string());
        }
    });
}

/// Elsewhere several drains at once were refused, or hung on a socket that was closed (gh-74116, bpo-25441).
#[test]
fn ten_tasks_drain_one_writer_and_all_hear_of_its_reset() {
    on_loop(async {
        let (client, server) = connected().await;
        server.set_linger(Some(Duration::ZERO)).unwrap();
        fill(&client);
        let writer = Rc::new(Lock::new(StreamWriter::new(client)));
        let drains = (0..10_u8).map(|number| {
            let writer = writer.clone();
            evenloop::create_task(async move {
                let mut writer = writer.acquire().await;
                writer.write(&[number; 1000])?;
                writer.drain().await
            })
        });
        let drains: Vec<_> = drains.collect();
        for _ in 0..10 {
            evenloop::yield_now().await;
        }
        assert!(drains.iter().all(|task| !task.done()));
        drop(server);
        for ended in join_all(drains).await {
            let error = ended.unwrap_err();
            assert!(
                matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
                "{error}"
            );
        }
    });
}

/// Elsewhere the bytes of two writers were mixed (trio#661).
#[test]
fn blocks_of_two_writers_never_mix() {
    const BLOCK: usize = 1 << 20;
    on_loop(async {
        let (client, mut server) = connected().await;
        let writer = Rc::new(Lock::new(StreamWriter::new(client)));
        let writers = [b'a', b'b'].map(|mark| {
            let writer = writer.clone();
            evenloop::create_task(async move {
                for _ in 0..3 {
                    let mut writer = writer.acquire().await;
                    writer.write(&vec![mark; BLOCK]).unwrap();
                    writer.drain().await.unwrap();
                }
            })
        });
        let (mut got, mut room) = (Vec::new(), vec![0; 64 * 1024]);
        while got.len() < 6 * BLOCK {
            let n = server.read(&mut room).await.unwrap();
            got.extend_from_slice(&room[..n]);
        }
        join_all(writers).await;
        for block in got.chunks(BLOCK) {
            assert!(block.iter().all(|byte| *byte == block[0]), "a block with the bytes of both");
        }
    });
}

/// Elsewhere writing nothing to a stream that was closed succeeded (trio#874).
#[test]
fn writing_nothing_to_a_closed_writer_is_an_error_too() {
    on_reactor(async {
        let (client, _server) = connected().await;
        let mut writer = StreamWriter::new(client);
        writer.write(b"").unwrap();
        writer.drain().await.unwrap();
        writer.close();
        assert_eq!(writer.write(b"").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(writer.writelines::<&[u8]>([]).is_err());
        writer.wait_closed().await.unwrap();
        assert_eq!(writer.write(b"").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    });
}

// === Closing under those who wait ===

/// Elsewhere closing did not wake who waited (tokio#3756, bpo-38019, anyio#1267).
#[test]
fn closing_ends_every_wait_with_an_answer() {
    on_loop(async {
        // Reading and writing, by the other half.
        let (client, _server) = connected().await;
        fill(&client);
        let (mut reads, mut writes) = client.into_split();
        let mut room = [0; 8];
        {
            let mut write = Box::pin(writes.write(b"x"));
            assert!(poll!(&mut write).is_pending());
            reads.shutdown(Shutdown::Both).unwrap();
            assert_eq!(write.await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            assert_eq!(reads.read(&mut room).await.unwrap(), 0);
        }
        // Reading, by the peer.
        let (mut client, server) = connected().await;
        let mut read = Box::pin(client.read(&mut room));
        assert!(poll!(&mut read).is_pending());
        drop(server);
        assert_eq!(read.await.unwrap(), 0);
        // A read that was given up just before.
        let (client, server) = connected().await;
        let mut reader = StreamReader::new(client);
        assert!(poll!(pin!(reader.readline())).is_pending());
        drop(server);
        assert_eq!(reader.readline().await.unwrap(), b"");
        // Accepting, by the server's end.
        let server = start_server(async |_, _| pending::<()>().await, ([127, 0, 0, 1], 0).into()).unwrap();
        evenloop::yield_now().await;
        server.close();
        server.wait_closed().await;
    });
}

// === Readers ===

/// What a read does.
type Act = fn(&mut [u8]) -> io::Result<usize>;

/// A stream of somebody else's that does what it must not, or what few do.
struct Odd(Vec<Act>);

impl futures::AsyncRead for Odd {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.0.is_empty() {
            true => Poll::Ready(Ok(0)),
            false => Poll::Ready(self.0.remove(0)(buf)),
        }
    }
}

fn three(buf: &mut [u8]) -> io::Result<usize> {
    buf[..3].copy_from_slice(b"abc");
    Ok(3)
}

/// Elsewhere buffers were read beyond their end, or lost what had come (futures#2314, #3020; async-std#964).
#[test]
fn odd_streams_break_no_reader() {
    // One that panics: what had come is still there, and so is the reader.
    let mut reader = StreamReader::new(Odd(vec![three, |_| panic!("a stream that panics"), three]));
    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        futures::executor::block_on(reader.readexactly(6))
    }));
    assert!(panics.is_err());
    assert_eq!(reader.buffered(), b"abc");
    assert_eq!(futures::executor::block_on(reader.readexactly(6)).unwrap(), b"abcabc");
    // One that says it read more than there was room for.
    let mut reader = StreamReader::new(Odd(vec![three, |buf| Ok(buf.len() + 1)]));
    let error = futures::executor::block_on(reader.read_to_end()).unwrap_err();
    assert!(error.to_string().contains("the stream says that it read"), "{error}");
    assert_eq!(reader.buffered(), b"abc");
    // One that fails between chunks, and goes on.
    let mut reader = StreamReader::new(Odd(vec![three, |_| Err(io::ErrorKind::TimedOut.into()), three]));
    let error = futures::executor::block_on(reader.read_to_end()).unwrap_err();
    assert_eq!((error.kind(), reader.buffered()), (io::ErrorKind::TimedOut, &b"abc"[..]));
    assert_eq!(futures::executor::block_on(reader.read_to_end()).unwrap(), b"abcabc");
    // One that ends early and would go on: the end is the end.
    let mut reader = StreamReader::new(Odd(vec![three, |_| Ok(0), three]));
    assert_eq!(futures::executor::block_on(reader.read_to_end()).unwrap(), b"abc");
    assert!(reader.at_eof());
    // Bytes that are no text are lines all the same.
    let mut reader = StreamReader::new(&b"\xff\xfe\n\xc3"[..]);
    assert_eq!(futures::executor::block_on(reader.readline()).unwrap(), b"\xff\xfe\n");
    assert_eq!(futures::executor::block_on(reader.readline()).unwrap(), b"\xc3");
}

/// Elsewhere what was buffered was lost when another protocol took over (gh-142352).
#[test]
fn what_is_buffered_goes_along_to_the_next_protocol() {
    on_reactor(async {
        let (client, mut server) = connected().await;
        server.write_all(b"UPGRADE\r\nbytes of the next protocol").await.unwrap();
        let mut reader = StreamReader::new(client);
        assert_eq!(reader.readline().await.unwrap(), b"UPGRADE\r\n");
        while reader.buffered().len() < 26 {
            let _ = poll!(pin!(reader.readexactly(100)));
            evenloop_tests::give_way().await;
        }
        let (mut stream, buffered) = reader.into_parts();
        assert_eq!(buffered, b"bytes of the next protocol");
        server.write_all(b"!").await.unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 1);
    });
}

// === Idle ===

/// Elsewhere a wake-up that nobody took away kept the processor busy (smol#122).
#[test]
fn idle_loops_use_no_processor() {
    let threads = [1, 2, 8].map(|many| {
        let loops: Vec<_> = (0..many)
            .map(|_| {
                std::thread::spawn(|| {
                    on_loop(async {
                        let (mut client, mut server) = connected().await;
                        client.write_all(b"x").await.unwrap();
                        server.read_exact(&mut [0]).await.unwrap();
                        fill(&client);
                        let before = thread_time();
                        evenloop::sleep(Duration::from_millis(200)).await;
                        thread_time() - before
                    })
                })
            })
            .collect();
        loops.into_iter().map(|thread| thread.join().unwrap()).max().unwrap()
    });
    println!("processor time of an idle loop in 200 ms, beside 0, 1 and 7 others: {threads:?}");
    assert!(threads.iter().all(|time| *time < Duration::from_millis(20)), "{threads:?}");
}

/// A reactor that cannot register keeps no record: what the kernel refuses is told, and the next one works.
#[test]
fn a_refused_registration_is_told_and_forgotten() {
    let mut driver = ReactorDriver::new().unwrap();
    let handle = driver.handle();
    let file = tempfile::tempfile().unwrap(); // cannot be watched
    let before = Counting::bytes();
    for _ in 0..1000 {
        let readiness = Arc::new(Readiness::new(Ready::NOTHING));
        let refused = handle.register(file.as_fd(), &readiness).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(1), "EPERM");
        assert_eq!(Arc::strong_count(&readiness), 1);
    }
    assert!((Counting::bytes() - before).abs() < 1000, "{}", Counting::bytes() - before);
    driver.park(Some(Duration::ZERO)).unwrap();
}
