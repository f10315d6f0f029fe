//! A chat server with streams: two tasks for each user, one that reads lines and one that writes them.
//!
//! ```text
//! cargo run -p evenloop --example chat_streams         # in one terminal
//! nc 127.0.0.1 8889                                    # in two others: a name first, then what you say
//! ```
//!
//! `chat_protocol` is the same server with callbacks. A user who takes nothing for a hundred lines is shown the door.

use evenloop::streams::{StreamReader, StreamWriter};
use evenloop::sync::Queue;
use evenloop::{create_task, start_server};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

/// How many lines may wait for a slow user.
const PATIENCE: usize = 100;

/// What is to be said to a user: a line of lines.
type Lines = Rc<Queue<Rc<str>>>;

/// Who is there, by address.
#[derive(Clone, Default)]
struct Room(Rc<RefCell<BTreeMap<SocketAddr, Lines>>>);

impl Room {
    /// Says `line` to everybody but `from`.
    fn say(&self, from: SocketAddr, line: &str) {
        print!("{line}");
        let line: Rc<str> = line.into();
        let others = self.0.borrow().clone();
        for (_, lines) in others.iter().filter(|(user, _)| **user != from) {
            if lines.put_nowait(line.clone()).is_err() {
                lines.shutdown(true); // Too slow: their writing task ends.
            }
        }
    }
}

/// Leaves the room, however the handler ends.
struct Seat(Room, SocketAddr);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.0.borrow_mut().remove(&self.1);
    }
}

async fn serve(room: Room, mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    let user = reader.get_ref().peer_addr()?;
    let name = text(reader.readline().await?);
    if name.is_empty() {
        return writer.wait_closed().await;
    }
    let lines: Rc<Queue<Rc<str>>> = Rc::new(Queue::new(PATIENCE));
    let said = lines.clone();
    let writes = create_task(async move {
        while let Ok(line) = said.get().await {
            if writer.write(line.as_bytes()).is_err() || writer.drain().await.is_err() {
                break;
            }
        }
        let _ = writer.wait_closed().await; // they may be gone
    });
    room.0.borrow_mut().insert(user, lines.clone());
    let seat = Seat(room.clone(), user);
    room.say(user, &format!("{name} is here\n"));
    while let line @ [_, ..] = &reader.readline().await?[..] {
        room.say(user, &format!("{name}: {}\n", text(line.to_vec())));
    }
    drop(seat);
    room.say(user, &format!("{name} has left\n"));
    lines.shutdown(false);
    writes.await;
    Ok(())
}

fn text(line: Vec<u8>) -> String {
    String::from_utf8_lossy(&line).trim().to_owned()
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).map_or(8889, |port| port.parse().expect("a port number"));
    evenloop::run(async move {
        let room = Room::default();
        let handler = move |reader, writer| serve(room.clone(), reader, writer);
        let server = start_server(handler, ([127, 0, 0, 1], port).into())?;
        println!("serving on {}", server.local_addr().expect("TCP has a port"));
        server.serve_forever().await
    })
}
