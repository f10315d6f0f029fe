//! The stream reader, fed in pieces that the fuzzer chooses and dropped in the middle of reads, against the whole input.
#![no_main]

use arbitrary::Arbitrary;
use evenloop::streams::{ReadError, StreamReader};
use futures::io::AsyncRead;
use futures::task::noop_waker_ref;
use libfuzzer_sys::fuzz_target;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// A few bytes, or more than there can be.
#[derive(Arbitrary, Debug)]
enum Size {
    Some(u8),
    Huge(u8),
}

impl Size {
    fn bytes(&self) -> usize {
        match self {
            Self::Some(n) => usize::from(*n),
            Self::Huge(less) => usize::MAX - usize::from(*less),
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Read {
    Some(Size),
    Exactly(Size),
    Line,
    Until(Vec<u8>),
    UntilAny(Vec<u8>, Vec<u8>),
    Discard(u8),
}

#[derive(Arbitrary, Debug)]
struct Input {
    bytes: Vec<u8>,
    limit: u8,
    /// How much comes at a time; 0: nothing yet.
    pieces: Vec<u8>,
    /// A read, and after how many polls it is dropped.
    reads: Vec<(Read, u8)>,
}

struct Pieces {
    bytes: Vec<u8>,
    given: usize,
    pieces: std::vec::IntoIter<u8>,
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let piece = self.pieces.next().map_or(usize::MAX, usize::from);
        if piece == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let given = self.given;
        let n = piece.min(room.len()).min(self.bytes.len() - given);
        room[..n].copy_from_slice(&self.bytes[given..given + n]);
        self.given += n;
        Poll::Ready(Ok(n))
    }
}

/// Polls at most so often, then drops.
fn polled<F: Future>(future: F, polls: u8) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(noop_waker_ref());
    (0..polls).find_map(|_| match future.as_mut().poll(&mut cx) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    })
}

/// The first end of any of the separators in `rest`.
fn first_end(rest: &[u8], separators: &[&[u8]]) -> Option<usize> {
    let ends = |separator: &&[u8]| {
        rest.windows(separator.len()).position(|window| window == *separator).map(|at| at + separator.len())
    };
    separators.iter().filter_map(ends).min()
}

fuzz_target!(|input: Input| {
    let whole = input.bytes.clone();
    let limit = usize::from(input.limit).max(1);
    let pieces = Pieces { bytes: input.bytes, given: 0, pieces: input.pieces.into_iter() };
    let mut reader = StreamReader::with_limit(pieces, limit);
    let mut taken = 0;
    for (read, polls) in input.reads {
        let rest = &whole[taken..];
        match read {
            Read::Some(n) => {
                let n = n.bytes();
                if let Some(got) = polled(reader.read(n), polls) {
                    let got = got.expect("no error is made here");
                    assert!(rest.starts_with(&got) && got.len() <= n);
                    assert!(!got.is_empty() || n == 0 || rest.is_empty(), "nothing, but not at the end");
                    taken += got.len();
                }
            }
            Read::Exactly(n) => match polled(reader.readexactly(n.bytes()), polls) {
                None => {}
                Some(Ok(got)) => {
                    assert_eq!(got, rest[..n.bytes()]);
                    taken += got.len();
                }
                Some(Err(ReadError::Incomplete(short))) => {
                    assert_eq!((&short.partial[..], short.expected), (rest, Some(n.bytes())));
                    assert!(rest.len() < n.bytes());
                    taken = whole.len();
                }
                Some(Err(other)) => panic!("{other}"),
            },
            Read::Line => until(polled(reader.readline(), polls), rest, &[b"\n"], limit, true, &mut taken),
            Read::Until(separator) if !separator.is_empty() => {
                until(
                    polled(reader.readuntil(&separator), polls),
                    rest,
                    &[&separator],
                    limit,
                    false,
                    &mut taken,
                );
            }
            Read::UntilAny(one, other) if !one.is_empty() && !other.is_empty() => {
                let both = [&one[..], &other];
                until(polled(reader.readuntil_any(&both), polls), rest, &both, limit, false, &mut taken);
            }
            Read::Until(_) | Read::UntilAny(..) => {} // an empty separator is a panic, as documented
            Read::Discard(n) => {
                let n = reader.buffered().len().min(n.into());
                reader.discard(n);
                taken += n;
            }
        }
        assert!(whole[taken..].starts_with(reader.buffered()), "what is buffered comes next");
    }
});

/// Checks a read up to a separator.
fn until(
    outcome: Option<Result<Vec<u8>, ReadError>>,
    rest: &[u8],
    separators: &[&[u8]],
    limit: usize,
    at_end_too: bool,
    taken: &mut usize,
) {
    let end = first_end(rest, separators);
    match outcome {
        None => {}
        Some(Ok(got)) => {
            let expected = end.unwrap_or(rest.len());
            assert!(end.is_some() || at_end_too, "without a separator");
            assert_eq!(got, rest[..expected]);
            *taken += got.len();
        }
        Some(Err(ReadError::Incomplete(short))) => {
            assert!(end.is_none() && !at_end_too);
            assert_eq!(short.partial, rest);
            *taken += rest.len();
        }
        Some(Err(ReadError::Overrun(overrun))) => {
            // Nothing is taken; no piece within the limit was there.
            assert!(end.is_none_or(|end| end > limit), "{overrun}: but a piece of {end:?} fits in {limit}");
        }
        Some(Err(other)) => panic!("{other}"),
    }
}
