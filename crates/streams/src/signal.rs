//! Signals, as streams and as handlers on the loop.
//!
//! A signal handler may do next to nothing, so it writes one byte into a socket of each listener's, and the reactor wakes
//! the listener as it does for any other descriptor: signals end the same wait as everything else.
//!
//! G1. A signal that comes while its listener is busy is not lost, and several may become one: as the kernel does it.
//! G2. While nobody listens to a signal (any more), it does what it did before the process first listened to it: what the
//!     system does by default, or nothing if it was ignored (as SIGHUP under `nohup`), or what another handler does, which is
//!     called all the while. SIGINT is an exception: it is left to whoever else listens, such as the loop's own Ctrl-C.
//! G3. A handler that panics is reported and stays. Its signal would kill the process if it went with the panic.

#![allow(unsafe_code)]

use crate::async_fd::AsyncFd;
use crate::protocol::call_back;
pub use crate::signal_kind::SignalKind;
use evenloop_core::shim::atomic::{AtomicUsize, Ordering};
use evenloop_core::shim::{GlobalMutex, OnceLock, StdArc};
use evenloop_core::watch::{self, On};
use evenloop_core::{Direction, Ready, Runtime};
use futures_core::Stream;
use signal_hook::SigId;
use signal_hook::low_level;
use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Listens to a signal, from this call on.
///
/// # Errors
///
/// The signal cannot be listened to (SIGKILL, SIGSTOP, SIGSEGV, SIGFPE, SIGILL); or there is no reactor here.
///
/// # Examples
///
/// ```no_run
/// use evenloop_streams::signal::{SignalKind, signal};
/// # async fn example() -> std::io::Result<()> {
/// let mut terminate = signal(SignalKind::TERMINATE)?;
/// terminate.recv().await?;
/// println!("asked to end");
/// # Ok(()) }
/// ```
#[doc(alias = "open_signal_receiver")]
pub fn signal(kind: SignalKind) -> io::Result<Signal> {
    let reactor = Runtime::current_reactor("signal").map_err(io::Error::other)?;
    if signal_hook::consts::FORBIDDEN.contains(&kind.as_raw()) {
        let message = format!("`signal`: {kind:?} cannot be listened to: the system acts on it by itself");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let (reading, writing) = mio::net::UnixStream::pair()?;
    let fd = AsyncFd::watch(reading, reactor, Ready::NOTHING)?;
    let listens = Listens::start(kind)?;
    let hook = low_level::pipe::register(kind.as_raw(), writing)?;
    Ok(Signal { kind, fd, hook, _listens: listens })
}

/// A signal that is listened to. A `Stream` of its arrivals; several may become one.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use evenloop_streams::signal::{SignalKind, signal};
///
/// let mut reload = signal(SignalKind::HANGUP)?;
/// loop {
///     reload.recv().await?;
///     println!("reading the settings again");
/// }
/// # }
/// ```
#[must_use = "dropping it stops listening"]
pub struct Signal {
    kind: SignalKind,
    fd: AsyncFd<mio::net::UnixStream>,
    hook: SigId,
    _listens: Listens,
}

impl Signal {
    /// Waits for the signal.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** A signal that has come and was not told stays for the next call.
    ///
    /// # Errors
    ///
    /// The reactor has ended.
    pub async fn recv(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // All that have come are one (G1).
        let mut bytes = [0; 64];
        let mut read = |mut socket: &mio::net::UnixStream| socket.read(&mut bytes);
        let polled = self.fd.poll_with(Direction::Read, cx, &mut read, |_| false);
        if polled.is_pending() {
            watch::wait_many(cx.waker(), "Signal::recv", || On::Nothing); // the descriptor has noted what it waits for
        }
        ready!(polled)?;
        while self.fd.try_with(Direction::Read, &mut read).is_ok_and(|n| n > 0) {}
        Poll::Ready(Ok(()))
    }

    /// Which signal this listens to.
    pub fn kind(&self) -> SignalKind {
        self.kind
    }
}

impl Stream for Signal {
    type Item = io::Result<()>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx).map(Some)
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        low_level::unregister(self.hook);
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signal [{:?}]", self.kind)
    }
}

/// Calls `handler` on this loop whenever the signal comes, until the guard is dropped: asyncio's `add_signal_handler`.
///
/// A handler that panics is reported and stays. Differs from asyncio: another handler for the same signal is called too, and
/// does not take the place of the first; drop the first one's guard for that.
///
/// # Errors
///
/// As [`signal`]; or the runtime cannot spawn on this thread.
///
/// # Examples
///
/// ```no_run
/// use evenloop_streams::signal::{SignalKind, add_signal_handler};
/// # fn example() -> std::io::Result<()> {
/// let _reload = add_signal_handler(SignalKind::HANGUP, || println!("reading the settings again"))?;
/// # Ok(()) }
/// ```
pub fn add_signal_handler(
    kind: SignalKind,
    mut handler: impl FnMut() + 'static,
) -> io::Result<SignalHandler> {
    let spawn = Runtime::current_spawn("add_signal_handler").map_err(io::Error::other)?;
    let (mut arrivals, host) = (signal(kind)?, spawn.clone());
    let scope = evenloop_core::cancel::CancelScope::new();
    let serves = scope.run(async move {
        while arrivals.recv().await.is_ok() {
            call_back(&*host, "add_signal_handler", &mut handler); // G3
        }
    });
    let task = async move { drop(serves.await) };
    spawn.spawn_local(Box::pin(task)).map_err(|not| io::Error::other(not.why))?;
    Ok(SignalHandler { kind, scope })
}

/// A handler that is called when a signal comes. Dropping it takes the handler away.
#[must_use = "dropping it takes the handler away"]
#[doc(alias = "remove_signal_handler")]
pub struct SignalHandler {
    kind: SignalKind,
    scope: evenloop_core::cancel::CancelScope,
}

impl Drop for SignalHandler {
    fn drop(&mut self) {
        self.scope.cancel("the signal handler was removed");
    }
}

impl fmt::Debug for SignalHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignalHandler [{:?}]", self.kind)
    }
}

// === What happens while nobody listens ===

static LISTENERS: OnceLock<GlobalMutex<BTreeMap<SignalKind, StdArc<AtomicUsize>>>> = OnceLock::new();

/// One listener, counted.
struct Listens(StdArc<AtomicUsize>);

impl Listens {
    /// Counts one more, and the first time sees to it that a signal nobody listens to does what it did before (G2).
    fn start(kind: SignalKind) -> io::Result<Self> {
        let mut listeners = LISTENERS.get_or_init(GlobalMutex::default).lock();
        if let Some(count) = listeners.get(&kind) {
            // ORDERING: Relaxed throughout: the count orders nothing, and a signal comes when it comes.
            count.fetch_add(1, Ordering::Relaxed);
            return Ok(Self(count.clone()));
        }
        let count = StdArc::new(AtomicUsize::new(1));
        if kind != SignalKind::INTERRUPT && does_as_the_system(kind)? {
            let counted = count.clone();
            let otherwise = move || {
                // ORDERING: Relaxed, as above.
                if counted.load(Ordering::Relaxed) == 0 {
                    let _ = low_level::emulate_default_handler(kind.as_raw());
                }
            };
            // SAFETY: the handler loads an atomic and calls what is documented as safe in a signal handler; it neither
            // allocates, nor locks, nor panics.
            unsafe { low_level::register(kind.as_raw(), otherwise) }?;
        }
        listeners.insert(kind, count.clone());
        Ok(Self(count))
    }
}

/// Whether the process has left the signal to the system; not so if it is ignored or has a handler.
fn does_as_the_system(kind: SignalKind) -> io::Result<bool> {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action the call changes nothing; the place for the old one is ours.
    if unsafe { libc::sigaction(kind.as_raw(), std::ptr::null(), action.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded, so it has filled the place.
    Ok(unsafe { action.assume_init() }.sa_sigaction == libc::SIG_DFL)
}

impl Drop for Listens {
    fn drop(&mut self) {
        // ORDERING: Relaxed, as above.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
