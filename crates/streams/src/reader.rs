//! asyncio's reader, around any `AsyncRead`.
//!
//! ```text
//!   ask the buffer ── reached ──► take, in the statement that returns
//!        ▲  └── not reached, or ended ──► poll the stream once ── pending ──► wait
//!        └──────────────── append what came ◄──┘
//! ```
//!
//! S1. Bytes come from the stream into the buffer in one step, with no await in between.
//! S2. Bytes leave the buffer only in the poll that is ready. So a read future can be dropped at any time: what it had not
//!     returned is still there for the next.
//! S3. The stream is asked only when the buffer cannot answer, for at most the limit at a time: a slow consumer makes a
//!     slow producer.
//! S4. A reader that waits holds no buffer of its own: bytes are first read into a buffer of the thread's, and only as many
//!     as came are kept. Copying them costs less than memory for each of thousands of idle connections.
//! S5. Every read spends budget before it asks the buffer: of what came at once there may be thousands of lines.

use crate::buffer::{Buffer, Goal, Separators};
use crate::error::ReadError;
use crate::split::OwnedReadHalf;
use crate::tcp::TcpStream;
use evenloop_core::budget::poll_spend;
use futures_core::Stream;
use futures_io::{AsyncBufRead, AsyncRead};
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io::{self, Read as _};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// How many bytes a separator is looked for in, unless another limit is set: 64 KiB, as in asyncio.
const DEFAULT_LIMIT: usize = 64 * 1024;

/// Reads a stream of bytes in asyncio's words: so many bytes, up to a separator, line by line.
///
/// Reads from `R`, any `AsyncRead`. Every read takes `&mut self`, so that two tasks cannot read at once.
///
/// Differs from asyncio: a line that is too long stays in the reader (asyncio throws it away).
///
/// # Examples
///
/// ```
/// use evenloop_streams::StreamReader;
/// # futures::executor::block_on(async {
/// let mut reader = StreamReader::new(&b"GET / HTTP/1.1\r\nhost: here\r\n\r\nbody"[..]);
/// assert_eq!(reader.readline().await?, b"GET / HTTP/1.1\r\n");
/// assert_eq!(reader.readuntil(b"\r\n\r\n").await?, b"host: here\r\n\r\n");
/// assert_eq!(reader.readexactly(2).await?, b"bo");
/// assert_eq!(reader.read(100).await?, b"dy");
/// assert!(reader.read(100).await?.is_empty());
/// assert!(reader.at_eof());
/// # Ok::<(), evenloop_streams::ReadError>(()) }).unwrap();
/// ```
#[doc(alias = "BufReader")]
pub struct StreamReader<R = OwnedReadHalf<TcpStream>> {
    stream: R,
    buffer: Buffer,
    limit: usize,
    /// The stream has said that no more comes.
    ended: bool,
}

impl<R> StreamReader<R> {
    /// A reader around `stream` with the default limit of 64 KiB.
    pub fn new(stream: R) -> Self {
        Self::with_limit(stream, DEFAULT_LIMIT)
    }

    /// A reader that looks for separators within `limit_bytes`.
    ///
    /// # Panics
    ///
    /// `StreamReader` needs a limit of at least one byte.
    pub fn with_limit(stream: R, limit_bytes: usize) -> Self {
        assert!(limit_bytes > 0, "`StreamReader` needs a limit of at least one byte");
        Self { stream, buffer: Buffer::default(), limit: limit_bytes, ended: false }
    }

    /// How many bytes a separator is looked for in.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Changes the limit, for the reads that begin from now on.
    ///
    /// # Panics
    ///
    /// `StreamReader` needs a limit of at least one byte.
    pub fn set_limit(&mut self, limit_bytes: usize) {
        assert!(limit_bytes > 0, "`StreamReader` needs a limit of at least one byte");
        self.limit = limit_bytes;
    }

    /// Whether the stream has ended and everything is taken.
    pub fn at_eof(&self) -> bool {
        self.ended && self.buffer.is_empty()
    }

    /// What has come and is not yet taken.
    pub fn buffered(&self) -> &[u8] {
        self.buffer.filled()
    }

    /// Gives up the first `n` bytes of what is buffered: a way to go on after [`LimitOverrun`](crate::LimitOverrun).
    ///
    /// # Panics
    ///
    /// Fewer than `n` bytes are buffered.
    pub fn discard(&mut self, n: usize) {
        self.buffer.discard(n);
    }

    /// The stream itself. Reading from it by hand goes past what is buffered.
    pub fn get_ref(&self) -> &R {
        &self.stream
    }

    /// The stream itself. Reading from it by hand goes past what is buffered.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.stream
    }

    /// Puts bytes behind what is buffered, for those who read from the stream by hand.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.append(bytes);
    }

    /// Takes everything that is buffered.
    pub(crate) fn take_buffered(&mut self) -> Vec<u8> {
        self.buffer.take_all()
    }

    /// Takes the reader apart: the stream, and what had come from it and was not yet taken.
    pub fn into_parts(self) -> (R, Vec<u8>) {
        let Self { stream, mut buffer, .. } = self;
        (stream, buffer.take_all())
    }
}

impl<R: AsyncRead + Unpin> StreamReader<R> {
    /// Reads what is there: at least one byte and at most `n`, or nothing at the end of the stream.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Dropping the future loses no byte.
    ///
    /// # Errors
    ///
    /// The stream failed.
    pub fn read(&mut self, n: usize) -> Reading<'_, '_, R, io::Error> {
        self.reading(Goal::Some(n))
    }

    /// Reads everything up to the end of the stream, whatever the limit.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Dropping the future loses no byte.
    ///
    /// # Errors
    ///
    /// The stream failed; what had come is still in the reader.
    pub fn read_to_end(&mut self) -> Reading<'_, '_, R, io::Error> {
        self.reading(Goal::All)
    }

    /// Reads `n` bytes, also more than the limit.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Dropping the future loses no byte.
    ///
    /// # Errors
    ///
    /// [`Incomplete`](ReadError::Incomplete) with what there was, if the stream ends first; [`Io`](ReadError::Io) if it
    /// fails.
    #[doc(alias = "read_exact")]
    pub fn readexactly(&mut self, n: usize) -> Reading<'_, '_, R> {
        self.reading(Goal::Exactly(n))
    }

    /// Reads up to and with `separator`.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Dropping the future loses no byte.
    ///
    /// # Errors
    ///
    /// [`Overrun`](ReadError::Overrun) if there are more than `limit` bytes before the separator: everything is still in
    /// the reader. [`Incomplete`](ReadError::Incomplete) with what there was, if the stream ends first;
    /// [`Io`](ReadError::Io) if it fails.
    ///
    /// # Panics
    ///
    /// `readuntil` needs a separator of at least one byte.
    pub fn readuntil<'s>(&mut self, separator: &'s [u8]) -> Reading<'_, 's, R> {
        assert!(!separator.is_empty(), "`readuntil` needs a separator of at least one byte");
        self.reading(Goal::Until { separators: Separators::One(separator), searched: 0 })
    }

    /// Reads up to and with one of `separators`: the one whose match ends first.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Dropping the future loses no byte.
    ///
    /// # Errors
    ///
    /// As [`readuntil`](Self::readuntil).
    ///
    /// # Panics
    ///
    /// `readuntil_any` needs separators, of at least one byte each.
    pub fn readuntil_any<'s>(&mut self, separators: &'s [&'s [u8]]) -> Reading<'_, 's, R> {
        let usable = !separators.is_empty() && separators.iter().all(|separator| !separator.is_empty());
        assert!(usable, "`readuntil_any` needs separators, of at least one byte each");
        self.reading(Goal::Until { separators: Separators::Any(separators), searched: 0 })
    }

    /// Reads a line with its newline; the last one may lack it, and after that there is nothing.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Dropping the future loses no byte.
    ///
    /// # Errors
    ///
    /// [`Overrun`](ReadError::Overrun) if there are more than `limit` bytes before the newline: everything is still in the
    /// reader. [`Io`](ReadError::Io) if the stream fails.
    #[doc(alias = "read_line")]
    pub fn readline(&mut self) -> Reading<'_, '_, R> {
        self.reading(Goal::Line { searched: 0 })
    }

    /// The lines as they come, each with its newline. Ends with the stream, and after the first error.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Dropping the stream of lines loses no byte.
    pub fn lines(&mut self) -> Lines<'_, R> {
        Lines { reader: self, searched: 0, failed: false }
    }

    /// What comes, as it comes, in pieces of at most the limit. Ends with the stream, and after the first error.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Dropping the stream of pieces loses no byte.
    pub fn chunks(&mut self) -> Chunks<'_, R> {
        Chunks { reader: self, failed: false }
    }

    /// Reads once, whatever is buffered already. False: the stream has ended.
    pub(crate) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if !self.ended {
            ready!(self.poll_fill(cx))?;
        }
        Poll::Ready(Ok(!self.ended))
    }

    fn reading<'s, E>(&mut self, goal: Goal<'s>) -> Reading<'_, 's, R, E> {
        Reading { reader: self, goal, fails_with: PhantomData }
    }

    fn poll_goal(&mut self, goal: &mut Goal<'_>, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>, ReadError>> {
        ready!(poll_spend(cx)); // S5
        loop {
            if let Some(reached) = goal.reach(&mut self.buffer, self.ended, self.limit) {
                return Poll::Ready(reached); // S2
            }
            ready!(self.poll_fill(cx))?;
        }
    }

    /// Reads once from the stream into the buffer (S1).
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = Room::take();
        let most = self.limit.min(room.bytes.len()); // S3
        let n = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room.bytes[..most]))?;
        let came = room.bytes[..most].get(..n).ok_or_else(|| {
            io::Error::other(format!("the stream says that it read {n} bytes into room for {most}"))
        })?;
        self.buffer.append(came);
        self.ended = n == 0;
        Poll::Ready(Ok(()))
    }
}

impl<R> fmt::Debug for StreamReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.ended { ", ended" } else { "" };
        write!(f, "StreamReader [buffered: {}, limit: {}{end}]", self.buffer.len(), self.limit)
    }
}

// === futures-io ===

/// What is buffered first, then the stream itself, straight into `buf`.
impl<R: AsyncRead + Unpin> AsyncRead for StreamReader<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.buffer.is_empty() && !this.ended && !buf.is_empty() {
            let n = ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            this.ended = n == 0;
            return Poll::Ready(Ok(n));
        }
        ready!(poll_spend(cx)); // S5
        let n = this.buffer.filled().read(buf)?;
        this.buffer.discard(n);
        Poll::Ready(Ok(n))
    }
}

impl<R: AsyncRead + Unpin> AsyncBufRead for StreamReader<R> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        ready!(poll_spend(cx)); // S5
        let this = self.get_mut();
        if this.buffer.is_empty() && !this.ended {
            ready!(this.poll_fill(cx))?;
        }
        Poll::Ready(Ok(this.buffer.filled()))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        self.buffer.discard(amount);
    }
}

// === Reading, Lines, Chunks ===

/// A read of a [`StreamReader`]. Dropping it loses no byte.
#[must_use = "futures do nothing unless awaited"]
pub struct Reading<'a, 's, R, E = ReadError> {
    reader: &'a mut StreamReader<R>,
    goal: Goal<'s>,
    fails_with: PhantomData<fn() -> E>,
}

impl<R: AsyncRead + Unpin, E: From<ReadError>> Future for Reading<'_, '_, R, E> {
    type Output = Result<Vec<u8>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { reader, goal, .. } = &mut *self;
        reader.poll_goal(goal, cx).map_err(E::from)
    }
}

impl<R, E> fmt::Debug for Reading<'_, '_, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reading [{:?} of {:?}]", self.goal, self.reader)
    }
}

/// The lines of a [`StreamReader`]: see [`StreamReader::lines`].
#[must_use = "streams do nothing unless polled"]
pub struct Lines<'a, R> {
    reader: &'a mut StreamReader<R>,
    searched: usize,
    failed: bool,
}

impl<R: AsyncRead + Unpin> Stream for Lines<'_, R> {
    type Item = Result<Vec<u8>, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { reader, searched, failed } = &mut *self;
        if *failed {
            return Poll::Ready(None);
        }
        let mut goal = Goal::Line { searched: *searched };
        let polled = reader.poll_goal(&mut goal, cx);
        *searched = match goal {
            Goal::Line { searched } if polled.is_pending() => searched,
            _ => 0,
        };
        let line = ready!(polled);
        *failed = line.is_err();
        Poll::Ready(Some(line).filter(|line| !matches!(line, Ok(line) if line.is_empty())))
    }
}

impl<R> fmt::Debug for Lines<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lines [of {:?}]", self.reader)
    }
}

/// What comes to a [`StreamReader`], as it comes: see [`StreamReader::chunks`].
#[must_use = "streams do nothing unless polled"]
pub struct Chunks<'a, R> {
    reader: &'a mut StreamReader<R>,
    failed: bool,
}

impl<R: AsyncRead + Unpin> Stream for Chunks<'_, R> {
    type Item = io::Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { reader, failed } = &mut *self;
        if *failed {
            return Poll::Ready(None);
        }
        let most = reader.limit;
        let chunk = ready!(reader.poll_goal(&mut Goal::Some(most), cx)).map_err(io::Error::from);
        *failed = chunk.is_err();
        Poll::Ready(Some(chunk).filter(|chunk| !matches!(chunk, Ok(chunk) if chunk.is_empty())))
    }
}

impl<R> fmt::Debug for Chunks<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunks [of {:?}]", self.reader)
    }
}

// === Room ===

/// Room to read into, one a thread; borrowed for one poll, and given back when it is dropped (S4).
///
/// A reader that is polled while another one is being polled on the same thread, TLS say, finds it lent and gets room of
/// its own.
pub(crate) struct Room {
    pub(crate) bytes: Box<[u8]>,
}

std::thread_local! {
    static ROOM: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

impl Room {
    pub(crate) fn take() -> Self {
        let lent = ROOM.try_with(Cell::take).ok().flatten();
        Self { bytes: lent.unwrap_or_else(|| vec![0; DEFAULT_LIMIT].into()) }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let _ = ROOM.try_with(|room| room.set(Some(bytes)));
    }
}
