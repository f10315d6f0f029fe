//! The two halves of a TLS stream.
//!
//! Reading may have to write (an answer to the peer's alert) and writing may have to read nothing but shares the keys, so the
//! halves share the stream, behind a lock that is held for one poll. A stream below knows one waker for each direction; were
//! it the half's own, the reader's writing would take the writer's place there. So it is given a waker that wakes both.
//!
//! H1. A half puts its waker into its slot before it polls the stream with the waker of both.
//! H2. A wake takes what is in the slots: a half that is woken between H1 and its poll is polled again, and fills its slot
//!     again. So no half waits with an empty slot unless its wake-up is on its way.

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
struct Both {
    reader: Mutex<Option<Waker>>,
    writer: Mutex<Option<Waker>>,
}

impl Wake for Both {
    fn wake(self: StdArc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &StdArc<Self>) {
        let due = [self.reader.lock().take(), self.writer.lock().take()]; // H2
        due.into_iter().flatten().for_each(Waker::wake);
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
        slot: impl Fn(&Both) -> &Mutex<Option<Waker>>,
        cx: &Context<'_>,
        poll: impl FnOnce(Pin<&mut TlsStream<S>>, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<R>
    where
        S: Unpin,
    {
        let mine = cx.waker().clone();
        let before = slot(&self.both).lock().replace(mine); // H1
        drop(before);
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
        self.0.poll(|both| &both.reader, cx, |stream, cx| stream.poll_read(cx, buf))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsWriteHalf<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll(|both| &both.writer, cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll(|both| &both.writer, cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll(|both| &both.writer, cx, |stream, cx| stream.poll_close(cx))
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
