//! The test kit, as a test uses it.

use evenloop::test_kit::{Sequencer, settled};
use evenloop::{create_task, gather_settled, sleep, yield_now};
use futures::{join, poll};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

#[evenloop::test(virtual_clock)]
async fn settled_waits_for_all_that_can_run_and_comes_before_a_jump_of_the_clock() {
    let steps = Rc::new(Cell::new(0));
    let counting = steps.clone();
    create_task(async move {
        for _ in 0..10 {
            counting.set(counting.get() + 1);
            yield_now().await;
        }
        sleep(Duration::from_secs(1)).await;
        counting.set(100);
    })
    .detach();
    let start = evenloop::time::now();
    settled().await;
    assert_eq!((steps.get(), evenloop::time::now()), (10, start));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(steps.get(), 100);
}

#[evenloop::test(virtual_clock)]
async fn any_number_may_wait_until_nothing_moves() {
    let steps = Rc::new(Cell::new(0));
    let busy = async |steps: Rc<Cell<u32>>| {
        for _ in 0..10 {
            steps.set(steps.get() + 1);
            yield_now().await;
        }
    };
    let seen = async |steps: Rc<Cell<u32>>| {
        settled().await;
        steps.get()
    };
    let start = evenloop::time::now();
    let mut given_up = settled();
    assert!(poll!(&mut given_up).is_pending());
    drop(given_up);
    // In one task, in another, and beside what runs in the same task.
    let (first, second) = (seen(steps.clone()), seen(steps.clone()));
    let task = create_task(async { join!(first, second) });
    assert_eq!(join!(seen(steps.clone()), busy(steps.clone()), seen(steps.clone())), (10, (), 10));
    assert_eq!((task.await, evenloop::time::now()), ((10, 10), start));
    sleep(Duration::from_secs(1)).await;
    busy(steps.clone()).await;
    assert_eq!(seen(steps).await, 20);
}

#[evenloop::test(virtual_clock)]
async fn who_comes_after_a_block_that_was_given_up_is_told() {
    let sequencer = Sequencer::new();
    let first = create_task(sequencer.turn(1));
    let second = create_task(sequencer.turn(2));
    settled().await;
    assert_eq!(format!("{sequencer:?}"), "Sequencer [next: 0, waiting: [1, 2]]");
    first.cancel("given up");
    let ends = gather_settled([first, second]).await;
    let words = ends.into_iter().map(|end| end.unwrap_err().into_panic().ok());
    let words: Vec<_> = words.map(|panic| panic.and_then(|it| it.downcast::<String>().ok())).collect();
    assert!(words[0].is_none());
    assert_eq!(
        **words[1].as_ref().unwrap(),
        "`Sequencer::turn`: block 2 never comes, for block 1 was given up"
    );
}

#[evenloop::test(virtual_clock)]
#[should_panic(expected = "there is a block 0 already")]
async fn a_number_is_used_once() {
    let sequencer = Sequencer::new();
    drop(sequencer.turn(0).await);
    drop(sequencer.turn(0).await);
}

#[path = "test_kit/memory.rs"]
mod memory;
#[path = "test_kit/orders.rs"]
mod orders;
