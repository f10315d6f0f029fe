//! A child process for as long as it has not been reaped, whoever has let go of it.
//!
//! ```text
//!            ┌─────────── the loop's reactor: its pidfd is readable ──┐
//! started ───┤                                                        ├──► reaped, published
//!            └── no pidfd: a thread of its own waits ─────────────────┘        ▲
//!                  the reactor ends, or the handle is dropped ──► the reaper ──┘
//! ```
//!
//! C1. Somebody watches until the child is reaped: the registration with a reactor keeps the record alive (its waker is
//!     the record itself), and so does the thread. So no child stays a zombie, whatever is dropped when.
//! C2. The waker reaps: a child is reaped when the loop turns, also if nobody waits for it.
//! C3. Lock order: `watch`, then the exit's. Wakers of others run with neither held.
//! C4. A pidfd has no copies but those here: once the child is reaped, the last of them is dropped, and the close tells the
//!     reactor's kernel. News of it that were on their way find nothing.
//! C5. Without pidfd, and where the reactor refuses, a thread blocks in `waitid` without reaping, then reaps as everybody
//!     else does, under the exit's lock.
//!
//! ORDERING: Relaxed for `BY_THREADS`: it is set before children are started, and orders nothing.

use super::ending::Ending;
use super::exit::{Exit, Outcome};
use super::pid::{self, Running};
use super::reaper;
use crate::async_fd::AsyncFd;
use crate::error::IoFailure;
use crate::signal_kind::SignalKind;
use evenloop_core::shim::atomic::Ordering;
use evenloop_core::shim::{GlobalAtomicUsize, Mutex, StdArc, thread};
use evenloop_core::{Direction, Reactor, Ready};
use rustix::process::Pid;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::task::{Context, Poll, Wake, Waker};

/// Whether new children are watched by threads although there may be pidfds: 0 or 1.
static BY_THREADS: GlobalAtomicUsize = GlobalAtomicUsize::new(0);

/// Watches children that are started from now on by a thread each, as on kernels without pidfds (Linux before 5.4).
///
/// For sandboxes in which pidfds misbehave, and for tests. Costs a thread with a small stack for each child that runs.
pub fn watch_by_threads(yes: bool) {
    BY_THREADS.store(yes.into(), Ordering::Relaxed);
}

/// How much stack a thread needs that waits for a child, and then wakes who waits for it.
const STACK_BYTES: usize = 128 * 1024;

/// A child, shared by its handles and by whoever watches it.
pub(crate) struct Child {
    pub(crate) program: StdArc<str>,
    pub(crate) pid: Pid,
    pub(crate) exit: Exit<Running>,
    /// The registration of the pidfd with a reactor, until the child is reaped (C1).
    watch: Mutex<Option<AsyncFd<StdArc<OwnedFd>>>>,
}

impl Child {
    /// Takes charge of a child that was just started, and has `reactor` watch it.
    ///
    /// # Errors
    ///
    /// Nobody can watch it: no pidfd, and no thread. It is killed and reaped then.
    pub(crate) fn adopt(
        program: &StdArc<str>,
        pid: Pid,
        leads_group: bool,
        reactor: StdArc<dyn Reactor>,
    ) -> io::Result<StdArc<Self>> {
        let pidfd = if BY_THREADS.load(Ordering::Relaxed) != 0 { None } else { pid::open_pidfd(pid) };
        let exit = Exit::new(Running::new(pid, pidfd.clone(), leads_group));
        let child = StdArc::new(Self { program: program.clone(), pid, exit, watch: Mutex::new(None) });
        let is_watched = pidfd.is_some_and(|pidfd| child.watch_on(pidfd, reactor));
        let watched = if is_watched { Ok(()) } else { child.watch_by_thread() };
        watched.map_err(|error| {
            let _ = child.signal(SignalKind::KILL);
            pid::block_until_ended(pid); // soon: it was killed
            child.look();
            IoFailure::wrap("starting", format_args!("`{program}` (no thread to watch it)"), error)
        })?;
        Ok(child)
    }

    /// Reaps the child if it has ended, and says so to all who wait. True: it has ended.
    pub(crate) fn look(&self) -> bool {
        if self.exit.outcome().is_some() {
            return true; // whoever has noticed says so
        }
        let ended = self.exit.reap();
        if ended {
            let watch = self.watch.lock().take();
            watch.into_iter().for_each(AsyncFd::close_last); // C4
            self.exit.publish(); // C3
        }
        ended
    }

    /// Has `reactor` watch the pidfd. False: it cannot.
    fn watch_on(self: &StdArc<Self>, pidfd: StdArc<OwnedFd>, reactor: StdArc<dyn Reactor>) -> bool {
        let Ok(watch) = AsyncFd::watch(pidfd, reactor, Ready::NOTHING) else { return false };
        let before = self.watch.lock().replace(watch);
        drop(before);
        self.news();
        true
    }

    /// The reactor has news of the child, or was just asked to watch: reaps it, or waits on.
    fn news(self: &StdArc<Self>) {
        let waker = Waker::from(self.clone());
        let mut cx = Context::from_waker(&waker);
        let (watch, ended) = {
            let mut watch = self.watch.lock();
            let Some(fd) = &*watch else { return };
            match fd.poll_quietly(Direction::Read, &mut cx, || self.exit.reap().then_some(())) {
                Poll::Pending => return,
                Poll::Ready(ended) => (watch.take(), ended.is_ok()),
            }
        };
        if ended {
            watch.into_iter().for_each(AsyncFd::close_last); // C4
            self.exit.publish(); // C3
        } else {
            drop(watch);
            self.hand_over(); // its reactor has ended
        }
    }

    /// A thread waits for the child from now on.
    fn watch_by_thread(self: &StdArc<Self>) -> io::Result<()> {
        let child = self.clone();
        let watch = move || {
            pid::block_until_ended(child.pid); // C5
            child.look();
        };
        let thread = thread::Builder::new().name(format!("wait {}", self.pid.as_raw_nonzero()));
        thread.stack_size(STACK_BYTES).spawn(watch)?;
        Ok(())
    }

    /// From now on the process's own reaper watches, which needs no loop that turns.
    pub(crate) fn hand_over(self: &StdArc<Self>) {
        let pidfd = self.exit.while_running(|running| running.pidfd());
        let Some(Some(pidfd)) = pidfd else { return }; // it has ended, or a thread watches it
        let watch = self.watch.lock().take();
        drop(watch); // from one reactor to the other: the new one is told of what was before
        let is_watched = reaper::handle().is_ok_and(|reaper| self.watch_on(pidfd, StdArc::new(reaper)));
        let watched = if is_watched { Ok(()) } else { self.watch_by_thread() };
        if let Err(error) = watched {
            let Self { program, pid, .. } = &**self;
            let pid = pid.as_raw_nonzero();
            eprintln!("nobody waits for `{program}` (process {pid}) any more: no thread to do so: {error}");
        }
    }

    /// What is to be done when the handle is dropped. True: it runs.
    pub(crate) fn let_go(self: &StdArc<Self>, ending: Ending, group: bool) -> bool {
        if self.look() {
            return false;
        }
        self.begin_to_end(ending, group);
        self.hand_over();
        true
    }

    /// Sends the signal that `ending` says, and sees to it that the period of grace ends.
    pub(crate) fn begin_to_end(self: &StdArc<Self>, ending: Ending, group: bool) {
        match ending {
            Ending::Leave => {}
            Ending::Kill => self.send(SignalKind::KILL, group),
            Ending::Ask { signal, grace } => {
                self.send(signal, group);
                if reaper::kill_after(grace, self, group).is_err() {
                    self.send(SignalKind::KILL, group); // nobody there who could wait for the end of the grace
                }
            }
        }
    }

    /// Sends a signal as part of ending the child.
    pub(crate) fn send(&self, signal: SignalKind, group: bool) {
        // It fails for a child that has become another user's: then there is nothing that could be done.
        let _ = if group {
            self.exit.while_running(Running::sweep_group);
            self.signal_group(signal)
        } else {
            self.signal(signal)
        };
    }

    /// Sends the child a signal, unless it has ended.
    pub(crate) fn signal(&self, signal: SignalKind) -> io::Result<()> {
        let sent = self.exit.while_running(|running| running.signal(signal)).unwrap_or(Ok(()));
        sent.map_err(|error| self.failed("sending a signal to", error))
    }

    /// Sends the child's group a signal, unless the child was reaped.
    pub(crate) fn signal_group(&self, signal: SignalKind) -> io::Result<()> {
        let sent = self.exit.while_running(|running| running.signal_group(signal)).unwrap_or(Ok(()));
        sent.map_err(|error| self.failed("sending a signal to the group of", error))
    }

    pub(crate) fn failed(&self, operation: &'static str, cause: io::Error) -> io::Error {
        IoFailure::wrap(operation, self, cause)
    }

    /// The status, or that it was lost.
    pub(crate) fn status(&self, outcome: Outcome) -> io::Result<ExitStatus> {
        match outcome {
            Outcome::Status(status) => Ok(status),
            Outcome::Lost(number) => {
                let whom = format_args!(
                    "{self}, whose status was taken by somebody else (SIGCHLD is ignored, or another part of this \
                     process waits for all children)"
                );
                Err(IoFailure::wrap("waiting for", whom, io::Error::from_raw_os_error(number)))
            }
        }
    }
}

/// Reaps (C2).
impl Wake for Child {
    fn wake(self: StdArc<Self>) {
        self.news();
    }

    fn wake_by_ref(self: &StdArc<Self>) {
        self.news();
    }
}

impl fmt::Display for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (process {})", self.program, self.pid.as_raw_nonzero())
    }
}
