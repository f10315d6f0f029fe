//! Work that blocks, on one of the runtime's threads for it.
//!
//! A job may come to nothing: the pool drops it unrun when it is shut down, and it may panic. Whoever waits must not wait on
//! then, so the job holds a [`Promise`], which answers when it is dropped.

use evenloop_core::Runtime;
use evenloop_core::shim::{Mutex, StdArc};
use evenloop_core::watch::{self, On};
use std::future::poll_fn;
use std::io;
use std::task::{Poll, Waker};

/// What the thread and the waiting task share.
struct Shared<T> {
    done: Option<Result<T, Gone>>,
    waker: Option<Waker>,
}

/// The job was dropped before it was done.
struct Gone;

/// The job's side: answers once, at the latest when it is dropped.
struct Promise<T>(StdArc<Mutex<Shared<T>>>);

impl<T> Promise<T> {
    fn keep(self, done: T) {
        self.0.lock().done = Some(Ok(done));
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let waker = {
            let mut shared = self.0.lock();
            shared.done.get_or_insert(Err(Gone));
            shared.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

/// Takes its waker away when it is dropped: the job may go on for long, and has nobody to wake then.
struct Leaves<'a, T>(&'a Mutex<Shared<T>>);

impl<T> Drop for Leaves<'_, T> {
    fn drop(&mut self) {
        let waker = self.0.lock().waker.take();
        drop(waker);
    }
}

/// Runs `job` on a thread and waits for what it gives. Dropped meanwhile, the job goes on, and what it gives is dropped. An
/// error if it cannot be run, is dropped unrun, or panics.
pub(crate) async fn off_loop<T, F>(call: &'static str, job: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let spawn = Runtime::current_spawn(call).map_err(io::Error::other)?;
    let shared = StdArc::new(Mutex::new(Shared { done: None, waker: None }));
    let promise = Promise(shared.clone());
    let job = move || promise.keep(job());
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
    done.await.map_err(|Gone| {
        io::Error::other(format!(
            "`{call}`: its job came to nothing: it panicked, or its threads were shut down"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenloop_core::{BoxFuture, BoxJob, LocalBoxFuture, NotSpawned, Spawn};
    use futures::executor::block_on;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Does this with a job.
    struct Host(fn(BoxJob));

    impl Spawn for Host {
        fn spawn(&self, value: BoxFuture) -> Result<(), NotSpawned<BoxFuture>> {
            Err(NotSpawned { value, why: "it has threads only" })
        }

        fn spawn_local(&self, value: LocalBoxFuture) -> Result<(), NotSpawned<LocalBoxFuture>> {
            Err(NotSpawned { value, why: "it has threads only" })
        }

        fn spawn_blocking(&self, job: BoxJob) -> Result<(), NotSpawned<BoxJob>> {
            (self.0)(job);
            Ok(())
        }
    }

    fn waits_for<T: Send + 'static>(
        host: fn(BoxJob),
        job: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let runtime = Runtime::builder("threads").spawn(StdArc::new(Host(host))).build();
        let _entered = runtime.enter();
        block_on(off_loop("call", job))
    }

    #[test]
    fn what_a_job_gives_comes() {
        assert_eq!(waits_for(|job| job(), || 5).unwrap(), 5);
        assert_eq!(waits_for(|job| drop(std::thread::spawn(job)), || 5).unwrap(), 5);
    }

    /// Whoever waited, waited for ever.
    #[test]
    fn a_job_that_comes_to_nothing_is_an_error() {
        let said = "`call`: its job came to nothing: it panicked, or its threads were shut down";
        assert_eq!(waits_for(drop, || 5).unwrap_err().to_string(), said);
        let panics = |job: BoxJob| drop(catch_unwind(AssertUnwindSafe(job)));
        assert_eq!(waits_for(panics, || panic!("on purpose")).unwrap_err().to_string(), said);
        assert_eq!(
            waits_for(|job| drop(std::thread::spawn(|| drop(job))), || 5).unwrap_err().to_string(),
            said
        );
    }
}
