//! `StreamReader`: what it returns, and that dropping a read loses nothing.

use evenloop_streams::{LimitOverrun, ReadError, StreamReader};
use futures::{AsyncRead, AsyncReadExt, StreamExt};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

/// A stream that gives what the script says, poll after poll.
struct Script(VecDeque<Step>);

#[derive(Clone, Debug)]
enum Step {
    Bytes(Vec<u8>),
    Pending,
    Fails,
}

impl AsyncRead for Script {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.0.pop_front() {
            None => Poll::Ready(Ok(0)),
            Some(Step::Pending) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Step::Fails) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Some(Step::Bytes(mut bytes)) => {
                let n = bytes.len().min(buf.len());
                buf[..n].copy_from_slice(&bytes[..n]);
                if n < bytes.len() {
                    bytes.drain(..n);
                    self.0.push_front(Step::Bytes(bytes));
                }
                Poll::Ready(Ok(n))
            }
        }
    }
}

fn pieces(pieces: &[&[u8]]) -> StreamReader<Script> {
    let steps = pieces.iter().flat_map(|piece| [Step::Pending, Step::Bytes(piece.to_vec())]);
    StreamReader::new(Script(steps.collect()))
}

fn block_on<F: Future>(future: F) -> F::Output {
    futures::executor::block_on(future)
}

#[test]
fn reads_in_asyncios_words() {
    block_on(async {
        let mut reader = pieces(&[b"one\ntw", b"o\nthr", b"ee!four", b"five"]);
        assert_eq!(reader.readline().await.unwrap(), b"one\n");
        assert_eq!(reader.readline().await.unwrap(), b"two\n");
        assert_eq!(reader.readuntil(b"!").await.unwrap(), b"three!");
        assert_eq!(reader.readexactly(6).await.unwrap(), b"fourfi");
        assert_eq!(reader.read(0).await.unwrap(), b"");
        assert_eq!(reader.read(100).await.unwrap(), b"ve");
        assert!(!reader.at_eof(), "the stream has not said so yet");
        assert_eq!(reader.read(100).await.unwrap(), b"");
        assert!(reader.at_eof());
        assert_eq!(reader.readline().await.unwrap(), b"");
    });
}

#[test]
fn the_end_before_the_goal_gives_back_what_there_was() {
    block_on(async {
        let mut reader = pieces(&[b"abc"]);
        match reader.readexactly(5).await {
            Err(ReadError::Incomplete(incomplete)) => {
                assert_eq!((&incomplete.partial[..], incomplete.expected), (&b"abc"[..], Some(5)));
                assert_eq!(incomplete.to_string(), "the stream ended after 3 of 5 bytes");
            }
            other => panic!("{other:?}"),
        }
        assert!(reader.at_eof());
        let mut reader = pieces(&[b"abc"]);
        assert!(matches!(reader.readuntil(b"!").await, Err(ReadError::Incomplete(_))));
        let mut reader = pieces(&[b"abc"]);
        assert_eq!(reader.readline().await.unwrap(), b"abc");
    });
}

#[test]
fn a_line_that_is_too_long_stays_and_there_are_three_ways_on() {
    let long = || {
        let mut reader = pieces(&[b"0123456789", b"abcdef\nnext\n"]);
        reader.set_limit(8);
        reader
    };
    let overrun = |result| match result {
        Err(ReadError::Overrun(overrun)) => overrun,
        other => panic!("{other:?}"),
    };
    block_on(async {
        let mut reader = long();
        let LimitOverrun { consumed, limit } = overrun(reader.readline().await);
        assert_eq!((consumed, limit), (10, 8));
        assert_eq!(reader.buffered(), b"0123456789", "nothing is thrown away");
        assert_eq!(reader.readexactly(consumed).await.unwrap(), b"0123456789");
        assert_eq!(reader.readline().await.unwrap(), b"abcdef\n");

        let mut reader = long();
        overrun(reader.readline().await);
        reader.set_limit(100);
        assert_eq!(reader.readline().await.unwrap(), b"0123456789abcdef\n");

        let mut reader = long();
        let overrun = overrun(reader.readline().await);
        reader.discard(overrun.consumed);
        assert_eq!(reader.readline().await.unwrap(), b"abcdef\n");
        assert_eq!(reader.readline().await.unwrap(), b"next\n");
    });
}

#[test]
fn of_several_separators_the_one_that_ends_first_counts() {
    block_on(async {
        let mut reader = pieces(&[b"ab", b"cdXY", b"Z;rest"]);
        assert_eq!(reader.readuntil_any(&[b";", b"XYZ", b"bcdX"]).await.unwrap(), b"abcdX");
        assert_eq!(reader.readuntil_any(&[b"YZ;", b";"]).await.unwrap(), b"YZ;");
    });
}

#[test]
fn of_separators_that_end_together_the_shortest_counts() {
    block_on(async {
        let mut reader = pieces(&[b"one\r\ntwo"]);
        reader.set_limit(3);
        match reader.readuntil_any(&[b"\r\n", b"\n"]).await {
            Err(ReadError::Overrun(LimitOverrun { consumed: 4, limit: 3 })) => {} // the carriage return is before it
            other => panic!("{other:?}"),
        }
        assert_eq!(reader.readuntil(b"\r\n").await.unwrap(), b"one\r\n");
    });
}

#[test]
#[should_panic(expected = "`readuntil` needs a separator of at least one byte")]
fn an_empty_separator_is_a_mistake() {
    drop(pieces(&[]).readuntil(b""));
}

#[test]
#[should_panic(expected = "`readuntil_any` needs separators, of at least one byte each")]
fn an_empty_separator_among_others_is_a_mistake() {
    drop(pieces(&[]).readuntil_any(&[b";", b""]));
}

#[test]
fn an_error_leaves_what_came_before_it() {
    block_on(async {
        let steps = [Step::Bytes(b"abc".to_vec()), Step::Fails];
        let mut reader = StreamReader::new(Script(steps.into()));
        match reader.readexactly(5).await {
            Err(ReadError::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
            other => panic!("{other:?}"),
        }
        assert_eq!(reader.readexactly(3).await.unwrap(), b"abc");
    });
}

#[test]
fn a_stream_that_lies_about_its_length_is_an_error() {
    struct Lies;
    impl AsyncRead for Lies {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(buf.len() + 1))
        }
    }
    let error = block_on(StreamReader::with_limit(Lies, 4).read(1)).unwrap_err();
    assert_eq!(error.to_string(), "the stream says that it read 5 bytes into room for 4");
}

#[test]
fn lines_and_chunks_are_streams() {
    block_on(async {
        let mut reader = pieces(&[b"a\nbb", b"\nc"]);
        let lines: Vec<_> = reader.lines().map(Result::unwrap).collect().await;
        assert_eq!(lines, [&b"a\n"[..], b"bb\n", b"c"]);
        let mut reader = pieces(&[b"abc", b"de"]);
        let chunks: Vec<_> = reader.chunks().map(Result::unwrap).collect().await;
        assert_eq!(chunks, [&b"abc"[..], b"de"]);
    });
}

#[test]
fn what_is_buffered_comes_first_when_the_reader_is_used_as_a_stream() {
    block_on(async {
        let mut reader = pieces(&[b"head\nbo", b"dy"]);
        assert_eq!(reader.readline().await.unwrap(), b"head\n");
        let mut body = Vec::new();
        AsyncReadExt::read_to_end(&mut reader, &mut body).await.unwrap();
        assert_eq!(body, b"body");

        let mut reader = pieces(&[b"head\nbo", b"dy"]);
        let mut line = String::new();
        futures::AsyncBufReadExt::read_line(&mut reader, &mut line).await.unwrap();
        let (_, rest) = reader.into_parts();
        assert_eq!((line.as_str(), &rest[..]), ("head\n", &b"bo"[..]));
    });
}

/// One read, as the reader and as its naive twin know it.
#[derive(Clone, Debug)]
enum Ask {
    Some(usize),
    Exactly(usize),
    Until(Vec<Vec<u8>>),
    Line,
}

fn asks() -> impl Strategy<Value = Ask> {
    let byte = || 0..4_u8; // few, so that separators are met
    prop_oneof![
        (0..9_usize).prop_map(Ask::Some),
        (0..9_usize).prop_map(Ask::Exactly),
        prop::collection::vec(prop::collection::vec(byte(), 1..3), 1..3).prop_map(Ask::Until),
        Just(Ask::Line),
    ]
}

/// The naive twin: everything has come already.
fn twin(ask: &Ask, rest: &mut Vec<u8>, limit: usize) -> Result<Vec<u8>, String> {
    let until = |separators: &[Vec<u8>], rest: &mut Vec<u8>| {
        for end in 1..=rest.len() {
            let matches = separators.iter().filter(|separator| rest[..end].ends_with(separator));
            if let Some(shortest) = matches.map(Vec::len).min() {
                let start = end - shortest;
                return if start > limit {
                    Err("overrun".to_owned())
                } else {
                    Ok(Some(rest.drain(..end).collect()))
                };
            }
        }
        let longest = separators.iter().map(Vec::len).max().unwrap();
        if (rest.len() + 1).saturating_sub(longest) > limit { Err("overrun".to_owned()) } else { Ok(None) }
    };
    match ask {
        Ask::Some(n) => Ok(rest.drain(..rest.len().min(*n)).collect()),
        Ask::Exactly(n) if *n <= rest.len() => Ok(rest.drain(..n).collect()),
        Ask::Exactly(_) => Err(format!("incomplete {:?}", std::mem::take(rest))),
        Ask::Until(separators) => match until(separators, rest)? {
            Some(found) => Ok(found),
            None => Err(format!("incomplete {:?}", std::mem::take(rest))),
        },
        Ask::Line => Ok(until(&[b"\x03".to_vec()], rest)?.unwrap_or_else(|| std::mem::take(rest))),
    }
}

/// Polls a read at most `polls` times, then drops it.
fn poll_some<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    (0..polls).find_map(|_| match future.as_mut().poll(&mut cx) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    })
}

proptest! {
    /// However the input is cut, and after however many polls each read is dropped and asked again, the reader answers
    /// as its twin, to whom everything had come at once.
    #[test]
    fn dropping_reads_at_any_poll_loses_no_bytes(
        input in prop::collection::vec(0..4_u8, 0..60),
        cuts in prop::collection::vec(1..7_usize, 1..20),
        asks in prop::collection::vec((asks(), 0..3_usize), 1..20),
        limit in 4..20_usize,
    ) {
        let mut steps = VecDeque::new();
        let mut rest = &input[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, later) = rest.split_at(rest.len().min(*cut));
            steps.extend([Step::Pending, Step::Bytes(piece.to_vec())]);
            rest = later;
        }
        let mut reader = StreamReader::with_limit(Script(steps), limit);
        let mut rest = input.clone();
        for (ask, polls) in asks {
            // `read` may return less than the twin, but a prefix of it, and something if there is something.
            if let Ask::Some(n) = ask {
                poll_some(reader.read(n), polls).map(|got| rest_starts_with(&mut rest, got.unwrap(), n)).transpose()?;
                let got = block_on(reader.read(n)).unwrap();
                rest_starts_with(&mut rest, got, n)?;
                continue;
            }
            let separators: Vec<&[u8]> = match &ask {
                Ask::Until(separators) => separators.iter().map(Vec::as_slice).collect(),
                _ => Vec::new(),
            };
            let mut attempt = |polls| match &ask {
                Ask::Exactly(n) => poll_some(reader.readexactly(*n), polls),
                Ask::Until(_) => poll_some(reader.readuntil_any(&separators), polls),
                // The alphabet has no newline, so a line is read up to 3, as the twin does.
                _ => poll_some(reader.readuntil(b"\x03"), polls),
            };
            let result = attempt(polls).or_else(|| attempt(usize::MAX)).expect("the script ends");
            let line = matches!(ask, Ask::Line);
            let result = match result {
                Ok(bytes) => Ok(bytes),
                Err(ReadError::Incomplete(incomplete)) if line => Ok(incomplete.partial),
                Err(ReadError::Incomplete(incomplete)) => Err(format!("incomplete {:?}", incomplete.partial)),
                Err(ReadError::Overrun(_)) => Err("overrun".to_owned()),
                Err(ReadError::Io(error)) => Err(error.to_string()),
            };
            prop_assert_eq!(result, twin(&ask, &mut rest, limit), "{:?}", ask);
        }
        let left = block_on(reader.read_to_end()).unwrap();
        prop_assert_eq!(left, rest);
    }
}

fn rest_starts_with(rest: &mut Vec<u8>, got: Vec<u8>, most: usize) -> Result<(), TestCaseError> {
    prop_assert!(got.len() <= most);
    prop_assert!(rest.starts_with(&got), "{:?} is no prefix of {:?}", got, rest);
    prop_assert_eq!(got.is_empty(), rest.is_empty() || most == 0);
    rest.drain(..got.len());
    Ok(())
}
