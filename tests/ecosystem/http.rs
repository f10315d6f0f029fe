//! hyper's servers and clients on our streams and loop, against programs that nobody here wrote: curl, wrk, h2load and
//! Python's own server. axum's `Router` runs through hyper's connections.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Json;
use axum::routing::{get, post};
use evenloop::hyper::{Executor, Timer};
use evenloop::streams::{TcpListener, TcpStream};
use evenloop::sync::Event;
use evenloop::{create_task, sleep, timeout, to_thread};
use evenloop_ecosystem_tests::{Running, free_port, installed, wait_until};
use futures::future::{Either, join_all, select};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, client, server};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Serves `router`, HTTP/1 or HTTP/2, until the scenario ends.
fn serving<T>(router: Router, http2: bool, scenario: impl AsyncFnOnce(SocketAddr) -> T) -> T {
    evenloop::run(async move {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let server = create_task(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = TowerToHyperService::new(router.clone());
                create_task(async move {
                    // A client that goes away in the middle is no fault of the server's.
                    let _ended = if http2 {
                        server::conn::http2::Builder::new(Executor)
                            .timer(Timer)
                            .serve_connection(stream, service)
                            .await
                    } else {
                        server::conn::http1::Builder::new()
                            .timer(Timer)
                            .serve_connection(stream, service)
                            .await
                    };
                })
                .detach();
            }
        });
        let value = timeout(Duration::from_secs(30), scenario(address)).await.expect("within 30 s");
        server.cancel("the scenario is over");
        value
    })
}

/// What `program` prints, run on a thread.
async fn output(program: &'static str, arguments: Vec<String>) -> String {
    let run = move || Command::new(program).args(&arguments).stderr(Stdio::inherit()).output();
    let output = to_thread(run).await.unwrap();
    assert!(output.status.success(), "{program}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn words(line: String) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn router() -> Router {
    let hits = Arc::new(AtomicUsize::new(0));
    Router::new()
        .route("/hello/{name}", get(async |Path(name): Path<String>| format!("hello, {name}")))
        .route("/length", post(async |body: Bytes| body.len().to_string()))
        .route("/slow", get(async || Json(serde_json::json!({ "slow": true }))))
        .route(
            "/hits",
            get(async |State(hits): State<Arc<AtomicUsize>>| {
                format!("{}", hits.fetch_add(1, Ordering::Relaxed) + 1)
            }),
        )
        .with_state(hits)
}

#[test]
fn curl_talks_to_an_axum_router() {
    if !installed("curl") {
        return;
    }
    serving(router(), false, async |address| {
        assert_eq!(output("curl", words(format!("-sS http://{address}/hello/curl"))).await, "hello, curl");
        assert_eq!(output("curl", words(format!("-sS http://{address}/slow"))).await, r#"{"slow":true}"#);
        // A body of some megabytes, in chunks of curl's choosing.
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("body");
        std::fs::write(&file, vec![b'x'; 5_000_000]).unwrap();
        let post = format!("-sS --data-binary @{} http://{address}/length", file.display());
        // axum limits bodies to 2 MB unless told otherwise: the answer says so, and nothing hangs.
        let status = output("curl", words(format!("-o /dev/null -w %{{http_code}} {post}"))).await;
        assert_eq!(status, "413");
        let status =
            output("curl", words(format!("-sS -o /dev/null -w %{{http_code}} http://{address}/none"))).await;
        assert_eq!(status, "404");
    });
}

#[test]
fn curl_talks_http_2() {
    if !installed("curl") {
        return;
    }
    serving(router(), true, async |address| {
        let line = format!("-sS --http2-prior-knowledge -w \\n%{{http_version}} http://{address}/hello/two");
        assert_eq!(output("curl", words(line)).await, "hello, two\n2");
    });
}

#[test]
fn wrk_and_h2load_are_served_without_an_error() {
    for (program, http2) in [("wrk", false), ("h2load", true)] {
        if !installed(program) {
            continue;
        }
        serving(router(), http2, async |address| {
            let line = match program {
                "wrk" => format!("-t1 -c32 -d1s http://{address}/hello/wrk"),
                _ => format!("-n2000 -c8 -m10 http://{address}/hello/h2load"),
            };
            let printed = output(program, words(line)).await;
            println!("{printed}");
            match program {
                "wrk" => {
                    assert!(!printed.contains("Non-2xx") && !printed.contains("Socket errors"), "{printed}");
                    assert!(printed.contains("requests in"), "{printed}");
                }
                _ => assert!(printed.contains("2000 succeeded, 0 failed, 0 errored"), "{printed}"),
            }
        });
    }
}

#[test]
fn a_client_fetches_many_documents_from_pythons_server() {
    if !installed("python3") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for number in 0..20 {
        std::fs::write(folder.path().join(format!("{number}.json")), format!("{{\"number\": {number}}}"))
            .unwrap();
    }
    let port = free_port();
    let folder_name = folder.path().to_str().unwrap().to_owned();
    let port_word = port.to_string();
    let _server = Running::start(
        "python3",
        ["-m", "http.server", &port_word, "--bind", "127.0.0.1", "--directory", &folder_name],
    );
    wait_until("Python's server listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    evenloop::run(async {
        let fetch = async |number: u32| {
            let stream = TcpStream::connect(([127, 0, 0, 1], port).into()).await.unwrap();
            let (mut sender, connection) = client::conn::http1::handshake(stream).await.unwrap();
            let connection = create_task(connection);
            let request = Request::get(format!("/{number}.json")).header("host", "localhost");
            let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            drop(sender);
            connection.await.unwrap();
            serde_json::from_slice::<serde_json::Value>(&body).unwrap()["number"].as_u64().unwrap()
        };
        let numbers =
            timeout(Duration::from_secs(20), join_all((0..20).map(fetch))).await.expect("within 20 s");
        assert_eq!(numbers, (0..20).collect::<Vec<u64>>());
    });
}

#[test]
fn a_graceful_end_finishes_the_request_that_is_under_way() {
    evenloop::run(async {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, end) = (Rc::new(Event::new()), Rc::new(Event::new()));
        let server = create_task({
            let (asked, end) = (asked.clone(), end.clone());
            async move {
                let (stream, _) = listener.accept().await.unwrap();
                let service = hyper::service::service_fn(move |_request| {
                    let asked = asked.clone();
                    async move {
                        asked.set();
                        sleep(Duration::from_millis(50)).await;
                        Ok::<_, std::convert::Infallible>(hyper::Response::new(Full::new(Bytes::from(
                            "done",
                        ))))
                    }
                });
                let mut connection =
                    pin!(server::conn::http1::Builder::new().timer(Timer).serve_connection(stream, service));
                match select(connection.as_mut(), pin!(end.wait())).await {
                    Either::Left((ended, _)) => ended.unwrap(),
                    Either::Right(_) => {
                        connection.as_mut().graceful_shutdown();
                        connection.await.unwrap();
                    }
                }
            }
        });
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = client::conn::http1::handshake(stream).await.unwrap();
        let connection = create_task(connection);
        let request = Request::get("/").header("host", "localhost").body(Empty::<Bytes>::new()).unwrap();
        let response = create_task(async move {
            let response = sender.send_request(request).await.unwrap();
            response.into_body().collect().await.unwrap().to_bytes()
        });
        asked.wait().await;
        end.set();
        assert_eq!(response.await, "done");
        server.await;
        connection.await.unwrap();
    });
}

#[test]
fn hypers_time_limits_run_on_the_virtual_clock() {
    evenloop::entry::main(true, async {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let _silent = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let start = evenloop::time::now();
        let service = TowerToHyperService::new(router());
        let ended = server::conn::http1::Builder::new()
            .timer(Timer)
            .header_read_timeout(Duration::from_secs(3600))
            .serve_connection(stream, service)
            .await;
        assert!(ended.unwrap_err().is_timeout());
        assert_eq!(evenloop::time::now() - start, Duration::from_secs(3600));
    });
}
