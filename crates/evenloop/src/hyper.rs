//! hyper on Evenloop's loop: its timer and its executor (feature `hyper`).
//!
//! The streams implement hyper's `Read` and `Write` themselves, so nothing has to be wrapped: a [`TcpStream`] goes into
//! hyper's `serve_connection` or `handshake` as it is. [`Timer`] gives hyper's timeouts the loop's clock, a virtual one as
//! well, and [`Executor`] runs hyper's background work as tasks of the loop.
//!
//! ```no_run
//! use evenloop::streams::TcpStream;
//! use hyper::client::conn::http1::handshake;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let stream = TcpStream::connect(([127, 0, 0, 1], 80).into()).await?;
//! let (mut sender, connection) = handshake(stream).await?;
//! let connection = evenloop::create_task(connection); // moves the bytes
//! let request = hyper::Request::get("/").header("host", "localhost").body(String::new())?;
//! println!("{}", sender.send_request(request).await?.status());
//! # drop(connection);
//! # Ok(()) }
//! ```
//!
//! [`TcpStream`]: crate::streams::TcpStream

use evenloop_core::Runtime;
use hyper::rt::Sleep;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// hyper's timer on the runtime that is current where it is asked: for `Builder::timer`.
///
/// # Panics
///
/// Its sleeps panic, as [`sleep`](crate::sleep) does, where no runtime with timers is current.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timer;

impl hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Nap(evenloop_time::sleep(duration)))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Nap(evenloop_time::sleep_until(deadline)))
    }

    fn now(&self) -> Instant {
        let by_its_clock = |runtime: &Runtime| Some(runtime.timers_for("Timer::now").ok()?.now());
        Runtime::with_current(by_its_clock).flatten().unwrap_or_else(Instant::now)
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, new_deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<Nap>() {
            Some(nap) => nap.get_mut().0.reset(new_deadline),
            None => *sleep = hyper::rt::Timer::sleep_until(self, new_deadline),
        }
    }
}

/// A sleep of ours, as hyper knows it.
struct Nap(evenloop_time::Sleep);

impl Sleep for Nap {}

impl Future for Nap {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// Runs hyper's background work as tasks of the loop that runs here. The work need not be `Send`.
///
/// # Panics
///
/// `execute` panics, as [`create_task`](crate::create_task) does, where no loop runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Executor;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Executor {
    #[track_caller]
    fn execute(&self, work: F) {
        drop(crate::create_task(work)); // it runs on
    }
}
