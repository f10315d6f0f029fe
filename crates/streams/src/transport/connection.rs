//! One connection: its state, and the task that moves it.
//!
//! Two sides share the state, on one thread: the handle, which is called at any time, also from inside the protocol's
//! methods; and the task, [`Drive`], which reads, sends what the handle could not, and tells the protocol.
//!
//! C1. Foreign code (the protocol's methods and destructor, wakers) runs while nothing of the state is borrowed. So it may
//!     call any method of any transport.
//! C2. A connection ends by [`Connection::end`] alone: it notes the reason, gives up what is unsent and wakes the task,
//!     whose next poll calls `connection_lost`. A poll that finds the end at its beginning calls it; a poll that comes upon
//!     it later waits for the next.
//! C3. The stream below knows the task's waker and no other, so whoever writes uses it too: what would block wakes the task.
//! C4. Bytes leave in the order in which they were written: what is unsent goes before what is new.
//! C5. After a pause nothing is read, and what is read is handed on in the same turn: there is nothing in between that could
//!     be handed on later. What was put back ([`Connection::unread`]) stays put as well.
//! C6. A turn reads at most [`TURN_READS`] times, then lets others run.
//!
//! The protocol holds a handle and the connection holds the protocol: that circle is cut when `connection_lost` has been
//! called, or when the task is dropped.

use super::Transport;
use super::extra::ExtraInfo;
use super::flow::Flow;
use super::wire::Wire;
use crate::buffer::Buffer;
use crate::protocol::{AnyProtocol, call};
use crate::reader::Room;
use evenloop_core::After;
use evenloop_core::cancel::{Cancelled, Catcher};
use evenloop_core::shim::StdArc;
use evenloop_core::{Runtime, Spawn};
use futures_io::{AsyncRead, AsyncWrite};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// How often a turn reads before others get theirs.
const TURN_READS: usize = 16;

pub(crate) struct Connection {
    host: StdArc<dyn Spawn>,
    /// None once it is given back, and while it goes over to TLS.
    wire: RefCell<Option<Wire>>,
    /// None once `connection_lost` was called.
    protocol: RefCell<Option<AnyProtocol>>,
    phase: Cell<Phase>,
    /// Why the connection ends.
    reason: RefCell<Option<io::Error>>,
    /// The task's; of the default kind until its first poll.
    waker: RefCell<Waker>,
    /// Written, and not yet taken by the stream.
    unsent: RefCell<Buffer>,
    /// The stream holds nothing back itself.
    flushed: Cell<bool>,
    /// Put back, to be received again.
    unread: RefCell<Buffer>,
    flow: Cell<Flow>,
    reading_paused: Cell<bool>,
    /// The end was received, and the connection kept.
    at_eof: Cell<bool>,
    eof: Cell<Eof>,
    half_closes: Cell<bool>,
    reads: bool,
    writes: bool,
    info: RefCell<ExtraInfo>,
    /// Bounds a close that waits for the peer.
    farewell: RefCell<Option<After>>,
    /// Whoever takes the connection over to TLS.
    upgrader: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// Goes over to TLS.
    Upgrading,
    Closing,
    Ending,
    Lost,
}

/// Our own end of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Eof {
    Not,
    /// To be sent after what is unsent.
    Due,
    Sent,
}

impl Connection {
    pub(crate) fn new(
        wire: Wire,
        protocol: AnyProtocol,
        host: StdArc<dyn Spawn>,
        high_bytes: usize,
    ) -> Rc<Self> {
        Rc::new(Self {
            host,
            half_closes: Cell::new(wire.half_closes),
            reads: wire.reads,
            writes: wire.writes,
            info: RefCell::new(wire.info.clone()),
            wire: RefCell::new(Some(wire)),
            protocol: RefCell::new(Some(protocol)),
            phase: Cell::new(Phase::Open),
            reason: RefCell::new(None),
            waker: RefCell::new(Waker::noop().clone()),
            unsent: RefCell::default(),
            flushed: Cell::new(true),
            unread: RefCell::default(),
            flow: Cell::new(Flow::new(high_bytes)),
            reading_paused: Cell::new(false),
            at_eof: Cell::new(false),
            eof: Cell::new(Eof::Not),
            farewell: RefCell::new(None),
            upgrader: RefCell::new(None),
        })
    }

    // === What the handle calls ===

    pub(crate) fn write(&self, method: &'static str, pieces: &[&[u8]]) -> io::Result<()> {
        self.check_writable(method)?;
        let sent = match pieces {
            // C4
            [bytes] if self.unsent.borrow().is_empty() => match self.send_now(bytes) {
                Ok(sent) => sent,
                Err(error) => {
                    let answer = io::Error::new(error.kind(), error.to_string());
                    self.end(Some(error));
                    return Err(answer);
                }
            },
            _ => 0,
        };
        if let [bytes] = pieces {
            if sent < bytes.len() {
                self.unsent.borrow_mut().append(&bytes[sent..]);
            }
        } else {
            let was_empty = {
                let mut unsent = self.unsent.borrow_mut();
                let was_empty = unsent.is_empty();
                pieces.iter().for_each(|piece| unsent.append(piece));
                was_empty
            };
            if was_empty {
                self.send_unsent()?;
            }
        }
        self.rose();
        Ok(())
    }

    pub(crate) fn write_eof(&self) -> io::Result<()> {
        if !self.can_write_eof() {
            let message = "`write_eof`: this connection cannot send an end without closing";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        if self.eof.get() != Eof::Not {
            return Ok(());
        }
        self.check_writable("write_eof")?;
        self.eof.set(Eof::Due);
        self.wake();
        Ok(())
    }

    pub(crate) fn can_write_eof(&self) -> bool {
        self.writes && self.half_closes.get()
    }

    pub(crate) fn close(&self) {
        match self.phase.get() {
            Phase::Open if self.has_nothing_to_say() => self.end(None),
            Phase::Open => {
                self.phase.set(Phase::Closing);
                self.wake();
            }
            Phase::Upgrading => self.end(None),
            Phase::Closing | Phase::Ending | Phase::Lost => {}
        }
    }

    /// Closing sends nothing more and waits for nobody.
    fn has_nothing_to_say(&self) -> bool {
        let lingers = self.wire.borrow().as_ref().is_some_and(|wire| wire.lingers.is_some());
        self.unsent.borrow().is_empty() && self.flushed.get() && !lingers
    }

    /// The one way to the end (C2). The first reason stays.
    pub(crate) fn end(&self, reason: Option<io::Error>) {
        if matches!(self.phase.get(), Phase::Ending | Phase::Lost) {
            return;
        }
        self.phase.set(Phase::Ending);
        *self.reason.borrow_mut() = reason;
        let given_up = (self.unsent.take(), self.unread.take());
        drop(given_up);
        self.wake();
        self.wake_upgrader();
    }

    pub(crate) fn is_closing(&self) -> bool {
        !matches!(self.phase.get(), Phase::Open | Phase::Upgrading)
    }

    pub(crate) fn pause_reading(&self) {
        self.reading_paused.set(true);
    }

    pub(crate) fn resume_reading(&self) {
        if self.reading_paused.replace(false) {
            self.wake();
        }
    }

    pub(crate) fn is_reading(&self) -> bool {
        self.phase.get() == Phase::Open && self.reads && !self.reading_paused.get() && !self.at_eof.get()
    }

    pub(crate) fn unsent_len(&self) -> usize {
        self.unsent.borrow().len()
    }

    pub(crate) fn limits(&self) -> (usize, usize) {
        self.flow.get().limits()
    }

    pub(crate) fn set_limits(&self, high: Option<usize>, low: Option<usize>) {
        let mut flow = self.flow.get();
        flow.set_limits(high, low);
        self.flow.set(flow);
        self.rose();
        self.fell();
    }

    pub(crate) fn set_protocol(&self, protocol: AnyProtocol) {
        if self.phase.get() != Phase::Lost {
            let before = self.protocol.borrow_mut().replace(protocol);
            drop(before); // C1
        }
    }

    pub(crate) fn protocol(&self) -> Option<AnyProtocol> {
        self.protocol.borrow().clone()
    }

    pub(crate) fn unread(&self, bytes: &[u8]) {
        if matches!(self.phase.get(), Phase::Open | Phase::Upgrading) {
            self.unread.borrow_mut().put_back(bytes);
            self.wake();
        }
    }

    pub(crate) fn extra_info(&self) -> ExtraInfo {
        self.info.borrow().clone()
    }

    fn check_writable(&self, method: &'static str) -> io::Result<()> {
        let why = match (self.phase.get(), self.eof.get()) {
            (Phase::Open, Eof::Not) if self.writes => return Ok(()),
            (Phase::Open, Eof::Not) => {
                let message = format!("`{method}`: this connection is for reading only");
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
            (Phase::Open, _) => "after `write_eof`",
            (Phase::Upgrading, _) => "while the connection goes over to TLS",
            (Phase::Closing, _) => "after `close`",
            (Phase::Ending | Phase::Lost, _) => "after the end of the connection",
        };
        Err(io::Error::new(io::ErrorKind::BrokenPipe, format!("`{method}` {why}")))
    }

    fn wake(&self) {
        let waker = self.waker.borrow().clone();
        waker.wake(); // C1
    }

    fn wake_upgrader(&self) {
        let upgrader = self.upgrader.borrow_mut().take();
        upgrader.into_iter().for_each(Waker::wake); // C1
    }

    // === Calls of the protocol ===

    /// Calls `body` with the protocol, if there still is one. A panic ends the connection (P4).
    fn tell<R>(&self, method: &'static str, body: impl FnOnce(&AnyProtocol) -> R) -> Option<R> {
        let protocol = self.protocol()?;
        self.guarded(method, || body(&protocol))
    }

    fn guarded<R>(&self, method: &'static str, body: impl FnOnce() -> R) -> Option<R> {
        call(&*self.host, method, body).map_err(|panicked| self.end(Some(panicked.into()))).ok()
    }

    pub(crate) fn made(self: &Rc<Self>) {
        let transport = Transport(self.clone());
        self.tell("connection_made", |protocol| protocol.connection_made(transport));
    }

    /// The unsent bytes have become more.
    fn rose(&self) {
        let mut flow = self.flow.get();
        let pauses = flow.rose(self.unsent_len());
        self.flow.set(flow);
        if pauses {
            self.tell("pause_writing", AnyProtocol::pause_writing);
        }
    }

    /// The unsent bytes have become fewer.
    fn fell(&self) {
        let mut flow = self.flow.get();
        let resumes = flow.fell(self.unsent_len());
        self.flow.set(flow);
        if resumes {
            self.tell("resume_writing", AnyProtocol::resume_writing);
        }
    }

    /// The last call. Cuts the circle of protocol and transport.
    fn lost(&self) {
        if self.phase.replace(Phase::Lost) == Phase::Lost {
            return;
        }
        let protocol = self.protocol.borrow_mut().take();
        let reason = self.reason.borrow_mut().take();
        if let Some(protocol) = protocol {
            let told = call(&*self.host, "connection_lost", || protocol.connection_lost(reason));
            let dropped = call(&*self.host, "drop", || drop(protocol));
            drop((told, dropped)); // Reported, and there is nothing left that could be ended.
        }
        let wire = self.wire.borrow_mut().take();
        drop(wire);
    }

    /// Lets everything go, of a connection that came to nothing: its protocol was never told of it.
    pub(super) fn forget(&self) {
        self.phase.set(Phase::Lost);
        let given_up = (self.protocol.take(), self.wire.take());
        drop(given_up); // C1
    }

    // === Sending ===

    /// Sends what the stream takes at once of `bytes`, as the task would (C3).
    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
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
    fn send_unsent(&self) -> io::Result<()> {
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
    fn poll_send(&self) -> bool {
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
            Poll::Ready(Err(_)) if self.at_eof.get() && self.phase.get() == Phase::Closing => true,
            Poll::Ready(Err(error)) => {
                self.end(Some(error));
                false
            }
        }
    }

    /// A close in order: sends everything, and where that is the custom waits for the peer's end.
    fn poll_farewell(&self, cx: &mut Context<'_>) {
        let lingers = self.wire.borrow().as_ref().and_then(|wire| wire.lingers);
        if let Some(limit) = lingers {
            if self.is_overdue(limit, cx) {
                let message = "the peer has not ended the connection within the shutdown time-out";
                return self.end(Some(io::Error::new(io::ErrorKind::TimedOut, message)));
            }
        }
        if !self.poll_send() || self.phase.get() != Phase::Closing {
            return;
        }
        if lingers.is_none() {
            return self.end(None);
        }
        if self.eof.get() != Eof::Sent && !self.poll_shut() {
            return;
        }
        if self.at_eof.get() || self.poll_discard(cx) {
            self.end(None);
        }
    }

    /// Whether a close has taken longer than `limit`. Without timers it never has.
    fn is_overdue(&self, limit: std::time::Duration, cx: &mut Context<'_>) -> bool {
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

    // === Receiving ===

    /// Reads and hands on, until there is nothing, or nobody wants it, or it is others' turn.
    fn poll_receive(&self, cx: &mut Context<'_>) {
        for _ in 0..TURN_READS {
            if !self.is_reading() {
                return; // C5
            }
            let Some(protocol) = self.protocol() else { return };
            let received = match &protocol {
                AnyProtocol::Streaming(protocol) => {
                    let mut room = Room::take();
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
    fn poll_lent(
        &self,
        cx: &mut Context<'_>,
        protocol: &dyn crate::protocol::BufferedProtocol,
    ) -> Poll<io::Result<usize>> {
        let size_hint = match self.unread.borrow().len() {
            0 => super::flow::HIGH,
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
        self.poll_wire(cx, room)
    }

    fn poll_wire(&self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
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
    fn poll_nobody_listens(&self, cx: &mut Context<'_>) {
        match self.poll_wire(cx, &mut [0]) {
            Poll::Pending => {}
            Poll::Ready(Err(error)) => self.end(Some(error)),
            Poll::Ready(Ok(_)) => {
                let lost = !self.unsent.borrow().is_empty();
                self.end(lost.then(|| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads any more")));
            }
        }
    }

    fn received_eof(&self) {
        self.at_eof.set(true);
        let keeps = self.tell("eof_received", AnyProtocol::eof_received);
        if keeps == Some(false) || (keeps == Some(true) && !self.half_closes.get()) {
            self.close();
        }
    }

    // === Going over to TLS ===

    /// Keeps the connection for whoever takes its stream away. Reads no more; sends what is unsent.
    #[cfg(feature = "tls")]
    pub(super) fn begin_upgrade(&self) -> io::Result<()> {
        self.check_writable("start_tls")?;
        self.phase.set(Phase::Upgrading);
        self.wake();
        Ok(())
    }

    /// Ready with the connection's end, if it comes while it goes over to TLS.
    #[cfg(feature = "tls")]
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let before = self.upgrader.replace(Some(cx.waker().clone()));
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
    #[cfg(feature = "tls")]
    pub(super) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Wire, Buffer)>> {
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
    #[cfg(feature = "tls")]
    pub(super) fn finish_upgrade(&self, wire: Wire) {
        self.half_closes.set(wire.half_closes);
        *self.info.borrow_mut() = wire.info.clone();
        let mut flow = self.flow.get();
        flow.set_default(super::flow::HIGH_TLS);
        self.flow.set(flow);
        *self.wire.borrow_mut() = Some(wire);
        self.phase.set(Phase::Open);
        self.wake();
    }

    #[cfg(feature = "tls")]
    pub(super) fn is_upgrading(&self) -> bool {
        self.phase.get() == Phase::Upgrading
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

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase.get() {
            Phase::Open => "open",
            Phase::Upgrading => "going over to TLS",
            Phase::Closing => "closing",
            Phase::Ending => "ending",
            Phase::Lost => "lost",
        };
        write!(f, "{phase}")?;
        if let Some(peer) = &self.info.borrow().peername {
            write!(f, ", to {peer}")?;
        }
        let paused = if self.phase.get() == Phase::Open && self.reading_paused.get() {
            ", reading paused"
        } else {
            ""
        };
        write!(f, "{paused}, unsent: {}", self.unsent_len())
    }
}

// === Drive ===

/// The task of a connection. Ready when `connection_lost` has been called. Dropping it calls that too.
///
/// A cancellation from a scope around it (a server that closes its clients, a loop that ends) closes the connection in
/// order; a second one aborts it.
pub(crate) struct Drive {
    connection: Rc<Connection>,
    /// `connection_made` was called.
    made: bool,
    catcher: Catcher,
    cancelled: Option<Cancelled>,
}

impl Drive {
    /// For a connection whose `connection_made` was called already (`made`), or is to be called in the first poll.
    pub(crate) fn new(connection: Rc<Connection>, made: bool) -> Self {
        Self { connection, made, catcher: Catcher::new(), cancelled: None }
    }

    fn heed_cancellation(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(cancelled) = self.catcher.poll_cancelled(cx) {
            match self.cancelled.is_some() {
                false => self.connection.close(),
                true => self.connection.end(None),
            }
            Cancelled::gather(&mut self.cancelled, cancelled);
        }
    }
}

impl Future for Drive {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let connection = this.connection.clone();
        if connection.phase.get() == Phase::Ending {
            connection.lost(); // C2
        }
        if connection.phase.get() == Phase::Lost {
            this.catcher.leave();
            this.cancelled.take().into_iter().for_each(Cancelled::absorb);
            return Poll::Ready(());
        }
        let known = connection.waker.borrow().will_wake(cx.waker());
        if !known {
            let before = connection.waker.replace(cx.waker().clone());
            drop(before); // C1
        }
        if !mem::replace(&mut this.made, true) {
            connection.made();
        }
        this.heed_cancellation(cx);
        if connection.phase.get() == Phase::Upgrading && connection.poll_send() {
            connection.wake_upgrader();
        }
        if connection.phase.get() == Phase::Open {
            connection.poll_send();
            match connection.reads {
                true => connection.poll_receive(cx),
                false => connection.poll_nobody_listens(cx),
            }
        }
        if connection.phase.get() == Phase::Closing {
            connection.poll_farewell(cx);
        }
        Poll::Pending
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        let connection = &self.connection;
        if connection.phase.get() == Phase::Lost {
            return;
        }
        if self.made {
            let message = "the task of the connection was dropped: its loop or its server ended";
            connection.end(Some(io::Error::new(io::ErrorKind::ConnectionAborted, message)));
            connection.lost();
        } else {
            connection.forget();
        }
    }
}
