//! One call of each that the clippy preset of the guide names, in an `async fn` as a user might write it.
//!
//! Nobody runs this. `cargo xtask ci preset` has clippy look at it with the preset, which has to name each line marked `//~`, and
//! nothing else. A new entry of the preset needs a line here.

use evenloop_core::Runtime;
use evenloop_executor::{Handle, Portal, RemoteTask};
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command};
use std::sync::{Barrier, Condvar, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

async fn waits_for_threads(thread: JoinHandle<()>, receiver: mpsc::Receiver<u8>, remote: RemoteTask<u8>) {
    std::thread::sleep(Duration::from_millis(1)); //~
    evenloop_time::sleep_blocking(Duration::from_millis(1)); //~
    let _ = receiver.recv(); //~
    let _ = receiver.recv_timeout(Duration::from_millis(1)); //~
    let _ = thread.join(); //~
    let _ = remote.join_blocking(); //~
}

async fn waits_for_another_loop(remote: RemoteTask<u8>, handle: &Handle, portal: &Portal) {
    drop(remote.join_timeout(Duration::from_millis(1))); //~
    let _ = handle.call_blocking(|| async {}); //~
    let _ = portal.call(|| async {}); //~
}

async fn waits_for_each_other(mutex: &Mutex<u8>, condition: &Condvar, barrier: &Barrier) {
    drop(condition.wait(mutex.lock().unwrap())); //~
    let _ = barrier.wait(); //~
}

async fn waits_for_the_network(
    listener: TcpListener,
    socket: UdpSocket,
    local: UnixListener,
) -> io::Result<()> {
    let _ = "localhost:9".to_socket_addrs()?; //~
    let _ = UnixStream::connect("socket")?; //~
    let _ = local.accept()?; //~
    let _ = TcpStream::connect("127.0.0.1:9")?; //~
    let _ = listener.accept()?; //~
    let _ = socket.recv_from(&mut [0; 16])?; //~
    Ok(())
}

async fn waits_for_children(mut child: Child, other: Child) -> io::Result<()> {
    let _ = Command::new("true").output()?; //~
    let _ = Command::new("true").status()?; //~
    let _ = child.wait()?; //~
    let _ = other.wait_with_output()?; //~
    Ok(())
}

async fn waits_for_people_and_disks(line: &mut String) -> io::Result<()> {
    io::stdin().read_line(line)?; //~
    let _ = std::fs::File::open("file")?; //~
    let _ = std::fs::read("file")?; //~
    let _ = std::fs::read_to_string("file")?; //~
    std::fs::write("file", "text") //~
}

async fn holds_what_others_would_find(runtime: &Runtime) {
    let _entered = runtime.enter(); //~
    evenloop_executor::yield_now().await;
}
