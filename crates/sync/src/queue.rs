//! A queue between tasks that know nothing of each other: bounded or not, strictly in order on both sides.
//!
//! Everything is a plain struct under one small lock (`state.rs` has the rules); `order.rs` decides which item comes out
//! next, and the futures are in `put.rs`, `get.rs` and `join.rs`.
//!
//! ```text
//! put   New ── slot free ──────────────────────────────► Done (item in the queue)
//!        └── full ──► Waiting ── get: slot promised ──► Chosen ── poll: item into the slot ──┘
//!                       │ drop: leaves, item and all      │ drop: the slot goes to the next
//!
//! get   New ── item free ──────────────────────────────► Done (item in hand)
//!        └── empty ─► Waiting ── put: item promised ──► Chosen ── poll: takes the next item ─┘
//!                       │ drop: leaves                    │ drop: the item goes to the next
//! ```
//!
//! A promise is a number, not an item: the item of a put that waits is in its future, all others are in the queue. So
//! items come out in order whoever is cancelled when, and none is ever between two places.
//!
//! Why not hand items over directly, from the put to the getter that waits: a getter that is dropped would have to put
//! the item back, behind younger ones that others have taken meanwhile.

use crate::first_panic::FirstPanic;
use crate::spin_lock::SpinLock;
use crate::wait_list::{Guarding, wake_due};
use std::fmt;

mod error;

mod get;

mod join;

pub(crate) mod order;

mod put;

pub(crate) mod state;

mod stream;

mod turn;

pub use error::{GetNowaitError, PutNowaitError, QueueShutDown};
pub use get::{QueueGet, QueueGetMany};
pub use join::QueueJoin;
pub use order::{Fifo, Lifo, Order, Priority};
pub use put::{QueuePut, QueueReserve, QueueSlot};
pub use stream::{QueueSink, QueueStream};

use state::{Admission, Due, State};

/// A first-in, first-out queue between tasks.
///
/// Shared by reference or in an `Arc`: any number of tasks on any threads put and get. A queue with a `maxsize` makes
/// putters wait while it is full. Whoever put reports with [`join`](Self::join) that all is finished, once each item was
/// reported with [`task_done`](Self::task_done); [`shutdown`](Self::shutdown) ends the queue.
///
/// Differs from asyncio: `put_nowait` and `get_nowait` overtake nobody either, and one `task_done` too many panics.
///
/// # Fairness
///
/// Items come out in the order in which they went in. Putters and getters that wait are chosen in the order of their
/// first polls, and nobody overtakes them, [`put_nowait`](Self::put_nowait) and [`get_nowait`](Self::get_nowait)
/// included: a slot or an item that is promised to somebody who waits is not free. A shutdown ends these promises: who comes
/// first takes what is left, so that nothing is left for a getter that never comes.
///
/// # Examples
///
/// ```
/// use evenloop_sync::Queue;
/// # futures::executor::block_on(async {
/// let queue = Queue::new(2);
/// let producer = async {
///     for item in 0..5 {
///         queue.put(item).await?; // waits while two are in the queue
///     }
///     queue.join().await;
///     queue.shutdown(false);
///     Ok::<(), evenloop_sync::QueueShutDown<i32>>(())
/// };
/// let consumer = async {
///     let mut items = vec![];
///     while let Ok(item) = queue.get().await {
///         items.push(item);
///         queue.task_done();
///     }
///     items
/// };
/// let (put, got) = futures::join!(producer, consumer);
/// put?;
/// assert_eq!(got, [0, 1, 2, 3, 4]);
/// # Ok::<(), evenloop_sync::QueueShutDown<i32>>(())
/// # }).unwrap();
/// ```
#[doc(alias("channel", "mpsc"))]
pub struct Queue<T, O: Order<T> = Fifo<T>> {
    state: O::Lock<State<T, O>>,
    /// 0: any number.
    maxsize: usize,
}

/// What a queue looked like a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStatistics {
    /// How many items were in the queue.
    pub qsize: usize,
    /// How many fit; 0 when any number does.
    pub maxsize: usize,
    /// How many futures waited for an item.
    pub getters: usize,
    /// How many futures waited for a slot.
    pub putters: usize,
    /// How many futures waited for the items to be finished.
    pub joiners: usize,
    /// How many items were put and not yet reported by `task_done`.
    pub unfinished: u64,
    /// Whether the queue was shut down.
    pub is_shut_down: bool,
}

impl<T> Queue<T> {
    /// An empty queue for `maxsize` items; 0 means any number.
    ///
    /// Memory grows with the items and is kept until the queue is dropped.
    #[cfg(not(evenloop_loom))]
    pub const fn new(maxsize: usize) -> Self {
        Self { state: SpinLock::new(State::new(Fifo::new(), maxsize)), maxsize }
    }

    /// An empty queue for `maxsize` items; 0 means any number.
    #[cfg(evenloop_loom)]
    pub fn new(maxsize: usize) -> Self {
        Self { state: SpinLock::new(State::new(Fifo::new(), maxsize)), maxsize }
    }
}

impl<T, O: Order<T>> Queue<T, O> {
    pub(crate) const fn with_lock(state: O::Lock<State<T, O>>, maxsize: usize) -> Self {
        Self { state, maxsize }
    }

    /// Puts an item in, waiting for a free slot while the queue is full.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.** Dropped before it completes, the item was not put: it is dropped with
    /// the future. To keep the item, [`reserve`](Self::reserve) a slot first.
    ///
    /// # Errors
    ///
    /// The queue was shut down; the item comes back.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let queue = evenloop_sync::Queue::new(1);
    /// queue.put("item").await?;
    /// assert!(queue.full());
    /// # Ok::<(), evenloop_sync::QueueShutDown<&str>>(())
    /// # }).unwrap();
    /// ```
    #[inline]
    #[doc(alias = "send")]
    pub fn put(&self, item: T) -> QueuePut<'_, T, O> {
        QueuePut::new(self, item)
    }

    /// Puts an item in if a slot is free.
    ///
    /// # Errors
    ///
    /// [`QueueFull`](PutNowaitError::QueueFull): no slot is free, or those in line come first.
    /// [`QueueShutDown`](PutNowaitError::QueueShutDown): the queue was shut down. The item comes back.
    #[doc(alias = "try_send")]
    pub fn put_nowait(&self, item: T) -> Result<(), PutNowaitError<T>> {
        let mut due = Due::nothing();
        let mut state = self.state.lock();
        match state.admit_putter() {
            Admission::Now => {
                state.put(item, &mut due);
                Ok(())
            }
            Admission::Later => Err(PutNowaitError::QueueFull(item)),
            Admission::Never => Err(PutNowaitError::QueueShutDown(item)),
        }
    }

    /// Waits for a free slot and keeps it, for an item that is not handed over before.
    ///
    /// asyncio has no such call; it is the way to put an item that must not be lost when the wait is given up.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.**
    ///
    /// # Errors
    ///
    /// The queue was shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let queue = evenloop_sync::Queue::new(1);
    /// let slot = queue.reserve().await?;
    /// assert!(queue.put_nowait("too late").is_err());
    /// slot.put("item")?;
    /// assert_eq!(queue.get().await?, "item");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn reserve(&self) -> QueueReserve<'_, T, O> {
        QueueReserve::new(self)
    }

    /// Takes the next item out, waiting while the queue is empty.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.** An item is taken in the moment in which the future completes, not
    /// before: one that was meant for a getter that is dropped goes to the next.
    ///
    /// # Errors
    ///
    /// The queue was shut down and is empty.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let queue = evenloop_sync::Queue::new(0);
    /// queue.put_nowait("item")?;
    /// assert_eq!(queue.get().await?, "item");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    #[inline]
    #[doc(alias = "recv")]
    pub fn get(&self) -> QueueGet<'_, T, O> {
        QueueGet::new(self)
    }

    /// Takes the next item out if there is one.
    ///
    /// # Errors
    ///
    /// [`QueueEmpty`](GetNowaitError::QueueEmpty): there is no item, or those in line come first.
    /// [`QueueShutDown`](GetNowaitError::QueueShutDown): the queue was shut down and is empty.
    #[doc(alias = "try_recv")]
    pub fn get_nowait(&self) -> Result<T, GetNowaitError> {
        let mut due = Due::nothing();
        let mut state = self.state.lock();
        match state.admit_getter() {
            Admission::Now => Ok(state.get(&mut due)),
            Admission::Later => Err(GetNowaitError::QueueEmpty),
            Admission::Never => Err(GetNowaitError::QueueShutDown),
        }
    }

    /// Waits for an item, and appends it and those that are there beside it to `items`, at most `limit`. Answers how
    /// many. With a `limit` of 0 it does not wait.
    ///
    /// asyncio has no such call; it saves the wait and the lock of each further item.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.** `items` is changed in the moment in which the future completes.
    ///
    /// # Errors
    ///
    /// The queue was shut down and is empty.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let queue = evenloop_sync::Queue::new(0);
    /// (0..5).try_for_each(|item| queue.put_nowait(item))?;
    /// let mut items = vec![];
    /// assert_eq!(queue.get_many(&mut items, 3).await?, 3);
    /// assert_eq!(items, [0, 1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn get_many<'a>(&'a self, items: &'a mut Vec<T>, limit: usize) -> QueueGetMany<'a, T, O> {
        QueueGetMany::new(self, items, limit)
    }

    /// How many items are in the queue, those included that are promised to getters in line. May be out of date by the
    /// time it returns.
    #[doc(alias = "len")]
    pub fn qsize(&self) -> usize {
        self.state.lock().items()
    }

    /// How many items fit; 0 means any number.
    #[doc(alias = "capacity")]
    pub const fn maxsize(&self) -> usize {
        self.maxsize
    }

    /// Whether there is no item for [`get_nowait`](Self::get_nowait). May be out of date by the time it returns.
    #[doc(alias = "is_empty")]
    pub fn empty(&self) -> bool {
        self.state.lock().free_items() == 0
    }

    /// Whether there is no slot for [`put_nowait`](Self::put_nowait). May be out of date by the time it returns.
    #[doc(alias = "is_full")]
    pub fn full(&self) -> bool {
        let state = self.state.lock();
        if state.is_shut_down() {
            return self.maxsize > 0 && state.items() >= self.maxsize; // then nothing is promised
        }
        state.free_slots() == 0
    }

    /// Reports that an item that was got is finished with. After as many reports as items were put,
    /// [`join`](Self::join) goes on.
    ///
    /// # Panics
    ///
    /// `task_done` was called more often than items were put.
    pub fn task_done(&self) {
        let mut state = self.state.lock();
        let finished = state.finish();
        drop(state);
        match finished {
            Ok(true) => wake_due(None, &self.state, State::joiners),
            Ok(false) => {}
            Err(()) => panic!("`Queue::task_done` was called more often than items were put"),
        }
    }

    /// Waits until every item that was put has been reported by [`task_done`](Self::task_done); returns at once if all
    /// were.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.**
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let queue = evenloop_sync::Queue::new(0);
    /// queue.put_nowait("item")?;
    /// queue.get().await?;
    /// queue.task_done();
    /// queue.join().await;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn join(&self) -> QueueJoin<'_, T, O> {
        QueueJoin::new(self)
    }

    /// Ends the queue: from now on every put fails, also those that wait. This cannot be undone; calling it again may
    /// still turn a shutdown into an immediate one.
    ///
    /// Not `immediate`: what is in the queue can be got, then every get fails. `immediate`: what is in the queue is
    /// dropped and counts as reported by [`task_done`](Self::task_done), and every get fails. Items that were got
    /// before have to be reported by those who got them; [`join`](Self::join) waits for them.
    #[doc(alias = "close")]
    pub fn shutdown(&self, immediate: bool) {
        let mut state = self.state.lock();
        let gone = state.shut_down(immediate);
        drop(state);
        // A waker that panics in one line keeps nobody in the others from being woken.
        let mut panic = FirstPanic::default();
        for line in [State::getters, State::putters, State::joiners] {
            panic.catch(|| wake_due(None, &self.state, line));
        }
        panic.catch(|| drop(gone));
        panic.go_on();
    }

    /// Whether the queue was shut down.
    #[doc(alias = "is_closed")]
    pub fn is_shut_down(&self) -> bool {
        self.state.lock().is_shut_down()
    }

    /// The items as a stream, which ends when the queue is shut down and empty. Each item is a [`get`](Self::get).
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::StreamExt;
    /// # futures::executor::block_on(async {
    /// let queue = evenloop_sync::Queue::new(0);
    /// (0..3).try_for_each(|item| queue.put_nowait(item))?;
    /// queue.shutdown(false);
    /// assert_eq!(queue.stream().collect::<Vec<_>>().await, [0, 1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn stream(&self) -> QueueStream<'_, T, O> {
        QueueStream::new(self)
    }

    /// A sink that puts into the queue. Closing the sink does not shut down the queue: others may go on.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::SinkExt;
    /// # futures::executor::block_on(async {
    /// let queue = evenloop_sync::Queue::new(0);
    /// queue.sink().send("item").await?;
    /// assert_eq!(queue.get().await?, "item");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn sink(&self) -> QueueSink<'_, T, O> {
        QueueSink::new(self)
    }

    /// What the queue looks like. May be out of date by the time it returns.
    pub fn statistics(&self) -> QueueStatistics {
        let mut state = self.state.lock();
        QueueStatistics {
            qsize: state.items(),
            maxsize: self.maxsize,
            getters: state.getters().len(),
            putters: state.putters().len(),
            joiners: state.joiners().len(),
            unfinished: state.unfinished(),
            is_shut_down: state.is_shut_down(),
        }
    }

    /// `Debug` under the name of the queue's own type.
    pub(crate) fn fmt_as(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let QueueStatistics { qsize, maxsize, getters, putters, unfinished, is_shut_down, .. } =
            self.statistics();
        write!(f, "{name} [{qsize}")?;
        if maxsize > 0 {
            write!(f, "/{maxsize}")?;
        }
        write!(f, ", getters: {getters}, putters: {putters}, unfinished: {unfinished}")?;
        f.write_str(if is_shut_down { ", shut down]" } else { "]" })
    }
}

impl<T> Default for Queue<T> {
    /// A queue for any number of items.
    fn default() -> Self {
        Self::new(0)
    }
}

impl<T, O: Order<T>> fmt::Debug for Queue<T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as("Queue", f)
    }
}
