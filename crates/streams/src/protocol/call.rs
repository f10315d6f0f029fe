//! Calls into a protocol, which is foreign code: it may panic, and only its own connection may feel that (P4).

use evenloop_core::Spawn;
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A protocol's method panicked; what `connection_lost` is told then lies inside an `io::Error`.
#[derive(Debug)]
pub(crate) struct Panicked {
    method: &'static str,
    words: String,
}

/// Runs `body`, the protocol's `method`. A panic is told to `host`, and comes back as the reason to end the connection.
#[inline]
pub(crate) fn call<R>(
    host: &dyn Spawn,
    method: &'static str,
    body: impl FnOnce() -> R,
) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|panic| told(host, method, panic))
}

#[cold]
fn told(host: &dyn Spawn, method: &'static str, panic: Box<dyn Any + Send>) -> Panicked {
    let words = match panic.downcast_ref::<&'static str>() {
        Some(words) => (*words).to_owned(),
        None => panic.downcast_ref::<String>().map_or("(no message)", String::as_str).to_owned(),
    };
    // What was thrown is foreign too.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
    let panicked = Panicked { method, words };
    host.report(&panicked);
    panicked
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the protocol's `{}` panicked, and its connection ends: {}", self.method, self.words)
    }
}

impl Error for Panicked {}

impl From<Panicked> for io::Error {
    fn from(panicked: Panicked) -> Self {
        Self::other(panicked)
    }
}
