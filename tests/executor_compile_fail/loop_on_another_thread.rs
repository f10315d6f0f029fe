//! A loop stays on the thread that made it; its `Handle` is what other threads have.

fn main() {
    let event_loop = evenloop::new_event_loop();
    std::thread::spawn(move || event_loop.run_forever());
}
