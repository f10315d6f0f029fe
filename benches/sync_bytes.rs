//! How many bytes does a primitive take, and a waiter of it?
//!
//! The primitive: its own size and what it allocates when it is made, with `u64` as the value where there is one; a channel
//! with both of its ends. The waiter: its future's size, and what is allocated for a thousand that wait at a time, divided
//! by a thousand. No time is measured here. Not counted: what a task around the future takes, and the allocator's own
//! rounding.

use evenloop_benches::counting::{Counting, bytes};
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Waker};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const WAITERS: usize = 1000;

/// Prints a line: who, the primitive's size, the future's, and what a waiter allocates.
fn line<P, F: Future>(who: &str, primitive: &P, new: impl Fn(&P) -> F) {
    line_of(who, size_of::<P>(), || new(primitive));
}

/// As [`line`], for what was made by `make`: with all that this allocates, and never dropped.
fn made<P: 'static, F: Future>(who: &str, make: impl FnOnce() -> P, new: impl Fn(&'static P) -> F) {
    let before = bytes();
    let primitive = make();
    let all = size_of::<P>() + bytes() - before;
    let primitive = Box::leak(Box::new(primitive));
    line_of(who, all, || new(primitive));
}

fn line_of<F: Future>(who: &str, primitive: usize, new: impl Fn() -> F) {
    let mut waiting: Vec<Pin<Box<F>>> = (0..WAITERS).map(|_| Box::pin(new())).collect();
    let before = bytes();
    for future in &mut waiting {
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let allocated = bytes() - before;
    println!("{who:<28} {:>9} {:>9} {:>11.1}", primitive, size_of::<F>(), allocated as f64 / WAITERS as f64);
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
    println!("{:<28} {:>9} {:>9} {:>11}", "", "primitive", "future", "per waiter");
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
    made("Condition evenloop", evenloop_sync::Condition::new, |condition| {
        let lock: &'static _ = Box::leak(Box::new(evenloop_sync::Lock::new(0_u64)));
        condition.wait(lock.try_acquire().expect("free"))
    });
    made("Limiter evenloop", || evenloop_sync::Limiter::new(0), evenloop_sync::Limiter::acquire);
    made("Future evenloop", evenloop_sync::Future::<u64>::new, |future| future.wait());
    made("Queue of 64 evenloop", || evenloop_sync::Queue::<u64>::new(64), evenloop_sync::Queue::get);
    made("channel of 64 async-channel", || async_channel::bounded::<u64>(64), |ends| ends.1.recv());
    made("channel of 64 flume", || flume::bounded::<u64>(64), |ends| ends.1.recv_async());
    made("channel of 64 kanal", || kanal::bounded_async::<u64>(64), |ends| ends.1.recv());
    made("channel of 64 asyncband", || asyncband::mpmc::bounded::<u64>(64), |ends| ends.1.recv());
    // One waiter each: the channel is in the waiter.
    made("oneshot evenloop", evenloop_sync::oneshot::channel::<u64>, |_| {
        kept(evenloop_sync::oneshot::channel::<u64>())
    });
    made("oneshot tokio", tokio::sync::oneshot::channel::<u64>, |_| {
        kept(tokio::sync::oneshot::channel::<u64>())
    });
    made("oneshot futures", futures::channel::oneshot::channel::<u64>, |_| {
        kept(futures::channel::oneshot::channel::<u64>())
    });
    made("oneshot oneshot", oneshot::async_channel::<u64>, |_| kept(oneshot::async_channel::<u64>()));
    made("oneshot asyncband", asyncband::oneshot::channel::<u64>, |_| {
        kept(asyncband::oneshot::channel::<u64>())
    });
}

/// The receiver's future; the sender is kept for ever.
fn kept<S, R: IntoFuture>((sender, receiver): (S, R)) -> R::IntoFuture {
    std::mem::forget(sender);
    receiver.into_future()
}
