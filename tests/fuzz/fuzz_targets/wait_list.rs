//! The wait list against a queue of numbers: who is granted, in which order, and what each learns on leaving.
#![no_main]

#[path = "../../../crates/sync/src/first_panic.rs"]
mod first_panic;
#[allow(dead_code)]
#[path = "../../../crates/sync/src/spin_lock.rs"]
mod spin_lock;
#[allow(dead_code)]
#[path = "../../../crates/sync/src/wait_list.rs"]
mod wait_list;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use wait_list::Waiters;

#[derive(Arbitrary, Debug)]
enum Step {
    Push,
    GrantFirst,
    GrantAll,
    Leave(u8),
}

struct Counts(AtomicUsize);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let mut list = Waiters::<u32>::new();
    let mut line = VecDeque::new();
    let mut inside = Vec::new();
    let mut granted = std::collections::BTreeSet::new();
    let mut number = 0;
    for step in steps {
        match step {
            Step::Push => {
                let counts = Arc::new(Counts(AtomicUsize::new(0)));
                let key = list.push(Waker::from(counts.clone()), number);
                line.push_back(number);
                inside.push((number, key, counts));
                number += 1;
            }
            Step::GrantFirst => {
                let mut noted = None;
                let waker = list.grant_first(|note| noted = Some(*note));
                assert_eq!(noted, line.front().copied());
                assert_eq!(waker.is_some(), noted.is_some());
                if let Some(waker) = waker {
                    waker.wake();
                    granted.insert(line.pop_front().expect("it was there"));
                }
            }
            Step::GrantAll => {
                let mut noted = Vec::new();
                list.grant_all(|note| noted.push(*note));
                assert!(noted.iter().eq(line.iter()));
                granted.extend(line.drain(..));
                let mut batch = evenloop_core::WakeBatch::new();
                while list.take_due(&mut batch) {
                    batch.wake_all();
                }
                batch.wake_all();
            }
            Step::Leave(which) if !inside.is_empty() => {
                let (number, key, counts) = inside.swap_remove(usize::from(which) % inside.len());
                let left = list.leave(key);
                assert_eq!((left.note, left.granted), (number, granted.contains(&number)));
                assert!(counts.0.load(Ordering::Relaxed) <= 1, "{number} was woken more than once");
                line.retain(|other| *other != number);
            }
            Step::Leave(_) => {}
        }
        assert_eq!((list.len(), list.is_empty()), (line.len(), line.is_empty()));
    }
});
