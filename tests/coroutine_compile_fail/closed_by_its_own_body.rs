//! A generator cannot be closed by its own body, which that would drop.
use evenloop_coroutine::{AsyncGenerator, Closed, Co, LocalAsyncGenerator};

fn main() {
    let mut body: Option<LocalAsyncGenerator<'_, u8>> = None;
    body = Some(
        AsyncGenerator::new(async |_: Co<'_, Result<(), Closed>, u8>| body.as_mut().unwrap().close())
            .boxed_local(),
    );
    body.as_mut().unwrap().close();
}
