//! A lock is released on every way out of a scope: at its end, by an error, and when what holds it is cancelled.
//!
//! ```text
//! cargo run -p evenloop --example lock -- --virtual
//! ```

mod support;

use evenloop::sync::Lock;
use evenloop::{create_task, sleep, timeout};
use std::rc::Rc;
use std::time::Duration;
use support::{Stopwatch, options};

/// Adds `amount` after looking for `pause`: without the lock, others would come in between.
async fn deposit(balance: &Lock<i64>, amount: i64, pause: Duration) -> Result<i64, String> {
    let mut balance = balance.acquire().await;
    let seen = *balance;
    sleep(pause).await;
    if amount == 0 {
        return Err(format!("nothing to deposit beside {seen}"));
    }
    *balance = seen + amount;
    Ok(*balance)
}

fn main() {
    let options =
        options("A lock, and the ways out of its scope", &[("pause", 1.0, "seconds at the counter")]);
    let pause = options.seconds("pause");
    options.run(async move {
        let watch = Stopwatch::start();
        let balance = Rc::new(Lock::new(0));
        let tasks: Vec<_> = [100, 0, 20]
            .into_iter()
            .map(|amount| {
                let balance = balance.clone();
                create_task(async move { deposit(&balance, amount, pause).await })
            })
            .collect();
        let impatient = timeout(pause / 2, deposit(&balance, 1000, pause)).await;
        println!("{:.2} s: cancelled while it held the lock: {}", watch.seconds(), impatient.is_err());
        for task in tasks {
            println!("deposit: {:?}", task.await);
        }
        println!("{:.2} s: {balance:?}", watch.seconds());
        println!("{} in it", balance.acquire().await);
    });
}
