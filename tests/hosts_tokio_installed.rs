//! tokio as the host of the whole process: every task and every thread finds it.

use evenloop_time::sleep;
use std::time::{Duration, Instant};

#[test]
fn once_installed_it_is_found_everywhere() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    tokio.block_on(async {
        evenloop_tokio::install().unwrap();
        let again = evenloop_tokio::install().unwrap_err();
        assert!(again.to_string().contains("installed for this process already"), "{again}");
        let start = Instant::now();
        let tasks = (0..10).map(|_| tokio::spawn(sleep(Duration::from_millis(2)))).collect::<Vec<_>>();
        for task in tasks {
            task.await.unwrap();
        }
        assert!(start.elapsed() >= Duration::from_millis(2));
    });
    let elsewhere = std::thread::spawn(|| futures::executor::block_on(sleep(Duration::from_millis(1))));
    elsewhere.join().unwrap();
}
