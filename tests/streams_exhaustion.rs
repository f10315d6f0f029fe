//! A server that runs out of descriptors: it says so, does not spin, and goes on when there are some again. In a file of its
//! own, because the limit is the whole process's.

use evenloop_streams::{ServerConfig, StreamReader, StreamWriter};
use evenloop_tests::on_loop;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

#[test]
fn a_server_without_descriptors_waits_for_one() {
    async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> std::io::Result<()> {
        while let line @ [_, ..] = &reader.readline().await?[..] {
            writer.write(line)?;
            writer.drain().await?;
        }
        Ok(())
    }
    let errors = Arc::new(Mutex::new(Vec::new()));
    on_loop(async {
        let told = errors.clone();
        let config = ServerConfig::new().on_error(move |error| told.lock().unwrap().push(error.to_owned()));
        let server = config.start(echo, ([127, 0, 0, 1], 0).into()).unwrap();
        let address = server.local_addr().unwrap();

        // Connections while there are descriptors, then none is left for the server to accept with.
        let first = std::net::TcpStream::connect(address).unwrap();
        while server.connections() < 1 {
            evenloop_executor::yield_now().await;
        }
        let mut second = std::net::TcpStream::connect(address).unwrap();
        let limits = getrlimit(Resource::Nofile);
        let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1;
        let few = rustix::process::Rlimit { current: Some(used), maximum: limits.maximum };
        setrlimit(Resource::Nofile, few).unwrap();

        while errors.lock().unwrap().is_empty() {
            evenloop_executor::yield_now().await;
        }
        for _ in 0..1000 {
            evenloop_executor::yield_now().await;
        }
        assert_eq!(errors.lock().unwrap().len(), 1, "told once, not at every turn");
        drop(first); // its connection ends, and gives a descriptor back
        second.write_all(b"hello\n").unwrap();
        second.set_nonblocking(true).unwrap();
        let mut answer = [0; 6];
        while second.read_exact(&mut answer).is_err() {
            evenloop_executor::yield_now().await;
        }
        assert_eq!(&answer, b"hello\n");
        setrlimit(Resource::Nofile, limits).unwrap();
    });
    let errors = errors.lock().unwrap();
    assert!(
        errors[0].starts_with("accepting on 127.0.0.1:") && errors[0].contains("os error 24"),
        "{errors:?}"
    );
}
