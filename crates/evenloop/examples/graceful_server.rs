//! A server that ends well: on Ctrl-C or SIGTERM it stops accepting, tells its clients farewell, waits for them, and closes
//! by force what is left.
//!
//! Sockets, timers and signals all end the same wait of the same thread.
//!
//! ```text
//! cargo run -p evenloop --example graceful_server      # in one terminal
//! nc 127.0.0.1 8888                                    # in another: say something, or `stay`
//! kill PID                                             # in a third
//! ```

use evenloop::cancel::catch_cancel;
use evenloop::start_server;
use evenloop::streams::signal::{SignalKind, signal};
use evenloop::streams::{ReadError, StreamReader, StreamWriter};
use std::future::pending;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Sends back every line until the client ends.
async fn echo(reader: &mut StreamReader, writer: &mut StreamWriter) -> Result<bool, ReadError> {
    let mut stays = false;
    while let line @ [_, ..] = &reader.readline().await?[..] {
        stays |= line == b"stay\n";
        writer.write(line)?;
        writer.drain().await?;
        if stays {
            break;
        }
    }
    Ok(stays)
}

async fn handler(mut reader: StreamReader, mut writer: StreamWriter) -> Result<(), ReadError> {
    match catch_cancel(echo(&mut reader, &mut writer)).await {
        Ok(Ok(true)) => match catch_cancel(pending::<()>()).await {
            Ok(()) => unreachable!("it waits for ever"),
            Err(_cancelled) => pending::<()>().await, // a client that does not want to go
        },
        Ok(ended) => drop(ended?),
        Err(cancelled) => {
            writer.write(b"farewell\n")?;
            writer.drain().await?;
            cancelled.absorb();
        }
    }
    writer.wait_closed().await?;
    Ok(())
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let port = args.next().map_or(8888, |port| port.parse().expect("a port number"));
    let grace = args.next().map_or(5.0, |seconds| seconds.parse().expect("seconds"));
    evenloop::run(async move {
        let mut terminate = signal(SignalKind::TERMINATE)?;
        let mut interrupt = signal(SignalKind::INTERRUPT)?;
        let server = start_server(handler, ([127, 0, 0, 1], port).into())?;
        println!(
            "process {} serving on {}",
            std::process::id(),
            server.local_addr().expect("TCP has a port")
        );

        // Ctrl-C also cancels what `run` runs; it is caught, because the server ends by itself.
        let asked = catch_cancel(async {
            let (mut terminate, mut interrupt) = (pin!(terminate.recv()), pin!(interrupt.recv()));
            std::future::poll_fn(|cx| match terminate.as_mut().poll(cx) {
                Poll::Pending => interrupt.as_mut().poll(cx),
                ready => ready,
            })
            .await
        });
        if let Err(cancelled) = asked.await {
            cancelled.absorb();
        }
        println!("ending, with {} connections", server.connections());
        let dropped = server.shutdown(Duration::from_secs_f64(grace)).await?;
        println!("{dropped} had to be closed by force");
        Ok(())
    })
}
