//! The cell: a task with its future, and what is done with that (T3, T6 of `raw.rs`).

use super::JoinError;
use super::annex::Annex;
use super::places::alone;
use super::raw::{Header, LOOP, Outcome, Own, TaskPtr, VTable};
use super::shared::Shared;
use super::site::Site;
use super::state::Word;
use crate::unhandled::error_type;
use evenloop_core::shim::UnsafeCell;
use std::alloc::Layout;
use std::any::Any;
use std::future::Future;
use std::mem::{ManuallyDrop, needs_drop};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::task::{Context, Poll};

#[repr(C)]
pub(super) struct TaskCell<F: Future> {
    /// First, so that a pointer to the cell is one to the header.
    pub(super) header: Header,
    pub(super) stage: UnsafeCell<Stage<F>>,
}

/// T3. Laid out as C does, so a pointer to it is one to whichever of the two it holds.
#[repr(C)]
pub(super) union Stage<F: Future> {
    pub(super) future: ManuallyDrop<F>,
    pub(super) outcome: ManuallyDrop<Outcome<F::Output>>,
}

impl<F: Future> TaskCell<F> {
    pub(super) const VTABLE: VTable = VTable {
        poll: Self::poll,
        kill: Self::kill,
        revoke: Self::revoke,
        discard: Self::discard,
        error: Self::error,
        outcome: Self::outcome,
        take_into: Self::take_into,
        layout: Layout::new::<Self>(),
        name: std::any::type_name::<F>,
    };

    /// Makes a task, in this place of its loop or else alone.
    #[inline]
    pub(super) fn alloc(
        future: F,
        word: Word,
        shared: NonNull<Shared>,
        flags: u16,
        spawned_at: &'static Location<'static>,
        place: Option<NonNull<Header>>,
    ) -> TaskPtr {
        let mut annex = Annex::EMPTY;
        let site = Site::of(spawned_at).unwrap_or_else(|| {
            annex.get_or_make().spawned_at = Some(spawned_at);
            Site::FAR
        });
        let own = Own { refs: 0, flags: flags | LOOP, site, id: 0, annex };
        let header = Header::new(word, &Self::VTABLE, place.is_none(), own);
        let stage = UnsafeCell::new(Stage { future: ManuallyDrop::new(future) });
        let place = place.unwrap_or_else(|| alone(Layout::new::<Self>(), shared));
        // SAFETY: K2: it is of this size and alignment, and nobody else's.
        unsafe { place.cast().write(Self { header, stage }) };
        TaskPtr(place)
    }

    /// Lends the stage.
    ///
    /// # Safety
    ///
    /// The task is alive, of type `F`, and this is the owner (T3). `f` does not lead back to this stage.
    pub(super) unsafe fn stage<R>(task: TaskPtr, f: impl FnOnce(*mut Stage<F>) -> R) -> R {
        // SAFETY: the caller says that the cell is alive and of this type.
        let cell = unsafe { task.0.cast::<Self>().as_ref() };
        cell.stage.with_mut(f)
    }

    /// Drops the future in its place and puts the outcome there. A destructor that panics wins over the outcome, unless
    /// that is a panic already.
    ///
    /// # Safety
    ///
    /// As for `stage`; the stage holds the future.
    pub(super) unsafe fn replace(stage: *mut Stage<F>, outcome: Outcome<F::Output>) {
        let drop_future = || {
            // SAFETY: T3: the stage holds the future, and below it holds the outcome, so nobody drops it again.
            unsafe { ptr::drop_in_place(stage.cast::<F>()) }
        };
        let dropped = if needs_drop::<F>() { catch_unwind(AssertUnwindSafe(drop_future)) } else { Ok(()) };
        let outcome = match (dropped, outcome) {
            (Err(panic), Ok(value)) => {
                // Its destructor may panic too; the first panic is the one to tell of.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
                Err(JoinError::panicked(panic))
            }
            (Err(panic), Err(error)) if error.is_cancelled() => Err(JoinError::panicked(panic)),
            (_, outcome) => outcome,
        };
        // SAFETY: the caller owns the stage; the future in it is gone.
        unsafe { stage.write(Stage { outcome: ManuallyDrop::new(outcome) }) }
    }

    /// # Safety
    ///
    /// As for `stage`; the stage holds the future.
    pub(super) unsafe fn poll(task: TaskPtr, cx: &mut Context<'_>) -> bool {
        let poll = |stage: *mut Stage<F>| {
            let polled = catch_unwind(AssertUnwindSafe(|| {
                // SAFETY: the caller says that the stage holds the future and that nobody else touches it.
                let future = unsafe { &mut *stage.cast::<F>() };
                // SAFETY: the future lies in an allocation that never moves, and is dropped in its place.
                unsafe { Pin::new_unchecked(future) }.poll(cx)
            }));
            let outcome = match polled {
                Ok(Poll::Pending) => return false,
                Ok(Poll::Ready(value)) => Ok(value),
                Err(panic) => Err(JoinError::panicked(panic)),
            };
            // SAFETY: as for this function.
            unsafe { Self::replace(stage, outcome) }
            true
        };
        // SAFETY: as for this function; the future cannot reach its own stage.
        unsafe { Self::stage(task, poll) }
    }

    /// # Safety
    ///
    /// As for `stage`; the stage holds the future.
    pub(super) unsafe fn kill(task: TaskPtr, error: JoinError) {
        let kill = |stage: *mut Stage<F>| {
            // SAFETY: as for this function.
            unsafe { Self::replace(stage, Err(error)) }
        };
        // SAFETY: as for this function; a destructor cannot reach this stage.
        unsafe { Self::stage(task, kill) }
    }

    /// # Safety
    ///
    /// As for `stage`; the stage holds the outcome, which is not touched again but by `revoke`.
    pub(super) unsafe fn take(task: TaskPtr) -> Outcome<F::Output> {
        let take = |stage: *mut Stage<F>| {
            // SAFETY: the caller says that the stage holds the outcome, and that nobody touches it again.
            unsafe { stage.cast::<Outcome<F::Output>>().read() }
        };
        // SAFETY: as for this function.
        unsafe { Self::stage(task, take) }
    }

    /// # Safety
    ///
    /// As for `stage`; the stage holds the outcome.
    pub(super) unsafe fn revoke(task: TaskPtr, error: JoinError) {
        // SAFETY: as for this function; it is filled again below.
        let outcome = unsafe { Self::take(task) };
        let outcome = match outcome {
            Ok(value) => match catch_unwind(AssertUnwindSafe(|| drop(value))) {
                Ok(()) => Err(error),
                Err(panic) => Err(JoinError::panicked(panic)),
            },
            panicked => panicked,
        };
        let put = |stage: *mut Stage<F>| {
            // SAFETY: as for this function; what was there is taken.
            unsafe { stage.write(Stage { outcome: ManuallyDrop::new(outcome) }) }
        };
        // SAFETY: as for this function.
        unsafe { Self::stage(task, put) }
    }

    /// # Safety
    ///
    /// As for `take`.
    pub(super) unsafe fn discard(task: TaskPtr) -> Option<Box<dyn Any + Send>> {
        // SAFETY: as for this function.
        let outcome = unsafe { Self::take(task) };
        match outcome {
            Ok(value) => catch_unwind(AssertUnwindSafe(|| drop(value))).err(),
            Err(error) => error.into_panic().ok(),
        }
    }

    /// # Safety
    ///
    /// As for `stage`; the stage holds the outcome.
    pub(super) unsafe fn error(task: TaskPtr) -> Option<&'static str> {
        let look = |stage: *mut Stage<F>| {
            // SAFETY: the caller says that the stage holds the outcome; this runs no foreign code.
            let outcome = unsafe { &*stage.cast::<Outcome<F::Output>>() };
            outcome.as_ref().ok().and_then(error_type)
        };
        // SAFETY: as for this function.
        unsafe { Self::stage(task, look) }
    }

    /// # Safety
    ///
    /// As for `stage`; the stage holds the outcome.
    pub(super) unsafe fn outcome(task: TaskPtr) -> *const () {
        // SAFETY: as for this function.
        unsafe { Self::stage(task, |stage| stage.cast_const().cast()) }
    }

    /// # Safety
    ///
    /// As for `take`; `place` is an empty place for an `Outcome<F::Output>`.
    pub(super) unsafe fn take_into(task: TaskPtr, place: *mut ()) {
        // SAFETY: as for this function.
        let outcome = unsafe { Self::take(task) };
        // SAFETY: as for this function.
        unsafe { place.cast::<Outcome<F::Output>>().write(outcome) }
    }
}
