//! The hang report: a test that cannot end fails with what its tasks wait for.

use evenloop::sync::Lock;
use evenloop::{create_task, sleep, yield_now};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

/// A limit that is reached soon, and one that is not.
const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(600);

/// The report of a test that hangs.
fn report(virtual_clock: bool, limit: Duration, test: impl Future<Output = ()>) -> String {
    let run = || evenloop::entry::test_within(virtual_clock, limit, test);
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("it hangs");
    *panic.downcast::<String>().expect("a report")
}

#[test]
fn a_deadlock_on_the_virtual_clock_is_reported_with_its_cycle() {
    let text = report(true, LONG, async {
        let locks = Rc::new((Lock::new(()), Lock::new(())));
        let other = locks.clone();
        let task = create_task(async move {
            let _second = other.1.acquire().await;
            yield_now().await;
            let _first = other.0.acquire().await;
        });
        task.set_name("the other");
        let _first = locks.0.acquire().await;
        yield_now().await;
        sleep(Duration::from_secs(3600)).await; // an hour that takes no time is no reason to fail
        let _second = locks.1.acquire().await;
    });
    assert!(text.starts_with("the test can never end: "), "{text}");
    assert!(text.contains("deadlock: each of these tasks waits for the next one"), "{text}");
    assert!(text.contains("'the other' waits") && text.contains("Lock::acquire on Lock@"), "{text}");
}

#[test]
fn a_test_that_takes_longer_than_its_limit_is_reported_on_either_clock() {
    for virtual_clock in [false, true] {
        let text = report(virtual_clock, SHORT, async {
            let task = create_task(async {
                loop {
                    yield_now().await;
                }
            });
            task.set_name("spins");
            let () = task.await;
        });
        assert!(text.starts_with("the test takes longer than its limit"), "{text}");
        assert!(text.contains("'spins'") && text.contains("in await for task"), "{text}");
    }
}

#[evenloop::test(virtual_clock, limit = "1m")]
async fn a_limit_that_is_kept_changes_nothing() {
    sleep(Duration::from_secs(3600)).await;
}
