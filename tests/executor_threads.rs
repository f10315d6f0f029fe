//! Other threads: blocking jobs, tasks that another thread waits for.

use evenloop_executor::{EventLoop, ThreadPool, create_task, to_thread, try_to_thread, yield_now};
use evenloop_tests::panic_of;
use futures::FutureExt;
use std::cell::RefCell;
use std::future::pending;
use std::panic::panic_any;
use std::process::Command;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(30);

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a destructor");
    }
}

/// A pool whose one thread is at work until the sender goes.
fn busy_pool() -> (ThreadPool, mpsc::Sender<()>) {
    let (pool, (go, gate)) = (ThreadPool::new(1), mpsc::channel::<()>());
    let (began, begins) = mpsc::channel();
    pool.run(move || {
        began.send(()).unwrap();
        gate.recv().ok()
    })
    .detach();
    begins.recv_timeout(LONG).unwrap();
    (pool, go)
}

#[test]
fn a_job_runs_on_another_thread_and_answers() {
    let (here, there) = EventLoop::new()
        .run_until_complete(async { (thread::current().id(), to_thread(|| thread::current().id()).await) });
    assert_ne!(here, there);
}

#[test]
fn the_loop_goes_on_while_a_job_blocks() {
    EventLoop::new().run_until_complete(async {
        let (send, receive) = mpsc::channel();
        let job = to_thread(move || receive.recv().unwrap());
        yield_now().await;
        send.send("from the loop").unwrap();
        assert_eq!(job.await, "from the loop");
    });
}

#[test]
fn a_pool_keeps_its_bound_and_its_order() {
    let pool = ThreadPool::new(1);
    let (order, seen) = mpsc::channel();
    let (go, gate) = mpsc::channel::<()>();
    EventLoop::new().run_until_complete(async {
        let first = pool.run(move || gate.recv().unwrap());
        let rest: Vec<_> = (0..3)
            .map(|number| {
                let order = order.clone();
                pool.run(move || order.send(number).unwrap())
            })
            .collect();
        assert_eq!(pool.threads(), 1);
        go.send(()).unwrap();
        first.await;
        for job in rest {
            job.await;
        }
    });
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_job_cancelled_before_it_begins_never_runs_and_holds_nothing() {
    let pool = ThreadPool::new(1);
    let (go, gate) = mpsc::channel::<()>();
    let busy = pool.run(move || gate.recv().unwrap());
    let held = Arc::new(());
    let inside = held.clone();
    let late = pool.run(move || drop(inside));
    drop(late);
    assert_eq!(Arc::strong_count(&held), 1);

    let inside = held.clone();
    let late = pool.run(move || drop(inside));
    EventLoop::new().run_until_complete(async {
        assert!(late.cancel().await.is_none());
        go.send(()).unwrap();
        busy.await;
    });
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn a_running_job_learns_that_it_was_cancelled_and_is_waited_for() {
    let pool = ThreadPool::new(2);
    let (began, begins) = mpsc::channel();
    let job = pool
        .try_run(move |scope| {
            began.send(()).unwrap();
            while !scope.is_cancelled() {
                thread::yield_now();
            }
            "ended early"
        })
        .unwrap();
    begins.recv_timeout(LONG).unwrap();
    let outcome = EventLoop::new().run_until_complete(job.cancel());
    assert_eq!(outcome.unwrap().unwrap(), "ended early");
}

#[test]
fn an_abandoned_job_learns_of_it() {
    let pool = ThreadPool::new(1);
    let (told, tells) = mpsc::channel();
    let (began, begins) = mpsc::channel();
    let job = pool
        .try_run(move |scope| {
            began.send(()).unwrap();
            while !scope.is_cancelled() {
                thread::yield_now();
            }
            told.send(()).unwrap();
        })
        .unwrap();
    begins.recv_timeout(LONG).unwrap();
    drop(job);
    tells.recv_timeout(LONG).unwrap();
}

#[test]
fn a_detached_job_runs_on() {
    let pool = ThreadPool::new(1);
    let (told, tells) = mpsc::channel();
    pool.try_run(move |scope| told.send(scope.is_cancelled()).unwrap()).unwrap().detach();
    assert!(!tells.recv_timeout(LONG).unwrap());
}

#[test]
fn a_jobs_panic_is_handed_over_and_its_thread_goes_on() {
    let pool = ThreadPool::new(1);
    EventLoop::new().run_until_complete(async {
        let error = pool.run(|| panic!("in a job")).join().await.unwrap_err();
        assert_eq!(error.to_string(), "the task panicked: in a job");
        assert_eq!(pool.run(|| 1).await, 1);
    });
    assert_eq!(pool.threads(), 1);
}

#[test]
fn a_job_can_call_back_into_the_loop() {
    let event_loop = EventLoop::new();
    let handle = event_loop.handle();
    let loops_thread = thread::current().id();
    event_loop.run_until_complete(async {
        let asked =
            to_thread(move || handle.spawn(async { thread::current().id() }).unwrap().join_blocking());
        assert_eq!(asked.await.unwrap(), loops_thread);
    });
}

#[test]
fn a_pool_that_is_shut_down_gives_the_work_back() {
    let pool = ThreadPool::new(1);
    pool.close();
    let held = Arc::new(());
    let inside = held.clone();
    let refused = pool.try_run(move |_| drop(inside)).unwrap_err();
    assert_eq!(refused.why, "the thread pool is shut down");
    assert_eq!(Arc::strong_count(&held), 2);
    drop(refused);
    assert_eq!(panic_of(|| pool.run(|| ())), "`ThreadPool::run`: the thread pool is shut down");
}

#[test]
fn shutdown_waits_for_what_is_queued_and_ends_the_threads() {
    let pool = ThreadPool::new(2);
    let (told, tells) = mpsc::channel();
    for number in 0..10 {
        let told = told.clone();
        pool.run(move || told.send(number).unwrap()).detach();
    }
    pool.shutdown(LONG).unwrap();
    assert_eq!((tells.try_iter().count(), pool.threads()), (10, 0));
}

#[test]
fn shutdown_gives_up_at_its_deadline() {
    let pool = ThreadPool::new(1);
    let (go, gate) = mpsc::channel::<()>();
    let (began, begins) = mpsc::channel();
    pool.run(move || {
        began.send(()).unwrap();
        gate.recv().unwrap();
    })
    .detach();
    begins.recv_timeout(LONG).unwrap();
    let held = Arc::new(());
    let inside = held.clone();
    let late = pool.run(move || drop(inside));
    assert_eq!(pool.shutdown(Duration::ZERO), Err(1));
    assert_eq!(Arc::strong_count(&held), 1);
    drop(late);
    go.send(()).unwrap();
    pool.shutdown(LONG).unwrap();
}

#[test]
fn an_idle_thread_ends_after_its_time() {
    let pool = ThreadPool::named("short-lived", 1, Duration::ZERO);
    EventLoop::new().run_until_complete(async {
        let name = pool.run(|| thread::current().name().map(str::to_owned)).await;
        assert_eq!(name.as_deref(), Some("short-lived"));
    });
    pool.shutdown(LONG).unwrap();
}

#[test]
fn a_loops_own_pool_is_as_large_as_asyncios() {
    let processors = std::thread::available_parallelism().unwrap().get();
    let expected = if processors > 28 { 32 } else { processors + 4 };
    let (own, given) = (EventLoop::new(), EventLoop::builder().thread_pool(ThreadPool::new(3)).build());
    let size = |event_loop: &EventLoop| event_loop.handle().thread_pool().statistics().max_threads;
    assert_eq!((size(&own), size(&given)), (expected, 3));
}

#[test]
fn a_closed_loop_ends_its_threads() {
    let event_loop = EventLoop::new();
    let pool = event_loop.handle().thread_pool().clone();
    event_loop.run_until_complete(to_thread_later());
    assert_eq!(pool.threads(), 1);
    drop(event_loop);
    // A pool that is open lets its threads go as well, after ten seconds without a job.
    let (begin, at_once) = (Instant::now(), Duration::from_secs(5));
    while pool.threads() > 0 {
        assert!(begin.elapsed() < at_once, "{} are left", pool.threads());
        thread::yield_now();
    }
}

/// `to_thread` looks for its runtime when it is called.
async fn to_thread_later() {
    to_thread(|| ()).await;
}

#[test]
fn without_a_runtime_to_thread_says_so() {
    let message = panic_of(|| to_thread(|| ()));
    assert!(message.starts_with("`to_thread` needs to spawn, and this thread has no runtime"), "{message}");
    assert!(try_to_thread(|_| ()).is_err());
}

#[test]
fn waiting_for_oneself_says_so() {
    let event_loop = EventLoop::new();
    let handle = event_loop.handle();
    let message = event_loop.run_until_complete(async {
        let task = handle.spawn(async {}).unwrap();
        panic_of(|| task.join_blocking())
    });
    assert!(message.starts_with("`join_blocking` on the thread of the task's own loop"), "{message}");
}

#[test]
fn joining_with_a_time_limit_gives_the_handle_back() {
    let event_loop = EventLoop::new();
    let task = event_loop.handle().spawn(async { 5 }).unwrap();
    let task = task.join_timeout(Duration::ZERO).unwrap_err();
    event_loop.run_once(Some(Duration::ZERO));
    assert_eq!(task.join_timeout(Duration::MAX).unwrap().unwrap(), 5);
}

#[test]
fn a_task_of_a_loop_that_closes_ends_cancelled() {
    let event_loop = EventLoop::new();
    let task = event_loop.handle().spawn(pending::<()>()).unwrap();
    event_loop.run_once(Some(Duration::ZERO));
    drop(event_loop);
    assert!(task.join_blocking().unwrap_err().is_cancelled());
}

#[test]
fn a_panic_that_no_thread_took_is_reported_once() {
    let reports = Rc::new(RefCell::new(Vec::new()));
    let hook = reports.clone();
    let event_loop = EventLoop::builder()
        .on_unhandled(move |error| hook.borrow_mut().push(error.panic_message().unwrap().to_owned()))
        .build();
    let (before, after) = (event_loop.handle(), event_loop.handle());
    drop(before.spawn(async { panic!("nobody waits") }).unwrap());
    event_loop.run_once(Some(Duration::ZERO));
    let unread = after.spawn(async { panic!("nobody looked") }).unwrap();
    event_loop.run_once(Some(Duration::ZERO));
    drop(unread);
    event_loop.run_once(Some(Duration::ZERO));
    assert_eq!(*reports.borrow(), ["nobody waits", "nobody looked"]);
}

#[test]
fn a_job_that_is_waited_for_is_told_of_the_cancel_and_its_value_is_not_lost() {
    let pool = ThreadPool::new(1);
    let (began, begins) = mpsc::channel();
    let job = pool.try_run(move |scope| {
        began.send(()).unwrap();
        while !scope.is_cancelled() {
            thread::yield_now();
        }
        7
    });
    let job = job.unwrap();
    EventLoop::new().run_until_complete(async {
        let seen = Rc::new(RefCell::new(None));
        let inside = seen.clone();
        let mut task = create_task(async move {
            let value = job.waited_for().await;
            inside.replace(Some(value));
            yield_now().await; // here the cancellation strikes
            unreachable!("it was cancelled");
        });
        yield_now().await;
        begins.recv_timeout(LONG).unwrap();
        task.cancel("test");
        let ended: Result<(), evenloop_executor::JoinError> = task.join().await;
        let error = ended.unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!(*seen.borrow(), Some(7));
    });
}

#[test]
fn a_job_that_is_waited_for_and_never_began_lets_the_cancellation_pass() {
    let pool = ThreadPool::new(1);
    let (go, gate) = mpsc::channel::<()>();
    let busy = pool.run(move || gate.recv().unwrap());
    let late = pool.run(|| unreachable!("it was cancelled before"));
    EventLoop::new().run_until_complete(async {
        let mut task = create_task(async move { late.waited_for().await });
        yield_now().await;
        task.cancel("test");
        assert!(task.join().await.unwrap_err().is_cancelled());
        go.send(()).unwrap();
        busy.await;
        assert_eq!(pool.run(|| 3).waited_for().await, 3);
        assert!(
            create_task(pool.run(|| panic!("in a job")).waited_for()).join().await.unwrap_err().is_panic()
        );
    });
    let statistics = pool.statistics();
    assert_eq!((statistics.threads, statistics.max_threads, statistics.queued_jobs), (1, 1, 0));
}

#[test]
fn jobs_that_were_given_up_leave_the_line() {
    let (pool, go) = busy_pool();
    (0..1000).for_each(|_| drop(pool.run(|| ())));
    assert_eq!((pool.queued_jobs(), pool.statistics().queued_jobs), (0, 0));
    assert_eq!(format!("{pool:?}"), "ThreadPool [threads: 1 of 1, queued: 0]");
    EventLoop::builder().thread_pool(pool.clone()).build().run_until_complete(async {
        let late = to_thread(|| ());
        assert_eq!(pool.queued_jobs(), 1);
        drop(late);
        assert_eq!(pool.queued_jobs(), 0);
        assert!(to_thread(|| ()).cancel().await.is_none());
        assert_eq!(pool.queued_jobs(), 0);
    });
    drop(go);
    pool.shutdown(LONG).unwrap();
}

#[test]
fn those_that_stay_in_line_keep_their_order() {
    let (pool, go) = busy_pool();
    let (order, seen) = mpsc::channel();
    let mut jobs: Vec<_> = (0..100)
        .map(|number| {
            let order = order.clone();
            Some(pool.run(move || order.send(number).unwrap()))
        })
        .collect();
    for (number, job) in jobs.iter_mut().enumerate().rev() {
        let job = job.take().unwrap();
        if number % 7 == 0 { job.detach() } else { drop(job) }
    }
    assert_eq!(pool.queued_jobs(), 15);
    drop(go);
    pool.shutdown(LONG).unwrap();
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), (0..100).step_by(7).collect::<Vec<_>>());
}

// === Threads that cannot be started ===

#[test]
fn without_a_single_thread_the_work_comes_back() {
    const CHILD: &str = "EVENLOOP_TEST_WITHOUT_THREADS";
    if std::env::var_os(CHILD).is_none() {
        // In a process of its own, where the stack of a thread is too large to be had.
        let test = "without_a_single_thread_the_work_comes_back";
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args([test, "--exact", "--nocapture"])
            .env(CHILD, "1")
            .env("RUST_MIN_STACK", (1_u64 << 46).to_string());
        let output = child.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let pool = ThreadPool::new(2);
    let held = Arc::new(());
    for _ in 0..2 {
        let inside = held.clone();
        let refused = pool.try_run(move |_| drop(inside)).unwrap_err();
        assert_eq!((refused.why, Arc::strong_count(&held)), ("no thread could be started", 2));
        drop(refused);
        assert_eq!((pool.threads(), pool.queued_jobs(), Arc::strong_count(&held)), (0, 0, 1));
    }
    EventLoop::new().run_until_complete(async {
        let refused = try_to_thread(|_| ()).unwrap().unwrap_err();
        assert_eq!(refused.why, "no thread could be started");
        create_task(async {}).await;
    });
    assert_eq!(pool.shutdown(Duration::ZERO), Ok(()));
}

// === Destructors that panic ===

#[test]
fn a_job_that_is_dropped_with_its_pool_tells_of_a_destructor_that_panics() {
    let (pool, _go) = busy_pool();
    let bomb = Bomb;
    let mut late = pool.run(move || drop(bomb));
    pool.close();
    let ended: Result<(), _> = late.join().now_or_never().expect("nothing will ever run it");
    assert_eq!(ended.unwrap_err().to_string(), "the task panicked: a destructor");
}

#[test]
fn a_job_that_is_cancelled_tells_of_a_destructor_that_panics() {
    let (pool, go) = busy_pool();
    let [first, second, third] = [Bomb, Bomb, Bomb].map(|bomb| pool.run(move || drop(bomb)));
    EventLoop::new().run_until_complete(async {
        let ended = first.cancel().await.expect("the panic is an end");
        assert_eq!(ended.unwrap_err().to_string(), "the task panicked: a destructor");
        let mut waits = create_task(second.waited_for());
        yield_now().await;
        waits.cancel("test");
        assert!(waits.join().await.unwrap_err().is_panic());
    });
    assert_eq!(panic_of(|| drop(third)), "a destructor");
    drop(go);
    assert_eq!(EventLoop::new().run_until_complete(pool.run(|| 1)), 1);
}

#[test]
fn a_task_that_was_not_made_yet_tells_of_a_destructor_that_panics() {
    let event_loop = EventLoop::new();
    let bomb = Bomb;
    let make = move || {
        drop(bomb);
        async {}
    };
    let task = event_loop.handle().spawn_with(make).unwrap();
    drop(event_loop);
    let Ok(ended) = task.join_timeout(Duration::ZERO) else { panic!("nothing will ever make it") };
    assert_eq!(ended.unwrap_err().to_string(), "the task panicked: a destructor");
}

#[test]
fn a_destructor_that_panics_in_a_task_that_nobody_waits_for_is_reported() {
    let reports = Rc::new(RefCell::new(Vec::new()));
    let hook = reports.clone();
    let event_loop = EventLoop::builder()
        .on_unhandled(move |error| hook.borrow_mut().push(error.panic_message().unwrap().to_owned()))
        .build();
    let bomb = Bomb;
    let make = move || {
        drop(bomb);
        async {}
    };
    event_loop.handle().spawn_with(make).unwrap().detach();
    drop(event_loop);
    assert_eq!(*reports.borrow(), ["a destructor"]);
}

#[test]
fn a_panic_that_panics_in_turn_does_not_end_the_thread() {
    let pool = ThreadPool::new(1);
    pool.execute(Box::new(|| panic_any(Bomb))).unwrap();
    pool.run(|| panic_any(Bomb)).detach();
    let (told, tells) = mpsc::channel();
    pool.run(move || told.send(()).unwrap()).detach();
    tells.recv_timeout(LONG).unwrap();
    assert_eq!(pool.threads(), 1);
}
