//! Evenloop's own loop is a host like any other.

use evenloop_conformance::{Host, conformance};
use evenloop_core::{Runtime, ThreadPark};
use evenloop_executor::EventLoop;
use evenloop_time::{Clock, Driver};

struct Evenloop;

impl Host for Evenloop {
    fn run<T: Send + 'static>(clock: Clock, main: impl Future<Output = T> + Send + 'static) -> T {
        let driver = Driver::new(ThreadPark::new(), clock);
        let runtime = Runtime::builder("evenloop").timers(driver.timers());
        let event_loop = EventLoop::builder().runtime(runtime).park(Box::new(driver)).build();
        event_loop.run_until_complete(main)
    }
}

conformance!(Evenloop);
