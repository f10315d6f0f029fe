//! What the benches share: the least loop that can run tasks, so that what is measured is the primitive; servers and their
//! load.

#[path = "lib/counting.rs"]
pub mod counting;
#[path = "lib/executors.rs"]
pub mod executors;
#[path = "lib/load.rs"]
pub mod load;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

thread_local! {
    static READY: RefCell<VecDeque<usize>> = const { RefCell::new(VecDeque::new()) };
}

/// A task's waker: puts the task's number at the end of the thread's queue.
struct Ready(usize);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        READY.with_borrow_mut(|ready| ready.push_back(self.0));
    }
}

/// Runs all to their end, in turns, on this thread. What wakes them must be on this thread too.
pub fn run_all(futures: impl IntoIterator<Item = impl Future<Output = ()>>) {
    let mut tasks: Vec<_> = futures
        .into_iter()
        .enumerate()
        .map(|(number, future)| Some((Box::pin(future), Waker::from(Arc::new(Ready(number))))))
        .collect();
    let mut unfinished = tasks.len();
    READY.with_borrow_mut(|ready| {
        ready.clear();
        ready.extend(0..tasks.len());
    });
    while unfinished > 0 {
        let number = READY.with_borrow_mut(VecDeque::pop_front).expect("no task waits for ever");
        let Some((future, waker)) = &mut tasks[number] else { continue };
        if future.as_mut().poll(&mut Context::from_waker(waker)).is_ready() {
            tasks[number] = None;
            unfinished -= 1;
        }
    }
}

/// Lets the others run once.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Polls once a future that is ready at once.
#[inline(always)]
pub fn now<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    match Pin::as_mut(&mut future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("this future waits"),
    }
}

/// Unparks a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls to the end; the thread sleeps in between.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Runs `turn` for `times` in all on two threads that begin together; the slower one's time.
pub fn on_two_threads(times: u64, turn: impl Fn(u64) + Sync) -> Duration {
    let begin = Barrier::new(2);
    let half = || {
        begin.wait();
        let start = Instant::now();
        turn(times.div_ceil(2));
        start.elapsed()
    };
    thread::scope(|scope| {
        let other = scope.spawn(half);
        half().max(other.join().expect("no panic"))
    })
}
