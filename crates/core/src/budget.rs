//! The budget of a poll: a task whose futures are always ready gives way all the same.
//!
//! A host renews the budget before it polls a task, and lifts it when its loop leaves the thread; where no host does so
//! there is no limit. A leaf future that is about to answer without having waited spends a unit first, and if none is left it
//! answers Pending, with its waker woken: the task comes back in the next pass.
//!
//! ```text
//! host:  renew ─► poll ─► renew ─► poll ─► … ─► lift
//! leaf:            └ spend … spend (the 128th) ─► the next: Pending, woken, and the budget is full again
//! ```
//!
//! B1. Between two Pending answers of a branch of a task lie at most [`OPERATIONS`] operations that spend. Several branches
//!     (of a `join!`) get so many each: whoever finds nothing left fills it up again, for those who are polled after it. So
//!     a greedy branch never eats what the later ones live on.
//! B2. A leaf that was put off has done nothing: it has no place in any line yet.
//! B3. Two polls in a row that run dry do not run dry at the same operation: else a branch that always spends exactly
//!     everything would put off the one behind it for ever.

use crate::shim::thread_local;
use std::cell::Cell;
use std::task::{Context, Poll};

/// So many operations may follow one another without a wait; the next one lets the other tasks run first.
pub const OPERATIONS: u32 = 128;

/// Nobody counts down from here.
const UNLIMITED: u64 = u64::MAX;

thread_local! {
    /// What is left of this poll.
    static LEFT: Cell<u64> = const { Cell::new(UNLIMITED) };
    /// What the next poll starts with (B3).
    static FULL: Cell<u64> = const { Cell::new(OPERATIONS as u64) };
}

/// Fills the budget of the task that is polled next on this thread. For hosts: once before each poll of a task.
#[inline]
pub fn renew() {
    // In a destructor at the thread's end there is nothing to limit.
    let full = FULL.try_with(Cell::get).unwrap_or(UNLIMITED);
    let _ = LEFT.try_with(|left| left.set(full));
}

/// Takes the limit off this thread. For hosts: when the loop leaves it.
pub fn lift() {
    let _ = LEFT.try_with(|left| left.set(UNLIMITED));
}

/// Forgets how polls on this thread ran dry so far. For hosts: when a loop is made, so that each begins alike.
pub fn begin() {
    let _ = FULL.try_with(|full| full.set(OPERATIONS.into()));
}

/// Spends one unit. Pending: none is left, the waker is woken, and the caller, which has done nothing yet, answers Pending.
///
/// For leaf futures: before they look whether they can answer without waiting. Not for one that has waited already: who
/// was woken goes on.
#[inline]
#[doc(alias = "poll_proceed")]
pub fn poll_spend(cx: &mut Context<'_>) -> Poll<()> {
    let ran_dry = LEFT.try_with(|left| {
        // Stored in any case, so that it is one instruction; `run_dry` fills the budget up again.
        let (rest, ran_dry) = left.get().overflowing_sub(1);
        left.set(rest);
        ran_dry
    });
    if let Ok(true) = ran_dry { run_dry(cx) } else { Poll::Ready(()) }
}

#[cold]
fn run_dry(cx: &mut Context<'_>) -> Poll<()> {
    let _ = LEFT.try_with(|left| left.set(OPERATIONS.into())); // B1
    let _ = FULL.try_with(|full| {
        let all = u64::from(OPERATIONS);
        full.set(if full.get() == all { all - 1 } else { all });
    });
    cx.waker().wake_by_ref();
    Poll::Pending
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;
    use std::task::Waker;

    fn spends() -> u32 {
        let mut cx = Context::from_waker(Waker::noop());
        (0..).take_while(|_| poll_spend(&mut cx).is_ready()).count() as u32
    }

    #[test]
    fn a_poll_ends_after_so_many_operations_and_the_next_branch_has_its_own() {
        renew();
        assert_eq!(spends(), OPERATIONS);
        assert_eq!(spends(), OPERATIONS, "whoever comes after it in the same poll");
        lift();
    }

    #[test]
    fn two_polls_in_a_row_do_not_run_dry_at_the_same_place() {
        begin();
        renew();
        assert_eq!(spends(), OPERATIONS);
        renew();
        assert_eq!(spends(), OPERATIONS - 1);
        renew();
        assert_eq!(spends(), OPERATIONS);
        lift();
    }

    #[test]
    fn without_a_host_there_is_no_limit() {
        let mut cx = Context::from_waker(Waker::noop());
        assert!((0..1_000_000).all(|_| poll_spend(&mut cx).is_ready()));
        renew();
        lift();
        assert!((0..1_000).all(|_| poll_spend(&mut cx).is_ready()));
    }
}
