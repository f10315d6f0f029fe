//! Servers and a load generator, each in a process of its own: this program again, with `--serve` or `--load`.
//!
//! The load generator is native and single-threaded, and goes to another processor than the servers. Each of its
//! connections has one message on its way at a time.

use rustix::event::epoll;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// More than any reply, so that one read of the load generator takes it whole.
const ROOM: usize = 32 * 1024;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// What a client says, and waits for before it says it again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    /// So many bytes, and as many back.
    Echo(usize),
    /// An HTTP request, and its answer.
    Http,
}

/// The part of a bench's `main` that is not criterion's: true, if this process was a server or the load generator.
pub fn was_another_process(serve: impl FnOnce(&str, usize)) -> bool {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("--serve") => serve(&args[2], args[3].parse().expect("how much room a connection has")),
        Some("--load") => load(),
        _ => return false,
    }
    true
}

/// Where a server listens.
pub fn bind() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    rustix::net::listen(&listener, 1024).expect("a longer backlog");
    listener
}

/// Has a server say where it listens.
pub fn tell(address: SocketAddr) {
    println!("{}", address.port());
    std::io::stdout().flush().expect("the parent reads");
}

/// Gives every server its turn eleven times over, and prints medians: the time of a message, the server's own processor
/// time for it, which the load generator's speed does not touch, and the shares that the first server's are of them.
pub fn alternating(load: &mut Load, servers: &[(&str, Server)], connections: usize, talk: Talk, times: u64) {
    let mut took = vec![vec![]; servers.len()];
    let mut cpu = vec![vec![]; servers.len()];
    for _ in 0..11 {
        for (place, (_, server)) in servers.iter().enumerate() {
            let before = server.cpu_ns();
            let time = load.run(server, connections, talk, times);
            took[place].push(time.as_nanos() as f64 / times as f64);
            cpu[place].push((server.cpu_ns() - before) as f64 / times as f64);
        }
    }
    println!("ns, share of the first; processor ns, share");
    let (took, cpu) = (medians(took), medians(cpu));
    for (place, (name, _)) in servers.iter().enumerate() {
        let (time, own) = (took[place], cpu[place]);
        let (share, own_share) = (100.0 * took[0] / time, 100.0 * cpu[0] / own);
        println!("  {name:20} {time:8.0} {share:6.1} %   {own:8.0} {own_share:6.1} %");
    }
}

fn medians(all: Vec<Vec<f64>>) -> Vec<f64> {
    let median = |mut each: Vec<f64>| {
        each.sort_by(f64::total_cmp);
        each[each.len() / 2]
    };
    all.into_iter().map(median).collect()
}

// === Processes ===

/// A server in a process of its own; ends with this.
pub struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// Starts the server of this name, with so much room for each connection.
    pub fn start(name: &str, room: usize) -> Self {
        let mut process = this_program(&["--serve", name, &room.to_string()], Stdio::null());
        let mut port = String::new();
        BufReader::new(process.stdout.as_mut().expect("piped"))
            .read_line(&mut port)
            .expect("the server starts");
        Self { port: port.trim().parse().unwrap_or_else(|_| panic!("{name} gave no port")), process }
    }

    /// How long its one busy thread has been on a processor.
    pub fn cpu_ns(&self) -> u64 {
        let path = format!("/proc/{}/schedstat", self.process.id());
        let stat = std::fs::read_to_string(path).expect("the server lives");
        stat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number first")
    }

    /// How many system calls the server makes during `work`, as `strace` counts them; `None` where that is not.
    pub fn system_calls(&self, work: impl FnOnce()) -> Option<u64> {
        let process = self.process.id();
        let mut strace = Command::new("strace")
            .args(["-c", "-f", "-qq", "-p", &process.to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        let status = format!("/proc/{process}/status");
        let attached = || {
            let status = std::fs::read_to_string(&status).expect("the server lives");
            !status.contains("TracerPid:\t0\n")
        };
        while !attached() {
            if strace.try_wait().expect("it is ours").is_some() {
                return None; // not allowed here
            }
            std::thread::yield_now();
        }
        work();
        let strace_id = rustix::process::Pid::from_raw(strace.id() as i32).expect("a process");
        rustix::process::kill_process(strace_id, rustix::process::Signal::INT).expect("it is ours");
        let mut table = String::new();
        strace.stderr.take().expect("piped").read_to_string(&mut table).expect("text");
        strace.wait().expect("it ends");
        let total = table.lines().find(|line| line.ends_with("total"))?;
        total.split_whitespace().nth(3)?.parse().ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it ends");
    }
}

/// The load generator in its own process.
pub struct Load {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Load {
    /// Starts it.
    #[expect(clippy::new_without_default, reason = "it starts a process")]
    pub fn new() -> Self {
        let mut process = this_program(&["--load"], Stdio::piped());
        let orders = process.stdin.take().expect("piped");
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, orders, answers }
    }

    /// Has so many messages answered, over so many connections, and gives the time of all. Connections stay open until
    /// others are asked for.
    pub fn run(&mut self, server: &Server, connections: usize, talk: Talk, times: u64) -> Duration {
        let bytes = match talk {
            Talk::Echo(bytes) => bytes,
            Talk::Http => 0,
        };
        writeln!(self.orders, "{} {connections} {bytes} {times}", server.port).expect("it listens");
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
        let [port, connections, bytes, times] = numbers[..] else { panic!("four numbers") };
        let (port, connections) = (port as u16, connections as usize);
        if cache.as_ref().is_none_or(|(at, many, _)| (*at, *many) != (port, connections)) {
            drop(cache.take()); // first closes the old ones
            cache = Some((port, connections, Clients::connect(port, connections)));
        }
        let (_, _, clients) = cache.as_mut().expect("just made");
        let took = match bytes {
            0 => clients.exchange(REQUEST, http_answer(port), times),
            bytes => clients.exchange(&vec![7; bytes as usize], bytes as usize, times),
        };
        println!("{}", took.as_nanos());
    }
}

/// How long the answer to a request is, head and all.
fn http_answer(port: u16) -> usize {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts");
    socket.write_all(REQUEST).expect("it reads");
    let mut answer = Vec::new();
    loop {
        let mut part = [0; 1024];
        let n = socket.read(&mut part).expect("it answers");
        assert!(n > 0, "the server hung up");
        answer.extend_from_slice(&part[..n]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.expect("a length").parse().expect("a number") {
            return answer.len();
        }
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
            let socket = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts");
            socket.set_nodelay(true).expect("an option");
            socket.set_nonblocking(true).expect("an option");
            let data = epoll::EventData::new_u64(place as u64);
            epoll::add(&epoll, &socket, data, epoll::EventFlags::IN | epoll::EventFlags::ET).expect("epoll");
            socket.into()
        };
        let sockets = (0..connections).map(connect).collect();
        Self { epoll, sockets }
    }

    /// Sends `message` so many times over all connections, each time when the reply to the one before has come, of so many
    /// bytes.
    fn exchange(&mut self, message: &[u8], reply: usize, times: u64) -> Duration {
        let mut room = vec![0_u8; ROOM];
        let mut missing = vec![0_usize; self.sockets.len()];
        let began = Instant::now();
        let (mut sent, mut back) = (0, 0);
        for (socket, missing) in self.sockets.iter().zip(&mut missing) {
            if sent < times {
                assert_eq!(send(socket, message, SendFlags::empty()), Ok(message.len()));
                *missing = reply;
                sent += 1;
            }
        }
        let mut events = Vec::with_capacity(1024);
        while back < times {
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
                        if sent < times {
                            assert_eq!(send(socket, message, SendFlags::empty()), Ok(message.len()));
                            missing[place] = reply;
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
