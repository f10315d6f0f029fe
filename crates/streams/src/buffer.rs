//! Bytes that were received and not yet taken, and what can be asked of them.
//!
//! Pure: it knows no descriptor, no waker and no future. A reader appends what came and asks a [`Goal`] whether it is
//! reached; a goal that is reached takes its bytes out in that same statement.
//!
//! B1. Bytes leave in the order in which they came, each once.
//! B2. An empty buffer holds no memory, so an idle connection costs none.
//! B3. A goal that is not reached changes nothing.
//! B4. Searching looks at each byte a bounded number of times, however the input is cut.

use crate::error::{IncompleteRead, LimitOverrun, ReadError};
use memchr::{memchr, memmem};

/// Bytes in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    /// Where in `bytes` the first one lies that is not yet taken.
    start: usize,
}

impl Buffer {
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) {
        // Moving what is left to the front is paid for by what was taken before.
        if self.start > self.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the first `n` bytes out.
    pub(crate) fn take(&mut self, n: usize) -> Vec<u8> {
        if n == self.len() && self.start == 0 {
            return std::mem::take(&mut self.bytes); // B2, and nothing is copied
        }
        let taken = self.filled()[..n].to_vec();
        self.discard(n);
        taken
    }

    /// Moves what fits into the front of `room`, and answers how much that was.
    pub(crate) fn move_to(&mut self, room: &mut [u8]) -> usize {
        let n = self.len().min(room.len());
        room[..n].copy_from_slice(&self.filled()[..n]);
        self.discard(n);
        n
    }

    /// Puts `bytes` before everything else.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        let behind = self.take_all();
        self.append(bytes);
        self.append(&behind);
    }

    /// Drops the first `n` bytes.
    pub(crate) fn discard(&mut self, n: usize) {
        assert!(n <= self.len(), "only {} of {n} bytes are there", self.len());
        self.start += n;
        if self.is_empty() {
            *self = Self::default(); // B2
        }
    }

    pub(crate) fn take_all(&mut self) -> Vec<u8> {
        self.take(self.len())
    }
}

/// What ends a piece.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Separators<'s> {
    One(&'s [u8]),
    /// The one that ends first; each is a whole separator.
    Any(&'s [&'s [u8]]),
}

impl Separators<'_> {
    fn as_slice(&self) -> &[&[u8]] {
        match self {
            Self::One(separator) => std::slice::from_ref(separator),
            Self::Any(separators) => separators,
        }
    }

    /// The first byte and the first byte after the match that ends first.
    fn find(&self, bytes: &[u8], from: usize) -> Option<(usize, usize)> {
        let ends = self.as_slice().iter().filter_map(|separator| {
            // A match that ends after `from` may have begun before it.
            let from = from.saturating_sub(separator.len() - 1);
            let found = match separator {
                [byte] => memchr(*byte, &bytes[from..]),
                separator => memmem::find(&bytes[from..], separator),
            };
            found.map(|place| (from + place, from + place + separator.len()))
        });
        ends.min_by_key(|(start, end)| (*end, std::cmp::Reverse(*start)))
    }

    fn longest(&self) -> usize {
        self.as_slice().iter().map(|separator| separator.len()).max().unwrap_or(0)
    }
}

/// What a read waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal<'s> {
    /// At least one byte, at most so many; none at the end.
    Some(usize),
    /// So many, or it fails.
    Exactly(usize),
    /// Everything up to the end.
    All,
    /// Up to a separator, or it fails. `searched` bytes are known to hold no end of one.
    Until { separators: Separators<'s>, searched: usize },
    /// Up to a newline, or to the end.
    Line { searched: usize },
}

impl Goal<'_> {
    /// Takes what was asked for if it is there, or says why it never will be; else answers nothing and waits for more.
    pub(crate) fn reach(
        &mut self,
        buffer: &mut Buffer,
        ended: bool,
        limit: usize,
    ) -> Option<Result<Vec<u8>, ReadError>> {
        match self {
            Self::Some(0) => Some(Ok(Vec::new())),
            Self::Some(_) if buffer.is_empty() && !ended => None,
            Self::Some(most) => Some(Ok(buffer.take(buffer.len().min(*most)))),
            Self::Exactly(n) if buffer.len() >= *n => Some(Ok(buffer.take(*n))),
            Self::Exactly(n) if ended => Some(Err(incomplete(buffer, Some(*n)))),
            Self::Exactly(_) => None,
            Self::All => ended.then(|| Ok(buffer.take_all())),
            Self::Until { separators, searched } => match search(*separators, searched, buffer, limit) {
                Found::Nothing if ended => Some(Err(incomplete(buffer, None))),
                found => found.taken(buffer),
            },
            Self::Line { searched } => match search(Separators::One(b"\n"), searched, buffer, limit) {
                Found::Nothing if ended => Some(Ok(buffer.take_all())),
                found => found.taken(buffer),
            },
        }
    }
}

fn incomplete(buffer: &mut Buffer, expected: Option<usize>) -> ReadError {
    ReadError::Incomplete(IncompleteRead { partial: buffer.take_all(), expected })
}

enum Found {
    Nothing,
    /// How many bytes there are up to and with the separator.
    End(usize),
    Overrun(LimitOverrun),
}

impl Found {
    fn taken(self, buffer: &mut Buffer) -> Option<Result<Vec<u8>, ReadError>> {
        match self {
            Self::Nothing => None,
            Self::End(end) => Some(Ok(buffer.take(end))),
            Self::Overrun(overrun) => Some(Err(ReadError::Overrun(overrun))),
        }
    }
}

fn search(separators: Separators<'_>, searched: &mut usize, buffer: &Buffer, limit: usize) -> Found {
    let bytes = buffer.filled();
    let found = separators.find(bytes, *searched);
    // What no separator can begin in any more.
    let consumed = match found {
        Some((start, _)) => start,
        None => (bytes.len() + 1).saturating_sub(separators.longest()),
    };
    if consumed > limit {
        return Found::Overrun(LimitOverrun { consumed, limit });
    }
    *searched = bytes.len(); // B4
    found.map_or(Found::Nothing, |(_, end)| Found::End(end))
}
