//! The handle cannot be kept outside its body.
use evenloop_coroutine::{Co, Coroutine};

fn main() {
    let mut kept: Option<Co<'_, (), u8>> = None;
    let mut body = Coroutine::new(async |co: Co<'_, (), u8>| kept = Some(co));
    let _ = body.resume(());
}
