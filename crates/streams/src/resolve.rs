//! Names to addresses, off the loop.
//!
//! The system's resolver blocks, so it runs on one of the runtime's threads for blocking jobs. An address that is written
//! as numbers is not a name and takes no thread.

use crate::error::IoFailure;
use crate::off_loop::off_loop;
use evenloop_core::Runtime;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

/// From how long on a look-up is reported in debug mode, as in asyncio.
const SLOW: Duration = Duration::from_millis(100);

/// The addresses of `host`, in the resolver's order: asyncio's `getaddrinfo`. A loop in debug mode reports one that takes
/// 100 ms or more, its waiting for a thread not counted.
///
/// # Cancel safety
///
/// **Cancel safe.** The thread ends its lookup, and nobody looks at it.
///
/// # Errors
///
/// The resolver's reason, with the name; or the runtime has no threads for blocking jobs, or has shut them down meanwhile.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// let addresses = evenloop_streams::lookup_host("localhost", 80).await?;
/// # Ok(()) }
/// ```
#[doc(alias = "getaddrinfo")]
pub async fn lookup_host(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let name = host.to_owned();
    let timers = Runtime::current_timers("lookup_host").ok();
    // By the clock of the runtime, if it has one.
    let now = move || timers.as_ref().map_or_else(Instant::now, |timers| timers.now());
    let lookup = move || {
        let began = now();
        let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect);
        (found, now().saturating_duration_since(began))
    };
    let (found, took) = off_loop("lookup_host", lookup).await?;
    if took >= SLOW {
        Runtime::report_in_debug(|| format!("looking up {host} took {took:.3?}"));
    }
    found.map_err(|error| IoFailure::wrap("looking up", host, error))
}
