//! Many children of one type: whatever can be iterated over, and arrays.

use super::{Children, Collect, Fallible, Judge, Outcome, Plain, Settled, ensure_future, sealed};
use crate::task::Task;
use evenloop_core::cancel::Cancelled;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Many children of one type. What one end costs does not depend on how many there are.
pub struct List<T> {
    running: FuturesUnordered<Running<T>>,
    ends: Vec<Option<Outcome<T>>>,
}

/// One child that is not over, with its place.
struct Running<T> {
    place: usize,
    task: Task<T>,
}

impl<T> Future for Running<T> {
    type Output = (usize, Outcome<T>);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.task.raw().poll(cx.waker()).map(|outcome| (self.place, outcome))
    }
}

impl<T: 'static> List<T> {
    #[track_caller]
    pub(super) fn spawn<F: Future<Output = T> + 'static>(children: impl IntoIterator<Item = F>) -> Self {
        let running = FuturesUnordered::new();
        for (place, child) in children.into_iter().enumerate() {
            running.push(Running { place, task: ensure_future(child) });
        }
        let ends = std::iter::repeat_with(|| None).take(running.len()).collect();
        Self { running, ends }
    }
}

impl<T> List<T> {
    fn poll<J: Judge<T>>(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            match self.running.poll_next_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Ready(Some((place, outcome))) => {
                    let fails = J::fails(&outcome);
                    self.ends[place] = Some(outcome);
                    if fails {
                        return Poll::Ready(false);
                    }
                }
            }
        }
    }

    fn hand_in(&mut self, cancelled: &Cancelled) {
        for child in self.running.iter() {
            child.task.raw().hand_in(cancelled);
        }
    }

    fn overlook(&mut self) {
        self.running.iter().for_each(|child| child.task.raw().overlook());
    }

    fn panic(&mut self) -> Option<Box<dyn Any + Send>> {
        let panicked = |end: &&mut Option<Outcome<T>>| matches!(end, Some(Err(error)) if error.is_panic());
        let Some(Err(error)) = self.ends.iter_mut().find(panicked)?.take() else { return None };
        error.into_panic().ok()
    }

    /// The ends in order, or the failure that `fails` finds first.
    fn collect<V, X>(&mut self, judge: impl Fn(Outcome<T>) -> Result<V, X>) -> Result<Vec<V>, X> {
        // A failure stands alone among values, if there is one.
        std::mem::take(&mut self.ends).into_iter().flatten().map(judge).collect()
    }
}

impl<T> Collect<Plain> for List<T> {
    type Output = Vec<T>;

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.poll::<Plain>(cx)
    }

    fn hand_in(&mut self, cancelled: &Cancelled) {
        self.hand_in(cancelled);
    }

    fn overlook(&mut self) {
        self.overlook();
    }

    fn panic(&mut self) -> Option<Box<dyn Any + Send>> {
        self.panic()
    }

    fn collect(&mut self) -> Outcome<Vec<T>> {
        self.collect(|outcome| outcome)
    }
}

impl<T, E> Collect<Fallible> for List<Result<T, E>> {
    type Output = Result<Vec<T>, E>;

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.poll::<Fallible>(cx)
    }

    fn hand_in(&mut self, cancelled: &Cancelled) {
        self.hand_in(cancelled);
    }

    fn overlook(&mut self) {
        self.overlook();
    }

    fn panic(&mut self) -> Option<Box<dyn Any + Send>> {
        self.panic()
    }

    fn collect(&mut self) -> Outcome<Result<Vec<T>, E>> {
        let all = self.collect(|outcome| match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Ok(error)),
            Err(error) => Err(Err(error)),
        });
        match all {
            Ok(values) => Ok(Ok(values)),
            Err(Ok(error)) => Ok(Err(error)),
            Err(Err(error)) => Err(error),
        }
    }
}

impl<T> Collect<Settled> for List<T> {
    type Output = Vec<Outcome<T>>;

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.poll::<Settled>(cx)
    }

    fn hand_in(&mut self, cancelled: &Cancelled) {
        self.hand_in(cancelled);
    }

    fn overlook(&mut self) {
        self.overlook();
    }

    fn panic(&mut self) -> Option<Box<dyn Any + Send>> {
        self.panic()
    }

    fn collect(&mut self) -> Outcome<Vec<Outcome<T>>> {
        self.collect(Ok)
    }
}

impl<F: Future + 'static> sealed::Sealed for Vec<F> {}

impl<F: Future + 'static> Children for Vec<F> {
    type Kids = List<F::Output>;

    #[track_caller]
    fn spawn(self) -> List<F::Output> {
        List::spawn(self)
    }
}

/// As [`List`], whose length is known.
pub struct Array<T, const N: usize>(List<T>);

impl<F: Future + 'static, const N: usize> sealed::Sealed for [F; N] {}

impl<F: Future + 'static, const N: usize> Children for [F; N] {
    type Kids = Array<F::Output, N>;

    #[track_caller]
    fn spawn(self) -> Array<F::Output, N> {
        Array(List::spawn(self))
    }
}

fn exactly<T, const N: usize>(values: Vec<T>) -> [T; N] {
    values.try_into().unwrap_or_else(|_| unreachable!("as many ends as children"))
}

impl<T, J, const N: usize> Collect<J> for Array<T, N>
where
    List<T>: Collect<J>,
    <List<T> as Collect<J>>::Output: IntoArray<N>,
{
    type Output = <<List<T> as Collect<J>>::Output as IntoArray<N>>::Array;

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        Collect::<J>::poll(&mut self.0, cx)
    }

    fn hand_in(&mut self, cancelled: &Cancelled) {
        self.0.hand_in(cancelled);
    }

    fn overlook(&mut self) {
        self.0.overlook();
    }

    fn panic(&mut self) -> Option<Box<dyn Any + Send>> {
        self.0.panic()
    }

    fn collect(&mut self) -> Outcome<Self::Output> {
        Collect::<J>::collect(&mut self.0).map(IntoArray::into_array)
    }
}

/// What a list collects, as what an array collects.
#[doc(hidden)]
pub trait IntoArray<const N: usize> {
    type Array;

    fn into_array(self) -> Self::Array;
}

impl<T, const N: usize> IntoArray<N> for Vec<T> {
    type Array = [T; N];

    fn into_array(self) -> [T; N] {
        exactly(self)
    }
}

impl<T, E, const N: usize> IntoArray<N> for Result<Vec<T>, E> {
    type Array = Result<[T; N], E>;

    fn into_array(self) -> Result<[T; N], E> {
        self.map(exactly)
    }
}
