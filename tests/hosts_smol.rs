//! smol as a host: an executor of one's own with two threads, and the global one.

use evenloop_conformance::{Host, conformance, conformance_streams};
use evenloop_core::Runtime;
use evenloop_streams::{StreamReader, UnixStream};
use evenloop_tests::{Woken, poll};
use evenloop_time::{Clock, sleep};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

struct TwoThreads;

impl Host for TwoThreads {
    fn run<T: Send + 'static>(clock: Clock, main: impl Future<Output = T> + Send + 'static) -> T {
        let executor = Arc::new(smol::Executor::new());
        let runtime = evenloop_smol::runtime_on(&executor, clock);
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        std::thread::scope(|scope| {
            scope.spawn(|| smol::block_on(executor.run(stopped.recv())));
            let main = executor.spawn(runtime.scope(main));
            let outcome = catch_unwind(AssertUnwindSafe(|| smol::block_on(executor.run(main))));
            drop(stop);
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

mod two_threads {
    use super::*;
    conformance!(TwoThreads);
    conformance_streams!(TwoThreads);
}

#[test]
fn when_its_executor_is_dropped_a_pending_sleep_is_woken_and_says_so() {
    let executor = Arc::new(smol::Executor::new());
    let runtime = evenloop_smol::runtime_on(&executor, Clock::Real);
    let (woken, waker) = Woken::waker();
    let _entered = runtime.enter();
    let mut nap = sleep(HOUR);
    assert!(poll(&mut nap, &waker).is_pending());
    drop(executor);
    assert_eq!(woken.times(), 1);
    let panic = catch_unwind(AssertUnwindSafe(|| poll(&mut nap, &waker))).expect_err("it panics");
    let said = panic.downcast_ref::<String>().unwrap();
    assert!(said.starts_with("`sleep` needs timers, and the smol runtime has ended: "), "{said}");
    let refused = runtime.spawn_for("test").unwrap().spawn(Box::pin(async {})).expect_err("it is gone");
    assert_eq!(refused.to_string(), "not spawned: the smol executor was dropped");
}

#[test]
fn when_its_executor_is_dropped_a_pending_read_is_woken_and_says_so() {
    let executor = Arc::new(smol::Executor::new());
    let runtime = evenloop_smol::runtime_on(&executor, Clock::Real);
    let _entered = runtime.enter();
    let (woken, waker) = Woken::waker();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let mut reader = StreamReader::new(ours);
    assert!(poll(&mut reader.readline(), &waker).is_pending());
    drop(executor);
    assert_eq!(woken.times(), 1);
    let Poll::Ready(Err(error)) = poll(&mut reader.readline(), &waker) else { panic!("it ends") };
    assert!(error.to_string().contains("the reactor that watched the descriptor has ended"), "{error}");
}

#[test]
fn an_executor_that_is_gone_takes_neither_a_socket_nor_work() {
    let executor = Arc::new(smol::Executor::new());
    let runtime = evenloop_smol::runtime_on(&executor, Clock::Real);
    drop(executor);
    let spawn = runtime.spawn_for("test").unwrap();
    let refused = spawn.spawn(Box::pin(async {})).expect_err("the executor is gone");
    assert_eq!(refused.to_string(), "not spawned: the smol executor was dropped");
    spawn.spawn_blocking(Box::new(|| ())).expect_err("the executor is gone");
    let _entered = runtime.enter();
    let error = UnixStream::pair().unwrap_err();
    assert!(error.to_string().contains("the smol executor was dropped"), "{error}");
}

#[test]
fn a_local_future_comes_back() {
    let runtime = evenloop_smol::runtime();
    let local = runtime.spawn_for("test").unwrap().spawn_local(Box::pin(async {}));
    assert!(local.unwrap_err().to_string().contains("LocalExecutor"));
}

#[test]
fn once_installed_it_is_found_everywhere() {
    evenloop_smol::install().unwrap();
    let again = evenloop_smol::install().unwrap_err();
    assert!(again.to_string().contains("installed for this process already"), "{again}");
    let start = Instant::now();
    smol::block_on(async {
        let tasks = (0..10).map(|_| smol::spawn(sleep(2 * MS))).collect::<Vec<_>>();
        for task in tasks {
            task.await;
        }
    });
    assert!(start.elapsed() >= 2 * MS);
    std::thread::spawn(|| futures::executor::block_on(sleep(MS))).join().unwrap();
    assert!(Runtime::current().is_some_and(|runtime| runtime.name() == "smol"));
}
