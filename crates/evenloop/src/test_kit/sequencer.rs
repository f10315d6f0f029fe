//! Blocks in several tasks that run in a given order.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Blocks in several tasks, numbered from 0, run in the order of their numbers: trio's `Sequencer`.
///
/// Clones are the same sequencer.
///
/// # Examples
///
/// ```
/// use evenloop::gather;
/// use evenloop::test_kit::Sequencer;
/// use std::cell::RefCell;
/// use std::rc::Rc;
///
/// evenloop::run(async {
///     let (sequencer, order) = (Sequencer::new(), Rc::new(RefCell::new(Vec::new())));
///     let block = |number| {
///         let (sequencer, order) = (sequencer.clone(), order.clone());
///         async move {
///             let _turn = sequencer.turn(number).await;
///             order.borrow_mut().push(number);
///         }
///     };
///     gather([block(2), block(0), block(1)]).await;
///     assert_eq!(*order.borrow(), [0, 1, 2]);
/// });
/// ```
#[derive(Clone, Default)]
pub struct Sequencer(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    /// The block whose turn it is, or that runs.
    next: u64,
    claimed: BTreeSet<u64>,
    waiting: BTreeMap<u64, Waker>,
    /// This block was given up before its turn: it will never come.
    given_up: Option<u64>,
}

/// A block's turn, until it is dropped.
#[must_use = "dropping it ends the block"]
pub struct Turn(Rc<RefCell<State>>);

/// A block that waits for its turn; dropped before, it is given up.
struct Claim {
    state: Rc<RefCell<State>>,
    number: u64,
    has_come: bool,
}

impl Sequencer {
    /// A sequencer whose first block is number 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until all blocks of lower numbers have ended. The block ends when the answer is dropped.
    ///
    /// # Cancel safety
    ///
    /// **Not cancel safe:** a block that is given up before its turn never ends, so those after it panic.
    ///
    /// # Panics
    ///
    /// When a block of that number was begun before; when a block before this one was given up.
    pub fn turn(&self, number: u64) -> impl Future<Output = Turn> + use<> {
        let state = self.0.clone();
        async move {
            let fresh = state.borrow_mut().claimed.insert(number);
            assert!(fresh, "`Sequencer::turn`: there is a block {number} already");
            let mut claim = Claim { state, number, has_come: false };
            poll_fn(|cx| {
                let waker = cx.waker().clone(); // foreign code, so before the borrow
                let mut state = claim.state.borrow_mut();
                if state.next == number {
                    return Poll::Ready(());
                }
                let broken = state.given_up.filter(|it| *it < number);
                let before = state.waiting.insert(number, waker);
                drop(state);
                drop(before);
                if let Some(given_up) = broken {
                    panic!(
                        "`Sequencer::turn`: block {number} never comes, for block {given_up} was given up"
                    );
                }
                Poll::Pending
            })
            .await;
            claim.has_come = true;
            Turn(claim.state.clone())
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.has_come {
            return;
        }
        let waiting = {
            let mut state = self.state.borrow_mut();
            state.given_up = Some(state.given_up.map_or(self.number, |it| it.min(self.number)));
            std::mem::take(&mut state.waiting)
        };
        waiting.into_values().for_each(Waker::wake);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.0.borrow_mut();
            state.next += 1;
            let next = state.next;
            state.waiting.remove(&next)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl fmt::Debug for Sequencer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.borrow();
        write!(f, "Sequencer [next: {}, waiting: {:?}]", state.next, state.waiting.keys().collect::<Vec<_>>())
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Turn [{}]", self.0.borrow().next)
    }
}
