//! A client that says something in each of asyncio's ways, and reads what comes back.
//!
//! ```text
//! cargo run -p evenloop --example echo_server          # in one terminal
//! cargo run -p evenloop --example echo_client          # in another
//! ```

use evenloop::open_connection;
use std::io;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).escape_debug().to_string()
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).map_or(8888, |port| port.parse().expect("a port number"));
    evenloop::run(async move {
        let (mut reader, mut writer) = open_connection("127.0.0.1", port).await?;
        writer.write(b"hello\n")?;
        writer.drain().await?;
        println!("readline:    {}", text(&reader.readline().await?));

        writer.writelines(["key: value", "; rest\n"])?;
        writer.drain().await?;
        println!("readuntil:   {}", text(&reader.readuntil(b": ").await?));
        println!("readexactly: {}", text(&reader.readexactly(5).await?));
        println!("read(100):   {}", text(&reader.read(100).await?));

        writer.close();
        writer.wait_closed().await?;
        println!("at the end:  {:?}", text(&reader.read(100).await?));
        Ok(())
    })
}
