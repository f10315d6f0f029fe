//! asyncio's `add_reader` and `add_writer`: a callback that is called whenever a descriptor is ready.
//!
//! "Whenever it is ready" is a level: the callback is called once a turn of the loop, as long as poll(2) says so, whether it
//! reads or not. Readiness here is an edge that is remembered, so each call is preceded by one question to the kernel.
//!
//! R1. For each descriptor there is at most one callback a direction and thread: a new one takes the place of the old one.
//! R2. A callback that was removed or replaced is dropped at once and never called again, also if its turn has come already.
//! R3. Callbacks are called and dropped while nothing is borrowed: they may add and remove, themselves too.
//! R4. The task of a callback holds its descriptor weakly: dropping the descriptor ends it.

use crate::async_fd::{AsyncFd, is_ready};
use crate::protocol::call_back;
use evenloop_core::shim::StdArc;
use evenloop_core::{Direction, Runtime, Spawn};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

/// Where a descriptor lies, and the direction.
type Key = (usize, bool);

/// What the table and the task of a callback share.
#[derive(Default)]
struct Place {
    /// None once it is removed, and while it is being called.
    callback: RefCell<Option<Box<dyn FnMut()>>>,
    removed: std::cell::Cell<bool>,
    task: RefCell<Option<Waker>>,
}

std::thread_local! {
    /// R1.
    static PLACES: RefCell<BTreeMap<Key, Rc<Place>>> = const { RefCell::new(BTreeMap::new()) };
}

impl<T: AsFd + 'static> AsyncFd<T> {
    /// Calls `callback` once a turn of the loop as long as the descriptor can be read from. Replaces the callback that was
    /// there, if any, and answers whether there was one.
    ///
    /// It is called until [`remove_reader`](Self::remove_reader), or until the descriptor is dropped; it does not keep it alive. A
    /// callback that panics is reported and stays.
    ///
    /// # Errors
    ///
    /// The runtime cannot spawn on this thread.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use evenloop_streams::AsyncFd;
    /// use std::{io::Read, rc::Rc};
    ///
    /// # fn example(device: std::fs::File) -> std::io::Result<()> {
    /// let device = Rc::new(AsyncFd::new(device)?);
    /// let reads = Rc::downgrade(&device);
    /// device.add_reader(move || {
    ///     let Some(device) = reads.upgrade() else { return };
    ///     let mut bytes = [0; 64];
    ///     let n = device.get_ref().read(&mut bytes);
    /// })?;
    /// # Ok(()) }
    /// ```
    pub fn add_reader(self: &Rc<Self>, callback: impl FnMut() + 'static) -> io::Result<bool> {
        self.add("add_reader", Direction::Read, Box::new(callback))
    }

    /// Calls no reader any more, from now on. Answers whether there was one on this thread.
    pub fn remove_reader(self: &Rc<Self>) -> bool {
        remove(self.key_of(Direction::Read))
    }

    /// Calls `callback` once a turn of the loop as long as the descriptor can be written to: see
    /// [`add_reader`](Self::add_reader).
    ///
    /// # Errors
    ///
    /// As [`add_reader`](Self::add_reader).
    pub fn add_writer(self: &Rc<Self>, callback: impl FnMut() + 'static) -> io::Result<bool> {
        self.add("add_writer", Direction::Write, Box::new(callback))
    }

    /// Calls no writer any more, from now on. Answers whether there was one on this thread.
    pub fn remove_writer(self: &Rc<Self>) -> bool {
        remove(self.key_of(Direction::Write))
    }

    fn key_of(self: &Rc<Self>, direction: Direction) -> Key {
        (Rc::as_ptr(self).addr(), direction == Direction::Read)
    }

    fn add(
        self: &Rc<Self>,
        method: &'static str,
        direction: Direction,
        callback: Box<dyn FnMut()>,
    ) -> io::Result<bool> {
        let host = Runtime::current_spawn(method).map_err(io::Error::other)?;
        let key = self.key_of(direction);
        let place = Rc::new(Place { callback: RefCell::new(Some(callback)), ..Place::default() });
        let task = Calls {
            fd: Rc::downgrade(self),
            direction,
            method,
            key,
            host: host.clone(),
            place: place.clone(),
            waits: None,
        };
        if let Err(not) = host.spawn_local(Box::pin(task)) {
            return Err(io::Error::other(format!("not spawned: {}", not.why)));
        }
        let there_was_one = remove(key);
        PLACES.with_borrow_mut(|places| places.insert(key, place));
        Ok(there_was_one)
    }
}

/// R2.
fn remove(key: Key) -> bool {
    // At the thread's end the table may be gone, and with it every callback.
    let Ok(Some(place)) = PLACES.try_with(|places| places.borrow_mut().remove(&key)) else { return false };
    place.removed.set(true);
    let callback = place.callback.borrow_mut().take();
    let task = place.task.borrow_mut().take();
    drop(callback); // R3
    task.into_iter().for_each(Waker::wake);
    true
}

/// The task of one callback.
struct Calls<T: AsFd> {
    fd: Weak<AsyncFd<T>>,
    direction: Direction,
    method: &'static str,
    key: Key,
    host: StdArc<dyn Spawn>,
    place: Rc<Place>,
    waits: Option<Waits>,
}

/// Waits for a descriptor's direction without keeping the descriptor.
type Waits = Pin<Box<dyn Future<Output = io::Result<()>>>>;

impl<T: AsFd + 'static> Future for Calls<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.place.removed.get() {
            return Poll::Ready(());
        }
        let before = this.place.task.replace(Some(cx.waker().clone()));
        drop(before);
        loop {
            let Some(fd) = this.fd.upgrade() else { return Poll::Ready(()) };
            let waits = this.waits.get_or_insert_with(|| Box::pin(fd.readiness_of(this.direction)));
            match waits.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()), // deregistered, or the reactor has ended
                Poll::Ready(Ok(())) => this.waits = None,
            }
            // The edge is remembered until a call disproves it; ours is the question to the kernel.
            let asked = fd.try_with(this.direction, |fd| is_ready(fd, this.direction));
            drop(fd); // R4
            match asked {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(()),
            }
        }
        let callback = this.place.callback.borrow_mut().take();
        let Some(mut callback) = callback else { return Poll::Ready(()) };
        // Reported if it panics, and it stays: as asyncio has it.
        call_back(&*this.host, this.method, &mut callback);
        if this.place.removed.get() {
            drop(callback); // R2
            return Poll::Ready(());
        }
        *this.place.callback.borrow_mut() = Some(callback);
        cx.waker().wake_by_ref(); // once a turn
        Poll::Pending
    }
}

impl<T: AsFd> Drop for Calls<T> {
    fn drop(&mut self) {
        let is_ours = PLACES.try_with(|places| {
            let places = places.borrow();
            places.get(&self.key).is_some_and(|place| Rc::ptr_eq(place, &self.place))
        });
        if is_ours.unwrap_or(false) {
            remove(self.key);
        }
    }
}
