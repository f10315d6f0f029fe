//! The task that moves a connection.

use super::{Connection, Phase};
use evenloop_core::Runtime;
use evenloop_core::cancel::{Cancelled, Catcher};
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// The task of a connection. Ready when `connection_lost` has been called. Dropping it calls that too.
///
/// A cancellation from a scope around it (a server that closes its clients, a loop that ends) closes the connection in
/// order; a second one aborts it.
pub(crate) struct Drive {
    connection: Rc<Connection>,
    /// `connection_made` was called.
    made: bool,
    /// A server's, which has its own ways to end it.
    served: bool,
    catcher: Catcher,
    cancelled: Option<Cancelled>,
}

impl Drive {
    /// For a connection whose `connection_made` was called already.
    pub(crate) fn made(connection: Rc<Connection>) -> Self {
        Self { connection, made: true, served: false, catcher: Catcher::new(), cancelled: None }
    }

    /// For a connection of a server: calls `connection_made` in the first poll.
    pub(crate) fn served(connection: Rc<Connection>) -> Self {
        let mut drive = Self::made(connection);
        (drive.made, drive.served) = (false, true);
        drive
    }

    /// In debug mode tells of a connection that nobody has closed, and how its task came to know that it ends.
    fn tell_if_open(&self, how: &str) {
        let connection = &self.connection;
        if !self.served && matches!(connection.phase.get(), Phase::Open | Phase::Upgrading) {
            Runtime::report_in_debug(|| {
                let peer = connection.info.borrow().peername.as_ref().map(|peer| format!(" to {peer}"));
                let peer = peer.unwrap_or_default();
                format!(
                    "a transport{peer} was open when its task was {how}, as at the end of a loop: `close` it first"
                )
            });
        }
    }

    fn heed_cancellation(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(cancelled) = self.catcher.poll_cancelled(cx) {
            self.tell_if_open("cancelled");
            match self.cancelled.is_some() {
                false => self.connection.close(),
                true => self.connection.end(None),
            }
            Cancelled::gather(&mut self.cancelled, cancelled);
        }
    }
}

impl Future for Drive {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let connection = this.connection.clone();
        if connection.phase.get() == Phase::Ending {
            connection.lost(); // C2
        }
        if connection.phase.get() == Phase::Lost {
            this.catcher.leave();
            this.cancelled.take().into_iter().for_each(Cancelled::absorb);
            return Poll::Ready(());
        }
        let known = connection.waker.borrow().will_wake(cx.waker());
        if !known {
            let before = connection.waker.replace(cx.waker().clone());
            drop(before); // C1
        }
        if !mem::replace(&mut this.made, true) {
            connection.made();
        }
        this.heed_cancellation(cx);
        if connection.phase.get() == Phase::Upgrading && connection.poll_send() {
            connection.wake_holder();
        }
        if connection.phase.get() == Phase::Open {
            if connection.poll_send() && connection.sends_file.get() {
                connection.wake_holder();
            }
            match connection.reads {
                true => connection.poll_receive(cx),
                false => connection.poll_nobody_listens(cx),
            }
        }
        if connection.phase.get() == Phase::Closing {
            connection.poll_farewell(cx);
        }
        Poll::Pending
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        let connection = &self.connection;
        if connection.phase.get() == Phase::Lost {
            return;
        }
        if self.made {
            self.tell_if_open("dropped");
            let message = "the task of the connection was dropped, as at the end of its loop or its server";
            connection.end(Some(io::Error::new(io::ErrorKind::ConnectionAborted, message)));
            connection.lost();
        } else {
            connection.forget();
        }
    }
}
