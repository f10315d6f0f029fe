//! The face of a normal build: parking_lot and std as they are.

pub use super::plain::*;
pub use parking_lot::{Condvar, Mutex, MutexGuard};

/// Atomic integers, pointers and fences.
pub mod atomic {
    pub use std::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
}
