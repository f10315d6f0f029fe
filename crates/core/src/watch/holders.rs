//! Who holds which object, and whose future stands in which place of its line.
//!
//! Told by locks, while somebody asks. Everything is in two tables behind one mutex, under which no foreign code runs (V3).

use super::{TaskKey, current_task};
use crate::shim::{GlobalMutex, OnceLock};
use std::collections::HashMap;

/// Who holds an object, or a share of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The task; `None`: code outside of any that is known.
    pub task: Option<TaskKey>,
    /// It was given to a waiting future of the task, which has not been polled since.
    pub untaken: bool,
}

#[derive(Default)]
struct Tables {
    holders: HashMap<usize, Vec<Holder>>,
    /// Which task's future stands in which place of which line.
    queued: HashMap<(usize, usize), TaskKey>,
}

fn tables() -> &'static GlobalMutex<Tables> {
    static TABLES: OnceLock<GlobalMutex<Tables>> = OnceLock::new();
    TABLES.get_or_init(GlobalMutex::default)
}

/// Somebody begins to ask, or the last one has ended (V4).
pub(super) fn forget_all() {
    *tables().lock() = Tables::default();
}

/// The current task took a share of `object`. To be called only while somebody asks.
#[cold]
pub fn hold(object: usize) {
    let holder = Holder { task: current_task(), untaken: false };
    tables().lock().holders.entry(object).or_default().push(holder);
}

/// A future of the current task joined the line for `object`, in `place`. To be called only while somebody asks.
#[cold]
pub fn queue(object: usize, place: usize) {
    if let Some(task) = current_task() {
        tables().lock().queued.insert((object, place), task);
    }
}

/// The future in `place` was given a share of `object`. To be called only while somebody asks.
#[cold]
pub fn grant(object: usize, place: usize) {
    let mut tables = tables().lock();
    // Who joined the line before somebody asked is known once it takes its share; who waits for no holder never is.
    let Some(task) = tables.queued.get(&(object, place)).copied() else { return };
    tables.holders.entry(object).or_default().push(Holder { task: Some(task), untaken: true });
}

/// A future of the current task that was given a share of `object` in `place` has taken it.
#[cold]
pub fn take(object: usize, place: usize) {
    let mut tables = tables().lock();
    let task = tables.queued.remove(&(object, place)).or_else(current_task);
    let holders = tables.holders.entry(object).or_default();
    match holders.iter_mut().find(|holder| holder.untaken && holder.task == task) {
        Some(holder) => holder.untaken = false,
        None => holders.push(Holder { task, untaken: false }),
    }
}

/// The future in `place` left the line for `object`, and holds nothing.
#[cold]
pub fn leave_line(object: usize, place: usize) {
    let mut tables = tables().lock();
    let task = tables.queued.remove(&(object, place));
    tables.forget(object, |holder| holder.untaken && holder.task == task);
}

/// A share of `object` was given back: that of the current task, if it has one. To be called only while somebody asks.
#[cold]
pub fn release(object: usize) {
    let task = current_task();
    let mut tables = tables().lock();
    if !tables.forget(object, |holder| !holder.untaken && holder.task == task) {
        tables.forget(object, |holder| !holder.untaken);
    }
}

impl Tables {
    fn forget(&mut self, object: usize, which: impl Fn(&Holder) -> bool) -> bool {
        let Some(holders) = self.holders.get_mut(&object) else { return false };
        let Some(place) = holders.iter().position(which) else { return false };
        holders.remove(place);
        if holders.is_empty() {
            self.holders.remove(&object);
        }
        true
    }
}

/// Who holds `object`, as far as known. A snapshot.
pub fn holders(object: usize) -> Vec<Holder> {
    tables().lock().holders.get(&object).cloned().unwrap_or_default()
}

#[cfg(all(test, feature = "watch", not(evenloop_loom)))]
mod tests {
    use super::*;
    use crate::watch::{Fresh, address, ask, enter};
    use std::task::Waker;

    const TASK: TaskKey = TaskKey { host: 1, task: 1 };

    #[test]
    fn a_share_that_was_given_and_not_taken_shows() {
        let _asked = ask();
        let lock = Box::new(0); // an address that no other test has
        let lock = address(&*lock);
        let mut fresh = Fresh::default();
        let entered = enter(TASK, Waker::noop(), &mut fresh);
        hold(lock);
        queue(lock, 7);
        assert_eq!(holders(lock), [Holder { task: Some(TASK), untaken: false }]);
        release(lock);
        grant(lock, 7);
        assert_eq!(holders(lock), [Holder { task: Some(TASK), untaken: true }]);
        take(lock, 7);
        assert_eq!(holders(lock), [Holder { task: Some(TASK), untaken: false }]);
        release(lock);
        assert_eq!(holders(lock), []);
        queue(lock, 8);
        grant(lock, 8);
        leave_line(lock, 8);
        assert_eq!(holders(lock), []);
        drop(entered);
        assert_eq!(current_task(), None);
    }
}
