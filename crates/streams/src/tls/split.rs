//! The two halves of a TLS stream.
//!
//! Reading may have to write (an answer to the peer's alert) and writing may have to read nothing but shares the keys, so the
//! halves share the stream, behind a lock that is held for one poll. A stream below knows one waker for each direction; were
//! it the half's own, the reader's writing would take the writer's place there. So it is given a waker that wakes both.
//!
//! H1. A half puts its waker into its slot before it polls the stream with the waker of both.
//! H2. A wake takes what is in the slots: a half that is woken between H1 and its poll is polled again, and fills its slot
//!     again. So no half waits with an empty slot unless its wake-up is on its way.
//! H3. No waker runs under the lock of the stream, though a stream below may wake inside its own poll: while a half polls, a
//!     wake is noted, and whoever has polled delivers it when it has let go of the stream.

use super::info::TlsInfo;
use super::stream::TlsStream;
use evenloop_core::shim::{Mutex, StdArc};
use futures_io::{AsyncRead, AsyncWrite};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker};

/// The reading half of a [`TlsStream`].
pub struct TlsReadHalf<S>(StdArc<Shared<S>>);

/// The writing half of a [`TlsStream`]. Closing it says farewell; dropping it does not.
#[must_use = "dropping both halves cuts the connection"]
pub struct TlsWriteHalf<S>(StdArc<Shared<S>>);

struct Shared<S> {
    stream: Mutex<TlsStream<S>>,
    both: StdArc<Both>,
    waker: Waker,
}

/// The wakers of both halves.
#[derive(Default)]
struct Both(Mutex<Slots>);

#[derive(Default)]
struct Slots {
    /// The reader's and the writer's.
    wakers: [Option<Waker>; 2],
    /// How many poll, or wait for the lock to do so.
    polling: usize,
    /// A wake that whoever polls delivers (H3).
    noted: bool,
}

/// The slot of each half.
const READER: usize = 0;
const WRITER: usize = 1;

impl Wake for Both {
    fn wake(self: StdArc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &StdArc<Self>) {
        let due = {
            let mut slots = self.0.lock();
            if slots.polling > 0 {
                slots.noted = true;
                return;
            }
            std::mem::take(&mut slots.wakers) // H2
        };
        due.into_iter().flatten().for_each(Waker::wake);
    }
}

/// One who polls.
struct Polling<'a>(&'a Both);

impl<'a> Polling<'a> {
    fn begin(both: &'a Both, slot: usize, cx: &Context<'_>) -> Self {
        let mine = cx.waker().clone();
        let before = {
            let mut slots = both.0.lock();
            slots.polling += 1;
            slots.wakers[slot].replace(mine) // H1
        };
        drop(before);
        Self(both)
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        let due = {
            let mut slots = self.0.0.lock();
            slots.polling -= 1;
            match std::mem::take(&mut slots.noted) {
                true => std::mem::take(&mut slots.wakers), // H2
                false => return,
            }
        };
        due.into_iter().flatten().for_each(Waker::wake); // H3
    }
}

pub(super) fn halves<S>(stream: TlsStream<S>) -> (TlsReadHalf<S>, TlsWriteHalf<S>) {
    let both = StdArc::new(Both::default());
    let waker = Waker::from(both.clone());
    let shared = StdArc::new(Shared { stream: Mutex::new(stream), both, waker });
    (TlsReadHalf(shared.clone()), TlsWriteHalf(shared))
}

impl<S> Shared<S> {
    fn poll<R>(
        &self,
        slot: usize,
        cx: &Context<'_>,
        poll: impl FnOnce(Pin<&mut TlsStream<S>>, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<R>
    where
        S: Unpin,
    {
        let _polling = Polling::begin(&self.both, slot, cx); // dropped after the stream is unlocked (H3)
        let mut stream = self.stream.lock();
        poll(Pin::new(&mut *stream), &mut Context::from_waker(&self.waker))
    }
}

impl<S> TlsReadHalf<S> {
    /// What was agreed on with the peer.
    pub fn info(&self) -> TlsInfo {
        self.0.stream.lock().info()
    }

    /// Puts the two halves together again. `None` if they are not halves of the same stream; both are dropped then.
    pub fn reunite(self, other: TlsWriteHalf<S>) -> Option<TlsStream<S>> {
        if !StdArc::ptr_eq(&self.0, &other.0) {
            return None;
        }
        drop(other);
        StdArc::into_inner(self.0).map(|shared| shared.stream.into_inner())
    }
}

impl<S> TlsWriteHalf<S> {
    /// What was agreed on with the peer.
    pub fn info(&self) -> TlsInfo {
        self.0.stream.lock().info()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsReadHalf<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll(READER, cx, |stream, cx| stream.poll_read(cx, buf))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsWriteHalf<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll(WRITER, cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll(WRITER, cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll(WRITER, cx, |stream, cx| stream.poll_close(cx))
    }
}

impl<S> fmt::Debug for TlsReadHalf<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsReadHalf [{:?}]", self.info())
    }
}

impl<S> fmt::Debug for TlsWriteHalf<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsWriteHalf [{:?}]", self.info())
    }
}
