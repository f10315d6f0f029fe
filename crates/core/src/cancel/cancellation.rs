//! One cancellation that is asked of several.

use super::reason::Reason;
use crate::shim::GlobalAtomicUsize;
use crate::shim::atomic::Ordering;
use std::fmt;

/// One cancellation: of each who is asked by it, it is one request, however often and by whomever it is asked.
///
/// (It is a new one where it has been answered and a newer cancellation has come since.)
///
/// Whoever is cancelled while it awaits a task hands that on to the task ([`Requests::hand_in`](super::Requests::hand_in)). If both
/// were asked for the same cause, that is the same cancellation, which the task has had; as a second request it would strike the
/// clean-up that the first one caused. So who ends several at once (a group, a loop) makes one of these for all.
///
/// # Examples
///
/// ```
/// use evenloop_core::cancel::{CancelScope, Cancellation};
///
/// let [one, other] = [CancelScope::new(), CancelScope::new()];
/// let end = Cancellation::new("the end");
/// for scope in [&one, &other, &one] {
///     assert!(scope.cancel_by(&end)); // the third time it is none that is new
/// }
/// ```
#[derive(Clone)]
pub struct Cancellation {
    reason: Reason,
    origin: Origin,
}

/// Which cancellation a request stands for: the same one in each scope and task that was asked by it. Of two the greater is newer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin(usize);

impl Cancellation {
    /// One that is like no other.
    pub fn new(reason: impl Into<Reason>) -> Self {
        static LAST: GlobalAtomicUsize = GlobalAtomicUsize::new(0);
        // ORDERING: Relaxed: no two are the same, and the numbers of one place grow.
        Self { reason: reason.into(), origin: Origin(LAST.fetch_add(1, Ordering::Relaxed)) }
    }

    /// Why.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    pub(super) fn origin(&self) -> Origin {
        self.origin
    }
}

impl fmt::Debug for Cancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cancellation [{}]", self.reason)
    }
}
