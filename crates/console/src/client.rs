//! Asking an agent.

use crate::agent::{default_path, folder};
use crate::wire::{Command, NAME, VERSION};
use evenloop_executor::watch::{BadRecord, Snapshot, Span};
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks one agent; each request is a connection of its own.
///
/// # Examples
///
/// ```no_run
/// use evenloop_console::{Client, find};
///
/// let client = Client::new(find(Some("4711"))?); // a process's number, or a path
/// let snapshot = client.ps()?;
/// println!("{}", snapshot.tree());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum ClientError {
    /// The agent cannot be reached, or was cut off.
    Io(io::Error),
    /// The agent has refused, with these words.
    Refused(String),
    /// What came is no answer of this protocol.
    Garbled(String),
}

/// What ran while a trace was taken.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    /// The process that ran it.
    pub process: u32,
    /// The loop's number, and a poll of one of its tasks.
    pub spans: Vec<(u64, Span)>,
    /// How many polls did not fit in.
    pub lost: u64,
    /// The tasks, as they were before and after.
    pub snapshot: Snapshot,
}

/// The socket that is meant: a path, or a process's number. Without either, the one agent of this user, if there is just one.
///
/// # Errors
///
/// There is none, or more than one; the words say which.
pub fn find(target: Option<&str>) -> Result<PathBuf, String> {
    match target {
        Some(target) => Ok(target.parse().map_or_else(|_| PathBuf::from(target), default_path)),
        None => {
            let entries = std::fs::read_dir(folder()).into_iter().flatten().flatten();
            let mut sockets: Vec<_> = entries.map(|entry| entry.path()).collect();
            sockets.retain(|path| {
                path.extension().is_some_and(|it| it == "sock") && UnixStream::connect(path).is_ok()
            });
            match (sockets.pop(), sockets.len()) {
                (Some(only), 0) => Ok(only),
                (None, _) => Err(
                    "no program listens: start it with EVENLOOP_CONSOLE=1, or give the path of its socket"
                        .into(),
                ),
                (Some(_), more) => Err(format!("{} programs listen: give a process's number", more + 1)),
            }
        }
    }
}

impl Client {
    /// A client of the agent at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// What the program's tasks wait for.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn ps(&self) -> Result<Snapshot, ClientError> {
        Ok(Snapshot::decode(&self.ask(Command::Ps, PATIENCE)?)?)
    }

    /// Sends a command that has no answer but yes and no.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn tell(&self, command: Command) -> Result<(), ClientError> {
        self.ask(command, PATIENCE).map(drop)
    }

    /// What runs for `time`, at most a minute.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn trace(&self, time: Duration) -> Result<Spans, ClientError> {
        let text = self.ask(Command::Trace(time), time.saturating_add(PATIENCE))?;
        let mut spans = Spans { snapshot: Snapshot::decode(&text)?, ..Spans::default() };
        for line in text.lines() {
            let mut fields = line.split('\t');
            let kind = fields.next();
            let mut number = || fields.next().and_then(|field| field.parse::<u64>().ok());
            let garbled = || ClientError::Garbled(line.to_owned());
            match kind {
                Some("process") => {
                    spans.process = number().and_then(|pid| pid.try_into().ok()).ok_or_else(garbled)?;
                }
                Some("lost") => spans.lost += number().and(number()).ok_or_else(garbled)?,
                Some("span") => {
                    let (Some(home), Some(task), Some(began_ns), Some(took_ns)) =
                        (number(), number(), number(), number())
                    else {
                        return Err(garbled());
                    };
                    spans.spans.push((home, Span { task, began_ns, took_ns }));
                }
                _ => {}
            }
        }
        Ok(spans)
    }

    /// The records of the answer.
    fn ask(&self, command: Command, patience: Duration) -> Result<String, ClientError> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(patience))?;
        let asked = stream.write_all(command.encode().as_bytes());
        let mut text = String::new();
        let read = stream.read_to_string(&mut text);
        // An agent that refuses does not wait for the request: its words have come, though the connection is broken.
        if !text.ends_with("end\n") {
            asked?;
            read?;
        }
        let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
        let greeting = format!("{NAME} {VERSION} ");
        match first.strip_prefix(&greeting) {
            Some("ok") => {}
            Some(refused) => {
                return Err(ClientError::Refused(
                    refused.strip_prefix("error ").unwrap_or(refused).to_owned(),
                ));
            }
            None => return Err(ClientError::Garbled(first.to_owned())),
        }
        match rest.strip_suffix("end\n") {
            Some(records) => Ok(records.to_owned()),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer was cut off").into()),
        }
    }

    /// Where the agent is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<BadRecord> for ClientError {
    fn from(bad: BadRecord) -> Self {
        Self::Garbled(bad.to_string())
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Refused(words) => f.write_str(words),
            Self::Garbled(line) => write!(f, "that is no answer of an evenloop program: {line:?}"),
        }
    }
}

impl std::error::Error for ClientError {}
