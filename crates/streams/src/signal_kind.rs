//! Which signal: to listen to, or to send to a child.

use std::fmt;

/// Which signal. Those without a constant here come from [`from_raw`](Self::from_raw).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SignalKind(i32);

impl SignalKind {
    /// SIGHUP: the terminal is gone; for servers often "read your settings again".
    #[doc(alias = "SIGHUP")]
    pub const HANGUP: Self = Self(rustix::process::Signal::HUP.as_raw());
    /// SIGINT: what Ctrl-C sends.
    #[doc(alias = "SIGINT")]
    pub const INTERRUPT: Self = Self(rustix::process::Signal::INT.as_raw());
    /// SIGQUIT: what Ctrl-\ sends.
    #[doc(alias = "SIGQUIT")]
    pub const QUIT: Self = Self(rustix::process::Signal::QUIT.as_raw());
    /// SIGTERM: please end.
    #[doc(alias = "SIGTERM")]
    pub const TERMINATE: Self = Self(rustix::process::Signal::TERM.as_raw());
    /// SIGKILL: the end, which cannot be caught.
    #[doc(alias = "SIGKILL")]
    pub const KILL: Self = Self(rustix::process::Signal::KILL.as_raw());
    /// SIGSTOP: a pause, which cannot be caught.
    #[doc(alias = "SIGSTOP")]
    pub const STOP: Self = Self(rustix::process::Signal::STOP.as_raw());
    /// SIGCONT: the end of a pause.
    #[doc(alias = "SIGCONT")]
    pub const CONTINUE: Self = Self(rustix::process::Signal::CONT.as_raw());
    /// SIGUSR1: whatever the program says it means.
    #[doc(alias = "SIGUSR1")]
    pub const USER_1: Self = Self(rustix::process::Signal::USR1.as_raw());
    /// SIGUSR2: whatever the program says it means.
    #[doc(alias = "SIGUSR2")]
    pub const USER_2: Self = Self(rustix::process::Signal::USR2.as_raw());
    /// SIGCHLD: a child has changed its state.
    #[doc(alias = "SIGCHLD")]
    pub const CHILD: Self = Self(rustix::process::Signal::CHILD.as_raw());
    /// SIGWINCH: the terminal has another size.
    #[doc(alias = "SIGWINCH")]
    pub const WINDOW_CHANGE: Self = Self(rustix::process::Signal::WINCH.as_raw());

    /// The signal of that number. A real-time signal can be listened to; it cannot be sent from here.
    pub const fn from_raw(number: i32) -> Self {
        Self(number)
    }

    /// The signal's number.
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    /// The signal to send, if it is one with a name.
    pub(crate) fn named(self) -> Option<rustix::process::Signal> {
        rustix::process::Signal::from_named_raw(self.0)
    }
}

impl fmt::Debug for SignalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::HANGUP => "SIGHUP",
            Self::INTERRUPT => "SIGINT",
            Self::QUIT => "SIGQUIT",
            Self::TERMINATE => "SIGTERM",
            Self::KILL => "SIGKILL",
            Self::STOP => "SIGSTOP",
            Self::CONTINUE => "SIGCONT",
            Self::USER_1 => "SIGUSR1",
            Self::USER_2 => "SIGUSR2",
            Self::CHILD => "SIGCHLD",
            Self::WINDOW_CHANGE => "SIGWINCH",
            Self(number) => return write!(f, "signal {number}"),
        };
        f.write_str(name)
    }
}
