//! An axum router on Evenloop's loop, which ends gracefully: on Ctrl-C or SIGTERM it stops accepting, finishes the requests
//! that are under way, and drops after five seconds what is left.
//!
//! ```text
//! cargo run --release -p evenloop --features hyper --example axum_server       # in one terminal
//! curl http://127.0.0.1:8080/hello/you                                         # in another
//! curl http://127.0.0.1:8080/slow
//! ```

use axum::Router;
use axum::extract::Path;
use axum::response::Json;
use axum::routing::get;
use evenloop::cancel::catch_cancel;
use evenloop::hyper::Timer;
use evenloop::streams::TcpListener;
use evenloop::streams::signal::{SignalKind, signal};
use evenloop::sync::Event;
use evenloop::{create_task, timeout};
use futures::future::{Either, select};
use hyper::server::conn::http1;
use hyper_util::service::TowerToHyperService;
use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// A handler of axum's may run on any thread, so what it awaits has to be `Send`; our sleeps are.
async fn slow() -> &'static str {
    evenloop::sleep(Duration::from_secs(2)).await;
    "that took a while\n"
}

/// Connections that are open, and whether they are to end.
#[derive(Default)]
struct Open {
    count: Cell<usize>,
    end: Event,
    none_left: Event,
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).map_or(8080, |port| port.parse().expect("a port number"));
    let router = Router::new()
        .route("/hello/{name}", get(async |Path(name): Path<String>| format!("hello, {name}\n")))
        .route("/json", get(async || Json(serde_json::json!({ "served by": "axum" }))))
        .route("/slow", get(slow));
    evenloop::run(async move {
        let listener = TcpListener::bind(([127, 0, 0, 1], port).into())?;
        println!("serving on http://{}", listener.local_addr()?);
        let open = Rc::new(Open::default());
        let accept = create_task(accept(listener, router, open.clone()));

        let mut terminate = signal(SignalKind::TERMINATE)?;
        // Ctrl-C cancels what `run` runs.
        if let Err(interrupted) = catch_cancel(terminate.recv()).await {
            interrupted.absorb();
        }
        accept.cancel("the server ends");
        println!("ending, with {} connections", open.count.get());
        open.end.set();
        let all_gone = async {
            while open.count.get() > 0 {
                open.none_left.wait().await;
            }
        };
        if timeout(Duration::from_secs(5), all_gone).await.is_err() {
            println!("{} connections had to be dropped", open.count.get());
        }
        Ok(())
    })
}

async fn accept(listener: TcpListener, router: Router, open: Rc<Open>) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = TowerToHyperService::new(router.clone());
        let open = open.clone();
        open.count.set(open.count.get() + 1);
        open.none_left.clear();
        create_task(async move {
            let mut connection = pin!(http1::Builder::new().timer(Timer).serve_connection(stream, service));
            let ended = match select(connection.as_mut(), pin!(open.end.wait())).await {
                Either::Left((ended, _)) => ended,
                Either::Right(_) => {
                    connection.as_mut().graceful_shutdown(); // after the request that is under way
                    connection.await
                }
            };
            if let Err(error) = ended {
                eprintln!("a connection: {error}");
            }
            open.count.set(open.count.get() - 1);
            if open.count.get() == 0 {
                open.none_left.set();
            }
        })
        .detach();
    }
}
