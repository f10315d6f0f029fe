//! A chat server with protocols: a value for each user, whose methods are called as things happen.
//!
//! ```text
//! cargo run -p evenloop --example chat_protocol        # in one terminal
//! nc 127.0.0.1 8889                                    # in two others: a name first, then what you say
//! ```
//!
//! `chat_streams` is the same server with tasks. A user who takes nothing until 64 KiB wait for them is shown the door.

use evenloop::create_server;
use evenloop::streams::{Protocol, Transport};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

/// Who is there, by number.
#[derive(Clone, Default)]
struct Room {
    users: Rc<RefCell<BTreeMap<usize, Transport>>>,
    last: Rc<Cell<usize>>,
}

struct User {
    room: Room,
    number: usize,
    transport: OnceCell<Transport>,
    name: OnceCell<String>,
    /// The beginning of a line whose end has not come yet.
    begun: RefCell<Vec<u8>>,
}

impl User {
    fn new(room: &Room) -> Self {
        room.last.set(room.last.get() + 1);
        Self {
            room: room.clone(),
            number: room.last.get(),
            transport: OnceCell::new(),
            name: OnceCell::new(),
            begun: RefCell::default(),
        }
    }

    /// Says `line` to everybody else.
    fn say(&self, line: &str) {
        print!("{line}");
        let others = self.room.users.borrow().clone();
        for (_, other) in others.iter().filter(|(number, _)| **number != self.number) {
            let _ = other.write(line.as_bytes()); // who is gone will be told so
        }
    }

    fn said(&self, line: &str) {
        match self.name.get() {
            Some(name) => self.say(&format!("{name}: {line}\n")),
            None => {
                let name = self.name.get_or_init(|| line.to_owned());
                let transport = self.transport.get().expect("made before data").clone();
                self.room.users.borrow_mut().insert(self.number, transport);
                self.say(&format!("{name} is here\n"));
            }
        }
    }
}

impl Protocol for User {
    fn connection_made(&self, transport: Transport) {
        let _ = self.transport.set(transport);
    }

    fn data_received(&self, data: &[u8]) {
        self.begun.borrow_mut().extend_from_slice(data);
        // Taken out before they are said: saying calls other users' methods, and maybe ours.
        loop {
            let line = {
                let mut begun = self.begun.borrow_mut();
                let Some(end) = begun.iter().position(|byte| *byte == b'\n') else { return };
                begun.drain(..=end).collect::<Vec<_>>()
            };
            self.said(String::from_utf8_lossy(&line).trim());
        }
    }

    fn connection_lost(&self, _: Option<io::Error>) {
        self.room.users.borrow_mut().remove(&self.number);
        if let Some(name) = self.name.get() {
            self.say(&format!("{name} has left\n"));
        }
    }

    fn pause_writing(&self) {
        self.transport.get().expect("made before it is written to").abort(); // too slow
    }
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).map_or(8889, |port| port.parse().expect("a port number"));
    evenloop::run(async move {
        let room = Room::default();
        let server = create_server(move || User::new(&room), ([127, 0, 0, 1], port).into())?;
        println!("serving on {}", server.local_addr().expect("TCP has a port"));
        server.serve_forever().await
    })
}
