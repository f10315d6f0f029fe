//! Telling what nobody else can see any more.

use crate::first_panic::FirstPanic;
use evenloop_core::Runtime;
use std::any::Any;
use std::fmt;

/// Tells the host of this thread, or the standard error stream, for `call`.
pub(crate) fn report(call: &'static str, what: &dyn fmt::Display) {
    match Runtime::current_spawn(call) {
        Ok(spawn) => spawn.report(what),
        Err(_) => eprintln!("{what}"),
    }
}

/// Tells of a waker that panicked, where the panic could not go on.
#[cold]
pub(crate) fn report_waker(call: &'static str, panic: Box<dyn Any + Send>) {
    let words = match panic.downcast_ref::<&'static str>() {
        Some(words) => words,
        None => panic.downcast_ref::<String>().map_or("(no message)", String::as_str),
    };
    report(call, &format_args!("a waker of `{call}` panicked: {words}"));
    // What was thrown is foreign too.
    let mut another = FirstPanic::default();
    another.catch(|| drop(panic));
    another.forget();
}
