//! A yield that is under way cannot be kept outside its body, as its handle cannot.
use evenloop_coroutine::{Co, Coroutine, Yield};

fn main() {
    let mut kept: Option<Yield<'_, '_, (), u8>> = None;
    let mut body = Coroutine::new(async |mut co: Co<'_, (), u8>| {
        kept = Some(co.yield_(1));
    });
    let _ = body.resume(());
}
