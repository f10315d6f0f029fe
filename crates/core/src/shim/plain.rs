//! What the native face and ThreadSanitizer's share: all but the locks and the fence.

pub use std::sync::Arc;
pub use std::thread_local;

/// Threads, as far as the library crates need them.
pub mod thread {
    pub use std::thread::{
        Builder, JoinHandle, Thread, ThreadId, current, park, park_timeout, sleep, spawn, yield_now,
    };

    /// The thread that a handle joins.
    pub fn of<T>(handle: &JoinHandle<T>) -> Thread {
        handle.thread().clone()
    }
}

/// Hints to the processor.
pub mod hint {
    pub use std::hint::spin_loop;
}

/// A cell whose pointer is lent to a closure.
///
/// Dereferencing the pointer is the caller's unsafe act; this type only says where it points.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct UnsafeCell<T: ?Sized>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    /// Makes a cell that holds `value`.
    pub const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> UnsafeCell<T> {
    /// Lends the pointer for reading.
    #[inline(always)]
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    /// Lends the pointer for writing.
    #[inline(always)]
    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}
