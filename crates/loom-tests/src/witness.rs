//! A cell that the primitive under test has to guard.

#![allow(unsafe_code)]

use evenloop_core::shim::UnsafeCell;

/// Data without a lock. Loom and ThreadSanitizer report two threads that touch it without an order between them, so
/// reading or writing it *is* the check of the primitive that is supposed to order them.
#[derive(Debug, Default)]
pub struct Witness(UnsafeCell<u32>);

// SAFETY: the model that shares a witness claims that the primitive under test orders all access; loom checks the claim,
// and under plain threads an unordered access is what ThreadSanitizer is to find.
unsafe impl Sync for Witness {}

impl Witness {
    /// A witness that holds `value`.
    pub fn new(value: u32) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Reads it: fails if a write is not ordered before or after.
    #[track_caller]
    pub fn get(&self) -> u32 {
        // SAFETY: see `Sync` above.
        self.0.with(|cell| unsafe { *cell })
    }

    /// Writes it: fails if any other access is not ordered before or after.
    #[track_caller]
    pub fn set(&self, value: u32) {
        // SAFETY: see `Sync` above.
        self.0.with_mut(|cell| unsafe { *cell = value });
    }
}
