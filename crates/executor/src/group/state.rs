//! What a group and its children share.

use super::start::Starting;
use crate::current::{create_task, is_running};
use crate::task::task_ref::TaskRef;
use evenloop_core::cancel::{CancelScope, Cancelled, Reason};
use evenloop_core::watch::{self, On};
use pin_project_lite::pin_project;
use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

pub(super) struct State<E> {
    /// The scope of the body.
    pub(super) body: CancelScope,
    pub(super) inside: RefCell<Inside<E>>,
}

pub(super) struct Inside<E> {
    pub(super) phase: Phase,
    /// Children that are not over (G4), oldest first.
    pub(super) children: BTreeMap<u64, Option<TaskRef>>,
    pub(super) last_id: u64,
    /// In the order in which they came.
    pub(super) errors: Vec<E>,
    /// The first one. Others go to the loop's hook.
    panic: Option<Box<dyn Any + Send>>,
    /// The group, waiting for its children.
    waker: Option<Waker>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    ShuttingDown(Reason),
    Finished,
}

/// What siblings of a failed child are told.
pub(super) const SIBLING: Reason = Reason::new("a task of the group failed");

/// How a child or a body fails.
pub(super) enum Fail<E> {
    Error(E),
    Panic(Box<dyn Any + Send>),
}

impl Phase {
    /// Why nobody new is taken.
    pub(super) fn refuses(&self) -> Option<&'static str> {
        match self {
            Self::Open => None,
            Self::ShuttingDown(_) => Some("the task group is shutting down"),
            Self::Finished => Some("the task group is finished"),
        }
    }
}

impl<E> State<E> {
    pub(super) fn new() -> Self {
        let inside = Inside {
            phase: Phase::Open,
            children: BTreeMap::new(),
            last_id: 0,
            errors: Vec::new(),
            panic: None,
            waker: None,
        };
        Self { body: CancelScope::new(), inside: RefCell::new(inside) }
    }

    /// Somebody failed, a child with its id or the body: all others are cancelled.
    pub(super) fn fail(&self, fail: Fail<E>, id: Option<u64>) {
        match fail {
            Fail::Error(error) => self.inside.borrow_mut().errors.push(error),
            Fail::Panic(panic) => {
                let second = {
                    let mut inside = self.inside.borrow_mut();
                    match &inside.panic {
                        None => {
                            inside.panic = Some(panic);
                            None
                        }
                        Some(_) => Some(panic),
                    }
                };
                report(second);
            }
        }
        self.shut_down(SIBLING, id);
    }

    /// Cancels body and children, once, but for the child that ends anyhow.
    pub(super) fn shut_down(&self, reason: Reason, ends: Option<u64>) {
        if self.begin_shut_down(&reason) {
            self.body.cancel(reason.clone());
            self.cancel_children(&reason, ends);
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

    pub(super) fn cancel_children(&self, reason: &Reason, ends: Option<u64>) {
        let others =
            |(id, task): (&u64, &Option<TaskRef>)| if Some(*id) == ends { None } else { task.clone() };
        let children: Vec<TaskRef> = self.inside.borrow().children.iter().filter_map(others).collect();
        for child in children {
            child.request(reason.clone()); // G5
        }
    }

    /// A cancellation from outside came to the group (G1): it is handed to the children.
    pub(super) fn catch(&self, cancelled: &mut Option<Cancelled>, outside: Cancelled) {
        self.begin_shut_down(outside.reason());
        self.cancel_children(outside.reason(), None);
        Cancelled::gather(cancelled, outside);
    }

    /// Waits until no child is left.
    pub(super) async fn all_over(&self) {
        poll_fn(|cx| {
            let waker = cx.waker().clone();
            let mut inside = self.inside.borrow_mut();
            if inside.children.is_empty() {
                return Poll::Ready(());
            }
            let before = inside.waker.replace(waker);
            drop(inside);
            drop(before); // G5
            watch::wait(cx.waker(), "TaskGroup", || On::Children(watch::address(self)));
            Poll::Pending
        })
        .await;
    }

    pub(super) fn leave(&self, id: u64) {
        let mut inside = self.inside.borrow_mut();
        let child = inside.children.remove(&id);
        let waker = if inside.children.is_empty() { inside.waker.take() } else { None };
        drop(inside);
        drop(child); // G5
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    #[allow(clippy::type_complexity, reason = "taken apart by its one caller")]
    pub(super) fn finish(&self) -> (Option<Reason>, Vec<E>, Option<Box<dyn Any + Send>>) {
        let mut inside = self.inside.borrow_mut();
        let reason = match std::mem::replace(&mut inside.phase, Phase::Finished) {
            Phase::ShuttingDown(reason) => Some(reason),
            Phase::Open | Phase::Finished => None,
        };
        (reason, std::mem::take(&mut inside.errors), inside.panic.take())
    }
}

/// Has the loop report a panic that nobody will see: raised again in a task of its own.
fn report(panic: Option<Box<dyn Any + Send>>) {
    if let Some(panic) = panic.filter(|_| is_running()) {
        create_task(async move { resume_unwind(panic) }).detach();
    }
}

/// Cancels what is left when the group's future is dropped before its end.
pub(super) struct Unfinished<'a, E>(pub(super) &'a State<E>);

impl<E> Drop for Unfinished<'_, E> {
    fn drop(&mut self) {
        self.0.shut_down(Reason::new("the task group was dropped"), None);
        let (_, errors, panic) = self.0.finish();
        drop(errors);
        report(panic);
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
        pub(super) member: Member<E>,
    }
}

pub(super) struct Member<E> {
    pub(super) state: Rc<State<E>>,
    pub(super) id: u64,
}

impl<E> Drop for Member<E> {
    fn drop(&mut self) {
        self.state.leave(self.id);
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
            None => this.member.state.fail(fail, Some(this.member.id)),
        }
        Poll::Ready(None)
    }
}
