//! Our reactor as a guest of tokio's.

use evenloop_core::Reactor;
use evenloop_core::shim::StdArc;
use evenloop_streams::{GuestDriver, Turned, guest};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

/// A reactor that tokio drives, from the first descriptor on.
pub(crate) fn reactor_on(handle: &Handle) -> StdArc<dyn Reactor> {
    let handle = handle.clone();
    guest(move |driver| {
        let _entered = handle.enter();
        // Its new name is unsafe, for types that lie about their descriptor; the driver owns its own.
        #[allow(deprecated)]
        let watch = || AsyncFd::with_interest(driver, Interest::READABLE);
        // tokio panics where it has no I/O driver, and offers no way to ask.
        let watched = catch_unwind(AssertUnwindSafe(watch));
        let driver = watched.unwrap_or_else(|_| {
            let why = "the tokio runtime has no I/O driver: build it with `enable_io` or `enable_all`";
            Err(io::Error::new(io::ErrorKind::Unsupported, why))
        })?;
        handle.spawn(drive(driver));
        Ok(())
    })
}

/// The task that tokio runs for us. Ends with the last who holds the reactor; tokio drops it when it shuts down.
async fn drive(mut driver: AsyncFd<GuestDriver>) {
    while let Ok(mut readable) = driver.readable_mut().await {
        match readable.get_inner_mut().turn() {
            Ok(Turned::Dry) => readable.clear_ready(), // only if no news has come since
            Ok(Turned::More) => tokio::task::yield_now().await,
            Ok(Turned::Ended) | Err(_) => return,
        }
    }
}
