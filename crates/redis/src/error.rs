//! Why a call on a remote queue failed, with what was handed in.

use crate::delivery::Delivery;
use evenloop_core::NoRuntime;
use evenloop_core::shim::StdArc;
use redis::RedisError;
use std::error::Error;
use std::fmt;

/// The server could not be reached for longer than the patience, or answered with an error.
#[derive(Clone, Debug)]
pub struct Broken {
    call: &'static str,
    error: StdArc<RedisError>,
}

impl Broken {
    pub(crate) fn new(call: &'static str, error: RedisError) -> Self {
        Self { call, error: StdArc::new(error) }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` on the remote queue: {}", self.call, self.error)
    }
}

impl Error for Broken {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.error)
    }
}

/// Why a script was not run.
pub(crate) enum Undone {
    Gone,
    Broken(Broken),
}

/// Why a queue was not opened.
#[derive(Clone)]
#[non_exhaustive]
pub enum OpenError {
    /// A name is not empty and has no braces: they would spread the queue's keys over a cluster.
    Name(String),
    /// This is no address of a server.
    Address {
        /// What was given.
        url: String,
        /// What the client says of it.
        error: StdArc<RedisError>,
    },
    /// The queue is there, with another `maxsize`.
    Maxsize {
        /// The queue's.
        theirs: usize,
        /// What was asked for.
        ours: usize,
    },
    /// The server did not do its part.
    Broken(Broken),
    /// There is no runtime here, or it lacks something.
    NoRuntime(NoRuntime),
    /// The runtime takes no tasks any more, for this reason.
    NotSpawned(&'static str),
}

/// Says what `Display` says: an address may have a password in it.
impl fmt::Debug for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenError({self})")
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => {
                write!(f, "{name:?} cannot name a queue: it has to have letters, and no braces")
            }
            Self::Address { url: _, error } => write!(f, "this is no address of a Redis server: {error}"),
            Self::Maxsize { theirs, ours } => write!(
                f,
                "the queue holds at most {theirs} items (0: any number), not {ours}: open it with the same `maxsize`, or \
                 `destroy` it first"
            ),
            Self::Broken(broken) => broken.fmt(f),
            Self::NoRuntime(error) => error.fmt(f),
            Self::NotSpawned(why) => {
                write!(f, "`open` could not start the task that watches the queue: {why}")
            }
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Address { error, .. } => Some(&**error),
            Self::Broken(broken) => Some(broken),
            Self::NoRuntime(error) => Some(error),
            _ => None,
        }
    }
}

/// Why an item was not put, with the item.
#[non_exhaustive]
pub enum PutError<T> {
    /// `put_nowait` found as many items as may wait.
    Full(T),
    /// The queue is shut down.
    ShutDown(T),
    /// The queue has been destroyed, even if another one of its name was opened since.
    Gone(T),
    /// The item cannot be written as JSON.
    Unencodable(T, serde_json::Error),
    /// The server did not answer: the item may be in the queue or not. [`put_once`](crate::RemoteQueue::put_once) can be
    /// repeated.
    Broken(T, Broken),
}

impl<T> PutError<T> {
    /// The item.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(item)
            | Self::ShutDown(item)
            | Self::Gone(item)
            | Self::Unencodable(item, _)
            | Self::Broken(item, _) => item,
        }
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PutError({self})")
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("the remote queue is full"),
            Self::ShutDown(_) => f.write_str("the remote queue was shut down"),
            Self::Gone(_) => f.write_str("the remote queue was destroyed: `open` makes a new one"),
            Self::Unencodable(_, error) => write!(f, "the item cannot be written as JSON: {error}"),
            Self::Broken(_, broken) => broken.fmt(f),
        }
    }
}

impl<T> Error for PutError<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unencodable(_, error) => Some(error),
            Self::Broken(_, broken) => Some(broken),
            _ => None,
        }
    }
}

/// Why no item was got.
#[derive(Debug)]
#[non_exhaustive]
pub enum GetError {
    /// `get_nowait` found none waiting.
    Empty,
    /// The queue is shut down and everything in it is done.
    ShutDown,
    /// The queue has been destroyed, even if another one of its name was opened since.
    Gone,
    /// The item is not what this queue holds; here it is, to be looked at and finished.
    Undecodable(Box<Undecodable>),
    /// The server did not answer. An item that was on its way comes back after its visibility time.
    Broken(Broken),
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the remote queue is empty"),
            Self::ShutDown => f.write_str("the remote queue was shut down, and all of it is done"),
            Self::Gone => f.write_str("the remote queue was destroyed: `open` makes a new one"),
            Self::Undecodable(what) => what.fmt(f),
            Self::Broken(broken) => broken.fmt(f),
        }
    }
}

impl Error for GetError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Undecodable(what) => Some(&**what),
            Self::Broken(broken) => Some(broken),
            _ => None,
        }
    }
}

impl From<Undone> for GetError {
    fn from(undone: Undone) -> Self {
        match undone {
            Undone::Gone => Self::Gone,
            Undone::Broken(broken) => Self::Broken(broken),
        }
    }
}

/// An entry that is not JSON of the queue's type. It stays with this worker until it is answered or its time is up: look at
/// it, keep it elsewhere if it matters, and say `delivery.task_done()`, or it comes back again and again.
#[derive(Debug)]
pub struct Undecodable {
    /// The bytes of the entry's field `json`; none if it has no such field.
    pub delivery: Delivery<Vec<u8>>,
    /// What is wrong with them.
    pub error: serde_json::Error,
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {} of the remote queue is not what it holds: {}", self.delivery.id(), self.error)
    }
}

impl Error for Undecodable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// Why a delivery could not be answered.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AnswerError {
    /// Its time was up, and another worker has the item now. What was done with it will be done again.
    Lost,
    /// The queue has been destroyed, and the item with it.
    Gone,
    /// The server did not answer.
    Broken(Broken),
}

impl From<Undone> for AnswerError {
    fn from(undone: Undone) -> Self {
        match undone {
            Undone::Gone => Self::Gone,
            Undone::Broken(broken) => Self::Broken(broken),
        }
    }
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str(
                "the item is with another worker by now: its visibility time was up (`extend` gives more, \
                 `Options::visibility` from the start)",
            ),
            Self::Gone => f.write_str("the remote queue was destroyed, and the item with it"),
            Self::Broken(broken) => broken.fmt(f),
        }
    }
}

impl Error for AnswerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Lost | Self::Gone => None,
            Self::Broken(broken) => Some(broken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> Broken {
        Broken::new("get", RedisError::from((redis::ErrorKind::InvalidClientConfig, "no such server")))
    }

    fn not_json() -> serde_json::Error {
        serde_json::from_str::<u8>("{").unwrap_err()
    }

    /// What an error says, and whether another one is behind it.
    fn said(error: &dyn Error) -> (String, bool) {
        (error.to_string(), error.source().is_some())
    }

    #[test]
    fn what_failed_is_named_and_why() {
        let (words, because) = said(&broken());
        assert!(words.starts_with("`get` on the remote queue: no such server") && because, "{words}");
        assert_eq!(said(&OpenError::Broken(broken())), (words.clone(), true));
        assert_eq!(said(&PutError::Broken(1, broken())), (words.clone(), true));
        assert_eq!(said(&GetError::Broken(broken())), (words.clone(), true));
        assert_eq!(said(&AnswerError::Broken(broken())), (words, true));
    }

    #[test]
    fn a_queue_that_was_not_opened_says_what_to_do() {
        let (words, because) = said(&OpenError::Name("{a}".into()));
        assert!(words.starts_with("\"{a}\" cannot name a queue") && !because, "{words}");
        let (words, because) = said(&OpenError::Maxsize { theirs: 5, ours: 6 });
        assert!(words.contains("holds at most 5 items") && words.contains("`destroy` it first"), "{words}");
        assert!(!because);
        let (words, because) = said(&OpenError::NotSpawned("the event loop is closed"));
        assert!(words.ends_with("the event loop is closed") && !because, "{words}");
        let address = OpenError::Address { url: "secret".into(), error: broken().error };
        let (words, because) = said(&address);
        assert!(words.starts_with("this is no address") && !words.contains("secret") && because, "{words}");
        assert_eq!(format!("{address:?}"), format!("OpenError({words})"));
        let nowhere = NoRuntime::none_found("open", "a runtime");
        assert_eq!(said(&OpenError::NoRuntime(nowhere)), (nowhere.to_string(), true));
    }

    #[test]
    fn an_item_that_was_not_put_comes_back() {
        let all = [
            (PutError::Full(7), "the remote queue is full", false),
            (PutError::ShutDown(7), "the remote queue was shut down", false),
            (PutError::Gone(7), "the remote queue was destroyed: `open` makes a new one", false),
            (PutError::Unencodable(7, not_json()), "the item cannot be written as JSON: ", true),
            (PutError::Broken(7, broken()), "`get` on the remote queue: ", true),
        ];
        for (error, begins, has_cause) in all {
            let (words, because) = said(&error);
            assert!(words.starts_with(begins) && because == has_cause, "{words}");
            assert_eq!(format!("{error:?}"), format!("PutError({words})"));
            assert_eq!(error.into_inner(), 7);
        }
    }

    #[test]
    fn a_get_and_an_answer_say_why_not() {
        assert_eq!(said(&GetError::Empty), ("the remote queue is empty".into(), false));
        assert!(said(&GetError::ShutDown).0.ends_with("all of it is done"));
        assert!(said(&GetError::Gone).0.contains("`open` makes a new one"));
        let (words, because) = said(&AnswerError::Lost);
        assert!(words.starts_with("the item is with another worker by now") && !because, "{words}");
        let (words, because) = said(&AnswerError::Gone);
        assert!(words.ends_with("was destroyed, and the item with it") && !because, "{words}");
    }
}
