//! The seam to whoever runs futures and blocking jobs.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// A future that any thread may run.
pub type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A future that stays on its thread.
pub type LocalBoxFuture = Pin<Box<dyn Future<Output = ()>>>;

/// A job that may block its thread.
pub type BoxJob = Box<dyn FnOnce() + Send>;

/// Hands futures and blocking jobs to whoever runs them.
///
/// This is the way for crates that do not know their host: one box a spawn. Evenloop's own loop has a shorter one for
/// those who know it (`create_task`, one allocation with everything in it).
pub trait Spawn: Send + Sync {
    /// Runs `future` in the background, from its next turn on; never polls it inside this call.
    ///
    /// # Errors
    ///
    /// The host has ended or takes no more; the future comes back.
    fn spawn(&self, future: BoxFuture) -> Result<(), NotSpawned<BoxFuture>>;

    /// As [`spawn`](Self::spawn), for a future that must stay on the calling thread.
    ///
    /// # Errors
    ///
    /// The host has ended, does not run on this thread, or moves its tasks between threads; the future comes back.
    fn spawn_local(&self, future: LocalBoxFuture) -> Result<(), NotSpawned<LocalBoxFuture>>;

    /// Runs `job` on a thread that may be blocked.
    ///
    /// # Errors
    ///
    /// The host has ended or cannot start a thread; the job comes back.
    fn spawn_blocking(&self, job: BoxJob) -> Result<(), NotSpawned<BoxJob>>;

    /// Tells whoever watches over the host what nobody else can see any more, such as an error that was never asked for.
    /// Called from destructors too, so it must not panic.
    ///
    /// Prints to the standard error stream, unless the host has a better place.
    fn report(&self, what: &dyn fmt::Display) {
        eprintln!("{what}");
    }

    /// Whether the host is in debug mode: then it is told of mistakes too that do no harm at once. See
    /// [`Runtime::report_in_debug`](crate::Runtime::report_in_debug).
    ///
    /// Default: not.
    fn is_debug(&self) -> bool {
        false
    }
}

/// A spawn that did not happen, with what was handed in.
///
/// # Examples
///
/// ```
/// use evenloop_core::NotSpawned;
///
/// let refused = NotSpawned { value: "the future that was handed in", why: "the event loop is closed" };
/// assert_eq!(refused.to_string(), "not spawned: the event loop is closed");
/// assert_eq!(refused.into_inner(), "the future that was handed in");
/// ```
pub struct NotSpawned<T> {
    /// What was handed in.
    pub value: T,
    /// Why, in the host's words: lower case, no full stop.
    pub why: &'static str,
}

impl<T> NotSpawned<T> {
    /// Takes back what was handed in.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> fmt::Debug for NotSpawned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotSpawned").field("why", &self.why).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for NotSpawned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not spawned: {}", self.why)
    }
}

impl<T> Error for NotSpawned<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    /// What need not be written for a host is not.
    struct Plain;

    impl Spawn for Plain {
        fn spawn(&self, value: BoxFuture) -> Result<(), NotSpawned<BoxFuture>> {
            Err(NotSpawned { value, why: "it is plain" })
        }

        fn spawn_local(&self, value: LocalBoxFuture) -> Result<(), NotSpawned<LocalBoxFuture>> {
            Err(NotSpawned { value, why: "it is plain" })
        }

        fn spawn_blocking(&self, job: BoxJob) -> Result<(), NotSpawned<BoxJob>> {
            job();
            Ok(())
        }
    }

    #[test]
    fn a_host_that_says_nothing_prints_its_reports_and_is_not_in_debug_mode() {
        Plain.report(&"printed by a test");
        assert!(!Plain.is_debug());
        let refused = Plain.spawn(Box::pin(async {})).unwrap_err();
        assert_eq!(format!("{refused:?}"), "NotSpawned { why: \"it is plain\", .. }");
    }
}
