//! One body has one yield under way.
use evenloop_coroutine::{AsyncGenerator, Closed, Co};

fn main() {
    let _ = AsyncGenerator::new(async |mut co: Co<'_, Result<(), Closed>, u8>| {
        let _ = futures::join!(co.yield_(1), co.yield_(2));
    });
}
