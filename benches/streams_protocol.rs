//! How much slower is an echo through a protocol than an echo through the raw stream?
//!
//! Both servers are on one loop of one thread; the client, on this thread, has one message on its way on each of its
//! connections. The servers take turns, and what is compared are medians of many rounds: of the time for an echo, and of the
//! server thread's own processor time, which the client does not touch. The aim is a twentieth.
//!
//! Not measured: how they fare against other runtimes (`streams_echo`), connecting, partial load.

use evenloop_benches::executors::with_sockets;
use evenloop_streams::{Protocol, TcpListener, Transport, create_server};
use futures::{AsyncReadExt, AsyncWriteExt};
use std::cell::OnceCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Instant;

const CONNECTIONS: usize = 64;

struct Echo(OnceCell<Transport>);

impl Protocol for Echo {
    fn connection_made(&self, transport: Transport) {
        let _ = self.0.set(transport);
    }

    fn data_received(&self, data: &[u8]) {
        let _ = self.0.get().expect("made before data").write(data);
    }
}

/// Where the raw server and the one with protocols listen, and the number of their thread.
fn servers() -> ([SocketAddr; 2], i32) {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let event_loop = with_sockets().build();
        event_loop.run_until_complete(async {
            let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
            let listener = TcpListener::bind(anywhere).expect("a port");
            let server = create_server(|| Echo(OnceCell::new()), anywhere).expect("a port");
            let addresses = [listener.local_addr().unwrap(), server.local_addr().expect("TCP has a port")];
            let thread = rustix::thread::gettid().as_raw_nonzero().get();
            tell.send((addresses, thread)).expect("somebody waits");
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { continue };
                stream.set_nodelay(true).expect("an option");
                evenloop_executor::create_task(async move {
                    let mut room = vec![0_u8; 64 * 1024];
                    while let Ok(n @ 1..) = stream.read(&mut room).await {
                        if stream.write_all(&room[..n]).await.is_err() {
                            break;
                        }
                    }
                })
                .detach();
            }
        });
    });
    told.recv().expect("the servers start")
}

/// How long a thread of this process has been on a processor.
fn cpu_ns(thread: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).expect("it lives");
    stat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number first")
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    // Without `--bench` (a test run) it only shows that it works.
    let (rounds, echoes) = if std::env::args().any(|arg| arg == "--bench") { (41, 200) } else { (1, 2) };
    let (addresses, thread) = servers();
    for bytes in [64, 16 * 1024] {
        let message = vec![7; bytes];
        let mut room = vec![0; bytes];
        let mut clients = addresses.map(|address| {
            let connect = |_| {
                let client = TcpStream::connect(address).expect("it listens");
                client.set_nodelay(true).expect("an option");
                client
            };
            (0..CONNECTIONS).map(connect).collect::<Vec<_>>()
        });
        let (mut took, mut cpu) = ([vec![], vec![]], [vec![], vec![]]);
        for round in 0..rounds + 1 {
            for place in 0..2 {
                let place = (place + round) % 2; // neither always goes first
                let (before, begin) = (cpu_ns(thread), Instant::now());
                for _ in 0..echoes {
                    clients[place]
                        .iter_mut()
                        .for_each(|client| client.write_all(&message).expect("it takes it"));
                    clients[place]
                        .iter_mut()
                        .for_each(|client| client.read_exact(&mut room).expect("it comes"));
                }
                let count = (echoes * CONNECTIONS) as f64;
                if round > 0 {
                    took[place].push(begin.elapsed().as_nanos() as f64 / count);
                    cpu[place].push((cpu_ns(thread) - before) as f64 / count);
                }
            }
        }
        let [raw, protocol] = took.each_mut().map(|took| median(took));
        let [raw_cpu, protocol_cpu] = cpu.each_mut().map(|cpu| median(cpu));
        println!("{CONNECTIONS} connections, {bytes} bytes: ns an echo; processor ns of the server");
        println!("  raw stream {raw:8.0} {raw_cpu:8.0}");
        println!("  protocol   {protocol:8.0} {protocol_cpu:8.0}");
        println!(
            "  protocol / raw: {:.3} of the time, {:.3} of the processor",
            protocol / raw,
            protocol_cpu / raw_cpu
        );
    }
}
