//! Producers and consumers that know nothing of each other but the queue between them.
//!
//! Each producer puts a few items at random times; consumers take them and say how old they are. When the producers are
//! done, `join` waits until every item has been worked off; the consumers, which would wait for ever, are cancelled.
//!
//! ```text
//! cargo run -p evenloop --example producers_consumers -- --virtual
//! ```

mod support;

use evenloop::sync::Queue;
use evenloop::{create_task, sleep};
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::{Stopwatch, options};

/// A number, and when it was put.
type Item = (u32, Instant);

async fn produce(name: u32, queue: Rc<Queue<Item>>, mut random: fastrand::Rng, longest: Duration) {
    for _ in 0..random.u32(1..=10) {
        sleep(longest.mul_f64(random.f64())).await;
        let item = random.u32(..);
        queue.put((item, evenloop::time::now())).await.expect("nobody shuts the queue down");
        println!("producer {name} put {item:08x}");
    }
}

async fn consume(name: u32, queue: Rc<Queue<Item>>, mut random: fastrand::Rng, longest: Duration) {
    loop {
        sleep(longest.mul_f64(random.f64())).await;
        let (item, put_at) = queue.get().await.expect("nobody shuts the queue down");
        let age = evenloop::time::now().duration_since(put_at).as_secs_f64();
        println!("consumer {name} got {item:08x} after {age:.3} s");
        queue.task_done();
    }
}

fn main() {
    let options = options(
        "Producers and consumers around a queue",
        &[
            ("producers", 3.0, "how many put"),
            ("consumers", 10.0, "how many get"),
            ("maxsize", 0.0, "how many items fit; 0 is any number"),
            ("longest", 5.0, "seconds of the longest pause"),
        ],
    );
    let longest = options.seconds("longest");
    let mut random = options.random();
    options.run(async {
        let watch = Stopwatch::start();
        let queue = Rc::new(Queue::new(options.number("maxsize") as usize));
        let producers: Vec<_> = (0..options.number("producers") as u32)
            .map(|name| create_task(produce(name, queue.clone(), random.fork(), longest)))
            .collect();
        let consumers: Vec<_> = (0..options.number("consumers") as u32)
            .map(|name| create_task(consume(name, queue.clone(), random.fork(), longest)))
            .collect();
        for producer in producers {
            producer.await;
        }
        queue.join().await; // every item was worked off
        for consumer in &consumers {
            consumer.cancel("all items are worked off");
        }
        sleep(Duration::ZERO).await; // they end in the loop's next pass
        let pending = consumers.iter().filter(|consumer| !consumer.done()).count();
        println!("{queue:?}, pending consumers: {pending}, {:.2} s in all", watch.seconds());
    });
}
