//! The watchdog names a task that blocks its loop while it blocks it. One test, for its hook belongs to the process.

use evenloop_executor::{EventLoop, clear_blocked_hook, set_blocked_hook};
use std::sync::mpsc;
use std::time::Duration;

/// Long enough for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_task_that_blocks_is_named_while_it_does() {
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
