//! The executors that are measured side by side: how each runs a main future, spawns beside it, and joins.

use evenloop_core::Runtime;
use evenloop_executor::EventLoop;
use evenloop_streams::ReactorDriver;
use evenloop_time::{Clock, Driver};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

/// One executor on one thread.
pub trait Host {
    /// Its name in the tables.
    const NAME: &'static str;
    /// Its handle to a task without a value.
    type Task: 'static;

    /// Runs `main` to its end.
    fn run<T: 'static>(main: impl Future<Output = T> + 'static) -> T;
    /// Spawns beside the main future.
    fn spawn(future: impl Future<Output = ()> + 'static) -> Self::Task;
    /// Waits for a task.
    fn join(task: Self::Task) -> impl Future<Output = ()>;
    /// Lets a task run on by itself.
    fn detach(task: Self::Task) {
        drop(task);
    }
}

/// Gives way once, by the means that any executor has.
pub fn yield_once() -> impl Future<Output = ()> {
    let mut yielded = false;
    poll_fn(move |cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// This project's loop, on timers and on sockets.
pub fn with_sockets() -> evenloop_executor::Builder {
    let reactor = ReactorDriver::new().expect("a reactor");
    let handle = Arc::new(reactor.handle());
    let driver = Driver::new(reactor, Clock::Real);
    let runtime = Runtime::builder("evenloop").timers(driver.timers()).reactor(handle);
    EventLoop::builder().runtime(runtime).park(Box::new(driver))
}

/// This project's loop.
pub struct Evenloop;

impl Host for Evenloop {
    const NAME: &'static str = "evenloop";
    type Task = evenloop_executor::Task<()>;

    fn run<T: 'static>(main: impl Future<Output = T> + 'static) -> T {
        EventLoop::new().run_until_complete(main)
    }

    fn spawn(future: impl Future<Output = ()> + 'static) -> Self::Task {
        evenloop_executor::create_task(future)
    }

    fn join(task: Self::Task) -> impl Future<Output = ()> {
        task
    }
}

/// tokio's current-thread runtime with a `LocalSet`.
pub struct Tokio;

impl Host for Tokio {
    const NAME: &'static str = "tokio";
    type Task = tokio::task::JoinHandle<()>;

    fn run<T: 'static>(main: impl Future<Output = T> + 'static) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("tokio starts");
        tokio::task::LocalSet::new().block_on(&runtime, main)
    }

    fn spawn(future: impl Future<Output = ()> + 'static) -> Self::Task {
        tokio::task::spawn_local(future)
    }

    async fn join(task: Self::Task) {
        task.await.expect("the task does not panic");
    }
}

thread_local! {
    static SMOL: smol::LocalExecutor<'static> = const { smol::LocalExecutor::new() };
    static FUTURES: RefCell<Option<futures::executor::LocalSpawner>> = const { RefCell::new(None) };
    static MINIMAL: MinimalQueue = const { MinimalQueue { ready: RefCell::new(VecDeque::new()) } };
}

/// smol's `LocalExecutor`.
pub struct Smol;

impl Host for Smol {
    const NAME: &'static str = "smol";
    type Task = smol::Task<()>;

    fn run<T: 'static>(main: impl Future<Output = T> + 'static) -> T {
        SMOL.with(|executor| {
            // The main future is a task as well, as with the others.
            let main = executor.spawn(main);
            smol::future::block_on(executor.run(main))
        })
    }

    fn spawn(future: impl Future<Output = ()> + 'static) -> Self::Task {
        SMOL.with(|executor| executor.spawn(future))
    }

    fn join(task: Self::Task) -> impl Future<Output = ()> {
        task
    }

    fn detach(task: Self::Task) {
        task.detach();
    }
}

/// futures' `LocalPool`.
pub struct Futures;

impl Host for Futures {
    const NAME: &'static str = "futures";
    type Task = futures::future::RemoteHandle<()>;

    fn run<T: 'static>(main: impl Future<Output = T> + 'static) -> T {
        let mut pool = futures::executor::LocalPool::new();
        FUTURES.with_borrow_mut(|spawner| *spawner = Some(pool.spawner()));
        let answer = pool.run_until(main);
        FUTURES.take();
        answer
    }

    fn spawn(future: impl Future<Output = ()> + 'static) -> Self::Task {
        use futures::task::LocalSpawnExt;
        FUTURES.with_borrow(|spawner| {
            let spawner = spawner.as_ref().expect("inside `run`");
            spawner.spawn_local_with_handle(future).expect("the pool is open")
        })
    }

    fn join(task: Self::Task) -> impl Future<Output = ()> {
        task
    }

    fn detach(task: Self::Task) {
        task.forget();
    }
}

/// monoio on its epoll driver.
pub struct Monoio;

impl Host for Monoio {
    const NAME: &'static str = "monoio";
    type Task = monoio::task::JoinHandle<()>;

    fn run<T: 'static>(main: impl Future<Output = T> + 'static) -> T {
        let mut runtime =
            monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().build().expect("monoio starts");
        runtime.block_on(main)
    }

    fn spawn(future: impl Future<Output = ()> + 'static) -> Self::Task {
        monoio::spawn(future)
    }

    fn join(task: Self::Task) -> impl Future<Output = ()> {
        task
    }
}

/// The least loop: a queue of counted boxes, no other thread, no cancelling, no panics. What a turn costs at least.
pub struct Minimal;

struct MinimalQueue {
    ready: RefCell<VecDeque<Rc<MinimalTask>>>,
}

/// A task of [`Minimal`].
pub struct MinimalTask {
    queued: Cell<bool>,
    future: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>,
    joiner: RefCell<Option<Waker>>,
}

const MINIMAL_WAKER: RawWakerVTable = {
    // SAFETY (all four): `data` came from `Rc::into_raw` of a `MinimalTask`, and these wakers never leave their thread.
    unsafe fn clone(data: *const ()) -> RawWaker {
        // SAFETY: see above.
        unsafe { Rc::increment_strong_count(data.cast::<MinimalTask>()) };
        RawWaker::new(data, &MINIMAL_WAKER)
    }
    unsafe fn wake(data: *const ()) {
        // SAFETY: see above.
        minimal_queue(unsafe { Rc::from_raw(data.cast::<MinimalTask>()) });
    }
    unsafe fn wake_by_ref(data: *const ()) {
        // SAFETY: see above.
        unsafe { Rc::increment_strong_count(data.cast::<MinimalTask>()) };
        // SAFETY: see above.
        minimal_queue(unsafe { Rc::from_raw(data.cast::<MinimalTask>()) });
    }
    unsafe fn drop_one(data: *const ()) {
        // SAFETY: see above.
        unsafe { Rc::decrement_strong_count(data.cast::<MinimalTask>()) };
    }
    RawWakerVTable::new(clone, wake, wake_by_ref, drop_one)
};

fn minimal_queue(task: Rc<MinimalTask>) {
    if !task.queued.replace(true) {
        MINIMAL.with(|queue| queue.ready.borrow_mut().push_back(task));
    }
}

impl Host for Minimal {
    const NAME: &'static str = "limit";
    type Task = Rc<MinimalTask>;

    fn run<T: 'static>(main: impl Future<Output = T> + 'static) -> T {
        let answer = Rc::new(Cell::new(None));
        let inside = answer.clone();
        drop(Self::spawn(async move { inside.set(Some(main.await)) }));
        while let Some(task) = MINIMAL.with(|queue| queue.ready.borrow_mut().pop_front()) {
            task.queued.set(false);
            let data = Rc::as_ptr(&task).cast();
            // SAFETY: as for the functions above; not counted, and so not dropped.
            let waker = std::mem::ManuallyDrop::new(unsafe { Waker::new(data, &MINIMAL_WAKER) });
            let mut slot = task.future.borrow_mut();
            let Some(future) = slot.as_mut() else { continue };
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                *slot = None;
                if let Some(joiner) = task.joiner.take() {
                    joiner.wake();
                }
            }
        }
        answer.take().expect("the queue ran dry, so the main future is over")
    }

    fn spawn(future: impl Future<Output = ()> + 'static) -> Self::Task {
        let task = Rc::new(MinimalTask {
            queued: Cell::new(false),
            future: RefCell::new(Some(Box::pin(future))),
            joiner: RefCell::new(None),
        });
        minimal_queue(task.clone());
        task
    }

    fn join(task: Self::Task) -> impl Future<Output = ()> {
        poll_fn(move |cx| {
            if task.future.borrow().is_none() {
                return Poll::Ready(());
            }
            task.joiner.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
    }
}
