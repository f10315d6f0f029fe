//! Foreign destructors where nobody can be told of their panics.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Drops what belongs to a stranger, and never unwinds. A destructor that panics has nobody to tell but the panic hook, which
/// has heard of it; the same goes for what it panicked with. What comes behind that is leaked: it might go on for ever.
pub(crate) fn drop_quietly<T>(value: T) {
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(value)));
    if let Err(panic) = dropped {
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(panic)));
        std::mem::forget(dropped);
    }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::drop_quietly;
    use std::cell::Cell;
    use std::panic::panic_any;

    thread_local! {
        static LEFT: Cell<u8> = const { Cell::new(0) };
    }

    /// Panics with one like itself, as often as is left. Of no size, so that what is leaked is nothing.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            if LEFT.get() > 0 {
                LEFT.set(LEFT.get() - 1);
                panic_any(Self);
            }
        }
    }

    #[test]
    fn no_destructor_unwinds() {
        for bombs in 0..4 {
            LEFT.set(bombs);
            drop_quietly(Bomb);
        }
    }
}
