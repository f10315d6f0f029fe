//! What is yielded lives no longer than what it borrows from, also when the consumer keeps it.
use evenloop_coroutine::Coroutine;

fn main() {
    let mut kept = Vec::new();
    {
        let words = String::from("a few words");
        let body = Coroutine::new(async |mut co| {
            for word in words.split(' ') {
                co.yield_(word).await;
            }
        });
        kept.extend(body);
    }
    println!("{kept:?}");
}
