//! Ctrl-C, as a future.
//!
//! The first listener of the process takes over SIGINT. The signal handler writes a byte into a socket, which is all that a
//! handler may safely do; one thread reads it there and tells the listeners. Once that thread runs it stays, for signal
//! handlers cannot be taken out safely either; when nobody listens it does what the system would have done.
//!
//! I1. A Ctrl-C goes to every listener that has not been told of one yet. If there is none, because nobody listens or
//!     because all are still busy ending, it ends the process: the second Ctrl-C always works.
//! I2. Wakers run after the lock. One that panics keeps neither the others nor the thread from anything.

use evenloop_core::WakeBatch;
use evenloop_core::shim::{GlobalMutex, OnceLock};
use evenloop_core::watch::{self, On};
use signal_hook::consts::SIGINT;
use signal_hook::low_level;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Waits for Ctrl-C (SIGINT), from the moment of this call on.
///
/// While a listener exists that has not been told of one, Ctrl-C does not end the process. A second Ctrl-C that nobody
/// is left to be told of does, as if nobody had listened.
///
/// # Cancel safety
///
/// **Cancel safe.** Dropping it stops listening.
///
/// # Errors
///
/// The first call of the process takes over SIGINT and starts a thread; either may fail.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// evenloop_executor::ctrl_c()?.await;
/// println!("ending");
/// # Ok(())
/// # }
/// ```
#[doc(alias = "SIGINT")]
pub fn ctrl_c() -> io::Result<CtrlC> {
    start()?;
    let mut listeners = LISTENERS.get_or_init(GlobalMutex::default).lock();
    listeners.last += 1;
    let id = listeners.last;
    listeners.by_id.insert(id, Listener::default());
    Ok(CtrlC { id })
}

/// The future of [`ctrl_c`].
#[must_use = "futures do nothing unless awaited"]
pub struct CtrlC {
    id: u64,
}

#[derive(Default)]
struct Listeners {
    last: u64,
    by_id: BTreeMap<u64, Listener>,
}

#[derive(Default)]
struct Listener {
    told: bool,
    waker: Option<Waker>,
}

static LISTENERS: OnceLock<GlobalMutex<Listeners>> = OnceLock::new();

/// Takes over SIGINT, once.
fn start() -> io::Result<()> {
    static STARTED: OnceLock<GlobalMutex<bool>> = OnceLock::new();
    let mut started = STARTED.get_or_init(GlobalMutex::default).lock();
    if !*started {
        let (mut reading, writing) = UnixStream::pair()?;
        std::thread::Builder::new().name("evenloop-sigint".into()).spawn(move || {
            let mut byte = [0];
            while reading.read_exact(&mut byte).is_ok() {
                tell();
            }
        })?;
        low_level::pipe::register(SIGINT, writing)?;
        *started = true;
    }
    Ok(())
}

/// Tells the listeners of a Ctrl-C (I1).
fn tell() {
    let mut batch = WakeBatch::new();
    let mut nobody = true;
    loop {
        let mut listeners = LISTENERS.get_or_init(GlobalMutex::default).lock();
        for listener in listeners.by_id.values_mut().filter(|listener| !listener.told) {
            if batch.is_full() {
                break;
            }
            listener.told = true;
            nobody = false;
            listener.waker.take().into_iter().for_each(|waker| batch.push(waker));
        }
        let more = listeners.by_id.values().any(|listener| !listener.told);
        drop(listeners);
        batch.wake_all_reporting(); // I2
        if !more {
            break;
        }
    }
    if nobody {
        // Ends the process; it fails for signals without a default only.
        let _ = low_level::emulate_default_handler(SIGINT);
    }
}

impl Future for CtrlC {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut listeners = LISTENERS.get_or_init(GlobalMutex::default).lock();
        let listener = listeners.by_id.get_mut(&self.id).expect("stays until it is dropped");
        let told = listener.told;
        let before = listener.waker.replace(waker);
        drop(listeners);
        drop(before); // I2
        let polled = if told { Poll::Ready(()) } else { Poll::Pending };
        watch::noted(polled, cx, "ctrl_c", || On::Nothing)
    }
}

impl Drop for CtrlC {
    fn drop(&mut self) {
        let gone = LISTENERS.get_or_init(GlobalMutex::default).lock().by_id.remove(&self.id);
        drop(gone); // I2
    }
}

impl fmt::Debug for CtrlC {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CtrlC").finish_non_exhaustive()
    }
}
