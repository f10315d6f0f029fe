//! Doing all of several things, whichever of them panics.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The first panic of several things that are all done. It goes on afterwards.
///
/// The others are forgotten: what they carry is foreign, and may panic when it is dropped.
#[derive(Default)]
pub(crate) struct FirstPanic(Option<Box<dyn Any + Send>>);

impl FirstPanic {
    /// Does one of them.
    pub(crate) fn catch(&mut self, act: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(act)) {
            match self.0 {
                None => self.0 = Some(panic),
                Some(_) => mem::forget(panic),
            }
        }
    }

    /// All are done.
    pub(crate) fn go_on(self) {
        match self.0 {
            // Two panics at once would abort the process.
            Some(panic) if !std::thread::panicking() => resume_unwind(panic),
            _ => self.forget(),
        }
    }

    /// All are done, and nobody may be told.
    pub(crate) fn forget(self) {
        mem::forget(self.0);
    }
}
