//! asyncio's writer, around any `AsyncWrite`.
//!
//! ```text
//!          write                     drain, wait_closed            wait_closed
//! Open ─────────────► what the kernel takes at once is sent, ──► all is sent ──► Closed
//!  │                  the rest is kept                    │
//!  └── close ──► Closing (nothing more may be written) ───┘      any failure ──► Failed, for good
//! ```
//!
//! W1. Bytes leave in the order in which they were written, each once, also across futures that were dropped.
//! W2. Nothing is sent in the background. What `write` could not send at once waits for `drain` or `wait_closed`; that is
//!     why both always send everything unless water marks are set.
//! W3. A failure stays: every later call reports it, and what was not sent is given up.
//!
//! Discussion: asyncio's transports send in the background, at the price of one more task or callback a connection that
//! owns the socket. Here a writer is a plain value that can be taken apart at any time, and costs nothing between calls.

use crate::buffer::Buffer;
use crate::sendfile::{SendFileFailed, TakesFiles, sendfile};
use crate::split::OwnedWriteHalf;
use crate::tcp::TcpStream;
use evenloop_core::Runtime;
use evenloop_core::budget::poll_spend;
use futures_io::AsyncWrite;
use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Writes a stream of bytes in asyncio's words: `write` never waits, `drain` waits until the bytes are on their way.
///
/// Writes to `W`, any `AsyncWrite`. Every call takes `&mut self`, so that the bytes of two tasks cannot mix.
///
/// Differs from asyncio: nothing is sent in the background, so a `write` is complete only after [`drain`](Self::drain) (or
/// [`wait_closed`](Self::wait_closed)); `write` answers a failure instead of dropping the bytes silently; the address and
/// other facts about the connection come from the stream itself, by [`get_ref`](Self::get_ref).
///
/// # Examples
///
/// ```
/// use evenloop_streams::StreamWriter;
/// # futures::executor::block_on(async {
/// let mut writer = StreamWriter::new(Vec::new());
/// writer.write(b"hello ")?;
/// writer.writelines([b"wide ", b"world"])?;
/// writer.drain().await?;
/// assert_eq!(writer.get_ref(), b"hello wide world");
/// writer.close();
/// writer.wait_closed().await?;
/// # Ok::<(), std::io::Error>(()) }).unwrap();
/// ```
#[doc(alias = "BufWriter")]
pub struct StreamWriter<W = OwnedWriteHalf<TcpStream>> {
    stream: W,
    /// Written and not yet taken by the stream.
    unsent: Unsent,
    /// How to send without waiting, if the stream can without a waker.
    send_now: Option<SendNow<W>>,
    /// The water marks, high and low, if they were set: few are.
    marks: Option<Box<(usize, usize)>>,
    state: State,
}

/// One call to a stream that answers "would block" instead of waiting.
pub(crate) type SendNow<W> = fn(&W, &[u8]) -> io::Result<usize>;

#[derive(Debug)]
enum State {
    Open,
    Closing,
    Closed,
    /// The kind and the text of the failure (W3).
    Failed(Box<(io::ErrorKind, Box<str>)>),
}

impl<W> StreamWriter<W> {
    /// A writer around `stream`. It sends in [`drain`](Self::drain) only; the writers that `open_connection` and
    /// `start_server` give out also send in [`write`](Self::write), as far as the kernel takes the bytes.
    pub fn new(stream: W) -> Self {
        let unsent = Unsent::default();
        Self { stream, unsent, send_now: None, marks: None, state: State::Open }
    }

    pub(crate) fn sending_now(stream: W, send_now: SendNow<W>) -> Self {
        Self { send_now: Some(send_now), ..Self::new(stream) }
    }

    /// Writes `bytes`, without waiting: sends what the stream takes at once, and keeps the rest for
    /// [`drain`](Self::drain). Keeps any number of bytes; waiting in `drain` is what keeps them few.
    ///
    /// # Errors
    ///
    /// The stream failed, now or before; or [`close`](Self::close) was called. Nothing is kept then.
    #[doc(alias = "write_all")]
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.check_open("write")?;
        let sent = if self.unsent.0.is_empty() { self.send(bytes)? } else { 0 };
        self.unsent.0.append(&bytes[sent..]);
        Ok(())
    }

    /// Writes all of `lines`, one after the other, in one piece. Adds no newlines.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    #[doc(alias = "write_vectored")]
    pub fn writelines<B: AsRef<[u8]>>(&mut self, lines: impl IntoIterator<Item = B>) -> io::Result<()> {
        self.check_open("writelines")?;
        let sends_now = self.unsent.0.is_empty();
        lines.into_iter().for_each(|line| self.unsent.0.append(line.as_ref()));
        if sends_now {
            let lines = self.unsent.0.take_all();
            let sent = self.send(&lines)?;
            self.unsent.0.append(&lines[sent..]);
        }
        Ok(())
    }

    /// Sends what the stream takes at once, if it can tell without a waker.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(send_now) = self.send_now else { return Ok(0) };
        loop {
            match send_now(&self.stream, bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return sent.map_err(|error| self.fail(error)),
            }
        }
    }

    /// From how many unsent bytes on [`drain`](Self::drain) waits (`high_bytes`), and down to how many (`low_bytes`). Both
    /// start as 0: `drain` waits until all is sent.
    ///
    /// # Panics
    ///
    /// `set_write_buffer_limits` needs low marks no higher than high ones.
    pub fn set_write_buffer_limits(&mut self, high_bytes: usize, low_bytes: usize) {
        assert!(
            low_bytes <= high_bytes,
            "`set_write_buffer_limits` needs low marks no higher than high ones"
        );
        self.marks = Some(Box::new((high_bytes, low_bytes)));
    }

    /// How many bytes are written and not yet taken by the stream.
    pub fn write_buffer_size(&self) -> usize {
        self.unsent.0.len()
    }

    /// Lets nothing more be written. [`wait_closed`](Self::wait_closed) sends what is left and closes the stream.
    pub fn close(&mut self) {
        if matches!(self.state, State::Open) {
            self.state = State::Closing;
        }
    }

    /// Whether [`close`](Self::close) was called, or the stream failed.
    pub fn is_closing(&self) -> bool {
        !matches!(self.state, State::Open)
    }

    /// The stream itself: its addresses, its options.
    pub fn get_ref(&self) -> &W {
        &self.stream
    }

    /// The stream itself. Writing to it by hand goes past what is not yet sent.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.stream
    }

    /// Takes the writer apart: the stream, and what was written and not yet sent.
    pub fn into_parts(self) -> (W, Vec<u8>) {
        let Self { stream, mut unsent, .. } = self;
        (stream, unsent.0.take_all())
    }

    fn check_open(&self, call: &'static str) -> io::Result<()> {
        match &self.state {
            State::Open => Ok(()),
            State::Closing | State::Closed => {
                let message = format!("`{call}` after `close`: the writer is closing");
                Err(io::Error::new(io::ErrorKind::BrokenPipe, message))
            }
            State::Failed(why) => Err(again(why)),
        }
    }

    /// Notes a failure for good (W3), and gives it back.
    fn fail(&mut self, error: io::Error) -> io::Error {
        self.unsent.0 = Buffer::default();
        self.state = State::Failed(Box::new((error.kind(), error.to_string().into())));
        error
    }
}

impl<W: AsyncWrite + Unpin> StreamWriter<W> {
    /// Waits until everything written is sent; with water marks set, only if more than the high mark is unsent, and
    /// until no more than the low mark is.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** What is not yet sent stays in the writer, in order.
    ///
    /// # Errors
    ///
    /// The stream failed, now or before.
    #[doc(alias = "flush")]
    pub fn drain(&mut self) -> Draining<'_, W> {
        let (high, low) = self.marks.as_deref().copied().unwrap_or_default();
        let enough = Until::AtMost(if self.unsent.0.len() > high { low } else { high });
        Draining { writer: self, until: enough }
    }

    /// Sends everything and then the end of the stream. Reading goes on; nothing more may be written.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** What is not yet sent stays in the writer; call again, or [`wait_closed`](Self::wait_closed).
    ///
    /// # Errors
    ///
    /// The stream failed, now or before.
    #[doc(alias = "shutdown")]
    pub fn write_eof(&mut self) -> Draining<'_, W> {
        self.wait_closed()
    }

    /// Closes the writer, sends everything, then ends the stream. A socket is closed when its reading half is dropped too.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** What is not yet sent stays in the writer; call again to go on.
    ///
    /// # Errors
    ///
    /// The stream failed, now or before.
    pub fn wait_closed(&mut self) -> Draining<'_, W> {
        self.close();
        Draining { writer: self, until: Until::Closed }
    }

    /// Sends what was written so far, then `count_bytes` of `file` (or all there is) from `offset_bytes` on, and answers how
    /// many bytes of the file were sent: asyncio's `sendfile`. Nothing else can be written meanwhile.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** What was written stays in the writer, and the file's position says how far the file got.
    ///
    /// # Errors
    ///
    /// As [`sendfile`](crate::sendfile()); or [`close`](Self::close) was called, or the stream failed before. After a failure of the file
    /// (nothing else) the writer can be used on.
    pub async fn sendfile(
        &mut self,
        file: &mut File,
        offset_bytes: u64,
        count_bytes: Option<u64>,
    ) -> io::Result<u64>
    where
        W: TakesFiles,
    {
        self.check_open("sendfile")?;
        Draining { writer: self, until: Until::AtMost(0) }.await?;
        let sending =
            sendfile(&mut self.stream, file).offset(offset_bytes).count(count_bytes.unwrap_or(u64::MAX));
        sending.await.map_err(|error| match SendFileFailed::of(&error) {
            Some(failed) if failed.stream_is_fine() => error,
            _ => self.fail(error),
        })
    }

    fn poll_until(&mut self, until: Until, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.state {
            State::Failed(why) => return Poll::Ready(Err(again(why))),
            State::Closed => return Poll::Ready(Ok(())),
            State::Open | State::Closing => {}
        }
        let polled = ready!(self.poll_stream(until, cx));
        Poll::Ready(polled.map_err(|error| self.fail(error)))
    }

    fn poll_stream(&mut self, until: Until, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let enough = match until {
            Until::AtMost(enough) => enough,
            Until::Closed => 0,
        };
        let mut stream = Pin::new(&mut self.stream);
        while self.unsent.0.len() > enough {
            let room = self.unsent.0.len();
            match ready!(stream.as_mut().poll_write(cx, self.unsent.0.filled()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n if n > room => {
                    let lie = format!("the stream says that it wrote {n} bytes of {room}");
                    return Poll::Ready(Err(io::Error::other(lie)));
                }
                n => self.unsent.0.discard(n), // W1
            }
        }
        if until == Until::Closed {
            ready!(stream.poll_close(cx))?;
            self.state = State::Closed;
            return Poll::Ready(Ok(()));
        }
        // Streams that keep bytes themselves, TLS say.
        stream.poll_flush(cx)
    }
}

/// A failure, told once more.
fn again((kind, why): &(io::ErrorKind, Box<str>)) -> io::Error {
    io::Error::new(*kind, why.as_ref())
}

impl<W> fmt::Debug for StreamWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Open => "open",
            State::Closing => "closing",
            State::Closed => "closed",
            State::Failed(..) => "failed",
        };
        write!(f, "StreamWriter [{state}, unsent: {}]", self.unsent.0.len())
    }
}

/// What was written and not yet sent. Dropping a writer with bytes in it is a mistake that a debug build tells of, and every
/// build in debug mode.
#[derive(Debug, Default)]
struct Unsent(Buffer);

impl Drop for Unsent {
    fn drop(&mut self) {
        if self.0.is_empty() || std::thread::panicking() {
            return;
        }
        let what = || {
            let unsent = self.0.len();
            format!(
                "a StreamWriter was dropped with {unsent} bytes unsent: await `drain` or `wait_closed` first"
            )
        };
        if !cfg!(debug_assertions) {
            return Runtime::report_in_debug(what);
        }
        match Runtime::current_spawn("StreamWriter") {
            Ok(host) => host.report(&what()),
            Err(_) => eprintln!("{}", what()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// No more than so many bytes are unsent.
    AtMost(usize),
    /// Everything is sent, and the end too.
    Closed,
}

/// Sends what a [`StreamWriter`] holds. Dropping it loses no byte.
#[must_use = "futures do nothing unless awaited"]
pub struct Draining<'a, W> {
    writer: &'a mut StreamWriter<W>,
    until: Until,
}

impl<W: AsyncWrite + Unpin> Future for Draining<'_, W> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(poll_spend(cx)); // a stream that takes everything at once may never make anybody wait
        let until = self.until;
        self.writer.poll_until(until, cx)
    }
}

impl<W> fmt::Debug for Draining<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Draining [{:?} of {:?}]", self.until, self.writer)
    }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_write_that_is_interrupted_is_sent_all_the_same() {
        let interrupted_once = |calls: &Cell<u32>, bytes: &[u8]| match calls.replace(calls.get() + 1) {
            0 => Err(io::ErrorKind::Interrupted.into()),
            _ => Ok(bytes.len()),
        };
        let mut writer = StreamWriter::sending_now(Cell::new(0), interrupted_once);
        writer.write(b"now").unwrap();
        assert_eq!((writer.write_buffer_size(), writer.get_ref().get()), (0, 2));
    }
}
