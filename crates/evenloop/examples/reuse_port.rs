//! One loop a processor, each with a listener of its own on the same port: the kernel spreads the connections
//! (`SO_REUSEPORT`), and the loops share nothing but a counter each.
//!
//! ```text
//! cargo run --release -p evenloop --example reuse_port             # as many loops as processors
//! cargo run --release -p evenloop --example reuse_port -- 4 1000   # loops, connections
//! ```

use evenloop::create_task;
use evenloop::streams::{ListenConfig, TcpListener, TcpStream};
use futures::future::try_join_all;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// What one thread does: a loop of its own that sends back what each of its connections says.
fn serve(listener: std::net::TcpListener, served: &AtomicUsize) -> io::Result<()> {
    evenloop::run(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            served.fetch_add(1, Ordering::Relaxed);
            create_task(async move {
                let (mut reader, mut writer) = stream.into_split();
                futures::io::copy(&mut reader, &mut writer).await
            })
            .detach();
        }
    })
}

fn main() -> io::Result<()> {
    let mut numbers = std::env::args().skip(1).map(|word| word.parse().expect("a number"));
    let loops = numbers.next().unwrap_or_else(|| thread::available_parallelism().map_or(2, usize::from));
    let connections = numbers.next().unwrap_or(1000);

    // The first chooses the port; the others bind it too before anybody connects.
    let listen = ListenConfig::new().reuse_port(true);
    let first = listen.listen_std(([127, 0, 0, 1], 0).into())?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..loops {
        listeners.push(listen.listen_std(address)?);
    }
    let served: &'static [AtomicUsize] = Vec::from_iter((0..loops).map(|_| AtomicUsize::new(0))).leak();
    for (listener, served) in listeners.into_iter().zip(served) {
        thread::spawn(|| serve(listener, served).expect("serving")); // ends with the program
    }

    let begin = Instant::now();
    evenloop::run(async {
        for batch in 0..connections.div_ceil(100) {
            let ask = async |number: usize| -> io::Result<()> {
                let mut stream = TcpStream::connect(address).await?;
                let said = format!("client {number}");
                stream.write_all(said.as_bytes()).await?;
                let mut heard = vec![0; said.len()];
                stream.read_exact(&mut heard).await?;
                assert_eq!(heard, said.as_bytes());
                Ok(())
            };
            let numbers = batch * 100..connections.min((batch + 1) * 100);
            try_join_all(numbers.map(ask)).await?;
        }
        Ok::<_, io::Error>(())
    })?;
    println!("{connections} connections in {:.2} s", begin.elapsed().as_secs_f64());
    for (number, served) in served.iter().enumerate() {
        println!("loop {number} served {}", served.load(Ordering::Relaxed));
    }
    Ok(())
}
