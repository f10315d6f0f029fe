//! The life of an event loop: made, run to a result, run for ever, stopped, closed; and callbacks in their order.
//!
//! ```text
//! cargo run -p evenloop --example loop_life -- --virtual
//! ```

mod support;

use evenloop::time::VirtualClock;
use evenloop::{EventLoop, call_soon, event_loop_on, new_event_loop, yield_now};
use std::time::{Duration, Instant};
use support::options;

/// A callback that says when it runs.
fn say(event_loop: &EventLoop, started: Instant, what: &'static str) -> impl FnOnce() + 'static {
    let time = event_loop.runtime().timers_for("say").expect("this loop has timers").clone();
    move || println!("{:.2} s: {what}", (time.now() - started).as_secs_f64())
}

fn main() {
    let options = options(
        "Callbacks, and the life of a loop",
        &[("first", 1.0, "seconds until the first timer"), ("second", 2.0, "seconds until the second")],
    );
    let (first, second) = (options.seconds("first"), options.seconds("second"));
    let event_loop =
        if options.virtual_clock { event_loop_on(VirtualClock::new().into()) } else { new_event_loop() };
    let started = event_loop.time();
    let say = |what| say(&event_loop, started, what);

    println!("new: {event_loop:?}");
    let answer = event_loop.run_until_complete(async {
        call_soon(|| println!("a callback of the same pass runs after what was ready"));
        yield_now().await;
        6 * 7
    });
    println!("run_until_complete gave {answer}");

    // Nothing runs inside the call: the order is that of the loop.
    event_loop.call_later(second, say("call_later, second"));
    event_loop.call_at(started + first, say("call_at, first"));
    event_loop.call_later(Duration::ZERO, say("call_later, no delay"));
    event_loop.call_soon(say("call_soon"));
    let unwanted = event_loop.call_later(first, say("never"));
    println!("cancelled: {}", unwanted.cancel());
    let handle = event_loop.handle();
    event_loop.call_later(first.max(second) + first, move || handle.stop());
    event_loop.run_forever();
    println!("stopped after {:.2} s", (event_loop.time() - started).as_secs_f64());

    // Stopped before it runs: exactly one pass. What that schedules stays for the next run.
    event_loop.call_soon(|| {
        println!("in the one pass");
        call_soon(|| println!("in the next run"));
    });
    event_loop.stop();
    event_loop.run_forever();
    println!("one pass is over");

    // Another thread wakes the sleeping loop.
    let handle = event_loop.handle();
    let other = std::thread::spawn(move || {
        handle.call_soon_threadsafe(|| println!("from another thread")).expect("the loop is open");
        handle.stop();
    });
    event_loop.run_forever();
    other.join().expect("it does not panic");

    let handle = event_loop.handle();
    event_loop.close();
    println!("closed: {event_loop:?}");
    println!("afterwards: {}", handle.call_soon_threadsafe(|| ()).expect_err("it is closed"));
}
