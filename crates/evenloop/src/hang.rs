//! The hang report: a test that takes too long, or that can never end, fails with what its tasks wait for.
//!
//! ```text
//! test's thread:   loop ── polls the test ───────────────────────────────────── told: panics with the report
//! helper thread:   looks ─ looks ─ … the limit is over, or nothing can happen any more ─ tells, and wakes ┘
//!                                     └ nobody came for it: the loop is blocked ─ prints it, and ends the process
//! ```
//!
//! H1. On the virtual clock a loop that sleeps has no deadline to jump to. If no task waits for a descriptor or a thread
//!     either, only a thread that the test itself has started can wake it; after [`IDLE`], or half the limit if that is
//!     less, that is not expected any more.
//! H2. The helper is gone when the test is.

use evenloop_core::shim::{Mutex, StdArc, thread};
use evenloop_executor::EventLoop;
use evenloop_executor::watch::{On, Snapshot, snapshot};
use std::future::{Future, poll_fn};
use std::io::Write as _;
use std::task::Waker;
use std::time::{Duration, Instant};

/// The limit of a test that names none. `EVENLOOP_TEST_LIMIT` is another, in seconds; 0 is none.
const LIMIT: Duration = Duration::from_secs(300);

/// H1.
const IDLE: Duration = Duration::from_secs(10);

/// How long a loop that was told may take to come for it.
const GRACE: Duration = Duration::from_secs(2);

/// The limit of a test that names none.
pub(crate) fn limit() -> Duration {
    let seconds = std::env::var("EVENLOOP_TEST_LIMIT").ok().and_then(|seconds| seconds.parse().ok());
    match seconds {
        Some(0) => Duration::MAX,
        Some(seconds) => Duration::from_secs(seconds),
        None => LIMIT,
    }
}

/// What the test and its helper share.
#[derive(Default)]
struct Desk {
    report: Option<String>,
    waker: Option<Waker>,
    /// The test has come for the report, or has ended.
    done: bool,
}

/// The helper, ended and waited for by the drop.
struct Helper {
    desk: StdArc<Mutex<Desk>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.desk.lock().done = true;
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// Polls `test`, on a loop that is watched; panics with the report if it hangs.
pub(crate) async fn reported<F: Future>(
    event_loop: &EventLoop,
    virtual_clock: bool,
    limit: Duration,
    test: F,
) -> F::Output {
    let desk = StdArc::new(Mutex::new(Desk::default()));
    let (shared, number) = (desk.clone(), event_loop.number());
    let idle = if virtual_clock { IDLE.min(limit / 2) } else { Duration::MAX };
    let started =
        thread::Builder::new().name("evenloop-test".into()).spawn(move || look(&shared, number, limit, idle));
    // Without a thread to be had the test does without.
    let helper = Helper { desk, thread: started.ok() };
    let mut test = std::pin::pin!(test);
    poll_fn(|cx| {
        let told = {
            let mut desk = helper.desk.lock();
            let before = desk.waker.replace(cx.waker().clone());
            desk.done |= desk.report.is_some();
            let told = desk.report.take();
            drop(desk);
            drop(before);
            told
        };
        if let Some(report) = told {
            panic!("{report}");
        }
        test.as_mut().poll(cx)
    })
    .await
}

fn look(desk: &Mutex<Desk>, number: u64, limit: Duration, idle: Duration) {
    let begin = Instant::now();
    let period = (limit.min(idle) / 10).clamp(Duration::from_millis(1), Duration::from_millis(100));
    // Since when the loop sleeps, and how often it had gone to sleep by then.
    let mut asleep: Option<(Instant, u64)> = None;
    loop {
        thread::park_timeout(period);
        if desk.lock().done {
            return;
        }
        let now = Instant::now();
        let mut snapshot = snapshot();
        snapshot.loops.retain(|it| it.number == number);
        let sleeps = snapshot.loops.first().filter(|it| it.asleep).map(|it| it.sleeps);
        asleep = match (sleeps, asleep) {
            (None, _) => None,
            (Some(sleeps), Some((since, before))) if before == sleeps => Some((since, before)),
            (Some(sleeps), _) => Some((now, sleeps)),
        };
        let idles = asleep.is_some_and(|(since, _)| now - since >= idle) && !waits_outside(&snapshot);
        let words = if idles {
            "the test can never end: all its tasks wait, no deadline is set, and nothing outside is waited for"
        } else if now - begin >= limit {
            "the test takes longer than its limit"
        } else {
            continue;
        };
        return tell(desk, &format!("{words}\n{snapshot}"));
    }
}

/// Whether anything outside of the process's tasks may wake the loop (H1).
fn waits_outside(snapshot: &Snapshot) -> bool {
    let outside = |on: &On| matches!(on, On::Descriptor(_) | On::Thread);
    snapshot.tasks().any(|task| task.waits.iter().any(|wait| outside(&wait.on)))
}

/// Gives the report to the test, or prints it and ends the process if the test does not come for it.
fn tell(desk: &Mutex<Desk>, report: &str) {
    let waker = {
        let mut desk = desk.lock();
        desk.report = Some(report.to_owned());
        desk.waker.clone()
    };
    if let Some(waker) = waker {
        waker.wake();
    }
    let told = Instant::now();
    while !desk.lock().done {
        if told.elapsed() >= GRACE {
            // Not `eprintln`: the harness would keep it to itself.
            let words =
                format!("{report}the loop is blocked, so the test cannot fail by itself: the process ends\n");
            let _ = std::io::stderr().write_all(words.as_bytes());
            std::process::exit(101);
        }
        thread::park_timeout(Duration::from_millis(10));
    }
}
