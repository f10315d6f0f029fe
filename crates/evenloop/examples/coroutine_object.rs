//! The coroutine object itself: resumed with a value, raised into, ended, and what one answers that has ended.
//!
//! ```text
//! cargo run -p evenloop --example coroutine_object
//! cargo run -p evenloop --example coroutine_object -- --first 5 --second 8
//! ```

mod support;

use evenloop::coroutine::{Co, Coroutine};
use support::options;

/// Says goodbye, however the body ends.
struct Farewell;

impl Drop for Farewell {
    fn drop(&mut self) {
        println!("  body: clean-up");
    }
}

/// Sums what it is sent; an error makes it start again from nothing, "stop" ends it.
async fn totals(mut co: Co<'_, Result<i64, &'static str>, i64>) -> String {
    let _farewell = Farewell;
    println!("  body: started");
    let mut total = 0;
    loop {
        match co.yield_(total).await {
            Ok(number) => {
                println!("  body: received {number}");
                total += number;
            }
            Err("stop") => return format!("total {total}"),
            Err(error) => {
                println!("  body: caught {error:?}");
                total = 0;
            }
        }
    }
}

fn main() {
    let options = options(
        "Resume, throw, close, and exhaustion",
        &[("first", 1.0, "the first number sent"), ("second", 2.0, "the second number sent")],
    );
    let (first, second) = (options.number("first") as i64, options.number("second") as i64);

    let mut body = Coroutine::new(totals);
    println!("new: {body:?}");
    println!("start: {:?}", body.send(0));
    println!("send {first}: {:?}", body.send(first));
    println!("send {second}: {:?}", body.send(second));
    println!("throw: {:?}", body.throw("start again"));
    println!("send {second}: {:?}", body.send(second));
    println!("throw stop: {:?}", body.throw("stop"));
    println!("now: {body:?}");
    println!("send: {}", body.try_resume(Ok(first)).unwrap_err());
    println!("throw: comes back as {:?}", body.throw("too late").unwrap_err());

    let mut body = Coroutine::new(totals);
    println!("start another: {:?}", body.send(0));
    println!("close");
    body.close();
    println!("now: {body:?}");
    println!("send: {}", body.try_resume(Ok(first)).unwrap_err());
}
