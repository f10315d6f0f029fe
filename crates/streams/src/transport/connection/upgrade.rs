//! What a connection does while its stream is changed for one with TLS. The handshake is `transport/upgrade.rs`.

use super::{Connection, Phase};
use crate::buffer::Buffer;
use crate::transport::flow;
use crate::transport::wire::Wire;
use std::io;
use std::task::{Context, Poll};

impl Connection {
    /// Keeps the connection for whoever takes its stream away. Reads no more; sends what is unsent.
    pub(in crate::transport) fn begin_upgrade(&self) -> io::Result<()> {
        self.check_writable("start_tls")?;
        self.phase.set(Phase::Upgrading);
        self.wake();
        Ok(())
    }

    /// Ready with the connection's end, if it comes while it goes over to TLS.
    pub(in crate::transport) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let before = self.holder.replace(Some(cx.waker().clone()));
        drop(before);
        match self.phase.get() {
            Phase::Upgrading => Poll::Pending,
            _ => Poll::Ready(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the connection ended before it had gone over to TLS",
            )),
        }
    }

    /// Takes the stream away once everything written is sent, with what was put back.
    pub(in crate::transport) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Wire, Buffer)>> {
        if let Poll::Ready(gone) = self.poll_gone(cx) {
            return Poll::Ready(Err(gone));
        }
        if !self.unsent.borrow().is_empty() || !self.flushed.get() {
            return Poll::Pending;
        }
        let wire = self.wire.borrow_mut().take().expect("an upgrade takes it once");
        Poll::Ready(Ok((wire, self.unread.take())))
    }

    /// Goes on with another stream.
    pub(in crate::transport) fn finish_upgrade(&self, wire: Wire) {
        self.half_closes.set(wire.half_closes);
        self.has_ended.set(false);
        *self.info.borrow_mut() = wire.info.clone();
        let mut flow = self.flow.get();
        flow.set_default(flow::HIGH_TLS);
        self.flow.set(flow);
        *self.wire.borrow_mut() = Some(wire);
        self.phase.set(Phase::Open);
        self.wake();
    }

    pub(in crate::transport) fn is_upgrading(&self) -> bool {
        self.phase.get() == Phase::Upgrading
    }
}
