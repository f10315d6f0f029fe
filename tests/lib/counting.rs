//! An allocator that counts, for tests of what is left and of what is allocated at all.
//!
//! A test installs it in its own binary:
//!
//! ```text
//! #[global_allocator]
//! static ALLOCATOR: Counting = Counting;
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering};

/// Hands everything to the system's allocator, and counts.
pub struct Counting;

thread_local! {
    static BYTES: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

static ALL_BYTES: AtomicIsize = AtomicIsize::new(0);
static ALL_BLOCKS: AtomicIsize = AtomicIsize::new(0);

impl Counting {
    /// How many bytes this thread has allocated and not freed.
    pub fn bytes() -> isize {
        BYTES.get()
    }

    /// The most that [`bytes`](Self::bytes) has been since [`forget_most`](Self::forget_most).
    pub fn most() -> isize {
        MOST.get()
    }

    /// Begins to look for the most anew.
    pub fn forget_most() {
        MOST.set(BYTES.get());
    }

    /// How often this thread has allocated.
    pub fn allocations() -> usize {
        ALLOCATIONS.get()
    }

    /// How many bytes, in how many blocks, all threads have allocated and not freed.
    pub fn of_all_threads() -> (isize, isize) {
        (ALL_BYTES.load(Ordering::Relaxed), ALL_BLOCKS.load(Ordering::Relaxed))
    }
}

fn count(bytes: isize, blocks: isize) {
    ALL_BYTES.fetch_add(bytes, Ordering::Relaxed);
    ALL_BLOCKS.fetch_add(blocks, Ordering::Relaxed);
    // At the thread's end there is nobody who asks.
    let _ = BYTES.try_with(|count| {
        count.set(count.get() + bytes);
        MOST.set(MOST.get().max(count.get()));
        ALLOCATIONS.set(ALLOCATIONS.get() + usize::from(blocks > 0));
    });
}

// SAFETY: hands everything to the system's allocator, and counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize, 1);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize), -1);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(block, layout) }
    }
}
