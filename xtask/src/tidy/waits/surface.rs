//! What a crate offers to wait for: its public functions that are `async`, answer a future, or are a `poll_…` of its own,
//! which answers `Poll` and is given a `Context` to be woken by.
//!
//! Read from the text as rustfmt lays it out: a block ends with a `}` as far in as its first line. What a macro makes is not
//! seen, nor the methods of traits: a future, a stream, a sink, reading and writing.

use crate::tree::Source;
use std::collections::BTreeSet;

/// A public function, and whether what it answers is waited for.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Function {
    /// `sync::Lock::acquire`.
    pub(super) name: String,
    pub(super) waits: bool,
    pub(super) path: String,
    pub(super) line: usize,
}

/// A block that holds functions.
#[derive(Clone, Debug)]
enum Block {
    /// `impl Lock`, and of a trait only its name.
    Inherent(String),
    Trait(String),
    /// A trait's implementation, a private trait, a macro: its functions are not public, or are not functions yet.
    Other,
}

/// Something at its first line: the block around it, and its text up to the body.
struct Item<'a> {
    within: Option<&'a Block>,
    line: usize,
    text: String,
}

/// The public functions of a crate. `krate` is what their names begin with.
pub(super) fn functions(krate: &str, sources: &[Source]) -> BTreeSet<Function> {
    let mut types = BTreeSet::new();
    let mut futures = BTreeSet::new();
    for source in sources {
        each_item(source, &mut |item| {
            types.extend(public_type(&item.text));
            futures.extend(future(&item.text));
        });
    }
    let mut found = BTreeSet::new();
    for source in sources {
        each_item(source, &mut |item| {
            let within = match item.within {
                None => None,
                Some(Block::Inherent(owner) | Block::Trait(owner)) if types.contains(owner) => Some(owner),
                Some(_) => return,
            };
            let of_trait = matches!(item.within, Some(Block::Trait(_)));
            let Some((signature, is_async)) = function(&item.text, of_trait) else { return };
            let (name, answer) = name_and_answer(signature);
            let owns = within.filter(|_| !takes_self(signature));
            let waits =
                is_async || is_future(answer, owns, &futures) || (!of_trait && is_poll(signature, answer));
            let owner = within.map(|owner| format!("{owner}::")).unwrap_or_default();
            let name = format!("{krate}::{owner}{name}");
            found.insert(Function { name, waits, path: source.path.clone(), line: item.line });
        });
    }
    found
}

/// Calls `visit` with each item of the library: `impl`, `fn`, `struct`, ...
fn each_item(source: &Source, visit: &mut dyn FnMut(&Item<'_>)) {
    let (numbers, lines): (Vec<_>, Vec<_>) = source.code().unzip();
    let mut around: Vec<(usize, Block)> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let line = line.trim_start();
        if line.starts_with('}') {
            around.retain(|(of, _)| *of < indent);
        }
        let plain = line.strip_prefix("pub ").unwrap_or(line);
        let starts = |word: &str| plain.starts_with(word);
        let is_block = ["impl ", "impl<", "trait ", "macro_rules! "].iter().any(|word| starts(word));
        let is_item = ["fn ", "async fn ", "const fn ", "unsafe fn ", "struct ", "enum ", "type "]
            .iter()
            .any(|word| starts(word));
        if !is_block && !is_item {
            continue;
        }
        let text = until_body(&lines[index..]);
        let within = around.last().map(|(_, block)| block);
        visit(&Item { within, line: numbers[index], text: text.clone() });
        if is_block && !text.ends_with('}') {
            around.push((indent, block(&text)));
        }
    }
}

/// The lines up to what opens the body, or ends the item, in one.
fn until_body(lines: &[&str]) -> String {
    let mut text = String::new();
    let mut depth = 0;
    for line in lines.iter().map(|line| line.trim()) {
        text.push_str(if text.is_empty() { "" } else { " " });
        for letter in line.chars() {
            match letter {
                '(' | '[' => depth += 1,
                ')' | ']' => depth -= 1,
                '{' | ';' if depth == 0 => return text,
                _ => {}
            }
            text.push(letter);
        }
    }
    text
}

fn block(text: &str) -> Block {
    if let Some(name) = text.strip_prefix("pub trait ") {
        return Block::Trait(first_word(name).to_owned());
    }
    match implemented(text) {
        Some((None, owner)) => Block::Inherent(owner),
        _ => Block::Other,
    }
}

/// Of an `impl`: the trait, if there is one, and the type, both without a path and arguments.
fn implemented(text: &str) -> Option<(Option<String>, String)> {
    let rest = text.strip_prefix("impl")?;
    let rest = if rest.starts_with('<') { after_angles(rest) } else { rest };
    let rest = rest.split(" where ").next().unwrap_or(rest).trim();
    let parts = outside_angles(rest, " for ");
    let plain = |path: &str| {
        let path = path.trim().trim_start_matches('&');
        let path =
            if path.starts_with('\'') { path.split_once(' ').map_or("", |(_, path)| path) } else { path };
        let path = path.split('<').next().unwrap_or(path);
        path.rsplit("::").next().unwrap_or(path).trim().to_owned()
    };
    match parts {
        Some((of, owner)) => Some((Some(plain(of)), plain(owner))),
        None => Some((None, plain(rest))),
    }
}

/// A type that others may name.
fn public_type(text: &str) -> Option<String> {
    let rest = text.strip_prefix("pub ")?;
    let kinds = ["struct ", "enum ", "type ", "trait "];
    kinds.iter().find_map(|kind| rest.strip_prefix(kind)).map(|name| first_word(name).to_owned())
}

/// The type that this makes a future, or says to be one.
fn future(text: &str) -> Option<String> {
    if let Some(name) = text.strip_prefix("pub type ") {
        let (_, of) = text.split_once('=')?;
        return words(of).any(|word| word == "Future").then(|| first_word(name).to_owned());
    }
    let (of, owner) = implemented(text)?;
    of.filter(|of| of == "Future" || of == "IntoFuture").map(|_| owner)
}

/// A public function from its name on, and whether it is `async`.
fn function(text: &str, of_trait: bool) -> Option<(&str, bool)> {
    let mut rest = if of_trait { text } else { text.strip_prefix("pub ")? };
    let mut is_async = false;
    for word in ["const ", "async ", "unsafe "] {
        if let Some(after) = rest.strip_prefix(word) {
            is_async |= word == "async ";
            rest = after;
        }
    }
    rest.strip_prefix("fn ").map(|signature| (signature, is_async))
}

/// The name, and what is behind the arrow.
fn name_and_answer(signature: &str) -> (&str, &str) {
    let name = first_word(signature);
    let rest = &signature[name.len()..];
    let rest = if rest.starts_with('<') { after_angles(rest) } else { rest };
    let mut depth = 0;
    let end = rest.find(|letter| {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        depth == 0
    });
    let rest = end.map_or("", |end| &rest[end + 1..]);
    let answer = rest.trim_start().strip_prefix("->").unwrap_or_default();
    (name, answer.split(" where ").next().unwrap_or(answer).trim())
}

/// Whether the function's first argument is the value itself.
fn takes_self(signature: &str) -> bool {
    ["(self", "(mut self", "(&self", "(&mut self"].iter().any(|first| signature.contains(first))
}

/// Whether one waits for it: a future of ours, or one without a name, also in an `Option`, in a tuple or in what a `Result`
/// holds when all is well. One that is lent is somebody else's. `owner`: what `Self` is, when it is made anew.
fn is_future(answer: &str, owner: Option<&String>, futures: &BTreeSet<String>) -> bool {
    if let Some(inside) = answer.strip_prefix("Result<").or_else(|| answer.strip_prefix("io::Result<")) {
        let value = outside_angles(inside, ", ").map_or(inside, |(value, _)| value);
        return is_future(value, owner, futures);
    }
    let is_ours = |word: &str| match word {
        "Future" => true,
        "Self" => owner.is_some_and(|owner| futures.contains(owner)),
        word => futures.contains(word),
    };
    answer.split(|letter: char| !letter.is_alphanumeric() && !"_&".contains(letter)).any(is_ours)
}

/// Whether it is polled. Without a `Context` to keep the waker of it looks only; who gets a shared one tells of another's
/// poll.
fn is_poll(signature: &str, answer: &str) -> bool {
    let path = answer.split('<').next().unwrap_or(answer);
    path.rsplit("::").next() == Some("Poll") && signature.contains("&mut Context<")
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|word| !word.is_empty())
}

fn first_word(text: &str) -> &str {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap_or_default()
}

/// What follows the `<…>` that `text` begins with. The `>` of an arrow closes nothing.
fn after_angles(text: &str) -> &str {
    let mut depth = 0;
    let mut before = ' ';
    for (at, letter) in text.char_indices() {
        match letter {
            '<' => depth += 1,
            '>' if before != '-' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[at + 1..];
        }
        before = letter;
    }
    ""
}

/// Splits at `what` outside of all `<…>` and `(…)`.
fn outside_angles<'a>(text: &'a str, what: &str) -> Option<(&'a str, &'a str)> {
    text.match_indices(what).map(|(at, _)| (&text[..at], &text[at + what.len()..])).find(|(before, _)| {
        let arrows = before.matches("->").count();
        let count = |bracket: char| before.matches(bracket).count();
        count('<') == count('>') - arrows && count('(') == count(')')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The functions of a crate `sync` whose text this is, those that wait with a star.
    fn surface(text: &str) -> Vec<String> {
        let source = Source { path: "crates/sync/src/it.rs".into(), text: text.into() };
        let shown = |function: Function| {
            format!("{}{}", function.name.trim_start_matches("sync::"), if function.waits { "*" } else { "" })
        };
        functions("sync", &[source]).into_iter().map(shown).collect()
    }

    const TYPES: &str = "\
pub struct Event;
struct Inner;
pub struct EventWait<'a>(&'a Event);

impl<'a> Future for EventWait<'a> {
    fn poll(self: Pin<&mut Self>) -> Poll<()> {}
}
";

    fn check(text: &str, expected: &[&str]) {
        assert_eq!(surface(&format!("{TYPES}\n{text}")), expected);
    }

    #[test]
    fn what_is_async_waits_and_so_does_what_answers_a_future() {
        check("pub async fn settled() {\n}\n", &["settled*"]);
        check("pub fn settled() -> impl Future<Output = ()> + use<> {\n}\n", &["settled*"]);
        check("pub fn settled() -> bool {\n}\n", &["settled"]);
        check("impl Event {\n    pub fn wait(&self) -> EventWait<'_> {\n    }\n}\n", &["Event::wait*"]);
    }

    #[test]
    fn a_signature_of_several_lines_is_one() {
        let text = "\
pub fn both<F, R>(
    first: F,
    bytes: [u8; 3],
) -> Result<(F, EventWait<'static>), NotBoth<R>>
where
    F: FnOnce() -> R,
{
}
";
        check(text, &["both*"]);
    }

    #[test]
    fn an_argument_or_an_error_that_is_a_future_is_not_waited_for() {
        check("pub fn spawn(future: impl Future<Output = ()>) -> u8 {\n}\n", &["spawn"]);
        check("pub fn spawn<F>(f: F) -> Result<u8, EventWait<'static>> {\n}\n", &["spawn"]);
        check("pub fn with<R>(f: impl FnOnce(EventWait<'_>) -> R) -> Result<R, ()> {\n}\n", &["with"]);
        check("impl Event {\n    pub fn of(&self) -> Option<&EventWait<'_>> {\n    }\n}\n", &["Event::of"]);
    }

    #[test]
    fn a_constructor_of_a_future_waits_and_its_builder_does_not() {
        let text = "\
impl EventWait<'_> {
    pub fn new() -> Self {
    }

    pub fn named(self, name: &str) -> Self {
    }
}
";
        check(text, &["EventWait::named", "EventWait::new*"]);
    }

    #[test]
    fn a_poll_of_its_own_waits_and_a_look_or_a_traits_does_not() {
        let of_event = |function: &str| format!("impl Event {{\n    {function} {{\n    }}\n}}\n");
        check(
            &of_event("pub fn poll_set(&self, cx: &mut Context<'_>) -> Poll<Option<u8>>"),
            &["Event::poll_set*"],
        );
        check("pub fn poll_set(\n    cx: &mut Context<'_>,\n) -> task::Poll<()> {\n}\n", &["poll_set*"]);
        check(
            "pub trait Theirs {\n    fn poll_it(&self, cx: &mut Context<'_>) -> Poll<()>;\n}\n",
            &["Theirs::poll_it"],
        );
        check(&of_event("pub fn look(&self) -> Poll<()>"), &["Event::look"]);
        check("pub fn noted<T>(polled: Poll<T>, cx: &Context<'_>) -> Poll<T> {\n}\n", &["noted"]);
        check(&of_event("fn poll_ours(&self, cx: &mut Context<'_>) -> Poll<()>"), &[]);
        check(
            "impl Stream for Event {\n    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<()> {\n    }\n}\n",
            &[],
        );
    }

    #[test]
    fn only_what_others_can_call_counts() {
        check("pub(crate) async fn ours() {\n}\n", &[]);
        check("impl Inner {\n    pub async fn ours(&self) {\n    }\n}\n", &[]);
        check("trait Ours {\n    async fn ours(&self);\n}\n", &[]);
        check("pub trait Theirs {\n    fn wait(&self) -> impl Future<Output = ()>;\n}\n", &["Theirs::wait*"]);
        check(
            "// pub async fn ours() {\n#[cfg(test)]\nmod tests {\n    pub async fn ours() {\n    }\n}\n",
            &[],
        );
    }
}
