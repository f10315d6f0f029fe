//! The lines of stdout and stderr in one stream.

use super::pipes::ChildOutput;
use crate::error::ReadError;
use crate::reader::Lines;
use futures_core::Stream;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// How many lines come before others get a turn, the reactor too: else a child that writes without end into one pipe would
/// hide what it writes into the other.
const IN_A_ROW: u32 = 256;

/// Which of a child's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Its stdout.
    Stdout,
    /// Its stderr.
    Stderr,
}

/// The lines of a child's stdout and stderr, each with its source: see [`Process::lines`](super::Process::lines).
#[must_use = "streams do nothing unless polled"]
pub struct OutputLines<'a> {
    pub(super) stdout: Option<Lines<'a, ChildOutput>>,
    pub(super) stderr: Option<Lines<'a, ChildOutput>>,
    /// Which is asked first: the one that did not give the last line.
    pub(super) first: Source,
    /// How many lines came since others had a turn.
    pub(super) in_a_row: u32,
}

impl OutputLines<'_> {
    /// `None`: that one has ended, or never was.
    fn poll_source(
        &mut self,
        source: Source,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Vec<u8>, ReadError>>> {
        let lines = match source {
            Source::Stdout => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
        };
        let Some(open) = lines else { return Poll::Ready(None) };
        let polled = Pin::new(open).poll_next(cx);
        if let Poll::Ready(None) = polled {
            *lines = None;
        }
        polled
    }
}

impl Stream for OutputLines<'_> {
    type Item = Result<(Source, Vec<u8>), ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.in_a_row == IN_A_ROW {
            self.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let order = match self.first {
            Source::Stdout => [Source::Stdout, Source::Stderr],
            Source::Stderr => [Source::Stderr, Source::Stdout],
        };
        let mut ended = true;
        for source in order {
            match self.poll_source(source, cx) {
                Poll::Ready(Some(line)) => {
                    self.in_a_row += 1;
                    self.first = if source == order[0] { order[1] } else { order[0] };
                    return Poll::Ready(Some(line.map(|line| (source, line))));
                }
                Poll::Ready(None) => {}
                Poll::Pending => ended = false,
            }
        }
        self.in_a_row = 0;
        if ended { Poll::Ready(None) } else { Poll::Pending }
    }
}

impl fmt::Debug for OutputLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = |lines: &Option<Lines<'_, _>>| if lines.is_some() { "open" } else { "ended" };
        write!(f, "OutputLines [stdout {}, stderr {}]", state(&self.stdout), state(&self.stderr))
    }
}
