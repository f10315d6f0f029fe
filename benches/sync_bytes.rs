//! How many bytes does a primitive take, and a waiter of it?
//!
//! The primitive: its own size, with `u64` as the value where there is one. The waiter: its future's size, and what is
//! allocated for a thousand that wait at a time, divided by a thousand. No time is measured here. Not counted: what a
//! task around the future takes, and the allocator's own rounding.

use evenloop_benches::counting::{Counting, bytes};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const WAITERS: usize = 1000;

/// Prints a line: who, the primitive's size, the future's, and what a waiter allocates.
fn line<P, F: Future>(who: &str, primitive: &P, new: impl Fn(&P) -> F) {
    let mut waiting: Vec<Pin<Box<F>>> = (0..WAITERS).map(|_| Box::pin(new(primitive))).collect();
    let before = bytes();
    for future in &mut waiting {
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let allocated = bytes() - before;
    println!(
        "{who:<24} {:>9} {:>9} {:>11.1}",
        size_of::<P>(),
        size_of::<F>(),
        allocated as f64 / WAITERS as f64
    );
}

/// Prints the lines of one lock: held, so that all wait. Two lifetimes that only leaking unites.
macro_rules! held {
    ($who:literal, $primitive:expr, $hold:ident, $wait:ident) => {
        let primitive: &'static _ = Box::leak(Box::new($primitive));
        std::mem::forget(primitive.$hold());
        line($who, primitive, |_| primitive.$wait());
    };
}

fn main() {
    println!("{:<24} {:>9} {:>9} {:>11}", "", "primitive", "future", "per waiter");
    held!("Lock evenloop", evenloop_sync::Lock::new(0_u64), try_acquire, acquire);
    held!("Lock tokio", tokio::sync::Mutex::new(0_u64), try_lock, lock);
    held!("Lock async-lock", async_lock::Mutex::new(0_u64), try_lock, lock);
    held!("Lock futures", futures::lock::Mutex::new(0_u64), try_lock, lock);
    held!("Lock asyncband", asyncband::mutex::Mutex::new(0_u64), try_lock, lock);
    held!("RwLock evenloop", evenloop_sync::RwLock::new(0_u64), try_write, read);
    held!("RwLock tokio", tokio::sync::RwLock::new(0_u64), try_write, read);
    held!("RwLock async-lock", async_lock::RwLock::new(0_u64), try_write, read);
    held!("RwLock asyncband", asyncband::rwlock::RwLock::new(0_u64), try_write, read);
    held!("Semaphore evenloop", evenloop_sync::Semaphore::new(1), try_acquire, acquire);
    held!("Semaphore tokio", tokio::sync::Semaphore::new(1), try_acquire, acquire);
    held!("Semaphore async-lock", async_lock::Semaphore::new(1), try_acquire, acquire);
    line("Event evenloop", &evenloop_sync::Event::new(), |_| {
        static EVENT: evenloop_sync::Event = evenloop_sync::Event::new();
        EVENT.wait()
    });
    line("Notify tokio", &tokio::sync::Notify::new(), |_| {
        static NOTIFY: tokio::sync::Notify = tokio::sync::Notify::const_new();
        NOTIFY.notified()
    });
    let barrier: &'static _ = Box::leak(Box::new(evenloop_sync::Barrier::new(10 * WAITERS)));
    line("Barrier evenloop", barrier, |_| barrier.wait());
    let barrier: &'static _ = Box::leak(Box::new(tokio::sync::Barrier::new(10 * WAITERS)));
    line("Barrier tokio", barrier, |_| barrier.wait());
}
