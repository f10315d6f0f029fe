//! Retrying until lucky: three coroutines, each with its own patience, none waiting for the others.
//!
//! ```text
//! cargo run -p evenloop --example make_random -- --virtual --seed 444
//! ```

mod support;

use evenloop::{gather_all, sleep};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use support::options;

const COLORS: [&str; 3] = ["\x1b[36m", "\x1b[91m", "\x1b[35m"];
const END: &str = "\x1b[0m";

/// Draws numbers from 0 to 10 until one is above `threshold`; waits longer the higher its index.
async fn make_random(index: usize, threshold: u8, pause: Duration, random: Rc<RefCell<fastrand::Rng>>) -> u8 {
    let color = COLORS[index % COLORS.len()];
    let draw = || random.borrow_mut().u8(0..=10);
    println!("{color}Initiated make_random({index}).{END}");
    let mut drawn = draw();
    while drawn <= threshold {
        println!("{color}make_random({index}) == {drawn} too low; retrying.{END}");
        sleep(pause * (index as u32 + 1)).await;
        drawn = draw();
    }
    println!("{color}---> Finished: make_random({index}) == {drawn}{END}");
    drawn
}

fn main() {
    let options = options("Retry until lucky", &[("pause", 1.0, "seconds that the first coroutine waits")]);
    let pause = options.seconds("pause");
    let random = Rc::new(RefCell::new(options.random()));
    options.run(async move {
        let drawn = gather_all((0..3).map(|i| make_random(i, 9 - i as u8, pause, random.clone()))).await;
        println!("\nr1: {}, r2: {}, r3: {}", drawn[0], drawn[1], drawn[2]);
    });
}
