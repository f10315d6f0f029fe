//! A job runs on another thread, so it cannot take an `Rc` along.
use std::rc::Rc;

fn main() {
    let held = Rc::new(1);
    drop(evenloop::to_thread(move || *held));
}
