//! Evenloop's own loop is a host like any other.

use evenloop_conformance::{Host, conformance, conformance_streams};
use evenloop_time::Clock;

struct Evenloop;

impl Host for Evenloop {
    fn run<T: Send + 'static>(clock: Clock, main: impl Future<Output = T> + Send + 'static) -> T {
        evenloop::event_loop_on(clock).run_until_complete(main)
    }
}

conformance!(Evenloop);
conformance_streams!(Evenloop);
