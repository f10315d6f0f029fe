//! An asynchronous generator, and scopes with an asynchronous entry and exit.
//!
//! A connection is opened and closed asynchronously; a generator reads from it, row by row. The consumer leaves early,
//! once by `break` and once because its time is up, and both times the connection is closed, awaited, before it goes on.
//!
//! ```text
//! cargo run -p evenloop --example async_generator -- --virtual
//! cargo run -p evenloop --example async_generator -- --virtual --row 0.5 --enough 4 --patience 1.2
//! ```

mod support;

use evenloop::cancel::{CancelScope, catch_cancel};
use evenloop::coroutine::{AsyncGenerator, LocalAsyncGenerator, aclosing};
use evenloop::sleep;
use evenloop::time::now;
use std::time::Duration;
use support::{Stopwatch, options};

/// `async with`: opens the connection, lends it to `body`, and closes it on every way out, cancellation included.
async fn with_connection<T>(watch: &Stopwatch, close: Duration, body: impl AsyncFnOnce(&str) -> T) -> T {
    sleep(close).await;
    println!("{:5.1} opened", watch.seconds());
    let outcome = catch_cancel(body("row")).await;
    sleep(close).await;
    println!("{:5.1} closed", watch.seconds());
    match outcome {
        Ok(value) => value,
        Err(cancelled) => match cancelled.resume().await {},
    }
}

/// Rows, one at a time, each after a while; the connection is closed when nobody wants more.
fn rows(watch: &Stopwatch, row: Duration, close: Duration) -> LocalAsyncGenerator<'_, String> {
    AsyncGenerator::new(async move |mut co| {
        with_connection(watch, close, async |name| {
            for number in 1.. {
                sleep(row).await;
                if co.yield_(format!("{name} {number}")).await.is_err() {
                    println!("{:5.1} nobody wants more", watch.seconds());
                    break;
                }
            }
        })
        .await;
    })
    .boxed_local()
}

fn main() {
    let options = options(
        "An asynchronous generator that cleans up",
        &[
            ("row", 1.0, "seconds for a row to come"),
            ("close", 0.5, "seconds to open and to close the connection"),
            ("enough", 2.0, "rows until the first consumer leaves"),
            ("patience", 2.0, "seconds until the second consumer is cancelled"),
        ],
    );
    let (row, close, patience) =
        (options.seconds("row"), options.seconds("close"), options.seconds("patience"));
    let enough = options.number("enough") as usize;
    options.run(async move {
        let watch = Stopwatch::start();
        aclosing(rows(&watch, row, close), async |rows| {
            let mut count = 0;
            while let Some(row) = rows.next().await {
                println!("{:5.1} {row}", watch.seconds());
                count += 1;
                if count == enough {
                    break;
                }
            }
        })
        .await;
        println!("{:5.1} after the first consumer", watch.seconds());

        let watch = Stopwatch::start();
        let consumer = aclosing(rows(&watch, row, close), async |rows| {
            while let Some(row) = rows.next().await {
                println!("{:5.1} {row}", watch.seconds());
            }
        });
        let outcome = CancelScope::with_deadline(now() + patience).run(consumer).await;
        let how = if outcome.is_err() { "cancelled" } else { "done" };
        println!("{:5.1} after the second consumer: {how}", watch.seconds());
    });
}
