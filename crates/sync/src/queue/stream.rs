//! A queue as a stream of its items, and as a sink.

use super::order::Order;
use super::put::{QueueReserve, QueueSlot};
use super::{Queue, QueueGet, QueueShutDown};
use futures_core::stream::{FusedStream, Stream};
use futures_sink::Sink;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The items of a queue, until it is shut down and empty. See [`Queue::stream`].
///
/// # Cancel safety
///
/// **Cancel safe; the place in line is lost** when the stream is dropped. Dropping a `next()` keeps the place: what is
/// promised to it meanwhile waits for the next poll, so drop the stream if there will be none.
#[must_use = "streams do nothing unless polled"]
pub struct QueueStream<'a, T, O: Order<T> = super::Fifo<T>> {
    get: QueueGet<'a, T, O>,
    ended: bool,
}

/// Puts what is sent into a queue. See [`Queue::sink`].
///
/// What was sent is in the queue: there is nothing to flush.
///
/// # Cancel safety
///
/// **Cancel safe.** An item is in the queue once `start_send` took it. `poll_ready` reserves a slot, which the sink keeps
/// until then or until it is dropped.
#[must_use = "sinks do nothing unless polled"]
pub struct QueueSink<'a, T, O: Order<T> = super::Fifo<T>> {
    reserve: QueueReserve<'a, T, O>,
    slot: Option<QueueSlot<'a, T, O>>,
}

// === impl QueueStream ===

impl<'a, T, O: Order<T>> QueueStream<'a, T, O> {
    pub(super) fn new(queue: &'a Queue<T, O>) -> Self {
        Self { get: QueueGet::new(queue), ended: false }
    }
}

impl<T, O: Order<T>> Stream for QueueStream<'_, T, O> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.get.renew();
        let item = ready!(Pin::new(&mut self.get).poll(cx)).ok();
        self.ended = item.is_none();
        Poll::Ready(item)
    }
}

impl<T, O: Order<T>> FusedStream for QueueStream<'_, T, O> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<T, O: Order<T>> fmt::Debug for QueueStream<'_, T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ended {
            true => f.write_str("QueueStream [ended]"),
            false => write!(f, "QueueStream [{:?}]", self.get),
        }
    }
}

// === impl QueueSink ===

impl<'a, T, O: Order<T>> QueueSink<'a, T, O> {
    pub(super) fn new(queue: &'a Queue<T, O>) -> Self {
        Self { reserve: QueueReserve::new(queue), slot: None }
    }
}

/// Fails once the queue is shut down; `start_send` gives the item back.
impl<T, O: Order<T>> Sink<T> for QueueSink<'_, T, O> {
    type Error = QueueShutDown<Option<T>>;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.slot.is_none() {
            self.reserve.renew();
            let slot = ready!(Pin::new(&mut self.reserve).poll(cx));
            self.slot = Some(slot.map_err(|QueueShutDown(())| QueueShutDown(None))?);
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, item: T) -> Result<(), Self::Error> {
        let slot = self.slot.take().expect("`QueueSink::start_send` needs `poll_ready` to be ready first");
        slot.put(item).map_err(|QueueShutDown(item)| QueueShutDown(Some(item)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.slot = None;
        self.reserve = QueueReserve::new(self.reserve.queue()); // out of the line
        Poll::Ready(Ok(()))
    }
}

impl<T, O: Order<T>> fmt::Debug for QueueSink<'_, T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.slot {
            Some(_) => f.write_str("QueueSink [ready]"),
            None => write!(f, "QueueSink [{:?}]", self.reserve),
        }
    }
}
