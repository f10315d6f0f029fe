//! The timer wheel against a map that is sorted by deadline, rank and order of insertion.
#![no_main]

#[allow(dead_code)]
#[path = "../../../crates/time/src/wheel.rs"]
mod wheel;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use wheel::{HINTS, Wheel, When, next_use};

#[derive(Arbitrary, Debug)]
enum Step {
    /// So many ticks from now, shifted: near and far ones alike.
    Insert { ahead: u16, shift: u8, rank: u8 },
    /// As the last of so many in a place that was lent.
    Adopt { ahead: u16, shift: u8, rank: u8, uses: u8 },
    Remove(u8),
    Update { which: u8, ahead: u16, shift: u8, rank: u8 },
    Advance { by: u16, shift: u8 },
    Next,
}

/// What the wheel should hold.
#[derive(Default)]
struct Twin {
    sorted: BTreeMap<(u64, u32, u64), u32>,
    inserted: u64,
}

impl Twin {
    fn insert(&mut self, when: When, value: u32) -> (u64, u32, u64) {
        self.inserted += 1;
        let key = (when.tick, when.rank, self.inserted);
        self.sorted.insert(key, value);
        key
    }
}

fn ahead(now: u64, by: u16, shift: u8) -> u64 {
    now.saturating_add(u64::from(by) << (shift % 48))
}

fuzz_target!(|steps: Vec<Step>| {
    let (mut wheel, mut twin) = (Wheel::new(), Twin::default());
    let mut keys: Vec<(u64, (u64, u32, u64))> = Vec::new();
    let (mut now, mut values) = (0_u64, 0_u32);
    for step in steps {
        match step {
            Step::Insert { ahead: by, shift, rank } => {
                let when = When { tick: ahead(now, by, shift), rank: u32::from(rank) };
                keys.push((wheel.insert(when, values), twin.insert(when, values)));
                values += 1;
            }
            Step::Adopt { ahead: by, shift, rank, uses } => {
                let when = When { tick: ahead(now, by, shift), rank: u32::from(rank) };
                wheel.file(|when| when);
                let first = wheel.lend(usize::from(uses) % HINTS, when);
                let key = (0..uses).fold(first, |key, _| next_use(key).expect("few uses"));
                wheel.adopt(key, when, when, values);
                keys.push((key, twin.insert(when, values)));
                values += 1;
            }
            Step::Remove(which) if !keys.is_empty() => {
                let (ours, twins) = keys[usize::from(which) % keys.len()];
                assert_eq!(wheel.remove(ours), twin.sorted.remove(&twins));
            }
            Step::Update { which, ahead: by, shift, rank } if !keys.is_empty() => {
                let place = usize::from(which) % keys.len();
                let (ours, twins) = keys[place];
                let when = When { tick: ahead(now, by, shift), rank: u32::from(rank) };
                let value = wheel.update(ours, when).map(|(value, _)| *value);
                assert_eq!(value, twin.sorted.get(&twins).copied());
                // One that is moved to where it is keeps its place among its equals.
                if let Some(value) = value.filter(|_| (twins.0, twins.1) != (when.tick, when.rank)) {
                    twin.sorted.remove(&twins);
                    keys[place].1 = twin.insert(when, value);
                }
            }
            Step::Advance { by, shift } => {
                now = ahead(now, by, shift);
                wheel.file(|when| when);
                wheel.advance(now);
                while let Some(value) = wheel.pop_due() {
                    let first = twin.sorted.first_entry().expect("the twin has it too");
                    assert!(first.key().0 <= now, "{value} is early");
                    assert_eq!(first.remove(), value);
                }
                assert!(twin.sorted.first_key_value().is_none_or(|(key, _)| key.0 > now), "one is late");
            }
            Step::Next => {
                wheel.file(|when| when);
                // An earlier deadline than the true one costs a wake-up; a later one would be late.
                match (wheel.next(), twin.sorted.first_key_value()) {
                    (Some(next), Some((key, _))) => assert!(next <= key.0.max(now), "{next} is after {}", key.0),
                    (next, first) => assert_eq!(next.is_none(), first.is_none()),
                }
            }
            Step::Remove(_) | Step::Update { .. } => {}
        }
        assert_eq!(wheel.len(), twin.sorted.len());
    }
});
