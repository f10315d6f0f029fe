//! Fetches JSON documents over HTTP, many at once and never more than a few, without blocking the loop.
//!
//! hyper speaks HTTP on Evenloop's streams. Without arguments the documents come from a small server in this process, which
//! takes its time over each; with URLs (http only) from there:
//!
//! ```text
//! cargo run --release -p evenloop --features hyper --example fetch_json
//! cargo run --release -p evenloop --features hyper --example fetch_json -- --at-once 2 http://127.0.0.1:8000/a.json ...
//! ```

use evenloop::hyper::Timer;
use evenloop::streams::{TcpListener, TcpStream};
use evenloop::sync::Semaphore;
use evenloop::time::now;
use evenloop::{create_task, sleep, timeout};
use futures::future::join_all;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri, client, server};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

/// How long the server in this process takes over a document.
const TAKES: Duration = Duration::from_millis(200);

struct Options {
    urls: Vec<String>,
    at_once: usize,
    documents: usize,
}

fn options() -> Result<Options, lexopt::Error> {
    use lexopt::prelude::*;
    let mut options = Options { urls: vec![], at_once: 8, documents: 24 };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("at-once") => options.at_once = arguments.value()?.parse()?,
            Long("documents") => options.documents = arguments.value()?.parse()?,
            Value(url) => options.urls.push(url.string()?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(options)
}

/// Serves `{"path": …}` after a while, on each connection that comes.
async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let answer = service_fn(async |request: Request<hyper::body::Incoming>| {
            sleep(TAKES).await;
            let body = serde_json::json!({ "path": request.uri().path() }).to_string();
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body))))
        });
        create_task(async move {
            server::conn::http1::Builder::new().timer(Timer).serve_connection(stream, answer).await
        })
        .detach();
    }
}

async fn fetch(url: &str) -> Result<Value, Box<dyn Error>> {
    let uri: Uri = url.parse()?;
    let host = uri.host().filter(|_| uri.scheme_str() == Some("http"));
    let host = host.ok_or_else(|| format!("{url}: give a whole URL that begins with http://"))?;
    let stream = TcpStream::connect_host(host, uri.port_u16().unwrap_or(80)).await?;
    let (mut sender, connection) = client::conn::http1::handshake(stream).await?;
    let connection = create_task(connection); // moves the bytes meanwhile
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path).header("host", host).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    if !response.status().is_success() {
        return Err(format!("{url}: {}", response.status()).into());
    }
    let body = response.into_body().collect().await?.to_bytes();
    drop(sender); // ends the connection
    connection.await?;
    Ok(serde_json::from_slice(&body)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    evenloop::run(async {
        let mut urls = options.urls;
        if urls.is_empty() {
            let listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
            let address = listener.local_addr()?;
            create_task(serve(listener)).detach(); // `run` ends it
            urls =
                (0..options.documents).map(|number| format!("http://{address}/document/{number}")).collect();
        }
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}")?;
        let progress = ProgressBar::new(urls.len() as u64).with_style(style);
        let places = Semaphore::new(options.at_once);
        let start = now();
        let results = join_all(urls.iter().map(async |url| {
            let _place = places.acquire().await?;
            let document = timeout(Duration::from_secs(10), fetch(url)).await??;
            progress.inc(1);
            Ok::<_, Box<dyn Error>>(document)
        }))
        .await;
        progress.finish();
        let mut failed = 0;
        for result in results {
            match result {
                Ok(document) => println!("{document}"),
                Err(error) => {
                    failed += 1;
                    eprintln!("{error}");
                }
            }
        }
        println!(
            "{} documents in {:.2} s, {} at once",
            urls.len() - failed,
            (now() - start).as_secs_f64(),
            options.at_once
        );
        if failed == 0 { Ok(()) } else { Err(format!("{failed} failed").into()) }
    })
}
