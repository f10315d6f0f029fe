//! Deadlines inside deadlines: the nearest one is known to the code inside, and the one that strikes is the one that
//! reports. A job that is cut off cleans up first.
//!
//! ```text
//! cargo run -p evenloop --example nested_deadlines -- --virtual
//! ```

mod support;

use evenloop::cancel::{CancelScope, catch_cancel};
use evenloop::{sleep, timeout};
use std::time::Duration;
use support::{Stopwatch, options};

/// Works, and cleans up when it is cut off.
async fn job(work: Duration, clean_up: Duration) {
    if let Err(cancelled) = catch_cancel(sleep(work)).await {
        sleep(clean_up).await;
        match cancelled.resume().await {}
    }
}

async fn attempt(name: &str, inner: Duration, outer: Duration, work: Duration, clean_up: Duration) {
    let watch = Stopwatch::start();
    let mut nearest = 0.0;
    let outside = timeout(outer, async {
        let inside = timeout(inner, async {
            let deadline = CancelScope::nearest_deadline().expect("there are two");
            nearest = deadline.duration_since(evenloop::time::now()).as_secs_f64();
            job(work, clean_up).await;
        });
        match inside.await {
            Ok(()) => "done",
            Err(_) => "the inner one has elapsed",
        }
    });
    let outcome = outside.await.unwrap_or("the outer one has elapsed");
    println!("{name}: {nearest:.2} s to go; {outcome} after {:.2} s", watch.seconds());
}

/// A deadline that is moved while the job runs.
async fn moved(limit: Duration, work: Duration) {
    let watch = Stopwatch::start();
    let scope = CancelScope::with_deadline(evenloop::time::now() + limit);
    let end = scope.run(async {
        sleep(limit / 2).await;
        scope.set_deadline(None); // it goes well: let it go on
        sleep(work).await;
    });
    let outcome = if end.await.is_ok() { "done" } else { "elapsed" };
    println!("moved: {outcome} after {:.2} s", watch.seconds());
}

fn main() {
    let options = options(
        "Deadlines inside deadlines",
        &[
            ("near", 1.0, "seconds to the nearer deadline"),
            ("far", 3.0, "seconds to the other one"),
            ("clean-up", 0.5, "seconds that cleaning up takes"),
        ],
    );
    let (near, far) = (options.seconds("near"), options.seconds("far"));
    let clean_up = options.seconds("clean-up");
    options.run(async move {
        let long = far * 10;
        attempt("inner is nearer", near, far, long, clean_up).await;
        attempt("outer is nearer", far, near, long, clean_up).await;
        attempt("both at once", near, near, long, clean_up).await;
        attempt("quick enough", near, far, near / 2, clean_up).await;
        moved(near, far).await;
    });
}
