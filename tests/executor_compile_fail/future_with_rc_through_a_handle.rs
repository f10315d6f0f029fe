//! A future that holds an `Rc` across an await cannot come from another thread; `spawn_with` makes it on the loop's.
use std::rc::Rc;

fn main() {
    let event_loop = evenloop::new_event_loop();
    drop(event_loop.handle().spawn(async {
        let held = Rc::new(1);
        evenloop::yield_now().await;
        drop(held);
    }));
}
