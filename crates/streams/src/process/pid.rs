//! One child that was not reaped, as the kernel knows it: by its number and, where there are pidfds, by a descriptor.
//!
//! With a pidfd nothing can go wrong even if somebody else reaps our children: the descriptor names this child for ever.
//! Without one, the number is only as good as the promise that nobody else reaps, so before a signal is sent the kernel is
//! asked whether the number is still a child of ours.

use super::exit::{Kernel, Outcome};
use crate::signal_kind::SignalKind;
use evenloop_core::shim::StdArc;
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, kill_process, kill_process_group, waitid};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

/// What it takes to reap a child and to signal it. Lives in the child's `Exit` until it is reaped.
#[derive(Debug)]
pub(crate) struct Running {
    pid: Pid,
    /// Shared with the reactor's registration.
    pidfd: Option<StdArc<OwnedFd>>,
    /// The child leads a group of its own, whose number is the child's.
    leads_group: bool,
    /// Whoever is left of the group is killed when the child is reaped.
    sweeps_group: bool,
}

impl Running {
    pub(crate) fn new(pid: Pid, pidfd: Option<StdArc<OwnedFd>>, leads_group: bool) -> Self {
        Self { pid, pidfd, leads_group, sweeps_group: false }
    }

    pub(crate) fn pidfd(&self) -> Option<StdArc<OwnedFd>> {
        self.pidfd.clone()
    }

    /// From now on, reaping the child kills whoever is left of its group.
    pub(crate) fn sweep_group(&mut self) {
        self.sweeps_group = self.leads_group;
    }

    /// Sends the child a signal. One that has ended takes it silently.
    pub(crate) fn signal(&self, signal: SignalKind) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if let Some(pidfd) = &self.pidfd {
            return fine_if_gone(rustix::process::pidfd_send_signal(pidfd, sendable(signal)?));
        }
        if !self.is_ours() {
            return Ok(());
        }
        fine_if_gone(kill_process(self.pid, sendable(signal)?))
    }

    /// Sends everybody in the child's group a signal.
    pub(crate) fn signal_group(&self, signal: SignalKind) -> io::Result<()> {
        if !self.leads_group {
            let message = "the child has no group of its own: start it with `Command::own_group`";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        // The group's number is the child's, so it is the group's as long as the child was not reaped.
        if !self.is_ours() {
            return Ok(());
        }
        fine_if_gone(kill_process_group(self.pid, sendable(signal)?))
    }

    /// Whether nobody else has reaped the child.
    fn is_ours(&self) -> bool {
        self.wait(WaitIdOptions::NOWAIT).is_ok()
    }

    /// The status, if the child has ended.
    fn wait(&self, options: WaitIdOptions) -> Result<Option<WaitIdStatus>, Errno> {
        loop {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | options;
            match waitid(self.id(), options) {
                Err(Errno::INTR) => {}
                answer => return answer,
            }
        }
    }

    fn id(&self) -> WaitId<'_> {
        #[cfg(target_os = "linux")]
        if let Some(pidfd) = &self.pidfd {
            use std::os::fd::AsFd as _;
            return WaitId::PidFd(pidfd.as_fd());
        }
        WaitId::Pid(self.pid)
    }
}

impl Kernel for Running {
    fn reap(&mut self) -> Option<Outcome> {
        if self.sweeps_group && matches!(self.wait(WaitIdOptions::NOWAIT), Ok(Some(_))) {
            // Between its end and its being reaped the child keeps its group's number from being used again.
            let _ = kill_process_group(self.pid, rustix::process::Signal::KILL);
        }
        match self.wait(WaitIdOptions::empty()) {
            Ok(None) => None,
            Ok(Some(status)) => Some(Outcome::Status(exit_status(&status))),
            Err(error) => Some(Outcome::Lost(error.raw_os_error())),
        }
    }
}

/// Waits until the child has ended, and leaves its status where it is. Blocks the thread.
pub(crate) fn block_until_ended(pid: Pid) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    // Any other error: it is no child of ours any more, as whoever reaps is going to be told too.
    while let Err(Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
}

/// A descriptor of the child, if this kernel has such.
pub(crate) fn open_pidfd(pid: Pid) -> Option<StdArc<OwnedFd>> {
    #[cfg(target_os = "linux")]
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok();
    #[cfg(not(target_os = "linux"))]
    let pidfd = {
        let _ = pid;
        None
    };
    pidfd.map(StdArc::new)
}

/// The kernel takes any number; rustix takes those with a name.
fn sendable(signal: SignalKind) -> io::Result<rustix::process::Signal> {
    signal.named().ok_or_else(|| {
        let message = format!("{signal:?} cannot be sent: it is no signal with a name");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })
}

/// A child that has ended is signalled in vain, which is no error.
fn fine_if_gone(sent: Result<(), Errno>) -> io::Result<()> {
    match sent {
        Err(Errno::SRCH) => Ok(()),
        sent => Ok(sent?),
    }
}

/// std's form of the status, which is `waitpid`'s: the code in the second byte, or the signal in the first.
fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    let raw = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => (code & 0xff) << 8,
        (None, Some(signal)) => signal | if status.dumped() { 0x80 } else { 0 },
        (None, None) => unreachable!("only children that have ended are asked for"),
    };
    ExitStatus::from_raw(raw)
}
