//! The unmodified `console-subscriber`, and a client that asks it over gRPC as tokio-console does.
//!
//! Its subscriber wants a `cfg` that says that this is not tokio: `cargo xtask ci tokio-console` builds with it.

#![cfg(console_without_tokio_unstable)]

use console_api::async_ops::{self, AsyncOp};
use console_api::field::{Name, Value};
use console_api::instrument::{InstrumentRequest, Update, instrument_client::InstrumentClient};
use console_api::resources::resource::kind::{Kind, Known};
use console_api::resources::{self, PollOp, Resource};
use console_api::tasks::{self, Task};
use console_api::{Attribute, Field};
use console_subscriber::ConsoleLayer;
use evenloop_console::TaskSpans;
use evenloop_core::{Runtime, ThreadPark};
use evenloop_executor::{EventLoop, create_named_task, yield_now};
use evenloop_sync::{Lock, Queue, oneshot};
use evenloop_time::{Driver, VirtualClock, sleep};
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::future::{Future, pending};
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
    stats: HashMap<u64, tasks::Stats>,
    resources: HashMap<u64, Resource>,
    states: HashMap<u64, resources::Stats>,
    ops: HashMap<u64, AsyncOp>,
    op_stats: HashMap<u64, async_ops::Stats>,
    poll_ops: Vec<PollOp>,
}

/// A field's name, and what it says.
fn text(field: &Field) -> (&str, String) {
    let Some(Name::StrName(name)) = &field.name else { panic!("no name: {field:?}") };
    let value = match field.value.as_ref().unwrap() {
        Value::StrVal(text) | Value::DebugVal(text) => text.clone(),
        Value::U64Val(number) => number.to_string(),
        Value::BoolVal(flag) => flag.to_string(),
        other => panic!("{name} is {other:?}"),
    };
    (name, value)
}

impl Seen {
    fn take(&mut self, update: Update) {
        let tasks = update.task_update.unwrap_or_default();
        self.tasks.extend(tasks.new_tasks.into_iter().map(|task| (task.id.unwrap().id, task)));
        self.stats.extend(tasks.stats_update);
        let resources = update.resource_update.unwrap_or_default();
        let new = resources.new_resources.into_iter();
        self.resources.extend(new.map(|resource| (resource.id.unwrap().id, resource)));
        self.states.extend(resources.stats_update);
        self.poll_ops.extend(resources.new_poll_ops);
        let ops = update.async_op_update.unwrap_or_default();
        self.ops.extend(ops.new_async_ops.into_iter().map(|op| (op.id.unwrap().id, op)));
        self.op_stats.extend(ops.stats_update);
    }

    fn field(task: &Task, name: &str) -> Option<String> {
        task.fields.iter().map(text).find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    fn named(&self, name: &str) -> Option<(&Task, &tasks::Stats)> {
        let task =
            self.tasks.values().find(|task| Self::field(task, "task.name").as_deref() == Some(name))?;
        Some((task, self.stats.get(&task.id?.id)?))
    }

    /// The op with this source.
    fn op(&self, source: &str) -> Option<(&AsyncOp, &async_ops::Stats)> {
        let op = self.ops.values().find(|op| op.source == source)?;
        Some((op, self.op_stats.get(&op.id?.id)?))
    }

    /// The one task that polled the op with this source, and what it waits on: the type, the kind and the state.
    fn wait(&self, source: &str) -> (String, String, Kind, Vec<String>) {
        let (op, stats) = self.op(source).unwrap();
        let polls = self.poll_ops.iter().filter(|poll| poll.async_op_id == op.id);
        for poll in polls {
            let told = (poll.name.as_str(), poll.is_ready, poll.resource_id, poll.task_id);
            assert_eq!(told, (source, false, op.resource_id, stats.task_id));
        }
        let task = Self::field(&self.tasks[&stats.task_id.unwrap().id], "task.name").unwrap();
        let resource = &self.resources[&op.resource_id.unwrap().id];
        assert!(!resource.is_internal && resource.parent_resource_id.is_none());
        let state = &self.states[&resource.id.unwrap().id];
        let attribute = |Attribute { field, unit }: &Attribute| {
            let (name, value) = text(field.as_ref().unwrap());
            format!("{name}={value}{}", unit.as_deref().unwrap_or_default())
        };
        let mut attributes: Vec<_> = state.attributes.iter().map(attribute).collect();
        attributes.sort();
        let kind = resource.kind.clone().unwrap().kind.unwrap();
        (task, resource.concrete_type.clone(), kind, attributes)
    }
}

/// Asks, on a thread with tokio. Answers nothing as soon as it is told of all that happens, and what it has seen once `enough`.
fn console(
    path: PathBuf,
    enough: impl Fn(&Seen) -> bool + Send + 'static,
) -> (mpsc::Receiver<()>, mpsc::Receiver<Seen>) {
    let ((began, begins), (give, take)) = (mpsc::channel(), mpsc::channel());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
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
                seen.take(update);
                let _ = began.send(());
                if enough(&seen) {
                    break;
                }
            }
            give.send(seen).unwrap();
        });
    });
    (begins, take)
}

/// Runs `main` on a loop that is shown to the console, and answers what the console has seen once `enough`: the loop's other
/// tasks are alive until then.
fn shown(main: impl Future, enough: impl Fn(&Seen) -> bool + Send + 'static) -> Seen {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("console.sock");
    // With the filter that programs have: it looks at names and targets.
    let layer = ConsoleLayer::builder()
        .server_addr(path.clone())
        .publish_interval(Duration::from_millis(20))
        .retention(Duration::from_secs(60))
        .spawn();
    let (begins, seen) = console(path, enough);
    begins.recv_timeout(Duration::from_secs(30)).expect("the console answers within 30 s");
    let driver = Driver::new(ThreadPark::new(), VirtualClock::new().into());
    let runtime = Runtime::builder("test").timers(driver.timers());
    let event_loop = EventLoop::builder().runtime(runtime).park(Box::new(driver)).build();
    event_loop.add_instrument(Rc::new(TaskSpans::new()));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        event_loop.run_until_complete(main);
        seen.recv_timeout(Duration::from_secs(30)).expect("the console is told within 30 s")
    })
}

#[test]
fn the_console_sees_tasks_with_their_polls_and_wakes() {
    let over = |stats: &tasks::Stats| stats.dropped_at.is_some();
    let main = async {
        create_named_task("waits", pending::<()>()).detach();
        let yields = create_named_task("yields", async {
            for _ in 0..10 {
                yield_now().await;
            }
        });
        yields.await;
    };
    let seen = shown(main, move |seen| {
        let is_over = seen.named("yields").is_some_and(|(_, stats)| over(stats));
        is_over && seen.named("waits").is_some_and(|(_, stats)| stats.waker_clones == 1)
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

#[test]
fn the_console_sees_what_tasks_wait_on_and_each_wait_as_an_op_of_its_task() {
    const WAITS: [&str; 4] = ["Lock::acquire", "Queue::get", "sleep", "oneshot::Receiver"];
    let main = async {
        let (lock, queue) = (Rc::new(Lock::new(())), Rc::new(Queue::<u8>::new(3)));
        let (held, wanted) = (lock.clone(), lock);
        create_named_task("holds", async move {
            let _guard = held.acquire().await;
            pending::<()>().await;
        })
        .detach();
        create_named_task("locks", async move { drop(wanted.acquire().await) }).detach();
        create_named_task("gets", async move { queue.get().await.map(drop) }).detach();
        create_named_task("sleeps", sleep(Duration::from_secs(3600))).detach();
        let (sender, receiver) = oneshot::channel();
        let receives = create_named_task("receives", receiver);
        yield_now().await;
        sender.send(()).unwrap();
        receives.await.unwrap();
    };
    let seen = shown(main, |seen| {
        let told = |source: &&str| seen.op(source).is_some_and(|(_, stats)| stats.task_id.is_some());
        let attributes: usize = seen.states.values().map(|state| state.attributes.len()).sum();
        let over = |source| seen.op(source).is_some_and(|(_, stats)| stats.dropped_at.is_some());
        WAITS.iter().all(told) && seen.poll_ops.len() == 4 && attributes == 7 && over("oneshot::Receiver")
    });

    let sync = || Kind::Other("Sync".into());
    let timer = Kind::Known(Known::Timer.into());
    for (source, task, concrete_type, kind, state) in [
        ("Lock::acquire", "locks", "Lock", sync(), &["holders=holds", "locked=true", "waiters=1"][..]),
        ("Queue::get", "gets", "Queue", sync(), &["items=0", "limit=3", "waiters=1"]),
        ("sleep", "sleeps", "sleep", timer, &["duration=3600000ms"]),
        ("oneshot::Receiver", "receives", "oneshot", sync(), &[]),
    ] {
        let expected =
            (task.into(), concrete_type.into(), kind, state.iter().map(ToString::to_string).collect());
        assert_eq!(seen.wait(source), expected);
        let (_, stats) = seen.op(source).unwrap();
        assert_eq!(stats.poll_stats.as_ref().unwrap().polls, 1);
        assert_eq!(stats.dropped_at.is_some(), task == "receives", "{source}");
    }
}
