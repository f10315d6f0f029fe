//! The sending half of a connection: what is unsent, our end of the stream, and a close in order.

use super::{Connection, Eof, Phase, TURN_READS};
use crate::reader::Room;
use crate::transport::wire::Wire;
use evenloop_core::{After, Runtime};
use futures_io::AsyncWrite;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

impl Connection {
    /// Sends what the stream takes at once of `bytes`, as the task would (C3).
    pub(super) fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let waker = self.waker.borrow();
        let mut cx = Context::from_waker(&waker);
        // A stream whose own code calls back here is busy; then the bytes wait for the task.
        let Ok(mut wire) = self.wire.try_borrow_mut() else { return Ok(0) };
        let Some(wire) = wire.as_mut() else { return Ok(0) };
        let mut sent = 0;
        while sent < bytes.len() {
            match write_some(wire, &mut cx, &bytes[sent..]) {
                Poll::Ready(Ok(n)) => sent += n,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        self.flushed.set(flush_all(wire, &mut cx)?.is_ready());
        Ok(sent)
    }

    /// Sends what the stream takes at once of what is unsent.
    pub(super) fn send_unsent(&self) -> io::Result<()> {
        let mut unsent = self.unsent.take();
        let sent = self.send_now(unsent.filled());
        match sent {
            Ok(sent) => {
                unsent.discard(sent);
                *self.unsent.borrow_mut() = unsent;
                Ok(())
            }
            Err(error) => {
                let answer = io::Error::new(error.kind(), error.to_string());
                self.end(Some(error));
                Err(answer)
            }
        }
    }

    /// Sends what is unsent, then the end if it is due. Answers whether everything is on its way.
    pub(super) fn poll_send(&self) -> bool {
        if !self.unsent.borrow().is_empty() || !self.flushed.get() {
            if self.send_unsent().is_err() {
                return false;
            }
            self.fell();
        }
        if !self.unsent.borrow().is_empty() || !self.flushed.get() {
            return false;
        }
        self.eof.get() != Eof::Due || self.poll_shut()
    }

    /// Ends our direction of the stream.
    fn poll_shut(&self) -> bool {
        let polled = {
            let waker = self.waker.borrow();
            let mut wire = self.wire.borrow_mut();
            let Some(wire) = wire.as_mut() else { return false };
            Pin::new(&mut wire.io).poll_close(&mut Context::from_waker(&waker))
        };
        match polled {
            Poll::Pending => false,
            Poll::Ready(Ok(())) => {
                self.eof.set(Eof::Sent);
                true
            }
            // The peer has ended in order and does not listen any more: what is left is our farewell.
            Poll::Ready(Err(_)) if self.has_ended.get() && self.phase.get() == Phase::Closing => true,
            Poll::Ready(Err(error)) => {
                self.end(Some(error));
                false
            }
        }
    }

    /// A close in order: sends everything, and where that is the custom waits for the peer's end.
    pub(super) fn poll_farewell(&self, cx: &mut Context<'_>) {
        let farewell = self.wire.borrow().as_ref().map(|wire| (wire.says_farewell, wire.lingers));
        let (says_farewell, lingers) = farewell.unwrap_or_default();
        if let Some(limit) = lingers {
            if self.is_overdue(limit, cx) {
                let message = "the peer has not ended the connection within the shutdown time-out";
                return self.end(Some(io::Error::new(io::ErrorKind::TimedOut, message)));
            }
        }
        if !self.poll_send() || self.phase.get() != Phase::Closing {
            return;
        }
        if says_farewell && self.eof.get() != Eof::Sent && !self.poll_shut() {
            return;
        }
        if lingers.is_none() || self.has_ended.get() || self.poll_discard(cx) {
            self.end(None);
        }
    }

    /// Whether a close has taken longer than `limit`. Without timers it never has.
    fn is_overdue(&self, limit: Duration, cx: &mut Context<'_>) -> bool {
        let mut farewell = self.farewell.borrow_mut();
        if farewell.is_none() {
            let timers = Runtime::current_timers("Transport::close").ok();
            *farewell = timers.map(|timers| After::new(timers, limit));
        }
        farewell.as_mut().is_some_and(|after| Pin::new(after).poll(cx).is_ready())
    }

    /// Reads what nobody wants any more, up to the end.
    fn poll_discard(&self, cx: &mut Context<'_>) -> bool {
        let mut room = Room::take();
        for _ in 0..TURN_READS {
            match self.poll_wire(cx, &mut room.bytes) {
                Poll::Pending => return false,
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return true,
            }
        }
        cx.waker().wake_by_ref(); // C6
        false
    }
}

/// One write to the stream: at least one byte, or an error.
fn write_some(wire: &mut Wire, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    Pin::new(&mut wire.io).poll_write(cx, bytes).map(|written| match written? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        n if n > bytes.len() => {
            Err(io::Error::other(format!("the stream says that it wrote {n} bytes of {}", bytes.len())))
        }
        n => Ok(n),
    })
}

fn flush_all(wire: &mut Wire, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
    match Pin::new(&mut wire.io).poll_flush(cx) {
        Poll::Ready(flushed) => flushed.map(Poll::Ready),
        Poll::Pending => Ok(Poll::Pending),
    }
}
