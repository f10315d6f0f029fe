//! The test kit, as a test uses it.

use evenloop::test_kit::{Sequencer, settled};
use evenloop::{create_task, gather_settled, sleep, yield_now};
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
