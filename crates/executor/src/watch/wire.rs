//! A snapshot as lines of text, for whoever reads it in another process.
//!
//! Version 1. One record a line, fields separated by tabs; a tab, a line feed and a backslash inside a field are written
//! `\t`, `\n` and `\\`. `-` stands for nothing. Durations are nanoseconds, addresses hexadecimal, a task's key `LOOP.TASK`. A
//! reader skips records that it does not know, and fields after those that it knows.
//!
//! ```text
//! loop  NUMBER THREAD ASLEEP(0|1) SLEEPS SPAWNED
//! task  KEY NAME FILE LINE COLUMN FUTURE PARENT AGE POLLS BUSY RUNNING GROUP        a task of the last loop
//! wait  CALL ON SINCE LEFT MANY(0|1) HOLDERS                                         a wait of the last task
//! ```
//!
//! ON is `nothing`, `object:ADDRESS`, `counted:ADDRESS:HAS:LIMIT`, `task:KEY`, `children:ADDRESS`, `until`, `descriptor:N` or
//! `thread`. HOLDERS are keys, or `?` for code outside of any task, separated by commas; one that has not come for what it was
//! given ends with `!`.

use crate::watch::snapshot::{LoopSnapshot, Place, Snapshot, TaskSnapshot, WaitSnapshot};
use evenloop_core::shim::GlobalMutex;
use evenloop_core::watch::{Holder, On, TaskKey};
use std::collections::BTreeSet;
use std::fmt::{self, Display, Write as _};
use std::time::{Duration, Instant};

/// A line of a snapshot's text that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord(String);

impl Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a record of a snapshot: {:?}", self.0)
    }
}

impl std::error::Error for BadRecord {}

/// Writes a field so that it has neither tabs nor line feeds.
pub fn escape(field: &str) -> String {
    field.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n")
}

/// Undoes [`escape`].
pub fn unescape(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut letters = field.chars();
    while let Some(letter) = letters.next() {
        match (letter, letter == '\\') {
            (_, true) => match letters.next() {
                Some('t') => text.push('\t'),
                Some('n') => text.push('\n'),
                Some(other) => text.push(other),
                None => {}
            },
            (letter, false) => text.push(letter),
        }
    }
    text
}

impl Snapshot {
    /// The snapshot as lines of text; [`decode`](Self::decode) reads them. `watch/wire.rs` describes the format. Stacks are
    /// left out.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        for it in &self.loops {
            let LoopSnapshot { number, thread, asleep, sleeps, spawned, .. } = it;
            let (thread, asleep) = (escape(thread), u8::from(*asleep));
            let _ = writeln!(text, "loop\t{number}\t{thread}\t{asleep}\t{sleeps}\t{spawned}");
            for task in &it.tasks {
                let TaskSnapshot { key, polls, .. } = task;
                let (name, future) = (escape(&task.name), escape(task.future));
                let Place { file, line, column } = task.spawned_at;
                let (file, parent, group) =
                    (escape(file), or_dash(task.parent), or_dash(task.group.map(hex)));
                let (age, busy) = (task.age.as_nanos(), task.busy.as_nanos());
                let running = or_dash(task.running.map(|it| it.as_nanos()));
                let _ = writeln!(
                    text,
                    "task\t{key}\t{name}\t{file}\t{line}\t{column}\t{future}\t{parent}\t{age}\t{polls}\t{busy}\t{running}\t\
                     {group}"
                );
                for wait in &task.waits {
                    let (call, on, since) = (escape(wait.call), on(&wait.on), wait.since.as_nanos());
                    let left = or_dash(wait.left.map(|it| it.as_nanos()));
                    let (many, holders) = (u8::from(wait.is_many), wait.holders.iter().map(holder));
                    let holders = holders.collect::<Vec<_>>().join(",");
                    let _ = writeln!(text, "wait\t{call}\t{on}\t{since}\t{left}\t{many}\t{holders}");
                }
            }
        }
        text
    }

    /// Reads what [`encode`](Self::encode) wrote. Names of calls, files and types are kept for the life of the process, each
    /// once: this is for a tool.
    ///
    /// # Errors
    ///
    /// A line that begins like a record and is none.
    pub fn decode(text: &str) -> Result<Self, BadRecord> {
        let mut snapshot = Self::default();
        for line in text.lines() {
            snapshot.record(line).ok_or_else(|| BadRecord(line.to_owned()))?;
        }
        Ok(snapshot)
    }

    fn record(&mut self, line: &str) -> Option<()> {
        let mut fields = line.split('\t');
        let kind = fields.next()?;
        let mut next = || fields.next();
        match kind {
            "loop" => self.loops.push(LoopSnapshot {
                number: next()?.parse().ok()?,
                thread: unescape(next()?),
                asleep: next()? == "1",
                sleeps: next()?.parse().ok()?,
                spawned: next()?.parse().ok()?,
                tasks: Vec::new(),
            }),
            "task" => {
                let task = TaskSnapshot {
                    key: key(next()?)?,
                    name: unescape(next()?),
                    spawned_at: Place {
                        file: intern(&unescape(next()?)),
                        line: next()?.parse().ok()?,
                        column: next()?.parse().ok()?,
                    },
                    future: intern(&unescape(next()?)),
                    parent: optional(next()?, key)?,
                    age: nanos(next()?)?,
                    polls: next()?.parse().ok()?,
                    busy: nanos(next()?)?,
                    running: optional(next()?, nanos)?,
                    waits: Vec::new(),
                    group: optional(next()?, address)?,
                };
                self.loops.last_mut()?.tasks.push(task);
            }
            "wait" => {
                let wait = WaitSnapshot {
                    call: intern(&unescape(next()?)),
                    on: read_on(next()?)?,
                    since: nanos(next()?)?,
                    left: optional(next()?, nanos)?,
                    is_many: next()? == "1",
                    holders: next()?
                        .split(',')
                        .filter(|it| !it.is_empty())
                        .map(read_holder)
                        .collect::<Option<_>>()?,
                };
                self.loops.last_mut()?.tasks.last_mut()?.waits.push(wait);
            }
            _ => {}
        }
        Some(())
    }
}

fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn optional<T>(field: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    if field == "-" { Some(None) } else { read(field).map(Some) }
}

fn hex(address: usize) -> String {
    format!("{address:x}")
}

fn address(field: &str) -> Option<usize> {
    usize::from_str_radix(field, 16).ok()
}

fn nanos(field: &str) -> Option<Duration> {
    Some(Duration::from_nanos(field.parse::<u128>().ok()?.try_into().unwrap_or(u64::MAX)))
}

fn key(field: &str) -> Option<TaskKey> {
    let (host, task) = field.split_once('.')?;
    Some(TaskKey { host: host.parse().ok()?, task: task.parse().ok()? })
}

fn on(on: &On) -> String {
    match on {
        On::Object(address) => format!("object:{address:x}"),
        On::Counted(address, has, limit) => format!("counted:{address:x}:{has}:{limit}"),
        On::Task(key) => format!("task:{key}"),
        On::Children(group) => format!("children:{group:x}"),
        On::Until(_) => "until".to_owned(),
        On::Descriptor(descriptor) => format!("descriptor:{descriptor}"),
        On::Thread => "thread".to_owned(),
        _ => "nothing".to_owned(),
    }
}

fn read_on(field: &str) -> Option<On> {
    let mut parts = field.split(':');
    let kind = parts.next()?;
    let mut next = || parts.next();
    Some(match kind {
        "object" => On::Object(address(next()?)?),
        "counted" => On::Counted(address(next()?)?, next()?.parse().ok()?, next()?.parse().ok()?),
        "task" => On::Task(key(next()?)?),
        "children" => On::Children(address(next()?)?),
        "until" => On::Until(Instant::now()), // what matters is in LEFT
        "descriptor" => On::Descriptor(next()?.parse().ok()?),
        "thread" => On::Thread,
        _ => On::Nothing,
    })
}

fn holder(holder: &Holder) -> String {
    let task = holder.task.map_or_else(|| "?".to_owned(), |key| key.to_string());
    if holder.untaken { task + "!" } else { task }
}

fn read_holder(field: &str) -> Option<Holder> {
    let task = field.strip_suffix('!');
    let untaken = task.is_some();
    let task = task.unwrap_or(field);
    Some(Holder { task: if task == "?" { None } else { Some(key(task)?) }, untaken })
}

fn intern(text: &str) -> &'static str {
    static KNOWN: GlobalMutex<BTreeSet<&'static str>> = GlobalMutex::new(BTreeSet::new());
    let mut known = KNOWN.lock();
    if let Some(text) = known.get(text) {
        return text;
    }
    let text: &'static str = Box::leak(text.into());
    known.insert(text);
    text
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;

    fn sample() -> Snapshot {
        let key = TaskKey { host: 1, task: 7 };
        let wait = |on, holders| WaitSnapshot {
            call: "Lock::acquire",
            on,
            since: Duration::from_secs(3),
            left: None,
            holders,
            is_many: false,
        };
        let holders = vec![Holder { task: Some(key), untaken: true }, Holder { task: None, untaken: false }];
        let task = TaskSnapshot {
            key,
            name: "a\tname\\ with\nall".into(),
            spawned_at: Place { file: "src/main.rs", line: 3, column: 4 },
            future: "app::main::{{closure}}",
            parent: Some(key),
            age: Duration::from_secs(9),
            polls: 4,
            busy: Duration::from_millis(5),
            running: None,
            waits: vec![
                wait(On::Object(0xabc), holders),
                wait(On::Counted(1, 2, 3), vec![]),
                wait(On::Task(key), vec![]),
            ],
            group: Some(0xdef),
        };
        let (thread, tasks) = ("main".into(), vec![task]);
        Snapshot {
            loops: vec![LoopSnapshot { number: 1, thread, asleep: true, sleeps: 2, spawned: 3, tasks }],
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = sample().encode();
        let read = Snapshot::decode(&text).unwrap();
        assert_eq!(read.encode(), text);
        assert_eq!(read.loops[0].tasks[0].name, "a\tname\\ with\nall");
        assert_eq!(read.loops[0].tasks[0].waits[0].holders, sample().loops[0].tasks[0].waits[0].holders);
        assert_eq!(read.to_string(), sample().to_string());
    }

    #[test]
    fn garbage_is_refused_and_what_is_new_is_skipped() {
        assert!(Snapshot::decode("loop\tone").is_err());
        assert!(Snapshot::decode("task\t1.1").is_err());
        assert!(Snapshot::decode("wait\tx\tnothing\t0\t-\t0\t").is_err(), "of no task");
        let text = sample().encode().replace("\t3\n", "\t3\tmore\n") + "novelty\t1\n";
        assert_eq!(Snapshot::decode(&text).unwrap().loops.len(), 1);
        for length in 0..text.len() {
            if let Some(part) = text.get(..length) {
                let _ = Snapshot::decode(part); // never a panic
            }
        }
    }
}
