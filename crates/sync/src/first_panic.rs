//! Doing all of several things, whichever of them panics.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The first panic of several things that are all done. It goes on afterwards.
///
/// What the others carry is foreign, and may panic when it is dropped: that falls on nobody.
#[derive(Default)]
pub(crate) struct FirstPanic(Option<Box<dyn Any + Send>>);

impl FirstPanic {
    /// Does one of them.
    pub(crate) fn catch(&mut self, act: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(act)) {
            match self.0 {
                None => self.0 = Some(panic),
                Some(_) => let_go(panic),
            }
        }
    }

    /// All are done.
    pub(crate) fn go_on(self) {
        match self.0 {
            // Two panics at once would abort the process.
            Some(panic) if !std::thread::panicking() => resume_unwind(panic),
            _ => self.let_go(),
        }
    }

    /// All are done, and nobody may be told.
    pub(crate) fn let_go(self) {
        self.0.into_iter().for_each(let_go);
    }
}

/// Drops what a panic carries. What its destructor panics with might go on for ever.
fn let_go(panic: Box<dyn Any + Send>) {
    mem::forget(catch_unwind(AssertUnwindSafe(|| drop(panic))));
}
