//! The face of a model: loom's types, each operation knowing its own source position.
//!
//! A model may have the next threads that are built not start: [`hooks::fail_starts`]. Two more hooks serve `cargo xtask ordmut` and
//! `cargo xtask loom`:
//!
//! - [`hooks`] may change exactly one site of the program: weaken its ordering, let its compare-exchange fail, leave out
//!   its wake-up.
//! - With `LOAD_RMW=1` every load runs as a read-modify-write that changes nothing. Stock loom forgets that another
//!   thread's store could have come between a thread's own load and its compare-exchange; a read-modify-write is
//!   remembered, so this second pass explores those orders (and no stale reads, which the first pass explores). Stores
//!   run as swaps then: loom would leave open whether a store came before or after a read-modify-write of another
//!   thread, even in between its two halves, and so find races that no machine can have.

use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::OnceLock;

pub use ::loom::sync::Arc;
pub mod hooks;

/// std's `thread_local!` over loom's, which does not know `const { ... }`: here that is a block like any other.
#[doc(hidden)]
#[macro_export]
macro_rules! __evenloop_thread_local {
    () => {};
    ($(#[$doc:meta])* $vis:vis static $name:ident: $type:ty = const $init:block $(; $($rest:tt)*)?) => {
        $crate::shim::__loom_thread_local! { $(#[$doc])* $vis static $name: $type = $init; }
        $($crate::__evenloop_thread_local! { $($rest)* })?
    };
    ($(#[$doc:meta])* $vis:vis static $name:ident: $type:ty = $init:expr $(; $($rest:tt)*)?) => {
        $crate::shim::__loom_thread_local! { $(#[$doc])* $vis static $name: $type = $init; }
        $($crate::__evenloop_thread_local! { $($rest)* })?
    };
}
pub use __evenloop_thread_local as thread_local;
#[doc(hidden)]
pub use ::loom::thread_local as __loom_thread_local;

/// Threads, as far as the library crates need them.
pub mod thread {
    use super::{Location, hooks};
    pub use ::loom::thread::{JoinHandle, ThreadId, park, spawn, yield_now};
    use std::io;

    /// Builds a thread, unless the model has this fail.
    #[derive(Debug)]
    pub struct Builder(::loom::thread::Builder);

    impl Builder {
        /// A thread without a name.
        #[expect(clippy::new_without_default, reason = "std's has none")]
        pub fn new() -> Self {
            Self(::loom::thread::Builder::new())
        }

        /// Gives it a name.
        pub fn name(self, name: String) -> Self {
            Self(self.0.name(name))
        }

        /// Gives it so large a stack.
        pub fn stack_size(self, bytes: usize) -> Self {
            Self(self.0.stack_size(bytes))
        }

        /// Starts it.
        pub fn spawn<F, T>(self, body: F) -> io::Result<JoinHandle<T>>
        where
            F: FnOnce() -> T + Send + 'static,
            T: Send + 'static,
        {
            if hooks::start_fails() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.0.spawn(body)
        }
    }

    /// Lets the others go on: a model has no time.
    pub fn sleep(_: std::time::Duration) {
        yield_now();
    }

    /// A handle to a thread, to unpark it.
    #[derive(Clone, Debug)]
    pub struct Thread(::loom::thread::Thread);

    /// The calling thread.
    pub fn current() -> Thread {
        Thread(::loom::thread::current())
    }

    /// The thread that a handle joins.
    pub fn of<T>(handle: &JoinHandle<T>) -> Thread {
        Thread(handle.thread().clone())
    }

    impl Thread {
        /// Who it is.
        pub fn id(&self) -> ThreadId {
            self.0.id()
        }

        /// What it was called when it was spawned.
        pub fn name(&self) -> Option<&str> {
            self.0.name()
        }

        /// Ends the thread's park, or makes the next one return at once.
        #[track_caller]
        pub fn unpark(&self) {
            if !hooks::skips_at("unpark", Location::caller()) {
                self.0.unpark();
            }
        }
    }

    /// Parks; a model knows no time, so only an unpark ends it.
    pub fn park_timeout(_: std::time::Duration) {
        park();
    }
}

/// Hints to the processor.
pub mod hint {
    pub use ::loom::hint::spin_loop;
}

// === Mutex and Condvar: parking_lot's interface over loom's types ===

/// A mutex without poisoning.
#[derive(Debug, Default)]
pub struct Mutex<T>(::loom::sync::Mutex<T>);

/// Unlocks the [`Mutex`] when dropped.
#[derive(Debug)]
pub struct MutexGuard<'a, T>(Option<::loom::sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    /// Makes an unlocked mutex. Not `const` under loom.
    pub fn new(value: T) -> Self {
        Self(::loom::sync::Mutex::new(value))
    }

    /// Waits for the mutex and locks it.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())))
    }

    /// Locks the mutex if it is free.
    #[track_caller]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok().map(|guard| MutexGuard(Some(guard)))
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Borrows the value: `&mut self` says that nobody else does.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("only a condvar empties a guard, and it fills it again")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("only a condvar empties a guard, and it fills it again")
    }
}

/// A condition variable.
#[derive(Debug, Default)]
pub struct Condvar(::loom::sync::Condvar);

/// Whether a wait with a time-out ended by it. Never, in a model.
#[derive(Clone, Copy, Debug)]
pub struct WaitTimeoutResult(());

impl WaitTimeoutResult {
    /// False: a model knows no time.
    pub fn timed_out(&self) -> bool {
        false
    }
}

impl Condvar {
    /// Makes a condition variable. Not `const` under loom.
    pub fn new() -> Self {
        Self(::loom::sync::Condvar::new())
    }

    /// Unlocks, sleeps until notified, locks again.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let inner = guard.0.take().expect("a guard in hand is full");
        guard.0 = Some(self.0.wait(inner).unwrap_or_else(|poisoned| poisoned.into_inner()));
    }

    /// As [`Condvar::wait`]; the time-out never comes in a model.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: std::time::Duration) -> WaitTimeoutResult {
        self.wait(guard);
        WaitTimeoutResult(())
    }

    /// Wakes one waiter.
    #[track_caller]
    pub fn notify_one(&self) {
        if !hooks::skips_at("notify_one", Location::caller()) {
            self.0.notify_one();
        }
    }

    /// Wakes all waiters.
    #[track_caller]
    pub fn notify_all(&self) {
        if !hooks::skips_at("notify_all", Location::caller()) {
            self.0.notify_all();
        }
    }
}

// === UnsafeCell ===

/// A cell whose pointer is lent to a closure; loom reports concurrent use as a race.
#[derive(Debug, Default)]
pub struct UnsafeCell<T>(::loom::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    /// Makes a cell that holds `value`. Not `const` under loom.
    pub fn new(value: T) -> Self {
        Self(::loom::cell::UnsafeCell::new(value))
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }

    /// Lends the pointer for reading.
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        self.0.with(f)
    }

    /// Lends the pointer for writing.
    #[track_caller]
    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        self.0.with_mut(f)
    }
}

// === The second pass ===

/// Whether this is the second pass, in which loads are read-modify-writes.
fn load_rmw() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| std::env::var_os("LOAD_RMW").is_some_and(|value| value == "1"))
}

/// Atomic integers, pointers and fences.
pub mod atomic {
    use super::hooks::{fails, ord};
    use super::{Location, load_rmw};
    pub use ::loom::sync::atomic::Ordering;

    /// A fence whose ordering can be weakened like any other.
    #[track_caller]
    pub fn fence(ordering: Ordering) {
        let ordering = ord("fence", 0, ordering, Location::caller());
        // A fence that is weakened to Relaxed is a fence that is gone.
        if ordering != Ordering::Relaxed {
            ::loom::sync::atomic::fence(ordering);
        }
    }

    /// What all atomics have in common.
    macro_rules! common {
        ($value:ty) => {
            /// Reads the value.
            #[track_caller]
            pub fn load(&self, ordering: Ordering) -> $value {
                let ordering = ord("load", 0, ordering, Location::caller());
                if load_rmw() { self.read_modify_nothing(ordering) } else { self.0.load(ordering) }
            }

            /// Writes the value.
            #[track_caller]
            pub fn store(&self, value: $value, ordering: Ordering) {
                let ordering = ord("store", 0, ordering, Location::caller());
                if load_rmw() {
                    self.0.swap(value, ordering);
                } else {
                    self.0.store(value, ordering);
                }
            }

            /// Writes the value and answers the one before.
            #[track_caller]
            pub fn swap(&self, value: $value, ordering: Ordering) -> $value {
                self.0.swap(value, ord("swap", 0, ordering, Location::caller()))
            }

            /// Writes `new` if the value is `current`.
            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.exchange("compare_exchange", current, new, [success, failure], Location::caller())
            }

            /// As `compare_exchange`; loom never lets it fail without reason, the hook `fail` does.
            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.exchange("compare_exchange_weak", current, new, [success, failure], Location::caller())
            }

            /// Reads and replaces until `f` declines or the exchange succeeds.
            #[track_caller]
            pub fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                mut f: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let mut seen = self.load(fetch);
                while let Some(new) = f(seen) {
                    match self.exchange("fetch_update", seen, new, [set, fetch], Location::caller()) {
                        Ok(before) => return Ok(before),
                        Err(now) => seen = now,
                    }
                }
                Err(seen)
            }

            fn exchange(
                &self,
                operation: &'static str,
                current: $value,
                new: $value,
                [success, failure]: [Ordering; 2],
                at: &Location<'_>,
            ) -> Result<$value, $value> {
                let success = ord(operation, 0, success, at);
                let failure = ord(operation, 1, failure, at);
                if fails(operation, at) {
                    return Err(self.0.load(failure));
                }
                self.0.compare_exchange(current, new, success, failure)
            }
        };
    }

    macro_rules! integer {
        ($name:ident, $value:ty) => {
            #[doc = concat!("loom's `", stringify!($name), "` with the hooks of this module.")]
            #[derive(Debug, Default)]
            pub struct $name(::loom::sync::atomic::$name);

            impl $name {
                /// Makes an atomic. Not `const` under loom.
                #[track_caller]
                pub fn new(value: $value) -> Self {
                    Self(::loom::sync::atomic::$name::new(value))
                }

                /// Takes the value out. Reports every access that is not ordered before this one: what memory that is
                /// about to be freed must not have.
                #[track_caller]
                pub fn into_inner(mut self) -> $value {
                    self.0.with_mut(|value| *value)
                }

                fn read_modify_nothing(&self, ordering: Ordering) -> $value {
                    self.0.fetch_or(0, ordering)
                }

                common!($value);
                integer!(@fetch $value, fetch_add, "Adds, wrapping around.");
                integer!(@fetch $value, fetch_sub, "Subtracts, wrapping around.");
                integer!(@fetch $value, fetch_and, "Bitwise and.");
                integer!(@fetch $value, fetch_or, "Bitwise or.");
                integer!(@fetch $value, fetch_xor, "Bitwise exclusive or.");
                integer!(@fetch $value, fetch_max, "The greater of the two.");
                integer!(@fetch $value, fetch_min, "The lesser of the two.");
            }
        };
        (@fetch $value:ty, $operation:ident, $what:literal) => {
            #[doc = concat!($what, " Answers the value before.")]
            #[track_caller]
            pub fn $operation(&self, value: $value, ordering: Ordering) -> $value {
                self.0.$operation(value, ord(stringify!($operation), 0, ordering, Location::caller()))
            }
        };
    }

    integer!(AtomicU8, u8);
    integer!(AtomicU16, u16);
    integer!(AtomicU32, u32);
    integer!(AtomicU64, u64);
    integer!(AtomicUsize, usize);

    /// loom's `AtomicBool` with the hooks of this module.
    #[derive(Debug, Default)]
    pub struct AtomicBool(::loom::sync::atomic::AtomicBool);

    impl AtomicBool {
        /// Makes an atomic. Not `const` under loom.
        #[track_caller]
        pub fn new(value: bool) -> Self {
            Self(::loom::sync::atomic::AtomicBool::new(value))
        }

        fn read_modify_nothing(&self, ordering: Ordering) -> bool {
            self.0.fetch_or(false, ordering)
        }

        common!(bool);

        /// Logical or. Answers the value before.
        #[track_caller]
        pub fn fetch_or(&self, value: bool, ordering: Ordering) -> bool {
            self.0.fetch_or(value, ord("fetch_or", 0, ordering, Location::caller()))
        }

        /// Logical and. Answers the value before.
        #[track_caller]
        pub fn fetch_and(&self, value: bool, ordering: Ordering) -> bool {
            self.0.fetch_and(value, ord("fetch_and", 0, ordering, Location::caller()))
        }
    }

    /// loom's `AtomicPtr` with the hooks of this module.
    #[derive(Debug)]
    pub struct AtomicPtr<T>(::loom::sync::atomic::AtomicPtr<T>);

    impl<T> AtomicPtr<T> {
        /// Makes an atomic. Not `const` under loom.
        #[track_caller]
        pub fn new(value: *mut T) -> Self {
            Self(::loom::sync::atomic::AtomicPtr::new(value))
        }

        /// Takes the value out, as the others do.
        #[track_caller]
        pub fn into_inner(mut self) -> *mut T {
            self.0.with_mut(|value| *value)
        }

        fn read_modify_nothing(&self, ordering: Ordering) -> *mut T {
            // Exchanging null for null reads the newest value whether it succeeds or not. A failure ordering
            // cannot be Release; loads never are.
            let null = std::ptr::null_mut();
            self.0.compare_exchange(null, null, ordering, ordering).unwrap_or_else(|now| now)
        }

        common!(*mut T);
    }

    impl<T> Default for AtomicPtr<T> {
        fn default() -> Self {
            Self::new(std::ptr::null_mut())
        }
    }
}
