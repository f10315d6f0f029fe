//! A future that is not awaited does nothing, and neither does a task's `join`; a dropped handle lets its task run on.
#![deny(unused_must_use)]

async fn forgets() {
    evenloop::sleep(std::time::Duration::ZERO);
    evenloop::create_task(async {});
    evenloop::create_task(async {}).join();
    evenloop::TaskGroup::<()>::run(async |_| Ok(()));
    evenloop::to_thread(|| ());
    evenloop::sync::Lock::new(0).acquire();
    evenloop::sync::Queue::<u8>::new(0).get();
    evenloop::open_connection("localhost", 9);
}

fn main() {
    evenloop::run(forgets());
}
