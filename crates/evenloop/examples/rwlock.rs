//! A lock for readers and writers: readers read together, a writer writes alone, and nobody overtakes it.
//!
//! ```text
//! cargo run -p evenloop --example rwlock -- --virtual
//! ```

mod support;

use evenloop::sync::RwLock;
use evenloop::{create_task, sleep};
use std::rc::Rc;
use support::{Stopwatch, options};

fn main() {
    let options = options("Readers and a writer", &[("each", 1.0, "seconds of reading or writing")]);
    let each = options.seconds("each");
    options.run(async move {
        let watch = Rc::new(Stopwatch::start());
        let page = Rc::new(RwLock::new(1));
        let tasks: Vec<_> = ["reads", "reads", "writes", "reads", "reads"]
            .into_iter()
            .map(|what| {
                let (watch, page) = (watch.clone(), page.clone());
                create_task(async move {
                    if what == "writes" {
                        let mut page = page.write().await;
                        sleep(each).await;
                        *page += 1;
                        println!("{:.2} s: wrote version {page:?}", watch.seconds());
                    } else {
                        let page = page.read().await;
                        sleep(each).await;
                        println!("{:.2} s: read version {page:?}", watch.seconds());
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        println!("{page:?}");
    });
}
