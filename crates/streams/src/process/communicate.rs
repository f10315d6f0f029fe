//! Feeding a child, reading all it writes and waiting for its end, all at once.
//!
//! ```text
//! every poll:   feed ──► stdin   (a broken pipe ends the feeding, not the call)
//!               read ◄── stdout, stderr   into their readers' buffers
//!               both at their end, and the child too ──► take the buffers, in the statement that returns them
//! ```
//!
//! M1. All three directions go on at every poll, so a child that waits to be read while we wait to be read by it is no
//!     deadlock.
//! M2. What was read stays in the readers until the poll that is ready, and what was not fed goes into the writer when this
//!     is dropped: calling again goes on where this was. Where nobody can call again it is given up.
//! M3. A poll reads at most so many pieces of each stream, so that a child that writes without end lets others run.

use super::Process;
use super::exit::Waiter;
use super::pipes::{ChildOutput, ChildStdin};
use crate::reader::StreamReader;
use crate::writer::StreamWriter;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::process::Output;
use std::task::{Context, Poll, ready};

/// How many bytes are written at once.
const PIECE: usize = 64 * 1024;

/// How many pieces of up to the limit a poll reads (M3).
const PIECES: usize = 16;

/// Feeds a child, reads all it writes and waits for its end: see [`Process::communicate`].
#[must_use = "futures do nothing unless awaited"]
pub struct Communicate<'p, 'i> {
    process: &'p mut Process,
    /// What is not yet given to the writer.
    input: &'i [u8],
    /// The child's end is enough, its pipes may go on.
    until_exit: bool,
    /// Nobody can go on where this is given up.
    is_last: bool,
    ended: Option<Waiter>,
}

impl<'p, 'i> Communicate<'p, 'i> {
    pub(super) fn new(process: &'p mut Process, input: &'i [u8]) -> Self {
        Self { process, input, until_exit: false, is_last: false, ended: None }
    }

    /// For a process that is not going to be fed any more, whatever comes of this.
    pub(super) fn last(mut self) -> Self {
        self.is_last = true;
        self
    }

    /// Does not wait for the end of the pipes, which a grandchild may hold: takes what is in them when the child ends.
    pub fn until_exit(mut self) -> Self {
        self.until_exit = true;
        self
    }

    fn poll_feed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stdin) = &mut self.process.stdin else { return Poll::Ready(Ok(())) };
        let fed = ready!(poll_write(stdin, &mut self.input, cx));
        self.input = &[];
        self.process.stdin = None; // the child reads the end of its input
        Poll::Ready(fed.or_else(|error| if is_broken(&error) { Ok(()) } else { Err(error) }))
    }
}

/// Writes on, up to the end.
fn poll_write(
    stdin: &mut StreamWriter<ChildStdin>,
    input: &mut &[u8],
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    loop {
        ready!(Pin::new(&mut stdin.drain()).poll(cx))?;
        if input.is_empty() {
            return Pin::new(&mut stdin.wait_closed()).poll(cx);
        }
        let (piece, rest) = input.split_at(input.len().min(PIECE));
        *input = rest;
        stdin.write(piece)?;
    }
}

/// Whether the child does not read its stdin (any more).
fn is_broken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Reads on, up to the end.
fn poll_read(
    reader: &mut Option<StreamReader<ChildOutput>>,
    limit: Option<usize>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let Some(reader) = reader else { return Poll::Ready(Ok(())) };
    for _ in 0..PIECES {
        within(reader, limit)?;
        if !ready!(reader.poll_more(cx))? {
            return Poll::Ready(Ok(()));
        }
    }
    cx.waker().wake_by_ref(); // M3
    Poll::Pending
}

/// An error if it holds more than it may.
fn within(reader: &StreamReader<ChildOutput>, limit: Option<usize>) -> io::Result<()> {
    match limit.filter(|limit| reader.buffered().len() > *limit) {
        None => Ok(()),
        Some(limit_bytes) => Err(io::Error::new(io::ErrorKind::FileTooLarge, OutputOverrun { limit_bytes })),
    }
}

/// Reads what the pipe holds now.
fn read_rest(reader: &mut Option<StreamReader<ChildOutput>>, limit: Option<usize>) -> io::Result<()> {
    let Some(reader) = reader else { return Ok(()) };
    let mut room = vec![0; PIECE];
    // A pipe holds a bounded number of bytes, but whoever else writes into it may go on for ever.
    for _ in 0..PIECES {
        match reader.get_ref().read_now(&mut room) {
            Ok(n @ 1..) => reader.feed(&room[..n]),
            Ok(0) | Err(_) => break,
        }
    }
    within(reader, limit)
}

impl Future for Communicate<'_, '_> {
    type Output = io::Result<Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let fed = this.poll_feed(cx)?.is_ready(); // M1
        let Process { stdout, stderr, handle, output_limit_bytes, .. } = &mut *this.process;
        let mut read = poll_read(stdout, *output_limit_bytes, cx)?.is_ready();
        read &= poll_read(stderr, *output_limit_bytes, cx)?.is_ready();
        let outcome = ready!(handle.child().exit.poll_ended(&mut this.ended, cx));
        if this.until_exit {
            read_rest(stdout, *output_limit_bytes)?;
            read_rest(stderr, *output_limit_bytes)?;
        } else if !(fed && read) {
            return Poll::Pending;
        }
        let status = handle.child().status(outcome)?;
        let take = |reader: &mut Option<StreamReader<ChildOutput>>| {
            reader.as_mut().map(StreamReader::take_buffered).unwrap_or_default()
        };
        Poll::Ready(Ok(Output { status, stdout: take(stdout), stderr: take(stderr) })) // M2
    }
}

impl Drop for Communicate<'_, '_> {
    fn drop(&mut self) {
        self.process.handle.child().exit.forget(&mut self.ended);
        if self.is_last {
            let given_up = self.process.stdin.take().map(StreamWriter::into_parts);
            return drop(given_up);
        }
        if let Some(stdin) = self.process.stdin.as_mut().filter(|_| !self.input.is_empty()) {
            // M2. It fails if the child does not read any more: then there is nothing to keep.
            let _ = stdin.write(self.input);
        }
    }
}

impl fmt::Debug for Communicate<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Communicate [with {:?}, to feed: {}]", self.process, self.input.len())
    }
}

/// A child wrote more than it was allowed to; see [`Command::output_limit`](super::Command::output_limit). What was read is
/// in the readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputOverrun {
    /// How many bytes each of its streams was allowed.
    pub limit_bytes: usize,
}

impl fmt::Display for OutputOverrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the child wrote more than {} bytes: raise `Command::output_limit`, or read them as they come",
            self.limit_bytes
        )
    }
}

impl Error for OutputOverrun {}
