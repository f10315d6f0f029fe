//! How a child is ended by those who no longer want it.

use crate::signal_kind::SignalKind;
use std::time::Duration;

/// What happens to a child that still runs when its handle is dropped, or when whoever waits for it is cancelled.
///
/// # Examples
///
/// ```
/// use evenloop_streams::process::{Ending, SignalKind};
/// use std::time::Duration;
///
/// let gentle = Ending::terminate(Duration::from_secs(5));
/// assert_eq!(gentle, Ending::Ask { signal: SignalKind::TERMINATE, grace: Duration::from_secs(5) });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing: it runs on, and is reaped when it ends.
    Leave,
    /// It is killed.
    Kill,
    /// It is sent a signal, and killed if it has not ended after the period of grace.
    Ask {
        /// What it is sent. A real-time signal cannot be sent: then it is left alone until the grace is over.
        signal: SignalKind,
        /// How long it may take, in real time.
        grace: Duration,
    },
}

impl Ending {
    /// SIGTERM, and SIGKILL after `grace`.
    pub const fn terminate(grace: Duration) -> Self {
        Self::Ask { signal: SignalKind::TERMINATE, grace }
    }
}
