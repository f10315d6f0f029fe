//! sync's locks against naive twins, under random operations: who is served when, and in which order.

use evenloop_sync::{Barrier, Condition, Limiter, Lock, RwLock, Semaphore};
use evenloop_tests::poll;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// What a user may do. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    /// Asks, and waits if it has to.
    Ask(u32),
    /// Asks without waiting.
    Try(u32),
    /// Gives a place in line, or a grant that was not looked at, up.
    Cancel(usize),
    /// Gives back what was got.
    GiveBack(usize),
    /// Whatever adds: a release, a notification, a greater total.
    Add(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u32..4).prop_map(Step::Ask),
        2 => (0_u32..4).prop_map(Step::Try),
        2 => any::<usize>().prop_map(Step::Cancel),
        4 => any::<usize>().prop_map(Step::GiveBack),
        1 => (0_usize..3).prop_map(Step::Add),
    ];
    proptest::collection::vec(step, 1..80)
}

/// Permits and a line, as anybody would write them.
struct Twin {
    free: usize,
    line: VecDeque<(u64, usize)>,
    /// Chosen, and not looked at by its future.
    granted: Vec<(u64, usize)>,
    next: u64,
}

impl Twin {
    fn new(free: usize) -> Self {
        Self { free, line: VecDeque::new(), granted: Vec::new(), next: 0 }
    }

    fn could_take(&self, count: usize) -> bool {
        count == 0 || (self.line.is_empty() && self.free >= count)
    }

    /// Asks; answers the name, and whether it has it at once.
    fn ask(&mut self, count: usize) -> (u64, bool) {
        self.next += 1;
        let at_once = self.could_take(count);
        if at_once {
            self.free -= count;
        } else {
            self.line.push_back((self.next, count));
        }
        (self.next, at_once)
    }

    fn add(&mut self, count: usize) {
        self.free += count;
        while let Some(&(name, wanted)) = self.line.front() {
            if wanted > self.free {
                break;
            }
            self.line.pop_front();
            self.free -= wanted;
            self.granted.push((name, wanted));
        }
    }

    fn cancel(&mut self, name: u64) {
        self.line.retain(|(other, _)| *other != name);
        let granted = self.take_grant(name).unwrap_or(0);
        self.add(granted);
    }

    fn take_grant(&mut self, name: u64) -> Option<usize> {
        let at = self.granted.iter().position(|(other, _)| *other == name)?;
        Some(self.granted.swap_remove(at).1)
    }
}

type Asking<G> = Pin<Box<dyn Future<Output = G>>>;

/// A primitive, as the twin sees it: `ask` and `try_ask` for a number of permits.
struct Subject<G> {
    permits: usize,
    /// How many permits a step's number stands for.
    count: fn(u32) -> usize,
    ask: Box<dyn Fn(u32) -> Asking<G>>,
    try_ask: Box<dyn Fn(u32) -> Option<G>>,
    /// Adds permits out of nothing, if the primitive can.
    add: Box<dyn Fn(usize) -> bool>,
    waiters: Box<dyn Fn() -> usize>,
}

fn compare<G>(subject: Subject<G>, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut twin = Twin::new(subject.permits);
    let mut asking: Vec<(u64, Asking<G>)> = Vec::new();
    let mut got: Vec<(usize, G)> = Vec::new();
    for step in steps {
        match step {
            Step::Ask(what) => {
                let count = (subject.count)(what);
                let mut future = (subject.ask)(what);
                let (name, at_once) = twin.ask(count);
                match poll(&mut future, Waker::noop()) {
                    Poll::Ready(guard) => {
                        prop_assert!(at_once);
                        got.push((count, guard));
                    }
                    Poll::Pending => {
                        prop_assert!(!at_once);
                        asking.push((name, future));
                    }
                }
            }
            Step::Try(what) => {
                let count = (subject.count)(what);
                let guard = (subject.try_ask)(what);
                prop_assert_eq!(guard.is_some(), twin.could_take(count));
                if let Some(guard) = guard {
                    twin.free -= count;
                    got.push((count, guard));
                }
            }
            Step::Cancel(_) if asking.is_empty() => {}
            Step::Cancel(which) => {
                let (name, future) = asking.swap_remove(which % asking.len());
                drop(future);
                twin.cancel(name);
            }
            Step::GiveBack(_) if got.is_empty() => {}
            Step::GiveBack(which) => {
                let (count, guard) = got.swap_remove(which % got.len());
                drop(guard);
                twin.add(count);
            }
            Step::Add(count) => {
                if (subject.add)(count) {
                    twin.add(count);
                }
            }
        }
        prop_assert_eq!((subject.waiters)(), twin.line.len());
        // Half of those who could look do so; the others are cancelled with their grant, or look later.
        let looks = twin.next.is_multiple_of(2);
        for at in (0..asking.len()).rev().filter(|_| looks) {
            let (name, future) = &mut asking[at];
            let granted = twin.take_grant(*name);
            match poll(future, Waker::noop()) {
                Poll::Ready(guard) => {
                    prop_assert!(granted.is_some());
                    got.push((granted.unwrap_or(0), guard));
                    drop(asking.swap_remove(at));
                }
                Poll::Pending => prop_assert!(granted.is_none()),
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_lock_is_one_permit(steps in steps()) {
        let lock = Arc::new(Lock::new(()));
        let [a, b, c] = [lock.clone(), lock.clone(), lock];
        compare(Subject {
            permits: 1,
            count: |_| 1,
            ask: Box::new(move |_| Box::pin(a.acquire_owned())),
            try_ask: Box::new(move |_| b.try_acquire_owned()),
            add: Box::new(|_| false),
            waiters: Box::new(move || c.statistics().waiters),
        }, steps)?;
    }

    #[test]
    fn a_semaphore_is_its_permits(steps in steps()) {
        let semaphore = Arc::new(Semaphore::new(4));
        let [a, b, c, d] = [semaphore.clone(), semaphore.clone(), semaphore.clone(), semaphore];
        compare(Subject {
            permits: 4,
            count: |what| what as usize,
            ask: Box::new(move |count| {
                let acquire = a.acquire_many_owned(count);
                Box::pin(async { acquire.await.expect("open") })
            }),
            try_ask: Box::new(move |count| b.try_acquire_many_owned(count).ok()),
            add: Box::new(move |count| { c.release(count); true }),
            waiters: Box::new(move || d.statistics().waiters),
        }, steps)?;
    }

    #[test]
    fn a_reader_is_one_permit_and_a_writer_all(steps in steps()) {
        const ALL: usize = RwLock::<()>::MAX_READERS as usize;
        let lock = Arc::new(RwLock::new(()));
        let [a, b, c] = [lock.clone(), lock.clone(), lock];
        compare(Subject {
            permits: ALL,
            count: |what| if what == 0 { ALL } else { 1 },
            ask: Box::new(move |what| {
                let lock = a.clone();
                Box::pin(async move {
                    if what == 0 {
                        Box::new(lock.write_owned().await) as Box<dyn std::any::Any>
                    } else {
                        Box::new(lock.read_owned().await)
                    }
                })
            }),
            try_ask: Box::new(move |what| {
                // There is no owned form of these: looking at a lock that is free takes it at once.
                let free = if what == 0 { b.try_write().is_some() } else { b.try_read().is_some() };
                free.then(|| -> Box<dyn std::any::Any> {
                    if what == 0 {
                        Box::new(at_once(b.write_owned()))
                    } else {
                        Box::new(at_once(b.read_owned()))
                    }
                })
            }),
            add: Box::new(|_| false),
            waiters: Box::new(move || c.statistics().waiters),
        }, steps)?;
    }

    /// Tokens are permits, and a greater total adds some.
    #[test]
    fn a_limiter_is_its_tokens(steps in steps()) {
        static LIMITER: Limiter = Limiter::new(0);
        let limiter = &LIMITER;
        limiter.set_total(2); // whatever the last case left
        compare(Subject {
            permits: 2,
            count: |_| 1,
            ask: Box::new(|_| Box::pin(limiter.acquire())),
            try_ask: Box::new(|_| limiter.try_acquire()),
            add: Box::new(|more| { limiter.set_total(limiter.total() + more); true }),
            waiters: Box::new(|| limiter.statistics().waiters),
        }, steps)?;
    }

    /// A notification is a permit that nobody keeps: none is free, and who gets one uses it up.
    #[test]
    fn a_condition_hands_its_notifications_out_in_order(
        steps in proptest::collection::vec(0_usize..8, 1..80)
    ) {
        let (lock, condition) = (Lock::new(()), Condition::new());
        let mut twin = Twin::new(0);
        let mut waits = Vec::new();
        for step in steps {
            match step {
                0..=3 => {
                    let mut wait = condition.wait(lock.try_acquire().expect("nobody keeps it"));
                    prop_assert!(poll(&mut wait, Waker::noop()).is_pending());
                    waits.push((twin.ask(1).0, wait));
                }
                4 | 5 => {
                    let count = step - 3;
                    condition.notify(count);
                    twin.add(count.min(twin.line.len()));
                }
                _ if waits.is_empty() => {}
                6 => {
                    let (name, wait) = waits.swap_remove(waits.len() / 2);
                    drop(wait);
                    twin.cancel(name);
                    twin.free = 0; // with nobody in line, it is lost
                }
                _ => {
                    for at in (0..waits.len()).rev() {
                        let granted = twin.take_grant(waits[at].0).is_some();
                        prop_assert_eq!(poll(&mut waits[at].1, Waker::noop()).is_ready(), granted);
                        if granted {
                            drop(waits.swap_remove(at));
                        }
                    }
                }
            }
            prop_assert_eq!(condition.statistics().waiters, twin.line.len());
        }
    }

    /// Whoever is there when the last party arrives has an index, in order of arrival, and nobody else.
    #[test]
    fn a_barrier_counts_who_is_there(steps in proptest::collection::vec(any::<usize>(), 1..80)) {
        const PARTIES: usize = 4;
        let barrier = Barrier::new(PARTIES);
        let mut gathered: Vec<u64> = Vec::new(); // in order of arrival
        let mut waits = Vec::new();
        for (name, step) in (0..).zip(steps) {
            if step % 3 == 0 && !waits.is_empty() {
                let (gone, wait) = waits.swap_remove(step / 3 % waits.len());
                gathered.retain(|other| *other != gone);
                drop(wait);
            } else {
                let mut wait = barrier.wait();
                let polled = poll(&mut wait, Waker::noop());
                gathered.push(name);
                waits.push((name, wait));
                if gathered.len() == PARTIES {
                    let index = |name| gathered.iter().position(|other| *other == name).expect("it is there");
                    prop_assert_eq!(polled.map(|passed| passed.unwrap().index), Poll::Ready(PARTIES - 1));
                    for (other, mut wait) in waits.drain(..).filter(|(other, _)| *other != name) {
                        let passed = poll(&mut wait, Waker::noop());
                        prop_assert_eq!(passed.map(|passed| passed.unwrap().index), Poll::Ready(index(other)));
                    }
                    gathered.clear();
                } else {
                    prop_assert!(polled.is_pending());
                }
            }
            prop_assert_eq!(barrier.n_waiting(), gathered.len());
        }
    }
}

fn at_once<F: Future + Unpin>(mut future: F) -> F::Output {
    match poll(&mut future, Waker::noop()) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("this was free a moment ago"),
    }
}
