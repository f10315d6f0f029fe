//! Our reactor as a guest of smol's.

use crate::Smol;
use evenloop_core::Reactor;
use evenloop_core::shim::StdArc;
use evenloop_streams::{GuestDriver, Turned, guest};
use smol::Async;
use std::io;
use std::os::fd::AsFd;

/// A reactor that smol drives, from the first descriptor on.
pub(crate) fn reactor_on(smol: &StdArc<Smol>) -> StdArc<dyn Reactor> {
    let smol = smol.clone();
    guest(move |driver| smol.place.spawn(Box::pin(drive(driver))).map_err(|not| io::Error::other(not.why)))
}

/// The task that smol runs for us. Ends with the last who holds the reactor; an executor that is dropped drops it.
async fn drive(mut driver: GuestDriver) {
    // A second descriptor for the same: smol lends nothing mutably that it watches.
    let watched = driver.as_fd().try_clone_to_owned().and_then(Async::new_nonblocking);
    let Ok(watched) = watched else { return };
    while watched.readable().await.is_ok() {
        loop {
            match driver.turn() {
                Ok(Turned::Dry) => break,
                Ok(Turned::More) => smol::future::yield_now().await,
                Ok(Turned::Ended) | Err(_) => return,
            }
        }
    }
}
