//! A few children of different types.
//!
//! Which of them are over is asked of their ends in the order in which these come, as for a list; an end is taken from its task
//! only when it is its turn. So those behind a failure stay with their tasks, whose panics are told of as those of any task.

use super::{Children, Collect, Fallible, Judge, Outcome, Plain, Settled, ensure_future, sealed};
use crate::task::{JoinError, Task};
use evenloop_core::cancel::Cancelled;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A few children, and those of them whose ends have not come in.
pub struct Few<K> {
    kids: K,
    running: FuturesUnordered<Running>,
}

/// One child of a tuple.
pub struct Kid<T> {
    task: Rc<Task<T>>,
    end: Option<Outcome<T>>,
}

/// A child whose end has not come in, with its place.
struct Running {
    place: usize,
    task: Rc<dyn Over>,
}

/// A task, whatever it gives.
trait Over {
    fn poll_over(&self, waker: &Waker) -> Poll<()>;
}

impl<T> Over for Task<T> {
    fn poll_over(&self, waker: &Waker) -> Poll<()> {
        self.raw().poll_over(waker)
    }
}

impl Future for Running {
    type Output = usize;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<usize> {
        self.task.poll_over(cx.waker()).map(|()| self.place)
    }
}

impl<T: 'static> Kid<T> {
    #[track_caller]
    fn spawn(child: impl Future<Output = T> + 'static) -> Self {
        Self { task: Rc::new(ensure_future(child)), end: None }
    }

    fn running(&self, place: usize) -> Running {
        Running { place, task: self.task.clone() }
    }
}

impl<T> Kid<T> {
    /// Takes in the end of a task that is over. True: it is a failure.
    fn take_in<J: Judge<T>>(&mut self) -> bool {
        let Poll::Ready(end) = self.task.raw().poll(Waker::noop()) else {
            unreachable!("a task that is over stays so")
        };
        J::fails(self.end.insert(end))
    }

    fn panic(&mut self) -> Option<Box<dyn Any + Send>> {
        self.end.take_if(|end| end.as_ref().is_err_and(JoinError::is_panic))?.err()?.into_panic().ok()
    }

    /// The failure that is no error of the child's own, if there is one.
    fn lost(&mut self) -> Option<JoinError> {
        self.end.take_if(|end| end.is_err())?.err()
    }

    fn take(&mut self) -> Outcome<T> {
        self.end.take().expect("collected once, when all are over")
    }
}

impl<T, E> Kid<Result<T, E>> {
    fn error(&mut self) -> Option<E> {
        self.end.take_if(|end| matches!(end, Ok(Err(_))))?.ok()?.err()
    }
}

macro_rules! tuples {
    ($(($($child:ident $output:ident $place:tt),+))+) => {$(
        impl<$($child: Future + 'static),+> sealed::Sealed for ($($child,)+) {}

        impl<$($child: Future + 'static),+> Children for ($($child,)+) {
            type Kids = Few<($(Kid<$child::Output>,)+)>;

            #[track_caller]
            fn spawn(self) -> Self::Kids {
                let kids = ($(Kid::spawn(self.$place),)+);
                let running = FuturesUnordered::new();
                $(running.push(kids.$place.running($place));)+
                Few { kids, running }
            }
        }

        impl<$($output),+> Collect<Plain> for Few<($(Kid<$output>,)+)> {
            type Output = ($($output,)+);
            tuples!(@common Plain $($place)+);

            fn collect(&mut self) -> Outcome<Self::Output> {
                $(if let Some(error) = self.kids.$place.lost() { return Err(error) })+
                Ok(($(self.kids.$place.take()?,)+))
            }
        }

        impl<Error, $($output),+> Collect<Fallible> for Few<($(Kid<Result<$output, Error>>,)+)> {
            type Output = Result<($($output,)+), Error>;
            tuples!(@common Fallible $($place)+);

            fn collect(&mut self) -> Outcome<Self::Output> {
                $(if let Some(error) = self.kids.$place.lost() { return Err(error) })+
                $(if let Some(error) = self.kids.$place.error() { return Ok(Err(error)) })+
                Ok(Ok(($(match self.kids.$place.take()? {
                    Ok(value) => value,
                    Err(error) => return Ok(Err(error)),
                },)+)))
            }
        }

        impl<$($output),+> Collect<Settled> for Few<($(Kid<$output>,)+)> {
            type Output = ($(Outcome<$output>,)+);
            tuples!(@common Settled $($place)+);

            fn collect(&mut self) -> Outcome<Self::Output> {
                Ok(($(self.kids.$place.take(),)+))
            }
        }
    )+};
    (@common $judge:ident $($place:tt)+) => {
        fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
            loop {
                let failed = match self.running.poll_next_unpin(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(None) => return Poll::Ready(true),
                    $(Poll::Ready(Some($place)) => self.kids.$place.take_in::<$judge>(),)+
                    Poll::Ready(Some(_)) => unreachable!("no child has that place"),
                };
                if failed {
                    return Poll::Ready(false);
                }
            }
        }

        fn hand_in(&mut self, cancelled: &Cancelled) {
            $(self.kids.$place.task.raw().hand_in(cancelled);)+
        }

        fn overlook(&mut self) {
            $(self.kids.$place.task.raw().overlook();)+
        }

        fn panic(&mut self) -> Option<Box<dyn Any + Send>> {
            $(if let Some(panic) = self.kids.$place.panic() { return Some(panic) })+
            None
        }
    };
}

tuples! {
    (A OA 0)
    (A OA 0, B OB 1)
    (A OA 0, B OB 1, C OC 2)
    (A OA 0, B OB 1, C OC 2, D OD 3)
    (A OA 0, B OB 1, C OC 2, D OD 3, E OE 4)
    (A OA 0, B OB 1, C OC 2, D OD 3, E OE 4, F OF 5)
    (A OA 0, B OB 1, C OC 2, D OD 3, E OE 4, F OF 5, G OG 6)
    (A OA 0, B OB 1, C OC 2, D OD 3, E OE 4, F OF 5, G OG 6, H OH 7)
}
