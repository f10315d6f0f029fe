//! Waiting until nothing moves on a loop.

use crate::current::with_current;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Waits until nothing but waiting is left on this loop: no other task is ready to run. trio's `wait_all_tasks_blocked`. Several
/// may wait; they all go on at once.
///
/// On the virtual clock that is before time jumps to the next deadline. What other threads are about to bring, and what the
/// kernel has not told yet, is not waited for.
///
/// # Cancel safety
///
/// **Cancel safe.** There is nothing to lose.
///
/// # Panics
///
/// When it is first polled, and no loop runs on this thread.
///
/// # Examples
///
/// ```
/// use evenloop_executor::{EventLoop, create_task, settled, yield_now};
/// use std::cell::Cell;
/// use std::rc::Rc;
///
/// EventLoop::new().run_until_complete(async {
///     let steps = Rc::new(Cell::new(0));
///     let counting = steps.clone();
///     create_task(async move {
///         for _ in 0..10 {
///             yield_now().await;
///             counting.set(counting.get() + 1);
///         }
///     })
///     .detach();
///     settled().await;
///     assert_eq!(steps.get(), 10);
/// });
/// ```
#[doc(alias = "wait_all_tasks_blocked")]
pub fn settled() -> Settled {
    Settled { place: None }
}

/// The future of [`settled`].
#[must_use = "futures do nothing unless awaited"]
pub struct Settled {
    /// Once it has been polled.
    place: Option<(Rc<Lulls>, Rc<Place>)>,
}

/// Who waits for a lull of one loop: that nothing is ready, so that it would sleep.
#[derive(Default)]
pub(crate) struct Lulls(RefCell<Vec<Rc<Place>>>);

struct Place {
    over: Cell<bool>,
    waker: RefCell<Waker>,
}

impl Lulls {
    pub(crate) fn are_awaited(&self) -> bool {
        !self.0.borrow().is_empty()
    }

    /// There is one: gives everybody who waits to `wake`.
    pub(crate) fn tell(&self, mut wake: impl FnMut(Waker)) {
        let told = self.0.take();
        told.iter().for_each(|place| place.over.set(true));
        for place in told {
            wake(place.waker.replace(Waker::noop().clone()));
        }
    }
}

impl Future for Settled {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some((_, place)) = &self.place else {
            let lulls = with_current(|core| core.lulls().clone())
                .expect("`settled` needs a running event loop on this thread: await it inside `run`");
            let place = Rc::new(Place { over: Cell::new(false), waker: RefCell::new(cx.waker().clone()) });
            lulls.0.borrow_mut().push(place.clone());
            self.place = Some((lulls, place));
            return Poll::Pending;
        };
        if place.over.get() {
            return Poll::Ready(());
        }
        let known = place.waker.borrow().will_wake(cx.waker());
        if !known {
            let waker = cx.waker().clone();
            let before = mem::replace(&mut *place.waker.borrow_mut(), waker);
            drop(before); // it is foreign, and may come here
        }
        Poll::Pending
    }
}

impl Drop for Settled {
    fn drop(&mut self) {
        let Some((lulls, place)) = self.place.take() else { return };
        lulls.0.borrow_mut().retain(|other| !Rc::ptr_eq(other, &place));
    }
}

impl fmt::Debug for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.place {
            None => "new",
            Some((_, place)) if place.over.get() => "over",
            Some(_) => "waiting",
        };
        write!(f, "Settled [{state}]")
    }
}
