//! Telling what nobody else can see any more.

use evenloop_core::Runtime;
use std::fmt;

/// Tells the host of this thread, or the standard error stream, for `call`.
pub(crate) fn report(call: &'static str, what: &dyn fmt::Display) {
    match Runtime::current_spawn(call) {
        Ok(spawn) => spawn.report(what),
        Err(_) => eprintln!("{what}"),
    }
}
