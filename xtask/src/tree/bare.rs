//! A Rust text without what it says: comments, strings and characters are blank, lines and columns stay where they are.

/// What a text is in the middle of.
#[derive(Clone, Copy)]
enum In {
    Code,
    LineComment,
    /// So many deep.
    BlockComment(usize),
    /// Ends with a quote and so many hashes; without escapes if there may be hashes.
    Text {
        hashes: usize,
        is_raw: bool,
    },
}

pub(crate) fn bare(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut bare = String::with_capacity(text.len());
    let mut state = In::Code;
    let mut at = 0;
    while at < letters.len() {
        let begins = |what: &str| letters[at..].iter().copied().take(what.len()).eq(what.chars());
        let is_in_word = at > 0 && (letters[at - 1].is_alphanumeric() || letters[at - 1] == '_');
        // How many letters are blank from here, and what follows them.
        let (blank, next) = match state {
            In::Code if begins("//") => (2, In::LineComment),
            In::Code if begins("/*") => (2, In::BlockComment(1)),
            In::Code if begins("\"") => (1, In::Text { hashes: 0, is_raw: false }),
            In::Code if !is_in_word && raw_text(&letters[at..]).is_some() => {
                let (length, hashes) = raw_text(&letters[at..]).expect("it is one");
                (length, In::Text { hashes, is_raw: true })
            }
            In::Code if begins("'") => (character(&letters[at..]), In::Code),
            In::Code => (0, In::Code),
            In::LineComment if begins("\n") => (0, In::Code),
            In::LineComment => (1, state),
            In::BlockComment(1) if begins("*/") => (2, In::Code),
            In::BlockComment(depth) if begins("*/") => (2, In::BlockComment(depth - 1)),
            In::BlockComment(depth) if begins("/*") => (2, In::BlockComment(depth + 1)),
            In::BlockComment(_) => (1, state),
            In::Text { is_raw: false, .. } if begins("\\") => (2, state),
            In::Text { hashes, .. } if begins(&format!("\"{}", "#".repeat(hashes))) => (1 + hashes, In::Code),
            In::Text { .. } => (1, state),
        };
        let end = (at + blank.max(1)).min(letters.len());
        for letter in &letters[at..end] {
            bare.push(if blank == 0 || *letter == '\n' { *letter } else { ' ' });
        }
        (at, state) = (end, next);
    }
    bare
}

/// The length of what opens a text without escapes (`r"`, `br##"`), and its hashes.
fn raw_text(letters: &[char]) -> Option<(usize, usize)> {
    let prefix = letters.iter().take(2).take_while(|letter| matches!(letter, 'b' | 'c' | 'r')).count();
    if prefix == 0 || letters[prefix - 1] != 'r' {
        return None;
    }
    let hashes = letters[prefix..].iter().take_while(|letter| **letter == '#').count();
    (letters.get(prefix + hashes) == Some(&'"')).then_some((prefix + hashes + 1, hashes))
}

/// The length of a character that begins here; of a lifetime, nothing.
fn character(letters: &[char]) -> usize {
    match letters {
        ['\'', '\\', _, rest @ ..] => {
            3 + rest.iter().position(|letter| *letter == '\'').map_or(rest.len(), |at| at + 1)
        }
        ['\'', _, '\'', ..] => 3,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::bare;

    #[test]
    fn what_is_said_is_blank_and_what_is_done_stays() {
        let check = |text: &str, expected: &str| assert_eq!(bare(text), expected, "{text}");
        check("a // unsafe\nb", "a          \nb");
        check("a /* x /* y */ z */ b", "a                   b");
        check("f(\"a \\\" b\", c)", "f(        , c)");
        check("f(\"a\nb\") g", "f(  \n  ) g");
        check("r#\"a \" b\"# c", "           c");
        check("br\"\\\" c", "      c");
        check("bar\"x\" c", "bar    c");
        check("'\"' a '\\'' b '\\u{1}' c", "    a      b         c");
        check("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)");
    }
}
