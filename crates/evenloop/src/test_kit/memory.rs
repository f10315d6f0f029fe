//! A connection in memory: two ends of a byte stream, as slow and as bad as a test wants it, on the loop's clock.
//!
//! ```text
//! end ── write ──► segments, each with the time at which it is there ──► read ── other end      and the same way back
//! ```
//!
//! M1. Bytes come in the order in which they were written, and each once: a segment that is lost is sent again, and what
//!     was written after it is not there before it is.
//! M2. What is lost, and how late what is not lost comes, depends on the seed and on the writes alone.
//! M3. Wakers run after the lock, and are dropped after it.

use super::random::Random;
use crate::time::{Sleep, now, sleep_until};
use evenloop_core::budget::poll_spend;
use evenloop_core::shim::{Mutex, StdArc};
use evenloop_core::watch::{self, On};
use evenloop_core::{Runtime, WakeBatch, deadline_after};
use futures_io::{AsyncRead, AsyncWrite};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

/// How often a segment is sent again before the connection is given up.
const RESENDS: u32 = 8;

/// What a connection in memory is like: see [`stream_pair`]. By default it is perfect.
#[derive(Clone, Debug)]
#[must_use = "`stream_pair` makes a connection that is like this"]
pub struct Link {
    seed: u64,
    latency: Duration,
    jitter: Duration,
    loss: f64,
    resend_after: Duration,
    capacity_bytes: usize,
    segment_bytes: usize,
}

impl Link {
    /// Nothing is late and nothing is lost; 64 KiB each way, in segments of 1460 bytes.
    pub fn new() -> Self {
        Self {
            seed: 0,
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            resend_after: Duration::from_millis(200),
            capacity_bytes: 64 * 1024,
            segment_bytes: 1460,
        }
    }

    /// Decides what is lost and how late the rest is. Default: 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How long a segment is on its way, at least. Default: not at all.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// By how much longer than the latency a segment may be on its way. Default: not at all.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// The share of segments that are lost, from 0 to 1. One that is lost is sent again after
    /// [`resend_after`](Self::resend_after), then after twice that, and so on; when it has been lost nine times, the
    /// connection fails on both ends with [`TimedOut`](ErrorKind::TimedOut). Default: 0.
    ///
    /// # Panics
    ///
    /// When `loss` is not from 0 to 1.
    pub fn loss(mut self, loss: f64) -> Self {
        assert!((0.0..=1.0).contains(&loss), "`Link::loss` is a share, from 0 to 1, and not {loss}");
        self.loss = loss;
        self
    }

    /// After how long a lost segment is sent again for the first time. Default: 200 ms, as in TCP.
    pub fn resend_after(mut self, pause: Duration) -> Self {
        self.resend_after = pause;
        self
    }

    /// How many bytes there may be on the way and unread in each direction; who writes more waits. Default: 64 KiB.
    ///
    /// # Panics
    ///
    /// When it is 0.
    pub fn capacity_bytes(mut self, capacity_bytes: usize) -> Self {
        assert!(capacity_bytes > 0, "`Link::capacity_bytes`: nothing passes a link of 0 bytes");
        self.capacity_bytes = capacity_bytes;
        self
    }

    /// The most that one write takes, and that one read gives: with 1 each byte comes alone. Default: 1460.
    ///
    /// # Panics
    ///
    /// When it is 0.
    pub fn segment_bytes(mut self, segment_bytes: usize) -> Self {
        assert!(segment_bytes > 0, "`Link::segment_bytes`: a segment has at least 1 byte");
        self.segment_bytes = segment_bytes;
        self
    }

    /// What a segment that is sent now needs to know of time: `None` if it is there at once.
    fn now(&self) -> Option<Instant> {
        (self.loss > 0.0 || !self.latency.is_zero() || !self.jitter.is_zero()).then(now)
    }

    /// As [`now`](Self::now), for a drop, which may come where no clock is: then nothing is late.
    fn now_if_known(&self) -> Option<Instant> {
        Runtime::current_timers("drop").is_ok().then(|| self.now()).flatten()
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}

/// Two ends of a connection in memory, which is like `link`: what is written to one is read from the other.
///
/// Each is an [`AsyncRead`] and [`AsyncWrite`], for clients and servers that take any stream, and splits into halves for a
/// [`StreamReader`](crate::streams::StreamReader) and a [`StreamWriter`](crate::streams::StreamWriter). Ends may be on
/// different threads. It behaves as TCP does:
///
/// - Closing an end, or dropping its writing half, is a half-close: the other end reads what was written, then the end.
/// - Writing to an end whose reading half is gone fails with [`BrokenPipe`](ErrorKind::BrokenPipe).
/// - Dropping an end with bytes unread fails the other with [`ConnectionReset`](ErrorKind::ConnectionReset).
///
/// A link with latency, jitter or loss needs a runtime with timers; on the virtual clock it takes no time, and the same
/// seed gives the same connection. One without needs none.
///
/// # Examples
///
/// ```
/// use evenloop::streams::{StreamReader, StreamWriter};
/// use evenloop::test_kit::{Link, stream_pair};
/// use std::time::Duration;
///
/// # #[evenloop::main(virtual_clock)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (client, server) = stream_pair(Link::new().latency(Duration::from_millis(40)).loss(0.1).seed(7));
/// let (_, writer) = client.split();
/// let (reader, _) = server.split();
/// let (mut writer, mut reader) = (StreamWriter::new(writer), StreamReader::new(reader));
/// writer.write(b"hello\n")?;
/// writer.drain().await?;
/// assert_eq!(reader.readline().await?, b"hello\n");
/// # Ok(())
/// # }
/// ```
#[doc(alias("memory_stream_pair", "duplex"))]
pub fn stream_pair(link: Link) -> (MemoryStream, MemoryStream) {
    let mut seeds = Random::new(link.seed);
    let way = |seed| Way { random: Random::new(seed), ..Way::default() };
    let ways = [way(seeds.next()), way(seeds.next())];
    let wire = Wire(StdArc::new(Mutex::new(State { link, ways, failure: None })));
    (wire.end(0), wire.end(1))
}

/// One end of a connection in memory: see [`stream_pair`].
#[derive(Debug)]
pub struct MemoryStream {
    reader: MemoryReader,
    writer: MemoryWriter,
}

/// The reading half of a [`MemoryStream`].
pub struct MemoryReader {
    wire: Wire,
    /// Which way it reads from.
    way: usize,
    timer: Option<Sleep>,
}

/// The writing half of a [`MemoryStream`]. Dropping it sends the end of the stream.
pub struct MemoryWriter {
    wire: Wire,
    /// Which way it writes to.
    way: usize,
    timer: Option<Sleep>,
}

/// The wire between two ends, in the hands of a test that wants to hurt it. Clones are the same wire.
#[derive(Clone)]
pub struct Wire(StdArc<Mutex<State>>);

struct State {
    link: Link,
    ways: [Way; 2],
    /// From when on both ends fail, and how; `None` for when: at once.
    failure: Option<(Option<Instant>, ErrorKind)>,
}

/// One direction.
struct Way {
    segments: VecDeque<Segment>,
    /// Bytes in `segments`.
    held: usize,
    /// When the newest segment is there (M1).
    newest: Option<Instant>,
    random: Random,
    /// The end is among the segments.
    closed: bool,
    reader_gone: bool,
    writer_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Segment {
    /// `None`: at once.
    there: Option<Instant>,
    /// Empty: the end of the stream.
    bytes: VecDeque<u8>,
}

impl Default for Way {
    fn default() -> Self {
        Self {
            segments: VecDeque::new(),
            held: 0,
            newest: None,
            random: Random::new(0),
            closed: false,
            reader_gone: false,
            writer_gone: false,
            reader: None,
            writer: None,
        }
    }
}

/// What a poll comes to.
enum Turn<T> {
    Done(io::Result<T>),
    /// Until somebody wakes it, or this time.
    Wait(Option<Instant>),
}

impl State {
    /// The error of both ends, if it is time for it.
    fn failed(&self) -> Option<io::Error> {
        let (from, kind) = self.failure?;
        from.is_none_or(|from| from <= now()).then(|| io::Error::new(kind, "the connection in memory failed"))
    }

    fn fails_at(&self) -> Option<Instant> {
        self.failure.and_then(|(from, _)| from)
    }

    /// Both ends fail from then on, unless they have or will before.
    fn fail(&mut self, from: Option<Instant>, kind: ErrorKind, wakers: &mut WakeBatch) {
        if self.failure.is_none_or(|(before, _)| before > from) {
            self.failure = Some((from, kind));
        }
        let ways = self.ways.iter_mut();
        ways.flat_map(|way| [way.reader.take(), way.writer.take()]).flatten().for_each(|it| wakers.push(it));
    }

    /// Sends a segment at `now`: decides when it is there, or that the connection fails.
    fn send(&mut self, index: usize, bytes: &[u8], now: Option<Instant>, wakers: &mut WakeBatch) {
        let there = now.map(|now| self.time_of_arrival(index, now));
        let way = &mut self.ways[index];
        way.held += bytes.len();
        way.closed |= bytes.is_empty();
        if self.failure.is_some() {
            return; // M1: what was given up is not overtaken
        }
        let there = match there {
            Some(Err(given_up)) => return self.fail(Some(given_up), ErrorKind::TimedOut, wakers),
            Some(Ok(there)) => Some(there),
            None => None,
        };
        way.newest = way.newest.max(there);
        way.segments.push_back(Segment { there: way.newest, bytes: bytes.iter().copied().collect() });
        way.reader.take().into_iter().for_each(|it| wakers.push(it));
    }

    /// When a segment that is sent at that time is there.
    ///
    /// # Errors
    ///
    /// It was lost too often; from when on the connection fails.
    fn time_of_arrival(&mut self, index: usize, mut sent: Instant) -> Result<Instant, Instant> {
        let Link { latency, jitter, loss, resend_after: mut pause, .. } = self.link;
        let random = &mut self.ways[index].random;
        for _ in 0..=RESENDS {
            let late = jitter.mul_f64(random.fraction());
            if random.fraction() >= loss {
                return Ok(deadline_after(sent, latency.saturating_add(late)));
            }
            sent = deadline_after(sent, pause);
            pause = pause.saturating_mul(2);
        }
        Err(sent)
    }

    fn read(&mut self, index: usize, buf: &mut [u8], wakers: &mut WakeBatch) -> Turn<usize> {
        if let Some(error) = self.failed() {
            return Turn::Done(Err(error));
        }
        let fails_at = self.fails_at();
        let way = &mut self.ways[index];
        let Some(segment) = way.segments.front_mut() else { return Turn::Wait(fails_at) };
        if let Some(there) = segment.there.filter(|there| *there > now()) {
            return Turn::Wait(Some(fails_at.map_or(there, |fails_at| fails_at.min(there))));
        }
        let count = io::Read::read(&mut segment.bytes, buf).expect("memory can be read");
        if segment.bytes.is_empty() && count > 0 {
            way.segments.pop_front(); // the end stays
        }
        way.held -= count;
        way.writer.take().into_iter().for_each(|it| wakers.push(it));
        Turn::Done(Ok(count))
    }

    fn write(&mut self, index: usize, bytes: &[u8], wakers: &mut WakeBatch) -> Turn<usize> {
        if let Some(error) = self.failed() {
            return Turn::Done(Err(error));
        }
        let way = &self.ways[index];
        let broken = match () {
            () if way.closed => "written to after it was closed",
            () if way.reader_gone => "nobody reads at the other end",
            () if way.held < self.link.capacity_bytes => {
                let room = self.link.capacity_bytes - way.held;
                let count = bytes.len().min(room).min(self.link.segment_bytes);
                self.send(index, &bytes[..count], self.link.now(), wakers);
                return Turn::Done(Ok(count));
            }
            () => return Turn::Wait(self.fails_at()),
        };
        Turn::Done(Err(io::Error::new(ErrorKind::BrokenPipe, broken)))
    }

    /// A half has gone; with both of them bytes that nobody will read any more reset the connection.
    fn half_is_gone(&mut self, reads: usize, wakers: &mut WakeBatch) {
        let writes = 1 - reads;
        if self.ways[reads].reader_gone && self.ways[writes].writer_gone && self.ways[reads].held > 0 {
            let way = &self.ways[writes];
            let from = way.newest; // as late as the end of the stream would be
            self.fail(from, ErrorKind::ConnectionReset, wakers);
        }
    }
}

impl Wire {
    fn end(&self, index: usize) -> MemoryStream {
        let reader = MemoryReader { wire: self.clone(), way: index, timer: None };
        let writer = MemoryWriter { wire: self.clone(), way: 1 - index, timer: None };
        MemoryStream { reader, writer }
    }

    /// M3.
    fn change<R>(&self, f: impl FnOnce(&mut State, &mut WakeBatch) -> R) -> R {
        let mut wakers = WakeBatch::new();
        let outcome = f(&mut self.0.lock(), &mut wakers);
        wakers.wake_all();
        outcome
    }

    /// Has both ends fail from now on, with such an error: what was on its way and what was not read is lost.
    pub fn fail(&self, kind: ErrorKind) {
        self.change(|state, wakers| state.fail(None, kind, wakers));
    }

    /// What is written from now on finds the wire like `link`; its seed is not looked at. A loss of 1 is a network that is
    /// cut in two.
    pub fn set_link(&self, link: Link) {
        let seed = self.0.lock().link.seed;
        self.change(|state, wakers| {
            state.link = Link { seed, ..link };
            state.ways.iter_mut().filter_map(|way| way.writer.take()).for_each(|it| wakers.push(it));
        });
    }

    /// Polls with `turn`; `waker` is where to note who waits, and `timer` wakes it when time alone helps.
    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        timer: &mut Option<Sleep>,
        call: &'static str,
        waker: impl Fn(&mut State) -> &mut Option<Waker>,
        turn: impl Fn(&mut State, &mut WakeBatch) -> Turn<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(poll_spend(cx));
            let mine = cx.waker().clone();
            let mut before = None;
            let until = self.change(|state, wakers| {
                let turn = turn(state, wakers);
                if matches!(turn, Turn::Wait(_)) {
                    before = waker(state).replace(mine);
                }
                turn
            });
            drop(before);
            let until = match until {
                Turn::Done(outcome) => {
                    *timer = None;
                    return Poll::Ready(outcome);
                }
                Turn::Wait(until) => until,
            };
            *timer = until.map(sleep_until);
            let is_time = timer.as_mut().is_some_and(|timer| Pin::new(timer).poll(cx).is_ready());
            if !is_time {
                watch::wait(cx.waker(), call, || On::object(&*self.0));
                return Poll::Pending;
            }
        }
    }
}

// === impl MemoryStream ===

impl MemoryStream {
    /// The two halves, for two tasks.
    pub fn split(self) -> (MemoryReader, MemoryWriter) {
        (self.reader, self.writer)
    }

    /// The wire to the other end, to hurt it.
    pub fn wire(&self) -> Wire {
        self.reader.wire.clone()
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_close(cx)
    }
}

impl AsyncRead for MemoryReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let Self { wire, way, timer } = self.get_mut();
        // Polled with one buffer, and filled at most once.
        let buf = std::cell::RefCell::new(buf);
        let turn =
            |state: &mut State, wakers: &mut WakeBatch| state.read(*way, &mut buf.borrow_mut(), wakers);
        wire.poll(cx, timer, "MemoryStream::read", |state| &mut state.ways[*way].reader, turn)
    }
}

impl AsyncWrite for MemoryWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let Self { wire, way, timer } = self.get_mut();
        let turn = |state: &mut State, wakers: &mut WakeBatch| state.write(*way, bytes, wakers);
        wire.poll(cx, timer, "MemoryStream::write", |state| &mut state.ways[*way].writer, turn)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let index = self.way;
        self.wire.change(|state, wakers| match state.failed() {
            Some(error) => Poll::Ready(Err(error)),
            None => {
                if !state.ways[index].closed {
                    state.send(index, &[], state.link.now(), wakers);
                }
                Poll::Ready(Ok(()))
            }
        })
    }
}

impl Drop for MemoryReader {
    fn drop(&mut self) {
        let index = self.way;
        self.wire.change(|state, wakers| {
            state.ways[index].reader_gone = true;
            state.ways[index].writer.take().into_iter().for_each(|it| wakers.push(it));
            state.half_is_gone(index, wakers);
        });
    }
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        let index = self.way;
        self.wire.change(|state, wakers| {
            state.ways[index].writer_gone = true;
            if !state.ways[index].closed {
                state.send(index, &[], state.link.now_if_known(), wakers);
            }
            state.half_is_gone(1 - index, wakers);
        });
    }
}

impl fmt::Debug for MemoryReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryReader [to be read: {}]", self.wire.0.lock().ways[self.way].held)
    }
}

impl fmt::Debug for MemoryWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryWriter [not read yet: {}]", self.wire.0.lock().ways[self.way].held)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        write!(f, "Wire [held: {} and {}", state.ways[0].held, state.ways[1].held)?;
        match &state.failure {
            Some((_, kind)) => write!(f, ", fails: {kind}]"),
            None => f.write_str("]"),
        }
    }
}
