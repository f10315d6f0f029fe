//! The pinned forms allocate nothing, the boxed ones once. Alone in its binary: it counts every allocation of its thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::pin::pin;

use evenloop_coroutine::{AsyncGenerator, Coroutine, PinnedAsyncGenerator, PinnedCoroutine, Resumed};
use futures::FutureExt;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, that is from the same allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations_of(f: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    f();
    ALLOCATIONS.get() - before
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
