//! What is registered, by token: how an event finds its readiness.
//!
//! The kernel gives back a token with every event, and an event may lie in a batch while its descriptor is deregistered
//! and another is registered in the same place. So a token is a place and the number of the registration, half a `usize`
//! each; an event with an old number finds nothing.
//!
//! S1. A token that was removed never finds anything again. (On 64 bits: unless four thousand million registrations are
//!     made while one batch is being dispatched.)
//! S2. After `remove` nobody writes into the readiness any more: dispatching holds the lock while it writes.
//! S3. Wakers run with no lock held. One that panics keeps no event from being dispatched, and its panic, which is the fault
//!     of nobody here, is told to the host.
//! S4. After `end` there is nothing in the table, and nothing gets in.

use evenloop_core::shim::{Mutex, StdArc};
use evenloop_core::{Readiness, Ready, Unwatched, WakeBatch};
use slab::Slab;
use std::fmt;
use std::io;

/// The sources of one reactor. For those who write a reactor of their own: it knows no descriptor and no kernel.
pub struct SourceTable(Mutex<Sources>);

struct Sources {
    entries: Slab<Entry>,
    /// The number of the newest registration; wraps around.
    registration: usize,
    ended: bool,
}

struct Entry {
    registration: usize,
    readiness: StdArc<Readiness>,
}

/// Half of a token.
const HALF: u32 = usize::BITS / 2;
const LOW: usize = (1 << HALF) - 1;

/// There is no place for another source: the table holds as many as half a `usize` can count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the reactor watches {LOW} descriptors already and can name no more")
    }
}

impl std::error::Error for Full {}

impl SourceTable {
    /// An empty table.
    pub fn new() -> Self {
        Self(Mutex::new(Sources { entries: Slab::new(), registration: 0, ended: false }))
    }

    /// Puts a source in, and answers its token, which is never `usize::MAX`.
    ///
    /// # Errors
    ///
    /// [`Unwatched::Ended`] after [`end`](Self::end), [`Full`] when no place can be named any more.
    pub fn insert(&self, readiness: &StdArc<Readiness>) -> io::Result<usize> {
        let mut sources = self.0.lock();
        if sources.ended {
            return Err(Unwatched::Ended.into()); // S4
        }
        if sources.entries.vacant_key() >= LOW {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, Full));
        }
        sources.registration = sources.registration.wrapping_add(1) & LOW;
        let registration = sources.registration;
        let place = sources.entries.insert(Entry { registration, readiness: readiness.clone() });
        Ok(place | registration << HALF)
    }

    /// Takes a source out and tells whoever waits for it why. Answers false if it was not there.
    pub fn remove(&self, token: usize, why: Unwatched) -> bool {
        let removed = {
            let mut sources = self.0.lock();
            sources.find(token).is_some().then(|| sources.entries.remove(token & LOW))
        };
        let Some(Entry { readiness, .. }) = removed else { return false };
        unwatch(&readiness, why);
        true
    }

    /// Writes what the kernel told into the sources it told it of, and wakes who waits for it. Answers whether any was
    /// still there.
    pub fn dispatch(&self, news: impl Iterator<Item = (usize, Ready)>) -> bool {
        let mut due = WakeBatch::new();
        let mut any = false;
        let mut sources = self.0.lock();
        for (token, ready) in news {
            while let Some(entry) = sources.find(token)
            /* S1 */
            {
                any = true;
                if !entry.readiness.set(ready, &mut due) {
                    break;
                }
                drop(sources);
                due.wake_all_reporting(); // S3
                sources = self.0.lock();
            }
        }
        drop(sources);
        due.wake_all_reporting(); // S3
        any
    }

    /// Takes everything out, and tells whoever waits that the reactor has ended.
    pub fn end(&self) {
        let entries = {
            let mut sources = self.0.lock();
            sources.ended = true; // S4
            std::mem::take(&mut sources.entries)
        };
        for (_, entry) in &entries {
            unwatch(&entry.readiness, Unwatched::Ended);
        }
    }

    /// Whether [`end`](Self::end) was called.
    pub fn has_ended(&self) -> bool {
        self.0.lock().ended
    }

    /// How many sources there are. May be out of date by the time it returns.
    pub fn len(&self) -> usize {
        self.0.lock().entries.len()
    }

    /// Whether there is none. May be out of date by the time it returns.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Sources {
    fn find(&self, token: usize) -> Option<&Entry> {
        self.entries.get(token & LOW).filter(|entry| entry.registration == token >> HALF)
    }
}

/// Tells whoever waits for the source that it is watched no more.
fn unwatch(readiness: &Readiness, why: Unwatched) {
    let mut due = WakeBatch::new();
    while readiness.unwatch(why, &mut due) {
        due.wake_all_reporting(); // S3
    }
    due.wake_all_reporting();
}

impl Default for SourceTable {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SourceTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = self.0.lock();
        write!(
            f,
            "SourceTable [{}, sources: {}]",
            if sources.ended { "ended" } else { "open" },
            sources.entries.len()
        )
    }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;
    use evenloop_core::Direction;
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};

    fn readiness() -> StdArc<Readiness> {
        StdArc::new(Readiness::new(Ready::NOTHING))
    }

    fn is_ready(readiness: &Readiness) -> bool {
        matches!(readiness.look(Direction::Read), Poll::Ready(Ok(_)))
    }

    #[test]
    fn an_event_in_flight_never_reaches_the_next_owner_of_the_place() {
        let table = SourceTable::new();
        let (first, second) = (readiness(), readiness());
        let old = table.insert(&first).unwrap();
        assert!(table.remove(old, Unwatched::Deregistered));
        let new = table.insert(&second).unwrap();
        assert_eq!(old & LOW, new & LOW, "the place is used again");
        assert!(!table.dispatch([(old, Ready::READ)].into_iter()));
        assert!(!table.remove(old, Unwatched::Deregistered));
        assert!(!is_ready(&second));
        assert!(table.dispatch([(new, Ready::READ)].into_iter()));
        assert!(is_ready(&second));
    }

    #[test]
    fn a_waker_that_panics_keeps_no_event_from_its_source() {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("a waker that panics");
            }
        }
        let table = SourceTable::new();
        let sources: Vec<_> = (0..100).map(|_| readiness()).collect();
        let waker = Waker::from(Arc::new(Panics));
        let tokens: Vec<_> = sources.iter().map(|source| table.insert(source).unwrap()).collect();
        for source in &sources {
            assert!(source.poll_ready(Direction::Read, &mut Context::from_waker(&waker)).is_pending());
        }
        assert!(table.dispatch(tokens.iter().map(|token| (*token, Ready::READ))));
        assert!(sources.iter().all(|source| is_ready(source)));
    }

    #[test]
    fn after_the_end_everybody_is_told() {
        let table = SourceTable::new();
        let source = readiness();
        let token = table.insert(&source).unwrap();
        table.end();
        assert_eq!(source.look(Direction::Read), Poll::Ready(Err(Unwatched::Ended)));
        assert_eq!(table.insert(&readiness()).unwrap_err().to_string(), Unwatched::Ended.to_string());
        assert!(!table.remove(token, Unwatched::Deregistered));
        assert_eq!(format!("{table:?}"), "SourceTable [ended, sources: 0]");
    }
}
