//! Who holds which object, and whose future stands in which place of its line.
//!
//! Told by locks, while somebody asks. Everything is in tables behind one mutex, under which no foreign code runs (V3).
//!
//! ```text
//! a lock: hold, grant, take, release ──► tables ──► holders(object)              whoever looks
//!                                          └──► the inbox of each `Follower`     whoever shows it as it changes
//! ```
//!
//! H1. A follower's inbox holds an object once at most, however often it changed hands: it is no longer than what is followed.
//! H2. Who follows outlives the asking: what changes meanwhile is not told, and shows when somebody asks again.

use super::{TaskKey, current_task};
use crate::shim::{GlobalMutex, OnceLock, StdArc};
use std::collections::{BTreeSet, HashMap};
use std::fmt;

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
    /// Who follows an object.
    followers: HashMap<usize, Vec<StdArc<Inbox>>>,
}

/// Which objects have changed hands. Locked inside of the tables' mutex, if at all together.
type Inbox = GlobalMutex<BTreeSet<usize>>;

fn tables() -> &'static GlobalMutex<Tables> {
    static TABLES: OnceLock<GlobalMutex<Tables>> = OnceLock::new();
    TABLES.get_or_init(GlobalMutex::default)
}

/// Somebody begins to ask, or the last one has ended (V4).
pub(super) fn forget_all() {
    let mut tables = tables().lock();
    tables.holders.clear();
    tables.queued.clear(); // and not the followers: H2
}

/// The current task took a share of `object`. To be called only while somebody asks.
#[cold]
pub fn hold(object: usize) {
    let holder = Holder { task: current_task(), untaken: false };
    tables().lock().add(object, holder);
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
    tables.add(object, Holder { task: Some(task), untaken: true });
}

/// A future of the current task that was given a share of `object` in `place` has taken it.
#[cold]
pub fn take(object: usize, place: usize) {
    let mut tables = tables().lock();
    let task = tables.queued.remove(&(object, place)).or_else(current_task);
    let holders = tables.holders.get_mut(&object).into_iter().flatten();
    match holders.into_iter().find(|holder| holder.untaken && holder.task == task) {
        Some(holder) => {
            holder.untaken = false;
            tables.tell_followers(object);
        }
        None => tables.add(object, Holder { task, untaken: false }),
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
    fn add(&mut self, object: usize, holder: Holder) {
        self.holders.entry(object).or_default().push(holder);
        self.tell_followers(object);
    }

    fn tell_followers(&self, object: usize) {
        for inbox in self.followers.get(&object).into_iter().flatten() {
            inbox.lock().insert(object); // H1
        }
    }

    fn unfollow(&mut self, object: usize, inbox: &StdArc<Inbox>) {
        if let Some(inboxes) = self.followers.get_mut(&object) {
            inboxes.retain(|known| !StdArc::ptr_eq(known, inbox));
            if inboxes.is_empty() {
                self.followers.remove(&object);
            }
        }
    }

    fn forget(&mut self, object: usize, which: impl Fn(&Holder) -> bool) -> bool {
        let Some(holders) = self.holders.get_mut(&object) else { return false };
        let Some(place) = holders.iter().position(which) else { return false };
        holders.remove(place);
        if holders.is_empty() {
            self.holders.remove(&object);
        }
        self.tell_followers(object);
        true
    }
}

/// Who holds `object`, as far as known. A snapshot.
pub fn holders(object: usize) -> Vec<Holder> {
    tables().lock().holders.get(&object).cloned().unwrap_or_default()
}

// === Following ===

/// Learns of each change of who holds the objects that it follows, so that it need not look at all of them again and again.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "watch")] {
/// use evenloop_core::watch::{Follower, address, ask, hold, holders};
///
/// let (object, _asked) = (0, ask());
/// let object = address(&object);
/// let mut follower = Follower::default();
/// follower.follow(object);
/// hold(object); // as a lock does when it is taken
/// assert_eq!(follower.changed(), [object]);
/// assert_eq!(holders(object).len(), 1);
/// # }
/// ```
#[derive(Default)]
pub struct Follower {
    inbox: StdArc<Inbox>,
    followed: BTreeSet<usize>,
}

impl Follower {
    /// Follows `object`, by its address.
    pub fn follow(&mut self, object: usize) {
        if self.followed.insert(object) {
            tables().lock().followers.entry(object).or_default().push(self.inbox.clone());
        }
    }

    /// Follows `object` no longer. A change that was told and not asked for yet is forgotten.
    pub fn unfollow(&mut self, object: usize) {
        if self.followed.remove(&object) {
            tables().lock().unfollow(object, &self.inbox);
            self.inbox.lock().remove(&object);
        }
    }

    /// Which of them have changed hands since this was called last.
    pub fn changed(&self) -> Vec<usize> {
        std::mem::take(&mut *self.inbox.lock()).into_iter().collect()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut tables = tables().lock();
        self.followed.iter().for_each(|object| tables.unfollow(*object, &self.inbox));
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Follower [objects: {}]", self.followed.len())
    }
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

    #[test]
    fn who_follows_is_told_once_of_what_changed_hands() {
        let _asked = ask();
        let (one, other) = (Box::new(0), Box::new(0)); // addresses that no other test has
        let (one, other) = (address(&*one), address(&*other));
        let (mut follower, mut another) = (Follower::default(), Follower::default());
        follower.follow(one);
        another.follow(one);
        another.follow(other);
        let told = |by: &[&dyn Fn()]| {
            by.iter().for_each(|change| change());
            (follower.changed(), another.changed())
        };
        assert_eq!(told(&[&|| hold(one), &|| release(one)]), (vec![one], vec![one]));
        assert_eq!(told(&[&|| hold(other)]), (vec![], vec![other]));
        assert_eq!(told(&[&|| release(one)]), (vec![], vec![])); // there was no holder any more
        let mut fresh = Fresh::default();
        let entered = enter(TASK, Waker::noop(), &mut fresh);
        queue(one, 1);
        for change in [&|| grant(one, 1), &|| take(one, 1), &|| release(one)] as [&dyn Fn(); 3] {
            assert_eq!(told(&[change]), (vec![one], vec![one]));
        }
        queue(one, 2);
        assert_eq!(told(&[&|| grant(one, 2)]), (vec![one], vec![one]));
        assert_eq!(told(&[&|| leave_line(one, 2)]), (vec![one], vec![one]));
        drop(entered);
    }

    #[test]
    fn who_follows_no_longer_is_told_nothing_and_leaves_nothing_behind() {
        let _asked = ask();
        let object = Box::new(0);
        let object = address(&*object);
        let (mut follower, mut gone) = (Follower::default(), Follower::default());
        follower.follow(object);
        gone.follow(object);
        drop(gone);
        assert_eq!(tables().lock().followers[&object].len(), 1);
        hold(object);
        follower.unfollow(object);
        assert_eq!(follower.changed(), []);
        release(object);
        assert_eq!(follower.changed(), []);
        assert!(!tables().lock().followers.contains_key(&object));
    }
}
