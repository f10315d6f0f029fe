//! tokio as a host: current-thread and multi-thread.

use evenloop_conformance::{Host, conformance};
use evenloop_tests::{Woken, poll};
use evenloop_time::{Clock, VirtualClock, sleep, timeout};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::Duration;
use tokio::runtime::Builder;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

struct CurrentThread;
struct MultiThread;

fn run_on<T: Send + 'static>(
    tokio: tokio::runtime::Runtime,
    clock: Clock,
    main: impl Future<Output = T> + Send + 'static,
) -> T {
    let runtime = evenloop_tokio::runtime_on(tokio.handle(), clock);
    tokio.block_on(async { tokio::spawn(runtime.scope(main)).await.unwrap() })
}

impl Host for CurrentThread {
    fn run<T: Send + 'static>(clock: Clock, main: impl Future<Output = T> + Send + 'static) -> T {
        run_on(Builder::new_current_thread().enable_time().build().unwrap(), clock, main)
    }
}

impl Host for MultiThread {
    fn run<T: Send + 'static>(clock: Clock, main: impl Future<Output = T> + Send + 'static) -> T {
        run_on(Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap(), clock, main)
    }
}

mod current_thread {
    use super::*;
    conformance!(CurrentThread);
}

mod multi_thread {
    use super::*;
    conformance!(MultiThread);
}

fn message(body: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(body)).expect_err("it panics");
    panic.downcast_ref::<String>().expect("with a message").clone()
}

fn tokio() -> tokio::runtime::Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap()
}

#[test]
fn when_tokio_is_dropped_a_pending_sleep_is_woken_and_goes_on_elsewhere_or_says_so() {
    let tokio = tokio();
    let runtime = evenloop_tokio::runtime_on(tokio.handle(), Clock::Real);
    let (woken, waker) = Woken::waker();
    let mut naps = {
        let _entered = runtime.enter();
        [sleep(3600 * SECOND), sleep(3600 * SECOND)]
    };
    {
        let _entered = runtime.enter();
        assert!(naps.iter_mut().all(|nap| poll(nap, &waker).is_pending()));
    }
    drop(tokio);
    assert_eq!(woken.times(), 2);
    let [nowhere, elsewhere] = &mut naps;

    let said = message(|| assert!(poll(nowhere, &waker).is_pending()));
    assert!(said.starts_with("`sleep` needs timers, and this thread has no runtime: "), "{said}");
    assert!(said.contains("enter an adapter") && said.contains("`_on` twin"), "{said}");
    let entered = runtime.enter();
    let said = message(|| assert!(poll(&mut sleep(MS), &waker).is_pending()));
    assert!(said.starts_with("`sleep` needs timers, and the tokio runtime has ended: "), "{said}");
    drop(entered);

    let clock = VirtualClock::paused();
    let other = Builder::new_current_thread().build().unwrap();
    let _other = evenloop_tokio::runtime_on(other.handle(), clock.clone().into()).enter();
    assert!(poll(elsewhere, &waker).is_pending());
    clock.advance(3601 * SECOND);
    assert!(poll(elsewhere, &waker).is_ready());
}

#[test]
fn what_cannot_be_spawned_comes_back() {
    let tokio = tokio();
    let runtime = evenloop_tokio::runtime_on(tokio.handle(), Clock::Real);
    let spawn = runtime.spawn_for("test").unwrap();
    let local = spawn.spawn_local(Box::pin(async {})).expect_err("tokio moves its tasks");
    assert!(local.to_string().contains("LocalSet"), "{local}");
    drop(tokio);
    let refused = spawn.spawn(Box::pin(async {})).expect_err("tokio is gone");
    assert_eq!(refused.to_string(), "not spawned: the tokio runtime has shut down");
    drop(refused.into_inner());
    spawn.spawn_blocking(Box::new(|| ())).expect_err("tokio is gone");
}

#[test]
fn without_a_runtime_the_message_names_the_call_and_both_ways_out() {
    let tokio = tokio();
    let said = message(|| assert!(tokio.block_on(timeout(MS, std::future::pending::<()>())).is_err()));
    assert!(said.starts_with("`timeout` needs timers, and this thread has no runtime: "), "{said}");
    assert!(said.contains("enter an adapter such as evenloop-tokio"), "{said}");
    assert!(said.contains("hand a `Runtime` to its `_on` twin"), "{said}");
    assert!(evenloop_tokio::runtime().unwrap_err().to_string().contains("evenloop_tokio::runtime_on"));
    assert!(evenloop_tokio::install().unwrap_err().to_string().contains("no tokio runtime"));
}

#[test]
fn two_hosts_live_in_one_process_and_a_sleep_stays_with_its_own() {
    let (one, two) = (tokio(), Builder::new_current_thread().enable_time().build().unwrap());
    let (clock_one, clock_two) = (VirtualClock::paused(), VirtualClock::paused());
    let on_one = evenloop_tokio::runtime_on(one.handle(), clock_one.clone().into());
    let on_two = evenloop_tokio::runtime_on(two.handle(), clock_two.clone().into());
    let mut nap = Box::pin(on_one.scope(sleep_within_scope()));
    assert!(poll(&mut nap, Waker::noop()).is_pending());
    // Awaited on the other host, it still follows the clock of the first.
    let moved = two.spawn(on_two.scope(nap));
    clock_two.advance(3600 * SECOND);
    two.block_on(tokio::task::yield_now());
    assert!(!moved.is_finished());
    clock_one.advance(SECOND);
    two.block_on(moved).unwrap();

    // And a loop of ours beside them, on the same thread.
    let mut stage = evenloop_tests::Stage::jumping().0;
    stage.block_on(sleep(SECOND));
}

async fn sleep_within_scope() {
    sleep(SECOND).await;
}

#[test]
fn a_runtime_without_tokios_timers_says_that_they_have_ended() {
    let tokio = Builder::new_current_thread().build().unwrap();
    let runtime = evenloop_tokio::runtime_on(tokio.handle(), Clock::Real);
    let said = message(|| tokio.block_on(runtime.scope(sleep(SECOND))));
    assert!(said.starts_with("`sleep` needs timers, and the tokio runtime has ended: "), "{said}");
}

#[test]
fn the_task_that_drives_the_timers_ends_with_the_last_handle() {
    let tokio = Builder::new_current_thread().enable_time().build().unwrap();
    let runtime = evenloop_tokio::runtime_on(tokio.handle(), Clock::Real);
    tokio.block_on(runtime.scope(sleep(MS)));
    assert_eq!(tokio.metrics().num_alive_tasks(), 1);
    drop(runtime);
    tokio.block_on(async {
        while tokio.metrics().num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    });
}
