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
    use std::panic::panic_any;

    /// Panics with one like itself, so many times.
    struct Bombs(u8);

    impl Drop for Bombs {
        fn drop(&mut self) {
            if self.0 > 0 {
                panic_any(Self(self.0 - 1));
            }
        }
    }

    #[test]
    fn no_destructor_unwinds() {
        (0..4).for_each(|bombs| drop_quietly(Bombs(bombs)));
    }
}
