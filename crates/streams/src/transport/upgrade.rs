//! TLS on a connection that is running: the transport and its protocol stay, the stream below changes.

use super::connection::Connection;
use super::wire::{Duplex, Prefixed, Wire};
use super::{ExtraInfo, Transport};
use crate::tls::{TlsAcceptor, TlsConnector, TlsStream};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

impl Transport {
    /// Goes over to TLS as the client; the server's certificate must be for `host`. From the call on (not from the first
    /// await) nothing is received and writing is an error; what was written is sent first, in the clear. When this is ready,
    /// the connection goes on with the same protocol, over TLS.
    ///
    /// What was put back with [`unread`](Self::unread) is taken for TLS. asyncio answers a new transport instead.
    ///
    /// # Cancel safety
    ///
    /// **Not cancel safe:** dropping the future ends the connection, in the midst of a handshake.
    ///
    /// # Errors
    ///
    /// The connection is closing, or as [`TlsConnector::connect`]. The connection ends then, and `connection_lost` is told.
    pub fn start_tls(&self, tls: &TlsConnector, host: &str) -> impl Future<Output = io::Result<()>> + use<> {
        let (tls, host) = (tls.clone(), host.to_owned());
        self.go_over(async move |stream| tls.connect(&host, stream).await)
    }

    /// Goes over to TLS as the server: see [`start_tls`](Self::start_tls).
    ///
    /// # Cancel safety
    ///
    /// **Not cancel safe:** dropping the future ends the connection, in the midst of a handshake.
    ///
    /// # Errors
    ///
    /// As [`start_tls`](Self::start_tls).
    pub fn start_tls_as_server(&self, tls: &TlsAcceptor) -> impl Future<Output = io::Result<()>> + use<> {
        let tls = tls.clone();
        self.go_over(async move |stream| tls.accept(stream).await)
    }

    fn go_over<H, F>(&self, handshake: H) -> impl Future<Output = io::Result<()>> + use<H, F>
    where
        H: FnOnce(Prefixed) -> F,
        F: Future<Output = io::Result<TlsStream<Prefixed>>>,
    {
        let begun = self.0.begin_upgrade();
        let ends = begun.is_ok().then(|| EndsUnlessDone(self.0.clone()));
        let connection = self.0.clone();
        async move {
            begun?;
            let (wire, front) = poll_fn(|cx| connection.poll_take(cx)).await?;
            let mut info = wire.info;
            let mut shaking = pin!(handshake(Prefixed { front, io: wire.io }));
            let shaken = poll_fn(|cx| match connection.poll_gone(cx) {
                Poll::Ready(gone) => Poll::Ready(Err(gone)),
                Poll::Pending => shaking.as_mut().poll(cx),
            });
            match shaken.await {
                Ok(stream) => {
                    info.tls = Some(stream.info());
                    connection.finish_upgrade(Wire::of_tls(stream, info));
                }
                Err(error) => {
                    connection.end(Some(io::Error::new(error.kind(), error.to_string())));
                    return Err(error);
                }
            }
            drop(ends);
            Ok(())
        }
    }
}

/// Ends a connection whose going over was given up.
struct EndsUnlessDone(Rc<Connection>);

impl Drop for EndsUnlessDone {
    fn drop(&mut self) {
        if self.0.is_upgrading() {
            let message = "going over to TLS was given up";
            self.0.end(Some(io::Error::new(io::ErrorKind::ConnectionAborted, message)));
        }
    }
}

impl<S: Duplex> Duplex for TlsStream<S> {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.get_ref().descriptor()
    }
}

impl Wire {
    /// TLS has one end for both directions, and a farewell.
    pub(crate) fn of_tls<S: Duplex + 'static>(stream: TlsStream<S>, info: ExtraInfo) -> Self {
        let lingers = Some(stream.shutdown_timeout());
        Self { half_closes: false, says_farewell: true, lingers, ..Self::new(stream, info) }
    }
}
