//! What share of a bare epoll loop's echoes does a server on Evenloop reach, and what share do the peers?
//!
//! Each server is a process of its own, on this processor; one load generator, native and single-threaded, is another
//! process on another processor. A client has one message on its way at a time. Servers read into one buffer a connection
//! and write what they read: raw streams, no line parsing, because that is what a runtime adds to the kernel's work.
//!
//! Besides criterion's way (`cargo bench --bench streams_echo`) there is a better one for a noisy machine: with
//! `-- --alternating` every server gets its turn eleven times over, and the table gives medians, and the server's own
//! processor time for an echo, which the load generator's speed does not touch.
//!
//! Not measured: connecting, TLS, more than one processor, latency under partial load.

use criterion::{Criterion, Throughput};
use evenloop_core::Runtime;
use evenloop_executor::EventLoop;
use evenloop_streams::{ReactorDriver, TcpListener};
use evenloop_time::{Clock, Driver};
use rustix::event::epoll;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections, and bytes in a message.
const SITUATIONS: [(usize, usize); 3] = [(64, 64), (1000, 64), (64, 16 * 1024)];
/// `evenloop, watched` tells how much it costs that somebody asks what tasks wait for: a console, say.
const SERVERS: [&str; 6] = ["limit: bare epoll", "evenloop", "evenloop, watched", "tokio", "smol", "monoio"];
/// More than any message, so that one read of the load generator takes it whole.
const ROOM: usize = 32 * 1024;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("--serve") => serve(&args[2], args[3].parse().expect("how much room a connection has")),
        Some("--load") => load(),
        Some("--alternating") => alternating(),
        _ => {
            let mut criterion = Criterion::default().configure_from_args();
            with_criterion(&mut criterion);
            criterion.final_summary();
        }
    }
}

fn with_criterion(criterion: &mut Criterion) {
    let mut load = Load::start();
    for (connections, bytes) in SITUATIONS {
        let servers = SERVERS.map(|name| (name, Server::start(name, bytes)));
        let mut group =
            criterion.benchmark_group(format!("tcp_echo_{connections}_connections_{bytes}_bytes"));
        group.throughput(Throughput::Elements(1)).sample_size(20).measurement_time(Duration::from_secs(4));
        for (name, server) in &servers {
            group.bench_function(*name, |bencher| {
                bencher.iter_custom(|echoes| load.run(server.port, connections, bytes, echoes));
            });
        }
    }
}

fn alternating() {
    let mut load = Load::start();
    for (connections, bytes) in SITUATIONS {
        let servers = SERVERS.map(|name| (name, Server::start(name, bytes)));
        let echoes = if connections == 1000 || bytes > 64 { 30_000 } else { 60_000 };
        let mut took = vec![vec![]; servers.len()];
        let mut cpu = vec![vec![]; servers.len()];
        for _ in 0..11 {
            for (place, (_, server)) in servers.iter().enumerate() {
                let before = server.cpu_ns();
                let time = load.run(server.port, connections, bytes, echoes);
                took[place].push(time.as_nanos() as f64 / echoes as f64);
                cpu[place].push((server.cpu_ns() - before) as f64 / echoes as f64);
            }
        }
        println!(
            "{connections} connections, {bytes} bytes: ns an echo, share of the limit; processor ns, share"
        );
        let (took, cpu) = (took.map_medians(), cpu.map_medians());
        for (place, (name, _)) in servers.iter().enumerate() {
            let (time, own) = (took[place], cpu[place]);
            let (share, own_share) = (100.0 * took[0] / time, 100.0 * cpu[0] / own);
            println!("  {name:20} {time:8.0} {share:6.1} %   {own:8.0} {own_share:6.1} %");
        }
    }
}

trait Medians {
    fn map_medians(self) -> Vec<f64>;
}

impl Medians for Vec<Vec<f64>> {
    fn map_medians(self) -> Vec<f64> {
        self.into_iter()
            .map(|mut each| {
                each.sort_by(f64::total_cmp);
                each[each.len() / 2]
            })
            .collect()
    }
}

/// A server in a process of its own; ends with this.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start(name: &str, bytes: usize) -> Self {
        let room = (2 * bytes).to_string();
        let mut process = this_program(&["--serve", name, &room], Stdio::null());
        let mut port = String::new();
        BufReader::new(process.stdout.as_mut().expect("piped"))
            .read_line(&mut port)
            .expect("the server starts");
        Self { port: port.trim().parse().unwrap_or_else(|_| panic!("{name} gave no port")), process }
    }

    /// How long its one busy thread has been on a processor.
    fn cpu_ns(&self) -> u64 {
        let path = format!("/proc/{}/schedstat", self.process.id());
        let stat = std::fs::read_to_string(path).expect("the server lives");
        stat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number first")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it ends");
    }
}

/// The load generator in its own process.
struct Load {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Load {
    fn start() -> Self {
        let mut process = this_program(&["--load"], Stdio::piped());
        let orders = process.stdin.take().expect("piped");
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, orders, answers }
    }

    fn run(&mut self, port: u16, connections: usize, bytes: usize, echoes: u64) -> Duration {
        writeln!(self.orders, "{port} {connections} {bytes} {echoes}").expect("it listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        Duration::from_nanos(answer.trim().parse().expect("nanoseconds"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it ends");
    }
}

fn this_program(args: &[&str], stdin: Stdio) -> Child {
    let program = std::env::current_exe().expect("its own path");
    Command::new(program).args(args).stdin(stdin).stdout(Stdio::piped()).spawn().expect("it runs again")
}

// === The load generator ===

fn load() {
    // Away from the servers, which stay where this was started.
    let here = rustix::thread::sched_getcpu();
    let mut elsewhere = rustix::thread::CpuSet::new();
    let processors = std::thread::available_parallelism().map_or(1, usize::from).max(2);
    (0..processors).filter(|processor| *processor != here).for_each(|processor| elsewhere.set(processor));
    if rustix::thread::sched_setaffinity(None, &elsewhere).is_err() {
        eprintln!("the load generator shares the servers' processor");
    }
    let mut cache: Option<(u16, usize, Clients)> = None;
    for order in std::io::stdin().lines() {
        let order = order.expect("text");
        let numbers: Vec<u64> = order.split(' ').map(|number| number.parse().expect("a number")).collect();
        let [port, connections, bytes, echoes] = numbers[..] else { panic!("four numbers") };
        let (port, connections) = (port as u16, connections as usize);
        if cache.as_ref().is_none_or(|(at, many, _)| (*at, *many) != (port, connections)) {
            drop(cache.take()); // first closes the old ones
            cache = Some((port, connections, Clients::connect(port, connections)));
        }
        let (_, _, clients) = cache.as_mut().expect("just made");
        println!("{}", clients.echo(bytes as usize, echoes).as_nanos());
    }
}

struct Clients {
    epoll: OwnedFd,
    sockets: Vec<OwnedFd>,
}

impl Clients {
    fn connect(port: u16, connections: usize) -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
        let connect = |place: usize| {
            let socket = std::net::TcpStream::connect(("127.0.0.1", port)).expect("the server accepts");
            socket.set_nodelay(true).expect("an option");
            socket.set_nonblocking(true).expect("an option");
            let data = epoll::EventData::new_u64(place as u64);
            epoll::add(&epoll, &socket, data, epoll::EventFlags::IN | epoll::EventFlags::ET).expect("epoll");
            socket.into()
        };
        let sockets = (0..connections).map(connect).collect();
        Self { epoll, sockets }
    }

    /// Sends `echoes` messages over all connections, each when the one before has come back.
    fn echo(&mut self, bytes: usize, echoes: u64) -> Duration {
        let message = vec![7_u8; bytes];
        let mut room = vec![0_u8; ROOM];
        let mut missing = vec![0_usize; self.sockets.len()];
        let began = Instant::now();
        let (mut sent, mut back) = (0, 0);
        for (socket, missing) in self.sockets.iter().zip(&mut missing) {
            if sent < echoes {
                assert_eq!(send(socket, &message, SendFlags::empty()), Ok(bytes));
                *missing = bytes;
                sent += 1;
            }
        }
        let mut events = Vec::with_capacity(1024);
        while back < echoes {
            events.clear();
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None).expect("epoll");
            for event in &events {
                let place = { event.data }.u64() as usize;
                let socket = &self.sockets[place];
                while missing[place] > 0 {
                    match recv(socket, &mut room[..], RecvFlags::empty()) {
                        Ok((n, _)) => {
                            assert!(n > 0, "the server hung up");
                            missing[place] -= n;
                        }
                        Err(rustix::io::Errno::AGAIN) => break,
                        Err(error) => panic!("{error}"),
                    }
                    if missing[place] == 0 {
                        back += 1;
                        if sent < echoes {
                            assert_eq!(send(socket, &message, SendFlags::empty()), Ok(bytes));
                            missing[place] = bytes;
                            sent += 1;
                        }
                        break; // what comes next comes with an event
                    }
                }
            }
        }
        began.elapsed()
    }
}

// === The servers ===

fn serve(name: &str, room: usize) {
    let tell = |address: SocketAddr| {
        println!("{}", address.port());
        std::io::stdout().flush().expect("the parent reads");
    };
    match name {
        "limit: bare epoll" => bare_epoll(tell, room),
        "evenloop" => on_evenloop(tell, room, false),
        "evenloop, watched" => on_evenloop(tell, room, true),
        "tokio" => on_tokio(tell, room),
        "smol" => on_smol(tell, room),
        "monoio" => on_monoio(tell, room),
        other => panic!("no such server: {other}"),
    }
}

fn bind() -> std::net::TcpListener {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    rustix::net::listen(&listener, 1024).expect("a longer backlog");
    listener
}

fn bare_epoll(tell: impl Fn(SocketAddr), room_bytes: usize) {
    let listener = bind();
    tell(listener.local_addr().expect("bound"));
    listener.set_nonblocking(true).expect("an option");
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    epoll::add(&epoll, &listener, epoll::EventData::new_u64(u64::MAX), epoll::EventFlags::IN).expect("epoll");
    let mut sockets: Vec<Option<std::net::TcpStream>> = Vec::new();
    let mut room = vec![0_u8; room_bytes];
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
                continue;
            }
            let socket = &mut sockets[place as usize];
            let Some(open) = socket else { continue };
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

fn on_evenloop(tell: impl Fn(SocketAddr), room_bytes: usize, watched: bool) {
    use futures::{AsyncReadExt, AsyncWriteExt};
    let reactor = ReactorDriver::new().expect("a reactor");
    let handle = Arc::new(reactor.handle());
    let driver = Driver::new(reactor, Clock::Real);
    let runtime = Runtime::builder("evenloop").timers(driver.timers()).reactor(handle);
    let builder = EventLoop::builder().runtime(runtime).park(Box::new(driver));
    let event_loop = builder.watch(watched).build();
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

fn on_tokio(tell: impl Fn(SocketAddr), room_bytes: usize) {
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

fn on_smol(tell: impl Fn(SocketAddr), room_bytes: usize) {
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

fn on_monoio(tell: impl Fn(SocketAddr), room_bytes: usize) {
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
