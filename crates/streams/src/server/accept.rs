//! The tasks that accept.
//!
//! A1. A server with one listener, or on a loop of one thread, never has more connections than its limit; each further
//!     listener on a host of several threads may have one more.
//! A2. What is about a single connection is passed over: it comes once a connection. After any other error (no descriptors,
//!     no memory) accepting stops for a second, or until a connection ends and gives back what it had.
//! A3. After [`BURST`] connections without a pause others have their turn.
//! A4. However it ends, also before its first poll: first the set of connections is closed, then the listener, then its file
//!     goes, and last its place among the acceptors. All but the last is done by whoever closes the server, at once: the
//!     listener lies in a [`Door`] that both can reach.
//! A5. A handler that panics as it is called costs its own connection and no other. (One that panics when it is polled is a
//!     task that panicked: the host tells of it.)

use super::Shared;
use super::socket_file::Removes;
use crate::error::IoFailure;
use crate::tcp::{TcpListener, TcpStream};
use crate::unix::{UnixListener, UnixStream};
use evenloop_core::shim::{Mutex, StdArc};
use evenloop_core::{After, Runtime};
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// How long accepting stops when there are no descriptors, unless a connection ends before: asyncio's second.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Accepted in a row before others have their turn: asyncio's backlog.
const BURST: usize = 100;

/// What a server needs of a listener.
pub(super) trait Accepts: Send + Sync + 'static {
    type Stream;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Stream>>;
}

impl Accepts for TcpListener {
    type Stream = TcpStream;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        Self::poll_accept(self, cx)
    }
}

impl Accepts for UnixListener {
    type Stream = UnixStream;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<UnixStream>> {
        Self::poll_accept(self, cx)
    }
}

/// A listener and its file, until it is shut (A4).
pub(super) struct Door<L>(Mutex<Option<StdArc<(L, Removes)>>>);

impl<L: Accepts> Door<L> {
    pub(super) fn new(listener: L, removes: Removes) -> StdArc<Self> {
        StdArc::new(Self(Mutex::new(Some(StdArc::new((listener, removes))))))
    }

    /// None: it is shut.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Option<io::Result<L::Stream>>> {
        // A copy: nothing is accepted, and no waker kept, under the lock.
        let open = self.0.lock().clone();
        match open {
            Some(open) => open.0.poll_accept(cx).map(Some),
            None => Poll::Ready(None),
        }
    }
}

/// What whoever closes the server needs of a door.
pub(super) trait Shut: Send + Sync {
    /// Closes the listener, then removes its file, before this returns. (If another thread accepts just now, as soon as it
    /// has looked.)
    fn shut(&self);
}

impl<L: Accepts> Shut for Door<L> {
    fn shut(&self) {
        let open = self.0.lock().take();
        drop(open);
    }
}

/// A door and its server; the place among the acceptors is its task's.
pub(super) struct Accepting<L: Accepts> {
    closes: Closes,
    door: StdArc<Door<L>>,
}

/// Closes the server's door when dropped.
struct Closes {
    shared: StdArc<Shared>,
    /// It has begun to accept.
    accepts: bool,
}

impl Drop for Closes {
    fn drop(&mut self) {
        if self.accepts && !self.shared.connections.is_closed() {
            let what = "a server was serving when its task ended, as at the end of a loop: `close` it, or await its \
                        `shutdown` or `serve_forever`";
            Runtime::report_in_debug(|| what.to_owned());
        }
        self.shared.close();
    }
}

impl<L: Accepts> Accepting<L> {
    pub(super) fn new(door: StdArc<Door<L>>, shared: StdArc<Shared>) -> Self {
        Self { closes: Closes { shared, accepts: false }, door }
    }

    /// Accepts, and has `start` begin with each connection, until it is cancelled or the reactor has ended.
    pub(super) async fn run(mut self, start: impl Fn(L::Stream) -> io::Result<()>) {
        self.closes.accepts = true;
        let shared = &self.closes.shared;
        let mut room = shared.connections.fewer_than(shared.max_connections);
        let mut burst = 0;
        loop {
            let next = poll_fn(|cx| {
                if burst >= BURST {
                    burst = 0;
                    cx.waker().wake_by_ref(); // A3
                    return Poll::Pending;
                }
                ready!(Pin::new(&mut room).poll(cx)); // A1
                let accepted = self.door.poll_accept(cx);
                burst = if accepted.is_ready() { burst + 1 } else { 0 };
                accepted
            });
            let Some(accepted) = next.await else { return };
            match accepted {
                Ok(stream) => match catch_unwind(AssertUnwindSafe(|| start(stream))) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => (shared.on_error)(&format!("a connection was dropped: {error}")),
                    Err(_) => (shared.on_error)("a connection was dropped: calling the handler panicked"), // A5
                },
                Err(error) if IoFailure::is_unwatched(&error) => return,
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    (shared.on_error)(&format!("{error}; accepting stops for a second"));
                    shared.back_off().await; // A2
                }
            }
        }
    }
}

impl Shared {
    /// Waits a second, or until a connection ends.
    async fn back_off(&self) {
        let timers = Runtime::current_timers("Server").ok();
        let mut second = pin!(timers.map(|timers| After::new(timers, BACK_OFF)));
        let mut one_less = self.connections.fewer_than(self.connections.len());
        poll_fn(|cx| match second.as_mut().as_pin_mut().map(|second| second.poll(cx)) {
            Some(Poll::Ready(_)) => Poll::Ready(()),
            _ => Pin::new(&mut one_less).poll(cx),
        })
        .await;
    }
}

/// Whether a connection came to nothing before it was accepted, so that the next one may well succeed: accept(2) answers the
/// errors that are already pending on the new socket.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    let kinds = [
        Kind::ConnectionAborted,
        Kind::ConnectionReset,
        Kind::ConnectionRefused,
        Kind::HostUnreachable,
        Kind::NetworkUnreachable,
        Kind::NetworkDown,
        Kind::PermissionDenied, // a firewall's rule
        Kind::TimedOut,
    ];
    let proto = rustix::io::Errno::PROTO.raw_os_error();
    kinds.contains(&error.kind()) || IoFailure::of(error).and_then(IoFailure::os_error) == Some(proto)
}
