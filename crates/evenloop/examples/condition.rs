//! A condition: guests wait until the kitchen has what they ordered, and look again at every change.
//!
//! ```text
//! cargo run -p evenloop --example condition -- --virtual
//! ```

mod support;

use evenloop::sync::{Condition, Lock};
use evenloop::{create_task, sleep};
use std::rc::Rc;
use support::{Stopwatch, options};

fn main() {
    let options =
        options("Guests and a kitchen", &[("cooking", 2.0, "seconds a dish"), ("guests", 3.0, "how many")]);
    let (cooking, guests) = (options.seconds("cooking"), options.number("guests") as u32);
    options.run(async move {
        let watch = Rc::new(Stopwatch::start());
        let kitchen = Rc::new((Lock::new(0), Condition::new()));
        let eating: Vec<_> = (1..=guests)
            .map(|wants| {
                let (watch, kitchen) = (watch.clone(), kitchen.clone());
                create_task(async move {
                    let (dishes, ready) = &*kitchen;
                    let mut dishes = ready.wait_for(dishes.acquire().await, |dishes| *dishes >= wants).await;
                    *dishes -= wants;
                    println!("{:.2} s: {wants} eaten, {dishes} left", watch.seconds());
                })
            })
            .collect();
        let (dishes, ready) = &*kitchen;
        for _ in 0..guests * (guests + 1) / 2 {
            sleep(cooking).await;
            *dishes.acquire().await += 1;
            ready.notify_all();
        }
        for guest in eating {
            guest.await;
        }
        println!("{ready:?}, {} dishes left", dishes.acquire().await);
    });
}
