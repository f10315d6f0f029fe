//! Where tasks lie: small ones of one size together in a chunk, others alone.
//!
//! ```text
//!  a chunk, aligned to 8 KiB                                  a task alone
//! ┌──────┬────────┬────────┬────────┬── ─ ─ ─ ─ ─ ─ ──┐      ┌───────┬──────────────────────┐
//! │ head │ task   │ free   │ task   │ never used yet  │      │ Alone │ task                 │
//! └──────┴────────┴────────┴────────┴── ─ ─ ─ ─ ─ ─ ──┘      └───────┴──────────────────────┘
//!  ▲ a task's address, its low bits cleared                   ▲ the task's address, less the size of `Alone`
//! ```
//!
//! So what the tasks of a loop have in common is said once in a chunk, and a loop finds its tasks by walking over its
//! chunks: they need no links. And a task that is spawned among many, run and awaited asks the allocator for nothing, which
//! took half the instructions: it is not made for a thousand blocks of one size that come and go together.
//!
//! Alone are large tasks, those with an unusual alignment, and those that another thread brings.
//!
//! K1. The first word of either head leads to the loop, and never changes: of the heads, it alone is read by other threads.
//!     Which head a task has says its own header, for good (`Header::is_alone`).
//! K2. A place is live from `take` to `give`. A chunk is freed by the owner when none of its places is live, or with `Shared`,
//!     which outlives all tasks (T5).
//! K3. Only the owner takes and gives. A task that has settled is left on the stack `Shared::freed`, from whatever thread, and
//!     not touched any more; the owner takes the whole stack when it lacks a place, and before it sleeps, looks or closes.
//!     What is left on it once the loop is closed lies there until `Shared` goes: with many handles or wakers that outlive
//!     the loop, their chunks stay while anything else holds `Shared`, such as a `Handle`.
//! K4. In a free place lies the header of its last task: it is not LISTED, or its word has settled. Whoever walks looks at
//!     the word first: while that reads settled, the rest may be another thread's.
//! K5. The chunks of one size are a ring. Those that are `open` come first; the others have no free place. Tasks go to the first,
//!     which counts as one that is live: so a chunk with nothing live is a spare one. Of these so many bytes are kept.
//! K6. Programs with debug assertions do without chunks: there a stale pointer shall meet freed memory, which the sanitizers
//!     and valgrind know. The tests of this crate and the models are the exception, so that they see them.

use super::raw::{Header, LISTED, TaskPtr};
use super::shared::Shared;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::cmp::Reverse;
use std::ptr::{self, NonNull};

const WORD: usize = size_of::<*const ()>();
/// What chunks are aligned to. None is larger.
const CHUNK: usize = 8 * 1024;
/// Larger tasks are alone: sixteen of these fit. The cells of a model are larger than real ones.
const LARGEST: usize = if cfg!(evenloop_loom) { 2000 } else { 504 };
/// How many places the first chunk of a size has: many sizes have few tasks.
const FIRST: usize = if cfg!(evenloop_loom) { 2 } else { 8 };
/// How many bytes of spare chunks are kept.
const KEPT_BYTES: usize = 256 * 1024;
/// K6.
const ON: bool = cfg!(not(debug_assertions)) || cfg!(test) || cfg!(evenloop_loom);

// === Chunks ===

/// Where the tasks of one loop lie.
pub(super) struct Places {
    /// Chunks, by the size of their places in words.
    rings: [Ring; LARGEST / WORD + 1],
    /// How many bytes the spare chunks are.
    kept_bytes: Cell<usize>,
    /// The newest task that is alone and LISTED; the list goes on with `older`.
    alone: Cell<*mut Header>,
}

/// The head of a chunk; its places follow. But for `shared` it is the owner's (K1).
#[repr(C)]
struct Chunk {
    shared: NonNull<Shared>,
    /// Its neighbours in the ring.
    prev: Cell<NonNull<Chunk>>,
    next: Cell<NonNull<Chunk>>,
    /// The place that was given last; the list goes on with `below`.
    free: Cell<*mut Header>,
    /// The size of its places, in words.
    words: u16,
    /// How many places it has; how many of them were ever used; how many are live (K5).
    places: u16,
    used: Cell<u16>,
    live: Cell<u16>,
    /// K5.
    open: Cell<bool>,
}

/// What the allocator is asked for.
fn chunk_layout(words: usize, places: usize) -> Layout {
    let bytes = size_of::<Chunk>() + places * words * WORD;
    Layout::from_size_align(bytes, CHUNK).expect("a chunk is small")
}

/// How many places a chunk has at most. Of its bytes a word is left to the allocator, so that chunks lie close together.
const fn most(words: usize) -> usize {
    (CHUNK - WORD - size_of::<Chunk>()) / (words * WORD)
}

/// The chunk of a task that is not alone. To be looked into by the owner only (K1).
#[inline]
fn chunk_of(task: TaskPtr) -> NonNull<Chunk> {
    let head = task.0.as_ptr().map_addr(|address| address & !(CHUNK - 1));
    // SAFETY: no chunk lies at zero.
    unsafe { NonNull::new_unchecked(head) }.cast()
}

impl Places {
    pub(super) const fn new() -> Self {
        Self {
            rings: [const { Ring::new() }; LARGEST / WORD + 1],
            kept_bytes: Cell::new(0),
            alone: Cell::new(ptr::null_mut()),
        }
    }

    /// Whether tasks of this kind lie in chunks.
    const fn suits(layout: Layout) -> bool {
        ON && layout.align() == WORD && layout.size() <= LARGEST
    }

    /// A place for a task: uninitialized, or as K4 says. `None`: it is to be alone.
    ///
    /// # Safety
    ///
    /// This is the owner (K3), and this is of the loop that `shared` leads to.
    #[inline]
    pub(super) unsafe fn take(&self, layout: Layout, shared: NonNull<Shared>) -> Option<NonNull<Header>> {
        if !Self::suits(layout) {
            return None;
        }
        let words = layout.size() / WORD;
        if let Some(first) = self.rings[words].first.get() {
            // SAFETY: K2: what is in a ring is there.
            let chunk = unsafe { first.as_ref() };
            if let Some(place) = chunk.take_free() {
                return Some(place);
            }
        }
        // SAFETY: as for this function.
        Some(unsafe { self.take_otherwise(words, shared) })
    }

    /// As `take`, where no place was given back to the first chunk.
    ///
    /// # Safety
    ///
    /// As for `take`.
    #[cold]
    unsafe fn take_otherwise(&self, words: usize, shared: NonNull<Shared>) -> NonNull<Header> {
        if let Some(place) = self.take_from_ring(words) {
            return place;
        }
        // SAFETY: as for this function: the loop is there.
        let this_loop = unsafe { shared.as_ref() };
        // SAFETY: as for this function.
        unsafe { this_loop.take_freed() }
        if let Some(place) = self.take_from_ring(words) {
            return place;
        }
        self.grow(words, shared);
        self.take_from_ring(words).expect("a new chunk has places")
    }

    /// A place in one of the chunks that are there.
    fn take_from_ring(&self, words: usize) -> Option<NonNull<Header>> {
        let ring = &self.rings[words];
        while let Some(first) = ring.first.get() {
            // SAFETY: K2: what is in a ring is there.
            let chunk = unsafe { first.as_ref() };
            if !chunk.open.get() {
                break; // K5
            }
            if let Some(place) = chunk.take_free() {
                return Some(place);
            }
            let used = chunk.used.get();
            if used < chunk.places {
                chunk.used.set(used + 1);
                chunk.live.set(chunk.live.get() + 1);
                // SAFETY: the chunk has this place.
                return Some(unsafe { place(first, used).0 });
            }
            chunk.open.set(false);
            self.lead(ring, Some(chunk.next.get())); // so it is the last one now
        }
        None
    }

    /// Makes this the first chunk of its ring.
    fn lead(&self, ring: &Ring, at: Option<NonNull<Chunk>>) {
        if let Some(before) = ring.first.replace(at) {
            // SAFETY: K2: what is in a ring is there.
            let live = &unsafe { before.as_ref() }.live;
            live.set(live.get() - 1);
        }
        if let Some(at) = at {
            // SAFETY: K2: what is in a ring is there.
            let chunk = unsafe { at.as_ref() };
            if chunk.live.get() == 0 {
                self.kept_bytes.set(self.kept_bytes.get() - chunk.layout().size());
            }
            chunk.live.set(chunk.live.get() + 1);
        }
    }

    /// Another chunk, which becomes the first of its ring: all others are full.
    fn grow(&self, words: usize, shared: NonNull<Shared>) {
        let ring = &self.rings[words];
        let places = if ring.first.get().is_none() { most(words).min(FIRST) } else { most(words) };
        let layout = chunk_layout(words, places);
        // SAFETY: a chunk is not empty.
        let memory = unsafe { alloc(layout) }.cast::<Chunk>();
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(layout) };
        let chunk = Chunk {
            shared,
            prev: Cell::new(memory),
            next: Cell::new(memory),
            free: Cell::new(ptr::null_mut()),
            words: words as u16,
            places: places as u16,
            used: Cell::new(0),
            live: Cell::new(0),
            open: Cell::new(true),
        };
        // SAFETY: just made, and its head comes first.
        unsafe { memory.write(chunk) }
        self.kept_bytes.set(self.kept_bytes.get() + layout.size());
        ring.put_before_first(memory);
        self.lead(ring, Some(memory));
    }

    /// Takes the place of a task back.
    ///
    /// # Safety
    ///
    /// This is the owner (K3) of the task, which is not alone, not LISTED or settled (K4), and not used as a task any more.
    #[inline]
    pub(super) unsafe fn give(&self, task: TaskPtr) {
        let at = chunk_of(task);
        // SAFETY: K2: one of its places is live until the end of this function.
        let chunk = unsafe { at.as_ref() };
        // SAFETY: as for this function.
        let header = unsafe { task.header() };
        // SAFETY: nobody else uses it.
        header.below.with_mut(|below| unsafe { *below = chunk.free.get() });
        chunk.free.set(task.0.as_ptr());
        let live = chunk.live.get() - 1;
        chunk.live.set(live);
        if live == 0 || !chunk.open.get() {
            self.give_otherwise(at);
        }
    }

    /// The rest of `give`, where the chunk is empty now or was full.
    #[cold]
    fn give_otherwise(&self, at: NonNull<Chunk>) {
        // SAFETY: K2: what is in a ring is there.
        let chunk = unsafe { at.as_ref() };
        let ring = &self.rings[usize::from(chunk.words)];
        if chunk.live.get() == 0 {
            self.kept_bytes.set(self.kept_bytes.get() + chunk.layout().size());
        }
        if !chunk.open.replace(true) {
            self.put_forward(ring, at);
        }
        if self.kept_bytes.get() > KEPT_BYTES {
            self.free(ring, at); // no other has become a spare one
        }
    }

    /// Puts a chunk that has just become open where it belongs (K5).
    fn put_forward(&self, ring: &Ring, at: NonNull<Chunk>) {
        let Some(first) = ring.first.get().filter(|&first| first != at) else { return };
        Ring::take_out(at);
        // SAFETY: K2: what is in a ring is there.
        let first_chunk = unsafe { first.as_ref() };
        if first_chunk.open.get() {
            let next = first_chunk.next.get();
            link(first, at);
            link(at, next);
        } else {
            ring.put_before_first(at);
            self.lead(ring, Some(at));
        }
    }

    /// Frees a spare chunk.
    fn free(&self, ring: &Ring, at: NonNull<Chunk>) {
        debug_assert_ne!(ring.first.get(), Some(at), "the first is no spare one");
        // SAFETY: K2: what is in a ring is there.
        let layout = unsafe { at.as_ref() }.layout();
        Ring::take_out(at);
        self.kept_bytes.set(self.kept_bytes.get() - layout.size());
        // SAFETY: `grow` made it with this layout; K2: nobody uses it.
        unsafe { dealloc(at.as_ptr().cast(), layout) }
    }

    /// Frees all chunks that hold no task.
    pub(super) fn free_empty(&self) {
        for at in self.chunks() {
            // SAFETY: K2: only what has been seen is freed.
            let chunk = unsafe { at.as_ref() };
            let ring = &self.rings[usize::from(chunk.words)];
            if ring.first.get() == Some(at) && chunk.live.get() == 1 {
                self.lead(ring, Some(chunk.next.get()).filter(|&next| next != at));
                self.kept_bytes.set(self.kept_bytes.get() + chunk.layout().size());
            }
            if chunk.live.get() == 0 {
                self.free(ring, at);
            }
        }
    }

    /// All tasks that are LISTED, newest first.
    ///
    /// # Safety
    ///
    /// This is the owner (K3).
    pub(super) unsafe fn listed(&self) -> Vec<TaskPtr> {
        let mut listed = Vec::new();
        let mut look = |task: TaskPtr| {
            // SAFETY: it is alone and LISTED, so alive, or K4.
            if unsafe { task.header() }.word.is_settled() {
                return;
            }
            // SAFETY: as above; it has not settled, so this is the owner's.
            let (flags, age) = unsafe { task.own(|own| (own.flags, own.age())) };
            if flags & LISTED != 0 {
                listed.push((Reverse(age), task));
            }
        };
        for at in self.chunks() {
            // SAFETY: K2: what is in a ring is there.
            let used = unsafe { at.as_ref() }.used.get();
            // SAFETY: the chunk has this place.
            (0..used).for_each(|number| look(unsafe { place(at, number) }));
        }
        let mut at = self.alone.get();
        while let Some(task) = NonNull::new(at).map(TaskPtr) {
            look(task);
            // SAFETY: what is listed is alive (T4).
            at = unsafe { alone_of(task).as_ref() }.older.get();
        }
        listed.sort_by_key(|&(age, _)| age);
        listed.into_iter().map(|(_, task)| task).collect()
    }

    /// The task, which is alone, is LISTED from now on.
    ///
    /// # Safety
    ///
    /// This is the owner (K3), and the task is alive.
    #[cold]
    pub(super) unsafe fn link_alone(&self, task: TaskPtr) {
        let older = self.alone.replace(task.0.as_ptr());
        // SAFETY: as for this function.
        unsafe { alone_of(task).as_ref() }.older.set(older);
        if let Some(older) = NonNull::new(older).map(TaskPtr) {
            // SAFETY: what is listed is alive (T4).
            unsafe { alone_of(older).as_ref() }.newer.set(task.0.as_ptr());
        }
    }

    /// The task, which is alone, is LISTED no longer.
    ///
    /// # Safety
    ///
    /// As for `link_alone`.
    #[cold]
    pub(super) unsafe fn unlink_alone(&self, task: TaskPtr) {
        // SAFETY: as for this function.
        let head = unsafe { alone_of(task).as_ref() };
        let (newer, older) = (head.newer.get(), head.older.get());
        match NonNull::new(newer).map(TaskPtr) {
            // SAFETY: what is listed is alive (T4).
            Some(newer) => unsafe { alone_of(newer).as_ref() }.older.set(older),
            None => self.alone.set(older),
        }
        if let Some(older) = NonNull::new(older).map(TaskPtr) {
            // SAFETY: what is listed is alive (T4).
            unsafe { alone_of(older).as_ref() }.newer.set(newer);
        }
    }

    fn chunks(&self) -> Vec<NonNull<Chunk>> {
        let mut chunks = Vec::new();
        for first in self.rings.iter().filter_map(|ring| ring.first.get()) {
            let mut at = first;
            loop {
                chunks.push(at);
                // SAFETY: K2: what is in a ring is there.
                at = unsafe { at.as_ref() }.next.get();
                if at == first {
                    break;
                }
            }
        }
        chunks
    }
}

impl Drop for Places {
    /// On whatever thread: all tasks are gone (T5).
    fn drop(&mut self) {
        for at in self.chunks() {
            // SAFETY: K2: only what has been seen is freed.
            let layout = unsafe { at.as_ref() }.layout();
            // SAFETY: `grow` made it with this layout; no task is left.
            unsafe { dealloc(at.as_ptr().cast(), layout) }
        }
    }
}

impl Chunk {
    fn layout(&self) -> Layout {
        chunk_layout(self.words.into(), self.places.into())
    }

    /// A place that was given back.
    #[inline]
    fn take_free(&self) -> Option<NonNull<Header>> {
        let place = NonNull::new(self.free.get())?;
        // SAFETY: K4.
        let header = unsafe { place.as_ref() };
        // SAFETY: the place is free, so nobody else uses it.
        self.free.set(header.below.with(|below| unsafe { *below }));
        self.live.set(self.live.get() + 1);
        Some(place)
    }
}

/// # Safety
///
/// The chunk has a place of this number.
unsafe fn place(chunk: NonNull<Chunk>, number: u16) -> TaskPtr {
    // SAFETY: K2: the caller has it from a ring.
    let words = unsafe { chunk.as_ref() }.words;
    let offset = size_of::<Chunk>() + usize::from(number) * usize::from(words) * WORD;
    // SAFETY: as for this function.
    TaskPtr(unsafe { chunk.byte_add(offset) }.cast())
}

/// The chunks whose places have one size (K5).
struct Ring {
    first: Cell<Option<NonNull<Chunk>>>,
}

impl Ring {
    const fn new() -> Self {
        Self { first: Cell::new(None) }
    }

    /// Between the last and the first.
    fn put_before_first(&self, at: NonNull<Chunk>) {
        let Some(first) = self.first.get() else { return link(at, at) };
        // SAFETY: K2: what is in a ring is there.
        let last = unsafe { first.as_ref() }.prev.get();
        link(last, at);
        link(at, first);
    }

    /// The chunk is not the first.
    fn take_out(at: NonNull<Chunk>) {
        // SAFETY: K2: what is in a ring is there.
        let chunk = unsafe { at.as_ref() };
        link(chunk.prev.get(), chunk.next.get());
    }
}

/// Makes neighbours of two chunks that are there.
fn link(prev: NonNull<Chunk>, next: NonNull<Chunk>) {
    // SAFETY: as for this function.
    unsafe { prev.as_ref() }.next.set(next);
    // SAFETY: as for this function.
    unsafe { next.as_ref() }.prev.set(prev);
}

// === Alone ===

/// What lies before a task that is alone.
#[repr(C)]
struct Alone {
    /// K1.
    shared: NonNull<Shared>,
    /// Its neighbours in the list of those that are LISTED; the owner's.
    newer: Cell<*mut Header>,
    older: Cell<*mut Header>,
}

/// What the allocator is asked for, and how far into it the task lies.
fn alone_layout(task: Layout) -> (Layout, usize) {
    let (layout, offset) = Layout::new::<Alone>().extend(task).expect("a task fits into memory");
    (layout.pad_to_align(), offset)
}

/// A place for one task, uninitialized.
pub(super) fn alone(task: Layout, shared: NonNull<Shared>) -> NonNull<Header> {
    let (layout, offset) = alone_layout(task);
    // SAFETY: it is not empty.
    let memory = NonNull::new(unsafe { alloc(layout) });
    let Some(memory) = memory else { handle_alloc_error(layout) };
    // SAFETY: the task begins there.
    let place = unsafe { memory.byte_add(offset) }.cast();
    let head = Alone { shared, newer: Cell::new(ptr::null_mut()), older: Cell::new(ptr::null_mut()) };
    // SAFETY: in front of the task there is room for it.
    unsafe { alone_of(TaskPtr(place)).write(head) }
    place
}

/// Frees a task that is alone, on whatever thread.
///
/// # Safety
///
/// The task is alone, was made with this layout, and nobody uses it.
pub(super) unsafe fn free_alone(task: TaskPtr, task_layout: Layout) {
    let (layout, offset) = alone_layout(task_layout);
    // SAFETY: as for this function: so far in front of it the allocation begins.
    let memory = unsafe { task.0.byte_sub(offset) };
    // SAFETY: as for this function.
    unsafe { dealloc(memory.as_ptr().cast(), layout) }
}

/// What lies before the task, which is alone.
#[inline]
fn alone_of(task: TaskPtr) -> NonNull<Alone> {
    // SAFETY: a task that is alone has it there.
    unsafe { task.0.byte_sub(size_of::<Alone>()) }.cast()
}

// === Both ===

/// The loop of a task.
///
/// # Safety
///
/// The task is alive.
#[inline]
pub(super) unsafe fn shared_of(task: TaskPtr) -> NonNull<Shared> {
    // SAFETY: as for this function.
    if unsafe { task.header() }.is_alone() {
        // SAFETY: as for this function.
        return unsafe { shared_of_alone(task) };
    }
    // SAFETY: K1.
    unsafe { chunk_of(task).cast::<NonNull<Shared>>().read() }
}

/// # Safety
///
/// The task is alive, and alone.
#[cold]
#[inline]
unsafe fn shared_of_alone(task: TaskPtr) -> NonNull<Shared> {
    // SAFETY: K1: it is written before the task is there.
    unsafe { alone_of(task).cast::<NonNull<Shared>>().read() }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests;
