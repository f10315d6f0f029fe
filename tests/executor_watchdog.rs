//! The watchdog names a task that blocks its loop while it blocks it. One test at a time, for its hook belongs to the process.

use evenloop_executor::{EventLoop, clear_blocked_hook, set_blocked_hook};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// Long enough for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);

/// Held by the test whose hook is set.
static HOOK: Mutex<()> = Mutex::new(());

#[test]
fn a_task_that_blocks_is_named_while_it_does() {
    let _alone = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
    let (sender, told) = mpsc::channel();
    set_blocked_hook(move |blocked| sender.send(blocked.clone()).unwrap());
    let limit = Duration::from_millis(20);
    for watched in [false, true] {
        let event_loop = EventLoop::builder().watchdog(Some(limit)).watch(watched).build();

        // Blocks until the watchdog has spoken: so it spoke meanwhile. And again, after twice the time.
        let blocks = async {
            let first = told.recv_timeout(PATIENCE).expect("the watchdog speaks while the loop is blocked");
            let second = told.recv_timeout(PATIENCE).expect("and again");
            (first, second)
        };
        let (first, second) = event_loop.run_until_complete(blocks);
        let line = line!() - 1;
        let (at, again) = (first.spawned_at.unwrap(), second.spawned_at.unwrap());
        assert!(at.file().ends_with("executor_watchdog.rs"));
        assert_eq!((at.line(), again.line()), (line, line));
        assert!(first.blocked_for >= limit && second.blocked_for >= 2 * limit);
        assert_eq!(first.task.map(|task| task.name), watched.then(|| "Task-1".to_owned()));
        assert!(second.to_string().contains("has been blocked for"), "{second}");
    }
    clear_blocked_hook();
}

#[test]
fn a_loop_of_a_long_limit_is_left_alone_beside_one_of_a_short_one() {
    let _alone = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
    let (sender, told) = mpsc::channel();
    set_blocked_hook(move |blocked| sender.send(blocked.thread.clone()).unwrap());
    let patient = EventLoop::builder().watchdog(Some(Duration::MAX)).build();
    let quick = move || {
        let event_loop = EventLoop::builder().watchdog(Some(Duration::from_millis(4))).build();
        let blocks = async { [(); 5].map(|()| told.recv_timeout(PATIENCE)) };
        event_loop.run_until_complete(blocks)
    };
    let quick = thread::Builder::new().name("quick".to_owned()).spawn(quick).unwrap();
    let heard = patient.run_until_complete(async { quick.join().unwrap() });
    assert_eq!(heard.map(|thread| thread.expect("the watchdog lives")), [(); 5].map(|()| "quick".to_owned()));
    clear_blocked_hook();
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("what the hook panicked with panics in turn");
    }
}

#[test]
fn a_hook_that_panics_does_not_end_the_watchdog() {
    let _alone = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
    let (sender, told) = mpsc::channel();
    set_blocked_hook(move |_| {
        sender.send(()).unwrap();
        std::panic::panic_any(Bomb);
    });
    let event_loop = EventLoop::builder().watchdog(Some(Duration::from_millis(4))).build();
    let blocks = async { [(); 2].map(|()| told.recv_timeout(PATIENCE)) };
    assert_eq!(event_loop.run_until_complete(blocks), [Ok(()); 2]);
    clear_blocked_hook();
}
