//! The locks, one by one, where primitives of this kind were wrong before: limits, ends, crowds, and who is in line when.

use evenloop_sync::{
    Barrier, BoundedSemaphore, Condition, Event, Future, LifoQueue, Limiter, Lock, PriorityQueue, Queue,
    RwLock, Semaphore, TryAcquireError, oneshot,
};
use evenloop_tests::{Woken, on_a_small_stack, panic_of, poll};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// What a panic carries that panics in turn. Of no size, so that what is leaked is nothing.
struct Payload;

impl Drop for Payload {
    fn drop(&mut self) {
        std::panic::panic_any(Self);
    }
}

/// A waker that panics with it.
struct Wild;

impl Wake for Wild {
    fn wake(self: Arc<Self>) {
        std::panic::panic_any(Payload);
    }
}

/// How many make a crowd: what takes the square of it does not end.
const CROWD: usize = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };

fn pending<F: std::future::Future + Unpin>(mut future: F) -> F {
    assert!(poll(&mut future, Waker::noop()).is_pending());
    future
}

fn is_ready<F: std::future::Future + Unpin>(future: &mut F) -> bool {
    poll(future, Waker::noop()).is_ready()
}

// === What they say ===

#[test]
fn what_is_polled_after_its_end_names_the_call() {
    fn again<F: std::future::Future + Unpin>(mut future: F) -> String {
        let _ended = poll(&mut future, Waker::noop());
        panic_of(|| poll(&mut future, Waker::noop()).is_ready())
    }
    let end = |call| format!("`{call}` was polled after it had finished");
    let semaphore = Arc::new(Semaphore::new(9));
    assert_eq!(again(semaphore.acquire()), end("Semaphore::acquire"));
    assert_eq!(again(semaphore.acquire_owned()), end("Semaphore::acquire_owned"));
    let bounded = Arc::new(BoundedSemaphore::new(9));
    assert_eq!(again(bounded.acquire()), end("BoundedSemaphore::acquire"));
    assert_eq!(again(bounded.acquire_owned()), end("BoundedSemaphore::acquire_owned"));
    let limiter = Limiter::new(9);
    assert_eq!(again(limiter.acquire()), end("Limiter::acquire"));
    assert_eq!(again(limiter.acquire_on_behalf_of(1)), end("Limiter::acquire_on_behalf_of"));
    let (lock, condition) = (Lock::new(0), Condition::new());
    let mut catching = pending(condition.wait_catching(lock.try_acquire().unwrap()));
    condition.notify(1);
    assert!(is_ready(&mut catching));
    assert_eq!(panic_of(|| is_ready(&mut catching)), end("Condition::wait_catching"));
}

#[test]
fn who_reads_together_does_not_write() {
    let lock = RwLock::new(0);
    let readers = [(); 3].map(|()| lock.try_read().unwrap());
    assert_eq!(format!("{lock:?}"), "RwLock [readers: 3, waiters: 0]");
    assert_eq!((lock.statistics().readers, lock.statistics().writing), (3, false));
    drop(readers);
    let _writer = lock.try_write().unwrap();
    assert_eq!((lock.statistics().readers, lock.statistics().writing), (0, true));
}

// === Making them ===

#[test]
fn everything_can_be_made_on_a_small_stack() {
    on_a_small_stack(|| {
        drop((Lock::new(0), RwLock::new(0), Event::new(), Condition::new(), Barrier::new(2)));
        drop((Semaphore::new(1), BoundedSemaphore::new(1), Limiter::new(1), Future::<u8>::new()));
        drop((Queue::<u8>::new(0), LifoQueue::<u8>::new(0), PriorityQueue::<u8>::new(0)));
        drop(oneshot::channel::<u8>());
        let lock = Arc::new(Lock::new(0));
        drop((lock.try_acquire_owned(), lock.acquire_owned()));
    });
}

#[test]
fn nothing_is_allowed_where_it_can_be_of_use_and_refused_where_it_cannot() {
    assert!(Semaphore::new(0).locked() && BoundedSemaphore::new(0).locked());
    assert_eq!(Limiter::new(0).available(), 0);
    assert!(is_ready(&mut Semaphore::new(0).acquire_many(0)), "none never waits");
    catch_unwind(|| Barrier::new(0)).expect_err("nobody could ever pass");
}

#[test]
fn counts_stop_at_their_limits() {
    let max = Semaphore::MAX_PERMITS;
    catch_unwind(|| Semaphore::new(max + 1)).expect_err("documented panic");
    for (free, more, fits) in [(max - 2, 1, true), (max - 2, 2, true), (max - 2, 3, false), (max, 0, true)] {
        let semaphore = Semaphore::new(free);
        let released = catch_unwind(AssertUnwindSafe(|| semaphore.release(more)));
        assert_eq!((released.is_ok(), semaphore.value()), (fits, if fits { free + more } else { free }));
    }
    let bounded = BoundedSemaphore::new(max);
    assert!(bounded.release(1).is_err() && bounded.release(usize::MAX).is_err());
    assert_eq!(bounded.value(), max);
    let waiting = Semaphore::new(0);
    let mut one = pending(waiting.acquire());
    waiting.release(max);
    assert_eq!(waiting.value(), max - 1);
    assert!(is_ready(&mut one)); // and gave it back
    assert_eq!(waiting.value(), max);
}

// === Semaphores end for good ===

#[test]
fn a_closed_semaphore_stays_closed_whatever_follows_in_whatever_order() {
    #[derive(Clone, Copy, Debug)]
    enum Act {
        Release,
        Forget,
        Acquire,
        Close,
    }
    let acts = [Act::Release, Act::Forget, Act::Acquire, Act::Close];
    for size in 0..=3_u32 {
        for order in 0..4_usize.pow(5) {
            let semaphore = Semaphore::new(size as usize);
            let mut held = Vec::new();
            let mut closed = false;
            for step in 0..5 {
                match acts[order / 4_usize.pow(step) % 4] {
                    Act::Release => semaphore.release(1),
                    Act::Forget => held.pop().into_iter().for_each(evenloop_sync::Permit::forget),
                    Act::Acquire => match semaphore.try_acquire() {
                        Ok(permit) => {
                            assert!(!closed);
                            held.push(permit);
                        }
                        Err(error) => assert_eq!(error == TryAcquireError::Closed, closed),
                    },
                    Act::Close => {
                        semaphore.close();
                        closed = true;
                    }
                }
                assert_eq!(semaphore.is_closed(), closed, "size {size}, order {order}, step {step}");
            }
            drop(held);
            assert_eq!(semaphore.is_closed(), closed);
        }
    }
}

// === Who is in line, and what is kept ===

#[test]
fn a_future_that_was_not_polled_is_not_in_line() {
    let event = Event::new();
    let mut early = event.wait();
    event.set();
    event.clear();
    assert!(!is_ready(&mut early), "its place is where it polls first");
    assert_eq!(event.statistics().waiters, 1);

    let (lock, condition) = (Lock::new(()), Condition::new());
    let mut early = condition.wait(lock.try_acquire().expect("free"));
    condition.notify_all();
    condition.notify(1);
    assert!(!is_ready(&mut early));
    condition.notify(1);
    assert!(is_ready(&mut early), "neither of the notifications before was kept, or lost a later one");
}

#[test]
fn a_notification_with_nobody_in_line_is_not_kept() {
    let (lock, condition) = (Lock::new(()), Condition::new());
    condition.notify(1);
    condition.notify_all();
    let mut wait = pending(condition.wait(lock.try_acquire().expect("free")));
    assert!(!is_ready(&mut wait));
}

#[test]
fn clearing_an_event_leaves_those_in_line_there() {
    let event = Event::new();
    let (woken, waker) = Woken::waker();
    let mut wait = event.wait();
    assert!(poll(&mut wait, &waker).is_pending());
    event.clear();
    assert_eq!((woken.times(), event.statistics().waiters), (0, 1));
    event.set();
    assert_eq!(woken.times(), 1);
    assert!(poll(&mut wait, &waker).is_ready());
}

#[test]
fn who_gives_up_in_the_turn_of_a_release_takes_nothing_along() {
    const WAITERS: usize = 12;
    for given_up in 0..1 << 6 {
        let semaphore = Semaphore::new(0);
        let mut waits: Vec<_> = (0..WAITERS).map(|_| Some(pending(semaphore.acquire()))).collect();
        semaphore.release(3); // the first three are chosen, and do not know it yet
        for (number, wait) in waits.iter_mut().enumerate() {
            if given_up >> (number / 2) & 1 == 1 {
                *wait = None;
            }
        }
        let left = waits.iter().flatten().count();
        semaphore.release(WAITERS - 3);
        let served = waits.iter_mut().flatten().filter_map(|wait| match poll(wait, Waker::noop()) {
            Poll::Ready(permit) => Some(permit.expect("open")),
            Poll::Pending => None,
        });
        let permits: Vec<_> = served.collect();
        assert_eq!((permits.len(), semaphore.value()), (left, WAITERS - left), "{given_up:b}");
    }
}

/// Showed as waiters that nobody woke, and as an abort of the process.
#[test]
fn what_a_wakers_panic_carries_falls_on_nobody() {
    let wild = Waker::from(Arc::new(Wild));
    let (calm, waker) = Woken::waker();

    let event = Event::new();
    let mut waits: Vec<_> = (0..100).map(|_| event.wait()).collect();
    for (number, wait) in waits.iter_mut().enumerate() {
        assert!(poll(wait, if number % 10 == 0 { &wild } else { &waker }).is_pending());
    }
    std::mem::forget(catch_unwind(AssertUnwindSafe(|| event.set())).expect_err("the first one goes on"));
    assert_eq!(calm.times(), 90);

    let queue = Queue::new(1);
    queue.put_nowait(Some(Payload)).ok().unwrap();
    let (mut put, mut joins) = (queue.put(None), (queue.join(), queue.join()));
    assert!(poll(&mut put, &wild).is_pending());
    assert!(poll(&mut joins.0, &wild).is_pending());
    assert!(poll(&mut joins.1, &waker).is_pending());
    std::mem::forget(catch_unwind(AssertUnwindSafe(|| queue.shutdown(true))).expect_err("and here"));
    assert_eq!(calm.times(), 91);

    let queue = Queue::new(1);
    let mut get = queue.get();
    assert!(poll(&mut get, &wild).is_pending());
    let put = catch_unwind(AssertUnwindSafe(|| queue.put_nowait(1)));
    assert_eq!((put.map_err(std::mem::forget), poll(&mut get, &waker)), (Ok(Ok(())), Poll::Ready(Ok(1))));

    let lock = Lock::new(());
    let (guard, mut next) = (lock.try_acquire().unwrap(), lock.acquire());
    assert!(poll(&mut next, &wild).is_pending());
    let another = catch_unwind(AssertUnwindSafe(|| {
        let _guard = guard;
        panic!("while this one is on its way, on purpose");
    }));
    assert!(another.is_err() && poll(&mut next, &waker).is_ready());
}

#[test]
fn what_has_ended_is_ready_at_the_first_poll() {
    let queue = Queue::<u8>::new(1);
    queue.shutdown(false);
    let (sender, receiver) = oneshot::channel::<u8>();
    drop(sender);
    let semaphore = Semaphore::new(0);
    semaphore.close();
    let barrier = Barrier::new(2);
    barrier.abort();
    let future = Future::<u8>::new();
    future.cancel();
    assert!(is_ready(&mut queue.get()) && is_ready(&mut queue.put(1)) && is_ready(&mut queue.reserve()));
    assert!(is_ready(&mut { receiver }) && is_ready(&mut semaphore.acquire()));
    assert!(is_ready(&mut barrier.wait()) && is_ready(&mut future.wait()));
}

#[test]
fn an_acquire_that_waits_for_its_own_task_says_so_in_debug() {
    let lock = Lock::new(());
    let _held = lock.try_acquire().expect("free");
    let again = pending(lock.acquire());
    assert_eq!(format!("{lock:?} {again:?}"), "Lock [locked, waiters: 1] LockAcquire [waiting]");
    assert!(lock.try_acquire().is_none(), "the way to find out without waiting for ever");
}

// === Crowds ===

#[test]
fn a_crowd_leaves_from_the_middle_and_the_rest_is_served_in_order() {
    let semaphore = Semaphore::new(0);
    let mut crowd: Vec<_> = (0..CROWD).map(|_| Some(pending(semaphore.acquire()))).collect();
    assert_eq!(semaphore.statistics().waiters, CROWD);
    for number in (0..CROWD).filter(|number| number % 3 == 1).rev() {
        crowd[number] = None;
    }
    let mut left: Vec<_> = crowd.into_iter().flatten().collect();
    assert_eq!(semaphore.statistics().waiters, left.len());
    let half = left.len() / 2;
    semaphore.release(half);
    let ready = left.iter_mut().map(|wait| match poll(wait, Waker::noop()) {
        Poll::Ready(permit) => {
            permit.expect("open").forget();
            true
        }
        Poll::Pending => false,
    });
    let ready: Vec<bool> = ready.collect();
    assert!(ready[..half].iter().all(|ready| *ready) && ready[half..].iter().all(|ready| !ready));
    drop(left);
    assert_eq!((semaphore.statistics().waiters, semaphore.value()), (0, 0));
}

/// Waits again in the very moment in which it is woken, as a task on another thread may.
struct Again {
    lock: &'static Lock<()>,
    condition: &'static Condition,
    woken: Cell<usize>,
}

thread_local! {
    static AGAIN: std::cell::RefCell<Option<std::rc::Rc<Again>>> = const { std::cell::RefCell::new(None) };
    static NEW: std::cell::RefCell<Vec<evenloop_sync::ConditionWait<'static, ()>>> =
        const { std::cell::RefCell::new(Vec::new()) };
}

struct Rejoin;

impl Wake for Rejoin {
    fn wake(self: Arc<Self>) {
        let again = AGAIN.with_borrow(Option::clone).expect("it is set");
        again.woken.set(again.woken.get() + 1);
        let mut wait = again.condition.wait(again.lock.try_acquire().expect("nobody keeps it"));
        let waker = Waker::from(self);
        assert!(Pin::new(&mut wait).poll(&mut Context::from_waker(&waker)).is_pending());
        NEW.with_borrow_mut(|new| new.push(wait));
    }
}

use std::future::Future as _;

#[test]
fn notify_all_ends_though_everybody_waits_again_at_once() {
    static LOCK: Lock<()> = Lock::new(());
    static CONDITION: Condition = Condition::new();
    let again = Again { lock: &LOCK, condition: &CONDITION, woken: Cell::new(0) };
    let again = std::rc::Rc::new(again);
    AGAIN.set(Some(again.clone()));
    let waker = Waker::from(Arc::new(Rejoin));
    let mut crowd: Vec<_> = (0..100_000).map(|_| CONDITION.wait(LOCK.try_acquire().expect("free"))).fold(
        Vec::new(),
        |mut crowd, mut wait| {
            assert!(Pin::new(&mut wait).poll(&mut Context::from_waker(&waker)).is_pending());
            crowd.push(wait);
            crowd
        },
    );
    CONDITION.notify_all();
    assert_eq!(again.woken.get(), 100_000, "once each");
    assert_eq!(CONDITION.statistics().waiters, 100_000, "all are in line again");
    assert!(crowd.iter_mut().all(is_ready));
    NEW.take();
    assert_eq!(CONDITION.statistics().waiters, 0);
}

// === What tasks wait for ===

/// A waker that gives a lock back when it is cloned: the grant comes in the midst of a poll.
mod gives_back {
    use evenloop_sync::OwnedLockGuard;
    use std::cell::RefCell;
    use std::task::{RawWaker, RawWakerVTable, Waker};

    thread_local! {
        pub(super) static HELD: RefCell<Option<OwnedLockGuard<u8>>> = const { RefCell::new(None) };
    }

    const VTABLE: RawWakerVTable = RawWakerVTable::new(
        |data| {
            drop(HELD.take());
            RawWaker::new(data, &VTABLE)
        },
        |_| (),
        |_| (),
        |_| (),
    );

    pub(super) fn waker() -> Waker {
        // SAFETY: the functions use no data, so every contract on it holds.
        unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &VTABLE)) }
    }
}

#[test]
fn while_nobody_asks_no_holder_is_noted_whenever_the_grant_comes() {
    let lock = Arc::new(Lock::new(0));
    for _ in 0..3 {
        let held = lock.try_acquire_owned().unwrap();
        let mut acquire = pending(lock.acquire());
        gives_back::HELD.set(Some(held));
        assert!(poll(&mut acquire, &gives_back::waker()).is_ready());
    }
    let address = evenloop_core::watch::address(&*lock);
    let addresses = address..address + size_of::<Lock<u8>>();
    assert!(addresses.into_iter().all(|address| evenloop_core::watch::holders(address).is_empty()));
}
