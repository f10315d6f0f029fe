//! The handle cannot be moved to a thread that outlives the body.
use evenloop_coroutine::{Co, Coroutine};

fn main() {
    let mut body = Coroutine::new(async |mut co: Co<'_, (), u8>| {
        std::thread::spawn(move || drop(co.yield_(1)));
    });
    let _ = body.resume(());
}
