//! The receiving half of a connection: what the stream has is handed to the protocol, in its way.

use super::{Connection, TURN_READS};
use crate::protocol::{AnyProtocol, BufferedProtocol, call};
use crate::reader::Room;
use crate::transport::flow;
use futures_io::AsyncRead;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

impl Connection {
    /// Reads and hands on, until there is nothing, or nobody wants it, or it is others' turn.
    pub(super) fn poll_receive(&self, cx: &mut Context<'_>) {
        let mut room = None;
        for _ in 0..TURN_READS {
            if !self.is_reading() {
                return; // C5
            }
            let Some(protocol) = self.protocol() else { return };
            let received = match &protocol {
                AnyProtocol::Streaming(protocol) => {
                    let room = room.get_or_insert_with(Room::take);
                    let polled = self.poll_some(cx, &mut room.bytes);
                    if let Poll::Ready(Ok(n @ 1..)) = polled {
                        self.guarded("data_received", || protocol.data_received(&room.bytes[..n]));
                    }
                    polled
                }
                AnyProtocol::Buffered(protocol) => {
                    let polled = self.poll_lent(cx, &**protocol);
                    if let Poll::Ready(Ok(n @ 1..)) = polled {
                        self.guarded("buffer_updated", || protocol.buffer_updated(n));
                    }
                    polled
                }
            };
            match received {
                Poll::Pending => return,
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => return self.received_eof(),
                Poll::Ready(Err(error)) => return self.end(Some(error)),
            }
        }
        cx.waker().wake_by_ref(); // C6
    }

    /// Reads into what the protocol lends.
    fn poll_lent(&self, cx: &mut Context<'_>, protocol: &dyn BufferedProtocol) -> Poll<io::Result<usize>> {
        let size_hint = match self.unread.borrow().len() {
            0 => flow::HIGH,
            unread => unread,
        };
        let mut lent = match call(&*self.host, "get_buffer", || protocol.get_buffer(size_hint)) {
            Ok(lent) => lent,
            Err(panicked) => return Poll::Ready(Err(panicked.into())),
        };
        if !self.is_reading() {
            return Poll::Pending; // `get_buffer` paused or ended it.
        }
        if lent.is_empty() {
            let message = "the protocol's `get_buffer` lent an empty buffer";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidInput, message)));
        }
        self.poll_some(cx, &mut lent)
    }

    /// What was put back, else what the stream has.
    fn poll_some(&self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        {
            let mut unread = self.unread.borrow_mut();
            if !unread.is_empty() {
                return Poll::Ready(Ok(unread.move_to(room)));
            }
        }
        if self.has_ended.get() {
            return Poll::Ready(Ok(0));
        }
        self.poll_wire(cx, room)
    }

    pub(super) fn poll_wire(&self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut wire = self.wire.borrow_mut();
        let Some(wire) = wire.as_mut() else { return Poll::Pending };
        let most = room.len();
        Pin::new(&mut wire.io).poll_read(cx, room).map(|read| match read? {
            n if n > most => {
                Err(io::Error::other(format!("the stream says that it read {n} bytes into room for {most}")))
            }
            n => Ok(n),
        })
    }

    /// For a connection that cannot be read from.
    pub(super) fn poll_nobody_listens(&self, cx: &mut Context<'_>) {
        match self.poll_wire(cx, &mut [0]) {
            Poll::Pending => {}
            Poll::Ready(Err(error)) => self.end(Some(error)),
            Poll::Ready(Ok(_)) => {
                let lost = !self.unsent.borrow().is_empty() || self.sends_file.get();
                self.end(lost.then(|| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads any more")));
            }
        }
    }

    fn received_eof(&self) {
        self.has_ended.set(true);
        self.at_eof.set(true);
        let keeps = self.tell("eof_received", AnyProtocol::eof_received);
        if !self.at_eof.get() {
            return; // something was put back
        }
        if keeps == Some(false) || (keeps == Some(true) && !self.half_closes.get()) {
            self.close();
        }
    }
}
