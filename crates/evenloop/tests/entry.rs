//! The attributes and the runner, as a user writes them.

use evenloop::time::VirtualClock;
use evenloop::{Runner, create_task, sleep};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

#[evenloop::test(virtual_clock)]
async fn an_hour_of_simulated_time_is_exact() {
    let start = evenloop::time::now();
    sleep(HOUR).await;
    assert_eq!(evenloop::time::now() - start, HOUR);
}

#[evenloop::test]
async fn a_test_may_return_a_result() -> Result<(), std::num::ParseIntError> {
    let task = create_task(async { "17".parse::<u32>() });
    assert_eq!(task.await?, 17);
    Ok(())
}

#[evenloop::test]
#[should_panic(expected = "as written")]
async fn a_panic_reaches_the_test_harness() {
    create_task(async { panic!("as written") }).await
}

struct SetOnDrop(Rc<Cell<bool>>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        // What a destructor may need is still there.
        create_task(async {}).detach();
        self.0.set(true);
    }
}

#[test]
fn what_main_leaves_behind_is_dropped_under_the_loop() {
    let dropped = Rc::new(Cell::new(false));
    let guard = SetOnDrop(dropped.clone());
    evenloop::run(async move {
        create_task(async move {
            sleep(HOUR).await;
            drop(guard);
        })
        .detach();
        sleep(Duration::ZERO).await;
    });
    assert!(dropped.get());
}

#[test]
fn left_over_tasks_are_dropped_though_main_panics() {
    let dropped = Rc::new(Cell::new(false));
    let guard = SetOnDrop(dropped.clone());
    let runner = Runner::on_clock(VirtualClock::new().into());
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runner.run(async move {
            create_task(async move {
                sleep(HOUR).await;
                drop(guard);
            })
            .detach();
            sleep(Duration::ZERO).await;
            panic!("main's own");
        })
    }));
    assert_eq!(*outcome.unwrap_err().downcast::<&str>().unwrap(), "main's own");
    assert!(dropped.get());
    assert_eq!(runner.run(async { 1 }), Ok(1)); // and the runner goes on
}

#[test]
#[should_panic(expected = "cannot be called while an event loop is running on this thread: await instead")]
fn run_inside_run_says_to_await() {
    evenloop::run(async { evenloop::run(async {}) });
}

#[test]
fn main_is_known_by_the_line_that_runs_it() {
    let spawned_at = evenloop::run(async { evenloop::current_task().unwrap().spawned_at() });
    assert_eq!((spawned_at.file(), spawned_at.line()), (file!(), line!() - 1));
}

#[test]
#[should_panic(expected = "`run`: `main` awaited what was cancelled (the task was cancelled: no time)")]
fn a_cancelled_main_says_what_was_cancelled_and_the_way_out() {
    evenloop::run(async {
        let task = create_task(std::future::pending::<()>());
        task.cancel("no time");
        task.await;
    });
}

#[test]
#[should_panic(expected = "spawned at crates/evenloop/tests/entry.rs")]
fn a_task_that_is_awaited_twice_is_named() {
    evenloop::run(async {
        let mut task = create_task(async {});
        (&mut task).await;
        task.await;
    });
}
