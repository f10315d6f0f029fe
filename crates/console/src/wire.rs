//! The protocol, version 1.
//!
//! A client connects, writes one line, reads the answer to its end, and the agent hangs up.
//!
//! ```text
//! client:  evenloop-console 1 ps
//!          evenloop-console 1 cancel LOOP.TASK
//!          evenloop-console 1 trace MILLISECONDS
//! agent:   evenloop-console 1 ok           or        evenloop-console 1 error WORDS
//!          process <tab> PID
//!          … records of a snapshot (`evenloop_executor`, `watch/wire.rs`) …
//!          span <tab> LOOP <tab> TASK <tab> BEGAN_NS <tab> TOOK_NS           of a trace
//!          lost <tab> LOOP <tab> COUNT                                       polls that did not fit in
//!          end
//! ```
//!
//! An answer without `end` was cut off. Clients skip records that they do not know; an agent that does not know the version or
//! the command answers with an error.

use evenloop_executor::watch::TaskKey;
use std::time::Duration;

/// The version of the protocol.
pub const VERSION: u32 = 1;

/// What every line that begins a message begins with.
pub(crate) const NAME: &str = "evenloop-console";

/// A request is not longer than that, its line feed included.
pub(crate) const LONGEST_REQUEST: usize = 128;

/// A trace takes no longer.
pub(crate) const LONGEST_TRACE: Duration = Duration::from_secs(60);

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// A snapshot.
    Ps,
    /// That a task ends.
    Cancel(TaskKey),
    /// What runs for so long, at most a minute.
    Trace(Duration),
}

impl Command {
    pub(crate) fn encode(self) -> String {
        let words = match self {
            Self::Ps => "ps".to_owned(),
            Self::Cancel(key) => format!("cancel {key}"),
            Self::Trace(time) => format!("trace {}", time.as_millis()),
        };
        format!("{NAME} {VERSION} {words}\n")
    }

    /// # Errors
    ///
    /// Why this is no request, for the client.
    pub(crate) fn decode(line: &str) -> Result<Self, &'static str> {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some(NAME) {
            return Err("this is the console of an evenloop program");
        }
        if words.next().and_then(|version| version.parse().ok()) != Some(VERSION) {
            return Err("this agent speaks version 1");
        }
        let command = match (words.next(), words.next()) {
            (Some("ps"), None) => Self::Ps,
            (Some("cancel"), Some(key)) => Self::Cancel(read_key(key).ok_or("a task is written LOOP.TASK")?),
            (Some("trace"), Some(millis)) => {
                let millis = millis.parse().map_err(|_| "a time is written in milliseconds")?;
                let time = Duration::from_millis(millis);
                if time > LONGEST_TRACE {
                    return Err("a trace takes a minute at most");
                }
                Self::Trace(time)
            }
            _ => return Err("there are the commands ps, cancel and trace"),
        };
        if words.next().is_some() { Err("too many words") } else { Ok(command) }
    }
}

/// Reads a task's key: `LOOP.TASK`.
pub(crate) fn read_key(text: &str) -> Option<TaskKey> {
    let (host, task) = text.split_once('.')?;
    Some(TaskKey { host: host.parse().ok()?, task: task.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_they_are_written() {
        let key = TaskKey { host: 1, task: 20 };
        for command in [Command::Ps, Command::Cancel(key), Command::Trace(Duration::from_millis(1500))] {
            let line = command.encode();
            assert!(line.len() <= LONGEST_REQUEST);
            assert_eq!(Command::decode(line.trim_end()), Ok(command));
        }
    }

    #[test]
    fn anything_else_is_refused_with_a_reason() {
        for line in [
            "",
            "GET / HTTP/1.1",
            "evenloop-console 2 ps",
            "evenloop-console 1",
            "evenloop-console 1 ps now",
            "evenloop-console 1 cancel x",
            "evenloop-console 1 trace 99999999",
            "evenloop-console 1 trace 1 2",
        ] {
            assert!(Command::decode(line).is_err(), "{line}");
        }
    }
}
