//! A coroutine cannot be resumed by its own body.
use evenloop_coroutine::{Co, Coroutine, LocalCoroutine};

fn main() {
    let mut body: Option<LocalCoroutine<'_, (), (), ()>> = None;
    body = Some(
        Coroutine::new(async |_: Co<'_, (), ()>| {
            let _ = body.as_mut().unwrap().resume(());
        })
        .boxed_local(),
    );
    let _ = body.as_mut().unwrap().resume(());
}
