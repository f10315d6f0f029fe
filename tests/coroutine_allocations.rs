//! The pinned forms allocate nothing, the boxed ones once. Alone in its binary: it counts every allocation of its thread.

use evenloop_tests::Counting;
use std::pin::pin;

use evenloop_coroutine::{AsyncGenerator, Coroutine, PinnedAsyncGenerator, PinnedCoroutine, Resumed};
use futures::FutureExt;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_of(f: impl FnOnce()) -> usize {
    let before = Counting::allocations();
    f();
    Counting::allocations() - before
}

#[test]
fn the_pinned_forms_allocate_nothing() {
    let count = allocations_of(|| {
        let mut body = pin!(PinnedCoroutine::new(async |mut co| {
            let first: u64 = co.argument().unwrap_or(0);
            let second = co.yield_(first).await;
            first + second
        }));
        assert_eq!(body.as_mut().resume(1), Resumed::Yielded(1));
        assert_eq!(body.as_mut().resume(2), Resumed::Returned(3));

        let mut generator =
            pin!(PinnedAsyncGenerator::new(async |mut co| { while co.yield_(1).await.is_ok() {} }));
        assert_eq!(generator.as_mut().next().now_or_never(), Some(Some(1)));
        assert_eq!(generator.as_mut().next().now_or_never(), Some(Some(1)));
        assert_eq!(generator.as_mut().aclose().now_or_never(), Some(()));
    });
    assert_eq!(count, 0);
}

#[test]
fn the_boxed_forms_allocate_once() {
    let count = allocations_of(|| {
        let hidden = Coroutine::new(async |mut co| co.yield_(1).await).boxed();
        assert_eq!(hidden.sum::<i32>(), 1);
    });
    assert_eq!(count, 1);
    let count = allocations_of(|| {
        let mut hidden = AsyncGenerator::new(async |mut co| co.yield_(1).await).boxed_local();
        assert_eq!(hidden.next().now_or_never(), Some(Some(1)));
        assert_eq!(hidden.next().now_or_never(), Some(None));
    });
    assert_eq!(count, 1);
}
