//! A body that keeps what it is resumed with cannot be resumed with something that dies before it.
use evenloop_coroutine::{Co, LocalCoroutine, Coroutine};

fn main() {
    let mut keeper: LocalCoroutine<'_, &str, (), ()> = Coroutine::new(async |mut co: Co<'_, &str, ()>| {
        let first = co.yield_(()).await;
        co.yield_(()).await;
        println!("{first}");
    })
    .boxed_local();
    let _ = keeper.resume("");
    {
        let short = String::from("short");
        let _ = keeper.resume(&short);
    }
    let _ = keeper.resume("");
    let _ = keeper.resume("");
}
