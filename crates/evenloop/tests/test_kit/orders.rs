//! Orders of tasks other than the usual one: by a seed, and all of them.

use evenloop::sync::Lock;
use evenloop::test_kit::{explore, replay, settled, with_seeds};
use evenloop::{create_named_task, create_task, sleep, yield_now};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

/// What a call panics with.
fn words<T>(call: impl FnOnce() -> T) -> String {
    let Err(panic) = catch_unwind(AssertUnwindSafe(call)) else { panic!("it did not panic") };
    panic.downcast::<String>().map_or_else(|_| "no words".to_owned(), |text| *text)
}

/// Two tasks add 1 to a number, with a wait between reading and writing. In the usual order the first is done before the second
/// begins.
async fn lost_update() {
    let number = Rc::new(Cell::new(0));
    let add = |name: &str| {
        let number = number.clone();
        create_named_task(name, async move {
            let before = number.get();
            yield_now().await;
            number.set(before + 1);
        })
    };
    let one = add("one");
    yield_now().await;
    let other = add("other");
    one.await;
    other.await;
    assert_eq!(number.get(), 2, "an update was lost");
}

#[evenloop::test(virtual_clock)]
async fn the_usual_order_hides_the_race() {
    lost_update().await;
}

#[test]
fn a_race_that_few_orders_show_is_found_with_one_deviation() {
    assert_eq!(explore(0, lost_update), 1);
    let text = words(|| explore(1, lost_update));
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("a schedule fails: ") && text.contains("an update was lost"), "{text}");
    assert!(text.contains("<- a deviation") && text.contains("one"), "{text}");
    // The schedule that it names fails alone, and the same way.
    let schedule = lines.last().unwrap().strip_prefix("to run it alone: EVENLOOP_TEST_SCHEDULE=").unwrap();
    assert_eq!(words(|| replay(schedule, lost_update)), text);
}

#[test]
fn every_order_runs_once() {
    // The test wakes when the first task ends. Of a, b and the test: a, test, b; a, b, test; b, a, test.
    let orders = RefCell::new(Vec::new());
    let schedules = explore(usize::MAX, || async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let push = |name| {
            let order = order.clone();
            create_task(async move { order.borrow_mut().push(name) })
        };
        let (a, b) = (push('a'), push('b'));
        a.await;
        order.borrow_mut().push('t');
        b.await;
        orders.borrow_mut().push(order.borrow().iter().collect::<String>());
    });
    assert_eq!(schedules, 3);
    assert_eq!(*orders.borrow(), ["abt", "bat", "atb"]); // fewest deviations first
}

#[test]
fn n_tasks_that_nobody_awaits_meanwhile_have_n_factorial_orders() {
    let all = |bound| {
        explore(bound, || async {
            let tasks: Vec<_> = (0..4).map(|_| create_task(async {})).collect();
            sleep(Duration::from_secs(1)).await;
            tasks.into_iter().for_each(|task| assert!(task.done()));
        })
    };
    assert_eq!(all(usize::MAX), 24);
    // Of four ready tasks one may come early in 3 ways, of three in 2, of two in 1.
    assert_eq!(all(1), 1 + 3 + 2 + 1);
}

#[test]
fn a_lock_makes_the_update_right_in_every_order() {
    let schedules = explore(usize::MAX, || async {
        let number = Rc::new(Lock::new(0));
        let add = || {
            let number = number.clone();
            create_task(async move {
                let mut number = number.acquire().await;
                let before = *number;
                yield_now().await;
                *number = before + 1;
            })
        };
        let tasks = [add(), add()];
        sleep(Duration::from_secs(1)).await;
        assert_eq!(*number.try_acquire().unwrap(), 2);
        drop(tasks);
    });
    // Either is first. Then the other waits for the lock before the first goes on, or comes when it is free.
    assert_eq!(schedules, 4);
}

#[test]
fn a_deadlock_in_some_order_is_reported_with_its_cycle() {
    let transfers = || async {
        let locks = Rc::new((Lock::new(()), Lock::new(())));
        let (here, there) = (locks.clone(), locks);
        let one = create_named_task("one", async move {
            let _first = here.0.acquire().await;
            yield_now().await;
            let _second = here.1.acquire().await;
        });
        yield_now().await;
        let other = create_named_task("other", async move {
            let _second = there.1.acquire().await;
            let _first = there.0.acquire().await;
        });
        one.await;
        other.await;
    };
    assert_eq!(explore(0, transfers), 1);
    let text = words(|| explore(1, transfers));
    assert!(text.contains("all its tasks wait, and no deadline is set"), "{text}");
    assert!(text.contains("deadlock: each of these tasks waits for the next one"), "{text}");
    assert!(text.contains("'other' waits"), "{text}");
}

#[test]
fn an_error_and_a_panic_that_nobody_sees_fail_a_schedule() {
    let text = words(|| explore(0, || async { "x".parse::<u32>().map(drop) }));
    assert!(text.starts_with("a schedule fails: the test answered an error\n"), "{text}");
    let text = words(|| {
        explore(0, || async {
            create_task(async { panic!("in the background") }).detach();
            settled().await;
        })
    });
    assert!(text.contains("nobody awaits it") && text.contains("in the background"), "{text}");
}

#[test]
fn a_test_that_is_not_the_same_each_time_or_never_ends_is_refused() {
    let first = Cell::new(true);
    let text = words(|| {
        explore(1, || {
            let tasks = if first.replace(false) { 3 } else { 1 };
            async move {
                let _tasks: Vec<_> = (0..tasks).map(|_| create_task(async {})).collect();
                settled().await;
            }
        })
    });
    assert!(text.contains("the test does not do the same each time"), "{text}");
    let text = words(|| {
        explore(0, || async {
            let waits = Cell::new(true);
            while waits.get() {
                yield_now().await;
            }
        })
    });
    assert!(text.contains("not over after 100000 steps"), "{text}");
    let text = words(|| {
        explore(3, || async {
            let busy = async || {
                for _ in 0..5 {
                    yield_now().await;
                }
            };
            let tasks = [(); 100].map(|()| create_task(busy()));
            for task in tasks {
                task.await;
            }
        })
    });
    assert!(text.contains("there are more than 1000000 schedules: lower the bound"), "{text}");
    let text = words(|| replay("0,x", lost_update));
    assert!(text.contains("a schedule is numbers with commas between them, and not \"0,x\""), "{text}");
}

// === Seeds ===

/// Fails in some orders, if the environment asks for it: what the tests below run in a process of its own.
#[evenloop::test(virtual_clock, seeds = 100)]
async fn fails_in_some_orders() {
    if std::env::var_os("EVENLOOP_TEST_FAILS").is_some() {
        println!("one run");
        lost_update().await;
    }
}

/// Runs it, and answers what it printed, or `None` if it passed.
fn failure_of_its_own_process(seed: Option<&str>) -> Option<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "orders::fails_in_some_orders"]).env("EVENLOOP_TEST_FAILS", "1");
    if let Some(seed) = seed {
        command.env("EVENLOOP_TEST_SEED", seed);
    }
    let output = command.output().unwrap();
    (!output.status.success()).then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_seed_that_fails_is_named_and_fails_alone() {
    let text = failure_of_its_own_process(None).expect("one of the seeds shows it");
    let (_, seed) = text.split_once("to run it with that alone: EVENLOOP_TEST_SEED=").expect(&text);
    let seed = seed.lines().next().unwrap();
    assert_eq!(text.matches("one run").count() as u64, seed.parse::<u64>().unwrap() + 1, "{text}");
    let again = failure_of_its_own_process(Some(seed)).expect("the seed that failed fails again");
    assert!(
        again.contains("an update was lost") && again.contains(&format!("fails with seed {seed}")),
        "{again}"
    );
    assert_eq!(again.matches("one run").count(), 1, "{again}");
    let last = failure_of_its_own_process(Some(&u64::MAX.to_string()));
    assert!(last.is_none_or(|text| text.contains("an update was lost")), "the last seed is one as well");
    let text = failure_of_its_own_process(Some("many")).expect("it is no seed");
    assert!(
        text.contains("EVENLOOP_TEST_SEED is a seed, a number from 0 to 2^64 - 1, and not \"many\""),
        "{text}"
    );
}

#[test]
fn a_seed_gives_the_same_order_each_time_and_others_give_all() {
    let order_of = |seeds| {
        let orders = RefCell::new(Vec::new());
        with_seeds(seeds, || async {
            let order = Rc::new(RefCell::new(String::new()));
            let tasks = ['a', 'b', 'c'].map(|name| {
                let order = order.clone();
                create_task(async move { order.borrow_mut().push(name) })
            });
            settled().await;
            drop(tasks);
            orders.borrow_mut().push(order.take());
        });
        orders.into_inner()
    };
    let orders = order_of(60);
    assert_eq!(order_of(60), orders);
    let different: std::collections::BTreeSet<_> = orders.iter().collect();
    assert_eq!(different.len(), 6, "{orders:?}");
}

#[test]
fn the_first_error_ends_the_seeds() {
    let runs = Cell::new(0);
    let outcome = with_seeds(10, || async {
        runs.set(runs.get() + 1);
        if runs.get() == 3 { Err("the third") } else { Ok(runs.get()) }
    });
    assert_eq!((outcome, runs.get()), (Err("the third"), 3));
    let outcome = with_seeds(10, || async { Ok::<_, ()>(runs.replace(runs.get() + 1)) });
    assert_eq!((outcome, runs.get()), (Ok(12), 13));
}

#[evenloop::test(seed = 3)]
async fn one_seed_is_a_number() {
    yield_now().await;
}
