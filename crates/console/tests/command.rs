//! The command, against an agent in this process.

use evenloop_console::{Agent, listen};
use evenloop_executor::{EventLoop, create_eager_task, create_task, yield_now};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs the command; answers what it printed, and whether it succeeded.
fn evenloop(arguments: &[&str]) -> (String, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_evenloop")).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.success())
}

fn agent(folder: &Path) -> (Agent, String) {
    let path = folder.join("agent.sock");
    let agent = listen(&path).unwrap();
    (agent, path.to_str().unwrap().to_owned())
}

#[test]
fn ps_pstree_top_and_cancel() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, path) = agent(folder.path());
    let event_loop = EventLoop::builder().watch(true).build();
    let mut outer = event_loop.create_named_task("outer", async {
        let inner = create_task(std::future::pending::<()>());
        inner.set_name("inner");
        inner.await;
    });
    event_loop.run_once(Some(Duration::ZERO));
    event_loop.run_once(Some(Duration::ZERO));
    let (ps, fine) = evenloop(&["ps", &path]);
    assert!(fine && ps.contains("'outer' waiting") && ps.contains("in await for task"), "{ps}");
    let (tree, fine) = evenloop(&["pstree", &path]);
    // Other tests of this process have watched loops too.
    let lines: Vec<_> = tree.lines().skip_while(|line| !line.starts_with("└── (T) outer ")).collect();
    assert!(fine && lines.len() >= 3, "{tree}");
    assert!(
        lines[1].starts_with("    └──  waits ") && lines[2].starts_with("        └── (T) inner "),
        "{tree}"
    );
    let (top, fine) = evenloop(&["top", &path, "--every", "1ms", "--times", "2"]);
    assert!(fine && top.matches("outer").count() == 2, "{top}");
    let key = lines[2].split_whitespace().nth(3).unwrap();
    assert_eq!(evenloop(&["cancel", &path, key]), (String::new(), true));
    let error = event_loop.run_until_complete(outer.join()).unwrap_err();
    assert!(error.is_cancelled());
}

#[test]
fn top_ends_when_nobody_reads() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, path) = agent(folder.path());
    let mut top = Command::new(env!("CARGO_BIN_EXE_evenloop"));
    let mut top = top.args(["top", &path, "--every", "1ms"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(top.stdout.take()); // as `head` does
    let started = Instant::now();
    let status = loop {
        if let Some(status) = top.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > Duration::from_secs(30) {
            top.kill().unwrap();
        }
        std::thread::yield_now();
    };
    assert!(status.success(), "{status}");
}

#[test]
fn trace_writes_what_chrome_and_perfetto_open() {
    let folder = tempfile::tempdir().unwrap();
    let (_agent, path) = agent(folder.path());
    let file = folder.path().join("trace.json");
    let arguments = [
        "trace".to_owned(),
        path,
        "--for".into(),
        "100ms".into(),
        "-o".into(),
        file.to_str().unwrap().into(),
    ];
    let traced = std::thread::spawn(move || evenloop(&arguments.each_ref().map(String::as_str)));
    let event_loop = EventLoop::builder().watch(true).build();
    event_loop.run_until_complete(async {
        while !traced.is_finished() {
            create_eager_task(async {}).await; // a poll inside of a poll
            yield_now().await;
        }
    });
    let (text, fine) = traced.join().unwrap();
    assert!(fine && text.contains(" polls in "), "{text}");
    let trace: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let (polls, depth) = check_chrome_format(&trace);
    assert!(polls.contains("Task-1") && depth == 2, "{polls:?}, one within the other: {depth}");
}

/// Checks all that Chrome's format asks of a trace of complete events, and that they nest. Answers their names, and how
/// deep they nest.
fn check_chrome_format(trace: &serde_json::Value) -> (BTreeSet<&str>, usize) {
    assert!(["ms", "ns"].map(Some).contains(&trace["displayTimeUnit"].as_str()));
    let mut threads = BTreeMap::<_, Vec<_>>::new();
    let mut named = BTreeSet::new();
    for event in trace["traceEvents"].as_array().expect("an array of events") {
        let number = |field: &str| event[field].as_f64().unwrap_or_else(|| panic!("no {field} in {event}"));
        assert_eq!(event["pid"], std::process::id());
        let thread = event["tid"].as_u64().unwrap_or_else(|| panic!("no thread in {event}"));
        assert!(event["name"].is_string(), "{event}");
        match event["ph"].as_str() {
            Some("M") => {
                assert_eq!(event["name"], "thread_name");
                assert!(event["args"]["name"].is_string() && named.insert(thread), "{event}");
            }
            Some("X") => {
                assert!(number("ts") >= 0.0 && number("dur") >= 0.0, "{event}");
                threads.entry(thread).or_default().push(event);
            }
            _ => panic!("neither a name nor a complete event: {event}"),
        }
    }
    let (mut names, mut depth) = (BTreeSet::new(), 0);
    for (thread, polls) in &threads {
        assert!(named.contains(thread), "thread {thread} has no name");
        // In nanoseconds, as Perfetto counts: it drops a complete event that overlaps another by a single one.
        let ns = |poll: &serde_json::Value, field: &str| (poll[field].as_f64().unwrap() * 1e3).round() as u64;
        let from = |poll: &serde_json::Value| ns(poll, "ts");
        let until = |poll: &serde_json::Value| from(poll) + ns(poll, "dur");
        let in_order = |a: &&_, b: &&_| (from(a), Reverse(until(a))) <= (from(b), Reverse(until(b)));
        assert!(polls.is_sorted_by(in_order), "one that begins with another, and lies in it, comes after it");
        let mut open: Vec<u64> = Vec::new(); // what has begun and not ended yet ends at these times
        for poll in polls.iter() {
            open.retain(|until| from(poll) < *until);
            assert!(open.last().is_none_or(|outer| until(poll) <= *outer), "{poll} does not nest");
            open.push(until(poll));
            depth = depth.max(open.len());
            names.insert(poll["name"].as_str().unwrap());
        }
    }
    (names, depth)
}

#[test]
fn what_cannot_be_done_is_said_in_a_sentence() {
    for (arguments, words) in [
        (&["ps", "/no/such/socket"][..], "No such file"),
        (&["cancel", "x", "y"], "a task is written LOOP.TASK"),
        (&["trace", "x"], "-o FILE"),
        (&["trace", "x", "-o", "y", "--for", "5h"], "what is `h`?"),
        (&["dance"], "what is `dance`?"),
        (&["--loud"], "--loud"),
    ] {
        let (text, fine) = evenloop(arguments);
        assert!(!fine && text.contains(words), "{arguments:?}: {text}");
    }
}
