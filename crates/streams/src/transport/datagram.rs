//! Datagrams whose protocol is called: asyncio's `create_datagram_endpoint`.
//!
//! The same bargain as a connection's (see `connection.rs`), for whole datagrams: one task receives, and sends what the
//! handle could not send at once. What differs: there is no end to receive, and an error of the kernel's mostly speaks of one
//! datagram, so it is told (`error_received`) and the endpoint goes on.
//!
//! D1. Foreign code runs while nothing of the state is borrowed.
//! D2. Datagrams are sent in the order of `sendto`, whole, each once.
//! D3. A datagram that waits counts eight bytes more than it holds, as in asyncio: even empty ones cannot pile up unseen.

use super::extra::{Address, ExtraInfo};
use super::flow::{Flow, HIGH};
use crate::datagram::UdpSocket;
use crate::error::IoFailure;
use crate::protocol::{DatagramProtocol, call};
use crate::reader::Room;
use evenloop_core::cancel::{Cancelled, Catcher};
use evenloop_core::shim::StdArc;
use evenloop_core::{Runtime, Spawn};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// How many datagrams a turn receives before others get theirs.
const TURN_DATAGRAMS: usize = 16;

/// What a datagram that waits costs beside its bytes (D3).
const HEADER: usize = 8;

/// Binds a UDP socket to `local`, lets it speak to `remote` only if there is one, and has a new protocol serve it.
///
/// Without `local` the kernel chooses a port, of the family of `remote`. For other options (broadcast, a shared port) make the
/// socket and use [`connect_datagram_socket`].
///
/// # Errors
///
/// The kernel's reason, with the address; or the runtime has no reactor or cannot spawn on this thread.
///
/// # Panics
///
/// `create_datagram_endpoint` needs a local or a remote address.
///
/// # Examples
///
/// ```no_run
/// use evenloop_streams::{DatagramProtocol, create_datagram_endpoint};
/// use std::net::SocketAddr;
///
/// struct Prints;
///
/// impl DatagramProtocol for Prints {
///     fn datagram_received(&self, data: &[u8], from: SocketAddr) {
///         println!("{from}: {}", String::from_utf8_lossy(data));
///     }
/// }
///
/// # fn example() -> std::io::Result<()> {
/// let here = ([127, 0, 0, 1], 9999).into();
/// let (transport, _protocol) = create_datagram_endpoint(|| Prints, Some(here), None)?;
/// # drop(transport);
/// # Ok(()) }
/// ```
pub fn create_datagram_endpoint<P: DatagramProtocol>(
    protocol: impl FnOnce() -> P,
    local: Option<SocketAddr>,
    remote: Option<SocketAddr>,
) -> io::Result<(DatagramTransport, Rc<P>)> {
    let any = |remote: SocketAddr| match remote {
        SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0; 16], 0)),
    };
    let local = local.or(remote.map(any));
    let socket =
        UdpSocket::bind(local.expect("`create_datagram_endpoint` needs a local or a remote address"))?;
    if let Some(remote) = remote {
        socket.connect(remote)?;
    }
    connect_datagram_socket(protocol, socket)
}

/// Has a new protocol serve a UDP socket, connected or not.
///
/// # Errors
///
/// The runtime cannot spawn on this thread. The socket is closed then.
pub fn connect_datagram_socket<P: DatagramProtocol>(
    protocol: impl FnOnce() -> P,
    socket: UdpSocket,
) -> io::Result<(DatagramTransport, Rc<P>)> {
    let host = Runtime::current_spawn("create_datagram_endpoint").map_err(io::Error::other)?;
    let protocol = Rc::new(protocol());
    let endpoint = Rc::new(Endpoint {
        peer: socket.peer_addr().ok(),
        local: socket.local_addr()?,
        host: host.clone(),
        socket: RefCell::new(Some(socket)),
        protocol: RefCell::new(Some(protocol.clone())),
        phase: Cell::new(Phase::Open),
        reason: RefCell::new(None),
        waker: RefCell::new(Waker::noop().clone()),
        unsent: RefCell::default(),
        unsent_bytes: Cell::new(0),
        flow: Cell::new(Flow::new(HIGH)),
    });
    let drive = Box::pin(Drive { endpoint: endpoint.clone(), catcher: Catcher::new(), cancelled: None });
    if let Err(not) = host.spawn_local(drive) {
        endpoint.phase.set(Phase::Lost);
        endpoint.protocol.take();
        return Err(io::Error::other(format!("not spawned: {}", not.why)));
    }
    let transport = DatagramTransport(endpoint);
    transport.0.tell("connection_made", |protocol| protocol.connection_made(transport.clone()));
    Ok((transport, protocol))
}

/// A UDP socket that runs by itself and calls a protocol. Cheap to clone: clones are the same socket.
///
/// Dropping it changes nothing. What ends it is [`close`](Self::close), [`abort`](Self::abort), or the end of the loop.
///
/// asyncio's Unix datagrams are not served by protocols here: [`UnixDatagram`](crate::UnixDatagram) has calls to await.
///
/// # Examples
///
/// ```no_run
/// use evenloop_streams::{DatagramProtocol, DatagramTransport, create_datagram_endpoint};
/// use std::cell::RefCell;
/// use std::net::SocketAddr;
///
/// /// Sends back what it gets.
/// #[derive(Default)]
/// struct Echo(RefCell<Option<DatagramTransport>>);
///
/// impl DatagramProtocol for Echo {
///     fn connection_made(&self, transport: DatagramTransport) {
///         self.0.replace(Some(transport));
///     }
///
///     fn datagram_received(&self, data: &[u8], from: SocketAddr) {
///         if let Some(transport) = &*self.0.borrow() {
///             let _ = transport.sendto(data, from);
///         }
///     }
/// }
///
/// # fn example() -> std::io::Result<()> {
/// let (transport, _echo) = create_datagram_endpoint(Echo::default, Some(([127, 0, 0, 1], 9999).into()), None)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct DatagramTransport(Rc<Endpoint>);

impl DatagramTransport {
    /// Sends a datagram to `to`, or to the peer of a connected socket, without waiting: at once if the kernel takes it, else
    /// from the endpoint's own task. If more is kept then than the high water mark, calls `pause_writing` before it returns.
    ///
    /// What the kernel has against it (too long, refused) comes to `error_received`, and the endpoint goes on.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput): the socket is connected and `to` is another address; or it is not, and
    /// there is no `to`. [`BrokenPipe`](io::ErrorKind::BrokenPipe): the transport is closing. Nothing is sent.
    pub fn sendto(&self, bytes: &[u8], to: impl Into<Option<SocketAddr>>) -> io::Result<()> {
        self.0.sendto(bytes, to.into())
    }

    /// Ends the endpoint in order: receives no more, sends what is unsent, then calls `connection_lost(None)`. Calling it
    /// again does nothing.
    pub fn close(&self) {
        self.0.close();
    }

    /// Ends the endpoint now: gives up what is unsent, then calls `connection_lost(None)`.
    pub fn abort(&self) {
        self.0.end(None);
    }

    /// Whether the endpoint is on its way to its end, or there.
    pub fn is_closing(&self) -> bool {
        self.0.phase.get() != Phase::Open
    }

    /// How many bytes wait to be sent, with eight more for each datagram.
    pub fn write_buffer_size(&self) -> usize {
        self.0.unsent_bytes.get()
    }

    /// The water marks in bytes, the low one first: see [`Transport::write_buffer_limits`](super::Transport::write_buffer_limits).
    pub fn write_buffer_limits(&self) -> (usize, usize) {
        self.0.flow.get().limits()
    }

    /// Sets the water marks: see [`Transport::set_write_buffer_limits`](super::Transport::set_write_buffer_limits).
    ///
    /// # Panics
    ///
    /// `set_write_buffer_limits` needs a low mark no higher than the high one.
    pub fn set_write_buffer_limits(&self, high_bytes: Option<usize>, low_bytes: Option<usize>) {
        let mut flow = self.0.flow.get();
        flow.set_limits(high_bytes, low_bytes);
        self.0.flow.set(flow);
        self.0.rose();
        self.0.fell();
    }

    /// What is known about the socket: its address, and that of the peer if it is connected.
    pub fn extra_info(&self) -> ExtraInfo {
        ExtraInfo {
            peername: self.0.peer.map(Address::Inet),
            sockname: Some(Address::Inet(self.0.local)),
            ..ExtraInfo::default()
        }
    }

    /// A duplicate of the socket's descriptor, for its options: see [`Transport::descriptor`](super::Transport::descriptor).
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected) after `connection_lost`. Or there are too many descriptors.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        let socket = self.0.socket.borrow();
        let gone = || io::Error::new(io::ErrorKind::NotConnected, "the endpoint has no socket any more");
        socket.as_ref().ok_or_else(gone)?.as_fd().try_clone_to_owned()
    }
}

impl fmt::Debug for DatagramTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint { phase, local, unsent_bytes, .. } = &*self.0;
        write!(f, "DatagramTransport [{:?}, at {local}, unsent: {}]", phase.get(), unsent_bytes.get())
    }
}

struct Endpoint {
    host: StdArc<dyn Spawn>,
    socket: RefCell<Option<UdpSocket>>,
    /// None once `connection_lost` was called.
    protocol: RefCell<Option<Rc<dyn DatagramProtocol>>>,
    local: SocketAddr,
    peer: Option<SocketAddr>,
    phase: Cell<Phase>,
    reason: RefCell<Option<io::Error>>,
    /// The task's.
    waker: RefCell<Waker>,
    unsent: RefCell<VecDeque<(Box<[u8]>, SocketAddr)>>,
    unsent_bytes: Cell<usize>,
    flow: Cell<Flow>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Closing,
    Ending,
    Lost,
}

impl Endpoint {
    fn sendto(&self, bytes: &[u8], to: Option<SocketAddr>) -> io::Result<()> {
        let invalid = |message| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        let to = match (self.peer, to) {
            (Some(peer), Some(to)) if peer != to => {
                return invalid(format!("`sendto` {to} on an endpoint that is connected to {peer}"));
            }
            (Some(peer), _) => peer,
            (None, Some(to)) => to,
            (None, None) => {
                return invalid("`sendto` without an address on an endpoint without a peer".to_owned());
            }
        };
        if self.phase.get() != Phase::Open {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "`sendto` after `close`"));
        }
        // D2
        if self.unsent.borrow().is_empty() {
            match self.poll_send(bytes, to) {
                Poll::Ready(Ok(())) => return Ok(()),
                Poll::Ready(Err(error)) => {
                    self.tell("error_received", |protocol| protocol.error_received(error));
                    return Ok(());
                }
                Poll::Pending => {}
            }
        }
        self.unsent.borrow_mut().push_back((bytes.into(), to));
        self.unsent_bytes.set(self.unsent_bytes.get() + bytes.len() + HEADER); // D3
        self.rose();
        Ok(())
    }

    /// One datagram, with the task's waker.
    fn poll_send(&self, bytes: &[u8], to: SocketAddr) -> Poll<io::Result<()>> {
        let waker = self.waker.borrow();
        let socket = self.socket.borrow();
        let Some(socket) = socket.as_ref() else { return Poll::Pending };
        let to = if self.peer.is_some() { None } else { Some(to) };
        socket.poll_send_to(&mut Context::from_waker(&waker), bytes, to).map_ok(drop)
    }

    fn close(&self) {
        if self.phase.get() == Phase::Open {
            match self.unsent.borrow().is_empty() {
                true => self.end(None),
                false => self.phase.set(Phase::Closing),
            }
        }
    }

    fn end(&self, reason: Option<io::Error>) {
        if matches!(self.phase.get(), Phase::Ending | Phase::Lost) {
            return;
        }
        self.phase.set(Phase::Ending);
        *self.reason.borrow_mut() = reason;
        let waker = self.waker.borrow().clone();
        waker.wake();
    }

    fn tell(&self, method: &'static str, body: impl FnOnce(&dyn DatagramProtocol)) {
        let Some(protocol) = self.protocol.borrow().clone() else { return };
        if let Err(panicked) = call(&*self.host, method, || body(&*protocol)) {
            self.end(Some(panicked.into()));
        }
    }

    fn rose(&self) {
        let mut flow = self.flow.get();
        let pauses = flow.rose(self.unsent_bytes.get());
        self.flow.set(flow);
        if pauses {
            self.tell("pause_writing", |protocol| protocol.pause_writing());
        }
    }

    fn fell(&self) {
        let mut flow = self.flow.get();
        let resumes = flow.fell(self.unsent_bytes.get());
        self.flow.set(flow);
        if resumes {
            self.tell("resume_writing", |protocol| protocol.resume_writing());
        }
    }

    fn lost(&self) {
        if self.phase.replace(Phase::Lost) == Phase::Lost {
            return;
        }
        let (protocol, reason) = (self.protocol.take(), self.reason.take());
        if let Some(protocol) = protocol {
            let told = call(&*self.host, "connection_lost", || protocol.connection_lost(reason));
            let dropped = call(&*self.host, "drop", || drop(protocol));
            drop((told, dropped)); // Reported, and there is nothing left that could be ended.
        }
        self.unsent.take();
        self.unsent_bytes.set(0);
        drop(self.socket.take());
    }

    /// Sends what waits, as far as the kernel takes it.
    fn send_unsent(&self) {
        loop {
            let Some((bytes, to)) = self.unsent.borrow_mut().pop_front() else { return };
            let sent = self.poll_send(&bytes, to);
            if sent.is_pending() {
                self.unsent.borrow_mut().push_front((bytes, to));
                return;
            }
            self.unsent_bytes.set(self.unsent_bytes.get() - bytes.len() - HEADER);
            if let Poll::Ready(Err(error)) = sent {
                self.tell("error_received", |protocol| protocol.error_received(error));
            }
            self.fell();
        }
    }

    fn receive(&self, cx: &mut Context<'_>) {
        for _ in 0..TURN_DATAGRAMS {
            if self.phase.get() != Phase::Open {
                return;
            }
            let mut room = Room::take();
            let polled = match self.socket.borrow().as_ref() {
                Some(socket) => socket.poll_recv_from(cx, &mut room.bytes),
                None => Poll::Pending,
            };
            match polled {
                Poll::Pending => return,
                Poll::Ready(Ok((n, from))) => {
                    self.tell("datagram_received", |protocol| {
                        protocol.datagram_received(&room.bytes[..n], from)
                    });
                }
                Poll::Ready(Err(error)) if IoFailure::is_unwatched(&error) => return self.end(Some(error)),
                Poll::Ready(Err(error)) => {
                    self.tell("error_received", |protocol| protocol.error_received(error));
                }
            }
        }
        cx.waker().wake_by_ref();
    }
}

/// The task of an endpoint. Ready when `connection_lost` has been called; dropping it calls that too.
struct Drive {
    endpoint: Rc<Endpoint>,
    catcher: Catcher,
    cancelled: Option<Cancelled>,
}

impl Drive {
    /// In debug mode tells of a socket that nobody has closed, and how its task came to know that it ends.
    fn tell_if_open(&self, how: &str) {
        let endpoint = &self.endpoint;
        if endpoint.phase.get() == Phase::Open {
            let local = endpoint.local;
            Runtime::report_in_debug(|| {
                format!(
                    "a datagram transport at {local} was open when its task was {how}, as at the end of a loop: \
                     `close` it first"
                )
            });
        }
    }
}

impl Future for Drive {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let endpoint = this.endpoint.clone();
        if endpoint.phase.get() == Phase::Ending {
            endpoint.lost();
        }
        if endpoint.phase.get() == Phase::Lost {
            this.catcher.leave();
            this.cancelled.take().into_iter().for_each(Cancelled::absorb);
            return Poll::Ready(());
        }
        let known = endpoint.waker.borrow().will_wake(cx.waker());
        if !known {
            drop(endpoint.waker.replace(cx.waker().clone()));
        }
        while let Poll::Ready(cancelled) = this.catcher.poll_cancelled(cx) {
            this.tell_if_open("cancelled");
            match this.cancelled.is_some() {
                false => endpoint.close(),
                true => endpoint.end(None),
            }
            Cancelled::gather(&mut this.cancelled, cancelled);
        }
        if matches!(endpoint.phase.get(), Phase::Open | Phase::Closing) {
            endpoint.send_unsent();
            if endpoint.phase.get() == Phase::Closing && endpoint.unsent.borrow().is_empty() {
                endpoint.end(None);
            }
            endpoint.receive(cx);
        }
        Poll::Pending
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        if self.endpoint.phase.get() != Phase::Lost {
            self.tell_if_open("dropped");
            let message = "the task of the endpoint was dropped, as at the end of its loop";
            self.endpoint.end(Some(io::Error::new(io::ErrorKind::ConnectionAborted, message)));
            self.endpoint.lost();
        }
    }
}
