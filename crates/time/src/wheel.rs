//! The wheel: which entries are due, and when the next ones are.
//!
//! The wheel never wakes, never reads a clock and never locks; it does not know what its entries are. Time is a count of
//! ticks that it is told.
//!
//! Idea: a tick is a number of 11 digits to the base 64, and so is the tick that time has reached, `elapsed`. An entry
//! lies at the *level* of the first digit, from the left, in which its tick differs from `elapsed`, in the *slot* that this
//! digit names. So level 0 holds what comes within this round of 64 ticks, one slot a tick; level 1 what comes within
//! this round of 4096, one slot 64 ticks; and so on.
//!
//! ```text
//! elapsed 0 0 … 2 5 9      tick 0 0 … 2 7 1  differs first in the middle digit: level 1, slot 7
//!                                            when elapsed reaches … 2 7 0 it comes down to level 0, slot 1
//!
//! insert ─► New ── file ─► Slot ── its tick is reached ─► Due ── pop_due ─► out
//!                    └───► Late ── next advance ───────────┘
//! lend ─► Lent ── adopt ─► Slot, or Late
//! ```
//!
//! Most timers are given up, many before the thread that set them rests once. So an insert only notes the entry as new; it
//! gets its tick and its place when the wheel is next asked or moved ([`file`](Wheel::file) comes before that). Who inserts
//! and removes in between pays a third less, who stays a little more.
//!
//! W1. An entry in a slot has a tick after `elapsed`, and its place follows from its tick and `elapsed` alone. While
//!     `elapsed` stays before the start of every occupied slot, no place changes: the digits in which an entry agrees
//!     with `elapsed`, it then still agrees in.
//! W2. All of a lower level come before all of a higher one, and within a level the slots come in order. So the lowest
//!     slot of the lowest occupied level holds the next entry.
//! W3. `min` of a slot is at most the tick of each entry in it, and exact until an entry is removed from it.
//! W4. A slot's list is in the order of insertion: one that comes down from above does so when `elapsed` enters its slot,
//!     which is before any can be inserted below directly.
//! W5. `due` is what the last [`advance`](Wheel::advance) found. What is inserted late waits in `late` for the next one,
//!     so an entry that is set again and again from its own wake-up keeps nobody in a loop.
//! W6. What is new is filed in the order of insertion, before `elapsed` moves, so W4 holds for it as if it had been in its
//!     slot at once.
//! W7. A key is a place and how often it was used before. A place whose count is used up is not used again, so no key ever
//!     names a second entry.
//! W8. A place that is lent is empty here. The borrower names entries of its own by it, with ever higher counts, and either
//!     gives the last of them back with it (`adopt`) or never uses it again. All its keys have at least the count with which
//!     the place was lent.
//!
//! Insert, update and remove take constant time. An entry moves down at most once per level.

/// Bits of a digit. A model has two slots a level.
const BITS: u32 = if cfg!(evenloop_loom) { 1 } else { 6 };
const SLOTS: usize = 1 << BITS;

/// The end of a list.
const NIL: u32 = u32::MAX;

/// When an entry is due: a tick, and its rank among those of the same tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct When {
    pub(crate) tick: u64,
    pub(crate) rank: u32,
}

/// Entries of type `T`, each with a deadline of type `D` that stands for a tick.
pub(crate) struct Wheel<D, T> {
    /// The tick that time has reached.
    elapsed: u64,
    /// Lowest first; as many as have been needed so far.
    levels: Vec<Level>,
    due: List,
    /// Whether `due` has to be sorted before the next is popped.
    due_unsorted: bool,
    late: List,
    /// What is to be filed, in order of insertion; `NIL` where one was taken out again. The last is none.
    new: Vec<u32>,
    /// How many `NIL` are in `new`.
    holes: usize,
    nodes: Vec<Node<D, T>>,
    /// The unused nodes, linked by `next`.
    free: u32,
    len: usize,
}

struct Level {
    /// Bit `i` is set iff slot `i` is not empty.
    occupied: u64,
    slots: [Slot; SLOTS],
}

#[derive(Clone, Copy)]
struct Slot {
    list: List,
    /// See W3.
    min: u64,
}

#[derive(Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
}

struct Node<D, T> {
    /// `None` iff the node is unused or lent.
    value: Option<T>,
    deadline: D,
    /// Since it was filed: what `deadline` stands for.
    when: When,
    /// How often this place was used before (W7).
    uses: u32,
    /// The neighbours in its list; `prev` of a new one is its place in `new`.
    prev: u32,
    next: u32,
    place: Place,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Slot,
    Due,
    Late,
    New,
    Lent,
}

// A key: 32 bits of uses, 4 of a borrower's hint, 28 of the place.

/// How many hints there are.
pub(crate) const HINTS: usize = 16;

const INDEX_BITS: u32 = 28;

fn key_of(index: u32, uses: u32) -> u64 {
    u64::from(uses) << 32 | u64::from(index)
}

fn index_of(key: u64) -> u32 {
    key as u32 & ((1 << INDEX_BITS) - 1)
}

fn uses_of(key: u64) -> u32 {
    (key >> 32) as u32
}

/// The hint with which the place of that entry was lent.
pub(crate) fn hint_of(key: u64) -> usize {
    (key as u32 >> INDEX_BITS) as usize
}

/// The next entry in the same place; `None` if there have been all that there can be (W7).
pub(crate) fn next_use(key: u64) -> Option<u64> {
    key.checked_add(1 << 32)
}

impl List {
    const EMPTY: Self = Self { head: NIL, tail: NIL };

    fn is_empty(&self) -> bool {
        self.head == NIL
    }
}

impl Level {
    const EMPTY: Self = Self { occupied: 0, slots: [Slot { list: List::EMPTY, min: 0 }; SLOTS] };
}

impl<D: Copy + PartialEq, T> Wheel<D, T> {
    /// An empty wheel at tick 0. Allocates nothing yet.
    pub(crate) const fn new() -> Self {
        Self {
            elapsed: 0,
            levels: Vec::new(),
            due: List::EMPTY,
            due_unsorted: false,
            late: List::EMPTY,
            new: Vec::new(),
            holes: 0,
            nodes: Vec::new(),
            free: NIL,
            len: 0,
        }
    }

    /// How many entries have not been popped or removed.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether [`pop_due`](Self::pop_due) has something to give.
    pub(crate) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Adds an entry and names it.
    #[inline]
    pub(crate) fn insert(&mut self, deadline: D, value: T) -> u64 {
        let (index, uses) = self.take_node(deadline, Some(value));
        self.len += 1;
        self.append_new(index);
        key_of(index, uses)
    }

    /// Lends a place, and names the first entry that the borrower may have there. `hint` goes into the key; `filler` is any
    /// deadline.
    pub(crate) fn lend(&mut self, hint: usize, filler: D) -> u64 {
        let (index, uses) = self.take_node(filler, None);
        self.nodes[index as usize].place = Place::Lent;
        key_of(index, uses) | (hint as u64) << INDEX_BITS
    }

    /// Whether the entry may be with the borrower of its place.
    pub(crate) fn is_lent(&self, key: u64) -> bool {
        let node = self.nodes.get(index_of(key) as usize);
        node.is_some_and(|node| node.place == Place::Lent && node.uses <= uses_of(key)) // W8
    }

    /// Takes an entry along with the place that was lent for it, and files it, before all that is new.
    pub(crate) fn adopt(&mut self, key: u64, deadline: D, when: When, value: T) {
        debug_assert!(self.is_lent(key), "W8");
        let index = index_of(key);
        let node = &mut self.nodes[index as usize];
        (node.uses, node.value) = (uses_of(key), Some(value));
        (node.deadline, node.when) = (deadline, when);
        self.len += 1;
        self.link(index, when, Place::Late);
    }

    /// Puts all that is new where it belongs; `when` tells of a deadline which tick it stands for. Comes before
    /// [`next`](Self::next) and [`advance`](Self::advance).
    pub(crate) fn file(&mut self, when: impl Fn(D) -> When) {
        if self.new.is_empty() {
            return;
        }
        let mut new = std::mem::take(&mut self.new);
        for index in new.drain(..).filter(|&index| index != NIL) {
            let node = &mut self.nodes[index as usize];
            node.when = when(node.deadline);
            let when = node.when;
            self.link(index, when, Place::Late);
        }
        (self.new, self.holes) = (new, 0); // its memory is used again
    }

    /// Takes an entry out; `None` if it was popped or removed before.
    #[inline]
    pub(crate) fn remove(&mut self, key: u64) -> Option<T> {
        let index = self.find(key)?;
        self.unlink(index);
        self.give_node(index)
    }

    /// Moves an entry to another time and lends its value, and tells whether it is new by that; `None` if it was popped or
    /// removed before.
    #[inline(never)]
    pub(crate) fn update(&mut self, key: u64, deadline: D) -> Option<(&mut T, bool)> {
        let index = self.find(key)?;
        let moves = self.nodes[index as usize].deadline != deadline;
        if moves {
            self.unlink(index);
            self.nodes[index as usize].deadline = deadline;
            self.append_new(index);
        }
        self.nodes[index as usize].value.as_mut().map(|value| (value, moves))
    }

    /// Lends every value that is in the wheel.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.nodes.iter_mut().filter_map(|node| node.value.as_mut())
    }

    /// The tick before which nothing is due; one that has passed if something is due already.
    ///
    /// Exact unless an entry of the next slot was removed; then it may be too early, never too late (W3).
    pub(crate) fn next(&self) -> Option<u64> {
        debug_assert!(self.new.is_empty(), "what is new has to be filed first");
        if self.has_due() || !self.late.is_empty() {
            return Some(self.elapsed);
        }
        let (level, slot) = self.first()?;
        Some(self.levels[level].slots[slot].min)
    }

    /// Lets time reach `now`: what is due by then can be popped. A time before `elapsed` changes nothing but that what
    /// came late is due.
    pub(crate) fn advance(&mut self, now: u64) {
        debug_assert!(self.new.is_empty(), "what is new has to be filed first"); // W6
        let late = std::mem::replace(&mut self.late, List::EMPTY);
        self.link_all(late);
        while let Some((level, slot)) = self.first() {
            let start = self.start(level, slot);
            if start > now {
                break;
            }
            // W1: no occupied slot starts before this one, or within it. So it need not go down level by level.
            let rest = (1 << (level as u32 * BITS)) - 1;
            self.elapsed = now.min(start | rest);
            let level = &mut self.levels[level];
            level.occupied &= !(1 << slot);
            let list = std::mem::replace(&mut level.slots[slot].list, List::EMPTY);
            self.link_all(list);
        }
        self.elapsed = self.elapsed.max(now);
    }

    /// Takes out the next that is due: earlier ticks first, then lower ranks, then in order of insertion.
    pub(crate) fn pop_due(&mut self) -> Option<T> {
        if std::mem::take(&mut self.due_unsorted) {
            self.sort_due();
        }
        let index = self.due.head;
        if index == NIL {
            return None;
        }
        self.unlink(index);
        self.give_node(index)
    }

    /// The first occupied slot of the lowest occupied level (W2).
    fn first(&self) -> Option<(usize, usize)> {
        let level = self.levels.iter().position(|level| level.occupied != 0)?;
        Some((level, self.levels[level].occupied.trailing_zeros() as usize))
    }

    /// The tick with which a slot begins: `elapsed` down to the level, then the slot's digit, then zeros.
    fn start(&self, level: usize, slot: usize) -> u64 {
        let shift = level as u32 * BITS;
        let above = self.elapsed.checked_shr(shift + BITS).unwrap_or(0);
        above.checked_shl(shift + BITS).unwrap_or(0) | (slot as u64) << shift
    }

    /// The level and slot for a tick after `elapsed` (W1).
    fn slot_of(&self, tick: u64) -> (usize, usize) {
        let level = (tick ^ self.elapsed).ilog2() / BITS;
        (level as usize, (tick >> (level * BITS)) as usize & (SLOTS - 1))
    }

    // --- lists ---

    /// Puts an unlinked node that is due at `when` where it belongs; one that is due by now goes to `if_due`.
    #[inline]
    fn link(&mut self, index: u32, when: When, if_due: Place) {
        let place = if when.tick > self.elapsed { Place::Slot } else { if_due };
        let list = match place {
            Place::Slot => {
                let (level, slot) = self.slot_of(when.tick);
                if self.levels.len() <= level {
                    self.levels.resize_with(level + 1, || Level::EMPTY);
                }
                let level = &mut self.levels[level];
                let bit = 1 << slot;
                let slot = &mut level.slots[slot];
                let fresh = level.occupied & bit == 0;
                slot.min = if fresh { when.tick } else { slot.min.min(when.tick) };
                level.occupied |= bit;
                &mut slot.list
            }
            Place::Due => {
                let last = self.due.tail;
                self.due_unsorted |= last != NIL && self.nodes[last as usize].when > when;
                &mut self.due
            }
            Place::Late => &mut self.late,
            Place::New | Place::Lent => unreachable!("a node is linked when it is filed"),
        };
        let prev = std::mem::replace(&mut list.tail, index);
        if prev == NIL {
            list.head = index;
        } else {
            self.nodes[prev as usize].next = index;
        }
        let node = &mut self.nodes[index as usize];
        (node.place, node.prev, node.next) = (place, prev, NIL);
    }

    /// Puts an unlinked node among the new ones.
    #[inline]
    fn append_new(&mut self, index: u32) {
        let node = &mut self.nodes[index as usize];
        (node.place, node.prev) = (Place::New, self.new.len() as u32);
        self.new.push(index);
    }

    /// Takes out what is at `place` among the new ones.
    #[inline]
    fn leave_new(&mut self, place: usize) {
        if place + 1 == self.new.len() {
            self.new.pop();
            while self.new.last() == Some(&NIL) {
                self.new.pop();
                self.holes -= 1;
            }
        } else {
            self.leave_hole(place);
        }
    }

    #[cold]
    fn leave_hole(&mut self, place: usize) {
        self.new[place] = NIL;
        self.holes += 1;
        if self.holes > self.new.len() / 2 {
            // Every hole pays for two steps at most.
            self.new.retain(|&index| index != NIL);
            self.holes = 0;
            for (place, &index) in self.new.iter().enumerate() {
                self.nodes[index as usize].prev = place as u32;
            }
        }
    }

    /// Puts all of a list, taken off before, where they belong now; in its order.
    fn link_all(&mut self, list: List) {
        let mut index = list.head;
        while index != NIL {
            let Node { next, when, .. } = self.nodes[index as usize];
            self.link(index, when, Place::Due);
            index = next;
        }
    }

    #[inline]
    fn unlink(&mut self, index: u32) {
        let Node { prev, next, place, when, .. } = self.nodes[index as usize];
        if place == Place::New {
            return self.leave_new(prev as usize);
        }
        self.unlink_filed([prev, next], place, when);
    }

    fn unlink_filed(&mut self, [prev, next]: [u32; 2], place: Place, when: When) {
        if prev != NIL {
            self.nodes[prev as usize].next = next;
        }
        if next != NIL {
            self.nodes[next as usize].prev = prev;
        }
        if prev != NIL && next != NIL {
            return;
        }
        let list = match place {
            Place::Due => &mut self.due,
            Place::Late => &mut self.late,
            Place::New | Place::Lent => unreachable!("who is new or elsewhere is in no list"),
            Place::Slot => {
                let (level, slot) = self.slot_of(when.tick);
                let level = &mut self.levels[level];
                if prev == next {
                    level.occupied &= !(1 << slot); // both NIL: it was the only one
                }
                &mut level.slots[slot].list
            }
        };
        if prev == NIL {
            list.head = next;
        }
        if next == NIL {
            list.tail = prev;
        }
    }

    fn sort_due(&mut self) {
        let mut indices = Vec::new();
        let mut index = self.due.head;
        while index != NIL {
            indices.push(index);
            index = self.nodes[index as usize].next;
        }
        indices.sort_by_key(|&index| self.nodes[index as usize].when); // stable
        self.due = List::EMPTY;
        for index in indices {
            self.link(index, self.nodes[index as usize].when, Place::Due);
        }
    }

    // --- nodes ---

    fn find(&self, key: u64) -> Option<u32> {
        let index = index_of(key);
        let node = self.nodes.get(index as usize)?;
        (node.uses == uses_of(key) && node.value.is_some()).then_some(index)
    }

    /// A place with that in it, not yet linked, and how often it was used before.
    #[inline]
    fn take_node(&mut self, deadline: D, value: Option<T>) -> (u32, u32) {
        let index = self.free;
        let Some(node) = self.nodes.get_mut(index as usize) else {
            return (self.new_node(deadline, value), 0);
        };
        self.free = node.next;
        node.value = value;
        node.deadline = deadline;
        (index, node.uses)
    }

    #[cold]
    fn new_node(&mut self, deadline: D, value: Option<T>) -> u32 {
        let index = u32::try_from(self.nodes.len()).ok().filter(|index| index >> INDEX_BITS == 0);
        let index = index.expect("a wheel holds at most 2^28 timers");
        let when = When { tick: 0, rank: 0 };
        self.nodes.push(Node { value, deadline, when, uses: 0, prev: NIL, next: NIL, place: Place::New });
        index
    }

    #[inline]
    fn give_node(&mut self, index: u32) -> Option<T> {
        self.len -= 1;
        let node = &mut self.nodes[index as usize];
        if let Some(uses) = node.uses.checked_add(1) {
            node.uses = uses;
            node.next = std::mem::replace(&mut self.free, index);
        } // else W7: this place has been used 2^32 times
        node.value.take()
    }
}

#[cfg(test)]
mod tests;
