//! Eighteen thousand idle connections (or as many as `EVENLOOP_MANY` says) in one server process, the clients in another: each costs at
//! most 1 KiB of our memory, and all together no processor time.

use evenloop_streams::{ServerConfig, StreamReader, StreamWriter};
use evenloop_sync::oneshot;
use evenloop_tests::{Counting, many, skipped, thread_time};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

const MOST_BYTES: usize = 1024;
const PORT: &str = "EVENLOOP_TEST_PORT";

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn how_many() -> usize {
    many(18_000)
}

/// As many descriptors as this process may have. Answers whether they are enough.
fn enough_descriptors() -> bool {
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, maximum: limits.maximum }).unwrap();
    limits.maximum.is_none_or(|most| most as usize > how_many() + 200)
}

async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    while let line @ [_, ..] = &reader.readline().await?[..] {
        writer.write(line)?;
        writer.drain().await?;
    }
    Ok(())
}

/// The other process: connects, has one line sent back on each connection, says so, and waits until it is told to end.
fn clients(port: u16) {
    assert!(enough_descriptors());
    let connect = |_| TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut connections: Vec<_> = (0..how_many()).map(connect).collect();
    connections.iter_mut().for_each(|stream| stream.write_all(b"hello\n").unwrap());
    for stream in &mut connections {
        let mut back = [0; 6];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"hello\n");
    }
    println!("all are connected");
    io::stdin().lines().for_each(drop);
}

#[test]
fn idle_connections_cost_a_kibibyte_each_and_no_time() {
    if let Ok(port) = std::env::var(PORT) {
        return clients(port.parse().unwrap());
    }
    let connections = how_many();
    if !enough_descriptors() {
        let way_out = format!("a hard limit above {}: ulimit -Hn", connections + 200);
        return skipped(&format!("{connections} connections need more descriptors"), &way_out);
    }
    evenloop::run(async {
        let server = ServerConfig::new().start(echo, ([127, 0, 0, 1], 0).into()).unwrap();
        let port = server.local_addr().unwrap().port();
        let mut others = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "idle_connections_cost_a_kibibyte_each_and_no_time", "--nocapture"])
            .env(PORT, port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let before = Counting::of_all_threads().0;
        let (tell, told) = oneshot::channel();
        let output = BufReader::new(others.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut tell = Some(tell);
            for line in output.lines().map_while(Result::ok) {
                if line.contains("all are connected") {
                    let _ = tell.take().map(|tell| tell.send(true));
                }
            }
        });
        let began = std::time::Instant::now();
        assert!(told.await.expect("the clients have failed"));
        println!("connected, and each answered once, in {:?}", began.elapsed());
        assert_eq!(server.connections(), connections);

        let each = (Counting::of_all_threads().0 - before) as usize / connections;
        evenloop::sleep(Duration::from_millis(1)).await; // what is done once is done
        let began = thread_time();
        evenloop::sleep(Duration::from_millis(300)).await;
        let idle = thread_time() - began;
        println!("{connections} idle connections: {each} bytes each; processor time in 300 ms: {idle:?}");
        assert!(each <= MOST_BYTES, "{each} bytes a connection");
        assert!(idle < Duration::from_millis(30), "{idle:?} of idling");

        // They all go at once.
        drop(others.stdin.take());
        server.close();
        server.wait_closed().await;
        assert!(others.wait().unwrap().success());
        let left = Counting::of_all_threads().0 - before;
        println!("left when all are gone: {left} bytes");
        assert!(left < 4_000_000, "{left} bytes: tables may keep their size, and nothing else");
    });
}
