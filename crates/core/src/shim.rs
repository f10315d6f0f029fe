//! The one place that chooses between real and modelled concurrency.
//!
//! Every lock, atomic, reference count that a model looks at, and shared cell in this workspace comes from here. There
//! are three faces with the same names:
//!
//! | face     | chosen by              | made of                                                              |
//! |----------|------------------------|----------------------------------------------------------------------|
//! | `native` | default                | parking_lot and std, re-exported: costs nothing                      |
//! | `loom`   | `--cfg evenloop_loom`  | loom's types, each operation knowing its source line (see `loom.rs`) |
//! | `tsan`   | `--cfg evenloop_tsan`  | types that ThreadSanitizer understands (see `tsan.rs`)               |
//!
//! Rules for users of this module:
//!
//! - No other file under the library crates' `src/` names `std::sync`, `parking_lot` or `loom`.
//! - `SeqCst` on an access is not used: loom treats it as `AcqRel`. Write Relaxed accesses around `fence(SeqCst)`.
//! - [`Arc`] is what a model counts. [`StdArc`] is std's under every face: for trait objects, `Wake`, weak handles and
//!   whatever no model looks into (loom's `Arc` has neither `dyn` nor `Weak`).
//! - [`UnsafeCell`] gives its pointer to a closure, so that loom sees how long it is used.

#[cfg(evenloop_loom)]
mod loom;
#[cfg(not(any(evenloop_loom, evenloop_tsan)))]
mod native;
#[cfg(not(evenloop_loom))]
mod plain;
#[cfg(all(evenloop_tsan, not(evenloop_loom)))]
mod tsan;

#[cfg(evenloop_loom)]
pub use self::loom::*;
#[cfg(not(any(evenloop_loom, evenloop_tsan)))]
pub use self::native::*;
#[cfg(all(evenloop_tsan, not(evenloop_loom)))]
pub use self::tsan::*;

/// A real mutex under loom as well: for process-wide tables. No model looks into them, and loom could not keep one from
/// one run to the next. Nothing that a model sees may happen while it is held.
#[cfg(not(all(evenloop_tsan, not(evenloop_loom))))]
pub use parking_lot::Mutex as GlobalMutex;

/// A mutex for process-wide tables.
#[cfg(all(evenloop_tsan, not(evenloop_loom)))]
pub use self::tsan::Mutex as GlobalMutex;

/// Real atomics under loom as well: for process-wide switches, and for what a tool samples, that no model looks at.
pub use std::sync::atomic::{AtomicU32 as GlobalAtomicU32, AtomicUsize as GlobalAtomicUsize};

pub use std::sync::{Arc as StdArc, OnceLock, Weak as StdWeak};
