//! A guest brings no thread: our reactor and our timers run in tasks of the host. Alone in its file, for it counts the
//! threads of the process.

use evenloop_streams::UnixStream;
use evenloop_time::{Clock, sleep};
use futures::{AsyncReadExt, AsyncWriteExt};
use std::sync::Arc;
use std::time::Duration;

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

async fn sockets_and_timers() -> usize {
    let (mut one, mut other) = UnixStream::pair().unwrap();
    let send = async {
        sleep(Duration::from_millis(2)).await;
        one.write_all(b"x").await.unwrap();
    };
    let mut byte = [0];
    let ((), got) = futures::join!(send, other.read(&mut byte));
    assert_eq!(got.unwrap(), 1);
    threads()
}

#[test]
fn no_host_gets_a_thread_of_ours() {
    let before = threads();
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let runtime = evenloop_tokio::runtime_on(tokio.handle(), Clock::Real);
    assert_eq!(tokio.block_on(runtime.scope(sockets_and_timers())), before, "tokio");
    drop((runtime, tokio));

    smol::block_on(smol::Timer::after(Duration::from_millis(1))); // starts smol's own thread
    let with_smols = threads();
    let executor = Arc::new(smol::Executor::new());
    let runtime = evenloop_smol::runtime_on(&executor, Clock::Real);
    let got = smol::block_on(executor.run(runtime.scope(sockets_and_timers())));
    assert_eq!(got, with_smols, "smol");
}
