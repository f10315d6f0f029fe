//! Two bodies cannot swap their handles, though their types look the same.
use evenloop_coroutine::{Co, Coroutine};

fn main() {
    let mut outer = Coroutine::new(async |mut co: Co<'_, (), u8>| {
        let mut inner = Coroutine::new(async |mut other: Co<'_, (), u8>| {
            std::mem::swap(&mut co, &mut other);
        });
        let _ = inner.resume(());
    });
    let _ = outer.resume(());
}
