//! What tasks wait on, as tokio-console's resources, and each wait as one of its async ops.
//!
//! ```text
//! first wait ── span `runtime.resource` ──► entered for each event `runtime::resource::state_update` ──► …  closed (R3)
//!   a wait ──── span `runtime.resource.async_op` ──► entered for each event `runtime::resource::poll_op` ──► over: closed
//! ```
//!
//! R1. The console finds the resource, the op and the task of an event among the spans that are entered. So an op is made within
//!     its resource, and told of within its resource and its task.
//! R2. A resource has no parent, and an op its resource: a span lives as long as its children.
//! R3. What has an address or a descriptor is one resource, however many wait on it. It is closed when nobody has waited for it or
//!     held it for a while: where it is dropped nobody tells, since that would cost those who do not ask. Anything else, a timer
//!     say, is a resource for each wait, and closed with it.
//! R4. Nothing is borrowed while a span is made, entered, told of, cloned or dropped: a subscriber is foreign code. So tables
//!     hold a span behind an `Rc`, which is cloned in its stead.
//! R5. What came of a wait is not told: it has ended, or its future was dropped.

use evenloop_core::watch::{Follower, Holder, On, TaskKey, Wait, Waits, holders};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tracing::Span;

/// For how long a resource stays that nobody waits for and nobody holds.
const LINGER: Duration = Duration::from_secs(10);

/// The resources that the tasks of a loop wait on.
pub(super) struct Resources {
    shared: RefCell<BTreeMap<Key, Shared>>,
    /// Those that nobody waits for, and since when; an entry counts only while its resource says the same.
    idle: RefCell<VecDeque<(Instant, Key)>>,
    follower: RefCell<Follower>,
    linger: Duration,
}

/// Tells a resource that may be shared from all others: its type too, since a thing and its first field have one address.
type Key = (Thing, &'static str);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Object(usize),
    Descriptor(i64),
}

/// A resource with an address or a descriptor.
struct Shared {
    span: Rc<Span>,
    waiters: u64,
    idle_since: Option<Instant>,
    /// It is in the queue of those whose time runs, once.
    queued: bool,
    /// What was told last of who holds it.
    holders: Option<String>,
    /// What was told last of how many are in it.
    count: Option<usize>,
}

/// The waits of one task that are shown, by their numbers.
pub(super) type Ops = HashMap<u64, Op>;

/// A wait that is shown.
pub(super) struct Op {
    resource: Rc<Span>,
    span: Span,
    /// The resource, if others may wait for it as well.
    shared: Option<Key>,
    /// How many were told.
    polls: u64,
}

/// What a task is called.
pub(super) type Names<'a> = &'a dyn Fn(TaskKey) -> String;

impl Resources {
    pub(super) fn new() -> Self {
        Self {
            shared: RefCell::default(),
            idle: RefCell::default(),
            follower: RefCell::default(),
            linger: LINGER,
        }
    }

    /// Those that others may wait for as well.
    pub(super) fn len(&self) -> usize {
        self.shared.borrow().len()
    }

    /// Brings the ops of a task, which is entered, up to date with what it waits for.
    pub(super) fn step(&self, mut before: Ops, waits: &Waits, names: Names<'_>) -> Ops {
        let mut ops = Ops::new();
        for wait in waits.iter() {
            let Some(mut op) = before.remove(&wait.number).or_else(|| self.begin(wait, names)) else {
                continue;
            };
            op.tell_polls(wait);
            self.tell_count(&op, wait);
            ops.insert(wait.number, op);
        }
        self.end(before);
        ops
    }

    /// Makes the op of a wait, if it is one on a resource, and the resource if need be.
    fn begin(&self, wait: &Wait, names: Names<'_>) -> Option<Op> {
        let (kind, thing) = kind_of(wait)?;
        let concrete_type = type_of(wait);
        let key = thing.map(|thing| (thing, concrete_type));
        let resource = match key {
            Some(key) => self.join(key, kind, names),
            None => Rc::new(make_resource(concrete_type, kind)),
        };
        if let On::Until(when) = wait.on {
            let duration = when.saturating_duration_since(wait.since);
            resource.in_scope(|| tell_duration(duration));
        }
        let span = resource.in_scope(|| make_op(&resource, wait.call)); // R1
        Some(Op { resource, span, shared: key, polls: 0 })
    }

    /// One more waits for it.
    fn join(&self, key: Key, kind: &'static str, names: Names<'_>) -> Rc<Span> {
        if !self.shared.borrow().contains_key(&key) {
            let span = Rc::new(make_resource(key.1, kind));
            match key.0 {
                Thing::Object(address) => self.follower.borrow_mut().follow(address),
                Thing::Descriptor(descriptor) => span.in_scope(|| tell_descriptor(descriptor)),
            }
            let shared =
                Shared { span, waiters: 0, idle_since: None, queued: false, holders: None, count: None };
            self.shared.borrow_mut().insert(key, shared);
            self.tell_holders(key, names);
        }
        self.with(key, |shared| {
            shared.waiters += 1;
            shared.idle_since = None;
            (shared.span.clone(), shared.waiters)
        })
        .map(|(span, waiters)| {
            span.in_scope(|| tell_waiters(waiters));
            span
        })
        .unwrap_or_else(|| Rc::new(Span::none()))
    }

    /// These waits are over.
    pub(super) fn end(&self, ops: Ops) {
        for op in ops.into_values() {
            let left = op.shared.and_then(|key| {
                let now = Instant::now();
                let left = self.with(key, |shared| {
                    shared.waiters -= 1;
                    shared.idle_since = (shared.waiters == 0).then_some(now);
                    let is_new = shared.waiters == 0 && !std::mem::replace(&mut shared.queued, true);
                    (shared.waiters, is_new)
                });
                if left.is_some_and(|(_, is_new)| is_new) {
                    self.idle.borrow_mut().push_back((now, key));
                }
                left.map(|(waiters, _)| waiters)
            });
            if let Some(waiters) = left {
                op.resource.in_scope(|| tell_waiters(waiters));
            }
        }
    }

    /// Tells what changed hands, and closes what nobody has used for a while.
    pub(super) fn settle(&self, names: Names<'_>) {
        let changed = self.follower.borrow().changed();
        for address in changed {
            self.at(address).into_iter().for_each(|key| self.tell_holders(key, names));
        }
        for (since, key) in self.due() {
            let idle_since = self.with(key, |shared| {
                shared.queued = shared.idle_since.is_some();
                shared.idle_since
            });
            match idle_since.flatten() {
                Some(idle) if idle == since => self.close_unless_held(key),
                Some(later) => self.idle.borrow_mut().push_back((later, key)),
                None => {} // in use
            }
        }
    }

    /// Those whose time is over, if nobody has waited for them since.
    fn due(&self) -> Vec<(Instant, Key)> {
        let mut idle = self.idle.borrow_mut();
        if idle.is_empty() {
            return Vec::new();
        }
        let now = Instant::now();
        let due = idle.iter().take_while(|(since, _)| now.saturating_duration_since(*since) >= self.linger);
        let due = due.count();
        idle.drain(..due).collect()
    }

    fn close_unless_held(&self, key: Key) {
        if let Thing::Object(address) = key.0 {
            if !holders(address).is_empty() {
                let now = Instant::now();
                self.with(key, |shared| shared.idle_since = Some(now));
                return self.idle.borrow_mut().push_back((now, key));
            }
        }
        let gone = self.shared.borrow_mut().remove(&key);
        drop(gone); // R4
        if let Thing::Object(address) = key.0 {
            if self.at(address).is_empty() {
                self.follower.borrow_mut().unfollow(address);
            }
        }
    }

    /// The resources at an address.
    fn at(&self, address: usize) -> Vec<Key> {
        let thing = Thing::Object(address);
        let shared = self.shared.borrow();
        shared.range((thing, "")..).map(|(key, _)| *key).take_while(|key| key.0 == thing).collect()
    }

    fn with<R>(&self, key: Key, f: impl FnOnce(&mut Shared) -> R) -> Option<R> {
        self.shared.borrow_mut().get_mut(&key).map(f)
    }

    fn tell_holders(&self, key: Key, names: Names<'_>) {
        let Thing::Object(address) = key.0 else { return };
        let text =
            holders(address).iter().map(|holder| describe(holder, names)).collect::<Vec<_>>().join(", ");
        let news = self.with(key, |shared| {
            // What never had a holder, an event say, has no such line.
            let is_new = shared.holders.as_deref().unwrap_or_default() != text;
            if is_new {
                shared.holders = Some(text.clone());
            }
            is_new.then(|| shared.span.clone())
        });
        if let Some(span) = news.flatten() {
            span.in_scope(|| tell_held(&text));
        }
    }

    fn tell_count(&self, op: &Op, wait: &Wait) {
        let (Some(key), On::Counted(_, has, limit)) = (op.shared, wait.on) else { return };
        let news = self.with(key, |shared| (shared.count.replace(has), has));
        match news {
            Some((before, now)) if before != Some(now) => {
                op.resource.in_scope(|| tell_count_of(key.1, now, before.is_none().then_some(limit)));
            }
            _ => {}
        }
    }
}

impl Op {
    /// Tells of the polls that were Pending since it was last told.
    fn tell_polls(&mut self, wait: &Wait) {
        for _ in std::mem::replace(&mut self.polls, wait.polls)..wait.polls {
            self.resource.in_scope(|| {
                self.span.in_scope(|| {
                    tracing::trace!(target: "runtime::resource::poll_op", op_name = wait.call, is_ready = false);
                });
            });
        }
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resources [shared: {}]", self.len())
    }
}

// === What is what ===

/// The kind of the resource that is waited on, and what others may wait for as well. Those that stand for others and have no
/// deadline are none, nor are tasks and groups, which the console lists as tasks.
fn kind_of(wait: &Wait) -> Option<(&'static str, Option<Thing>)> {
    Some(match wait.on {
        On::Object(address) | On::Counted(address, ..) => ("Sync", Some(Thing::Object(address))),
        On::Descriptor(descriptor) => ("io", Some(Thing::Descriptor(descriptor))),
        On::Until(_) => ("timer", None),
        On::Thread => ("thread", None),
        On::Nothing if !wait.is_many() => ("Sync", None),
        _ => return None,
    })
}

/// `Lock` of `Lock::acquire`; a call that belongs to no type stands for itself.
fn type_of(wait: &Wait) -> &'static str {
    match wait.on {
        On::Descriptor(_) => "descriptor", // read or write: one resource
        _ => wait.call.split("::").next().unwrap_or(wait.call),
    }
}

fn describe(holder: &Holder, names: Names<'_>) -> String {
    let name = holder.task.map_or_else(|| "no task".to_owned(), names);
    if holder.untaken { name + " (granted)" } else { name }
}

// === Telling ===

fn make_resource(concrete_type: &'static str, kind: &'static str) -> Span {
    tracing::trace_span!(
        target: "runtime::resource",
        parent: None,
        "runtime.resource",
        concrete_type,
        kind,
        is_internal = false,
    )
}

fn make_op(resource: &Span, source: &'static str) -> Span {
    tracing::trace_span!(
        target: "runtime::resource::async_op",
        parent: resource,
        "runtime.resource.async_op",
        source,
        inherits_child_attrs = false,
    )
}

fn tell_waiters(waiters: u64) {
    tracing::trace!(target: "runtime::resource::state_update", waiters, waiters.op = "override");
}

fn tell_held(holders: &str) {
    tracing::trace!(target: "runtime::resource::state_update", locked = !holders.is_empty());
    tracing::trace!(target: "runtime::resource::state_update", holders);
}

/// How many are in it, and at first how many there may be.
fn tell_count_of(concrete_type: &str, has: usize, limit: Option<usize>) {
    let has = has as u64;
    if concrete_type.ends_with("Semaphore") {
        tracing::trace!(target: "runtime::resource::state_update", permits = has, permits.op = "override");
    } else {
        tracing::trace!(target: "runtime::resource::state_update", items = has, items.op = "override");
    }
    if let Some(limit) = limit.filter(|limit| *limit != 0) {
        let limit = limit as u64;
        tracing::trace!(target: "runtime::resource::state_update", limit, limit.op = "override");
    }
}

/// In milliseconds, rounded up, as the console shows them.
fn tell_duration(duration: Duration) {
    let duration = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    tracing::trace!(
        target: "runtime::resource::state_update",
        duration,
        duration.unit = "ms",
        duration.op = "override",
    );
}

fn tell_descriptor(descriptor: i64) {
    tracing::trace!(target: "runtime::resource::state_update", descriptor, descriptor.op = "override");
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenloop_core::watch::{Asked, Fresh, address, ask, enter, hold, release, wait};
    use std::task::Waker;

    const TASK: TaskKey = TaskKey { host: 1, task: 1 };

    /// Resources that stay for `linger`, and an address that no other test has.
    fn resources(linger: Duration) -> (Resources, Box<u64>, Asked) {
        (Resources { linger, ..Resources::new() }, Box::new(0), ask())
    }

    fn name(key: TaskKey) -> String {
        key.to_string()
    }

    /// A step of a task, which leaves it waiting in `call`.
    fn step(resources: &Resources, before: Ops, call: &'static str, on: On) -> Ops {
        let (mut fresh, mut waits) = (Fresh::default(), Waits::default());
        let entered = enter(TASK, Waker::noop(), &mut fresh);
        wait(Waker::noop(), call, || on);
        entered.leave(&mut fresh);
        waits.merge(&mut fresh, Instant::now());
        let ops = resources.step(before, &waits, &name);
        resources.settle(&name);
        ops
    }

    /// A step that leaves its task waiting for nothing.
    fn end(resources: &Resources, ops: Ops) {
        assert!(resources.step(ops, &Waits::default(), &name).is_empty());
        resources.settle(&name);
    }

    #[test]
    fn a_resource_stays_while_somebody_waits_for_it_or_holds_it() {
        let (resources, object, _asked) = resources(Duration::ZERO);
        let (on, address) = (On::object(&*object), address(&*object));
        let one = step(&resources, Ops::new(), "Lock::acquire", on);
        let other = step(&resources, Ops::new(), "Lock::acquire", on);
        assert_eq!((resources.len(), one.len(), other.len()), (1, 1, 1));
        end(&resources, one);
        assert_eq!(resources.len(), 1, "another waits");
        hold(address);
        end(&resources, other);
        assert_eq!(resources.len(), 1, "it is held");
        release(address);
        resources.settle(&name);
        assert_eq!(resources.len(), 0);
        assert_eq!(format!("{:?}", resources.follower.borrow()), "Follower [objects: 0]");
    }

    /// Waits for an event, no longer, and again.
    fn once_waited_for(resources: &Resources, object: &u64) -> Ops {
        let ops = step(resources, Ops::new(), "Event::wait", On::object(object));
        end(resources, ops);
        assert_eq!(resources.len(), 1, "for a while yet");
        step(resources, Ops::new(), "Event::wait", On::object(object))
    }

    #[test]
    fn a_resource_that_is_waited_for_again_does_not_go_when_its_time_is_over() {
        let (mut resources, object, _asked) = resources(Duration::from_secs(3600));
        let ops = once_waited_for(&resources, &object);
        resources.linger = Duration::ZERO;
        resources.settle(&name);
        assert_eq!(resources.len(), 1);
        end(&resources, ops);
        assert_eq!(resources.len(), 0);
    }

    #[test]
    fn the_time_of_a_resource_counts_from_the_last_wait() {
        let (mut resources, object, _asked) = resources(Duration::from_secs(3600));
        let ops = once_waited_for(&resources, &object);
        end(&resources, ops);
        assert_eq!(resources.idle.borrow().len(), 1, "however often it is waited for");
        resources.linger = Duration::ZERO;
        resources.settle(&name);
        assert_eq!(resources.len(), 1, "only the time of the first wait is over");
        resources.settle(&name);
        assert_eq!(resources.len(), 0);
    }

    #[test]
    fn what_has_no_address_is_a_resource_of_its_own() {
        let (resources, object, _asked) = resources(Duration::ZERO);
        let deadline = On::Until(Instant::now() + Duration::from_secs(1));
        for (call, on, shown, shared) in [
            ("sleep", deadline, 1, 0),
            ("oneshot::Receiver", On::Nothing, 1, 0),
            ("thread", On::Thread, 1, 0),
            ("read", On::Descriptor(7), 1, 1),
            ("Queue::get", On::counted(&*object, 0, 0), 1, 1),
            ("await", On::Task(TASK), 0, 0),
            ("TaskGroup", On::Children(8), 0, 0),
        ] {
            let ops = step(&resources, Ops::new(), call, on);
            assert_eq!((ops.len(), resources.len()), (shown, shared), "{call}");
            end(&resources, ops);
            assert_eq!(resources.len(), 0, "{call}");
        }
    }
}
