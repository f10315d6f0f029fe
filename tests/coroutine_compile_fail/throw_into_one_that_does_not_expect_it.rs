//! Only a body that is resumed with a `Result` can be thrown into.
use evenloop_coroutine::{Co, Coroutine};

fn main() {
    let mut body = Coroutine::new(async |mut co: Co<'_, (), u8>| co.yield_(1).await);
    let _ = body.throw("no");
}
