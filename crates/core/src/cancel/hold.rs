//! Code that cannot go on: it passed a request on and waits, or ended the code around it.
//!
//! It holds that request open. What another branch absorbs does not close it, for this one would wait for ever. It does so
//! until it is dropped, or until the nearest catcher around it has left the tree: whatever waited inside is gone then, even
//! if a part of it lives on (a task's handle that was awaited by reference, say).

use super::marks::Home;
use crate::shim::Arc;
use crate::shim::atomic::{AtomicBool, Ordering};
use std::fmt;

pub(crate) struct Hold {
    /// The nearest catcher around, within the scope that was asked.
    home: Home,
    ended: AtomicBool,
}

impl Hold {
    pub(crate) fn new(home: Home) -> Arc<Self> {
        Arc::new(Self { home, ended: AtomicBool::new(false) })
    }

    /// Whether the code still waits there.
    pub(crate) fn holds(&self) -> bool {
        // ORDERING: Relaxed: nothing is read because of it. An end that comes while somebody looks may as well have come
        // later: the request has another round then.
        !self.ended.load(Ordering::Relaxed) && self.home.as_ref().is_none_or(|home| !home.is_gone())
    }

    pub(crate) fn end(&self) {
        // ORDERING: as in `holds`.
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// The code around a future was [cancelled by it](super::raise). Kept by that future, which is pending from then on: so
/// nobody else can absorb the cancellation in its stead. Dropping it says that nobody waits there any more.
#[must_use = "dropping it lets another branch absorb the cancellation, and this one waits for ever"]
pub struct Raised(Arc<Hold>);

impl Raised {
    pub(crate) fn new(hold: &Arc<Hold>) -> Self {
        Self(hold.clone())
    }

    /// Whether nobody waits any more where this was raised, because the code around it caught the cancellation. For a
    /// future that may be awaited by reference, and so again.
    pub fn is_over(&self) -> bool {
        !self.0.holds()
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl fmt::Debug for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_over() { "Raised [over]" } else { "Raised [waiting]" })
    }
}

/// What was [raised](super::raise) in a poll of a task, for its host to [hand in](super::Requests::raise).
#[must_use = "whoever raised it waits for it"]
pub struct RaisedRequest {
    pub(crate) reason: super::Reason,
    pub(crate) holds: Vec<Arc<Hold>>,
}

impl fmt::Debug for RaisedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RaisedRequest [{}]", self.reason)
    }
}
