//! What the tests have in common: tasks on whatever host is current, and waiting for what they do.

use evenloop_core::Runtime;
use evenloop_core::shim::StdArc;
use evenloop_core::shim::atomic::{AtomicUsize, Ordering};
use evenloop_sync::oneshot;
use evenloop_time::sleep;
use std::future::Future;
use std::time::{Duration, Instant};

/// How long a test waits for what should be a matter of milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `future` as a task of its own and gives its value.
pub(crate) fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = T> {
    let (send, receive) = oneshot::channel();
    let task = Box::pin(async move {
        let _ = send.send(future.await);
    });
    Runtime::current_spawn("conformance").expect("a host that spawns").spawn(task).expect("it has not ended");
    async { receive.await.unwrap_or_else(|_| panic!("a task of this test has panicked")) }
}

/// Lets others run until `condition` holds.
///
/// # Panics
///
/// When that takes unreasonably long.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "what this test waits for has not come about");
        sleep(Duration::ZERO).await;
    }
}

/// A number that tasks share.
#[derive(Clone, Default)]
pub(crate) struct Shared(StdArc<AtomicUsize>);

/// Who sees a number sees what was done before it was written.
impl Shared {
    pub(crate) fn get(&self) -> usize {
        // ORDERING: pairs with every Release below.
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, value: usize) {
        // ORDERING: pairs with the Acquire in `get`.
        self.0.store(value, Ordering::Release);
    }

    /// Adds one, and answers the number before.
    pub(crate) fn add_one(&self) -> usize {
        // ORDERING: as `get` and as `set`.
        self.0.fetch_add(1, Ordering::AcqRel)
    }

    pub(crate) fn take_one(&self) {
        // ORDERING: as `get` and as `set`.
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
