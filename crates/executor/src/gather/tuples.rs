//! A few children of different types.

use super::{Children, Collect, Fallible, Judge, Outcome, Plain, Settled, ensure_future, sealed};
use crate::task::{JoinError, Task};
use evenloop_core::cancel::Reason;
use std::any::Any;
use std::future::Future;
use std::task::{Context, Poll};

/// One child of a tuple.
pub struct Kid<T> {
    task: Task<T>,
    end: Option<Outcome<T>>,
}

impl<T> Kid<T> {
    /// Whether the child is over; tells of a failure when its end comes in.
    fn poll<J: Judge<T>>(&mut self, cx: &mut Context<'_>, failed: &mut bool) -> bool {
        if self.end.is_none() {
            if let Poll::Ready(outcome) = self.task.raw().poll(cx.waker()) {
                *failed |= J::fails(&outcome);
                self.end = Some(outcome);
            }
        }
        self.end.is_some()
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
            type Kids = ($(Kid<$child::Output>,)+);

            #[track_caller]
            fn spawn(self) -> Self::Kids {
                ($(Kid { task: ensure_future(self.$place), end: None },)+)
            }
        }

        impl<$($output),+> Collect<Plain> for ($(Kid<$output>,)+) {
            type Output = ($($output,)+);
            tuples!(@common Plain $($place)+);

            fn collect(&mut self) -> Outcome<Self::Output> {
                $(if let Some(error) = self.$place.lost() { return Err(error) })+
                Ok(($(self.$place.take()?,)+))
            }
        }

        impl<Error, $($output),+> Collect<Fallible> for ($(Kid<Result<$output, Error>>,)+) {
            type Output = Result<($($output,)+), Error>;
            tuples!(@common Fallible $($place)+);

            fn collect(&mut self) -> Outcome<Self::Output> {
                $(if let Some(error) = self.$place.lost() { return Err(error) })+
                $(if let Some(error) = self.$place.error() { return Ok(Err(error)) })+
                Ok(Ok(($(match self.$place.take()? {
                    Ok(value) => value,
                    Err(error) => return Ok(Err(error)),
                },)+)))
            }
        }

        impl<$($output),+> Collect<Settled> for ($(Kid<$output>,)+) {
            type Output = ($(Outcome<$output>,)+);
            tuples!(@common Settled $($place)+);

            fn collect(&mut self) -> Outcome<Self::Output> {
                Ok(($(self.$place.take(),)+))
            }
        }
    )+};
    (@common $judge:ident $($place:tt)+) => {
        fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
            let (mut all, mut failed) = (true, false);
            $(all &= self.$place.poll::<$judge>(cx, &mut failed);)+
            if all || failed { Poll::Ready(all) } else { Poll::Pending }
        }

        fn cancel(&mut self, reason: &Reason) {
            $(self.$place.task.cancel(reason.clone());)+
        }

        fn overlook(&mut self) {
            $(self.$place.task.raw().overlook();)+
        }

        fn panic(&mut self) -> Option<Box<dyn Any + Send>> {
            $(if let Some(panic) = self.$place.panic() { return Some(panic) })+
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
