//! The part of a loop that its tasks point to: the inbox for other threads, and the queues for its own (T1, T5).

use super::SpawnHook;
use super::cell::{Stage, TaskCell};
use super::places::Places;
use super::raw::*;
use super::site::Site;
use super::state::Word;
use super::task_ref::TaskRef;
use super::waker::{borrowed_waker, running};
use crate::unhandled::Hook;
use crate::watch::Watch;
use evenloop_core::Unpark;
use evenloop_core::shim::atomic::{AtomicPtr, Ordering};
use evenloop_core::shim::{GlobalAtomicU32, StdArc, UnsafeCell};
use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::rc::Rc;

/// What wakers and thread-safe handles share with the loop.
pub(crate) struct Shared {
    /// Names the loop in this process.
    pub(super) number: u64,
    /// Where the task was spawned that is being polled, for the watchdog: D1 in `watchdog.rs`.
    place: GlobalAtomicU32,
    /// The last task brought here by another thread, or one of the two marks below.
    pub(super) inbox: AtomicPtr<Header>,
    /// The last task in a chunk that was freed after it had settled: its place is the owner's to take (K3).
    freed: AtomicPtr<Header>,
    pub(super) unparker: StdArc<dyn Unpark>,
    /// For the owner, and at last for whoever drops this: what orders these two is the count of an `StdArc`, which no model sees.
    pub(super) places: Places,
    /// The owner's part (T1).
    pub(super) queue: UnsafeCell<Queue>,
}

// SAFETY: T1: `queue` and `places` are the owner's alone; the rest is made for sharing. When the last reference is dropped
// elsewhere the loop is closed: then `queue` holds numbers and null pointers only, and `places` memory that nobody uses.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// The inbox is empty and the owner sleeps: whoever pushes onto this mark wakes it.
pub(super) const PARKED: *mut Header = ptr::without_provenance_mut(1);
/// The loop is closed: nothing is taken any more.
pub(super) const CLOSED: *mut Header = ptr::without_provenance_mut(2);

/// What only the owner touches (T1).
pub(super) struct Queue {
    /// The run queue: each is SCHEDULED, and so alive (T4). A pass takes it whole, so that what it makes ready is for the
    /// next one.
    pub(super) ready: Vec<TaskPtr>,
    /// An empty one to put in its place.
    pub(super) spare: Vec<TaskPtr>,
    /// How many the pass that runs has before it.
    pub(super) left: usize,
    /// How many tasks are not over.
    pub(super) alive: usize,
    /// The task that is being polled.
    pub(super) current: *mut Header,
    /// The last task's number, and what the last callback has instead: `Own::id`.
    pub(super) last_id: u64,
    pub(super) last_callback: u64,
    pub(super) closed: bool,
    /// Gone once the loop is closed.
    pub(super) hook: Option<Rc<Hook>>,
    /// Called with each new task. Gone once the loop is closed.
    pub(super) on_spawn: Option<Rc<SpawnHook>>,
    /// While somebody asks what the tasks wait for. Gone once the loop is closed.
    pub(super) watch: Option<Rc<Watch>>,
    /// The loop is closed, and was in debug mode until then.
    pub(super) was_debug: bool,
}

impl Shared {
    /// Lends the owner's part (T2).
    ///
    /// # Safety
    ///
    /// This is the owner (T1). `f` does not lead back to this loop's own part.
    #[inline]
    pub(super) unsafe fn own<R>(&self, f: impl FnOnce(&mut Queue) -> R) -> R {
        // SAFETY: T1 and T2: nobody else has a borrow of it.
        self.queue.with_mut(|queue| f(unsafe { &mut *queue }))
    }

    /// Brings a task to the inbox. False: the loop is closed.
    ///
    /// # Safety
    ///
    /// The caller set QUEUED (W1). The task may be gone when this returns.
    pub(super) unsafe fn push(&self, task: TaskPtr) -> bool {
        // ORDERING: Relaxed: the exchange below fails on an outdated value, and CLOSED never goes away.
        let mut seen = self.inbox.load(Ordering::Relaxed);
        loop {
            if seen == CLOSED {
                return false;
            }
            let parked = seen == PARKED;
            let below = if parked { ptr::null_mut() } else { seen };
            // SAFETY: QUEUED keeps the task alive until the exchange below succeeds.
            let header = unsafe { task.header() };
            // SAFETY: who set QUEUED owns this field until the owner has taken the inbox.
            header.below.with_mut(|place| unsafe { *place = below });
            // After the exchange the owner may free the task, close, and free `self`.
            let unparker = parked.then(|| self.unparker.clone());
            // ORDERING: Release publishes `below` and a new task; pairs with the Acquire in `drain` and `close`.
            match self.inbox.compare_exchange_weak(
                seen,
                task.0.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    if let Some(unparker) = unparker {
                        unparker.unpark();
                    }
                    return true;
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Leaves the place of a task to the owner (K3).
    ///
    /// # Safety
    ///
    /// The task has settled, nobody refers to it, and it lies in a chunk. It is gone when this returns.
    pub(super) unsafe fn push_freed(&self, task: TaskPtr) {
        let mut seen = self.freed.load(Ordering::Relaxed);
        loop {
            // SAFETY: nobody else uses it until the exchange below succeeds.
            let header = unsafe { task.header() };
            // SAFETY: as above.
            header.below.with_mut(|place| unsafe { *place = seen });
            // ORDERING: Release publishes `below` and all use of the task; pairs with the Acquire in `take_freed`.
            match self.freed.compare_exchange_weak(
                seen,
                task.0.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Takes back the places that were left by `push_freed`.
    ///
    /// # Safety
    ///
    /// This is the owner (K3).
    pub(super) unsafe fn take_freed(&self) {
        // ORDERING: Relaxed: the swap below sees what there is.
        if self.freed.load(Ordering::Relaxed).is_null() {
            return;
        }
        // ORDERING: Acquire sees the links and comes after all use of these tasks; pairs with the Release in `push_freed`.
        let mut at = self.freed.swap(ptr::null_mut(), Ordering::Acquire);
        while let Some(task) = NonNull::new(at).map(TaskPtr) {
            // SAFETY: K4.
            let header = unsafe { task.header() };
            header.ends();
            // SAFETY: the stack is taken, so its links are the owner's.
            at = header.below.with(|below| unsafe { *below });
            // SAFETY: this is the owner; the task has settled, and is gone.
            unsafe { self.places.give(task) }
        }
    }

    pub(super) fn new(number: u64, unparker: StdArc<dyn Unpark>, queue: Queue) -> Self {
        let (inbox, freed) = (AtomicPtr::new(ptr::null_mut()), AtomicPtr::new(ptr::null_mut()));
        let place = GlobalAtomicU32::new(Site::NOWHERE.to_bits());
        Self { number, place, inbox, freed, unparker, places: Places::new(), queue: UnsafeCell::new(queue) }
    }

    /// The loop's number in this process.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// A task that was spawned there is about to be polled.
    #[inline]
    pub(super) fn publish(&self, site: Site) {
        // ORDERING: Relaxed: what it leads to never changes.
        self.place.store(site.to_bits(), Ordering::Relaxed);
    }

    /// Nothing is being polled: the loop does not run.
    pub(crate) fn rest(&self) {
        // ORDERING: Relaxed: nothing is published.
        self.place.store(Site::NOWHERE.to_bits(), Ordering::Relaxed);
    }

    /// For the watchdog: where the task was spawned whose poll has lasted since the last call of this. Inside `Some`: `None`
    /// if that is not known.
    pub(crate) fn polled_since_last_look(&self) -> Option<Option<&'static Location<'static>>> {
        // ORDERING: Relaxed throughout: the place is a constant, and one look more or less does not matter.
        let seen = self.place.load(Ordering::Relaxed);
        if seen == Site::NOWHERE.to_bits() || self.inbox.load(Ordering::Relaxed) == PARKED {
            return None; // D2
        }
        if seen & Site::MARK == 0 {
            let _ =
                self.place.compare_exchange(seen, seen | Site::MARK, Ordering::Relaxed, Ordering::Relaxed);
            return None;
        }
        Some(Site::from_bits(seen & !Site::MARK).get())
    }

    /// Whether the loop takes no more.
    pub(crate) fn is_closed(&self) -> bool {
        // ORDERING: Relaxed: a snapshot.
        self.inbox.load(Ordering::Relaxed) == CLOSED
    }

    /// How many tasks lie in the inbox. For the owner: nobody else takes them out.
    pub(super) fn inbox_len_of_owner(&self) -> usize {
        // ORDERING: Acquire sees the links; pairs with the Release in `push`.
        let mut at = self.inbox.load(Ordering::Acquire);
        let mut len = 0;
        if at == PARKED || at == CLOSED {
            return len;
        }
        while let Some(task) = NonNull::new(at).map(TaskPtr) {
            len += 1;
            // SAFETY: W1: QUEUED keeps it alive until the owner takes it.
            let header = unsafe { task.header() };
            // SAFETY: written before it was pushed, and next by the owner.
            at = header.below.with(|below| unsafe { *below });
        }
        len
    }

    /// Whether this is the loop that runs on the calling thread.
    #[inline]
    pub(crate) fn runs_here(&self) -> bool {
        running() == ptr::from_ref(self)
    }

    /// Hands a future to the loop from any thread.
    ///
    /// # Errors
    ///
    /// The loop is closed; the future comes back.
    pub(crate) fn spawn<F>(&self, future: F, spawned_at: &'static Location<'static>) -> Result<TaskRef, F>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_with(future, 0, spawned_at)
    }

    /// As [`spawn`](Self::spawn), for a callback in the guise of a task.
    pub(crate) fn spawn_callback<F>(
        &self,
        future: F,
        spawned_at: &'static Location<'static>,
    ) -> Result<TaskRef, F>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_with(future, CALLBACK, spawned_at)
    }

    pub(super) fn spawn_with<F>(
        &self,
        future: F,
        flags: u16,
        spawned_at: &'static Location<'static>,
    ) -> Result<TaskRef, F>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = TaskCell::alloc(future, Word::new_queued(), NonNull::from(self), flags, spawned_at, None);
        // SAFETY: T1: just made.
        unsafe { task.inherit_context() }
        // SAFETY: it was made with QUEUED set.
        if unsafe { self.push(task) } {
            // SAFETY: the word was made with one reference for its maker: this one.
            return Ok(TaskRef(ManuallyDrop::into_inner(unsafe { borrowed_waker(task) })));
        }
        let take = |stage: *mut Stage<F>| {
            // SAFETY: T3: it was never polled; nobody else has ever seen it.
            unsafe { stage.cast::<F>().read() }
        };
        // SAFETY: T1: this is its maker.
        let future = unsafe { TaskCell::<F>::stage(task, take) };
        // SAFETY: nobody refers to it, and the stage is empty now.
        unsafe { task.free_alone() }
        Err(future)
    }
}
