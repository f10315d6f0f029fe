//! A server that sends back every line.
//!
//! ```text
//! cargo run -p evenloop --example echo_server          # in one terminal
//! cargo run -p evenloop --example echo_client          # in another, or
//! nc 127.0.0.1 8888
//! ```

use evenloop::start_server;
use evenloop::streams::{StreamReader, StreamWriter};
use std::io;

async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    let peer = reader.get_ref().peer_addr()?;
    while let line @ [_, ..] = &reader.readline().await?[..] {
        println!("{peer}: {}", String::from_utf8_lossy(line).trim_end());
        writer.write(line)?;
        writer.drain().await?;
    }
    println!("{peer} has ended");
    writer.close();
    writer.wait_closed().await
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).map_or(8888, |port| port.parse().expect("a port number"));
    evenloop::run(async move {
        let server = start_server(echo, ([127, 0, 0, 1], port).into())?;
        println!("serving on {}", server.local_addr().expect("TCP has a port"));
        server.serve_forever().await
    })
}
