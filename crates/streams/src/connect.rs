//! Connections to a host by name, and asyncio's `open_connection`.
//!
//! A name may have many addresses, some of which do not answer. So they are tried staggered (RFC 8305, "Happy Eyeballs"):
//! the next one starts when the one before has failed, or has not answered for 250 ms; the first that answers wins and the
//! others are dropped. Families take turns, beginning with the resolver's first choice.

use crate::error::IoFailure;
use crate::reader::StreamReader;
use crate::resolve::lookup_host;
use crate::split::{OwnedReadHalf, OwnedWriteHalf};
use crate::tcp::TcpStream;
use crate::unix::UnixStream;
use crate::writer::StreamWriter;
use evenloop_core::shim::StdArc;
use evenloop_core::{Runtime, Staggered};
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

/// How long an address may be silent before the next one is tried beside it: RFC 8305's recommendation.
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to `host`, a name or an address, and answers asyncio's reader and writer. Small writes are sent at once
/// (`TCP_NODELAY`), as asyncio does.
///
/// # Cancel safety
///
/// **Cancel safe.** Dropping the future closes every socket it has opened.
///
/// # Errors
///
/// The name has no address; or none of them answered: see [`ConnectFailures`]; or there is no reactor here.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// let (mut reader, mut writer) = evenloop_streams::open_connection("localhost", 8888).await?;
/// writer.write(b"hello\n")?;
/// writer.drain().await?;
/// let answer = reader.readline().await?;
/// writer.close();
/// writer.wait_closed().await?;
/// # Ok(()) }
/// ```
#[doc(alias = "connect")]
pub async fn open_connection(host: &str, port: u16) -> io::Result<(StreamReader, StreamWriter)> {
    Runtime::current_reactor("open_connection").map_err(io::Error::other)?;
    let stream = TcpStream::connect_host(host, port).await?;
    stream.set_nodelay(true)?;
    Ok(tcp_pair(stream))
}

/// Connects to the Unix socket at `path`, and answers asyncio's reader and writer.
///
/// # Cancel safety
///
/// **Cancel safe.** Dropping the future closes the socket.
///
/// # Errors
///
/// As [`UnixStream::connect`].
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut reader, mut writer) = evenloop_streams::open_unix_connection("/run/service.sock").await?;
/// writer.write(b"status\n")?;
/// writer.drain().await?;
/// println!("{}", String::from_utf8_lossy(&reader.readline().await?));
/// # Ok(()) }
/// ```
pub async fn open_unix_connection(
    path: impl AsRef<Path>,
) -> io::Result<(StreamReader<OwnedReadHalf<UnixStream>>, StreamWriter<OwnedWriteHalf<UnixStream>>)> {
    Ok(unix_pair(UnixStream::connect(path).await?))
}

pub(crate) fn tcp_pair(stream: TcpStream) -> (StreamReader, StreamWriter) {
    let (read, write) = stream.into_split();
    (StreamReader::new(read), StreamWriter::sending_now(write, |stream, bytes| stream.try_write(bytes)))
}

pub(crate) fn unix_pair(
    stream: UnixStream,
) -> (StreamReader<OwnedReadHalf<UnixStream>>, StreamWriter<OwnedWriteHalf<UnixStream>>) {
    let (read, write) = stream.into_split();
    (StreamReader::new(read), StreamWriter::sending_now(write, |stream, bytes| stream.try_write(bytes)))
}

impl TcpStream {
    /// Connects to `host`, a name or an address, trying its addresses staggered.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Dropping the future closes every socket it has opened.
    ///
    /// # Errors
    ///
    /// The name has no address; or none of them answered: see [`ConnectFailures`]; or there is no reactor here.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> std::io::Result<()> {
    /// use evenloop_streams::TcpStream;
    ///
    /// let stream = TcpStream::connect_host("example.org", 80).await?;
    /// println!("answered: {}", stream.peer_addr()?);
    /// # Ok(()) }
    /// ```
    pub async fn connect_host(host: &str, port: u16) -> io::Result<Self> {
        Runtime::current_reactor("TcpStream::connect_host").map_err(io::Error::other)?;
        let addresses = lookup_host(host, port).await?;
        if addresses.is_empty() {
            let none = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            return Err(IoFailure::wrap("connecting to", host, none));
        }
        Self::connect_any(&addresses).await
    }

    /// Connects to the first of `addresses` that answers, trying them staggered, families by turns.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Dropping the future closes every socket it has opened.
    ///
    /// # Errors
    ///
    /// None answered: the one failure, or [`ConnectFailures`] with all of them. Or there is no reactor here.
    ///
    /// # Panics
    ///
    /// `connect_any` needs at least one address.
    ///
    /// # Examples
    ///
    /// ```
    /// use evenloop_streams::{ConnectFailures, TcpStream};
    /// use std::net::SocketAddr;
    ///
    /// async fn first_of(servers: &[SocketAddr]) -> std::io::Result<TcpStream> {
    ///     let tried = TcpStream::connect_any(servers).await;
    ///     if let Some(failures) = tried.as_ref().err().and_then(ConnectFailures::of) {
    ///         failures.iter().for_each(|(server, why)| eprintln!("{server}: {why}"));
    ///     }
    ///     tried
    /// }
    /// # let _ = first_of(&[]);
    /// ```
    #[doc(alias = "happy_eyeballs")]
    pub async fn connect_any(addresses: &[SocketAddr]) -> io::Result<Self> {
        assert!(!addresses.is_empty(), "`connect_any` needs at least one address");
        let reactor = Runtime::current_reactor("TcpStream::connect_any").map_err(io::Error::other)?;
        let connect = |address| -> Attempt { Box::pin(Self::connect_with(address, StdArc::clone(&reactor))) };
        match addresses {
            [address] => connect(*address).await,
            addresses => {
                let turns = taking_turns(addresses);
                // Without timers an address is tried when the one before has failed.
                let timers = Runtime::current_timers("TcpStream::connect_any").ok();
                let delay = timers.map(|timers| (timers, STAGGER));
                let mut race = Staggered::new(turns.iter().map(|address| connect(*address)), delay);
                match poll_fn(|cx| race.poll_winner(cx)).await {
                    Some((_, stream)) => Ok(stream),
                    None => {
                        let failed = race.into_parts().failed.into_iter();
                        Err(ConnectFailures::collect(failed.map(|(at, error)| (turns[at], error)).collect()))
                    }
                }
            }
        }
    }
}

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// The families by turns, each in its own order.
fn taking_turns(addresses: &[SocketAddr]) -> VecDeque<SocketAddr> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) =
        addresses.iter().partition(|address| address.is_ipv4() == first_is_v4);
    let mut turns = VecDeque::with_capacity(addresses.len());
    while let Some(address) = first.pop_front() {
        turns.push_back(address);
        std::mem::swap(&mut first, &mut second);
        if first.is_empty() {
            std::mem::swap(&mut first, &mut second);
        }
    }
    turns
}

/// None of a host's addresses answered: each with its reason, in the order of the failures.
///
/// Lies inside the `io::Error`, whose kind is that of the last failure.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use evenloop_streams::{ConnectFailures, open_connection};
///
/// if let Err(error) = open_connection("example.org", 81).await {
///     for (address, why) in ConnectFailures::of(&error).iter().flat_map(|failures| failures.iter()) {
///         eprintln!("{address}: {why}");
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ConnectFailures(Vec<(SocketAddr, io::Error)>);

impl ConnectFailures {
    /// One failure is itself; several become one error.
    fn collect(mut failed: Vec<(SocketAddr, io::Error)>) -> io::Error {
        let last = failed.pop().expect("at least one address was tried");
        if failed.is_empty() {
            return last.1;
        }
        let kind = last.1.kind();
        failed.push(last);
        io::Error::new(kind, Self(failed))
    }

    /// The failures inside `error`, if several addresses were tried.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Each address that was tried, and why it failed.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &io::Error)> {
        self.0.iter().map(|(address, error)| (*address, error))
    }
}

impl fmt::Display for ConnectFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no address answered: ")?;
        for (place, (_, error)) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if place > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl Error for ConnectFailures {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let turns = |addresses: &[&str]| {
            let addresses: Vec<SocketAddr> =
                addresses.iter().map(|address| address.parse().unwrap()).collect();
            taking_turns(&addresses).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            turns(&["[::1]:1", "[::1]:2", "[::1]:3", "1.1.1.1:1", "1.1.1.1:2"]),
            "[::1]:1 1.1.1.1:1 [::1]:2 1.1.1.1:2 [::1]:3"
        );
        assert_eq!(turns(&["1.1.1.1:1", "1.1.1.1:2", "[::1]:1"]), "1.1.1.1:1 [::1]:1 1.1.1.1:2");
        assert_eq!(turns(&["1.1.1.1:1"]), "1.1.1.1:1");
    }
}
