//! Cancellation: dropped by default, caught when asked.
//!
//! Rust cancels a future by dropping it: nothing inside can await any more. Here a block that can be cancelled (a
//! *scope*: a task, a timeout, a group's body, a [`CancelScope`]) first asks those inside it who said that they want to
//! know (*catchers*: a running [`catch_cancel`]), innermost first, and is dropped when nobody is left to ask.
//!
//! # The state
//!
//! Scopes and catchers are nodes of one tree. A thread keeps a stack of the nodes that it is polling (`frames.rs`); the
//! top is the parent of whatever is polled next. A node is made when somebody must find it, not before: a catcher when
//! its first poll ends pending, a scope when there is a catcher inside it. The tree (`tree.rs`) knows who catches; what
//! is asked stands in the *inbox* of the scope that was asked (`inbox.rs`), also made at the first use. A request:
//!
//! ```text
//!                       uncancel: gone
//!                            ▲
//! ask ──► Due ──┬── no catcher inside: Taken, and the scope with it
//!          ▲    └── round: the innermost catchers are marked ──► Out (unanswered > 0)
//!          │                                                      │ the last answer of the round:
//!          └────── somebody passed on, or all were passed over ◄──┴──► all absorbed: Closed
//! ```
//!
//! A turn of a scope is `before` (start the rounds that are due, or take), the poll of its future, and, if that is
//! pending, `after` (pass over who was not polled; take what has no catcher left; the rest is due in the next turn).
//! Nobody is passed over while the scope is woken already: a combinator that ended its poll early, and has not come to the
//! catcher yet, has woken it.
//!
//! # Invariants
//!
//! C1. A frame with a node has below it, down to the floor, only frames with nodes, each linked to the next. So a
//!     catcher that is in the tree is found from every scope around it.
//! C2. Only the poll of a node's own future changes its parent. It leaves first, then joins; no two locks are ever held.
//! C3. `unanswered` of a request counts the catchers that are asked or next, and its deliveries. Who is asked delivers
//!     (when it is polled inside that scope) or is passed over (end of a turn, C8); a delivery ends by one answer:
//!     [`Cancelled`] gives it when it is consumed or dropped. Where that makes the catcher around next, it takes the place.
//!     A delivery that ends a clean-up bears what that had in hand, too: passed by, it would strike what is done here.
//! C4. A round starts when nothing is unanswered, and ends when nothing is unanswered again. It closes its request if it
//!     was absorbed, nobody passed it on to the scope itself, and no code holds it that cannot go on (`hold.rs`).
//! C5. A request is delivered by a catcher only inside the poll of its scope, so the tree is walked and answers are
//!     believed there alone. Asking, answering and moving a deadline touch the inbox and wake the scope, from any thread.
//! C6. Whoever makes a request due after the scope's last look sets `asked` under the inbox's lock and then wakes the
//!     waker found there: the next turn sees it. The waker is put there before the look.
//! C7. Foreign code (wakers, destructors of futures) runs while no lock is held and the stack of frames is not borrowed.
//! C8. A catcher that was asked is passed over at the end of a turn during whose poll the scope was not woken: then nobody is
//!     on the way to it. A scope that is woken in each of its polls waits for so many turns (`PATIENCE`), no more.
//! C9. A cancellation comes to a scope or a task once, whoever asks for it: whoever ends several asks all by one, and each of them
//!     may hand it on to another of them whom it awaits.
//!
//! # What a host calls
//!
//! A host embeds in each task a [`Requests`] and a [`Root`], one pointer each. The first is asked, the second belongs to
//! whoever polls. A host that is asked while it polls lends a clone of the requests to each of these calls; the clone of
//! nothing is nothing, so it takes a new one after the poll:
//!
//! ```
//! # use evenloop_core::cancel::{RaisedRequest, Reason, Requests, Root, Turn};
//! # use std::{future::Future, pin::Pin, task::{Context, Poll}};
//! # struct Task { future: Pin<Box<dyn Future<Output = u32>>>, root: Root }
//! # impl Task { fn was_woken(&self) -> bool { false } }
//! # fn poll_task(
//! #     task: &mut Task, asked: &dyn Fn() -> Requests, raise: &dyn Fn(RaisedRequest), cx: &mut Context<'_>,
//! # ) -> Poll<Result<u32, Reason>> {
//! let requests = asked();
//! if let Turn::Take(reason) = task.root.before(&requests, cx.waker()) {
//!     return Poll::Ready(Err(reason)); // and drop the future, without polling it
//! }
//! let polled = task.root.enter(&requests, || task.future.as_mut().poll(cx));
//! if let Some(raised) = task.root.take_raised() {
//!     raise(raised); // it awaits what was cancelled
//! }
//! let requests = asked();
//! match polled {
//!     Poll::Ready(value) => match task.root.finish(&requests) {
//!         Turn::Take(reason) => Poll::Ready(Err(reason)), // asked for in this last poll, and heard by nobody
//!         Turn::Go => Poll::Ready(Ok(value)),
//!     },
//!     Poll::Pending => match task.root.after(&requests, cx.waker(), task.was_woken()) {
//!         Turn::Take(reason) => Poll::Ready(Err(reason)), // drop the future here, too
//!         Turn::Go => Poll::Pending,
//!     },
//! }
//! # }
//! ```
//!
//! Who asks calls [`Requests::request`] and then wakes the task. The future of a task that was taken is dropped outside
//! [`Root::enter`]. When a task is over for any reason, [`Root::finish`] is called once.

mod reason;

mod cancellation;

mod frames;

mod tree;

mod children;

mod marks;

mod hold;

mod inbox;

mod round;

mod turn;

mod cancelled;

mod catch;

mod root;

mod scope;

mod cancel_scope;

mod shielded;

pub use cancel_scope::{CancelScope, Run};
pub use cancellation::Cancellation;
pub use cancelled::{Cancelled, Resume};
pub use catch::{CatchCancel, Catcher, catch_cancel};
pub(crate) use frames::wait_while_requested;
pub use frames::{hold_open, is_requested, open_inside_here, raise};
pub use hold::{Raised, RaisedRequest};
pub use reason::Reason;
pub use root::{Requests, Root, Turn};
pub use scope::Scope;
pub use shielded::{Shielded, ShieldedFor, shielded, shielded_for};

#[cfg(all(test, not(evenloop_loom)))]
mod tests;
