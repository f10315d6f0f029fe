//! The memory of tasks that are gone, kept for the next ones.
//!
//! Without it the allocator takes half the instructions of a task that is spawned among many, run and awaited (350 of 750
//! were measured): it is not made for a thousand blocks of one size that come and go together.
//!
//! P1. What lies in the list of a class has the size of that class and the alignment of a word, came from the global
//!     allocator, and is used by nobody.
//! P2. Only the owner takes and gives, and only while its loop is open. A task that is freed elsewhere or later goes back
//!     to the allocator, which made its memory in any case.
//! P3. Programs with debug assertions do without: there a stale pointer shall meet freed memory, which the sanitizers and
//!     valgrind know. The tests of this crate are the exception, so that they see it.

use std::alloc::{Layout, dealloc};
use std::ptr::{self, NonNull};

const WORD: usize = size_of::<*const ()>();
/// Larger ones are left to the allocator.
const LARGEST: usize = 512;
/// How many bytes are kept in all.
const KEPT_BYTES: usize = 256 * 1024;
/// P3.
const ON: bool = !cfg!(debug_assertions) || cfg!(test);

/// See the head.
pub(super) struct Pool {
    /// By size in words.
    classes: [*mut Free; LARGEST / WORD + 1],
    kept_bytes: usize,
}

/// What lies in memory that nobody uses.
struct Free {
    next: *mut Free,
}

impl Pool {
    pub(super) const fn new() -> Self {
        Self { classes: [ptr::null_mut(); LARGEST / WORD + 1], kept_bytes: 0 }
    }

    /// Whether memory of this kind is kept.
    #[inline]
    pub(super) const fn suits(layout: Layout) -> bool {
        ON && layout.align() == WORD && layout.size() <= LARGEST
    }

    /// Memory for a `T`, if some is kept.
    #[inline]
    pub(super) fn take<T>(&mut self) -> Option<Kept<T>> {
        self.take_layout(Layout::new::<T>()).map(|memory| Kept(memory.cast()))
    }

    #[inline]
    fn take_layout(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        if !Self::suits(layout) {
            return None;
        }
        let class = &mut self.classes[layout.size() / WORD];
        let memory = NonNull::new(*class)?;
        // SAFETY: P1: `give` left a `Free` in it.
        *class = unsafe { memory.as_ref() }.next;
        self.kept_bytes -= layout.size();
        Some(memory.cast())
    }

    /// Keeps the memory. False: it has to go back to the allocator.
    ///
    /// # Safety
    ///
    /// It came from the global allocator with this layout, and nobody uses it.
    #[inline]
    pub(super) unsafe fn give(&mut self, memory: NonNull<u8>, layout: Layout) -> bool {
        if !Self::suits(layout) || self.kept_bytes + layout.size() > KEPT_BYTES {
            return false;
        }
        let class = &mut self.classes[layout.size() / WORD];
        let free = memory.cast::<Free>();
        // SAFETY: nobody uses it, and a task is larger than a word and aligned as one (`suits`).
        unsafe { free.write(Free { next: *class }) };
        *class = free.as_ptr();
        self.kept_bytes += layout.size();
        true
    }
}

/// Memory for one `T`, from the pool: uninitialized, and nobody else's.
pub(super) struct Kept<T>(NonNull<T>);

impl<T> Kept<T> {
    /// Puts a value there. From here on it is as if it lay in a box.
    #[inline]
    pub(super) fn fill(self, value: T) -> NonNull<T> {
        // SAFETY: P1: of the right size and alignment, and taken out of the pool, so used by nobody.
        unsafe { self.0.write(value) };
        self.0
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.kept_bytes == 0 {
            return;
        }
        for (words, class) in self.classes.iter_mut().enumerate() {
            let layout = Layout::array::<*const ()>(words).expect("a class is small");
            while let Some(memory) = NonNull::new(*class) {
                // SAFETY: P1.
                *class = unsafe { memory.as_ref() }.next;
                // SAFETY: P1: it has this layout, and nobody uses it.
                unsafe { dealloc(memory.as_ptr().cast(), layout) };
            }
        }
    }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;
    use std::alloc::alloc;

    fn memory(layout: Layout) -> NonNull<u8> {
        // SAFETY: the layouts below are not empty.
        NonNull::new(unsafe { alloc(layout) }).expect("there is memory")
    }

    /// Gives memory; what is not kept goes back.
    fn give(pool: &mut Pool, layout: Layout) -> Option<NonNull<u8>> {
        let memory = memory(layout);
        // SAFETY: just made, and used by nobody.
        if unsafe { pool.give(memory, layout) } {
            return Some(memory);
        }
        // SAFETY: just made with this layout.
        unsafe { dealloc(memory.as_ptr(), layout) };
        None
    }

    fn words(words: usize) -> Layout {
        Layout::array::<*const ()>(words).unwrap()
    }

    #[test]
    fn what_was_given_last_is_taken_first_and_only_by_its_own_size() {
        let mut pool = Pool::new();
        let (one, two) = (give(&mut pool, words(12)).unwrap(), give(&mut pool, words(12)).unwrap());
        assert_eq!(pool.take_layout(words(11)), None);
        assert_eq!(pool.take_layout(words(12)), Some(two));
        assert_eq!(pool.take_layout(words(12)), Some(one));
        assert_eq!(pool.take_layout(words(12)), None);
        // SAFETY: taken above, so nobody else has it.
        assert!(unsafe { pool.give(one, words(12)) });
        // SAFETY: as above.
        assert!(unsafe { pool.give(two, words(12)) }); // dropped with the pool
    }

    #[test]
    fn it_keeps_so_many_bytes_and_nothing_unusual() {
        let mut pool = Pool::new();
        let layout = words(LARGEST / WORD);
        let kept = std::iter::from_fn(|| give(&mut pool, layout)).count();
        assert_eq!(kept, KEPT_BYTES / LARGEST);
        let mut pool = Pool::new();
        assert_eq!(give(&mut pool, words(LARGEST / WORD + 1)), None);
        assert_eq!(give(&mut pool, Layout::from_size_align(96, 32).unwrap()), None);
    }
}
