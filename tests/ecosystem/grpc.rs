//! tonic's services on our loop, through hyper's HTTP/2 connections, against Python's grpcio in both directions.

use evenloop::hyper::{Executor, Timer};
use evenloop::streams::{TcpListener, TcpStream};
use evenloop::{create_task, timeout, to_thread};
use evenloop_ecosystem_tests::{Running, free_port, python_with, wait_until};
use hyper::client::conn::http2::SendRequest;
use hyper::{Request, Response, client, server};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::pin::Pin;
use std::process::Command;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::body::Body;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// What Python sends and gets, as it is on the wire: an empty request for the server as a whole, `status: SERVING`.
const ASKS: &str = r#"
import sys, grpc
channel = grpc.insecure_channel("127.0.0.1:" + sys.argv[1])
check = channel.unary_unary("/grpc.health.v1.Health/Check", request_serializer=bytes, response_deserializer=bytes)
assert check(b"", timeout=10) == b"\x08\x01"
for _ in range(100):
    assert check(b"\x0a\x04shop", timeout=10) == b"\x08\x02"
try:
    check(b"\x0a\x07unknown", timeout=10)
    raise SystemExit("an unknown service has no status")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.NOT_FOUND, error
"#;

const ANSWERS: &str = r#"
import sys, grpc
from concurrent import futures
class Health(grpc.GenericRpcHandler):
    def service(self, call):
        if call.method == "/grpc.health.v1.Health/Check":
            return grpc.unary_unary_rpc_method_handler(lambda request, context: b"\x08\x01")
server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Health()])
assert server.add_insecure_port("127.0.0.1:" + sys.argv[1])
server.start()
server.wait_for_termination()
"#;

#[test]
fn python_asks_a_tonic_service() {
    let Some(python) = python_with("grpc") else { return };
    evenloop::run(async {
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_service_status("shop", ServingStatus::NotServing).await;
        let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let server = create_task(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = TowerToHyperService::new(health.clone());
                create_task(async move {
                    server::conn::http2::Builder::new(Executor)
                        .timer(Timer)
                        .serve_connection(stream, service)
                        .await
                })
                .detach();
            }
        });
        let asks = to_thread(move || Command::new(python).args(["-c", ASKS, &port]).status());
        let status = timeout(Duration::from_secs(60), asks).await.expect("within 60 s").unwrap();
        assert!(status.success(), "{status}");
        server.cancel("the test is over");
    });
}

/// An HTTP/2 connection as tonic's clients want it.
#[derive(Clone)]
struct Connection(SendRequest<Body>);

impl tower_service::Service<Request<Body>> for Connection {
    type Response = Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

#[test]
fn a_tonic_client_asks_python() {
    let Some(python) = python_with("grpc") else { return };
    let port = free_port();
    let _server = Running::start(&python, ["-c", ANSWERS, &port.to_string()]);
    wait_until("Python listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    evenloop::run(async {
        let stream = TcpStream::connect(([127, 0, 0, 1], port).into()).await.unwrap();
        let (sender, connection) =
            client::conn::http2::Builder::new(Executor).timer(Timer).handshake(stream).await.unwrap();
        create_task(connection).detach();
        let origin = format!("http://127.0.0.1:{port}").parse().unwrap();
        let mut client = HealthClient::with_origin(Connection(sender), origin);
        for _ in 0..50 {
            let check = client.check(HealthCheckRequest { service: String::new() });
            let answer = timeout(Duration::from_secs(20), check).await.expect("within 20 s").unwrap();
            assert_eq!(answer.into_inner().status, 1);
        }
    });
}
