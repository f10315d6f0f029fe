//! hyper's `Read` and `Write`, directly on the streams (feature `hyper`).
//!
//! With them hyper's clients and servers, and so axum and tonic, run on these streams, under Evenloop's loop or any other
//! host. hyper's timer and executor are the host's: for Evenloop's own loop they are in the facade (`evenloop::hyper`).
//!
//! hyper hands out room that nobody has written yet, behind unsafe calls. The kernel writes into it and says how much:
//!
//! H1. Room is only ever given to the kernel, which writes and does not look.
//! H2. The cursor moves by as many bytes as the kernel says it wrote.

#![allow(unsafe_code)]

use crate::foreign::Kernel;
use crate::split::sealed::Duplex;
use hyper::rt::{Read, ReadBufCursor, Write};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Reads into `buf` by whatever `poll_by` reads from.
fn fill(
    mut buf: ReadBufCursor<'_>,
    poll_by: impl FnOnce(usize, &mut dyn FnMut(Kernel<'_>) -> io::Result<usize>) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<()>> {
    let polled = poll_by(buf.remaining(), &mut |kernel| {
        // SAFETY: H1: nothing that was written before becomes unwritten, for the kernel writes bytes or leaves them.
        let room = unsafe { buf.as_mut() };
        let (written, _) = kernel.read(room)?;
        Ok(written.len())
    });
    polled.map_ok(|n| {
        // SAFETY: H2: the kernel has written these `n` bytes, at the start of the room.
        unsafe { buf.advance(n) }
    })
}

crate::foreign::reads!(Read, ReadBufCursor<'_>, fill);
crate::foreign::writes!(Write);
