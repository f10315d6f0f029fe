//! Waiting until something about a locked value has changed.
//!
//! ```text
//! New ──► Waiting ── notify ──► Locking ── the lock's turn ──► Done (guard)
//!           │ │ drop: unlinked    │ drop: next is notified        ▲
//!           │ └── cancelled ──► Locking ── the lock's turn ───────┘ (guard and cancellation)
//! ```
//!
//! C1. Whoever waits is in line before it releases the lock. So a change made under the lock is notified to it, whether
//!     the notifier still holds the lock or not.
//! C2. A notification of one (`notify`) is used up only by a `wait` that returns; if it is dropped or cancelled before, it
//!     hands it on. One of all (`notify_all`) has nothing to hand on: everybody who waited was notified.
//! C3. Wakers, and the release of the lock, run after the mutex of the line is free.
//! C4. A wait is a catcher from its first pending poll to its end. Who is cancelled has no use for a notification any more,
//!     but takes the lock again, however often it is cancelled meanwhile, and passes all of it on after that.
//!
//! Discussion: `wait` could keep the lock until it is dropped for the cancellation. It lets it go as it passes on: nobody
//! can use the guard inside a future that never returns, and the clean-up of another branch may need the lock first.

use crate::lock::{Lock, LockAcquire, LockGuard};
use crate::wait_list::{Chosen, Place, Waiters};
use evenloop_core::cancel::{Cancelled, Catcher, Resume};
use evenloop_core::shim::Mutex;
use evenloop_core::watch::{self, On};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

/// Lets tasks that hold a [`Lock`] wait until another task has changed what it guards.
///
/// [`wait`](Self::wait) takes the guard, releases the lock, waits for a notification and locks again. A condition belongs
/// to no lock: pair it with one, and use it with that one.
///
/// Differs from asyncio: notifying does not need the lock, since whoever waits is in line before it releases.
///
/// # Examples
///
/// ```
/// use evenloop_sync::{Condition, Lock};
/// # futures::executor::block_on(async {
/// let (cups, changed) = (Lock::new(0), Condition::new());
/// let guest = async {
///     let mut cups = changed.wait_for(cups.acquire().await, |cups| *cups > 0).await;
///     *cups -= 1;
/// };
/// let kitchen = async {
///     *cups.acquire().await += 1;
///     changed.notify(1);
/// };
/// futures::join!(guest, kitchen);
/// assert_eq!(*cups.acquire().await, 0);
/// # });
/// ```
#[doc(alias = "Condvar")]
pub struct Condition {
    waiters: Mutex<Waiters<Notified>>,
}

/// By what a waiter was notified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Notified {
    #[default]
    NotYet,
    /// By `notify`: to be handed on if it comes to nothing (C2).
    AsOne,
    AsAll,
}

/// What a [`Condition`] looked like a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConditionStatistics {
    /// How many futures waited for a notification.
    pub waiters: usize,
}

impl Condition {
    /// A condition that nobody waits for.
    #[cfg(not(evenloop_loom))]
    pub const fn new() -> Self {
        Self { waiters: Mutex::new(Waiters::new()) }
    }

    /// A condition that nobody waits for.
    #[cfg(evenloop_loom)]
    pub fn new() -> Self {
        Self { waiters: Mutex::new(Waiters::new()) }
    }

    /// Releases the lock, waits for a notification, and locks again.
    ///
    /// The lock is released by the first poll; the place in line is taken before that. Tasks are notified in the order of
    /// their first poll. There are no notifications without reason, but by the time the lock is had again another task
    /// may have changed the value back: look again, or use [`wait_for`](Self::wait_for).
    ///
    /// A cancellation of a scope around this (a task, a timeout) is caught: the wait takes the lock again, however often it
    /// is cancelled meanwhile, releases it, and passes the cancellation on. So, as in asyncio, nobody leaves a wait before
    /// it is their turn for the lock; to use the lock in a clean-up, see [`wait_catching`](Self::wait_catching).
    ///
    /// Under a scope each wait allocates one node of at most 96 bytes; under none it allocates nothing.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.** So is the guard that was handed in: dropped, the future does not take the
    /// lock again. A notification by [`notify`](Self::notify) that a dropped or cancelled wait had received goes to the next
    /// in line.
    ///
    /// # Panics
    ///
    /// The future was cancelled and is then polled outside the scope that was: its cancellation could not go on from there.
    ///
    /// # Examples
    ///
    /// ```
    /// # use evenloop_sync::{Condition, Lock};
    /// # futures::executor::block_on(async {
    /// let (door_open, changed) = (Lock::new(false), Condition::new());
    /// let wait = async {
    ///     let mut open = door_open.acquire().await;
    ///     while !*open {
    ///         open = changed.wait(open).await;
    ///     }
    /// };
    /// futures::join!(wait, async {
    ///     *door_open.acquire().await = true;
    ///     changed.notify_all();
    /// });
    /// # });
    /// ```
    pub fn wait<'a, T>(&'a self, guard: LockGuard<'a, T>) -> ConditionWait<'a, T> {
        ConditionWait { wait: self.wait_catching(guard), passing_on: None }
    }

    /// As [`wait`](Self::wait), and gives a cancellation to the caller together with the lock: for a clean-up that needs it.
    ///
    /// In asyncio this is `except CancelledError` around a wait.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.** As with [`wait`](Self::wait). A cancellation that was caught and not yet
    /// given is passed on.
    ///
    /// # Errors
    ///
    /// A scope around this was cancelled. The lock is held again; the [`Cancelled`] wants an answer, as that of
    /// [`catch_cancel`](evenloop_core::cancel::catch_cancel).
    ///
    /// # Examples
    ///
    /// ```
    /// # use evenloop_core::cancel::CancelScope;
    /// # use evenloop_sync::{Condition, Lock};
    /// # futures::executor::block_on(async {
    /// let (guests, changed) = (Lock::new(1), Condition::new());
    /// let evening = CancelScope::new();
    /// let guest = evening.run(async {
    ///     if let Err((mut guests, cancelled)) = changed.wait_catching(guests.acquire().await).await {
    ///         *guests -= 1; // nobody else is at the list
    ///         drop(guests);
    ///         cancelled.resume().await;
    ///     }
    /// });
    /// let (left, ()) = futures::join!(guest, async { assert!(evening.cancel("it is late")) });
    /// assert!(left.is_err());
    /// assert_eq!(*guests.acquire().await, 0);
    /// # });
    /// ```
    pub fn wait_catching<'a, T>(&'a self, guard: LockGuard<'a, T>) -> ConditionWaitCatching<'a, T> {
        ConditionWaitCatching {
            condition: self,
            stage: Stage::New(guard),
            notified: Notified::NotYet,
            catcher: Catcher::new(),
            cancelled: None,
        }
    }

    /// Waits until `is_fulfilled` says so: at once, or after any notification. It is called with the lock held.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.** As with [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// # use evenloop_sync::{Condition, Lock};
    /// # futures::executor::block_on(async {
    /// let (stock, changed) = (Lock::new(vec![1, 2, 3]), Condition::new());
    /// let enough = changed.wait_for(stock.acquire().await, |stock| stock.len() >= 3).await;
    /// assert_eq!(*enough, [1, 2, 3]);
    /// # });
    /// ```
    pub fn wait_for<'a, T, F>(
        &'a self,
        guard: LockGuard<'a, T>,
        is_fulfilled: F,
    ) -> ConditionWaitFor<'a, T, F>
    where
        F: FnMut(&mut T) -> bool,
    {
        ConditionWaitFor { condition: self, guard: Some(guard), wait: None, is_fulfilled }
    }

    /// Notifies the first `count` in line, or as many as there are. With nobody in line, nothing is kept for later.
    #[doc(alias = "notify_one")]
    pub fn notify(&self, count: usize) {
        let mut chosen = Chosen::default();
        let mut waiters = self.waiters.lock();
        for _ in 0..count {
            if !waiters.choose_first(&mut chosen, |notified| *notified = Notified::AsOne) {
                break;
            }
        }
        drop(waiters);
        chosen.wake(&self.waiters, |waiters| waiters);
    }

    /// Notifies everybody who waits at this moment, in order.
    pub fn notify_all(&self) {
        let chosen = self.waiters.lock().choose_all(|notified| *notified = Notified::AsAll);
        chosen.wake(&self.waiters, |waiters| waiters);
    }

    /// What the condition looks like. May be out of date by the time it returns.
    pub fn statistics(&self) -> ConditionStatistics {
        ConditionStatistics { waiters: self.waiters.lock().len() }
    }

    /// Joins the line. C1: the caller still holds the lock.
    fn join(&self, waker: Waker) -> Place {
        Place::Waiting(self.waiters.lock().push(waker, Notified::NotYet))
    }
}

impl Default for Condition {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Condition [waiters: {}]", self.statistics().waiters)
    }
}

// === impl ConditionWaitCatching ===

/// The future of [`Condition::wait_catching`].
#[must_use = "futures do nothing unless awaited"]
pub struct ConditionWaitCatching<'a, T> {
    condition: &'a Condition,
    stage: Stage<'a, T>,
    /// By what, until it is used up or handed on (C2). Known from Locking on.
    notified: Notified,
    /// C4.
    catcher: Catcher,
    /// What was caught so far.
    cancelled: Option<Cancelled>,
}

enum Stage<'a, T> {
    New(LockGuard<'a, T>),
    Waiting(&'a Lock<T>, Place),
    Locking(LockAcquire<'a, T>),
    Done,
}

impl<T> ConditionWaitCatching<'_, T> {
    /// C4: learns whether this was cancelled, and stays where the next cancellation finds it.
    fn catch(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(cancelled) = self.catcher.poll_cancelled(cx) {
            Cancelled::gather(&mut self.cancelled, cancelled);
        }
        if self.cancelled.is_some() {
            self.forgo();
        }
    }

    /// Exchanges the place in line for one in the lock's, and hands a notification on (C2): who was cancelled or dropped
    /// has no use for it.
    fn forgo(&mut self) {
        let mut left = None; // With a waker, which is foreign: dropped last.
        if let Stage::Waiting(lock, place) = &mut self.stage {
            left = place.leave(&self.condition.waiters, |waiters| waiters);
            self.stage = Stage::Locking(lock.acquire());
        }
        if let Some(left) = &left {
            self.notified = left.note;
        }
        if std::mem::take(&mut self.notified) == Notified::AsOne {
            self.condition.notify(1);
        }
        drop(left);
    }

    fn stage(&self) -> &'static str {
        match (&self.stage, &self.cancelled) {
            (Stage::New(_), _) => "new",
            (Stage::Waiting(..), _) => "waiting",
            (Stage::Locking(_), None) => "locking",
            (Stage::Locking(_), Some(_)) => "locking, cancelled",
            (Stage::Done, _) => "done",
        }
    }
}

/// The guard, or the guard and what was caught.
type Caught<'a, T> = Result<LockGuard<'a, T>, (LockGuard<'a, T>, Cancelled)>;

impl<'a, T> ConditionWaitCatching<'a, T> {
    /// Polls it for a user who called `call`.
    fn poll_as(&mut self, cx: &mut Context<'_>, call: &'static str) -> Poll<Caught<'a, T>> {
        let this = self;
        match &mut this.stage {
            Stage::New(guard) => {
                let waiting = Stage::Waiting(LockGuard::lock(guard), this.condition.join(cx.waker().clone()));
                // Here the lock is released: C1, C3.
                drop(std::mem::replace(&mut this.stage, waiting));
                this.catch(cx);
                watch::wait(cx.waker(), call, || On::object(this.condition));
                return Poll::Pending;
            }
            Stage::Waiting(..) | Stage::Locking(_) => this.catch(cx),
            Stage::Done => panic!("`{call}` was polled after it had finished"),
        }
        if let Stage::Waiting(lock, place) = &mut this.stage {
            let polled = place.poll(&this.condition.waiters, |waiters| waiters, cx.waker());
            this.notified = ready!(watch::noted(polled, cx, call, || On::object(this.condition)));
            this.stage = Stage::Locking(lock.acquire());
        }
        let Stage::Locking(acquire) = &mut this.stage else { unreachable!("it left the line above") };
        let guard = ready!(Pin::new(acquire).poll(cx));
        this.catcher.leave();
        this.notified = Notified::NotYet; // used up (C2)
        this.stage = Stage::Done;
        Poll::Ready(match this.cancelled.take() {
            None => Ok(guard),
            Some(cancelled) => Err((guard, cancelled)),
        })
    }
}

impl<'a, T> Future for ConditionWaitCatching<'a, T> {
    type Output = Result<LockGuard<'a, T>, (LockGuard<'a, T>, Cancelled)>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().poll_as(cx, "Condition::wait_catching")
    }
}

impl<T> Drop for ConditionWaitCatching<'_, T> {
    fn drop(&mut self) {
        self.forgo();
    }
}

impl<T> fmt::Debug for ConditionWaitCatching<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConditionWaitCatching [{}]", self.stage())
    }
}

// === impl ConditionWait ===

/// The future of [`Condition::wait`].
#[must_use = "futures do nothing unless awaited"]
pub struct ConditionWait<'a, T> {
    wait: ConditionWaitCatching<'a, T>,
    /// The cancellation on its way: this never returns.
    passing_on: Option<Resume>,
}

impl<'a, T> Future for ConditionWait<'a, T> {
    type Output = LockGuard<'a, T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.passing_on.is_none() {
            match ready!(this.wait.poll_as(cx, "Condition::wait")) {
                Ok(guard) => return Poll::Ready(guard),
                Err((guard, cancelled)) => {
                    this.passing_on = Some(cancelled.resume());
                    drop(guard);
                }
            }
        }
        let resume = this.passing_on.as_mut().expect("it was just there");
        match ready!(Pin::new(resume).poll(cx)) {}
    }
}

impl<T> fmt::Debug for ConditionWait<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = if self.passing_on.is_some() { "cancelled" } else { self.wait.stage() };
        write!(f, "ConditionWait [{stage}]")
    }
}

// === impl ConditionWaitFor ===

/// The future of [`Condition::wait_for`].
#[must_use = "futures do nothing unless awaited"]
pub struct ConditionWaitFor<'a, T, F> {
    condition: &'a Condition,
    /// Held, and about to be looked under.
    guard: Option<LockGuard<'a, T>>,
    wait: Option<ConditionWait<'a, T>>,
    is_fulfilled: F,
}

impl<T, F> Unpin for ConditionWaitFor<'_, T, F> {}

impl<'a, T, F: FnMut(&mut T) -> bool> Future for ConditionWaitFor<'a, T, F> {
    type Output = LockGuard<'a, T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            if let Some(wait) = &mut this.wait {
                this.guard = Some(ready!(Pin::new(wait).poll(cx)));
                this.wait = None;
            }
            let guard = this.guard.as_mut().expect("`Condition::wait_for` was polled after it had finished");
            let fulfilled = (this.is_fulfilled)(guard);
            let guard = this.guard.take().expect("it was just there");
            if fulfilled {
                return Poll::Ready(guard);
            }
            this.wait = Some(this.condition.wait(guard));
        }
    }
}

impl<T, F> fmt::Debug for ConditionWaitFor<'_, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.wait, &self.guard) {
            (Some(wait), _) => write!(f, "ConditionWaitFor [{wait:?}]"),
            (None, Some(_)) => f.write_str("ConditionWaitFor [new]"),
            (None, None) => f.write_str("ConditionWaitFor [done]"),
        }
    }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;

    fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_wait_releases_the_lock_and_takes_it_again() {
        let (lock, condition) = (Lock::new(1), Condition::new());
        let mut wait = condition.wait(lock.try_acquire().expect("free"));
        assert!(lock.locked(), "not polled yet");
        assert!(poll(&mut wait).is_pending());
        assert_eq!(format!("{lock:?} {condition:?}"), "Lock [unlocked, waiters: 0] Condition [waiters: 1]");
        let busy = lock.try_acquire().expect("the wait released it");
        condition.notify(1);
        assert!(poll(&mut wait).is_pending());
        assert_eq!(format!("{lock:?} {wait:?}"), "Lock [locked, waiters: 1] ConditionWait [locking]");
        drop(busy);
        let Poll::Ready(guard) = poll(&mut wait) else { panic!("notified, and the lock is free") };
        assert_eq!(*guard, 1);
    }

    /// Two wait, the first is notified, then dropped in `stage`: the second must be notified.
    fn check_hand_on(drop_while_locking: bool) {
        let (lock, condition) = (Lock::new(()), Condition::new());
        let mut first = condition.wait(lock.try_acquire().expect("free"));
        assert!(poll(&mut first).is_pending());
        let mut second = condition.wait(lock.try_acquire().expect("free"));
        assert!(poll(&mut second).is_pending());
        let busy = lock.try_acquire().expect("free");
        condition.notify(1);
        if drop_while_locking {
            assert!(poll(&mut first).is_pending());
        }
        drop(first);
        drop(busy);
        assert!(poll(&mut second).is_ready());
    }

    #[test]
    fn a_notification_is_handed_on() {
        check_hand_on(false);
        check_hand_on(true);
    }

    #[test]
    fn a_notification_of_all_is_not_handed_to_newcomers() {
        let (lock, condition) = (Lock::new(()), Condition::new());
        let mut first = condition.wait(lock.try_acquire().expect("free"));
        assert!(poll(&mut first).is_pending());
        condition.notify_all();
        let mut newcomer = condition.wait(lock.try_acquire().expect("free"));
        assert!(poll(&mut newcomer).is_pending());
        drop(first);
        assert!(poll(&mut newcomer).is_pending());
    }

    #[test]
    fn notify_counts() {
        let (lock, condition) = (Lock::new(()), Condition::new());
        let mut waits: Vec<_> = (0..4)
            .map(|_| {
                let mut wait = condition.wait(lock.try_acquire().expect("free"));
                assert!(poll(&mut wait).is_pending());
                wait
            })
            .collect();
        condition.notify(0);
        condition.notify(3);
        let ready: Vec<bool> = waits.iter_mut().map(|wait| poll(wait).is_ready()).collect();
        assert_eq!(ready, [true, true, true, false]);
        condition.notify(usize::MAX);
        assert!(poll(&mut waits[3]).is_ready());
    }
}
