//! Errors that nobody can see any more, told once.

use crate::task::raw::About;
use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;

/// What a loop calls with each error that nobody can see any more.
pub(crate) type Hook = dyn Fn(&Unhandled<'_>);

/// An error that nobody can see any more: a detached task that panicked, a destructor or waker that panicked under the
/// loop, or what a crate told the host ([`Spawn::report`](evenloop_core::Spawn::report)) on the loop's thread.
///
/// Given to the loop's hook; its `Display` is what is printed to the standard error stream when there is no hook.
pub struct Unhandled<'a> {
    message: &'static str,
    about: Option<About>,
    panic: Option<&'a (dyn Any + Send)>,
    told: Option<&'a str>,
}

impl<'a> Unhandled<'a> {
    pub(crate) fn new(
        message: &'static str,
        about: Option<About>,
        panic: Option<&'a (dyn Any + Send)>,
    ) -> Self {
        Self { message, about, panic, told: None }
    }

    /// What a crate told the host.
    pub(crate) fn told_by_a_crate(told: &'a str) -> Self {
        Self { message: "reported by a crate", about: None, panic: None, told: Some(told) }
    }

    /// What happened, in a few words.
    pub fn message(&self) -> &'static str {
        self.message
    }

    /// What a crate told the host, if that is what happened.
    pub fn told(&self) -> Option<&str> {
        self.told
    }

    /// The task it happened to, as its `Debug` shows it.
    pub fn task(&self) -> Option<String> {
        self.about.as_ref().map(ToString::to_string)
    }

    /// The name of that task.
    pub fn task_name(&self) -> Option<String> {
        self.about.as_ref().map(About::full_name)
    }

    /// Where that task was spawned.
    pub fn spawned_at(&self) -> Option<&'static Location<'static>> {
        self.about.as_ref().map(|about| about.spawned_at)
    }

    /// What the panic carried.
    pub fn payload(&self) -> Option<&(dyn Any + Send)> {
        self.panic
    }

    /// The panic's words, if it had any.
    pub fn panic_message(&self) -> Option<&str> {
        self.panic.map(panic_message)
    }

    /// Gives this to the hook, or prints it. A hook that panics is itself reported by printing. Never unwinds.
    pub(crate) fn report(&self, hook: Option<Rc<Hook>>) {
        let Some(hook) = hook else {
            eprintln!("{self}");
            return;
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook(self))) {
            eprintln!(
                "the unhandled-error hook panicked: {}; it was called with: {self}",
                panic_message(&*panic)
            );
            let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
        }
        let _ = catch_unwind(AssertUnwindSafe(|| drop(hook)));
    }
}

/// The words of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    match panic.downcast_ref::<&'static str>() {
        Some(words) => words,
        None => panic.downcast_ref::<String>().map_or("(no message)", String::as_str),
    }
}

impl fmt::Display for Unhandled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.told.unwrap_or(self.message))?;
        if let Some(about) = &self.about {
            write!(f, ": {about}")?;
        }
        if let Some(words) = self.panic_message() {
            write!(f, ": {words}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Unhandled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unhandled [{self}]")
    }
}
