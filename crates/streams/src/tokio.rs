//! tokio's `AsyncRead` and `AsyncWrite`, directly on the streams (feature `tokio`).
//!
//! With them tokio-util's codecs, tokio-postgres, redis and whatever else is written against tokio's traits run on these
//! streams, under Evenloop's loop or any other host. Only the traits come from tokio; what asks for tokio's own sockets,
//! timers or tasks still needs a running tokio.
//!
//! Discussion: safe code cannot read into memory that nobody has written, so the room is zeroed first; at most
//! [`MOST`] bytes of it, and only when there is something to read. A buffer that is used again is zeroed once.

use crate::foreign::Kernel;
use crate::split::sealed::Duplex;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most that one call reads.
const MOST: usize = 64 * 1024;

/// Reads into `buf` by whatever `poll_by` reads from.
fn fill(
    buf: &mut ReadBuf<'_>,
    poll_by: impl FnOnce(usize, &mut dyn FnMut(Kernel<'_>) -> io::Result<usize>) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<()>> {
    let room = buf.remaining().min(MOST);
    let polled = poll_by(room, &mut |kernel| kernel.read(&mut *buf.initialize_unfilled_to(room)));
    polled.map_ok(|n| buf.advance(n))
}

crate::foreign::reads!(AsyncRead, &mut ReadBuf<'_>, fill);
crate::foreign::writes!(AsyncWrite);
