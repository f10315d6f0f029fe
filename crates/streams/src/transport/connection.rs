//! One connection: its state, and the task that moves it.
//!
//! Two sides share the state, on one thread: the handle, which is called at any time, also from inside the protocol's
//! methods; and the task, [`Drive`], which reads, sends what the handle could not, and tells the protocol. The state and what
//! the handle calls stand here; sending, receiving, files, going over to TLS and the task have files of their own.
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

mod drive;

mod file;

mod receive;

mod send;

#[cfg(feature = "tls")]
mod upgrade;

pub(crate) use drive::Drive;
pub(super) use file::ForFile;

use super::Transport;
use super::extra::ExtraInfo;
use super::flow::Flow;
use super::wire::Wire;
use crate::buffer::Buffer;
use crate::protocol::{AnyProtocol, call, wake};
use evenloop_core::shim::StdArc;
use evenloop_core::{After, Spawn};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Waker;

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
    /// The stream has ended.
    has_ended: Cell<bool>,
    /// The end was received, and the connection kept.
    at_eof: Cell<bool>,
    eof: Cell<Eof>,
    half_closes: Cell<bool>,
    reads: bool,
    writes: bool,
    info: RefCell<ExtraInfo>,
    /// Bounds a close that waits for the peer.
    farewell: RefCell<Option<After>>,
    /// A file is being sent, so nothing else can be.
    sends_file: Cell<bool>,
    /// Whoever has the writing side: takes the connection over to TLS, or sends a file.
    holder: RefCell<Option<Waker>>,
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
            has_ended: Cell::new(false),
            at_eof: Cell::new(false),
            eof: Cell::new(Eof::Not),
            farewell: RefCell::new(None),
            sends_file: Cell::new(false),
            holder: RefCell::new(None),
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
                self.wake_holder();
            }
            Phase::Upgrading => self.end(None),
            Phase::Closing | Phase::Ending | Phase::Lost => {}
        }
    }

    /// Closing sends nothing more and waits for nobody.
    fn has_nothing_to_say(&self) -> bool {
        let says_farewell = self.wire.borrow().as_ref().is_some_and(|wire| wire.says_farewell);
        self.unsent.borrow().is_empty() && self.flushed.get() && !says_farewell
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
        self.wake_holder();
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
        if !bytes.is_empty() && matches!(self.phase.get(), Phase::Open | Phase::Upgrading) {
            self.unread.borrow_mut().put_back(bytes);
            self.at_eof.set(false); // it comes again, after them
            self.wake();
        }
    }

    pub(crate) fn extra_info(&self) -> ExtraInfo {
        self.info.borrow().clone()
    }

    /// A duplicate of the descriptor below.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        let gone = || io::Error::new(io::ErrorKind::NotConnected, "the connection has no stream (any more)");
        let Ok(wire) = self.wire.try_borrow() else { return Err(gone()) };
        let Some(descriptor) = wire.as_ref().ok_or_else(gone)?.io.descriptor() else {
            let message = "the stream of this connection has no descriptor that it tells of";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        };
        descriptor.try_clone_to_owned()
    }

    fn check_writable(&self, method: &'static str) -> io::Result<()> {
        let why = match (self.phase.get(), self.eof.get()) {
            (Phase::Open, Eof::Not) if self.sends_file.get() => "while a file is sent",
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

    fn wake_holder(&self) {
        let holder = self.holder.borrow_mut().take();
        // C1. A panic of it is not the connection's.
        holder.into_iter().for_each(|holder| wake(&*self.host, "Transport", holder));
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
