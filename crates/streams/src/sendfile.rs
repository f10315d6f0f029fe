//! Files into streams, without a copy through the program.
//!
//! ```text
//!            ┌── sent some ──┐
//!            ▼               │
//! Kernel ── sendfile(2) ─────┴── the file's end, or all that was asked for ─► position set, Done
//!   │ the first call is refused                                                 ▲
//!   ▼                                                                           │
//! Copy ── read at the offset ── write, as far as it goes ───────────────────────┘
//! ```
//!
//! F1. `sent` counts bytes that the stream has taken. Bytes that were read and not taken count as not sent.
//! F2. However it ends (done, failed, dropped), the file's position is the offset plus `sent`.
//! F3. One poll sends at most [`MOST`] bytes, so that others have their turn also when the peer is faster than the disk.

use crate::async_fd::AsyncFd;
use crate::pipe::Sender;
use crate::split::{OwnedWriteHalf, Split, WriteHalf, sealed::Duplex};
use crate::tcp::TcpStream;
use crate::unix::UnixStream;
use evenloop_core::Direction;
use futures_io::AsyncWrite;
use std::error::Error;
use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The most that one poll sends, and that one copy takes.
const MOST: usize = 1024 * 1024;
const COPY: usize = 256 * 1024;

/// A stream that can be sent files. Those of this crate let the kernel do it; for a stream of your own an empty `impl` is
/// enough, and the bytes are copied.
pub trait TakesFiles: AsyncWrite {
    /// Has the kernel send at most `count` bytes of `file` from `offset` on.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) if the kernel cannot do that: then the bytes are copied.
    fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        file: BorrowedFd<'_>,
        offset: u64,
        count: usize,
    ) -> Poll<io::Result<usize>> {
        let _ = (cx, file, offset, count);
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

/// Sends `file` through `stream`, from its beginning to its end, and answers how many bytes that were: asyncio's
/// `sendfile`. See [`SendFile`] for parts of a file.
///
/// The kernel moves the bytes where it can; else they are copied through a buffer of 256 KiB. The file's position when it
/// begins does not matter; when it ends, in whatever way, the position is behind the last byte that was sent. What was
/// written to a [`StreamWriter`](crate::StreamWriter) goes first if its own `sendfile` is used.
///
/// Reading from a disk blocks the thread, here as in asyncio: a file that is not in memory is better sent from a thread.
///
/// # Cancel safety
///
/// **Cancel safe.** The file's position says how far it got: go on with that as the offset.
///
/// # Errors
///
/// The stream or the file failed: see [`SendFileFailed`], which says how many bytes were sent.
///
/// # Examples
///
/// ```no_run
/// # use evenloop_streams::{TcpStream, sendfile};
/// # async fn example(mut stream: TcpStream) -> std::io::Result<()> {
/// let mut file = std::fs::File::open("video.mkv")?;
/// let sent = sendfile(&mut stream, &mut file).offset(1_000_000).count(500_000).await?;
/// # Ok(()) }
/// ```
pub fn sendfile<'a, W: TakesFiles + Unpin>(stream: &'a mut W, file: &'a mut File) -> SendFile<'a, W> {
    SendFile {
        stream,
        file,
        offset: 0,
        count: u64::MAX,
        sent: 0,
        way: Way::Kernel { fall_back: true },
        buffer: Vec::new(),
        of_file: false,
    }
}

/// The future of [`sendfile`].
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use evenloop_streams::{TcpStream, sendfile};
/// use std::fs::File;
///
/// let mut stream = TcpStream::connect(([127, 0, 0, 1], 9000).into()).await?;
/// let mut file = File::open("video.mp4")?;
/// let sent = sendfile(&mut stream, &mut file).offset(1 << 20).count(64 * 1024).fallback(false).await?;
/// println!("{sent} bytes, none of which came through here");
/// # Ok(()) }
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct SendFile<'a, W> {
    stream: &'a mut W,
    file: &'a mut File,
    offset: u64,
    count: u64,
    sent: u64,
    way: Way,
    /// Read and not yet taken by the stream.
    buffer: Vec<u8>,
    /// The failure was not the stream's.
    of_file: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Kernel {
        fall_back: bool,
    },
    Copy,
    /// Over, and the position is set (F2).
    Done,
}

impl<W> SendFile<'_, W> {
    /// Begins at this byte of the file instead of the first.
    pub fn offset(mut self, offset_bytes: u64) -> Self {
        self.offset = offset_bytes;
        self
    }

    /// Sends at most so many bytes. Fewer are sent if the file ends first.
    pub fn count(mut self, count_bytes: u64) -> Self {
        self.count = count_bytes;
        self
    }

    /// Whether to copy where the kernel cannot send by itself; else that fails, with
    /// [`Unsupported`](io::ErrorKind::Unsupported), asyncio's `SendfileNotAvailableError`. Default: true.
    #[doc(alias = "SendfileNotAvailableError")]
    pub fn fallback(mut self, fallback: bool) -> Self {
        self.way = Way::Kernel { fall_back: fallback };
        self
    }

    fn left(&self) -> u64 {
        self.count - self.sent
    }

    /// F2.
    fn set_position(&mut self) -> io::Result<()> {
        self.way = Way::Done;
        self.file.seek(SeekFrom::Start(self.offset + self.sent)).map(drop)
    }
}

impl<W: TakesFiles + Unpin> SendFile<'_, W> {
    /// Sends until all is sent or this poll has sent enough (F3).
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let before = self.sent;
        while self.left() > 0 {
            if self.sent - before >= MOST as u64 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let n = match self.way {
                Way::Kernel { fall_back } => match ready!(self.poll_kernel(cx)) {
                    Ok(sent) => sent,
                    Err(error) if error.kind() == io::ErrorKind::Unsupported && fall_back => {
                        self.way = Way::Copy;
                        continue;
                    }
                    Err(error) => {
                        self.of_file = error.kind() == io::ErrorKind::Unsupported;
                        return Poll::Ready(Err(error));
                    }
                },
                Way::Copy => ready!(self.poll_copy(cx))?,
                Way::Done => return Poll::Ready(Ok(())),
            };
            if n == 0 {
                break; // the end of the file
            }
            self.sent += n as u64;
        }
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_kernel(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let count = self.left().min(MOST as u64) as usize;
        let Some(from) = self.offset.checked_add(self.sent) else { return Poll::Ready(Ok(0)) };
        self.stream.poll_send_file(cx, self.file.as_fd(), from, count)
    }

    fn poll_copy(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.is_empty() {
            let Some(from) = self.offset.checked_add(self.sent) else { return Poll::Ready(Ok(0)) };
            self.buffer.resize(self.left().min(COPY as u64) as usize, 0);
            let read = read_at(self.file, &mut self.buffer, from);
            self.buffer.truncate(*read.as_ref().unwrap_or(&0));
            self.of_file = read.is_err();
            if read? == 0 {
                return Poll::Ready(Ok(0));
            }
        }
        let n = ready!(Pin::new(&mut *self.stream).poll_write(cx, &self.buffer))?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        if n > self.buffer.len() {
            let lie = format!("the stream says that it wrote {n} bytes of {}", self.buffer.len());
            return Poll::Ready(Err(io::Error::other(lie)));
        }
        self.buffer.drain(..n);
        Poll::Ready(Ok(n))
    }
}

fn read_at(file: &File, room: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(room, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

impl<W: TakesFiles + Unpin> Future for SendFile<'_, W> {
    type Output = io::Result<u64>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let ended = ready!(self.poll_send(cx));
        let sent = self.sent;
        let positioned = self.set_position();
        self.of_file |= ended.is_ok();
        Poll::Ready(match ended.and(positioned) {
            Ok(()) => Ok(sent),
            Err(cause) => {
                let failed = SendFileFailed { sent, stream_is_fine: self.of_file, cause };
                Err(io::Error::new(failed.cause.kind(), failed))
            }
        })
    }
}

impl<W> Drop for SendFile<'_, W> {
    fn drop(&mut self) {
        if self.way != Way::Done {
            // A file that cannot be positioned has no position to be wrong about.
            let _ = self.set_position();
        }
    }
}

impl<W> fmt::Debug for SendFile<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendFile [{:?}, sent: {} from {}]", self.way, self.sent, self.offset)
    }
}

/// A file was not sent, or not all of it: how much was, and why no more. Lies inside the `io::Error`.
///
/// # Examples
///
/// ```no_run
/// # async fn example(mut stream: evenloop_streams::TcpStream, mut file: std::fs::File) -> std::io::Result<()> {
/// use evenloop_streams::{SendFileFailed, sendfile};
///
/// if let Err(error) = sendfile(&mut stream, &mut file).await {
///     let failed = SendFileFailed::of(&error).expect("every failure says how far it got");
///     let stream = if failed.stream_is_fine() { "fine" } else { "gone" };
///     println!("{} bytes are on their way, and the stream is {stream}", failed.sent());
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct SendFileFailed {
    sent: u64,
    stream_is_fine: bool,
    cause: io::Error,
}

impl SendFileFailed {
    /// The failure inside `error`, if it comes from [`sendfile`].
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Whether the stream is certainly as good as before: the file could not be read, or not in the way that was asked for.
    pub fn stream_is_fine(&self) -> bool {
        self.stream_is_fine
    }

    /// How many bytes the stream had taken; the file's position is behind them.
    pub fn sent(&self) -> u64 {
        self.sent
    }
}

impl fmt::Display for SendFileFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sending a file, after {} bytes: {}", self.sent, self.cause)
    }
}

impl Error for SendFileFailed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

// === The streams of this crate ===

impl<T: AsFd> AsyncFd<T> {
    /// `sendfile(2)`, in the owner's place of the writing direction.
    pub(crate) fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        file: BorrowedFd<'_>,
        offset: u64,
        count: usize,
    ) -> Poll<io::Result<usize>> {
        // A short answer proves nothing: the file may have ended.
        self.poll_with(Direction::Write, cx, |io| kernel_sends(io.as_fd(), file, offset, count), |_| false)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn kernel_sends(
    to: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    mut offset: u64,
    count: usize,
) -> io::Result<usize> {
    use rustix::io::Errno;
    match rustix::fs::sendfile(to, file, Some(&mut offset), count) {
        // Not this kind of file, or not into this kind of stream.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::SPIPE) => {
            Err(io::ErrorKind::Unsupported.into())
        }
        sent => Ok(sent?),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn kernel_sends(_: BorrowedFd<'_>, _: BorrowedFd<'_>, _: u64, _: usize) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

macro_rules! take_files {
    ($([$($generics:tt)*] $stream:ty: $this:ident => $inner:expr;)*) => {$(
        impl<$($generics)*> TakesFiles for $stream {
            fn poll_send_file(
                &self,
                cx: &mut Context<'_>,
                file: BorrowedFd<'_>,
                offset: u64,
                count: usize,
            ) -> Poll<io::Result<usize>> {
                let $this = self;
                $inner.poll_kernel_send(cx, file, offset, count)
            }
        }
    )*};
}

take_files! {
    [] TcpStream: this => this;
    [] UnixStream: this => this;
    [] Sender: this => this;
    [S: Split] WriteHalf<'_, S>: this => this.0;
    [S: Split] OwnedWriteHalf<S>: this => this.shared();
}
