//! Signals to children.

use std::fmt;

/// A signal to send. Those without a constant here come from [`from_raw`](Self::from_raw).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signal(rustix::process::Signal);

impl Signal {
    /// SIGHUP: the terminal is gone; for servers often "read your settings again".
    pub const HANGUP: Self = Self(rustix::process::Signal::HUP);
    /// SIGINT: what Ctrl-C sends.
    pub const INTERRUPT: Self = Self(rustix::process::Signal::INT);
    /// SIGQUIT: what Ctrl-\ sends.
    pub const QUIT: Self = Self(rustix::process::Signal::QUIT);
    /// SIGTERM: please end.
    pub const TERMINATE: Self = Self(rustix::process::Signal::TERM);
    /// SIGKILL: the end, which cannot be caught.
    pub const KILL: Self = Self(rustix::process::Signal::KILL);
    /// SIGSTOP: a pause, which cannot be caught.
    pub const STOP: Self = Self(rustix::process::Signal::STOP);
    /// SIGCONT: the end of a pause.
    pub const CONTINUE: Self = Self(rustix::process::Signal::CONT);
    /// SIGUSR1: whatever the program says it means.
    pub const USER_1: Self = Self(rustix::process::Signal::USR1);
    /// SIGUSR2: whatever the program says it means.
    pub const USER_2: Self = Self(rustix::process::Signal::USR2);

    /// The signal of that number, if it is one with a name: real-time signals are not sent from here.
    pub const fn from_raw(number: i32) -> Option<Self> {
        match rustix::process::Signal::from_named_raw(number) {
            Some(signal) => Some(Self(signal)),
            None => None,
        }
    }

    /// The signal's number.
    pub const fn as_raw(self) -> i32 {
        self.0.as_raw()
    }

    pub(crate) const fn named(self) -> rustix::process::Signal {
        self.0
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
