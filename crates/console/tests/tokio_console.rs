//! The unmodified `console-subscriber`, and a client that asks it over gRPC as tokio-console does.
//!
//! Its subscriber wants a `cfg` that says that this is not tokio: `cargo xtask ci tokio-console` builds with it.

#![cfg(console_without_tokio_unstable)]

use console_api::field::{Name, Value};
use console_api::instrument::{InstrumentRequest, instrument_client::InstrumentClient};
use console_api::tasks::{Stats, Task};
use console_subscriber::ConsoleLayer;
use evenloop_console::TaskSpans;
use evenloop_executor::{EventLoop, create_named_task, yield_now};
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;
use tonic::transport::{Endpoint, Uri};
use tracing_subscriber::layer::SubscriberExt;

/// What the console was told.
#[derive(Default)]
struct Seen {
    tasks: HashMap<u64, Task>,
    stats: HashMap<u64, Stats>,
}

impl Seen {
    fn field(task: &Task, name: &str) -> Option<String> {
        let is_it =
            |field: &&console_api::Field| matches!(&field.name, Some(Name::StrName(it)) if it == name);
        match task.fields.iter().find(is_it)?.value.as_ref()? {
            Value::StrVal(text) | Value::DebugVal(text) => Some(text.clone()),
            Value::U64Val(number) => Some(number.to_string()),
            other => panic!("{name} is {other:?}"),
        }
    }

    fn named(&self, name: &str) -> Option<(&Task, &Stats)> {
        let task =
            self.tasks.values().find(|task| Self::field(task, "task.name").as_deref() == Some(name))?;
        Some((task, self.stats.get(&task.id?.id)?))
    }
}

/// Serves and asks, on a thread with tokio; answers what it has seen once `enough`.
fn console(
    server: console_subscriber::Server,
    path: PathBuf,
    enough: impl Fn(&Seen) -> bool + Send + 'static,
) -> mpsc::Receiver<Seen> {
    let (give, take) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let serving =
                tokio::spawn(async move { server.serve().await.map_err(|error| error.to_string()) });
            let connect = move |_: Uri| {
                let path = path.clone();
                async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
            };
            let channel = loop {
                let endpoint = Endpoint::from_static("http://console");
                match endpoint.connect_with_connector(tower::service_fn(connect.clone())).await {
                    Ok(channel) => break channel,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await, // it is not up yet
                }
            };
            let mut updates = InstrumentClient::new(channel)
                .watch_updates(InstrumentRequest {})
                .await
                .unwrap()
                .into_inner();
            let mut seen = Seen::default();
            while let Some(update) = updates.message().await.unwrap() {
                let update = update.task_update.unwrap_or_default();
                seen.tasks.extend(update.new_tasks.into_iter().map(|task| (task.id.unwrap().id, task)));
                seen.stats.extend(update.stats_update);
                if enough(&seen) {
                    break;
                }
            }
            give.send(seen).unwrap();
            serving.abort();
        });
    });
    take
}

#[test]
fn the_console_sees_tasks_with_their_polls_and_wakes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("console.sock");
    let (layer, server) = ConsoleLayer::builder()
        .server_addr(path.clone())
        .publish_interval(Duration::from_millis(20))
        .retention(Duration::from_secs(60))
        .build();
    let over = |stats: &Stats| stats.dropped_at.is_some();
    let seen = console(server, path, move |seen| {
        let is_over = seen.named("yields").is_some_and(|(_, stats)| over(stats));
        is_over && seen.named("waits").is_some_and(|(_, stats)| stats.waker_clones == 1)
    });
    let event_loop = EventLoop::new();
    event_loop.add_instrument(Rc::new(TaskSpans::new()));
    let seen = tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        event_loop.run_until_complete(async {
            create_named_task("waits", std::future::pending::<()>()).detach();
            let yields = create_named_task("yields", async {
                for _ in 0..10 {
                    yield_now().await;
                }
            });
            yields.await;
        });
        seen.recv_timeout(Duration::from_secs(30)).expect("the console is told within 30 s")
    });

    let (task, stats) = seen.named("yields").unwrap();
    assert_eq!(Seen::field(task, "kind").as_deref(), Some("local"));
    let place = task.location.as_ref().unwrap();
    assert!(place.file().ends_with("tests/tokio_console.rs") && place.line() > 0, "{place:?}");
    assert_eq!((stats.wakes, stats.self_wakes), (10, 10));
    let polls = stats.poll_stats.as_ref().unwrap();
    assert_eq!(polls.polls, 11);
    assert!(polls.busy_time.is_some() && over(stats));

    let (_, stats) = seen.named("waits").unwrap();
    assert_eq!(stats.poll_stats.as_ref().unwrap().polls, 1);
    // It has a waker, so the console does not warn of one that was lost.
    assert_eq!((stats.wakes, stats.waker_clones, stats.waker_drops), (0, 1, 0));
    assert!(!over(stats));
}
