//! What a failed call was doing, and with whom.
//!
//! I/O errors stay `io::Error`, so that `?` and `kind()` work as everywhere; inside is an [`IoFailure`] with the operation
//! and the peer, and the kernel's own error as its source.

use evenloop_core::Unwatched;
use std::error::Error;
use std::fmt;
use std::io;

/// An I/O error with its operation and its peer: "reading from 127.0.0.1:4000: connection reset by peer".
///
/// Lies inside the `io::Error`s of this crate.
///
/// # Examples
///
/// ```
/// # use evenloop_streams::IoFailure;
/// # fn show(error: &std::io::Error) {
/// if let Some(failure) = IoFailure::of(error) {
///     println!("{} failed, errno {:?}", failure.operation(), failure.os_error());
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct IoFailure {
    operation: &'static str,
    whom: Box<str>,
    cause: io::Error,
}

impl IoFailure {
    /// Adds operation and peer to `cause`, and keeps its kind.
    pub(crate) fn wrap(operation: &'static str, whom: impl fmt::Display, cause: io::Error) -> io::Error {
        io::Error::new(cause.kind(), Self { operation, whom: whom.to_string().into(), cause })
    }

    /// The failure inside `error`, if it comes from this crate.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Whether the reactor behind the failed call has ended, so that nothing will ever come again.
    pub(crate) fn is_unwatched(error: &io::Error) -> bool {
        let cause = Self::of(error).map_or(error, |failure| &failure.cause);
        cause.get_ref().is_some_and(|inner| inner.is::<Unwatched>())
    }

    /// What was being done: "reading from", "connecting to", …
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// With whom: an address, a path, a descriptor.
    pub fn whom(&self) -> &str {
        &self.whom
    }

    /// The kernel's number for the error, if it came from the kernel.
    pub fn os_error(&self) -> Option<i32> {
        self.cause.raw_os_error()
    }
}

impl fmt::Display for IoFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.operation, self.whom, self.cause)
    }
}

impl Error for IoFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

/// The stream ended before everything that was asked for had come.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias("IncompleteReadError", "UnexpectedEof"))]
pub struct IncompleteRead {
    /// What had come; it is no longer in the reader.
    pub partial: Vec<u8>,
    /// How many bytes were asked for; `None` if up to a separator.
    pub expected: Option<usize>,
}

impl fmt::Display for IncompleteRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let got = self.partial.len();
        match self.expected {
            Some(expected) => write!(f, "the stream ended after {got} of {expected} bytes"),
            None => write!(f, "the stream ended after {got} bytes without the separator"),
        }
    }
}

impl Error for IncompleteRead {}

/// No separator within the limit. Everything is still in the reader.
///
/// Ways to go on: take the `consumed` bytes with `readexactly` and call again for the rest; raise the limit with
/// `set_limit` and call again; or give the bytes up with `discard`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "LimitOverrunError")]
pub struct LimitOverrun {
    /// How many bytes at the front of the reader are certainly before the separator, or, if the separator has been
    /// found beyond the limit, how many lie before it.
    pub consumed: usize,
    /// The limit in bytes.
    pub limit: usize,
}

impl fmt::Display for LimitOverrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no separator within the limit of {} bytes: take the first {} with `readexactly`, give them up with \
             `discard`, or raise the limit with `set_limit`, then call again",
            self.limit, self.consumed
        )
    }
}

impl Error for LimitOverrun {}

/// Why a read did not give what was asked for.
#[derive(Debug)]
pub enum ReadError {
    /// The stream ended first; what had come is inside.
    Incomplete(IncompleteRead),
    /// What was looked for is not within the limit; everything is still in the reader.
    Overrun(LimitOverrun),
    /// The stream failed. What had come before is still in the reader.
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete(incomplete) => incomplete.fmt(f),
            Self::Overrun(overrun) => overrun.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl Error for ReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) => error.source(),
            Self::Incomplete(_) | Self::Overrun(_) => None,
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Incomplete(incomplete) => Self::new(io::ErrorKind::UnexpectedEof, incomplete),
            ReadError::Overrun(overrun) => Self::new(io::ErrorKind::InvalidData, overrun),
            ReadError::Io(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_kind_number_and_cause() {
        let error = IoFailure::wrap("reading from", "127.0.0.1:4000", io::Error::from_raw_os_error(104));
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(error.to_string().starts_with("reading from 127.0.0.1:4000: "), "{error}");
        let failure = IoFailure::of(&error).unwrap();
        assert_eq!((failure.operation(), failure.os_error()), ("reading from", Some(104)));
        assert!(failure.source().is_some());
    }
}
