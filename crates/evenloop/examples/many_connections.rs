//! Thousands of connections on one thread, and what each costs in memory.
//!
//! The server is this process; the clients are another one, so that their memory is not counted. Each client connects,
//! waits until all are connected, and then has one line sent back.
//!
//! ```text
//! cargo run --release -p evenloop --example many_connections -- 5000
//! ```

use evenloop::create_task;
use evenloop::streams::{ServerConfig, StreamReader, StreamWriter, TcpStream};
use std::io;
use std::process::{Command, Stdio};

async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    while let line @ [_, ..] = &reader.readline().await?[..] {
        writer.write(line)?;
        writer.drain().await?;
    }
    Ok(())
}

/// Bytes of this process's own memory that are in use.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line of that name");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

fn serve(clients: usize) -> io::Result<()> {
    evenloop::run(async move {
        let server = ServerConfig::new().start(echo, ([127, 0, 0, 1], 0).into())?;
        let port = server.local_addr().expect("TCP has a port").port();
        let before = resident();
        let mut others = Command::new(std::env::current_exe()?)
            .args(["--clients", &port.to_string(), &clients.to_string()])
            .stdin(Stdio::piped())
            .spawn()?;
        while server.connections() < clients {
            evenloop::sleep(std::time::Duration::from_millis(10)).await;
        }
        let each = (resident() - before) / clients;
        println!("{clients} connections, {each} bytes of memory for each");
        drop(others.stdin.take()); // all are there: begin
        while server.connections() > 0 {
            evenloop::sleep(std::time::Duration::from_millis(10)).await;
        }
        println!("all served: {}", others.wait()?);
        Ok(())
    })
}

fn connect(port: u16, clients: usize) -> io::Result<()> {
    evenloop::run(async move {
        let mut connected = Vec::with_capacity(clients);
        for _ in 0..clients {
            connected.push(TcpStream::connect(([127, 0, 0, 1], port).into()).await?);
        }
        io::stdin().lines().for_each(drop); // blocks until the server says go: nothing else runs here
        let ask = |number: usize, stream: TcpStream| async move {
            let (read, write) = stream.into_split();
            let (mut reader, mut writer) = (StreamReader::new(read), StreamWriter::new(write));
            let line = format!("client {number}\n");
            writer.write(line.as_bytes())?;
            writer.drain().await?;
            let answer = reader.readline().await?;
            assert_eq!(answer, line.as_bytes());
            Ok::<(), io::Error>(())
        };
        let tasks: Vec<_> = connected
            .into_iter()
            .enumerate()
            .map(|(number, stream)| create_task(ask(number, stream)))
            .collect();
        for task in tasks {
            task.await?;
        }
        Ok(())
    })
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize| args.get(place).map(|number| number.parse().expect("a number"));
    match args.first().map(String::as_str) {
        Some("--clients") => connect(number(1).expect("a port") as u16, number(2).expect("how many")),
        _ => serve(number(0).unwrap_or(5000)),
    }
}
