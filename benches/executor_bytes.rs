//! How many bytes does a task take that waits?
//!
//! Ten thousand tasks are spawned, run once, and wait for ever; what is allocated then beyond what was before, divided by
//! their number. That is the task with its future and whatever the executor keeps for it: its place in a list of all, in a
//! queue, in a set. Each has left its waker in a list, as what waits does; the handle is let go of. What an executor allocates
//! for many tasks at once counts as a whole.
//!
//! Two futures: one that holds nothing but its own state (a byte), and one that holds 64 bytes across the wait. No time is
//! measured here. Not counted: the allocator's own rounding.

use evenloop_benches::counting::{Counting, bytes};
use evenloop_benches::executors::{Evenloop, Futures, Host, Minimal, Monoio, Smol, Tokio, yield_once};
use std::cell::RefCell;
use std::future::poll_fn;
use std::hint::black_box;
use std::task::{Poll, Waker};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TASKS: usize = 10_000;

thread_local! {
    static WAKERS: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
}

/// Waits for whoever takes the waker from the list: nobody does.
async fn wait() {
    poll_fn(|cx| {
        WAKERS.with_borrow_mut(|wakers| wakers.push(cx.waker().clone()));
        Poll::<()>::Pending
    })
    .await;
}

/// Bytes per waiting task of `H`.
fn measure<H: Host, F: Future<Output = ()> + 'static>(new: fn() -> F) -> f64 {
    WAKERS.set(Vec::with_capacity(TASKS));
    let measured = H::run(async move {
        // What queues and sets grow by with the first tasks is theirs to keep.
        let before = bytes();
        for _ in 0..TASKS {
            H::detach(H::spawn(new()));
        }
        // Not in the main future: monoio polls that one for as long as it yields.
        H::join(H::spawn(async {
            while WAKERS.with_borrow(Vec::len) < TASKS {
                yield_once().await;
            }
            // A few turns more, in which a queue may give back what it needed for so many.
            for _ in 0..4 {
                yield_once().await;
            }
        }))
        .await;
        (bytes() - before) as f64 / TASKS as f64
    });
    drop(WAKERS.take());
    measured
}

async fn empty() {
    wait().await;
}

async fn with_64_bytes() {
    let held = black_box([0_u64; 8]);
    wait().await;
    black_box(&held);
}

fn line<H: Host>() {
    println!("{:<12} {:>12.1} {:>20.1}", H::NAME, measure::<H, _>(empty), measure::<H, _>(with_64_bytes));
}

fn main() {
    let (small, large) = (size_of_val(&empty()), size_of_val(&with_64_bytes()));
    println!("{:<12} {:>12} {:>20}", "bytes a task", format!("future: {small}"), format!("future: {large}"));
    line::<Evenloop>();
    line::<Tokio>();
    line::<Smol>();
    line::<Futures>();
    line::<Monoio>();
    line::<Minimal>();
}
