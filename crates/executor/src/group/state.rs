//! What a group and its children share.

use super::error::GroupError;
use super::start::Starting;
use crate::current::{report, report_error};
use crate::finally::{Dropping, catch_panic};
use crate::task::task_ref::TaskRef;
use evenloop_core::cancel::{CancelScope, Cancellation, Cancelled, Reason, catch_cancel};
use evenloop_core::watch::{self, On};
use evenloop_core::{Cancel, ChildKey, ChildSet, Member};
use pin_project_lite::pin_project;
use std::any::Any;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Of a group whose children are known by handles of the type `H`.
pub(super) struct State<E, H> {
    /// The scope of the body.
    pub(super) body: CancelScope,
    /// G4.
    pub(super) children: ChildSet<H>,
    pub(super) inside: RefCell<Inside<E>>,
}

pub(super) struct Inside<E> {
    pub(super) phase: Phase,
    /// In the order in which they came.
    pub(super) errors: Vec<E>,
    /// The first one. Others go to the loop's hook, as do those that come after the group's end (errors in debug mode).
    panic: Option<Box<dyn Any + Send>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    ShuttingDown(Reason),
    Finished,
}

/// What siblings of a failed child are told.
pub(super) const SIBLING: Reason = Reason::new("a task of the group failed");

/// What is told to children of a group whose future is dropped.
pub(super) const DROPPED: Reason = Reason::new("the task group was dropped");

/// How a child or a body fails.
pub(super) enum Fail<E> {
    Error(E),
    Panic(Box<dyn Any + Send>),
}

impl Phase {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::ShuttingDown(_) => "shutting down",
            Self::Finished => "finished",
        }
    }

    /// Why nobody new is taken.
    pub(super) fn refuses(&self) -> Option<&'static str> {
        match self {
            Self::Open => None,
            Self::ShuttingDown(_) => Some("the task group is shutting down"),
            Self::Finished => Some("the task group is finished"),
        }
    }
}

impl<E, H: Cancel> State<E, H> {
    pub(super) fn new() -> Self {
        let inside = Inside { phase: Phase::Open, errors: Vec::new(), panic: None };
        Self { body: CancelScope::new(), children: ChildSet::new(), inside: RefCell::new(inside) }
    }

    /// Somebody failed, a child or the body: all others are cancelled.
    pub(super) fn fail(&self, fail: Fail<E>, child: Option<ChildKey>) {
        match fail {
            Fail::Error(error) => {
                let unseen = {
                    let mut inside = self.inside.borrow_mut();
                    if inside.phase == Phase::Finished {
                        Some(error)
                    } else {
                        inside.errors.push(error);
                        None
                    }
                };
                unseen.into_iter().for_each(report_error);
            }
            Fail::Panic(panic) => {
                let unseen = {
                    let mut inside = self.inside.borrow_mut();
                    match inside.panic {
                        None if inside.phase != Phase::Finished => {
                            inside.panic = Some(panic);
                            None
                        }
                        _ => Some(panic),
                    }
                };
                unseen.into_iter().for_each(report);
            }
        }
        self.shut_down(SIBLING, child);
    }

    /// Cancels body and children, once, but for the child that ends anyhow.
    pub(super) fn shut_down(&self, reason: Reason, ends: Option<ChildKey>) {
        if self.begin_shut_down(&reason) {
            let end = Cancellation::new(reason);
            let body = catch_unwind(AssertUnwindSafe(|| self.body.cancel_by(&end)));
            // G5, also if the body's waker has panicked.
            let children = catch_unwind(AssertUnwindSafe(|| self.children.cancel_others(ends, &end)));
            match (body, children) {
                (Ok(_), Ok(())) => {}
                (Ok(_), Err(panic)) => resume_unwind(panic),
                (Err(panic), children) => {
                    std::mem::forget(children); // a panic's destructor is foreign too
                    resume_unwind(panic)
                }
            }
        }
    }

    /// Takes nobody new from here on. False: so it is already.
    pub(super) fn begin_shut_down(&self, reason: &Reason) -> bool {
        let mut inside = self.inside.borrow_mut();
        let first = inside.phase == Phase::Open;
        if first {
            inside.phase = Phase::ShuttingDown(reason.clone());
        }
        first
    }

    /// A cancellation from outside came to the group (G1): it is handed to the children.
    pub(super) fn catch(&self, cancelled: &mut Option<Cancelled>, outside: Cancelled) {
        self.begin_shut_down(outside.reason());
        self.children.cancel_others(None, outside.cancellation());
        Cancelled::gather(cancelled, outside);
    }

    /// Waits until no child is left.
    async fn all_over(&self) {
        let mut wait = self.children.wait();
        poll_fn(|cx| {
            let polled = Pin::new(&mut wait).poll(cx);
            watch::noted(polled, cx, "TaskGroup", || On::Children(watch::address(self)))
        })
        .await;
    }

    #[allow(clippy::type_complexity, reason = "taken apart by its one caller")]
    pub(super) fn finish(&self) -> (Option<Reason>, Vec<E>, Option<Box<dyn Any + Send>>) {
        let mut inside = self.inside.borrow_mut();
        let reason = match std::mem::replace(&mut inside.phase, Phase::Finished) {
            Phase::ShuttingDown(reason) if reason != SIBLING => Some(reason),
            _ => None,
        };
        (reason, std::mem::take(&mut inside.errors), inside.panic.take())
    }
}

/// What a child's handle asks of its group.
pub(super) trait ShutsDown {
    fn is_shutting_down(&self) -> bool;
}

impl<E, H> ShutsDown for State<E, H> {
    fn is_shutting_down(&self) -> bool {
        matches!(self.inside.borrow().phase, Phase::ShuttingDown(_))
    }
}

/// Runs the body of a group, waits for all children, and says how it ended: the whole life of a group.
pub(super) async fn conduct<E, H: Cancel, T>(
    state: &State<E, H>,
    body: impl Future<Output = Result<T, E>>,
) -> Result<T, GroupError<E>> {
    let unfinished = Unfinished(state);
    let mut cancelled = None;
    let mut value = None;
    let dropping = Dropping::new();
    match catch_cancel(state.body.run(catch_panic(body, &dropping))).await {
        Ok(Ok(Ok(Ok(given)))) => value = Some(given),
        Ok(Ok(Ok(Err(error)))) => state.fail(Fail::Error(error), None),
        Ok(Ok(Err(panic))) => state.fail(Fail::Panic(panic), None),
        Ok(Err(_)) => {} // the group's own request, see G3
        Err(outside) => state.catch(&mut cancelled, outside),
    }
    if let Some(panic) = dropping.take() {
        state.fail(Fail::Panic(panic), None);
    }
    while let Err(outside) = catch_cancel(state.all_over()).await {
        state.catch(&mut cancelled, outside);
    }
    std::mem::forget(unfinished);
    let (reason, errors, panic) = state.finish();
    // G2, by the order of these lines; `cancelled` is dropped by the first two, and so passed on.
    if let Some(panic) = panic {
        drop((cancelled, errors));
        resume_unwind(panic);
    }
    if !errors.is_empty() {
        return Err(GroupError { errors, reason });
    }
    if let Some(cancelled) = cancelled {
        match cancelled.resume().await {}
    }
    value.ok_or(GroupError { errors, reason })
}

/// Cancels what is left when the group's future is dropped before its end.
pub(super) struct Unfinished<'a, E, H: Cancel>(pub(super) &'a State<E, H>);

impl<E, H: Cancel> Drop for Unfinished<'_, E, H> {
    fn drop(&mut self) {
        self.0.shut_down(DROPPED, None);
        let (_, errors, panic) = self.0.finish();
        errors.into_iter().for_each(report_error);
        panic.into_iter().for_each(report);
    }
}

// === The future of a child ===

pin_project! {
    pub(super) struct ChildFuture<F, V, E> {
        #[pin]
        pub(super) future: F,
        // Until the child is ready, whom its failure belongs to.
        pub(super) starting: Option<Rc<Starting<V, E>>>,
        // Dropped after the future (G4).
        pub(super) member: Member<TaskRef>,
        pub(super) state: Rc<State<E, TaskRef>>,
    }
}

/// `None`: the child failed, and the group has what it failed with.
impl<F: Future<Output = Result<T, E>>, T, V, E> Future for ChildFuture<F, V, E> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let this = self.project();
        let fail = match catch_unwind(AssertUnwindSafe(|| this.future.poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Ok(value))) => return Poll::Ready(Some(value)),
            Ok(Poll::Ready(Err(error))) => Fail::Error(error),
            Err(panic) => Fail::Panic(panic),
        };
        match this.starting.as_ref().filter(|starting| !starting.is_adopted()) {
            Some(starting) => starting.fail(fail),
            None => this.state.fail(fail, Some(this.member.key())),
        }
        Poll::Ready(None)
    }
}
