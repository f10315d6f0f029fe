//! What other threads may read of a watched loop and of its tasks.
//!
//! ORDERING: Relaxed throughout. Each figure is a snapshot of its own; what belongs together lies behind a mutex.

use crate::handle::Handle;
use crate::task::TaskId;
use crate::task::raw::About;
use crate::watch::trace::{Span, Trace};
use evenloop_core::Timers;
use evenloop_core::shim::atomic::{AtomicBool, AtomicU64, Ordering};
use evenloop_core::shim::{GlobalMutex, StdArc};
use evenloop_core::watch::{Fresh, TaskKey, Waits};
use std::collections::BTreeMap;
use std::panic::Location;
use std::time::{Duration, Instant};

/// A watched loop.
pub(crate) struct LoopRecord {
    pub(crate) number: u64,
    /// The name of its thread.
    pub(crate) thread: String,
    pub(crate) handle: Handle,
    /// The loop's own clock, if it is not the machine's.
    clock: Option<StdArc<dyn Timers>>,
    /// From here the real time of spans is counted.
    epoch: Instant,
    tasks: GlobalMutex<BTreeMap<u64, StdArc<TaskRecord>>>,
    spawned: AtomicU64,
    /// Whether it sleeps without a time limit, or with one.
    asleep: AtomicBool,
    /// How often it went to sleep.
    sleeps: AtomicU64,
    tracing: AtomicBool,
    trace: GlobalMutex<Trace>,
}

/// A task of a watched loop.
pub(crate) struct TaskRecord {
    pub(crate) id: u64,
    pub(crate) spawned_at: &'static Location<'static>,
    /// The type of its future.
    pub(crate) future: &'static str,
    /// By the loop's clock.
    pub(crate) spawned: Instant,
    pub(crate) parent: Option<TaskKey>,
    polls: AtomicU64,
    busy_ns: AtomicU64,
    /// When the present poll began, in nanoseconds since the loop's epoch, and one more; 0: it is not being polled.
    polled_since: AtomicU64,
    told: GlobalMutex<Told>,
}

#[derive(Clone, Default)]
pub(crate) struct Told {
    pub(crate) name: Option<Box<str>>,
    pub(crate) waits: Waits,
    /// The address of the group that it is a child of.
    pub(crate) group: Option<usize>,
}

static LOOPS: GlobalMutex<Vec<StdArc<LoopRecord>>> = GlobalMutex::new(Vec::new());

pub(crate) fn register(record: &StdArc<LoopRecord>) {
    LOOPS.lock().push(record.clone());
}

pub(crate) fn unregister(record: &StdArc<LoopRecord>) {
    let mut loops = LOOPS.lock();
    let place = loops.iter().position(|known| StdArc::ptr_eq(known, record));
    let gone = place.map(|place| loops.remove(place));
    drop(loops);
    drop(gone);
}

/// The loops of this process that are watched, in the order in which the watch began.
pub(crate) fn loops() -> Vec<StdArc<LoopRecord>> {
    LOOPS.lock().clone()
}

impl LoopRecord {
    pub(crate) fn new(number: u64, handle: Handle, clock: Option<StdArc<dyn Timers>>) -> StdArc<Self> {
        StdArc::new(Self {
            number,
            thread: std::thread::current().name().unwrap_or("unnamed").to_owned(),
            handle,
            clock: clock.filter(|clock| clock.advance(Duration::ZERO)), // one that can be moved is virtual
            epoch: Instant::now(),
            tasks: GlobalMutex::new(BTreeMap::new()),
            spawned: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            sleeps: AtomicU64::new(0),
            tracing: AtomicBool::new(false),
            trace: GlobalMutex::new(Trace::default()),
        })
    }

    /// The present instant of the loop's clock.
    pub(crate) fn now(&self) -> Instant {
        self.clock.as_ref().map_or_else(Instant::now, |clock| clock.now())
    }

    /// Real nanoseconds since the watch began.
    pub(crate) fn since_epoch(&self) -> u64 {
        self.nanos(Instant::now())
    }

    /// The present instant of the loop's clock, and real nanoseconds since the watch began: one look at a clock, if both are the
    /// same.
    pub(crate) fn times(&self) -> (Instant, u64) {
        let real = Instant::now();
        (self.clock.as_ref().map_or(real, |clock| clock.now()), self.nanos(real))
    }

    fn nanos(&self, real: Instant) -> u64 {
        let nanos = real.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    pub(crate) fn insert(&self, task: StdArc<TaskRecord>) {
        self.spawned.fetch_add(1, Ordering::Relaxed);
        self.tasks.lock().insert(task.id, task);
    }

    pub(crate) fn remove(&self, id: u64) {
        let gone = self.tasks.lock().remove(&id);
        drop(gone);
    }

    pub(crate) fn tasks(&self) -> Vec<StdArc<TaskRecord>> {
        self.tasks.lock().values().cloned().collect()
    }

    pub(crate) fn spawned(&self) -> u64 {
        self.spawned.load(Ordering::Relaxed)
    }

    pub(crate) fn sleep(&self) {
        self.sleeps.fetch_add(1, Ordering::Relaxed);
        self.asleep.store(true, Ordering::Relaxed);
    }

    pub(crate) fn wake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Whether it sleeps, and how often it has gone to sleep.
    pub(crate) fn asleep(&self) -> (bool, u64) {
        (self.asleep.load(Ordering::Relaxed), self.sleeps.load(Ordering::Relaxed))
    }

    // === Tracing ===

    /// A poll has ended.
    pub(crate) fn polled(&self, task: u64, (began, took): (u64, u64)) {
        if self.tracing.load(Ordering::Relaxed) {
            self.trace.lock().push(Span { task, began_ns: began, took_ns: took });
        }
    }

    pub(crate) fn start_trace(&self) {
        *self.trace.lock() = Trace::default();
        self.tracing.store(true, Ordering::Relaxed);
    }

    pub(crate) fn end_trace(&self) -> Trace {
        self.tracing.store(false, Ordering::Relaxed);
        std::mem::take(&mut self.trace.lock())
    }
}

impl TaskRecord {
    pub(crate) fn new(
        id: u64,
        name: Option<Box<str>>,
        spawned_at: &'static Location<'static>,
        future: &'static str,
        spawned: Instant,
        parent: Option<TaskKey>,
    ) -> StdArc<Self> {
        StdArc::new(Self {
            id,
            spawned_at,
            future,
            spawned,
            parent,
            polls: AtomicU64::new(0),
            busy_ns: AtomicU64::new(0),
            polled_since: AtomicU64::new(0),
            told: GlobalMutex::new(Told { name, ..Told::default() }),
        })
    }

    pub(crate) fn told(&self) -> Told {
        self.told.lock().clone()
    }

    pub(crate) fn waits(&self) -> Waits {
        self.told.lock().waits.clone()
    }

    pub(crate) fn set_name(&self, name: Box<str>) {
        let before = self.told.lock().name.replace(name);
        drop(before);
    }

    pub(crate) fn set_group(&self, group: usize) {
        self.told.lock().group = Some(group);
    }

    /// A poll begins, so many real nanoseconds after the loop's epoch.
    pub(crate) fn begin(&self, real: u64) {
        self.polled_since.store(real + 1, Ordering::Relaxed);
    }

    /// A poll has ended. Answers when it began and how long it took, in real nanoseconds.
    pub(crate) fn end(&self, took: Duration, fresh: &mut Fresh, now: Instant, real: u64) -> (u64, u64) {
        // The owner is the only one who writes, so there is nothing to be lost between a load and a store.
        let polls = self.polls.load(Ordering::Relaxed);
        self.polls.store(polls + 1, Ordering::Relaxed);
        let busy = self.busy_ns.load(Ordering::Relaxed);
        let more = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.busy_ns.store(busy.saturating_add(more), Ordering::Relaxed);
        self.told.lock().waits.merge(fresh, now);
        let began = self.polled_since.load(Ordering::Relaxed).saturating_sub(1);
        self.polled_since.store(0, Ordering::Relaxed);
        (began, real.saturating_sub(began))
    }

    pub(crate) fn polls(&self) -> u64 {
        self.polls.load(Ordering::Relaxed)
    }

    pub(crate) fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy_ns.load(Ordering::Relaxed))
    }

    /// When the present poll began, in real nanoseconds since the loop's epoch.
    pub(crate) fn polled_since(&self) -> Option<u64> {
        self.polled_since.load(Ordering::Relaxed).checked_sub(1)
    }

    pub(crate) fn name(&self) -> String {
        self.told.lock().name.as_ref().map_or_else(|| format!("Task-{}", self.id), ToString::to_string)
    }

    /// What reports say of the task.
    pub(crate) fn about(&self) -> About {
        About {
            id: TaskId::new(self.id),
            name: self.told.lock().name.clone(),
            spawned_at: self.spawned_at,
            over: false,
            running: self.polled_since().is_some(),
            started: true,
            cancelling: false,
            callback: false,
        }
    }
}
