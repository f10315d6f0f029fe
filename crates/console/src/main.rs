//! The command `evenloop`: what a running program's tasks wait for.

#![forbid(unsafe_code)]

use evenloop_console::{Client, Command, Spans, find};
use evenloop_executor::watch::{Snapshot, TaskKey, TaskSnapshot};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const HELP: &str = "\
What a running program's tasks wait for. The program listens: EVENLOOP_CONSOLE=1, or `evenloop_console::listen`.

  evenloop ps [TARGET]                       every task, what it waits for, since when, and who holds it
  evenloop pstree [TARGET]                   the same as a tree; cycles are printed as the deadlocks that they are
  evenloop top [TARGET] [--every 1s] [--times N]
                                             who uses the loop
  evenloop cancel TARGET LOOP.TASK           asks a task to end
  evenloop trace [TARGET] [--for 5s] -o FILE what ran when, for https://ui.perfetto.dev or chrome://tracing

TARGET is a process's number or the path of a socket; it may be left out where just one program listens.";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<NobodyReads>() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("evenloop: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    use lexopt::prelude::*;
    let mut arguments = lexopt::Parser::from_env();
    let (mut words, mut every, mut times, mut time, mut file) =
        (Vec::new(), Duration::from_secs(1), None, Duration::from_secs(5), None::<PathBuf>);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("help") | Short('h') => return print(HELP),
            Long("every") => every = duration(&arguments.value()?.string()?)?,
            Long("times") => times = Some(arguments.value()?.parse::<u64>()?),
            Long("for") => time = duration(&arguments.value()?.string()?)?,
            Short('o') | Long("output") => file = Some(arguments.value()?.into()),
            Value(word) => words.push(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let client = |target: Option<&str>| find(target).map(Client::new);
    match words[..] {
        ["ps"] | ["ps", _] => print(client(words.get(1).copied())?.ps()?.to_string().trim_end()),
        ["pstree"] | ["pstree", _] => print(client(words.get(1).copied())?.ps()?.tree().trim_end()),
        ["top"] | ["top", _] => top(&client(words.get(1).copied())?, every, times),
        ["cancel", target, key] => {
            let key = key.split_once('.').and_then(|(host, task)| {
                Some(TaskKey { host: host.parse().ok()?, task: task.parse().ok()? })
            });
            let key = key.ok_or("a task is written LOOP.TASK, as `evenloop ps` shows it")?;
            Ok(client(Some(target))?.tell(Command::Cancel(key))?)
        }
        ["trace"] | ["trace", _] => {
            let file = file.ok_or("where to? Give a file: -o FILE")?;
            let spans = client(words.get(1).copied())?.trace(time)?;
            std::fs::write(&file, serde_json::to_vec(&chrome(&spans))?)
                .map_err(|error| format!("{}: {error}", file.display()))?;
            let (polls, lost) = (spans.spans.len(), spans.lost);
            print(&format!("{polls} polls in {}, {lost} more did not fit in", file.display()))
        }
        [] => print(HELP),
        _ => Err(format!("what is `{}`? See --help", words.join(" ")).into()),
    }
}

/// What is printed goes to nobody any more: no failure, and the end of the command.
#[derive(Debug)]
struct NobodyReads;

impl fmt::Display for NobodyReads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads what is printed")
    }
}

impl Error for NobodyReads {}

fn print(text: &str) -> Result<(), Box<dyn Error>> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(NobodyReads.into()),
        result => Ok(result?),
    }
}

/// `5s`, `200ms`, `1m`, or a number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        other => return Err(format!("what is `{other}`? A time is written 5s, 200ms or 1m")),
    };
    let number: f64 = digits.parse().map_err(|_| format!("`{text}` is no time: write 5s, 200ms or 1m"))?;
    Duration::try_from_secs_f64(number * unit).map_err(|error| format!("`{text}`: {error}"))
}

// === top ===

fn top(client: &Client, every: Duration, times: Option<u64>) -> Result<(), Box<dyn Error>> {
    let clears = std::io::stdout().is_terminal();
    let (mut before, mut seen) = (client.ps()?, Instant::now());
    for _ in 0..times.unwrap_or(u64::MAX) {
        std::thread::sleep(every);
        let now = client.ps()?;
        let screen = screen(&before, &now, seen.elapsed());
        print(&if clears { format!("\x1b[2J\x1b[H{screen}") } else { screen })?;
        (before, seen) = (now, Instant::now());
    }
    Ok(())
}

/// Who used the loop between two snapshots, most first.
fn screen(before: &Snapshot, now: &Snapshot, between: Duration) -> String {
    // A poll that lasts is not in `busy` yet.
    let used = |task: &TaskSnapshot| task.busy + task.running.unwrap_or_default();
    let known: HashMap<_, _> = before.tasks().map(|task| (task.key, (used(task), task.polls))).collect();
    let mut rows: Vec<_> = now
        .tasks()
        .map(|task| {
            let (before, polls) = known.get(&task.key).copied().unwrap_or_default();
            let busy = used(task).saturating_sub(before);
            (busy, task.polls.saturating_sub(polls), task)
        })
        .collect();
    rows.sort_by_key(|(busy, polls, task)| (std::cmp::Reverse(*busy), std::cmp::Reverse(*polls), task.key));
    let mut text = now.loops.iter().map(|it| format!("{it}\n")).collect::<String>();
    text +=
        &format!("\n{:>8} {:>6} {:>9}  {:<20} {:<8} waits in\n", "task", "busy", "polls/s", "name", "state");
    for (busy, polls, task) in rows.iter().take(30) {
        let share = 100.0 * busy.as_secs_f64() / between.as_secs_f64().max(1e-9);
        let rate = *polls as f64 / between.as_secs_f64().max(1e-9);
        let waits = task.waits.first().map_or_else(String::new, |wait| now.describe(wait));
        let key = task.key.to_string();
        text +=
            &format!("{key:>8} {share:>5.1}% {rate:>9.0}  {:<20} {:<8} {waits}\n", task.name, task.state());
    }
    text
}

// === trace ===

/// The trace in Chrome's format: a thread for each loop, and a complete event for each poll.
fn chrome(spans: &Spans) -> Value {
    let names: HashMap<_, _> = spans.snapshot.tasks().map(|task| (task.key, task)).collect();
    let threads: HashMap<_, _> = spans.snapshot.loops.iter().map(|it| (it.number, &it.thread)).collect();
    let mut events: Vec<_> = threads
        .iter()
        .map(|(number, thread)| {
            let name = format!("event loop {number} on '{thread}'");
            json!({"ph": "M", "name": "thread_name", "pid": spans.process, "tid": number, "args": {"name": name}})
        })
        .collect();
    let mut polls: Vec<_> = spans.spans.iter().collect();
    // The outer one first, if two begin at once: Perfetto takes the second of those for the one inside.
    polls.sort_by_key(|(number, span)| (*number, span.began_ns, Reverse(span.took_ns)));
    events.extend(polls.into_iter().map(|(number, span)| {
        let key = TaskKey { host: *number, task: span.task };
        let task = names.get(&key);
        let name = task.map_or_else(|| format!("Task-{}", span.task), |task| task.name.clone());
        let spawned_at = task.map_or_else(String::new, |task| task.spawned_at.to_string());
        json!({
            "ph": "X",
            "cat": "poll",
            "name": name,
            "pid": spans.process,
            "tid": number,
            "ts": span.began_ns as f64 / 1e3,
            "dur": span.took_ns as f64 / 1e3,
            "args": {"task": key.to_string(), "spawned_at": spawned_at},
        })
    }));
    json!({"displayTimeUnit": "ns", "traceEvents": events})
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenloop_executor::{EventLoop, snapshot};

    #[test]
    fn a_poll_that_ends_is_counted_once() {
        let event_loop = EventLoop::builder().watch(true).build();
        event_loop.create_named_task("works", std::future::pending::<()>()).detach();
        let seen = snapshot();
        let with = |busy, running: Option<u64>| {
            let mut seen = seen.clone();
            let task = seen.loops.iter_mut().flat_map(|it| &mut it.tasks).find(|task| task.name == "works");
            let task = task.unwrap();
            (task.busy, task.running) = (Duration::from_secs(busy), running.map(Duration::from_secs));
            seen
        };
        let second = Duration::from_secs(1);
        for (before, after, share) in [
            (with(2, Some(9)), with(12, None), " 100.0% "),
            (with(2, Some(9)), with(12, Some(0)), " 100.0% "), // another poll has begun
            (with(2, Some(9)), with(2, Some(10)), " 100.0% "),
        ] {
            let top = screen(&before, &after, second);
            let row = top.lines().find(|row| row.contains("works")).unwrap();
            assert!(row.contains(share), "{top}");
        }
    }
}
