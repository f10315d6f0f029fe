//! What the tests share.

#[path = "lib/counting.rs"]
mod counting;

#[path = "lib/log.rs"]
mod log;

#[path = "lib/skips.rs"]
mod skips;

#[path = "lib/syscalls.rs"]
pub mod syscalls;

#[path = "lib/mistakes.rs"]
#[expect(dead_code, reason = "clippy reads it")]
mod mistakes;

pub use counting::Counting;
pub use log::Log;
pub use skips::{missing, skipped};

use evenloop_core::{Entered, Park, Runtime, ThreadPark, Unpark, shim};
use evenloop_executor::EventLoop;
use evenloop_streams::{ReactorDriver, TcpListener, TcpStream};
use evenloop_time::{Clock, Driver, Engine, VirtualClock};
use std::future::Future;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// The README's ten lines: compiled, and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// How often a test of growth or of random programs repeats: `usual`, or what `EVENLOOP_MANY` says. Tools under which each step
/// takes ten to fifty times as long say less; who looks for more says more.
pub fn many(usual: usize) -> usize {
    let told = std::env::var("EVENLOOP_MANY").ok();
    told.map_or(usual, |told| told.parse().expect("`EVENLOOP_MANY` is a number of repetitions"))
}

/// A waker that counts.
#[derive(Default)]
pub struct Woken(AtomicUsize);

impl Woken {
    /// A count and its waker.
    pub fn waker() -> (Arc<Self>, Waker) {
        let woken = Arc::new(Self::default());
        (woken.clone(), Waker::from(woken))
    }

    /// How often it was woken so far.
    pub fn times(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// Polls once with `waker`.
pub fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// Timers on an idle park and nothing else: whatever holds here needs no executor.
pub struct Stage {
    /// The timers' driver.
    pub driver: Driver<ThreadPark>,
    /// What the driver offers, entered on this thread.
    pub runtime: Runtime,
    _entered: Entered,
}

impl Stage {
    /// A stage that follows `clock`.
    pub fn new(clock: impl Into<Clock>) -> Self {
        let driver = Driver::new(ThreadPark::new(), clock.into());
        let runtime = Runtime::builder("stage").timers(driver.timers()).build();
        let entered = runtime.enter();
        Self { driver, runtime, _entered: entered }
    }

    /// A stage whose clock jumps, and the clock.
    pub fn jumping() -> (Self, VirtualClock) {
        let clock = VirtualClock::new();
        (Self::new(clock.clone()), clock)
    }

    /// A stage whose clock moves only by hand, and the clock.
    pub fn paused() -> (Self, VirtualClock) {
        let clock = VirtualClock::paused();
        (Self::new(clock.clone()), clock)
    }

    /// The timers.
    pub fn timers(&self) -> Arc<Engine> {
        self.driver.timers()
    }

    /// One look: fires what is due.
    pub fn turn(&mut self) {
        self.driver.park(Some(Duration::ZERO)).expect("an idle park does not fail");
    }

    /// Polls `future` to its end on this thread, and answers how many polls it took as well.
    pub fn block_on<F: Future>(&mut self, future: F) -> (F::Output, usize) {
        struct Here {
            woken: AtomicUsize,
            unparker: Arc<dyn Unpark>,
        }
        impl Wake for Here {
            fn wake(self: Arc<Self>) {
                self.woken.fetch_add(1, Ordering::Release);
                self.unparker.unpark();
            }
        }
        let here = Arc::new(Here { woken: AtomicUsize::new(1), unparker: self.driver.unparker() });
        let waker = Waker::from(here.clone());
        let mut future = pin!(future);
        let mut polls = 0;
        loop {
            if here.woken.swap(0, Ordering::Acquire) > 0 {
                polls += 1;
                if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return (output, polls);
                }
                continue;
            }
            self.driver.park(None).expect("an idle park does not fail");
        }
    }
}

/// Runs `body` on a thread with a stack of 64 KiB.
pub fn on_a_small_stack(body: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(64 * 1024).spawn(body);
    thread.expect("a thread").join().expect("a small stack suffices");
}

/// Runs one future on a reactor and nothing else, so that a test of a socket tests neither an executor nor timers.
///
/// A test that would wait for ever fails after twenty seconds without an event.
pub fn on_reactor<F: Future>(future: F) -> F::Output {
    let mut driver = ReactorDriver::new().expect("the reactor starts");
    let runtime = Runtime::builder("the test's reactor").reactor(Arc::new(driver.handle())).build();
    let _entered = runtime.enter();
    drive(&mut driver, future)
}

/// Polls `future` to its end, parking on `driver` whenever it was not woken.
pub fn drive<F: Future>(driver: &mut impl Park, future: F) -> F::Output {
    struct Unparks(Arc<dyn Unpark>);
    impl Wake for Unparks {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unparks(driver.unparker())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let since = Instant::now();
        while !driver.park(Some(Duration::from_secs(20))).expect("the reactor waits") {
            assert!(since.elapsed() < Duration::from_secs(20), "nothing has happened for twenty seconds");
        }
    }
}

/// Sends a signal to this process. ThreadSanitizer puts a signal off that comes to a thread in a bare system call, as the
/// harness's main thread is in, until that thread does something else: there it comes to the thread that sends it.
pub fn raise(signal: rustix::process::Signal) {
    if cfg!(evenloop_tsan) {
        signal_hook::low_level::raise(signal.as_raw()).unwrap();
    } else {
        rustix::process::kill_process(rustix::process::getpid(), signal).unwrap();
    }
}

/// Runs one future on a loop with timers on a reactor, as the facade puts it together.
///
/// A test that would wait for ever fails after twenty seconds, or as many as `EVENLOOP_PATIENCE` says.
pub fn on_loop<F: Future>(future: F) -> F::Output {
    let reactor = ReactorDriver::new().expect("the reactor starts");
    let handle = Arc::new(reactor.handle());
    let driver = Driver::new(reactor, Clock::Real);
    let runtime = Runtime::builder("evenloop").timers(driver.timers()).reactor(handle);
    let event_loop = EventLoop::builder().runtime(runtime).park(Box::new(driver)).build();
    let said = std::env::var("EVENLOOP_PATIENCE").ok();
    let seconds = said.and_then(|said| said.parse().ok()).unwrap_or(20);
    event_loop.run_until_complete(async {
        let in_time = evenloop_time::timeout(Duration::from_secs(seconds), future).await;
        in_time.expect("nothing takes so long")
    })
}

/// As `on_loop`, on a clock that jumps to the next deadline whenever nothing can run. Only for what comes from this thread:
/// bytes of another one may come after the jump.
pub fn on_jumping_loop<F: Future>(future: F) -> F::Output {
    let reactor = ReactorDriver::new().expect("the reactor starts");
    let handle = Arc::new(reactor.handle());
    let driver = Driver::new(reactor, VirtualClock::new().into());
    let runtime = Runtime::builder("evenloop").timers(driver.timers()).reactor(handle);
    let event_loop = EventLoop::builder().runtime(runtime).park(Box::new(driver)).build();
    event_loop.run_until_complete(future)
}

// === On the virtual clock ===

/// A second.
pub const SECOND: Duration = Duration::from_secs(1);

/// Runs on the virtual clock, which begins at 0 and jumps; answers how long it took there, too.
pub fn on_virtual_clock<T>(main: impl Future<Output = T>) -> (T, Duration) {
    let clock = VirtualClock::new();
    let value =
        evenloop::Runner::on_clock(clock.clone().into()).ignore_ctrl_c().run(main).expect("no Ctrl-C");
    (value, clock.elapsed())
}

/// A value that comes after so many seconds.
pub async fn after<T>(seconds: u32, value: T) -> T {
    evenloop::sleep(seconds * SECOND).await;
    value
}

// === What tests of streams begin with ===

/// Any port of this machine.
pub fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// Both ends of a connection.
pub async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(loopback()).expect("a port");
    let address = listener.local_addr().expect("an address");
    let client = TcpStream::connect(address).await.expect("the listener's queue takes it");
    let (server, _) = listener.accept().await.expect("it is in the queue");
    (client, server)
}

/// Lets the loop run until something has come true elsewhere on it.
pub async fn until(mut true_now: impl FnMut() -> bool) {
    while !true_now() {
        evenloop_executor::yield_now().await;
    }
}

/// How many descriptors this process has.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux").count()
}

/// The processor time of this thread so far.
pub fn thread_time() -> Duration {
    // By libc: rustix looks for the vDSO, and valgrind has none.
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes the place, which is ours.
    let ended = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(ended, 0, "every Linux has that clock");
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

// === Panics ===

/// Never drops it, and keeps where it lies, so that it is no leak to a tool that looks for some.
pub fn never_drop<T>(value: T) {
    static KEPT: shim::Mutex<Vec<usize>> = shim::Mutex::new(Vec::new());
    KEPT.lock().push(Box::into_raw(Box::new(value)).expose_provenance());
}

/// The words of the panic that `f` ends with.
pub fn panic_of<T>(f: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).err().expect("it panics");
    match payload.downcast::<String>() {
        Ok(words) => *words,
        Err(payload) => payload.downcast::<&str>().expect("a panic with words").to_string(),
    }
}

// === Hosts ===

/// A task of a scenario.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs the tasks that `scenario` makes on Evenloop's loop, on tokio's threads, on smol's, and each on a plain thread under
/// a bare `block_on`. `scenario` makes new ones each time.
///
/// ThreadSanitizer does not see the order that the threads of those two keep (`FOREIGN` in `xtask/src/sanitize.rs`), so
/// there each has one.
pub fn everywhere(scenario: impl Fn() -> Vec<Task>) {
    evenloop::run(async {
        let tasks: Vec<_> = scenario().into_iter().map(evenloop::create_task).collect();
        for task in tasks {
            task.await;
        }
    });
    let mut tokio = match cfg!(evenloop_tsan) {
        true => tokio::runtime::Builder::new_current_thread(),
        false => tokio::runtime::Builder::new_multi_thread(),
    };
    tokio.worker_threads(2).build().expect("a runtime").block_on(async {
        let tasks: Vec<_> = scenario().into_iter().map(tokio::spawn).collect();
        for task in tasks {
            task.await.expect("no panic");
        }
    });
    let smol = smol::Executor::new();
    let (end, ended) = smol::channel::unbounded::<()>();
    std::thread::scope(|threads| {
        if !cfg!(evenloop_tsan) {
            threads.spawn(|| smol::block_on(smol.run(ended.recv())));
        }
        let tasks: Vec<_> = scenario().into_iter().map(|task| smol.spawn(task)).collect();
        smol::block_on(smol.run(async {
            for task in tasks {
                task.await;
            }
        }));
        drop(end);
    });
    let threads: Vec<_> =
        scenario().into_iter().map(|task| std::thread::spawn(move || park_until(task))).collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
}

/// The bare `block_on`: polls to the end, and sleeps in between.
pub fn park_until<F: Future>(future: F) -> F::Output {
    struct Unparks(std::thread::Thread);
    impl Wake for Unparks {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unparks(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Lets others run once, under any host.
pub async fn give_way() {
    let mut gave = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut gave, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
