//! The end of an asynchronous generator has no value.
use evenloop_coroutine::{AsyncGenerator, Closed, Co};

fn main() {
    let _ = AsyncGenerator::new(async |_: Co<'_, Result<(), Closed>, u8>| "value");
}
