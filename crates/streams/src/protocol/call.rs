//! Calls into a protocol or a callback, which is foreign code: it may panic, and only its own connection may feel that (P4).

use evenloop_core::Spawn;
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// A protocol's method, a callback or a waker panicked; what `connection_lost` is told then lies inside an `io::Error`.
#[derive(Debug)]
pub(crate) struct Panicked {
    method: &'static str,
    words: String,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Method,
    Callback,
    Waker,
}

/// Runs `body`, the protocol's `method`. A panic is told to `host`, and comes back as the reason to end the connection.
#[inline]
pub(crate) fn call<R>(
    host: &dyn Spawn,
    method: &'static str,
    body: impl FnOnce() -> R,
) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|panic| told(host, method, panic, What::Method))
}

/// Runs `body`, a callback that was given to `method` and stays: a panic is told to `host`, and nothing else comes of it.
pub(crate) fn call_back(host: &dyn Spawn, method: &'static str, body: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
        told(host, method, panic, What::Callback);
    }
}

/// Wakes whoever waits in `method`: a panic of the waker is told to `host`, and nothing else comes of it.
pub(crate) fn wake(host: &dyn Spawn, method: &'static str, waker: Waker) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        told(host, method, panic, What::Waker);
    }
}

#[cold]
fn told(host: &dyn Spawn, method: &'static str, panic: Box<dyn Any + Send>, what: What) -> Panicked {
    let words = match panic.downcast_ref::<&'static str>() {
        Some(words) => (*words).to_owned(),
        None => panic.downcast_ref::<String>().map_or("(no message)", String::as_str).to_owned(),
    };
    // What was thrown is foreign too.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
    let panicked = Panicked { method, words, what };
    host.report(&panicked);
    panicked
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, words, .. } = self;
        match self.what {
            What::Method => write!(f, "the protocol's `{method}` panicked, and its connection ends: {words}"),
            What::Callback => write!(f, "the callback of `{method}` panicked, and stays: {words}"),
            What::Waker => write!(f, "a waker of `{method}` panicked: {words}"),
        }
    }
}

impl Error for Panicked {}

impl From<Panicked> for io::Error {
    fn from(panicked: Panicked) -> Self {
        Self::other(panicked)
    }
}
