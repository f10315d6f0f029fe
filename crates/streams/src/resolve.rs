//! Names to addresses, off the loop.
//!
//! The system's resolver blocks, so it runs on one of the runtime's threads for blocking jobs. An address that is written
//! as numbers is not a name and takes no thread.

use crate::error::IoFailure;
use evenloop_core::Runtime;
use evenloop_core::shim::{Mutex, StdArc};
use evenloop_core::watch::{self, On};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::task::{Poll, Waker};

/// What the thread and the waiting task share.
#[derive(Default)]
struct Lookup {
    found: Option<io::Result<Vec<SocketAddr>>>,
    waker: Option<Waker>,
}

/// The addresses of `host`, in the resolver's order: asyncio's `getaddrinfo`.
///
/// # Cancel safety
///
/// **Cancel safe.** The thread ends its lookup, and nobody looks at it.
///
/// # Errors
///
/// The resolver's reason, with the name; or the runtime has no threads for blocking jobs.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// let addresses = evenloop_streams::lookup_host("localhost", 80).await?;
/// # Ok(()) }
/// ```
pub async fn lookup_host(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let spawn = Runtime::current_spawn("lookup_host").map_err(io::Error::other)?;
    let lookup = StdArc::new(Mutex::new(Lookup::default()));
    let job = {
        let (lookup, host) = (lookup.clone(), host.to_owned());
        move || {
            let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
            let waker = {
                let mut lookup = lookup.lock();
                lookup.found = Some(found);
                lookup.waker.take()
            };
            waker.into_iter().for_each(Waker::wake);
        }
    };
    spawn.spawn_blocking(Box::new(job)).map_err(|not| io::Error::other(not.why))?;
    let found = poll_fn(|cx| {
        let mut waker = Some(cx.waker().clone());
        let found = {
            let mut lookup = lookup.lock();
            std::mem::swap(&mut lookup.waker, &mut waker);
            lookup.found.take()
        };
        watch::noted(found.map_or(Poll::Pending, Poll::Ready), cx, "lookup_host", || On::Thread)
    });
    found.await.map_err(|error| IoFailure::wrap("looking up", host, error))
}
