//! A supervisor: children that fail or panic are restarted, each time after a longer pause. One that fails too often is
//! given up; then all the others are cancelled, clean up, and the whole ends with its error.
//!
//! ```text
//! cargo run -p evenloop --example supervisor -- --virtual
//! ```

mod support;

use evenloop::{TaskGroup, create_task, finally, sleep};
use std::rc::Rc;
use std::time::Duration;
use support::{Stopwatch, options};

/// How often a child may fail, and the first of the pauses, which double.
#[derive(Clone, Copy)]
struct Patience {
    restarts: u32,
    pause: Duration,
}

/// Runs the child that `start` makes until it ends well. Each life is a task of its own, so that a panic stays in it; a
/// cancellation of the supervisor is handed in to it.
async fn supervise<F: Future<Output = Result<(), String>> + 'static>(
    name: &'static str,
    patience: Patience,
    watch: Rc<Stopwatch>,
    start: impl Fn(u32) -> F,
) -> Result<(), String> {
    let mut pause = patience.pause;
    for life in 1.. {
        let error = match create_task(start(life)).join().await {
            Ok(Ok(())) => break,
            Ok(Err(error)) => error,
            Err(panicked) => panicked.to_string(),
        };
        if life > patience.restarts {
            return Err(format!("{name} is given up: {error}"));
        }
        println!("{:.2} s: {name}: {error}; again in {:.2} s", watch.seconds(), pause.as_secs_f64());
        sleep(pause).await;
        pause *= 2;
    }
    println!("{:.2} s: {name} has ended well", watch.seconds());
    Ok(())
}

fn main() {
    let options = options(
        "Children that fail are restarted",
        &[
            ("life", 2.0, "seconds until a child fails"),
            ("pause", 0.5, "seconds before the first restart"),
            ("restarts", 3.0, "how often a child may fail"),
        ],
    );
    let (life, restarts) = (options.seconds("life"), options.number("restarts") as u32);
    let patience = Patience { restarts, pause: options.seconds("pause") };
    std::panic::set_hook(Box::new(|_| {})); // the panic is expected, and told of below
    options.run(async move {
        let watch = Rc::new(Stopwatch::start());
        let end = TaskGroup::run(async |group| {
            group.create_task(supervise("learner", patience, watch.clone(), move |attempt| async move {
                sleep(life).await;
                if attempt == 1 { panic!("this is hard") } else { Ok(()) }
            }));
            group.create_task(supervise("fragile", patience, watch.clone(), move |_| async move {
                sleep(life).await;
                Err("broke".to_owned())
            }));
            let clock = watch.clone();
            group.create_task(supervise("steady", patience, watch.clone(), move |_| {
                let watch = clock.clone();
                finally(std::future::pending(), async move {
                    sleep(life / 2).await;
                    println!("{:.2} s: steady was cancelled, and has cleaned up", watch.seconds());
                })
            }));
            Ok(())
        })
        .await;
        println!("{:.2} s: {}", watch.seconds(), end.expect_err("one is given up"));
    });
}
