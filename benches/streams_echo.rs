//! What share of a bare epoll loop's echoes does a server on Evenloop reach, and what share do the peers?
//!
//! Each server is a process of its own, on this processor; one load generator, native and single-threaded, is another
//! process on another processor. A client has one message on its way at a time. Servers read into one buffer a connection
//! and write what they read: raw streams, no line parsing, because that is what a runtime adds to the kernel's work. The
//! limit does so as well; `limit: one buffer` has one for all connections, which stays in the processor's cache, as no task
//! that waits in the middle of a read could: it shows how much of a large message's time the memory takes.
//!
//! Besides criterion's way (`cargo bench --bench streams_echo`) there is a better one for a noisy machine: with
//! `-- --alternating` every server gets its turn eleven times over, and the table gives medians, and the server's own
//! processor time for an echo, which the load generator's speed does not touch.
//!
//! Not measured: connecting, TLS, more than one processor, latency under partial load.

use criterion::{Criterion, Throughput};
use evenloop_benches::executors::with_sockets;
use evenloop_benches::load::{Load, Server, Talk, alternating, bind, tell, was_another_process};
use evenloop_streams::TcpListener;
use rustix::event::epoll;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::time::Duration;

/// Connections, and bytes in a message.
const SITUATIONS: [(usize, usize); 3] = [(64, 64), (1000, 64), (64, 16 * 1024)];
/// `evenloop, watched` tells how much it costs that somebody asks what tasks wait for: a console, say.
const SERVERS: [&str; 7] =
    ["limit: bare epoll", "limit: one buffer", "evenloop", "evenloop, watched", "tokio", "smol", "monoio"];

fn main() {
    if was_another_process(serve) {
        return;
    }
    if std::env::args().any(|arg| arg == "--alternating") {
        return in_turns();
    }
    let mut criterion = Criterion::default().configure_from_args();
    with_criterion(&mut criterion);
    criterion.final_summary();
}

fn servers(bytes: usize) -> [(&'static str, Server); SERVERS.len()] {
    SERVERS.map(|name| (name, Server::start(name, 2 * bytes)))
}

fn with_criterion(criterion: &mut Criterion) {
    let mut load = Load::new();
    for (connections, bytes) in SITUATIONS {
        let mut group =
            criterion.benchmark_group(format!("tcp_echo_{connections}_connections_{bytes}_bytes"));
        group.throughput(Throughput::Elements(1)).sample_size(20).measurement_time(Duration::from_secs(4));
        for (name, server) in &servers(bytes) {
            group.bench_function(*name, |bencher| {
                bencher.iter_custom(|echoes| load.run(server, connections, Talk::Echo(bytes), echoes));
            });
        }
    }
}

fn in_turns() {
    let mut load = Load::new();
    for (connections, bytes) in SITUATIONS {
        let echoes = if connections == 1000 || bytes > 64 { 30_000 } else { 60_000 };
        println!("{connections} connections, {bytes} bytes");
        alternating(&mut load, &servers(bytes), connections, Talk::Echo(bytes), echoes);
    }
}

// === The servers ===

fn serve(name: &str, room: usize) {
    match name {
        "limit: bare epoll" => bare_epoll(room, false),
        "limit: one buffer" => bare_epoll(room, true),
        "evenloop" => on_evenloop(room, false),
        "evenloop, watched" => on_evenloop(room, true),
        "tokio" => on_tokio(room),
        "smol" => on_smol(room),
        "monoio" => on_monoio(room),
        other => panic!("no such server: {other}"),
    }
}

fn bare_epoll(room_bytes: usize, one_buffer: bool) {
    let listener = bind();
    tell(listener.local_addr().expect("bound"));
    listener.set_nonblocking(true).expect("an option");
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    epoll::add(&epoll, &listener, epoll::EventData::new_u64(u64::MAX), epoll::EventFlags::IN).expect("epoll");
    let mut sockets: Vec<Option<std::net::TcpStream>> = Vec::new();
    let mut rooms: Vec<Box<[u8]>> = Vec::new();
    let mut events = Vec::with_capacity(1024);
    loop {
        events.clear();
        match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Err(rustix::io::Errno::INTR) => continue,
            waited => waited.expect("epoll"),
        };
        for event in &events {
            let place = { event.data }.u64();
            if place == u64::MAX {
                let Ok((socket, _)) = listener.accept() else { continue };
                socket.set_nodelay(true).expect("an option");
                socket.set_nonblocking(true).expect("an option");
                let data = epoll::EventData::new_u64(sockets.len() as u64);
                let edge = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
                epoll::add(&epoll, &socket, data, edge).expect("epoll");
                sockets.push(Some(socket));
                if rooms.is_empty() || !one_buffer {
                    rooms.push(vec![0; room_bytes].into());
                }
                continue;
            }
            let socket = &mut sockets[place as usize];
            let Some(open) = socket else { continue };
            let room = &mut rooms[if one_buffer { 0 } else { place as usize }];
            loop {
                match recv(&*open, &mut room[..], RecvFlags::empty()) {
                    Ok((0, _)) => *socket = None,
                    Ok((n, _)) => {
                        assert_eq!(send(&*open, &room[..n], SendFlags::NOSIGNAL), Ok(n));
                        if n == room_bytes {
                            continue;
                        }
                    }
                    Err(rustix::io::Errno::AGAIN) => {}
                    Err(_) => *socket = None,
                }
                break;
            }
        }
    }
}

fn on_evenloop(room_bytes: usize, watched: bool) {
    use futures::{AsyncReadExt, AsyncWriteExt};
    let event_loop = with_sockets().watch(watched).build();
    event_loop.run_until_complete(async {
        let listener = TcpListener::from_std(bind()).expect("it can be watched");
        tell(listener.local_addr().unwrap());
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { continue };
            stream.set_nodelay(true).expect("an option");
            evenloop_executor::create_task(async move {
                let mut room = vec![0_u8; room_bytes];
                while let Ok(n @ 1..) = stream.read(&mut room).await {
                    if stream.write_all(&room[..n]).await.is_err() {
                        break;
                    }
                }
            })
            .detach();
        }
    });
}

fn on_tokio(room_bytes: usize) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        let listener = bind();
        listener.set_nonblocking(true).expect("an option");
        let listener = tokio::net::TcpListener::from_std(listener).expect("it can be watched");
        tell(listener.local_addr().expect("bound"));
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { continue };
            stream.set_nodelay(true).expect("an option");
            tokio::task::spawn_local(async move {
                let mut room = vec![0_u8; room_bytes];
                while let Ok(n @ 1..) = stream.read(&mut room).await {
                    if stream.write_all(&room[..n]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
}

fn on_smol(room_bytes: usize) {
    use smol::io::{AsyncReadExt, AsyncWriteExt};
    let executor = smol::LocalExecutor::new();
    smol::block_on(executor.run(async {
        let listener = smol::Async::new(bind()).expect("it can be watched");
        tell(listener.get_ref().local_addr().expect("bound"));
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { continue };
            stream.get_ref().set_nodelay(true).expect("an option");
            let task = executor.spawn(async move {
                let mut room = vec![0_u8; room_bytes];
                while let Ok(n @ 1..) = stream.read(&mut room).await {
                    if stream.write_all(&room[..n]).await.is_err() {
                        break;
                    }
                }
            });
            task.detach();
        }
    }));
}

fn on_monoio(room_bytes: usize) {
    use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
    let mut runtime = monoio::RuntimeBuilder::<monoio::FusionDriver>::new().build().expect("a runtime");
    runtime.block_on(async {
        let listener = monoio::net::TcpListener::from_std(bind()).expect("it can be watched");
        tell(listener.local_addr().expect("bound"));
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { continue };
            stream.set_nodelay(true).expect("an option");
            monoio::spawn(async move {
                let mut room = vec![0_u8; room_bytes];
                loop {
                    let (read, whole) = stream.read(room).await;
                    let Ok(n @ 1..) = read else { break };
                    let (written, slice) = stream.write_all(monoio::buf::IoBuf::slice(whole, 0..n)).await;
                    if written.is_err() {
                        break;
                    }
                    room = slice.into_inner();
                }
            });
        }
    });
}
