//! Which of sync's locks may move to, and be shared with, other threads: both ways.

use evenloop_sync::*;
use static_assertions::{assert_impl_all, assert_not_impl_any};
use std::cell::Cell;
use std::fmt::Debug;
use std::marker::PhantomPinned;
use std::rc::Rc;

// A value that may move but not be shared.
type Movable = Cell<u8>;
// A value that may do neither.
type Local = Rc<u8>;
// A value that may be shared but not move: what a guard of another mutex is.
type Shared = std::sync::MutexGuard<'static, u8>;

// A lock needs its value to move.
assert_impl_all!(Lock<Movable>: Send, Sync, Unpin, Debug);
assert_not_impl_any!(Lock<Local>: Send, Sync);
assert_not_impl_any!(Lock<Shared>: Send, Sync);
assert_not_impl_any!(Lock<PhantomPinned>: Unpin);
assert_impl_all!(LockGuard<'static, Movable>: Send, Unpin);
assert_not_impl_any!(LockGuard<'static, Movable>: Sync, Clone);
assert_not_impl_any!(LockGuard<'static, Local>: Send, Sync);
assert_impl_all!(LockGuard<'static, u8>: Send, Sync, Unpin, Debug);
assert_impl_all!(OwnedLockGuard<Movable>: Send);
assert_not_impl_any!(OwnedLockGuard<Movable>: Sync, Clone);
assert_not_impl_any!(OwnedLockGuard<Local>: Send, Sync);
assert_impl_all!(OwnedLockGuard<u8>: Send, Sync, Debug);
assert_impl_all!(LockAcquire<'static, Movable>: Send, Sync, Unpin, Debug);
assert_impl_all!(LockAcquireOwned<Movable>: Send, Sync, Unpin, Debug);
assert_not_impl_any!(LockAcquire<'static, Local>: Send, Sync);
assert_not_impl_any!(LockAcquireOwned<Local>: Send, Sync);

// A lock for readers and writers needs its value to be shared too.
assert_impl_all!(RwLock<u8>: Send, Sync, Unpin, Debug);
assert_impl_all!(RwLock<Movable>: Send);
assert_not_impl_any!(RwLock<Movable>: Sync);
assert_not_impl_any!(RwLock<Local>: Send, Sync);
assert_not_impl_any!(RwLock<Shared>: Send, Sync);
assert_impl_all!(ReadGuard<'static, u8>: Send, Sync, Unpin, Debug);
assert_impl_all!(WriteGuard<'static, u8>: Send, Sync, Unpin, Debug);
assert_impl_all!(OwnedReadGuard<u8>: Send, Sync, Unpin, Debug);
assert_impl_all!(OwnedWriteGuard<u8>: Send, Sync, Unpin, Debug);
assert_not_impl_any!(ReadGuard<'static, Movable>: Send, Sync, Clone);
assert_not_impl_any!(WriteGuard<'static, Movable>: Send, Sync, Clone);
assert_not_impl_any!(OwnedReadGuard<Movable>: Send, Sync, Clone);
assert_not_impl_any!(OwnedWriteGuard<Movable>: Send, Sync, Clone);
assert_impl_all!(RwLockRead<'static, u8>: Send, Sync, Unpin, Debug);
assert_impl_all!(RwLockWrite<'static, u8>: Send, Sync, Unpin, Debug);
assert_impl_all!(RwLockReadOwned<u8>: Send, Sync, Unpin, Debug);
assert_impl_all!(RwLockWriteOwned<u8>: Send, Sync, Unpin, Debug);
assert_not_impl_any!(RwLockRead<'static, Movable>: Send, Sync);
assert_not_impl_any!(RwLockWriteOwned<Movable>: Send, Sync);

// What holds no value goes anywhere.
assert_impl_all!(Semaphore: Send, Sync, Unpin, Debug);
assert_impl_all!(BoundedSemaphore: Send, Sync, Unpin, Debug);
assert_impl_all!(SemaphoreAcquire<'static>: Send, Sync, Unpin, Debug);
assert_impl_all!(SemaphoreAcquireOwned: Send, Sync, Unpin, Debug);
assert_impl_all!(Permit<'static>: Send, Sync, Unpin, Debug);
assert_impl_all!(OwnedPermit: Send, Sync, Unpin, Debug);
assert_not_impl_any!(Permit<'static>: Clone);
assert_not_impl_any!(OwnedPermit: Clone);
assert_impl_all!(Event: Send, Sync, Unpin, Debug);
assert_impl_all!(EventWait<'static>: Send, Sync, Unpin, Debug);
assert_impl_all!(Barrier: Send, Sync, Unpin, Debug);
assert_impl_all!(BarrierWait<'static>: Send, Sync, Unpin, Debug);
assert_impl_all!(Limiter: Send, Sync, Unpin, Debug);
assert_impl_all!(LimiterAcquire<'static>: Send, Sync, Unpin, Debug);
assert_impl_all!(LimiterAcquireFor<'static>: Send, Sync, Unpin, Debug);
assert_impl_all!(LimiterToken<'static>: Send, Sync, Unpin, Debug);
assert_not_impl_any!(LimiterToken<'static>: Clone);

// A condition's wait holds the guard that was handed in.
assert_impl_all!(Condition: Send, Sync, Unpin, Debug);
assert_impl_all!(ConditionWait<'static, Movable>: Send, Unpin, Debug);
assert_not_impl_any!(ConditionWait<'static, Movable>: Sync);
assert_impl_all!(ConditionWait<'static, u8>: Send, Sync);
assert_not_impl_any!(ConditionWait<'static, Local>: Send, Sync);
assert_impl_all!(ConditionWaitCatching<'static, u8>: Send, Sync, Unpin, Debug);
assert_not_impl_any!(ConditionWaitCatching<'static, Local>: Send, Sync);
assert_impl_all!(ConditionWaitFor<'static, u8, fn(&mut u8) -> bool>: Send, Sync, Unpin, Debug);
assert_not_impl_any!(ConditionWaitFor<'static, u8, Local>: Send, Sync);

// Errors travel.
assert_impl_all!(SemaphoreClosed: std::error::Error, Send, Sync);
assert_impl_all!(TryAcquireError: std::error::Error, Send, Sync);
assert_impl_all!(ReleasedTooOften: std::error::Error, Send, Sync);
assert_impl_all!(BrokenBarrier: std::error::Error, Send, Sync);
assert_impl_all!(AlreadyBorrowing: std::error::Error, Send, Sync);
assert_impl_all!(TryBorrowError: std::error::Error, Send, Sync);

/// Every primitive is `const`, but for those that are shared by counting.
#[test]
fn primitives_can_be_statics() {
    static LOCK: Lock<u8> = Lock::new(1);
    static RW_LOCK: RwLock<u8> = RwLock::new(1);
    static SEMAPHORE: Semaphore = Semaphore::new(1);
    static BOUNDED: BoundedSemaphore = BoundedSemaphore::new(1);
    static EVENT: Event = Event::new();
    static CONDITION: Condition = Condition::new();
    static BARRIER: Barrier = Barrier::new(1);
    static LIMITER: Limiter = Limiter::new(1);
    static QUEUES: (Queue<u8>, LifoQueue<u8>, PriorityQueue<u8>) =
        (Queue::new(1), LifoQueue::new(1), PriorityQueue::new(1));
    assert!(QUEUES.0.empty() && QUEUES.1.empty() && QUEUES.2.empty());
    assert_eq!(*LOCK.try_acquire().expect("free") + *RW_LOCK.try_read().expect("free"), 2);
    assert!(
        SEMAPHORE.try_acquire().is_ok() && BOUNDED.try_acquire().is_ok() && LIMITER.try_acquire().is_some()
    );
    assert!(!EVENT.is_set() && !BARRIER.broken());
    CONDITION.notify_all();
}
