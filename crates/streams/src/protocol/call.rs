//! Calls into a protocol or a callback, which is foreign code: it may panic, and only its own connection may feel that (P4).

use evenloop_core::Spawn;
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A protocol's method or a callback panicked; what `connection_lost` is told then lies inside an `io::Error`.
#[derive(Debug)]
pub(crate) struct Panicked {
    method: &'static str,
    words: String,
    is_callback: bool,
}

/// Runs `body`, the protocol's `method`. A panic is told to `host`, and comes back as the reason to end the connection.
#[inline]
pub(crate) fn call<R>(
    host: &dyn Spawn,
    method: &'static str,
    body: impl FnOnce() -> R,
) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|panic| told(host, method, panic, false))
}

/// Runs `body`, a callback that was given to `method` and stays: a panic is told to `host`, and nothing else comes of it.
pub(crate) fn call_back(host: &dyn Spawn, method: &'static str, body: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
        told(host, method, panic, true);
    }
}

#[cold]
fn told(host: &dyn Spawn, method: &'static str, panic: Box<dyn Any + Send>, is_callback: bool) -> Panicked {
    let words = match panic.downcast_ref::<&'static str>() {
        Some(words) => (*words).to_owned(),
        None => panic.downcast_ref::<String>().map_or("(no message)", String::as_str).to_owned(),
    };
    // What was thrown is foreign too.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
    let panicked = Panicked { method, words, is_callback };
    host.report(&panicked);
    panicked
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, words, .. } = self;
        match self.is_callback {
            true => write!(f, "the callback of `{method}` panicked, and stays: {words}"),
            false => write!(f, "the protocol's `{method}` panicked, and its connection ends: {words}"),
        }
    }
}

impl Error for Panicked {}

impl From<Panicked> for io::Error {
    fn from(panicked: Panicked) -> Self {
        Self::other(panicked)
    }
}
