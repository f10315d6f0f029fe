//! A file, sent through a connection: what the handle's `sendfile` polls.
//!
//! While it goes on nothing else is written (`sends_file`), so bytes and file do not mix. The stream below knows the task's
//! waker (C3); the task wakes whoever sends the file when it finds that nothing is unsent.

use super::{Connection, Phase};
use crate::sendfile::TakesFiles;
use crate::transport::wire::Wire;
use futures_io::AsyncWrite;
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// The writing side of a connection, for one file. Dropping it gives the side back.
pub(in crate::transport) struct ForFile(Rc<Connection>);

impl ForFile {
    pub(in crate::transport) fn begin(connection: &Rc<Connection>) -> io::Result<Self> {
        connection.check_writable("sendfile")?;
        connection.sends_file.set(true);
        Ok(Self(connection.clone()))
    }

    /// Ready when everything that was written is on its way.
    pub(in crate::transport) fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_open(cx)?;
        let connection = &self.0;
        match connection.unsent.borrow().is_empty() && connection.flushed.get() {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    /// An error if the connection ends meanwhile.
    fn poll_open(&self, cx: &mut Context<'_>) -> io::Result<()> {
        let known = self.0.holder.borrow().as_ref().is_some_and(|holder| holder.will_wake(cx.waker()));
        if !known {
            let before = self.0.holder.replace(Some(cx.waker().clone()));
            drop(before);
        }
        match self.0.phase.get() {
            Phase::Open => Ok(()),
            _ => {
                let message = "the connection ended before the file was sent";
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, message))
            }
        }
    }

    /// Has `call` use the stream as the task would (C3). A failure of the stream is the connection's end.
    fn poll_wire<R>(
        &self,
        cx: &mut Context<'_>,
        call: impl FnOnce(&mut Wire, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        self.poll_open(cx)?;
        let polled = {
            let waker = self.0.waker.borrow();
            let mut wire = self.0.wire.borrow_mut();
            let Some(wire) = wire.as_mut() else { return Poll::Pending };
            call(wire, &mut Context::from_waker(&waker))
        };
        Poll::Ready(ready!(polled).map_err(|error| {
            if error.kind() == io::ErrorKind::Unsupported {
                return error; // the kernel cannot send this file by itself
            }
            let answer = io::Error::new(error.kind(), error.to_string());
            self.0.end(Some(error));
            answer
        }))
    }
}

impl Drop for ForFile {
    fn drop(&mut self) {
        self.0.sends_file.set(false);
        let holder = self.0.holder.borrow_mut().take();
        drop(holder);
    }
}

impl AsyncWrite for ForFile {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_wire(cx, |wire, cx| Pin::new(&mut wire.io).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_wire(cx, |wire, cx| Pin::new(&mut wire.io).poll_flush(cx))
    }

    /// Never called: a file has an end, and the connection goes on.
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl TakesFiles for ForFile {
    fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        file: BorrowedFd<'_>,
        offset: u64,
        count: usize,
    ) -> Poll<io::Result<usize>> {
        self.poll_wire(cx, |wire, cx| wire.io.poll_send_file(cx, file, offset, count))
    }
}
