//! Why a task gave no value, in one word that is never null: so an outcome without a value is one word as well.
//!
//! J1. The word points to a box that is this error's own, or to [`UNSAID`], which is nobody's.

use crate::unhandled::panic_message;
use evenloop_core::cancel::Reason;
use evenloop_core::shim::Mutex;
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};

/// Why a task gave no value.
///
/// One pointer, so that outcomes stay small; one that was cancelled without a word needs no memory.
///
/// # Examples
///
/// ```
/// use evenloop_executor::{EventLoop, create_task};
///
/// EventLoop::new().run_until_complete(async {
///     let mut waits = create_task(std::future::pending::<()>());
///     waits.cancel("closing time");
///     let error = waits.join().await.unwrap_err();
///     assert!(error.is_cancelled());
///     assert_eq!(error.to_string(), "the task was cancelled: closing time");
///
///     let error = create_task(async { panic!("a bug") }).join().await.unwrap_err();
///     assert!(error.is_panic());
///     assert_eq!(error.to_string(), "the task panicked: a bug");
/// });
/// ```
pub struct JoinError(NonNull<Why>);

enum Why {
    /// Cancelled, without a word.
    Unsaid,
    Cancelled(Reason),
    /// In a mutex so that the error is `Sync` whatever the panic carries.
    Panicked(Mutex<Box<dyn Any + Send>>),
}

static UNSAID: Why = Why::Unsaid;

// SAFETY: J1: it is a box of what may be sent, or a reference to what lives for ever and may be shared.
unsafe impl Send for JoinError where Why: Send {}
// SAFETY: J1: it leads to what may be shared.
unsafe impl Sync for JoinError where Why: Sync {}

impl JoinError {
    #[inline]
    pub(crate) fn cancelled(reason: Reason) -> Self {
        if reason.text().is_none() {
            return Self(NonNull::from(&UNSAID));
        }
        Self::boxed(Why::Cancelled(reason))
    }

    pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> Self {
        Self::boxed(Why::Panicked(Mutex::new(panic)))
    }

    fn boxed(why: Why) -> Self {
        Self(NonNull::from(Box::leak(Box::new(why))))
    }

    #[inline]
    fn is_unsaid(&self) -> bool {
        ptr::eq(self.0.as_ptr(), &raw const UNSAID)
    }

    fn why(&self) -> &Why {
        // SAFETY: J1: either lives as long as this.
        unsafe { self.0.as_ref() }
    }

    /// Whether the task was cancelled.
    pub fn is_cancelled(&self) -> bool {
        !self.is_panic()
    }

    /// Why the task was cancelled. Without words if it was not, or nobody said why.
    pub fn reason(&self) -> Reason {
        match self.why() {
            Why::Cancelled(reason) => reason.clone(),
            Why::Unsaid | Why::Panicked(_) => Reason::default(),
        }
    }

    /// Whether the task panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.why(), Why::Panicked(_))
    }

    /// What the panic carried, to be handed on with [`resume_unwind`](std::panic::resume_unwind).
    ///
    /// # Errors
    ///
    /// The task did not panic; the error comes back.
    pub fn into_panic(self) -> Result<Box<dyn Any + Send>, Self> {
        if self.is_unsaid() {
            return Err(self);
        }
        let this = ManuallyDrop::new(self);
        // SAFETY: J1: it is a box, and nobody drops it again.
        match *unsafe { Box::from_raw(this.0.as_ptr()) } {
            Why::Panicked(panic) => Ok(panic.into_inner()),
            why => Err(Self::boxed(why)),
        }
    }
}

impl Drop for JoinError {
    #[inline]
    fn drop(&mut self) {
        if !self.is_unsaid() {
            // SAFETY: J1: it is a box of its own.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why() {
            Why::Panicked(panic) => write!(f, "the task panicked: {}", panic_message(&**panic.lock())),
            Why::Unsaid | Why::Cancelled(_) => match self.reason().text() {
                None => f.write_str("the task was cancelled"),
                Some(text) => write!(f, "the task was cancelled: {text}"),
            },
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError [{self}]")
    }
}

impl Error for JoinError {}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;
    use evenloop_core::shim::StdArc;

    #[test]
    fn an_outcome_without_a_value_is_one_word() {
        assert_eq!(size_of::<Result<(), JoinError>>(), size_of::<usize>());
        assert_eq!(size_of::<Option<JoinError>>(), size_of::<usize>());
    }

    #[test]
    fn it_says_why_whatever_it_points_to() {
        let unsaid = JoinError::cancelled(Reason::default());
        assert!(unsaid.is_cancelled() && !unsaid.is_panic() && unsaid.reason().text().is_none());
        let unsaid = unsaid.into_panic().unwrap_err();
        assert_eq!(unsaid.to_string(), "the task was cancelled");

        let said = JoinError::cancelled(Reason::from("closing time".to_owned()));
        let said = said.into_panic().unwrap_err();
        assert_eq!(said.reason().text(), Some("closing time"));
        assert_eq!(format!("{said:?}"), "JoinError [the task was cancelled: closing time]");

        let panicked = JoinError::panicked(Box::new("a bug"));
        assert!(panicked.is_panic() && panicked.reason().text().is_none());
        assert_eq!(panicked.to_string(), "the task panicked: a bug");
        assert_eq!(*panicked.into_panic().unwrap().downcast::<&str>().unwrap(), "a bug");
    }

    #[test]
    fn each_of_its_boxes_is_dropped_once() {
        let token = StdArc::new(());
        let error = || JoinError::panicked(Box::new(token.clone()));
        drop(error());
        let panic = error().into_panic().unwrap();
        assert_eq!(StdArc::strong_count(&token), 2);
        drop(panic);
        assert_eq!(StdArc::strong_count(&token), 1);
        drop(JoinError::cancelled(Reason::default()));
    }
}
