//! Rows of what ends elsewhere: in a thread, in a child process, at a signal.

use crate::scene::{OnLoop, Only, Row, Test, Waiting, end, on_loop};
use evenloop_core::shim::{Condvar, Mutex};
use evenloop_core::{BoxFuture, BoxJob, LocalBoxFuture, NotSpawned, Runtime, Spawn};
use evenloop_executor::{Job, ctrl_c, to_thread, try_to_thread};
use evenloop_streams::lookup_host;
use evenloop_streams::process::{Command, Ending, PIPE, Process, ProcessHandle};
use evenloop_streams::signal::{Signal, SignalKind, signal};
use evenloop_tests::Woken;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, getpid, pidfd_open, waitid};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Once, Weak};
use std::task::Context;
use std::thread::ThreadId;

const THROUGH_MUT: &str = "it is awaited through `&mut`, so one waits at a time";
const NOT_TOLD: &str = "how many wait is not told";

fn uncounted<S: 'static>(
    name: &'static str,
    state: impl Fn() -> S + 'static,
    wait: for<'a> fn(&'a OnLoop<S>) -> Waiting<'a>,
    serve: fn(&OnLoop<S>),
) -> Row {
    on_loop(name, state, wait, serve, |_| 0, |on| end(on.event_loop.time())).without(Test::Count, NOT_TOLD)
}

// === Threads ===

/// Jobs whose threads have not come to them yet. They do so at the latest when nobody is left who could wait.
#[derive(Default)]
struct Jobs(Mutex<Vec<BoxJob>>);

impl Jobs {
    fn run(&self) {
        loop {
            let job = self.0.lock().pop();
            let Some(job) = job else { return };
            job();
        }
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.run();
    }
}

impl Spawn for Jobs {
    fn spawn(&self, future: BoxFuture) -> Result<(), NotSpawned<BoxFuture>> {
        Err(NotSpawned { value: future, why: "it has threads for jobs only" })
    }

    fn spawn_local(&self, future: LocalBoxFuture) -> Result<(), NotSpawned<LocalBoxFuture>> {
        Err(NotSpawned { value: future, why: "it has threads for jobs only" })
    }

    fn spawn_blocking(&self, job: BoxJob) -> Result<(), NotSpawned<BoxJob>> {
        self.0.lock().push(job);
        Ok(())
    }
}

/// One job that outlives those who wait for it, and its thread.
struct AJob<T> {
    jobs: Arc<Jobs>,
    runtime: Runtime,
    only: Only<T>,
}

impl<T> AJob<T> {
    fn new() -> Self {
        let jobs = Arc::new(Jobs::default());
        let runtime = Runtime::builder("jobs").spawn(jobs.clone()).build();
        Self { jobs, runtime, only: Only::default() }
    }
}

fn a_job<T: 'static>(name: &'static str, wait: for<'a> fn(&'a OnLoop<AJob<T>>) -> Waiting<'a>) -> Row {
    uncounted(name, AJob::new, wait, |on| on.of.jobs.run()).without(Test::Many, THROUGH_MUT)
}

/// Those who each have a job and a thread of their own.
#[derive(Default)]
struct Threads(RefCell<Vec<Weak<Jobs>>>);

impl Threads {
    /// Does what begins a job. Its thread ends after whoever waits for it.
    async fn each_its_own<T>(&self, work: impl Future<Output = T>) -> T {
        let jobs = Arc::new(Jobs::default());
        {
            let mut all = self.0.borrow_mut();
            all.retain(|jobs| jobs.strong_count() > 0);
            all.push(Arc::downgrade(&jobs));
        }
        let runtime = Runtime::builder("jobs").spawn(jobs.clone()).build();
        runtime.scope(work).await
    }

    fn run(&self) {
        let all: Vec<_> = self.0.borrow().iter().filter_map(Weak::upgrade).collect();
        all.iter().for_each(|jobs| jobs.run());
    }
}

fn threads() -> Vec<Row> {
    vec![
        a_job::<Job<u8>>("executor::to_thread", |on| {
            on.inside(on.of.runtime.scope(async {
                let mut job = on.of.only.or_put(|| to_thread(|| 1));
                assert_eq!((&mut *job).await, 1);
                job.over();
            }))
        }),
        a_job::<Job<u8>>("executor::try_to_thread", |on| {
            on.inside(on.of.runtime.scope(async {
                let begun = || try_to_thread(|_| 1).expect("a runtime is here").expect("it takes jobs");
                let mut job = on.of.only.or_put(begun);
                assert_eq!((&mut *job).await, 1);
                job.over();
            }))
        }),
        a_job::<Job<u8>>("executor::Job::join", |on| {
            on.inside(on.of.runtime.scope(async {
                let mut job = on.of.only.or_put(|| to_thread(|| 1));
                assert_eq!(job.join().await.ok(), Some(1));
                job.over();
            }))
        }),
        a_job::<Pin<Box<dyn Future<Output = u8>>>>("executor::Job::waited_for", |on| {
            on.inside(on.of.runtime.scope(async {
                let mut job = on.of.only.or_put(|| Box::pin(to_thread(|| 1).waited_for()));
                assert_eq!(job.as_mut().await, 1);
                job.over();
            }))
        })
        .without(Test::PanicsAgain, "it keeps a waker for the job and one for a cancellation"),
        uncounted(
            "streams::lookup_host",
            Threads::default,
            |on| {
                on.inside(async {
                    let found = on.of.each_its_own(lookup_host("localhost", 80)).await;
                    assert!(!found.expect("every machine has that name").is_empty());
                })
            },
            |on| on.of.run(),
        )
        .without(Test::Often, "each asks the resolver"),
    ]
}

// === Child processes ===

/// Children are started one at a time. Until it becomes `sleep`, a child of one thread also holds the far ends of pipes that
/// another thread has just made, and so keeps them from ending.
static STARTING: Mutex<()> = Mutex::new(());

/// A child that ends when it is told to.
fn sleeper() -> Process {
    let _starting = STARTING.lock();
    let sleep = Command::new("sleep").args(["1000000"]).stdio([PIPE, PIPE, PIPE]).on_drop(Ending::Kill);
    sleep.spawn().expect("every system has it")
}

/// The names of this process's threads.
fn names_of_threads() -> impl Iterator<Item = String> {
    let folder = std::fs::read_dir("/proc/self/task").expect("every Linux tells");
    folder.flatten().flat_map(|thread| std::fs::read_to_string(thread.path().join("comm")))
}

/// Ends it, and waits until the kernel has noted that, and the thread that watches it where there are no pidfds.
fn kill(child: &ProcessHandle) {
    child.kill().expect("it is ours");
    let pid = Pid::from_raw(child.pid().cast_signed()).expect("it has a number");
    // An error: it was reaped before.
    end(waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT));
    let name = format!("wait {}\n", child.pid());
    while names_of_threads().any(|other| other == name) {
        std::thread::yield_now();
    }
}

fn children() -> Vec<Row> {
    let wait = uncounted(
        "streams::ProcessHandle::wait",
        sleeper,
        |on| on.inside(async { end(on.of.handle().wait().await.expect("nobody else reaps")) }),
        |on| kill(&on.of.handle()),
    );
    let has_pidfds = pidfd_open(getpid(), PidfdFlags::empty()).is_ok();
    vec![
        if has_pidfds { wait } else { wait.without(Test::WakesHere, "a thread watches the child") },
        uncounted(
            "streams::Process::communicate",
            || {
                let child = sleeper();
                let handle = child.handle();
                let only = Only::default();
                drop(only.put(child));
                (handle, only)
            },
            |on| {
                on.inside(async {
                    let mut child = on.of.1.take().expect("it was put there");
                    end(child.communicate(b"").await.expect("nobody else reads"));
                })
            },
            |on| kill(&on.of.0),
        )
        .without(Test::Many, THROUGH_MUT)
        .without(Test::Once, "each of its pipes ends, and so does the child")
        .without(Test::PanicsAgain, "it keeps a waker for each pipe and one for the child"),
    ]
}

// === Signals ===

/// A signal that nobody else listens to.
struct OwnSignal(i32);

static FREE: Mutex<Vec<i32>> = Mutex::new(Vec::new());

impl OwnSignal {
    fn new() -> Self {
        static FILLED: Once = Once::new();
        let free = || FREE.lock();
        FILLED.call_once(|| free().extend(40..60)); // those without a name
        Self(free().pop().expect("a scene has one at a time"))
    }
}

impl Drop for OwnSignal {
    fn drop(&mut self) {
        FREE.lock().push(self.0);
    }
}

/// It strikes the whole process, so one thread at a time has to do with it.
struct Alone;

/// Whose it is, and how often.
static OWNER: Mutex<(Option<ThreadId>, usize)> = Mutex::new((None, 0));
static LEFT: Condvar = Condvar::new();

impl Alone {
    fn new() -> Self {
        let this = std::thread::current().id();
        let mut owner = OWNER.lock();
        while owner.0.is_some_and(|owner| owner != this) {
            LEFT.wait(&mut owner);
        }
        *owner = (Some(this), owner.1 + 1);
        Self
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let mut owner = OWNER.lock();
        owner.1 -= 1;
        if owner.1 == 0 {
            owner.0 = None;
            LEFT.notify_one();
        }
    }
}

/// Presses Ctrl-C; whoever listens has been told of it when this returns.
fn press_ctrl_c() {
    let mut last = ctrl_c().expect("a thread can be started");
    let (woken, waker) = Woken::waker();
    assert!(Pin::new(&mut last).poll(&mut Context::from_waker(&waker)).is_pending());
    signal_hook::low_level::raise(signal_hook::consts::SIGINT).expect("there is such a signal");
    while woken.times() == 0 {
        std::thread::yield_now();
    }
}

fn signals() -> Vec<Row> {
    vec![
        uncounted(
            "streams::Signal::recv",
            || {
                let own = OwnSignal::new();
                let listens = signal(SignalKind::from_raw(own.0)).expect("it can be listened to");
                let only = Only::<Signal>::default();
                drop(only.put(listens));
                (only, own)
            },
            |on| {
                on.inside(async {
                    let mut listens = on.of.0.take().expect("it was put there");
                    listens.recv().await.expect("the reactor watches");
                })
            },
            |on| signal_hook::low_level::raise(on.of.1.0).expect("there is such a signal"),
        )
        .without(Test::Many, THROUGH_MUT),
        uncounted(
            "executor::ctrl_c",
            Alone::new,
            |on| on.inside(ctrl_c().expect("a thread can be started")),
            |_| press_ctrl_c(),
        )
        .without(Test::WakesHere, "a thread tells the listeners"),
    ]
}

/// What ends elsewhere.
pub(crate) fn rows() -> Vec<Row> {
    [threads(), children(), signals()].into_iter().flatten().collect()
}
