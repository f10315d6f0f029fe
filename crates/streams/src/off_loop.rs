//! Work that blocks, on one of the runtime's threads for it.

use evenloop_core::Runtime;
use evenloop_core::shim::{Mutex, StdArc};
use evenloop_core::watch::{self, On};
use std::future::poll_fn;
use std::io;
use std::task::{Poll, Waker};

/// What the thread and the waiting task share.
struct Shared<T> {
    done: Option<T>,
    waker: Option<Waker>,
}

/// Takes its waker away when it is dropped: the job may go on for long, and has nobody to wake then.
struct Leaves<'a, T>(&'a Mutex<Shared<T>>);

impl<T> Drop for Leaves<'_, T> {
    fn drop(&mut self) {
        let waker = self.0.lock().waker.take();
        drop(waker);
    }
}

/// Runs `job` on a thread and waits for what it gives. Dropped meanwhile, the job goes on, and what it gives is dropped.
pub(crate) async fn off_loop<T, F>(call: &'static str, job: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let spawn = Runtime::current_spawn(call).map_err(io::Error::other)?;
    let shared = StdArc::new(Mutex::new(Shared { done: None, waker: None }));
    let job = {
        let shared = shared.clone();
        move || {
            let done = job();
            let waker = {
                let mut shared = shared.lock();
                shared.done = Some(done);
                shared.waker.take()
            };
            waker.into_iter().for_each(Waker::wake);
        }
    };
    spawn.spawn_blocking(Box::new(job)).map_err(|not| io::Error::other(not.why))?;
    let _leaves = Leaves(&shared);
    let done = poll_fn(|cx| {
        let mut waker = Some(cx.waker().clone());
        let done = {
            let mut shared = shared.lock();
            std::mem::swap(&mut shared.waker, &mut waker);
            shared.done.take()
        };
        watch::noted(done.map_or(Poll::Pending, Poll::Ready), cx, call, || On::Thread)
    });
    Ok(done.await)
}
