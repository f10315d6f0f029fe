//! The scripts, and what each is called with.

use redis::{RedisError, Script, ScriptInvocation};
use std::time::Duration;

/// One operation on the server.
pub(crate) struct Scripts {
    pub(crate) open: Script,
    pub(crate) put: Script,
    pub(crate) take: Script,
    pub(crate) answer: Script,
    pub(crate) shutdown: Script,
    pub(crate) look: Script,
    pub(crate) destroy: Script,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        Self {
            open: Script::new(include_str!("scripts/open.lua")),
            put: Script::new(include_str!("scripts/put.lua")),
            take: Script::new(include_str!("scripts/take.lua")),
            answer: Script::new(include_str!("scripts/answer.lua")),
            shutdown: Script::new(include_str!("scripts/shutdown.lua")),
            look: Script::new(include_str!("scripts/look.lua")),
            destroy: Script::new(include_str!("scripts/destroy.lua")),
        }
    }
}

/// What `look` answers: entries, of those with workers, whether the queue is shut down, the last ids of stream and news.
pub(crate) type Look = (usize, usize, bool, String, String);

/// Whether this is what a script says whose caller's queue is not there any more (R5).
pub(crate) fn is_gone(error: &RedisError) -> bool {
    error.code() == Some("GONE")
}

/// The name of the group in which all workers are.
pub(crate) const GROUP: &str = "evenloop";

/// `duration` as the scripts have it: whole milliseconds, rounded up, at least one, and no more than Lua counts exactly and
/// Redis can add to the time of day.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    const LONGEST: u64 = 1 << 50; // thirty-five thousand years
    let whole = duration.as_nanos().div_ceil(1_000_000);
    u64::try_from(whole).map_or(LONGEST, |whole| whole.clamp(1, LONGEST))
}

/// The names of a queue's keys, and which of all queues of that name it is. The braces put them beside the stream when a cluster spreads keys.
pub(crate) struct Keys {
    pub(crate) stream: String,
    pub(crate) news: String,
    state: String,
    deadlines: String,
    /// Drawn by who makes a queue (R5).
    pub(crate) generation: String,
}

impl Keys {
    pub(crate) fn new(name: &str, generation: String) -> Self {
        Self {
            stream: name.to_owned(),
            news: format!("{{{name}}}:news"),
            state: format!("{{{name}}}:state"),
            deadlines: format!("{{{name}}}:deadlines"),
            generation,
        }
    }

    /// The key that remembers a put into this queue, not into a later one of its name.
    pub(crate) fn put(&self, token: &str) -> String {
        format!("{{{}}}:put:{}:{token}", self.stream, self.generation)
    }

    /// A call of `script` on these keys, its first arguments the group and the generation.
    pub(crate) fn call<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        call.key(&self.stream).key(&self.news).key(&self.state).key(&self.deadlines);
        call.arg(GROUP).arg(&self.generation);
        call
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_rounded_up_into_what_the_server_takes() {
        assert_eq!(milliseconds(Duration::ZERO), 1);
        assert_eq!(milliseconds(Duration::from_micros(1500)), 2);
        assert_eq!(milliseconds(Duration::from_secs(60)), 60_000);
        assert_eq!(milliseconds(Duration::from_millis(1 << 51)), 1 << 50);
        assert_eq!(milliseconds(Duration::MAX), 1 << 50);
    }
}
