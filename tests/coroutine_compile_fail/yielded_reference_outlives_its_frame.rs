//! A reference to a variable of the body cannot be yielded.
use evenloop_coroutine::{Co, Coroutine};

fn main() {
    let mut body = Coroutine::new(async |mut co: Co<'_, (), &str>| {
        let name = String::from("Ada");
        co.yield_(&name).await;
    });
    let _ = body.resume(());
}
