//! The console's agent: it answers while the loop is blocked, and hostile clients harm nothing.

use evenloop_console::{Agent, Client, ClientError, Command, VERSION, default_path, find, listen};
use evenloop_executor::watch::{Snapshot, TaskKey};
use evenloop_executor::{EventLoop, yield_now};
use std::fs;
use std::future::pending;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn agent() -> (TempDir, Agent, Client) {
    let folder = tempfile::tempdir().unwrap();
    let agent = listen(folder.path().join("agent.sock")).unwrap();
    let client = Client::new(agent.path());
    (folder, agent, client)
}

fn watched() -> EventLoop {
    EventLoop::builder().watch(true).build()
}

/// What a thread asks while the calling one, a loop's, is blocked.
fn ask_while_blocked<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, answer) = mpsc::channel();
    std::thread::spawn(move || sender.send(ask()));
    answer.recv_timeout(Duration::from_secs(60)).expect("the agent answers while the loop is blocked")
}

fn named<'a>(snapshot: &'a Snapshot, name: &str) -> &'a evenloop_executor::watch::TaskSnapshot {
    snapshot.tasks().find(|task| task.name == name).unwrap_or_else(|| panic!("no {name} in {snapshot}"))
}

#[test]
fn it_answers_while_the_loop_is_blocked() {
    let (_folder, _agent, client) = agent();
    let event_loop = watched();
    event_loop.create_named_task("a waiting task", pending::<()>()).detach();
    let task = event_loop.create_named_task("the blocking task", async move {
        yield_now().await;
        ask_while_blocked(move || client.ps().unwrap())
    });
    let snapshot = event_loop.run_until_complete(task);
    let blocking = named(&snapshot, "the blocking task");
    assert_eq!((blocking.state(), blocking.polls), ("running", 1));
    assert!(blocking.running.is_some());
    assert!(blocking.spawned_at.file.ends_with("console_agent.rs"));
    assert_eq!(named(&snapshot, "a waiting task").polls, 1);
}

#[test]
fn the_socket_is_the_users_alone_and_goes_with_the_agent() {
    let (folder, agent, _) = agent();
    let path = agent.path().to_owned();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    let error = listen(&path).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    drop(agent);
    assert!(!path.exists());
}

/// There is one trace a process: the tests that trace do so one after the other.
static TRACING: Mutex<()> = Mutex::new(());

/// Waits for what another thread does, but not for ever.
fn soon(mut happened: impl FnMut() -> bool) {
    let started = Instant::now();
    while !happened() {
        assert!(started.elapsed() < Duration::from_secs(30), "it has not happened");
        std::thread::yield_now();
    }
}

#[test]
fn it_ends_whatever_became_of_its_file() {
    let (folder, agent, _) = agent();
    let moved = folder.path().join("moved.sock");
    fs::rename(agent.path(), &moved).unwrap();
    drop(agent);
    soon(|| UnixStream::connect(&moved).is_err()); // nobody listens any more
}

#[test]
fn it_leaves_the_socket_of_another_agent_alone() {
    let (_folder, agent, client) = agent();
    fs::remove_file(agent.path()).unwrap();
    let other = listen(agent.path()).unwrap();
    drop(agent);
    client.ps().unwrap();
    drop(other);
    assert!(matches!(client.ps(), Err(ClientError::Io(_))));
}

#[test]
fn a_trace_ends_when_its_client_hangs_up() {
    let _alone = TRACING.lock();
    let (_folder, agent, client) = agent();
    let mut leaves = None;
    soon(|| {
        let mut stream = UnixStream::connect(agent.path()).unwrap();
        stream.write_all(format!("evenloop-console {VERSION} trace 60000\n").as_bytes()).unwrap();
        leaves = Some(stream);
        // If it has begun. Else this one was first, and that one may have been refused: once more.
        matches!(client.trace(Duration::ZERO), Err(ClientError::Refused(_)))
    });
    drop(leaves);
    soon(|| client.trace(Duration::ZERO).is_ok());
}

#[test]
fn what_nobody_listens_to_is_replaced_and_what_is_no_socket_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap()); // leaves the file
    let agent = listen(&path).unwrap();
    Client::new(&path).ps().unwrap();
    drop(agent);
    fs::write(&path, "precious").unwrap();
    assert_eq!(listen(&path).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    assert!(listen(folder.path().join("no/such/folder/agent.sock")).is_err());
}

#[test]
fn a_task_is_cancelled_and_a_stranger_is_refused() {
    let (_folder, _agent, client) = agent();
    let event_loop = watched();
    let mut task = event_loop.create_named_task("to be cancelled", pending::<()>());
    event_loop.run_once(Some(Duration::ZERO));
    let key = named(&client.ps().unwrap(), "to be cancelled").key;
    client.tell(Command::Cancel(key)).unwrap();
    let error = event_loop.run_until_complete(task.join()).unwrap_err();
    assert_eq!(error.reason().text(), Some("cancelled from the console"));
    let nobody = Command::Cancel(TaskKey { host: key.host, task: 999_999 });
    let error = client.tell(nobody).unwrap_err();
    assert!(matches!(&error, ClientError::Refused(words) if words == "there is no such task"), "{error}");
}

#[test]
fn a_trace_has_each_poll() {
    let _alone = TRACING.lock();
    let (_folder, _agent, client) = agent();
    let event_loop = watched();
    let (sender, traced) = mpsc::channel();
    let asking = std::thread::spawn(move || {
        sender.send(client.trace(Duration::from_millis(100)).unwrap()).unwrap();
    });
    let task = event_loop.create_named_task("traced", async move {
        loop {
            yield_now().await;
            if let Ok(spans) = traced.try_recv() {
                return spans;
            }
        }
    });
    let spans = event_loop.run_until_complete(task);
    asking.join().unwrap();
    let key = named(&spans.snapshot, "traced").key;
    let mine: Vec<_> =
        spans.spans.iter().filter(|(home, span)| *home == key.host && span.task == key.task).collect();
    assert!(mine.len() > 1, "{} spans", spans.spans.len());
    let ordered = |pair: &[&(u64, evenloop_executor::watch::Span)]| {
        pair[0].1.began_ns + pair[0].1.took_ns <= pair[1].1.began_ns
    };
    assert!(mine.windows(2).all(ordered), "one loop runs one task at a time");
    assert_eq!(spans.process, std::process::id());
}

fn answer(agent: &Agent, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(agent.path()).unwrap();
    let _ = stream.write_all(request);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}

#[test]
fn garbage_is_refused_with_words() {
    let (_folder, agent, client) = agent();
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\xff\xfe\x00\n", b"evenloop-console 99 ps\n", b"\n", b""]
    {
        let text = answer(&agent, garbage);
        assert!(text.starts_with("evenloop-console 1 error ") && text.ends_with("end\n"), "{text:?}");
    }
    let _ = answer(&agent, &vec![b'x'; 1 << 20]); // never more than a line is read
    client.ps().unwrap();
}

#[test]
fn slow_clients_hold_up_nobody_and_many_are_turned_away() {
    let (_folder, agent, client) = agent();
    let silent: Vec<_> = (0..8).map(|_| UnixStream::connect(agent.path()).unwrap()).collect();
    for _ in 0..5 {
        let error = client.ps().unwrap_err();
        assert!(matches!(&error, ClientError::Refused(words) if words == "too many clients"), "{error}");
    }
    drop(silent);
    // Their threads see that they are gone, sooner or later.
    while client.ps().is_err() {
        std::thread::yield_now();
    }
}

#[test]
fn loops_that_the_facade_makes_show_their_tasks_to_whoever_listens() {
    use evenloop::time::VirtualClock;
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    struct Counts(std::sync::Arc<std::sync::atomic::AtomicUsize>);
    impl Subscriber for Counts {
        fn enabled(&self, data: &Metadata<'_>) -> bool {
            data.target().starts_with("tokio::task")
        }
        fn new_span(&self, span: &Attributes<'_>) -> Id {
            assert_eq!(span.metadata().name(), "runtime.spawn");
            Id::from_u64(1 + self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) as u64)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, _: &Event<'_>) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }
    let spawned = std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
    let run = || {
        let event_loop = evenloop::event_loop_on(VirtualClock::new().into());
        event_loop.run_until_complete(async { evenloop::create_task(async {}).await });
    };
    tracing::subscriber::with_default(Counts(spawned.clone()), run);
    assert_eq!(spawned.load(std::sync::atomic::Ordering::Relaxed), 2);
    run(); // nobody listens
    assert_eq!(spawned.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[test]
fn what_is_no_agent_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let client = Client::new(&path);
    assert_eq!(client.path(), path);
    let told = |answer: &str| {
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                BufReader::new(&stream).read_line(&mut String::new()).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            });
            client.ps().unwrap_err().to_string()
        })
    };
    assert_eq!(told("HTTP/1.1 400\n"), "that is no answer of an evenloop program: \"HTTP/1.1 400\"");
    let greeting = format!("evenloop-console {VERSION}");
    assert_eq!(told(&format!("{greeting} error not now\n")), "not now");
    assert_eq!(told(&format!("{greeting} ok\nhalf of it")), "the answer was cut off");
}

#[test]
fn an_agent_is_found_by_its_path_or_its_process() {
    assert_eq!(find(Some("/run/my.sock")).unwrap(), Path::new("/run/my.sock"));
    assert_eq!(find(Some("12")).unwrap(), default_path(12));
}
