//! Watching tasks: what each waits for, since when, who holds it, and how much it has run.
//!
//! A loop is watched when somebody asks for it: [`Builder::watch`](crate::Builder::watch), debug mode, the console, a test.
//! Then each of its tasks has a record, which other threads may read while the loop is blocked, and every poll goes through
//! `Watch::begin` and `Watch::end`. A loop that is not watched pays for a flag in a word that is tested anyway.
//!
//! | file            | holds                                                               |
//! |-----------------|---------------------------------------------------------------------|
//! | this one        | the owner's hand on the records                                     |
//! | `record.rs`     | what other threads may read of a loop and of a task                 |
//! | `snapshot.rs`   | a copy of that, and who waits for whom in it                        |
//! | `report.rs`     | the copy as text: a list, a tree, cycles                            |
//! | `call_graph.rs` | asyncio's call graph of one task                                    |
//! | `instrument.rs` | hooks for each step                                                 |
//! | `trace.rs`      | what ran when, for a while                                          |
//! | `wire.rs`       | the copy as lines for another process: the format of the console    |
//!
//! R1. A record is in its loop's table from the spawn to the end of its task.
//! R2. No lock of a record is held while foreign code runs: a blocked task never keeps a reader waiting.

pub(crate) mod call_graph;
pub(crate) mod instrument;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod snapshot;
pub(crate) mod trace;
pub(crate) mod wire;

pub use self::call_graph::{CallGraph, capture_call_graph, format_call_graph, print_call_graph};
pub use self::instrument::{Instrument, InstrumentId, Step};
pub use self::snapshot::{
    Cycle, Link, LoopSnapshot, Place, Snapshot, TaskSnapshot, WaitSnapshot, cancel_watched, dump, snapshot,
};
pub use self::trace::{Span, Trace, end_trace, start_trace};
pub use self::wire::{BadRecord, escape, unescape};
pub use evenloop_core::watch::{Holder, On, TaskKey, Wait, Waits};

use self::record::{LoopRecord, TaskRecord};
use crate::task::raw::About;
use crate::unhandled::{Hook, Unhandled};
use evenloop_core::shim::StdArc;
use evenloop_core::watch::{self, Asked, Entered, Fresh};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// From how long on a poll is reported in debug mode: asyncio's `slow_callback_duration`.
pub(crate) const SLOW: Duration = Duration::from_millis(100);

/// The watch over one loop, in the hands of its thread.
pub(crate) struct Watch {
    record: StdArc<LoopRecord>,
    /// The memory of the notes of a poll.
    fresh: RefCell<Fresh>,
    instruments: RefCell<Vec<(u64, Rc<dyn Instrument>)>>,
    last_instrument: Cell<u64>,
    debug: Cell<bool>,
    _asked: Asked,
}

/// A poll that has begun.
pub(crate) struct Polling {
    began: Instant,
    entered: Entered,
}

impl Watch {
    pub(crate) fn new(record: StdArc<LoopRecord>) -> Rc<Self> {
        record::register(&record);
        Rc::new(Self {
            record,
            fresh: RefCell::default(),
            instruments: RefCell::default(),
            last_instrument: Cell::new(0),
            debug: Cell::new(false),
            _asked: watch::ask(),
        })
    }

    pub(crate) fn record(&self) -> &StdArc<LoopRecord> {
        &self.record
    }

    pub(crate) fn set_debug(&self, debug: bool) {
        self.debug.set(debug);
    }

    pub(crate) fn is_debug(&self) -> bool {
        self.debug.get()
    }

    fn step<'a>(&self, record: &'a TaskRecord) -> Step<'a> {
        Step { record, host: self.record.number }
    }

    /// Puts a task into the table.
    pub(crate) fn spawned(&self, record: StdArc<TaskRecord>) {
        self.record.insert(record.clone());
        self.tell(|instrument| instrument.task_spawned(&self.step(&record)));
    }

    /// A task has become ready.
    pub(crate) fn scheduled(&self, record: &TaskRecord) {
        self.tell(|instrument| instrument.task_scheduled(&self.step(record)));
    }

    /// Takes a task that is over out of the table.
    pub(crate) fn finished(&self, record: &TaskRecord) {
        self.record.remove(record.id);
        self.tell(|instrument| instrument.task_exited(&self.step(record)));
    }

    /// Begins a poll.
    pub(crate) fn begin(&self, record: &TaskRecord, waker: &Waker) -> Polling {
        self.tell(|instrument| instrument.before_task_step(&self.step(record)));
        let key = TaskKey { host: self.record.number, task: record.id };
        let mut fresh = self.fresh.take();
        let entered = watch::enter(key, waker, &mut fresh);
        let (began, real) = self.record.times();
        record.begin(real);
        Polling { began, entered }
    }

    /// Ends a poll: the task waits for what was noted, or is over.
    pub(crate) fn end(&self, record: &TaskRecord, polling: Polling, hook: impl FnOnce() -> Option<Rc<Hook>>) {
        let Polling { began, entered } = polling;
        let (now, real) = self.record.times();
        let mut fresh = Fresh::default();
        entered.leave(&mut fresh);
        let took = now.saturating_duration_since(began);
        let span = record.end(took, &mut fresh, now, real);
        self.fresh.replace(fresh);
        self.record.polled(record.id, span);
        if self.debug.get() && took >= SLOW {
            report_slow(took, record.about(), hook());
        }
        self.tell(|instrument| instrument.after_task_step(&self.step(record), took));
    }

    /// Ends the turn of a callback, which has no record. Debug mode only.
    pub(crate) fn tell_slow(&self, began: Instant, about: About, hook: impl FnOnce() -> Option<Rc<Hook>>) {
        let took = self.record.now().saturating_duration_since(began);
        if took >= SLOW {
            report_slow(took, about, hook());
        }
    }

    pub(crate) fn before_park(&self, timeout: Option<Duration>) {
        self.record.sleep();
        self.tell(|instrument| instrument.before_io_wait(timeout));
    }

    pub(crate) fn after_park(&self, timeout: Option<Duration>) {
        self.record.wake();
        self.tell(|instrument| instrument.after_io_wait(timeout));
    }

    // === Instruments ===

    pub(crate) fn add(&self, instrument: Rc<dyn Instrument>) -> u64 {
        let id = self.last_instrument.get() + 1;
        self.last_instrument.set(id);
        self.instruments.borrow_mut().push((id, instrument));
        id
    }

    pub(crate) fn remove(&self, id: u64) -> bool {
        let mut instruments = self.instruments.borrow_mut();
        let Some(place) = instruments.iter().position(|(known, _)| *known == id) else { return false };
        let gone = instruments.remove(place);
        drop(instruments);
        drop(gone);
        true
    }

    /// Calls a hook of every instrument. One that panics is reported and taken out.
    pub(crate) fn tell(&self, hook: impl Fn(&dyn Instrument)) {
        if self.instruments.borrow().is_empty() {
            return;
        }
        let instruments = self.instruments.borrow().clone();
        for (id, instrument) in &instruments {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook(&**instrument))) {
                self.remove(*id);
                Unhandled::new("an instrument panicked, and was taken out", None, Some(&*panic)).report(None);
                let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
            }
        }
        let _ = catch_unwind(AssertUnwindSafe(|| drop(instruments)));
    }
}

/// Debug mode: a turn that took too long.
#[cold]
fn report_slow(took: Duration, about: About, hook: Option<Rc<Hook>>) {
    let what = match about.callback {
        true => "a callback kept the event loop from running anything else",
        false => "a task kept the event loop from running anything else",
    };
    Unhandled::new(what, Some(about), None).in_other_words(format!("it took {took:.3?}")).report(hook);
}

impl Drop for Watch {
    fn drop(&mut self) {
        record::unregister(&self.record);
    }
}
