//! tokio as a host: current-thread and multi-thread.

use evenloop_conformance::{Host, conformance, conformance_streams};
use evenloop_streams::{StreamReader, TcpListener, UnixStream};
use evenloop_tests::{Woken, poll};
use evenloop_time::{Clock, VirtualClock, sleep, timeout};
use futures::future::Either;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Poll, Waker};
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
        run_on(Builder::new_current_thread().enable_all().build().unwrap(), clock, main)
    }
}

impl Host for MultiThread {
    fn run<T: Send + 'static>(clock: Clock, main: impl Future<Output = T> + Send + 'static) -> T {
        run_on(Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap(), clock, main)
    }
}

mod current_thread {
    use super::*;
    conformance!(CurrentThread);
    conformance_streams!(CurrentThread);
}

mod multi_thread {
    use super::*;
    conformance!(MultiThread);
    conformance_streams!(MultiThread);
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

#[test]
fn when_tokio_is_dropped_a_pending_read_is_woken_and_says_so() {
    let tokio = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let runtime = evenloop_tokio::runtime_on(tokio.handle(), Clock::Real);
    let (woken, waker) = Woken::waker();
    let (ours, _theirs) = {
        let _entered = runtime.enter();
        UnixStream::pair().unwrap()
    };
    let mut reader = StreamReader::new(ours);
    let mut read = reader.readline();
    assert!(poll(&mut read, &waker).is_pending());
    drop(tokio);
    assert_eq!(woken.times(), 1);
    let Poll::Ready(Err(error)) = poll(&mut read, &waker) else { panic!("it ends") };
    assert!(error.to_string().contains("the reactor that watched the descriptor has ended"), "{error}");
    let _entered = runtime.enter();
    let error = UnixStream::pair().unwrap_err();
    assert!(error.to_string().contains("has ended"), "a new one: {error}");
}

#[test]
fn a_pending_read_moves_between_the_hosts_threads_and_to_a_bare_one() {
    let tokio = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let runtime = evenloop_tokio::runtime_on(tokio.handle(), Clock::Real);
    let (ours, theirs) = {
        let _entered = runtime.enter();
        UnixStream::pair().unwrap()
    };
    let mut reader = StreamReader::new(ours);
    assert!(poll(&mut reader.readexactly(2), Waker::noop()).is_pending());
    let (first, mut reader) = tokio
        .block_on(async {
            theirs.try_write(b"on").unwrap();
            tokio::spawn(async move { (reader.readexactly(2).await, reader) }).await
        })
        .unwrap();
    assert_eq!(first.unwrap(), b"on");
    // A thread that tokio does not know: the socket is still watched by tokio's guest.
    assert!(poll(&mut reader.readexactly(2), Waker::noop()).is_pending());
    let elsewhere = std::thread::spawn(move || evenloop_tests::park_until(reader.readexactly(2)));
    theirs.try_write(b"ly").unwrap();
    assert_eq!(elsewhere.join().unwrap().unwrap(), b"ly");
}

#[test]
fn sockets_of_two_hosts_talk_to_each_other_in_one_process() {
    let one = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let on_one = evenloop_tokio::runtime_on(one.handle(), Clock::Real);
    let (listener, address) = {
        let _entered = on_one.enter();
        let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    };
    let served = one.spawn(on_one.scope(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"from tokio\n").await.unwrap();
    }));
    // A loop of ours on this thread, and smol's executor on another, each with its own sockets.
    evenloop::run(async move {
        let (mut reader, _writer) = evenloop::open_connection("127.0.0.1", address.port()).await.unwrap();
        assert_eq!(reader.readline().await.unwrap(), b"from tokio\n");
    });
    one.block_on(served).unwrap();
}

#[test]
fn sockets_without_tokios_io_say_what_is_missing() {
    let tokio = Builder::new_current_thread().enable_time().build().unwrap();
    let runtime = evenloop_tokio::runtime_on(tokio.handle(), Clock::Real);
    let _entered = runtime.enter();
    for _ in 0..2 {
        let error = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
        let said = error.to_string();
        assert!(said.starts_with("listening on 127.0.0.1:0: ") && said.contains("`enable_io`"), "{said}");
    }
}

#[test]
fn the_task_that_drives_the_reactor_ends_with_the_last_socket() {
    let tokio = Builder::new_current_thread().enable_all().build().unwrap();
    let runtime = evenloop_tokio::runtime_on(tokio.handle(), Clock::Real);
    let tasks = || tokio.metrics().num_alive_tasks();
    assert_eq!(tasks(), 1, "the timers'");
    let pair = tokio.block_on(runtime.scope(async { UnixStream::pair() })).unwrap();
    assert_eq!(tasks(), 2);
    drop(runtime);
    tokio.block_on(sleep_on_tokio(5 * MS));
    assert_eq!(tasks(), 1, "a socket keeps the reactor");
    drop(pair);
    tokio.block_on(async {
        while tasks() > 0 {
            tokio::task::yield_now().await;
        }
    });
}

async fn sleep_on_tokio(duration: Duration) {
    tokio::time::sleep(duration).await;
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
    // But tokio has not.
    let (sender, receiver) = evenloop_sync::oneshot::channel();
    let spawn = runtime.spawn_for("test").unwrap();
    spawn.spawn(Box::pin(async { sender.send("spawned").unwrap() })).unwrap();
    assert_eq!(tokio.block_on(receiver).unwrap(), "spawned");
    spawn.spawn_blocking(Box::new(|| ())).unwrap();
}

#[test]
fn where_tokio_has_paused_its_clock_ours_jumps_with_it() {
    let mut builder = Builder::new_current_thread();
    let tokio = builder.enable_time().start_paused(true).build().unwrap();
    let runtime = evenloop_tokio::runtime_on(tokio.handle(), Clock::Real);
    tokio.block_on(runtime.scope(async {
        let (began, tokios) = (evenloop_time::now(), tokio::time::Instant::now());
        sleep(3600 * SECOND).await;
        let (ours, tokios) = (evenloop_time::now() - began, tokios.elapsed());
        assert!(ours >= 3600 * SECOND && ours < 3601 * SECOND, "{ours:?}");
        assert!(tokios >= 3600 * SECOND && tokios < 3601 * SECOND, "{tokios:?}");
        // And by turns with its own, in order.
        let (two, one) = (tokio::time::sleep(20 * MS), sleep(10 * MS));
        let (mut two, mut one) = (std::pin::pin!(two), std::pin::pin!(one));
        assert!(matches!(futures::future::select(&mut two, &mut one).await, Either::Right(_)));
    }));
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
