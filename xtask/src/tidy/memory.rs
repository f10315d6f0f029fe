//! Memory is not made up: the words behind other people's advisories, each with what to write instead.
//!
//! Values out of nothing (`zeroed`), lengths that nobody wrote (`set_len`), blocks with a capacity or a length that somebody
//! computed (`from_raw_parts`), and sums and products of sizes that wrap before anybody asks for them.

use crate::tree::{self, Source};

/// The word, and what to do instead.
const WORDS: &[(&str, &str)] = &[
    (
        "zeroed",
        "zeros may be no value of the type: write the value, or `MaybeUninit::uninit` and then all of it",
    ),
    (
        "set_len",
        "what is counted has to be there: `resize`, `extend_from_slice`, or a read into an initialised buffer",
    ),
    (
        "from_raw_parts",
        "a length or capacity that was computed is a block of another size: keep the slice, or the `Vec`",
    ),
    ("from_raw_parts_mut", "a length that was computed is a block of another size: keep the slice"),
    ("unchecked_add", "a size that wraps is a block that is too small: `checked_add`"),
    ("unchecked_sub", "a size that wraps is a block that is too small: `checked_sub`"),
    ("unchecked_mul", "a size that wraps is a block that is too small: `checked_mul`"),
];

/// Calls that ask for so much memory.
const ASKS: &[&str] = &["with_capacity(", "reserve(", "reserve_exact(", "resize(", "resize_with("];

pub(super) fn check(findings: &mut Vec<String>) {
    for library in tree::libraries() {
        for source in library.sources() {
            look(&source, findings);
        }
    }
}

fn look(source: &Source, findings: &mut Vec<String>) {
    for (number, line) in source.code() {
        // What is behind the code of a line is a comment, which may name anything.
        let code = line.split(" // ").next().unwrap_or(line);
        let words = || code.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        for (word, instead) in WORDS.iter().filter(|(word, _)| words().any(|said| said == *word)) {
            findings.push(format!("{}:{number}: `{word}`: {instead}", source.path));
        }
        for asks in ASKS.iter().filter(|asks| sizes(code, asks).any(computes)) {
            findings.push(format!(
                "{}:{number}: `{asks}…)` with a sum or a product, which may wrap: `checked_…` first, or `saturating_…`",
                source.path
            ));
        }
    }
}

/// What calls of that name ask for: their first arguments, as far as they are on this line.
fn sizes<'a>(code: &'a str, call: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(call).filter_map(move |(at, _)| {
        let whole_name = !code[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
        let arguments = &code[at + call.len()..];
        let mut depth = 0;
        let end = arguments.find(|letter| {
            depth += i32::from("([{".contains(letter)) - i32::from(")]}".contains(letter));
            depth < 0 || (depth == 0 && letter == ',')
        });
        whole_name.then(|| &arguments[..end.unwrap_or(arguments.len())])
    })
}

/// Whether two sizes are added or multiplied. A number is added as it stands: what is in memory already leaves room for it.
fn computes(size: &str) -> bool {
    let adds =
        size.split(" + ").skip(1).any(|part| !part.starts_with(|letter: char| letter.is_ascii_digit()));
    adds || [" * ", " << "].iter().any(|operator| size.contains(operator))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &str, expected: &[&str]) {
        let source = Source { path: "a.rs".into(), text: code.into() };
        let mut findings = Vec::new();
        look(&source, &mut findings);
        let named: Vec<_> =
            findings.iter().map(|finding| finding.split('`').nth(1).unwrap_or_default()).collect();
        assert_eq!(named, expected, "{code}");
    }

    #[test]
    fn words_are_found_whole_and_in_code_only() {
        check("unsafe { bytes.set_len(n) };", &["set_len"]);
        check("let it: T = unsafe { std::mem::zeroed() };", &["zeroed"]);
        check("Vec::from_raw_parts(block, length, capacity)", &["from_raw_parts"]);
        check("slice::from_raw_parts_mut(block, length)", &["from_raw_parts_mut"]);
        check("reset_length(); // not `set_len`", &[]);
        check("// zeroed", &[]);
        check("self.set_length(n); is_zeroed_out()", &[]);
    }

    #[test]
    fn a_size_that_is_computed_where_it_is_asked_for_is_found() {
        check("buffer.reserve(head + tail);", &["reserve(…)"]);
        check("let all = Vec::with_capacity(rows * (1 + columns));", &["with_capacity(…)"]);
        check("bytes.resize(self.len() + n, 0);", &["resize(…)"]);
        check("bytes.resize(n, a + b);", &[]);
        check("buffer.reserve(head.saturating_add(tail));", &[]);
        check("queue.reserve(*n);", &[]);
        check("levels.resize_with(level + 1, || EMPTY);", &[]);
        check("queue.unreserve(a + b);", &[]);
        check("queue.unreserve(a); buffer.reserve(a + b);", &["reserve(…)"]);
    }

    #[test]
    fn tests_may_do_as_they_like() {
        check("#[cfg(test)]\nmod tests {\n    fn it() { bytes.set_len(1) }\n}\n", &[]);
    }
}
