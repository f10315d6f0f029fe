//! How many requests does the same hyper answer on Evenloop's loop, on tokio's current-thread runtime and on smol?
//!
//! Each server is a process of its own on this processor, and the load generator one on another; 64 connections stay open,
//! each with one small request on its way. hyper's service and settings are the same everywhere; what differs is the
//! runtime and the adapter to its sockets.
//!
//! With `-- --alternating` the servers get their turns eleven times over, and the system calls of a request are counted where
//! `strace` is there.
//!
//! Not measured: HTTP/2, large bodies, pipelining, connecting, TLS.

use criterion::{Criterion, Throughput};
use evenloop_benches::executors::with_sockets;
use evenloop_benches::load::{Load, Server, Talk, alternating, bind, tell, was_another_process};
use evenloop_streams::TcpListener;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use std::convert::Infallible;
use std::time::Duration;

const SERVERS: [&str; 3] = ["evenloop", "tokio", "smol"];
const CONNECTIONS: usize = 64;

fn main() {
    if was_another_process(serve) {
        return;
    }
    let servers = SERVERS.map(|name| (name, Server::start(name, 0)));
    let mut load = Load::new();
    if std::env::args().any(|arg| arg == "--alternating") {
        alternating(&mut load, &servers, CONNECTIONS, Talk::Http, 40_000);
        return count_system_calls(&mut load, &servers);
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("http_request_64_connections");
    group.throughput(Throughput::Elements(1)).sample_size(20).measurement_time(Duration::from_secs(4));
    for (name, server) in &servers {
        group.bench_function(*name, |bencher| {
            bencher.iter_custom(|requests| load.run(server, CONNECTIONS, Talk::Http, requests));
        });
    }
    group.finish();
    criterion.final_summary();
}

fn count_system_calls(load: &mut Load, servers: &[(&str, Server)]) {
    const REQUESTS: u64 = 10_000;
    for (name, server) in servers {
        load.run(server, CONNECTIONS, Talk::Http, 1_000); // connects
        let work = || {
            load.run(server, CONNECTIONS, Talk::Http, REQUESTS);
        };
        match server.system_calls(work) {
            Some(calls) => {
                println!("  {name:20} {:.2} system calls a request", calls as f64 / REQUESTS as f64)
            }
            None => println!("  {name:20} system calls not counted: that needs `strace`"),
        }
    }
}

async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"Hello, world!"))))
}

async fn converse(stream: impl Read + Write + Unpin) {
    // An error is a client that went away.
    let _ = http1::Builder::new().serve_connection(stream, service_fn(answer)).await;
}

// === The servers ===

fn serve(name: &str, _: usize) {
    match name {
        "evenloop" => on_evenloop(),
        "tokio" => on_tokio(),
        "smol" => on_smol(),
        other => panic!("no such server: {other}"),
    }
}

fn on_evenloop() {
    let event_loop = with_sockets().build();
    event_loop.run_until_complete(async {
        let listener = TcpListener::from_std(bind()).expect("it can be watched");
        tell(listener.local_addr().expect("bound"));
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            stream.set_nodelay(true).expect("an option");
            evenloop_executor::create_task(converse(stream)).detach();
        }
    });
}

fn on_tokio() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        let listener = bind();
        listener.set_nonblocking(true).expect("an option");
        let listener = tokio::net::TcpListener::from_std(listener).expect("it can be watched");
        tell(listener.local_addr().expect("bound"));
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            stream.set_nodelay(true).expect("an option");
            tokio::task::spawn_local(converse(hyper_util::rt::TokioIo::new(stream)));
        }
    });
}

fn on_smol() {
    let executor = smol::LocalExecutor::new();
    smol::block_on(executor.run(async {
        let listener = smol::Async::new(bind()).expect("it can be watched");
        tell(listener.get_ref().local_addr().expect("bound"));
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            stream.get_ref().set_nodelay(true).expect("an option");
            executor.spawn(converse(smol_hyper::rt::FuturesIo::new(stream))).detach();
        }
    }));
}
