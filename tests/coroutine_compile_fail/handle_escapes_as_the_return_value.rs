//! The handle cannot be returned.
use evenloop_coroutine::{Co, Coroutine};

fn main() {
    let mut body = Coroutine::new(async |co: Co<'_, (), u8>| co);
    let _ = body.resume(());
}
