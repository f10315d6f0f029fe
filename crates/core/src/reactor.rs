//! The seam to whoever watches descriptors.
//!
//! A descriptor is registered once, for both directions, until it is deregistered. What its engine and its owner share is
//! a [`Readiness`]: the engine writes into it what it learns, the owner reads there whether a system call is worth trying.
//! So the engine is called twice in the life of a descriptor and never at a poll, and nothing here says how it learns:
//! epoll, kqueue, a completion ring or a test.

mod readiness;

pub use readiness::{AwaitReady, Direction, Readiness, Ready, Seen, Unwatched, WaiterKey};

use crate::shim::StdArc;
use std::io;
use std::os::fd::BorrowedFd;

/// Watches descriptors, and writes what it learns into their [`Readiness`]. Called from any thread.
pub trait Reactor: Send + Sync {
    /// Watches `fd` in both directions until [`deregister`](Self::deregister), or until the engine ends.
    ///
    /// The engine reports every change from not ready to ready at least once, and the state it finds now. The descriptor
    /// must be non-blocking; one descriptor is registered at most once at a time.
    ///
    /// # Errors
    ///
    /// What the kernel answered (a regular file cannot be watched, a limit is reached), or the engine has ended. Nothing
    /// is kept then.
    fn register(&self, fd: BorrowedFd<'_>, readiness: &StdArc<Readiness>) -> io::Result<SourceKey>;

    /// Stops watching: when this returns, the engine has let go of the readiness, and whoever waited on it has been woken
    /// and is told [`Unwatched::Deregistered`]. To be called before the descriptor is closed. A stale key is harmless.
    fn deregister(&self, fd: BorrowedFd<'_>, key: SourceKey);

    /// As [`deregister`](Self::deregister), for the last copy of a descriptor, which is closed next. An engine whose kernel
    /// forgets what is closed need not ask it to.
    fn deregister_last(&self, fd: BorrowedFd<'_>, key: SourceKey) {
        self.deregister(fd, key);
    }
}

/// Names one registration of one [`Reactor`]; never names another one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceKey(u64);

impl SourceKey {
    /// Wraps the engine's own number for a registration.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The engine's own number for the registration.
    pub const fn into_raw(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::Mutex;
    use std::os::fd::AsFd;

    #[derive(Default)]
    struct Plain(Mutex<Vec<SourceKey>>);

    impl Reactor for Plain {
        fn register(&self, _: BorrowedFd<'_>, _: &StdArc<Readiness>) -> io::Result<SourceKey> {
            Ok(SourceKey::from_raw(7))
        }

        fn deregister(&self, _: BorrowedFd<'_>, key: SourceKey) {
            self.0.lock().push(key);
        }
    }

    #[test]
    fn an_engine_that_has_to_ask_the_kernel_asks_for_the_last_one_too() {
        let (plain, stdin) = (Plain::default(), io::stdin());
        let readiness = StdArc::new(Readiness::new(Ready::NOTHING));
        let key = plain.register(stdin.as_fd(), &readiness).unwrap();
        plain.deregister_last(stdin.as_fd(), key);
        assert_eq!(plain.0.lock().iter().map(|key| key.into_raw()).collect::<Vec<_>>(), [7]);
    }
}
