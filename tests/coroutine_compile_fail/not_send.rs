//! A body that holds an `Rc` across a yield stays on its thread.
use std::rc::Rc;

use evenloop_coroutine::{Co, Coroutine};

fn main() {
    let _ = Coroutine::new(async |mut co: Co<'_, (), u8>| {
        let held = Rc::new(1);
        co.yield_(*held).await;
        drop(held);
    })
    .boxed();
}
