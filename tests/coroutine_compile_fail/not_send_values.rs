//! A coroutine that is resumed with an `Rc`, or yields one, stays on its thread.
use std::rc::Rc;

use evenloop_coroutine::{AsyncGenerator, Co, Coroutine};

fn main() {
    let _ = Coroutine::new(async |mut co: Co<'_, Rc<u8>, u8>| co.yield_(1).await).boxed();
    let _ = AsyncGenerator::<Rc<u8>>::new(async |mut co| co.yield_(Rc::new(1)).await).boxed();
}
