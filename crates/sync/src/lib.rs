//! asyncio's synchronization primitives, for any executor and any thread.
//!
//! Every primitive is a small state under one small lock, with an atomic fast path where a benchmark asked for it, and one
//! kind of wait list. The crate knows neither a clock nor an executor: it needs a waker and nothing else, so it runs on
//! Evenloop's loop, on tokio, on smol, and under a bare `block_on`.
//!
//! # Fairness
//!
//! Whoever waits first is served first, on every primitive, in the order of first polls. A newcomer never overtakes, and
//! neither does the task that just released. What was given to a waiter that is dropped before it could take it goes to
//! the next in line. A poll that the host's [budget](evenloop_core::budget) puts off (after at most 128 operations in a row
//! that did not wait) takes no place yet: the one after it is the first.
//!
//! # Cancel safety
//!
//! Every function that waits may be dropped at any await; each says what is lost, which is at most the place in line.
//!
//! # Under the hood
//!
//! Wakers and destructors of user values run after the inner lock is released, so they may call back into the same
//! primitive. A waker that panics keeps nobody else from being woken. The panic goes on in the call that woke; where that puts
//! or gets an item of a queue it is [reported](evenloop_core::Spawn::report) instead, for it would take the item along.
//!
//! Nothing is allocated per wait once a primitive has seen its usual number of waiters; a [`Condition::wait`] inside a cancel
//! scope needs a node of the scope's tree. Inner locks are held for a few instructions; a thread that finds one taken gives
//! way soon, and sleeps if that does not help, so real-time priorities are safe.
//!
//! What asyncio has and this crate has not: a lock bound to one event loop, and the error of using it from another. trio's
//! `ParkingLot` is the private wait list here: an [`Event`], a [`Condition`] or a [`Semaphore`] serves.

#![deny(unsafe_code)]
#![doc(test(attr(allow(unused), deny(unused_must_use))))]

/// What the README shows is run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod first_panic;

mod report;

mod wait_list;

mod permits;

#[allow(unsafe_code)] // the guards' way to the value
mod lock;

#[allow(unsafe_code)] // as in `lock`
mod rwlock;

mod semaphore;

mod bounded_semaphore;

mod event;

mod condition;

mod barrier;

mod limiter;

#[allow(unsafe_code)] // the halves' way to the memory they share
mod slot;

pub mod oneshot;

#[allow(unsafe_code)] // the guard's way to the value
mod spin_lock;

mod queue;

mod lifo_queue;

mod priority_queue;

mod future;

pub use barrier::{Barrier, BarrierPassed, BarrierStatistics, BarrierWait, BrokenBarrier};
pub use bounded_semaphore::{BoundedSemaphore, ReleasedTooOften};
pub use condition::{Condition, ConditionStatistics, ConditionWait, ConditionWaitCatching, ConditionWaitFor};
pub use event::{Event, EventStatistics, EventWait};
pub use future::{
    CallbackId, Future, FutureError, FutureStatistics, FutureWait, InvalidState, OwnedFutureWait,
};
pub use lifo_queue::LifoQueue;
pub use limiter::{
    AlreadyBorrowing, Borrower, Limiter, LimiterAcquire, LimiterAcquireFor, LimiterStatistics, LimiterToken,
    TryBorrowError,
};
pub use lock::{Lock, LockAcquire, LockAcquireOwned, LockGuard, LockStatistics, OwnedLockGuard};
pub use priority_queue::PriorityQueue;
pub use queue::{
    Fifo, GetNowaitError, Lifo, Order, Priority, PutNowaitError, Queue, QueueGet, QueueGetMany, QueueJoin,
    QueuePut, QueueReserve, QueueShutDown, QueueSink, QueueSlot, QueueStatistics, QueueStream,
};
pub use rwlock::{
    OwnedReadGuard, OwnedWriteGuard, ReadGuard, RwLock, RwLockRead, RwLockReadOwned, RwLockStatistics,
    RwLockWrite, RwLockWriteOwned, WriteGuard,
};
pub use semaphore::{
    OwnedPermit, Permit, Semaphore, SemaphoreAcquire, SemaphoreAcquireOwned, SemaphoreClosed,
    SemaphoreStatistics, TryAcquireError,
};
