//! The scripts, and what each is called with.

use redis::{Script, ScriptInvocation};

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

/// The name of the group in which all workers are.
pub(crate) const GROUP: &str = "evenloop";

/// The names of a queue's keys. The braces put them beside the stream when a cluster spreads keys.
pub(crate) struct Keys {
    pub(crate) stream: String,
    pub(crate) news: String,
    state: String,
    deadlines: String,
}

impl Keys {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            stream: name.to_owned(),
            news: format!("{{{name}}}:news"),
            state: format!("{{{name}}}:state"),
            deadlines: format!("{{{name}}}:deadlines"),
        }
    }

    /// The key that remembers a put.
    pub(crate) fn put(&self, token: &str) -> String {
        format!("{{{}}}:put:{token}", self.stream)
    }

    /// A call of `script` on these keys, its first argument the group.
    pub(crate) fn call<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        call.key(&self.stream).key(&self.news).key(&self.state).key(&self.deadlines);
        call.arg(GROUP);
        call
    }
}
