//! What tests of concurrent programs need.
//!
//! | to …                                                   | there is                                                |
//! |--------------------------------------------------------|---------------------------------------------------------|
//! | wait until nothing moves                               | [`settled`]                                             |
//! | have blocks in several tasks run in a given order      | [`Sequencer`]                                           |
//! | have a slow and lossy connection without a network     | [`stream_pair`]                                         |
//! | run a test in many random orders                       | `#[evenloop::test(seeds = 100)]`, [`with_seeds`]        |
//! | run a small test in every order                        | [`explore`]                                             |

mod explore;
mod memory;
mod random;
pub(crate) mod seeds;
mod sequencer;

pub use self::explore::{explore, replay};
pub use self::memory::{Link, MemoryReader, MemoryStream, MemoryWriter, Wire, stream_pair};
pub use self::seeds::{TestOutcome, with_seeds};
pub use self::sequencer::{Sequencer, Turn};

/// Waits until nothing but waiting is left on this loop: no other task is ready to run. trio's `wait_all_tasks_blocked`.
///
/// On the virtual clock that is before time jumps to the next deadline. What other threads are about to bring, and what the
/// kernel has not told yet, is not waited for.
///
/// # Cancel safety
///
/// **Cancel safe.** There is nothing to lose.
///
/// # Panics
///
/// When no loop runs on this thread.
///
/// # Examples
///
/// ```
/// use evenloop::sync::Event;
/// use evenloop::test_kit::settled;
/// use std::rc::Rc;
///
/// evenloop::run(async {
///     let event = Rc::new(Event::new());
///     let waiting = event.clone();
///     let task = evenloop::create_task(async move { waiting.wait().await });
///     settled().await;
///     assert_eq!(event.statistics().waiters, 1); // it has come to its wait
///     event.set();
///     task.await;
/// });
/// ```
#[doc(alias = "wait_all_tasks_blocked")]
pub async fn settled() {
    loop {
        evenloop_executor::yield_now().await;
        let statistics = evenloop_executor::current_statistics()
            .expect("`settled` needs a running event loop on this thread: await it inside `run`");
        if statistics.ready + statistics.inbox == 0 {
            return;
        }
    }
}
