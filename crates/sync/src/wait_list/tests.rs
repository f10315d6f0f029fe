//! The list alone, and against a naive twin.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::task::Wake;

/// Writes its number into a shared list when woken.
struct Named {
    name: u32,
    woken: Arc<StdMutex<Vec<u32>>>,
}

impl Wake for Named {
    fn wake(self: Arc<Self>) {
        self.woken.lock().unwrap().push(self.name);
    }
}

impl<T> Waiters<T> {
    /// The number and the note of the first in line.
    fn first_with_number(&self) -> Option<(usize, &T)> {
        let slab = self.slab.as_ref()?;
        let head = slab.line.head as usize;
        slab.entries.get(head).map(|entry| (head, &entry.note))
    }
}

fn noop() -> Waker {
    Waker::noop().clone()
}

#[test]
fn first_come_first_granted_and_the_key_says_so() {
    let mut waiters = Waiters::new();
    let a = waiters.push(noop(), 'a');
    let b = waiters.push(noop(), 'b');
    assert_eq!((waiters.len(), waiters.first_with_number()), (2, Some((0, &'a'))));
    waiters.grant_first(|note| *note = 'A').expect("a waits").wake();
    assert_eq!((waiters.len(), waiters.first_with_number()), (1, Some((1, &'b'))));
    let (a, b) = (waiters.leave(a), waiters.leave(b));
    assert_eq!(((a.granted, a.note), (b.granted, b.note)), ((true, 'A'), (false, 'b')));
    assert!(waiters.is_empty() && waiters.grant_first(|_| ()).is_none());
}

#[test]
fn who_is_due_may_leave_before_being_woken() {
    let mut waiters = Waiters::new();
    let keys: Vec<_> = (0..3_u8).map(|note| waiters.push(noop(), note)).collect();
    waiters.grant_all(|_| ());
    let newcomer = waiters.push(noop(), 9);
    let mut left = keys.into_iter().map(|key| waiters.leave(key));
    assert!(left.by_ref().all(|left| left.granted));
    drop(left);
    let mut batch = WakeBatch::new();
    assert!(!waiters.take_due(&mut batch));
    assert!(batch.is_empty());
    assert!(!waiters.leave(newcomer).granted);
}

#[test]
fn memory_of_a_rush_is_kept_for_the_next_and_given_back_when_it_does_not_come() {
    let mut waiters = Waiters::new();
    let mut capacity_after_a_rush_of = |count: usize| {
        let keys: Vec<_> = (0..count).map(|_| waiters.push(noop(), ())).collect();
        for key in keys {
            drop(waiters.leave(key));
        }
        waiters.slab.as_ref().unwrap().entries.capacity()
    };
    let kept = capacity_after_a_rush_of(10 * KEEP);
    assert!(kept >= 10 * KEEP);
    assert_eq!(capacity_after_a_rush_of(kept / 4), kept, "it may come again");
    assert_eq!(capacity_after_a_rush_of(kept / 4 - 1), 0);
    assert_ne!(capacity_after_a_rush_of(1), 0, "a usual number is kept");
}

#[test]
fn a_rush_that_comes_again_finds_its_places_free() {
    let mut waiters = Waiters::new();
    let count = 3 * KEEP;
    for most in [count, count / 2, count] {
        let mut keys: Vec<_> = (0..most).map(|note| waiters.push(noop(), note)).collect();
        assert_eq!(waiters.leave(keys.swap_remove(1)).note, 1);
        keys.push(waiters.push(noop(), 1)); // in the place that became free, and the last in line
        assert_eq!(waiters.len(), most);
        let mut notes: Vec<_> = keys.into_iter().map(|key| waiters.leave(key).note).collect();
        notes.sort_unstable();
        assert!(notes.into_iter().eq(0..most));
        assert!(waiters.is_empty());
    }
    assert_eq!(waiters.slab.as_ref().unwrap().entries.len(), count);
}

#[test]
fn an_entry_is_small() {
    assert_eq!(size_of::<Entry<()>>(), 24);
    assert_eq!(size_of::<Entry<u32>>(), 32);
    assert_eq!(size_of::<Waiters<u32>>(), 8);
    assert_eq!(size_of::<Place>(), 8);
}

#[derive(Clone, Debug)]
enum Step {
    Push,
    GrantFirst,
    DeferFirst,
    GrantAll,
    DismissTwo,
    DismissAll,
    TakeDue,
    Leave(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => Just(Step::Push),
        2 => Just(Step::GrantFirst),
        1 => Just(Step::DeferFirst),
        1 => Just(Step::GrantAll),
        1 => Just(Step::DismissTwo),
        1 => Just(Step::DismissAll),
        1 => Just(Step::TakeDue),
        4 => any::<usize>().prop_map(Step::Leave),
    ];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    /// Same order of grants, same order of wakes, same answers on leaving.
    #[test]
    fn behaves_like_a_queue_of_names(steps in steps()) {
        let woken = Arc::new(StdMutex::new(Vec::new()));
        let names = AtomicU32::new(0);
        let mut list = Waiters::new();
        let mut keys: Vec<(u32, Key)> = Vec::new();
        // The twin: who waits, who is due, and whose waker was called.
        let (mut waiting, mut due, mut twin_woken) = (VecDeque::new(), VecDeque::new(), Vec::new());
        for step in steps {
            match step {
                Step::Push => {
                    let name = names.fetch_add(1, Ordering::Relaxed);
                    let waker = Waker::from(Arc::new(Named { name, woken: woken.clone() }));
                    keys.push((name, list.push(waker, name)));
                    waiting.push_back(name);
                }
                Step::GrantFirst => {
                    let waker = list.grant_first(|_| ());
                    let first = waiting.pop_front();
                    prop_assert_eq!(waker.is_some(), first.is_some());
                    waker.into_iter().for_each(Waker::wake);
                    twin_woken.extend(first);
                }
                Step::DeferFirst => {
                    let first = waiting.pop_front();
                    prop_assert_eq!(list.defer_first(|_| ()), first.is_some());
                    due.extend(first);
                }
                Step::GrantAll => {
                    list.grant_all(|_| ());
                    due.append(&mut waiting);
                }
                Step::DismissTwo => {
                    let mut chosen = Chosen::default();
                    (0..2).for_each(|_| list.dismiss_first(&mut chosen));
                    prop_assert_eq!(chosen.more, waiting.len() > 1);
                    chosen.first.into_iter().for_each(Waker::wake);
                    let two: Vec<_> = waiting.drain(..waiting.len().min(2)).collect();
                    keys.retain(|(name, _)| !two.contains(name));
                    twin_woken.extend(two.first());
                    due.extend(two.get(1));
                }
                Step::DismissAll => {
                    let Chosen { first, more } = list.dismiss_all();
                    prop_assert_eq!(first.is_some(), !waiting.is_empty());
                    prop_assert_eq!(more, waiting.len() > 1);
                    first.into_iter().for_each(Waker::wake);
                    keys.retain(|(name, _)| !waiting.contains(name));
                    twin_woken.extend(waiting.pop_front());
                    due.append(&mut waiting);
                }
                Step::TakeDue => {
                    let mut batch = WakeBatch::new();
                    while list.take_due(&mut batch) {
                        batch.wake_all();
                    }
                    batch.wake_all();
                    twin_woken.extend(due.drain(..));
                }
                Step::Leave(_) if keys.is_empty() => {}
                Step::Leave(which) => {
                    let (name, key) = keys.swap_remove(which % keys.len());
                    let left = list.leave(key);
                    prop_assert_eq!(left.granted, !waiting.contains(&name));
                    prop_assert_eq!(left.note, name);
                    waiting.retain(|&waits| waits != name);
                    due.retain(|&waits| waits != name);
                }
            }
            prop_assert_eq!(list.len(), waiting.len());
            prop_assert_eq!(list.first_with_number().map(|(_, note)| note), waiting.front());
            prop_assert_eq!(&*woken.lock().unwrap(), &twin_woken);
        }
        for (_, key) in keys {
            drop(list.leave(key));
        }
        while list.take_due(&mut WakeBatch::new()) {}
        prop_assert!(list.slab.is_none_or(|slab| slab.used == 0));
    }
}
