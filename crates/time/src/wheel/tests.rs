use super::*;
use std::collections::{BTreeMap, HashMap};

fn at(tick: u64) -> When {
    When { tick, rank: 0 }
}

/// Deadlines are what they stand for.
type Wheel<T> = super::Wheel<When, T>;

fn filed<T>(wheel: &mut Wheel<T>) -> &mut Wheel<T> {
    wheel.file(|when| when);
    wheel
}

fn due<T>(wheel: &mut Wheel<T>, now: u64) -> Vec<T> {
    filed(wheel).advance(now);
    std::iter::from_fn(|| wheel.pop_due()).collect()
}

#[test]
fn a_walk() {
    let mut wheel = Wheel::new();
    let a = wheel.insert(at(10), "a");
    wheel.insert(at(70), "b");
    wheel.insert(at(5_000), "c");
    assert_eq!(filed(&mut wheel).next(), Some(10));
    assert_eq!(due(&mut wheel, 9), [""; 0]);
    assert_eq!(due(&mut wheel, 10), ["a"]);
    assert_eq!(wheel.remove(a), None);
    assert_eq!(filed(&mut wheel).next(), Some(70)); // not 64, where its slot begins
    wheel.insert(at(3), "late");
    assert_eq!(filed(&mut wheel).next(), Some(10)); // something is due already
    assert_eq!(due(&mut wheel, 10), ["late"]);
    assert_eq!(due(&mut wheel, 5_000), ["b", "c"]);
    assert!(wheel.is_empty());
}

#[test]
fn any_far_tick_is_accepted() {
    let mut wheel = Wheel::new();
    wheel.insert(at(u64::MAX), "last");
    wheel.insert(at(u64::MAX - 1), "last but one");
    assert_eq!(filed(&mut wheel).next(), Some(u64::MAX - 1));
    assert_eq!(due(&mut wheel, u64::MAX - 2), [""; 0]);
    assert_eq!(due(&mut wheel, u64::MAX - 1), ["last but one"]);
    assert_eq!(due(&mut wheel, u64::MAX), ["last"]);
    wheel.insert(at(u64::MAX), "after the last");
    assert_eq!(due(&mut wheel, u64::MAX), ["after the last"]);
}

#[test]
fn time_that_steps_back_or_stands_still_changes_nothing() {
    let mut wheel = Wheel::new();
    wheel.insert(at(100), ());
    assert_eq!(due(&mut wheel, 99), []);
    assert_eq!(due(&mut wheel, 5), []);
    assert_eq!(due(&mut wheel, 99), []);
    assert_eq!(filed(&mut wheel).next(), Some(100));
    assert_eq!(due(&mut wheel, 10 * 365 * 24 * 3_600_000), [()]);
}

#[test]
fn one_tick_goes_by_rank_then_by_insertion() {
    let mut wheel = Wheel::new();
    wheel.insert(When { tick: 200, rank: 2 }, "d");
    wheel.insert(When { tick: 200, rank: 1 }, "b");
    filed(&mut wheel).advance(190); // what follows is inserted at another level
    wheel.insert(When { tick: 200, rank: 2 }, "e");
    wheel.insert(When { tick: 200, rank: 1 }, "c");
    wheel.insert(When { tick: 199, rank: 9 }, "a");
    assert_eq!(due(&mut wheel, 300), ["a", "b", "c", "d", "e"]);
}

#[test]
fn what_comes_late_while_others_are_popped_waits_for_the_next_advance() {
    let mut wheel = Wheel::new();
    wheel.insert(at(1), "first");
    filed(&mut wheel).advance(1);
    assert_eq!(wheel.pop_due(), Some("first"));
    wheel.insert(at(1), "second");
    assert_eq!(wheel.pop_due(), None);
    assert_eq!(due(&mut wheel, 1), ["second"]);
}

#[test]
fn what_is_due_can_still_be_removed_or_moved() {
    let mut wheel = Wheel::new();
    let keys: Vec<_> = (0..4).map(|value| wheel.insert(at(7), value)).collect();
    filed(&mut wheel).advance(7);
    assert_eq!(wheel.remove(keys[1]), Some(1));
    assert!(wheel.update(keys[0], at(9)).is_some());
    assert_eq!(std::iter::from_fn(|| wheel.pop_due()).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(due(&mut wheel, 9), [0]);
    assert!(wheel.update(keys[0], at(11)).is_none());
}

#[test]
fn what_is_new_can_be_removed_or_moved_before_it_is_filed() {
    let mut wheel = Wheel::new();
    let keys: Vec<_> = (0..4).map(|value| wheel.insert(at(7), value)).collect();
    assert_eq!(wheel.remove(keys[1]), Some(1));
    assert!(wheel.update(keys[0], at(9)).is_some());
    assert_eq!(wheel.remove(keys[3]), Some(3));
    assert_eq!(filed(&mut wheel).next(), Some(7));
    wheel.insert(at(7), 4);
    assert!(wheel.update(keys[0], at(7)).is_some());
    assert_eq!(due(&mut wheel, 7), [2, 4, 0]);
    assert!(wheel.is_empty());
}

#[test]
fn a_place_whose_count_is_used_up_is_given_up() {
    let mut wheel = Wheel::new();
    let stale = wheel.insert(at(1), ());
    wheel.remove(stale);
    wheel.nodes[0].uses = u32::MAX - 1;
    for _ in 0..3 {
        let key = wheel.insert(at(1), ());
        assert_eq!(wheel.remove(stale), None);
        assert_eq!(wheel.remove(key), Some(()));
        assert_eq!(wheel.remove(key), None);
    }
    assert_eq!(wheel.nodes.len(), 2);
}

#[test]
fn what_was_lent_goes_before_what_is_new_and_keys_of_before_stay_stale() {
    let mut wheel = Wheel::new();
    let stale = wheel.insert(at(5), "removed");
    wheel.remove(stale);
    let first = wheel.lend(3, at(0)); // the same place
    assert_eq!((hint_of(first), hint_of(stale)), (3, 0));
    assert!(wheel.is_lent(first) && !wheel.is_lent(stale));
    assert_eq!(wheel.len(), 0);
    wheel.insert(at(5), "new");
    let third = next_use(next_use(first).unwrap()).unwrap();
    wheel.adopt(third, at(5), at(5), "adopted");
    assert!(!wheel.is_lent(third));
    assert!(wheel.update(first, at(9)).is_none());
    assert_eq!(wheel.remove(first), None);
    assert_eq!(due(&mut wheel, 5), ["adopted", "new"]);
    assert_eq!(next_use(u64::MAX - 1), None);
}

/// A wheel and a map that does the same slowly.
#[derive(Default)]
struct Twins {
    wheel: Wheel<u64>,
    /// By time, then by order of insertion.
    map: BTreeMap<(When, u64), u64>,
    keys: HashMap<u64, (u64, When, u64)>,
    now: u64,
    inserted: u64,
}

impl<T> Default for Wheel<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl Twins {
    fn step(&mut self, random: &mut fastrand::Rng) {
        match random.u32(..100) {
            0..45 => {
                let (when, id) = (self.some_time(random), self.inserted);
                self.inserted += 1;
                let key = match random.u32(..4) {
                    0 => self.adopted(when, id, random),
                    _ => self.wheel.insert(when, id),
                };
                self.map.insert((when, id), id);
                self.keys.insert(id, (key, when, id));
            }
            45..65 => {
                let Some(id) = self.some_id(random) else { return };
                let (key, when, order) = self.keys.remove(&id).unwrap();
                assert_eq!(self.wheel.remove(key), Some(id));
                assert_eq!(self.wheel.remove(key), None);
                assert!(self.wheel.update(key, when).is_none());
                assert_eq!(self.map.remove(&(when, order)), Some(id));
            }
            65..80 => {
                let Some(id) = self.some_id(random) else { return };
                let (key, when, order) = self.keys[&id];
                let to = if random.u32(..8) == 0 { when } else { self.some_time(random) };
                assert_eq!(self.wheel.update(key, to), Some((&mut { id }, to != when)));
                if to != when {
                    self.map.remove(&(when, order));
                    self.map.insert((to, self.inserted), id);
                    self.keys.insert(id, (key, to, self.inserted));
                    self.inserted += 1;
                }
            }
            80..85 => {
                filed(&mut self.wheel);
            }
            _ => {
                let next = filed(&mut self.wheel).next();
                let first = self.map.keys().next().map(|(when, _)| when.tick);
                assert_eq!(next.is_some(), first.is_some());
                if let (Some(next), Some(first)) = (next, first) {
                    assert!(next <= first.max(self.now), "the wheel would sleep too long");
                }
                self.now = match random.u32(..4) {
                    0 => self.now,
                    1 => first.unwrap_or(0).max(self.now),
                    2 => next.unwrap_or(0).max(self.now),
                    _ => {
                        let spread = 1 << random.u32(..20);
                        self.now.saturating_add(random.u64(..spread))
                    }
                };
                let now = self.now;
                let mut expected = Vec::new();
                while let Some(entry) = self.map.first_entry().filter(|entry| entry.key().0.tick <= now) {
                    expected.push(entry.remove());
                }
                self.keys.retain(|id, _| !expected.contains(id));
                assert_eq!(due(&mut self.wheel, now), expected, "at {now}");
            }
        }
        assert_eq!(self.wheel.len(), self.map.len());
    }

    /// Inserts what a borrower had in a place of its own, after other entries there.
    fn adopted(&mut self, when: When, id: u64, random: &mut fastrand::Rng) -> u64 {
        filed(&mut self.wheel);
        let hint = random.usize(..HINTS);
        let first = self.wheel.lend(hint, at(0));
        let mut key = first;
        for _ in 0..random.u32(..3) {
            key = next_use(key).unwrap();
        }
        assert!(self.wheel.is_lent(key));
        assert_eq!((self.wheel.remove(key), self.wheel.update(key, when)), (None, None));
        assert_eq!(hint_of(key), hint);
        self.wheel.adopt(key, when, when, id);
        assert!(!self.wheel.is_lent(key));
        assert!(first == key || self.wheel.remove(first).is_none());
        key
    }

    fn some_time(&self, random: &mut fastrand::Rng) -> When {
        let bits = if random.u32(..50) == 0 { 64 } else { 16 };
        let spread = 1 << random.u32(..bits);
        let tick = self.now.saturating_sub(2).saturating_add(random.u64(..spread));
        When { tick, rank: random.u32(..3) }
    }

    fn some_id(&self, random: &mut fastrand::Rng) -> Option<u64> {
        let from = (self.some_time(random), 0);
        self.map.range(from..).next().or(self.map.iter().next()).map(|(_, &id)| id)
    }
}

fn compare(seed: u64, steps: u32) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut twins = Twins::default();
    for _ in 0..steps {
        twins.step(&mut random);
    }
}

#[test]
fn the_wheel_does_as_a_sorted_map_would() {
    for seed in 0..40 {
        compare(seed, 5_000);
    }
}
